//! A list of clients from which stale entries are removed seldom.

use crate::domain::mail::ClientKey;
use crate::shard::client::Client;
use crate::shard::clients::Clients;
use crate::transport::Transport;

/// Stale entries stay until there are so many more than two for each client.
const STALE: usize = 1024;

/// Clients with some property, and clients that had it. Each is there once: a flag of the client says whether it is in the
/// list, so that adding costs no search.
#[derive(Debug, Default)]
pub(super) struct ClientList(Vec<ClientKey>);

impl ClientList {
    /// Adds a client that is not in the list.
    pub(super) fn push(&mut self, key: ClientKey) {
        self.0.push(key);
    }

    /// The entries.
    pub(super) fn keys(&self) -> &[ClientKey] {
        &self.0
    }

    /// Removes stale entries if there may be many.
    pub(super) fn tidy<S, T: Transport>(
        &mut self,
        clients: &mut Clients<S, T>,
        belongs: impl FnMut(&mut Client<S, T>) -> bool,
    ) {
        if self.0.len() > 2 * clients.len() + STALE {
            self.purge(clients, belongs);
        }
    }

    /// Removes the clients that have gone, and those that `belongs` rejects.
    pub(super) fn purge<S, T: Transport>(
        &mut self,
        clients: &mut Clients<S, T>,
        mut belongs: impl FnMut(&mut Client<S, T>) -> bool,
    ) {
        self.0.retain(|&key| clients.find(key).is_some() && belongs(&mut clients[key.slot]));
    }
}
