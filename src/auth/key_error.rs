//! Why keys cannot be used.

use std::fmt;

use thiserror::Error;

/// Keys of one set, at most. A token that names none of them may be compared with each.
pub const KEYS_MAX: usize = 100;

/// Bytes of a JSON Web Key Set, at most. [`KEYS_MAX`] keys of RSA with their certificates have less.
pub const JWKS_BYTES_MAX: usize = 1 << 20;

/// Why keys cannot be used. It holds nothing of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The set is full.
    #[error("there are more than {KEYS_MAX} keys: remove those that no token is signed with any more")]
    TooMany,
    /// Anybody can sign with an empty secret.
    #[error("the secret is empty")]
    Empty,
    /// There is no key.
    #[error("there is no key in PEM: expected `-----BEGIN PUBLIC KEY-----` and base64")]
    NoPem,
    /// A block of PEM does not end, or is not base64.
    #[error("a block of PEM is damaged: it has no end, or is not in base64")]
    DamagedPem,
    /// A private key is where a public one is expected.
    #[error(
        "it has a private key, which only the issuer of the tokens should have: give the public one (`openssl pkey -in \
         KEY -pubout`)"
    )]
    Private,
    /// A public key is where a private one is expected.
    #[error("it has no private key: expected `-----BEGIN PRIVATE KEY-----` (PKCS #8)")]
    NotPrivate,
    /// A certificate cannot be read.
    #[error("a certificate cannot be read: give its key (`openssl x509 -in CERTIFICATE -pubkey -noout`)")]
    Certificate,
    /// It is a key of another kind.
    #[error(
        "a key is of no kind that is used here: expected RSA of 2,048 to 8,192 bits, EC P-256, EC P-384 or Ed25519"
    )]
    Kind,
    /// The set is too large.
    #[error("the key set has more than {JWKS_BYTES_MAX} bytes")]
    TooLarge,
    /// It is no JSON Web Key Set.
    #[error("it is no JSON Web Key Set: expected a JSON object with the list `keys` (RFC 7517, section 5)")]
    NoKeySet,
    /// A key in a set is of another kind.
    #[error(
        "key {number} of the set is of no kind that is used here: expected RSA, EC P-256, EC P-384 or Ed25519"
    )]
    KindInSet {
        /// Its place in the list, from 1.
        number: usize,
    },
    /// Nothing in a set can verify tokens.
    #[error("the key set has no key that can verify tokens: those for encryption cannot, for example")]
    NoUsableKey,
    /// A key in a set is damaged.
    #[error("key {number} of the set cannot be used: `{parameter}` is missing or wrong")]
    Parameter {
        /// Its place in the list, from 1.
        number: usize,
        /// The parameter of the key.
        parameter: &'static str,
    },
}

/// Keys of a set that cannot be used and were passed over, as RFC 7517 (section 5) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// How many there are, at least one.
    pub count: usize,
    /// Why the first one was.
    pub first: KeyError,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "{}; it is passed over", self.first),
            count => write!(f, "{}; it is passed over, and so are {} other keys", self.first, count - 1),
        }
    }
}
