//! The control port with its surroundings: a real socket, and a thread that answers requests as the broker
//! would. And an HTTP client that shows what really came.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::base::mailbox::{Receiver, Wake, mailbox};
use crate::config::{Config, Reload};
use crate::control::{Setup, bind, run};
use crate::domain::client_id::{ClientId, NodeId};
use crate::domain::lifecycle::{Lifecycle, Phase};
use crate::domain::mail::{ClientKey, Numbered, PublishFault, ReplyTo, Request};
use crate::domain::position::Position;
use crate::domain::reasons::ErrorCode;
use crate::domain::settings::{EngineSettings, Reloaded, SettingsSource};
use crate::stats::{BackplaneState, Stats};

/// How long a test waits for anything.
pub(in crate::control) const TIMEOUT: Duration = Duration::from_secs(10);

/// After which nothing more is expected to come of its own accord.
const QUIET: Duration = Duration::from_millis(200);

/// Counts how often the broker thread is woken.
struct Wakes(Arc<AtomicUsize>);
impl Wake for Wakes {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The configuration as it would be read again. `None`: it cannot be used.
#[derive(Debug, Default)]
pub(in crate::control) struct Files(pub(in crate::control) Mutex<Option<Config>>);

impl SettingsSource for Files {
    fn read(&self, in_force: &EngineSettings) -> Result<Reloaded, Box<dyn Error + Send + Sync>> {
        let config = self.0.lock().clone().ok_or("line 1: wrong\nline 2: wrong, too")?;
        let Reload { config, changed, needs_restart } = in_force.config.reload(config)?;
        Ok(Reloaded { settings: in_force.next(config), changed, needs_restart })
    }

    fn adopted(&self, _: &EngineSettings) {}
}

/// A control port with its surroundings.
pub(in crate::control) struct Harness {
    pub(in crate::control) address: SocketAddr,
    pub(in crate::control) node: NodeId,
    pub(in crate::control) lifecycle: Arc<Lifecycle>,
    pub(in crate::control) stats: Stats,
    /// What the broker thread was asked for, in words.
    heard: mpsc::Receiver<String>,
    /// What is read again.
    pub(in crate::control) files: Arc<Files>,
    /// How often it was woken.
    pub(in crate::control) wakes: Arc<AtomicUsize>,
    pub(in crate::control) stop: Option<oneshot::Sender<()>>,
    /// Whether the broker thread ends.
    pub(in crate::control) broker_stops: Arc<AtomicBool>,
    /// Whether it takes no requests.
    pub(in crate::control) broker_hangs: Arc<AtomicBool>,
    /// Whether the second shard hangs.
    pub(in crate::control) shard_hangs: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Harness {
    pub(in crate::control) fn open(config: Config) -> Self {
        let wakes = Arc::<AtomicUsize>::default();
        let (requests, mailbox) = mailbox(4, Box::new(Wakes(Arc::clone(&wakes))));
        let (said, heard) = mpsc::channel();
        let broker_stops = Arc::new(AtomicBool::new(false));
        let broker_hangs = Arc::<AtomicBool>::default();
        let (stops, broker_sleeps) = (Arc::clone(&broker_stops), Arc::clone(&broker_hangs));
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (settings, files) = (EngineSettings::of(config), Arc::<Files>::default());
        let setup = Setup {
            stats: Stats::new(2, settings.namespaces.names()),
            settings,
            source: Arc::clone(&files) as Arc<dyn SettingsSource>,
            reload: Arc::default(),
            node: NodeId::random(),
            requests,
            clients: vec!["ws://127.0.0.1:8000/connection/websocket".to_owned()],
            lifecycle: Arc::default(),
            key_set: None,
            demo: false,
        };
        setup.stats.broker.backplane.set(BackplaneState::Ready as u64);
        setup.lifecycle.enter(Phase::Serving);
        let shard_hangs = Arc::<AtomicBool>::default();
        let (shards, hangs) = (setup.stats.shards.clone(), Arc::clone(&shard_hangs));
        let broker = thread::spawn(move || {
            play_broker(mailbox, &said, &broker_sleeps, || {
                let turning = if hangs.load(Ordering::Relaxed) { &shards[..1] } else { &shards[..] };
                turning.iter().for_each(|shard| shard.ticks.add(1));
                !stops.load(Ordering::Relaxed)
            });
        });
        let (node, stats, lifecycle) = (setup.node, setup.stats.clone(), Arc::clone(&setup.lifecycle));
        let control = thread::spawn(move || run(setup, listener, stopped).unwrap());
        let threads = vec![control, broker];
        Self {
            address,
            node,
            lifecycle,
            stats,
            heard,
            files,
            wakes,
            stop: Some(stop),
            broker_stops,
            broker_hangs,
            shard_hangs,
            threads,
        }
    }

    pub(in crate::control) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    }

    pub(in crate::control) fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request(path, headers, body).as_bytes()).unwrap();
        Answer::read(&mut stream)
    }

    pub(in crate::control) fn ask(&self, method: &str, body: &str) -> Value {
        let answer = self.post(&format!("/api/{method}"), "", body);
        assert_eq!(answer.status, 200, "{method} {body}");
        answer.json()
    }

    pub(in crate::control) fn get(&self, path: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        Answer::read(&mut stream)
    }

    pub(in crate::control) fn heard(&self) -> String {
        self.heard.recv_timeout(TIMEOUT).unwrap()
    }

    /// All that the broker thread was asked for until now.
    pub(in crate::control) fn all_heard(&self) -> Vec<String> {
        self.heard.try_iter().collect()
    }

    pub(in crate::control) fn id(&self, shard: u16) -> String {
        ClientId { node: self.node, shard, key: ClientKey { slot: 5, generation: 2 } }.to_string()
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.broker_stops.store(true, Ordering::Relaxed);
        let joined: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        assert!(thread::panicking() || joined.iter().all(Result::is_ok), "a thread of the house panicked");
    }
}

/// Answers requests, unless it `hangs`, while `goes_on`, which is asked at each turn.
fn play_broker(
    mut mailbox: Receiver<Request>,
    said: &mpsc::Sender<String>,
    hangs: &AtomicBool,
    goes_on: impl Fn() -> bool,
) {
    let (mut held, mut since) = (Vec::new(), Instant::now());
    while goes_on() {
        mailbox.rearm();
        while !hangs.load(Ordering::Relaxed)
            && let Some(request) = mailbox.take()
        {
            // A test that does not listen is not interested.
            let _ = said.send(describe(&request));
            if is_held(&request) {
                held.push(request);
                since = Instant::now();
            } else {
                answer(request);
            }
        }
        if !held.is_empty() && since.elapsed() > QUIET {
            let _ = said.send(format!("{} at once", held.len()));
            held.drain(..).for_each(answer);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether it is answered only when nothing more comes.
fn is_held(request: &Request) -> bool {
    matches!(request, Request::Publish(publish) if publish.topics[0].starts_with("held"))
}

fn describe(request: &Request) -> String {
    match request {
        Request::Publish(publish) => {
            let (topics, data) = (publish.topics.join(","), String::from_utf8_lossy(&publish.data));
            let id = publish.id.as_ref().map_or(String::new(), |id| format!(" as {id}"));
            let key = publish.key.as_ref().map_or(String::new(), |key| format!(" of {key}"));
            let kept = if publish.skips_history { " and forget it" } else { "" };
            format!("publish {topics} {data}{id}{key}{kept}")
        }
        Request::Survey(_) => "survey".to_owned(),
        Request::Reload(_) => "reload".to_owned(),
        other => format!("{other:?}"),
    }
}

fn answer(request: Request) {
    match request {
        Request::Publish(publish) => {
            let ReplyTo::Control(reply) = publish.reply_to else { panic!("not for the control thread") };
            let outcome = match &*publish.topics[0] {
                "fails" => Err(ErrorCode::Internal.into()),
                "refused" => Err(PublishFault { code: ErrorCode::Internal, refusal: Some("NO_WAY".into()) }),
                "busy" => Err(ErrorCode::TooManyRequests.into()),
                "narrow" => Err(ErrorCode::LimitExceeded.into()),
                "slow" => {
                    thread::sleep(Duration::from_millis(50));
                    Ok(Numbered::new())
                }
                "lost" => return,
                "silent" => return std::mem::forget(reply),
                _ => Ok(publish.topics.iter().filter_map(|topic| numbered(topic)).collect()),
            };
            reply.send(outcome);
        }
        Request::RemoveHistory { reply_to: ReplyTo::Control(reply), .. } => reply.send(Ok(Numbered::new())),
        Request::Survey(pieces) => {
            pieces.send(Ok(vec![("order.42".into(), 2), ("prices.BTC".into(), 1)])).unwrap();
            pieces.send(Ok(vec![("order.42".into(), 3), ("order.7".into(), 1)])).unwrap();
        }
        _ => {}
    }
}

/// Topics with a number in their names have a history.
fn numbered(topic: &str) -> Option<(Box<str>, Position)> {
    let (_, offset) = topic.split_once('#')?;
    Some((topic.into(), Position { epoch: "e".into(), offset: offset.parse().ok()? }))
}

pub(in crate::control) fn request(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

/// An HTTP/1.1 answer with a content length.
pub(in crate::control) struct Answer {
    pub(in crate::control) status: u16,
    pub(in crate::control) head: String,
    pub(in crate::control) body: String,
}

impl Answer {
    pub(in crate::control) fn read(stream: &mut TcpStream) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let mut body = vec![0; field("content-length").map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { status, body: String::from_utf8(body).unwrap(), head }
    }

    pub(in crate::control) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(in crate::control) fn error_code(&self) -> u64 {
        self.json()["error"]["code"].as_u64().unwrap()
    }
}
