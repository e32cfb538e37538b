//! Places in a topic's history.

use std::sync::Arc;

/// Identifies one numbering of publications: offsets of different epochs cannot be compared. Shared by
/// everyone who holds a position in it.
pub type Epoch = Arc<str>;

/// A place among the publications of a topic with history: everything up to and including `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which numbering.
    pub epoch: Epoch,
    /// The newest publication's. 0: there is none so far. Offsets of one topic rise, but need not be
    /// consecutive.
    pub offset: u64,
}

/// The position from which a client wants to continue, as the client sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Since {
    /// Empty: any epoch.
    pub epoch: Box<str>,
    /// The newest publication that the client has.
    pub offset: u64,
}
