//! The approximate memory of a message: its body, and its decoded headers, which take many times their bytes
//! on the wire if they are many and small. And the exact size of its properties, all of which have to fit
//! into one frame.

use lapin::BasicProperties;
use lapin::protocol::basic::gen_properties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

/// An entry of a table beside its bytes: a name, a value, a part of a node of the tree, and what the allocator adds.
const ENTRY_BYTES: usize = 128;
/// A value in a list, likewise.
const VALUE_BYTES: usize = 48;

/// What a frame has beside the properties: its own type, channel, length and end, and a body's class and length.
const FRAME_BYTES: usize = 8 + 12;
/// No less than properties have that are no headers: a dozen short strings and numbers.
const OTHERS_BYTES_MAX: usize = 4096;

/// Bytes of a message with this body. Properties that are no headers are few and short, and not counted.
pub(super) fn of(body: &[u8], properties: &BasicProperties) -> usize {
    body.len() + properties.headers().as_ref().map_or(0, of_table)
}

/// Bytes of the frame that carries these properties.
pub(super) fn of_frame(properties: &BasicProperties) -> usize {
    let written = gen_properties(properties)(Vec::new().into());
    written.map_or(usize::MAX, |written| FRAME_BYTES + written.write.len())
}

/// Whether that is no more than `frame_max`. Costs little where headers are small.
pub(super) fn fits_into_a_frame(properties: &BasicProperties, frame_max: usize) -> bool {
    // Headers take more of memory than of a frame.
    of(&[], properties) + OTHERS_BYTES_MAX <= frame_max || of_frame(properties) <= frame_max
}

fn of_table(table: &FieldTable) -> usize {
    let entry = |(name, value): (&ShortString, &AMQPValue)| ENTRY_BYTES + name.as_str().len() + beyond(value);
    table.inner().iter().map(entry).sum()
}

/// Bytes that a value has elsewhere.
fn beyond(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => text.as_bytes().len(),
        AMQPValue::ShortString(text) => text.as_str().len(),
        AMQPValue::ByteArray(bytes) => bytes.as_slice().len(),
        AMQPValue::FieldArray(list) => list.as_slice().iter().map(|value| VALUE_BYTES + beyond(value)).sum(),
        AMQPValue::FieldTable(table) => of_table(table),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(headers: Vec<(String, AMQPValue)>) -> usize {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name.into(), value);
        }
        of(b"1", &BasicProperties::default().with_headers(table))
    }

    #[test]
    fn headers_count_as_well_as_the_body_at_any_depth() {
        let text = || AMQPValue::LongString("x".repeat(1000).into());
        assert_eq!(of(b"123", &BasicProperties::default()), 3);
        let mut inner = FieldTable::default();
        inner.insert("a".into(), text());
        let list = AMQPValue::FieldArray(vec![text(), AMQPValue::Void].into());
        for (value, least) in
            [(AMQPValue::Void, 0), (text(), 1000), (list, 1000), (AMQPValue::FieldTable(inner), 1000)]
        {
            let bytes = with(vec![("a".to_owned(), value)]);
            assert!((least + 1..least + 500).contains(&bytes), "{bytes}");
        }
        let many = with((0..24_000).map(|n| (n.to_string(), AMQPValue::Void)).collect());
        assert!(many > 2 << 20, "24,000 small ones are megabytes: {many}");
    }

    /// The short way, without writing them, never says so of those that do not fit.
    #[test]
    fn properties_fit_into_a_frame_that_is_as_large_and_into_no_smaller_one() {
        let text = |bytes| AMQPValue::LongString("x".repeat(bytes).into());
        let list = |many| AMQPValue::FieldArray(vec![text(1); many].into());
        let short = || ShortString::from("x".repeat(255));
        for value in [AMQPValue::Void, text(4000), text(200_000), list(300), list(20_000)] {
            let mut table = FieldTable::default();
            table.insert("h".into(), value);
            let bare = BasicProperties::default().with_headers(table);
            let full = bare.clone().with_message_id(short()).with_type(short()).with_timestamp(1);
            let full = full.with_correlation_id(short()).with_reply_to(short()).with_app_id(short());
            for properties in [bare, full] {
                let bytes = of_frame(&properties);
                let fits = [bytes - 1, bytes, bytes + 1, usize::MAX / 2]
                    .map(|frame_max| fits_into_a_frame(&properties, frame_max));
                assert_eq!(fits, [false, true, true, true], "{bytes}");
            }
        }
    }
}
