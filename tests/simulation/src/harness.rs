// The world around one shard. Included twice: for the shipped shard, and for the copy that has the deliberate bugs.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare::base::capacity::Capacity;
use fanfare::domain::client_id::NodeId;
use fanfare::config::{Budgets, Config, Interval, Limits, Namespace, SlowPolicy, Timeouts};
use fanfare::domain::mail::{
    Asker, Encoding, KeyedLine, Lane, Lines, Mail, Position, Question, Recover, Recovery, Request, TopicSlot, Variant,
};
use fanfare::base::mailbox::{Receiver, Sender, Wake, mailbox};
use fanfare::domain::namespaces::Namespaces;
use fanfare::domain::reasons::CloseReason;
use fanfare::domain::receipt::{Receipt, receipt};
use fanfare::stats::ShardStats;
use fanfare::transport::upgrade::UpgradePolicy;

use super::shard::{Commands, Setup, Shard, Socket};
use crate::Events;
use crate::rng::Rng;
use crate::wire::{Frame, compressed_frame, masked_frame, segment, take_frames, text_frame};

/// Those that begin with an `h` have a history.
const TOPICS: [&str; 7] = ["d:a", "r:a", "s:a", "r:b", "s:b", "h:a", "h:b"];
/// The one whose publications have keys, but for every seventh: of each key the slow ones get the latest.
const KEYED: &str = TOPICS[2];
/// Publications of a topic that the fake broker keeps.
const KEPT: u64 = 30;
/// Offsets are sparse: those of one topic have others between them.
const OFFSETS_APART: u64 = 3;
const EPOCH: &str = "e";
/// A command that changes nothing.
const NOTHING: &str = "\"unsubscribe\":{\"channel\":\"r:nobody\"}";
/// In which each topic can be had, though few are: seven clients are in seven lanes at most.
const VARIANTS: [Variant; 16] = {
    let mut all = [Variant { encoding: Encoding::Json, lane: Lane::FIRST }; 16];
    let mut n = 0;
    while n < all.len() {
        all[n] = Variant { encoding: Encoding::ALL[n % 2], lane: Lane::ALL[n / 2] };
        n += 1;
    }
    all
};
const STEPS: usize = 300;
const CLIENTS_MAX: usize = 7;
/// Bounds on what is kept for all clients, where they are tight. Of input, that is four halves of messages.
const TIGHT_INPUT: usize = 4 * HALF;
const TIGHT_REPLIES: usize = 700;
/// Bytes of a message that come long before the others.
const HALF: usize = 200;
const QUIET_LIMIT: usize = 5000;
const FRAME_BYTES: usize = 300;
const LOG_BYTES: usize = 600;
const LOGS_BYTES: usize = 1500;
const REST_BYTES: usize = 500;
/// What lines, limits and sockets' room are multiplied by in some seeds: logs then reach the size at which a
/// shard begins to trim them, 64 KiB.
const LARGE: usize = 150;
/// Calls of one client's socket within one tick that no correct shard makes. Whoever loops is stopped here.
const CALLS_PER_TICK: u32 = 500;
/// Clients of the giant topic and the small one in [`fairness`]; the last two are the small one's.
const CROWD: usize = 40;
/// Twice what it takes: a tick to take the mail, and for each of the two topics, in each of its encodings, one
/// turn, which fills the tick's budget of visits.
const FAIR_TICKS: u64 = 10;
/// Clients in [`fair_reading`]; all but the last one flood.
const TALKERS: usize = 6;
/// Within how many ticks each of them has had a turn, with one to spare.
const FAIR_READS: u64 = 3;
/// Within how many ticks a whole message is answered in [`crowded_reading`].
const CROWDED_TICKS: u64 = 500;
/// Clients read in a tick.
const READS: usize = 3;
/// A client's share of a tick, and that in some seeds: more than one read brings.
const READ_BYTES: usize = 1000;
const READ_BYTES_LARGE: usize = 20_000;
/// What each frame, and each command, counts at least.
const STEP_BYTES: usize = 128;
/// Commands of one message that a share of [`READ_BYTES`] is enough for: a command has at least 38 bytes.
const COMMANDS_PER_SHARE: u64 = 1000 / (128 + 38) + 1;
/// Bytes of a command that comes compressed: counted as the message that it is and as a command, it takes a whole share
/// of [`READ_BYTES`].
const PADDED: usize = 390;

/// One connection: what the shard's end and the client's end share.
#[derive(Debug, Default)]
struct Pipe {
    to_server: VecDeque<u8>,
    from_server: Vec<u8>,
    /// Bytes that the server may still write.
    room: usize,
    /// The server was told that there is no room, and not yet that there is again.
    refused: bool,
    /// It was written to all the same, as it may be once for each refusal: when the time for replies is over.
    asked_again: bool,
    ever_refused: bool,
    reset: bool,
    client_closed: bool,
    server_gone: bool,
    short_writes: u64,
    refused_writes: u64,
    /// In this tick.
    calls: u32,
    /// Those of them that read.
    reads: u32,
}

impl Pipe {
    fn count_call(&mut self) {
        self.calls += 1;
        assert!(self.calls < CALLS_PER_TICK, "the tick calls one socket without end");
    }
}

#[derive(Debug)]
struct FakeSocket(Rc<RefCell<Pipe>>);

impl Socket for FakeSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        pipe.count_call();
        // Nobody counts for those who have left.
        pipe.reads += u32::from(!pipe.reset && !pipe.client_closed);
        assert!(pipe.reads <= 1, "a client has one turn in each tick");
        // What came before the reset can still be read.
        if pipe.reset && pipe.to_server.is_empty() {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if pipe.to_server.is_empty() {
            return if pipe.client_closed { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let taken = buffer.len().min(pipe.to_server.len());
        for (place, byte) in buffer.iter_mut().zip(pipe.to_server.drain(..taken)) {
            *place = byte;
        }
        Ok(taken)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        pipe.count_call();
        if pipe.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let is_repeated = pipe.refused && std::mem::replace(&mut pipe.asked_again, true);
        assert!(!is_repeated, "written to a socket that has refused and not called back");
        let taken = bytes.len().min(pipe.room);
        pipe.room -= taken;
        pipe.from_server.extend_from_slice(&bytes[..taken]);
        if taken < bytes.len() {
            pipe.refused = true;
            pipe.ever_refused = true;
            if taken == 0 {
                pipe.refused_writes += 1;
                return Err(ErrorKind::WouldBlock.into());
            }
            pipe.asked_again = false;
            pipe.short_writes += 1;
        }
        Ok(taken)
    }

    fn finish(&mut self) {}
}

impl Drop for FakeSocket {
    fn drop(&mut self) {
        self.0.borrow_mut().server_gone = true;
    }
}

#[derive(Debug)]
enum Asked {
    Connect,
    /// What had surely been taken by the shard of the topic's publications when it was asked.
    Subscribe { topic: &'static str, floor: u64, resumes: bool },
    Unsubscribe { topic: &'static str },
    Publish,
}

/// A subscription as its client sees it.
#[derive(Debug)]
struct Run {
    floor: u64,
    ceiling: u64,
    last: Option<u64>,
    /// By key: the publication that was left out last, for which a later one of the key has to come.
    owed: BTreeMap<u64, u64>,
}

/// A client.
#[derive(Debug)]
struct Peer {
    slot: u32,
    pipe: Rc<RefCell<Pipe>>,
    input: Vec<u8>,
    upgraded: bool,
    /// The rest of a message that was sent in part: it goes before anything else.
    rest: Vec<u8>,
    /// It offered compression.
    inflates: bool,
    asked: BTreeMap<u32, Asked>,
    next_id: u32,
    runs: HashMap<&'static str, Run>,
    /// Pongs and replies that came in this tick.
    pongs: u64,
    replies: u64,
    stalled: bool,
    /// It did something for which the server may treat it worse than others.
    excused: bool,
    closed: Option<u16>,
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// What kind of world a seed has.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// 1, or [`LARGE`].
    scale: usize,
    /// [`READ_BYTES`], or [`READ_BYTES_LARGE`].
    read_bytes: usize,
    /// Clients are pinged: their pongs may hide that somebody is not woken, so that some worlds do without.
    pings: bool,
    /// What is kept for all clients together has bounds that are reached.
    tight: bool,
}

impl Kind {
    fn of(seed: u64) -> Self {
        Self {
            scale: if seed % 32 == 7 { LARGE } else { 1 },
            read_bytes: if seed % 3 == 2 { READ_BYTES_LARGE } else { READ_BYTES },
            pings: seed % 4 != 1,
            tight: seed % 5 == 3,
        }
    }
}

struct World {
    rng: Rng,
    scale: usize,
    tight: bool,
    /// Commands, or other frames, that a client's share of a tick is enough for.
    steps_per_share: u64,
    limits: Limits,
    now: Instant,
    /// Milliseconds; what a turn takes is less.
    tick_time: usize,
    last_tick: Instant,
    shard: Shard<FakeSocket, Commands>,
    stats: Arc<ShardStats>,
    peers: Vec<Peer>,
    mail: Sender<Mail>,
    outbox: VecDeque<Mail>,
    /// For whom each batch was, its topic, and the number of its last publication.
    batches: Vec<(TopicSlot, &'static str, u64)>,
    /// Through which of them the shard says that it has written.
    receipt: Receipt,
    requests: Receiver<Request>,
    interest: HashMap<(String, Variant), TopicSlot>,
    /// Batches for lanes whose windows have not ended.
    windows: BTreeMap<TopicSlot, Vec<Batch>>,
    late_answers: Vec<Mail>,
    published: HashMap<&'static str, u64>,
    /// Where clients were in topics with history when their subscriptions ended.
    left_at: Vec<(&'static str, u64)>,
    /// What of it the shard has surely taken.
    settled: HashMap<&'static str, u64>,
    ready: Vec<(u32, Edge)>,
    events: Events,
}

/// A batch; for whom, its topic, and the number of its last publication.
type Batch = (Mail, (TopicSlot, &'static str, u64));

#[derive(Clone, Copy, Debug)]
enum Edge {
    Readable,
    HungUp,
    Writable,
}

/// Runs the world of `seed` to its end.
///
/// # Panics
/// When a law is broken.
pub fn run(seed: u64) -> Events {
    let kind = Kind::of(seed);
    let mut world = World::new(seed, config(kind), kind.scale);
    world.tight = kind.tight;
    for _ in 0..STEPS {
        world.act();
        world.broker_acts();
        world.turn();
    }
    world.become_quiet();
    world.everybody_leaves();
    if kind.tight {
        let closed = world.stats.closes[CloseReason::Slow as usize].value();
        world.events.shed += closed - world.stats.policy_disconnect.value();
    }
    if seed % 8 == 0 {
        world.events.fair_turns += fairness(seed);
        world.events.fair_reads += fair_reading(seed);
        crowded_reading(seed);
    }
    world.events
}

/// A giant topic is swept all the time, and never to its end. Meanwhile the publications of a small topic
/// must reach its subscribers within [`FAIR_TICKS`]: how often they did.
fn fairness(seed: u64) -> u64 {
    let (giant, small) = (TOPICS[1], TOPICS[3]);
    let limits = Limits { message_bytes: 400, head_bytes: 400, ..Limits::default() };
    let config = Config { limits, ..config(Kind { scale: 1, read_bytes: READ_BYTES, pings: true, tight: false }) };
    let mut world = World::new(seed, config, 1);
    for peer in 0..CROWD {
        world.connect();
        world.peers[peer].pipe.borrow_mut().room = usize::MAX;
        world.subscribe_to(peer, if peer < CROWD - 2 { giant } else { small });
    }
    for _ in 0..QUIET_LIMIT {
        world.broker_acts();
        world.turn();
        if world.peers.iter().all(|peer| peer.runs.len() == 1) {
            break;
        }
    }
    let mut fair = 0;
    for _ in 0..20 {
        // The giant's sweep is under way when the small topic's line comes.
        world.publish_to(giant, 1);
        world.broker_acts();
        world.turn();
        world.publish_to(small, 1);
        let due = world.events.ticks + FAIR_TICKS;
        while world.lacks_any(CROWD - 2..CROWD, small) {
            assert!(world.events.ticks < due, "{small} waits for more than {FAIR_TICKS} ticks for {giant}");
            world.publish_to(giant, 1);
            world.broker_acts();
            world.turn();
        }
        fair += u64::from(world.lacks_any(0..CROWD - 2, giant));
    }
    fair
}

/// A shard with [`TALKERS`] clients that are connected and take whatever they are sent.
fn talkers(seed: u64, config: Config) -> World {
    let mut world = World::new(seed, config, 1);
    for peer in 0..TALKERS {
        world.connect();
        world.peers[peer].pipe.borrow_mut().room = usize::MAX;
    }
    for _ in 0..QUIET_LIMIT {
        world.turn();
        if world.peers.iter().all(|peer| peer.asked.is_empty()) {
            break;
        }
    }
    world
}

/// Some clients always have sent more than a turn is enough for. What another one asks must be answered within
/// [`FAIR_READS`] ticks, and none of them may have more of a tick than its share: how often there was a choice.
fn fair_reading(seed: u64) -> u64 {
    let config = config(Kind { scale: 1, read_bytes: READ_BYTES, pings: false, tight: false });
    let mut world = talkers(seed, config);
    let last = TALKERS - 1;
    let mut fair = 0;
    for _ in 0..20 {
        let due = world.events.ticks + FAIR_READS;
        world.command(last, NOTHING, Asked::Unsubscribe { topic: "r:nobody" });
        while !world.peers[last].asked.is_empty() {
            assert!(world.events.ticks < due, "a client waits for more than {FAIR_READS} ticks for those who flood");
            (0..last).for_each(|peer| world.flood(peer));
            world.turn();
            for (peer, Peer { replies, inflates, .. }) in world.peers.iter().enumerate() {
                let most = if peer % 4 == 3 && *inflates { 1 } else { COMMANDS_PER_SHARE };
                assert!(*replies <= most, "{replies} commands of one client in one tick");
            }
        }
        fair += u64::from(world.peers[..last].iter().all(|peer| !peer.pipe.borrow().to_server.is_empty()));
    }
    fair
}

/// Some clients fill the bound on input, and wait for their turns. Another one, whose messages are larger than what is read
/// at once where there is little room, sends one whole message after the other: each is answered, and it is not closed.
fn crowded_reading(seed: u64) {
    let kind = Kind { scale: 1, read_bytes: READ_BYTES, pings: false, tight: true };
    let mut config = config(kind);
    (config.limits.message_bytes, config.limits.shard_input_bytes) = (4000, 10_000);
    config.limits.shard_replies_bytes = 64 << 20;
    let mut world = talkers(seed, config);
    // Ticks take no time: after a while, some of those who flood would be closed.
    world.tick_time = 1;
    let last = TALKERS - 1;
    for _ in 0..10 {
        let due = world.events.ticks + CROWDED_TICKS;
        world.command(last, &format!("{NOTHING}{}", " ".repeat(3000)), Asked::Unsubscribe { topic: "r:nobody" });
        while !world.peers[last].asked.is_empty() {
            assert!(world.events.ticks < due, "a whole message waits for more than {CROWDED_TICKS} ticks for room");
            (0..last).for_each(|peer| world.flood(peer));
            world.turn();
        }
    }
}

fn config(Kind { scale, read_bytes, pings, tight }: Kind) -> Config {
    let bounds = if tight { (TIGHT_INPUT, TIGHT_REPLIES) } else { (64 << 20, 64 << 20) };
    let ping = Interval::from_secs(if pings { 3 } else { 3600 });
    let policy = |slow, client_publish| Namespace { slow, client_publish, ..Namespace::default() };
    let max_delay = Interval::from_secs(1);
    let namespaces = [
        ("d", Namespace { max_delay, ..policy(SlowPolicy::Disconnect, false) }),
        ("r", Namespace { deflate: true, ..policy(SlowPolicy::Resync, true) }),
        ("s", Namespace { deflate: true, max_delay, ..policy(SlowPolicy::Skip, false) }),
        (
            "h",
            Namespace {
                deflate: true,
                history_size: 30,
                force_recovery: true,
                ..policy(SlowPolicy::Resync, false)
            },
        ),
    ];
    Config {
        limits: Limits {
            message_bytes: 400,
            head_bytes: 400,
            frame_bytes: scale * FRAME_BYTES,
            log_bytes: scale * LOG_BYTES,
            logs_bytes: scale * LOGS_BYTES,
            rest_bytes: scale * REST_BYTES,
            replies_bytes: if scale == 1 { 150 } else { 2000 },
            shard_input_bytes: bounds.0,
            shard_replies_bytes: bounds.1,
            ..Limits::default()
        },
        budgets: Budgets { accepts: 2, reads: READS, read_bytes, mails: 4, visits: 3, deadlines: 2, crowd: 2, ..Budgets::default() },
        timeouts: Timeouts { ping, pong: Interval::from_secs(2), ..Timeouts::default() },
        namespaces: namespaces.map(|(name, options)| (name.to_owned(), options)).into(),
        ..Config::default()
    }
}

impl World {
    fn new(seed: u64, config: Config, scale: usize) -> Self {
        let limits = config.limits.clone();
        let steps_per_share = (config.budgets.read_bytes / STEP_BYTES) as u64 + 1;
        let config = Arc::new(config);
        let (mail, inbox) = mailbox(5, Box::new(NoWake));
        let (sender, requests) = mailbox(4, Box::new(NoWake));
        let (reporter, receipt) = receipt();
        let stats = Arc::new(ShardStats::default());
        let now = Instant::now();
        let upgrade = UpgradePolicy {
            path: "/connection/websocket".to_owned(),
            head_bytes: 400,
            allowed_origins: Vec::new(),
            open_on_loopback: false,
            page_port: 0,
            deflate: true,
        };
        let setup = Setup {
            id: 0,
            node: NodeId::random(),
            namespaces: Arc::new(Namespaces::new(&config)),
            config,
            upgrade,
            capacity: Arc::new(Capacity::new(usize::MAX)),
            shards: 1,
            inbox,
            requests: sender,
            reporter: Some(reporter),
            stats: Arc::clone(&stats),
        };
        Self {
            rng: Rng::new(seed),
            scale,
            tight: false,
            steps_per_share,
            limits,
            now,
            tick_time: 15,
            last_tick: now,
            shard: Shard::new(setup, now),
            stats,
            peers: Vec::new(),
            mail,
            outbox: VecDeque::new(),
            batches: Vec::new(),
            receipt,
            requests,
            interest: HashMap::new(),
            windows: BTreeMap::new(),
            late_answers: Vec::new(),
            published: HashMap::new(),
            left_at: Vec::new(),
            settled: HashMap::new(),
            ready: Vec::new(),
            events: Events::default(),
        }
    }

    /// Something happens.
    fn act(&mut self) {
        let peer = (!self.peers.is_empty()).then(|| self.rng.below(self.peers.len()));
        match (self.rng.below(16), peer) {
            (0, _) if self.peers.len() < CLIENTS_MAX => self.connect(),
            (1, Some(peer)) if self.rng.one_in(6) => self.hang_up(peer),
            (2 | 3, Some(peer)) => self.subscribe(peer),
            (4, Some(peer)) => self.unsubscribe(peer),
            (5, Some(peer)) => self.publish_as(peer),
            (6, Some(peer)) if self.rng.one_in(2) => self.stall(peer),
            (7 | 8, Some(peer)) => self.give_room(peer),
            (9, Some(peer)) if self.rng.one_in(2) => self.burst(peer),
            (10, Some(peer)) if self.tight => self.half(peer),
            (15, _) => (0..12).for_each(|_| self.publish()),
            _ => self.publish(),
        }
        for peer in 0..self.peers.len() {
            if !self.peers[peer].stalled && self.rng.one_in(2) {
                self.give_room(peer);
            }
        }
    }

    fn connect(&mut self) {
        let room = self.scale * self.rng.below(1500);
        let pipe = Rc::new(RefCell::new(Pipe { room, ..Pipe::default() }));
        let vacancy = self.shard.vacancy();
        let key = self.shard.admit(FakeSocket(Rc::clone(&pipe)), self.now).expect("there is a place");
        assert_eq!(key, vacancy);
        self.peers.push(Peer {
            slot: key.slot,
            pipe,
            input: Vec::new(),
            upgraded: false,
            rest: Vec::new(),
            inflates: self.rng.one_in(2),
            asked: BTreeMap::new(),
            next_id: 1,
            runs: HashMap::new(),
            pongs: 0,
            replies: 0,
            stalled: false,
            excused: false,
            closed: None,
        });
        let peer = self.peers.len() - 1;
        let head = "GET /connection/websocket HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let offer = if self.peers[peer].inflates { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        self.send(peer, format!("{head}{offer}\r\n").as_bytes());
        self.command(peer, "\"connect\":{}", Asked::Connect);
        self.events.connects += 1;
    }

    fn hang_up(&mut self, peer: usize) {
        let resets = self.rng.one_in(2);
        if resets {
            self.say_last_words(peer);
        }
        let peer = self.peers.swap_remove(peer);
        let mut pipe = peer.pipe.borrow_mut();
        if resets {
            pipe.reset = true;
        } else {
            pipe.client_closed = true;
        }
        self.ready.push((peer.slot, Edge::HungUp));
        self.events.resets += 1;
    }

    /// One message whose first replies are sent before its last command is looked at.
    fn say_last_words(&mut self, peer: usize) {
        let id = self.peers[peer].next_id;
        let topic = TOPICS[self.rng.below(TOPICS.len())];
        let mut message = String::new();
        for id in id..id + 3 {
            message += &format!("{{\"id\":{id},\"unsubscribe\":{{\"channel\":\"r:nobody\"}}}}\n");
        }
        message += &format!("{{\"id\":{},\"subscribe\":{{\"channel\":\"{topic}\"}}}}", id + 3);
        self.send(peer, &text_frame(message.as_bytes()));
    }

    fn subscribe(&mut self, peer: usize) {
        let topic = TOPICS[self.rng.below(TOPICS.len())];
        if self.is_free(peer, topic) {
            self.subscribe_to(peer, topic);
        }
    }

    fn subscribe_to(&mut self, peer: usize, topic: &'static str) {
        let floor = self.settled.get(topic).copied().unwrap_or(0);
        let since = self.somebodys_place(topic);
        let resume = since.map_or(String::new(), |number| {
            format!(",\"recover\":true,\"epoch\":\"{EPOCH}\",\"offset\":{}", number * OFFSETS_APART)
        });
        let asked = Asked::Subscribe { topic, floor, resumes: since.is_some() };
        self.command(peer, &format!("\"subscribe\":{{\"channel\":\"{topic}\"{resume}}}"), asked);
        self.events.subscribes += 1;
    }

    /// Where some client was when it left a topic with history: another one goes on from there, as a browser
    /// does on a new connection. Sometimes it is one that never was there.
    fn somebodys_place(&mut self, topic: &'static str) -> Option<u64> {
        if !topic.starts_with('h') || self.rng.one_in(3) {
            return None;
        }
        let place = self.left_at.iter().position(|&(left, _)| left == topic)?;
        Some(self.left_at.swap_remove(place).1)
    }

    /// Whether the client neither has the topic nor is about to.
    fn is_free(&self, peer: usize, topic: &str) -> bool {
        let asks = |asked: &Asked| match asked {
            Asked::Subscribe { topic: other, .. } | Asked::Unsubscribe { topic: other } => *other == topic,
            _ => false,
        };
        !self.peers[peer].runs.contains_key(topic) && !self.peers[peer].asked.values().any(asks)
    }

    fn unsubscribe(&mut self, peer: usize) {
        let Some(&topic) = self.peers[peer].runs.keys().min() else { return };
        let unsubscribing = self.peers[peer].asked.values().any(|asked| matches!(asked, Asked::Unsubscribe { .. }));
        if !unsubscribing {
            self.command(peer, &format!("\"unsubscribe\":{{\"channel\":\"{topic}\"}}"), Asked::Unsubscribe { topic });
            self.events.unsubscribes += 1;
        }
    }

    fn publish_as(&mut self, peer: usize) {
        let topic = if self.rng.one_in(2) { "r:x" } else { "r:y" };
        self.command(peer, &format!("\"publish\":{{\"channel\":\"{topic}\",\"data\":1}}"), Asked::Publish);
        self.events.client_publishes += 1;
    }

    /// More input at once than one read takes.
    fn burst(&mut self, peer: usize) {
        for _ in 0..30 {
            self.command(peer, NOTHING, Asked::Unsubscribe { topic: "r:nobody" });
        }
    }

    /// A command that comes in part, and its rest with whatever is sent next.
    fn half(&mut self, peer: usize) {
        if !self.peers[peer].rest.is_empty() {
            return;
        }
        let id = self.peers[peer].next_id;
        self.peers[peer].next_id += 1;
        self.peers[peer].asked.insert(id, Asked::Unsubscribe { topic: "r:nobody" });
        self.peers[peer].excused = true;
        let frame = text_frame(format!("{{\"id\":{id},{NOTHING}}}{}", " ".repeat(HALF)).as_bytes());
        self.send(peer, &frame[..HALF]);
        self.peers[peer].rest = frame[HALF..].to_vec();
        self.events.halves += 1;
    }

    /// Keeps much more unread than a share: pings, or commands, of which many are in one message, or compressed.
    fn flood(&mut self, peer: usize) {
        while self.peers[peer].pipe.borrow().to_server.len() < 4 * READ_BYTES {
            match peer % 4 {
                0 => self.send(peer, &masked_frame(9, b"")),
                1 => self.burst(peer),
                3 if self.peers[peer].inflates => {
                    let id = self.peers[peer].next_id;
                    self.peers[peer].next_id += 1;
                    self.peers[peer].asked.insert(id, Asked::Unsubscribe { topic: "r:nobody" });
                    let command = format!("{{\"id\":{id},{NOTHING}}}");
                    let padded = format!("{command:<width$}", width = PADDED);
                    self.send(peer, &compressed_frame(padded.as_bytes()));
                }
                _ => {
                    let first = self.peers[peer].next_id;
                    let ids = first..first + 9;
                    self.peers[peer].next_id = ids.end;
                    self.peers[peer].asked.extend(ids.clone().map(|id| (id, Asked::Unsubscribe { topic: "r:nobody" })));
                    let commands: Vec<_> =
                        ids.map(|id| format!("{{\"id\":{id},\"unsubscribe\":{{\"channel\":\"r\"}}}}")).collect();
                    self.send(peer, &text_frame(commands.join("\n").as_bytes()));
                }
            }
        }
    }

    fn stall(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        peer.stalled = true;
        peer.excused = true;
        peer.pipe.borrow_mut().room = self.scale * self.rng.below(200);
        self.events.stalls += 1;
    }

    fn give_room(&mut self, peer: usize) {
        let room = self.scale * if self.rng.one_in(3) { self.rng.below(60) } else { self.rng.below(2000) };
        let peer = &mut self.peers[peer];
        peer.stalled = false;
        let mut pipe = peer.pipe.borrow_mut();
        pipe.room += room;
        if pipe.refused && room > 0 {
            (pipe.refused, pipe.asked_again) = (false, false);
            self.ready.push((peer.slot, Edge::Writable));
        }
    }

    fn command(&mut self, peer: usize, method: &str, asked: Asked) {
        let id = self.peers[peer].next_id;
        self.peers[peer].next_id += 1;
        self.peers[peer].asked.insert(id, asked);
        // What it sends behind a command that waits for the broker may be too much for all.
        self.peers[peer].excused |= self.tight && self.peers[peer].asked.len() > 1;
        self.send(peer, &text_frame(format!("{{\"id\":{id},{method}}}").as_bytes()));
    }

    fn send(&mut self, peer: usize, bytes: &[u8]) {
        let peer = &mut self.peers[peer];
        let bytes = &[&std::mem::take(&mut peer.rest), bytes].concat();
        let mut pipe = peer.pipe.borrow_mut();
        if !pipe.server_gone {
            pipe.to_server.extend(bytes);
            self.ready.push((peer.slot, Edge::Readable));
        }
    }

    /// One to four publications of a topic, in one batch.
    fn publish(&mut self) {
        let topic = TOPICS[self.rng.below(TOPICS.len())];
        let count = 1 + self.rng.below(4);
        self.publish_to(topic, count);
    }

    fn publish_to(&mut self, topic: &'static str, count: usize) {
        // JSON may end with spaces.
        let filler = " ".repeat((self.scale - 1) * 50);
        let published = self.published.entry(topic).or_default();
        let (mut bytes, mut keyed) = (Vec::new(), Vec::new());
        for _ in 0..count {
            *published += 1;
            let from = place(&bytes);
            bytes.extend(format!("{{\"push\":{{\"channel\":\"{topic}\",\"pub\":{{\"data\":{published}}}}}}}{filler}\n").bytes());
            let key = key_of(topic, *published);
            keyed.extend(key.map(|key| KeyedLine { key, from, to: place(&bytes) }));
        }
        let keyed = (!keyed.is_empty()).then(|| Arc::new(keyed));
        let offset = *published * OFFSETS_APART;
        self.events.publications += count as u64;
        let plain_bytes = place(&bytes);
        for variant in VARIANTS {
            if let Some(&slot) = self.interest.get(&(topic.to_owned(), variant)) {
                let bytes = match variant.encoding {
                    Encoding::Json => bytes.as_slice().into(),
                    Encoding::Deflated => segment(&bytes).into(),
                };
                let (count, keyed) = (u32::try_from(count).expect("few"), keyed.clone());
                let lines = Lines { bytes, count, plain_bytes, offset, keyed };
                let batch = (Mail::Batch { topic: slot, lines }, (slot, topic, self.published[topic]));
                if variant.lane == Lane::FIRST {
                    self.send_batch(batch);
                } else {
                    self.windows.entry(slot).or_default().push(batch);
                }
            }
        }
    }

    fn send_batch(&mut self, (mail, last): Batch) {
        self.outbox.push_back(mail);
        self.batches.push(last);
    }

    /// The broker takes some requests, answers some late, and sends what the mailbox takes.
    fn broker_acts(&mut self) {
        self.events.requests_full += u64::from(self.requests.len() == 4);
        for _ in 0..self.rng.below(4) {
            match self.requests.take() {
                Some(Request::Attach { topic, variant, name, .. }) => {
                    self.events.lanes += u64::from(variant.lane != Lane::FIRST);
                    let before = self.interest.insert((name.to_string(), variant), topic);
                    assert!(before.is_none(), "{name} attached twice");
                    let position = name.starts_with('h').then(|| self.position(&name));
                    self.outbox.push_back(Mail::Attached { topic, position });
                }
                Some(Request::Detach { topic, variant, name, .. }) => {
                    self.windows.remove(&topic);
                    let before = self.interest.remove(&(name.to_string(), variant));
                    assert_eq!(before, Some(topic), "{name} detached, but not attached so");
                    self.outbox.push_back(Mail::Detached { topic });
                }
                Some(Request::Recover(mut question)) => {
                    let attached = self.interest.get(&(question.name.to_string(), question.variant));
                    assert_eq!(attached, Some(&question.topic), "{} is asked for, but not attached so", question.name);
                    if !question.has_waited && self.rng.one_in(6) {
                        // As if this node had not read as far as the client.
                        (question.has_waited, question.budget) = (true, None);
                        self.events.waits += 1;
                        self.outbox.push_back(Mail::Waits { client: question.asker.client });
                        self.late_answers.push(Mail::AskAgain(Question::Recover(question)));
                        continue;
                    }
                    let answer = self.recover(&question);
                    let bytes = answer.missed.as_ref().map_or(0, |missed| missed.len());
                    if !question.budget.as_ref().is_none_or(|budget| budget.take(bytes)) || self.rng.one_in(4) {
                        self.events.asked_again += 1;
                        self.outbox.push_back(Mail::AskAgain(Question::Recover(question)));
                        continue;
                    }
                    self.events.recovered += u64::from(answer.missed.is_some());
                    self.events.unrecovered += u64::from(answer.missed.is_none());
                    self.outbox.push_back(Mail::Recovered { question, answer: Box::new(Ok(answer)) });
                }
                Some(Request::Publish(publish)) => {
                    let Asker::Client { client, command, .. } = publish.asker else { panic!("clients ask") };
                    self.late_answers.push(Mail::Published { client, command, outcome: Ok(()) });
                }
                Some(_) | None => {}
            }
        }
        if !self.late_answers.is_empty() && self.rng.one_in(3) {
            let answer = self.rng.below(self.late_answers.len());
            self.outbox.push_back(self.late_answers.swap_remove(answer));
        }
        if !self.windows.is_empty() && self.rng.one_in(2) {
            let ends = self.rng.below(self.windows.len());
            let slot = *self.windows.keys().nth(ends).expect("one of them");
            self.windows.remove(&slot).into_iter().flatten().for_each(|batch| self.send_batch(batch));
        }
        while let Some(mail) = self.outbox.pop_front() {
            if let Err(mail) = self.mail.send(mail) {
                self.outbox.push_front(mail);
                self.events.mailbox_full += 1;
                break;
            }
        }
    }

    /// Where a topic with history stands.
    fn position(&self, topic: &str) -> Position {
        let published = self.published.get(topic).copied().unwrap_or(0);
        Position { epoch: EPOCH.into(), offset: published * OFFSETS_APART }
    }

    /// Every batch is on its way when it is published, so that nothing waits to be merged here.
    fn recover(&self, question: &Recover) -> Recovery {
        let position = self.position(&question.name);
        let (asked, published) = (question.since.offset / OFFSETS_APART, position.offset / OFFSETS_APART);
        let missed = (published.saturating_sub(KEPT) <= asked).then(|| {
            let publications: Vec<_> = (asked + 1..=published).map(|number| format!("{{\"data\":{number}}}")).collect();
            publications.join(",").into_bytes().into()
        });
        Recovery { position, missed }
    }

    /// The loop around the shard: ticks it if that loop would.
    fn turn(&mut self) {
        self.now += Duration::from_millis(self.rng.below(self.tick_time) as u64);
        self.shard.rearm();
        let poll_timeout = self.shard.poll_timeout();
        let woken = poll_timeout.is_some_and(|poll_timeout| self.now >= self.last_tick + poll_timeout);
        if self.ready.is_empty() && !self.shard.has_mail() && !woken {
            return;
        }
        for (slot, edge) in std::mem::take(&mut self.ready) {
            match edge {
                Edge::Readable => self.shard.readable(slot),
                Edge::HungUp => self.shard.hung_up(slot),
                Edge::Writable => self.shard.writable(slot),
            }
        }
        for peer in &self.peers {
            let mut pipe = peer.pipe.borrow_mut();
            (pipe.calls, pipe.reads) = (0, 0);
        }
        let (now, commands) = (self.now, self.stats.commands.value());
        let clients = self.shard.len().min(READS) as u64;
        self.shard.tick(|| now);
        let done = self.stats.commands.value() - commands;
        assert!(done <= clients * self.steps_per_share, "{done} commands of {clients} clients in one tick");
        self.last_tick = self.now;
        self.events.ticks += 1;
        self.check_limits();
        self.peers_read();
        self.check_receipt();
        if self.is_settled() {
            self.settled.clone_from(&self.published);
        }
    }

    fn is_settled(&self) -> bool {
        self.outbox.is_empty() && self.windows.is_empty() && !self.shard.has_mail() && self.shard.poll_timeout() != Some(Duration::ZERO)
    }

    fn check_limits(&self) {
        // Where slow clients skip, the newest batch of each topic stays, whatever the limit says.
        let newest = TOPICS.len() * VARIANTS.len() * 4 * (60 * self.scale + 24);
        let logs = self.stats.log_bytes.value();
        assert!(logs <= (self.limits.logs_bytes + newest) as u64, "{logs} bytes in logs");
        let rest = self.stats.rest_bytes.value();
        assert!(rest <= self.limits.rest_bytes as u64, "{rest} bytes kept for started frames");
        // What one read brings, and what becomes of a message in it.
        let beyond = 3 * self.limits.message_bytes + self.limits.head_bytes;
        let input = self.stats.input_bytes.value();
        assert!(input < (self.limits.shard_input_bytes + beyond) as u64, "{input} bytes of input are kept");
        let replies = self.stats.reply_bytes.value();
        assert!(replies < self.limits.shard_replies_bytes as u64, "{replies} bytes of replies wait");
    }

    /// What is said to be written, everybody has whose socket never refused anything.
    fn check_receipt(&self) {
        for (&topic, run) in self.peers.iter().filter(|peer| !peer.excused).flat_map(|peer| &peer.runs) {
            if let (Some(last), Some(written)) = (run.last, self.surely_written(topic)) {
                assert!(last >= written, "{topic} is written up to {written}, and a client has {last}");
            }
        }
    }

    /// Up to which number every variant of a topic is said to be written, if it is.
    fn surely_written(&self, topic: &str) -> Option<u64> {
        let batches = &self.batches[..usize::try_from(self.receipt.written()).expect("few")];
        let slots = self.interest.iter().filter(|((name, _), _)| name == topic).map(|(_, &slot)| slot);
        let newest = slots.map(|slot| {
            let newest = batches.iter().rev().find(|batch| (batch.0, batch.1) == (slot, topic));
            newest.map(|batch| batch.2)
        });
        newest.min().flatten()
    }

    fn peers_read(&mut self) {
        for peer in 0..self.peers.len() {
            let pipe = Rc::clone(&self.peers[peer].pipe);
            let mut pipe = pipe.borrow_mut();
            self.peers[peer].input.append(&mut pipe.from_server);
            self.peers[peer].excused |= pipe.ever_refused;
            drop(pipe);
            if !self.peers[peer].upgraded {
                self.upgrade(peer);
            }
            if self.peers[peer].upgraded {
                (self.peers[peer].pongs, self.peers[peer].replies) = (0, 0);
                for frame in take_frames(&mut self.peers[peer].input) {
                    self.frame(peer, &frame);
                }
                let pongs = self.peers[peer].pongs;
                assert!(pongs <= self.steps_per_share, "{pongs} pings of one client are answered in one tick");
            }
        }
        self.forget_the_closed();
    }

    fn upgrade(&mut self, peer: usize) {
        let input = &mut self.peers[peer].input;
        if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            assert!(input.starts_with(b"HTTP/1.1 101"), "refused: {}", String::from_utf8_lossy(input));
            input.drain(..end + 4);
            self.peers[peer].upgraded = true;
        }
    }

    fn frame(&mut self, peer: usize, frame: &Frame) {
        if frame.opcode == 10 {
            self.peers[peer].pongs += 1;
            return;
        }
        if frame.opcode == 8 {
            let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            assert!(self.peers[peer].excused, "a healthy client was closed with {code}");
            self.events.disconnected_for_slowness += u64::from(code == 3008);
            self.peers[peer].closed = Some(code);
            return;
        }
        let mut text = std::str::from_utf8(&frame.payload).expect("frames are text");
        let pushes = text.split('\n').filter(|line| line.starts_with("{\"push\"")).count();
        assert!(pushes == 0 || text.len() <= self.limits.frame_bytes, "a frame of {} bytes", text.len());
        if frame.deflated {
            assert!(self.peers[peer].inflates, "compressed for a client that did not offer it");
            text = text.strip_suffix('\n').expect("the last line's end is in its segment");
        }
        self.events.merged_frames += u64::from(pushes > 1);
        self.events.deflated_frames += u64::from(frame.deflated);
        for line in text.split('\n') {
            self.line(peer, line);
        }
    }

    fn line(&mut self, peer: usize, line: &str) {
        if line == "{}" {
            return self.send(peer, &text_frame(b"{}"));
        }
        let value: serde_json::Value = serde_json::from_str(line).expect("lines are JSON");
        if let Some(push) = value.get("push") {
            let name = push["channel"].as_str().expect("pushes name their channel");
            let topic = TOPICS.into_iter().find(|topic| *topic == name).expect("a topic of ours");
            match push["pub"]["data"].as_u64() {
                Some(number) => self.publication(peer, topic, number),
                None => self.unsubscribed(peer, topic, &push["unsubscribe"]["code"]),
            }
        } else {
            let id = u32::try_from(value["id"].as_u64().expect("replies have ids")).expect("ours are small");
            assert!(value.get("error").is_none(), "{line}");
            self.reply(peer, id, &value["subscribe"]);
        }
    }

    fn reply(&mut self, peer: usize, id: u32, subscribed: &serde_json::Value) {
        self.events.replies += 1;
        self.peers[peer].replies += 1;
        let asked = self.peers[peer].asked.remove(&id).unwrap_or_else(|| panic!("a reply to {id}, which nobody asked"));
        match asked {
            Asked::Subscribe { topic, floor, resumes } => {
                let ceiling = self.published.get(topic).copied().unwrap_or(0) + 1;
                let last = topic.starts_with('h').then(|| stands_at(subscribed, resumes));
                self.peers[peer].runs.insert(topic, Run { floor, ceiling, last, owed: BTreeMap::new() });
            }
            Asked::Unsubscribe { topic } => {
                if let Some(run) = self.peers[peer].runs.remove(topic) {
                    self.left(topic, &run);
                }
            }
            Asked::Connect | Asked::Publish => {}
        }
    }

    fn left(&mut self, topic: &'static str, run: &Run) {
        if let Some(last) = run.last.filter(|_| topic.starts_with('h')) {
            self.left_at.push((topic, last));
        }
    }

    fn publication(&mut self, peer: usize, topic: &'static str, number: u64) {
        self.events.deliveries += 1;
        let excused = self.peers[peer].excused;
        let run = self.peers[peer].runs.get_mut(topic);
        let run = run.unwrap_or_else(|| panic!("{topic} {number} without a subscription"));
        let skips = topic.starts_with('s') && excused;
        match run.last {
            None => {
                assert!(number > run.floor, "{topic} begins with {number}, {} was before its subscription", run.floor);
                assert!(skips || number <= run.ceiling, "{topic} begins with {number}, after {}", run.ceiling);
            }
            Some(last) if skips && number > last + 1 => self.events.skipped += 1,
            Some(last) => assert_eq!(number, last + 1, "{topic}: {number} after {last}"),
        }
        let expected = run.last.map_or(run.ceiling, |last| last + 1);
        run.owed.extend((expected..number).filter_map(|left_out| Some((key_of(topic, left_out)?, left_out))));
        if let Some(key) = key_of(topic, number) {
            self.events.made_good += u64::from(run.owed.remove(&key).is_some());
        }
        run.last = Some(number);
    }

    fn unsubscribed(&mut self, peer: usize, topic: &'static str, code: &serde_json::Value) {
        assert_eq!(code.as_u64(), Some(2500));
        let resyncs = topic.starts_with('r') || topic.starts_with('h');
        assert!(self.peers[peer].excused && resyncs, "{topic}: a healthy subscription ended");
        let run = self.peers[peer].runs.remove(topic).unwrap_or_else(|| panic!("{topic} ended, and was none"));
        self.left(topic, &run);
        self.events.resynced += 1;
    }

    fn forget_the_closed(&mut self) {
        let mut index = 0;
        while index < self.peers.len() {
            let gone = self.peers[index].pipe.borrow().server_gone;
            if gone || self.peers[index].closed.is_some() {
                let mut peer = self.peers.swap_remove(index);
                assert!(peer.excused, "a healthy client lost its connection");
                peer.runs.drain().for_each(|(topic, run)| self.left(topic, &run));
                let mut pipe = peer.pipe.borrow_mut();
                self.events.short_writes += pipe.short_writes;
                self.events.refused_writes += pipe.refused_writes;
                pipe.client_closed = true;
                if !gone {
                    self.ready.push((peer.slot, Edge::HungUp));
                }
            } else {
                index += 1;
            }
        }
    }

    /// Everybody reads again and nothing new happens: then everybody must get everything, and the shard must
    /// find its sleep.
    fn become_quiet(&mut self) {
        // Nobody else is woken by this.
        for peer in 0..self.peers.len() {
            if !self.peers[peer].rest.is_empty() {
                self.send(peer, b"");
            }
        }
        for _ in 0..QUIET_LIMIT {
            for peer in 0..self.peers.len() {
                self.give_room(peer);
                self.peers[peer].pipe.borrow_mut().room += 1000 * self.scale;
            }
            self.broker_acts();
            self.turn();
            let is_written = self.receipt.written() == self.batches.len() as u64;
            let is_answered = self.late_answers.is_empty() && self.requests.is_empty();
            if self.is_settled() && is_answered && self.is_served() && is_written {
                break;
            }
        }
        assert_ne!(self.shard.poll_timeout(), Some(Duration::ZERO), "the shard finds no sleep");
        assert_eq!(self.receipt.written(), self.batches.len() as u64, "everybody has everything");
        self.events.keys_dropped += self.stats.keys_dropped.value();
        self.events.worlds_without_room += u64::from(self.stats.keys_dropped.value() > 0);
        for peer in &self.peers {
            assert!(peer.asked.is_empty(), "client {} waits for {:?}", peer.slot, peer.asked);
            for (topic, run) in &peer.runs {
                let all = self.published.get(topic).copied().unwrap_or(0);
                let complete = run.last.map_or(all < run.ceiling, |last| last == all);
                assert!(complete, "client {} lacks {topic} after {:?}, of {all}", peer.slot, run.last);
                let had_room = self.stats.keys_dropped.value() == 0;
                assert!(!had_room || run.owed.is_empty(), "client {} lacks {topic} {:?}", peer.slot, run.owed);
            }
            let pipe = peer.pipe.borrow();
            self.events.short_writes += pipe.short_writes;
            self.events.refused_writes += pipe.refused_writes;
        }
    }

    /// Whether any of these clients has not been sent all of a topic.
    fn lacks_any(&self, peers: std::ops::Range<usize>, topic: &str) -> bool {
        let all = self.published.get(topic).copied();
        self.peers[peers].iter().any(|peer| peer.runs[topic].last != all)
    }

    fn is_served(&self) -> bool {
        let complete = |peer: &Peer| {
            let all = |topic: &&'static str| self.published.get(*topic).copied().unwrap_or(0);
            peer.asked.is_empty() && peer.runs.iter().all(|(topic, run)| run.last.map_or(all(topic) < run.ceiling, |last| last == all(topic)))
        };
        self.peers.iter().all(complete)
    }

    /// Everybody goes: then nothing may be left.
    fn everybody_leaves(&mut self) {
        for peer in self.peers.drain(..) {
            peer.pipe.borrow_mut().client_closed = true;
            self.ready.push((peer.slot, Edge::HungUp));
        }
        for _ in 0..QUIET_LIMIT {
            self.broker_acts();
            self.turn();
            if self.shard.is_empty() && self.interest.is_empty() && self.is_settled() && self.requests.is_empty() {
                break;
            }
        }
        // A last tick shows the gauges as they are.
        let now = self.now;
        self.shard.tick(|| now);
        assert!(self.shard.is_empty(), "{} clients are left", self.shard.len());
        let stats = &self.stats;
        let left = [
            ("topics", &stats.topics),
            ("subscriptions", &stats.subscriptions),
            ("log bytes", &stats.log_bytes),
            ("rest bytes", &stats.rest_bytes),
            ("reply bytes", &stats.reply_bytes),
            ("input bytes", &stats.input_bytes),
            ("blocked clients", &stats.blocked_clients),
            ("clients upgrading", &stats.upgrading),
            ("clients open", &stats.open),
            ("clients closing", &stats.closing),
        ];
        for (what, gauge) in left {
            assert_eq!(gauge.value(), 0, "{what} are left");
        }
        assert_eq!(self.shard.promised_bytes(), 0, "bytes are promised to nobody");
    }
}

/// What a publication of a topic is the latest of.
fn key_of(topic: &str, number: u64) -> Option<u64> {
    // One key is rarer than the others.
    let key = if number % 20 == 1 { 20 } else { number % 3 };
    (topic == KEYED && number % 7 > 0).then_some(key)
}

/// Where the next byte will stand in a batch.
fn place(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("few")
}

/// The number of the publication after which a new subscriber to a topic with history stands, when it has read
/// what the reply brings.
fn stands_at(subscribed: &serde_json::Value, resumes: bool) -> u64 {
    let offset = subscribed["offset"].as_u64().unwrap_or(0);
    assert_eq!((&subscribed["epoch"], offset % OFFSETS_APART), (&EPOCH.into(), 0), "{subscribed}");
    assert_eq!(subscribed["was_recovering"].as_bool().unwrap_or(false), resumes, "{subscribed}");
    let missed = subscribed["publications"].as_array().map_or(&[][..], |all| all);
    assert!(missed.is_empty() || subscribed["recovered"] == true, "{subscribed}");
    missed.iter().fold(offset / OFFSETS_APART, |last, publication| {
        assert_eq!(publication["data"].as_u64(), Some(last + 1), "{subscribed}");
        last + 1
    })
}
