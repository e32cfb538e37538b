//! Signs tokens, as an application does that issues them. The engine itself only verifies: this is for the command
//! `fanfare token`.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use super::algorithm::{Algorithm, Hash};
use super::key_error::KeyError;
use super::pem::{self, Block};

/// Signs tokens with one key.
pub struct Signer {
    key: Key,
    pub(super) algorithm: Algorithm,
}

enum Key {
    Secret(Box<[u8]>),
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The library could not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the key cannot sign")]
pub struct SigningError;

impl Signer {
    /// Signs with HS256.
    ///
    /// # Errors
    /// The secret is empty.
    pub fn with_secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.is_empty() {
            return Err(KeyError::Empty);
        }
        Ok(Self { key: Key::Secret(secret.into()), algorithm: Algorithm::Hmac(Hash::Sha256) })
    }

    /// Signs with the first private key in a text of PEM: PKCS #8 (RFC 5958), or the older forms of RSA and EC keys. By the
    /// kind of the key this is RS256, ES256, ES384 or EdDSA.
    ///
    /// # Errors
    /// There is no private key, or one of another kind.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let is_private = |block: &Block<'_>| block.label.ends_with("PRIVATE KEY");
        let block = pem::blocks(pem)?.into_iter().find(is_private).ok_or(KeyError::NotPrivate)?;
        Self::from_der(&block.der).ok_or(KeyError::Kind)
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        let rsa = || RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)).ok();
        let ecdsa = |curve| EcdsaKeyPair::from_private_key_der(curve, der).ok();
        let of = |key, algorithm| Some(Self { key, algorithm });
        if let Some(key) = rsa() {
            of(Key::Rsa(key), Algorithm::Rsa(Hash::Sha256))
        } else if let Some(key) = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING) {
            of(Key::Ecdsa(key), Algorithm::EcdsaP256)
        } else if let Some(key) = ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING) {
            of(Key::Ecdsa(key), Algorithm::EcdsaP384)
        } else {
            let key = Ed25519KeyPair::from_pkcs8(der).ok()?;
            of(Key::Ed25519(key), Algorithm::Ed25519)
        }
    }

    /// The algorithm that it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The token with these claims, a JSON object.
    ///
    /// # Errors
    /// The library could not sign.
    pub fn sign(&self, claims: &str) -> Result<String, SigningError> {
        self.sign_under(&format!(r#"{{"alg":"{}","typ":"JWT"}}"#, self.algorithm), claims)
    }

    /// The token with this header.
    pub(super) fn sign_under(&self, header: &str, claims: &str) -> Result<String, SigningError> {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.signature(message.as_bytes()).ok_or(SigningError)?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match (&self.key, self.algorithm) {
            (Key::Secret(secret), Algorithm::Hmac(hash)) => {
                Some(hmac::sign(&hmac::Key::new(hmac_of(hash), secret), message).as_ref().to_vec())
            }
            (Key::Rsa(key), Algorithm::Rsa(hash)) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(rsa_of(hash), &random, message, &mut signature).ok()?;
                Some(signature)
            }
            (Key::Ecdsa(key), _) => Some(key.sign(&random, message).ok()?.as_ref().to_vec()),
            (Key::Ed25519(key), _) => Some(key.sign(message).as_ref().to_vec()),
            _ => None,
        }
    }
}

fn hmac_of(hash: Hash) -> hmac::Algorithm {
    match hash {
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha384 => hmac::HMAC_SHA384,
        Hash::Sha512 => hmac::HMAC_SHA512,
    }
}

fn rsa_of(hash: Hash) -> &'static dyn RsaEncoding {
    match hash {
        Hash::Sha256 => &RSA_PKCS1_SHA256,
        Hash::Sha384 => &RSA_PKCS1_SHA384,
        Hash::Sha512 => &RSA_PKCS1_SHA512,
    }
}

impl fmt::Debug for Signer {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.algorithm)
    }
}
