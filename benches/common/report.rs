//! The table that a suite prints, the target beside each figure, and the same as JSON.

use std::fs;
use std::io::{Result, Write};

use serde_json::{Value, json};

use super::measure::{self, Summary};

/// What a figure should be. Missing it is no failure of the suite: machines differ, and are not always quiet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// It only stands there.
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn is_met(self, figure: f64) -> Option<bool> {
        match self {
            Self::None => None,
            Self::AtMost(limit) => Some(figure <= limit),
            Self::AtLeast(limit) => Some(figure >= limit),
        }
    }

    fn text(self, figure: f64) -> String {
        let verdict = if self.is_met(figure) == Some(true) { "met" } else { "MISSED" };
        match self {
            Self::None => String::new(),
            Self::AtMost(limit) => format!("at most {}: {verdict}", Summary::from(limit)),
            Self::AtLeast(limit) => format!("at least {}: {verdict}", Summary::from(limit)),
        }
    }

    fn json(self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::AtMost(limit) => json!({ "at_most": limit }),
            Self::AtLeast(limit) => json!({ "at_least": limit }),
        }
    }
}

/// The rows so far. They are printed as they come.
#[derive(Debug)]
pub(crate) struct Report {
    suite: &'static str,
    part: String,
    rows: Vec<Value>,
}

impl Report {
    /// Begins the table of a suite, and says on what machine.
    pub(crate) fn new(suite: &'static str, about: &str) -> Self {
        println!("{suite}: {about}");
        println!("  median (least to most); {}", machine());
        Self { suite, part: String::new(), rows: Vec::new() }
    }

    /// Begins a part of the table.
    pub(crate) fn part(&mut self, name: &str, about: &str) {
        println!("\n{name}: {about}");
        name.clone_into(&mut self.part);
    }

    /// Adds a figure.
    pub(crate) fn row(&mut self, name: &str, figure: impl Into<Summary>, unit: &str, target: Target) {
        let figure = figure.into();
        println!("  {name:<42} {:>26} {unit:<22} {}", figure.to_string(), target.text(figure.median));
        // A table that is looked at while it grows.
        let _ = std::io::stdout().flush();
        self.rows.push(json!({
            "part": self.part, "name": name, "figure": figure, "unit": unit,
            "target": target.json(), "met": target.is_met(figure.median),
        }));
    }

    /// Writes `target/bench/SUITE.json`.
    pub(crate) fn finish(self) -> Result<()> {
        measure::write_json(self.suite, &json!({ "machine": machine(), "rows": self.rows }))
    }
}

/// What the figures depend on besides the program.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let load = read("/proc/loadavg");
    format!(
        "Linux {}, {} CPUs, {}, load {}",
        read("/proc/sys/kernel/osrelease"),
        read("/proc/cpuinfo").lines().filter(|line| line.starts_with("processor")).count(),
        read("/proc/sys/net/ipv4/tcp_congestion_control"),
        load.split(' ').next().unwrap_or_default()
    )
}
