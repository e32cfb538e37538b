//! Calls that wait for their backend. Clients take turns, one call each, so that nobody's call waits behind many of another
//! client; the calls of one client stay in their order. Pure: time is an argument.

use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::base::deadline_table::DeadlineTable;
use crate::broker::shares::Client;
use crate::domain::mail::Call;

/// The calls that wait for one backend.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// By round, and within a round by number.
    calls: DeadlineTable<Place, Box<Call>>,
    clients: FxHashMap<Client, Queue>,
    /// The round that is being served.
    round: u64,
}

/// In which round a call is sent, and its number.
type Place = (u64, u64);

/// The calls of one client.
#[derive(Debug)]
struct Queue {
    waiting: usize,
    /// The round of the last one.
    last_round: u64,
}

impl Waiting {
    /// Adds a call of this number, of which none is used twice, to wait until `deadline`.
    pub(super) fn push(&mut self, number: u64, call: Box<Call>, deadline: Instant) {
        let queue = self.clients.entry(client_of(&call)).or_insert(Queue { waiting: 0, last_round: 0 });
        // Not in this round: whoever comes again and again would always be first.
        let round = if queue.waiting == 0 { self.round } else { queue.last_round } + 1;
        *queue = Queue { waiting: queue.waiting + 1, last_round: round };
        self.calls.insert((round, number), call, Some(deadline));
    }

    /// Takes the next one out, and its number.
    pub(super) fn pop(&mut self) -> Option<(u64, Box<Call>)> {
        let place = self.calls.first()?;
        self.round = place.0;
        let taken = self.take(place);
        if self.calls.is_empty() {
            self.round = 0;
        }
        taken
    }

    /// Takes one out whose deadline has passed, and its number.
    pub(super) fn expire(&mut self, now: Instant) -> Option<(u64, Box<Call>)> {
        let place = self.calls.expire(now)?;
        self.take(place)
    }

    fn take(&mut self, place: Place) -> Option<(u64, Box<Call>)> {
        let call = self.calls.remove(place)?;
        let client = client_of(&call);
        let queue = self.clients.get_mut(&client).expect("it has a call that waits");
        queue.waiting -= 1;
        if queue.waiting == 0 {
            self.clients.remove(&client);
        }
        Some((place.1, call))
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.calls.next_deadline()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether none does.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

/// The client of a call.
pub(super) fn client_of(call: &Call) -> Client {
    (call.reply_to.shard, call.reply_to.command.client)
}

#[cfg(test)]
mod tests {
    use super::super::tests::rpc;
    use super::*;
    use std::time::Duration;

    fn push(waiting: &mut Waiting, now: Instant, client: u32, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| waiting.push(number, rpc(client), now + Duration::from_secs(number)));
    }

    fn popped(waiting: &mut Waiting, count: usize) -> Vec<u64> {
        std::iter::from_fn(|| waiting.pop()).take(count).map(|(number, _)| number).collect()
    }

    #[test]
    fn clients_take_turns_and_keep_their_own_order() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        push(&mut waiting, now, 1, 0..5);
        push(&mut waiting, now, 2, 5..7);
        assert_eq!(popped(&mut waiting, 3), [0, 5, 1]);
        // Whoever comes now is served in the next round.
        push(&mut waiting, now, 3, 7..9);
        assert_eq!(popped(&mut waiting, 9), [6, 2, 7, 3, 8, 4]);
        assert!(waiting.is_empty() && waiting.clients.is_empty());
    }

    #[test]
    fn whoever_comes_again_and_again_is_not_always_first() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        push(&mut waiting, now, 1, 0..3);
        let mut served = Vec::new();
        for number in 3..9 {
            push(&mut waiting, now, 2, number..number + 1);
            served.extend(popped(&mut waiting, 1));
        }
        assert_eq!(served, [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn those_whose_time_is_over_go_first_and_leave_nothing_behind() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        push(&mut waiting, now, 1, 0..3);
        push(&mut waiting, now, 2, 3..4);
        assert_eq!(waiting.next_deadline(), Some(now));
        let over = now + Duration::from_secs(1);
        let expired: Vec<_> = std::iter::from_fn(|| waiting.expire(over)).map(|(number, _)| number).collect();
        assert_eq!((expired, waiting.len()), (vec![0, 1], 2));
        assert_eq!(popped(&mut waiting, 9), [3, 2]);
        assert!(waiting.clients.is_empty() && waiting.next_deadline().is_none());
    }
}
