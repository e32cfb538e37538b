//! Evenly spaced broadcasts of one topic to clients that measure when they come.

use std::io::Result;
use std::time::{Duration, Instant};

use super::LIMIT;
use super::latency::{Clock, Latencies};
use super::measure::Watched;
use super::publisher::{Pace, Publisher, ended, numbered_data, publish_evenly};
use super::support::engine::Engine;
use super::support::swarm::Swarm;

/// An engine's clients that all have the same topic.
pub(crate) struct Broadcasts<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) clock: Clock,
    swarm: Swarm,
    latencies: Latencies,
    topic: &'static str,
    line_bytes: usize,
}

/// What a round showed: latencies from due to received, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spaced {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) longest: f64,
    /// CPU time of all threads of the engine, in percent of one CPU.
    pub(crate) process_percent: f64,
}

impl<'a> Broadcasts<'a> {
    /// Connects the clients.
    pub(crate) fn connect(
        engine: &'a Engine,
        clients: usize,
        topic: &'static str,
        line_bytes: usize,
    ) -> Result<Self> {
        let clock = Clock::start();
        let mut latencies = Latencies::new(clock, clients);
        let mut swarm = Swarm::new(engine.client_address(), clients)?;
        swarm.connect_all(&mut latencies, LIMIT, |_, _| vec![topic])?;
        Ok(Self { engine, clock, swarm, latencies, topic, line_bytes })
    }

    /// How long a fan-out takes when the next one is published as soon as everyone has the one before.
    pub(crate) fn saturated(&mut self) -> Result<Duration> {
        const FAN_OUTS: usize = 41;
        let mut publisher = Publisher::connect(self.engine.control_address())?;
        let mut lengths = Vec::new();
        for _ in 0..FAN_OUTS {
            let begin = Instant::now();
            let due = self.clock.now();
            self.latencies.begin(due);
            let data = numbered_data(self.topic, due, self.line_bytes);
            publisher.publish(&publisher.request(self.topic, &data), 1)?;
            self.turn_until_all(1)?;
            lengths.push(begin.elapsed());
        }
        lengths.sort_unstable();
        Ok(lengths[FAN_OUTS / 2])
    }

    /// Publishes one in each `interval` for that `length`, and measures. Each client gets each publication
    /// once and in order: that is checked.
    pub(crate) fn round(&mut self, interval: Duration, length: Duration) -> Result<Spaced> {
        let watched = Watched::new(self.engine.pid(), None)?;
        let pace = Pace::every(self.clock, interval, length);
        self.latencies.begin(pace.first);
        let process = watched.process()?;
        let (topic, line_bytes) = (self.topic, self.line_bytes);
        let publication = move |_, due| (topic.to_owned(), numbered_data(topic, due, line_bytes));
        let publisher = publish_evenly(self.engine.control_address(), pace, publication)?;
        self.turn_until_all(pace.count)?;
        let wall = Duration::from_nanos(self.clock.now() - pace.first);
        let process_percent = watched.process()?.since(process).percent_of(wall);
        ended(publisher)?;
        // In rising order, and as many as were published: so each client has got each of them once.
        assert_eq!(self.latencies.publications_per_client(), (pace.count, pace.count));
        let [p50, p99, p999, longest] = [0.5, 0.99, 0.999, 1.0].map(|at| self.latencies.milliseconds(at));
        Ok(Spaced { p50, p99, p999, longest, process_percent })
    }

    fn turn_until_all(&mut self, publications: u64) -> Result<()> {
        let deliveries = publications * self.swarm.len() as u64;
        let all = |_: &Swarm, latencies: &mut Latencies| latencies.publications() >= deliveries;
        self.swarm.turn_until("every publication reaches everyone", LIMIT, &mut self.latencies, all)
    }
}
