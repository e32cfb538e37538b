//! A thread with its share of the clients, their sockets and the poll: the only file of this module that uses
//! mio.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use thiserror::Error;

use super::client::{Client, ClientError, ClientStage, InputContext};
use super::lines::Topics;
use super::tally::Tally;
use super::{Phase, Plan, Shared, dial};

/// Connections of one thread that are being opened at the same time: fewer than any listener's backlog, so
/// that none is dropped and retried a second later.
const CONNECTING_AT_ONCE: usize = 256;

/// Events received from the kernel at once.
const EVENTS: usize = 1024;

/// Bytes of one `read`, at most.
const READ_BYTES: usize = 256 << 10;

/// The longest sleep, and so the delay until a new phase is noticed.
const TURN: Duration = Duration::from_millis(10);

/// Why a client was given up.
#[derive(Debug, Error)]
enum Failure {
    #[error("a connection could not be begun: {0}")]
    NotBegun(#[source] io::Error),
    #[error("the connection broke: {0}")]
    Broken(#[source] io::Error),
    #[error("the connection was ended without a close frame")]
    Ended,
    #[error("no answer to connect, upgrade or subscribe")]
    NoReply,
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The clients of one thread: every `threads`-th of the plan's.
#[derive(Debug)]
pub(super) struct Crowd {
    plan: Plan,
    topics: Arc<Topics>,
    shared: Arc<Shared>,
    poll: Poll,
    buffer: Box<[u8]>,
    /// The plan's number of the first client.
    number: usize,
    clients: Vec<Client>,
    streams: Vec<Option<TcpStream>>,
    /// The number of the last publication of each subscription, client by client.
    last: Vec<u64>,
    /// Clients that have begun to connect.
    begun: usize,
    /// Clients that are ready or have failed.
    settled: usize,
    tally: Tally,
    /// Whether it has reported that its clients have received everything.
    is_complete: bool,
}

impl Crowd {
    /// The crowd of thread `number`, with no client connected.
    pub(super) fn new(
        plan: &Plan,
        number: usize,
        topics: Arc<Topics>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let clients: Vec<Client> =
            (number..plan.clients).step_by(plan.threads).map(|index| Client::new(plan, index)).collect();
        Ok(Self {
            poll: Poll::new()?,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            streams: clients.iter().map(|_| None).collect(),
            last: vec![0; clients.len() * plan.topics_per_client],
            plan: plan.clone(),
            topics,
            shared,
            number,
            clients,
            begun: 0,
            settled: 0,
            tally: Tally::new(),
            is_complete: false,
        })
    }

    /// Runs its clients until the measurement is over.
    pub(super) fn run(mut self) -> Tally {
        let mut events = Events::with_capacity(EVENTS);
        let begin = Instant::now();
        while !self.shared.is_in(Phase::Done) {
            if self.shared.is_in(Phase::Connecting) {
                self.connect(begin.elapsed());
            } else {
                self.give_up_unsettled();
            }
            if self.shared.is_in(Phase::Draining) && !self.is_complete && self.missing() == 0 {
                self.is_complete = true;
                self.shared.complete.fetch_add(1, Ordering::Relaxed);
            }
            self.turn(&mut events);
        }
        self.finish()
    }

    /// Begins as many connections as the rate allows by now.
    fn connect(&mut self, since: Duration) {
        let rate = u128::from(self.plan.connect_rate);
        let due = since.as_micros() * rate / 1_000_000 / self.plan.threads as u128 + 1;
        let due = usize::try_from(due).unwrap_or(usize::MAX);
        while self.begun < due.min(self.clients.len()) && self.begun - self.settled < CONNECTING_AT_ONCE {
            let client = self.begun;
            self.begun += 1;
            if let Err(error) = self.dial(client) {
                self.fail(client, &Failure::NotBegun(error));
            }
        }
    }

    fn dial(&mut self, index: usize) -> io::Result<()> {
        let number = self.number + index * self.plan.threads;
        let client = &mut self.clients[index];
        let mut stream = TcpStream::from_std(dial::dial(self.plan.server, number, client.is_slow)?);
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        client.begin(&self.plan);
        self.streams[index] = Some(stream);
        Ok(())
    }

    /// Waits for the network and handles its events.
    fn turn(&mut self, events: &mut Events) {
        match self.poll.poll(events, Some(TURN)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                // Without its poll the thread can do nothing; what is missing then is counted as lost.
                self.tally.fault(format!("the poll failed: {error}"));
                return;
            }
            _ => {}
        }
        let before = self.tally.lines;
        for event in &*events {
            self.hear(event);
        }
        self.shared.deliveries.fetch_add(self.tally.lines - before, Ordering::Relaxed);
    }

    fn hear(&mut self, event: &Event) {
        let index = event.token().0;
        if event.is_writable() {
            self.flush(index);
        }
        if event.is_readable() {
            self.read(index, event.is_read_closed());
        }
    }

    /// Reads until the socket is empty. A short read means that too, unless the end of the stream may follow.
    fn read(&mut self, index: usize, to_the_end: bool) {
        while let Some(stream) = &mut self.streams[index] {
            let client = &mut self.clients[index];
            if client.is_slow && client.stage == ClientStage::Ready {
                return;
            }
            let length = match stream.read(&mut self.buffer) {
                Ok(0) => return self.fail(index, &Failure::Ended),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.fail(index, &Failure::Broken(error)),
            };
            let (stage, per_client) = (client.stage, self.plan.topics_per_client);
            let last = &mut self.last[index * per_client..(index + 1) * per_client];
            let now = self.shared.now();
            let mut context = InputContext { topics: &self.topics, tally: &mut self.tally, now };
            if let Err(why) = client.take(&self.buffer[..length], last, &mut context) {
                return self.fail(index, &why.into());
            }
            if stage != ClientStage::Ready && client.stage == ClientStage::Ready {
                self.settled += 1;
                self.tally.ready += 1;
                self.tally.slow += usize::from(client.is_slow);
                self.shared.ready.fetch_add(1, Ordering::Relaxed);
            }
            self.flush(index);
            if length < READ_BYTES && !to_the_end {
                return;
            }
        }
    }

    /// Writes waiting output, as far as the socket takes it. An error shows up again when reading.
    fn flush(&mut self, index: usize) {
        let (Some(stream), client) = (&mut self.streams[index], &mut self.clients[index]) else { return };
        while !client.unsent.is_empty() {
            match stream.write(&client.unsent) {
                Ok(written) => drop(client.unsent.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        client.unsent = Vec::new();
    }

    /// Gives up a client.
    fn fail(&mut self, index: usize, why: &Failure) {
        let client = &mut self.clients[index];
        if client.stage == ClientStage::Ready {
            self.shared.ready.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.settled += 1;
        }
        self.shared.failed.fetch_add(1, Ordering::Relaxed);
        client.stage = ClientStage::Failed;
        client.forget();
        self.streams[index] = None;
        self.tally.fault(why.to_string());
    }

    /// Gives up clients without a reply when publishing begins.
    fn give_up_unsettled(&mut self) {
        if self.settled == self.clients.len() {
            return;
        }
        for index in 0..self.clients.len() {
            if !matches!(self.clients[index].stage, ClientStage::Ready | ClientStage::Failed) {
                self.fail(index, &Failure::NoReply);
            }
        }
    }

    /// How many publications the reading clients have not received yet.
    fn missing(&self) -> u64 {
        let last = self.last.chunks(self.plan.topics_per_client);
        let readers = self.clients.iter().zip(last);
        readers
            .filter(|(client, _)| client.stage == ClientStage::Ready && !client.is_slow)
            .map(|(client, last)| {
                let topics = client.topics(self.topics.count, last.len());
                topics.zip(last).map(|(topic, &last)| self.taken(topic).saturating_sub(last)).sum::<u64>()
            })
            .sum()
    }

    /// The number of the last publication of a topic that the engine accepted.
    fn taken(&self, topic: usize) -> u64 {
        self.shared.last[topic].load(Ordering::Relaxed)
    }

    fn finish(mut self) -> Tally {
        self.tally.lost += self.missing();
        self.tally
    }
}
