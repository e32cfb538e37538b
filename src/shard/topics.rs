//! All topics of a shard, by slot and by name.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::base::slab::Slab;
use crate::domain::mail::{TopicName, TopicSlot, Variant};
use crate::domain::namespaces::NamespaceId;
use crate::shard::topic::Topic;

/// All topics of a shard, by slot and by name.
#[derive(Debug, Default)]
pub struct Topics {
    slab: Slab<Topic>,
    by_name: HashTable<TopicSlot>,
    hasher: FixedState,
}

impl Topics {
    /// The hash by which names are told apart quickly.
    #[must_use]
    pub fn hash(&self, name: &str) -> u64 {
        self.hasher.hash_one(name)
    }

    /// The slot of the topic with this name, in this variant.
    #[must_use]
    pub fn find(&self, name: &str, variant: Variant) -> Option<TopicSlot> {
        let is_it = |topic: &Topic| topic.variant() == variant && &**topic.name() == name;
        self.by_name.find(self.hash(name), |&slot| is_it(&self[slot])).copied()
    }

    /// The slots of the topics with this name, in whatever variants there are.
    pub fn variants(&self, name: &str) -> impl Iterator<Item = TopicSlot> {
        self.by_name.iter_hash(self.hash(name)).copied().filter(move |&slot| &**self[slot].name() == name)
    }

    /// Adds a topic, to be attached.
    pub fn insert(&mut self, name: TopicName, namespace: NamespaceId, variant: Variant) -> TopicSlot {
        let hash = self.hash(&name);
        let slot = TopicSlot(self.slab.insert(Topic::new(name, namespace, variant)));
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.by_name.insert_unique(hash, slot, |slot| hasher.hash_one(&**slab[slot.0].name()));
        slot
    }

    /// Takes a topic out and frees its slot.
    pub fn remove(&mut self, slot: TopicSlot) -> Topic {
        let hash = self.hash(self[slot].name());
        if let Ok(entry) = self.by_name.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
        self.slab.remove(slot.0)
    }

    /// The topic in `slot`, if there is one.
    #[must_use]
    pub fn get(&self, slot: TopicSlot) -> Option<&Topic> {
        self.slab.get(slot.0)
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Number of slots, taken or not: all slots are below it.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slab.numbers()
    }

    /// All topics, with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (TopicSlot, &Topic)> {
        self.slab.iter().map(|(slot, topic)| (TopicSlot(slot), topic))
    }
}

impl std::ops::Index<TopicSlot> for Topics {
    type Output = Topic;

    fn index(&self, slot: TopicSlot) -> &Topic {
        &self.slab[slot.0]
    }
}

impl std::ops::IndexMut<TopicSlot> for Topics {
    fn index_mut(&mut self, slot: TopicSlot) -> &mut Topic {
        &mut self.slab[slot.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::encoding::Encoding;
    use crate::domain::mail::Lane;

    const PLAIN: Variant = Variant { encoding: Encoding::Json, lane: Lane::FIRST };

    #[test]
    fn names_are_found_after_their_slots_were_reused() {
        let namespaces = crate::domain::namespaces::Namespaces::new(&crate::config::Config::default());
        let mut topics = Topics::default();
        let insert = |topics: &mut Topics, name: &str| topics.insert(name.into(), namespaces.of(name), PLAIN);
        let a = insert(&mut topics, "a");
        let b = insert(&mut topics, "b");
        topics.remove(a);
        let find = |topics: &Topics, name| topics.find(name, PLAIN);
        assert_eq!(find(&topics, "a"), None);
        assert_eq!(insert(&mut topics, "c"), a);
        assert_eq!((find(&topics, "c"), find(&topics, "b"), topics.len()), (Some(a), Some(b), 2));
    }

    #[test]
    fn a_topic_in_several_variants_is_several() {
        let namespaces = crate::domain::namespaces::Namespaces::new(&crate::config::Config::default());
        let variants = [
            PLAIN,
            Variant { encoding: Encoding::Deflated, ..PLAIN },
            Variant { lane: Lane::ALL[1], ..PLAIN },
        ];
        let mut topics = Topics::default();
        let slots = variants.map(|variant| {
            assert_eq!(topics.find("a", variant), None);
            topics.insert("a".into(), namespaces.of("a"), variant)
        });
        topics.insert("b".into(), namespaces.of("b"), PLAIN);
        assert_eq!(variants.map(|variant| topics.find("a", variant)), slots.map(Some));
        topics.remove(slots[1]);
        assert_eq!(topics.find("a", variants[1]), None);
        let mut left: Vec<_> = topics.variants("a").collect();
        left.sort_unstable();
        assert_eq!(left, [slots[0], slots[2]]);
    }
}
