//! Public keys, parsed once.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
};

use super::algorithm::Algorithm;

/// By the hash function.
const RSA: [&RsaParameters; 3] =
    [&RSA_PKCS1_2048_8192_SHA256, &RSA_PKCS1_2048_8192_SHA384, &RSA_PKCS1_2048_8192_SHA512];

/// A public key of one kind. Only its own algorithms can be used with it.
pub(super) enum PublicKey {
    /// For each hash function.
    Rsa(Box<[ParsedPublicKey; 3]>),
    EcdsaP256(ParsedPublicKey),
    EcdsaP384(ParsedPublicKey),
    Ed25519(ParsedPublicKey),
}

impl PublicKey {
    /// A key in DER: SubjectPublicKeyInfo (RFC 5280, section 4.1), or an RSA key alone (RFC 8017, appendix A.1.1).
    /// `None` if it is of another kind, or too short.
    pub(super) fn from_der(der: &[u8]) -> Option<Self> {
        let parse = |algorithm| ParsedPublicKey::new(algorithm, der).ok();
        let rsa = || Some([parse(RSA[0])?, parse(RSA[1])?, parse(RSA[2])?]).and_then(Self::rsa);
        rsa()
            .or_else(|| parse(&ECDSA_P256_SHA256_FIXED).map(Self::EcdsaP256))
            .or_else(|| parse(&ECDSA_P384_SHA384_FIXED).map(Self::EcdsaP384))
            .or_else(|| parse(&ED25519).map(Self::Ed25519))
    }

    /// An RSA key of modulus and exponent, in big-endian order.
    pub(super) fn from_rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let components = RsaPublicKeyComponents { n: without_zeros(n), e: without_zeros(e) };
        let parse = |parameters| components.to_parsed_public_key(parameters).ok();
        Self::rsa([parse(RSA[0])?, parse(RSA[1])?, parse(RSA[2])?])
    }

    /// The point of an EC key: both coordinates have the length that the curve requires (RFC 7518, section 6.2.1.2).
    pub(super) fn from_point(curve: Algorithm, x: &[u8], y: &[u8]) -> Option<Self> {
        let point = |len| (x.len() == len && y.len() == len).then(|| [&[4], x, y].concat());
        match curve {
            Algorithm::EcdsaP256 => {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(32)?).ok().map(Self::EcdsaP256)
            }
            Algorithm::EcdsaP384 => {
                ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point(48)?).ok().map(Self::EcdsaP384)
            }
            _ => None,
        }
    }

    /// An Ed25519 key of 32 bytes.
    pub(super) fn from_ed25519(x: &[u8]) -> Option<Self> {
        (x.len() == 32).then(|| ParsedPublicKey::new(&ED25519, x).ok().map(Self::Ed25519)).flatten()
    }

    /// Only a key whose size and numbers are right: the parser alone does not look at them.
    fn rsa(keys: [ParsedPublicKey; 3]) -> Option<Self> {
        let der = keys[0].as_der().ok()?;
        PublicEncryptingKey::from_der(der.as_ref()).ok()?;
        Some(Self::Rsa(Box::new(keys)))
    }

    /// Whether it is of the algorithm's kind.
    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.for_algorithm(algorithm).is_some()
    }

    /// Whether it signed a message.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let key = self.for_algorithm(algorithm);
        key.is_some_and(|key| key.verify_sig(message, signature).is_ok())
    }

    fn for_algorithm(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        match (self, algorithm) {
            (Self::Rsa(keys), Algorithm::Rsa(hash)) => Some(&keys[hash as usize]),
            (Self::EcdsaP256(key), Algorithm::EcdsaP256)
            | (Self::EcdsaP384(key), Algorithm::EcdsaP384)
            | (Self::Ed25519(key), Algorithm::Ed25519) => Some(key),
            _ => None,
        }
    }
}

/// A public key, and what its key set says about it.
pub(super) struct NamedKey {
    pub(super) key: PublicKey,
    /// `kid` of the key set. A token that names a key is only verified by it.
    pub(super) id: Option<Box<str>>,
    /// `alg` of the key set: the only algorithm that the key may be used with.
    pub(super) only: Option<Algorithm>,
}

impl NamedKey {
    /// Whether it may verify signatures of this algorithm.
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.key.is_for(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }
}

/// Some encoders put a zero before a number whose highest bit is set.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
