//! From the text of a token to what it says.

use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fanfare::auth::{ConnectionClaims, KeySet, Keys, Signer, TokenCache, TokenDigest, Verifier};
use fanfare::config::Config;

/// What a token of an application says, without surprises.
const CLAIMS: &str = r#"{"sub":"user-000000012345","iat":1764522720,"exp":1764526320,"info":{"name":"Ann"}}"#;
/// Tokens that a shard remembers, as by default.
const TOKENS: usize = 10_000;

/// A token, and a verifier that accepts it.
pub(crate) struct Case {
    /// The algorithm's name.
    pub(crate) name: &'static str,
    pub(crate) token: String,
    verifier: Verifier,
}

impl Case {
    fn new(signer: &Signer, keys: KeySet) -> Self {
        Self {
            name: signer.algorithm().name(),
            token: signer.sign(CLAIMS).expect("it signs"),
            verifier: Verifier::new(&Config::default(), Keys { connection: keys, ..Keys::default() }),
        }
    }

    fn of_pair(private: &[u8], public: &[u8]) -> Self {
        let pem = |label, der| {
            let base64 = STANDARD.encode(der);
            format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
        };
        let signer = Signer::from_pem(pem("PRIVATE KEY", private).as_bytes()).expect("a private key");
        let mut keys = KeySet::default();
        keys.add_pem(pem("PUBLIC KEY", public).as_bytes()).expect("a public key");
        Self::new(&signer, keys)
    }

    /// What the token says.
    pub(crate) fn verify(&self) -> Option<ConnectionClaims> {
        self.verifier.connection(black_box(&self.token)).ok()
    }

    /// The token, with its signature changed in one byte.
    pub(crate) fn changed_at(&self, at: Place) -> String {
        let (message, signature) = self.token.rsplit_once('.').expect("three parts");
        let url = &base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let mut signature = url.decode(signature).expect("base64");
        let byte = match at {
            Place::First => signature.first_mut(),
            Place::Last => signature.last_mut(),
        };
        *byte.expect("a signature") ^= 1;
        format!("{message}.{}", url.encode(signature))
    }

    /// Whether another token is refused.
    pub(crate) fn refuses(&self, token: &str) -> bool {
        self.verifier.connection(black_box(token)).is_err()
    }
}

/// Where a signature is wrong.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    First,
    Last,
}

/// A token with a secret.
pub(crate) fn hs256() -> Case {
    let secret = b"a secret of thirty-two bytes, or more";
    let mut keys = KeySet::default();
    keys.add_secret(secret).expect("a secret");
    Case::new(&Signer::with_secret(secret).expect("a secret"), keys)
}

/// One for each kind of public key that is common.
pub(crate) fn with_public_keys() -> [Case; 3] {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a pair of keys");
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().expect("DER");
    let public = rsa.public_key().as_der().expect("DER");
    let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a pair of keys");
    let ed25519 = Ed25519KeyPair::generate().expect("a pair of keys");
    [
        Case::of_pair(private.as_ref(), public.as_ref()),
        Case::of_pair(
            p256.to_pkcs8v1().expect("DER").as_ref(),
            p256.public_key().as_der().expect("DER").as_ref(),
        ),
        Case::of_pair(
            ed25519.to_pkcs8().expect("DER").as_ref(),
            ed25519.public_key().as_der().expect("DER").as_ref(),
        ),
    ]
}

/// A cache that is full, the last entry being what `token` says.
pub(crate) fn full_cache(case: &Case) -> TokenCache<ConnectionClaims> {
    let mut cache = TokenCache::new(TOKENS);
    for number in 1..TOKENS {
        insert(&mut cache, &number.to_string(), case);
    }
    insert(&mut cache, &case.token, case);
    cache
}

fn insert(cache: &mut TokenCache<ConnectionClaims>, token: &str, case: &Case) {
    let claims = case.verify().expect("the token is valid");
    cache.insert(TokenDigest::of(token), Ok(claims)).expect("it is kept");
}

/// What a token says that is remembered.
pub(crate) fn remembered(
    cache: &mut TokenCache<ConnectionClaims>,
    case: &Case,
) -> Option<Arc<ConnectionClaims>> {
    cache.get(&TokenDigest::of(black_box(&case.token)))?.ok()
}
