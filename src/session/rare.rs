//! The state that most sessions have only at times, or never. It is boxed, so that an idle anonymous client costs one
//! pointer for all of it.

use std::sync::Arc;

use crate::auth::ConnectionClaims;
use crate::domain::call::Header;
use crate::session::Session;
use crate::session::connecting::Connecting;
use crate::session::expiry::End;
use crate::session::grants::Grants;
use crate::session::identity::Identity;
use crate::session::options::Wanted;
use crate::session::unanswered::Unanswered;

/// A session's rare state.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// The commands that have not been answered.
    pub(super) unanswered: Unanswered,
    /// What the token says that came with the HTTP request. It counts if the connect command has none.
    pub(super) offered: Option<Arc<ConnectionClaims>>,
    /// Who the client is, by its connection token or by the application's backend.
    pub(super) identity: Option<Identity>,
    /// What tokens and backends say about its subscriptions.
    pub(super) grants: Grants,
    extra: Option<Box<Extra>>,
}

/// What few of the clients with rare state have: while they connect, and where backends are asked.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// The connect that waits for the application's backend, or for the subscriptions that come with it.
    pub(super) connecting: Option<Connecting>,
    /// The subscribes that the application's backend is asked about. At most as many as the client may have subscriptions.
    pub(super) subscribing: Vec<Subscribing>,
    /// What backends may be sent of the headers that it came with.
    pub(super) headers: Option<Arc<[Header]>>,
    /// What backends are told of it, and nobody else: JSON without line breaks.
    pub(super) meta: Option<Box<str>>,
}

/// A subscribe that the application's backend is asked about.
#[derive(Debug)]
pub(super) struct Subscribing {
    /// The command's.
    pub(super) id: u32,
    pub(super) topic: Box<str>,
    /// How the client wants to be subscribed.
    pub(super) wanted: Wanted,
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.unanswered.is_empty()
            && self.offered.is_none()
            && self.identity.is_none()
            && self.grants.is_empty()
            && self.extra.is_none()
    }

    /// Whether the application's backend is asked who the client is, or what it may subscribe to, or for how long.
    pub(super) fn asks_about_client(&self) -> bool {
        let expiring = self.identity.as_ref().and_then(Identity::end).is_some_and(End::is_asked);
        expiring || self.grants.are_asked_about() || self.extra().is_some_and(Extra::asks_about_client)
    }

    pub(super) fn extra(&self) -> Option<&Extra> {
        self.extra.as_deref()
    }

    /// Changes what few clients have, which exists from then on, unless it is empty.
    pub(super) fn change_extra<R>(&mut self, change: impl FnOnce(&mut Extra) -> R) -> R {
        let extra = self.extra.get_or_insert_default();
        let result = change(extra);
        if extra.is_empty() {
            self.extra = None;
        }
        result
    }
}

impl Extra {
    fn asks_about_client(&self) -> bool {
        !self.subscribing.is_empty() || self.connecting.as_ref().is_some_and(Connecting::is_asked)
    }

    fn is_empty(&self) -> bool {
        self.connecting.is_none()
            && self.subscribing.is_empty()
            && self.headers.is_none()
            && self.meta.is_none()
    }
}

impl Session {
    /// Changes the rare state, which exists from then on, unless it is empty.
    pub(super) fn change_rare<R>(&mut self, change: impl FnOnce(&mut Rare) -> R) -> R {
        let rare = self.rare.get_or_insert_default();
        let result = change(rare);
        if rare.is_empty() {
            self.rare = None;
        }
        result
    }

    /// The same for the part that few clients have.
    pub(super) fn change_extra<R>(&mut self, change: impl FnOnce(&mut Extra) -> R) -> R {
        self.change_rare(|rare| rare.change_extra(change))
    }

    pub(super) fn extra(&self) -> Option<&Extra> {
        self.rare.as_ref()?.extra()
    }
}
