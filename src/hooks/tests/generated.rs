//! Answers that are nearly right, made up of pieces: each is refused in words, or is within the limits.

use proptest::prelude::*;

use crate::config::Config;
use crate::domain::call::{BackendAnswer, CallFault, CallKind, Terms};
use crate::hooks::Answers;

const ANSWERS: [&str; 6] = [
    "{}",
    r#"{"result":{"user":"ann","expire_at":1764522720,"info":{"a":[1]},"data":{"x":null},"channels":["a"]}}"#,
    r#"{"result":{"subs":{"b":{"override":{"presence":{"value":true}}}},"caps":[{"channels":["n*"],"allow":["sub"]}]}}"#,
    r#"{"result":{"b64data":"eyJhIjoKMX0=","skip_history":true,"expired":false,"b64info":"MQ=="}}"#,
    r#"{"error":{"code":1000,"message":"no","temporary":true}}"#,
    r#"{"disconnect":{"code":4000,"reason":"gone"}}"#,
];

const PIECES: [&[u8]; 24] = [
    b"null",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"1",
    b"-",
    b"1e400",
    b"\n",
    b"\r",
    b"true",
    b"\"data\"",
    b"\"result\"",
    b"\"error\"",
    b"4000",
    b"\xff",
    b"\\ud800",
    b"\"MQ==\"",
    b"\"bnVsbA==\"",
    b"[[[[",
];

/// An answer in which pieces replace what is there.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0_usize..8, prop::sample::select(&PIECES[..]));
    let edits = prop::collection::vec(edit, 0..5);
    (prop::sample::select(&ANSWERS[..]), edits).prop_map(|(answer, edits)| {
        let mut body = answer.as_bytes().to_vec();
        for (place, len, piece) in edits {
            let start = place.index(body.len() + 1);
            let end = (start + len).min(body.len());
            body.splice(start..end, piece.iter().copied());
        }
        body
    })
}

/// What an answer has for clients, and for other backends.
fn said(terms: &Terms) -> Vec<&[u8]> {
    let texts = match terms {
        Terms::Rpc { data } => return vec![data],
        Terms::Publish(terms) => return terms.data.as_deref().into_iter().collect(),
        Terms::Connect(Some(terms)) => vec![&terms.data, &terms.claims.info, &terms.claims.meta],
        Terms::Refresh(Some(claims)) => vec![&claims.info, &claims.meta],
        Terms::Subscribe(terms) => vec![&terms.info, &terms.data],
        Terms::RefreshSubscription(Some(terms)) => vec![&terms.info],
        Terms::Send | Terms::Connect(None) | Terms::Refresh(None) | Terms::RefreshSubscription(None) => {
            vec![]
        }
    };
    texts.into_iter().flatten().map(|text| text.as_bytes()).collect()
}

proptest! {
    #[test]
    fn whatever_a_backend_answers_is_refused_or_can_be_shown_to_clients(body in nearly_right()) {
        let answers = Answers::new(&Config::default());
        for kind in CallKind::ALL {
            match answers.read(kind, &body) {
                Ok(BackendAnswer::Granted(terms)) => {
                    for json in said(&terms) {
                        prop_assert!(!json.contains(&b'\n') && !json.contains(&b'\r'));
                        prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok());
                    }
                }
                Ok(BackendAnswer::Error(error)) => prop_assert!(error.code > 0),
                Ok(BackendAnswer::Close(_)) => {}
                Err(fault) => prop_assert!(matches!(fault, CallFault::Unreadable(_))),
            }
        }
    }
}
