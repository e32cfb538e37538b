//! The clients: SDKs as they come, in processes of their own, each subscribed to every topic of a world.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread;

use crate::ledger::{ClientIndex, Ledger, Said};
use crate::support::process::Lines;
use crate::support::script::{python, sdk_directory};

/// Clients of centrifuge-js in one process.
const NODE_CLIENTS: usize = 6;
/// Clients of centrifuge-python in one process.
const PYTHON_CLIENTS: usize = 1;
/// All of them.
pub const CLIENTS: usize = NODE_CLIENTS + PYTHON_CLIENTS;

/// All clients of a world. They end with the value.
#[derive(Debug)]
pub struct Clients {
    node: Crowd,
    python: Crowd,
}

impl Clients {
    /// Starts them; what they are sent goes into `ledger`.
    ///
    /// # Panics
    /// If they cannot be started.
    pub fn start(url: &str, ledger: &Arc<Ledger>) -> Self {
        let node = Crowd::start("node".into(), "ledger.mjs", url, 0, NODE_CLIENTS, ledger);
        let python = Crowd::start(python(), "ledger.py", url, NODE_CLIENTS, PYTHON_CLIENTS, ledger);
        Self { node, python }
    }

    /// Takes the connection from under a client, without a close frame.
    ///
    /// # Panics
    /// If its process has ended.
    pub fn cut(&mut self, client: ClientIndex) {
        let crowd = if client < NODE_CLIENTS { &mut self.node } else { &mut self.python };
        crowd.cut(client);
    }

    /// What the processes complained of.
    pub fn complaints(&self) -> Vec<String> {
        [&self.node, &self.python].iter().flat_map(|crowd| crowd.stderr.so_far()).collect()
    }
}

/// Some clients in one process.
#[derive(Debug)]
struct Crowd {
    child: Child,
    stdin: ChildStdin,
    stderr: Lines,
}

impl Crowd {
    fn start(
        program: PathBuf,
        script: &str,
        url: &str,
        first: ClientIndex,
        count: usize,
        ledger: &Arc<Ledger>,
    ) -> Self {
        let mut child = Command::new(program)
            .arg(sdk_directory().join(script))
            .args([url, &first.to_string(), &count.to_string()])
            .args(ledger.names())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{script}: {error}"));
        let stdout = child.stdout.take().expect("piped");
        let ledger = Arc::clone(ledger);
        thread::spawn(move || listen(stdout, &ledger));
        Self {
            stdin: child.stdin.take().expect("piped"),
            stderr: Lines::collect(child.stderr.take().expect("piped")),
            child,
        }
    }

    fn cut(&mut self, client: ClientIndex) {
        writeln!(self.stdin, "{client}").expect("the clients' process runs");
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes everything that clients say into the ledger.
fn listen(stdout: impl Read, ledger: &Ledger) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let (client, text) = line.split_once(' ').unwrap_or_else(|| panic!("no client in `{line}`"));
        let client = client.parse().unwrap_or_else(|_| panic!("no client in `{line}`"));
        ledger.hear(client, text, parse(text, ledger).unwrap_or_else(|| panic!("not understood: `{line}`")));
    }
}

/// `publication TOPIC NUMBER OFFSET`, `subscribed TOPIC RECOVERED EPOCH OFFSET`, `over WHY`, or anything else.
fn parse(text: &str, ledger: &Ledger) -> Option<Said> {
    let words: Vec<&str> = text.split(' ').collect();
    Some(match words[..] {
        ["publication", topic, number, offset] => Said::Publication {
            topic: ledger.topic(topic)?,
            number: number.parse().ok()?,
            offset: offset.parse().ok()?,
        },
        ["subscribed", topic, recovered, epoch, ..] => Said::Subscribed {
            topic: ledger.topic(topic)?,
            recovered: recovered.parse().ok()?,
            epoch: epoch.to_owned(),
        },
        ["over", ..] => Said::Over(text.to_owned()),
        _ => Said::Aside,
    })
}
