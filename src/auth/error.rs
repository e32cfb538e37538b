//! Why a token is not accepted.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::algorithm::Algorithm;
use crate::domain::topic::TopicError;

/// One of the three parts of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The header, which names the algorithm.
    Header,
    /// The claims.
    Claims,
    /// The signature.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Claims => "claims",
            Self::Signature => "signature",
        })
    }
}

/// Why a token is not accepted, and what would be right. It holds nothing of the token but the names of claims that the
/// engine knows: no value of a claim, and nothing of the signature.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It has no three parts.
    #[error("it is no JSON Web Token: expected header, claims and signature, divided by `.`")]
    NotThreeParts,
    /// A part is not base64.
    #[error("its {0} is not in base64url without padding (RFC 7515, section 2)")]
    Encoding(Part),
    /// A part is not JSON.
    #[error("its {0} is not a JSON object in UTF-8")]
    NotJson(Part),
    /// The header has no `alg`, or not as text.
    #[error("its header does not name an algorithm: expected text in `alg` (RFC 7515, section 4.1.1)")]
    NoAlgorithm,
    /// The header's `alg` is none that is accepted: `none`, for example.
    #[error(
        "its algorithm is not accepted: expected `alg` to be HS256, HS384, HS512, RS256, RS384, RS512, ES256, ES384 \
             or EdDSA"
    )]
    UnknownAlgorithm,
    /// The header demands an extension.
    #[error(
        "its header has `crit`, which demands extensions that are not known here (RFC 7515, section 4.1.11)"
    )]
    Critical,
    /// The header's `kid` is no text.
    #[error("the `kid` of its header is not text")]
    KeyId,
    /// There is no key of the algorithm's kind.
    #[error("it is signed with {0}, and there is no key for that: see `hmac_keys`, `public_keys` and `jwks`")]
    NoKey(Algorithm),
    /// It names a key (`kid`) that is not in the key set, and no other key signed it.
    #[error("it names a key (`kid`) that is not in the key set, and no other key signed it with {0}")]
    UnknownKey(Algorithm),
    /// The key set may have its key, and has not been fetched yet.
    #[error("the key set has not been fetched yet (jwks.url), and no other key signed it")]
    KeySetAwaited,
    /// No key signed it.
    #[error(
        "its signature is of none of the keys for {0}: it was signed with another key, or changed afterwards"
    )]
    Signature(Algorithm),

    /// A claim is missing.
    #[error("the claim `{0}` is missing")]
    Missing(ClaimName),
    /// A claim has the wrong type.
    #[error("the claim `{claim}` has the wrong type: expected {expected}")]
    WrongType {
        /// Which claim.
        claim: ClaimName,
        /// The type that it must have.
        expected: &'static str,
    },
    /// A claim is there twice.
    #[error("the claim `{0}` is there twice")]
    Twice(ClaimName),
    /// A time is too far away.
    #[error(
        "the time in the claim `{0}` is beyond the year 9999: expected seconds since 1970, not milliseconds"
    )]
    TimeOutOfRange(ClaimName),
    /// A value is too long.
    #[error("the claim `{claim}` has {bytes} bytes: at most {most} are allowed ({limit})")]
    TooLong {
        /// Which claim.
        claim: ClaimName,
        /// Its length.
        bytes: usize,
        /// The greatest length.
        most: usize,
        /// The key of the configuration that says so.
        limit: &'static str,
    },
    /// A list or an object has too many members.
    #[error("the claim `{claim}` has more than {most} members ({limit})")]
    TooMany {
        /// Which claim.
        claim: ClaimName,
        /// The greatest number.
        most: usize,
        /// What says so.
        limit: &'static str,
    },
    /// JSON for the application is nested too deeply.
    #[error("the claim `{claim}` is nested deeper than {most} levels (limits.json_depth)")]
    TooDeep {
        /// Which claim.
        claim: ClaimName,
        /// The greatest number of levels.
        most: usize,
    },
    /// A claim whose name begins with `b64` is not base64.
    #[error("the claim `{0}` is not in base64 (RFC 4648, section 4)")]
    NotBase64(ClaimName),
    /// A claim whose name begins with `b64` does not hold JSON.
    #[error("the claim `{0}` does not hold JSON, so JSON clients could not be shown it")]
    HoldsNoJson(ClaimName),
    /// Two claims say the same.
    #[error("the claims `{0}` and `{1}` exclude each other: leave one out")]
    Both(&'static str, &'static str),
    /// A topic's name is not valid.
    #[error("the claim `{claim}` names a topic that there cannot be: {error}")]
    Topic {
        /// Which claim.
        claim: ClaimName,
        /// What is wrong with the name.
        error: TopicError,
    },
    /// The pattern of a capability is not valid.
    #[error("the claim `caps` has a pattern that cannot be used: {0}")]
    Pattern(PatternError),
    /// A capability allows something that there is not.
    #[error("the claim `caps` allows something unknown: expected `sub`, `pub`, `hst` or `prs`")]
    UnknownAction,
    /// A capability's patterns are of an unknown kind.
    #[error(
        "the `match` of a member of the claim `caps` is unknown: expected `wildcard`, `regex`, or nothing"
    )]
    UnknownMatch,
    /// The issuer is another one.
    #[error("the claim `iss` is not the issuer that is expected (tokens.issuer)")]
    Issuer,
    /// The token is for somebody else.
    #[error("the claim `aud` does not name this audience (tokens.audience)")]
    Audience,
    /// It is the token of a subscription, shown to connect.
    #[error("it has the claim `channel`: it is the token of a subscription, and not of a connection")]
    OfSubscription,

    /// It was valid.
    #[error("it expired {seconds} s ago (`exp`)")]
    Expired {
        /// How long ago.
        seconds: u64,
    },
    /// It will be valid.
    #[error("it is not valid for another {seconds} s (`nbf`)")]
    NotYetValid {
        /// How long it will take.
        seconds: u64,
    },
}

/// Why a pattern of the claim `caps` cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// An expression is too long.
    #[error("an expression has more than {most} bytes")]
    TooLong {
        /// The greatest length.
        most: usize,
    },
    /// There are too many expressions.
    #[error("it has more than {most} expressions")]
    TooMany {
        /// The greatest number.
        most: usize,
    },
    /// It is no regular expression, or one that needs too much memory.
    #[error(
        "an expression is no regular expression, or takes more than {most} bytes when it is compiled (references back and \
         looking around are not supported)"
    )]
    Expression {
        /// The greatest size.
        most: usize,
    },
}

/// The name of a claim. It is a known one, or that of `tokens.user_id_claim`.
pub type ClaimName = Cow<'static, str>;

impl TokenError {
    /// Whether only the time is wrong: a new token of the same user may be accepted.
    #[must_use]
    pub const fn is_about_time(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::NotYetValid { .. })
    }
}
