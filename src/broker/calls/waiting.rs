//! Calls that wait for their backend. Clients take turns, one call each, so that nobody's call waits behind many of another
//! client; the calls of one client stay in their order. Those about a client that has left are found among its own calls
//! alone, however many others wait. Pure: time is an argument.

use std::collections::VecDeque;
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

/// Where the calls of one client wait, in their order. Is not empty.
type Queue = VecDeque<Place>;

impl Waiting {
    /// Adds a call of this number, of which none is used twice, to wait until `deadline`.
    pub(super) fn push(&mut self, number: u64, call: Box<Call>, deadline: Instant) {
        let queue = self.clients.entry(client_of(&call)).or_default();
        // Not in this round: whoever comes again and again would always be first.
        let round = queue.back().map_or(self.round, |&(last_round, _)| last_round) + 1;
        queue.push_back((round, number));
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

    /// Takes out the calls about this client, or only that of one of its commands, with their numbers.
    pub(super) fn withdraw(&mut self, client: Client, command: Option<u32>) -> Vec<(u64, Box<Call>)> {
        let Some(queue) = self.clients.get(&client) else { return Vec::new() };
        let is_withdrawn = |call: &Call| {
            call.ask.kind().is_about_client()
                && command.is_none_or(|command| command == call.reply_to.command.id)
        };
        let places =
            queue.iter().filter(|&&place| self.calls.get(place).is_some_and(|call| is_withdrawn(call)));
        let places: Vec<_> = places.copied().collect();
        places.into_iter().filter_map(|place| self.take(place)).collect()
    }

    fn take(&mut self, place: Place) -> Option<(u64, Box<Call>)> {
        let call = self.calls.remove(place)?;
        let client = client_of(&call);
        let queue = self.clients.get_mut(&client).expect("it has a call that waits");
        let at = queue.binary_search(&place).expect("places rise, and this is one of them");
        queue.remove(at);
        if queue.is_empty() {
            self.clients.remove(&client);
        }
        Some((place.1, call))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().map(|(_, call)| &**call)
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
    use super::super::tests::{rpc, subscribe};
    use super::*;
    use crate::domain::mail::ClientKey;
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

    #[test]
    fn questions_about_a_client_that_has_left_are_taken_out_and_its_requests_stay() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        push(&mut waiting, now, 1, 0..2);
        for (number, command) in [(2, 7), (3, 8), (4, 9)] {
            waiting.push(number, subscribe(1, command), now + Duration::from_secs(1));
        }
        waiting.push(5, subscribe(2, 7), now);
        let mut withdrawn = |slot, generation, command| {
            let taken = waiting.withdraw((0, ClientKey { slot, generation }), command);
            taken.into_iter().map(|(number, _)| number).collect::<Vec<_>>()
        };
        assert_eq!(withdrawn(1, 2, None), [0; 0], "a later client in the same slot");
        assert_eq!(withdrawn(1, 1, Some(1)), [0; 0], "that is an rpc");
        assert_eq!(withdrawn(1, 1, Some(8)), [3]);
        assert_eq!(withdrawn(1, 1, None), [2, 4]);
        assert_eq!(withdrawn(1, 1, None), [0; 0]);
        assert_eq!(popped(&mut waiting, 9), [0, 5, 1]);
        assert!(waiting.clients.is_empty());
    }
}
