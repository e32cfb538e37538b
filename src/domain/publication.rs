//! A publication as a value, in no codec's form.

/// One publication of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// What was published: JSON that was checked, and is never parsed into values.
    pub data: &'a [u8],
    /// Its place in the topic's history; 0: the topic has none.
    pub offset: u64,
}
