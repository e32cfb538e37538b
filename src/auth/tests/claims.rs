//! What tokens say, and every way in which that can be wrong.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::issuer::{SECRET, key_set, secret};
use crate::auth::{
    Action, ConnectionClaims, Keys, Overrides, PatternError, SubscriptionClaims, TokenError, Verifier,
};
use crate::base::clock::UnixTime;
use crate::config::Config;
use crate::domain::topic::TopicError;

fn verifier(change: impl FnOnce(&mut Config)) -> Verifier {
    let mut config = Config::default();
    change(&mut config);
    Verifier::new(&config, Keys { connection: key_set(&[SECRET], &[]), ..Keys::default() })
}

fn connection(claims: &str) -> Result<ConnectionClaims, TokenError> {
    verifier(|_| {}).connection(&secret().sign(claims).unwrap())
}

fn subscription(claims: &str) -> Result<SubscriptionClaims, TokenError> {
    verifier(|_| {}).subscription(&secret().sign(claims).unwrap())
}

fn wrong_type(claim: &'static str, expected: &'static str) -> TokenError {
    TokenError::WrongType { claim: claim.into(), expected }
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_micros(seconds * 1_000_000)
}

#[test]
fn a_user_is_named_by_sub_or_anonymous() {
    for (claims, user) in [
        (r#"{"sub":"ann"}"#, Ok("ann")),
        (r#"{"sub":"\u00e9\n"}"#, Ok("é\n")),
        (r#"{"sub":""}"#, Ok("")),
        ("{}", Ok("")),
        (r#"{"sub":7}"#, Err(wrong_type("sub", "text"))),
        (r#"{"sub":null}"#, Err(wrong_type("sub", "text"))),
        (r#"{"sub":["ann"]}"#, Err(wrong_type("sub", "text"))),
        (r#"{"sub":"ann","sub":"eve"}"#, Err(TokenError::Twice("sub".into()))),
        (r#"{"sub":"ann","\u0073ub":"eve"}"#, Err(TokenError::Twice("sub".into()))),
    ] {
        let claims = connection(claims).map(|claims| claims.user);
        assert_eq!(claims.as_deref(), user.as_ref().map(|user| *user));
    }
    let longest = "x".repeat(256);
    assert!(connection(&format!(r#"{{"sub":"{longest}"}}"#)).is_ok());
    let too_long =
        TokenError::TooLong { claim: "sub".into(), bytes: 257, most: 256, limit: "limits.user_max" };
    assert_eq!(connection(&format!(r#"{{"sub":"{longest}x"}}"#)).err(), Some(too_long));
}

#[test]
fn another_claim_may_name_the_user() {
    let verifier = verifier(|config| config.tokens.user_id_claim = "email".to_owned());
    let user = |claims: &str| verifier.connection(&secret().sign(claims).unwrap()).map(|claims| claims.user);
    assert_eq!(user(r#"{"sub":"7","email":"ann@example.org"}"#).as_deref(), Ok("ann@example.org"));
    assert_eq!(user(r#"{"sub":7}"#).as_deref(), Ok(""));
    let wrong = TokenError::WrongType { claim: "email".to_owned().into(), expected: "text" };
    assert_eq!(user(r#"{"email":7}"#), Err(wrong));
    assert_eq!(user(r#"{"email":"a","email":"b"}"#), Err(TokenError::Twice("email".to_owned().into())));
}

#[test]
fn times_are_numbers_and_are_compared_with_a_time_that_is_given() {
    let number = "a number of seconds";
    for claim in ["exp", "nbf", "iat", "expire_at"] {
        for value in [r#""1764522720""#, "null", "true", "[1]", "{}", r#""tomorrow""#] {
            let error = connection(&format!(r#"{{"{claim}":{value}}}"#)).unwrap_err();
            assert_eq!(error, wrong_type(claim, number), "{value}");
        }
        let far = connection(&format!(r#"{{"{claim}":1764522720000}}"#)).unwrap_err();
        assert_eq!(far, TokenError::TimeOutOfRange(claim.into()));
        let twice = connection(&format!(r#"{{"{claim}":1,"{claim}":2}}"#)).unwrap_err();
        assert_eq!(twice, TokenError::Twice(claim.into()));
    }
    let claims = connection(r#"{"nbf":100,"exp":200.5,"iat":4e9}"#).unwrap();
    let check = |seconds, leeway| claims.check_time(at(seconds), Duration::from_secs(leeway));
    assert_eq!(check(99, 0), Err(TokenError::NotYetValid { seconds: 1 }));
    assert_eq!(check(99, 60), Ok(()));
    assert_eq!(check(200, 0), Ok(()));
    assert_eq!(check(201, 0), Err(TokenError::Expired { seconds: 0 }));
    assert_eq!(check(260, 60), Ok(()));
    assert_eq!(check(261, 60), Err(TokenError::Expired { seconds: 60 }));
    assert!(check(99, 0).unwrap_err().is_about_time() && check(201, 0).unwrap_err().is_about_time());
    let never = connection("{}").unwrap();
    assert_eq!(never.check_time(at(u64::MAX / 1_000_000), Duration::ZERO), Ok(()));
    let of_subscription = subscription(r#"{"channel":"news","exp":200}"#).unwrap();
    assert!(of_subscription.check_time(at(200), Duration::ZERO).is_err());
}

#[test]
fn a_connection_ends_with_its_token_unless_expire_at_says_otherwise() {
    for (claims, end) in [
        ("{}", None),
        (r#"{"exp":200}"#, Some(at(200))),
        (r#"{"exp":200,"expire_at":300}"#, Some(at(300))),
        (r#"{"exp":200,"expire_at":0}"#, None),
        (r#"{"expire_at":300}"#, Some(at(300))),
    ] {
        assert_eq!(connection(claims).unwrap().expires, end, "{claims}");
        let claims = claims.replacen('{', r#"{"channel":"news","#, 1).replace(",}", "}");
        assert_eq!(subscription(&claims).unwrap().terms.expires, end, "{claims}");
    }
}

#[test]
fn issuer_and_audience_are_checked_if_they_are_configured() {
    let strict = verifier(|config| {
        config.tokens.issuer = "https://id.example".to_owned();
        config.tokens.audience = "live".to_owned();
    });
    let right = r#""iss":"https://id.example""#;
    for (claims, outcome) in [
        (format!(r#"{{{right},"aud":"live"}}"#), Ok(())),
        (format!(r#"{{{right},"aud":["shop","live"]}}"#), Ok(())),
        (format!(r#"{{{right}}}"#), Err(TokenError::Audience)),
        (format!(r#"{{{right},"aud":"shop"}}"#), Err(TokenError::Audience)),
        (format!(r#"{{{right},"aud":[]}}"#), Err(TokenError::Audience)),
        (format!(r#"{{{right},"aud":["live",7]}}"#), Err(wrong_type("aud", "text, or a list of texts"))),
        (format!(r#"{{{right},"aud":{{}}}}"#), Err(wrong_type("aud", "text, or a list of texts"))),
        (r#"{"aud":"live"}"#.to_owned(), Err(TokenError::Issuer)),
        (r#"{"iss":"https://evil.example","aud":"live"}"#.to_owned(), Err(TokenError::Issuer)),
        (r#"{"iss":"https://id.example/","aud":"live"}"#.to_owned(), Err(TokenError::Issuer)),
        (r#"{"iss":["https://id.example"],"aud":"live"}"#.to_owned(), Err(wrong_type("iss", "text"))),
    ] {
        let token = secret().sign(&claims).unwrap();
        assert_eq!(strict.connection(&token).map(drop), outcome, "{claims}");
        let of_subscription = secret().sign(&claims.replacen('{', r#"{"channel":"news","#, 1)).unwrap();
        assert_eq!(strict.subscription(&of_subscription).map(drop), outcome, "{claims}");
    }
    assert!(connection(r#"{"iss":"anybody","aud":"anything"}"#).is_ok());
    assert_eq!(connection(r#"{"iss":7}"#).err(), Some(wrong_type("iss", "text")));
}

#[test]
fn json_for_the_application_comes_as_it_is_or_in_base64() {
    let too_long = |claim: &'static str| TokenError::TooLong {
        claim: claim.into(),
        bytes: 1025,
        most: 1024,
        limit: "limits.info_bytes",
    };
    let long = format!("\"{}\"", "x".repeat(1023));
    let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
    for (claims, info) in [
        (r#"{"info":{"name":"Ann","n":1e400}}"#, Ok(Some(r#"{"name":"Ann","n":1e400}"#))),
        ("{\"info\":[1,\r\n 2]}", Ok(Some("[1,   2]"))),
        (r#"{"info":"a\nb"}"#, Ok(Some(r#""a\nb""#))),
        (r#"{"info":7}"#, Ok(Some("7"))),
        (r#"{"info":null}"#, Ok(None)),
        (r#"{"b64info":"eyJhIjoxfQ=="}"#, Ok(Some(r#"{"a":1}"#))),
        (r#"{"b64info":"eyJhIjoxfQ"}"#, Ok(Some(r#"{"a":1}"#))),
        (r#"{"b64info":"bnVsbA=="}"#, Ok(None)),
        (r#"{"b64info":"WzEsCjJd"}"#, Ok(Some("[1, 2]"))),
        (r#"{"b64info":"Zm9v"}"#, Err(TokenError::HoldsNoJson("b64info".into()))),
        (r#"{"b64info":""}"#, Err(TokenError::HoldsNoJson("b64info".into()))),
        (r#"{"b64info":"/w=="}"#, Err(TokenError::HoldsNoJson("b64info".into()))),
        (r#"{"b64info":"*"}"#, Err(TokenError::NotBase64("b64info".into()))),
        (r#"{"b64info":{}}"#, Err(wrong_type("b64info", "text"))),
        (r#"{"info":1,"info":2}"#, Err(TokenError::Twice("info".into()))),
        (r#"{"info":1,"b64info":"MQ=="}"#, Err(TokenError::Both("info", "b64info"))),
        (&format!(r#"{{"info":{long}}}"#), Err(too_long("info"))),
        (&format!(r#"{{"info":{deep}}}"#), Err(TokenError::TooDeep { claim: "info".into(), most: 128 })),
    ] {
        let expected = info.as_ref().map(|info| *info);
        let read = connection(claims).map(|claims| claims.info);
        assert_eq!(read.as_ref().map(|info| info.as_deref()), expected, "{claims}");
        let of_subscription =
            subscription(&claims.replacen('{', r#"{"channel":"news","#, 1)).map(|claims| claims.terms.info);
        assert_eq!(of_subscription.as_ref().map(|info| info.as_deref()), expected, "{claims}");
    }
    assert_eq!(
        connection(r#"{"meta":{"plan":"gold"}}"#).unwrap().meta.as_deref(),
        Some(r#"{"plan":"gold"}"#)
    );
    assert_eq!(connection(&format!(r#"{{"meta":{long}}}"#)).err(), Some(too_long("meta")));
}

#[test]
fn a_subscription_names_its_topic_and_perhaps_user_and_client() {
    let claims =
        subscription(r#"{"sub":"ann","channel":"$chat:1","client":"c7","data":[1],"jti":"x"}"#).unwrap();
    assert_eq!(
        (claims.user.as_deref(), &*claims.topic, claims.client.as_deref()),
        (Some("ann"), "$chat:1", Some("c7"))
    );
    assert_eq!(claims.terms.data.as_deref(), Some("[1]"));
    let anonymous = subscription(r#"{"sub":"","channel":"a","client":"","b64data":"WzFd"}"#).unwrap();
    assert_eq!(
        (anonymous.user, anonymous.client, anonymous.terms.data.as_deref()),
        (None, None, Some("[1]"))
    );
    let topic = |error| Err(TokenError::Topic { claim: "channel".into(), error });
    let long = format!(r#"{{"channel":"{}"}}"#, "x".repeat(256));
    for (claims, outcome) in [
        ("{}", Err(TokenError::Missing("channel".into()))),
        (r#"{"channel":7}"#, Err(wrong_type("channel", "text"))),
        (r#"{"channel":""}"#, topic(TopicError::Empty)),
        (r#"{"channel":"a\n"}"#, topic(TopicError::ControlCharacter { at: 1 })),
        (&long, topic(TopicError::TooLong { len: 256, max: 255 })),
        (r#"{"channel":"a","channel":"b"}"#, Err(TokenError::Twice("channel".into()))),
        (r#"{"channel":"a","client":7}"#, Err(wrong_type("client", "text"))),
        (r#"{"channel":"a","data":1,"b64data":"MQ=="}"#, Err(TokenError::Both("data", "b64data"))),
        (r#"{"channel":"a","exp":"1"}"#, Err(wrong_type("exp", "a number of seconds"))),
    ] {
        assert_eq!(subscription(claims).map(drop), outcome, "{claims}");
    }
    let client = format!(r#"{{"channel":"a","client":"{}"}}"#, "x".repeat(37));
    assert!(matches!(subscription(&client), Err(TokenError::TooLong { bytes: 37, most: 36, .. })));
    assert_eq!(connection(r#"{"channel":"a"}"#).err(), Some(TokenError::OfSubscription));
}

#[test]
fn overrides_are_truths_in_objects() {
    let read = |json: &str| {
        subscription(&format!(r#"{{"channel":"a","override":{json}}}"#)).map(|claims| claims.terms.overrides)
    };
    let all = r#"{"presence":{"value":true},"join_leave":{"value":false},"force_push_join_leave":{"value":true},
        "force_positioning":{"value":false},"force_recovery":{"value":true},"later":7}"#;
    let expected = Overrides {
        presence: Some(true),
        join_leave: Some(false),
        force_push_join_leave: Some(true),
        force_positioning: Some(false),
        force_recovery: Some(true),
    };
    assert_eq!(read(all), Ok(expected));
    assert_eq!(read("{}"), Ok(Overrides::default()));
    assert_eq!(read("[]"), Err(wrong_type("override", "an object")));
    for wrong in [
        r#"{"presence":true}"#,
        r#"{"presence":{}}"#,
        r#"{"presence":{"value":1}}"#,
        r#"{"presence":{"value":null}}"#,
        r#"{"presence":null}"#,
    ] {
        assert_eq!(read(wrong), Err(wrong_type("override", r#"objects such as {"value":true}"#)), "{wrong}");
    }
    let twice = r#"{"presence":{"value":true},"presence":{"value":false}}"#;
    assert_eq!(read(twice), Err(TokenError::Twice("override".into())));
    assert_eq!(
        read(r#"{"presence":{"value":true,"value":false}}"#),
        Err(TokenError::Twice("override".into()))
    );
}

#[test]
fn a_connection_brings_subscriptions_along() {
    let claims = connection(
        r##"{"channels":["b","a","b"],"subs":{"#ann":{"info":{"i":1},"b64data":"WzFd","later":[]},
            "a":{"override":{"force_recovery":{"value":true}}}}}"##,
    );
    let read: Vec<_> = claims.unwrap().subscriptions.into_vec();
    let topics: Vec<_> = read.iter().map(|subscription| &*subscription.topic).collect();
    assert_eq!(topics, ["#ann", "a", "b"]);
    assert_eq!((read[0].info.as_deref(), read[0].data.as_deref()), (Some(r#"{"i":1}"#), Some("[1]")));
    assert_eq!(read[1].overrides, Overrides { force_recovery: Some(true), ..Overrides::default() });
    assert_eq!((&read[2].info, &read[2].data, read[2].overrides), (&None, &None, Overrides::default()));
    for (claims, error) in [
        (r#"{"channels":{}}"#, wrong_type("channels", "a list")),
        (r#"{"channels":[7]}"#, wrong_type("channels", "a list of texts")),
        (r#"{"channels":null}"#, wrong_type("channels", "a list")),
        (r#"{"channels":[""]}"#, TokenError::Topic { claim: "channels".into(), error: TopicError::Empty }),
        (r#"{"subs":["a"]}"#, wrong_type("subs", "an object")),
        (r#"{"subs":{"a":null}}"#, wrong_type("subs.*", "an object")),
        (r#"{"subs":{"":{}}}"#, TokenError::Topic { claim: "subs".into(), error: TopicError::Empty }),
        (r#"{"subs":{"a":{},"a":{}}}"#, TokenError::Twice("subs".into())),
        (r#"{"subs":{"a":{"info":1,"info":2}}}"#, TokenError::Twice("subs.*.info".into())),
        (r#"{"subs":{"a":{"b64info":"Zm9v"}}}"#, TokenError::HoldsNoJson("subs.*.b64info".into())),
        (r#"{"subs":{"a":{"override":7}}}"#, wrong_type("subs.*.override", "an object")),
        (r#"{"channels":[],"channels":[]}"#, TokenError::Twice("channels".into())),
        (r#"{"subs":{},"subs":{}}"#, TokenError::Twice("subs".into())),
    ] {
        assert_eq!(connection(claims).err(), Some(error), "{claims}");
    }
}

#[test]
fn topics_are_bounded_in_number() {
    let many = |claim: &'static str| {
        Some(TokenError::TooMany { claim: claim.into(), most: 128, limit: "limits.topics_per_client" })
    };
    let names =
        |numbers: std::ops::Range<u32>| numbers.map(|number| format!("\"{number}\"")).collect::<Vec<_>>();
    let list = |numbers| names(numbers).join(",");
    let table = |numbers| names(numbers).join(":{},") + ":{}";
    for (claims, error) in [
        (format!(r#"{{"channels":[{}]}}"#, list(0..128)), None),
        (format!(r#"{{"channels":[{}]}}"#, list(0..129)), many("channels")),
        (format!(r#"{{"channels":[{}],"subs":{{{}}}}}"#, list(0..64), table(0..128)), None),
        (format!(r#"{{"channels":[{}],"subs":{{{}}}}}"#, list(0..64), table(64..129)), many("subs")),
        (format!(r#"{{"subs":{{{}}}}}"#, table(0..10_000)), many("subs")),
        (format!(r#"{{"caps":[{}]}}"#, vec![r#"{"channels":["a"],"allow":[]}"#; 128].join(",")), None),
        (format!(r#"{{"caps":[{}]}}"#, vec![r#"{"channels":[],"allow":[]}"#; 129].join(",")), many("caps")),
        (format!(r#"{{"caps":[{{"channels":[{}],"allow":[]}}]}}"#, list(0..129)), many("caps.*.channels")),
        (
            format!(r#"{{"caps":[{}]}}"#, vec![r#"{"channels":["a","b"],"allow":[]}"#; 65].join(",")),
            many("caps.*.channels"),
        ),
    ] {
        assert_eq!(connection(&claims).err(), error, "{claims}");
    }
}

#[test]
fn capabilities_name_topics_in_three_ways() {
    let allows = |caps: &str, topic: &str, action| {
        let claims = connection(&format!(r#"{{"caps":{caps}}}"#)).unwrap();
        claims.caps.iter().any(|capability| capability.allows(topic, action))
    };
    let with = |kind: &str, pattern: &str| {
        format!(r#"[{{"channels":["{pattern}"],"match":"{kind}","allow":["sub","hst"]}}]"#)
    };
    for (kind, pattern, topic, is_allowed) in [
        ("", "news", "news", true),
        ("", "news", "news2", false),
        ("", "news*", "news2", false),
        ("", "news*", "news*", true),
        ("wildcard", "news", "news", true),
        ("wildcard", "news", "news2", false),
        ("wildcard", "news:*", "news:1", true),
        ("wildcard", "news:*", "news:", true),
        ("wildcard", "news:*", "news", false),
        ("wildcard", "*", "anything", true),
        ("wildcard", "*:ann", "chat:ann", true),
        ("wildcard", "*:ann", "chat:anne", false),
        ("wildcard", "a*a", "a", false),
        ("wildcard", "a*a", "aa", true),
        ("wildcard", "a*b*c", "a-b-c", true),
        ("wildcard", "a*b*c", "a-c", false),
        ("wildcard", "a*b*c", "abc", true),
        ("wildcard", "a*bb*bb*c", "a.bbb.bb.c", true),
        ("wildcard", "a*bb*bb*c", "a.bbb.c", false),
        ("wildcard", "**", "", true),
        ("wildcard", "x.?", "x.1", false),
        ("regex", "^news:[0-9]+$", "news:12", true),
        ("regex", "^news:[0-9]+$", "news:12a", false),
        ("regex", "news", "old news here", true),
    ] {
        let caps = with(kind, pattern);
        assert_eq!(allows(&caps, topic, Action::Subscribe), is_allowed, "{kind} {pattern} {topic}");
        assert_eq!(allows(&caps, topic, Action::History), is_allowed, "{kind} {pattern} {topic}");
        assert!(!allows(&caps, topic, Action::Publish) && !allows(&caps, topic, Action::Presence));
    }
    let plain = r#"[{"channels":["a"],"allow":["pub"]},{"channels":["b"],"allow":["prs"]}]"#;
    assert!(allows(plain, "a", Action::Publish) && !allows(plain, "a", Action::Presence));
    assert!(allows(plain, "b", Action::Presence) && !allows(plain, "b", Action::Publish));
}

#[test]
fn capabilities_that_cannot_be_used_are_refused() {
    let long = format!(r#"[{{"channels":["{}"],"match":"regex","allow":[]}}]"#, "x".repeat(257));
    let seventeen = format!(
        "[{}]",
        [r#"{"channels":["a","b"],"match":"regex","allow":[]}"#; 8].join(",")
            + r#",{"channels":["c"],"match":"regex","allow":[]}"#
    );
    let expression = TokenError::Pattern(PatternError::Expression { most: 64 << 10 });
    for (caps, error) in [
        ("{}", wrong_type("caps", "a list")),
        ("[7]", wrong_type("caps.*", "an object")),
        (r#"[{"allow":["sub"]}]"#, TokenError::Missing("caps.*.channels".into())),
        (r#"[{"channels":["a"]}]"#, TokenError::Missing("caps.*.allow".into())),
        (r#"[{"channels":"a","allow":[]}]"#, wrong_type("caps.*.channels", "a list")),
        (r#"[{"channels":[7],"allow":[]}]"#, wrong_type("caps.*.channels", "a list of texts")),
        (r#"[{"channels":[],"allow":"sub"}]"#, wrong_type("caps.*.allow", "a list")),
        (r#"[{"channels":[],"allow":[7]}]"#, wrong_type("caps.*.allow", "a list of texts")),
        (r#"[{"channels":[],"allow":["all"]}]"#, TokenError::UnknownAction),
        (r#"[{"channels":[],"allow":[],"match":"glob"}]"#, TokenError::UnknownMatch),
        (r#"[{"channels":[],"allow":[],"match":7}]"#, wrong_type("caps.*.match", "text")),
        (r#"[{"channels":[],"channels":[],"allow":[]}]"#, TokenError::Twice("caps.*.channels".into())),
        (r#"[{"channels":["("],"match":"regex","allow":[]}]"#, expression.clone()),
        (r#"[{"channels":["(a)\\1"],"match":"regex","allow":[]}]"#, expression.clone()),
        (r#"[{"channels":["(\\w{100}){100}"],"match":"regex","allow":[]}]"#, expression),
        (&long, TokenError::Pattern(PatternError::TooLong { most: 256 })),
        (&seventeen, TokenError::Pattern(PatternError::TooMany { most: 16 })),
    ] {
        assert_eq!(connection(&format!(r#"{{"caps":{caps}}}"#)).err(), Some(error), "{caps}");
    }
}

/// Twice the claims take about twice the time: what is passed over is read once. The bound is wide, because the machine
/// may be busy; reading each claim again for each other one would take a hundred times as long.
#[test]
fn ten_thousand_claims_take_linear_time() {
    let token = |count: usize| {
        let mut claims = String::from(r#"{"sub":"ann""#);
        for number in 0..count {
            write!(claims, r#","claim-{number}":[{{"a":"b"}},{number}]"#).unwrap();
        }
        secret().sign(&(claims + "}")).unwrap()
    };
    let verifier = verifier(|_| {});
    let time = |token: &str| {
        let rounds = (0..5).map(|_| {
            let start = Instant::now();
            assert_eq!(&*verifier.connection(token).unwrap().user, "ann");
            start.elapsed()
        });
        rounds.min().unwrap()
    };
    let (few, many) = (time(&token(1000)), time(&token(100_000)));
    assert!(many < few * 1000, "{few:?} {many:?}");
}

/// The values of these claims would be found in any text that shows them.
#[test]
fn nothing_of_a_token_is_shown() {
    let claims = r#"{"sub":"hunter2","channel":"a","info":"hunter2","data":"hunter2","client":"hunter2"}"#;
    let of_subscription = subscription(claims).unwrap();
    assert!(!format!("{of_subscription:?}").contains("hunter2"));
    let claims = r#"{"sub":"hunter2","info":"hunter2","meta":"hunter2","subs":{"a":{"info":"hunter2","data":"hunter2"}}}"#;
    let of_connection = connection(claims).unwrap();
    assert!(!format!("{of_connection:?}").contains("hunter2"));
    for claims in [
        r#"{"sub":["hunter2"]}"#,
        r#"{"exp":"hunter2"}"#,
        r#"{"aud":{"hunter2":1}}"#,
        r#"{"b64info":"hunter2"}"#,
        r#"{"subs":{"hunter2":7}}"#,
        r#"{"channels":["hunter2\n"]}"#,
        r#"{"caps":[{"channels":["hunter2("],"match":"regex","allow":[]}]}"#,
        r#"{"caps":[{"channels":[],"allow":["hunter2"]}]}"#,
        r#"{"caps":[{"channels":[],"match":"hunter2","allow":[]}]}"#,
        r#"{"channel":"hunter2"}"#,
        "hunter2",
    ] {
        let error = connection(claims).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}
