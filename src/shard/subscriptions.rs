//! The subscriptions of one client.

use crate::domain::mail::TopicSlot;

/// A subscription as its client holds it: the topic, and where in the topic's array the subscriber stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Which topic.
    pub topic: TopicSlot,
    /// Index into the topic's subscribers.
    pub position: u32,
}

/// A client's subscriptions, in the order of their topics' slots. Most clients have one, which costs no
/// allocation.
#[derive(Debug, Default)]
pub enum Subscriptions {
    /// None.
    #[default]
    Empty,
    /// The usual case.
    One(Subscription),
    /// Sorted by topic.
    Many(Box<Vec<Subscription>>),
}

impl Subscriptions {
    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[Subscription] {
        match self {
            Self::Empty => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Subscription] {
        match self {
            Self::Empty => &mut [],
            Self::One(one) => std::slice::from_mut(one),
            Self::Many(many) => many,
        }
    }

    /// The subscription to `topic`.
    #[must_use]
    pub fn find(&self, topic: TopicSlot) -> Option<Subscription> {
        let all = self.as_slice();
        all.binary_search_by_key(&topic, |one| one.topic).ok().map(|index| all[index])
    }

    /// Adds one. There must be none to the same topic.
    pub fn insert(&mut self, new: Subscription) {
        match self {
            Self::Empty => *self = Self::One(new),
            Self::One(one) => {
                let mut both = vec![*one, new];
                both.sort_unstable_by_key(|one| one.topic);
                *self = Self::Many(Box::new(both));
            }
            Self::Many(many) => {
                let at = many.partition_point(|one| one.topic < new.topic);
                many.insert(at, new);
            }
        }
    }

    /// Removes the one to `topic`, if there is one.
    pub fn remove(&mut self, topic: TopicSlot) -> Option<Subscription> {
        let found = self.find(topic)?;
        match self {
            Self::Many(many) if many.len() > 1 => many.retain(|one| one.topic != topic),
            _ => *self = Self::Empty,
        }
        Some(found)
    }

    /// Notes that the subscriber of `topic` now stands at `position`.
    pub fn moved(&mut self, topic: TopicSlot, position: u32) {
        let all = self.as_mut_slice();
        let index = all.binary_search_by_key(&topic, |one| one.topic);
        all[index.expect("a subscriber's client has the subscription")].position = position;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_found_in_any_order_of_coming_and_going() {
        let mut all = Subscriptions::default();
        for topic in [5, 1, 9, 3] {
            all.insert(Subscription { topic: TopicSlot(topic), position: topic * 10 });
        }
        all.moved(TopicSlot(9), 7);
        assert_eq!(all.find(TopicSlot(9)).map(|one| one.position), Some(7));
        assert!(all.find(TopicSlot(4)).is_none());
        for topic in [1, 9, 5, 3] {
            assert!(all.remove(TopicSlot(topic)).is_some());
            assert!(all.remove(TopicSlot(topic)).is_none());
        }
        assert!(all.as_slice().is_empty());
    }
}
