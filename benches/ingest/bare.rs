//! The bare consumer: one thread that takes messages from RabbitMQ and sends each to one client, raw.

use std::io::{Error, Read, Result};
use std::net::TcpStream;

use crate::common::amqp::{Bare, Source};
use crate::common::floor::{frame, send, welcome_all};
use crate::common::{Arguments, LINE_BYTES, SERVER_CPU, pin};

/// What the bare consumer's process does, if the command line says that this is one.
pub(crate) fn run_if_asked(arguments: &Arguments) -> Option<Result<()>> {
    let [url, queue, clients, messages] = arguments.after("--bare")? else { return None };
    Some(run(url, queue, clients, messages))
}

/// For each byte of standard input, takes `messages` messages.
fn run(url: &str, queue: &str, clients: &str, messages: &str) -> Result<()> {
    let mut sockets = welcome_all(clients.parse().map_err(Error::other)?)?;
    let messages = messages.parse().map_err(Error::other)?;
    for order in std::io::stdin().lock().bytes() {
        order?;
        // Connected for each round anew, like the engine, so that nothing is taken before.
        let mut consumer = Bare::consume(url, Source::Queue(queue))?;
        pin(SERVER_CPU);
        consumer.messages(messages, |topic, body| {
            let client = topic.rsplit(':').next().and_then(|number| number.parse().ok());
            send_line(&mut sockets[client.unwrap_or(0)], topic, body);
        })?;
    }
    Ok(())
}

/// Sends a frame as long as the engine's, to the last byte.
fn send_line(socket: &mut TcpStream, topic: &str, body: &[u8]) {
    let around = r#"{"push":{"channel":"","pub":{"data":}}}"#.len();
    debug_assert!(around + topic.len() + body.len() <= LINE_BYTES);
    let frame = frame(around + topic.len() + body.len()).expect("a line is short");
    let mut sent = 0;
    while sent < frame.len() {
        sent += send(socket, &frame[sent..]);
    }
}
