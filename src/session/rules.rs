//! The values that a session's decisions depend on besides its own state, and the checks of what topics permit.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{
    Action, ConnectionClaims, Granted, Subject, SubscriptionClaims, TokenError, depends_on_subscription,
    grant,
};
use crate::codec::command::Method;
use crate::config::{Hooks, Limits, Namespace, Rpc, Timeouts};
use crate::domain::asked::Asked;
use crate::domain::mail::TopicSlot;
use crate::domain::namespaces::{Namespaces, TopicRules};
use crate::domain::reasons::ErrorCode;
use crate::domain::topic;
use crate::session::expiry::{Now, Renewal};

/// Bytes of an epoch, at most. Ours have 16, those of other engines seldom more.
const EPOCH_BYTES: usize = 128;

/// What holds for all clients.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The limits of a client.
    pub limits: &'a Limits,
    /// The time-outs of a client.
    pub timeouts: &'a Timeouts,
    /// What topics permit.
    pub namespaces: &'a Namespaces,
    /// Whether clients without a token may connect.
    pub anonymous: bool,
    /// By how much the clocks of those who make tokens may differ from this host's.
    pub leeway: Duration,
    /// Which backends are asked about connections.
    pub hooks: &'a Hooks,
    /// Which backends answer clients' requests.
    pub rpc: &'a Rpc,
    /// Whether any backend is told what is for backends alone.
    pub keeps_meta: bool,
}

/// What only the shard knows about a client whose command is handled.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The present.
    pub now: Now,
    /// What the command's token says.
    pub token: Verdict,
    /// The client's id, if the token of a subscription names a client.
    pub client: Option<Box<str>>,
    /// The topic of the command, if the client is subscribed to it and that matters ([`Rules::subscription_asked`]).
    pub subscribed: Option<TopicSlot>,
    /// To how many topics the client is subscribed.
    pub subscriptions: usize,
    /// Whether the client may ask one more question whose answer can be large.
    pub may_ask: bool,
    /// For a command that becomes a request to the broker, and for a connect that brings subscriptions: whether one
    /// more request finds room.
    pub has_room: bool,
    /// Whether the client's transport pings it, so that the protocol's own pings are not needed.
    pub has_pings: bool,
}

impl Facts {
    /// Whether the command has a token for the connection, valid or not.
    pub(super) fn has_own_token(&self) -> bool {
        matches!(self.token, Verdict::Connection(_))
    }
}

/// What the verification of a command's token has found.
#[derive(Clone, Debug, Default)]
pub enum Verdict {
    /// The command has no token.
    #[default]
    None,
    /// It was taken for the token of a connection.
    Connection(Result<Arc<ConnectionClaims>, TokenError>),
    /// It was taken for the token of a subscription.
    Subscription(Result<Arc<SubscriptionClaims>, TokenError>),
    /// The key that may have signed it is being fetched: nobody can tell yet.
    Undecided,
}

impl<'a> Rules<'a> {
    /// The topic of a command that needs to know whether the client is subscribed to it. Most publishes do not, and so
    /// cost no search for the subscription.
    pub fn subscription_asked<'m>(self, method: &'m Method<'_>) -> Option<&'m str> {
        let asks = |topic: &'m str, action| {
            let rules = self.namespaces.rules(topic);
            rules.is_some_and(|rules| depends_on_subscription(&rules, action)).then_some(topic)
        };
        match method {
            Method::Subscribe(subscribe) => Some(&subscribe.topic),
            Method::Unsubscribe { topic } | Method::RefreshSubscription { topic, .. } => Some(topic),
            Method::Publish { topic, .. } => asks(topic, Action::Publish),
            Method::Ask { topic, asked: Asked::History(_) } => asks(topic, Action::History),
            Method::Connect(_)
            | Method::Refresh { .. }
            | Method::Rpc { .. }
            | Method::Pong
            | Method::Send { .. }
            | Method::Unavailable
            | Method::Unknown => None,
        }
    }

    /// Who prolongs what expires: the backend that a hook names, if it names one, or else the client, if it `can`.
    pub(super) fn renewal(self, hook: &str, can: bool) -> Renewal {
        match (hook.is_empty(), can) {
            (false, _) => Renewal::Backend,
            (true, true) => Renewal::Client,
            (true, false) => Renewal::Nobody,
        }
    }

    /// The options of a topic's namespace.
    pub(super) fn namespace(self, topic: &str) -> &'a Namespace {
        self.namespaces.options(self.namespaces.of(topic))
    }

    /// Whether a topic may have this name.
    pub(super) fn check_topic(self, name: &str) -> Result<(), ErrorCode> {
        self.topic(name).map(drop)
    }

    /// What holds for a topic, if a topic may have this name.
    fn topic<'t>(self, name: &'t str) -> Result<TopicRules<'t>, ErrorCode>
    where
        'a: 't,
    {
        topic::check(name, self.limits.topic_bytes).map_err(|_| ErrorCode::BadRequest)?;
        self.namespaces.rules(name).ok_or(ErrorCode::UnknownChannel)
    }

    /// Whether the client may subscribe to the topic.
    pub(super) fn check_access(self, topic: &str, subject: &Subject<'_>) -> Result<Granted, ErrorCode> {
        grant(topic, &self.topic(topic)?, subject, Action::Subscribe)
    }

    /// Whether the server may subscribe a client to the topic. Nobody's permission is needed for that.
    pub(super) fn check_server_side(self, topic: &str) -> Result<(), ErrorCode> {
        if self.topic(topic)?.fits_pattern() { Ok(()) } else { Err(ErrorCode::BadRequest) }
    }

    /// Whether the client may publish this to the topic.
    pub(super) fn check_publish<'d>(
        self,
        topic: &str,
        data: Option<&'d [u8]>,
        subject: &Subject<'_>,
    ) -> Result<(Granted, &'d [u8]), ErrorCode> {
        let rules = self.topic(topic)?;
        let granted = grant(topic, &rules, subject, Action::Publish)?;
        let data = data.ok_or(ErrorCode::BadRequest)?;
        let own_limit = Some(rules.options.publication_bytes).filter(|&limit| limit > 0);
        if data.len() > own_limit.unwrap_or(self.limits.publication_bytes) {
            return Err(ErrorCode::LimitExceeded);
        }
        Ok((granted, data))
    }

    /// Whether the client may ask this about the topic.
    pub(super) fn check_asked(
        self,
        topic: &str,
        asked: &Asked,
        subject: &Subject<'_>,
    ) -> Result<(), ErrorCode> {
        let rules = self.topic(topic)?;
        let Asked::History(range) = asked;
        if !rules.options.has_history() {
            return Err(ErrorCode::NotAvailable);
        }
        grant(topic, &rules, subject, Action::History)?;
        check_epoch(range.since.as_ref().map(|since| &*since.epoch))
    }
}

/// Refuses an epoch of more than [`EPOCH_BYTES`]. Questions in the broker's mailbox are bounded in number only, so each
/// must be small.
pub(super) fn check_epoch(epoch: Option<&str>) -> Result<(), ErrorCode> {
    if epoch.is_none_or(|epoch| epoch.len() <= EPOCH_BYTES) { Ok(()) } else { Err(ErrorCode::BadRequest) }
}
