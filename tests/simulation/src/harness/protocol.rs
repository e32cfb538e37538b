//! What a session has to decide: who is refused, what waits for what, and who is closed.

use super::asking::Verdict;
use super::clients::Asked;
use super::{TOPICS, World};
use fanfare::domain::reasons::{CloseReason, ErrorCode};

/// Commands that are refused, in topics that clients also subscribe to: with which error, and whether they publish.
const REFUSED: [(&str, &str, ErrorCode, bool); 4] = [
    ("s:a", "\"publish\":{\"channel\":\"s:a\",\"data\":1}", ErrorCode::PermissionDenied, true),
    ("h:a", "\"publish\":{\"channel\":\"h:a\",\"data\":1}", ErrorCode::PermissionDenied, true),
    ("h:a", "\"history\":{\"channel\":\"h:a\",\"limit\":1}", ErrorCode::PermissionDenied, false),
    ("r:a", "\"history\":{\"channel\":\"r:a\",\"limit\":1}", ErrorCode::NotAvailable, false),
];

/// Commands for which a connected client is closed. The second one is for the backend, where there is one.
const OFFENCES: [(&str, CloseReason); 2] =
    [("\"connect\":{}", CloseReason::BadRequest), ("\"send\":{\"data\":1}", CloseReason::NotAvailable)];

impl World {
    /// Several commands about one topic, before the first of them is answered.
    pub(super) fn hurry(&mut self, peer: usize) {
        let topic = TOPICS[self.random.below(TOPICS.len())];
        if !self.is_free(peer, topic) {
            return;
        }
        self.events.hurries += 1;
        self.subscribe_to(peer, topic);
        if self.random.one_in(2) {
            // It has the topic by then, or will have.
            self.subscribe_to(peer, topic);
        }
        self.refused(peer, |other| other == topic);
        let unsubscribe = format!("\"unsubscribe\":{{\"channel\":\"{topic}\"}}");
        self.command(peer, &unsubscribe, Asked::Unsubscribe { topic });
        if self.random.one_in(2) {
            self.subscribe_to(peer, topic);
        }
    }

    /// A command that is not permitted.
    pub(super) fn ask_in_vain(&mut self, peer: usize) {
        self.refused(peer, |_| true);
    }

    /// One of [`REFUSED`] in such a topic, if there is one.
    fn refused(&mut self, peer: usize, is_wanted: impl Fn(&str) -> bool) {
        let choices: Vec<_> = REFUSED.into_iter().filter(|&(topic, ..)| is_wanted(topic)).collect();
        if !choices.is_empty() {
            let (topic, command, error, publishes) = self.random.pick(&choices);
            let code = u64::from(error.code());
            self.command(peer, command, Asked::Refused { topic, code, publishes });
        }
    }

    /// A command for which the client is closed. What it sends later is of no interest.
    pub(super) fn offend(&mut self, peer: usize) {
        let offences = if self.backend.hooks.is_some() { &OFFENCES[..1] } else { &OFFENCES };
        let (command, reason) = self.random.pick(offences);
        let peer_state = &mut self.peers[peer];
        if peer_state.fault.is_some() || peer_state.said.is_refused() {
            return;
        }
        let id = peer_state.next_id;
        peer_state.next_id += 1;
        (peer_state.fault, peer_state.excused) = (Some((id, reason.code())), true);
        self.send_message(peer, format!("{{\"id\":{id},{command}}}").as_bytes());
        self.events.offences += 1;
    }

    /// Commands about one topic are answered in their order, but for publishes, which follow each other at once.
    pub(super) fn check_order(&self, peer: usize, id: u32, answered: &Asked) {
        assert!(!self.is_connecting(peer), "{answered:?} was answered before the connect");
        let Some(topic) = answered.topic() else { return };
        let is_first =
            |other: &Asked| other.topic() == Some(topic) && !(other.publishes() && answered.publishes());
        let overtaken = self.peers[peer].asked.range(..id).find(|(_, other)| is_first(other));
        assert!(overtaken.is_none(), "{answered:?}, which is {id}, was answered before {overtaken:?}");
    }

    /// The error of the reply to a command, if there is to be one.
    pub(super) fn expected_error(
        &self,
        peer: usize,
        id: u32,
        asked: &Asked,
        verdict: Option<&Verdict>,
    ) -> Option<u64> {
        match (asked, verdict) {
            (Asked::Rpc { has_backend, others }, None) => {
                Some(Self::error_of_unasked_rpc(*has_backend, *others))
            }
            (_, None) => self.error_without_backend(peer, id, asked),
            (_, Some(verdict)) => {
                assert_eq!(self.error_without_backend(peer, id, asked), None, "the backend was asked");
                match verdict {
                    Verdict::Granted { .. } => None,
                    Verdict::Error(code) => Some(*code),
                }
            }
        }
    }

    /// The same, as far as it follows from the protocol. What came before it says which topics the client has.
    fn error_without_backend(&self, peer: usize, id: u32, asked: &Asked) -> Option<u64> {
        let peer = &self.peers[peer];
        match asked {
            Asked::Refused { code, .. } => Some(*code),
            Asked::Subscribe { topic, .. } => {
                let earlier = peer.asked.range(..id);
                let under_way = earlier.filter(|(_, other)| matches!(other, Asked::Subscribe { .. })).count();
                let is_full = peer.runs.len() + under_way >= self.limits.topics_per_client;
                let error = if peer.runs.contains_key(topic) {
                    Some(ErrorCode::AlreadySubscribed)
                } else {
                    is_full.then_some(ErrorCode::LimitExceeded)
                };
                error.map(|error| u64::from(error.code()))
            }
            Asked::Connect { .. } | Asked::Unsubscribe { .. } | Asked::Publish { .. } | Asked::Rpc { .. } => {
                None
            }
        }
    }

    /// Who is closed for a command has the answers to those before it.
    pub(super) fn check_fault(&self, peer: usize, code: u16) {
        let peer = &self.peers[peer];
        if let Some((id, expected)) = peer.fault
            && code == expected
        {
            let unanswered: Vec<_> = peer.asked.range(..id).collect();
            assert!(unanswered.is_empty(), "closed for {id} before an answer to {unanswered:?}");
        }
    }
}
