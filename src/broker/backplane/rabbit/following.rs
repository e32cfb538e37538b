//! Connects the broker, [`bindings`](super::bindings) and the link, if bindings follow the subscribers. Also
//! records what the node's own queue has lost.

use std::time::Instant;

use crate::broker::backplane::event::{Coming, Event};
use crate::config::Amqp;
use crate::domain::mail::TopicName;

use super::binder::BinderEvent;
use super::bindings::{BindingLimits, Bindings};
use super::loss::Loss;
use super::reply::reply_text;
use super::{LinkState, Rabbit};

/// The bindings that follow the subscribers, if they do.
#[derive(Debug)]
pub(super) struct Following {
    bindings: Option<Bindings>,
    /// The event that announces a new link, sent once the link has the bindings of the one before.
    greeting: Option<Event>,
}

impl Following {
    /// Nothing is bound.
    pub(super) fn new(amqp: &Amqp) -> Self {
        let bindings = || Bindings::new(amqp.binding_linger.0, BindingLimits::default());
        Self { bindings: amqp.bindings.is_dynamic().then(bindings), greeting: None }
    }

    /// When [`Self::pass`] has something to do next.
    pub(super) fn next_change(&self) -> Option<Instant> {
        self.bindings.as_ref().and_then(Bindings::next_change)
    }

    /// Time has passed.
    pub(super) fn pass(&mut self, now: Instant) {
        if let Some(bindings) = &mut self.bindings {
            bindings.pass(now);
        }
    }
}

impl Rabbit {
    /// Somebody on this node subscribes to a topic; `None` where bindings are fixed.
    pub(in crate::broker) fn want(&mut self, topic: &TopicName) -> Option<Coming> {
        let bindings = self.following.bindings.as_mut()?;
        let had_buckets = bindings.have_buckets();
        let coming = bindings.want(topic);
        if bindings.have_buckets() && !had_buckets {
            let BindingLimits { topics, .. } = BindingLimits::default();
            tracing::info!(
                "more than {topics} topics: further ones are bound by their first word, or by `#`"
            );
        }
        Some(coming)
    }

    /// Nobody on this node subscribes to a topic any more.
    pub(in crate::broker) fn leave(&mut self, topic: &TopicName) {
        if let Some(bindings) = &mut self.following.bindings {
            bindings.leave(topic, Instant::now());
        }
    }

    /// Whether messages of a topic come to this node: always, or since it was subscribed to.
    pub(in crate::broker) fn follows(&self, topic: &str) -> bool {
        self.following.bindings.as_ref().is_none_or(|bindings| bindings.is_wanted(topic))
    }

    /// Whether the link has the bindings of all topics that were wanted when it was made. Before that, nothing is taken and
    /// nothing published: this node could miss its own publications.
    pub(super) fn is_bound(&self) -> bool {
        self.following.greeting.is_none()
    }

    /// There is a link: what is wanted is bound, and then the link is announced.
    pub(super) fn begin_to_bind(&mut self, greeting: Event) {
        self.following.greeting = Some(greeting);
        if let Some(bindings) = &mut self.following.bindings {
            bindings.linked();
        }
        self.greet_if_restored();
    }

    pub(super) fn stop_binding(&mut self) {
        if let Some(bindings) = &mut self.following.bindings {
            bindings.lost();
        }
        self.following.greeting = None;
    }

    /// Sends the changes of bindings that are due.
    pub(super) fn send_orders(&mut self) {
        let (LinkState::Linked { link, .. }, Some(bindings)) =
            (&mut self.state, &mut self.following.bindings)
        else {
            return;
        };
        while link.takes_orders()
            && let Some(order) = bindings.next_order()
        {
            link.order(order);
        }
    }

    pub(super) fn hear_of_bindings(&mut self, event: BinderEvent) {
        let Some(bindings) = &mut self.following.bindings else { return };
        match event {
            BinderEvent::Done => {
                let topics = bindings.done();
                self.events.extend(topics.into_iter().map(|topic| Event::Bound { topic }));
            }
            BinderEvent::Refused(error) => {
                if let Some((key, topics)) = bindings.refused() {
                    let reason = reply_text(&error);
                    tracing::warn!(%key, %reason, "RabbitMQ refuses a binding; its topics cannot be had");
                    self.events.extend(topics.into_iter().map(|topic| Event::Refused { topic }));
                }
            }
            BinderEvent::Opened => {}
            BinderEvent::Failed(error) => self.lost(&Loss::Binding(error)),
        }
        self.greet_if_restored();
    }

    fn greet_if_restored(&mut self) {
        if self.following.bindings.as_ref().is_none_or(Bindings::are_restored) {
            self.events.extend(self.following.greeting.take());
        }
    }

    /// Messages of our own queue were dropped.
    pub(super) fn overflowed(&mut self) {
        let LinkState::Linked { link, .. } = &self.state else { return };
        tracing::warn!(
            queue = link.source(),
            "amqp.queue_max_messages" = self.config.amqp.queue_max_messages,
            "this node was behind and its queue has overflowed, by this limit or a policy's: messages are lost"
        );
        self.events.push_back(Event::Overflowed);
    }
}
