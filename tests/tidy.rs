//! Keeps the house as `src/lib.rs` describes it: which room may know which, what belongs to one file alone,
//! and how long a function or a file may be. Tests are not bound by the rules for rooms, but by the lengths.
//!
//! Where a rule stands in the way of something better, change the rule here, with the reason.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/lengths.rs"]
mod lengths;
#[path = "tidy/machine.rs"]
mod machine;
#[path = "tidy/programs.rs"]
mod programs;
#[path = "tidy/words.rs"]
mod words;

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use lengths::lengths;
use words::{Word, paths_from_root, words};

/// Whom each room may know besides itself: another room, or a part of one. A room is a file or folder
/// right under `src/`.
const KNOWS: &[(&str, &[&str])] = &[
    ("base", &["model"]), // loom's, in tests/loom
    ("manual", &[]),
    // Threads send each other settings, which have what verifies tokens, the backends, and which requests become clients.
    ("domain", &["auth", "config", "http_client", "transport::upgrade"]),
    // Of the codec only how JSON is checked and taken apart.
    ("auth", &["base", "domain", "config", "codec::json"]),
    (
        "codec",
        &[
            "base::not_json",
            "domain::asked",
            "domain::client_info",
            "domain::codec",
            "domain::encoding",
            "domain::position",
            "domain::publication",
            "domain::reasons",
        ],
    ),
    (
        "transport",
        &["base::printable", "codec::deflate", "domain::codec", "domain::encoding", "domain::reasons"],
    ),
    (
        "config",
        &[
            "domain::client_id",
            "domain::reasons",
            "domain::topic_pattern",
            "transport::origin",
            "base::printable",
        ],
    ),
    ("stats", &["domain::call", "domain::reasons", "transport::refusal"]),
    ("hooks", &["auth", "base", "domain", "config", "codec::json"]),
    // Values alone: the bytes of a codec are the shard's affair, and so are streams, transports and logs.
    ("session", &["auth", "base", "domain", "codec::command", "codec::reply", "config"]),
    ("shard", &["auth", "base", "domain", "codec", "transport", "session", "net::stream", "config", "stats"]),
    ("net", &["base", "domain", "shard", "stats", "transport"]),
    (
        "broker",
        &[
            "auth",
            "base",
            "domain",
            "codec",
            "hooks",
            "http_client",
            "transport::websocket",
            "config",
            "stats",
        ],
    ),
    (
        "control",
        &[
            "auth",
            "base",
            "http_client",
            "domain",
            "config",
            "stats",
            "transport::origin",
            "transport::refusal",
            "transport::preamble",
        ],
    ),
    ("http_client", &["config", "domain::call"]),
    // It must find the engine's faults, so it shares no code with it that talks to clients.
    ("load", &["config", "base::printable"]),
];

/// What wires the rooms together, and so knows them all: nobody knows it.
const WIRING: &[&str] = &["lib", "main", "engine", "cli"];

/// Words of code, such as a crate's name, that belong to some files only.
struct Ban {
    words: &'static [&'static str],
    place: Place,
    instead: &'static str,
}

/// Beginnings of paths below `src/`.
enum Place {
    OnlyIn(&'static [&'static str]),
    NotIn(&'static [&'static str]),
}

const BANS: &[Ban] = &[
    Ban {
        words: &["mio"],
        // The load generator is a program of its own that only shares the binary: it has clients of its own.
        place: Place::OnlyIn(&["net/event_loop.rs", "net/listener.rs", "net/tcp.rs", "load/poll.rs"]),
        instead: "go through the listeners, streams and the poll of net/, or of load/poll.rs",
    },
    Ban {
        words: &["lapin"],
        place: Place::OnlyIn(&["broker/backplane/rabbit"]),
        instead: "go through the doors of broker/backplane/rabbit",
    },
    Ban {
        words: &["Instant", "SystemTime"],
        place: Place::NotIn(&["auth/", "transport/", "codec/", "session/", "hooks/"]),
        instead: "leave time to the caller, who may take it as an argument",
    },
    Ban {
        words: &["SystemTime"],
        // httpdate takes nothing else.
        place: Place::OnlyIn(&["base/clock.rs", "control/pipeline/answers.rs"]),
        instead: "take a UnixTime, or a Clock, as an argument, or read it there",
    },
    Ban {
        words: &["websocket", "WebSocket", "Opcode"],
        place: Place::NotIn(&["codec/", "session", "shard/", "net/"]),
        instead: "use the transport's trait and its Framing; the engine chooses the transport",
    },
    Ban {
        words: &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "socket2", "tokio"],
        place: Place::NotIn(&["auth/", "transport/", "codec/", "session/", "hooks/"]),
        instead: "take bytes and give bytes; the caller has the socket",
    },
    Ban {
        words: &["fs", "File"],
        place: Place::NotIn(&["auth/", "hooks/"]),
        instead: "take what a file has as an argument: the engine reads it",
    },
    Ban {
        words: &["thread", "spawn"],
        place: Place::NotIn(&["auth/", "transport/", "codec/", "session/", "hooks/"]),
        instead: "threads are started by the engine alone",
    },
    Ban {
        words: &["Mutex", "RwLock", "Condvar", "parking_lot"],
        place: Place::NotIn(&["auth/", "transport/", "codec/", "session/", "shard/"]),
        instead: "let one thread own it, and send mail",
    },
    Ban {
        words: &["tokio"],
        place: Place::NotIn(&["shard/", "load/"]),
        instead: "a shard waits for nothing but its poll, and a load generator measures no runtime",
    },
];

/// A rule that is broken.
#[derive(Clone)]
struct Finding {
    file: String,
    line: usize,
    rule: String,
    instead: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.instead)
    }
}

/// Files of the project below `folder`, without what is built or installed.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_symlink() || ["target", "node_modules", "__pycache__", ".git", ".cache"].contains(&&*name)
        {
            continue;
        }
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

fn below(folder: &Path, path: &Path) -> String {
    path.strip_prefix(folder).expect("it was found there").to_string_lossy().into_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file, with its path below `src/`.
fn sources() -> Vec<(String, String)> {
    sources_below("src")
}

/// Every source file below a folder of the project, with its path below that.
fn sources_below(folder: &str) -> Vec<(String, String)> {
    let folder = root().join(folder);
    let rust =
        files_below(&folder).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    rust.map(|path| (below(&folder, &path), fs::read_to_string(&path).expect("source is text"))).collect()
}

/// Everything that is wrong with the source file at `path` below `src/`.
fn findings(path: &str, source: &str) -> Vec<Finding> {
    let mut findings = lengths(&format!("src/{path}"), source);
    if !is_test_file(path) {
        let words = words(source.parse().unwrap_or_else(|error| panic!("src/{path}: {error}")));
        findings.extend(acquaintances(path, &words));
        findings.extend(bans(path, &words));
    }
    findings
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// The room of a file: `shard` for `shard/mod.rs`, `main` for `main.rs`.
fn room_of(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or_default()
}

fn acquaintances(path: &str, words: &[Word]) -> Vec<Finding> {
    let room = room_of(path);
    if WIRING.contains(&room) {
        return Vec::new();
    }
    let file = format!("src/{path}");
    let Some((_, known)) = KNOWS.iter().find(|(name, _)| *name == room) else {
        let rule = format!("the room `{room}` is new");
        let instead = "say in KNOWS of tests/tidy.rs whom it may know".to_owned();
        return vec![Finding { file, line: 1, rule, instead }];
    };
    let may_know = |place: &str| {
        let other = place.split("::").next().unwrap_or_default();
        other == room || known.iter().any(|known| *known == other || *known == place)
    };
    paths_from_root(&["crate", "fanfare"], path, words)
        .into_iter()
        .filter(|(place, _)| !may_know(place))
        .map(|(place, line)| Finding {
            file: file.clone(),
            line,
            rule: format!("`{room}` may not know `{place}`"),
            instead: format!(
                "it may know {known:?} (KNOWS in tests/tidy.rs): hand over what it needs as an argument"
            ),
        })
        .collect()
}

fn bans(path: &str, words: &[Word]) -> Vec<Finding> {
    let is_at = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    let applies = |ban: &&Ban| match ban.place {
        Place::OnlyIn(places) => !is_at(places),
        Place::NotIn(places) => is_at(places),
    };
    let mut findings = Vec::new();
    for ban in BANS.iter().filter(applies) {
        for word in words.iter().filter(|word| ban.words.contains(&word.text.as_str())) {
            findings.push(Finding {
                file: format!("src/{path}"),
                line: word.line,
                rule: format!("`{}` does not belong here", word.text),
                instead: ban.instead.to_owned(),
            });
        }
    }
    findings
}

fn report(findings: &[Finding]) {
    let list: String = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} rules broken:\n{list}", findings.len());
}

#[test]
fn every_source_file_keeps_the_rules() {
    let sources = sources();
    assert!(
        sources.iter().any(|(path, _)| path == "base/mailbox.rs"),
        "the sources are where they are looked for"
    );
    report(&sources.iter().flat_map(|(path, source)| findings(path, source)).collect::<Vec<_>>());
}

/// A file, what stands in it, and the rule that this breaks.
const OFFENDERS: &[(&str, &str, &str)] = &[
    (
        "transport/websocket/decode.rs",
        "use crate::config::Config;",
        "`transport` may not know `config::Config`",
    ),
    ("transport/mod.rs", "fn f() { super::stats::x() }", "`transport` may not know `stats::x`"),
    (
        "transport/websocket/decode.rs",
        "use super::super::super::domain;",
        "`transport` may not know `domain`",
    ),
    (
        "codec/push.rs",
        "use crate::{domain::reasons, transport::{upgrade, origin}};",
        "know `transport::upgrade`",
    ),
    (
        "session/mod.rs",
        "fn f() { assert!(crate::net::event_loop::x()) }",
        "`session` may not know `net::event_loop`",
    ),
    ("session/commands.rs", "use crate::shard::client::Client;", "`session` may not know `shard::client`"),
    (
        "session/commands.rs",
        "use crate::codec::{command, json::read};",
        "`session` may not know `codec::json`",
    ),
    ("session/timeouts.rs", "fn f() { std::time::Instant::now(); }", "`Instant` does not belong here"),
    ("session/mod.rs", "use std::net::TcpStream;", "`TcpStream` does not belong here"),
    ("session/mod.rs", "fn f() { std::thread::spawn(f); }", "`spawn` does not belong here"),
    (
        "broker/mod.rs",
        "use crate::transport::upgrade::upgrade;",
        "`broker` may not know `transport::upgrade`",
    ),
    ("control/api.rs", "use crate::codec::{json, push};", "`control` may not know `codec::json`"),
    ("shard/mod.rs", "use crate::engine;", "`shard` may not know `engine`"),
    ("novelty.rs", "", "the room `novelty` is new"),
    ("auth/keys.rs", "fn f() { std::fs::read(x) }", "`fs` does not belong here"),
    ("auth/claims.rs", "use crate::shard::client::Client;", "`auth` may not know `shard::client`"),
    ("shard/mod.rs", "use mio::Poll;", "`mio` does not belong here"),
    ("control/mod.rs", "type C = lapin::Channel;", "`lapin` does not belong here"),
    ("transport/upgrade.rs", "fn f() -> std::time::Instant { x }", "`Instant` does not belong here"),
    ("codec/json/read.rs", "use std::net::TcpStream;", "`TcpStream` does not belong here"),
    ("transport/websocket/encode.rs", "fn f() { std::thread::yield_now() }", "`thread` does not belong here"),
    ("shard/topics.rs", "struct S(parking_lot::Mutex<u8>);", "`Mutex` does not belong here"),
    ("shard/mod.rs", "use tokio::sync::mpsc;", "`tokio` does not belong here"),
    ("hooks/request.rs", "use crate::broker::calls;", "`hooks` may not know `broker::calls`"),
    ("hooks/answers.rs", "fn f() -> std::time::Instant { x }", "`Instant` does not belong here"),
    ("load/mod.rs", "use mio::Poll;", "`mio` does not belong here"),
    (
        "load/client.rs",
        "use crate::transport::websocket::decode;",
        "`load` may not know `transport::websocket`",
    ),
];

#[test]
fn every_rule_catches_its_offender() {
    let long_file = "\n".repeat(501);
    let too_long = [("engine/mod.rs", long_file.as_str(), "501 lines, more than 500")];
    for &(path, source, rule) in OFFENDERS.iter().chain(&too_long) {
        let findings = findings(path, source);
        let found = findings
            .iter()
            .any(|finding| finding.rule.contains(rule) && finding.file == format!("src/{path}"));
        assert!(found, "{source:?} in {path} was not found to break: {rule}");
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    let cases = [
        (
            "transport/websocket/decode.rs",
            "use super::encode; use crate::transport::upgrade; // crate::config, mio",
        ),
        (
            "transport/websocket/decode.rs",
            "#[cfg(test)] mod tests { use crate::config; fn f() { std::thread::sleep(x) } }",
        ),
        ("transport/websocket/decode.rs", "#[cfg(test)]\nmod tests;\n"),
        ("transport/websocket/decode/tests.rs", "use std::sync::Mutex;"),
        ("net/event_loop.rs", "use mio::Poll; const NAME: &str = \"crate::engine\";"),
        (
            "broker/backplane/rabbit/consume.rs",
            "use lapin::{Channel}; use crate::domain::{reasons::{A, B}, topic};",
        ),
        ("base/mailbox.rs", "#[cfg(loom)] use crate::model::{Arc, Ordering};"),
        ("main.rs", "use fanfare::engine;"),
    ];
    for (path, source) in cases {
        report(&findings(path, source));
    }
}
