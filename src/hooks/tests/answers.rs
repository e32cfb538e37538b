//! Answers: what each kind may say, and what is wrong with others.

use crate::auth::{Action, Overrides};
use crate::base::clock::UnixTime;
use crate::config::{Config, StatusDisconnect, StatusError, StatusRule};
use crate::domain::call::CallKind::{Connect, Publish, Refresh, RefreshSubscription, Rpc, Send, Subscribe};
use crate::domain::call::{
    BackendAnswer, BackendError, CallFault, CallKind, ConnectTerms, PublishTerms, Terms,
};
use crate::domain::reasons::{CloseReason, Closing, ErrorCode};
use crate::hooks::{Answers, of_status};

fn read(kind: CallKind, body: &str) -> Result<BackendAnswer, CallFault> {
    Answers::new(&Config::default()).read(kind, body.as_bytes())
}

/// What an answer grants.
fn terms(kind: CallKind, body: &str) -> Terms {
    match read(kind, body) {
        Ok(BackendAnswer::Granted(terms)) => terms,
        other => panic!("{body}: {other:?}"),
    }
}

fn connected(body: &str) -> ConnectTerms {
    match terms(Connect, body) {
        Terms::Connect(Some(terms)) => *terms,
        other => panic!("{body}: {other:?}"),
    }
}

fn at(seconds: u64) -> Option<UnixTime> {
    Some(UnixTime::from_micros(seconds * 1_000_000))
}

/// As Centrifugo's handlers take an answer without a result.
#[test]
fn an_answer_that_says_nothing_means_something_for_each_kind() {
    for body in ["{}", r#"{"result":null}"#, r#"{"result":null,"error":null,"disconnect":null,"later":[]}"#] {
        let granted = CallKind::ALL.map(|kind| terms(kind, body));
        let expected = [
            Terms::Rpc { data: b"null"[..].into() },
            Terms::Send,
            Terms::Connect(None),
            Terms::Refresh(None),
            Terms::Subscribe(Box::default()),
            Terms::RefreshSubscription(None),
            Terms::Publish(PublishTerms::default()),
        ];
        assert_eq!(granted, expected, "{body}");
    }
    assert_eq!(terms(Send, ""), Terms::Send);
    for kind in CallKind::ALL.into_iter().filter(|kind| *kind != Send) {
        assert!(matches!(read(kind, ""), Err(CallFault::Unreadable(_))), "{kind:?}");
    }
}

#[test]
fn an_error_and_a_disconnect_are_the_same_for_all_kinds() {
    let error = |code, message: &str, is_temporary| {
        BackendAnswer::Error(BackendError { code, message: message.into(), is_temporary })
    };
    let own = |code, text: &str| BackendAnswer::Close(Closing::Application { code, text: text.into() });
    for (body, expected) in [
        (r#"{"error":{"code":1000,"message":"no","temporary":true}}"#, error(1000, "no", true)),
        (r#"{"error":{"code":1,"message":null,"later":{}},"result":{}}"#, error(1, "", false)),
        (r#"{"disconnect":{"code":4000,"reason":"é"}}"#, own(4000, "é")),
        (r#"{"disconnect":{"code":4999},"error":{"code":0},"result":5}"#, own(4999, "")),
        (
            r#"{"disconnect":{"code":3503,"reason":"force disconnect"}}"#,
            BackendAnswer::Close(Closing::Known(CloseReason::ForceDisconnect)),
        ),
        (r#"{"disconnect":{"code":3503,"reason":"gone"}}"#, own(3503, "gone")),
    ] {
        for kind in CallKind::ALL {
            assert_eq!(read(kind, body), Ok(expected.clone()), "{kind:?} {body}");
        }
    }
}

/// Centrifugo passes on every code. Of errors, 0 is none; of disconnects, others than these may not be in a close frame (RFC
/// 6455, section 7.4).
#[test]
fn codes_are_passed_on_if_clients_can_be_told_them() {
    for code in ["1", "99", "100", "109", "399", "400", "1999", "2000", "4294967295"] {
        let Ok(BackendAnswer::Error(error)) = read(Rpc, &format!(r#"{{"error":{{"code":{code}}}}}"#)) else {
            panic!("{code}")
        };
        assert_eq!(error.code.to_string(), code);
    }
    for code in ["3000", "3499", "3500", "3999", "4000", "4499", "4500", "4999"] {
        let Ok(BackendAnswer::Close(closing)) = read(Rpc, &format!(r#"{{"disconnect":{{"code":{code}}}}}"#))
        else {
            panic!("{code}")
        };
        let said = match closing {
            Closing::Known(reason) => reason.code(),
            Closing::Application { code, .. } => code,
        };
        assert_eq!(said.to_string(), code);
    }
    let never = ["-1", "1.5", "4e2", "4294967296", "18446744073709551616", "\"400\"", "true", "[]", "{}"];
    let errors = ["0", "-0"].into_iter().chain(never);
    let disconnects =
        ["0", "1", "1000", "1001", "1005", "1006", "1015", "2999", "5000", "65535", "65536", "69536"];
    let bodies = errors.map(|code| format!(r#"{{"error":{{"code":{code}}}}}"#));
    let ends =
        disconnects.into_iter().chain(never).map(|code| format!(r#"{{"disconnect":{{"code":{code}}}}}"#));
    for body in bodies.chain(ends) {
        for kind in CallKind::ALL {
            let Err(fault @ CallFault::Unreadable(_)) = read(kind, &body) else { panic!("{kind:?} {body}") };
            assert_eq!((fault.code(), fault.is_answer()), (ErrorCode::Internal, true), "{body}");
        }
    }
}

#[test]
fn data_is_json_in_one_line_or_in_base64() {
    for (result, data) in [
        ("{}", "null"),
        (r#"{"data":null}"#, "null"),
        (r#"{"data":null,"b64data":""}"#, "null"),
        ("{\"data\": {\"a\":\r\n[1, 1e400]}}", "{\"a\":  [1, 1e400]}"),
        (r#"{"data":"a\nb"}"#, r#""a\nb""#),
        (r#"{"b64data":"eyJhIjoKMX0="}"#, r#"{"a": 1}"#),
        (r#"{"data":null,"b64data":"MQ"}"#, "1"),
        (r#"{"data":1,"b64data":null}"#, "1"),
        (r#"{"data":1,"b64data":""}"#, "1"),
    ] {
        let body = format!(r#"{{"result":{result}}}"#);
        let expected: Box<[u8]> = data.as_bytes().into();
        assert_eq!(terms(Rpc, &body), Terms::Rpc { data: expected.clone() }, "{body}");
        let Terms::Publish(publish) = terms(Publish, &body) else { panic!("{body}") };
        let is_said = result.contains("data");
        assert_eq!(publish.data, is_said.then_some(expected), "{body}");
    }
}

#[test]
fn a_publish_may_be_changed_and_not_kept() {
    let skipped = |body: &str| match terms(Publish, body) {
        Terms::Publish(PublishTerms { data: None, skips_history }) => skips_history,
        other => panic!("{other:?}"),
    };
    assert!(skipped(r#"{"result":{"skip_history":true,"tags":{"a":"b"},"version":5,"delta":true}}"#));
    assert!(!skipped(r#"{"result":{"skip_history":false}}"#));
    assert!(!skipped(r#"{"result":{"skip_history":null}}"#));
}

#[test]
fn a_connect_says_who_the_client_is_as_a_token_does() {
    let ConnectTerms { claims, data } = connected(
        r#"{"result":{"user":"ann","expire_at":1764522720,"info":{"name":
            "Ann"},"meta":{"plan":1},"data":[1,
            2],"channels":["b"],"subs":{"a":{"b64info":"MQ==","data":{"x":null},"override":{
            "force_recovery":{"value":true},"presence":{},"join_leave":null}},"c":{"info":null,"b64data":"","override":null}},
            "caps":[{"channels":["n*"],"match":"wildcard","allow":["sub"]},{"channels":["x"],"match":null,"allow":["pub"]}],
            "labels":{"a":"b"},"exp":1}}"#,
    );
    assert_eq!((&*claims.user, claims.expires), ("ann", at(1_764_522_720)));
    assert!(claims.check_time(UnixTime::from_micros(u64::MAX), std::time::Duration::ZERO).is_ok());
    assert_eq!(claims.meta.as_deref(), Some(r#"{"plan":1}"#));
    let info = claims.info.as_deref().unwrap();
    assert!(info.starts_with(r#"{"name":"#) && !info.contains('\n'), "{info}");
    assert_eq!(data.as_deref().map(|data| data.replace(' ', "")).as_deref(), Some("[1,2]"));
    let topics: Vec<_> = claims.subscriptions.iter().map(|subscription| &*subscription.topic).collect();
    assert_eq!(topics, ["a", "b", "c"]);
    let first = &claims.subscriptions[0];
    assert_eq!((first.info.as_deref(), first.data.as_deref()), (Some("1"), Some(r#"{"x":null}"#)));
    let overrides = Overrides { force_recovery: Some(true), presence: Some(false), ..Overrides::default() };
    assert_eq!(first.overrides, overrides, "an override without a value is false");
    assert_eq!(claims.subscriptions[2].overrides, Overrides::default());
    assert!(claims.caps[0].allows("news", Action::Subscribe) && claims.caps[1].allows("x", Action::Publish));
}

#[test]
fn a_client_may_connect_without_a_user_and_without_an_end() {
    let nothing = connected(r#"{"result":{}}"#);
    assert_eq!((&*nothing.claims.user, nothing.claims.expires, nothing.data), ("", None, None));
    let all_null = r#"{"result":{"user":null,"expire_at":null,"info":null,"b64info":null,"data":null,"b64data":null,
        "meta":null,"channels":null,"subs":null,"caps":null}}"#;
    assert_eq!(connected(all_null), connected(r#"{"result":{"expire_at":0}}"#));
    let large = format!(r#"{{"result":{{"data":"{}"}}}}"#, "x".repeat(100_000));
    assert_eq!(connected(&large).data.map(|data| data.len()), Some(100_002), "it is said once, and not kept");
}

#[test]
fn a_refresh_ends_the_connection_or_says_for_how_long_it_stays() {
    for (result, expires) in [
        (r#"{"expired":true,"expire_at":"no time"}"#, None),
        ("{}", Some(None)),
        (r#"{"expired":false,"expire_at":0}"#, Some(None)),
        (r#"{"expire_at":1764522720}"#, Some(at(1_764_522_720))),
    ] {
        let body = format!(r#"{{"result":{result}}}"#);
        let Terms::Refresh(claims) = terms(Refresh, &body) else { panic!("{body}") };
        assert_eq!(claims.map(|claims| claims.expires), expires, "{body}");
        let Terms::RefreshSubscription(terms) = terms(RefreshSubscription, &body) else { panic!("{body}") };
        assert_eq!(terms.map(|terms| terms.expires), expires, "{body}");
    }
    let more = r#"{"result":{"info":1,"meta":2,"caps":[{"channels":["a"],"allow":["sub"]}]}}"#;
    let Terms::Refresh(Some(claims)) = terms(Refresh, more) else { panic!() };
    assert_eq!((claims.info.as_deref(), claims.meta.as_deref()), (Some("1"), Some("2")));
    assert!(claims.caps[0].allows("a", Action::Subscribe));
    let Terms::RefreshSubscription(Some(terms)) = terms(RefreshSubscription, more) else { panic!() };
    assert_eq!(terms.info.as_deref(), Some("1"));
}

#[test]
fn a_subscribe_may_be_granted_on_terms() {
    let body = r#"{"result":{"expire_at":5,"b64info":"MQ==","data":[
        ],"override":{"force_positioning":{"value":true}},"allow":["pub"],"server_tags_filter":{}}}"#;
    let Terms::Subscribe(terms) = terms(Subscribe, body) else { panic!() };
    assert_eq!((terms.expires, terms.info.as_deref()), (at(5), Some("1")));
    assert_eq!(terms.data.as_deref().map(|data| data.replace(' ', "")).as_deref(), Some("[]"));
    assert_eq!(terms.overrides, Overrides { force_positioning: Some(true), ..Overrides::default() });
}

/// Answers of these kinds are refused with sentences that contain these words, and nothing of a value.
fn is_refused(cases: &[(CallKind, &str, &str)]) {
    for (kind, body, told) in cases {
        let Err(CallFault::Unreadable(sentence)) = read(*kind, body) else { panic!("{kind:?} {body}") };
        assert!(sentence.contains(told), "{body}\n  gave: {sentence}\n  not:  {told}");
        assert!(!sentence.contains("hunter2"), "{sentence}");
    }
}

#[test]
fn what_is_wrong_with_an_answer_is_told_by_the_name_of_its_member() {
    let reason = format!(r#"{{"disconnect":{{"code":4000,"reason":"{}"}}}}"#, "hunter2".repeat(18));
    is_refused(&[
        (Rpc, "hunter2", "it is not a JSON object"),
        (Send, "[]", "it is not a JSON object"),
        (Rpc, "null", "it is not a JSON object"),
        (Rpc, "{\"result\":{\"data\":\"hunter2\n\"}}", "it is not a JSON object"),
        (Rpc, r#"{"result":"hunter2"}"#, "`result` has the wrong type: expected an object"),
        (Connect, r#"{"result":["hunter2"]}"#, "`result` has the wrong type: expected an object"),
        (Send, r#"{"result":1}"#, "`result` has the wrong type: expected an object"),
        (Rpc, r#"{"result":{},"result":{}}"#, "`result` is there twice"),
        (Rpc, r#"{"error":"hunter2"}"#, "`error` has the wrong type: expected an object"),
        (Rpc, r#"{"error":{}}"#, "`error.code` is missing"),
        (Rpc, r#"{"error":{"code":0,"message":"hunter2"}}"#, "`error.code` is 0"),
        (Rpc, r#"{"error":{"code":-1}}"#, "`error.code` has the wrong type: expected a whole number"),
        (Rpc, r#"{"error":{"code":4294967296}}"#, "`error.code` has the wrong type"),
        (Rpc, r#"{"error":{"code":"hunter2"}}"#, "`error.code` has the wrong type"),
        (Rpc, r#"{"error":{"code":400,"message":7}}"#, "`error.message` has the wrong type: expected text"),
        (Rpc, r#"{"error":{"code":400,"temporary":1}}"#, "`error.temporary` has the wrong type"),
        (Rpc, r#"{"disconnect":4000}"#, "`disconnect` has the wrong type: expected an object"),
        (Rpc, r#"{"disconnect":{"reason":"hunter2"}}"#, "`disconnect.code` is missing"),
        (Rpc, r#"{"disconnect":{"code":2999}}"#, "`disconnect`: its code may not be sent: from 3000 to 4999"),
        (Rpc, r#"{"disconnect":{"code":5000}}"#, "`disconnect`: its code may not be sent"),
        (Rpc, r#"{"disconnect":{"code":69535}}"#, "`disconnect`: its code may not be sent"),
        (Rpc, &reason, "`disconnect`: its text has 126 bytes"),
        (Rpc, r#"{"disconnect":{"code":4000,"reason":[]}}"#, "`disconnect.reason` has the wrong type"),
    ]);
    let not_text = Answers::new(&Config::default()).read(Rpc, b"{\"result\":{\"data\":\"\xff\"}}");
    assert!(matches!(not_text, Err(CallFault::Unreadable(_))));
}

#[test]
fn what_is_wrong_with_data_is_told_without_showing_it() {
    let deep = format!(r#"{{"result":{{"data":{}{}}}}}"#, "[".repeat(129), "]".repeat(129));
    let publication = format!(r#"{{"result":{{"data":"{}"}}}}"#, "x".repeat(262_143));
    is_refused(&[
        (Rpc, r#"{"result":{"data":1,"b64data":"MQ=="}}"#, "`result.data` and `result.b64data` exclude each"),
        (Rpc, r#"{"result":{"data":1,"data":2}}"#, "`result.data` is there twice"),
        (Rpc, r#"{"result":{"b64data":"*hunter2"}}"#, "`result.b64data` is not in base64"),
        (Rpc, r#"{"result":{"b64data":"Zm9v"}}"#, "`result.b64data` does not hold JSON"),
        (Rpc, r#"{"result":{"b64data":"/w=="}}"#, "`result.b64data` does not hold JSON"),
        (Rpc, r#"{"result":{"b64data":7}}"#, "`result.b64data` has the wrong type: expected text"),
        (Rpc, &deep, "the data in `result` is nested deeper than 128 levels (limits.json_depth)"),
        (Connect, &deep, "the data in `result` is nested deeper than 128 levels"),
        (Publish, &publication, "the data in `result` has 262145 bytes: at most 262144 are allowed"),
        (Publish, r#"{"result":{"skip_history":"yes"}}"#, "`result.skip_history` has the wrong type"),
        (Refresh, r#"{"result":{"expired":"hunter2"}}"#, "`result.expired` has the wrong type"),
        (RefreshSubscription, r#"{"result":{"expired":1}}"#, "`result.expired` has the wrong type"),
    ]);
}

#[test]
fn what_is_wrong_with_what_is_said_of_a_client_is_told_without_showing_it() {
    let user = format!(r#"{{"result":{{"user":"{}"}}}}"#, "hunter2".repeat(37));
    let info = format!(r#"{{"result":{{"info":"{}"}}}}"#, "hunter2".repeat(147));
    let topics = (0..129).map(|number| format!("\"{number}\"")).collect::<Vec<_>>().join(",");
    let topics = format!(r#"{{"result":{{"channels":[{topics}]}}}}"#);
    is_refused(&[
        (
            Connect,
            r#"{"result":{"user":42}}"#,
            "`result`: the claim `user` has the wrong type: expected text",
        ),
        (
            Connect,
            &user,
            "`result`: the claim `user` has 259 bytes: at most 256 are allowed (limits.user_max)",
        ),
        (Connect, &info, "`result`: the claim `info` has 1031 bytes: at most 1024 are allowed"),
        (Subscribe, &info, "`result`: the claim `info` has 1031 bytes"),
        (Connect, &topics, "`result`: the claim `channels` has more than 128 members"),
        (
            Connect,
            r#"{"result":{"channels":[""]}}"#,
            "the claim `channels` names a topic that there cannot be",
        ),
        (
            Connect,
            r#"{"result":{"subs":["hunter2"]}}"#,
            "the claim `subs` has the wrong type: expected an object",
        ),
        (Connect, r#"{"result":{"caps":{}}}"#, "the claim `caps` has the wrong type: expected a list"),
        (Connect, r#"{"result":{"expire_at":"hunter2"}}"#, "the claim `expire_at` has the wrong type"),
        (
            Connect,
            r#"{"result":{"expire_at":1764522720000}}"#,
            "the claim `expire_at` is beyond the year 9999",
        ),
        (Connect, r#"{"result":{"b64info":"Zm9v"}}"#, "the claim `b64info` does not hold JSON"),
        (
            Subscribe,
            r#"{"result":{"override":{"presence":true}}}"#,
            "the claim `override` has the wrong type",
        ),
        (Subscribe, r#"{"result":{"expire_at":[]}}"#, "the claim `expire_at` has the wrong type"),
    ]);
}

/// An answer that was cut off anywhere, or has anything behind it, is none.
#[test]
fn every_cut_of_an_answer_is_refused() {
    let answers = Answers::new(&Config::default());
    let granted = r#"{"result":{"user":"ann","expire_at":1764522720,"info":{"a":[1,"é"]},"data":{"x":null},"b64data":"",
        "channels":["a"],"subs":{"b":{"override":{"presence":{"value":true}}}},"expired":false,"skip_history":true,
        "caps":[{"channels":["n*"],"match":"wildcard","allow":["sub"]}]}}"#;
    for body in [
        granted,
        r#"{"error":{"code":1000,"message":"no","temporary":true}}"#,
        r#"{"disconnect":{"code":4000,"reason":"é"}}"#,
    ] {
        for kind in CallKind::ALL {
            assert!(answers.read(kind, body.as_bytes()).is_ok(), "{kind:?} {body}");
            for end in 1..body.len() {
                let cut = answers.read(kind, &body.as_bytes()[..end]);
                assert!(matches!(cut, Err(CallFault::Unreadable(_))), "{kind:?} {end}: {cut:?}");
            }
            for more in ["x", "{}", ",", "\0"] {
                assert!(answers.read(kind, format!("{body}{more}").as_bytes()).is_err(), "{more}");
            }
        }
    }
}

#[test]
fn limits_are_those_of_the_configuration() {
    let mut config = Config::default();
    (config.limits.json_depth, config.limits.publication_bytes, config.limits.info_bytes) = (1, 2, 3);
    (config.limits.user_max, config.limits.topics_per_client) = (1, 1);
    let answers = Answers::new(&config);
    let reads =
        |kind, result: &str| answers.read(kind, format!(r#"{{"result":{result}}}"#).as_bytes()).is_ok();
    for (kind, within, beyond) in [
        (Rpc, r#"{"data":[]}"#, r#"{"data":[[]]}"#),
        (Publish, r#"{"data":12}"#, r#"{"data":123}"#),
        (Connect, r#"{"info":123}"#, r#"{"info":1234}"#),
        (Connect, r#"{"info":[1]}"#, r#"{"info":[[]]}"#),
        (Connect, r#"{"user":"a"}"#, r#"{"user":"ab"}"#),
        (Connect, r#"{"channels":["a"]}"#, r#"{"channels":["a","b"]}"#),
    ] {
        assert!(reads(kind, within) && !reads(kind, beyond), "{beyond}");
    }
}

#[test]
fn a_status_is_what_its_rule_says_or_a_failure() {
    let error = StatusError { code: 404, message: "no such order".to_owned(), temporary: true };
    let own = |code, reason: &str| Some(StatusDisconnect { code, reason: reason.to_owned() });
    let rules = [
        StatusRule { status: 404, error: Some(error), disconnect: None },
        StatusRule { status: 403, error: None, disconnect: own(4403, "banned") },
    ];
    let said = BackendError { code: 404, message: "no such order".into(), is_temporary: true };
    assert_eq!(of_status(&rules, 404), Ok(BackendAnswer::Error(said)));
    let closing = Closing::Application { code: 4403, text: "banned".into() };
    assert_eq!(of_status(&rules, 403), Ok(BackendAnswer::Close(closing)));
    for status in [201, 204, 301, 400, 500, 999] {
        assert_eq!(of_status(&rules, status), Err(CallFault::Status(status)));
    }
}
