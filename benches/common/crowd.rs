//! Clients in processes of their own: as many in each as its descriptors allow, up to a million together.
//!
//! The bench's own program is started once more for each process, with `--crowd`. It connects its clients,
//! says so, and then does what it is told: count what they get until all have so many bytes, or read every
//! line and measure how old it is, until all have so many publications. Those that count can be told to read for a
//! while: whether each client gets each publication once and in order.

use std::io::{BufRead, BufReader, Error, Result, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::exact::Numbered;
use super::latency::{Clock, Latencies, empty_histogram};
use super::support::swarm::{Observer, Swarm};
use super::token::Issuer;
use super::{LIMIT, Nobody};

/// The flags that make a process a part of a crowd.
const CROWD: &str = "--crowd";
const READING_CROWD: &str = "--reading-crowd";
/// Clients of one process: what a limit of 20,000 descriptors leaves room for.
const CLIENTS_PER_PROCESS: usize = 19_500;
/// Processes that connect at the same time: enough to keep the engine busy.
const CONNECTING_AT_ONCE: usize = 2;
/// How long the clients of one process may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(600);
/// How often clients look that measure. Whoever sleeps until something comes is woken by the sender, for every
/// frame where many are quiet, and on another CPU: on a virtual machine that is a fifth of what the frame costs.
/// Ages are measured too high by as much at most.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long one turn waits for the network before it looks for orders.
const TURN: Duration = Duration::from_millis(20);

/// What the clients do with what they get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// They throw it away: [`Crowd::expect`]; but for [`Crowd::check`].
    Nothing,
    /// Every line, which carries the time at which it was due: [`Crowd::measure`].
    Lines,
}

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

/// How old the lines were when each client of a crowd got them.
#[derive(Debug)]
pub(crate) struct Ages {
    pub(crate) frames_least: u64,
    pub(crate) frames_most: u64,
    /// Of all lines of all clients, in nanoseconds.
    pub(crate) histogram: Histogram<u64>,
}

impl Crowd {
    /// Connects `clients` clients, each subscribed to `topic`; `{}` in it stands for the client's number.
    pub(crate) fn connect(server: SocketAddr, clients: usize, topic: &str, reads: Reads) -> Result<Self> {
        Self::connect_as(server, clients, topic, reads, "")
    }

    /// The same for clients that show tokens, which this secret signs; without any if it is empty.
    pub(crate) fn connect_as(
        server: SocketAddr,
        clients: usize,
        topic: &str,
        reads: Reads,
        secret: &str,
    ) -> Result<Self> {
        let mut members: Vec<Member> = Vec::new();
        let sizes = (0..clients).step_by(CLIENTS_PER_PROCESS);
        let sizes: Vec<_> = sizes.map(|from| (clients - from).min(CLIENTS_PER_PROCESS)).collect();
        let mut connected = 0;
        for (number, &size) in sizes.iter().enumerate() {
            if number >= connected + CONNECTING_AT_ONCE {
                members[connected].expect_answer("connected")?;
                connected += 1;
            }
            members.push(Member::start(number, size, server, topic, reads, secret)?);
        }
        for member in &mut members[connected..] {
            member.expect_answer("connected")?;
        }
        Ok(Self { members })
    }

    /// Tells the clients to expect `bytes` of publications each. To be called before they are published.
    pub(crate) fn expect(&mut self, bytes: u64) -> Result<()> {
        self.order(&bytes.to_string())
    }

    /// Tells the clients to expect `count` publications each, of which the first is due at `from`. To be
    /// called before they are published.
    pub(crate) fn measure(&mut self, from: u64, count: u64) -> Result<()> {
        self.order(&format!("{from} {count}"))
    }

    /// Has clients that throw away what they get read what `publish` publishes: `count` publications for each,
    /// numbered from 1 on. Each gets each of them once and in order: that is checked.
    pub(crate) fn check(&mut self, count: u64, publish: impl FnOnce() -> Result<()>) -> Result<()> {
        self.order(&format!("1 {count}"))?;
        publish()?;
        self.members.iter_mut().try_for_each(|member| member.expect_answer("exact"))
    }

    /// Tells all processes what to do, and waits until they are ready.
    fn order(&mut self, order: &str) -> Result<()> {
        for member in &mut self.members {
            writeln!(member.orders, "{order}")?;
        }
        self.members.iter_mut().try_for_each(|member| member.expect_answer("ready"))
    }

    /// Waits until each client has its publications. Each has got each of them once and in order: that is
    /// checked.
    pub(crate) fn ages(&mut self) -> Result<Ages> {
        let mut ages = Ages { frames_least: u64::MAX, frames_most: 0, histogram: empty_histogram() };
        for member in &mut self.members {
            let answer = member.answer()?;
            let invalid = || Error::other(answer.clone());
            let mut numbers = answer.split(' ').map(|number| number.parse().map_err(Error::other));
            let mut next = || numbers.next().unwrap_or_else(|| Err(invalid()));
            ages.frames_least = ages.frames_least.min(next()?);
            ages.frames_most = ages.frames_most.max(next()?);
            for _ in 0..next()? {
                ages.histogram.saturating_record_n(next()?, next()?);
            }
        }
        Ok(ages)
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
    fn start(
        number: usize,
        clients: usize,
        server: SocketAddr,
        topic: &str,
        reads: Reads,
        secret: &str,
    ) -> Result<Self> {
        let flag = if reads == Reads::Lines { READING_CROWD } else { CROWD };
        let mut child = Command::new(std::env::current_exe()?)
            .args([flag, &number.to_string(), &clients.to_string(), &server.to_string(), topic, secret])
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
    let [_, flag, number, clients, server, topic, secret] = arguments else { return None };
    let part = || Part::parse(number, clients, server, topic, secret);
    match flag.as_str() {
        CROWD => Some(part().and_then(|part| part.count_bytes())),
        READING_CROWD => Some(part().and_then(|part| part.measure_ages())),
        _ => None,
    }
}

/// The clients of one process.
struct Part<'a> {
    number: usize,
    clients: usize,
    server: SocketAddr,
    topic: &'a str,
    secret: &'a str,
}

impl<'a> Part<'a> {
    fn parse(number: &str, clients: &str, server: &str, topic: &'a str, secret: &'a str) -> Result<Self> {
        let number = number.parse().map_err(Error::other)?;
        let clients = clients.parse().map_err(Error::other)?;
        Ok(Self { number, clients, server: server.parse().map_err(Error::other)?, topic, secret })
    }

    /// Does what [`Crowd::expect`] and [`Crowd::check`] tell, until nobody tells anything any more.
    fn count_bytes(&self) -> Result<()> {
        let mut swarm = self.connect(&mut Nobody)?;
        swarm.count_only();
        obey(&mut swarm, &mut Nobody, |swarm, _, order| match *order {
            [bytes] => count_until(swarm, bytes),
            [1, count] => read_until(swarm, count),
            _ => Err(Error::other("neither a number of bytes nor the publications from 1 on")),
        })
    }

    /// Does what [`Crowd::measure`] tells, until nobody tells anything any more.
    fn measure_ages(&self) -> Result<()> {
        let mut latencies = Latencies::new(Clock::start(), self.clients);
        let mut swarm = self.connect(&mut latencies)?;
        obey(&mut swarm, &mut latencies, |swarm, latencies, order| {
            let &[from, count] = order else {
                return Err(Error::other("from when, or how many, is missing"));
            };
            measure_until(swarm, latencies, from, count)
        })
    }

    fn connect(&self, observer: &mut impl Observer) -> Result<Swarm> {
        let mut swarm = Swarm::new(self.server, self.clients)?;
        swarm.come_from(u8::try_from(self.number + 1).map_err(Error::other)?);
        let first = self.number * CLIENTS_PER_PROCESS;
        if !self.secret.is_empty() {
            let issuer = Issuer::with_secret(self.secret);
            (0..self.clients).for_each(|client| swarm.show_token(client, &issuer.token(first + client)));
        }
        swarm.connect_all(observer, CONNECT_LIMIT, |_, client| {
            vec![self.topic.replace("{}", &(first + client).to_string())]
        })?;
        println!("connected");
        Ok(swarm)
    }
}

/// Turns, and follows each order when it comes.
fn obey<O: Observer>(
    swarm: &mut Swarm,
    observer: &mut O,
    mut follow: impl FnMut(&mut Swarm, &mut O, &[u64]) -> Result<()>,
) -> Result<()> {
    let orders = orders();
    loop {
        swarm.turn(TURN, observer)?;
        match orders.try_recv() {
            Ok(order) => follow(swarm, observer, &order)?,
            Err(mpsc::TryRecvError::Empty) => {}
            Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

/// The numbers of each line that the bench writes.
fn orders() -> mpsc::Receiver<Vec<u64>> {
    let (sender, orders) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
            let numbers = line.split(' ').filter_map(|number| number.parse().ok());
            if sender.send(numbers.collect()).is_err() {
                return;
            }
        }
    });
    orders
}

/// Turns until each client has got `bytes` more than it had, and tells what each got.
fn count_until(swarm: &mut Swarm, bytes: u64) -> Result<()> {
    let before: Vec<_> = swarm.counted_by_each().collect();
    let all = swarm.counted().bytes + bytes * before.len() as u64;
    println!("ready");
    while swarm.counted().bytes < all
        || swarm.counted_by_each().zip(&before).any(|(now, before)| now.bytes < before.bytes + bytes)
    {
        swarm.turn(TURN, &mut Nobody)?;
    }
    let frames = || swarm.counted_by_each().zip(&before).map(|(now, before)| now.frames - before.frames);
    let bytes = || swarm.counted_by_each().zip(&before).map(|(now, before)| now.bytes - before.bytes);
    let (frames_least, frames_most) = (frames().min().unwrap_or(0), frames().max().unwrap_or(0));
    println!("{frames_least} {frames_most} {} {}", bytes().min().unwrap_or(0), bytes().max().unwrap_or(0));
    Ok(())
}

/// Reads until each client has got so many publications, and tells that each has got each of them once.
fn read_until(swarm: &mut Swarm, count: u64) -> Result<()> {
    let mut numbered = Numbered::new(swarm.len());
    swarm.read_again();
    println!("ready");
    let all = |_: &Swarm, numbered: &mut Numbered| numbered.have_come_up_to(count);
    swarm.turn_until("every publication reaches everyone", LIMIT, &mut numbered, all)?;
    swarm.count_only();
    println!("exact");
    Ok(())
}

/// Turns until nothing more is there.
fn read_all(swarm: &mut Swarm, latencies: &mut Latencies) -> Result<()> {
    let mut before = None;
    while before != Some(latencies.publications()) {
        before = Some(latencies.publications());
        swarm.turn(Duration::ZERO, latencies)?;
    }
    Ok(())
}

/// Turns until each client has its publications, and tells their ages: frames, and how often each age came.
fn measure_until(swarm: &mut Swarm, latencies: &mut Latencies, from: u64, count: u64) -> Result<()> {
    latencies.begin(from);
    println!("ready");
    while latencies.publications() < count * swarm.len() as u64 {
        std::thread::sleep(LOOK_EVERY);
        read_all(swarm, latencies)?;
    }
    // In rising order, and as many as were published: so each client has got each of them once.
    assert_eq!(latencies.publications_per_client(), (count, count));
    let (frames_least, frames_most) = latencies.frames_per_client();
    let ages: Vec<_> = latencies.histogram.iter_recorded().collect();
    let ages_as_text =
        ages.iter().map(|age| format!(" {} {}", age.value_iterated_to(), age.count_at_value()));
    println!("{frames_least} {frames_most} {}{}", ages.len(), ages_as_text.collect::<String>());
    Ok(())
}
