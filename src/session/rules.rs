//! The values that a session's decisions depend on besides its own state, and the checks of what topics permit.

use crate::config::{Limits, Namespace, Timeouts};
use crate::domain::asked::{Asked, HistoryRange};
use crate::domain::mail::TopicSlot;
use crate::domain::namespaces::Namespaces;
use crate::domain::reasons::ErrorCode;
use crate::domain::topic;

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
}

/// What only the shard knows about a client whose command is handled.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The topic of a subscribe or an unsubscribe, if the client is subscribed to it.
    pub subscribed: Option<TopicSlot>,
    /// To how many topics the client is subscribed.
    pub subscriptions: usize,
    /// Whether the client may ask one more question whose answer can be large.
    pub may_ask: bool,
    /// For a command that becomes a request to the broker: whether one more finds room.
    pub has_room: bool,
    /// Whether the client's transport pings it, so that the protocol's own pings are not needed.
    pub has_pings: bool,
}

impl<'a> Rules<'a> {
    /// The options of a topic's namespace.
    pub(super) fn namespace(self, topic: &str) -> &'a Namespace {
        self.namespaces.options(self.namespaces.of(topic))
    }

    /// Whether a topic may have this name.
    pub(super) fn check_topic(self, name: &str) -> Result<(), ErrorCode> {
        topic::check(name, self.limits.topic_bytes).map_err(|_| ErrorCode::BadRequest)?;
        if self.namespaces.is_known(name) { Ok(()) } else { Err(ErrorCode::UnknownChannel) }
    }

    /// Whether clients may publish this to the topic.
    pub(super) fn check_publish<'d>(
        self,
        topic: &str,
        data: Option<&'d [u8]>,
    ) -> Result<&'d [u8], ErrorCode> {
        self.check_topic(topic)?;
        let namespace = self.namespace(topic);
        if !namespace.client_publish {
            return Err(ErrorCode::PermissionDenied);
        }
        let data = data.ok_or(ErrorCode::BadRequest)?;
        let own_limit = Some(namespace.publication_bytes).filter(|&limit| limit > 0);
        if data.len() > own_limit.unwrap_or(self.limits.publication_bytes) {
            return Err(ErrorCode::LimitExceeded);
        }
        Ok(data)
    }

    /// Whether clients may ask this about the topic.
    pub(super) fn check_asked(self, topic: &str, asked: &Asked) -> Result<(), ErrorCode> {
        self.check_topic(topic)?;
        match asked {
            Asked::History(range) => self.check_history(topic, range),
        }
    }

    fn check_history(self, topic: &str, range: &HistoryRange) -> Result<(), ErrorCode> {
        let namespace = self.namespace(topic);
        match namespace.has_history() {
            true if namespace.client_history => {}
            true => return Err(ErrorCode::PermissionDenied),
            false => return Err(ErrorCode::NotAvailable),
        }
        check_epoch(range.since.as_ref().map(|since| &*since.epoch))
    }
}

/// Refuses an epoch of more than [`EPOCH_BYTES`]. Questions in the broker's mailbox are bounded in number only, so each
/// must be small.
pub(super) fn check_epoch(epoch: Option<&str>) -> Result<(), ErrorCode> {
    if epoch.is_none_or(|epoch| epoch.len() <= EPOCH_BYTES) { Ok(()) } else { Err(ErrorCode::BadRequest) }
}
