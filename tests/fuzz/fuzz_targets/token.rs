#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use fanfare::auth::{Action, KeySet, Keys, Signer, TokenCache, TokenDigest, Verifier};
use fanfare::base::clock::UnixTime;
use fanfare::config::Config;

const SECRET: &[u8] = b"a secret that the fuzzer does not find";

static CONFIG: LazyLock<Config> = LazyLock::new(Config::default);
static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::with_secret(SECRET).expect("a secret"));
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let mut connection = KeySet::default();
    connection.add_secret(SECRET).expect("a secret");
    Verifier::new(&CONFIG, Keys { connection, ..Keys::default() })
});

// As a token, as the claims of one, as a key set and as keys in PEM.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = KeySet::from_jwks(data);
    let _ = KeySet::default().add_pem(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(VERIFIER.connection(text).is_err() && VERIFIER.subscription(text).is_err());
    let token = SIGNER.sign(text).expect("it signs everything");
    of_connection(&token);
    of_subscription(&token);
});

fn of_connection(token: &str) {
    let mut cache = TokenCache::new(1);
    let digest = TokenDigest::of(token);
    let said = cache.insert(digest, VERIFIER.connection(token));
    if let Some(remembered) = cache.get(&digest) {
        assert!(remembered == said);
    }
    let Ok(claims) = said else { return };
    let limits = &CONFIG.limits;
    assert!(claims.user.len() <= limits.user_max);
    assert!(claims.subscriptions.len() <= limits.topics_per_client);
    assert!(claims.caps.len() <= limits.topics_per_client);
    is_bounded_json(claims.info.as_deref());
    is_bounded_json(claims.meta.as_deref());
    for subscription in &claims.subscriptions {
        assert!(!subscription.topic.is_empty() && subscription.topic.len() <= limits.topic_bytes);
        is_bounded_json(subscription.info.as_deref());
        is_bounded_json(subscription.data.as_deref());
    }
    for capability in &*claims.caps {
        let _ = Action::ALL.map(|action| capability.allows("news:1", action));
    }
    for time in [0, 1 << 50, u64::MAX] {
        let _ = claims.check_time(UnixTime::from_micros(time), Duration::from_secs(60));
    }
}

fn of_subscription(token: &str) {
    let Ok(claims) = VERIFIER.subscription(token) else { return };
    assert!(!claims.topic.is_empty() && claims.topic.len() <= CONFIG.limits.topic_bytes);
    is_bounded_json(claims.terms.info.as_deref());
    is_bounded_json(claims.terms.data.as_deref());
}

/// It can stand in a reply.
fn is_bounded_json(text: Option<&str>) {
    let Some(text) = text else { return };
    assert!(text.len() <= CONFIG.limits.info_bytes && !text.contains(['\n', '\r']));
    assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
}
