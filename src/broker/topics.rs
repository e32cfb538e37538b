//! Which shards want which topics. The broker thread alone writes here, so a shard that was told it is
//! attached misses nothing from then on.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::mail::{ShardId, TopicName, TopicSlot};

/// The broker's own number for a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TopicIndex(pub u32);

/// A shard that wants a topic, and by which number it knows it.
pub(super) type Interest = (ShardId, TopicSlot);

/// The shards that want a topic. Most topics of most users have one, which costs no allocation.
#[derive(Debug)]
enum Interests {
    One(Interest),
    Many(Vec<Interest>),
}

impl Interests {
    fn as_slice(&self) -> &[Interest] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// A topic that some shard wants.
#[derive(Debug)]
pub(super) struct Topic {
    /// Its name.
    pub name: TopicName,
    interests: Interests,
}

impl Topic {
    /// The shards that want it.
    pub(super) fn interests(&self) -> &[Interest] {
        self.interests.as_slice()
    }
}

/// All topics that some shard wants.
#[derive(Debug, Default)]
pub(super) struct Topics {
    slots: Vec<Option<Topic>>,
    free: Vec<u32>,
    by_name: HashTable<TopicIndex>,
    hasher: FixedState,
}

impl Topics {
    /// The topic with this name, if some shard wants it.
    pub(super) fn find(&self, name: &str) -> Option<TopicIndex> {
        let hash = self.hasher.hash_one(name);
        self.by_name.find(hash, |&index| &*named(&self.slots, index).name == name).copied()
    }

    /// The topic with this number, if some shard wants it.
    pub(super) fn get(&self, index: TopicIndex) -> Option<&Topic> {
        self.slots.get(index.0 as usize)?.as_ref()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Notes that a shard wants a topic, which it did not before.
    pub(super) fn attach(&mut self, name: TopicName, interest: Interest) {
        let Some(index) = self.find(&name) else {
            self.insert(Topic { name, interests: Interests::One(interest) });
            return;
        };
        let topic = self.slots[index.0 as usize].as_mut().expect("just found");
        match &mut topic.interests {
            Interests::One(one) => topic.interests = Interests::Many(vec![*one, interest]),
            Interests::Many(many) => many.push(interest),
        }
    }

    /// Notes that a shard wants a topic no more: the topic's number, if nobody is left.
    pub(super) fn detach(&mut self, name: &str, shard: ShardId) -> Option<TopicIndex> {
        let index = self.find(name)?;
        let topic = self.slots[index.0 as usize].as_mut().expect("just found");
        match &mut topic.interests {
            Interests::Many(many) if many.len() > 1 => {
                many.retain(|interest| interest.0 != shard);
                None
            }
            _ => {
                self.remove(index);
                Some(index)
            }
        }
    }

    fn insert(&mut self, topic: Topic) {
        let hash = self.hasher.hash_one(&*topic.name);
        let index = if let Some(index) = self.free.pop() {
            self.slots[index as usize] = Some(topic);
            TopicIndex(index)
        } else {
            self.slots.push(Some(topic));
            TopicIndex(u32::try_from(self.slots.len() - 1).expect("topics are limited"))
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.by_name.insert_unique(hash, index, |&index| hasher.hash_one(&*named(slots, index).name));
    }

    fn remove(&mut self, index: TopicIndex) {
        let hash = self.hasher.hash_one(&*named(&self.slots, index).name);
        if let Ok(entry) = self.by_name.find_entry(hash, |&other| other == index) {
            entry.remove();
        }
        self.slots[index.0 as usize] = None;
        self.free.push(index.0);
    }
}

fn named(slots: &[Option<Topic>], index: TopicIndex) -> &Topic {
    slots[index.0 as usize].as_ref().expect("the table holds numbers that are taken")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_there_while_a_shard_wants_it() {
        let mut topics = Topics::default();
        for shard in 0..3 {
            topics.attach("t".into(), (shard, TopicSlot(u32::from(shard) + 10)));
        }
        let index = topics.find("t").unwrap();
        assert_eq!(topics.detach("t", 1), None);
        let left = topics.get(index).unwrap().interests().to_vec();
        assert_eq!(left, [(0, TopicSlot(10)), (2, TopicSlot(12))]);
        assert_eq!(topics.detach("t", 0), None);
        assert_eq!(topics.detach("t", 2), Some(index));
        assert_eq!((topics.find("t"), topics.len(), topics.detach("t", 2)), (None, 0, None));
        topics.attach("u".into(), (0, TopicSlot(0)));
        assert_eq!(topics.find("u"), Some(index), "its number is used again");
    }
}
