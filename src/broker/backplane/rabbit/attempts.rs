//! Logs why attempts to connect fail: a reason is logged when it is new, and again at intervals while it
//! lasts.

use std::time::{Duration, Instant};

use crate::base::log_limiter::RateLimit;

use super::fault::Fault;

/// Between two log lines about attempts that fail for the same reason.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// The latest failure at each address. What is told of one says nothing of another.
#[derive(Debug)]
pub(super) struct Attempts(Vec<Attempt>);

#[derive(Debug)]
struct Attempt {
    /// Empty: none since it worked.
    reason: String,
    is_refusal: bool,
    reminder: RateLimit,
}

impl Attempts {
    /// None yet, at so many addresses.
    pub(super) fn new(addresses: usize) -> Self {
        let none =
            || Attempt { reason: String::new(), is_refusal: false, reminder: RateLimit::new(REMIND_EVERY) };
        Self((0..addresses).map(|_| none()).collect())
    }

    /// One has failed at the address of this number. Returns whether the reason is to be told.
    pub(super) fn failed(&mut self, address: usize, fault: &Fault, now: Instant) -> bool {
        let attempt = &mut self.0[address];
        attempt.is_refusal = fault.is_refusal;
        if attempt.reason != fault.text {
            attempt.reason.clone_from(&fault.text);
            attempt.reminder = RateLimit::new(REMIND_EVERY);
        }
        attempt.reminder.allow(now).is_some()
    }

    /// Why the first of the nodes that answer refuses us, as of the latest attempt at each; none where all are away.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.0.iter().find(|attempt| attempt.is_refusal).map(|attempt| attempt.reason.as_str())
    }

    /// There is a connection: what fails from now on is news.
    pub(super) fn succeeded(&mut self) {
        for attempt in &mut self.0 {
            attempt.reason.clear();
            attempt.is_refusal = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_when_it_is_new_and_again_while_it_lasts_for_each_address() {
        let (mut attempts, start) = (Attempts::new(2), Instant::now());
        let mut told = Vec::new();
        // Both nodes are tried every ten seconds; the second one changes its mind once.
        for second in (0..180).step_by(10) {
            let now = start + Duration::from_secs(second);
            let second_reason = if second < 100 { "no vhost" } else { "no password" };
            for (address, reason) in [(0, "refused"), (1, second_reason)] {
                if attempts.failed(address, &Fault::passing(reason.to_owned()), now) {
                    told.push((second, reason));
                }
            }
        }
        let expected = [
            (0, "refused"),
            (0, "no vhost"),
            (60, "refused"),
            (60, "no vhost"),
            (100, "no password"),
            (120, "refused"),
            (160, "no password"),
        ];
        assert_eq!(told, expected);
        attempts.succeeded();
        let again = Fault::passing("refused".to_owned());
        assert!(attempts.failed(0, &again, start + Duration::from_secs(180)), "news again");
    }

    #[test]
    fn a_node_that_refuses_is_told_beside_one_that_is_away_until_it_is_away_as_well() {
        let (mut attempts, now) = (Attempts::new(2), Instant::now());
        let (away, refusal) = (Fault::passing("away".to_owned()), Fault::lasting("no password".to_owned()));
        attempts.failed(0, &away, now);
        assert_eq!(attempts.refusal(), None);
        attempts.failed(1, &refusal, now);
        attempts.failed(0, &away, now);
        assert_eq!(attempts.refusal(), Some("no password"));
        attempts.failed(1, &away, now);
        assert_eq!(attempts.refusal(), None);
        attempts.failed(1, &refusal, now);
        attempts.succeeded();
        assert_eq!(attempts.refusal(), None);
    }
}
