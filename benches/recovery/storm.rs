//! Everybody comes back at once.

use std::cell::RefCell;
use std::io::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::measure::{CpuTime, Summary, Watched};
use crate::common::publisher::{Publisher, numbered_data};
use crate::common::report::{Report, Target};
use crate::common::rounds::Pairs;
use crate::common::support::engine::Engine;
use crate::common::support::swarm::{ClientIndex, Goodbye, Line, Observer, Swarm};
use crate::common::{LIMIT, LINE_BYTES, Nobody, on_client_cpu, start_engine};

/// The namespace of `kept:` keeps more than is published in all rounds.
const CONFIGURATION: &str =
    "[timeouts]\nping = \"1h\"\n[namespaces.plain]\n[namespaces.kept]\nhistory_size = 100_000\n";
/// The id of a client's only subscribe, as its reply begins.
const REPLY: &[u8] = br#"{"id":2,"#;
/// Publications while nobody is there.
const MISSED: u64 = 100;
/// Between two publications while they come back.
const PUBLICATION_EACH: Duration = Duration::from_millis(100);
/// Publications that may come after those: a bench that takes longer than to publish them has failed.
const LATER_MOST: u64 = 1000;

/// Cuts and returns, with recovery and without, in turns.
pub(crate) fn measure(clients: usize, rounds: usize, report: &mut Report) -> Result<()> {
    let engine = start_engine(CONFIGURATION);
    let about =
        format!("{clients} clients cut at once and back at once, each with {MISSED} publications missed");
    report.part("storm", &about);
    let pairs = on_client_cpu(|| {
        let storms = RefCell::new(Storms::connect(&engine, clients)?);
        let (mut kept, mut plain) = (Room::new("kept:storm", true), Room::new("plain:storm", false));
        Pairs::take(
            rounds,
            || storms.borrow_mut().strike(&mut kept),
            || storms.borrow_mut().strike(&mut plain),
        )
    })?;
    assert_eq!(engine.metric("fanfare_recovered_total", &[]), (clients * rounds) as f64);
    assert_eq!(engine.metric("fanfare_unrecovered_total", &[]), 0.0);
    show(&pairs, clients, report);
    Ok(())
}

/// What one storm was like. Times are from the cut, in milliseconds.
struct Storm {
    answered: f64,
    receives: f64,
    shard: CpuTime,
    broker: CpuTime,
    process: CpuTime,
    /// Publications of each client, recovered and new: the least.
    got: u64,
}

/// A topic in which publications are numbered from 1 on, which are their offsets as well if it has a history.
struct Room {
    topic: &'static str,
    recovers: bool,
    published: u64,
}

impl Room {
    fn new(topic: &'static str, recovers: bool) -> Self {
        Self { topic, recovers, published: 0 }
    }

    fn data(&self, number: u64) -> String {
        numbered_data(self.topic, number, LINE_BYTES)
    }

    /// What a client subscribes with that comes back.
    fn subscribe(&self, engine: &Engine) -> String {
        let topic = self.topic;
        if !self.recovers {
            return json!({ "channel": topic }).to_string();
        }
        let answer = engine.api("history", &json!({ "channel": topic, "limit": 0 }));
        let position = &answer["result"];
        assert_eq!(position["offset"].as_u64().unwrap_or(0), self.published, "{answer}");
        let (epoch, offset) = (&position["epoch"], self.published);
        json!({"channel": topic, "recover": true, "epoch": epoch, "offset": offset}).to_string()
    }
}

/// Clients that are struck again and again.
struct Storms<'a> {
    engine: &'a Engine,
    swarm: Swarm,
    strikes: u8,
}

impl<'a> Storms<'a> {
    fn connect(engine: &'a Engine, clients: usize) -> Result<Self> {
        let mut swarm = Swarm::new(engine.client_address(), clients)?;
        swarm.connect_all(&mut Nobody, LIMIT, |_, _| ["before"].to_vec())?;
        Ok(Self { engine, swarm, strikes: 0 })
    }

    /// Cuts everybody, publishes, and has them come back to the room.
    fn strike(&mut self, room: &mut Room) -> Result<Storm> {
        self.strikes += 1;
        // Addresses of their own for each: the cut leaves ports behind that are not free for a minute.
        self.swarm.come_from(self.strikes);
        let subscribe = room.subscribe(self.engine);
        let expected = Expected::after(room);
        let mut publisher = Publisher::connect(self.engine.control_address())?;
        let pid = self.engine.pid();
        let (shard, broker) = (Watched::new(pid, Some("shard-0"))?, Watched::new(pid, Some("broker"))?);
        let before = (shard.thread()?, broker.thread()?, shard.process()?);
        let mut back = Back::new(self.swarm.len(), room.recovers.then_some(&expected));
        (0..self.swarm.len()).for_each(|client| self.swarm.disconnect(client, Goodbye::Abrupt));
        publish(&mut publisher, room, MISSED)?;
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| publish_until(&over, &mut publisher, room));
            let over = Over(&over);
            self.return_all(&subscribe, &mut back)?;
            drop(over);
            publishing.join().expect("it does not panic")
        })?;
        let last = |of: fn(&Client) -> Duration| back.clients.iter().map(of).max().unwrap_or_default();
        Ok(Storm {
            answered: last(|client| client.answered).as_secs_f64() * 1000.0,
            receives: last(|client| client.receives).as_secs_f64() * 1000.0,
            shard: shard.thread()?.since(before.0),
            broker: broker.thread()?.since(before.1),
            process: shard.process()?.since(before.2),
            got: back.clients.iter().map(|client| client.got).min().unwrap_or(0),
        })
    }

    fn return_all(&mut self, subscribe: &str, back: &mut Back<'_>) -> Result<()> {
        let mut clients = 0..self.swarm.len();
        clients.try_for_each(|client| self.swarm.connect_with(client, [subscribe]))?;
        self.swarm.turn_until("everybody receives again", LIMIT, back, |_, back| back.missing == 0)
    }
}

/// Ends the publisher when it is dropped, also by a panic: nobody would wait for it in vain.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn publish(publisher: &mut Publisher, room: &mut Room, count: u64) -> Result<()> {
    let numbers = room.published + 1..=room.published + count;
    let requests: Vec<_> =
        numbers.clone().flat_map(|number| publisher.request(room.topic, &room.data(number))).collect();
    room.published += count;
    publisher.publish(&requests, numbers.count())
}

/// One publication after the other, each some time after the one before.
fn publish_until(over: &AtomicBool, publisher: &mut Publisher, room: &mut Room) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        publish(publisher, room, 1)?;
        std::thread::sleep(PUBLICATION_EACH);
    }
    Ok(())
}

/// What is published in a room from now on, as the members of a JSON array in which clients recover it.
struct Expected {
    since: u64,
    members: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Expected {
    fn after(room: &Room) -> Self {
        let (since, mut members, mut ends) = (room.published, Vec::new(), Vec::new());
        for number in since + 1..=since + MISSED + LATER_MOST {
            if !members.is_empty() {
                members.push(b',');
            }
            members.extend(format!(r#"{{"data":{},"offset":{number}}}"#, room.data(number)).as_bytes());
            ends.push(members.len());
        }
        Self { since, members, ends }
    }

    /// The number of the last publication in a reply, which must bring all of them from the first one missed on,
    /// to the last byte.
    fn newest_in(&self, reply: &[u8]) -> u64 {
        const MEMBERS: &[u8] = br#""publications":["#;
        let text = || String::from_utf8_lossy(reply);
        let start =
            memchr::memmem::find(reply, MEMBERS).unwrap_or_else(|| panic!("nothing recovered: {}", text()));
        let members = reply[start + MEMBERS.len()..].strip_suffix(b"]}}");
        let members = members.unwrap_or_else(|| panic!("another reply than usual: {}", text()));
        assert!(self.members.starts_with(members), "not what was published: {}", text());
        let last =
            self.ends.binary_search(&members.len()).unwrap_or_else(|_| panic!("a half one: {}", text()));
        self.since + 1 + last as u64
    }
}

/// What a client got since the cut.
#[derive(Clone, Copy, Default)]
struct Client {
    answered: Duration,
    receives: Duration,
    /// The newest publication that it has; 0: it need not know.
    newest: u64,
    /// Publications.
    got: u64,
}

/// Sees everybody come back. A connection that is refused or closed ends the bench, as does a publication that is
/// missing or comes twice.
struct Back<'a> {
    begin: Instant,
    /// What they recover, if they do.
    expected: Option<&'a Expected>,
    clients: Vec<Client>,
    /// Clients that have not received anything new yet.
    missing: usize,
}

impl<'a> Back<'a> {
    /// Begins to count the time.
    fn new(clients: usize, expected: Option<&'a Expected>) -> Self {
        Self { begin: Instant::now(), expected, clients: vec![Client::default(); clients], missing: clients }
    }
}

impl Observer for Back<'_> {
    fn frame(&mut self, client: ClientIndex, payload: &[u8]) {
        let mut lines = payload.split(|byte| *byte == b'\n');
        let Some(reply) = lines.find(|line| line.starts_with(REPLY)) else { return };
        let client = &mut self.clients[client];
        client.answered = self.begin.elapsed();
        if let Some(expected) = self.expected {
            client.newest = expected.newest_in(reply);
            client.got = client.newest - expected.since;
            assert!(client.got >= MISSED, "only {} were recovered", client.got);
        }
    }

    fn line(&mut self, index: ClientIndex, line: Line<'_>) {
        let client = &mut self.clients[index];
        match line {
            Line::Publication(publication) => {
                let number = publication.number;
                let follows = client.newest == 0 || number == client.newest + 1;
                assert!(follows, "client {index} got {number} after {}", client.newest);
                client.newest = number;
                client.got += 1;
                if client.receives.is_zero() {
                    client.receives = self.begin.elapsed();
                    self.missing -= 1;
                }
            }
            Line::Reply { error: None, .. } => {}
            other => panic!("client {index} got {other:?}"),
        }
    }
}

fn show(pairs: &Pairs<Storm, Storm>, clients: usize, report: &mut Report) {
    let recovering = |of: &dyn Fn(&Storm) -> f64| Summary::of(pairs.first().map(of));
    let plain = |of: &dyn Fn(&Storm) -> f64| Summary::of(pairs.second().map(of));
    let per_client = |time: CpuTime| time.microseconds_each(clients as f64);
    let shard = |storm: &Storm| per_client(storm.shard);
    let broker = |storm: &Storm| per_client(storm.broker);
    let process = |storm: &Storm| per_client(storm.process);
    let receives = |storm: &Storm| storm.receives;
    report.row(
        "everybody has what it missed",
        recovering(&|storm| storm.answered),
        "ms after the cut",
        Target::None,
    );
    report.row("everybody receives", recovering(&receives), "ms after the cut", Target::AtMost(2000.0));
    report.row("without recovery", plain(&receives), "ms after the cut", Target::None);
    report.row("time, with / without recovery", pairs.ratio(receives, receives), "", Target::None);
    report.row("CPU of shard, with / without", pairs.ratio(shard, shard), "", Target::None);
    report.row("CPU of shard", recovering(&shard), "us per client", Target::None);
    report.row("without recovery", plain(&shard), "us per client", Target::None);
    report.row("CPU of broker thread", recovering(&broker), "us per client", Target::None);
    report.row("without recovery", plain(&broker), "us per client", Target::None);
    report.row("CPU of all threads", recovering(&process), "us per client", Target::None);
    report.row("without recovery", plain(&process), "us per client", Target::None);
    let got = recovering(&|storm| storm.got as f64);
    report.row("publications of each, at least", got, "none missing or twice", Target::None);
}
