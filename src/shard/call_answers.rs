//! Answers of backends that wait for their turn.
//!
//! A backend that takes its time answers hundreds of calls at the same moment, and each answer costs as much as a command of
//! a client. So other mail passes them, and a tick takes the oldest for a bounded time.

use std::collections::VecDeque;
use std::time::Instant;

use crate::domain::call::CallKind;
use crate::domain::mail::{Called, ClientKey, CommandKey};
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::transport::Transport;

/// Bytes of answers that wait. With more, all mail waits in the mailbox, whose sender bounds it.
const BYTES_MAX: usize = 1 << 20;

/// In the order in which they came.
#[derive(Debug, Default)]
pub(super) struct CallAnswers {
    waiting: VecDeque<(CommandKey, Box<Called>)>,
    bytes: usize,
}

impl CallAnswers {
    pub(super) fn push(&mut self, to: CommandKey, called: Box<Called>) {
        self.bytes += called.weight();
        self.waiting.push_back((to, called));
    }

    fn pop(&mut self) -> Option<(CommandKey, Box<Called>)> {
        let (to, called) = self.waiting.pop_front()?;
        self.bytes -= called.weight();
        Some((to, called))
    }

    /// Takes out the answers to subscribes to a topic, of one client or of all. Returns whose they were.
    pub(super) fn take_subscribes(&mut self, client: Option<ClientKey>, topic: &str) -> Vec<ClientKey> {
        let is_meant = |to: &CommandKey, called: &Called| {
            called.kind == CallKind::Subscribe
                && called.topic.as_deref() == Some(topic)
                && client.is_none_or(|client| client == to.client)
        };
        let mut clients = Vec::new();
        let bytes = &mut self.bytes;
        self.waiting.retain(|(to, called)| {
            let is_taken = is_meant(to, called);
            if is_taken {
                *bytes -= called.weight();
                clients.push(to.client);
            }
            !is_taken
        });
        clients
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no more may be added.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BYTES_MAX
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Takes answers for half as long as clients are read, and at least one.
    pub(super) fn take_call_answers(&mut self, clock: impl Fn() -> Instant) {
        if self.broker.call_answers.is_empty() {
            return;
        }
        let (began, limit) = (clock(), self.settings.budgets.read_time.0 / 2);
        while let Some((to, called)) = self.broker.call_answers.pop() {
            self.called(to, *called);
            if clock().saturating_duration_since(began) >= limit {
                return;
            }
        }
    }
}
