//! Questions of clients about a topic, and the answers. A codec reads an [`Asked`] from a command and writes a [`Told`]
//! into a reply. Sessions, shards and mail pass both on and are the same for all questions.

use crate::domain::position::{Position, Since};

/// What can be asked about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A part of the topic's history.
    History(HistoryRange),
}

/// What is told in answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// That part of the history.
    History(HistoryPage),
}

impl Told {
    /// Bytes of publications that it contains.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::History(page) => page.publications.len(),
        }
    }
}

/// Which part of a history is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryRange {
    /// At most this many publications. 0: none, only the position. `None`: as many as an answer may have.
    pub limit: Option<u32>,
    /// Only publications after this position, or before it if `reverse` is set.
    pub since: Option<Since>,
    /// Whether the newest come first.
    pub reverse: bool,
}

/// A part of a topic's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage<P = Vec<u8>> {
    /// The topic's position.
    pub position: Position,
    /// The publications: for a client as [`Codec::add_publication`] writes them.
    ///
    /// [`Codec::add_publication`]: crate::domain::codec::Codec::add_publication
    pub publications: P,
}
