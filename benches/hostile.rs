//! What hostile clients cost the others: 500 clients that get 50 publications per second, without and with each
//! attack beside them, in turns. All attackers send on one thread, at a fixed rate: what is measured is the engine,
//! and not who gets the clients' CPU.
//!
//! Afterwards the attackers go, and the engine's memory has to come back. The last parts are no attacks: a topic,
//! and a publisher, that are much busier than the others, and a client that publishes a lot.
//!
//! `--short` does a little of each.

mod common;

use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::latency::{Clock, empty_histogram, milliseconds, nanoseconds};
use common::measure::Summary;
use common::publisher::{Pace, Publisher, ended, numbered_data, plain_data, publish_evenly};
use common::report::{Report, Target, places};
use common::scale::Scale;
use common::support::engine::Engine;
use common::support::framed::compressed;
use common::support::frames::{COMPRESSED, PING, TEXT, frame, frame_with};
use common::support::peer::{Peer, UPGRADE};
use common::support::process::resident_bytes;
use common::support::swarm::{ClientIndex, Line, Observer, Swarm};
use common::{Arguments, LIMIT, LINE_BYTES, with_engine};
use hdrhistogram::Histogram;

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(4);
const TOPIC: &str = "real:all";
const CLIENTS: usize = 500;
const EACH: Duration = Duration::from_millis(20);
/// Pings come often, so that a pong that is not found in time shows.
const CONFIGURATION: &str = "[timeouts]\nping = \"2s\"\npong = \"1500ms\"\n\
    [namespaces.real]\n[namespaces.busy]\n[namespaces.own]\nclient_publish = true\n\
    [namespaces.big]\nhistory_size = 100\nclient_history = true\ndeflate = true\n";
/// Topics in the namespace `big`, and what is in each one's history.
const BIG_TOPICS: usize = 100;
const BIG_PUBLICATIONS: usize = 20;
const BIG_BYTES: usize = 20_000;
/// Whoever gets a publication later than this counts as if it came now.
const LATEST: Duration = Duration::from_secs(10);
/// Between two writes of the thread that attacks.
const BEAT: Duration = Duration::from_millis(5);

/// Hostile clients of one kind.
struct Attack {
    name: &'static str,
    attackers: usize,
    /// Of all together.
    bytes_per_second: usize,
    /// Sent again and again, or once.
    bytes: Vec<u8>,
    repeats: bool,
    /// Whether they take what they are sent.
    reads: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help() {
        return result;
    }
    let scale = Scale::of(&arguments, ROUNDS);
    let mut report = Report::new("hostile", &format!("{} rounds", scale.rounds), places("shard"));
    for attack in attacks() {
        with_engine(CONFIGURATION, |engine| attacked(engine, &attack, &scale, &mut report))?;
    }
    for part in [busy_topic, busy_publisher, own_publishes] {
        with_engine(CONFIGURATION, |engine| part(engine, &scale, &mut report))?;
    }
    report.finish()
}

fn attacks() -> Vec<Attack> {
    let unsubscribe = r#"{"id":1,"unsubscribe":{"channel":"A"}}"#;
    let many = vec![unsubscribe; 1600].join("\n");
    let nested = vec!["[".repeat(120) + &"]".repeat(120); 250].join(",");
    let fragments =
        [frame_with(TEXT, b""), frame_with(0, b"").repeat(4000), frame(0, unsubscribe.as_bytes())];
    let asks = |of: &str, more: &str| {
        let command = |topic| {
            let id = topic + 2;
            format!(r#"{{"id":{id},"{of}":{{"channel":"big:{topic}"{more}}}}}"#)
        };
        frame(TEXT, (0..BIG_TOPICS).map(command).collect::<Vec<_>>().join("\n").as_bytes())
    };
    let question = frame(TEXT, br#"{"id":1,"history":{"channel":"big:0","limit":0}}"#);
    let flood = |name, attackers, mut bytes: Vec<u8>| Attack {
        name,
        attackers,
        bytes_per_second: 3_000_000,
        bytes: {
            // Who answers no ping is closed, and floods no more.
            bytes.extend(frame(TEXT, b"{}"));
            bytes
        },
        repeats: true,
        reads: true,
    };
    let deaf = |name, attackers, bytes: Vec<u8>, repeats| Attack {
        name,
        attackers,
        bytes_per_second: 50_000_000,
        bytes,
        repeats,
        reads: false,
    };
    vec![
        flood("compressed commands", 1, padded(unsubscribe)),
        flood("compressed commands of many", 150, padded(unsubscribe)),
        flood("pings", 1, frame(PING, b"").repeat(1000)),
        flood("pongs", 1, frame(10, b"").repeat(1000)),
        flood("empty continuations", 1, fragments.concat()),
        flood("unsubscribes", 1, frame(TEXT, unsubscribe.as_bytes()).repeat(100)),
        flood("many commands in a message", 1, frame(TEXT, many.as_bytes())),
        // The broker thread answers them, which has everybody's messages to hand over.
        flood("questions about histories", 150, question.repeat(100)),
        flood("nested JSON", 1, frame(TEXT, format!(r#"{{"id":1,"rpc":[{nested}]}}"#).as_bytes())),
        deaf("histories that nobody takes", 20, asks("history", r#","limit":-1"#), false),
        deaf("recoveries that nobody takes", 100, asks("subscribe", r#","recover":true,"offset":0"#), false),
        deaf("halves of messages", 1000, frame(TEXT, &[b' '; 60_000])[..59_000].to_vec(), false),
    ]
}

/// One command with as many spaces as a message has room for, 64 KiB: about 130 bytes.
fn padded(command: &str) -> Vec<u8> {
    let message = format!("{command}{}", " ".repeat((64 << 10) - command.len()));
    frame(COMPRESSED | TEXT, &compressed(message.as_bytes()))
}

/// Quantiles of the real clients without and with the attack, and the memory during and after it.
fn attacked(engine: &Engine, attack: &Attack, scale: &Scale, report: &mut Report) -> Result<()> {
    fill_histories(engine)?;
    let mut real = Real::connect(engine)?;
    real.round(scale)?;
    let before = resident_bytes(engine.pid())?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let peak = Arc::new(AtomicU64::new(0));
    let mut closed = 0;
    for _ in 0..scale.rounds {
        without.push(real.round(scale)?);
        let attackers = Attackers::begin(engine, attack, Arc::clone(&peak));
        with.push(real.round(scale)?);
        closed += attackers.end();
        // What they left in the kernel is over.
        real.rest(scale.length(Duration::from_secs(3)))?;
    }
    let mut growth = resident_bytes(engine.pid())?.saturating_sub(before);
    let gone = Instant::now();
    while growth > 16 << 20 && gone.elapsed() < scale.length(Duration::from_secs(10)) {
        real.rest(Duration::from_millis(200))?;
        growth = resident_bytes(engine.pid())?.saturating_sub(before);
    }
    let about = format!("{} attackers, {} bytes/s in all", attack.attackers, attack.bytes_per_second);
    report.part(attack.name, &about);
    compare(report, &without, &with);
    report.row("real clients dropped", real.seen.closed as f64, "", Target::AtMost(0.0));
    // A flood that the engine ends at once would be no flood; others may be closed.
    let target = if attack.reads { Target::AtMost(0.0) } else { Target::None };
    report.row("attackers dropped", closed as f64, "", target);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let peak = peak.load(Ordering::Relaxed).saturating_sub(before);
    report.row("growth of RSS, most", megabytes(peak), "MB", Target::AtMost(200.0));
    report.row("growth of RSS, 10 s after the last", megabytes(growth), "MB", Target::AtMost(32.0));
    Ok(())
}

/// p50 and p99 in milliseconds, of rounds in pairs.
fn compare(report: &mut Report, without: &[[f64; 2]], with: &[[f64; 2]]) {
    let ratio = |quantile: usize| {
        let pairs = with.iter().zip(without).map(move |(with, without)| with[quantile] / without[quantile]);
        Summary::of(pairs)
    };
    let of = |rounds: &[[f64; 2]], quantile: usize| Summary::of(rounds.iter().map(|round| round[quantile]));
    report.row("p99 of the real, with / without", ratio(1), "", Target::AtMost(1.5));
    report.row("p50 of the real, with / without", ratio(0), "", Target::AtMost(1.5));
    report.row("p50 without", of(without, 0), "ms", Target::None);
    report.row("p50 with", of(with, 0), "ms", Target::None);
    report.row("p99 without", of(without, 1), "ms", Target::None);
    report.row("p99 with", of(with, 1), "ms", Target::None);
}

/// Something to be asked for.
fn fill_histories(engine: &Engine) -> Result<()> {
    let mut publisher = Publisher::connect(engine.control_address())?;
    for topic in (0..BIG_TOPICS).map(|topic| format!("big:{topic}")) {
        let request = publisher.request(&topic, &plain_data(&topic, BIG_BYTES));
        for _ in 0..BIG_PUBLICATIONS {
            publisher.publish(&request, 1)?;
        }
    }
    Ok(())
}

/// The clients that are to notice nothing.
struct Real {
    swarm: Swarm,
    seen: Seen,
    control: SocketAddr,
}

/// What they saw.
struct Seen {
    clock: Clock,
    histogram: Histogram<u64>,
    from: u64,
    closed: usize,
}

impl Observer for Seen {
    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        match line {
            Line::Publication(publication) if publication.number >= self.from => {
                let late = self.clock.now().saturating_sub(publication.number);
                self.histogram.saturating_record(late);
            }
            Line::Publication(_) | Line::Ping | Line::Reply { error: None, .. } => {}
            other => panic!("client {client} got {other:?}"),
        }
    }

    fn closed(&mut self, _client: ClientIndex, _code: Option<u16>) {
        self.closed += 1;
    }
}

impl Real {
    fn connect(engine: &Engine) -> Result<Self> {
        let mut seen = Seen { clock: Clock::start(), histogram: empty_histogram(), from: 0, closed: 0 };
        let mut swarm = Swarm::new(engine.client_address(), CLIENTS)?;
        swarm.connect_all(&mut seen, LIMIT, |_, _| vec![TOPIC])?;
        Ok(Self { swarm, seen, control: engine.control_address() })
    }

    /// Publishes for a while: p50 and p99 in milliseconds, from due to received.
    fn round(&mut self, scale: &Scale) -> Result<[f64; 2]> {
        let pace = Pace::every(self.seen.clock, EACH, scale.length(ROUND));
        self.seen.histogram.reset();
        self.seen.from = pace.first;
        let publisher = publish_evenly(self.control, pace, |_, due| {
            (TOPIC.to_owned(), numbered_data(TOPIC, due, LINE_BYTES))
        })?;
        let wanted = pace.count * (CLIENTS - self.seen.closed) as u64;
        let end = Instant::now() + scale.length(ROUND) + LATEST;
        while self.seen.histogram.len() < pace.count * (CLIENTS - self.seen.closed) as u64
            && Instant::now() < end
        {
            self.swarm.turn(Duration::from_millis(10), &mut self.seen)?;
        }
        // What has not come, and will not come to those who were dropped, is at least as late.
        let missing = wanted.saturating_sub(self.seen.histogram.len());
        self.seen.histogram.saturating_record_n(nanoseconds(LATEST), missing);
        ended(publisher)?;
        Ok([0.5, 0.99].map(|quantile| milliseconds(&self.seen.histogram, quantile)))
    }

    /// Answers pings, no more.
    fn rest(&mut self, length: Duration) -> Result<()> {
        let end = Instant::now() + length;
        while Instant::now() < end {
            self.swarm.turn(Duration::from_millis(10), &mut self.seen)?;
        }
        Ok(())
    }
}

/// Those of one attack, on a thread of their own.
struct Attackers {
    stop: Arc<AtomicBool>,
    /// How many of them were closed.
    thread: JoinHandle<usize>,
}

impl Attackers {
    fn begin(engine: &Engine, attack: &Attack, peak: Arc<AtomicU64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let peers: Vec<_> = (0..attack.attackers).map(|_| attacker(engine.client_address())).collect();
        let thread = {
            let (stop, pid, bytes) = (Arc::clone(&stop), engine.pid(), attack.bytes.clone());
            let (repeats, reads) = (attack.repeats, attack.reads);
            let beat_bytes = attack.bytes_per_second / 200 / attack.attackers;
            std::thread::spawn(move || {
                let count = peers.len();
                let mut peers: Vec<_> = peers.into_iter().map(|peer| (peer, 0)).collect();
                while !stop.load(Ordering::Relaxed) {
                    peers.retain_mut(|(peer, at)| {
                        let takes = send_some(peer, &bytes, at, beat_bytes, repeats);
                        takes && (!reads || take_everything(peer))
                    });
                    peak.fetch_max(resident_bytes(pid).unwrap_or(0), Ordering::Relaxed);
                    std::thread::sleep(BEAT);
                }
                count - peers.len()
            })
        };
        Self { stop, thread }
    }

    /// How many were closed.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

/// Somebody who may compress.
fn attacker(address: SocketAddr) -> Peer {
    let mut peer = Peer::connect(address);
    let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    peer.send(UPGRADE.replace("\r\n\r\n", offer).as_bytes());
    let head = peer.read_head();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("permessage-deflate"), "{head}");
    peer.command(r#"{"id":1,"connect":{}}"#);
    peer.reply();
    peer.0.set_nonblocking(true).expect("it is a socket");
    peer
}

/// Sends what follows `at`, at most `length` bytes, from the beginning again if it `repeats`. False if it is closed.
fn send_some(peer: &mut Peer, bytes: &[u8], at: &mut usize, length: usize, repeats: bool) -> bool {
    let mut left = length;
    while left > 0 && *at < bytes.len() {
        let end = bytes.len().min(*at + left);
        match peer.0.write(&bytes[*at..end]) {
            Ok(sent) => {
                *at += sent;
                left -= sent;
            }
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        if *at == bytes.len() && repeats {
            *at = 0;
        }
    }
    true
}

/// False if it is closed.
fn take_everything(peer: &mut Peer) -> bool {
    let mut buffer = [0; 16 << 10];
    loop {
        match peer.0.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// The real clients beside a publisher that publishes to `topic`, one publication in each `interval`.
fn beside(engine: &Engine, scale: &Scale, topic: &'static str, each: Duration) -> Result<[Vec<[f64; 2]>; 2]> {
    let mut real = Real::connect(engine)?;
    real.round(scale)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        without.push(real.round(scale)?);
        let pace = Pace::every(real.seen.clock, each, scale.length(ROUND) * 5 / 4);
        let publisher = publish_evenly(engine.control_address(), pace, |_, due| {
            (topic.to_owned(), numbered_data(topic, due, LINE_BYTES))
        })?;
        with.push(real.round(scale)?);
        ended(publisher)?;
    }
    assert_eq!(real.seen.closed, 0);
    Ok([without, with])
}

/// A topic with 2,500 publications per second for 20 other clients: as many frames as the real ones get.
fn busy_topic(engine: &Engine, scale: &Scale, report: &mut Report) -> Result<()> {
    const BUSY: &str = "busy:topic";
    let stop = AtomicBool::new(false);
    let address = engine.client_address();
    let rounds = std::thread::scope(|scope| {
        let audience = scope.spawn(|| -> Result<()> {
            let mut seen = Seen { clock: Clock::start(), histogram: empty_histogram(), from: 0, closed: 0 };
            let mut swarm = Swarm::new(address, 20)?;
            swarm.connect_all(&mut seen, LIMIT, |_, _| vec![BUSY])?;
            while !stop.load(Ordering::Relaxed) {
                swarm.turn(Duration::from_millis(10), &mut seen)?;
            }
            Ok(())
        });
        let rounds = beside(engine, scale, BUSY, Duration::from_micros(400));
        stop.store(true, Ordering::Relaxed);
        audience.join().expect("it does not panic")?;
        rounds
    })?;
    report.part("busy topic", "2,500 publications/s for 20 others");
    compare(report, &rounds[0], &rounds[1]);
    Ok(())
}

/// A publisher of the server API whose 5,000 publications per second nobody hears.
fn busy_publisher(engine: &Engine, scale: &Scale, report: &mut Report) -> Result<()> {
    let rounds = beside(engine, scale, "busy:nobody", Duration::from_micros(200))?;
    report.part("busy publisher", "5,000 publications/s that nobody hears");
    compare(report, &rounds[0], &rounds[1]);
    Ok(())
}

/// A client that publishes to one topic as fast as it is answered.
fn own_publishes(engine: &Engine, scale: &Scale, report: &mut Report) -> Result<()> {
    let count = scale.count(20_000);
    let mut rates = Vec::new();
    for _ in 0..scale.rounds {
        let mut peer = Peer::connected(engine.client_address());
        let publish = |id| {
            let command = format!(r#"{{"id":{id},"publish":{{"channel":"own:one","data":{id}}}}}"#);
            frame(TEXT, command.as_bytes())
        };
        let bytes: Vec<_> = (2..count + 2).flat_map(publish).collect();
        let begin = Instant::now();
        let mut writer = peer.0.try_clone()?;
        let thread = std::thread::spawn(move || writer.write_all(&bytes));
        let mut answered = 0;
        while answered < count {
            answered += peer.reply().matches(r#""publish":{}"#).count();
        }
        rates.push(count as f64 / begin.elapsed().as_secs_f64());
        thread.join().expect("it does not panic")?;
    }
    report.part("own publishes", "one client, one topic");
    report.row("publishes answered", Summary::of(rates), "per second", Target::AtLeast(20_000.0));
    Ok(())
}
