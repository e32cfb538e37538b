//! Keys in a JSON Web Key Set (RFC 7517; the parameters of each kind are in RFC 7518, section 6, and RFC 8037).

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::Algorithm;
use super::json::{self, ReadError};
use super::key_error::{JWKS_BYTES_MAX, KEYS_MAX, KeyError};
use super::public_key::{NamedKey, PublicKey};

/// The keys of a set that can verify tokens.
pub(super) fn keys(json: &[u8]) -> Result<Vec<NamedKey>, KeyError> {
    if json.len() > JWKS_BYTES_MAX {
        return Err(KeyError::TooLarge);
    }
    let text = std::str::from_utf8(json).map_err(|_| KeyError::NoKeySet)?;
    let mut list = None;
    no_key_set(json::members(text, |name, value| {
        if name == "keys" && list.replace(value).is_some() {
            return Err(KeyError::NoKeySet);
        }
        Ok(())
    }))?;
    let mut keys = Vec::new();
    let mut number = 0;
    no_key_set(json::items(list.ok_or(KeyError::NoKeySet)?, |item| {
        number += 1;
        if let Some(key) = Jwk::parse(item)?.key(number)? {
            keys.push(key);
        }
        if keys.len() > KEYS_MAX { Err(KeyError::TooMany) } else { Ok(()) }
    }))?;
    Ok(keys)
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
    fn parse(json: &'a str) -> Result<Self, KeyError> {
        let mut jwk = Self::default();
        no_key_set(json::members(json, |name, value| {
            let slot = match &*name {
                "kty" => &mut jwk.kind,
                "kid" => &mut jwk.id,
                "alg" => &mut jwk.algorithm,
                "use" => &mut jwk.purpose,
                "crv" => &mut jwk.curve,
                "n" => &mut jwk.n,
                "e" => &mut jwk.e,
                "x" => &mut jwk.x,
                "y" => &mut jwk.y,
                "key_ops" => {
                    jwk.operations = Some(value);
                    return Ok(());
                }
                _ => return Ok(()),
            };
            *slot = Some(json::text(value).ok_or(KeyError::NoKeySet)?);
            Ok(())
        }))?;
        Ok(jwk)
    }

    /// The key, if it can verify tokens.
    fn key(self, number: usize) -> Result<Option<NamedKey>, KeyError> {
        let only = self.algorithm.as_deref().map(Algorithm::named);
        // Made for an algorithm that is not used here, such as one for encryption.
        if only == Some(None) || !self.is_for_signatures() {
            return Ok(None);
        }
        let Some(key) = self.public_key(number)? else { return Ok(None) };
        Ok(Some(NamedKey { key, id: self.id.map(Into::into), only: only.flatten() }))
    }

    fn is_for_signatures(&self) -> bool {
        let verifies = |operations: &str| {
            let mut found = false;
            let read = json::items(operations, |item| {
                found |= json::text(item).as_deref() == Some("verify");
                Ok::<_, ()>(())
            });
            read.is_ok() && found
        };
        self.purpose.as_deref().is_none_or(|purpose| purpose == "sig") && self.operations.is_none_or(verifies)
    }

    fn public_key(&self, number: usize) -> Result<Option<PublicKey>, KeyError> {
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
            _ => return Ok(None),
        };
        Ok(Some(key))
    }
}
