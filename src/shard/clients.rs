//! The clients of a shard: a slab with generations.

use crate::base::moment::Moment;
use crate::base::slab::Slab;
use crate::domain::mail::ClientKey;
use crate::shard::client::Client;
use crate::transport::Transport;

/// The slab, with a generation for each slot: a key that is kept too long finds nobody, and not a stranger.
#[derive(Debug)]
pub struct Clients<S, T> {
    slab: Slab<Client<S, T>>,
    /// How many clients each slot had before the present or the next one.
    generations: Vec<u32>,
    /// Slots of the dead, to be freed at the end of the tick.
    dead: Vec<u32>,
}

impl<S, T> Default for Clients<S, T> {
    fn default() -> Self {
        Self { slab: Slab::default(), generations: Vec::new(), dead: Vec::new() }
    }
}

impl<S, T: Transport> Clients<S, T> {
    /// The key that [`Clients::insert`] gives to the next client.
    #[must_use]
    pub fn vacancy(&self) -> ClientKey {
        self.key(self.slab.vacancy())
    }

    /// The key of the client in `slot`, or of the next one if there is none.
    #[must_use]
    pub fn key(&self, slot: u32) -> ClientKey {
        ClientKey { slot, generation: self.generations.get(slot as usize).copied().unwrap_or(0) }
    }

    /// Puts a client in.
    pub fn insert(&mut self, stream: S, now: Moment) -> ClientKey {
        let slot = self.slab.insert(Client::new(stream, now));
        if slot as usize == self.generations.len() {
            self.generations.push(0);
        }
        self.key(slot)
    }

    /// Notes that a living client is dead. Its slot is taken until the end of the tick, as lists may name it.
    pub fn kill(&mut self, slot: u32) {
        self.slab[slot].die();
        self.dead.push(slot);
    }

    /// Slots of the dead.
    #[must_use]
    pub fn dead(&self) -> &[u32] {
        &self.dead
    }

    /// Takes the slot of one of the dead out of their list: it is to be freed.
    pub fn next_dead(&mut self) -> Option<u32> {
        self.dead.pop()
    }

    /// Takes a client out and frees its slot.
    pub fn remove(&mut self, slot: u32) -> Client<S, T> {
        let generation = &mut self.generations[slot as usize];
        *generation = generation.wrapping_add(1);
        self.slab.remove(slot)
    }

    /// Clients in the slab, the dead of this tick included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Number of slots, taken or not: all slots are below it.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slab.numbers()
    }

    /// The living client in `slot`.
    #[must_use]
    pub fn living(&self, slot: u32) -> Option<&Client<S, T>> {
        self.slab.get(slot).filter(|client| !client.is_dead())
    }

    /// The living client with this key: not a later one in the same slot.
    #[must_use]
    pub fn find(&self, key: ClientKey) -> Option<&Client<S, T>> {
        self.living(key.slot).filter(|_| self.key(key.slot) == key)
    }

    /// All of the living, with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Client<S, T>)> {
        self.slab.iter().filter(|(_, client)| !client.is_dead())
    }
}

impl<S, T: Transport> std::ops::Index<u32> for Clients<S, T> {
    type Output = Client<S, T>;

    fn index(&self, slot: u32) -> &Client<S, T> {
        &self.slab[slot]
    }
}

impl<S, T: Transport> std::ops::IndexMut<u32> for Clients<S, T> {
    fn index_mut(&mut self, slot: u32) -> &mut Client<S, T> {
        &mut self.slab[slot]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::websocket::connection::WebSocket;

    #[test]
    fn a_slot_has_a_new_generation_for_each_owner() {
        let mut clients = Clients::<_, WebSocket>::default();
        let now = Moment::default();
        let first = clients.insert("first", now);
        assert!(clients.find(first).is_some());
        clients.remove(first.slot);
        assert!(clients.find(first).is_none());
        let second = clients.insert("second", now);
        assert_eq!((second.slot, second.generation), (first.slot, first.generation + 1));
        assert!(clients.find(first).is_none());
        assert_eq!(clients.len(), 1);
    }
}
