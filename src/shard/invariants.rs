//! What holds between two ticks, asserted.

use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::transport::Transport;

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Asserts the invariants between the parts of a shard: totals are the sums of their parts, and flags agree with
    /// lists. It goes through everything, so it is for tests.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn check(&self) {
        self.check_sums();
        self.check_topics();
        self.check_clients();
    }

    /// Totals are what clients and topics have together.
    fn check_sums(&self) {
        let clients = || self.clients.iter().map(|(_, client)| client);
        let sum = |bytes: fn(&super::client::Client<S, T>) -> usize| clients().map(bytes).sum::<usize>();
        assert_eq!(self.input.kept.bytes(), sum(|client| client.input_bytes()), "bytes of input");
        assert_eq!(self.replies.bytes(), sum(|client| client.all_reply_bytes()), "bytes of replies");
        let orphaned = sum(|client| client.outgoing.as_ref().map_or(0, |outgoing| outgoing.orphaned));
        assert_eq!(self.logs.rest_bytes(), orphaned, "bytes of started frames");
        let weights = self.topics.iter().filter_map(|(_, topic)| topic.log()).map(|log| log.weight());
        assert_eq!(self.logs.bytes(), weights.sum::<usize>(), "bytes of logs");
        assert_eq!(self.promised_bytes(), sum(|client| client.promised_bytes()), "bytes of open budgets");
        assert_eq!(self.placed(), sum(|client| usize::from(client.has_place())), "places");
        assert_eq!(self.stats.blocked_clients.value(), sum(|client| usize::from(client.is_blocked())) as u64);
    }

    fn check_topics(&self) {
        for (slot, topic) in self.topics.iter() {
            topic.check();
            for (position, subscriber) in topic.subscribers().iter().enumerate() {
                let subscription = self.clients[subscriber.client].subscriptions.find(slot);
                let known = subscription.map(|subscription| subscription.position as usize);
                assert_eq!(known, Some(position), "client {} of `{}`", subscriber.client, topic.name());
            }
        }
        let in_rotation = self.topics.iter().filter(|(_, topic)| topic.is_in_rotation()).count();
        assert_eq!(in_rotation, self.delivery.topics(), "topics in the rotation");
    }

    fn check_clients(&self) {
        let queued = self
            .input
            .turns
            .ready()
            .chain(self.input.kept.without_room())
            .filter(|&&key| self.clients.find(key).is_some());
        let to_read = self.clients.iter().filter(|(_, client)| client.is_to_read()).count();
        assert_eq!(queued.count(), to_read, "clients to be read");
        for (slot, client) in self.clients.iter() {
            assert!(client.is_listed_for_input() || client.input_bytes() == 0, "client {slot} keeps input");
            assert!(
                client.is_listed_for_replies() || !client.leaves_replies(),
                "client {slot} leaves replies unread"
            );
            assert!(!client.is_paused() || self.will_be_read(slot), "client {slot} is put off for good");
            client.session.check(|topic| client.subscriptions.find(topic).is_some());
        }
    }

    /// Whether something will make a client readable whose next command is put off: its turn, an answer, room for a
    /// request or an answer, or its socket, when that has taken what waits for it.
    fn will_be_read(&self, slot: u32) -> bool {
        let client = &self.clients[slot];
        let has_questions =
            client.unfinished.as_ref().is_some_and(|unfinished| !unfinished.questions.is_idle());
        !client.is_open()
            || client.is_to_read()
            || client.session.has_unanswered()
            || has_questions
            || self.broker.requests.blocked_clients().contains(&slot)
            || (client.is_blocked() && client.outgoing.is_some())
    }
}
