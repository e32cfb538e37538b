//! Shards that wait to be attached to a topic until messages of that topic come to this node.

use std::collections::HashMap;

use crate::domain::mail::TopicName;

use super::Attachment;

/// The attachments that wait, by topic.
#[derive(Debug, Default)]
pub(super) struct Arrivals(HashMap<TopicName, Vec<Attachment>>);

impl Arrivals {
    /// One more waits.
    pub(super) fn add(&mut self, topic: TopicName, attachment: Attachment) {
        self.0.entry(topic).or_default().push(attachment);
    }

    /// Whether some wait for this topic.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.0.contains_key(topic)
    }

    /// Those that wait for this topic wait no longer.
    pub(super) fn take(&mut self, topic: &str) -> Vec<Attachment> {
        self.0.remove(topic).unwrap_or_default()
    }

    /// None waits any longer.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (TopicName, Vec<Attachment>)> + use<> {
        std::mem::take(&mut self.0).into_iter()
    }
}
