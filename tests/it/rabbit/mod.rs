//! The broker thread against a RabbitMQ of its own: fake shards at one end, a real AMQP publisher at the
//! other.

mod arriving;
mod broker_thread;
mod dead_letter_exchange;
mod declaring;
mod lost_links;
mod undeliverable;

use fanfare::config::{Config, Source};

/// For what is about queues; the rest is about the default, a stream.
fn by_queue(config: &mut Config) {
    config.amqp.source = Source::Queue;
}
