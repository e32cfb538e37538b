//! Subscriptions that the token of a connection brings along, and what tokens change about subscriptions.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::date::{ending, has_passed, numeric_date};
use super::error::TokenError;
use super::fields::{self, AnswerRules, Payload, Rules, put, wrong_type};
use crate::base::clock::UnixTime;
use crate::codec::json::shallow;

/// A subscription that the server makes for the client, because its token says so.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerSubscription {
    /// Its topic: a valid name.
    pub topic: Box<str>,
    /// What others are shown about the subscriber: JSON without line breaks.
    pub info: Option<Box<str>>,
    /// What the subscriber is told: JSON without line breaks.
    pub data: Option<Box<str>>,
    /// What is different from the namespace's options.
    pub overrides: Overrides,
}

/// On what terms a client is subscribed to a topic, as the application says it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SubscriptionTerms {
    /// What others are shown about the subscriber: JSON without line breaks.
    pub info: Option<Box<str>>,
    /// What the subscriber is told: JSON without line breaks.
    pub data: Option<Box<str>>,
    /// When the subscription expires. `None`: never.
    pub expires: Option<UnixTime>,
    /// What is different from the namespace's options.
    pub overrides: Overrides,
}

impl SubscriptionTerms {
    /// What a backend says about a subscription, from the JSON object in its answer: `info` or `b64info`, `expire_at` and
    /// `override`. What the subscriber is told is not among it. A member that is `null` is one that is not there.
    ///
    /// # Errors
    /// What is wrong with it. The error holds no value.
    pub fn answered(json: &str, rules: &AnswerRules) -> Result<Self, TokenError> {
        let rules = &rules.0;
        let (mut expire_at, mut overrides) = (None, None);
        let mut info = Payload::named("info", "b64info");
        rules.members("result", json, |name, value| match &*name {
            "info" => info.put_plain(value),
            "b64info" => info.put_base64(value),
            "expire_at" => put(&mut expire_at, "expire_at", numeric_date("expire_at", value)?),
            "override" => put(&mut overrides, "override", Overrides::parse("override", value, rules)?),
            _ => Ok(()),
        })?;
        let overrides = overrides.unwrap_or_default();
        Ok(Self { info: info.read(rules)?, data: None, expires: ending(expire_at), overrides })
    }

    /// Whether they say nothing.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// How much memory they use, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let texts = [&self.info, &self.data].map(|text| text.as_ref().map_or(0, |text| text.len()));
        size_of::<Self>() + texts.iter().sum::<usize>()
    }

    /// Whether the subscription would have expired already, by clocks that may differ by `leeway`.
    #[must_use]
    pub fn has_ended(&self, now: UnixTime, leeway: Duration) -> bool {
        has_passed(self.expires, now, leeway)
    }
}

impl fmt::Debug for SubscriptionTerms {
    /// Without what the application says about its users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionTerms")
            .field("has_info", &self.info.is_some())
            .field("has_data", &self.data.is_some())
            .field("expires", &self.expires)
            .field("overrides", &self.overrides)
            .finish()
    }
}

/// Options that a token gives to one subscription instead of its namespace's. `None` leaves an option as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Whether the subscriber is among those who are present.
    pub presence: Option<bool>,
    /// Whether others are told when the subscriber comes and goes.
    pub join_leave: Option<bool>,
    /// Whether the subscriber is told of others who come and go, even if it does not ask for it.
    pub force_push_join_leave: Option<bool>,
    /// Whether the subscriber is told its position, even if it does not ask for it.
    pub force_positioning: Option<bool>,
    /// Whether the subscription can be recovered, even if the subscriber does not ask for it.
    pub force_recovery: Option<bool>,
}

impl Overrides {
    /// Reads an object such as `{"presence":{"value":true}}`.
    pub(super) fn parse(claim: &'static str, json: &str, rules: &Rules) -> Result<Self, TokenError> {
        let mut overrides = Self::default();
        rules.members(claim, json, |name, value| {
            let slot = match &*name {
                "presence" => &mut overrides.presence,
                "join_leave" => &mut overrides.join_leave,
                "force_push_join_leave" => &mut overrides.force_push_join_leave,
                "force_positioning" => &mut overrides.force_positioning,
                "force_recovery" => &mut overrides.force_recovery,
                _ => return Ok(()),
            };
            put(slot, claim, override_value(claim, value, rules)?)
        })?;
        Ok(overrides)
    }
}

fn override_value(claim: &'static str, json: &str, rules: &Rules) -> Result<bool, TokenError> {
    let expected = "objects such as {\"value\":true}";
    let mut found = None;
    let read = shallow::members(json, |name, value| {
        if name != "value" {
            return Ok(());
        }
        put(&mut found, claim, shallow::truth(value).ok_or_else(|| wrong_type(claim, expected))?)
    });
    match (read, found) {
        (Err(shallow::ReadError::Member(error)), _) => Err(error),
        (Ok(()), Some(value)) => Ok(value),
        (Ok(()), None) if rules.is_lenient => Ok(false),
        _ => Err(wrong_type(claim, expected)),
    }
}

/// The subscriptions of the claims `channels` and `subs`, by topic. A topic that both name has what `subs` says.
pub(super) fn subscriptions(
    channels: Option<&str>,
    subs: Option<&str>,
    rules: &Rules,
) -> Result<Box<[ServerSubscription]>, TokenError> {
    let mut topics = Topics::new();
    if let Some(list) = channels {
        add_channels(list, rules, &mut topics)?;
    }
    if let Some(table) = subs {
        add_subs(table, rules, &mut topics)?;
    }
    let named = topics.into_iter();
    Ok(named.map(|(topic, options)| ServerSubscription { topic, ..options.unwrap_or_else(plain) }).collect())
}

/// Topics, with what `subs` says of them. `None` if only `channels` names one.
type Topics = BTreeMap<Box<str>, Option<ServerSubscription>>;

/// A subscription about which nothing is said, without its topic.
fn plain() -> ServerSubscription {
    ServerSubscription { topic: Box::default(), info: None, data: None, overrides: Overrides::default() }
}

fn add_channels(list: &str, rules: &Rules, topics: &mut Topics) -> Result<(), TokenError> {
    let claim = "channels";
    fields::items(claim, list, |item| {
        let topic = shallow::text(item).ok_or_else(|| wrong_type(claim, "a list of texts"))?;
        rules.topic(claim, &topic)?;
        topics.insert(topic.into(), None);
        if topics.len() > rules.topics_max { Err(rules.too_many(claim)) } else { Ok(()) }
    })
}

fn add_subs(table: &str, rules: &Rules, topics: &mut Topics) -> Result<(), TokenError> {
    let claim = "subs";
    rules.members(claim, table, |topic, options| {
        rules.topic(claim, &topic)?;
        let options = options_of(options, rules)?;
        if topics.insert(topic.into(), Some(options)).flatten().is_some() {
            return Err(TokenError::Twice(claim.into()));
        }
        if topics.len() > rules.topics_max { Err(rules.too_many(claim)) } else { Ok(()) }
    })
}

fn options_of(json: &str, rules: &Rules) -> Result<ServerSubscription, TokenError> {
    let mut info = Payload::named("subs.*.info", "subs.*.b64info");
    let mut data = Payload::named("subs.*.data", "subs.*.b64data");
    let mut overrides = None;
    rules.members("subs.*", json, |name, value| match &*name {
        "info" => info.put_plain(value),
        "b64info" => info.put_base64(value),
        "data" => data.put_plain(value),
        "b64data" => data.put_base64(value),
        "override" => {
            let claim = "subs.*.override";
            put(&mut overrides, claim, Overrides::parse(claim, value, rules)?)
        }
        _ => Ok(()),
    })?;
    let (info, data) = (info.read(rules)?, data.read(rules)?);
    Ok(ServerSubscription { info, data, overrides: overrides.unwrap_or_default(), ..plain() })
}

impl fmt::Debug for ServerSubscription {
    /// Without what the application says about its users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSubscription")
            .field("topic", &self.topic)
            .field("has_info", &self.info.is_some())
            .field("has_data", &self.data.is_some())
            .field("overrides", &self.overrides)
            .finish()
    }
}
