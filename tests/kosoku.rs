//! Conformance to RFC 6455 and 7692: Autobahn's cases 1 to 7, 10, 12 and 13, by kosoku, against an echo behind the
//! shipped shard and decoder. Only what is done with a message is replaced.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use fanfare::codec::deflate::{Deflater, TAIL};
use fanfare::config::{Config, Interval, Namespace};
use fanfare::engine::Engine;
use fanfare::shard::{Application, Shard, Socket};
use fanfare::transport::websocket::encode::{Opcode, header};
use fanfare::transport::websocket::extension::Deflate;
use serde_json::Value;

/// The chapters, but for 9, which measures only.
const CHAPTERS: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 10, 12, 13];

/// Cases of these chapters: 247 without compression, 216 with it. Fewer would mean that some were not run.
const CASES: usize = 247 + 216;

/// Beyond this nothing is compressed that is sent back, only stored.
const LARGE: usize = 16 << 10;

/// Sends back what comes; compressed to those with whom that was agreed on, as the chapters 12 and 13 expect.
#[derive(Debug)]
struct Echo;

thread_local! {
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

impl Echo {
    fn echo<S: Socket>(shard: &mut Shard<S, Self>, slot: u32, opcode: Opcode, payload: &[u8]) {
        // Stored blocks suit the smallest window, and save minutes where messages are large.
        let min_bytes = match shard.deflate(slot) {
            Deflate::Off => return shard.answer(slot, opcode, payload),
            Deflate::Both if payload.len() <= LARGE => 0,
            Deflate::Both | Deflate::FromClient => usize::MAX,
        };
        DEFLATER.with_borrow_mut(|deflater| {
            let segment = deflater.segment(payload, min_bytes);
            let message = &segment[..segment.len() - TAIL.len()];
            shard.append_frames(slot, header(opcode, message.len()).compressed().as_bytes());
            shard.append_frames(slot, message);
        });
    }
}

impl Application for Echo {
    fn text<S: Socket>(shard: &mut Shard<S, Self>, slot: u32, text: Cow<'_, str>) {
        Self::echo(shard, slot, Opcode::Text, text.as_bytes());
    }

    fn binary<S: Socket>(shard: &mut Shard<S, Self>, slot: u32, bytes: Cow<'_, [u8]>) {
        Self::echo(shard, slot, Opcode::Binary, &bytes);
    }

    fn resume<S: Socket>(_: &mut Shard<S, Self>, _: u32, _: &[u8]) {
        unreachable!("an echo waits for nothing")
    }
}

#[test]
fn no_case_of_autobahns_fails() {
    let mut config = Config::default();
    config.server.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    config.server.path = "/".to_owned();
    config.server.shards = 1;
    config.control.listen = "127.0.0.1:0".parse().expect("an address");
    config.limits.message_bytes = 1 << 20;
    // No case sends a connect command, and some take long.
    config.timeouts.connect = Interval::from_secs(3600);
    let deflate = Namespace { deflate: true, ..Namespace::default() };
    config.namespaces.insert("default".to_owned(), deflate);
    let engine = Engine::start_with::<Echo>(config, false).expect("the echo starts");
    let address = engine.client_addresses()[0];

    let reports = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kosoku-{}", std::process::id()));
    let results = run_kosoku(&address.to_string(), &reports);
    assert_eq!(results.len(), CASES, "cases that were run");
    let failed: Vec<_> = results.iter().filter(|(_, behavior)| !is_fine(behavior)).collect();
    assert!(failed.is_empty(), "{failed:?}; what happened is in {}", reports.display());
    std::fs::remove_dir_all(&reports).expect("the reports can be removed");
}

/// NON-STRICT is Autobahn's word for an order or a moment that the RFC leaves open; INFORMATIONAL for what it
/// only looks at.
fn is_fine(behavior: &str) -> bool {
    ["OK", "NON-STRICT", "INFORMATIONAL"].contains(&behavior)
}

/// Runs the chapters: the behavior in each case.
fn run_kosoku(address: &str, reports: &Path) -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("tests/.cache/venv/bin/kosoku");
    assert!(program.exists(), "{} is missing: run `tests/run --install`", program.display());
    let mut command = Command::new(program);
    command.args(["--mode", "fuzzingclient", "--parallelism", "4", "--outdir"]).arg(reports);
    for chapter in CHAPTERS {
        command.arg("--include").arg(format!("{chapter}.*"));
    }
    let output = command.arg(address).output().expect("kosoku can be run");
    let index = std::fs::read(reports.join("index.json"))
        .unwrap_or_else(|error| panic!("no report ({error}): {}", String::from_utf8_lossy(&output.stderr)));
    let index: Value = serde_json::from_slice(&index).expect("the report is JSON");
    let agent = index.as_object().and_then(|agents| agents.values().next()).and_then(Value::as_object);
    let cases = agent.expect("the report has our server").iter();
    let behavior = |case: &Value| case["behavior"].as_str().unwrap_or("no behavior").to_owned();
    cases.map(|(name, case)| (name.clone(), behavior(case))).collect()
}
