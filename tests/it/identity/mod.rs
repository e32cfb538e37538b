//! Tokens, from outside: what clients see that show the right ones, wrong ones, and very many.

mod clients;
mod clocks;
mod key_set;
mod many;
mod rotation;
mod server_side;
mod wrong;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare::auth::Signer;
use serde_json::{Value, json};

/// The secret of the engines here.
const SECRET: &str = "a secret that is long enough for a test";

/// A token with these claims, signed with a secret.
fn signed(secret: &str, claims: &Value) -> String {
    let signer = Signer::with_secret(secret.as_bytes()).expect("a secret");
    signer.sign(&claims.to_string()).expect("it signs")
}

/// A token with these claims that an engine here accepts.
fn token(claims: &Value) -> String {
    signed(SECRET, claims)
}

/// The same with an `exp` that is so many seconds away, in the past if they are negative.
fn expiring(seconds: f64, claims: &Value) -> String {
    let mut claims = claims.clone();
    claims["exp"] = json!(in_seconds(seconds));
    token(&claims)
}

/// The time in so many seconds, as tokens state it.
fn in_seconds(seconds: f64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    now.as_secs_f64() + seconds
}
