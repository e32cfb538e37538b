//! Topics with a subscriber on this node, and the shards that want them.
//!
//! A topic costs 48 bytes in the slab and 5 in the index, both up to twice that while they grow, besides its
//! name: about 110 at most. Everything else that belongs to a topic refers to it by [`TopicId`].

use std::hash::BuildHasher as _;
use std::ops::Index;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::base::slab::Slab;
use crate::domain::mail::{ShardId, TopicName, TopicSlot, Variant};
use crate::domain::namespaces::NamespaceId;

use super::lanes::Lanes;

mod arrivals;

use arrivals::Arrivals;

/// This thread's number for a topic with subscribers. Used again once the topic is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TopicId(u32);

/// A shard that wants a topic in one variant, and its own number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) shard: ShardId,
    pub(super) variant: Variant,
    pub(super) slot: TopicSlot,
}

impl Attachment {
    fn is(&self, shard: ShardId, variant: Variant) -> bool {
        self.shard == shard && self.variant == variant
    }
}

/// The shards that want a topic. Private topics have one subscriber, and need no list.
#[derive(Debug)]
enum Attachments {
    One(Attachment),
    More(Vec<Attachment>),
}

/// A topic with at least one subscriber.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: TopicName,
    pub(super) namespace: NamespaceId,
    attachments: Attachments,
}

impl Topic {
    /// Where to send its publications; never empty.
    pub(super) fn attachments(&self) -> &[Attachment] {
        match &self.attachments {
            Attachments::One(attachment) => std::slice::from_ref(attachment),
            Attachments::More(attachments) => attachments,
        }
    }

    /// The lanes that somebody is in.
    pub(super) fn lanes(&self) -> Lanes {
        self.attachments().iter().map(|attachment| attachment.variant.lane).collect()
    }
}

/// There are as many topics as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What a shard's leaving means for the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The shard had not been attached.
    NotThere,
    /// Others still want it.
    OthersStay,
    /// It was the last one: the topic is gone, and its number is free.
    TopicGone(TopicId),
}

/// All topics with subscribers on this node, and the shards that wait for messages of a topic.
#[derive(Debug)]
pub(super) struct Topics {
    /// Shards that will be attached when messages of the topic come to this node.
    arrivals: Arrivals,
    slab: Slab<Topic>,
    /// By the hash of the name. Names come from strangers, so that the seed is random.
    index: HashTable<TopicId>,
    hasher: RandomState,
    max: usize,
}

impl Topics {
    /// Room for `max` topics, taken as they come.
    pub(super) fn new(max: usize) -> Self {
        let max = max.min(u32::MAX as usize);
        Self {
            arrivals: Arrivals::default(),
            slab: Slab::default(),
            index: HashTable::new(),
            hasher: RandomState::default(),
            max,
        }
    }

    /// Sets how many there may be. If there are more, no other is added.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max.min(u32::MAX as usize);
    }

    /// A shard will be attached when messages of the topic come.
    pub(super) fn await_messages(&mut self, topic: TopicName, attachment: Attachment) {
        self.arrivals.add(topic, attachment);
    }

    /// Whether a shard waits for messages of the topic.
    pub(super) fn is_awaited(&self, topic: &str) -> bool {
        self.arrivals.has(topic)
    }

    /// The shards that waited for messages of the topic. They wait no longer.
    pub(super) fn end_awaiting(&mut self, topic: &str) -> Vec<Attachment> {
        self.arrivals.take(topic)
    }

    /// All shards that waited for messages, by topic. They wait no longer.
    pub(super) fn end_all_awaiting(&mut self) -> impl Iterator<Item = (TopicName, Vec<Attachment>)> + use<> {
        self.arrivals.take_all()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// The topic of that name, if somebody wants it.
    pub(super) fn find(&self, name: &str) -> Option<TopicId> {
        let hash = self.hasher.hash_one(name);
        self.index.find(hash, |&id| &*self[id].name == name).copied()
    }

    /// Registers a shard.
    ///
    /// # Errors
    /// When there is no room for one more topic.
    ///
    /// # Panics
    /// If the shard has the topic in this variant already: shards attach with their first subscriber only.
    pub(super) fn attach(
        &mut self,
        name: TopicName,
        attachment: Attachment,
        namespace: impl FnOnce(&str) -> NamespaceId,
    ) -> Result<(), Full> {
        if let Some(id) = self.find(&name) {
            let topic = self.topic_mut(id);
            assert!(
                topic.attachments().iter().all(|other| !other.is(attachment.shard, attachment.variant)),
                "shard {} attached a topic twice",
                attachment.shard
            );
            topic.attachments = match std::mem::replace(&mut topic.attachments, Attachments::More(Vec::new()))
            {
                Attachments::One(first) => Attachments::More(vec![first, attachment]),
                Attachments::More(mut attachments) => {
                    attachments.push(attachment);
                    Attachments::More(attachments)
                }
            };
            return Ok(());
        }
        if self.len() >= self.max {
            return Err(Full);
        }
        let namespace = namespace(&name);
        self.insert(Topic { name, namespace, attachments: Attachments::One(attachment) });
        Ok(())
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.slab.iter().map(|(_, topic)| topic)
    }

    fn insert(&mut self, topic: Topic) {
        let hash = self.hasher.hash_one(&*topic.name);
        let id = TopicId(self.slab.insert(topic));
        let (slab, hasher) = (&self.slab, &self.hasher);
        self.index.insert_unique(hash, id, |id| hasher.hash_one(&*slab[id.0].name));
    }

    /// Takes a shard off that wanted the topic in this variant.
    pub(super) fn detach(&mut self, name: &str, shard: ShardId, variant: Variant) -> Left {
        let Some(id) = self.find(name) else { return Left::NotThere };
        match &mut self.topic_mut(id).attachments {
            Attachments::One(attachment) if !attachment.is(shard, variant) => Left::NotThere,
            Attachments::One(_) => {
                self.remove(id);
                Left::TopicGone(id)
            }
            Attachments::More(attachments) => {
                let Some(at) = attachments.iter().position(|attachment| attachment.is(shard, variant)) else {
                    return Left::NotThere;
                };
                attachments.swap_remove(at);
                if let [last] = attachments[..] {
                    self.topic_mut(id).attachments = Attachments::One(last);
                }
                Left::OthersStay
            }
        }
    }

    fn remove(&mut self, id: TopicId) {
        let hash = self.hasher.hash_one(&*self[id].name);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        self.slab.remove(id.0);
    }

    fn topic_mut(&mut self, id: TopicId) -> &mut Topic {
        &mut self.slab[id.0]
    }
}

impl Index<TopicId> for Topics {
    type Output = Topic;

    fn index(&self, id: TopicId) -> &Topic {
        &self.slab[id.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::domain::encoding::Encoding;
    use crate::domain::mail::Lane;
    use crate::domain::namespaces::Namespaces;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn namespace(_: &str) -> NamespaceId {
        Namespaces::new(&Config::default()).of("x")
    }

    const PLAIN: Variant = Variant { encoding: Encoding::Json, lane: Lane::FIRST };

    fn attachment(shard: ShardId, slot: u32) -> Attachment {
        Attachment { shard, variant: PLAIN, slot: TopicSlot(slot) }
    }

    #[test]
    fn a_full_table_takes_shards_for_the_topics_it_has() {
        let mut topics = Topics::new(1);
        topics.attach("a".into(), attachment(0, 0), namespace).unwrap();
        assert_eq!(topics.attach("b".into(), attachment(0, 1), namespace), Err(Full));
        topics.attach("a".into(), attachment(1, 7), namespace).unwrap();
        assert_eq!(topics.detach("a", 0, PLAIN), Left::OthersStay);
        let id = topics.find("a").unwrap();
        assert_eq!(topics[id].attachments(), [attachment(1, 7)]);
        assert_eq!(topics.detach("a", 1, PLAIN), Left::TopicGone(id));
        topics.attach("b".into(), attachment(0, 1), namespace).unwrap();
        assert_eq!(topics.find("a"), None);
    }

    #[test]
    fn leaving_what_one_has_not_joined_changes_nothing() {
        let mut topics = Topics::new(10);
        assert_eq!(topics.detach("a", 0, PLAIN), Left::NotThere);
        topics.attach("a".into(), attachment(0, 0), namespace).unwrap();
        assert_eq!(topics.detach("a", 1, PLAIN), Left::NotThere);
        assert_eq!(topics.len(), 1);
    }

    #[test]
    fn a_shard_may_want_a_topic_in_several_variants() {
        let deflated = Variant { encoding: Encoding::Deflated, ..PLAIN };
        let laned = Variant { lane: Lane::ALL[3], ..PLAIN };
        for variant in [deflated, laned] {
            let mut topics = Topics::new(1);
            let other = Attachment { variant, ..attachment(0, 1) };
            topics.attach("a".into(), attachment(0, 0), namespace).unwrap();
            assert_eq!(topics.detach("a", 0, variant), Left::NotThere);
            topics.attach("a".into(), other, namespace).unwrap();
            let id = topics.find("a").unwrap();
            assert_eq!(topics[id].lanes(), [Lane::FIRST, variant.lane].into_iter().collect());
            assert_eq!(topics.detach("a", 0, PLAIN), Left::OthersStay);
            assert_eq!((topics[id].attachments(), topics.len()), (&[other][..], 1));
            assert_eq!(topics.detach("a", 0, PLAIN), Left::NotThere);
            assert_eq!(topics.detach("a", 0, variant), Left::TopicGone(id));
        }
    }

    #[test]
    #[should_panic(expected = "attached a topic twice")]
    fn a_shard_attaches_once() {
        let mut topics = Topics::new(10);
        topics.attach("a".into(), attachment(0, 0), namespace).unwrap();
        let _ = topics.attach("a".into(), attachment(0, 1), namespace);
    }

    #[test]
    fn a_private_topic_is_small() {
        assert!(size_of::<Option<Topic>>() <= 48, "{}", size_of::<Option<Topic>>());
    }

    proptest! {
        /// Against a map of maps: any sequence of attaching and detaching.
        #[test]
        fn it_holds_what_was_attached_and_not_detached(steps in prop::collection::vec((0..6_u8, 0..3_u16, any::<bool>()), 0..200)) {
            let mut topics = Topics::new(4);
            let mut model = BTreeMap::<String, BTreeMap<ShardId, u32>>::new();
            for (slot, (topic, shard, attach)) in steps.into_iter().enumerate() {
                let name = format!("t{topic}");
                let has = model.get(&name).is_some_and(|shards| shards.contains_key(&shard));
                let slot = u32::try_from(slot).unwrap();
                if attach && !has {
                    let room = model.contains_key(&name) || model.len() < 4;
                    let attached = topics.attach(name.as_str().into(), attachment(shard, slot), namespace);
                    prop_assert_eq!(attached.is_ok(), room);
                    if room {
                        model.entry(name).or_default().insert(shard, slot);
                    }
                } else if !attach {
                    let left = topics.detach(&name, shard, PLAIN);
                    prop_assert_eq!(left == Left::NotThere, !has);
                    if let Some(shards) = model.get_mut(&name) {
                        shards.remove(&shard);
                        if shards.is_empty() {
                            model.remove(&name);
                        }
                    }
                    prop_assert_eq!(matches!(left, Left::TopicGone(_)), has && !model.contains_key(&name));
                }
                prop_assert_eq!(topics.len(), model.len());
                for (name, shards) in &model {
                    let id = topics.find(name).unwrap();
                    let found: BTreeMap<_, _> = topics[id].attachments().iter().map(|attachment| (attachment.shard, attachment.slot.0)).collect();
                    prop_assert_eq!(&found, shards);
                }
            }
        }
    }
}
