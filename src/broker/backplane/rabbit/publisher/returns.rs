//! Which dead letters RabbitMQ has returned.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::{ConfirmOutcome, Confirmed, Report};

/// From the confirm of a dead letter until its return has been seen, if there was one, though not all publishes before it
/// are confirmed. lapin gives it away with the same frame; tokio may run its tasks in another order.
const RETURN_LIMIT: Duration = Duration::from_millis(100);

/// What is known of publishes, in the order in which they were sent.
///
/// RabbitMQ returns a publish that it cannot route before it confirms it, and returns come in the order of the publishes.
/// But lapin 4.12 attaches a return to the confirm that it settles next, which may be another publish's if several are
/// confirmed together. A header of a returned publish says which one it is ([`number`](super::dead_letter::number)). Each
/// return comes with some confirm, though: when a publish and all that were sent before it are confirmed, its return has
/// been seen, if there was one. So publishes are reported in their order. One
/// before which others are not confirmed, as where their queue is stuck, is reported after [`RETURN_LIMIT`]: its return is
/// with a confirm that lapin has settled together with its own, or before.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// Publishes that are not reported.
    sent: VecDeque<u64>,
    /// Those of them that are confirmed, and whether RabbitMQ stored them.
    confirmed: FxHashMap<u64, bool>,
    /// When these were confirmed, in that order. Some of them have been reported since.
    confirms: VecDeque<(Instant, u64)>,
    /// Those that were returned.
    returned: Vec<u64>,
}

impl Returns {
    pub(super) fn sent(&mut self, number: u64) {
        self.sent.push_back(number);
    }

    /// A publish is confirmed; or nothing will be heard of it, and nobody waits for it.
    pub(super) fn heard(&mut self, number: u64, confirmed: Option<Confirmed>, now: Instant) {
        match confirmed {
            Some(Confirmed { is_ack, returned }) => {
                self.confirmed.insert(number, is_ack);
                self.confirms.push_back((now, number));
                self.returned.extend(returned);
            }
            None => self.sent.retain(|&sent| sent != number),
        }
    }

    /// When [`Self::next`] has something though no more is heard.
    pub(super) fn due(&self) -> Option<Instant> {
        self.confirms.front().map(|(confirmed, _)| *confirmed + RETURN_LIMIT)
    }

    pub(super) fn next(&mut self, now: Instant) -> Option<Report> {
        let first = self.sent.front().copied().filter(|number| self.confirmed.contains_key(number));
        let number = first.or_else(|| self.next_confirmed(now))?;
        let is_ack = self.confirmed.remove(&number)?;
        let place = self.sent.iter().position(|&sent| sent == number);
        place.and_then(|place| self.sent.remove(place));
        while self.confirms.front().is_some_and(|(_, number)| !self.confirmed.contains_key(number)) {
            self.confirms.pop_front();
        }
        let returned = self.returned.iter().position(|&returned| returned == number);
        let outcome = match returned.map(|place| self.returned.swap_remove(place)) {
            _ if !is_ack => ConfirmOutcome::NotStored,
            Some(_) => ConfirmOutcome::Unroutable,
            None => ConfirmOutcome::Stored,
        };
        Some(Report { number, outcome })
    }

    /// The one that was confirmed first, if it was so long ago that its return is here.
    fn next_confirmed(&self, now: Instant) -> Option<u64> {
        let &(confirmed, number) = self.confirms.front()?;
        (confirmed + RETURN_LIMIT <= now).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RabbitMQ and lapin report it: returns in order, each before its publish's confirm, and each with the next confirm.
    fn outcomes(
        count: u64,
        unroutable: &[u64],
        confirmed: &[u64],
        batches: usize,
    ) -> Vec<(u64, ConfirmOutcome)> {
        let (mut returns, now) = (Returns::default(), Instant::now());
        (0..count).for_each(|number| returns.sent(number));
        let mut waiting: VecDeque<u64> = VecDeque::new();
        let mut reports = Vec::new();
        let mut unreturned = unroutable.iter().copied().peekable();
        for together in confirmed.chunks(confirmed.len().div_ceil(batches)) {
            let newest = together.iter().max().copied().expect("a chunk");
            while let Some(number) = unreturned.next_if(|&number| number <= newest) {
                waiting.push_back(number);
            }
            for &number in together {
                let confirmed = Confirmed { is_ack: true, returned: waiting.pop_front() };
                returns.heard(number, Some(confirmed), now);
                reports.extend(std::iter::from_fn(|| returns.next(now)));
            }
        }
        reports.into_iter().map(|report| (report.number, report.outcome)).collect()
    }

    #[test]
    fn a_return_belongs_to_its_publish_whichever_confirm_it_came_with() {
        let orders: [&[u64]; 4] = [&[0, 1, 2, 3], &[3, 2, 1, 0], &[1, 3, 0, 2], &[2, 0, 3, 1]];
        for bits in 0..16_u64 {
            let unroutable: Vec<u64> = (0..4).filter(|number| bits & (1 << number) != 0).collect();
            let of = |number| {
                if unroutable.contains(&number) { ConfirmOutcome::Unroutable } else { ConfirmOutcome::Stored }
            };
            let expected: Vec<_> = (0..4).map(|number| (number, of(number))).collect();
            for (order, batches) in orders.iter().flat_map(|order| [(order, 1), (order, 2), (order, 4)]) {
                let said = outcomes(4, &unroutable, order, batches);
                assert_eq!(said, expected, "{unroutable:?} {order:?} in {batches}");
            }
        }
    }

    #[test]
    fn who_was_not_confirmed_is_not_reported_and_those_behind_it_wait_until_their_returns_have_been_seen() {
        let (mut returns, begun) = (Returns::default(), Instant::now());
        [7, 5, 9, 4, 6].into_iter().for_each(|number| returns.sent(number));
        let confirmed = |is_ack, returned| Some(Confirmed { is_ack, returned });
        returns.heard(5, confirmed(false, None), begun);
        returns.heard(9, None, begun);
        let later = begun + RETURN_LIMIT / 2;
        // Its return comes with the confirm of another one.
        returns.heard(4, confirmed(true, None), later);
        returns.heard(6, confirmed(true, Some(4)), later);
        assert_eq!((returns.next(later).is_none(), returns.due()), (true, Some(begun + RETURN_LIMIT)));
        let mut reports = |now| -> Vec<_> {
            std::iter::from_fn(|| returns.next(now)).map(|report| (report.number, report.outcome)).collect()
        };
        assert_eq!(reports(begun + RETURN_LIMIT), [(5, ConfirmOutcome::NotStored)]);
        let expected = [(4, ConfirmOutcome::Unroutable), (6, ConfirmOutcome::Stored)];
        assert_eq!(reports(later + RETURN_LIMIT), expected);
        assert!(returns.due().is_none(), "there is nothing to wait for");
        returns.heard(7, confirmed(true, None), begun);
        assert_eq!(returns.next(begun).map(|report| report.outcome), Some(ConfirmOutcome::Stored));
        assert!(returns.due().is_none() && returns.sent.is_empty() && returns.confirmed.is_empty());
    }

    #[test]
    fn publishes_are_reported_in_their_order_as_soon_as_those_before_them_are_confirmed() {
        let (mut returns, now) = (Returns::default(), Instant::now());
        [7, 5].into_iter().for_each(|number| returns.sent(number));
        returns.heard(5, Some(Confirmed { is_ack: false, returned: None }), now);
        assert!(returns.next(now).is_none());
        returns.heard(7, Some(Confirmed { is_ack: true, returned: None }), now);
        let outcomes: Vec<_> =
            std::iter::from_fn(|| returns.next(now)).map(|report| report.outcome).collect();
        assert_eq!(outcomes, [ConfirmOutcome::Stored, ConfirmOutcome::NotStored]);
    }
}
