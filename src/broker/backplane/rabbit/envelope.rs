//! The parts of a message that its acknowledgement or its dead letter needs.

use lapin::BasicProperties;

use super::message_cost;

/// What came with a message and is needed only if it goes to the dead-letter exchange. Boxed, as it has ten
/// times the size of everything else about a message.
#[derive(Debug, Default)]
pub(in crate::broker) struct Envelope(pub(super) Option<Box<BasicProperties>>);

impl Envelope {
    /// Bytes of memory that a message with this body takes, about.
    pub(in crate::broker) fn weight(&self, body: &[u8]) -> usize {
        self.0.as_ref().map_or(body.len(), |properties| message_cost::of(body, properties))
    }
}
