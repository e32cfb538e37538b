//! Clients that are cut, and connect again all at once, as often as they are told. They are in a process of their own with
//! the lowest priority, so that they take no CPU from the clients that are measured beside them.

use std::io::{BufRead, BufReader, Error, Result, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::support::swarm::{Goodbye, Swarm};
use crate::common::{Arguments, LIMIT, Nobody};

const FLAG: &str = "--reconnecting";
const TOPIC: &str = "storm:reconnecting";
/// Orders, each a line.
const CUT: &str = "cut";
const WITHOUT_TOKENS: &str = "without tokens";
const WITH_TOKENS: &str = "with tokens";

/// Clients in their process.
pub(crate) struct Reconnecting {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reconnecting {
    /// Starts as many as the file has lines, each of which is the token of one. They are not connected yet.
    pub(crate) fn start(server: SocketAddr, tokens: &Path) -> Result<Self> {
        let mut child = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .args([FLAG, &server.to_string()])
            .arg(tokens)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        Ok(Self { child, orders: orders.expect("piped"), answers: BufReader::new(answers.expect("piped")) })
    }

    /// Cuts all connections that there are.
    pub(crate) fn cut(&mut self) -> Result<()> {
        writeln!(self.orders, "{CUT}")
    }

    /// All begin to connect.
    pub(crate) fn begin(&mut self, with_tokens: bool) -> Result<()> {
        writeln!(self.orders, "{}", if with_tokens { WITH_TOKENS } else { WITHOUT_TOKENS })
    }

    /// Waits until all are subscribed: how long that took, in milliseconds.
    pub(crate) fn end(&mut self) -> Result<f64> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(Error::other(format!("the clients ended: {:?}", self.child.wait()?))),
            _ => line.trim().parse().map_err(Error::other),
        }
    }
}

impl Drop for Reconnecting {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process of these clients does, if the command line says that this is it.
pub(crate) fn run_if_asked(arguments: &Arguments) -> Option<Result<()>> {
    let [server, tokens] = arguments.after(FLAG)? else { return None };
    Some(run(server, tokens))
}

fn run(server: &str, tokens: &str) -> Result<()> {
    let tokens = std::fs::read_to_string(tokens)?;
    let tokens: Vec<_> = tokens.lines().collect();
    let mut swarm = Swarm::new(server.parse().map_err(Error::other)?, tokens.len())?;
    // Addresses of their own each time: the cut leaves ports behind that are not free for a minute.
    let mut networks = 100..;
    for order in std::io::stdin().lines() {
        let order = order?;
        if order == CUT {
            (0..swarm.len()).for_each(|client| swarm.disconnect(client, Goodbye::Abrupt));
            continue;
        }
        let with_tokens = order == WITH_TOKENS;
        swarm.come_from(networks.next().expect("there are enough for all storms"));
        for (client, token) in tokens.iter().enumerate() {
            swarm.show_token(client, if with_tokens { token } else { "" });
        }
        println!("{}", connect(&mut swarm)?.as_secs_f64() * 1000.0);
    }
    Ok(())
}

/// Connects all at once: how long it takes until they are subscribed.
fn connect(swarm: &mut Swarm) -> Result<Duration> {
    let begin = Instant::now();
    (0..swarm.len()).try_for_each(|client| swarm.connect(client, &[TOPIC]))?;
    swarm.turn_until("all are subscribed", LIMIT, &mut Nobody, |swarm, _| swarm.is_settled())?;
    Ok(begin.elapsed())
}
