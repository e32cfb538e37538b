//! Messages as they come, and publishes as they go.

use super::*;

const NOW: UnixTime = UnixTime::from_micros(1_700_000_000_123_456);

fn delivery(routing_key: &str, properties: BasicProperties) -> Delivery {
    let mut delivery = Delivery::mock(7, "fanfare".into(), routing_key.into(), false, b"1".to_vec());
    delivery.properties = properties;
    delivery
}

fn receive(delivery: Delivery) -> Message {
    super::receive(delivery, None, 10)
}

fn headers(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), value.clone());
    }
    table
}

#[test]
fn a_bare_message_has_one_topic_and_is_json() {
    let message = receive(delivery("order.42", BasicProperties::default()));
    assert_eq!((&*message.topics, message.tag), (&[Box::from("order.42")][..], 7));
    assert_eq!((message.content, message.key, message.published), (Content::Json, None, None));
}

#[test]
fn what_the_filter_notes_concerns_the_whole_message_and_a_copy_that_is_no_text_only_itself() {
    let note = |text: &str| AMQPValue::LongString(text.into());
    let copies = AMQPValue::FieldArray(vec![note("b"), AMQPValue::LongString(vec![0xff].into())].into());
    for (pairs, topics, flaw, concerns_all) in [
        (
            &[(amqp_filter::ROUTING_KEY, note("61ff")), (amqp_filter::LOST, note("cut"))][..],
            &["a"][..],
            Undeliverable::RoutingKey("61ff".into()),
            true,
        ),
        (&[(amqp_filter::LOST, note("cut"))], &["a"], Undeliverable::Lost("cut".into()), true),
        (&[(COPIES, copies)], &["a", "b"], Undeliverable::Copy("ff".into()), false),
    ] {
        let properties = BasicProperties::default().with_headers(headers(pairs));
        let message = receive(delivery("a", properties));
        assert_eq!(message.topics.iter().map(|topic| &**topic).collect::<Vec<_>>(), topics);
        assert_eq!(flaw.concerns_all(), concerns_all);
        assert_eq!(message.flaw.as_deref(), Some(&flaw));
    }
}

#[test]
fn an_empty_id_is_none_and_encodings_are_read() {
    let said = |id: &str, encoding: &str| {
        let properties = BasicProperties::default().with_message_id(id.into());
        receive(delivery("a", properties.with_content_encoding(encoding.into())))
    };
    assert_eq!(said("", "").id, None);
    assert_eq!(said("1", "").id.as_deref(), Some("1"));
    assert_eq!(
        [said("", "utf-8"), said("", "gzip")].map(|message| message.compression),
        [Compression::None, Compression::Gzip]
    );
}

#[test]
fn a_fingerprint_is_of_what_is_the_same_each_time_and_tells_one_from_another() {
    let hasher = foldhash::fast::RandomState::default();
    let plain = || delivery("a", BasicProperties::default());
    let of = |delivery: &Delivery| fingerprint(delivery, &hasher);
    let mut again = plain();
    again.delivery_tag += 1;
    again.properties = again.properties.with_headers(headers(&[(OFFSET, AMQPValue::LongLongInt(5))]));
    assert_eq!(of(&plain()), of(&again));
    let with = |properties| of(&delivery("a", properties));
    let (mut exchange, mut body) = (plain(), plain());
    exchange.exchange = "another".into();
    body.data = b"2".to_vec();
    let others = [
        of(&exchange),
        of(&body),
        of(&delivery("b", BasicProperties::default())),
        with(BasicProperties::default().with_message_id("1".into())),
        with(BasicProperties::default().with_timestamp(1)),
    ];
    assert!(others.iter().all(|&other| other != of(&plain())));
}

#[test]
fn several_topics_travel_as_one_message_and_are_found_again() {
    let copies: Vec<TopicName> = vec!["b".into(), "a".into(), "b".into()];
    let several = Said { copies: &copies, ..Said::default() };
    let message = receive(delivery("a", properties("1".into(), &several, NOW)));
    assert_eq!(message.id.as_deref(), Some("1"));
    assert_eq!(message.topics, [Box::from("a"), Box::from("b")]);
    // As a stream gives it back.
    let mut came = delivery("a", properties("1".into(), &several, NOW));
    let mut kept = came.properties.headers().clone().unwrap();
    kept = headers(&[(TOPICS, kept.inner()[TOPICS].clone())]);
    came.properties = BasicProperties::default().with_headers(kept);
    assert_eq!(receive(came).topics, message.topics);
    assert_eq!(message.published, Some(NOW));
}

#[test]
fn further_topics_are_text_or_a_list_of_texts_and_anything_else_is_a_flaw() {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let list = |values: Vec<AMQPValue>| AMQPValue::FieldArray(values.into());
    for (value, topics, flaw) in [
        (text("b\nc\r\n"), vec!["a", "b", "c"], None),
        (AMQPValue::ShortString("b".into()), vec!["a", "b"], None),
        (list(vec![text("b"), text("a"), AMQPValue::ShortString("c".into())]), vec!["a", "b", "c"], None),
        (list(vec![]), vec!["a"], None),
        (AMQPValue::Void, vec!["a"], None),
        (list(vec![text("b"), AMQPValue::LongInt(7), text("c")]), vec!["a", "b", "c"], Some("LongInt")),
        (AMQPValue::LongInt(7), vec!["a"], Some("LongInt")),
        (AMQPValue::FieldTable(FieldTable::default()), vec!["a"], Some("FieldTable")),
        (AMQPValue::LongString(vec![b'b', 0xff].into()), vec!["a"], Some("UTF-8 from byte 1 on")),
    ] {
        let properties = BasicProperties::default().with_headers(headers(&[(TOPICS, value.clone())]));
        let message = receive(delivery("a", properties));
        assert_eq!(message.topics, topics.into_iter().map(Box::from).collect::<Vec<Box<str>>>(), "{value:?}");
        let reason = message.flaw.map(|flaw| flaw.to_string());
        let is_right = match (&reason, flaw) {
            (Some(reason), Some(word)) => reason.contains(word) && reason.contains("x-topics"),
            (reason, flaw) => reason.is_none() && flaw.is_none(),
        };
        assert!(is_right, "{value:?}: {reason:?}");
    }
}

#[test]
fn a_message_has_so_many_topics_and_no_more_each_once() {
    let names = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>();
    let most = MESSAGE_TOPICS_MAX;
    for (count, is_too_many) in [(FEW - 1, false), (FEW + 1, false), (most - 1, false), (30_000, true)] {
        // Each of them twice, the routing key as well; the second time in the other order.
        let mut said = names(count);
        said.extend(names(count).into_iter().rev());
        said.push("a".to_owned());
        let list = said.iter().map(|name| AMQPValue::LongString(name.as_str().into())).collect::<Vec<_>>();
        let text = AMQPValue::LongString(said.join("\n").into());
        for (header, value) in [(TOPICS, text), (COPIES, AMQPValue::FieldArray(list.into()))] {
            let properties = BasicProperties::default().with_headers(headers(&[(header, value)]));
            let message = receive(delivery("a", properties));
            let expected = ["a".to_owned()].into_iter().chain(names(count.min(most - 1)));
            assert!(message.topics.iter().map(|topic| topic.to_string()).eq(expected), "{count} {header}");
            let flaw = is_too_many.then_some(Undeliverable::TooManyTopics { max: most });
            assert_eq!(message.flaw.as_deref(), flaw.as_ref(), "{count} {header}");
        }
    }
    assert!(Undeliverable::TooManyTopics { max: most }.concerns_all());
}

#[test]
fn the_client_travels_in_a_header_and_a_message_that_spoils_it_goes_to_no_topic() {
    let conn_info = b"[[]]"[..].into();
    let ann = ClientInfo { user: "ann".into(), client: "c".into(), conn_info, ..ClientInfo::default() };
    let ours = Said { info: Some(&ann), ..Said::default() };
    let message = receive(delivery("a", properties("1".into(), &ours, NOW)));
    assert_eq!(message.info.as_deref(), Some(&ann));

    let said = |value: AMQPValue| {
        receive(delivery("a", BasicProperties::default().with_headers(headers(&[(CLIENT_INFO, value)]))))
    };
    let text = |text: &str| AMQPValue::LongString(text.into());
    let deep = format!(r#"{{"client":"c","conn_info":{}{}}}"#, "[".repeat(11), "]".repeat(11));
    for (value, flaw) in [
        (AMQPValue::Void, None),
        (AMQPValue::LongInt(7), Some(Undeliverable::ClientInfoHeader)),
        (AMQPValue::LongString(vec![0xff].into()), Some(Undeliverable::ClientInfoHeader)),
        (text("{}"), Some(client_info::Unusable::NoClient.into())),
        (text(&deep), Some(client_info::Unusable::TooDeep(10).into())),
    ] {
        let message = said(value);
        assert_eq!((message.info, message.flaw.as_deref()), (None, flaw.as_ref()));
        assert!(flaw.is_none_or(|flaw| flaw.concerns_all() && flaw.to_string().contains(CLIENT_INFO)));
    }
}

#[test]
fn of_two_flaws_the_one_that_concerns_all_counts() {
    let spoilt = || (CLIENT_INFO, AMQPValue::LongInt(7));
    let lost = (amqp_filter::LOST, AMQPValue::LongString("cut".into()));
    for (other, flaw) in [
        ((TOPICS, AMQPValue::LongInt(7)), Undeliverable::ClientInfoHeader),
        (lost, Undeliverable::Lost("cut".into())),
    ] {
        let properties = BasicProperties::default().with_headers(headers(&[spoilt(), other]));
        assert_eq!(receive(delivery("a", properties)).flaw.as_deref(), Some(&flaw));
    }
}

#[test]
fn the_finest_time_stamp_counts_and_nonsense_does_not() {
    let long = AMQPValue::LongLongInt;
    for (pairs, timestamp, published_at) in [
        (&[(MICROSECONDS, long(5)), (MILLISECONDS, long(6))][..], Some(7), Some(5)),
        (&[(MILLISECONDS, long(6))], Some(7), Some(6000)),
        (&[(MILLISECONDS, AMQPValue::LongUInt(6))], None, Some(6000)),
        (&[(MICROSECONDS, AMQPValue::LongString("yesterday".into()))], Some(7), Some(7_000_000)),
        (&[(MICROSECONDS, long(-1))], None, None),
        (&[(MILLISECONDS, long(i64::MAX))], None, None),
        (&[], Some(0), None),
        (&[], None, None),
    ] {
        let published_at = published_at.map(UnixTime::from_micros);
        assert_eq!(published(&headers(pairs), timestamp), published_at, "{pairs:?} {timestamp:?}");
    }
}

#[test]
fn an_expiration_is_milliseconds_and_nonsense_is_none() {
    for (text, expires_after) in
        [("250", Some(Duration::from_millis(250))), ("0", Some(Duration::ZERO)), ("soon", None), ("", None)]
    {
        let properties = BasicProperties::default().with_expiration(text.into());
        assert_eq!(receive(delivery("a", properties)).expires_after, expires_after, "{text}");
    }
}

#[test]
fn keys_are_text() {
    for (value, key) in [
        (AMQPValue::LongString("k".into()), Some("k")),
        (AMQPValue::LongString(vec![0xff].into()), None),
        (AMQPValue::LongInt(7), None),
    ] {
        let properties = BasicProperties::default().with_headers(headers(&[(KEY, value)]));
        assert_eq!(receive(delivery("a", properties)).key.as_deref(), key);
    }
    let ours = Said { key: Some("k"), ..Said::default() };
    let message = receive(delivery("a", properties("1".into(), &ours, UnixTime::default())));
    assert_eq!(message.key.as_deref(), Some("k"));
}

#[test]
fn a_message_says_with_true_that_no_history_keeps_it() {
    for (value, skips_history) in [
        (AMQPValue::Boolean(true), true),
        (AMQPValue::LongString("true".into()), true),
        (AMQPValue::Boolean(false), false),
        (AMQPValue::LongString("false".into()), false),
        (AMQPValue::LongInt(1), false),
    ] {
        let properties = BasicProperties::default().with_headers(headers(&[(SKIP_HISTORY, value.clone())]));
        assert_eq!(receive(delivery("a", properties)).skips_history, skips_history, "{value:?}");
    }
    for skips_history in [true, false] {
        let ours = Said { skips_history, ..Said::default() };
        let message = receive(delivery("a", properties("1".into(), &ours, NOW)));
        assert_eq!(message.skips_history, skips_history);
    }
}
