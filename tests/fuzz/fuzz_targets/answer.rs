#![no_main]

use std::sync::LazyLock;

use fanfare::config::Config;
use fanfare::domain::call::{BackendAnswer, CallFault, CallKind, Terms};
use fanfare::hooks::Answers;

static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);
static ANSWERS: LazyLock<Answers> = LazyLock::new(|| Answers::new(&CONFIG));

// As the answer of a backend to each kind of call.
libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    for kind in CallKind::ALL {
        match ANSWERS.read(kind, body) {
            Ok(BackendAnswer::Granted(terms)) => granted(kind, &terms),
            Ok(BackendAnswer::Error(error)) => assert!(error.code > 0),
            Ok(BackendAnswer::Close(_)) => {}
            Err(fault) => assert!(matches!(fault, CallFault::Unreadable(_))),
        }
    }
});

fn granted(kind: CallKind, terms: &Terms) {
    let limits = &CONFIG.limits;
    let matches = match terms {
        Terms::Rpc { data } => {
            is_line(data);
            kind == CallKind::Rpc
        }
        Terms::Send => kind == CallKind::Send,
        Terms::Connect(terms) => {
            if let Some(terms) = terms {
                terms.data.iter().for_each(|data| is_line(data.as_bytes()));
                assert!(terms.claims.user.len() <= limits.user_max);
                assert!(terms.claims.subscriptions.len() <= limits.topics_per_client);
            }
            kind == CallKind::Connect
        }
        Terms::Refresh(claims) => {
            claims.iter().filter_map(|claims| claims.info.as_deref()).for_each(is_small);
            kind == CallKind::Refresh
        }
        Terms::Subscribe(terms) => {
            terms.data.iter().for_each(|data| is_line(data.as_bytes()));
            terms.info.as_deref().into_iter().for_each(is_small);
            kind == CallKind::Subscribe
        }
        Terms::RefreshSubscription(terms) => {
            terms.iter().filter_map(|terms| terms.info.as_deref()).for_each(is_small);
            kind == CallKind::RefreshSubscription
        }
        Terms::Publish(terms) => {
            terms.data.iter().for_each(|data| {
                is_line(data);
                assert!(data.len() <= limits.publication_bytes);
            });
            kind == CallKind::Publish
        }
    };
    assert!(matches);
}

/// It can stand in a reply.
fn is_line(json: &[u8]) {
    assert!(!json.contains(&b'\n') && !json.contains(&b'\r'));
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok());
}

/// It can be kept for each client.
fn is_small(json: &str) {
    assert!(json.len() <= CONFIG.limits.info_bytes);
    is_line(json.as_bytes());
}
