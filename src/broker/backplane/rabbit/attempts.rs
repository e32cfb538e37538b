//! Logs why attempts to connect fail: a reason is logged when it is new, and again at intervals while it
//! lasts.

use std::time::{Duration, Instant};

use crate::base::log_limiter::RateLimit;

use super::fault::RabbitMqFault;

/// Between two log lines about attempts that fail for the same reason.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// The latest failure at each address. What is told of one says nothing of another.
#[derive(Debug)]
pub(super) struct Attempts(Vec<Attempt>);

#[derive(Debug)]
struct Attempt {
    /// None since it worked.
    fault: Option<RabbitMqFault>,
    reminder: RateLimit,
}

impl Attempts {
    /// None yet, at so many addresses.
    pub(super) fn new(addresses: usize) -> Self {
        let none = || Attempt { fault: None, reminder: RateLimit::new(REMIND_EVERY) };
        Self((0..addresses).map(|_| none()).collect())
    }

    /// One has failed at the address of this number. Returns the fault if it is to be logged.
    pub(super) fn failed(
        &mut self,
        address: usize,
        fault: RabbitMqFault,
        now: Instant,
    ) -> Option<&RabbitMqFault> {
        let attempt = &mut self.0[address];
        let before = attempt.fault.replace(fault).map(|before| before.to_string());
        if before != attempt.fault.as_ref().map(RabbitMqFault::to_string) {
            attempt.reminder = RateLimit::new(REMIND_EVERY);
        }
        attempt.reminder.allow(now).and(attempt.fault.as_ref())
    }

    /// Why the first of the nodes that answer refuses us, as of the latest attempt at each; none where all are away.
    pub(super) fn refusal(&self) -> Option<&RabbitMqFault> {
        self.0.iter().filter_map(|attempt| attempt.fault.as_ref()).find(|fault| fault.is_refusal())
    }

    /// There is a connection: what fails from now on is news.
    pub(super) fn succeeded(&mut self) {
        for attempt in &mut self.0 {
            attempt.fault = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault::FaultKind;
    use super::*;

    fn away(node: &str) -> RabbitMqFault {
        FaultKind::NoAnswer { node: node.to_owned() }.into()
    }

    #[test]
    fn a_reason_is_told_when_it_is_new_and_again_while_it_lasts_for_each_address() {
        let (mut attempts, start) = (Attempts::new(2), Instant::now());
        let mut told = Vec::new();
        // Both nodes are tried every ten seconds; the second one changes its mind once.
        for second in (0..180).step_by(10) {
            let now = start + Duration::from_secs(second);
            let second_reason = if second < 100 { "no vhost" } else { "no password" };
            for (address, reason) in [(0, "refused"), (1, second_reason)] {
                if attempts.failed(address, away(reason), now).is_some() {
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
        let later = start + Duration::from_secs(180);
        assert!(attempts.failed(0, away("refused"), later).is_some(), "news again");
    }

    #[test]
    fn a_node_that_refuses_is_told_beside_one_that_is_away_until_it_is_away_as_well() {
        let (mut attempts, now) = (Attempts::new(2), Instant::now());
        let refuses = || FaultKind::VhostDown { node: "b".to_owned(), said: "no".to_owned() }.into();
        attempts.failed(0, away("a"), now);
        assert!(attempts.refusal().is_none());
        attempts.failed(1, refuses(), now);
        attempts.failed(0, away("a"), now);
        let told = attempts.refusal().map(RabbitMqFault::to_string);
        assert_eq!(told.as_deref(), Some("RabbitMQ at b: the vhost (virtual host) is not ready (no)"));
        attempts.failed(1, away("b"), now);
        assert!(attempts.refusal().is_none());
        attempts.failed(1, refuses(), now);
        attempts.succeeded();
        assert!(attempts.refusal().is_none());
    }
}
