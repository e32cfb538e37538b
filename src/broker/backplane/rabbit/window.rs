//! How many publishes of clients may be under way at once: no more than RabbitMQ answers without delay.
//!
//! RabbitMQ handles what is under way before every publish that leaves later, so the window bounds how long one client's
//! publishes delay another's. It follows the time that RabbitMQ takes to answer. It grows while publishes wait here and a
//! larger window delays no answer. It shrinks when answers come later than they would with the smallest window. Now and
//! then the smallest window is used for some answers, to measure how long RabbitMQ takes now. No clock.

use std::time::{Duration, Instant};

/// The smallest window. RabbitMQ works on so many at once in any case: with fewer it would wait for us.
const SMALLEST: usize = 8;
/// Answers whose mean time decides about the window.
const ROUND: u32 = 8;
/// How late answers may be: so much, or this part of the time that they take, whichever is more.
const LATE: Duration = Duration::from_millis(2);
const LATE_PART: u32 = 4;
/// How long a measured answer time counts before it is measured again.
const BELIEVED: Duration = Duration::from_secs(10);

/// The window.
#[derive(Debug)]
pub(super) struct SendWindow {
    size: usize,
    /// How long an answer takes with the smallest window, and since when that is known; none before the first round.
    usual: Option<(Duration, Instant)>,
    /// The size to return to after it was measured how long an answer takes.
    measuring: Option<usize>,
    round: Round,
}

/// The answers to publishes that left since some moment.
#[derive(Debug, Default)]
struct Round {
    /// None: any publish counts.
    begun: Option<Instant>,
    answers: u32,
    total: Duration,
    /// Whether publishes have waited for room.
    was_full: bool,
}

impl SendWindow {
    pub(super) fn new() -> Self {
        Self { size: SMALLEST, usual: None, measuring: None, round: Round::default() }
    }

    /// Whether one more may leave. Asked only if there is one.
    pub(super) fn has_room(&mut self, under_way: usize) -> bool {
        let has_room = under_way < self.size;
        self.round.was_full |= !has_room;
        has_room
    }

    /// A publish that left then has been answered.
    pub(super) fn answered(&mut self, left: Instant, now: Instant) {
        if self.round.begun.is_some_and(|begun| left < begun) {
            return;
        }
        self.round.answers += 1;
        self.round.total += now.saturating_duration_since(left);
        if self.round.answers == ROUND {
            let round = std::mem::replace(&mut self.round, Round { begun: Some(now), ..Round::default() });
            self.judge(round.total / ROUND, round.was_full, now);
        }
    }

    fn judge(&mut self, mean: Duration, was_full: bool, now: Instant) {
        if let Some(size) = self.measuring.take() {
            self.usual = Some((mean, now));
            self.size = size;
            return;
        }
        let Some((usual, since)) = self.usual else {
            self.usual = Some((mean, now));
            return;
        };
        let (late, allowed) = (mean.saturating_sub(usual), LATE.max(usual / LATE_PART));
        if late > allowed {
            self.size = (self.size - self.size / 4).max(SMALLEST);
        } else if was_full && late <= allowed / 2 {
            self.size += self.size / 4;
        }
        self.usual = Some((usual.min(mean), since));
        if now >= since + BELIEVED {
            self.measuring = Some(self.size);
            self.size = SMALLEST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A RabbitMQ that answers in order: each publish after `latency`, and no sooner than `each` after the one before. There
    /// are always publishes that wait. Returns the largest window of the last half, and how many were answered per second.
    fn run(latency: Duration, each: Duration, length: Duration) -> (usize, u32) {
        let mut window = SendWindow::new();
        let begun = Instant::now();
        let (mut now, mut under_way) = (begun, std::collections::VecDeque::<(Instant, Instant)>::new());
        let (mut largest, mut answered) = (0, 0);
        while now < begun + length {
            while window.has_room(under_way.len()) {
                let free = under_way.back().map_or(now, |&(_, done)| done);
                under_way.push_back((now, (now + latency).max(free + each)));
            }
            let (left, done) = under_way.pop_front().expect("the window is not empty");
            now = done;
            window.answered(left, now);
            answered += 1;
            if now > begun + length / 2 {
                largest = largest.max(window.size);
            }
        }
        (largest, answered / u32::try_from(length.as_secs()).unwrap())
    }

    /// So that another publish waits no longer than a little, and RabbitMQ is busy all the same.
    #[test]
    fn the_window_is_as_large_as_rabbitmq_needs_and_no_larger() {
        let cases: [(u64, u64, usize, u32); 5] = [
            // Latency and time for each in microseconds; the largest window; the fewest answers per second.
            (500, 20, 150, 45_000),
            (3_000, 400, 18, 2_400),
            (1, 1_000, 12, 990),
            (50_000, 50, 1_800, 15_000),
            (50_000, 2_000, 45, 480),
        ];
        for (latency, each, most, fewest) in cases {
            let (latency, each) = (Duration::from_micros(latency), Duration::from_micros(each));
            let (largest, answered) = run(latency, each, Duration::from_secs(60));
            assert!(
                largest <= most && answered >= fewest,
                "{latency:?} {each:?}: {largest} at most, {answered} per second"
            );
        }
    }

    /// A window that is never full says nothing about a larger one.
    #[test]
    fn the_window_does_not_grow_unless_letters_wait() {
        let mut window = SendWindow::new();
        let mut now = Instant::now();
        for _ in 0..10_000 {
            assert!(window.has_room(0));
            now += Duration::from_millis(1);
            window.answered(now - Duration::from_millis(1), now);
        }
        assert_eq!((window.size, window.measuring.unwrap_or(SMALLEST)), (SMALLEST, SMALLEST));
    }

    /// What it takes now is measured again: else one fast moment would keep the window small for ever.
    #[test]
    fn a_rabbitmq_that_has_become_slower_is_believed() {
        let mut window = SendWindow::new();
        let mut now = Instant::now();
        for latency in [1, 50] {
            let latency = Duration::from_millis(latency);
            for _ in 0..40_000 {
                assert!(!window.has_room(usize::MAX));
                now += Duration::from_millis(1);
                window.answered(now - latency, now);
                window.size = window.size.min(1000);
            }
            assert!(window.size.max(window.measuring.unwrap_or(0)) > 500, "{latency:?}: {window:?}");
        }
    }
}
