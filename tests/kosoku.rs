//! Conformance to RFC 6455 and 7692: Autobahn's cases 1 to 7, 10, 12 and 13, by kosoku, against an echo behind the
//! shipped event loop, shard and transport. Only what is done with a message is replaced.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use fanfare::auth::{Keys, Verifier};
use fanfare::base::capacity::Capacity;
use fanfare::base::mailbox::{Wake, mailbox};
use fanfare::codec::deflate::{Deflater, Inflater, TAIL};
use fanfare::config::{Config, Interval};
use fanfare::domain::client_id::NodeId;
use fanfare::domain::codec::Codec;
use fanfare::domain::encoding::Encoding;
use fanfare::domain::namespaces::Namespaces;
use fanfare::net::event_loop::{Loop, ShardPoll};
use fanfare::net::listener::Listener;
use fanfare::shard::Setup;
use fanfare::stats::ShardStats;
use fanfare::transport::credential::CredentialPlaces;
use fanfare::transport::framing::Framing;
use fanfare::transport::refusal::Refusal;
use fanfare::transport::upgrade::UpgradePolicy;
use fanfare::transport::websocket::connection::WebSocket;
use fanfare::transport::websocket::extension::Deflate;
use fanfare::transport::{Ending, Message, Phase, Policy, Step, Transport};
use serde_json::Value;

/// The chapters, but for 9, which measures only.
const CHAPTERS: [u8; 10] = [1, 2, 3, 4, 5, 6, 7, 10, 12, 13];

/// Cases of these chapters: 247 without compression, 216 with it. Fewer would mean that some were not run.
const CASES: usize = 247 + 216;

/// Beyond this nothing is compressed that is sent back, only stored.
const LARGE: usize = 16 << 10;

thread_local! {
    static DEFLATER: RefCell<Deflater> = RefCell::default();
}

/// The shipped transport, but that a message is to its shard a ping: the answer to it is the echo. It is compressed for
/// those with whom that was agreed on, as the chapters 12 and 13 expect.
#[derive(Debug, Default)]
struct Echo {
    connection: WebSocket,
    /// What the next pong is.
    echo: RefCell<Vec<u8>>,
}

impl Echo {
    fn keep(&self, message: &Message<'_>) {
        let (bytes, plain, compressed) = match message {
            Message::Text(text) => (text.as_bytes(), Framing::Text, Framing::CompressedText),
            Message::Binary(bytes) => (&**bytes, Framing::Binary, Framing::CompressedBinary),
        };
        let out = &mut *self.echo.borrow_mut();
        // Stored blocks suit the smallest window, and save minutes where messages are large.
        let min_bytes = match self.connection.deflate() {
            Deflate::Off => return plain.put(out, bytes, b""),
            Deflate::Both if bytes.len() <= LARGE => 0,
            Deflate::Both | Deflate::FromClient => usize::MAX,
        };
        DEFLATER.with_borrow_mut(|deflater| compressed.put(out, deflater.segment(bytes, min_bytes), &TAIL));
    }
}

impl Transport for Echo {
    const NAME: &'static str = "test";

    fn step<'a>(
        &mut self,
        input: &'a mut [u8],
        policy: &Policy,
        inflater: &mut Inflater,
    ) -> (usize, Step<'a>) {
        match self.connection.step(input, policy, inflater) {
            (used, Step::Message(message)) => {
                self.keep(&message);
                (used, Step::Ping(b""))
            }
            other => other,
        }
    }

    fn put_pong(&self, out: &mut Vec<u8>, payload: &[u8]) {
        let echo = self.echo.take();
        if echo.is_empty() { self.connection.put_pong(out, payload) } else { out.extend(echo) }
    }

    fn phase(&self) -> Phase {
        self.connection.phase()
    }

    fn is_in_message(&self) -> bool {
        self.connection.is_in_message()
    }

    fn assembled_bytes(&self) -> usize {
        self.connection.assembled_bytes()
    }

    fn codec(&self) -> Codec {
        self.connection.codec()
    }

    fn framing(&self, encoding: Encoding) -> Framing {
        self.connection.framing(encoding)
    }

    fn takes_compressed(&self) -> bool {
        self.connection.takes_compressed()
    }

    fn has_pings(&self) -> bool {
        self.connection.has_pings()
    }

    fn answer_in_bytes(&mut self) {
        self.connection.answer_in_bytes();
    }

    fn put_ping(&self, out: &mut Vec<u8>) {
        self.connection.put_ping(out);
    }

    fn close(&mut self, out: &mut Vec<u8>, code: u16, text: &str) {
        self.connection.close(out, code, text);
    }

    fn answer_close(&mut self, out: &mut Vec<u8>, code: Option<u16>) {
        self.connection.answer_close(out, code);
    }

    fn refuse(&mut self, out: &mut Vec<u8>, refusal: Refusal) {
        self.connection.refuse(out, refusal);
    }

    fn ending(&self) -> Ending {
        self.connection.ending()
    }
}

/// Nobody sends mail or takes requests.
struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// Where an echo listens.
fn start_echo() -> SocketAddr {
    let listener = Listener::open(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port is free");
    let address = listener.address();
    let (poll, _) = ShardPoll::new().expect("there are descriptors");
    let setup = setup();
    std::thread::spawn(move || {
        let turning = Loop::<Echo>::new(setup, poll, vec![listener], usize::MAX, Instant::now());
        turning.expect("the listener can be watched").run().expect("the poll works")
    });
    address
}

fn setup() -> Setup {
    let mut config = Config::default();
    config.limits.message_bytes = 1 << 20;
    // No case sends a connect command, and some take long.
    config.timeouts.connect = Interval::from_secs(3600);
    let (_, inbox) = mailbox(1, Box::new(NoWake));
    let (requests, _) = mailbox(1, Box::new(NoWake));
    Setup {
        id: 0,
        node: NodeId::random(),
        verifier: Verifier::new(&config, Keys::default()),
        namespaces: Arc::new(Namespaces::new(&config)),
        config: Arc::new(config),
        upgrade: UpgradePolicy {
            path: "/".to_owned(),
            head_bytes: 8 << 10,
            allowed_origins: Vec::new(),
            page_port: 0,
            open_on_loopback: false,
            deflate: true,
            credentials: CredentialPlaces::default(),
        },
        capacity: Arc::new(Capacity::new(usize::MAX)),
        shards: 1,
        inbox,
        requests,
        reporter: None,
        stats: Arc::new(ShardStats::default()),
    }
}

#[test]
fn no_case_of_autobahns_fails() {
    let address = start_echo();

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
