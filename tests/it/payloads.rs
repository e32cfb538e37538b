//! What publishers send is what clients get, byte for byte; what cannot be delivered is kept, with the
//! reason.

use std::io::Write as _;

use crate::support::bytes::{BytesPublisher, header, headers, hex, long, property};
use crate::support::engine::Engine;
use crate::support::harness::Harness;
use crate::support::rabbitmq::RabbitNode;
use crate::support::script::Amqp;
use crate::support::wait::{SOON, wait_until};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use lapin::BasicProperties;
use serde_json::{Value, json};

/// JSON that parsing and printing again would change.
const EXACT: [&str; 16] = [
    r#""\" \\ \/ \b \f \n \r \t \u0000 \u001f \u00e9 \u20ac""#,
    "\"\u{2028}\u{2029}\u{7f}\u{feff}\u{10ffff}\"",
    r#""\ud83d\ude00 \uD83D\uDE00""#,
    "\"😀 é é\"",
    "123456789012345678901234567890",
    "-123456789012345678901234567890",
    "1e400",
    "-1E-400",
    "0.1000000000000000055511151231257827021181583404541015625",
    "-0",
    "-0.0e+00",
    r#"{"a":1,"a":2,"":3}"#,
    r#" { "spaces" : [ 1 , 2 ] } "#,
    "null",
    "[]",
    "false",
];

#[test]
fn payloads_arrive_byte_for_byte() {
    let harness = Harness::start("exact", "");
    let mut client = harness.subscriber(&["exact"]);
    let mut service = harness.service();
    for payload in EXACT {
        service.publish("exact", payload.as_bytes());
        assert_eq!(client.publication("exact").trim(), payload.trim());
    }
}

/// A raw line break between two values would end the line; in a string JSON forbids it anyhow.
#[test]
fn line_breaks_between_values_become_spaces() {
    let harness = Harness::start("line_breaks", "");
    let mut client = harness.subscriber(&["pretty"]);
    let mut service = harness.service();
    service.publish("pretty", b"{\n  \"a\": \"\\n\",\r\n  \"b\": 2\n}");
    assert_eq!(client.publication("pretty"), "{   \"a\": \"\\n\",    \"b\": 2 }");
}

#[test]
fn plain_text_becomes_a_string_and_binary_what_its_namespace_says() {
    let harness = Harness::start("content_types", "[namespaces.bin]\nbinary = \"base64\"\n");
    let mut client = harness.subscriber(&["text", "bin:1"]);
    let mut service = harness.service();
    service.publish_with("text", b"say \"hi\"\n", &json!({"contentType": "text/plain"}));
    assert_eq!(client.publication("text"), r#""say \"hi\"\n""#);
    service.publish_with("bin:1", &[0, 255, 10], &json!({"contentType": "application/octet-stream"}));
    assert_eq!(client.publication("bin:1"), r#""AP8K""#);
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

fn labelled(content_type: &str, content_encoding: &str) -> BasicProperties {
    let properties = BasicProperties::default().with_content_type(content_type.into());
    properties.with_content_encoding(content_encoding.into())
}

/// As client libraries label and wrap JSON; and what is none is kept with a reason that says what it probably is.
#[test]
fn json_under_another_label_arrives_as_what_it_is() {
    let namespaces = "[namespaces.json]\nbinary = \"json\"\n[namespaces.bin]\nbinary = \"base64\"\n";
    let harness = Harness::start("labels", namespaces);
    let mut client = harness.subscriber(&["a", "json:1", "bin:1"]);
    let publisher = harness.publisher();
    let order = br#"{"order":42}"#;
    let with_mark = [b"\xef\xbb\xbf", &order[..]].concat();
    let cases: [(&str, &[u8], BasicProperties); 9] = [
        ("json:1", order, labelled("application/octet-stream", "")),
        ("json:1", order, labelled("application/x-protobuf", "utf-8")),
        ("json:1", &gzip(order), labelled("application/octet-stream", "gzip")),
        ("a", &gzip(order), labelled("application/json", "gzip")),
        ("a", &zlib(order), labelled("application/json", "deflate")),
        ("a", &with_mark, labelled("application/json", "")),
        ("a", &gzip(&with_mark), labelled("", "GZIP")),
        ("a", order, labelled("application/cloudevents+json; charset=utf-8", "UTF-8")),
        ("a", order, labelled("application/x-whatever", "x-whatever")),
    ];
    for (topic, body, properties) in cases {
        publisher.publish(topic, body, properties.clone());
        assert_eq!(client.publication(topic).as_bytes(), order, "{properties:?}");
    }
    publisher.publish("bin:1", order, labelled("application/octet-stream", "gzip"));
    assert_eq!(client.publication("bin:1"), "\"eyJvcmRlciI6NDJ9\"", "as it came");

    let bomb = gzip(&vec![b' '; 10 << 20]);
    let wide: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let snappy = b"\xff\x06\x00\x00sNaPpY";
    let cases: [(&str, &[u8], BasicProperties, &str); 8] = [
        ("json:1", b"\x08\x2a", labelled("application/octet-stream", ""), "not JSON"),
        ("a", order, labelled("application/x-protobuf", ""), "application/x-protobuf"),
        ("a", snappy, labelled("application/json", "x-snappy-framed"), "'x-snappy-framed'"),
        ("a", order, labelled("application/json", "gzip"), "'gzip'"),
        ("a", &bomb, labelled("application/json", "gzip"), "more than 262144 bytes"),
        ("a", &gzip(order), labelled("application/json", ""), "compressed (gzip)"),
        ("a", &wide, labelled("application/json", ""), "UTF-16"),
        ("a", b"{\"a\":NaN}", labelled("application/json", ""), "NaN at byte 5"),
    ];
    for (topic, body, properties, words) in cases {
        publisher.publish(topic, body, properties);
        let (kept, reason, _) = publisher.dead_letter();
        assert!(kept == body, "{words}: {} bytes were kept", kept.len());
        assert!(reason.contains(words), "{words} is not in: {reason}");
    }
}

/// Bodies that nobody can be given, each with a word of the reason that goes with it.
#[test]
fn what_cannot_be_delivered_is_kept_with_the_reason() {
    let harness = Harness::start("dead", "");
    let mut client = harness.subscriber(&["bad"]);
    let mut service = harness.service();
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let big = format!("\"{}\"", "x".repeat(10 << 20));
    let bodies: [(&[u8], _); 7] = [
        (b"", json!({})),
        (b"not JSON", json!({})),
        (b"{\"a\":1", json!({})),
        (b"\"\xff\"", json!({})),
        (deep.as_bytes(), json!({})),
        (big.as_bytes(), json!({})),
        (b"\x00\x01", json!({"contentType": "application/octet-stream"})),
    ];
    for (n, (body, options)) in bodies.iter().enumerate() {
        service.publish_with("bad", body, options);
        let (kept, headers) = service.take("fanfare.dead");
        assert!(kept == *body, "body {n} was changed on its way: {} bytes", kept.len());
        let reason = headers["x-fanfare-reason"].as_str();
        assert!(reason.is_some_and(|reason| !reason.is_empty()), "body {n} without a reason: {headers}");
    }
    // Nothing else is lost, and nobody was shown the bad ones.
    service.publish("bad", b"\"good\"");
    assert_eq!(client.publication("bad"), "\"good\"");
    wait_until(SOON, "the counter", || harness.engine.metric("fanfare_dead_lettered_total", &[]) == 7.0);
    // The operator is told of the first of each kind, with topic and reason; the others are counted until a minute is over.
    let lines = harness.engine.stderr().so_far();
    let told: Vec<_> = lines.iter().filter(|line| line.contains("becomes a dead letter")).collect();
    let kinds = ["empty", "not_json", "not_utf8", "too_big", "binary"].map(|kind| format!("kind=\"{kind}\""));
    let of_kind = |kind: &String| told.iter().filter(|line| line.contains(kind.as_str())).count();
    assert!(kinds.iter().all(|kind| of_kind(kind) <= 1), "{told:?}");
    for kind in ["empty", "not_json", "binary"].map(|kind| format!("kind=\"{kind}\"")) {
        assert_eq!(of_kind(&kind), 1, "no kind hides another: {told:?}");
    }
    assert!(
        ["topic=\"bad\"", "empty", "more_since_last=0"].iter().all(|words| told[0].contains(words)),
        "{told:?}"
    );
    // What was not told yet is told at the latest when it stops.
    harness.engine.signal("TERM");
    wait_until(SOON, "how many more there were", || {
        let more = |line: &String| line.contains("more messages could not be delivered");
        let lines = harness.engine.stderr().so_far();
        lines.iter().any(|line| more(line) && line.contains("kind=\"not_json\" more_since_last="))
    });
}

/// Headers that mean something, but of types that mean nothing, do not keep a message from its readers.
#[test]
fn headers_of_wrong_types_harm_nobody() {
    let harness = Harness::start("headers", "");
    let mut client = harness.subscriber(&["odd"]);
    let mut service = harness.service();
    let headers = json!({
        "x-key": 7, "timestamp_in_ms": "yesterday", "x-timestamp-us": {"a": [1, null, true]}, "": -1.5,
    });
    service.publish_with("odd", b"1", &json!({ "headers": headers, "contentType": "application/json; x=1" }));
    service.publish_with("odd", b"2", &json!({ "contentType": "APPLICATION/JSON", "timestamp": 0 }));
    assert_eq!(client.publication("odd"), "1");
    assert_eq!(client.publication("odd"), "2");
}

/// No text in UTF-8, nor in anything else.
const BAD: &[u8] = b"\x00\xff\xfe\x80";

/// Properties that RabbitMQ passes on and that no parser of ours may stumble over. None of them matters to a push.
fn harmless_properties() -> Vec<Vec<u8>> {
    let deep = |kind: u8, levels: usize| {
        (0..levels).fold(b"V".to_vec(), |value, _| match kind {
            b'F' => long(b'F', &header(b"", &value)),
            kind => long(kind, &value),
        })
    };
    let offset = |number: i64| header(b"x-stream-offset", &[&b"l"[..], &number.to_be_bytes()].concat());
    // All that fits into a frame of 128 KiB; a stream adds a header of its own.
    let full = (128 << 10) - 8 - 12 - 2 - 4 - 2 - 5;
    let long_text = |len: usize| long(b'S', &vec![b'z'; len]);
    // Most are of one length, and the longest is behind them.
    let count = 6545;
    let mut many: Vec<_> = (0..count).map(|n| header(format!("h{n:04}").as_bytes(), &long_text(9))).collect();
    many.push(header(b"z", &long_text(full - 20 * count)));
    let mut all = vec![
        headers(&many),
        headers(&[header(BAD, b"V"), header(b"n", &long(b'A', &long(b'F', &header(BAD, b"V"))))]),
        headers(&[header(b"f", &deep(b'F', 15_000))]),
        headers(&[header(b"a", &deep(b'A', 20_000))]),
        headers(&[header(b"f", &long(b'S', &vec![b'z'; full]))]),
        // Where in the stream the message stands: nobody but RabbitMQ says so.
        headers(&[offset(7), offset(1_000_000_000), offset(1_000_000_001)]),
        headers(&[header(b"x-fanfare-bytes-routing-key", &long(b'S', b"00"))]),
    ];
    // content-type, content-encoding, correlation-id, reply-to, message-id twice, type, app-id, cluster-id.
    all.extend([15, 14, 10, 9, 7, 7, 5, 3, 2].map(|flag| property(flag, BAD)));
    all
}

/// Sends them all, beside messages that cannot be delivered, and looks at what comes.
fn no_bytes_stop_the_others(engine: &Engine, url: &str) {
    engine.wait_until_ready();
    let mut client = engine.client();
    // That it is bound where bindings follow, or not.
    client.subscribe("a");
    let (mut publisher, mut reader) = (BytesPublisher::connect(url), Amqp::connect(url));
    let text = |headers: &Value, name: &str| headers[name].as_str().unwrap_or_default().to_owned();
    let harmless = harmless_properties();
    for (n, properties) in harmless.iter().enumerate() {
        publisher.publish(b"a", properties, &n.to_string());
        assert_eq!(
            client.publication("a"),
            n.to_string(),
            "{}",
            hex(&properties[..properties.len().min(40)])
        );
    }
    for routing_key in [&b"a\xff"[..], b"a.\xed\xa0\x80"] {
        publisher.publish(routing_key, b"\0\0", "1");
        let (body, headers) = reader.take("fanfare.dead");
        assert_eq!(body, b"1");
        assert_eq!(text(&headers, "x-fanfare-bytes-routing-key"), hex(routing_key));
        let reason = text(&headers, "x-fanfare-reason");
        assert!(reason.contains("routing key") && reason.contains(&hex(routing_key)), "{reason}");
    }
    // What was wrong with it goes along, whyever it is a dead letter.
    publisher.publish(b"a", &property(10, BAD), "no JSON");
    let (_, headers) = reader.take("fanfare.dead");
    assert_eq!(text(&headers, "x-fanfare-bytes-correlation-id"), "00fffe80");
    publisher.publish(b"a", b"\0\0", "\"the last\"");
    assert_eq!(client.publication("a"), "\"the last\"");
    assert_eq!(engine.metric("fanfare_rabbitmq_connects_total", &[]), 1.0, "a message cost the link");
}

/// Nor by what is said of it in its dead letter, for which a frame has no room. A stream keeps no lists.
fn no_dead_letter_stops_the_others(engine: &Engine, url: &str) {
    let mut client = engine.subscriber(&["a"]);
    let (mut publisher, mut reader) = (BytesPublisher::connect(url), Amqp::connect(url));
    for copy in [vec![b'a'; 130_950], vec![0xff; 66_000], vec![0xff; 130_950]] {
        publisher.publish(b"a", &headers(&[header(b"CC", &long(b'A', &long(b'S', &copy)))]), "1");
        let (body, headers) = reader.take("fanfare.dead");
        assert_eq!(body, b"1");
        let reason = headers["x-fanfare-reason"].as_str().expect("a reason");
        assert!(reason.len() <= 1024 && headers["x-fanfare-topic"].is_string(), "{reason}");
    }
    publisher.publish(b"a", b"\0\0", "\"the last\"");
    // What could be delivered of the others has been.
    while client.publication("a") == "1" {}
    assert_eq!(engine.metric("fanfare_rabbitmq_connects_total", &[]), 1.0, "a dead letter cost the link");
}

#[test]
fn no_message_stops_the_others_whatever_its_bytes() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("bytes_stream");
    let engine = Engine::start(&["--amqp", &url]);
    no_bytes_stop_the_others(&engine, &url);
    engine.stop();
    // All of it is read back.
    Engine::start(&["--amqp", &url]).wait_until_ready();

    let url = node.new_vhost("bytes_own_queue");
    let engine = Engine::start(&["--amqp", &url, "--source", "queue"]);
    no_bytes_stop_the_others(&engine, &url);
    no_dead_letter_stops_the_others(&engine, &url);

    let url = node.new_vhost("bytes_named_queue");
    let mut service = Amqp::connect(&url);
    service.declare_exchange("fanfare", "topic", true);
    service.declare_queue("pushes", "fanfare", "#");
    let config =
        format!("[amqp]\nurl = \"{url}\"\nsource = \"queue\"\nqueue = \"pushes\"\nqueue_delay = \"0s\"\n");
    let engine = Engine::with_config(&config);
    no_bytes_stop_the_others(&engine, &url);
    no_dead_letter_stops_the_others(&engine, &url);
}
