//! Which publish leaves next.
//!
//! * What operators send leaves at once, and so do dead letters.
//! * Clients take turns. Only some of their publishes are under way at once ([`SendWindow`]); the others wait here. A client
//!   with nothing under way has the next turn, before clients that have something under way; but every fourth turn is one
//!   of theirs, if any of them waits.
//! * A client's own publishes keep their order; those of different clients have none.
//!
//! How many publishes each may have is [`Shares`](crate::broker::shares::Shares)'.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::broker::shares::{Client, Sender};

use super::window::SendWindow;

/// Turns in a row of clients that have nothing under way, while others wait.
const FRESH_TURNS: u32 = 3;

/// Publishes that are due, by sender.
#[derive(Debug)]
pub(super) struct Turns {
    window: SendWindow,
    operators: BTreeSet<u64>,
    /// Clients with publishes that are due or under way.
    clients: FxHashMap<Client, ClientTurns>,
    /// How many publishes of clients are under way.
    under_way: usize,
    /// Clients that wait for their turn: first those that had nothing under way when they began to wait, then the others.
    fresh: VecDeque<Client>,
    busy: VecDeque<Client>,
    /// Turns in a row of the former.
    fresh_turns: u32,
}

/// The publishes of one client.
#[derive(Debug, Default)]
struct ClientTurns {
    under_way: usize,
    /// Those that should leave now.
    due: BTreeSet<u64>,
    /// It waits for its turn.
    waits: bool,
}

impl Turns {
    /// There are none.
    pub(super) fn new() -> Self {
        Self {
            window: SendWindow::new(),
            operators: BTreeSet::new(),
            clients: FxHashMap::default(),
            under_way: 0,
            fresh: VecDeque::new(),
            busy: VecDeque::new(),
            fresh_turns: 0,
        }
    }

    /// A publish is due.
    pub(super) fn add(&mut self, sender: Sender, number: u64) {
        let Sender::Client(client) = sender else {
            self.operators.insert(number);
            return;
        };
        let turns = self.clients.entry(client).or_default();
        turns.due.insert(number);
        if !std::mem::replace(&mut turns.waits, true) {
            let queue = if turns.under_way == 0 { &mut self.fresh } else { &mut self.busy };
            queue.push_back(client);
        }
    }

    /// A publish is not due any more.
    pub(super) fn remove(&mut self, sender: Sender, number: u64) {
        match sender {
            Sender::Operator => _ = self.operators.remove(&number),
            Sender::Client(client) => {
                self.clients.get_mut(&client).map(|turns| turns.due.remove(&number));
            }
        }
    }

    /// Takes the publish whose turn it is. None if none is due, or as many of clients are under way as may be.
    pub(super) fn next(&mut self) -> Option<u64> {
        if let Some(number) = self.operators.pop_first() {
            return Some(number);
        }
        loop {
            if self.fresh.is_empty() && self.busy.is_empty() || !self.window.has_room(self.under_way) {
                return None;
            }
            let client = self.next_client()?;
            let Some(turns) = self.clients.get_mut(&client) else { continue };
            let number = turns.due.pop_first();
            turns.waits = !turns.due.is_empty();
            if turns.waits {
                self.busy.push_back(client);
            }
            self.forget_if_empty(client);
            if number.is_some() {
                return number;
            }
        }
    }

    fn next_client(&mut self) -> Option<Client> {
        if (self.fresh_turns < FRESH_TURNS || self.busy.is_empty())
            && let Some(client) = self.fresh.pop_front()
        {
            self.fresh_turns += 1;
            return Some(client);
        }
        self.fresh_turns = 0;
        self.busy.pop_front()
    }

    /// A publish is under way.
    pub(super) fn left(&mut self, sender: Sender) {
        if let Sender::Client(client) = sender {
            self.clients.entry(client).or_default().under_way += 1;
            self.under_way += 1;
        }
    }

    /// RabbitMQ has answered a publish that left then. It is under way until [`Self::is_back`].
    pub(super) fn answered(&mut self, sender: Sender, left: Instant, now: Instant) {
        if let Sender::Client(_) = sender {
            self.window.answered(left, now);
        }
    }

    /// Whether this publish is due.
    pub(super) fn contains(&self, sender: Sender, number: u64) -> bool {
        match sender {
            Sender::Operator => self.operators.contains(&number),
            Sender::Client(client) => {
                self.clients.get(&client).is_some_and(|turns| turns.due.contains(&number))
            }
        }
    }

    /// How many are due.
    pub(super) fn len(&self) -> usize {
        self.operators.len() + self.clients.values().map(|turns| turns.due.len()).sum::<usize>()
    }

    /// A publish is no longer under way.
    pub(super) fn is_back(&mut self, sender: Sender) {
        if let Sender::Client(client) = sender
            && let Some(turns) = self.clients.get_mut(&client)
        {
            turns.under_way -= 1;
            self.under_way -= 1;
            self.forget_if_empty(client);
        }
    }

    fn forget_if_empty(&mut self, client: Client) {
        let is_empty = |turns: &ClientTurns| turns.under_way == 0 && !turns.waits;
        if self.clients.get(&client).is_some_and(is_empty) {
            self.clients.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mail::ClientKey;

    fn client(slot: u32) -> Sender {
        Sender::Client((0, ClientKey { slot, generation: 0 }))
    }

    /// Publishes leave as long as there is room, and are answered in the order in which they left, each a moment later.
    struct Harness {
        turns: Turns,
        /// Whose each publish is, by number.
        senders: Vec<Sender>,
        under_way: VecDeque<(u64, Instant)>,
        now: Instant,
    }

    impl Harness {
        fn new() -> Self {
            let under_way = VecDeque::new();
            Self { turns: Turns::new(), senders: Vec::new(), under_way, now: Instant::now() }
        }

        fn add(&mut self, sender: Sender, count: usize) {
            for _ in 0..count {
                self.turns.add(sender, self.senders.len() as u64);
                self.senders.push(sender);
            }
        }

        /// Whose publishes leave now.
        fn leave(&mut self) -> Vec<Sender> {
            let mut left = Vec::new();
            while let Some(number) = self.turns.next() {
                let sender = self.senders[usize::try_from(number).unwrap()];
                self.turns.left(sender);
                self.under_way.push_back((number, self.now));
                left.push(sender);
            }
            left
        }

        fn answer(&mut self) -> u64 {
            self.now += std::time::Duration::from_millis(1);
            let (number, left) = self.under_way.pop_front().expect("one is under way");
            let sender = self.senders[usize::try_from(number).unwrap()];
            self.turns.answered(sender, left, self.now);
            self.turns.is_back(sender);
            number
        }
    }

    /// However many publishes others have here, a publish of an operator is the next, and so, but for one turn of others, is
    /// one of a client that has nothing under way.
    #[test]
    fn a_flood_keeps_others_waiting_for_a_turn_and_not_for_its_publishes() {
        for flooders in [1, 20, 1000] {
            let mut harness = Harness::new();
            (0..flooders).for_each(|slot| harness.add(client(slot), 127));
            assert!(harness.leave().len() <= 8);
            // Each of them has had a turn.
            for _ in 0..flooders {
                harness.answer();
                harness.leave();
            }
            for honest in [Sender::Operator, client(u32::MAX)] {
                for _ in 0..50 {
                    harness.add(honest, 1);
                    let mut others = 0;
                    loop {
                        let left = harness.leave();
                        others += left.iter().take_while(|&&sender| sender != honest).count();
                        if left.contains(&honest) {
                            break;
                        }
                        harness.answer();
                    }
                    // One place is free after each answer, and in between the window may grow.
                    assert!(others <= 4, "{flooders} {honest:?}: {others}");
                    while harness
                        .under_way
                        .iter()
                        .any(|&(n, _)| harness.senders[usize::try_from(n).unwrap()] == honest)
                    {
                        harness.answer();
                        harness.leave();
                    }
                }
            }
        }
    }

    #[test]
    fn clients_with_much_to_send_have_as_many_turns_each_and_keep_their_order() {
        let mut harness = Harness::new();
        (0..5).for_each(|slot| harness.add(client(slot), 100));
        let mut answered = vec![Vec::new(); 5];
        while answered.iter().all(|numbers| numbers.len() < 100) {
            harness.leave();
            let number = harness.answer();
            answered[usize::try_from(number).unwrap() / 100].push(number);
        }
        for numbers in &answered {
            assert!(numbers.len() > 97 && numbers.is_sorted(), "{answered:?}");
        }
    }

    #[test]
    fn clients_that_always_have_little_do_not_take_all_turns() {
        let mut harness = Harness::new();
        harness.add(client(0), 1000);
        let mut own = 0;
        for turn in 1..200 {
            harness.add(client(turn), 1);
            own += harness.leave().iter().filter(|&&sender| sender == client(0)).count();
            harness.answer();
        }
        assert!(own >= 50, "{own}");
    }

    #[test]
    fn nothing_is_left_of_clients_that_are_done() {
        let mut harness = Harness::new();
        (0..5).for_each(|slot| harness.add(client(slot), 3));
        harness.turns.remove(client(0), 0);
        harness.turns.remove(client(1), 3);
        harness.turns.remove(Sender::Operator, 99);
        harness.leave();
        while !harness.under_way.is_empty() {
            harness.answer();
            harness.leave();
        }
        assert!(harness.turns.clients.is_empty() && harness.turns.under_way == 0);
        assert!(harness.turns.fresh.is_empty() && harness.turns.busy.is_empty());
    }
}
