//! Divides the room for publishes and calls that wait among their senders.
//!
//! Clients never fill the whole room for publishes: a quarter is for operators only. One client may use an eighth of what
//! is free in the rest, so many fast publishers leave something for one more. Calls are made by clients alone.

use rustc_hash::FxHashMap;

use crate::domain::mail::{ClientKey, ReplyTo, ShardId};

/// The part of the room that is for operators only.
const RESERVED_PART: usize = 4;
/// The part of what is free that one client may have.
const SHARE_PART: usize = 8;

/// Who sends something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// The control API, or the engine itself.
    Operator,
    /// A client.
    Client(Client),
}

/// A client of one shard.
pub(super) type Client = (ShardId, ClientKey);

impl<T> From<&ReplyTo<T>> for Sender {
    fn from(reply_to: &ReplyTo<T>) -> Self {
        match reply_to {
            ReplyTo::Client(to) => Self::Client((to.shard, to.command.client)),
            ReplyTo::Control(_) => Self::Operator,
        }
    }
}

/// What there is, and how much of it is clients'.
#[derive(Debug)]
pub(super) struct Shares {
    room: Load,
    /// The part of the room that is for operators only.
    reserved: Load,
    all: Load,
    /// Of all clients.
    clients: Load,
    client: FxHashMap<Client, Load>,
}

/// A number, and bytes of data.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    number: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.number += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.number -= 1;
        self.bytes -= bytes;
    }
}

impl Shares {
    /// There may be so many, with so many bytes. A part of that is for operators only.
    pub(super) fn new(number: usize, bytes: usize) -> Self {
        let reserved = Load { number: number / RESERVED_PART, bytes: bytes / RESERVED_PART };
        Self { reserved, ..Self::of_clients(number, bytes) }
    }

    /// There may be so many, with so many bytes. All of that is for clients.
    pub(super) fn of_clients(number: usize, bytes: usize) -> Self {
        Self {
            room: Load { number, bytes },
            reserved: Load::default(),
            all: Load::default(),
            clients: Load::default(),
            client: FxHashMap::default(),
        }
    }

    /// Whether this sender may add one more.
    pub(super) fn has_room(&self, sender: Sender) -> bool {
        let (room, all, clients) = (self.room, self.all, self.clients);
        if all.number >= room.number || all.bytes >= room.bytes {
            return false;
        }
        let Sender::Client(client) = sender else { return true };
        let own = self.client.get(&client).copied().unwrap_or_default();
        let share = |room: usize, reserved: usize, taken| {
            (room - reserved).saturating_sub(taken).div_ceil(SHARE_PART)
        };
        own.number < share(room.number, self.reserved.number, clients.number)
            && own.bytes < share(room.bytes, self.reserved.bytes, clients.bytes)
    }

    /// Sets the room for clients, of which none is for operators. If there is more, none is added until there is less.
    pub(super) fn set_room(&mut self, number: usize, bytes: usize) {
        self.room = Load { number, bytes };
    }

    /// How many there are, and their bytes.
    pub(super) fn taken(&self) -> (usize, usize) {
        (self.all.number, self.all.bytes)
    }

    /// One more is there.
    pub(super) fn add(&mut self, sender: Sender, bytes: usize) {
        self.all.add(bytes);
        if let Sender::Client(client) = sender {
            self.clients.add(bytes);
            self.client.entry(client).or_default().add(bytes);
        }
    }

    /// One is gone that was added with as many bytes.
    pub(super) fn remove(&mut self, sender: Sender, bytes: usize) {
        self.all.remove(bytes);
        if let Sender::Client(client) = sender
            && let Some(own) = self.client.get_mut(&client)
        {
            own.remove(bytes);
            if own.number == 0 {
                self.client.remove(&client);
            }
            self.clients.remove(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(slot: u32) -> Sender {
        Sender::Client((0, ClientKey { slot, generation: 0 }))
    }

    fn fill(shares: &mut Shares, sender: Sender, bytes: usize) -> usize {
        let mut added = 0;
        while shares.has_room(sender) {
            shares.add(sender, bytes);
            added += 1;
        }
        added
    }

    #[test]
    fn clients_that_take_all_they_can_leave_something_for_one_more_and_for_operators() {
        // The room, how many clients fill it, and the most that one of them gets.
        for (room, greedy, most) in [
            (16_384, 1, 1366),
            (16_384, 129, 1366),
            (16_384, 10_000, 1366),
            (100, 20, 9),
            (4, 3, 1),
            (1, 1, 1),
        ] {
            for by_bytes in [false, true] {
                let (number, bytes) = if by_bytes { (usize::MAX / 2, room) } else { (room, usize::MAX / 2) };
                let mut shares = Shares::new(number, bytes);
                let got: Vec<_> = (0..greedy).map(|slot| fill(&mut shares, client(slot), 1)).collect();
                let case = format!("{room} {greedy} {by_bytes}");
                assert!(got.iter().all(|&got| got <= most), "{case}: {got:?}");
                // The next place is not for those who have many, if all are taken.
                shares.remove(client(0), 1);
                assert!(got[0] == 1 || greedy == 1 || !shares.has_room(client(0)), "{case}");
                let one_more = fill(&mut shares, client(greedy), 1);
                assert!(one_more >= 1, "{case}");
                let taken = got.iter().sum::<usize>() - 1 + one_more;
                let operators = fill(&mut shares, Sender::Operator, 1);
                assert!(
                    operators >= room / RESERVED_PART && operators + taken == room,
                    "{case}: {operators}"
                );
            }
        }
    }

    #[test]
    fn what_is_gone_makes_room() {
        let mut shares = Shares::new(8, 80);
        assert_eq!(fill(&mut shares, client(1), 10), 1);
        assert_eq!(fill(&mut shares, Sender::Operator, 10), 7);
        assert!(!shares.has_room(client(2)));
        shares.remove(client(1), 10);
        assert!(shares.client.is_empty() && shares.has_room(client(2)));
        shares.add(client(2), 10);
        shares.remove(Sender::Operator, 10);
        assert!(shares.has_room(Sender::Operator));
    }
}
