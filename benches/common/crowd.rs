//! Clients in processes of their own: as many in each as its descriptors allow, up to a million together.
//!
//! The bench's own program is started once more for each process, with `--crowd`. It connects its clients,
//! says so, and then counts what they get until all have what the bench told it to expect.

use std::io::{BufRead, BufReader, Error, Result, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::support::swarm::{ClientIndex, Line, Observer, Swarm};

/// Clients of one process: what a limit of 20,000 descriptors leaves room for.
const CLIENTS_PER_PROCESS: usize = 19_500;
/// Processes that connect at the same time: enough to keep the engine busy.
const CONNECTING_AT_ONCE: usize = 2;
/// How long the clients of one process may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(600);
/// How long one turn waits for the network before it looks for orders.
const TURN: Duration = Duration::from_millis(20);

/// All processes.
pub(crate) struct Crowd {
    members: Vec<Member>,
}

struct Member {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What each client of a crowd got, at least and at most.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Got {
    pub(crate) frames_least: u64,
    pub(crate) frames_most: u64,
    pub(crate) bytes_least: u64,
    pub(crate) bytes_most: u64,
}

impl Crowd {
    /// Connects `clients` clients, each subscribed to `topic`; `{}` in it stands for the client's number.
    pub(crate) fn connect(server: SocketAddr, clients: usize, topic: &str) -> Result<Self> {
        let mut members: Vec<Member> = Vec::new();
        let sizes = (0..clients).step_by(CLIENTS_PER_PROCESS);
        let sizes: Vec<_> = sizes.map(|from| (clients - from).min(CLIENTS_PER_PROCESS)).collect();
        let mut connected = 0;
        for (number, &size) in sizes.iter().enumerate() {
            if number >= connected + CONNECTING_AT_ONCE {
                members[connected].expect_answer("connected")?;
                connected += 1;
            }
            members.push(Member::start(number, size, server, topic)?);
        }
        for member in &mut members[connected..] {
            member.expect_answer("connected")?;
        }
        Ok(Self { members })
    }

    /// Tells the clients to expect `bytes` of publications each. To be called before they are published.
    pub(crate) fn expect(&mut self, bytes: u64) -> Result<()> {
        self.members.iter_mut().try_for_each(|member| writeln!(member.orders, "{bytes}"))
    }

    /// Waits until each client has what it expects.
    pub(crate) fn got(&mut self) -> Result<Got> {
        let got = self.members.iter_mut().map(Member::got).collect::<Result<Vec<_>>>()?;
        let least = |of: fn(&Got) -> u64| got.iter().map(of).min().unwrap_or(0);
        let most = |of: fn(&Got) -> u64| got.iter().map(of).max().unwrap_or(0);
        Ok(Got {
            frames_least: least(|got| got.frames_least),
            frames_most: most(|got| got.frames_most),
            bytes_least: least(|got| got.bytes_least),
            bytes_most: most(|got| got.bytes_most),
        })
    }
}

impl Member {
    fn start(number: usize, clients: usize, server: SocketAddr, topic: &str) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--crowd", &number.to_string(), &clients.to_string(), &server.to_string(), topic])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        Ok(Self { child, orders: orders.expect("piped"), answers: BufReader::new(answers.expect("piped")) })
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(Error::other(format!("clients ended: {:?}", self.child.wait()?)));
        }
        Ok(line.trim().to_owned())
    }

    fn expect_answer(&mut self, wanted: &str) -> Result<()> {
        let answer = self.answer()?;
        if answer == wanted { Ok(()) } else { Err(Error::other(format!("`{answer}` and not `{wanted}`"))) }
    }

    fn got(&mut self) -> Result<Got> {
        let answer = self.answer()?;
        let mut numbers = answer.split(' ').map(str::parse);
        let mut next =
            || numbers.next().and_then(std::result::Result::ok).ok_or_else(|| Error::other(answer.clone()));
        Ok(Got { frames_least: next()?, frames_most: next()?, bytes_least: next()?, bytes_most: next()? })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process of a crowd does, if the command line says that this is one.
pub(crate) fn run_if_asked(arguments: &[String]) -> Option<Result<()>> {
    let [_, flag, number, clients, server, topic] = arguments else { return None };
    (flag == "--crowd").then(|| run(number, clients, server, topic))
}

fn run(number: &str, clients: &str, server: &str, topic: &str) -> Result<()> {
    let number: usize = number.parse().map_err(Error::other)?;
    let clients: usize = clients.parse().map_err(Error::other)?;
    let mut swarm = Swarm::new(server.parse().map_err(Error::other)?, clients)?;
    swarm.come_from(u8::try_from(number + 1).map_err(Error::other)?);
    let first = number * CLIENTS_PER_PROCESS;
    swarm.connect_all(&mut Quiet, CONNECT_LIMIT, |_, client| {
        vec![topic.replace("{}", &(first + client).to_string())]
    })?;
    swarm.count_only();
    println!("connected");
    let orders = orders();
    loop {
        swarm.turn(TURN, &mut Quiet)?;
        match orders.try_recv() {
            Ok(bytes) => serve(&mut swarm, bytes)?,
            Err(mpsc::TryRecvError::Empty) => {}
            Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

/// The bytes to expect, as the bench tells them.
fn orders() -> mpsc::Receiver<u64> {
    let (sender, orders) = mpsc::channel();
    std::thread::spawn(move || {
        let numbers = std::io::stdin().lines().map_while(|line| line.ok()?.trim().parse().ok());
        numbers.map_while(|bytes| sender.send(bytes).ok()).for_each(drop);
    });
    orders
}

/// Turns until each client has got `bytes` more than it had, and tells what each got.
fn serve(swarm: &mut Swarm, bytes: u64) -> Result<()> {
    let before: Vec<_> = swarm.counted_by_each().collect();
    let all = swarm.counted().bytes + bytes * before.len() as u64;
    while swarm.counted().bytes < all
        || swarm.counted_by_each().zip(&before).any(|(now, before)| now.bytes < before.bytes + bytes)
    {
        swarm.turn(TURN, &mut Quiet)?;
    }
    let frames = || swarm.counted_by_each().zip(&before).map(|(now, before)| now.frames - before.frames);
    let bytes = || swarm.counted_by_each().zip(&before).map(|(now, before)| now.bytes - before.bytes);
    let (frames_least, frames_most) = (frames().min().unwrap_or(0), frames().max().unwrap_or(0));
    println!("{frames_least} {frames_most} {} {}", bytes().min().unwrap_or(0), bytes().max().unwrap_or(0));
    Ok(())
}

/// Expects that every command succeeds.
struct Quiet;

impl Observer for Quiet {
    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        assert!(!matches!(line, Line::Reply { error: Some(_), .. }), "client {client} was answered {line:?}");
    }
}
