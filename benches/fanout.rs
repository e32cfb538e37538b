//! Fan-out: what the engine's shard spends per frame, over the floor that nothing beats, and what becomes of
//! more than single frames could carry.
//!
//! Engine and floor send the same number of bytes to the same client program through sockets with the same
//! options, in turns within one run: the machine's noise meets both. Clients count what they get; after that they
//! read some more, and each must get each publication once and in order.
//!
//! * *single*: one publication at a time to 5,000 clients;
//! * *merged*: 100 lines in each frame to 2,000 clients;
//! * *topics*: one publication at a time to 2,000 clients with 100 topics each, against as many with one;
//! * *tables*: one publication at a time to 2,000 clients of an engine whose shards have tables of descriptors
//!   of their own (`server.private_fd_tables`), against as many of one whose threads share a table;
//! * *deflated*: messages of 4 KB, one at a time, to 2,000 clients that take them compressed, against as many
//!   that take them plain;
//! * *overload*: 6,000 publications per second for 500 clients, 3 million deliveries per second. Latency is
//!   from the time at which a publication was due.
//!
//! `--short` does a little of each.

mod common;

use std::io::Result;
use std::net::SocketAddr;
use std::time::Duration;

use common::exact::check_broadcasts;
use common::floor::Floor;
use common::latency::{Clock, Latencies};
use common::measure::{CpuTime, Summary, Watched};
use common::publisher::{Pace, Publisher, ended, numbered_data, plain_data, publish_evenly};
use common::report::{Report, Target, places};
use common::rounds::{Pairs, Round, Server};
use common::support::engine::Engine;
use common::support::random::Random;
use common::support::swarm::{ClientIndex, Line, Observer, Swarm};
use common::{
    Arguments, LIMIT, LINE_BYTES, Nobody, counting_clients, deflating_clients, on_client_cpu, start_engine,
};

/// Rounds of each server.
const ROUNDS: usize = 5;

/// Pings stay away; `merged` waits for its hundred lines and not for the clock.
/// Nobody is a crowd: what is published at once is to reach everyone in one frame.
const CONFIGURATION: &str = r#"
[timeouts]
ping = "1h"

[budgets]
crowd = 1_000_000

[namespaces.merged]
max_delay = "60s"
max_messages = 100

[namespaces.single]
[namespaces.topics]
[namespaces.tables]
[namespaces.overload]

[namespaces.deflated]
deflate = true
"#;

/// How much of everything is done.
struct Scale {
    divisor: usize,
    rounds: usize,
}

/// One way of loading a server that is compared with the floor.
struct Load {
    name: &'static str,
    topic: &'static str,
    clients: usize,
    lines_per_frame: usize,
    fan_outs_per_round: usize,
    /// CPU time over the floor's.
    ratio: Target,
    user_nanoseconds: Target,
}

const LOADS: [Load; 2] = [
    Load {
        name: "single",
        topic: "single:bench",
        clients: 5000,
        lines_per_frame: 1,
        fan_outs_per_round: 40,
        ratio: Target::AtMost(1.05),
        user_nanoseconds: Target::AtMost(150.0),
    },
    Load {
        name: "merged",
        topic: "merged:bench",
        clients: 2000,
        lines_per_frame: 100,
        fan_outs_per_round: 60,
        // At least 0.9 of the floor's rate.
        ratio: Target::AtMost(1.0 / 0.9),
        user_nanoseconds: Target::None,
    },
];

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help() {
        return result;
    }
    let engine = start_engine(CONFIGURATION);
    let private_tables = start_engine(&format!("{CONFIGURATION}[server]\nprivate_fd_tables = true\n"));
    let scale = if arguments.short() {
        Scale { divisor: 10, rounds: 1 }
    } else {
        Scale { divisor: 1, rounds: ROUNDS }
    };
    on_client_cpu(|| {
        let mut report =
            Report::new("fanout", &format!("{} rounds", scale.rounds), places("shard and raw loop"));
        for load in &LOADS {
            against_the_floor(&engine, load, &scale, &mut report)?;
        }
        many_topics(&engine, &scale, &mut report)?;
        tables(&engine, &private_tables, &scale, &mut report)?;
        deflated(&engine, &scale, &mut report)?;
        overload(&engine, &scale, &mut report)?;
        report.finish()
    })
}

/// Sets both servers up with the same clients and lets them take turns.
fn against_the_floor(engine: &Engine, load: &Load, scale: &Scale, report: &mut Report) -> Result<()> {
    let mut publisher = Publisher::connect(engine.control_address())?;
    let requests =
        publisher.request(load.topic, &plain_data(load.topic, LINE_BYTES)).repeat(load.lines_per_frame);
    let mut publish = || publisher.publish(&requests, load.lines_per_frame);
    let payload = probe(engine, load, &mut publish)?;
    let mut floor = Floor::start(load.clients, payload)?;
    let topics = [load.topic.to_owned()];
    let mut of_engine = Server {
        swarm: counting_clients(engine.client_address(), load.clients, &topics)?,
        watched: Watched::new(engine.pid(), Some("shard-0"))?,
        poke: Box::new(publish),
    };
    let mut of_floor = Server {
        swarm: counting_clients(floor.address(), load.clients, &topics)?,
        watched: Watched::new(floor.pid(), None)?,
        poke: Box::new(|| floor.poke()),
    };
    let fan_outs = (load.fan_outs_per_round / scale.divisor).max(1);
    let pairs = Pairs::take(
        scale.rounds,
        || of_engine.round(fan_outs, payload),
        || of_floor.round(fan_outs, payload),
    )?;
    let lines = load.lines_per_frame as u64;
    check_broadcasts(engine, &mut of_engine.swarm, &topics, lines, LINE_BYTES)?;
    show(load, payload, &pairs, report);
    Ok(())
}

/// Bytes of the payload in which the engine sends one fan-out, so that the floor sends as many.
fn probe(engine: &Engine, load: &Load, publish: &mut impl FnMut() -> Result<()>) -> Result<usize> {
    let mut swarm = Swarm::new(engine.client_address(), 1)?;
    let mut seen = Seen::default();
    swarm.connect_all(&mut seen, LIMIT, |_, _| vec![load.topic])?;
    publish()?;
    let all = |_: &Swarm, seen: &mut Seen| seen.lines == load.lines_per_frame;
    swarm.turn_until("the first frame comes", LIMIT, &mut seen, all)?;
    // The last line has no line break.
    assert_eq!(seen.payload, load.lines_per_frame * LINE_BYTES - 1, "{}", load.name);
    Ok(seen.payload)
}

/// The size of the latest frame, and the number of publications.
#[derive(Default)]
struct Seen {
    payload: usize,
    lines: usize,
}

impl Observer for Seen {
    fn frame(&mut self, _client: ClientIndex, payload: &[u8]) {
        self.payload = payload.len();
    }

    fn line(&mut self, _client: ClientIndex, line: Line<'_>) {
        self.lines += usize::from(matches!(line, Line::Publication(_)));
    }
}

fn show(load: &Load, payload: usize, pairs: &Pairs<Round, Round>, report: &mut Report) {
    let engine = |of: fn(&Round) -> f64| Summary::of(pairs.first().map(of));
    let floor = |of: fn(&Round) -> f64| Summary::of(pairs.second().map(of));
    let Load { clients, lines_per_frame: lines, .. } = load;
    report.part(load.name, &format!("{clients} clients, {lines} lines and {payload} bytes per frame"));
    report.row(
        "CPU of shard / of floor",
        pairs.ratio(Round::thread_microseconds, Round::thread_microseconds),
        "",
        load.ratio,
    );
    report.row("CPU of shard", engine(Round::thread_microseconds), "us per frame", Target::None);
    report.row("CPU of floor", floor(Round::thread_microseconds), "us per frame", Target::None);
    report.row(
        "CPU of shard in user space",
        user_nanoseconds(pairs.first()),
        "ns per frame",
        load.user_nanoseconds,
    );
    report.row("CPU of floor in user space", user_nanoseconds(pairs.second()), "ns per frame", Target::None);
    report.row(
        "CPU of all threads of the engine",
        engine(Round::process_microseconds),
        "us per frame",
        Target::None,
    );
    let rate = move |round: &Round| *lines as f64 / round.wall_microseconds();
    report.row("engine", Summary::of(pairs.first().map(rate)), "million lines/s", Target::None);
    report.row("floor", Summary::of(pairs.second().map(rate)), "million lines/s", Target::None);
    report.row("shard was busy", engine(Round::server_busy), "% of the time", Target::None);
    report.row("clients were busy", engine(Round::clients_busy), "% of the time", Target::None);
    let sum = |of: fn(&Round) -> u64| pairs.first().map(of).sum::<u64>() as f64;
    let frames_per_delivery = sum(|round| round.frames) / sum(|round| round.wanted);
    report.row("frames per fan-out and client", frames_per_delivery, "", Target::None);
}

/// The part of the CPU time that the kernel saw in user mode. It looks a few hundred times per second and finds
/// the thread there in a fortieth of them, so that all rounds together are better than the median of them.
fn user_nanoseconds<'a>(rounds: impl Iterator<Item = &'a Round> + Clone) -> Summary {
    let per_frame =
        |thread: CpuTime, frames: u64| thread.nanoseconds as f64 * thread.user_share() / frames as f64;
    let thread = rounds.clone().map(|round| round.thread).fold(CpuTime::default(), CpuTime::plus);
    let frames = rounds.clone().map(|round| round.wanted).sum();
    let single = Summary::of(rounds.map(|round| per_frame(round.thread, round.wanted)));
    Summary { median: per_frame(thread, frames), ..single }
}

/// What it costs that a client has many topics, when one of them gets a publication.
fn many_topics(engine: &Engine, scale: &Scale, report: &mut Report) -> Result<()> {
    const CLIENTS: usize = 2000;
    const TOPICS: usize = 100;
    const FAN_OUTS: usize = 60;
    let many: Vec<_> = (0..TOPICS).map(|topic| format!("topics:{topic:03}")).collect();
    let one = ["topics:one".to_owned()];
    let mut publisher =
        (Publisher::connect(engine.control_address())?, Publisher::connect(engine.control_address())?);
    let mut next = many.iter().cycle();
    let watched = || Watched::new(engine.pid(), Some("shard-0"));
    let publish = |publisher: &mut Publisher, topic: &str| {
        publisher.publish(&publisher.request(topic, &plain_data(topic, LINE_BYTES)), 1)
    };
    let mut with_many = Server {
        swarm: counting_clients(engine.client_address(), CLIENTS, &many)?,
        watched: watched()?,
        poke: Box::new(|| publish(&mut publisher.0, next.next().expect("they repeat"))),
    };
    let mut with_one = Server {
        swarm: counting_clients(engine.client_address(), CLIENTS, &one)?,
        watched: watched()?,
        poke: Box::new(|| publish(&mut publisher.1, &one[0])),
    };
    let (fan_outs, payload) = ((FAN_OUTS / scale.divisor).max(1), LINE_BYTES - 1);
    let pairs = Pairs::take(
        scale.rounds,
        || with_many.round(fan_outs, payload),
        || with_one.round(fan_outs, payload),
    )?;
    check_broadcasts(engine, &mut with_many.swarm, &many, 1, LINE_BYTES)?;
    check_broadcasts(engine, &mut with_one.swarm, &one, 1, LINE_BYTES)?;
    report.part(
        "topics",
        &format!("{CLIENTS} clients with {TOPICS} topics, as many with one, same deliveries"),
    );
    report.row(
        "CPU with 100 topics / with 1",
        pairs.ratio(Round::thread_microseconds, Round::thread_microseconds),
        "",
        Target::AtMost(1.2),
    );
    show_both("100 topics", "1 topic", &pairs, report);
    Ok(())
}

/// What it brings that the kernel need not count who uses a socket, because no other thread can close it.
fn tables(shared: &Engine, private: &Engine, scale: &Scale, report: &mut Report) -> Result<()> {
    const CLIENTS: usize = 2000;
    const FAN_OUTS: usize = 60;
    let topic = "tables:bench";
    let payload = LINE_BYTES - 1;
    let connect = |engine: &Engine| {
        counting_server(engine, topic, &plain_data(topic, LINE_BYTES), |server| {
            counting_clients(server, CLIENTS, &[topic.to_owned()])
        })
    };
    let (mut with_shared, mut with_private) = (connect(shared)?, connect(private)?);
    let fan_outs = (FAN_OUTS / scale.divisor).max(1);
    let pairs = Pairs::take(
        scale.rounds,
        || with_private.round(fan_outs, payload),
        || with_shared.round(fan_outs, payload),
    )?;
    for (engine, server) in [(private, &mut with_private), (shared, &mut with_shared)] {
        check_broadcasts(engine, &mut server.swarm, &[topic.to_owned()], 1, LINE_BYTES)?;
    }
    report.part("tables", &format!("{CLIENTS} clients, private tables of descriptors and a shared one"));
    let ratio = pairs.ratio(Round::thread_microseconds, Round::thread_microseconds);
    report.row("CPU with private tables / with shared", ratio, "", Target::None);
    show_both("private tables", "shared", &pairs, report);
    Ok(())
}

/// What both of two kinds of clients cost, or clients of two engines.
fn show_both(first: &str, second: &str, pairs: &Pairs<Round, Round>, report: &mut Report) {
    let mut rows = |name: &str, rounds: &mut dyn Iterator<Item = &Round>| {
        let (thread, process): (Vec<_>, Vec<_>) =
            rounds.map(|round| (round.thread_microseconds(), round.process_microseconds())).unzip();
        let (thread, process) = (Summary::of(thread), Summary::of(process));
        report.row(&format!("CPU of shard, {name}"), thread, "us per frame", Target::None);
        report.row(&format!("CPU of all threads, {name}"), process, "us per frame", Target::None);
    };
    rows(first, &mut pairs.first());
    rows(second, &mut pairs.second());
}

/// What it costs a shard that the clients take compressed messages, and the broker thread.
fn deflated(engine: &Engine, scale: &Scale, report: &mut Report) -> Result<()> {
    const CLIENTS: usize = 2000;
    const FAN_OUTS: usize = 30;
    const DATA_BYTES: usize = 4096;
    let data = prices(DATA_BYTES);
    // A topic for each, as a publication goes to all clients of its topic.
    let [of_compressed, of_plain] = ["deflated:a", "deflated:b"].map(|topic| [topic.to_owned()]);
    let compressed = |clients| {
        let connect = |server| deflating_clients(server, clients, &of_compressed);
        counting_server(engine, &of_compressed[0], &data, connect)
    };
    let plain = |clients| {
        let connect = |server| counting_clients(server, clients, &of_plain);
        counting_server(engine, &of_plain[0], &data, connect)
    };
    let (compressed_bytes, plain_bytes) = (first_frame(compressed(1)?)?, first_frame(plain(1)?)?);
    let (mut compressed, mut plain) = (compressed(CLIENTS)?, plain(CLIENTS)?);
    let fan_outs = (FAN_OUTS / scale.divisor).max(1);
    let pairs = Pairs::take(
        scale.rounds,
        || compressed.round(fan_outs, compressed_bytes),
        || plain.round(fan_outs, plain_bytes),
    )?;
    check_broadcasts(engine, &mut compressed.swarm, &of_compressed, 1, DATA_BYTES)?;
    check_broadcasts(engine, &mut plain.swarm, &of_plain, 1, DATA_BYTES)?;
    report.part(
        "deflated",
        &format!("{CLIENTS} clients, frames of {compressed_bytes} and {plain_bytes} bytes"),
    );
    let ratio = pairs.ratio(Round::thread_microseconds, Round::thread_microseconds);
    report.row("CPU of shard, compressed / plain", ratio, "", Target::AtMost(1.0));
    let ratio = pairs.ratio(Round::process_microseconds, Round::process_microseconds);
    report.row("CPU of all threads, compressed / plain", ratio, "", Target::None);
    show_both("compressed", "plain", &pairs, report);
    Ok(())
}

/// Clients of an engine that count, and a publication to be poked with.
fn counting_server<'a>(
    engine: &Engine,
    topic: &'a str,
    data: &str,
    connect: impl FnOnce(SocketAddr) -> Result<Swarm>,
) -> Result<Server<'a>> {
    let mut publisher = Publisher::connect(engine.control_address())?;
    let request = publisher.request(topic, data);
    Ok(Server {
        swarm: connect(engine.client_address())?,
        watched: Watched::new(engine.pid(), Some("shard-0"))?,
        poke: Box::new(move || publisher.publish(&request, 1)),
    })
}

/// Bytes of the payload in which the only client of a server gets a publication.
fn first_frame(mut server: Server<'_>) -> Result<usize> {
    (server.poke)()?;
    let one = |swarm: &Swarm, _: &mut Nobody| swarm.counted().frames == 1;
    server.swarm.turn_until("the first frame comes", LIMIT, &mut Nobody, one)?;
    Ok(usize::try_from(server.swarm.counted().bytes).expect("a frame"))
}

/// Data such as a list of prices, which compresses as such lists do.
fn prices(bytes: usize) -> String {
    let mut text = String::from("[");
    let mut random = Random::new(1);
    while text.len() < bytes {
        let (price, size, side) = (random.below(1 << 16), random.byte(), random.pick(&["bid", "ask"]));
        text += &format!(r#"{{"price":{price},"size":{size},"side":"{side}"}},"#);
    }
    text.pop();
    text + "]"
}

/// What one round of overload showed.
struct Flood {
    milliseconds: [f64; 3],
    deliveries_per_second: f64,
    lines_per_frame: f64,
    shard_percent: f64,
    process_percent: f64,
    clients_percent: f64,
}

/// More than single frames could carry.
fn overload(engine: &Engine, scale: &Scale, report: &mut Report) -> Result<()> {
    const CLIENTS: usize = 500;
    const PER_SECOND: u32 = 6000;
    const LENGTH: Duration = Duration::from_secs(2);
    let topic = "overload:bench";
    let clock = Clock::start();
    let mut latencies = Latencies::new(clock, CLIENTS);
    let mut swarm = Swarm::new(engine.client_address(), CLIENTS)?;
    swarm.connect_all(&mut latencies, LIMIT, |_, _| vec![topic])?;
    let shard = Watched::new(engine.pid(), Some("shard-0"))?;
    let own = Watched::this_thread()?;
    let length = LENGTH / u32::try_from(scale.divisor).expect("small");
    let flood = |_| {
        let pace = Pace::every(clock, Duration::from_secs(1) / PER_SECOND, length);
        latencies.begin(pace.first);
        let deliveries = pace.count * CLIENTS as u64;
        let frames = engine.metric("fanfare_frames_total", &[]);
        let before = (shard.thread()?, shard.process()?, own.thread()?);
        let publisher = publish_evenly(engine.control_address(), pace, move |_, due| {
            (topic.to_owned(), numbered_data(topic, due, LINE_BYTES))
        })?;
        let all = |_: &Swarm, latencies: &mut Latencies| latencies.publications() >= deliveries;
        swarm.turn_until("everything reaches everyone", LIMIT, &mut latencies, all)?;
        let wall = Duration::from_nanos(clock.now() - pace.first);
        ended(publisher)?;
        // In rising order, none missing: so each client has got each of them once.
        assert_eq!(latencies.publications_per_client(), (pace.count, pace.count));
        let percent = |now: CpuTime, before| now.since(before).percent_of(wall);
        Ok(Flood {
            milliseconds: [0.5, 0.99, 1.0].map(|quantile| latencies.milliseconds(quantile)),
            deliveries_per_second: deliveries as f64 / wall.as_secs_f64(),
            lines_per_frame: deliveries as f64 / (engine.metric("fanfare_frames_total", &[]) - frames),
            shard_percent: percent(shard.thread()?, before.0),
            process_percent: percent(shard.process()?, before.1),
            clients_percent: percent(own.thread()?, before.2),
        })
    };
    let floods = (0..scale.rounds).map(flood).collect::<Result<Vec<_>>>()?;
    report.part("overload", &format!("{CLIENTS} clients, {PER_SECOND} publications/s, none missing"));
    let summary = |of: fn(&Flood) -> f64| Summary::of(floods.iter().map(of));
    report.row("publish to receive, p50", summary(|flood| flood.milliseconds[0]), "ms", Target::None);
    report.row("publish to receive, p99", summary(|flood| flood.milliseconds[1]), "ms", Target::AtMost(25.0));
    report.row("publish to receive, longest", summary(|flood| flood.milliseconds[2]), "ms", Target::None);
    let millions = summary(|flood| flood.deliveries_per_second / 1e6);
    report.row("deliveries", millions, "million/s", Target::None);
    report.row("lines per frame", summary(|flood| flood.lines_per_frame), "", Target::None);
    report.row("shard was busy", summary(|flood| flood.shard_percent), "% of the time", Target::None);
    let process = summary(|flood| flood.process_percent);
    report.row("CPU of all threads of the engine", process, "% of one CPU", Target::None);
    report.row("clients were busy", summary(|flood| flood.clients_percent), "% of the time", Target::None);
    Ok(())
}
