use super::*;

use std::sync::Arc;

use crate::codec::reply::{EncodedSubscriptions, Position};
use crate::domain::client_info::ClientInfo;
use crate::domain::codec::Codec;
use crate::domain::position;
use crate::domain::reasons::ErrorCode;

fn appended(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    assert_eq!(out.pop(), Some(b'\n'));
    String::from_utf8(out).unwrap()
}

fn written(id: u32, value: Reply<'_>) -> String {
    appended(|out| reply(out, id, &value))
}

fn pushed(value: Push<'_>) -> String {
    appended(|out| push(out, &value))
}

fn published<'a>(topic: &'a str, data: &'a [u8], offset: u64) -> Published<'a> {
    Published { topic, publication: Publication { data, info: None, offset }, epoch: None }
}

/// Of each part, there are clients with it and without it.
fn clients() -> Vec<Arc<ClientInfo>> {
    let client = || ClientInfo { client: "c-1".into(), ..ClientInfo::default() };
    let clients = [
        client(),
        ClientInfo { user: "a \"b\"".into(), client: "\n".into(), ..client() },
        ClientInfo { conn_info: b"{\"n\":\n1}"[..].into(), ..client() },
        ClientInfo { user: "u".into(), chan_info: b"[1]"[..].into(), ..client() },
        ClientInfo { conn_info: b"1"[..].into(), chan_info: b"2"[..].into(), ..client() },
    ];
    clients.map(Arc::new).into()
}

#[test]
fn a_connected_client_learns_its_id_and_about_pings() {
    let subscriptions = EncodedSubscriptions::default();
    let connected = Connected {
        client: "c-1",
        version: "0.1.0",
        ttl: None,
        ping: 25,
        pong: true,
        data: None,
        subscriptions,
    };
    assert_eq!(
        written(1, Reply::Connect(connected)),
        r#"{"id":1,"connect":{"client":"c-1","version":"0.1.0","ping":25,"pong":true}}"#
    );
    let silent = Connected { version: "a \"quoted\" one\n", ping: 0, pong: false, ..connected };
    let limited = Connected { ttl: NonZeroU32::new(3600), ..connected };
    assert_eq!(
        written(1, Reply::Connect(limited)),
        r#"{"id":1,"connect":{"client":"c-1","version":"0.1.0","expires":true,"ttl":3600,"ping":25,"pong":true}}"#
    );
    assert_eq!(
        written(u32::MAX, Reply::Connect(silent)),
        r#"{"id":4294967295,"connect":{"client":"c-1","version":"a \"quoted\" one\n"}}"#
    );
}

#[test]
fn the_reply_to_a_connect_has_the_subscriptions_that_the_token_brings() {
    let mut list = Vec::new();
    let position = Position { epoch: "e", offset: 7 };
    let subscriptions = [
        ("a \"b\"", Subscribed::default()),
        ("h", Subscribed { position: Some(position), recoverable: true, ..Subscribed::default() }),
        ("i", Subscribed { data: Some("{\"n\":\n1}"), ..Subscribed::default() }),
    ];
    for (topic, subscribed) in &subscriptions {
        Codec::Json.add_subscription(&mut list, topic, subscribed);
    }
    let subscriptions = EncodedSubscriptions(&list);
    let connected = Connected {
        client: "c",
        version: "1",
        ttl: None,
        ping: 0,
        pong: false,
        data: Some("{\"a\":\n1}"),
        subscriptions,
    };
    assert_eq!(
        written(1, Reply::Connect(connected)),
        r#"{"id":1,"connect":{"client":"c","version":"1","data":{"a": 1},"subs":{"a \"b\"":{},"#.to_owned()
            + r#""h":{"positioned":true,"epoch":"e","offset":7,"recoverable":true},"i":{"data":{"n": 1}}}}}"#
    );
}

#[test]
fn replies_without_content_still_name_the_method() {
    let subscribed = Subscribed::default();
    assert_eq!(written(2, Reply::Subscribe(subscribed)), r#"{"id":2,"subscribe":{}}"#);
    assert_eq!(written(3, Reply::Unsubscribe), r#"{"id":3,"unsubscribe":{}}"#);
    assert_eq!(written(4, Reply::Publish), r#"{"id":4,"publish":{}}"#);
}

#[test]
fn another_token_is_answered_with_its_time() {
    let refreshed = Refreshed { client: "c-1", version: "0.1.0", ttl: NonZeroU32::new(60) };
    assert_eq!(
        written(5, Reply::Refresh(refreshed)),
        r#"{"id":5,"refresh":{"client":"c-1","version":"0.1.0","expires":true,"ttl":60}}"#
    );
    let forever = Refreshed { ttl: None, ..refreshed };
    assert_eq!(
        written(5, Reply::Refresh(forever)),
        r#"{"id":5,"refresh":{"client":"c-1","version":"0.1.0"}}"#
    );
    for (ttl, fields) in [(NonZeroU32::new(60), r#""expires":true,"ttl":60"#), (None, "")] {
        let expected = format!(r#"{{"id":6,"sub_refresh":{{{fields}}}}}"#);
        assert_eq!(written(6, Reply::RefreshSubscription { ttl }), expected);
    }
}

#[test]
fn errors_say_whether_to_come_back() {
    assert_eq!(
        written(2, Reply::Error(ErrorCode::Internal)),
        r#"{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}"#
    );
    assert_eq!(
        written(7, Reply::Error(ErrorCode::PermissionDenied)),
        r#"{"id":7,"error":{"code":103,"message":"permission denied"}}"#
    );
}

#[test]
fn a_subscriber_learns_where_it_stands_and_what_it_missed() {
    let live = Subscribed { position: Some(Position { epoch: "e", offset: 0 }), ..Subscribed::default() };
    let at_seven = Subscribed { position: Some(Position { epoch: "e", offset: 7 }), ..live };
    let nothing = Some(EncodedPublications::default());
    let missed = Some(EncodedPublications(br#"{"data":1},{"data":2}"#));
    let cases = [
        (live, r#""positioned":true,"epoch":"e""#),
        (
            Subscribed { recoverable: true, ..at_seven },
            r#""positioned":true,"epoch":"e","offset":7,"recoverable":true"#,
        ),
        (
            Subscribed { recoverable: true, was_recovering: true, ..at_seven },
            r#""positioned":true,"epoch":"e","offset":7,"recoverable":true,"was_recovering":true"#,
        ),
        (
            Subscribed { was_recovering: true, recovered: nothing, ..at_seven },
            r#""positioned":true,"epoch":"e","offset":7,"was_recovering":true,"recovered":true"#,
        ),
        (
            Subscribed { was_recovering: true, recovered: missed, ..live },
            r#""positioned":true,"epoch":"e","was_recovering":true,"recovered":true,"publications":[{"data":1},{"data":2}]"#,
        ),
        (Subscribed { was_recovering: true, ..Subscribed::default() }, r#""was_recovering":true"#),
        (
            Subscribed { ttl: NonZeroU32::new(60), recoverable: true, ..at_seven },
            r#""positioned":true,"epoch":"e","offset":7,"expires":true,"ttl":60,"recoverable":true"#,
        ),
        (
            Subscribed { data: Some("{\"a\":\n1}"), ttl: NonZeroU32::new(1), ..Subscribed::default() },
            r#""expires":true,"ttl":1,"data":{"a": 1}"#,
        ),
    ];
    for (subscribed, fields) in cases {
        let expected = format!(r#"{{"id":2,"subscribe":{{{fields}}}}}"#);
        assert_eq!(written(2, Reply::Subscribe(subscribed)), expected);
    }
}

#[test]
fn a_history_says_where_the_topic_stands_even_if_it_is_empty() {
    let position = position::Position { epoch: "e".into(), offset: 0 };
    let told = Told::History(HistoryPage { position, publications: Vec::new() });
    assert_eq!(
        written(5, Reply::Told(&told)),
        r#"{"id":5,"history":{"epoch":"e","offset":0,"publications":[]}}"#
    );
}

#[test]
fn a_publication_is_one_line_with_its_data_as_it_came() {
    assert_eq!(
        pushed(Push::Publication(published("a \"b\"", b"{\"n\" :\n1e400}", 0))),
        "{\"push\":{\"channel\":\"a \\\"b\\\"\",\"pub\":{\"data\":{\"n\" : 1e400}}}}"
    );
}

#[test]
fn a_publication_of_a_topic_with_history_says_where_it_stands() {
    let mut out = b"before\n".to_vec();
    let data = publication(&mut out, &published("a", b"[\n]", u64::MAX));
    assert_eq!(&out[data], b"[ ]");
    let line =
        "before\n{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":[ ],\"offset\":18446744073709551615}}}\n";
    assert_eq!(String::from_utf8(out).unwrap(), line);
}

#[test]
fn a_publication_of_a_client_says_who_made_it() {
    let infos = [
        r#"{"client":"c-1"}"#,
        r#"{"user":"a \"b\"","client":"\n"}"#,
        r#"{"client":"c-1","conn_info":{"n": 1}}"#,
        r#"{"user":"u","client":"c-1","chan_info":[1]}"#,
        r#"{"client":"c-1","conn_info":1,"chan_info":2}"#,
    ];
    for (client, info) in clients().iter().zip(infos) {
        let publication = Publication { data: b"1", info: Some(client), offset: 7 };
        assert_eq!(
            pushed(Push::Publication(Published { topic: "a", publication, epoch: None })),
            format!(r#"{{"push":{{"channel":"a","pub":{{"data":1,"info":{info},"offset":7}}}}}}"#)
        );
    }
}

#[test]
fn the_first_publication_says_in_which_numbering_it_is() {
    assert_eq!(
        pushed(Push::Publication(Published { epoch: Some("e"), ..published("a", b"1", 1) })),
        r#"{"push":{"channel":"a","pub":{"data":1,"offset":1,"epoch":"e"}}}"#
    );
}

#[test]
fn how_long_a_line_is_can_be_known_before() {
    for topic in ["a", "chat:\u{e9}", "a \"b\" \\", "\u{1f600}"] {
        for offset in [0, 1, 9, 10, 99, 100, u64::MAX] {
            for epoch in [None, Some("e"), Some("\"")] {
                for info in clients().iter().map(Some).chain([None]) {
                    let publication = Publication { data: b"{\"n\":\n1}", info, offset };
                    let published = Published { topic, publication, epoch };
                    let mut out = Vec::new();
                    super::publication(&mut out, &published);
                    assert_eq!(publication_len(&published), out.len(), "{published:?}");
                }
            }
        }
    }
}

#[test]
fn publications_in_a_reply_are_members_of_an_array() {
    let mut list = Vec::new();
    let client = Arc::new(ClientInfo { client: "c-1".into(), ..ClientInfo::default() });
    for (offset, info) in [(0, None), (7, None), (8, Some(&client))] {
        let (publication, before) = (Publication { data: b"{\n}", info, offset }, list.len());
        add_publication(&mut list, &publication);
        let comma = usize::from(before == 0);
        assert_eq!(list.len() - before + comma, added_len(&publication));
    }
    let expected = r#"{"data":{ }},{"data":{ },"offset":7},{"data":{ },"info":{"client":"c-1"},"offset":8}"#;
    assert_eq!(String::from_utf8(list).unwrap(), expected);
}

#[test]
fn an_unsubscribe_says_code_and_reason() {
    assert_eq!(
        pushed(Push::Unsubscribe { topic: "news", code: UnsubscribeCode::InsufficientState }),
        r#"{"push":{"channel":"news","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#
    );
    assert_eq!(
        pushed(Push::Unsubscribe { topic: "news", code: UnsubscribeCode::Server }),
        r#"{"push":{"channel":"news","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#
    );
}

#[test]
fn what_separates_lines_is_the_delimiter_of_the_encoding() {
    let mut out = Vec::new();
    reply(&mut out, 1, &Reply::Unsubscribe);
    push(&mut out, &Push::Ping);
    assert_eq!(out, b"{\"id\":1,\"unsubscribe\":{}}\n{}\n");
    assert!(out.ends_with(crate::domain::encoding::Encoding::Json.delimiter()));
}
