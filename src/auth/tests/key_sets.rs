//! Which keys are accepted, in which form, and how many.

use super::issuer::{ED25519, P256, P384, RSA, SECRET, pem, sec1, verifier};
use crate::auth::{Algorithm, JWKS_BYTES_MAX, KEYS_MAX, KeyError, KeySet, PassedOver, Signer};

fn of_pem(pem: &str) -> Result<usize, KeyError> {
    let mut keys = KeySet::default();
    keys.add_pem(pem.as_bytes()).map(|()| keys.len())
}

fn of_jwks(json: &str) -> Result<usize, KeyError> {
    KeySet::from_jwks(json.as_bytes()).map(|keys| keys.len())
}

#[test]
fn keys_come_in_pem_with_comments_and_several_in_a_file() {
    let all = [&RSA, &P256, &P384, &ED25519].map(|pair| pair.public.clone());
    assert_eq!(of_pem(&all.concat()), Ok(4));
    assert_eq!(of_pem(&format!("# a comment\r\n{}", RSA.public.replace('\n', "\r\n"))), Ok(1));
    for (text, error) in [
        ("", KeyError::NoPem),
        ("ssh-ed25519 AAAA", KeyError::NoPem),
        (&RSA.private, KeyError::Private),
        (&sec1(), KeyError::Private),
        (&RSA.public[..300], KeyError::DamagedPem),
        ("-----BEGIN ", KeyError::DamagedPem),
        ("-----BEGIN PUBLIC KEY-----\n*\n-----END PUBLIC KEY-----", KeyError::DamagedPem),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END RSA KEY-----", KeyError::DamagedPem),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", KeyError::Kind),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", KeyError::Certificate),
        ("-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----", KeyError::NoPem),
    ] {
        assert_eq!(of_pem(text), Err(error), "{text}");
    }
    let mut keys = KeySet::default();
    assert_eq!(keys.add_pem(b"\xff"), Err(KeyError::NoPem));
}

#[test]
fn the_key_of_a_certificate_is_taken() {
    for algorithm in [
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let issuer = rcgen::CertificateParams::new(vec!["issuer.example".to_owned()]).unwrap();
        let certificate = issuer.self_signed(&key).unwrap().pem();
        let mut keys = KeySet::default();
        keys.add_pem(certificate.as_bytes()).unwrap();
        let signer = Signer::from_pem(key.serialize_pem().as_bytes()).unwrap();
        let token = signer.sign(r#"{"sub":"ann"}"#).unwrap();
        assert!(verifier(keys).connection(&token).is_ok(), "{}", signer.algorithm());
    }
}

#[test]
fn an_rsa_key_may_stand_alone_and_is_long_enough() {
    let generate = |size| aws_lc_rs::signature::RsaKeyPair::generate(size).unwrap();
    let key = generate(aws_lc_rs::rsa::KeySize::Rsa2048);
    let public = aws_lc_rs::signature::KeyPair::public_key(&key);
    assert_eq!(of_pem(&pem("RSA PUBLIC KEY", public.as_ref())), Ok(1));
    // 1,024 bits, made by `openssl genrsa 1024`.
    assert_eq!(of_pem(include_str!("short_rsa.pem")), Err(KeyError::Kind));
    assert_eq!(of_jwks(r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#), Err(wrong(1, "n")));
}

fn wrong(number: usize, parameter: &'static str) -> KeyError {
    KeyError::Parameter { number, parameter }
}

#[test]
fn a_key_set_has_the_keys_that_can_verify_tokens() {
    let set = |keys: &str| of_jwks(&format!(r#"{{"keys":[{keys}],"further":[{{}}]}}"#));
    let rsa = RSA.in_set("");
    let other_kind = KeyError::KindInSet { number: 1 };
    for (keys, found) in [
        ("", Err(KeyError::NoUsableKey)),
        (&*rsa, Ok(1)),
        (&RSA.in_set(r#""use":"sig","alg":"RS256","kid":"a","x5c":["AA"],"#), Ok(1)),
        (&RSA.in_set(r#""use":"enc","#), Err(KeyError::NoUsableKey)),
        (&RSA.in_set(r#""alg":"RSA-OAEP","#), Err(KeyError::NoUsableKey)),
        (&RSA.in_set(r#""alg":"PS256","#), Err(KeyError::NoUsableKey)),
        (&RSA.in_set(r#""key_ops":["verify"],"#), Ok(1)),
        (&RSA.in_set(r#""key_ops":["sign","encrypt"],"#), Err(KeyError::NoUsableKey)),
        (&RSA.in_set(r#""key_ops":"verify","#), Err(KeyError::NoUsableKey)),
        (&[P256.in_set(""), P384.in_set(""), ED25519.in_set("")].join(","), Ok(3)),
        (r#"{"kty":"oct","k":"c2VjcmV0"}"#, Err(other_kind)),
        (r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#, Err(other_kind)),
        (r#"{"kty":"OKP","crv":"X25519","x":"AA"}"#, Err(other_kind)),
        (r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}"#, Err(KeyError::NoUsableKey)),
        ("{}", Err(wrong(1, "kty"))),
        (r#"{"kty":"RSA","e":"AQAB"}"#, Err(wrong(1, "n"))),
        (r#"{"kty":"RSA","n":"A+/=","e":"AQAB"}"#, Err(wrong(1, "n"))),
        (&rsa.replace("AQAB", ""), Err(wrong(1, "n"))),
        (&rsa.replace("AQAB", "AAAA"), Err(wrong(1, "n"))),
        (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, Err(wrong(1, "x"))),
        (r#"{"kty":"EC","crv":"P-256","x":"AA"}"#, Err(wrong(1, "y"))),
        (&P256.in_set("").replace("P-256", "P-384"), Err(wrong(1, "x"))),
        (r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#, Err(wrong(1, "x"))),
        (r#"{"kty":7}"#, Err(wrong(1, "kty"))),
        (&RSA.in_set(r#""kid":7,"#), Err(wrong(1, "kid"))),
        ("7", Err(other_kind)),
    ] {
        assert_eq!(set(keys), found, "{keys}");
    }
    for json in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[]"#, "\"keys\""] {
        assert_eq!(of_jwks(json), Err(KeyError::NoKeySet), "{json}");
    }
    assert!(KeySet::from_jwks(b"\xff").is_err());
}

#[test]
fn a_key_that_cannot_be_used_spoils_no_other_one() {
    let rsa = RSA.in_set(r#""kid":"a","#);
    let short = r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#;
    let other_kind = KeyError::KindInSet { number: 1 };
    for (other, first) in [
        (short, Some(wrong(1, "n"))),
        (r#"{"kty":"AKP"}"#, Some(other_kind)),
        (r#"{"kty":"RSA","kid":7}"#, Some(wrong(1, "kid"))),
        ("[]", Some(other_kind)),
        (r#"{"kty":"RSA","use":"enc"}"#, None),
    ] {
        let set = KeySet::from_jwks(format!(r#"{{"keys":[{other},{rsa}]}}"#).as_bytes()).unwrap();
        let passed_over = first.map(|first| PassedOver { count: 1, first });
        assert_eq!((set.len(), set.passed_over()), (1, passed_over), "{other}");
    }
    let set = KeySet::from_jwks(format!(r#"{{"keys":[{short},{rsa},{{}},7]}}"#).as_bytes()).unwrap();
    let text = set.passed_over().unwrap().to_string();
    assert!(text.ends_with("it is passed over, and so are 2 other keys"), "{text}");
}

/// A point that is not on its curve would let a signature be forged for it.
#[test]
fn a_point_must_be_on_its_curve() {
    let zeros = super::issuer::base64url(&[0; 32]);
    let json = format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{zeros}","y":"{zeros}"}}]}}"#);
    assert_eq!(of_jwks(&json), Err(wrong(1, "x")));
}

#[test]
fn a_set_is_bounded() {
    let keys = |count: usize| format!(r#"{{"keys":[{}]}}"#, vec![P256.in_set(""); count].join(","));
    assert_eq!(of_jwks(&keys(KEYS_MAX)), Ok(KEYS_MAX));
    assert_eq!(of_jwks(&keys(1000)), Err(KeyError::TooMany));
    let useless = vec![r#"{"kty":"oct","k":"AA"}"#; 1000].join(",");
    let set = KeySet::from_jwks(format!(r#"{{"keys":[{useless},{}]}}"#, P256.in_set("")).as_bytes()).unwrap();
    assert_eq!(set.len(), 1, "what is passed over costs nothing later");
    let first = KeyError::KindInSet { number: 1 };
    assert_eq!(set.passed_over(), Some(PassedOver { count: 1000, first }));
    assert_eq!(of_pem(&P256.public.repeat(KEYS_MAX)), Ok(KEYS_MAX));
    assert_eq!(of_pem(&P256.public.repeat(KEYS_MAX + 1)), Err(KeyError::TooMany));
    let mut secrets = KeySet::default();
    (0..KEYS_MAX).for_each(|_| secrets.add_secret(SECRET).unwrap());
    assert_eq!(secrets.add_secret(SECRET), Err(KeyError::TooMany));
    assert_eq!(KeySet::default().add_secret(b""), Err(KeyError::Empty));
    assert!(KeyError::TooMany.to_string().contains("100"));
    let shortest = keys(1);
    let padded = |bytes: usize| format!("{shortest}{}", " ".repeat(bytes - shortest.len()));
    assert_eq!(of_jwks(&padded(JWKS_BYTES_MAX)), Ok(1));
    assert_eq!(of_jwks(&padded(JWKS_BYTES_MAX + 1)), Err(KeyError::TooLarge));
}

#[test]
fn a_private_key_signs_in_every_form() {
    for (key, algorithm) in [(&RSA, "RS256"), (&P256, "ES256"), (&P384, "ES384"), (&ED25519, "EdDSA")] {
        assert_eq!(key.signer().algorithm().name(), algorithm);
    }
    assert_eq!(Signer::from_pem(sec1().as_bytes()).unwrap().algorithm(), Algorithm::EcdsaP256);
    assert_eq!(Signer::from_pem(RSA.public.as_bytes()).err(), Some(KeyError::NotPrivate));
    let damaged = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----";
    assert_eq!(Signer::from_pem(damaged.as_bytes()).err(), Some(KeyError::Kind));
    assert_eq!(Signer::with_secret(b"").err(), Some(KeyError::Empty));
}

#[test]
fn nothing_of_a_key_is_shown() {
    let mut keys = KeySet::default();
    keys.add_secret(SECRET).unwrap();
    keys.add_pem(RSA.public.as_bytes()).unwrap();
    assert_eq!(format!("{keys:?}"), "KeySet(1 secrets, 1 public keys)");
    assert_eq!(format!("{:?}", RSA.signer()), "Signer(RS256)");
}
