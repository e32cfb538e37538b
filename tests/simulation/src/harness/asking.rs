//! Clients whose commands the application's backend decides about: what it has said of them, and what they may see then.

use std::collections::{BTreeMap, VecDeque};

use super::clients::{Asked, Brought, Peer};
use super::kind::{CLOSE_MS, EXPIRED_MS, RPCS_MAX};
use super::{TOPICS, World};
use fanfare::base::clock::UnixTime;
use fanfare::domain::reasons::{CloseReason, ErrorCode};

/// The method that has a backend.
pub(super) const METHOD: &str = "get";
/// One that has none.
const UNKNOWN_METHOD: &str = "put";
/// Bytes beside the number in a request, at most.
const FILLER_MAX: usize = 150;
/// Topics that a client wants to go on in, at most: with more, the command would be too long.
const RESUMED_MAX: usize = 2;
/// How much earlier than its time something may be done, in milliseconds: a shard counts in grains of 65.5 ms.
pub(super) const GRAIN_MS: u64 = 66;
/// Within how many milliseconds something is done about what has expired.
const LATE_MS: u64 = 500;

/// What the backend has said of a client, and what it has been told.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// About commands whose replies the client has not read.
    pub(super) verdicts: BTreeMap<u32, Verdict>,
    /// The client's id, by its first call.
    pub(super) client: Option<Box<str>>,
    /// Who the client is.
    pub(super) user: Box<str>,
    pub(super) meta: Option<Box<str>>,
    /// Messages of the client that the backend has not had yet.
    pub(super) messages: VecDeque<u32>,
    /// Codes with which the client is to be closed.
    pub(super) closes: Vec<u16>,
    /// When its connection expires.
    pub(super) expiry: Option<Expiry>,
    /// When the backend said that its connect is to be refused.
    pub(super) refused_from: Option<UnixTime>,
    /// When it read that.
    pub(super) refused: Option<UnixTime>,
    /// It then leaves by itself.
    pub(super) leaves: bool,
}

impl Said {
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }
}

/// What the backend has said about a command.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Yes.
    Granted {
        /// What the client is told.
        data: Option<u64>,
        /// When the subscription expires.
        expiry: Option<Expiry>,
        /// As in [`Asked::Subscribe`], when that was said.
        floor: u64,
    },
    /// An error of this code.
    Error(u64),
}

/// When a connection or a subscription expires.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    /// Tells it from those of other subscriptions.
    pub(super) number: u64,
    pub(super) at: UnixTime,
    /// Until when something must have been done about it.
    pub(super) done_by: UnixTime,
    /// The backend is asked for how long it may stay.
    pub(super) is_asked: bool,
    /// The backend has said that it ends.
    pub(super) has_ended: bool,
}

impl World {
    /// The time of day, so many milliseconds from now.
    pub(super) fn unix_in(&self, milliseconds: u64) -> UnixTime {
        UnixTime::from_micros(self.now.unix.as_micros() + 1000 * milliseconds)
    }

    /// Something that expires. The backend is not asked about it before `asked_from`.
    pub(super) fn expiry(&self, number: u64, at: UnixTime, asked_from: UnixTime) -> Expiry {
        let later = at.max(asked_from).as_micros();
        let done_by = UnixTime::from_micros(later + 1000 * (LATE_MS + EXPIRED_MS));
        Expiry { number, at, done_by, is_asked: false, has_ended: false }
    }

    /// Some requests and messages at once.
    pub(super) fn ask_backend(&mut self, peer: usize) {
        for _ in 0..=self.random.below(4) {
            match self.random.below(6) {
                0 => self.message_to_backend(peer),
                1 => self.rpc(peer, UNKNOWN_METHOD),
                _ => self.rpc(peer, METHOD),
            }
        }
    }

    fn rpc(&mut self, peer: usize, method: &'static str) {
        let is_rpc = |asked: &&Asked| matches!(asked, Asked::Rpc { .. });
        let others = self.peers[peer].asked.values().filter(is_rpc).count();
        let id = self.peers[peer].next_id;
        let filler = "x".repeat(self.random.below(FILLER_MAX));
        let command = format!("\"rpc\":{{\"method\":\"{method}\",\"data\":[{id},\"{filler}\"]}}");
        self.command(peer, &command, Asked::Rpc { has_backend: method == METHOD, others });
    }

    fn message_to_backend(&mut self, peer: usize) {
        let tight = self.tight;
        let Peer { next_id, said, excused, .. } = &mut self.peers[peer];
        let number = *next_id;
        *next_id += 1;
        if !said.is_refused() {
            said.messages.push_back(number);
        }
        *excused |= tight;
        self.send_message(peer, format!("{{\"send\":{{\"data\":{number}}}}}").as_bytes());
        self.events.messages += 1;
    }

    /// Somebody without a token wants to go on where others were. Sometimes more commands follow at once.
    pub(super) fn connect_by_hook(&mut self) {
        let peer = self.arrive();
        let mut resumed: Vec<&'static str> = Vec::new();
        let mut subs = Vec::new();
        for _ in 0..self.random.below(RESUMED_MAX + 1) {
            let topic = TOPICS[self.random.below(TOPICS.len())];
            if let Some(resume) = self.resume(topic).filter(|_| !resumed.contains(&topic)) {
                resumed.push(topic);
                subs.push(format!("\"{topic}\":{{{resume}}}"));
            }
        }
        let connect = format!("\"connect\":{{\"data\":[1],\"subs\":{{{}}}}}", subs.join(","));
        self.command(peer, &connect, Asked::Connect { topics: Vec::new(), resumed: Some(resumed) });
        match self.random.below(3) {
            0 => self.ask_backend(peer),
            1 => self.hurry(peer),
            _ => {}
        }
    }

    /// The error for a request that the backend was not asked about.
    pub(super) fn error_of_unasked_rpc(has_backend: bool, others: usize) -> u64 {
        let error = if has_backend { ErrorCode::TooManyRequests } else { ErrorCode::NotAvailable };
        assert!(!has_backend || others >= RPCS_MAX, "a request was refused with {others} others under way");
        u64::from(error.code())
    }

    /// The backend has been asked about every command that it decides about, unless reloads change which ones these are.
    pub(super) fn check_is_asked(&self, asked: &Asked) {
        let Some(hooks) = self.backend.hooks.filter(|hooks| !hooks.switch) else { return };
        let is_asked = match asked {
            Asked::Rpc { .. } => true,
            Asked::Connect { resumed, .. } => hooks.connect && resumed.is_some(),
            Asked::Subscribe { topic, .. } => hooks.subscribe && topic.starts_with(['s', 'h']),
            Asked::Publish { .. } => hooks.publish,
            Asked::Unsubscribe { .. } | Asked::Refused { .. } => false,
        };
        assert!(!is_asked, "{asked:?} was carried out, and the backend not asked");
    }

    /// A client's connect was answered with an error: nothing that it sends is carried out.
    pub(super) fn refused_to_connect(&mut self, peer: usize) {
        let (refused, leaves) = (Some(self.now.unix), self.random.one_in(2));
        let Peer { said, asked, excused, fault, .. } = &mut self.peers[peer];
        asked.clear();
        *said = Said { refused_from: said.refused_from, refused, leaves, ..Said::default() };
        (*excused, *fault) = (true, None);
        self.events.refused_connects += 1;
    }

    /// Whether the backend, or the end of a connection, is a reason to close the client with this code.
    pub(super) fn is_to_be_closed(&self, peer: usize, code: u16) -> bool {
        let Said { closes, expiry, .. } = &self.peers[peer].said;
        let refreshes = self.backend.hooks.is_some_and(|hooks| hooks.refresh);
        let has_expired = expiry.is_some_and(|expiry| expiry.at <= self.now.unix) && !refreshes;
        closes.contains(&code) || code == CloseReason::Expired.code() && has_expired
    }

    /// Whether a subscription may end because it has expired.
    pub(super) fn may_have_expired(&self, topic: &str, expiry: Option<Expiry>) -> bool {
        let is_asked = self.is_refreshed(topic);
        expiry.is_some_and(|expiry| expiry.has_ended || !is_asked && expiry.at <= self.now.unix)
    }

    /// Whether the backend prolongs subscriptions to a topic.
    pub(super) fn is_refreshed(&self, topic: &str) -> bool {
        self.backend.hooks.is_some_and(|hooks| hooks.refresh) && topic.starts_with('s')
    }

    /// The ends of the client's subscriptions to a topic: of those that it has not read about yet, the latest first, and of
    /// the one that it knows.
    pub(super) fn expiries_of(
        &mut self,
        peer: usize,
        topic: &str,
    ) -> impl Iterator<Item = &mut Option<Expiry>> {
        let Peer { asked, said, runs, .. } = &mut self.peers[peer];
        let granted = said.verdicts.iter_mut().rev().filter_map(move |(id, verdict)| match verdict {
            Verdict::Granted { expiry, .. } => (asked.get(id)?.topic()? == topic).then_some(expiry),
            Verdict::Error(_) => None,
        });
        granted.chain(runs.get_mut(topic).map(|run| &mut run.expiry))
    }

    /// Whether this is the error for a connect or a subscribe that had expired when the answer was there.
    pub(super) fn came_too_late(
        &self,
        peer: usize,
        asked: &Asked,
        verdict: Option<&Verdict>,
        error: Option<u64>,
    ) -> bool {
        let expiry = match (asked, verdict) {
            (Asked::Connect { .. }, _) => self.peers[peer].said.expiry,
            (Asked::Subscribe { .. }, Some(Verdict::Granted { expiry, .. })) => *expiry,
            _ => None,
        };
        let is_over = expiry.is_some_and(|expiry| expiry.at <= self.now.unix);
        is_over && error == Some(ErrorCode::Expired.code().into())
    }

    /// A client whose connect was refused is closed when it does not leave in time. What it sends is no reason.
    pub(super) fn check_end_of_refused(&self, peer: usize, code: u16) {
        if let Some(refused) = self.peers[peer].said.refused_from
            && code != CloseReason::Slow.code()
        {
            let waited = self.unix_in(GRAIN_MS).micros_since(refused);
            assert!(waited >= 1000 * CLOSE_MS, "a refused client is closed with {code} after {waited} us");
        }
    }

    /// Something is done in time about what has expired: the backend is asked, or it ends.
    pub(super) fn check_expiries(&self) {
        // Until it leaves; until it is known that it has sent nothing more; and until it answers the close frame.
        let late = |refused: UnixTime| self.now.unix.micros_since(refused) > 1000 * (3 * CLOSE_MS + LATE_MS);
        for peer in &self.peers {
            assert!(!peer.said.refused.is_some_and(late), "client {} is refused, and stays", peer.slot);
        }
        for peer in self.peers.iter().filter(|peer| !peer.excused && peer.said.closes.is_empty()) {
            let subscriptions = peer.runs.values().filter_map(|run| run.expiry);
            for expiry in subscriptions.chain(peer.said.expiry) {
                let is_done = expiry.is_asked || expiry.done_by > self.now.unix;
                assert!(is_done, "client {} has {expiry:?}, which has ended for long", peer.slot);
            }
        }
    }

    /// Connections and subscriptions expire, and nothing else happens.
    pub(super) fn time_passes(&mut self) {
        self.tick_time = 60;
        for _ in 0..80 {
            self.broker_acts();
            self.turn();
        }
    }

    /// In the end, nothing that the backend has said is left undone, and it has all messages.
    pub(super) fn check_said(&self, Peer { slot, said, runs, .. }: &Peer) {
        assert!(said.closes.is_empty(), "client {slot} was not closed with {:?}", said.closes);
        assert!(said.messages.is_empty(), "client {slot}: the backend lacks {:?}", said.messages);
        for (topic, run) in runs {
            let has_ended = run.expiry.is_some_and(|expiry| expiry.has_ended);
            assert!(!has_ended, "client {slot} still has {topic}, which the backend has ended");
        }
    }

    /// Takes what the backend has said about a connect.
    pub(super) fn brings(&mut self, peer: usize, topics: Vec<Brought>) {
        self.events.brought_by_hooks += topics.len() as u64;
        self.peers[peer].excused |= self.tight || topics.iter().any(|brought| brought.topic.starts_with('s'));
        let connect =
            self.peers[peer].asked.values_mut().find(|asked| matches!(asked, Asked::Connect { .. }));
        if let Some(Asked::Connect { topics: before, .. }) = connect {
            *before = topics;
        }
    }
}
