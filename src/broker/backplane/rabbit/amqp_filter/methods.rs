//! AMQP methods: what RabbitMQ sends besides messages, and before each message.

use super::properties::is_text;

/// A text that is no text is made one: each byte that is wrong becomes this.
const BLANK: u8 = b'?';

/// What a method announces.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// A message, with its routing key if that is no text.
    Delivery(Option<Box<[u8]>>),
    /// That the channel is new.
    Channel,
    /// Nothing of interest.
    Nothing,
}

/// What a method says of a consumer, by its tag.
pub(super) enum Said<'a> {
    /// It has begun.
    Begun(&'a [u8]),
    /// It gets a message.
    Delivered(&'a [u8]),
    Nothing,
}

/// Looks at a method before it passes.
pub(super) fn consumer(payload: &[u8]) -> Said<'_> {
    let Some((kind, [len, rest @ ..])) = payload.split_at_checked(4) else { return Said::Nothing };
    let Some(tag) = rest.get(..usize::from(*len)) else { return Said::Nothing };
    match kind {
        [0, 60, 0, 21] => Said::Begun(tag),
        [0, 60, 0, 60] => Said::Delivered(tag),
        _ => Said::Nothing,
    }
}

/// `basic.consume-ok`.
pub(super) fn consume_ok(tag: &[u8]) -> Vec<u8> {
    [&[0, 60, 0, 21, u8::try_from(tag.len()).unwrap_or(u8::MAX)], tag].concat()
}

/// A method's arguments, as far as texts are among them.
#[derive(Clone, Copy)]
enum Argument {
    /// So many bytes that are no text.
    Other(usize),
    Text,
    RoutingKey,
}

/// The arguments of the methods that RabbitMQ sends and that have texts (AMQP 0.9.1, section 1).
fn arguments(class: u16, method: u16) -> &'static [Argument] {
    use Argument::{Other, RoutingKey, Text};
    match (class, method) {
        // basic.deliver, basic.get-ok, basic.return.
        (60, 60) => &[Text, Other(9), Text, RoutingKey],
        (60, 71) => &[Other(9), Text, RoutingKey],
        (60, 50) => &[Other(2), Text, Text, Text],
        // connection.close and channel.close: the text may be cut within a character.
        (10, 50) | (20, 40) => &[Other(2), Text],
        // connection.open-ok, connection.blocked, queue.declare-ok, basic.consume-ok, basic.cancel, basic.cancel-ok,
        // basic.get-empty.
        (10, 41 | 60) | (50, 11) | (60, 21 | 30 | 31 | 72) => &[Text],
        _ => &[],
    }
}

/// Makes all texts of a method texts, without changing their length. What has not the form of the method stays.
pub(super) fn mend(payload: &mut [u8]) -> Announced {
    let Some((&mut [a, b, c, d], mut rest)) = payload.split_first_chunk_mut() else {
        return Announced::Nothing;
    };
    let (class, method) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let mut routing_key = None;
    for argument in arguments(class, method) {
        let len = match argument {
            Argument::Other(len) => *len,
            Argument::Text | Argument::RoutingKey => {
                let Some((&mut len, behind)) = rest.split_first_mut() else { break };
                rest = behind;
                len.into()
            }
        };
        let Some((value, behind)) = rest.split_at_mut_checked(len) else { break };
        rest = behind;
        if matches!(argument, Argument::Other(_)) || is_text(value) {
            continue;
        }
        if matches!(argument, Argument::RoutingKey) {
            routing_key = Some(Box::from(&*value));
        }
        blank(value);
    }
    match (class, method) {
        (60, 60 | 71) => Announced::Delivery(routing_key),
        (20, 11) => Announced::Channel,
        _ => Announced::Nothing,
    }
}

fn blank(text: &mut [u8]) {
    let mut at = 0;
    while let Err(error) = std::str::from_utf8(&text[at..]) {
        let begin = at + error.valid_up_to();
        let end = error.error_len().map_or(text.len(), |len| begin + len);
        text[begin..end].fill(BLANK);
        at = end;
    }
}
