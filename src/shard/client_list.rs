//! A list of clients that is tidied seldom.

use crate::domain::mail::ClientKey;
use crate::shard::client::Client;
use crate::shard::clients::Clients;
use crate::transport::Transport;

/// Entries beyond two for each client before those that are over are taken out.
const STALE: usize = 1024;

/// Clients of which something is true, each once, and some of which it was true. A flag of the client says whether it
/// is in the list, so that adding and checking cost no search.
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

    /// Takes out the clients that are gone or do not belong here any more, if there may be many of them.
    pub(super) fn tidy<S, T: Transport>(
        &mut self,
        clients: &mut Clients<S, T>,
        belongs: impl FnMut(&mut Client<S, T>) -> bool,
    ) {
        if self.0.len() > 2 * clients.len() + STALE {
            self.purge(clients, belongs);
        }
    }

    /// Takes out the clients that are gone or do not belong here any more.
    pub(super) fn purge<S, T: Transport>(
        &mut self,
        clients: &mut Clients<S, T>,
        mut belongs: impl FnMut(&mut Client<S, T>) -> bool,
    ) {
        self.0.retain(|&key| clients.find(key).is_some() && belongs(&mut clients[key.slot]));
    }
}
