//! Claims of one type each, within their limits.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::error::{ClaimName, TokenError};
use crate::codec::json::checker::too_deep;
use crate::codec::json::shallow::{self, ReadError};
use crate::config::Config;

/// Encoders differ in whether they pad; what is meant is the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What claims must be, by the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// `tokens.issuer`. Empty: it is not checked.
    pub(super) issuer: String,
    /// `tokens.audience`. Empty: it is not checked.
    pub(super) audience: String,
    /// `tokens.user_id_claim`.
    pub(super) user_claim: ClaimName,
    /// Bytes of a user's name.
    pub(super) user_max: usize,
    /// Bytes of JSON for the application.
    pub(super) info_bytes: usize,
    /// Its levels of nesting.
    pub(super) json_depth: usize,
    /// Bytes of a topic's name.
    pub(super) topic_bytes: usize,
    /// Members of each list of topics, and of `caps`.
    pub(super) topics_max: usize,
    /// Whether a member that is `null`, or empty base64, is one that is not there, and an override without a value is
    /// `false`. So backends write answers where a language knows no absent fields. Tokens are read strictly.
    pub(super) is_lenient: bool,
}

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        let (tokens, limits) = (&config.tokens, &config.limits);
        Self {
            issuer: tokens.issuer.clone(),
            audience: tokens.audience.clone(),
            user_claim: match &*tokens.user_id_claim {
                "sub" => Cow::Borrowed("sub"),
                claim => Cow::Owned(claim.to_owned()),
            },
            user_max: limits.user_max,
            info_bytes: limits.info_bytes,
            json_depth: limits.json_depth,
            topic_bytes: limits.topic_bytes,
            topics_max: limits.topics_per_client,
            is_lenient: false,
        }
    }

    /// The members of an object, as [`shallow::members`].
    pub(super) fn members<'a>(
        &self,
        claim: &'static str,
        json: &'a str,
        mut each: impl FnMut(Cow<'a, str>, &'a str) -> Result<(), TokenError>,
    ) -> Result<(), TokenError> {
        let is_absent =
            |name: &str, value: &str| value == "null" || (value == "\"\"" && name.starts_with("b64"));
        let read = shallow::members(json, |name, value| {
            if self.is_lenient && is_absent(&name, value) { Ok(()) } else { each(name, value) }
        });
        of_type(read, claim, "an object")
    }

    /// The error for more than `topics_max` members.
    pub(super) fn too_many(&self, claim: &'static str) -> TokenError {
        TokenError::TooMany { claim: claim.into(), most: self.topics_max, limit: "limits.topics_per_client" }
    }

    /// Whether a topic can have this name.
    pub(super) fn topic(&self, claim: &'static str, name: &str) -> Result<(), TokenError> {
        let checked = crate::domain::topic::check(name, self.topic_bytes);
        checked.map_err(|error| TokenError::Topic { claim: claim.into(), error })
    }
}

/// What answers of backends may say of clients, by the configuration: as much as tokens.
#[derive(Clone, Debug)]
pub struct AnswerRules(pub(super) Rules);

impl AnswerRules {
    /// By `limits`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self(Rules { is_lenient: true, ..Rules::new(config) })
    }
}

/// A claim that may be there once.
pub(super) fn put<T>(slot: &mut Option<T>, claim: impl Into<ClaimName>, value: T) -> Result<(), TokenError> {
    match slot.replace(value) {
        Some(_) => Err(TokenError::Twice(claim.into())),
        None => Ok(()),
    }
}

/// A text.
pub(super) fn text<'a>(claim: &'static str, json: &'a str) -> Result<Cow<'a, str>, TokenError> {
    shallow::text(json).ok_or_else(|| wrong_type(claim, "text"))
}

/// The items of a list, as [`shallow::items`].
pub(super) fn items<'a>(
    claim: &'static str,
    json: &'a str,
    each: impl FnMut(&'a str) -> Result<(), TokenError>,
) -> Result<(), TokenError> {
    of_type(shallow::items(json, each), claim, "a list")
}

fn of_type(
    read: Result<(), ReadError<TokenError>>,
    claim: &'static str,
    expected: &'static str,
) -> Result<(), TokenError> {
    read.map_err(|error| match error {
        ReadError::Type => wrong_type(claim, expected),
        ReadError::Member(error) => error,
    })
}

pub(super) fn missing(claim: &'static str) -> TokenError {
    TokenError::Missing(claim.into())
}

pub(super) fn wrong_type(claim: impl Into<ClaimName>, expected: &'static str) -> TokenError {
    TokenError::WrongType { claim: claim.into(), expected }
}

/// JSON for the application, which comes as it is or in base64.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payload<'a> {
    names: (&'static str, &'static str),
    plain: Option<&'a str>,
    base64: Option<&'a str>,
}

impl<'a> Payload<'a> {
    /// With the names of both claims.
    pub(super) const fn named(plain: &'static str, base64: &'static str) -> Self {
        Self { names: (plain, base64), plain: None, base64: None }
    }

    pub(super) fn put_plain(&mut self, json: &'a str) -> Result<(), TokenError> {
        put(&mut self.plain, self.names.0, json)
    }

    pub(super) fn put_base64(&mut self, json: &'a str) -> Result<(), TokenError> {
        put(&mut self.base64, self.names.1, json)
    }

    /// The JSON, without line breaks: these divide commands and replies. `null` is no JSON for the application.
    pub(super) fn read(self, rules: &Rules) -> Result<Option<Box<str>>, TokenError> {
        let (plain_name, base64_name) = self.names;
        let (claim, json) = match (self.plain, self.base64) {
            (Some(_), Some(_)) => return Err(TokenError::Both(plain_name, base64_name)),
            (Some(json), None) => (plain_name, Cow::Borrowed(json)),
            (None, Some(encoded)) => (base64_name, Cow::Owned(from_base64(base64_name, encoded)?)),
            (None, None) => return Ok(None),
        };
        if json == "null" {
            return Ok(None);
        }
        within(claim, json.len(), rules.info_bytes, "limits.info_bytes")?;
        if too_deep(json.as_bytes(), rules.json_depth) {
            return Err(TokenError::TooDeep { claim: claim.into(), most: rules.json_depth });
        }
        // Only white space between values can be a line break: in a text it must be escaped.
        Ok(Some(json.replace(['\n', '\r'], " ").into()))
    }
}

fn from_base64(claim: &'static str, json: &str) -> Result<String, TokenError> {
    let encoded = text(claim, json)?;
    let bytes = BASE64.decode(&*encoded).map_err(|_| TokenError::NotBase64(claim.into()))?;
    let text = String::from_utf8(bytes).ok().filter(|text| shallow::is_json(text));
    text.ok_or_else(|| TokenError::HoldsNoJson(claim.into()))
}

/// Whether a value is short enough.
pub(super) fn within(
    claim: impl Into<ClaimName>,
    bytes: usize,
    most: usize,
    limit: &'static str,
) -> Result<(), TokenError> {
    if bytes > most {
        return Err(TokenError::TooLong { claim: claim.into(), bytes, most, limit });
    }
    Ok(())
}
