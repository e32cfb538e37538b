//! Conformance to RFC 6455 and 7692: Autobahn's cases 1 to 7, 10, 12 and 13, by kosoku, against an echo of the shipped
//! transport: its HTTP head, its decoder, its close handshake. Each connection has a thread, and no shard.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fanfare::codec::deflate::{Deflater, Inflater, TAIL};
use fanfare::domain::reasons::CloseReason;
use fanfare::transport::framing::Framing;
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

/// How long a peer may take to answer our close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends back what comes; compressed to those with whom that was agreed on, as the chapters 12 and 13 expect.
#[derive(Default)]
struct Echo {
    connection: WebSocket,
    inflater: Inflater,
    deflater: Deflater,
    /// What is no whole frame yet.
    input: Vec<u8>,
    /// What is to be sent.
    out: Vec<u8>,
}

impl Echo {
    /// Serves a connection to its end.
    fn serve(mut self, mut stream: TcpStream, policy: &Policy) -> std::io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            self.input.extend_from_slice(&buffer[..read]);
            self.take_frames(policy);
            stream.write_all(&std::mem::take(&mut self.out))?;
            if self.connection.phase() == Phase::Closing {
                match self.connection.ending() {
                    Ending::Gone => return Ok(()),
                    Ending::Shutdown => stream.shutdown(Shutdown::Write)?,
                    Ending::Wait => stream.set_read_timeout(Some(CLOSE_TIMEOUT))?,
                }
            }
        }
    }

    /// Does what all whole frames of the input mean.
    fn take_frames(&mut self, policy: &Policy) {
        let (mut input, mut at) = (std::mem::take(&mut self.input), 0);
        while at < input.len() {
            let (consumed, step) = self.connection.step(&mut input[at..], policy, &mut self.inflater);
            at += consumed;
            match step {
                Step::Incomplete => break,
                Step::Nothing | Step::Pong => {}
                Step::Upgraded { response, .. } => self.out.extend(response),
                Step::Refused { refusal, .. } => self.connection.refuse(&mut self.out, refusal),
                Step::Message(message) => self.echo(message),
                Step::Ping(payload) => self.connection.put_pong(&mut self.out, payload),
                Step::PeerCloses(code) => {
                    if self.connection.phase() == Phase::Open {
                        self.connection.answer_close(&mut self.out, code);
                    }
                }
                Step::Broken(violation) => {
                    let reason = CloseReason::from(violation);
                    self.connection.close(&mut self.out, reason.code(), reason.text());
                    at = input.len();
                }
            }
        }
        input.drain(..at);
        self.input = input;
    }

    fn echo(&mut self, message: Message<'_>) {
        let (bytes, plain, compressed) = match message {
            Message::Text(Cow::Borrowed(text)) => {
                (Cow::Borrowed(text.as_bytes()), Framing::Text, Framing::CompressedText)
            }
            Message::Text(Cow::Owned(text)) => {
                (Cow::Owned(text.into_bytes()), Framing::Text, Framing::CompressedText)
            }
            Message::Binary(bytes) => (bytes, Framing::Binary, Framing::CompressedBinary),
        };
        // Stored blocks suit the smallest window, and save minutes where messages are large.
        let min_bytes = match self.connection.deflate() {
            Deflate::Off => return plain.put(&mut self.out, &bytes, b""),
            Deflate::Both if bytes.len() <= LARGE => 0,
            Deflate::Both | Deflate::FromClient => usize::MAX,
        };
        compressed.put(&mut self.out, self.deflater.segment(&bytes, min_bytes), &TAIL);
    }
}

/// Where an echo listens.
fn start_echo() -> SocketAddr {
    let upgrade = UpgradePolicy {
        path: "/".to_owned(),
        head_bytes: 8 << 10,
        allowed_origins: Vec::new(),
        page_port: 0,
        open_on_loopback: false,
        deflate: true,
    };
    let policy: &Policy = Box::leak(Box::new(Policy { upgrade, message_bytes: 1 << 20 }));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // A connection that the peer drops is none of ours to mend: the report says what it found.
            std::thread::spawn(move || drop(Echo::default().serve(stream, policy)));
        }
    });
    address
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
