//! The stream as the source: nothing is lost or repeated over restarts of either side, all nodes are in one
//! epoch, and a stream that is another one is noticed.

mod dead_letters;
mod epochs;
mod restarts;
mod time;

use crate::support::engine::Engine;
use crate::support::publisher::{Publisher, headers};
use lapin::BasicProperties;
use lapin::types::AMQPValue;

/// Who waits for RabbitMQ to start need not answer pings.
const SETTINGS: &str = "[amqp]\nreconnect_max = \"500ms\"\n[timeouts]\nping = \"5m\"\n";

fn configuration(url: &str) -> String {
    SETTINGS.replace("[amqp]\n", &format!("[amqp]\nurl = \"{url}\"\n"))
}

fn start(url: &str) -> Engine {
    Engine::consuming(url, SETTINGS)
}

fn plain() -> BasicProperties {
    BasicProperties::default()
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// A marker as another node would write it.
fn claim(publisher: &Publisher, epoch: &str, origin: i64) {
    let marker = headers(&[
        ("x-fanfare-marker", text("1")),
        ("x-fanfare-node", text("2")),
        ("x-fanfare-epoch", text(epoch)),
        ("x-fanfare-origin", AMQPValue::LongLongInt(origin)),
    ]);
    publisher.publish_to("", "fanfare", b"", marker);
}
