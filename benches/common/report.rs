//! The table that a suite prints, the target beside each figure, and the same as JSON.

use std::fs;
use std::io::{Result, Write};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::measure::Summary;
use super::{Arguments, CLIENT_CPU, SERVER_CPU};

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
    places: String,
    part: String,
    rows: Vec<Value>,
}

impl Report {
    /// Begins the table of a suite, and says on what machine, and what runs where on it.
    pub(crate) fn new(suite: &'static str, about: &str, places: impl Into<String>) -> Self {
        let places = places.into();
        println!("{suite}: {about}");
        println!("  median (least to most); {}; {places}", machine());
        Self { suite, places, part: String::new(), rows: Vec::new() }
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

    /// Writes it as JSON: [`write_json`].
    pub(crate) fn finish(self) -> Result<()> {
        write_json(self.suite, &self.places, json!({ "rows": self.rows }))
    }
}

/// What runs where, if the engine is told of no CPUs.
pub(crate) const SHARDS_EVERYWHERE: &str = "shards on all CPUs in turn; all else wherever there is room";

/// What runs where, if `server` has the one CPU.
pub(crate) fn places(server: &str) -> String {
    format!("{server} on CPU {SERVER_CPU}; the engine's other threads and the clients on CPU {CLIENT_CPU}")
}

/// Writes a suite's figures, an object, with what tells one run from another, to `target/bench/SUITE.json`; those
/// of a short run to `target/bench/short/`, so that no measurement is lost by it. Says so.
pub(crate) fn write_json(suite: &str, places: &str, mut figures: Value) -> Result<()> {
    let short = Arguments::read().short();
    figures["machine"] = machine().into();
    figures["places"] = places.into();
    figures["commit"] = commit().into();
    figures["short"] = short.into();
    // CARGO_TARGET_TMPDIR is `target/tmp`, which cargo makes for tests and benches.
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    let directory = if short { directory.join("short") } else { directory };
    fs::create_dir_all(&directory)?;
    let path = directory.join(format!("{suite}.json"));
    fs::write(&path, format!("{figures:#}\n"))?;
    println!("written to {}", path.display());
    Ok(())
}

/// The commit that is measured, with `-dirty` behind it if files differ from it; `unknown` outside a repository.
fn commit() -> String {
    // Whatever tags there are: the commit's own short name.
    let describe = ["describe", "--always", "--dirty", "--exclude=*"];
    let output = Command::new("git").args(["-C", env!("CARGO_MANIFEST_DIR")]).args(describe).output();
    let name = output.ok().filter(|output| output.status.success());
    name.map_or_else(|| "unknown".to_owned(), |name| String::from_utf8_lossy(&name.stdout).trim().to_owned())
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
