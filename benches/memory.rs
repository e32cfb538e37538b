//! Memory: what an idle client costs the engine, in its own memory, at 100,000 clients; and what a publication
//! costs that is kept for those who come back, at 100,000 publications.
//!
//! Counted is what the engine's process allocated (`Anonymous` of `/proc/PID/smaps_rollup`), before any
//! client came and when all are connected, subscribed and silent; not the kernel's sockets. The engine is
//! fresh and its configuration the default one, but for the limit on clients, for pings that stay away and for tables
//! of descriptors per shard, so that 20,000 each are enough. *Fresh* clients have never got anything; *used* is after
//! every topic has carried a publication and gone idle again. `--short` connects 2,000, and keeps as many
//! publications.

mod common;

use std::io::Result;
use std::time::{Duration, Instant};

use common::crowd::{Crowd, Reads};
use common::measure::anonymous_bytes;
use common::publisher::{Publisher, plain_data};
use common::report::{Report, SHARDS_EVERYWHERE, Target};
use common::support::engine::Engine;
use common::support::process::resident_bytes;
use common::token::Issuer;
use common::{Arguments, CLIENTS_PER_SHARD, LINE_BYTES};

const CONFIGURATION: &str = r#"
[server]
private_fd_tables = true
[timeouts]
ping = "1h"
[namespaces.private]
[limits]
clients = 120_000
"#;
/// As by default.
const REMEMBERED: usize = 10_000;
/// As many publications of each topic are kept as there are.
const HISTORY_CONFIGURATION: &str = r#"
[namespaces.kept]
history_size = 100_000
history_ttl = "1h"
"#;
/// Publications of each topic, where there are many topics.
const KEPT_OF_EACH: usize = 100;
/// Idle clients of one kind.
struct Kind {
    name: &'static str,
    about: &'static str,
    /// `{}` stands for the client's number.
    topic: &'static str,
    /// Signs their tokens; empty: they show none.
    secret: &'static str,
    /// Tokens that each shard remembers.
    remembered: usize,
    /// Bytes per client.
    target: Target,
}

const SECRET: &str = "a secret of thirty-two bytes, or more";

const KINDS: [Kind; 4] = [
    Kind {
        name: "shared",
        about: "one topic for all",
        topic: "shared",
        secret: "",
        remembered: REMEMBERED,
        target: Target::AtMost(256.0),
    },
    Kind {
        name: "private",
        about: "a topic for each",
        topic: "private:{}",
        secret: "",
        remembered: REMEMBERED,
        target: Target::AtMost(512.0),
    },
    Kind {
        name: "tokens",
        about: "one topic for all; each client has shown a token of its own, with a user id of 20 bytes",
        topic: "shared",
        secret: SECRET,
        remembered: 0,
        target: Target::AtMost(320.0),
    },
    Kind {
        name: "remembered tokens",
        about: "the same, and each shard remembers 10,000 tokens, so that they cost no signature again",
        topic: "shared",
        secret: SECRET,
        remembered: REMEMBERED,
        target: Target::None,
    },
];
/// The engine gives memory back in a sweep once a second, and its allocator some time after that: the
/// least of the readings in this time counts. To see that the suite works, less will do.
const SETTLING: Duration = Duration::from_secs(3);
const SETTLING_SHORT: Duration = Duration::from_millis(500);
/// Between two readings.
const PAUSE: Duration = Duration::from_millis(250);
/// Publications in one piece.
const AT_ONCE: usize = 64;

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help() {
        return result;
    }
    let (clients, settling) = if arguments.short() { (2000, SETTLING_SHORT) } else { (100_000, SETTLING) };
    let about = format!("the engine's own, per idle client, {clients} clients");
    let mut report = Report::new("memory", &about, SHARDS_EVERYWHERE);
    for kind in &KINDS {
        report.part(kind.name, kind.about);
        measure_clients(clients, settling, kind, &mut report)?;
    }
    let publications = clients;
    report.part(
        "history",
        &format!("{publications} publications of {LINE_BYTES} bytes are kept, by nobody heard"),
    );
    measure_history(publications, settling, &mut report)?;
    report.finish()
}

/// Bytes per client of a fresh engine.
fn measure_clients(clients: usize, settling: Duration, kind: &Kind, report: &mut Report) -> Result<()> {
    let Kind { topic, secret, remembered, target, .. } = *kind;
    let shards = clients.div_ceil(CLIENTS_PER_SHARD).to_string();
    let tokens = match secret {
        "" => String::new(),
        secret => Issuer::with_secret(secret).configuration,
    };
    let configuration = format!("{CONFIGURATION}tokens = {remembered}\n{tokens}");
    let engine = Engine::with_config_and(&configuration, &["--shards", &shards]);
    let before = settled_bytes(&engine, settling, nothing)?;
    let per_client = |bytes: u64| (bytes as f64 - before as f64) / clients as f64;
    let mut crowd = Crowd::connect_as(engine.client_address(), clients, topic, Reads::Nothing, secret)?;
    let fresh = settled_bytes(&engine, settling, nothing)?;
    report.row("fresh clients", per_client(fresh), "bytes per client", target);
    let mut topics: Vec<_> = (0..clients).map(|client| topic.replace("{}", &client.to_string())).collect();
    topics.dedup();
    publish_to_each(&engine, &topics, &mut crowd)?;
    let used = settled_bytes(&engine, settling, nothing)?;
    report.row("after a publication to each topic", per_client(used), "bytes per client", target);
    report.row("resident", resident_bytes(engine.pid())? as f64 / 1e6, "MB", Target::None);
    Ok(())
}

fn nothing() -> Result<()> {
    Ok(())
}

/// One publication to each topic, and nothing more until all clients have it.
fn publish_to_each(engine: &Engine, topics: &[String], crowd: &mut Crowd) -> Result<()> {
    let mut publisher = Publisher::connect(engine.control_address())?;
    // A frame's only line has no line break.
    crowd.expect((LINE_BYTES - 1) as u64)?;
    publish(&mut publisher, topics)?;
    crowd.got()?;
    Ok(())
}

/// One publication for each time that a topic is named.
fn publish(publisher: &mut Publisher, topics: &[String]) -> Result<()> {
    for some in topics.chunks(AT_ONCE) {
        let requests: Vec<u8> =
            some.iter().flat_map(|topic| publisher.request(topic, &plain_data(topic, LINE_BYTES))).collect();
        publisher.publish(&requests, some.len())?;
    }
    Ok(())
}

/// Bytes per publication that is kept, where each topic has a hundred, and where one topic has them all.
fn measure_history(publications: usize, settling: Duration, report: &mut Report) -> Result<()> {
    let engine = Engine::with_config_and(HISTORY_CONFIGURATION, &["--shards", "1"]);
    let mut publisher = Publisher::connect(engine.control_address())?;
    // Nothing of these is kept. Before, they bring what the engine needs to publish at all; after, the allocator
    // gives back what was freed only when there is something to do, and not at once.
    let unkept = vec!["unkept".to_owned(); publications / 20];
    let mut before = settled_bytes(&engine, settling, || publish(&mut publisher, &unkept))?;
    let many = publications / KEPT_OF_EACH;
    for (topics, name) in [(many, format!("{many} topics of {KEPT_OF_EACH}")), (1, "one topic".to_owned())] {
        // As long a name, whatever the number.
        let named = (0..publications).map(|number| format!("kept:{topics:04}:{:04}", number % topics));
        publish(&mut publisher, &named.collect::<Vec<_>>())?;
        let after = settled_bytes(&engine, settling, || publish(&mut publisher, &unkept))?;
        let each = (after as f64 - before as f64) / publications as f64;
        report.row(&name, each, "bytes per publication", Target::None);
        before = after;
    }
    let kept = engine.metric("fanfare_history_publications", &[]);
    assert_eq!(kept, 2.0 * publications as f64);
    let counted = engine.metric("fanfare_history_bytes", &[]) / kept;
    report.row("as the engine counts them, both", counted, "bytes per publication", Target::None);
    let data = plain_data("kept:0001:0000", LINE_BYTES).len();
    report.row("of it, its data", data as f64, "bytes per publication", Target::None);
    let line = LINE_BYTES + r#","offset":12345"#.len();
    report.row("beside it, its line", line as f64, "bytes per publication", Target::None);
    Ok(())
}

/// The least memory the engine is seen with while this is all that it has to do.
fn settled_bytes(
    engine: &Engine,
    settling: Duration,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<u64> {
    let end = Instant::now() + settling;
    let mut least = u64::MAX;
    while Instant::now() < end {
        std::thread::sleep(PAUSE);
        meanwhile()?;
        least = least.min(anonymous_bytes(engine.pid())?);
    }
    Ok(least)
}
