use proptest::prelude::*;

use super::*;
use crate::domain::position;

fn parse(line: &str) -> Result<Command<'_>, Malformed> {
    command(line.as_bytes())
}

fn method(line: &str) -> Method<'_> {
    match parse(line) {
        Ok(command) => command.method,
        Err(error) => panic!("{line}: {error}"),
    }
}

fn subscribe(topic: &str) -> Subscribe<'_> {
    Subscribe {
        topic: topic.into(),
        token: Token::default(),
        recover: None,
        recoverable: false,
        positioned: false,
        rejects_unrecovered: false,
        data: None,
        unsupported: false,
    }
}

fn history(range: HistoryRange) -> Method<'static> {
    Method::Ask { topic: "a".into(), asked: Asked::History(range) }
}

#[test]
fn a_history_without_a_limit_is_asked_for_by_a_negative_one() {
    for (limit, expected) in [(0, Some(0)), (5, Some(5)), (-1, None), (i32::MIN, None)] {
        let line = format!(r#"{{"id":6,"history":{{"channel":"a","limit":{limit}}}}}"#);
        assert_eq!(method(&line), history(HistoryRange { limit: expected, ..HistoryRange::default() }));
    }
}

#[test]
fn the_headers_of_a_connect_are_texts_by_name() {
    for (headers, expected) in [
        (r#"{"Authorization":"Bearer a"}"#, "Bearer a"),
        (r#"{"X":1,"aUTHORIZATION":"Basic \u0061","authorization":"b"}"#, "Basic a"),
        (r#"{"X-Authorization":"a"}"#, ""),
        (r#"{"Authorization":7}"#, ""),
        ("{}", ""),
        ("null", ""),
    ] {
        let line = format!(r#"{{"id":1,"connect":{{"headers":{headers}}}}}"#);
        let Method::Connect(connect) = method(&line) else { panic!("{line}") };
        assert_eq!(connect.header("authorization"), expected, "{headers}");
    }
    for headers in ["7", "[]", r#"{"a":"\ud800"}"#] {
        let line = format!(r#"{{"id":1,"connect":{{"headers":{headers}}}}}"#);
        assert!(matches!(parse(&line), Err(Malformed::Syntax(_))), "{headers}");
    }
}

#[test]
fn a_connect_says_where_the_client_was_in_topics_of_its_token() {
    let subs = r#"{"c":{"recover":true,"offset":7,"epoch":"e\n"},"b":{"recover":false,"offset":1},"d":null,
                   "a":{"recover":true},"\u0062b":{"recover":true,"offset":2,"delta":"fossil"}}"#;
    let line = format!(r#"{{"id":1,"connect":{{"subs":{subs}}}}}"#);
    let Method::Connect(connect) = method(&line) else { panic!("it is a connect") };
    let since = |topic: &str| connect.since(topic).map(|since| (&*since.epoch, since.offset));
    assert_eq!(
        ["a", "b", "bb", "c", "d"].map(since),
        [Some(("", 0)), None, Some(("", 2)), Some(("e\n", 7)), None]
    );
    assert_eq!(connect.resumed.len(), 3);
    for wrong in ["1", "[]", r#"{"a":1}"#, r#"{"a":{"offset":-1}}"#, r#"{"a":{"recover":1}}"#] {
        let line = format!(r#"{{"id":1,"connect":{{"subs":{wrong}}}}}"#);
        assert!(matches!(command(line.as_bytes()), Err(Malformed::Syntax(_))), "{wrong}");
    }
}

#[test]
fn the_commands_of_the_sdks() {
    let connect = |name: Option<&'static str>, token: Option<&'static str>| {
        Method::Connect(Connect {
            token: Token(token.unwrap_or_default().into()),
            name: name.map(Cow::Borrowed),
            version: None,
            data: None,
            headers: Vec::new(),
            resumed: Vec::new(),
        })
    };
    let cases = [
        ("{}", 0, Method::Pong),
        (" { } \r", 0, Method::Pong),
        (r#"{"id":0}"#, 0, Method::Pong),
        (r#"{"connect":{},"id":1}"#, 1, connect(None, None)),
        (r#"{"connect":{"name":"js","flag":1},"id":1}"#, 1, connect(Some("js"), None)),
        (r#"{"id":1,"connect":{"token":"t","name":null,"subs":{"a":{}}}}"#, 1, connect(None, Some("t"))),
        (r#"{"id":1,"connect":{"token":null}}"#, 1, connect(None, None)),
        (r#"{"subscribe":{"channel":"news","flag":1},"id":2}"#, 2, Method::Subscribe(subscribe("news"))),
        (r#"{"id":2,"subscribe":{}}"#, 2, Method::Subscribe(subscribe(""))),
        (
            r#"{"id":2,"subscribe":{"channel":"a","type":4,"phase":2}}"#,
            2,
            Method::Subscribe(Subscribe { unsupported: true, ..subscribe("a") }),
        ),
        (r#"{"id":2,"subscribe":{"channel":"a","type":0}}"#, 2, Method::Subscribe(subscribe("a"))),
        (
            r#"{"id":2,"subscribe":{"channel":"a","token":"t"}}"#,
            2,
            Method::Subscribe(Subscribe { token: Token("t".into()), ..subscribe("a") }),
        ),
        (r#"{"id":3,"refresh":{"token":"t"}}"#, 3, Method::Refresh { token: Token("t".into()) }),
        (r#"{"id":3,"refresh":{}}"#, 3, Method::Refresh { token: Token::default() }),
        (
            r#"{"id":4,"sub_refresh":{"channel":"a","token":"t"}}"#,
            4,
            Method::RefreshSubscription { topic: "a".into(), token: Token("t".into()) },
        ),
        (r#"{"id":4,"sub_refresh":{"channel":"a","type":1,"track":["k"]}}"#, 4, Method::Unavailable),
        (
            r#"{"id":2,"subscribe":{"channel":"a","tf":{"key":"k","cmp":"eq","val":"v"}}}"#,
            2,
            Method::Subscribe(Subscribe { unsupported: true, ..subscribe("a") }),
        ),
        (
            r#"{"id":2,"subscribe":{"channel":"a","delta":"xdelta"}}"#,
            2,
            Method::Subscribe(Subscribe { unsupported: true, ..subscribe("a") }),
        ),
        (
            r#"{"id":2,"subscribe":{"channel":"a","tf":null,"delta":"fossil"}}"#,
            2,
            Method::Subscribe(subscribe("a")),
        ),
        (r#"{"id":2,"subscribe":{"channel":"a","delta":""}}"#, 2, Method::Subscribe(subscribe("a"))),
        (r#"{"id":3,"unsubscribe":{"channel":"a"}}"#, 3, Method::Unsubscribe { topic: "a".into() }),
        (r#"{"id":4,"publish":{"channel":"a"}}"#, 4, Method::Publish { topic: "a".into(), data: None }),
        (r#"{"id":4,"publish":{"channel":"a","type":1,"key":"k","data":1}}"#, 4, Method::Unavailable),
        (r#"{"send":{"data":1}}"#, 0, Method::Send { data: Some(b"1") }),
        (r#"{"id":9,"send":{}}"#, 9, Method::Send { data: None }),
        (r#"{"id":4294967295}"#, u32::MAX, Method::Unknown),
        (r#"{"id":5,"dance":{"fast":true}}"#, 5, Method::Unknown),
        (r#"{"id":5,"dance":{},"subscribe":{"channel":"a"}}"#, 5, Method::Subscribe(subscribe("a"))),
    ];
    for (line, id, method) in cases {
        assert_eq!(parse(line).unwrap(), Command { id, method }, "{line}");
    }
}

#[test]
fn where_a_client_stands_and_what_it_missed() {
    let cases = [
        (
            r#"{"id":2,"subscribe":{"channel":"a","recover":true,"offset":7,"epoch":"e"}}"#,
            2,
            Method::Subscribe(Subscribe {
                recover: Some(Since { epoch: "e".into(), offset: 7 }),
                ..subscribe("a")
            }),
        ),
        (
            r#"{"id":2,"subscribe":{"channel":"a","recover":true,"flag":3,"recoverable":true}}"#,
            2,
            Method::Subscribe(Subscribe {
                recover: Some(Since::default()),
                recoverable: true,
                rejects_unrecovered: true,
                ..subscribe("a")
            }),
        ),
        (
            r#"{"id":2,"subscribe":{"channel":"a","positioned":true,"offset":7}}"#,
            2,
            Method::Subscribe(Subscribe { positioned: true, ..subscribe("a") }),
        ),
        (
            r#"{"id":6,"history":{"channel":"a"}}"#,
            6,
            history(HistoryRange { limit: Some(0), ..HistoryRange::default() }),
        ),
        (
            r#"{"id":6,"history":{"channel":"a","limit":-1,"since":{"offset":3,"epoch":"e"},"reverse":true}}"#,
            6,
            history(HistoryRange {
                limit: None,
                since: Some(position::Since { epoch: "e".into(), offset: 3 }),
                reverse: true,
            }),
        ),
    ];
    for (line, id, method) in cases {
        assert_eq!(parse(line).unwrap(), Command { id, method }, "{line}");
    }
}

/// JSON by its grammar, so that what it asks for, and its id, are known.
#[test]
fn what_stands_for_nothing_can_be_answered() {
    let cases = [
        (r#"{"id":1,"connect":{"name":"\ud83d"}}"#, 1, true),
        (r#"{"connect":{"token":"\ude00 x"},"id":7}"#, 7, true),
        (r#"{"id":2,"subscribe":{"channel":"a\ud83d"}}"#, 2, false),
        (r#"{"id":2,"subscribe":{"channel":"a","offset":1e999}}"#, 2, false),
    ];
    for (line, id, connects) in cases {
        match parse(line) {
            Err(Malformed::Unreadable { id: found, is_connect, .. }) => {
                assert_eq!((found, is_connect), (id, connects), "{line}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    // What has no id, is no JSON, or has fields of another type is as bad as ever.
    for line in [
        r#"{"connect":{"name":"\ud83d"}}"#,
        r#"{"id":0,"connect":{"name":"\ud83d"}}"#,
        r#"{"id":1,"connect":{"name":"\ud83d"}"#,
        r#"{"id":1,"connect":{"name":"\ud83d"}}{}"#,
        r#"{"id":1,"connect":{"name":7}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","channel":"b"}}"#,
    ] {
        assert!(matches!(parse(line), Err(Malformed::Syntax(_))), "{line}");
    }
}

#[test]
fn commands_for_backends() {
    for (line, id, expected) in [
        (
            r#"{"id":9,"rpc":{"method":"m","data": {"a": 1} }}"#,
            9,
            Method::Rpc { method: "m".into(), data: Some(br#"{"a": 1}"#) },
        ),
        (r#"{"id":9,"rpc":{"data":null}}"#, 9, Method::Rpc { method: "".into(), data: Some(b"null") }),
        (r#"{"id":9,"rpc":{}}"#, 9, Method::Rpc { method: "".into(), data: None }),
        (
            r#"{"id":2,"subscribe":{"channel":"a","data":[1]}}"#,
            2,
            Method::Subscribe(Subscribe { data: Some(b"[1]"), ..subscribe("a") }),
        ),
        (
            r#"{"id":1,"connect":{"data":{"a":1}}}"#,
            1,
            Method::Connect(Connect { data: Some(br#"{"a":1}"#), ..Connect::default() }),
        ),
    ] {
        assert_eq!(parse(line), Ok(Command { id, method: expected }), "{line}");
    }
}

#[test]
fn methods_that_are_not_offered() {
    for name in ["presence", "presence_stats", "ping"] {
        assert_eq!(
            method(&format!(r#"{{"id":1,"{name}":{{"channel":"a"}}}}"#)),
            Method::Unavailable,
            "{name}"
        );
        assert!(matches!(parse(&format!(r#"{{"{name}":{{}}}}"#)), Err(Malformed::NoId)), "{name}");
    }
}

#[test]
fn data_passes_byte_for_byte() {
    let cases = [
        r#"{"a": [1, 2 ,3]}"#,
        "123456789012345678901234567890",
        "1e400",
        "-0.0",
        r#""\u2028 \ud83d\ude00 \/ \" \\ \b\f\n\r\t""#,
        "\"\u{2028}😀\u{7f}\"",
        "null",
        "false",
        "\"\"",
        r#"{"a":1,"a":2}"#,
    ];
    for data in cases {
        let line = format!(r#"{{"id":1,"publish":{{"channel":"a","data": {data} }}}}"#);
        assert_eq!(
            method(&line),
            Method::Publish { topic: "a".into(), data: Some(data.as_bytes()) },
            "{data}"
        );
    }
}

#[test]
fn text_is_borrowed_unless_it_has_escapes() {
    let Method::Subscribe(plain) = method(r#"{"id":1,"subscribe":{"channel":"a:é"}}"#) else { panic!() };
    assert!(matches!(plain.topic, Cow::Borrowed("a:é")));
    let Method::Connect(connect) = method(r#"{"id":1,"connect":{"name":"js"}}"#) else { panic!() };
    assert!(matches!(connect.name, Some(Cow::Borrowed("js"))));
    let Method::Unsubscribe { topic } = method(r#"{"id":1,"unsubscribe":{"channel":"\u0061\n"}}"#) else {
        panic!()
    };
    assert_eq!(topic, "a\n");
    assert_eq!(method(r#"{"\u0069d":1,"uns\u0075bscribe":{}}"#), Method::Unsubscribe { topic: "".into() });
}

#[test]
fn what_is_no_command() {
    let cases = [
        "",
        " ",
        "x",
        "null",
        "5",
        "[]",
        "[1,{}]",
        "{",
        r#"{"id":1"#,
        r#"{"id":1}{"id":2}"#,
        r#"{"id":1} x"#,
        r#"{"id":-1,"connect":{}}"#,
        r#"{"id":4294967296,"connect":{}}"#,
        r#"{"id":1.0,"connect":{}}"#,
        r#"{"id":"1","connect":{}}"#,
        r#"{"id":null,"connect":{}}"#,
        r#"{"id":1,"id":2,"connect":{}}"#,
        r#"{"id":1,"connect":{},"connect":{}}"#,
        r#"{"id":1,"connect":[]}"#,
        r#"{"id":1,"subscribe":["a",true,0]}"#,
        r#"{"id":1,"unsubscribe":["a"]}"#,
        r#"{"id":1,"subscribe":"a"}"#,
        r#"{"id":1,"subscribe":{"channel":7}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","channel":"b"}}"#,
        r#"{"id":1,"publish":{"channel":"a","data":}}"#,
        r#"{"id":1,"publish":{"channel":"a","data":{]}}}"#,
        r#"{"id":1,"publish":{"channel":"a","data":01}}"#,
        r#"{'id':1}"#,
    ];
    for line in cases {
        assert!(matches!(parse(line), Err(Malformed::Syntax(_))), "{line}: {:?}", parse(line));
    }
    for line in [r#"{"connect":{}}"#, r#"{"id":0,"subscribe":{"channel":"a"}}"#, r#"{"publish":{}}"#] {
        assert!(matches!(parse(line), Err(Malformed::NoId)), "{line}: {:?}", parse(line));
    }
    for line in [
        r#"{"id":1,"connect":{},"subscribe":{"channel":"a"}}"#,
        r#"{"id":1,"send":{},"rpc":{}}"#,
        r#"{"id":1,"presence":{},"history":{}}"#,
    ] {
        assert!(matches!(parse(line), Err(Malformed::SeveralMethods)), "{line}: {:?}", parse(line));
    }
}

#[test]
fn nesting_costs_no_stack() {
    let in_a_small_stack = || {
        for levels in [10_000, 30_000] {
            for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
                let deep = format!("{}1{}", open.repeat(levels), close.repeat(levels));
                let line = format!(r#"{{"id":1,"publish":{{"channel":"a","data":{deep}}}}}"#);
                let expected = Method::Publish { topic: "a".into(), data: Some(deep.as_bytes()) };
                assert!(method(&line) == expected, "{levels} levels of {open}");
                assert_eq!(method(&format!(r#"{{"id":1,"x":{deep}}}"#)), Method::Unknown);
                assert_eq!(method(&format!(r#"{{"id":1,"ping":{deep}}}"#)), Method::Unavailable);
                assert_eq!(
                    method(&format!(r#"{{"id":1,"connect":{{"data":{deep}}}}}"#)),
                    Method::Connect(Connect { data: Some(deep.as_bytes()), ..Connect::default() })
                );
                parse(&format!(r#"{{"id":{deep}}}"#)).unwrap_err();
                parse(&format!(r#"{{"id":1,"subscribe":{{"channel":{deep}}}}}"#)).unwrap_err();
                parse(&open.repeat(levels)).unwrap_err();
            }
            parse(&"[".repeat(levels)).unwrap_err();
        }
    };
    std::thread::Builder::new().stack_size(256 << 10).spawn(in_a_small_stack).unwrap().join().unwrap();
}

/// What is passed on counts.
#[test]
fn a_command_is_at_most_so_deep() {
    let read = |line: &str| shallow_command(line.as_bytes(), 3).map(|command| command.id);
    let too_deep = |id, is_connect| Err(Malformed::TooDeep { id, is_connect });
    for (line, outcome) in [
        (r#"{"id":1,"publish":{"channel":"a","data":[[[1]]]}}"#, Ok(1)),
        (r#"{"id":1,"publish":{"channel":"a","data":[[[[1]]]]}}"#, too_deep(1, false)),
        (r#"{"id":1,"publish":{"channel":"a","data":1},"x":[[[[1]]]]}"#, Ok(1)),
        (r#"{"id":2,"connect":{"data":[1]}}"#, Ok(2)),
        (r#"{"id":2,"connect":{"data":[[1]]}}"#, too_deep(2, true)),
        (r#"{"id":3,"rpc":{"data":[[[1]]]}}"#, Ok(3)),
        (r#"{"id":3,"rpc":{"data":[[[[1]]]]}}"#, too_deep(3, false)),
        (r#"{"send":{"data":[[[1]]]}}"#, Ok(0)),
        (r#"{"send":{"data":[[[[1]]]]}}"#, Err(Malformed::Syntax(TOO_DEEP.to_owned()))),
        (r#"{"x":[[[[1]]]]}"#, Ok(0)),
    ] {
        assert_eq!(read(line), outcome, "{line}");
    }
}

#[test]
fn a_token_does_not_get_into_logs() {
    for line in [
        r#"{"id":1,"connect":{"token":"hunter2"}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","token":"hunter2"}}"#,
        r#"{"id":1,"refresh":{"token":"hunter2"}}"#,
        r#"{"id":1,"sub_refresh":{"channel":"a","token":"hunter2"}}"#,
    ] {
        let logged = format!("{:?}", method(line));
        assert!(logged.contains("7 bytes") && !logged.contains("hunter2"), "{logged}");
    }
    for line in [
        r#"{"id":2,"refresh":"hunter2"}"#,
        r#"{"id":2,"connect":"hunter2, expected hunter2"}"#,
        r#"{"id":"hunter2","refresh":{}}"#,
        r#"{"id":1,"connect":{"token":["hunter2"]}}"#,
    ] {
        let fault = parse(line).unwrap_err().to_string();
        assert!(fault.contains("expected") && !fault.contains("hunter2"), "{fault}");
    }
}

/// JSON values, as `serde_json` writes them.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<String>().prop_map(|value| serde_json::to_string(&value).unwrap()),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(", "))),
            (any::<String>(), inner)
                .prop_map(|(key, value)| format!("{{{}:{value}}}", serde_json::to_string(&key).unwrap())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_a_command_or_refused(line in ".*") {
        let _ = parse(&line);
    }

    #[test]
    fn any_damage_to_a_command_is_survived(
        data in json(), at in any::<prop::sample::Index>(), put in "[\\PC\\[\\]{}\",:0-9]?"
    ) {
        let line = format!(r#"{{"id":7,"publish":{{"channel":"a","data":{data}}}}}"#);
        let mut line: Vec<char> = line.chars().collect();
        let at = at.index(line.len());
        line.splice(at..=at, put.chars());
        let _ = parse(&line.into_iter().collect::<String>());
    }

    #[test]
    fn a_publish_comes_out_as_it_went_in(
        id in 1_u32.., topic in any::<String>(), data in json(), extra in json()
    ) {
        let name = serde_json::to_string(&topic).unwrap();
        let fields = format!(r#"{{"data":{data},"x":{extra},"channel":{name}}}"#);
        let line = format!(r#"{{"id":{id},"extra":{extra},"publish":{fields}}}"#);
        let expected = Method::Publish { topic: topic.into(), data: Some(data.as_bytes()) };
        prop_assert_eq!(parse(&line).unwrap(), Command { id, method: expected });
    }
}
