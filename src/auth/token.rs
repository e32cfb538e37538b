//! Takes a token apart (JWS Compact Serialization; RFC 7515, section 7.1), as far as needed to verify its signature.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::Algorithm;
use super::error::{Part, TokenError};
use crate::codec::json::shallow;

/// A token that was taken apart. Nothing of it is to be believed yet.
pub(super) struct Token<'a> {
    /// What is signed: header and claims as they came.
    pub(super) message: &'a [u8],
    pub(super) header: Header,
    pub(super) signature: Vec<u8>,
    claims: &'a str,
}

/// What a header says, as far as it matters. Keys that it brings along or points to (`jwk`, `jku`, `x5c`, `x5u`) are
/// never used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    /// Names a key of a key set. It is compared, and nothing else.
    pub(super) key_id: Option<Box<str>>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenError> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::NotThreeParts)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::NotThreeParts)?;
        if claims.contains('.') {
            return Err(TokenError::NotThreeParts);
        }
        let header = Header::parse(&json_of(Part::Header, header)?)?;
        let signature = decoded(Part::Signature, signature)?;
        Ok(Self { message: message.as_bytes(), header, signature, claims })
    }

    /// The claims as text. Only for a token whose signature is right: parsing is not for strangers.
    pub(super) fn claims(&self) -> Result<String, TokenError> {
        json_of(Part::Claims, self.claims)
    }
}

impl Header {
    fn parse(text: &str) -> Result<Self, TokenError> {
        let (mut algorithm, mut key_id) = (None, None);
        let read = shallow::members(text, |name, value| {
            match &*name {
                "alg" if algorithm.is_some() => return Err(TokenError::Twice("alg".into())),
                "alg" => {
                    let name = shallow::text(value).ok_or(TokenError::NoAlgorithm)?;
                    algorithm = Some(Algorithm::named(&name).ok_or(TokenError::UnknownAlgorithm)?);
                }
                "kid" if key_id.is_some() => return Err(TokenError::Twice("kid".into())),
                "kid" => {
                    key_id = Some(shallow::text(value).map(Cow::into_owned).ok_or(TokenError::KeyId)?.into());
                }
                "crit" => return Err(TokenError::Critical),
                _ => {}
            }
            Ok(())
        });
        read.map_err(|error| match error {
            shallow::ReadError::Type => TokenError::NotJson(Part::Header),
            shallow::ReadError::Member(error) => error,
        })?;
        Ok(Self { algorithm: algorithm.ok_or(TokenError::NoAlgorithm)?, key_id })
    }
}

fn decoded(part: Part, text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Encoding(part))
}

fn json_of(part: Part, text: &str) -> Result<String, TokenError> {
    String::from_utf8(decoded(part, text)?).map_err(|_| TokenError::NotJson(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::algorithm::Hash;

    fn header(json: &str) -> Result<Header, TokenError> {
        Token::parse(&format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(json))).map(|token| token.header)
    }

    #[test]
    fn a_header_names_an_algorithm_and_perhaps_a_key() {
        let of = |algorithm, key_id: Option<&str>| Ok(Header { algorithm, key_id: key_id.map(Into::into) });
        for (json, read) in [
            (r#"{"alg":"HS256"}"#, of(Algorithm::Hmac(Hash::Sha256), None)),
            (
                r#"{"typ":"JWT","kid":"../../etc/passwd","alg":"ES384"}"#,
                of(Algorithm::EcdsaP384, Some("../../etc/passwd")),
            ),
            (
                r#"{"alg":"EdDSA","jku":"http://evil","jwk":{"kty":"oct","k":"AA"},"x5u":1}"#,
                of(Algorithm::Ed25519, None),
            ),
            ("{}", Err(TokenError::NoAlgorithm)),
            (r#"{"alg":256}"#, Err(TokenError::NoAlgorithm)),
            (r#"{"alg":null}"#, Err(TokenError::NoAlgorithm)),
            (r#"{"alg":"none"}"#, Err(TokenError::UnknownAlgorithm)),
            (r#"{"alg":"None"}"#, Err(TokenError::UnknownAlgorithm)),
            (r#"{"alg":""}"#, Err(TokenError::UnknownAlgorithm)),
            (r#"{"alg":"hs256"}"#, Err(TokenError::UnknownAlgorithm)),
            (r#"{"alg":"PS256"}"#, Err(TokenError::UnknownAlgorithm)),
            (r#"{"alg":"ES512"}"#, Err(TokenError::UnknownAlgorithm)),
            (r#"{"alg":"HS256","alg":"RS256"}"#, Err(TokenError::Twice("alg".into()))),
            (r#"{"alg":"HS256","kid":7}"#, Err(TokenError::KeyId)),
            (r#"{"alg":"HS256","kid":"a","kid":"b"}"#, Err(TokenError::Twice("kid".into()))),
            (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, Err(TokenError::Critical)),
            ("[]", Err(TokenError::NotJson(Part::Header))),
            (r#"{"alg":"HS256"} "x""#, Err(TokenError::NotJson(Part::Header))),
            ("", Err(TokenError::NotJson(Part::Header))),
        ] {
            assert_eq!(header(json), read, "{json}");
        }
    }

    #[test]
    fn a_token_has_three_parts_in_base64() {
        let plain = "eyJhbGciOiJIUzI1NiJ9.e30.AA";
        assert_eq!(Token::parse(plain).map(|token| token.signature), Ok(vec![0]));
        for (token, error) in [
            ("", TokenError::NotThreeParts),
            ("eyJhbGciOiJIUzI1NiJ9", TokenError::NotThreeParts),
            ("eyJhbGciOiJIUzI1NiJ9.e30", TokenError::NotThreeParts),
            ("eyJhbGciOiJIUzI1NiJ9.e30.AA.AA.AA", TokenError::NotThreeParts),
            ("eyJhbGciOiJIUzI1NiJ9.e30.AA.", TokenError::NotThreeParts),
            ("eyJhbGciOiJIUzI1NiJ9=.e30.AA", TokenError::Encoding(Part::Header)),
            ("eyJhbGciOiJIUzI1NiJ9.e30.AA==", TokenError::Encoding(Part::Signature)),
            ("eyJhbGciOiJIUzI1NiJ9.e30.A+A/", TokenError::Encoding(Part::Signature)),
            ("eyJhbGciOiJIUzI1NiJ9.e30.AB", TokenError::Encoding(Part::Signature)),
            (" eyJhbGciOiJIUzI1NiJ9.e30.AA", TokenError::Encoding(Part::Header)),
            ("..", TokenError::NotJson(Part::Header)),
            ("_w.e30.AA", TokenError::NotJson(Part::Header)),
        ] {
            assert_eq!(Token::parse(token).err(), Some(error), "{token}");
        }
        let token = Token::parse("eyJhbGciOiJIUzI1NiJ9.*.AA").unwrap();
        assert_eq!(token.claims(), Err(TokenError::Encoding(Part::Claims)));
    }
}
