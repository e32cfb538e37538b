//! The headers and values of AMQP that have a meaning for the engine.

/// RabbitMQ routes by it as by the routing key, and passes it on; but up to version 3, streams keep no header
/// that is a list or a table.
pub(super) const COPIES: &str = "CC";
/// So topics beside the routing key can be said by this one as well: text, a topic per line, or a list of texts, where
/// it is kept.
pub(super) const TOPICS: &str = "x-topics";
pub(super) const KEY: &str = "x-key";
/// The client that published it: JSON, as [`client_info`](crate::codec::json::client_info) writes it. What a service
/// publishes has none.
pub(super) const CLIENT_INFO: &str = "x-client-info";
/// `true`: no history keeps it.
pub(super) const SKIP_HISTORY: &str = "x-skip-history";
/// Microseconds since 1970, as our own publishes say them.
pub(super) const MICROSECONDS: &str = "x-timestamp-us";
/// As RabbitMQ's timestamp interceptor says them.
pub(super) const MILLISECONDS: &str = "timestamp_in_ms";
/// Headers with a meaning, of all that publishers and RabbitMQ say: of several with one name the first counts, and none
/// is dropped for want of room.
pub(super) const MEANINGFUL: [&str; 8] =
    [OFFSET, KEY, TOPICS, COPIES, CLIENT_INFO, SKIP_HISTORY, MICROSECONDS, MILLISECONDS];
/// Where RabbitMQ says that a message stands in its stream.
pub(super) const OFFSET: &str = "x-stream-offset";
/// AMQP's number for messages that survive a restart of RabbitMQ.
pub(super) const PERSISTENT: u8 = 2;
