//! Fan-out: what the engine's shard spends per frame, over the floor that nothing beats.
//!
//! ```text
//! CPU 0   engine, thread `shard-0`   or   the floor of `floor.rs`, never both at once
//! CPU 1   this process: clients and publisher; the engine's other threads
//! ```
//!
//! Engine and floor send the same bytes to the same client program through sockets with the same
//! options, in turns within one run: the machine's noise meets both. *Single* is one publication at a
//! time to 5,000 clients; *merged* is 100 lines in each frame to 2,000 clients. `--short` does a tenth.

mod floor;
mod measure;
#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Error, Result, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use measure::{CpuTime, Summary, Watched};
use serde_json::{Value, json};
use support::engine::Engine;
use support::process::TempDir;
use support::swarm::{ClientIndex, Line, Observer, Swarm};

/// Where the shard and the floor run, and where everything else does.
const SERVER_CPU: usize = 0;
const CLIENT_CPU: usize = 1;
/// Encoded bytes of each line, its line break included.
const LINE_BYTES: usize = 100;
/// Rounds of each server.
const ROUNDS: usize = 7;
/// Fan-outs at the start of a round that are not counted. After a pause a receiver acknowledges its first
/// 16 segments at once (Linux, `TCP_MAX_QUICKACKS`), which on loopback the sender pays for: a third of the
/// cost of a small frame.
const FAN_OUTS_TO_WARM_UP: usize = 20;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// One way of loading a server.
struct Load {
    name: &'static str,
    topic: &'static str,
    clients: usize,
    lines_per_frame: usize,
    fan_outs_per_round: usize,
}

const LOADS: [Load; 2] = [
    Load { name: "single", topic: "single:bench", clients: 5000, lines_per_frame: 1, fan_outs_per_round: 40 },
    Load {
        name: "merged",
        topic: "merged:bench",
        clients: 2000,
        lines_per_frame: 100,
        fan_outs_per_round: 60,
    },
];

/// Pings stay away; `merged` waits for its hundred lines and not for the clock.
const CONFIGURATION: &str = r#"
[timeouts]
ping = "1h"

[namespaces.merged]
max_delay = "60s"
max_messages = 100
"#;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, clients, frame_file] = arguments.as_slice()
        && flag == "--floor"
    {
        let clients = clients.parse().map_err(Error::other)?;
        return floor::run(SERVER_CPU, clients, &std::fs::read(frame_file)?);
    }
    let divisor = if arguments.iter().any(|argument| argument == "--short") { 10 } else { 1 };
    let cpu = core_affinity::CoreId { id: CLIENT_CPU };
    // The engine must be free to use both CPUs: it is started before this thread is pinned.
    let engine = start_engine();
    assert!(core_affinity::set_for_current(cpu), "this bench needs two CPUs");
    let control = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
    println!(
        "CPU time of the server's thread per frame, {ROUNDS} rounds, congestion control {}",
        control.trim()
    );
    let mut results = Vec::new();
    for load in &LOADS {
        let outcome = run_load(&engine, load, (load.fan_outs_per_round / divisor).max(1))?;
        outcome.print(load);
        results.push(outcome.json(load));
    }
    measure::write_json("fanout", &json!({ "congestion_control": control.trim(), "loads": results }))
}

/// The engine on the embedded backplane, its one shard on its own CPU.
fn start_engine() -> Engine {
    Engine::with_config_and(CONFIGURATION, &["--shards", "1", "--cpus", &SERVER_CPU.to_string()])
}

/// A server under load: what to poke so that every client gets a frame, and what to read.
struct Server<'a> {
    swarm: Swarm,
    watched: Watched,
    poke: Box<dyn FnMut() -> Result<()> + 'a>,
}

/// What one round cost.
#[derive(Clone, Copy)]
struct Round {
    thread: CpuTime,
    process: CpuTime,
    /// This process: the clients, and whoever pokes the server.
    clients: CpuTime,
    wall: Duration,
    frames: u64,
    /// Frames that should have come: one for each client and fan-out.
    wanted: u64,
}

impl Round {
    fn thread_microseconds(&self) -> f64 {
        self.thread.nanoseconds as f64 / 1000.0 / self.wanted as f64
    }

    fn process_microseconds(&self) -> f64 {
        self.process.nanoseconds as f64 / 1000.0 / self.wanted as f64
    }
}

impl Server<'_> {
    /// So many fan-outs, after some to warm up.
    fn round(&mut self, fan_outs: usize, payload: usize) -> Result<Round> {
        self.fan_out(FAN_OUTS_TO_WARM_UP, payload)?;
        let before = self.swarm.counted();
        let this_process = Watched::new(std::process::id(), None)?;
        let (thread, process) = (self.watched.thread()?, self.watched.process()?);
        let clients = this_process.thread()?;
        let begin = Instant::now();
        self.fan_out(fan_outs, payload)?;
        let wall = begin.elapsed();
        Ok(Round {
            thread: self.watched.thread()?.since(thread),
            process: self.watched.process()?.since(process),
            clients: this_process.thread()?.since(clients),
            wall,
            frames: self.swarm.counted().frames - before.frames,
            wanted: (fan_outs * self.swarm.len()) as u64,
        })
    }

    /// Fan-outs one after the other, each begun when the one before has reached everyone.
    fn fan_out(&mut self, times: usize, payload: usize) -> Result<()> {
        for _ in 0..times {
            let bytes = self.swarm.counted().bytes + (self.swarm.len() * payload) as u64;
            (self.poke)()?;
            let done = |swarm: &Swarm, _: &mut Nobody| swarm.counted().bytes >= bytes;
            self.swarm.turn_until("a fan-out reaches everyone", LIMIT, &mut Nobody, done)?;
        }
        Ok(())
    }
}

/// The rounds of engine and floor, in pairs.
struct Outcome {
    payload: usize,
    pairs: Vec<(Round, Round)>,
}

/// Sets both servers up with the same clients and lets them take turns.
fn run_load(engine: &Engine, load: &Load, fan_outs: usize) -> Result<Outcome> {
    let mut publisher = Publisher::connect(engine, load)?;
    let frame = probe(engine, load, &mut publisher)?;
    let payload = frame.len() - frame_head(&frame);
    let floor = Floor::start(load.clients, &frame)?;
    let mut of_engine = Server {
        swarm: crowd(engine.client_address(), load)?,
        watched: Watched::new(engine.pid(), Some("shard-0"))?,
        poke: Box::new(|| publisher.publish_one_frame()),
    };
    let mut of_floor = Server {
        swarm: crowd(floor.address, load)?,
        watched: Watched::new(floor.child.id(), None)?,
        poke: Box::new(|| (&floor.pokes).write_all(b".")),
    };
    let mut pairs = Vec::new();
    for round in 0..ROUNDS {
        // Who comes first changes, in case the machine slows down or speeds up.
        let pair = if round % 2 == 0 {
            let engine = of_engine.round(fan_outs, payload)?;
            (engine, of_floor.round(fan_outs, payload)?)
        } else {
            let floor = of_floor.round(fan_outs, payload)?;
            (of_engine.round(fan_outs, payload)?, floor)
        };
        pairs.push(pair);
    }
    Ok(Outcome { payload, pairs })
}

/// Clients that have subscribed and from now on count.
fn crowd(server: SocketAddr, load: &Load) -> Result<Swarm> {
    let mut swarm = Swarm::new(server, load.clients)?;
    swarm.connect_all(&mut Nobody, LIMIT, |_, _| vec![load.topic])?;
    swarm.count_only();
    Ok(swarm)
}

/// The bytes of the frame in which the engine sends one fan-out, head included, so that the floor sends
/// the same.
fn probe(engine: &Engine, load: &Load, publisher: &mut Publisher) -> Result<Vec<u8>> {
    let mut swarm = Swarm::new(engine.client_address(), 1)?;
    swarm.connect_all(&mut Nobody, LIMIT, |_, _| vec![load.topic])?;
    let mut seen = Seen::default();
    publisher.publish_one_frame()?;
    swarm.turn_until("the first frame comes", LIMIT, &mut seen, |_, seen| {
        seen.lines == load.lines_per_frame
    })?;
    let wanted = load.lines_per_frame * LINE_BYTES;
    // The engine may leave out the last line break.
    assert!(
        seen.payload.len().abs_diff(wanted) <= 1,
        "{}: the engine's first frame has {} bytes instead of {wanted}",
        load.name,
        seen.payload.len()
    );
    let mut frame = vec![0x81];
    match u8::try_from(seen.payload.len()) {
        Ok(length) if length < 126 => frame.push(length),
        _ => {
            frame.push(126);
            frame.extend(u16::try_from(seen.payload.len()).map_err(Error::other)?.to_be_bytes());
        }
    }
    frame.extend(&seen.payload);
    Ok(frame)
}

/// Bytes of the head of a frame under 64 KiB.
fn frame_head(frame: &[u8]) -> usize {
    if frame[1] == 126 { 4 } else { 2 }
}

/// Publishes through the server API over one kept connection, the publications of a frame pipelined.
struct Publisher {
    requests: Vec<u8>,
    answers: BufReader<std::net::TcpStream>,
    per_frame: usize,
}

impl Publisher {
    fn connect(engine: &Engine, load: &Load) -> Result<Self> {
        let address = engine.control_address();
        let around = format!(r#"{{"push":{{"channel":"{}","pub":{{"data":""}}}}}}"#, load.topic).len() + 1;
        let data = "x".repeat(LINE_BYTES - around);
        let body = json!({ "channel": load.topic, "data": data }).to_string();
        let request = format!(
            "POST /api/publish HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self {
            requests: request.repeat(load.lines_per_frame).into_bytes(),
            answers: BufReader::new(stream),
            per_frame: load.lines_per_frame,
        })
    }

    fn publish_one_frame(&mut self) -> Result<()> {
        self.answers.get_mut().write_all(&self.requests)?;
        for _ in 0..self.per_frame {
            read_answer(&mut self.answers)?;
        }
        Ok(())
    }
}

/// Reads one HTTP answer, which must be a success.
fn read_answer(answers: &mut impl BufRead) -> Result<()> {
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        if answers.read_line(&mut head)? == 0 {
            return Err(Error::other("the engine closed the connection of the publisher"));
        }
        let line = head[start..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(Error::other)?;
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body);
    let is_success = head.starts_with("HTTP/1.1 200 ") && body.contains("result");
    if is_success { Ok(()) } else { Err(Error::other(format!("publishing was answered {head}{body}"))) }
}

/// The floor in a process of its own: this program once more.
struct Floor {
    child: Child,
    pokes: ChildStdin,
    address: SocketAddr,
    _files: TempDir,
}

impl Floor {
    fn start(clients: usize, frame: &[u8]) -> Result<Self> {
        let files = TempDir::new("floor");
        let file = files.path().join("frame");
        std::fs::write(&file, frame)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args([Path::new("--floor"), Path::new(&clients.to_string()), &file])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (pokes, output) = (child.stdin.take(), child.stdout.take());
        let mut line = String::new();
        BufReader::new(output.expect("piped")).read_line(&mut line)?;
        let address = line.trim().parse().map_err(Error::other)?;
        Ok(Self { child, pokes: pokes.expect("piped"), address, _files: files })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks at nothing.
struct Nobody;

impl Observer for Nobody {
    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        assert!(!matches!(line, Line::Reply { error: Some(_), .. }), "client {client} was answered {line:?}");
    }
}

/// Keeps the payload of the latest frame, and counts publications.
#[derive(Default)]
struct Seen {
    payload: Vec<u8>,
    lines: usize,
}

impl Observer for Seen {
    fn frame(&mut self, _client: ClientIndex, payload: &[u8]) {
        self.payload = payload.to_vec();
    }

    fn line(&mut self, _client: ClientIndex, line: Line<'_>) {
        self.lines += usize::from(matches!(line, Line::Publication(_)));
    }
}

impl Outcome {
    fn engine(&self, of: impl Fn(&Round) -> f64) -> Summary {
        Summary::of(self.pairs.iter().map(|(engine, _)| of(engine)))
    }

    fn floor(&self, of: impl Fn(&Round) -> f64) -> Summary {
        Summary::of(self.pairs.iter().map(|(_, floor)| of(floor)))
    }

    /// What the shard spends over what the floor spends, round by round.
    fn ratio(&self) -> Summary {
        let ratio =
            |(engine, floor): &(Round, Round)| engine.thread_microseconds() / floor.thread_microseconds();
        Summary::of(self.pairs.iter().map(ratio))
    }

    /// The part of the CPU time in user mode, over all rounds: engine's, floor's.
    fn user_shares(&self) -> (f64, f64) {
        let sum = |times: &mut dyn Iterator<Item = CpuTime>| times.fold(CpuTime::default(), CpuTime::plus);
        (
            sum(&mut self.pairs.iter().map(|(engine, _)| engine.thread)).user_share(),
            sum(&mut self.pairs.iter().map(|(_, floor)| floor.thread)).user_share(),
        )
    }

    fn print(&self, load: &Load) {
        let (engine_user, floor_user) = self.user_shares();
        let frames: u64 = self.pairs.iter().map(|(engine, _)| engine.frames).sum();
        let wanted: u64 = self.pairs.iter().map(|(engine, _)| engine.wanted).sum();
        println!(
            "\n{}: {} clients, {} lines and {} bytes per frame; median (least to most)",
            load.name, load.clients, load.lines_per_frame, self.payload
        );
        let shard = self.engine(Round::thread_microseconds);
        println!("  shard    {shard} us per frame, {:.0} % user", engine_user * 100.0);
        println!(
            "  floor    {} us per frame, {:.0} % user",
            self.floor(Round::thread_microseconds),
            floor_user * 100.0
        );
        println!("  ratio    {}", self.ratio());
        println!(
            "  process  {} us per frame, all threads of the engine",
            self.engine(Round::process_microseconds)
        );
        println!("  wall     {} us per frame; floor {}", self.engine(wall), self.floor(wall));
        let busy = |of: fn(&Round) -> f64| self.engine(of).median * 100.0;
        println!(
            "  busy     shard {:.0} %, clients {:.0} % of the time",
            busy(server_busy),
            busy(clients_busy)
        );
        println!("  frames   {frames} for {wanted} fan-outs times clients");
    }

    fn json(&self, load: &Load) -> Value {
        let (engine_user, floor_user) = self.user_shares();
        json!({
            "load": load.name,
            "clients": load.clients,
            "lines_per_frame": load.lines_per_frame,
            "payload_bytes": self.payload,
            "rounds": self.pairs.len(),
            "shard_microseconds_per_frame": self.engine(Round::thread_microseconds),
            "floor_microseconds_per_frame": self.floor(Round::thread_microseconds),
            "ratio": self.ratio(),
            "shard_user_share": engine_user,
            "floor_user_share": floor_user,
            "process_microseconds_per_frame": self.engine(Round::process_microseconds),
            "shard_wall_microseconds_per_frame": self.engine(wall),
            "floor_wall_microseconds_per_frame": self.floor(wall),
        })
    }
}

/// The part of the time in which the server's thread was on its CPU; where it is small, the bench measures
/// its own clients.
fn server_busy(round: &Round) -> f64 {
    round.thread.nanoseconds as f64 / round.wall.as_nanos() as f64
}

/// The same of the clients' thread.
fn clients_busy(round: &Round) -> f64 {
    round.clients.nanoseconds as f64 / round.wall.as_nanos() as f64
}

fn wall(round: &Round) -> f64 {
    round.wall.as_secs_f64() * 1e6 / round.wanted as f64
}
