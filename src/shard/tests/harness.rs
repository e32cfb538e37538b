//! The world around one shard of single histories: clients with scripted sockets, and the broker thread's queues.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use super::super::*;
use crate::base::mailbox::{Wake, mailbox};
use crate::config::{Allowed, Interval, Namespace, SlowPolicy};
use crate::domain::encoding::Encoding;
use crate::domain::mail::{KeyedLine, Lane, Lines, TopicSlot, Variant};
use crate::domain::reasons::CloseReason;
use crate::domain::receipt::{Receipt, receipt};
use crate::net::stream::Read;
use crate::transport::websocket::connection::WebSocket;

pub(in crate::shard) const UPGRADE: &str = "GET /connection/websocket HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What both ends of a connection share.
#[derive(Debug, Default)]
pub(in crate::shard) struct Pipe {
    pub(in crate::shard) to_server: VecDeque<u8>,
    /// The client sends no more.
    pub(in crate::shard) ended: bool,
    pub(in crate::shard) from_server: Vec<u8>,
    /// Bytes that the server may still write.
    pub(in crate::shard) room: usize,
    /// Whoever writes is told that the client is gone; what it sent can still be read.
    pub(in crate::shard) reset: bool,
    /// The server's stream takes everything, and keeps what there is no room for.
    pub(in crate::shard) keeps: bool,
    pub(in crate::shard) kept: Vec<u8>,
}

/// The server's end of a connection.
#[derive(Clone, Debug)]
pub(in crate::shard) struct End(pub(in crate::shard) Rc<RefCell<Pipe>>);

impl End {
    /// A connection that takes everything.
    pub(in crate::shard) fn open() -> Self {
        Self(Rc::new(RefCell::new(Pipe { room: usize::MAX, ..Pipe::default() })))
    }
}

impl Stream for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        let mut pipe = self.0.borrow_mut();
        if pipe.to_server.is_empty() {
            let end = Read { bytes: 0, drained: true };
            return if pipe.ended { Ok(end) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let taken = buffer.len().min(pipe.to_server.len());
        buffer.iter_mut().zip(pipe.to_server.drain(..taken)).for_each(|(place, byte)| *place = byte);
        Ok(Read { bytes: taken, drained: taken < buffer.len() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(pipe.room);
        pipe.room -= taken;
        pipe.from_server.extend_from_slice(&bytes[..taken]);
        if pipe.keeps {
            pipe.kept.extend_from_slice(&bytes[taken..]);
            return Ok(bytes.len());
        }
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn wants_write(&self) -> bool {
        !self.0.borrow().kept.is_empty()
    }

    fn flush(&mut self) -> io::Result<()> {
        let pipe = &mut *self.0.borrow_mut();
        let taken = pipe.kept.len().min(pipe.room);
        pipe.from_server.extend(pipe.kept.drain(..taken));
        pipe.room -= taken;
        if pipe.kept.is_empty() { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    fn shutdown(&mut self) {}
}

struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// A client, as it sees itself.
pub(in crate::shard) struct Peer {
    pub(in crate::shard) key: ClientKey,
    pub(in crate::shard) end: End,
}

impl Peer {
    pub(in crate::shard) fn pipe(&self) -> std::cell::RefMut<'_, Pipe> {
        self.end.0.borrow_mut()
    }

    /// What has come since this was asked last.
    pub(in crate::shard) fn got(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pipe().from_server)).into_owned()
    }
}

pub(in crate::shard) struct World {
    pub(in crate::shard) shard: Shard<End, WebSocket>,
    pub(in crate::shard) settings: Arc<EngineSettings>,
    pub(in crate::shard) mail: Sender<Mail>,
    pub(in crate::shard) requests: Receiver<Request>,
    pub(in crate::shard) receipt: Receipt,
    pub(in crate::shard) now: Clock,
}

impl World {
    pub(in crate::shard) fn new(config: Config) -> Self {
        let (mail, inbox) = mailbox(100, Box::new(NoWake));
        let (sender, requests) = mailbox(100, Box::new(NoWake));
        let (reporter, receipt) = receipt();
        let (settings, now) = (EngineSettings::of(config), Clock::now());
        let setup = Setup {
            id: 0,
            verifier: settings.verifier.clone(),
            node: NodeId::random(),
            namespaces: Arc::clone(&settings.namespaces),
            config: Arc::clone(&settings.config),
            upgrade: settings.upgrade.clone(),
            capacity: Arc::new(Capacity::new(1000)),
            shards: 1,
            inbox,
            requests: sender,
            reporter: Some(reporter),
            stats: Arc::default(),
        };
        Self { shard: Shard::new(setup, now.monotonic), settings, mail, requests, receipt, now }
    }

    pub(in crate::shard) fn tick(&mut self) {
        self.shard.rearm();
        let now = self.now;
        self.shard.tick(now, || now.monotonic);
    }

    pub(in crate::shard) fn later(&mut self, length: Duration) {
        self.now = self.now.after(length);
        self.tick();
    }

    pub(in crate::shard) fn tell(&mut self, mail: Mail) {
        assert!(self.mail.send(mail).is_ok(), "the mailbox has room");
        self.tick();
    }

    /// The configuration has changed.
    pub(in crate::shard) fn reload(&mut self, config: Config) {
        self.settings = self.settings.next(config);
        self.tell(Mail::Reload(Arc::clone(&self.settings)));
    }

    /// A client whose connection has been accepted.
    pub(in crate::shard) fn arrive(&mut self) -> Peer {
        let end = End::open();
        Peer { key: self.shard.admit(end.clone(), None, self.now.monotonic).expect("there is a place"), end }
    }

    /// Somebody who has connected in the protocol's sense.
    pub(in crate::shard) fn connect(&mut self) -> Peer {
        let peer = self.arrive();
        peer.pipe().to_server.extend(UPGRADE.bytes());
        self.say(&peer, r#"{"id":1,"connect":{}}"#);
        assert!(peer.got().contains(r#""connect""#));
        peer
    }

    /// Sends one message, as a client must mask it.
    pub(in crate::shard) fn say(&mut self, peer: &Peer, text: &str) {
        self.send_later(peer, text);
        self.shard.readable(peer.key.slot);
        self.tick();
    }

    /// The same, for the server to read with what follows.
    pub(in crate::shard) fn send_later(&self, peer: &Peer, text: &str) {
        let length = u16::try_from(text.len()).expect("a short message").to_be_bytes();
        let header = match text.len() {
            short @ ..=125 => vec![0x81, 0x80 | u8::try_from(short).expect("at most 125")],
            _ => vec![0x81, 0x80 | 126, length[0], length[1]],
        };
        peer.pipe().to_server.extend(header.into_iter().chain([0; 4]).chain(text.bytes()));
    }

    /// Subscribes somebody, and answers for the broker if it is asked.
    pub(in crate::shard) fn subscribe(&mut self, peer: &Peer, topic: &str) -> TopicSlot {
        self.say(peer, &format!(r#"{{"id":2,"subscribe":{{"channel":"{topic}"}}}}"#));
        if let Some(Request::Attach { topic, .. }) = self.requests.take() {
            self.tell(Mail::Attached { topic, position: None });
        }
        assert!(peer.got().contains(r#""subscribe""#));
        self.shard.topics.find(topic, PLAIN).expect("it is subscribed to")
    }

    /// The line has `bytes` bytes, its end included.
    pub(in crate::shard) fn publish(&mut self, topic: TopicSlot, bytes: u32) {
        self.publish_keyed(topic, bytes, None);
    }

    /// The same, with a key of which it is the latest.
    pub(in crate::shard) fn publish_latest(&mut self, topic: TopicSlot, bytes: u32, key: u64) {
        self.publish_keyed(topic, bytes, Some(Arc::new(vec![KeyedLine { key, from: 0, to: bytes }])));
    }

    pub(in crate::shard) fn publish_keyed(
        &mut self,
        topic: TopicSlot,
        bytes: u32,
        keyed: Option<Arc<Vec<KeyedLine>>>,
    ) {
        let mut line = vec![b'p'; bytes as usize - 1];
        line.push(b'\n');
        let lines = Lines { bytes: line.into(), count: 1, plain_bytes: bytes, offset: 0, keyed };
        self.tell(Mail::Batch { topic, lines });
    }

    pub(in crate::shard) fn give_room(&mut self, peer: &Peer, bytes: usize) {
        peer.pipe().room += bytes;
        self.shard.writable(peer.key.slot);
        self.tick();
    }

    pub(in crate::shard) fn is_alive(&self, peer: &Peer) -> bool {
        self.shard.clients.find(peer.key).is_some()
    }

    pub(in crate::shard) fn closes(&self, reason: CloseReason) -> u64 {
        self.shard.stats.closes[reason as usize].value()
    }
}

pub(in crate::shard) const PLAIN: Variant = Variant { encoding: Encoding::Json, lane: Lane::FIRST };

/// A line of this many bytes is a frame of as many and one more, its end being left out.
pub(in crate::shard) const LINE: u32 = 100;
pub(in crate::shard) const FRAME: usize = LINE as usize + 1;

pub(in crate::shard) fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    config.timeouts.ping = Interval::from_secs(3600);
    change(&mut config);
    config
}

/// The namespace `h`, whose histories every client may read.
pub(in crate::shard) fn readable() -> (String, Namespace) {
    let namespace = Namespace { history_size: 10, client_history: Allowed::EVERYONE, ..Namespace::default() };
    ("h".to_owned(), namespace)
}

pub(in crate::shard) fn policy(slow: SlowPolicy) -> (String, Namespace) {
    ("n".to_owned(), Namespace { slow, client_publish: Allowed::EVERYONE, ..Namespace::default() })
}
