//! Calls to backends, as the broker makes them.

use std::time::Duration;

use crate::broker::backplane::event::Event;
use crate::domain::call::CallFault;
use crate::hooks::AmqpRequest;

use super::calls::CallEvent;
use super::{LinkState, Rabbit};

impl Rabbit {
    /// Sends a call over the link, or says at once that it cannot be sent. It does not wait for another link.
    pub(in crate::broker) fn call(
        &mut self,
        number: u64,
        request: AmqpRequest,
        limit: Duration,
        answer_bytes: Option<usize>,
    ) {
        let why_not = match &mut self.state {
            LinkState::Linked { link, .. } if link.is_blocked() => {
                "RabbitMQ takes no messages, for want of memory or disk"
            }
            LinkState::Linked { link, .. } => return link.call(number, request, limit, answer_bytes),
            LinkState::Away(_) | LinkState::Over => "there is no connection to RabbitMQ",
        };
        let outcome = Err(CallFault::Unreachable(why_not.into()));
        self.events.push_back(Event::Called { number, outcome });
    }

    /// Tells the broker what became of calls.
    pub(super) fn hear_of_calls(&mut self, events: impl IntoIterator<Item = CallEvent>) {
        self.events.extend(events.into_iter().map(|event| match event {
            CallEvent::Done { number, outcome } => Event::Called { number, outcome },
            CallEvent::Unclaimed => Event::Unclaimed,
        }));
    }
}
