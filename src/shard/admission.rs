//! Which connections become clients. The limit, `limits.clients`, is the node's, and all shards share its places.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::base::capacity::Capacity;
use crate::domain::mail::ClientKey;
use crate::net::stream::Stream;
use crate::shard::Shard;
use crate::transport::Transport;
use crate::transport::refusal::Refusal;

/// The node's places for clients, and how many of them clients of this shard have.
#[derive(Debug)]
pub(super) struct Admission {
    capacity: Arc<Capacity>,
    placed: usize,
}

impl Admission {
    /// No client has a place yet.
    pub(super) fn new(capacity: Arc<Capacity>) -> Self {
        Self { capacity, placed: 0 }
    }

    /// Takes a place for a client, or else one for a connection that is refused. Returns whether it is a client's, or
    /// `None` if there is neither.
    fn take(&mut self) -> Option<bool> {
        if self.capacity.take() {
            self.placed += 1;
            return Some(true);
        }
        self.capacity.take_refusal().then_some(false)
    }

    /// Gives the place of a connection that has ended back.
    pub(super) fn give_back(&mut self, has_place: bool) {
        if has_place {
            self.placed -= 1;
            self.capacity.give_back();
        } else {
            self.capacity.give_refusal_back();
        }
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// Takes a new connection in. If the node is full, it is answered with 503. If too many are being answered so, it is
    /// dropped without an answer, and there is no key. Its time-outs begin at `now`: the latest tick may have been long
    /// ago.
    pub fn admit(&mut self, stream: S, peer: Option<SocketAddr>, now: Instant) -> Option<ClientKey> {
        self.timers.advance(now);
        self.stats.accepted.add(1);
        let Some(has_place) = self.admission.take() else {
            self.stats.refused_upgrades[Refusal::Full as usize].add(1);
            self.log_refusal(peer, Refusal::Full, b"", &"");
            return None;
        };
        let key = self.clients.insert(stream, self.timers.now());
        self.stats.upgrading.add(1);
        self.arm(key.slot);
        self.clients[key.slot].set_place(has_place);
        if self.is_draining() {
            self.refuse(key.slot, Refusal::Stopping, b"");
        } else if !has_place {
            self.refuse(key.slot, Refusal::Full, b"");
        }
        Some(key)
    }

    /// The key that the next client will have, to register its socket under.
    #[must_use]
    pub fn vacancy(&self) -> ClientKey {
        self.clients.vacancy()
    }

    /// How many clients have one of the node's places. Those that are being refused have none.
    #[must_use]
    pub fn placed(&self) -> usize {
        self.admission.placed
    }

    /// The places that all shards share.
    #[must_use]
    pub fn capacity(&self) -> &Capacity {
        &self.admission.capacity
    }
}
