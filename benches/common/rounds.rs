//! Rounds: what it costs a server to reach all its clients so many times, one fan-out after the other; and
//! two servers that take turns, so that the machine's noise meets both.

use std::io::Result;
use std::time::{Duration, Instant};

use super::measure::{CpuTime, Summary, Watched};
use super::support::swarm::Swarm;
use super::{LIMIT, Nobody};

/// Fan-outs at the start of a round that are not counted. After a pause a receiver acknowledges its first
/// 16 segments at once (Linux, `TCP_MAX_QUICKACKS`), which on loopback the sender pays for: a third of the
/// cost of a small frame.
const FAN_OUTS_TO_WARM_UP: usize = 20;

/// A server under load: what to poke so that every client gets a frame, and what to read.
pub(crate) struct Server<'a> {
    pub(crate) swarm: Swarm,
    pub(crate) watched: Watched,
    pub(crate) poke: Box<dyn FnMut() -> Result<()> + 'a>,
}

/// What one round cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) thread: CpuTime,
    pub(crate) process: CpuTime,
    /// The thread that turns the clients and pokes the server.
    pub(crate) clients: CpuTime,
    pub(crate) wall: Duration,
    pub(crate) frames: u64,
    /// Frames that should have come: one for each client and fan-out.
    pub(crate) wanted: u64,
}

impl Round {
    /// CPU time of the server's thread.
    pub(crate) fn thread_microseconds(&self) -> f64 {
        self.thread.microseconds_each(self.wanted as f64)
    }

    /// CPU time of all the server's threads.
    pub(crate) fn process_microseconds(&self) -> f64 {
        self.process.microseconds_each(self.wanted as f64)
    }

    /// Time that passed.
    pub(crate) fn wall_microseconds(&self) -> f64 {
        self.wall.as_secs_f64() * 1e6 / self.wanted as f64
    }

    /// The part of the time, in percent, in which the server's thread was on its CPU; where it is small, the
    /// bench measures its own clients.
    pub(crate) fn server_busy(&self) -> f64 {
        self.thread.percent_of(self.wall)
    }

    /// The same of the clients' thread.
    pub(crate) fn clients_busy(&self) -> f64 {
        self.clients.percent_of(self.wall)
    }
}

impl Server<'_> {
    /// So many fan-outs of `payload` bytes to each client, after some to warm up.
    pub(crate) fn round(&mut self, fan_outs: usize, payload: usize) -> Result<Round> {
        self.warm_up(payload)?;
        let before = self.swarm.counted();
        let own = Watched::this_thread()?;
        let (thread, process, clients) = (self.watched.thread()?, self.watched.process()?, own.thread()?);
        let begin = Instant::now();
        self.fan_out(fan_outs, payload)?;
        let wall = begin.elapsed();
        Ok(Round {
            thread: self.watched.thread()?.since(thread),
            process: self.watched.process()?.since(process),
            clients: own.thread()?.since(clients),
            wall,
            frames: self.swarm.counted().frames - before.frames,
            wanted: (fan_outs * self.swarm.len()) as u64,
        })
    }

    /// Fan-outs that are not counted.
    pub(crate) fn warm_up(&mut self, payload: usize) -> Result<()> {
        self.fan_out(FAN_OUTS_TO_WARM_UP, payload)
    }

    /// Fan-outs one after the other, each begun when the one before has reached everyone.
    pub(crate) fn fan_out(&mut self, times: usize, payload: usize) -> Result<()> {
        for _ in 0..times {
            let bytes = self.swarm.counted().bytes + (self.swarm.len() * payload) as u64;
            (self.poke)()?;
            let done = |swarm: &Swarm, _: &mut Nobody| swarm.counted().bytes >= bytes;
            self.swarm.turn_until("a fan-out reaches everyone", LIMIT, &mut Nobody, done)?;
        }
        Ok(())
    }
}

/// Two that take turns, and what each measured.
#[derive(Debug)]
pub(crate) struct Pairs<A, B>(Vec<(A, B)>);

impl<A, B> Pairs<A, B> {
    /// So many turns of each. Who comes first changes, in case the machine slows down or speeds up.
    pub(crate) fn take(
        rounds: usize,
        mut first: impl FnMut() -> Result<A>,
        mut second: impl FnMut() -> Result<B>,
    ) -> Result<Self> {
        let mut pairs = Vec::new();
        for round in 0..rounds {
            pairs.push(if round % 2 == 0 {
                let first = first()?;
                (first, second()?)
            } else {
                let second = second()?;
                (first()?, second)
            });
        }
        Ok(Self(pairs))
    }

    /// What the first one measured.
    pub(crate) fn first(&self) -> impl Iterator<Item = &A> + Clone {
        self.0.iter().map(|(first, _)| first)
    }

    /// What the second one measured.
    pub(crate) fn second(&self) -> impl Iterator<Item = &B> + Clone {
        self.0.iter().map(|(_, second)| second)
    }

    /// The first one's figure over the second one's, pair by pair.
    pub(crate) fn ratio(&self, of_first: impl Fn(&A) -> f64, of_second: impl Fn(&B) -> f64) -> Summary {
        Summary::of(self.0.iter().map(|(first, second)| of_first(first) / of_second(second)))
    }
}
