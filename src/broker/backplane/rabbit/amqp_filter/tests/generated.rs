//! Generated messages, with lapin's parser as the judge.

use lapin::BasicProperties;
use lapin::protocol::basic::parse_properties;
use lapin::protocol::parse_class;
use lapin::types::AMQPValue;
use proptest::prelude::*;

use super::super::{BODY, HEAD, LOST, ROUTING_KEY, Terms, hex, properties};
use super::{
    BAD, deliver, entry, filtered, frame, frames, header, headers, headers_of, long, names, offset, parsed,
    short, text,
};

fn texts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "[a-zü]{0,9}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..9),
        1 => prop::sample::select(vec!["x-stream-offset", "x-key", "CC", ROUTING_KEY, LOST]).prop_map(|name| name.as_bytes().to_vec()),
    ]
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        Just(b"V".to_vec()),
        any::<i64>().prop_map(|number| [&b"l"[..], &number.to_be_bytes()].concat()),
        texts().prop_map(|text| long(b'S', &text)),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..9)).prop_map(|(kind, bytes)| [
            &[kind],
            &bytes[..]
        ]
        .concat()),
    ];
    leaf.prop_recursive(20, 60, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|values| long(b'A', &values.concat())),
            prop::collection::vec((texts(), inner), 0..3).prop_map(|entries| {
                let entries: Vec<_> = entries.iter().map(|(name, value)| entry(name, value)).collect();
                long(b'F', &entries.concat())
            }),
        ]
    })
}

fn well_formed() -> impl Strategy<Value = Vec<u8>> {
    let table = prop::collection::vec((texts(), values()), 0..5);
    (any::<u16>(), prop::collection::vec(texts(), 14), table).prop_map(|(flags, texts, table)| {
        let mut bytes = flags.to_be_bytes().to_vec();
        for (n, text) in texts.iter().enumerate().filter(|(n, _)| flags & (1 << 15 >> n) != 0) {
            match n {
                2 => {
                    let entries: Vec<_> = table.iter().map(|(name, value)| entry(name, value)).collect();
                    bytes.extend(&long(b'F', &entries.concat())[1..]);
                }
                3 | 4 => bytes.push(1),
                9 => bytes.extend([0; 8]),
                _ => bytes.extend(short(text)),
            }
        }
        bytes
    })
}

fn properties() -> impl Strategy<Value = Vec<u8>> {
    let cut = (well_formed(), any::<prop::sample::Index>()).prop_map(|(mut bytes, at)| {
        bytes.truncate(at.index(bytes.len()));
        bytes
    });
    prop_oneof![4 => well_formed(), 1 => cut, 1 => prop::collection::vec(any::<u8>(), 0..60)]
}

/// Whether the headers are such that lapin shows what RabbitMQ means, and lie within our limits.
fn is_plain(properties: &BasicProperties) -> bool {
    fn depth(value: &AMQPValue) -> usize {
        match value {
            AMQPValue::FieldArray(list) => 1 + list.as_slice().iter().map(depth).max().unwrap_or(0),
            AMQPValue::FieldTable(table) => 1 + table.inner().values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    let table = headers_of(properties);
    table.inner().values().all(|value| depth(value) <= 16)
        && !names(&table).iter().any(|name| name.starts_with("x-fanfare-bytes-"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// lapin's parser is the judge: what comes out it always reads, and what it reads already comes out as it was.
    #[test]
    fn lapin_reads_what_comes_out(
        bytes in properties(), routing_key in texts(), read in 1_usize..300, given in 1_usize..300, is_small in any::<bool>(),
    ) {
        let terms = Terms::default();
        if is_small {
            terms.set_frame_max(4096);
        }
        let stream = [deliver(1, &routing_key), header(1, &bytes), frame(BODY, 1, BAD)].concat();
        let out = filtered(&terms, &stream, &[read], &[given]);
        let frames = frames(&out);
        prop_assert_eq!(frames.len(), 3);
        let (rest, _) = parse_class(&frames[0].2[..]).expect("lapin reads the method");
        prop_assert!(rest.is_empty());
        prop_assert_eq!(&frames[1].2[..properties::PREFIX], &header(1, b"")[HEAD..HEAD + properties::PREFIX]);
        let told = parsed(&frames[1].2[properties::PREFIX..]);
        let damaged = std::str::from_utf8(&routing_key).is_err();
        prop_assert_eq!(text(&headers_of(&told), ROUTING_KEY), damaged.then(|| hex(&routing_key)));
        prop_assert_eq!(&frames[2].2[..], BAD);
        let read_before = parse_properties(&bytes[..]).ok().filter(|(rest, _)| rest.is_empty());
        if let Some((_, properties)) = read_before.filter(|(_, properties)| is_plain(properties) && !damaged) {
            let twice = ["x-stream-offset", "x-key", "CC"].iter().any(|name| {
                bytes.windows(name.len()).filter(|window| *window == name.as_bytes()).count() > 1
            });
            prop_assert!(twice || out == stream, "{properties:?} came as {told:?}");
        }
        // A filter behind a filter finds nothing, but for the names that are the first one's.
        let again = filtered(&terms, &out, &[usize::MAX], &[1 << 20]);
        prop_assert!(again == out || names(&headers_of(&told)).iter().any(|name| name.starts_with("x-fanfare-bytes-")));
    }

    /// Nor does it lose its head over bytes that are no AMQP.
    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..400), read in 1_usize..50) {
        let terms = Terms::default();
        let out = filtered(&terms, &bytes, &[read], &[64]);
        prop_assert_eq!(out, filtered(&terms, &bytes, &[usize::MAX], &[1 << 20]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// lapin refuses no frame for its size: whatever has to go, what comes out is no larger than was agreed.
    #[test]
    fn what_comes_out_fits_into_a_frame(
        lengths in prop::collection::vec(prop::sample::select(vec![0, 1, 20, 20, 20, 140, 900, 3000]), 0..250),
        meaning in prop::sample::select(vec![0_usize, 1, 900, 3800, 5000]),
        routing_key in prop_oneof![Just(b"a".to_vec()), prop::collection::vec(any::<u8>(), 0..=255)],
        is_careful in any::<bool>(),
    ) {
        const FRAME_MAX: u32 = 4096;
        let terms = Terms::new(is_careful);
        terms.set_frame_max(FRAME_MAX);
        let text = |len| long(b'S', &vec![b'z'; len]);
        let theirs = lengths.iter().enumerate().map(|(n, &len)| entry(format!("h{n}").as_bytes(), &text(len)));
        let entries: Vec<_> = [offset(5), entry(b"x-topics", &text(meaning))].into_iter().chain(theirs).collect();
        let bytes = header(1, &headers(&entries));
        let out = filtered(&terms, &[deliver(1, &routing_key), bytes.clone()].concat(), &[usize::MAX], &[1 << 20]);
        let frames = frames(&out);
        let told = parsed(&frames[1].2[properties::PREFIX..]);
        prop_assert!(frames[1].2.len() + HEAD < FRAME_MAX as usize, "{}", frames[1].2.len());
        prop_assert!(headers_of(&told).contains_key("x-stream-offset"));
        let is_sound = std::str::from_utf8(&routing_key).is_ok();
        prop_assert!(bytes.len() > FRAME_MAX as usize || !is_sound || out.ends_with(&bytes));
    }
}
