//! What a message takes of memory, about: its body, and what its headers become, which is many times what RabbitMQ sends
//! where they are many and small.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

/// An entry of a table beside its bytes: a name, a value, a part of a node of the tree, and what the allocator adds.
const ENTRY_BYTES: usize = 128;
/// A value in a list, likewise.
const VALUE_BYTES: usize = 48;

/// Bytes of a message with this body. Properties that are no headers are few and short, and not counted.
pub(super) fn of(body: &[u8], properties: &BasicProperties) -> usize {
    body.len() + properties.headers().as_ref().map_or(0, of_table)
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
}
