//! The state that most sessions have only at times, or never. It is boxed, so that an idle anonymous client costs one
//! pointer for all of it.

use std::sync::Arc;

use crate::auth::ConnectionClaims;
use crate::session::Session;
use crate::session::connecting::Connecting;
use crate::session::grants::Grants;
use crate::session::identity::Identity;
use crate::session::unanswered::Unanswered;

/// A session's rare state.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// The commands that the broker has not answered.
    pub(super) unanswered: Unanswered,
    /// What the token says that came with the HTTP request. It counts if the connect command has none.
    pub(super) offered: Option<Arc<ConnectionClaims>>,
    /// What the client's connection token says.
    pub(super) identity: Option<Identity>,
    /// The connect that waits for the subscriptions that its token brings.
    pub(super) connecting: Option<Box<Connecting>>,
    /// What tokens say about its subscriptions.
    pub(super) grants: Grants,
}

impl Rare {
    fn is_empty(&self) -> bool {
        self.unanswered.is_empty()
            && self.offered.is_none()
            && self.identity.is_none()
            && self.connecting.is_none()
            && self.grants.is_empty()
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
}
