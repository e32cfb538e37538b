//! Checks at start-up what the type of a value cannot express: bounds, relations between values, and safety. All
//! problems are reported at once.

mod backends;
mod namespaces;
mod tokens;

use std::ops::RangeInclusive;
use std::time::Duration;

use super::memory::API_BODIES_BYTES;
use super::unusable::UnusableKind;
use super::{Amqp, Config, Control, Interval, Limits, Problem, Problems, Server, Source, parse_cpus};
pub use namespaces::NAMESPACES_MAX;

use crate::domain::client_id::SHARDS_MAX;
use crate::transport::origin::{OriginPattern, is_loopback};

/// Bytes of a name in AMQP 0.9.1, at most: a short string.
const AMQP_NAME_BYTES_MAX: usize = 255;
/// Bytes of a line besides its data and its topic's name, rounded up generously.
const LINE_BYTES: usize = 128;
/// Factor by which a topic's name grows at most when it is written into JSON: every character escaped.
const ESCAPED: usize = 2;
/// A browser's request head has about 500 bytes; one with cookies more.
const HEAD_BYTES_MIN: usize = 1024;
/// Bytes of a command besides the topic's name in it, rounded up generously.
const COMMAND_BYTES: usize = 256;
/// Bytes of a connect reply and some subscribe replies. With less, clients that do nothing wrong would be
/// closed.
const REPLIES_BYTES_MIN: usize = 1024;
/// The part of a tick that reading clients may use.
const READ_TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
/// With fewer mails than this, threads do little but wake each other.
const MAILBOX_MIN: usize = 16;
/// All of them are allocated at the start, and beyond some millions only the delay grows.
const MAILBOX_MAX: usize = 4_194_304;
/// More would take gigabytes.
const MESSAGE_IDS_MAX: usize = 100_000_000;
/// All known clients refuse deeper JSON. The stack of a recursive parser is safe far beyond it.
const JSON_DEPTH_MAX: usize = 1024;
/// No time may be longer, so that sums of a few times with the clock's present never overflow.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Twice the time between two markers of a node in its stream.
const REPLAY_AGE_MIN: Duration = Duration::from_secs(2 * 60);
/// The longest time that a stream may be configured to keep messages.
const STREAM_AGE_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A smaller stream may not have room for one message.
const STREAM_BYTES_MIN: usize = 1_000_000;
/// AMQP's type: a signed number of 64 bits.
const STREAM_BYTES_MAX: usize = usize::MAX >> 1;

impl Config {
    /// Checks what a value's type cannot express: bounds, relations between values, well-formed lists and URLs, and
    /// that no port is open to strangers by mistake.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn validate(&self) -> Result<(), Problems> {
        let mut findings = Findings::default();
        server(&mut findings, self);
        control(&mut findings, &self.control, &self.server);
        tokens::tokens(&mut findings, self);
        tokens::credentials(&mut findings, &self.server);
        amqp(&mut findings, &self.amqp);
        sizes(&mut findings, &self.limits);
        counts(&mut findings, self);
        timeouts(&mut findings, self);
        backends::backends(&mut findings, self);
        namespaces::namespaces(&mut findings, self);
        findings.require(matches!(self.log.level.as_str(), "error" | "warn" | "info" | "debug"), || {
            UnusableKind::LogLevel(self.log.level.clone())
        });
        Problems::unless_none(findings.0, ())
    }
}

/// The problems found so far.
#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn require(&mut self, holds: bool, kind: impl FnOnce() -> UnusableKind) {
        if !holds {
            self.add(kind());
        }
    }

    fn add(&mut self, kind: UnusableKind) {
        self.0.push(Problem::Unusable { origins: Vec::new(), value: kind.into() });
    }

    /// `key` must be from `least` to `most`, because of `why`.
    fn within(&mut self, key: &str, value: usize, (least, most): (usize, usize), why: &'static str) {
        self.require((least..=most).contains(&value), || UnusableKind::OutOfRange {
            key: key.to_owned(),
            value,
            least,
            most,
            why,
        });
    }

    /// One limit must not exceed another, because of `why`.
    fn not_above(&mut self, (key, value): (&str, usize), (bound, most): (&str, usize), why: &'static str) {
        self.require(value <= most, || UnusableKind::AboveOther {
            key: key.to_owned(),
            value,
            bound: bound.to_owned(),
            most,
            why,
        });
    }

    fn positive(&mut self, key: &str, value: usize, why: &'static str) {
        self.within(key, value, (1, usize::MAX), why);
    }

    /// A time that cannot be zero.
    fn time(&mut self, key: &'static str, time: Interval) {
        self.require(!time.is_zero() && time.0 <= INTERVAL_MAX, || UnusableKind::BadTime { key, time });
    }

    /// A time that can be zero.
    fn time_or_zero(&mut self, key: &str, time: Interval) {
        self.require(time.0 <= INTERVAL_MAX, || UnusableKind::LongTime { key: key.to_owned(), time });
    }
}

fn server(findings: &mut Findings, config: &Config) {
    let server = &config.server;
    findings.require(!server.listen.is_empty(), || UnusableKind::NoListener);
    for (position, &address) in server.listen.iter().enumerate() {
        findings.require(address.port() == 0 || !server.listen[..position].contains(&address), || {
            UnusableKind::ListensTwice(address)
        });
        findings.require(server.insecure || config.identifies_clients() || is_loopback(address.ip()), || {
            UnusableKind::ClientsFromElsewhere(address)
        });
    }
    findings.within(
        "server.shards",
        server.shards.into(),
        (0, SHARDS_MAX.into()),
        "the ids of clients have room for no more",
    );
    if let Err(error) = parse_cpus(&server.cpus) {
        findings.add(UnusableKind::Cpus(error));
    }
    for origin in &server.allowed_origins {
        if let Err(error) = OriginPattern::parse(origin) {
            findings.add(UnusableKind::AllowedOrigin { origin: origin.clone(), error });
        }
    }
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    findings.require(server.path.starts_with('/') && server.path.bytes().all(plain), || {
        UnusableKind::Path(server.path.clone())
    });
    findings.require(!server.namespace_boundary.is_control(), || UnusableKind::ControlAsBoundary);
}

fn control(findings: &mut Findings, control: &Control, server: &Server) {
    let address = control.listen;
    findings.require(is_loopback(address.ip()) || !control.api_key.is_empty(), || {
        UnusableKind::OperatorsFromElsewhere(address)
    });
    findings.require(control.api_key.bytes().all(|byte| byte.is_ascii_graphic()), || {
        UnusableKind::KeyNotInHeader
    });
    findings.require(address.port() == 0 || !server.listen.contains(&address), || {
        UnusableKind::OneAddressForBoth(address)
    });
    let body = (1, API_BODIES_BYTES as usize);
    findings.within("control.body_bytes", control.body_bytes, body, "all bodies together have 64 MiB");
}

fn amqp(findings: &mut Findings, amqp: &Amqp) {
    if !amqp.url.is_empty()
        && let Err(error) = amqp.url.check()
    {
        findings.add(UnusableKind::Url(error));
    }
    let names = [
        ("amqp.exchange", &amqp.exchange),
        ("amqp.stream", &amqp.stream),
        ("amqp.dead_letter_exchange", &amqp.dead_letter_exchange),
        ("amqp.dead_letter_queue", &amqp.dead_letter_queue),
    ];
    for (key, name) in names {
        findings.require(!name.is_empty(), || UnusableKind::NoName(key));
    }
    let patterns = amqp.bindings.patterns().iter().map(|pattern| ("amqp.bindings", pattern));
    for (key, name) in names.into_iter().chain([("amqp.queue", &amqp.queue)]).chain(patterns) {
        findings.require(name.len() <= AMQP_NAME_BYTES_MAX, || UnusableKind::LongName {
            key,
            name: name.clone(),
            most: AMQP_NAME_BYTES_MAX,
        });
    }
    let comes_back = |key, source_key| move || UnusableKind::DeadLettersComeBack { key, source_key };
    findings.require(
        amqp.exchange != amqp.dead_letter_exchange,
        comes_back("amqp.dead_letter_exchange", "amqp.exchange"),
    );
    findings.require(
        amqp.queue.is_empty() || amqp.queue != amqp.dead_letter_queue,
        comes_back("amqp.dead_letter_queue", "amqp.queue"),
    );
    findings
        .require(amqp.stream != amqp.dead_letter_queue, comes_back("amqp.dead_letter_queue", "amqp.stream"));
    bindings(findings, amqp);
    stream(findings, amqp);
    findings.within("amqp.message_ids", amqp.message_ids, (0, MESSAGE_IDS_MAX), "each is remembered");
    findings.positive("amqp.prefetch", amqp.prefetch.into(), "0 means no limit to RabbitMQ");
    findings.positive("amqp.prefetch_bytes", amqp.prefetch_bytes, "nothing would be taken");
    let dead_letters = usize::try_from(amqp.dead_letter_max).unwrap_or(usize::MAX);
    findings.positive("amqp.dead_letter_max", dead_letters, "a queue without room keeps nothing");
    let own = usize::try_from(amqp.queue_max_messages).unwrap_or(usize::MAX);
    findings.positive("amqp.queue_max_messages", own, "a queue without room keeps nothing");
    findings.time("amqp.reconnect_min", amqp.reconnect_min);
    findings.time("amqp.reconnect_max", amqp.reconnect_max);
    findings.time_or_zero("amqp.queue_delay", amqp.queue_delay);
    let (least, most) = (amqp.reconnect_min, amqp.reconnect_max);
    findings.require(least <= most, || UnusableKind::Reconnect { least, most });
}

/// Checks bindings that follow subscribers. They are only for a queue that nobody else reads and that holds
/// nothing for later.
fn bindings(findings: &mut Findings, amqp: &Amqp) {
    let is_empty = !amqp.bindings.is_dynamic() && amqp.bindings.patterns().is_empty();
    findings.require(!amqp.queue.is_empty() || !is_empty, || UnusableKind::NoBindings);
    let is_dynamic = amqp.bindings.is_dynamic();
    findings.require(!is_dynamic || amqp.source == Source::Queue, || UnusableKind::DynamicStream);
    findings.require(!is_dynamic || amqp.queue.is_empty(), || UnusableKind::DynamicQueue {
        queue: amqp.queue.clone(),
    });
    findings.time_or_zero("amqp.binding_linger", amqp.binding_linger);
}

fn stream(findings: &mut Findings, amqp: &Amqp) {
    findings.require(amqp.queue.is_empty() || amqp.source == Source::Queue, || {
        UnusableKind::QueueWithStream { queue: amqp.queue.clone() }
    });
    let (least, most) = (amqp.replay_max_age, amqp.stream_max_age);
    findings.require(least.0 >= REPLAY_AGE_MIN && least.0 <= INTERVAL_MAX, || UnusableKind::ReplayAge {
        time: least,
    });
    findings.require(least <= most && most.0 <= STREAM_AGE_MAX, || UnusableKind::StreamAge {
        time: most,
        replay: least,
    });
    let bytes = usize::try_from(amqp.stream_max_bytes).unwrap_or(usize::MAX);
    let range = (STREAM_BYTES_MIN, STREAM_BYTES_MAX);
    findings.within("amqp.stream_max_bytes", bytes, range, "a stream has room for messages");
    let messages = usize::try_from(amqp.replay_max_messages).unwrap_or(usize::MAX);
    findings.positive("amqp.replay_max_messages", messages, "nothing would be known at the start");
}

/// Bytes of a line besides its data.
fn line_overhead(limits: &Limits) -> usize {
    LINE_BYTES.saturating_add(limits.topic_bytes.saturating_mul(ESCAPED))
}

fn sizes(findings: &mut Findings, limits: &Limits) {
    let frame = ("limits.frame_bytes", limits.frame_bytes);
    let log = ("limits.log_bytes", limits.log_bytes);
    let head = (HEAD_BYTES_MIN, usize::MAX);
    findings.within("limits.head_bytes", limits.head_bytes, head, "browsers send cookies along");
    let topic = (1, AMQP_NAME_BYTES_MAX);
    findings.within("limits.topic_bytes", limits.topic_bytes, topic, "AMQP's routing keys end there");
    let command = (COMMAND_BYTES.saturating_add(limits.topic_bytes), usize::MAX);
    findings.within("limits.message_bytes", limits.message_bytes, command, "a subscribe command must fit in");
    let depth = (1, JSON_DEPTH_MAX);
    findings.within("limits.json_depth", limits.json_depth, depth, "SDKs fail on deeper JSON");
    findings.positive("limits.publication_bytes", limits.publication_bytes, "a publication has data");
    let line = limits.publication_bytes.saturating_add(line_overhead(limits));
    let line = ("limits.publication_bytes with its topic and braces", line);
    findings.not_above(line, frame, "the largest publication must fit into a frame");
    findings.not_above(frame, log, "what goes into one frame is taken from one log");
    findings.not_above(
        log,
        ("limits.logs_bytes", limits.logs_bytes),
        "the longest log must fit into all logs",
    );
    let rest = ("limits.rest_bytes", limits.rest_bytes);
    findings.not_above(frame, rest, "one client in the middle of its frame must be able to finish");
    let merging = ("limits.merging_bytes", limits.merging_bytes);
    findings.not_above(frame, merging, "merging must be able to fill one frame");
    let frames = ("twice limits.frame_bytes", limits.frame_bytes.saturating_mul(2));
    let all_replies = ("limits.shard_replies_bytes", limits.shard_replies_bytes);
    findings.not_above(frames, all_replies, "some clients must be able to wait for an answer");
    let messages = ("twice limits.message_bytes", limits.message_bytes.saturating_mul(2));
    let all_input = ("limits.shard_input_bytes", limits.shard_input_bytes);
    findings.not_above(messages, all_input, "some clients must be able to send a message");
    findings.not_above(
        frame,
        ("limits.mailbox_bytes", limits.mailbox_bytes),
        "a shard must be able to get a frame",
    );
    for key in
        [("limits.requests_bytes", limits.requests_bytes), ("limits.publishes_bytes", limits.publishes_bytes)]
    {
        let publication = ("limits.publication_bytes", limits.publication_bytes);
        findings.not_above(publication, key, "the largest publication must be able to pass");
    }
    let message = ("limits.message_bytes", limits.message_bytes);
    let calls = ("limits.calls_bytes", limits.calls_bytes);
    findings.not_above(message, calls, "the largest request of a client must be able to pass");
    let replies = (REPLIES_BYTES_MIN, usize::MAX);
    findings.within("limits.replies_bytes", limits.replies_bytes, replies, "a connect reply must fit in");
}

fn counts(findings: &mut Findings, config: &Config) {
    let limits = &config.limits;
    findings.positive("limits.topics_per_client", limits.topics_per_client, "clients come to subscribe");
    findings.positive("limits.topics", limits.topics, "clients come to subscribe");
    findings.positive("limits.publishes", limits.publishes, "nobody could publish");
    findings.positive("limits.calls", limits.calls, "no backend would ever be asked");
    findings.positive("limits.rpcs_per_client", limits.rpcs_per_client, "no request would pass");
    let mailbox = (MAILBOX_MIN, MAILBOX_MAX);
    findings.within(
        "limits.mailbox",
        limits.mailbox,
        mailbox,
        "threads would do little but wait for each other",
    );
    findings.within(
        "limits.requests",
        limits.requests,
        mailbox,
        "threads would do little but wait for each other",
    );
    let budgets = &config.budgets;
    for (key, budget) in [
        ("budgets.accepts", budgets.accepts),
        ("budgets.reads", budgets.reads),
        ("budgets.mails", budgets.mails),
        ("budgets.visits", budgets.visits),
        ("budgets.deadlines", budgets.deadlines),
    ] {
        findings.positive(key, budget, "this work would never be done");
    }
    findings.positive("budgets.crowd", budgets.crowd, "nobody is no crowd");
    let share = (1 << 10, 1 << 20);
    findings.within("budgets.read_bytes", budgets.read_bytes, share, "a client's share is some commands");
    findings.require(READ_TIMES.contains(&budgets.read_time.0), || UnusableKind::ReadTime(budgets.read_time));
    let paces = [
        (
            "stop.clients_per_second",
            config.stop.clients_per_second,
            "the engine would never have closed them",
        ),
        ("stop.gaps_per_second", config.stop.gaps_per_second, "they would never be told"),
    ];
    for (key, pace, why) in paces {
        findings.positive(key, usize::try_from(pace).unwrap_or(usize::MAX), why);
    }
}

fn timeouts(findings: &mut Findings, config: &Config) {
    let timeouts = &config.timeouts;
    for (key, interval) in [
        ("timeouts.upgrade", timeouts.upgrade),
        ("timeouts.connect", timeouts.connect),
        ("timeouts.ping", timeouts.ping),
        ("timeouts.pong", timeouts.pong),
        ("timeouts.message", timeouts.message),
        ("timeouts.close", timeouts.close),
        ("timeouts.replies", timeouts.replies),
        ("timeouts.expired", timeouts.expired),
        ("timeouts.publish", timeouts.publish),
        ("amqp.written_timeout", config.amqp.written_timeout),
        ("stop.limit", config.stop.limit),
    ] {
        findings.time(key, interval);
    }
    let (ping, pong) = (timeouts.ping, timeouts.pong);
    findings.require(pong < ping, || UnusableKind::LatePong { pong, ping });
    findings.require(ping.0.subsec_nanos() == 0, || UnusableKind::PartOfSecond(ping));
}
