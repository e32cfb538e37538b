//! Keys that verify tokens. Each kind of key serves the algorithms of its own kind alone: a public key is never taken
//! for a secret, whatever a token's header says (RFC 8725, section 2.1).

use std::fmt;

use aws_lc_rs::hmac;

use super::algorithm::{Algorithm, Hash};
use super::error::TokenError;
use super::key_error::{KEYS_MAX, KeyError, PassedOver};
use super::public_key::NamedKey;
use super::token::Token;
use super::{jwks, pem};

/// Keys, any of which may have signed a token. They are parsed once, when the set is made.
#[derive(Default)]
pub struct KeySet {
    secrets: Vec<HmacKey>,
    public: Vec<NamedKey>,
    passed_over: Option<PassedOver>,
}

/// One secret, prepared for each hash function.
struct HmacKey([hmac::Key; 3]);

impl KeySet {
    /// The keys of a JSON Web Key Set (RFC 7517) that can verify tokens. Others are passed over (section 5): keys for
    /// encryption, which are there for others, and those of which [`passed_over`](Self::passed_over) tells.
    ///
    /// # Errors
    /// What is not a set, a set of which no key can be used, more than [`KEYS_MAX`] keys, and more than
    /// [`JWKS_BYTES_MAX`](super::JWKS_BYTES_MAX) bytes.
    pub fn from_jwks(json: &[u8]) -> Result<Self, KeyError> {
        let jwks::Found { keys, passed_over } = jwks::read(json)?;
        Ok(Self { secrets: Vec::new(), public: keys, passed_over })
    }

    /// Keys of a JSON Web Key Set that were passed over because they are damaged, too short or of another kind.
    #[must_use]
    pub fn passed_over(&self) -> Option<PassedOver> {
        self.passed_over
    }

    /// Adds a secret for HS256, HS384 and HS512.
    ///
    /// # Errors
    /// The secret is empty, or the set is full.
    pub fn add_secret(&mut self, secret: &[u8]) -> Result<(), KeyError> {
        if secret.is_empty() {
            return Err(KeyError::Empty);
        }
        let key = |algorithm| hmac::Key::new(algorithm, secret);
        self.secrets.push(HmacKey([hmac::HMAC_SHA256, hmac::HMAC_SHA384, hmac::HMAC_SHA512].map(key)));
        self.check_room()
    }

    /// Adds the public keys, and those of certificates, in a text of PEM (RFC 7468).
    ///
    /// # Errors
    /// There is none, one cannot be used, or the set is full.
    pub fn add_pem(&mut self, pem: &[u8]) -> Result<(), KeyError> {
        for key in pem::public_keys(pem)? {
            self.public.push(NamedKey { key, id: None, only: None });
        }
        self.check_room()
    }

    fn check_room(&self) -> Result<(), KeyError> {
        if self.len() > KEYS_MAX { Err(KeyError::TooMany) } else { Ok(()) }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.secrets.len() + self.public.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether one of the keys signed a token. `may_be_incomplete` says that a key that the token names may come later. Adds to
/// `checks` how many signatures were checked.
pub(super) fn verify(
    sets: &[&KeySet],
    token: &Token<'_>,
    may_be_incomplete: bool,
    checks: &mut usize,
) -> Result<(), TokenError> {
    match token.header.algorithm {
        Algorithm::Hmac(hash) => verify_hmac(sets, hash, token, checks),
        algorithm => verify_public(sets, algorithm, token, may_be_incomplete, checks),
    }
}

/// The library compares in constant time, so the time tells nothing about the right signature.
fn verify_hmac(
    sets: &[&KeySet],
    hash: Hash,
    token: &Token<'_>,
    checks: &mut usize,
) -> Result<(), TokenError> {
    let mut keys = sets.iter().flat_map(|set| &set.secrets).peekable();
    if keys.peek().is_none() {
        return Err(TokenError::NoKey(Algorithm::Hmac(hash)));
    }
    let signed = |HmacKey(keys): &HmacKey| {
        *checks += 1;
        hmac::verify(&keys[hash as usize], token.message, &token.signature).is_ok()
    };
    if keys.any(signed) { Ok(()) } else { Err(TokenError::Signature(Algorithm::Hmac(hash))) }
}

fn verify_public(
    sets: &[&KeySet],
    algorithm: Algorithm,
    token: &Token<'_>,
    may_be_incomplete: bool,
    checks: &mut usize,
) -> Result<(), TokenError> {
    let fitting = || sets.iter().flat_map(|set| &set.public).filter(|key| key.is_for(algorithm));
    let named = token.header.key_id.as_deref();
    let is_known = named.is_some() && fitting().any(|key| key.id.as_deref() == named);
    // A key of another name did not sign it. One without a name may have.
    let may_be = |key: &&NamedKey| match named {
        None => true,
        Some(_) if is_known => key.id.as_deref() == named,
        Some(_) => key.id.is_none(),
    };
    let signed = |key: &NamedKey| {
        *checks += 1;
        key.key.verify(algorithm, token.message, &token.signature)
    };
    if fitting().filter(may_be).any(signed) {
        return Ok(());
    }
    Err(match fitting().next() {
        _ if named.is_some() && !is_known && may_be_incomplete => TokenError::UnknownKey(algorithm),
        None => TokenError::NoKey(algorithm),
        Some(_) => TokenError::Signature(algorithm),
    })
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} secrets, {} public keys)", self.secrets.len(), self.public.len())
    }
}
