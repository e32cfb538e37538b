//! Pushes: what clients are told without having asked, as values.

use crate::domain::publication::Publication;
use crate::domain::reasons::UnsubscribeCode;

/// What one client, or each subscriber of a topic, is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push<'a> {
    /// Something was published.
    Publication(Published<'a>),
    /// A subscription has ended.
    Unsubscribe {
        /// To which topic.
        topic: &'a str,
        /// Why.
        code: UnsubscribeCode,
    },
    /// Whether the client is still there: it may have to answer with a pong.
    Ping,
}

/// A publication on its way to the subscribers of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published<'a> {
    /// The topic.
    pub topic: &'a str,
    /// What was published there.
    pub publication: Publication<'a>,
    /// The first publication of a topic says in which numbering it is: those who subscribed when there was none do not
    /// know.
    pub epoch: Option<&'a str>,
}
