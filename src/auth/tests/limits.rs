//! Whatever a signed token says, it is refused, or what is kept of it is within the limits.

use proptest::prelude::*;

use super::issuer::{SECRET, key_set, secret, verifier};
use crate::auth::{Action, ConnectionClaims};

const NAMES: [&str; 16] = [
    "sub",
    "exp",
    "nbf",
    "iat",
    "iss",
    "aud",
    "info",
    "b64info",
    "meta",
    "channels",
    "subs",
    "caps",
    "expire_at",
    "override",
    "data",
    "later",
];

/// Text with everything that JSON may need to escape.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("a".to_owned()),
        "[a-c*$#:\u{e9}\\u{0}-\u{1f}\"\\\\]{0,300}",
        "[A-Za-z0-9+/]{0,12}={0,2}"
    ]
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let name = prop_oneof![
            text(),
            prop::sample::select(&["value", "presence", "channels", "match", "allow"][..])
                .prop_map(str::to_owned)
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..200).prop_map(Into::into),
            prop::collection::vec((name, inner), 0..8)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

/// Values that fit where they are, and others.
fn claims() -> impl Strategy<Value = String> {
    let fitting = prop_oneof![
        prop::collection::vec(text(), 0..140)
            .prop_map(|topics| ("channels", serde_json::Value::from(topics))),
        (text(), text(), json()).prop_map(|(topic, action, info)| {
            ("caps", serde_json::json!([{"channels": [topic], "allow": ["sub", action], "later": info}]))
        }),
        (text(), text()).prop_map(|(a, b)| (
            "caps",
            serde_json::json!([{"channels": [a, b], "allow": ["sub"], "match": "wildcard"}])
        )),
        text().prop_map(|a| (
            "caps",
            serde_json::json!([{"channels": [a], "allow": ["sub"], "match": "regex"}])
        )),
        (text(), json(), any::<bool>()).prop_map(|(topic, info, is)| {
            ("subs", serde_json::json!({topic: {"info": info, "override": {"presence": {"value": is}}}}))
        }),
        text().prop_map(|user| ("sub", user.into())),
        json().prop_map(|info| ("info", info)),
        any::<u32>().prop_map(|time| ("exp", time.into())),
    ];
    let any = (prop::sample::select(&NAMES[..]), json());
    prop::collection::vec(prop_oneof![4 => fitting, 1 => any], 0..4).prop_map(|members| {
        let members = members.iter().map(|(name, value)| format!("\"{name}\" :\n{value:#}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
    })
}

fn is_within_limits(claims: &ConnectionClaims) -> Result<(), TestCaseError> {
    let of_subscriptions =
        claims.subscriptions.iter().flat_map(|subscription| [&subscription.info, &subscription.data]);
    for json in of_subscriptions.chain([&claims.info, &claims.meta]).flatten() {
        prop_assert!(json.len() <= 1024 && !json.contains(['\n', '\r']), "{}", json);
        prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok(), "{}", json);
    }
    prop_assert!(claims.user.len() <= 256);
    prop_assert!(claims.subscriptions.len() <= 128 && claims.caps.len() <= 128);
    for subscription in &claims.subscriptions {
        prop_assert!((1..=255).contains(&subscription.topic.len()));
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_is_kept_of_a_token_is_bounded(claims in claims(), topic in text()) {
        let verifier = verifier(key_set(&[SECRET], &[]));
        if let Ok(claims) = verifier.connection(&secret().sign(&claims).unwrap()) {
            is_within_limits(&claims)?;
            // Whatever the answer is: asking ends, and does not panic.
            let _ = claims.caps.iter().any(|capability| capability.allows(&topic, Action::Subscribe));
        }
    }

    /// A regular expression is the judge.
    #[test]
    fn a_wildcard_matches_what_it_says(pattern in "[ab*]{0,10}", topic in "[ab]{0,12}") {
        let caps = format!(r#"{{"caps":[{{"channels":["{pattern}"],"match":"wildcard","allow":["sub"]}}]}}"#);
        let claims = verifier(key_set(&[SECRET], &[])).connection(&secret().sign(&caps).unwrap()).unwrap();
        let judge = regex::Regex::new(&format!("^{}$", pattern.replace('*', ".*"))).unwrap();
        prop_assert_eq!(claims.caps[0].allows(&topic, Action::Subscribe), judge.is_match(&topic));
    }
}
