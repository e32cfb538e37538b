//! What tokens and backends say about a client's subscriptions. There is at most one grant for each subscription, and one for each
//! subscribe that waits for the broker's answer, so their number is bounded by `limits.topics_per_client`. A subscription
//! that the connect has brought always has one: it says that the server has made it.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::auth::{ServerSubscription, SubscriptionTerms};
use crate::base::moment::Moment;
use crate::domain::mail::TopicSlot;
use crate::session::Session;
use crate::session::expiry::{End, Now, Renewal};

/// What a token or a backend says about one subscription.
struct Grant {
    of: Of,
    /// Whether it came with the connect, so that the client has not asked for the subscription.
    is_server_side: bool,
    /// When the subscription expires; `None`: never.
    end: Option<End>,
    /// What others are shown about the subscriber: JSON without line breaks.
    info: Option<Box<str>>,
    /// What the client is told when it is subscribed: JSON without line breaks.
    data: Option<Box<str>>,
}

impl fmt::Debug for Grant {
    /// Without what the application says about its users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant({:?}, expires {:?})", self.of, self.end)
    }
}

/// What a grant belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// A subscribe command that is not answered yet.
    Command(u32),
    /// A subscription.
    Topic(TopicSlot),
}

/// The grants of one client. Most clients with a token of their own have none, so these are one pointer.
#[derive(Debug, Default)]
pub(super) struct Grants(Option<Box<List>>);

/// Is not empty.
#[derive(Debug, Default)]
struct List(Vec<Grant>);

impl Grants {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn all(&self) -> &[Grant] {
        self.0.as_ref().map_or(&[], |list| &list.0)
    }

    /// The subscription about which something is to be done first because it expires, and when ([`End::due`]).
    pub(super) fn first_due(&self, grace: Duration) -> Option<(TopicSlot, Moment)> {
        let due = self.all().iter().filter_map(|grant| match grant.of {
            Of::Topic(topic) => Some((topic, grant.end?.due(grace)?)),
            Of::Command(_) => None,
        });
        due.min_by_key(|&(_, due)| due)
    }

    /// The commands and the subscriptions that they are of.
    pub(super) fn owners(&self) -> (impl Iterator<Item = u32>, impl Iterator<Item = TopicSlot>) {
        let commands = self.all().iter().filter_map(|grant| match grant.of {
            Of::Command(id) => Some(id),
            Of::Topic(_) => None,
        });
        let topics = self.all().iter().filter_map(|grant| match grant.of {
            Of::Topic(topic) => Some(topic),
            Of::Command(_) => None,
        });
        (commands, topics)
    }

    /// Whether the application's backend is asked for how long a subscription may stay.
    pub(super) fn are_asked_about(&self) -> bool {
        self.all().iter().any(|grant| grant.end.is_some_and(End::is_asked))
    }

    /// Forgets the grant of a command that failed.
    pub(super) fn drop_of_command(&mut self, id: u32) {
        self.remove(Of::Command(id));
    }

    /// `data` is what the client is told: with the subscribe, and not again.
    fn insert(&mut self, of: Of, terms: &SubscriptionTerms, renewal: Renewal, data: Option<&str>, now: Now) {
        self.remove(of);
        self.0.get_or_insert_default().0.push(Grant {
            of,
            is_server_side: false,
            end: terms.expires.map(|expires| End { expires: now.moment_of(expires), renewal }),
            info: terms.info.clone(),
            data: data.map(Into::into),
        });
    }

    /// Adds that of a subscription which the connection's token brings. It does not expire before the connection does.
    pub(super) fn insert_of_server(&mut self, topic: TopicSlot, subscription: &ServerSubscription) {
        self.0.get_or_insert_default().0.push(Grant {
            of: Of::Topic(topic),
            is_server_side: true,
            end: None,
            info: subscription.info.clone(),
            data: subscription.data.clone(),
        });
    }

    fn remove(&mut self, of: Of) {
        let Some(list) = &mut self.0 else { return };
        list.0.retain(|grant| grant.of != of);
        if list.0.is_empty() {
            self.0 = None;
        }
    }

    fn find(&self, of: Of) -> Option<&Grant> {
        self.all().iter().find(|grant| grant.of == of)
    }

    fn find_mut(&mut self, of: Of) -> Option<&mut Grant> {
        self.0.as_mut()?.0.iter_mut().find(|grant| grant.of == of)
    }
}

/// What tokens say about subscriptions.
impl Session {
    /// Keeps what is said about a subscription until the command is answered.
    pub(super) fn grant(&mut self, id: u32, terms: &SubscriptionTerms, renewal: Renewal, now: Now) {
        let data = terms.data.as_deref();
        self.change_rare(|rare| rare.grants.insert(Of::Command(id), terms, renewal, data, now));
    }

    /// Replaces what a subscription's token says. Returns when it expires.
    pub(super) fn grant_again(
        &mut self,
        topic: TopicSlot,
        terms: &SubscriptionTerms,
        renewal: Renewal,
        now: Now,
    ) -> Option<NonZeroU32> {
        self.change_rare(|rare| rare.grants.insert(Of::Topic(topic), terms, renewal, None, now));
        self.ttl_of(topic, now)
    }

    /// Takes the terms on which a subscription that has expired may stay. What they do not say stays as it is.
    pub(super) fn prolong_subscription(
        &mut self,
        topic: TopicSlot,
        terms: &SubscriptionTerms,
        renewal: Renewal,
        now: Now,
    ) {
        if let Some(rare) = &mut self.rare
            && let Some(grant) = rare.grants.find_mut(Of::Topic(topic))
        {
            grant.end = terms.expires.map(|expires| End::prolonged(expires, renewal, now));
            if terms.info.is_some() {
                grant.info.clone_from(&terms.info);
            }
        }
    }

    /// Notes that a subscribe has become a subscription. What its token says holds for the subscription.
    pub fn subscribed(&mut self, id: u32, topic: TopicSlot) {
        if let Some(rare) = &mut self.rare
            && let Some(grant) = rare.grants.find_mut(Of::Command(id))
        {
            grant.of = Of::Topic(topic);
        }
    }

    /// Notes that a subscription has ended.
    pub fn unsubscribed(&mut self, topic: TopicSlot) {
        if self.rare.is_some() {
            self.change_rare(|rare| rare.grants.remove(Of::Topic(topic)));
        }
    }

    /// Seconds until the client is to send another token for a subscription. `None`: it need not.
    #[must_use]
    pub fn ttl_of(&self, topic: TopicSlot, now: Now) -> Option<NonZeroU32> {
        let expires = self.end_of(topic)?.told()?;
        Some(now.seconds_until(expires))
    }

    pub(super) fn end_of(&self, topic: TopicSlot) -> Option<End> {
        self.grant_of(topic)?.end
    }

    /// Notes that the application's backend is asked for how long a subscription may stay.
    pub fn subscription_is_asked(&mut self, topic: TopicSlot) {
        if let Some(rare) = &mut self.rare
            && let Some(Grant { end: Some(end), .. }) = rare.grants.find_mut(Of::Topic(topic))
        {
            end.renewal = Renewal::Asked;
        }
    }

    /// Whether the connection's token has brought a subscription.
    #[must_use]
    pub fn is_server_side(&self, topic: TopicSlot) -> bool {
        self.grant_of(topic).is_some_and(|grant| grant.is_server_side)
    }

    /// Whether a token says something about any of the client's subscriptions.
    #[must_use]
    pub fn has_grants(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| !rare.grants.is_empty())
    }

    /// Takes out what the token of a new subscription has for the client: JSON without line breaks.
    pub fn take_data_of(&mut self, topic: TopicSlot) -> Option<Box<str>> {
        self.rare.as_mut()?.grants.find_mut(Of::Topic(topic))?.data.take()
    }

    /// What others are shown about the client as a subscriber of a topic: JSON without line breaks.
    #[must_use]
    pub fn info_in(&self, topic: TopicSlot) -> Option<&str> {
        self.grant_of(topic)?.info.as_deref()
    }

    fn grant_of(&self, topic: TopicSlot) -> Option<&Grant> {
        self.rare.as_ref()?.grants.find(Of::Topic(topic))
    }
}
