//! Connects that bring subscriptions, by a token or by the application's backend. Each is answered when all of its topics are attached and all that the client
//! has missed is there.
//!
//! The client is subscribed to each topic as soon as that is possible, at the log's end. Until the reply it is *held*: the
//! sweep parks its subscribers, as if its socket were full, so that publications wait in the logs as they do for any
//! slow client. The results of the subscriptions are kept encoded, as what they will be in the reply. They count as
//! replies that wait. When the reply is as large as a frame may be, recoveries that have not been asked for by then are
//! answered with the topic's position: the client cannot continue there.
//!
//! If one topic cannot be attached, the connect has failed, and everything is undone.

use crate::codec::reply::{EncodedSubscriptions, Reply, Subscribed};
use crate::domain::mail::TopicSlot;
use crate::domain::reasons::{CloseReason, ErrorCode};
use crate::net::stream::Stream;
use crate::session::action::ServerSide;
use crate::session::reason_after;
use crate::shard::Shard;
use crate::shard::commands::Outcome;
use crate::shard::membership::{Joined, Room};
use crate::transport::Transport;

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Subscribes a client to the topics that the token of its connect brings, and answers the connect if nothing of that
    /// has to wait.
    pub(super) fn connect_and_subscribe(
        &mut self,
        slot: u32,
        id: u32,
        subscriptions: Vec<ServerSide>,
    ) -> Outcome {
        self.clients[slot].set_held(true);
        for ServerSide { topic, options } in subscriptions {
            // Each is as much work as a subscribe.
            self.use_share(topic.len());
            match self.join(slot, &topic, id, options, Room::Found) {
                // A recovery that is given up at once can be the one that ends the connect.
                Joined::AtOnce | Joined::Later if !self.clients[slot].session.is_connecting() => break,
                Joined::AtOnce | Joined::Later => {}
                Joined::NoRoom => unreachable!("the topics of a connect are queued"),
                Joined::NotNow => {
                    let error = ErrorCode::TooManyRequests;
                    self.fail_connect(slot, &Reply::Error(error), reason_after(error));
                    return Outcome::NotConnected;
                }
            }
        }
        self.answer_complete_connect(slot);
        if self.clients[slot].session.is_refused() { Outcome::NotConnected } else { Outcome::Done }
    }

    /// Adds the result of a subscription to the reply of a client's connect.
    pub(super) fn prepare(&mut self, slot: u32, topic: TopicSlot, subscribed: &Subscribed<'_>) {
        let client = &mut self.clients[slot];
        let codec = client.transport.codec();
        let prepared = &mut client.unfinished.get_or_insert_default().prepared;
        let before = prepared.len();
        codec.add_subscription(prepared, self.topics[topic].name(), subscribed);
        self.replies.keep(prepared.len() - before);
        client.session.prepared();
    }

    /// Answers a connect that has waited, if all of its subscriptions are made.
    pub(super) fn continue_connect(&mut self, slot: u32) {
        if self.answer_complete_connect(slot) {
            self.send_connect_reply(slot);
        }
    }

    /// Writes the reply to a connect, if all of its subscriptions are made. Returns whether they are.
    fn answer_complete_connect(&mut self, slot: u32) -> bool {
        let Some((id, data)) = self.clients[slot].session.complete_connect() else { return false };
        let (timeouts, now) = (&self.settings.timeouts, self.now());
        let client = &mut self.clients[slot];
        let unfinished = client.unfinished.as_mut();
        let prepared =
            unfinished.map(|unfinished| std::mem::take(&mut unfinished.prepared)).unwrap_or_default();
        client.free_unfinished();
        let accepted = client.session.accept(timeouts, client.transport.has_pings(), now);
        self.replies.release(prepared.len());
        self.connected(slot, id, accepted, data.as_deref(), EncodedSubscriptions(&prepared));
        self.release(slot);
        true
    }

    /// Answers a connect that waits with an error, and undoes what it has done. A client that stays is closed
    /// for `reason`.
    pub(super) fn fail_connect(&mut self, slot: u32, error: &Reply<'_>, reason: CloseReason) {
        let now = self.now();
        let Some(id) = self.clients[slot].session.fail_connect(reason, now) else { return };
        self.leave_all_topics(slot);
        self.drop_unfinished(slot);
        self.clients[slot].set_held(false);
        self.time(slot);
        self.put_reply(slot, id, error);
        self.send_connect_reply(slot);
    }

    /// Sends the reply to a connect that has waited, and lets the client's next command have its turn.
    pub(super) fn send_connect_reply(&mut self, slot: u32) {
        self.flush_lines(slot);
        self.visit(slot);
        if self.clients[slot].is_stalled() {
            self.readable(slot);
        }
    }
}
