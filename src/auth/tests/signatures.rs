//! Which key signed a token, and what happens if none did.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;

use super::issuer::{
    ED25519, P256, P384, Pair, RSA, RSA_OTHER, SECRET, base64url, key_set, of_set, secret, verifier,
};
use crate::auth::{
    Algorithm, Hash, JWKS_CURRENT, JwksKeys, KeySet, Keys, Part, Signer, TokenError, Verifier,
};
use crate::base::clock::UnixTime;
use crate::config::Config;

const CLAIMS: &str = r#"{"sub":"ann"}"#;

/// Who signs with an algorithm.
fn signer(algorithm: Algorithm) -> Signer {
    let mut signer = match algorithm {
        Algorithm::Hmac(_) => secret(),
        Algorithm::Rsa(_) => RSA.signer(),
        Algorithm::EcdsaP256 => P256.signer(),
        Algorithm::EcdsaP384 => P384.signer(),
        Algorithm::Ed25519 => ED25519.signer(),
    };
    signer.algorithm = algorithm;
    signer
}

fn every_key() -> KeySet {
    key_set(&[SECRET], &[&RSA.public, &P256.public, &P384.public, &ED25519.public])
}

fn user(verifier: &Verifier, token: &str) -> Result<Box<str>, TokenError> {
    verifier.connection(token).map(|claims| claims.user)
}

#[test]
fn every_algorithm_is_verified_by_its_key() {
    let verifier = verifier(every_key());
    for algorithm in Algorithm::ALL {
        let token = signer(algorithm).sign(CLAIMS).unwrap();
        assert_eq!(user(&verifier, &token).as_deref(), Ok("ann"), "{algorithm}");
    }
}

#[test]
fn what_was_changed_afterwards_is_refused() {
    let verifier = verifier(every_key());
    for algorithm in Algorithm::ALL {
        let token = signer(algorithm).sign(CLAIMS).unwrap();
        let refused = Err(TokenError::Signature(algorithm));
        let (header, rest) = token.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let others = format!("{header}.{}.{signature}", base64url(br#"{"sub":"eve"}"#));
        assert_eq!(user(&verifier, &others), refused, "{algorithm}");
        let header = base64url(format!(r#"{{"typ":"JWT","alg":"{algorithm}"}}"#).as_bytes());
        assert_eq!(user(&verifier, &format!("{header}.{rest}")), refused, "{algorithm}");
        let (message, _) = token.rsplit_once('.').unwrap();
        for wrong in [&b""[..], b"\0", &[0; 32], &[0; 64], &[255; 96], &[0; 256], &[255; 1000]] {
            assert_eq!(user(&verifier, &format!("{message}.{}", base64url(wrong))), refused, "{algorithm}");
        }
    }
}

#[test]
fn no_other_key_of_the_same_kind_is_accepted() {
    let other = key_set(&[b"another secret"], &[&RSA_OTHER.public]);
    let verifier = verifier(other);
    for algorithm in Algorithm::ALL {
        let token = signer(algorithm).sign(CLAIMS).unwrap();
        let error = match algorithm {
            Algorithm::Hmac(_) | Algorithm::Rsa(_) => TokenError::Signature(algorithm),
            _ => TokenError::NoKey(algorithm),
        };
        assert_eq!(user(&verifier, &token), Err(error), "{algorithm}");
    }
}

/// RFC 8725, section 2.1: the public key, which everybody knows, is no secret, in whatever form.
#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let der = |pem: &str| {
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64).unwrap()
    };
    let verifier = verifier(key_set(&[SECRET], &[&RSA.public, &P256.public, &ED25519.public]));
    for pair in [&RSA, &P256, &ED25519] {
        for key in [pair.public.as_bytes(), pair.public.trim_end().as_bytes(), &der(&pair.public)] {
            let token = Signer::with_secret(key).unwrap().sign(CLAIMS).unwrap();
            let error = TokenError::Signature(Algorithm::Hmac(Hash::Sha256));
            assert_eq!(user(&verifier, &token), Err(error));
        }
    }
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let verifier = verifier(every_key());
    let claims = base64url(CLAIMS.as_bytes());
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = base64url(format!(r#"{{"alg":"{alg}"}}"#).as_bytes());
        for signature in ["", "AA"] {
            let token = format!("{header}.{claims}.{signature}");
            assert_eq!(user(&verifier, &token), Err(TokenError::UnknownAlgorithm), "{alg}");
        }
    }
}

/// The key of one curve cannot be used with another, and no key of an algorithm may be missing.
#[test]
fn a_key_serves_its_own_algorithms_alone() {
    for (pair, own) in [
        (
            &RSA,
            &[Algorithm::Rsa(Hash::Sha256), Algorithm::Rsa(Hash::Sha384), Algorithm::Rsa(Hash::Sha512)][..],
        ),
        (&P256, &[Algorithm::EcdsaP256]),
        (&P384, &[Algorithm::EcdsaP384]),
        (&ED25519, &[Algorithm::Ed25519]),
    ] {
        let verifier = verifier(key_set(&[], &[&pair.public]));
        for algorithm in Algorithm::ALL {
            let token = signer(algorithm).sign(CLAIMS).unwrap();
            let expected = match own.contains(&algorithm) {
                true => Ok("ann"),
                false => Err(TokenError::NoKey(algorithm)),
            };
            assert_eq!(
                user(&verifier, &token).as_deref(),
                expected.as_ref().map(|user| *user),
                "{algorithm}"
            );
        }
    }
}

#[test]
fn an_old_and_a_new_secret_are_valid_at_once_until_the_old_one_is_removed() {
    let old = secret().sign(CLAIMS).unwrap();
    let new = Signer::with_secret(b"new").unwrap().sign(CLAIMS).unwrap();
    let both = verifier(key_set(&[b"new", SECRET], &[]));
    assert!(both.connection(&old).is_ok() && both.connection(&new).is_ok());
    let later = verifier(key_set(&[b"new"], &[]));
    assert_eq!(later.connection(&old).err(), Some(TokenError::Signature(Algorithm::Hmac(Hash::Sha256))));
    assert!(later.connection(&new).is_ok());
}

#[test]
fn subscriptions_have_the_keys_of_connections_unless_they_have_their_own() {
    let token = |secret: &[u8]| {
        Signer::with_secret(secret).unwrap().sign(r#"{"sub":"ann","channel":"news"}"#).unwrap()
    };
    let (of_connections, of_subscriptions) = (token(SECRET), token(b"own"));
    let keys =
        |subscription| Keys { connection: key_set(&[SECRET], &[]), subscription, jwks: JwksKeys::None };
    let shared = Verifier::new(&Config::default(), keys(KeySet::default()));
    assert!(shared.subscription(&of_connections).is_ok());
    assert!(shared.subscription(&of_subscriptions).is_err());
    let own = Verifier::new(&Config::default(), keys(key_set(&[b"own"], &[])));
    assert!(own.subscription(&of_connections).is_err());
    assert!(own.subscription(&of_subscriptions).is_ok());
    let plain = secret().sign(CLAIMS).unwrap();
    assert!(own.connection(&plain).is_ok());
}

/// The token of `pair` that names a key.
fn naming(pair: &Pair, name: &str) -> String {
    let signer = pair.signer();
    let header = format!(r#"{{"alg":"{}","kid":"{name}"}}"#, signer.algorithm());
    signer.sign_under(&header, CLAIMS).unwrap()
}

#[test]
fn a_token_that_names_a_key_is_verified_by_that_key_alone() {
    let rs256 = Algorithm::Rsa(Hash::Sha256);
    let set = of_set(&[RSA.in_set(r#""kid":"a","#), RSA_OTHER.in_set(r#""kid":"b","#)]);
    assert_eq!(user(&set, &naming(&RSA, "a")).as_deref(), Ok("ann"));
    assert_eq!(user(&set, &naming(&RSA_OTHER, "b")).as_deref(), Ok("ann"));
    assert_eq!(user(&set, &naming(&RSA, "b")), Err(TokenError::Signature(rs256)));
    assert_eq!(user(&set, &naming(&RSA, "c")), Err(TokenError::UnknownKey(rs256)));
    assert_eq!(user(&set, &naming(&RSA, "../../etc/passwd")), Err(TokenError::UnknownKey(rs256)));
    assert_eq!(user(&set, &naming(&P256, "a")), Err(TokenError::UnknownKey(Algorithm::EcdsaP256)));
    assert_eq!(
        user(&set, &RSA.signer().sign(CLAIMS).unwrap()).as_deref(),
        Ok("ann"),
        "any may have signed it"
    );
}

#[test]
fn a_key_without_a_name_may_have_signed_a_token_that_names_another() {
    let nameless = of_set(&[RSA.in_set("")]);
    assert_eq!(user(&nameless, &naming(&RSA, "a")).as_deref(), Ok("ann"));
    let mut of_file = Verifier::new(
        &Config::default(),
        Keys { connection: key_set(&[], &[&RSA.public]), ..Keys::default() },
    );
    assert_eq!(user(&of_file, &naming(&RSA, "a")).as_deref(), Ok("ann"));
    let wrong = naming(&RSA_OTHER, "a");
    let rs256 = Algorithm::Rsa(Hash::Sha256);
    assert_eq!(user(&of_file, &wrong), Err(TokenError::Signature(rs256)), "no key set could bring the key");
    of_file = of_file.with_jwks(JwksKeys::Fixed(Arc::default()));
    assert_eq!(user(&of_file, &naming(&RSA, "a")).as_deref(), Ok("ann"));
    assert_eq!(user(&of_file, &wrong), Err(TokenError::UnknownKey(rs256)));
}

/// What is missing may come as long as the set is awaited or old. A secret cannot come, and neither can another signature of
/// a key that is there.
#[test]
fn a_key_may_come_with_the_set_that_is_fetched_next() {
    let at = UnixTime::from_micros(1 << 50);
    let after =
        |length: Duration| UnixTime::from_micros(at.as_micros() + u64::try_from(length.as_micros()).unwrap());
    let (soon, late) = (after(JWKS_CURRENT - Duration::from_micros(1)), after(JWKS_CURRENT));
    let fixed = verifier(key_set(&[SECRET], &[&P384.public]));
    let set = Arc::new(
        KeySet::from_jwks(format!(r#"{{"keys":[{}]}}"#, RSA.in_set(r#""kid":"a","#)).as_bytes()).unwrap(),
    );
    let fetched = fixed.with_jwks(JwksKeys::Fetched { keys: Arc::clone(&set), at });
    let awaited = fixed.with_jwks(JwksKeys::Awaited);
    let of_file = fixed.with_jwks(JwksKeys::Fixed(set));
    let secret = Signer::with_secret(b"another secret").unwrap().sign(CLAIMS).unwrap();
    let forged = naming(&RSA_OTHER, "a");
    for (verifier, token, now, awaits) in [
        (&awaited, naming(&RSA, "a"), soon, true),
        (&awaited, RSA.signer().sign(CLAIMS).unwrap(), soon, true),
        (&awaited, secret.clone(), soon, false),
        (&fetched, naming(&RSA, "b"), soon, false),
        (&fetched, naming(&RSA, "b"), late, true),
        (&fetched, naming(&RSA, "b"), UnixTime::from_micros(1), true),
        (&fetched, naming(&P256, "b"), late, true),
        (&fetched, RSA_OTHER.signer().sign(CLAIMS).unwrap(), late, false),
        (&fetched, forged, late, false),
        (&fetched, secret, late, false),
        (&of_file, naming(&RSA, "b"), late, false),
    ] {
        let error = verifier.connection(&token).unwrap_err();
        assert_eq!(verifier.awaits_key(&error, now), awaits, "{error}");
    }
    for verifier in [&awaited, &fetched] {
        let others = [P384.signer().sign(CLAIMS).unwrap(), super::issuer::secret().sign(CLAIMS).unwrap()];
        assert!(others.iter().all(|token| verifier.connection(token).is_ok()), "their keys are there");
    }
}

#[test]
fn a_key_of_a_set_is_used_with_its_own_algorithm_only() {
    let set = of_set(&[RSA.in_set(r#""alg":"RS384","#)]);
    let mut signer = RSA.signer();
    let rs256 = TokenError::NoKey(Algorithm::Rsa(Hash::Sha256));
    assert_eq!(user(&set, &signer.sign(CLAIMS).unwrap()), Err(rs256));
    signer.algorithm = Algorithm::Rsa(Hash::Sha384);
    assert_eq!(user(&set, &signer.sign(CLAIMS).unwrap()).as_deref(), Ok("ann"));
}

#[test]
fn claims_are_not_read_before_the_signature_is_right() {
    let verifier = verifier(key_set(&[SECRET], &[]));
    let wrong = Signer::with_secret(b"wrong").unwrap();
    for claims in ["", "[]", r#"{"exp":"soon"}"#, "\u{fffd}"] {
        let error = Some(TokenError::Signature(Algorithm::Hmac(Hash::Sha256)));
        assert_eq!(verifier.connection(&wrong.sign(claims).unwrap()).err(), error);
    }
    let token = secret().sign("[]").unwrap();
    assert_eq!(verifier.connection(&token).err(), Some(TokenError::NotJson(Part::Claims)));
}

/// The signature of a message is right or not as a whole: a prefix of the right one is a wrong one.
#[test]
fn no_part_of_a_signature_is_enough() {
    let verifier = verifier(key_set(&[SECRET], &[]));
    let token = secret().sign(CLAIMS).unwrap();
    let (message, _) = token.rsplit_once('.').unwrap();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    for (at, _) in tag.as_ref().iter().enumerate() {
        let mut changed = tag.as_ref().to_vec();
        changed[at] ^= 1;
        for signature in [&changed, &tag.as_ref()[..at]] {
            assert!(verifier.connection(&format!("{message}.{}", base64url(signature))).is_err(), "{at}");
        }
    }
}
