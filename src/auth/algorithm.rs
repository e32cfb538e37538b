//! The algorithms of signatures (RFC 7518, section 3; RFC 8037, section 3.1).

use std::fmt;

/// How a token is signed. `none` and RSASSA-PSS are not among them, so no token can ask for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HS256, HS384, HS512: HMAC with a secret that signer and verifier share.
    Hmac(Hash),
    /// RS256, RS384, RS512: RSASSA-PKCS1-v1_5.
    Rsa(Hash),
    /// ES256: ECDSA with the curve P-256 and SHA-256.
    EcdsaP256,
    /// ES384: ECDSA with the curve P-384 and SHA-384.
    EcdsaP384,
    /// EdDSA, with the curve Ed25519.
    Ed25519,
}

/// The hash function of an HMAC or an RSA signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Hmac(Hash::Sha256),
        Self::Hmac(Hash::Sha384),
        Self::Hmac(Hash::Sha512),
        Self::Rsa(Hash::Sha256),
        Self::Rsa(Hash::Sha384),
        Self::Rsa(Hash::Sha512),
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::Ed25519,
    ];

    /// The algorithm of a header's `alg`, whose names are case-sensitive.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in a header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hmac(Hash::Sha256) => "HS256",
            Self::Hmac(Hash::Sha384) => "HS384",
            Self::Hmac(Hash::Sha512) => "HS512",
            Self::Rsa(Hash::Sha256) => "RS256",
            Self::Rsa(Hash::Sha384) => "RS384",
            Self::Rsa(Hash::Sha512) => "RS512",
            Self::EcdsaP256 => "ES256",
            Self::EcdsaP384 => "ES384",
            Self::Ed25519 => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
