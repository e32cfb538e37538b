//! Latency from the time at which a publication was *due*, which it carries, to its arrival. A publisher or
//! server that falls behind makes the figures worse instead of missing in them (coordinated omission).

use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;

use super::support::swarm::{ClientIndex, Line, Observer};

/// The clock that publishers and clients share, also those in other processes: nanoseconds since 1970, as the
/// machine had it when the clock was started, so that setting the machine's clock later does not show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
    started_at: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self { started: Instant::now(), started_at: nanoseconds(since_1970.expect("it is later")) }
    }

    pub(crate) fn now(self) -> u64 {
        self.started_at + nanoseconds(self.started.elapsed())
    }

    pub(crate) fn sleep_until(self, due: u64) {
        let now = self.now();
        if due > now {
            std::thread::sleep(Duration::from_nanos(due - now));
        }
    }
}

/// 584 years of them, which is enough.
pub(crate) fn nanoseconds(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).expect("a bench is shorter")
}

/// An observer that expects publications numbered by the time they were due, each later than the one before
/// for the same client, and measures them.
#[derive(Debug)]
pub(crate) struct Latencies {
    pub(crate) clock: Clock,
    /// When the frame came whose lines are being read.
    now: u64,
    /// Nanoseconds.
    pub(crate) histogram: Histogram<u64>,
    /// What is due before is not measured.
    from: u64,
    clients: Vec<Seen>,
}

/// What a client saw since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    latest: u64,
    publications: u64,
    frames: u64,
}

impl Latencies {
    pub(crate) fn new(clock: Clock, clients: usize) -> Self {
        Self { clock, now: 0, histogram: empty_histogram(), from: 0, clients: vec![Seen::default(); clients] }
    }

    /// Forgets what was measured, and measures what is due from `from` on.
    pub(crate) fn begin(&mut self, from: u64) {
        self.histogram.reset();
        self.from = from;
        self.clients.fill(Seen::default());
    }

    /// All publications that came since [`Self::begin`].
    pub(crate) fn publications(&self) -> u64 {
        self.histogram.len()
    }

    /// The least and the most that one client got.
    pub(crate) fn publications_per_client(&self) -> (u64, u64) {
        let each = || self.clients.iter().map(|seen| seen.publications);
        (each().min().unwrap_or(0), each().max().unwrap_or(0))
    }

    /// The least and the most frames in which one client got them.
    pub(crate) fn frames_per_client(&self) -> (u64, u64) {
        let each = || self.clients.iter().map(|seen| seen.frames);
        (each().min().unwrap_or(0), each().max().unwrap_or(0))
    }

    /// Milliseconds at a quantile from 0 to 1.
    pub(crate) fn milliseconds(&self, quantile: f64) -> f64 {
        milliseconds(&self.histogram, quantile)
    }
}

/// For nanoseconds up to a minute, to three digits.
pub(crate) fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds and digits are allowed")
}

pub(crate) fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e6
}

impl Observer for Latencies {
    fn frame(&mut self, client: ClientIndex, _payload: &[u8]) {
        self.now = self.clock.now();
        self.clients[client].frames += 1;
    }

    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        match line {
            Line::Publication(publication) if publication.number >= self.from => {
                let due = publication.number;
                let seen = &mut self.clients[client];
                assert!(due > seen.latest, "client {client} got {due} after {}", seen.latest);
                seen.latest = due;
                seen.publications += 1;
                self.histogram.saturating_record(self.now.saturating_sub(due));
            }
            Line::Publication(_) | Line::Ping | Line::Reply { error: None, .. } => {}
            other => panic!("client {client} got {other:?}"),
        }
    }
}
