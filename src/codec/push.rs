//! Pushes: messages that clients receive without a command, as values.

use crate::domain::publication::Publication;
use crate::domain::reasons::UnsubscribeCode;

/// A push to one client, or to each subscriber of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push<'a> {
    /// A publication.
    Publication(Published<'a>),
    /// A subscription has ended.
    Unsubscribe {
        /// To which topic.
        topic: &'a str,
        /// Why.
        code: UnsubscribeCode,
    },
    /// A ping: the client may have to answer with a pong.
    Ping,
}

/// A publication on its way to the subscribers of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The publication itself.
    pub publication: Publication<'a>,
    /// The epoch, in the first publication of a topic: clients that subscribed when there was none do not
    /// know it.
    pub epoch: Option<&'a str>,
}
