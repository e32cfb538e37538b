//! What the suites share: the engine and the servers that it is compared with, clients, publishers, and the
//! table in which the figures end.
//!
//! ```text
//! CPU 0   the engine's shard, or the raw loop it is compared with
//! CPU 1   clients and publishers; the engine's other threads
//! ```

#![allow(dead_code, reason = "each suite uses another part")]

pub(crate) mod amqp;
pub(crate) mod broadcasts;
pub(crate) mod churn;
pub(crate) mod crowd;
pub(crate) mod exact;
pub(crate) mod floor;
pub(crate) mod latency;
pub(crate) mod measure;
pub(crate) mod options;
pub(crate) mod publisher;
pub(crate) mod report;
pub(crate) mod rounds;
pub(crate) mod scale;
pub(crate) mod strace;
#[path = "../../tests/support/mod.rs"]
pub(crate) mod support;
pub(crate) mod token;

use std::io::Result;
use std::net::SocketAddr;
use std::time::Duration;

use support::engine::Engine;
use support::swarm::{ClientIndex, Line, Observer, Swarm};

/// Where the shard and the raw loops run, and where everything else does.
pub(crate) const SERVER_CPU: usize = 0;
pub(crate) const CLIENT_CPU: usize = 1;
/// Encoded bytes of a line, its line break included, where a suite says nothing else.
pub(crate) const LINE_BYTES: usize = 100;
/// Clients per shard where a process has more than one table of 20,000 descriptors allows, with room for the
/// unevenness of the kernel's hashing.
pub(crate) const CLIENTS_PER_SHARD: usize = 17_500;
/// How long anything may take before a suite gives up.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// How long an engine may take to start: a stream of a million messages is read back before.
const START_LIMIT: Duration = Duration::from_secs(180);

/// The command line of a suite, or of a process that a suite starts to help it.
#[derive(Debug)]
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    pub(crate) fn read() -> Self {
        Self(std::env::args().collect())
    }

    /// Everything, the program's name included.
    pub(crate) fn all(&self) -> &[String] {
        &self.0
    }

    /// Whether `--short` is there: everything once and small, to see that the suite still works.
    pub(crate) fn short(&self) -> bool {
        self.0.iter().any(|argument| argument == "--short")
    }

    /// So many rounds, or one if it is to be short.
    pub(crate) fn rounds(&self, usual: usize) -> usize {
        if self.short() { 1 } else { usual }
    }

    /// What follows `flag` if that comes first, as it does in a helper's command line.
    pub(crate) fn after(&self, flag: &str) -> Option<&[String]> {
        let [_, first, rest @ ..] = self.0.as_slice() else { return None };
        (first == flag).then_some(rest)
    }

    /// Does a helper's work, if this is one that all suites know.
    pub(crate) fn help(&self) -> Option<Result<()>> {
        floor::run_if_asked(self).or_else(|| crowd::run_if_asked(&self.0))
    }
}

/// An engine whose one shard has a CPU of its own. To be called by a thread that may use all CPUs: the
/// engine's other threads take those that are left.
pub(crate) fn start_engine(configuration: &str) -> Engine {
    let arguments = ["--shards", "1", "--cpus", &SERVER_CPU.to_string()];
    Engine::with_config_within(START_LIMIT, configuration, &arguments)
}

/// Runs `work` on a thread of its own on the clients' CPU, as are all that it starts. The caller may still
/// use all CPUs.
pub(crate) fn on_client_cpu<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        pin(CLIENT_CPU);
        work()
    };
    std::thread::scope(|scope| scope.spawn(pinned).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs one part of a suite beside an engine of its own.
pub(crate) fn with_engine(
    configuration: &str,
    part: impl FnOnce(&Engine) -> Result<()> + Send,
) -> Result<()> {
    let engine = start_engine(configuration);
    on_client_cpu(|| part(&engine))
}

/// Pins the calling thread.
pub(crate) fn pin(cpu: usize) {
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
    assert!(pinned, "the suites need two CPUs, and CPU {cpu} is not to be had");
}

/// Clients that have subscribed to `topics` and from now on count.
pub(crate) fn counting_clients(server: SocketAddr, clients: usize, topics: &[String]) -> Result<Swarm> {
    count(Swarm::new(server, clients)?, topics)
}

/// The same, and they take compressed messages.
pub(crate) fn deflating_clients(server: SocketAddr, clients: usize, topics: &[String]) -> Result<Swarm> {
    let mut swarm = Swarm::new(server, clients)?;
    swarm.deflate();
    count(swarm, topics)
}

fn count(mut swarm: Swarm, topics: &[String]) -> Result<Swarm> {
    swarm.connect_all(&mut Nobody, LIMIT, |_, _| topics.to_vec())?;
    swarm.count_only();
    Ok(swarm)
}

/// Looks at nothing, but expects that every command succeeds.
pub(crate) struct Nobody;

impl Observer for Nobody {
    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        assert!(!matches!(line, Line::Reply { error: Some(_), .. }), "client {client} was answered {line:?}");
    }
}
