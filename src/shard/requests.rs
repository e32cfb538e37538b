//! The queue of requests to the broker, and what waits for room in it.
//!
//! The queue is bounded. Requests that find no room wait here, and a later tick sends them: at most one notification per
//! topic, the clients' questions, which are bounded per client, and withdrawals of calls, of which each follows a call that
//! the broker has not ended (`limits.calls`). A client whose command finds no room is read again with the next tick.

use std::collections::VecDeque;

use crate::base::mailbox::Sender;
use crate::domain::mail::{Request, TopicSlot};
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::shard::topic::Interest;
use crate::transport::Transport;

/// The request queue, and what waits for room in it.
#[derive(Debug)]
pub(super) struct RequestQueue {
    sender: Sender<Request>,
    /// Clients whose next command waits for room.
    blocked_clients: Vec<u32>,
    /// Topics of which the broker is to be told that they are to be attached, or detached.
    pending_topics: VecDeque<TopicSlot>,
    /// Questions of clients that the broker is to be asked.
    pending_questions: VecDeque<Request>,
    /// Withdrawals of calls. No command overtakes them: a later one may have the same id.
    withdrawals: VecDeque<Request>,
}

impl RequestQueue {
    /// Nothing waits.
    pub(super) fn new(sender: Sender<Request>) -> Self {
        Self {
            sender,
            blocked_clients: Vec::new(),
            pending_topics: VecDeque::new(),
            pending_questions: VecDeque::new(),
            withdrawals: VecDeque::new(),
        }
    }

    /// Whether the queue takes another request now.
    pub(super) fn has_room(&self) -> bool {
        self.withdrawals.is_empty() && self.sender.room() > 0
    }

    /// Whether something waits for room.
    pub(super) fn has_pending(&self) -> bool {
        !self.blocked_clients.is_empty()
            || !self.pending_topics.is_empty()
            || !self.pending_questions.is_empty()
            || !self.withdrawals.is_empty()
    }

    /// Sends a request and wakes the broker. Returns false if there is no room.
    #[must_use]
    pub(super) fn send(&self, request: Request) -> bool {
        self.withdrawals.is_empty() && self.sender.send(request).is_ok()
    }

    /// Wakes the broker.
    pub(super) fn wake_broker(&self) {
        self.sender.notify();
    }

    /// Notes that the next command of the client in `slot` waits for room.
    pub(super) fn retry_client(&mut self, slot: u32) {
        self.blocked_clients.push(slot);
    }

    /// Clients whose next commands wait for room.
    pub(super) fn blocked_clients(&self) -> &[u32] {
        &self.blocked_clients
    }

    /// Takes out the clients whose next commands wait for room.
    pub(super) fn take_blocked_clients(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.blocked_clients)
    }

    /// Queues a notification that the topic is to be attached or detached, as its interest says by then.
    pub(super) fn push_topic(&mut self, topic: TopicSlot) {
        self.pending_topics.push_back(topic);
    }

    /// Queues a client's question.
    pub(super) fn push_question(&mut self, question: Request) {
        self.pending_questions.push_back(question);
    }

    /// Queues the withdrawal of calls about a client.
    pub(super) fn withdraw(&mut self, withdrawal: Request) {
        self.withdrawals.push_back(withdrawal);
    }

    /// Sends withdrawals while there is room. Returns whether one was sent.
    fn send_withdrawals(&mut self) -> bool {
        let mut sent = false;
        while let Some(withdrawal) = self.withdrawals.pop_front() {
            if let Err(refused) = self.sender.push(withdrawal) {
                self.withdrawals.push_front(refused);
                break;
            }
            sent = true;
        }
        sent
    }

    /// Sends pending questions while there is room. Returns whether one was sent. The topic of a recovery is attached, and
    /// is not detached before the answer.
    fn send_questions(&mut self) -> bool {
        let mut sent = false;
        while self.has_room()
            && let Some(question) = self.pending_questions.pop_front()
        {
            // Should it fail although there was room, the question is kept.
            if let Err(refused) = self.sender.push(question) {
                self.pending_questions.push_front(refused);
                break;
            }
            sent = true;
        }
        sent
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Sends the requests that wait, while there is room, and wakes the broker if any was sent.
    pub(super) fn send_requests(&mut self) {
        let withdrawn = self.broker.requests.send_withdrawals();
        let told = self.send_topics();
        let asked = self.broker.requests.send_questions();
        if withdrawn || told || asked {
            self.broker.requests.wake_broker();
        }
    }

    /// Sends pending notifications about topics, while there is room. Returns whether one was sent.
    fn send_topics(&mut self) -> bool {
        let mut sent = false;
        while let Some(&slot) = self.broker.requests.pending_topics.front() {
            let Some(topic) = self.topics.get(slot) else {
                unreachable!("a topic stays until the broker has detached it")
            };
            let (shard, variant, name) = (self.identity.shard, topic.variant(), topic.name().clone());
            let request = match topic.interest() {
                Interest::Attaching => Request::Attach { shard, topic: slot, variant, name },
                Interest::Detaching => Request::Detach { shard, topic: slot, variant, name },
                Interest::Live => unreachable!("nothing is pending about a live topic"),
            };
            if self.broker.requests.sender.push(request).is_err() {
                break;
            }
            sent = true;
            self.broker.requests.pending_topics.pop_front();
        }
        sent
    }
}
