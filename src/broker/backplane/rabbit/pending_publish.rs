//! What is published.

use lapin::BasicProperties;
use lapin::types::ShortString;

/// What to publish.
#[derive(Debug)]
pub(super) struct PendingPublish {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) body: Vec<u8>,
    pub(super) properties: BasicProperties,
}
