//! A shard's thread, started in two phases. First it moves to its CPU, and gets a table of descriptors of its
//! own if it is to have one. When all threads have done so, it gets its work.
//!
//! Between the phases, no thread opens anything. A listener or a connection that is open when a table is
//! copied would be open in the copy as well, and survive its close.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Instant;

use nix::sched::{CloneFlags, unshare};

use crate::domain::mail::ShardId;
use crate::engine::threads::{ThreadError, Threads};
use crate::engine::{START_LIMIT, StartError, ThreadStartError, cannot_listen, cpus, not_set_up};
use crate::net::event_loop::{Loop, ShardPoll};
use crate::net::listener::Listener;
use crate::shard;
use crate::transport::websocket::connection::WebSocket;

/// Where a shard's thread runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub(super) shard: ShardId,
    pub(super) cpu: Option<usize>,
    pub(super) private_fd_table: bool,
}

/// What a shard needs to begin.
struct Work {
    setup: shard::Setup,
    addresses: Vec<SocketAddr>,
    clients_max: usize,
}

/// A shard's thread that waits for its work.
#[derive(Debug)]
pub(super) struct ShardThread {
    name: String,
    work: mpsc::Sender<Work>,
    answers: mpsc::Receiver<Result<(), StartError>>,
}

impl ShardThread {
    /// Starts the thread. It moves to its place meanwhile: see [`ShardThread::settled`].
    pub(super) fn prepare(
        threads: &Threads,
        placement: Placement,
        shard_poll: ShardPoll,
    ) -> Result<Self, StartError> {
        let name = name(placement.shard);
        let (work, wait) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        threads.spawn(&name, move || {
            let taken = take(placement);
            let is_taken = taken.is_ok();
            drop(answer.send(taken));
            match wait.recv() {
                Ok(work) if is_taken => serve(work, shard_poll, &answer),
                // The engine could not be started.
                _ => Ok(()),
            }
        })?;
        Ok(Self { name, work, answers })
    }

    /// Waits until the thread is in its place.
    pub(super) fn settled(&self) -> Result<(), StartError> {
        self.answer()
    }

    /// Gives the thread its work, and waits until it listens.
    pub(super) fn begin(
        self,
        setup: shard::Setup,
        addresses: &[SocketAddr],
        clients_max: usize,
    ) -> Result<(), StartError> {
        let work = Work { setup, addresses: addresses.to_vec(), clients_max };
        // A thread that has gone gives no answer, and that is told.
        drop(self.work.send(work));
        self.answer()
    }

    fn answer(&self) -> Result<(), StartError> {
        let answer = self.answers.recv_timeout(START_LIMIT);
        answer.unwrap_or_else(|error| Err(not_set_up(&self.name, error)))
    }
}

/// The name of a shard's thread.
pub(super) fn name(shard: ShardId) -> String {
    format!("shard-{shard}")
}

fn take(placement: Placement) -> Result<(), StartError> {
    if let Some(cpu) = placement.cpu {
        cpus::pin(cpu);
    }
    if placement.private_fd_table {
        unshare(CloneFlags::CLONE_FILES)
            .map_err(|error| not_set_up(&name(placement.shard), ThreadStartError::DescriptorTable(error)))?;
    }
    Ok(())
}

fn serve(
    work: Work,
    shard_poll: ShardPoll,
    answer: &mpsc::Sender<Result<(), StartError>>,
) -> Result<(), ThreadError> {
    match build_loop(work, shard_poll) {
        Ok(turning) => {
            drop(answer.send(Ok(())));
            Ok(turning.run()?)
        }
        Err(error) => {
            drop(answer.send(Err(error)));
            Ok(())
        }
    }
}

fn build_loop(work: Work, shard_poll: ShardPoll) -> Result<Loop<WebSocket>, StartError> {
    let Work { setup, addresses, clients_max } = work;
    let name = name(setup.id);
    let open = |&address| {
        Listener::open(address).map_err(|error| cannot_listen("clients' listener", address, error))
    };
    let listeners = addresses.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    Loop::new(setup, shard_poll, listeners, clients_max, Instant::now())
        .map_err(|error| not_set_up(&name, error))
}
