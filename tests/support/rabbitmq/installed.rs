//! Which RabbitMQ the tests start, and where its programs are.

use std::process::Command;
use std::{env, fs};

/// Debian's place for the programs themselves; the wrappers in sbin would change the user.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// Runs those of a newer Debian.
const PROGRAMS_OF_4: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/rabbitmq_4.sh");

/// Where that Debian is.
const COPY_OF_4: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/.cache/rabbitmq-4/.installed");

/// Which RabbitMQ the nodes of this test program are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The one that Debian 12 has: 3.10.
    Three,
    /// The one that Debian 13 has: 4.0.
    Four,
}

impl Version {
    /// What `TEST_RABBITMQ` says: `3.10` (so without it) or `4`.
    ///
    /// # Panics
    /// If it says something else.
    pub fn of_this_run() -> Self {
        match env::var("TEST_RABBITMQ").as_deref() {
            Err(env::VarError::NotPresent) | Ok("3.10") => Self::Three,
            Ok("4") => Self::Four,
            other => panic!("TEST_RABBITMQ is 3.10 or 4, and not {other:?}"),
        }
    }
}

/// A program of RabbitMQ.
///
/// # Panics
/// If this version is not installed.
pub fn installed(name: &str) -> Command {
    let path = format!("{PROGRAMS}/{name}");
    let (wanted, command) = match Version::of_this_run() {
        Version::Three => (path.as_str(), Command::new(&path)),
        Version::Four => {
            let mut command = Command::new(PROGRAMS_OF_4);
            command.arg(name);
            (COPY_OF_4, command)
        }
    };
    assert!(fs::exists(wanted).unwrap_or(false), "{wanted} is missing: run `tests/run --install`");
    command
}
