//! What clients do: they come, subscribe, stall, send too much, and go.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use super::asking::{Expiry, Said};
use super::broker::{EPOCH, OFFSETS_APART};
use super::kind::{HALF, READ_BYTES};
use super::socket::{FakeSocket, Pipe};
use super::{Edge, TOPICS, World};
use crate::frames::{PING, TEXT, frame};
use crate::raw::{END, REQUEST};
use crate::wire::compressed_frame;
use fanfare::domain::mail::ClientKey;

pub(super) const CLIENTS_MAX: usize = 7;
/// A command that changes nothing.
pub(super) const NOTHING: &str = "\"unsubscribe\":{\"channel\":\"r:nobody\"}";
/// Bytes of a command that comes compressed: counted as the message that it is and as a command, it takes a whole share
/// of [`READ_BYTES`].
const PADDED: usize = 390;

#[derive(Debug)]
pub(super) enum Asked {
    /// With a token that brings these subscriptions, or as the backend says.
    Connect {
        topics: Vec<Brought>,
        /// Without a token: the topics in which it wants to go on.
        resumed: Option<Vec<&'static str>>,
    },
    /// What had surely been taken by the shard of the topic's publications when it was asked.
    Subscribe {
        topic: &'static str,
        floor: u64,
        resumes: bool,
    },
    Unsubscribe {
        topic: &'static str,
    },
    Publish {
        topic: &'static str,
    },
    /// A request for the backend.
    Rpc {
        /// Whether its method has one.
        has_backend: bool,
        /// How many others were not answered.
        others: usize,
    },
    /// Something that is not permitted.
    Refused {
        topic: &'static str,
        /// The error of the reply.
        code: u64,
        publishes: bool,
    },
}

impl Asked {
    pub(super) fn topic(&self) -> Option<&'static str> {
        match self {
            Self::Connect { .. } | Self::Rpc { .. } => None,
            Self::Subscribe { topic, .. }
            | Self::Unsubscribe { topic }
            | Self::Publish { topic }
            | Self::Refused { topic, .. } => Some(topic),
        }
    }

    /// Whether it fails, perhaps, if a topic cannot be attached. Who knows what a connect brings?
    pub(super) fn needs(&self, name: &str) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Subscribe { topic, .. } => *topic == name,
            _ => false,
        }
    }

    pub(super) fn publishes(&self) -> bool {
        matches!(self, Self::Publish { .. } | Self::Refused { publishes: true, .. })
    }
}

/// A subscription that the token of a connect brings, as in [`Asked::Subscribe`].
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) topic: &'static str,
    pub(super) floor: u64,
    pub(super) resumes: bool,
}

/// A subscription as its client sees it.
#[derive(Debug)]
pub(super) struct Run {
    /// The client's token has brought it.
    pub(super) is_server_side: bool,
    pub(super) floor: u64,
    pub(super) ceiling: u64,
    pub(super) last: Option<u64>,
    /// By key: the publication that was left out last, for which a later one of the key has to come.
    pub(super) owed: BTreeMap<u64, u64>,
    /// When it expires, as the backend has said.
    pub(super) expiry: Option<Expiry>,
}

/// A client.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) slot: u32,
    pub(super) key: ClientKey,
    pub(super) pipe: Rc<RefCell<Pipe>>,
    pub(super) input: Vec<u8>,
    pub(super) upgraded: bool,
    /// It is no WebSocket.
    pub(super) raw: bool,
    /// The rest of a message that was sent in part: it goes before anything else.
    pub(super) rest: Vec<u8>,
    /// It offered compression.
    pub(super) inflates: bool,
    pub(super) asked: BTreeMap<u32, Asked>,
    pub(super) next_id: u32,
    pub(super) runs: HashMap<&'static str, Run>,
    /// Pongs and replies that came in this tick.
    pub(super) pongs: u64,
    pub(super) replies: u64,
    pub(super) stalled: bool,
    /// It did something for which the server may treat it worse than others.
    pub(super) excused: bool,
    pub(super) closed: Option<u16>,
    /// The command for which it is to be closed, and with which code.
    pub(super) fault: Option<(u32, u16)>,
    pub(super) said: Said,
    /// Commands that fail, perhaps, because a topic could not be attached.
    pub(super) may_fail: BTreeSet<u32>,
}

impl Peer {
    /// A text as its transport sends it.
    fn message(&self, text: &[u8]) -> Vec<u8> {
        if self.raw { [text, &[END]].concat() } else { frame(TEXT, text) }
    }
}

impl World {
    pub(super) fn connect(&mut self) {
        let peer = self.arrive();
        let asked = Asked::Connect { topics: Vec::new(), resumed: Some(Vec::new()) };
        self.command(peer, "\"connect\":{}", asked);
    }

    /// Somebody who has not connected yet.
    pub(super) fn arrive(&mut self) -> usize {
        let room = self.scale * self.random.below(1500);
        let pipe = Rc::new(RefCell::new(Pipe { room, keeps: self.random.one_in(3), ..Pipe::default() }));
        let raw = self.random.one_in(4);
        let vacancy = self.shard.vacancy();
        let socket = FakeSocket(Rc::clone(&pipe));
        let key = self.shard.admit(socket, None, self.now.monotonic).expect("there is a place");
        assert_eq!(key, vacancy);
        self.peers.push(Peer {
            slot: key.slot,
            key,
            pipe,
            input: Vec::new(),
            upgraded: false,
            rest: Vec::new(),
            raw,
            inflates: !raw && self.random.one_in(2),
            asked: BTreeMap::new(),
            next_id: 1,
            runs: HashMap::new(),
            pongs: 0,
            replies: 0,
            stalled: false,
            excused: false,
            closed: None,
            fault: None,
            said: Said::default(),
            may_fail: BTreeSet::new(),
        });
        let peer = self.peers.len() - 1;
        let head = "GET /connection/websocket HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let offer =
            if self.peers[peer].inflates { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        let request = if raw { REQUEST.to_vec() } else { format!("{head}{offer}\r\n").into_bytes() };
        self.send(peer, &request);
        self.events.connects += 1;
        peer
    }

    pub(super) fn hang_up(&mut self, peer: usize) {
        let resets = self.random.one_in(2);
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
    pub(super) fn say_last_words(&mut self, peer: usize) {
        let id = self.peers[peer].next_id;
        let topic = TOPICS[self.random.below(TOPICS.len())];
        let mut message = String::new();
        for id in id..id + 3 {
            message += &format!("{{\"id\":{id},\"unsubscribe\":{{\"channel\":\"r:nobody\"}}}}\n");
        }
        message += &format!("{{\"id\":{},\"subscribe\":{{\"channel\":\"{topic}\"}}}}", id + 3);
        self.send_message(peer, message.as_bytes());
    }

    pub(super) fn subscribe(&mut self, peer: usize) {
        let topic = TOPICS[self.random.below(TOPICS.len())];
        if self.is_free(peer, topic) {
            self.subscribe_to(peer, topic);
        }
    }

    pub(super) fn subscribe_to(&mut self, peer: usize, topic: &'static str) {
        let floor = self.settled.get(topic).copied().unwrap_or(0);
        let resume = self.resume(topic).map(|resume| format!(",{resume}"));
        let asked = Asked::Subscribe { topic, floor, resumes: resume.is_some() };
        let resume = resume.unwrap_or_default();
        self.command(peer, &format!("\"subscribe\":{{\"channel\":\"{topic}\"{resume}}}"), asked);
        self.events.subscribes += 1;
    }

    /// The fields that ask for what came after somebody's place, if there is one.
    pub(super) fn resume(&mut self, topic: &'static str) -> Option<String> {
        let offset = self.somebodys_place(topic)? * OFFSETS_APART;
        Some(format!("\"recover\":true,\"epoch\":\"{EPOCH}\",\"offset\":{offset}"))
    }

    /// Where some client was when it left a topic with history: another one goes on from there, as a browser
    /// does on a new connection. Sometimes it is one that never was there.
    pub(super) fn somebodys_place(&mut self, topic: &'static str) -> Option<u64> {
        if !topic.starts_with('h') || self.random.one_in(3) {
            return None;
        }
        let place = self.left_at.iter().position(|&(left, _)| left == topic)?;
        Some(self.left_at.swap_remove(place).1)
    }

    /// Whether the client neither has the topic nor is about to.
    pub(super) fn is_free(&self, peer: usize, topic: &str) -> bool {
        let asks = |asked: &Asked| match asked {
            Asked::Subscribe { topic: other, .. } | Asked::Unsubscribe { topic: other } => *other == topic,
            _ => false,
        };
        !self.peers[peer].runs.contains_key(topic) && !self.peers[peer].asked.values().any(asks)
    }

    pub(super) fn unsubscribe(&mut self, peer: usize) {
        let Some(&topic) = self.peers[peer].runs.keys().min() else { return };
        let unsubscribing =
            self.peers[peer].asked.values().any(|asked| matches!(asked, Asked::Unsubscribe { .. }));
        if !unsubscribing {
            self.command(
                peer,
                &format!("\"unsubscribe\":{{\"channel\":\"{topic}\"}}"),
                Asked::Unsubscribe { topic },
            );
            self.events.unsubscribes += 1;
        }
    }

    pub(super) fn publish_as(&mut self, peer: usize) {
        let topic = if self.random.one_in(2) { "r:x" } else { "r:y" };
        self.command(
            peer,
            &format!("\"publish\":{{\"channel\":\"{topic}\",\"data\":1}}"),
            Asked::Publish { topic },
        );
        self.events.client_publishes += 1;
    }

    /// More input at once than one read takes.
    pub(super) fn burst(&mut self, peer: usize) {
        for _ in 0..30 {
            self.command(peer, NOTHING, Asked::Unsubscribe { topic: "r:nobody" });
        }
    }

    /// A command that comes in part, and its rest with whatever is sent next.
    pub(super) fn half(&mut self, peer: usize) {
        if !self.peers[peer].rest.is_empty() || self.peers[peer].said.is_refused() {
            return;
        }
        let id = self.peers[peer].next_id;
        self.peers[peer].next_id += 1;
        self.peers[peer].asked.insert(id, Asked::Unsubscribe { topic: "r:nobody" });
        self.peers[peer].excused = true;
        let frame =
            self.peers[peer].message(format!("{{\"id\":{id},{NOTHING}}}{}", " ".repeat(HALF)).as_bytes());
        self.send(peer, &frame[..HALF]);
        self.peers[peer].rest = frame[HALF..].to_vec();
        self.events.halves += 1;
    }

    /// Keeps much more unread than a share: pings, or commands, of which many are in one message, or compressed.
    pub(super) fn flood(&mut self, peer: usize) {
        while self.peers[peer].pipe.borrow().to_server.len() < 4 * READ_BYTES {
            match peer % 4 {
                0 if !self.peers[peer].raw => self.send(peer, &frame(PING, b"")),
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
                    self.peers[peer]
                        .asked
                        .extend(ids.clone().map(|id| (id, Asked::Unsubscribe { topic: "r:nobody" })));
                    let commands: Vec<_> = ids
                        .map(|id| format!("{{\"id\":{id},\"unsubscribe\":{{\"channel\":\"r\"}}}}"))
                        .collect();
                    self.send_message(peer, commands.join("\n").as_bytes());
                }
            }
        }
    }

    pub(super) fn stall(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        peer.stalled = true;
        peer.excused = true;
        peer.pipe.borrow_mut().room = self.scale * self.random.below(200);
        self.events.stalls += 1;
    }

    pub(super) fn give_room(&mut self, peer: usize) {
        let room =
            self.scale * if self.random.one_in(3) { self.random.below(60) } else { self.random.below(2000) };
        let peer = &mut self.peers[peer];
        peer.stalled = false;
        let mut pipe = peer.pipe.borrow_mut();
        pipe.room += room;
        if (pipe.refused || pipe.wants_edge) && room > 0 {
            (pipe.refused, pipe.asked_again, pipe.wants_edge) = (false, 0, false);
            self.ready.push((peer.slot, Edge::Writable));
        }
    }

    pub(super) fn command(&mut self, peer: usize, method: &str, asked: Asked) {
        let id = self.peers[peer].next_id;
        self.peers[peer].next_id += 1;
        if self.failing.iter().any(|name| asked.needs(name)) {
            self.peers[peer].may_fail.insert(id);
        }
        if !self.peers[peer].said.is_refused() {
            self.peers[peer].asked.insert(id, asked);
        }
        // What it sends behind a command that waits for the broker may be too much for all.
        self.peers[peer].excused |= self.tight && self.peers[peer].asked.len() > 1;
        self.send_message(peer, format!("{{\"id\":{id},{method}}}").as_bytes());
    }

    pub(super) fn send_message(&mut self, peer: usize, text: &[u8]) {
        let message = self.peers[peer].message(text);
        self.send(peer, &message);
    }

    pub(super) fn send(&mut self, peer: usize, bytes: &[u8]) {
        let peer = &mut self.peers[peer];
        let bytes = &[&std::mem::take(&mut peer.rest), bytes].concat();
        let mut pipe = peer.pipe.borrow_mut();
        if !pipe.server_gone {
            pipe.to_server.extend(bytes);
            self.ready.push((peer.slot, Edge::Readable));
        }
    }
}
