//! Keys in a JSON Web Key Set (RFC 7517; the parameters of each kind are in RFC 7518, section 6, and RFC 8037).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::Algorithm;
use super::key_error::{JWKS_BYTES_MAX, KEYS_MAX, KeyError, PassedOver};
use super::public_key::{NamedKey, PublicKey};
use crate::codec::json::shallow::{self, ReadError};

/// The keys of a set that can verify tokens, and what to tell about others.
#[derive(Default)]
pub(super) struct Found {
    pub(super) keys: Vec<NamedKey>,
    pub(super) passed_over: Option<PassedOver>,
}

/// Reads a set. A key that cannot be used spoils no other one: an issuer may add keys of a kind that is not known here. A
/// set without a key that can be used is none.
pub(super) fn read(json: &[u8]) -> Result<Found, KeyError> {
    if json.len() > JWKS_BYTES_MAX {
        return Err(KeyError::TooLarge);
    }
    let text = std::str::from_utf8(json).map_err(|_| KeyError::NoKeySet)?;
    let mut list = None;
    no_key_set(shallow::members(text, |name, value| {
        if name == "keys" && list.replace(value).is_some() {
            return Err(KeyError::NoKeySet);
        }
        Ok(())
    }))?;
    let mut found = Found::default();
    let mut number = 0;
    no_key_set(shallow::items(list.ok_or(KeyError::NoKeySet)?, |item| {
        number += 1;
        found.add(Jwk::parse(item, number).and_then(|jwk| jwk.key(number)))
    }))?;
    if found.keys.is_empty() {
        return Err(found.passed_over.map_or(KeyError::NoUsableKey, |passed_over| passed_over.first));
    }
    Ok(found)
}

impl Found {
    /// Adds the next key of the set. `None`: it is not meant for signatures.
    fn add(&mut self, key: Result<Option<NamedKey>, KeyError>) -> Result<(), KeyError> {
        match key {
            Ok(key) => self.keys.extend(key),
            Err(error) => self.passed_over.get_or_insert(PassedOver { count: 0, first: error }).count += 1,
        }
        if self.keys.len() > KEYS_MAX { Err(KeyError::TooMany) } else { Ok(()) }
    }
}

fn no_key_set(read: Result<(), ReadError<KeyError>>) -> Result<(), KeyError> {
    read.map_err(|error| match error {
        ReadError::Type => KeyError::NoKeySet,
        ReadError::Member(error) => error,
    })
}

/// A key of a set, with the parameters that matter. Each is text.
#[derive(Default)]
struct Jwk<'a> {
    kind: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    algorithm: Option<Cow<'a, str>>,
    purpose: Option<Cow<'a, str>>,
    operations: Option<&'a str>,
    curve: Option<Cow<'a, str>>,
    n: Option<Cow<'a, str>>,
    e: Option<Cow<'a, str>>,
    x: Option<Cow<'a, str>>,
    y: Option<Cow<'a, str>>,
}

impl<'a> Jwk<'a> {
    fn parse(json: &'a str, number: usize) -> Result<Self, KeyError> {
        let mut jwk = Self::default();
        let read = shallow::members(json, |name, value| {
            let (parameter, slot) = match &*name {
                "kty" => ("kty", &mut jwk.kind),
                "kid" => ("kid", &mut jwk.id),
                "alg" => ("alg", &mut jwk.algorithm),
                "use" => ("use", &mut jwk.purpose),
                "crv" => ("crv", &mut jwk.curve),
                "n" => ("n", &mut jwk.n),
                "e" => ("e", &mut jwk.e),
                "x" => ("x", &mut jwk.x),
                "y" => ("y", &mut jwk.y),
                "key_ops" => {
                    jwk.operations = Some(value);
                    return Ok(());
                }
                _ => return Ok(()),
            };
            *slot = Some(shallow::text(value).ok_or(KeyError::Parameter { number, parameter })?);
            Ok(())
        });
        read.map(|()| jwk).map_err(|error| match error {
            ReadError::Type => KeyError::KindInSet { number },
            ReadError::Member(error) => error,
        })
    }

    /// The key, if it is meant for signatures.
    fn key(self, number: usize) -> Result<Option<NamedKey>, KeyError> {
        let only = self.algorithm.as_deref().map(Algorithm::named);
        // Made for an algorithm that is not used here, such as one for encryption.
        if only == Some(None) || !self.is_for_signatures() {
            return Ok(None);
        }
        let key = self.public_key(number)?;
        Ok(Some(NamedKey { key, id: self.id.map(Into::into), only: only.flatten() }))
    }

    fn is_for_signatures(&self) -> bool {
        let verifies = |operations: &str| {
            let mut found = false;
            let read = shallow::items(operations, |item| {
                found |= shallow::text(item).as_deref() == Some("verify");
                Ok::<_, ()>(())
            });
            read.is_ok() && found
        };
        self.purpose.as_deref().is_none_or(|purpose| purpose == "sig") && self.operations.is_none_or(verifies)
    }

    fn public_key(&self, number: usize) -> Result<PublicKey, KeyError> {
        let wrong = |parameter| KeyError::Parameter { number, parameter };
        let bytes = |parameter, text: &Option<Cow<'_, str>>| {
            let decoded = text.as_deref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            decoded.ok_or_else(|| wrong(parameter))
        };
        let key = match (self.kind.as_deref(), self.curve.as_deref()) {
            (None, _) => return Err(wrong("kty")),
            (Some("RSA"), _) => {
                PublicKey::from_rsa(&bytes("n", &self.n)?, &bytes("e", &self.e)?).ok_or_else(|| wrong("n"))?
            }
            (Some("EC"), Some(curve @ ("P-256" | "P-384"))) => {
                let curve = if curve == "P-256" { Algorithm::EcdsaP256 } else { Algorithm::EcdsaP384 };
                let (x, y) = (bytes("x", &self.x)?, bytes("y", &self.y)?);
                PublicKey::from_point(curve, &x, &y).ok_or_else(|| wrong("x"))?
            }
            (Some("OKP"), Some("Ed25519")) => {
                PublicKey::from_ed25519(&bytes("x", &self.x)?).ok_or_else(|| wrong("x"))?
            }
            _ => return Err(KeyError::KindInSet { number }),
        };
        Ok(key)
    }
}
