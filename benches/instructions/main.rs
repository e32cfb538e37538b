//! Instructions of the operations that `micro` times, counted by valgrind. Counts do not depend on what else the
//! machine does, so that two commits can be compared where times cannot.
//!
//! ```text
//! cargo bench --bench instructions                            beside the counts of the run before
//! cargo bench --bench instructions -- --save-baseline=NAME    kept under this name, and
//! cargo bench --bench instructions -- --baseline=NAME         compared with
//! ```
//!
//! It needs valgrind and gungraun's runner, a program (its path may be in `GUNGRAUN_RUNNER`); plain
//! `cargo bench` leaves it out, because not every machine has them. `tests/run --install` brings both.

#[path = "../operations/mod.rs"]
mod operations;

mod counted;

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

fn main() -> Result<()> {
    // Below valgrind it is this program again, and both are there.
    let is_below_valgrind = std::env::args().nth(1).is_some_and(|argument| argument == "--gungraun-run");
    if !is_below_valgrind {
        version("valgrind").context("this suite counts with valgrind: `apt-get install valgrind`")?;
        expect_runner()?;
    }
    counted::run();
    Ok(())
}

/// Expects the runner, in the version of the library.
fn expect_runner() -> Result<()> {
    // Where the library looks for it.
    let program = option_env!("GUNGRAUN_RUNNER").unwrap_or("gungraun-runner");
    let wanted = format!("gungraun-runner {}", library_version());
    let advice = format!(
        "this suite needs {wanted}: `cargo install gungraun-runner --version {} --locked`",
        library_version()
    );
    let found = version(program).with_context(|| advice.clone())?;
    ensure!(found == wanted, "{advice}; `{program}` is {found}");
    Ok(())
}

/// What a program answers to `--version`.
fn version(program: &str) -> Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("`{program}` does not run"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of gungraun that this was built with.
fn library_version() -> &'static str {
    let lock = include_str!("../../Cargo.lock");
    let entry = lock.split_once("name = \"gungraun\"\nversion = \"").map_or("", |(_, rest)| rest);
    entry.split_once('"').expect("it is a dependency").0
}
