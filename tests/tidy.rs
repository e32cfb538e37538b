//! Keeps the house as `src/lib.rs` describes it: which room may know which, what belongs to one file alone,
//! and how long a function or a file may be. Tests are not bound by the rules for rooms, but by the lengths.
//!
//! Where a rule stands in the way of something better, change the rule here, with the reason.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/programs.rs"]
mod programs;

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 500;

/// Whom each room may know besides itself: another room, or a part of one. A room is a file or folder
/// right under `src/`.
const KNOWS: &[(&str, &[&str])] = &[
    ("base", &["model"]), // loom's, in tests/loom
    ("manual", &[]),
    ("domain", &["config"]),
    ("codec", &["domain::reasons"]),
    ("transport", &["base::printable", "codec::deflate"]),
    ("config", &["domain::client_id", "transport::origin", "base::printable"]),
    ("stats", &["domain::reasons", "transport::refusal"]),
    ("session", &["transport", "codec", "domain::reasons"]),
    ("shard", &["base", "domain", "codec", "transport", "session", "config", "stats"]),
    ("net", &["base", "domain", "shard", "stats"]),
    ("broker", &["base", "domain", "codec", "transport::websocket", "config", "stats"]),
    (
        "control",
        &[
            "base",
            "domain",
            "config",
            "stats",
            "transport::origin",
            "transport::refusal",
            "transport::preamble",
        ],
    ),
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
        place: Place::OnlyIn(&["net/event_loop.rs", "load/poll.rs"]),
        instead: "go through the socket and the poll of net/event_loop.rs, or of load/poll.rs",
    },
    Ban {
        words: &["lapin"],
        place: Place::OnlyIn(&["broker/backplane/rabbit"]),
        instead: "go through the doors of broker/backplane/rabbit",
    },
    Ban {
        words: &["Instant", "SystemTime"],
        place: Place::NotIn(&["transport/", "codec/"]),
        instead: "leave time to the caller, who may take it as an argument",
    },
    Ban {
        words: &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "socket2", "tokio"],
        place: Place::NotIn(&["transport/", "codec/"]),
        instead: "take bytes and give bytes; the caller has the socket",
    },
    Ban {
        words: &["thread", "spawn"],
        place: Place::NotIn(&["transport/", "codec/"]),
        instead: "threads are started by the engine alone",
    },
    Ban {
        words: &["Mutex", "RwLock", "Condvar", "parking_lot"],
        place: Place::NotIn(&["transport/", "codec/", "session", "shard/"]),
        instead: "let one thread own it, and send mail",
    },
    Ban {
        words: &["tokio"],
        place: Place::NotIn(&["session", "shard/", "load/"]),
        instead: "a shard waits for nothing but its poll, and a load generator measures no runtime",
    },
];

/// Folders that every system of this kind has: text may name them.
const SYSTEM: &[&str] = &[
    "bin", "boot", "dev", "etc", "lib", "media", "mnt", "opt", "proc", "run", "srv", "sys", "tmp", "usr",
    "var",
];

/// A rule that is broken.
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
    let mut findings = lengths(path, source);
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

fn lengths(path: &str, source: &str) -> Vec<Finding> {
    let mut functions = Functions::default();
    functions.visit_file(&syn::parse_file(source).unwrap_or_else(|error| panic!("src/{path}: {error}")));
    let mut findings: Vec<Finding> = functions
        .extents
        .into_iter()
        .filter(|(_, first, last)| last - first + 1 > FUNCTION_LINES)
        .map(|(name, first, last)| Finding {
            file: format!("src/{path}"),
            line: first,
            rule: format!("`{name}` has {} lines, more than {FUNCTION_LINES}", last - first + 1),
            instead: "split it where a name says what a part does".to_owned(),
        })
        .collect();
    let lines = source.lines().count();
    if lines > FILE_LINES {
        findings.push(Finding {
            file: format!("src/{path}"),
            line: lines,
            rule: format!("{lines} lines, more than {FILE_LINES}"),
            instead: "split the file by what its parts are about, or move its tests to a tests.rs".to_owned(),
        });
    }
    findings
}

/// Name, first and last line of each function.
#[derive(Default)]
struct Functions {
    extents: Vec<(String, usize, usize)>,
}

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.fn_token.span.start().line;
        let last = block.brace_token.span.close().end().line;
        self.extents.push((signature.ident.to_string(), first, last));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// A word or sign of code, with its line. `::` is one word. Comments and strings are none.
struct Word {
    text: String,
    line: usize,
}

/// The words of a file, without those that are compiled for tests only.
fn words(tokens: TokenStream) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if token.to_string() == "#" && tokens.peek().is_some_and(is_for_tests) {
            while tokens.next().is_some_and(|token| !ends_item(&token)) {}
            continue;
        }
        let line = token.span().start().line;
        let text = match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    _ => ("(", ")"),
                };
                words.push(Word { text: open.to_owned(), line });
                words.extend(self::words(group.stream()));
                words.push(Word { text: close.to_owned(), line: group.span_close().start().line });
                continue;
            }
            TokenTree::Punct(sign)
                if sign.as_char() == ':' && words.last().is_some_and(|word| word.text == ":") =>
            {
                words.pop();
                "::".to_owned()
            }
            TokenTree::Literal(_) => "literal".to_owned(),
            TokenTree::Ident(_) | TokenTree::Punct(_) => token.to_string(),
        };
        words.push(Word { text, line });
    }
    words
}

fn is_for_tests(attribute: &TokenTree) -> bool {
    let text = attribute.to_string().replace(' ', "");
    text.starts_with("[cfg(test)") || text.starts_with("[cfg(all(test,")
}

fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        other => other.to_string() == ";",
    }
}

/// The room of a file: `shard` for `net/event_loop.rs`, `session` for `session.rs`.
fn room_of(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap_or_default()
}

/// How many modules a file is below the crate's root.
fn depth_of(path: &str) -> usize {
    path.split('/').filter(|part| *part != "mod.rs").count()
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

/// The first two parts of every path that goes out from the crate's root, with its line: `wire::encode`. `names` are the
/// root's own.
fn paths_from_root(names: &[&str], path: &str, words: &[Word]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let starts = at == 0 || words[at - 1].text != "::";
        let roots = match word.text.as_str() {
            name if starts && names.contains(&name) => 1,
            "super" if starts => depth_of(path),
            _ => continue,
        };
        // `super` leads to the root if it is said as often as the file is deep.
        let root = words[at..].chunks(2).take(roots);
        let climbs =
            root.clone().all(|step| step.len() == 2 && step[0].text == word.text && step[1].text == "::");
        if climbs {
            add_tree(&words[at + 2 * roots..], "", &mut found);
        }
    }
    found
}

/// Adds the paths of a use tree, or of a plain path, which is one without branches.
fn add_tree(words: &[Word], prefix: &str, found: &mut Vec<(String, usize)>) {
    let Some(first) = words.first() else { return };
    if first.text == "{" {
        let mut depth = 0;
        for (at, word) in words.iter().enumerate() {
            match word.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return;
            }
            if depth == 1 && matches!(word.text.as_str(), "{" | ",") && words[at + 1].text != "}" {
                add_tree(&words[at + 1..], prefix, found);
            }
        }
    } else if prefix.is_empty() && words.get(1).is_some_and(|word| word.text == "::") {
        add_tree(&words[2..], &first.text, found);
    } else {
        let place = if prefix.is_empty() { first.text.clone() } else { format!("{prefix}::{}", first.text) };
        found.push((place, first.line));
    }
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

/// Beginnings of paths that exist on one machine only, as far as this machine shows them.
fn private_paths() -> Vec<String> {
    let mut paths = vec![root().to_string_lossy().into_owned()];
    // Put together here, so that this file does not name them itself.
    paths.extend(["home", "root", "Users"].map(|folder| format!("/{folder}/")));
    let top = root().iter().nth(1).map(|folder| folder.to_string_lossy().into_owned());
    paths.extend(top.filter(|folder| !SYSTEM.contains(&&**folder)).map(|folder| format!("/{folder}/")));
    paths
}

fn machine_paths(file: &str, text: &str, private: &[String]) -> Vec<Finding> {
    let begins_path = |line: &str, at: usize| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-/".contains(before))
    };
    let names = |line: &str| {
        private.iter().any(|path| line.match_indices(path.as_str()).any(|(at, _)| begins_path(line, at)))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| names(line));
    lines
        .map(|(at, line)| Finding {
            file: file.to_owned(),
            line: at + 1,
            rule: format!("a path that only one machine has: {}", line.trim()),
            instead: "name it relative to the project, or find it at run time".to_owned(),
        })
        .collect()
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

#[test]
fn no_text_names_a_path_of_this_machine() {
    let private = private_paths();
    let mut findings = Vec::new();
    for path in files_below(root()) {
        // What is not text has no paths to read.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        findings.extend(machine_paths(&below(root(), &path), &text, &private));
    }
    report(&findings);
}

#[test]
fn every_rule_catches_its_offender() {
    let long_function = format!("fn long() {{\n{}}}", "\n".repeat(FUNCTION_LINES - 1));
    let long_method = format!("impl X {{ fn long() {{\n{}}} }}", "\n".repeat(FUNCTION_LINES - 1));
    let long_file = "\n".repeat(FILE_LINES + 1);
    let cases = [
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
            "session.rs",
            "fn f() { assert!(crate::net::event_loop::x()) }",
            "`session` may not know `net::event_loop`",
        ),
        (
            "broker/mod.rs",
            "use crate::transport::upgrade::upgrade;",
            "`broker` may not know `transport::upgrade`",
        ),
        ("control/api.rs", "use crate::codec::{json, push};", "`control` may not know `codec::json`"),
        ("shard/mod.rs", "use crate::engine;", "`shard` may not know `engine`"),
        ("novelty.rs", "", "the room `novelty` is new"),
        ("shard/mod.rs", "use mio::Poll;", "`mio` does not belong here"),
        ("control/mod.rs", "type C = lapin::Channel;", "`lapin` does not belong here"),
        ("transport/upgrade.rs", "fn f() -> std::time::Instant { x }", "`Instant` does not belong here"),
        ("codec/json.rs", "use std::net::TcpStream;", "`TcpStream` does not belong here"),
        (
            "transport/websocket/encode.rs",
            "fn f() { std::thread::yield_now() }",
            "`thread` does not belong here",
        ),
        ("shard/topics.rs", "struct S(parking_lot::Mutex<u8>);", "`Mutex` does not belong here"),
        ("shard/mod.rs", "use tokio::sync::mpsc;", "`tokio` does not belong here"),
        ("load/mod.rs", "use mio::Poll;", "`mio` does not belong here"),
        (
            "load/client.rs",
            "use crate::transport::websocket::decode;",
            "`load` may not know `transport::websocket`",
        ),
        ("engine/mod.rs", long_function.as_str(), "`long` has 71 lines, more than 70"),
        ("engine/mod.rs", long_method.as_str(), "`long` has 71 lines, more than 70"),
        ("engine/mod.rs", long_file.as_str(), "501 lines, more than 500"),
    ];
    for (path, source, rule) in cases {
        let findings = findings(path, source);
        let found = findings
            .iter()
            .any(|finding| finding.rule.contains(rule) && finding.file == format!("src/{path}"));
        assert!(found, "{source:?} in {path} was not found to break: {rule}");
    }
    let private = private_paths();
    let found = machine_paths("README.md", &format!("a\nsee `{}x`", private[1]), &private);
    assert!(matches!(&found[..], [Finding { line: 2, .. }]));
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
    let private = private_paths();
    report(&machine_paths("README.md", "`src/home/x`, https://a.example/home/, /usr/lib, /tmp/x", &private));
}
