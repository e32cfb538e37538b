//! Requests: their JSON, their headers, and their messages of AMQP.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::Backend;
use crate::domain::call::{Caller, Header};
use crate::domain::codec::Codec;
use crate::domain::mail::{Ask, Call};
use crate::domain::mail::{ClientKey, CommandKey, Publish, ReplyAddress, ReplyTo};
use crate::hooks::{AmqpRequest, amqp_request, body, http_headers};

fn address() -> ReplyAddress {
    let client = ClientKey { slot: 1, generation: 2 };
    ReplyAddress { shard: 0, command: CommandKey { client, id: 3 }, codec: Codec::Json }
}

fn ann() -> Caller {
    Caller {
        client: "c1".into(),
        user: "ann".into(),
        meta: Some(r#"{"plan":"gold"}"#.into()),
        headers: None,
        transport: "websocket",
    }
}

fn call(ask: Ask) -> Call {
    Call { reply_to: address(), caller: ann(), ask, waited: Duration::ZERO }
}

fn rpc(method: &str, data: &str) -> Ask {
    Ask::Rpc { method: method.into(), data: data.as_bytes().into() }
}

fn publish() -> Ask {
    Ask::Publish(Box::new(Publish {
        reply_to: ReplyTo::Client(address()),
        topics: [Arc::from("news")].into(),
        data: b"{\n\"a\": 1}"[..].into(),
        id: None,
        key: None,
        info: None,
        skips_history: false,
    }))
}

fn connect(data: Option<&str>, name: &str, topics: &[&str]) -> Ask {
    Ask::Connect {
        data: data.map(|data| data.as_bytes().into()),
        name: name.into(),
        version: name.into(),
        topics: topics.iter().map(|topic| (*topic).into()).collect(),
    }
}

fn subscribe(data: Option<&str>) -> Ask {
    Ask::Subscribe { topic: "news".into(), data: data.map(|data| data.as_bytes().into()) }
}

/// What each kind of call looks like, besides what all have.
fn kinds() -> Vec<(Ask, Value)> {
    vec![
        (rpc("order.get", r#"{"id":1}"#), json!({"user": "ann", "method": "order.get", "data": {"id": 1}})),
        (rpc("", ""), json!({"user": "ann"})),
        (Ask::Send { data: b"[1]"[..].into() }, json!({"user": "ann", "data": [1]})),
        (
            connect(Some("null"), "js", &["news", "\"x\""]),
            json!({"data": null, "name": "js", "version": "js", "channels": ["news", "\"x\""]}),
        ),
        (connect(None, "", &[]), json!({})),
        (Ask::Refresh, json!({"user": "ann"})),
        (subscribe(Some("1")), json!({"user": "ann", "channel": "news", "data": 1})),
        (subscribe(None), json!({"user": "ann", "channel": "news"})),
        (Ask::RefreshSubscription { topic: "news".into() }, json!({"user": "ann", "channel": "news"})),
        (publish(), json!({"user": "ann", "channel": "news", "data": {"a": 1}})),
    ]
}

#[test]
fn a_call_is_the_json_that_a_backend_expects() {
    for (ask, expected) in kinds() {
        let is_connect = matches!(ask, Ask::Connect { .. });
        let call = call(ask);
        let mut expected = expected;
        for (name, value) in
            [("client", "c1"), ("transport", "websocket"), ("protocol", "json"), ("encoding", "json")]
        {
            expected[name] = value.into();
        }
        let written = body(&call, false);
        assert!(!written.contains(&b'\n'));
        assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), expected);
        let with_meta = serde_json::from_slice::<Value>(&body(&call, true)).unwrap();
        if !is_connect {
            expected["meta"] = json!({"plan": "gold"});
        }
        assert_eq!(with_meta, expected);
    }
}

#[test]
fn an_anonymous_user_is_told_and_whatever_else_is_empty_is_not() {
    let call =
        Call { reply_to: address(), caller: Caller::default(), ask: Ask::Refresh, waited: Duration::ZERO };
    let written: Value = serde_json::from_slice(&body(&call, true)).unwrap();
    assert_eq!(written, json!({"user": "", "protocol": "json", "encoding": "json"}));
}

#[test]
fn data_stays_as_it_was_written() {
    let call = call(rpc("a", r#"{"n":100000000000000000000.10,"n":1e400}"#));
    let written = String::from_utf8(body(&call, false)).unwrap();
    assert!(written.contains(r#""data":{"n":100000000000000000000.10,"n":1e400}"#), "{written}");
}

/// As many bytes as the headers may have, and what is sent then.
fn sent(ask: Ask, headers_max: usize) -> AmqpRequest {
    amqp_request(&call(ask), true, headers_max)
}

fn headers(request: &AmqpRequest) -> Vec<(&str, &str)> {
    request.headers.iter().map(|(name, value)| (*name, &**value)).collect()
}

#[test]
fn a_request_by_amqp_is_what_the_client_sent_and_headers_say_who_it_is() {
    let everything = [("x-client", "c1"), ("x-user", "ann"), ("x-meta", r#"{"plan":"gold"}"#)];
    let data = r#"{"id":1}"#;
    for (ask, key) in [
        (rpc("order.get", data), "rpc.order.get"),
        (rpc("", data), "rpc."),
        (Ask::Send { data: data.as_bytes().into() }, "send"),
    ] {
        let request = sent(ask, 1000);
        assert_eq!((&*request.routing_key, &request.body[..]), (key, data.as_bytes()));
        assert_eq!(headers(&request), everything);
    }
    let without_meta = amqp_request(&call(rpc("a", "1")), false, 1000);
    assert_eq!(headers(&without_meta), everything[..2]);
    let nobody = Call { caller: Caller { user: Box::default(), ..ann() }, ..call(rpc("a", "1")) };
    assert_eq!(headers(&amqp_request(&nobody, false, 1000)), everything[..1]);
}

/// The table has 4 bytes, `x-client: c1` 16, `x-user: ann` 15, `x-topic: news` 17, and the `x-meta` 27.
#[test]
fn headers_that_do_not_fit_are_in_the_body() {
    let whole = sent(rpc("a", "1"), 62);
    assert_eq!((whole.headers.len(), &whole.body[..]), (3, &b"1"[..]));
    let envelope = sent(rpc("a", "1"), 61);
    assert_eq!(headers(&envelope), [("x-envelope", "true")]);
    assert_eq!((&*envelope.routing_key, envelope.body), ("rpc.a", body(&call(rpc("a", "1")), true)));

    for (most, names) in [
        (52, &["x-client", "x-user", "x-topic"][..]),
        (51, &["x-client", "x-user"]),
        (34, &["x-client"]),
        (19, &["x-user"]),
        (18, &[]),
        (0, &[]),
    ] {
        let hook = sent(subscribe(None), most);
        let found: Vec<_> = hook.headers.iter().map(|(name, _)| *name).collect();
        assert_eq!(found, names, "{most}");
        assert_eq!(hook.body, body(&call(subscribe(None)), true));
    }
}

#[test]
fn a_hook_by_amqp_has_a_name_of_its_own() {
    for (ask, key) in [
        (connect(None, "", &[]), "hook.connect"),
        (Ask::Refresh, "hook.refresh"),
        (subscribe(None), "hook.subscribe"),
        (Ask::RefreshSubscription { topic: "news".into() }, "hook.sub_refresh"),
        (publish(), "hook.publish"),
    ] {
        assert_eq!(&*sent(ask, 1000).routing_key, key);
    }
}

#[test]
fn a_message_shows_nothing_of_its_client() {
    let request = sent(rpc("order.get", "\"hunter2\""), 1000);
    let shown = format!("{request:?}");
    assert!(shown.contains("order.get") && shown.contains("x-user") && shown.contains("9 bytes"), "{shown}");
    assert!(!shown.contains("ann") && !shown.contains("hunter2") && !shown.contains("gold"), "{shown}");
}

#[test]
fn a_backend_is_sent_the_headers_that_it_names_and_no_others() {
    let header = |name: &str, value: &str, is_emulated| Header {
        name: name.into(),
        value: value.as_bytes().into(),
        is_emulated,
    };
    let came = [
        header("cookie", "a=1", false),
        header("cookie", "b=2", false),
        header("origin", "https://a", false),
        header("authorization", "real", false),
        header("cookie", "emulated", true),
        header("authorization", "emulated", true),
        header("x-trace", "t1", true),
        header("x-key", "emulated", true),
    ];
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let fixed = [("X-Key", "fixed"), ("COOKIE", "fixed")];
    let fixed = fixed.map(|(name, value)| (name.to_owned(), value.into()));
    for (headers, client_headers, expected) in [
        (&[][..], &[][..], &[("COOKIE", "fixed"), ("X-Key", "fixed")][..]),
        (&["Cookie"], &[], &[("cookie", "a=1"), ("cookie", "b=2"), ("X-Key", "fixed")]),
        (&[], &["Cookie"], &[("cookie", "emulated"), ("X-Key", "fixed")]),
        (
            &["Authorization"],
            &["authorization", "X-TRACE", "x-key"],
            &[("authorization", "real"), ("x-trace", "t1"), ("x-key", "emulated"), ("COOKIE", "fixed")],
        ),
    ] {
        let backend = Backend {
            headers: list(headers),
            client_headers: list(client_headers),
            static_headers: fixed.clone().into(),
            ..Backend::default()
        };
        let caller = Caller { headers: Some(came.clone().into()), ..ann() };
        let sent = http_headers(&caller, &backend);
        let sent: Vec<_> =
            sent.iter().map(|(name, value)| (&**name, std::str::from_utf8(value).unwrap())).collect();
        assert_eq!(sent, expected, "{headers:?} {client_headers:?}");
    }
    assert_eq!(http_headers(&ann(), &Backend::default()), []);
}
