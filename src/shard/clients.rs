//! The clients of a shard: a slab with generations.

use crate::base::moment::Moment;
use crate::base::slab::Slab;
use crate::domain::mail::ClientKey;
use crate::shard::client::Client;
use crate::transport::Transport;

/// The slab, with a generation for each slot: a stale key finds no client, instead of the next one in the same slot.
#[derive(Debug)]
pub struct Clients<S, T> {
    slab: Slab<Client<S, T>>,
    /// How many clients each slot had before.
    generations: Vec<u32>,
    /// Slots of clients whose connections have ended, to be freed at the end of the tick.
    ended: Vec<u32>,
}

impl<S, T> Default for Clients<S, T> {
    fn default() -> Self {
        Self { slab: Slab::default(), generations: Vec::new(), ended: Vec::new() }
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

    /// Notes that the connection of a client has ended. Its slot is freed at the end of the tick, as lists may name it.
    pub fn end(&mut self, slot: u32) {
        self.slab[slot].end();
        self.ended.push(slot);
    }

    /// Slots of clients whose connections have ended.
    #[must_use]
    pub fn ended(&self) -> &[u32] {
        &self.ended
    }

    /// Takes one of those slots out, to be freed.
    pub fn next_ended(&mut self) -> Option<u32> {
        self.ended.pop()
    }

    /// Takes a client out and frees its slot.
    pub fn remove(&mut self, slot: u32) -> Client<S, T> {
        let generation = &mut self.generations[slot as usize];
        *generation = generation.wrapping_add(1);
        self.slab.remove(slot)
    }

    /// How many clients there are, including those whose connections have ended in this tick.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// The number of slots, taken or free. All slots are below it.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slab.numbers()
    }

    /// The client in `slot`, if its connection has not ended.
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<&Client<S, T>> {
        self.slab.get(slot).filter(|client| !client.has_ended())
    }

    /// The client with this key, if its connection has not ended. A later client in the same slot has another key.
    #[must_use]
    pub fn find(&self, key: ClientKey) -> Option<&Client<S, T>> {
        self.get(key.slot).filter(|_| self.key(key.slot) == key)
    }

    /// All clients whose connections have not ended, with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Client<S, T>)> {
        self.slab.iter().filter(|(_, client)| !client.has_ended())
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
