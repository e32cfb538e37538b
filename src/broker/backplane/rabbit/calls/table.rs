//! The calls that are not over. Pure: time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::deadline_table::DeadlineTable;
use crate::domain::call::CallFault;
use crate::hooks::AmqpRequest;

use super::CallEvent;

/// From the confirm of a call without an answer until its return has been seen, if there was one: lapin may attach it to the
/// confirm of another publish that it settles together with this one.
const RETURN_LIMIT: Duration = Duration::from_millis(100);

/// The calls that are not over, and what became of others. Each is over once.
#[derive(Debug, Default)]
pub(super) struct CallTable {
    waiting: DeadlineTable<u64, Waiting>,
    /// Those of them that were not sent.
    unsent: VecDeque<(u64, AmqpRequest)>,
    /// What was not taken yet.
    events: VecDeque<CallEvent>,
}

/// A call that is not over.
#[derive(Debug)]
struct Waiting {
    /// When it is late.
    deadline: Instant,
    answer: Answer,
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// A reply of at most so many bytes.
    Reply { bytes_max: usize },
    /// RabbitMQ's confirm.
    Confirm,
    /// RabbitMQ has confirmed it; but it may have returned it before.
    Return,
}

/// A call that is to be sent.
#[derive(Debug)]
pub(super) struct Unsent {
    pub(super) number: u64,
    pub(super) request: AmqpRequest,
    /// How long it is of use.
    pub(super) limit: Duration,
    pub(super) wants_reply: bool,
}

impl CallTable {
    /// A call that is late at the deadline. Without a size for its reply, it has none.
    pub(super) fn add(
        &mut self,
        number: u64,
        request: AmqpRequest,
        deadline: Instant,
        bytes_max: Option<usize>,
    ) {
        let answer = bytes_max.map_or(Answer::Confirm, |bytes_max| Answer::Reply { bytes_max });
        self.waiting.insert(number, Waiting { deadline, answer }, Some(deadline));
        self.unsent.push_back((number, request));
    }

    /// The next call to be sent, in the order in which they were added. What is late is not sent.
    pub(super) fn next_unsent(&mut self, now: Instant) -> Option<Unsent> {
        while let Some((number, request)) = self.unsent.pop_front() {
            let waiting = self.waiting.get(number).filter(|waiting| waiting.deadline > now);
            if let Some(Waiting { deadline, answer }) = waiting {
                let wants_reply = matches!(answer, Answer::Reply { .. });
                return Some(Unsent { number, request, limit: *deadline - now, wants_reply });
            }
        }
        None
    }

    /// RabbitMQ has taken a call, or says that it has not.
    pub(super) fn confirmed(&mut self, number: u64, is_ack: bool, now: Instant) {
        let Some(waiting) = self.waiting.get_mut(number) else { return };
        if !is_ack {
            self.end(number, Err(CallFault::Lost("RabbitMQ did not take it".into())));
        } else if waiting.answer == Answer::Confirm {
            waiting.answer = Answer::Return;
            // Whoever called gives it up at its deadline.
            let left = waiting.deadline.saturating_duration_since(now);
            self.waiting.set_deadline(number, Some(now + RETURN_LIMIT.min(left / 2)));
        }
    }

    /// A reply has come, which says to which call.
    pub(super) fn replied(&mut self, number: Option<u64>, body: Vec<u8>) {
        let waiting = number.and_then(|number| Some((number, self.waiting.get(number)?.answer)));
        let Some((number, Answer::Reply { bytes_max })) = waiting else {
            return self.events.push_back(CallEvent::Unclaimed);
        };
        let fits = body.len() <= bytes_max;
        self.end(number, if fits { Ok(body) } else { Err(CallFault::TooLarge(bytes_max)) });
    }

    /// Ends the calls whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(number) = self.waiting.expire(now) {
            let is_taken = self.waiting.get(number).is_some_and(|waiting| waiting.answer == Answer::Return);
            self.end(number, if is_taken { Ok(Vec::new()) } else { Err(CallFault::Late) });
        }
        // What is over is not sent, and its memory counts nowhere.
        while self.unsent.front().is_some_and(|(number, _)| self.waiting.get(*number).is_none()) {
            self.unsent.pop_front();
        }
    }

    /// When [`Self::expire`] has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.next_deadline()
    }

    /// A call is over, unless it was over before.
    pub(super) fn end(&mut self, number: u64, outcome: Result<Vec<u8>, CallFault>) {
        if self.waiting.remove(number).is_some() {
            self.events.push_back(CallEvent::Done { number, outcome });
        }
    }

    /// A call that is not in the table cannot be sent.
    pub(super) fn refuse(&mut self, number: u64, why: &str) {
        let outcome = Err(CallFault::Unreachable(why.into()));
        self.events.push_back(CallEvent::Done { number, outcome });
    }

    /// All calls are over, in the order of their numbers: those that were sent are lost.
    pub(super) fn end_all(&mut self, why: &str) {
        for (number, _) in std::mem::take(&mut self.unsent) {
            self.end(number, Err(CallFault::Unreachable(why.into())));
        }
        while let Some(number) = self.waiting.first() {
            self.end(number, Err(CallFault::Lost(why.into())));
        }
    }

    /// What happened next.
    pub(super) fn next_event(&mut self) -> Option<CallEvent> {
        self.events.pop_front()
    }

    /// How many are not over.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(1);

    /// A table, and the time.
    struct Harness {
        table: CallTable,
        now: Instant,
    }

    impl Harness {
        fn new() -> Self {
            Self { table: CallTable::default(), now: Instant::now() }
        }

        /// Adds a call with a reply of up to 4 bytes.
        fn add(&mut self, number: u64) {
            self.table.add(number, request(), self.now + LIMIT, Some(4));
        }

        /// Adds a call without a reply.
        fn add_message(&mut self, number: u64) {
            self.table.add(number, request(), self.now + LIMIT, None);
        }

        fn sent(&mut self) -> Vec<(u64, Duration, bool)> {
            let next = || self.table.next_unsent(self.now);
            std::iter::from_fn(next).map(|call| (call.number, call.limit, call.wants_reply)).collect()
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.table.expire(self.now);
        }

        fn events(&mut self) -> Vec<String> {
            let next = || self.table.next_event();
            std::iter::from_fn(next)
                .map(|event| match event {
                    CallEvent::Done { number, outcome: Ok(body) } => format!("{number} {}", body.len()),
                    CallEvent::Done { number, outcome: Err(fault) } => format!("{number} {fault}"),
                    CallEvent::Unclaimed => "unclaimed".to_owned(),
                })
                .collect()
        }
    }

    fn request() -> AmqpRequest {
        AmqpRequest { routing_key: "rpc.get".into(), headers: Vec::new(), body: Vec::new() }
    }

    #[test]
    fn a_call_is_answered_once_and_what_else_comes_is_claimed_by_none() {
        let mut harness = Harness::new();
        (1..=3).for_each(|number| harness.add(number));
        harness.add_message(4);
        assert_eq!(
            harness.sent(),
            [(1, LIMIT, true), (2, LIMIT, true), (3, LIMIT, true), (4, LIMIT, false)],
            "once each"
        );
        assert_eq!(harness.sent(), []);
        harness.table.confirmed(1, true, harness.now);
        for (number, body) in [(Some(1), "full"), (Some(1), "twice"), (Some(2), "fuller"), (Some(4), "")] {
            harness.table.replied(number, body.into());
        }
        harness.table.replied(Some(99), Vec::new());
        harness.table.replied(None, Vec::new());
        assert_eq!(
            harness.events(),
            ["1 4", "unclaimed", "2 its answer has more than 4 bytes", "unclaimed", "unclaimed", "unclaimed"]
        );
        harness.pass(LIMIT);
        harness.table.replied(Some(3), Vec::new());
        assert_eq!(
            harness.events(),
            ["3 it did not answer in time", "4 it did not answer in time", "unclaimed"]
        );
        assert_eq!((harness.table.len(), harness.table.next_deadline()), (0, None));
    }

    #[test]
    fn a_message_is_over_when_it_is_confirmed_and_was_not_returned() {
        let mut harness = Harness::new();
        (1..=3).for_each(|number| harness.add_message(number));
        harness.sent();
        harness.table.confirmed(1, true, harness.now);
        harness.table.confirmed(2, true, harness.now);
        harness.table.confirmed(3, false, harness.now);
        assert_eq!(harness.events(), ["3 the connection was lost: RabbitMQ did not take it"]);
        // The return of the second one comes with another confirm.
        harness.table.end(2, Err(CallFault::Unroutable));
        harness.pass(RETURN_LIMIT);
        assert_eq!(harness.events(), ["2 no queue is bound for it", "1 0"]);
        harness.table.end(1, Err(CallFault::Unroutable));
        assert_eq!(harness.events(), [""; 0], "it is over");
    }

    /// Whoever sent it gives it up at its deadline.
    #[test]
    fn a_message_that_is_confirmed_late_is_over_before_its_deadline() {
        let mut harness = Harness::new();
        harness.add_message(1);
        harness.sent();
        harness.now += LIMIT * 9 / 10;
        harness.table.confirmed(1, true, harness.now);
        harness.pass(LIMIT / 20);
        assert_eq!(harness.events(), ["1 0"]);
    }

    #[test]
    fn a_call_that_waits_for_its_channel_is_of_use_for_what_is_left_of_its_time() {
        let mut harness = Harness::new();
        harness.add(1);
        harness.pass(LIMIT / 2);
        harness.add(2);
        harness.now += LIMIT / 4;
        assert_eq!(harness.table.next_unsent(harness.now).unwrap().limit, LIMIT / 4);
        harness.add(3);
        harness.now += LIMIT;
        assert_eq!(harness.sent(), [], "they are late");
        harness.pass(Duration::ZERO);
        assert_eq!(harness.events().len(), 3);
    }

    #[test]
    fn only_what_was_sent_is_lost_with_its_channel() {
        let mut harness = Harness::new();
        (1..=2).for_each(|number| harness.add(number));
        harness.sent();
        harness.add(3);
        harness.table.refuse(4, "gone");
        harness.table.end_all("gone");
        assert_eq!(
            harness.events(),
            [
                "4 it cannot be reached: gone",
                "3 it cannot be reached: gone",
                "1 the connection was lost: gone",
                "2 the connection was lost: gone"
            ]
        );
        harness.table.replied(Some(1), Vec::new());
        assert_eq!(harness.events(), ["unclaimed"]);
        assert_eq!(harness.sent(), []);
    }
}
