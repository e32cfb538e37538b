//! Who a client is, and what its token says: JSON Web Tokens (RFC 7519), signed as RFC 7515 says.
//!
//! Everything here is a function of its arguments: there is no socket, no file, no clock and no thread. The contents of
//! key files and the time are arguments.
//!
//! A token goes through these files: `token.rs` takes it apart, `keys.rs` finds the key that signed it, `claims.rs` reads
//! what it says. [`Verifier`] does all of that. The result holds for as long as the keys are the same, so a
//! [`TokenCache`] keeps it; whether a token is valid *now* is asked each time ([`ConnectionClaims::check_time`]).
//!
//! What a client may do with a topic is decided by [`grant`] alone.

mod algorithm;
mod cache;
mod capability;
mod claims;
mod date;
mod error;
mod fields;
mod jwks;
mod key_error;
mod keys;
mod pem;
mod permissions;
mod public_key;
mod signer;
mod subscriptions;
#[cfg(test)]
mod tests;
mod token;
mod verifier;

pub use algorithm::{Algorithm, Hash};
pub use cache::{Cached, TokenCache, TokenDigest};
pub use capability::{Action, Capability};
pub use claims::{ConnectionClaims, SubscriptionClaims};
pub use error::{ClaimName, Part, PatternError, TokenError};
pub use fields::AnswerRules;
pub use key_error::{JWKS_BYTES_MAX, KEYS_MAX, KeyError, PassedOver};
pub use keys::KeySet;
pub use permissions::{Granted, Subject, depends_on_subscription, grant};
pub use signer::{Signer, SigningError};
pub use subscriptions::{Overrides, ServerSubscription, SubscriptionTerms};
pub use verifier::{JWKS_CURRENT, JwksKeys, Keys, Verifier};
