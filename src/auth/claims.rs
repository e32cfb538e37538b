//! What a token says about a connection or a subscription. Claims that are not known here are passed over (RFC 7519,
//! section 4); known ones must have their types, and be there once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::capability::{Capability, capabilities};
use super::date::{Validity, ending, has_passed, numeric_date};
use super::error::{ClaimName, Part, TokenError};
use super::fields::{AnswerRules, Payload, Rules, missing, put, text, within, wrong_type};
use super::subscriptions::{Overrides, ServerSubscription, SubscriptionTerms, subscriptions};
use crate::base::clock::UnixTime;
use crate::codec::json::shallow::{self, ReadError};

/// What the token of a connection says.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionClaims {
    /// The user. Empty: an anonymous one.
    pub user: Box<str>,
    /// What others are shown about the user: JSON without line breaks.
    pub info: Option<Box<str>>,
    /// What the application's backend is told about the user, and nobody else: JSON without line breaks.
    pub meta: Option<Box<str>>,
    /// When the connection expires. `None`: never.
    pub expires: Option<UnixTime>,
    /// Subscriptions that the server makes.
    pub subscriptions: Box<[ServerSubscription]>,
    /// What the client may do, whatever the namespaces say.
    pub caps: Arc<[Capability]>,
    validity: Validity,
}

/// What the token of a subscription says.
#[derive(Clone, PartialEq, Eq)]
pub struct SubscriptionClaims {
    /// The user that may subscribe. `None`: an anonymous one. The caller compares it with the connection's.
    pub user: Option<Box<str>>,
    /// The topic. The caller compares it with that of the command.
    pub topic: Box<str>,
    /// The id of the only client that may subscribe, if the token names one. The caller compares it.
    pub client: Option<Box<str>>,
    /// How the client is subscribed.
    pub terms: SubscriptionTerms,
    validity: Validity,
}

impl ConnectionClaims {
    /// Whether the token is valid at a time, by clocks that may differ by `leeway`.
    ///
    /// # Errors
    /// [`TokenError::Expired`] and [`TokenError::NotYetValid`].
    pub fn check_time(&self, now: UnixTime, leeway: Duration) -> Result<(), TokenError> {
        self.validity.check(now, leeway)
    }

    /// Whether the connection would have expired already, by clocks that may differ by `leeway`.
    #[must_use]
    pub fn has_ended(&self, now: UnixTime, leeway: Duration) -> bool {
        has_passed(self.expires, now, leeway)
    }

    pub(super) fn parse(json: &str, rules: &Rules) -> Result<Self, TokenError> {
        let (mut channels, mut subs, mut caps, mut meta) = (None, None, None, Payload::named("meta", ""));
        let common = Common::read(json, rules, |name, value| match name {
            "channels" => put(&mut channels, "channels", value),
            "subs" => put(&mut subs, "subs", value),
            "caps" => put(&mut caps, "caps", value),
            "meta" => meta.put_plain(value),
            "channel" => Err(TokenError::OfSubscription),
            _ => Ok(()),
        })?;
        common.check_parties(rules)?;
        Ok(Self {
            user: common.user(rules)?.unwrap_or_default(),
            info: common.info.read(rules)?,
            meta: meta.read(rules)?,
            expires: common.end(),
            subscriptions: subscriptions(channels, subs, rules)?,
            caps: caps.map_or(Ok(Arc::default()), |json| capabilities(json, rules))?,
            validity: common.validity,
        })
    }

    /// What a backend says about a connection, from the JSON object in its answer. Its members are those of a token, except
    /// that `user` is the user, and that `expire_at` alone says when the connection expires. A member that is `null` is one
    /// that is not there.
    ///
    /// # Errors
    /// What is wrong with it. The error holds no value.
    pub fn answered(json: &str, rules: &AnswerRules) -> Result<Self, TokenError> {
        let rules = &rules.0;
        let (mut user, mut expire_at, mut channels, mut subs, mut caps) = (None, None, None, None, None);
        let (mut info, mut meta) = (Payload::named("info", "b64info"), Payload::named("meta", ""));
        rules.members("result", json, |name, value| match &*name {
            "user" => put(&mut user, "user", value),
            "expire_at" => put(&mut expire_at, "expire_at", numeric_date("expire_at", value)?),
            "info" => info.put_plain(value),
            "b64info" => info.put_base64(value),
            "meta" => meta.put_plain(value),
            "channels" => put(&mut channels, "channels", value),
            "subs" => put(&mut subs, "subs", value),
            "caps" => put(&mut caps, "caps", value),
            _ => Ok(()),
        })?;
        Ok(Self {
            user: user.map(|json| user_id("user".into(), json, rules)).transpose()?.unwrap_or_default(),
            info: info.read(rules)?,
            meta: meta.read(rules)?,
            expires: ending(expire_at),
            subscriptions: subscriptions(channels, subs, rules)?,
            caps: caps.map_or(Ok(Arc::default()), |json| capabilities(json, rules))?,
            validity: Validity::default(),
        })
    }

    /// Claims that say nothing but when the connection expires.
    #[must_use]
    pub fn until(expires: UnixTime) -> Self {
        Self {
            user: Box::default(),
            info: None,
            meta: None,
            expires: Some(expires),
            subscriptions: Box::default(),
            caps: Arc::default(),
            validity: Validity::default(),
        }
    }

    /// How much memory they use, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let subscriptions = self.subscriptions.iter().map(|subscription| {
            let of = [len(subscription.info.as_deref()), len(subscription.data.as_deref())];
            size_of::<ServerSubscription>() + subscription.topic.len() + of.iter().sum::<usize>()
        });
        size_of::<Self>()
            + self.user.len()
            + len(self.info.as_deref())
            + len(self.meta.as_deref())
            + subscriptions.sum::<usize>()
            + self.caps.iter().map(Capability::bytes).sum::<usize>()
    }
}

impl SubscriptionClaims {
    /// Whether the token is valid at a time, by clocks that may differ by `leeway`.
    ///
    /// # Errors
    /// [`TokenError::Expired`] and [`TokenError::NotYetValid`].
    pub fn check_time(&self, now: UnixTime, leeway: Duration) -> Result<(), TokenError> {
        self.validity.check(now, leeway)
    }

    pub(super) fn parse(json: &str, rules: &Rules) -> Result<Self, TokenError> {
        let (mut topic, mut client, mut overrides) = (None, None, None);
        let mut data = Payload::named("data", "b64data");
        let common = Common::read(json, rules, |name, value| match name {
            "channel" => put(&mut topic, "channel", text("channel", value)?),
            "client" => put(&mut client, "client", text("client", value)?),
            "data" => data.put_plain(value),
            "b64data" => data.put_base64(value),
            "override" => put(&mut overrides, "override", Overrides::parse("override", value, rules)?),
            _ => Ok(()),
        })?;
        common.check_parties(rules)?;
        let topic = topic.ok_or_else(|| missing("channel"))?;
        rules.topic("channel", &topic)?;
        let client = client.filter(|client| !client.is_empty());
        if let Some(client) = &client {
            within("client", client.len(), CLIENT_BYTES_MAX, "no client's id is longer")?;
        }
        Ok(Self {
            user: common.user(rules)?.filter(|user| !user.is_empty()),
            topic: topic.into(),
            client: client.map(Into::into),
            terms: SubscriptionTerms {
                info: common.info.read(rules)?,
                data: data.read(rules)?,
                expires: common.end(),
                overrides: overrides.unwrap_or_default(),
            },
            validity: common.validity,
        })
    }

    /// How much memory they use, roughly.
    pub(super) fn bytes(&self) -> usize {
        let others = len(self.user.as_deref()) + len(self.client.as_deref());
        size_of::<Self>() + self.topic.len() + others + self.terms.bytes() - size_of::<SubscriptionTerms>()
    }
}

/// Bytes of a client's id, a UUID, at most.
const CLIENT_BYTES_MAX: usize = 36;

fn len(text: Option<&str>) -> usize {
    text.map_or(0, str::len)
}

/// The claims that tokens of both kinds have, still as JSON where they are rarely read.
struct Common<'a> {
    user: Option<&'a str>,
    issuer: Option<&'a str>,
    audience: Option<&'a str>,
    info: Payload<'a>,
    validity: Validity,
    /// `expire_at`: when what the token is for expires, if that is another time than the token's own.
    expire_at: Option<UnixTime>,
}

impl<'a> Common<'a> {
    /// Reads them, and hands all others to `others`.
    fn read(
        json: &'a str,
        rules: &Rules,
        mut others: impl FnMut(&str, &'a str) -> Result<(), TokenError>,
    ) -> Result<Self, TokenError> {
        let mut common = Self {
            user: None,
            issuer: None,
            audience: None,
            info: Payload::named("info", "b64info"),
            validity: Validity::default(),
            expire_at: None,
        };
        let mut issued_at = None;
        let read = shallow::members(json, |name, value| match &*name {
            name if name == rules.user_claim => put(&mut common.user, rules.user_claim.clone(), value),
            "iss" => put(&mut common.issuer, "iss", value),
            "aud" => put(&mut common.audience, "aud", value),
            "exp" => put(&mut common.validity.expires, "exp", numeric_date("exp", value)?),
            "nbf" => put(&mut common.validity.not_before, "nbf", numeric_date("nbf", value)?),
            "iat" => put(&mut issued_at, "iat", numeric_date("iat", value)?),
            "expire_at" => put(&mut common.expire_at, "expire_at", numeric_date("expire_at", value)?),
            "info" => common.info.put_plain(value),
            "b64info" => common.info.put_base64(value),
            name => others(name, value),
        });
        match read {
            Ok(()) => Ok(common),
            Err(ReadError::Type) => Err(TokenError::NotJson(Part::Claims)),
            Err(ReadError::Member(error)) => Err(error),
        }
    }

    /// Whether the token is from whom, and for whom, it must be.
    fn check_parties(&self, rules: &Rules) -> Result<(), TokenError> {
        let issuer = self.issuer.map(|json| text("iss", json)).transpose()?;
        if !rules.issuer.is_empty() && issuer.as_deref() != Some(&*rules.issuer) {
            return Err(TokenError::Issuer);
        }
        let named = self.audience.map(|json| names_audience(json, &rules.audience)).transpose()?;
        if !rules.audience.is_empty() && named != Some(true) {
            return Err(TokenError::Audience);
        }
        Ok(())
    }

    fn user(&self, rules: &Rules) -> Result<Option<Box<str>>, TokenError> {
        self.user.map(|json| user_id(rules.user_claim.clone(), json, rules)).transpose()
    }

    /// When what the token is for ends. An `expire_at` of 0 means never.
    fn end(&self) -> Option<UnixTime> {
        match self.expire_at {
            Some(at) => ending(Some(at)),
            None => self.validity.expires,
        }
    }
}

/// The name of a user, in the claim of that name.
fn user_id(claim: ClaimName, json: &str, rules: &Rules) -> Result<Box<str>, TokenError> {
    let user = shallow::text(json).ok_or_else(|| wrong_type(claim.clone(), "text"))?;
    within(claim, user.len(), rules.user_max, "limits.user_max")?;
    Ok(user.into())
}

/// Whether `aud`, a text or a list of texts, names an audience.
fn names_audience(json: &str, audience: &str) -> Result<bool, TokenError> {
    if let Some(text) = shallow::text(json) {
        return Ok(text == audience);
    }
    let mut is_named = false;
    let expected = "text, or a list of texts";
    let read = shallow::items(json, |item| {
        is_named |= shallow::text(item).ok_or_else(|| wrong_type("aud", expected))? == audience;
        Ok(())
    });
    match read {
        Ok(()) => Ok(is_named),
        Err(ReadError::Type) => Err(wrong_type("aud", expected)),
        Err(ReadError::Member(error)) => Err(error),
    }
}

impl fmt::Debug for ConnectionClaims {
    /// Without what the application says about its users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionClaims")
            .field("is_anonymous", &self.user.is_empty())
            .field("has_info", &self.info.is_some())
            .field("has_meta", &self.meta.is_some())
            .field("expires", &self.expires)
            .field("subscriptions", &self.subscriptions)
            .field("caps", &self.caps)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SubscriptionClaims {
    /// Without what the application says about its users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionClaims")
            .field("is_anonymous", &self.user.is_none())
            .field("topic", &self.topic)
            .field("is_for_one_client", &self.client.is_some())
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
