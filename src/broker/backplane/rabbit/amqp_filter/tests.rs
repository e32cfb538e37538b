use lapin::BasicProperties;
use lapin::protocol::basic::{AMQPMethod, parse_properties};
use lapin::protocol::{AMQPClass, parse_class};
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::*;

mod generated;

const BAD: &[u8] = b"\x00\xff\xfe\x80";

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes.push(FRAME_END);
    bytes
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

fn long(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind], &u32::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&short(name)[..], value].concat()
}

fn headers(entries: &[Vec<u8>]) -> Vec<u8> {
    [&[0x20, 0][..], &long(b'F', &entries.concat())[1..]].concat()
}

fn offset(number: i64) -> Vec<u8> {
    entry(b"x-stream-offset", &[&b"l"[..], &number.to_be_bytes()].concat())
}

/// Lists or tables within each other.
fn nested(kind: u8, levels: usize) -> Vec<u8> {
    (0..levels).fold(b"V".to_vec(), |value, _| {
        let content = if kind == b'F' { entry(b"", &value) } else { value };
        long(kind, &content)
    })
}

fn deliver(channel: u16, routing_key: &[u8]) -> Vec<u8> {
    let payload = [&[0, 60, 0, 60][..], &short(b"tag"), &[0; 9], &short(b"fanfare"), &short(routing_key)];
    frame(METHOD, channel, &payload.concat())
}

/// A content header for a body of one byte.
fn header(channel: u16, properties: &[u8]) -> Vec<u8> {
    frame(HEADER, channel, &[&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], properties].concat())
}

/// The word that a consumer has begun.
fn begun(channel: u16, tag: &[u8]) -> Vec<u8> {
    frame(METHOD, channel, &[&[0, 60, 0, 21][..], &short(tag)].concat())
}

/// What comes out when two consumers have begun, and it is read in pieces of these lengths, by turns, and given in pieces of others.
fn filtered(terms: &Terms, bytes: &[u8], read: &[usize], given: &[usize]) -> Vec<u8> {
    let mut filter = Filter::new(terms.clone());
    let before = [begun(1, b"tag"), begun(2, b"tag")].concat();
    filter.space()[..before.len()].copy_from_slice(&before);
    filter.filled(before.len());
    assert_eq!(filter.give(&mut vec![0; before.len()]), before.len());
    let (mut read, mut given) = (read.iter().cycle(), given.iter().cycle());
    let (mut rest, mut out) = (bytes, Vec::new());
    loop {
        let mut buffer = vec![0; *given.next().unwrap()];
        let count = filter.give(&mut buffer);
        out.extend(&buffer[..count]);
        if count > 0 {
            continue;
        }
        if rest.is_empty() {
            return out;
        }
        let len = rest.len().min(*read.next().unwrap());
        let direct = filter.direct();
        let taken = if direct > 0 {
            let taken = len.min(direct);
            filter.passed_by(taken);
            out.extend(&rest[..taken]);
            taken
        } else {
            let space = filter.space();
            let taken = len.min(space.len());
            space[..taken].copy_from_slice(&rest[..taken]);
            filter.filled(taken);
            taken
        };
        rest = &rest[taken..];
    }
}

fn at_once(bytes: &[u8]) -> Vec<u8> {
    filtered(&Terms::default(), bytes, &[usize::MAX], &[1 << 20])
}

/// Kind, channel and payload of each frame.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u16, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        let len = usize::try_from(u32::from_be_bytes([head[3], head[4], head[5], head[6]])).unwrap();
        frames.push((head[0], u16::from_be_bytes([head[1], head[2]]), rest[..len].to_vec()));
        assert_eq!(rest[len], FRAME_END);
        bytes = &rest[len + 1..];
    }
    assert!(bytes.is_empty());
    frames
}

fn parsed(properties: &[u8]) -> BasicProperties {
    let (rest, parsed) = parse_properties(properties).expect("lapin reads it");
    assert!(rest.is_empty());
    parsed
}

/// What lapin reads of a message with these properties, and this routing key.
fn came(terms: &Terms, routing_key: &[u8], properties: &[u8]) -> (ShortString, BasicProperties) {
    let bytes = [deliver(1, routing_key), header(1, properties), frame(BODY, 1, b"1")].concat();
    let frames = frames(&filtered(terms, &bytes, &[usize::MAX], &[1 << 20]));
    assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [METHOD, HEADER, BODY]);
    let Ok((b"", AMQPClass::Basic(AMQPMethod::Deliver(method)))) = parse_class(&frames[0].2[..]) else {
        panic!("lapin does not read the method");
    };
    (method.routing_key, parsed(&frames[1].2[properties::PREFIX..]))
}

fn properties_of(bytes: &[u8]) -> BasicProperties {
    came(&Terms::default(), b"a", bytes).1
}

fn headers_of(properties: &BasicProperties) -> FieldTable {
    properties.headers().clone().unwrap_or_default()
}

fn text(table: &FieldTable, name: &str) -> Option<String> {
    match table.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        other => panic!("{name}: {other:?}"),
    }
}

fn names(table: &FieldTable) -> Vec<&str> {
    table.inner().keys().map(ShortString::as_str).collect()
}

#[test]
fn what_lapin_reads_passes_byte_for_byte() {
    let values: Vec<_> = [
        &b"t\x02"[..],
        b"b\xff",
        b"B\xff",
        b"s\xff\xff",
        b"u\xff\xff",
        b"U\xff\xff",
        b"I\xff\xff\xff\xff",
        b"i\xff\xff\xff\xff",
        b"f\x7f\xc0\x00\x00",
        b"D\x01\xff\xff\xff\xff",
        b"V",
        b"S\x00\x00\x00\x02\xff\xfe",
        b"x\x00\x00\x00\x02\xff\xfe",
        b"A\x00\x00\x00\x03VVV",
        b"F\x00\x00\x00\x00",
        b"L\xff\xff\xff\xff\xff\xff\xff\xff",
        b"l\xff\xff\xff\xff\xff\xff\xff\xff",
        b"d\x7f\xf8\x00\x00\x00\x00\x00\x00",
        b"T\xff\xff\xff\xff\xff\xff\xff\xff",
    ]
    .iter()
    .enumerate()
    .map(|(n, value)| entry(format!("ü{n}").as_bytes(), value))
    .collect();
    let deep = [entry(b"f", &nested(b'F', 16)), entry(b"a", &nested(b'A', 16))];
    let twice = [entry(b"x-other", b"V"), entry(b"x-other", b"t\x01")];
    let all = [&b"\xff\xfc"[..], &short(b"text/plain"), &short(b""), &long(0, b"")[1..], &[2, 9]].concat();
    let texts = ["c", "r", "5", "m"].map(|text| short(text.as_bytes())).concat();
    let all =
        [&all[..], &texts, &[0; 8], &["t", "guest", "app", "ü"].map(|text| short(text.as_bytes())).concat()];
    for properties in [
        &b"\0\0"[..],
        // Bits without a meaning.
        b"\0\x03",
        &headers(&[]),
        &headers(&values),
        &headers(&deep),
        &headers(&twice),
        &headers(&[offset(7), entry(b"x-key", b"V")]),
        &all.concat(),
    ] {
        let bytes = [deliver(1, "ü".as_bytes()), header(1, properties), frame(BODY, 1, BAD)].concat();
        let bytes = [bytes, frame(HEARTBEAT, 0, b""), frame(METHOD, 0, b"\0\x0a\0\x33")].concat();
        assert_eq!(at_once(&bytes), bytes, "{properties:?}");
        parsed(properties);
    }
}

#[test]
fn a_property_that_is_no_text_is_none_and_told_in_hex() {
    for (flag, name) in [
        (15, "content-type"),
        (14, "content-encoding"),
        (10, "correlation-id"),
        (9, "reply-to"),
        (8, "expiration"),
        (7, "message-id"),
        (5, "type"),
        (4, "user-id"),
        (3, "app-id"),
        (2, "cluster-id"),
    ] {
        // Beside the others, which stay.
        let flags: u16 = 1 << flag | 1 << 12 | 1 << 11 | 1 << 6;
        let (before, behind) = if flag > 12 { (short(BAD), vec![]) } else { (vec![], short(BAD)) };
        let (front, back) = if flag > 6 { (&behind[..], &b""[..]) } else { (&b""[..], &behind[..]) };
        let bytes =
            [&flags.to_be_bytes()[..], &before, &[2, 9], front, &[0, 0, 0, 0, 0, 0, 0, 5], back].concat();
        assert!(!reads(&bytes), "lapin reads {name}");
        let properties = properties_of(&bytes);
        let expected = BasicProperties::default().with_delivery_mode(2).with_priority(9).with_timestamp(5);
        let told = headers_of(&properties);
        assert_eq!(properties, expected.with_headers(told.clone()), "{name}");
        assert_eq!(names(&told), [format!("x-fanfare-bytes-{name}")]);
        assert_eq!(text(&told, &format!("x-fanfare-bytes-{name}")).unwrap(), "00fffe80");
    }
}

#[test]
fn a_header_whose_name_is_no_text_keeps_its_value_under_the_hex_of_its_name() {
    let deep = entry(b"deep", &long(b'A', &long(b'F', &entry(b"n\xff", b"t\x01"))));
    let bytes = headers(&[
        entry(b"n\xff", b"B\x07"),
        entry(b"n\xfe", b"B\x08"),
        deep,
        entry(&[0xff; 255], b"V"),
        offset(5),
    ]);
    assert!(!reads(&bytes));
    let told = headers_of(&properties_of(&bytes));
    assert_eq!(told.inner().get("x-fanfare-name-6eff"), Some(&AMQPValue::ShortShortUInt(7)));
    assert_eq!(told.inner().get("x-fanfare-name-6efe"), Some(&AMQPValue::ShortShortUInt(8)));
    assert_eq!(told.inner().get("x-stream-offset"), Some(&AMQPValue::LongLongInt(5)));
    assert_eq!(told.inner().len(), 5);
    let Some(AMQPValue::FieldArray(list)) = told.inner().get("deep") else { panic!("{told:?}") };
    let AMQPValue::FieldTable(table) = &list.as_slice()[0] else { panic!("{list:?}") };
    assert_eq!(names(table), ["x-fanfare-name-6eff"]);
}

#[test]
fn a_routing_key_that_is_no_text_is_told_with_its_message_and_no_other() {
    let (routing_key, properties) = came(&Terms::default(), b"a.\xff\xfeb", b"\0\0");
    assert_eq!(routing_key.as_str(), "a.??b");
    assert_eq!(text(&headers_of(&properties), ROUTING_KEY).unwrap(), "612efffe62");

    // Frames of another channel come in between, and the next message is sound.
    let bytes = [
        deliver(1, b"\xff"),
        deliver(2, b"a"),
        header(2, b"\0\0"),
        header(1, b"\0\0"),
        deliver(1, b"a"),
        header(1, b"\0\0"),
    ];
    let frames = frames(&at_once(&bytes.concat()));
    let told: Vec<_> = frames
        .iter()
        .filter(|frame| frame.0 == HEADER)
        .map(|frame| (frame.1, parsed(&frame.2[properties::PREFIX..]).headers().is_some()))
        .collect();
    assert_eq!(told, [(2, false), (1, true), (1, false)]);
}

#[test]
fn what_is_too_deep_or_cannot_be_read_becomes_the_array_of_its_bytes() {
    for (name, value) in [
        ("deep tables", nested(b'F', 17)),
        ("deep lists", nested(b'A', 17)),
        ("very deep lists", nested(b'A', 20_000)),
        ("very deep tables", nested(b'F', 15_000)),
        ("an unknown type", long(b'A', b"?")),
        ("a cut name", long(b'F', b"\x05a")),
    ] {
        let told = headers_of(&properties_of(&headers(&[offset(5), entry(b"h", &value), entry(b"i", b"V")])));
        assert_eq!(names(&told), ["h", "i", "x-stream-offset"], "{name}");
        if name == "an unknown type" {
            assert_eq!(told.inner()["h"], AMQPValue::ByteArray(b"?"[..].into()));
        }
    }
}

/// RabbitMQ puts the offset in place of the first that a publisher has sent, and means the first.
#[test]
fn of_several_headers_with_a_meaning_the_first_counts() {
    let bytes = headers(&[offset(5), offset(99), entry(b"x-key", &long(b'S', b"k")), entry(b"x-key", b"V")]);
    let told = headers_of(&properties_of(&bytes));
    assert_eq!(told.inner()["x-stream-offset"], AMQPValue::LongLongInt(5));
    assert_eq!(text(&told, "x-key").unwrap(), "k");
    assert_eq!(told.inner().len(), 4);
}

#[test]
fn no_message_can_say_of_itself_what_the_filter_says() {
    for name in [ROUTING_KEY, LOST, "x-fanfare-bytes-message-id"] {
        let told = headers_of(&properties_of(&headers(&[entry(name.as_bytes(), &long(b'S', b"00"))])));
        assert_eq!(names(&told), [format!("x-fanfare-name-{}", hex(name.as_bytes()))]);
    }
    let mine = headers(&[entry(ROUTING_KEY.as_bytes(), b"V")]);
    let told = headers_of(&came(&Terms::default(), b"\xff", &mine).1);
    assert_eq!(text(&told, ROUTING_KEY).unwrap(), "ff");
}

#[test]
fn what_cannot_be_read_to_its_end_is_lost_and_the_offset_is_not() {
    for bytes in [
        // A property is cut, one is left over, a header has an unknown type, a table is longer than the frame.
        &b"\x04\x00\x05ab"[..],
        b"",
        b"\x20",
        &[&headers(&[offset(5)])[..], b"x"].concat(),
        &headers(&[offset(5), entry(b"h", b"?"), entry(b"i", b"V")]),
        b"\x20\x00\x00\x00\x01\x00",
    ] {
        let told = headers_of(&properties_of(bytes));
        assert!(text(&told, LOST).is_some(), "{bytes:?}");
        let has_offset = bytes.windows(6).any(|window| window == b"x-stre");
        assert_eq!(told.inner().get("x-stream-offset").is_some(), has_offset, "{bytes:?}");
    }
}

#[test]
fn what_has_no_room_in_a_frame_is_dropped_if_it_means_nothing() {
    let terms = Terms::default();
    terms.set_frame_max(4096);
    let long_text = |name: &[u8], len| entry(name, &long(b'S', &vec![b'z'; len]));
    let told = |entries: &[Vec<u8>]| headers_of(&came(&terms, b"a", &headers(entries)).1);
    // All of a frame is there: this fits exactly, and one byte more does not.
    let room = 4096 - 8 - properties::PREFIX - 6 - offset(5).len() - 7;
    assert_eq!(names(&told(&[long_text(b"h", room), offset(5)])), ["h", "x-stream-offset"]);
    let rest = told(&[long_text(b"h", room + 1), long_text(b"i", 5), offset(5)]);
    assert_eq!(names(&rest), ["i", "x-fanfare-bytes-dropped", "x-stream-offset"]);
    // Where the longest means something, shorter ones go; where that does not help, nothing stays.
    let rest = told(&[long_text(b"x-topics", 3500), long_text(b"h", 600), long_text(b"i", 5), offset(5)]);
    assert_eq!(names(&rest), ["i", "x-fanfare-bytes-dropped", "x-stream-offset", "x-topics"]);
    let rest = told(&[long_text(b"x-topics", 4096), offset(5)]);
    assert_eq!(names(&rest), [LOST, "x-stream-offset"]);
    // Larger than lapin's buffer, and larger than ours.
    for len in [200_000, 2 << 20] {
        let rest = told(&[offset(5), long_text(b"h", len)]);
        assert!(names(&rest).contains(&"x-stream-offset"), "{len}: {rest:?}");
        assert_eq!(names(&rest).contains(&LOST), len > CHECKED_MAX, "{len}");
    }
}

/// lapin would drop it.
#[test]
fn a_message_before_the_word_that_its_consumer_has_begun_comes_after_that_word() {
    let message = |tag: &[u8]| {
        let payload = [&[0, 60, 0, 60][..], &short(tag), &[0; 9], &short(b""), &short(b"a")].concat();
        [frame(METHOD, 1, &payload), header(1, b"\0\0"), frame(BODY, 1, b"1")].concat()
    };
    let opened = frame(METHOD, 1, &[0, 20, 0, 11, 0, 0, 0, 0]);
    let early =
        [message(b"tag"), message(b"a"), message(b"a"), begun(1, b"a"), message(b"a"), message(b"tag")];
    let right =
        [message(b"tag"), begun(1, b"a"), message(b"a"), message(b"a"), message(b"a"), message(b"tag")];
    let again = [&opened[..], &early[1..].concat()].concat();
    let again_right = [&opened[..], &right[1..5].concat(), &begun(1, b"tag"), &right[5]].concat();
    let (bytes, expected) = ([early.concat(), again].concat(), [right.concat(), again_right].concat());
    for read in 1..200 {
        assert!(filtered(&Terms::default(), &bytes, &[read], &[64]) == expected, "{read}");
    }
}

#[test]
fn texts_of_other_methods_become_texts_too() {
    let cases: [(&[u8], &[u8], usize); 6] = [
        (b"\0\x0a\0\x32\x01\x40", b"\0\0\0\0", 1), // connection.close
        (b"\0\x14\0\x28\x01\x94", b"\0\0\0\0", 1), // channel.close
        (b"\0\x3c\0\x32\x01\x38", b"", 3),         // basic.return
        (b"\0\x3c\0\x1e", b"\0", 1),               // basic.cancel
        (b"\0\x32\0\x0b", b"\0\0\0\0\0\0\0\0", 1), // queue.declare-ok
        (b"\0\x0a\0\x3c", b"", 1),                 // connection.blocked
    ];
    for (front, back, texts) in cases {
        let text = short("Datei oder Verzeichnis nicht gefunden: ü".as_bytes());
        let sound = [front, &text.repeat(texts), back].concat();
        let cut = short(&text[1..text.len() - 1]);
        let bytes = [front, &cut.repeat(texts), back].concat();
        parse_class(&sound[..]).expect("the case is right");
        assert!(parse_class(&bytes[..]).is_err());
        let frames = frames(&at_once(&frame(METHOD, 1, &bytes)));
        let (rest, _) = parse_class(&frames[0].2[..]).expect("lapin reads it");
        assert!(rest.is_empty());
    }
}

/// The last resort: what lapin's parser refuses is written anew even if we find nothing wrong with it.
#[test]
fn a_careful_filter_passes_what_lapin_reads_as_it_is() {
    let careful = Terms::new(true);
    let bytes = [deliver(1, b"a"), header(1, &headers(&[offset(5)])), frame(BODY, 1, b"1")].concat();
    assert_eq!(filtered(&careful, &bytes, &[3], &[7]), bytes);
    let (_, properties) = came(&careful, b"a", b"\x04\x00\x04\x00\xff\xfe\x80");
    assert_eq!(names(&headers_of(&properties)), ["x-fanfare-bytes-correlation-id"]);
}

/// A stream of everything, sound and not.
fn everything() -> Vec<u8> {
    let good = headers(&[offset(5)]);
    let bad = headers(&[entry(b"\xff", b"V"), offset(6)]);
    [
        frame(METHOD, 0, b"\0\x0a\0\x33"),
        deliver(1, b"a"),
        header(1, &good),
        frame(BODY, 1, BAD),
        deliver(1, b"\xff"),
        header(1, &bad),
        frame(BODY, 1, b""),
        frame(HEARTBEAT, 0, b""),
        deliver(1, b"a"),
        header(1, &bad),
        deliver(1, b"a"),
        header(1, &bad),
        frame(BODY, 1, &[b'x'; 40]),
        deliver(2, b"\xff"),
        header(2, &good),
        frame(BODY, 2, b"2"),
    ]
    .concat()
}

#[test]
fn it_does_not_matter_where_reads_end() {
    let bytes = everything();
    let whole = at_once(&bytes);
    assert_ne!(whole, bytes);
    for cut in 1..bytes.len() {
        assert_eq!(
            filtered(&Terms::default(), &bytes, &[cut, usize::MAX], &[1 << 20]),
            whole,
            "cut at {cut}"
        );
    }
    for read in 1..20 {
        for given in 1..20 {
            assert_eq!(filtered(&Terms::default(), &bytes, &[read], &[given]), whole, "{read}, {given}");
        }
    }
}

#[test]
fn large_bodies_and_frames_larger_than_a_read_pass() {
    let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
    let large = headers(&[offset(5), entry(b"h", &long(b'S', &vec![b'z'; 200_000]))]);
    let endless = headers(&[offset(5), entry(b"h", &long(b'S', &vec![b'z'; 2 << 20]))]);
    let mut bytes = everything();
    for properties in [&large, &endless] {
        bytes.extend([deliver(1, b"a"), header(1, properties), frame(BODY, 1, &body)].concat());
        bytes.extend(everything());
    }
    let whole = at_once(&bytes);
    for (read, given) in
        [(usize::MAX, 1 << 16), (100_000, 131_072), (4096, 5000), (65_536, 1 << 20), (1000, 100)]
    {
        assert!(filtered(&Terms::default(), &bytes, &[read], &[given]) == whole, "{read}, {given}");
    }
    assert_eq!(frames(&whole).len(), frames(&bytes).len());
}

/// No frame of AMQP: lapin is to say so.
#[test]
fn what_is_no_frame_passes() {
    for bytes in
        [&b"AMQP\x00\x00\x09\x01AMQP"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", &header(1, b"")[..10]]
    {
        let given = at_once(bytes);
        assert!(bytes.starts_with(&given));
    }
    let short_header = frame(HEADER, 1, b"\0\x3c");
    assert_eq!(at_once(&short_header), short_header);
}
