//! Keys of every kind, made once, and verifiers that know them.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::auth::{JwksKeys, KeySet, Keys, Signer, Verifier};
use crate::config::Config;

/// The secret of most tests.
pub(super) const SECRET: &[u8] = b"a secret of thirty-two bytes, or more";

/// A pair of keys.
pub(super) struct Pair {
    /// The private key, PKCS #8.
    pub(super) private: String,
    /// The public key, SubjectPublicKeyInfo.
    pub(super) public: String,
    /// The public key's parameters in a JSON Web Key Set.
    pub(super) jwk: String,
}

impl Pair {
    pub(super) fn signer(&self) -> Signer {
        Signer::from_pem(self.private.as_bytes()).unwrap()
    }

    /// The key in a key set, with further parameters, each with a comma behind it.
    pub(super) fn in_set(&self, further: &str) -> String {
        format!("{{{further}{}}}", self.jwk)
    }
}

pub(super) static RSA: LazyLock<Pair> = LazyLock::new(|| rsa(KeySize::Rsa2048));
pub(super) static RSA_OTHER: LazyLock<Pair> = LazyLock::new(|| rsa(KeySize::Rsa2048));
pub(super) static P256: LazyLock<Pair> = LazyLock::new(|| ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"));
pub(super) static P384: LazyLock<Pair> = LazyLock::new(|| ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"));
pub(super) static ED25519: LazyLock<Pair> = LazyLock::new(ed25519);

/// A block of PEM.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa(size: KeySize) -> Pair {
    let key = RsaKeyPair::generate(size).unwrap();
    let private: Pkcs8V1Der<'_> = key.as_der().unwrap();
    let public = key.public_key();
    let modulus = {
        // The DER of RSAPublicKey ends with the exponent 65537: `02 03 01 00 01`.
        let der = public.as_ref();
        der[der.len() - 5 - key.public_modulus_len()..der.len() - 5].to_vec()
    };
    Pair {
        private: pem("PRIVATE KEY", private.as_ref()),
        public: pem("PUBLIC KEY", public.as_der().unwrap().as_ref()),
        jwk: format!(r#""kty":"RSA","n":"{}","e":"AQAB""#, base64url(&modulus)),
    }
}

fn ecdsa(curve: &'static EcdsaSigningAlgorithm, name: &str) -> Pair {
    let key = EcdsaKeyPair::generate(curve).unwrap();
    let point = key.public_key().as_ref();
    let (x, y) = point[1..].split_at(point.len() / 2);
    Pair {
        private: pem("PRIVATE KEY", key.to_pkcs8v1().unwrap().as_ref()),
        public: pem("PUBLIC KEY", key.public_key().as_der().unwrap().as_ref()),
        jwk: format!(r#""kty":"EC","crv":"{name}","x":"{}","y":"{}""#, base64url(x), base64url(y)),
    }
}

fn ed25519() -> Pair {
    let key = Ed25519KeyPair::generate().unwrap();
    Pair {
        private: pem("PRIVATE KEY", key.to_pkcs8().unwrap().as_ref()),
        public: pem("PUBLIC KEY", key.public_key().as_der().unwrap().as_ref()),
        jwk: format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, base64url(key.public_key().as_ref())),
    }
}

/// The older form of an EC private key.
pub(super) fn sec1() -> String {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let der: EcPrivateKeyRfc5915Der<'_> = key.private_key().as_der().unwrap();
    pem("EC PRIVATE KEY", der.as_ref())
}

pub(super) fn secret() -> Signer {
    Signer::with_secret(SECRET).unwrap()
}

/// Keys of connections, as an operator configures them.
pub(super) fn key_set(secrets: &[&[u8]], pems: &[&str]) -> KeySet {
    let mut keys = KeySet::default();
    secrets.iter().for_each(|secret| keys.add_secret(secret).unwrap());
    pems.iter().for_each(|pem| keys.add_pem(pem.as_bytes()).unwrap());
    keys
}

pub(super) fn verifier(keys: KeySet) -> Verifier {
    Verifier::new(&Config::default(), Keys { connection: keys, ..Keys::default() })
}

/// With a key set alone.
pub(super) fn of_set(keys: &[String]) -> Verifier {
    let json = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    verifier(KeySet::default()).with_jwks(JwksKeys::Fixed(KeySet::from_jwks(json.as_bytes()).unwrap().into()))
}
