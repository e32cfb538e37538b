//! Keys that come and go.

use super::{SECRET, signed};
use crate::support::engine::Engine;
use crate::support::script::{Sdk, Subscriber};
use serde_json::json;

const CONFIG: &str = "[tokens]\nhmac_keys = [\"a secret that is long enough for a test\"]\n";
const NEW: &str = "a new secret that is long enough as well";

/// Waits until the client is connected, or has ended with this code.
#[track_caller]
fn expect(client: &mut Subscriber, ended: Option<u64>) {
    let outcome = client
        .0
        .next("an outcome", |event| event["event"] == "connected" || event["event"] == "disconnected");
    let code = outcome["code"].as_u64();
    assert_eq!((&outcome["event"] == "disconnected").then_some(code).flatten(), ended, "{outcome}");
}

/// An old and a new key are valid at once while tokens of the old one are about. Its removal revokes them.
#[test]
fn tokens_of_an_old_key_are_accepted_until_it_is_removed() {
    let mut engine = Engine::on_fixed_ports(CONFIG);
    let url = engine.ws_url();
    let [old, new] = [SECRET, NEW].map(|secret| signed(secret, &json!({"sub": "ann"})));
    let start =
        |token: &str| Sdk::ALL.map(|sdk| Subscriber::with_tokens(sdk, &url, &json!({"token": token})));
    let mut connected_before = start(&old);
    connected_before.iter_mut().for_each(|client| expect(client, None));
    for (keys, of_old) in [(format!("{NEW},{SECRET}"), None), (NEW.to_owned(), Some(3500))] {
        engine = engine.stop_for_now().start_with(&[("FANFARE_TOKENS_HMAC_KEYS", &keys)]);
        connected_before.iter_mut().for_each(|client| expect(client, of_old));
        start(&old).iter_mut().for_each(|client| expect(client, of_old));
        start(&new).iter_mut().for_each(|client| expect(client, None));
    }
}
