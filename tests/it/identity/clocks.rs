//! Clocks of the issuer and of the engine that differ.

use super::{SECRET, in_seconds, token};
use crate::support::engine::Engine;
use crate::support::websocket::RawClient;
use serde_json::{Value, json};

/// The code of the error that a connect with these claims is answered with, or 0.
fn connect(engine: &Engine, claims: &Value) -> u64 {
    let fields = json!({"token": token(claims)});
    let reply = RawClient::open(engine.client_address()).command(&format!(r#""connect":{fields}"#));
    let reply: Value = serde_json::from_str(&reply).expect("JSON");
    reply["error"]["code"].as_u64().unwrap_or_default()
}

/// A minute is what `tokens.leeway` is for: tokens count a minute before they are valid, and a minute after they were.
#[test]
fn clocks_may_differ_by_the_leeway() {
    let config = |leeway| format!("[tokens]\nhmac_keys = [\"{SECRET}\"]\nleeway = \"{leeway}\"\n");
    let [strict, lenient] = ["0s", "60s"].map(|leeway| Engine::with_config(&config(leeway)));
    for (claim, seconds, outcomes) in [
        ("exp", 30.0, [0, 0]),
        ("exp", -30.0, [109, 0]),
        ("exp", -90.0, [109, 109]),
        ("nbf", -30.0, [0, 0]),
        ("nbf", 30.0, [109, 0]),
        ("nbf", 90.0, [109, 109]),
        // Only for information.
        ("iat", 90.0, [0, 0]),
        ("expire_at", 30.0, [0, 0]),
        ("expire_at", -30.0, [110, 0]),
        ("expire_at", -90.0, [110, 110]),
    ] {
        let claims = json!({"sub": "ann", claim: in_seconds(seconds)});
        let got = [&strict, &lenient].map(|engine| connect(engine, &claims));
        assert_eq!(got, outcomes, "{claim} in {seconds} s");
    }
}
