//! Fake shards for the tests of the broker: mailboxes, and nobody behind them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::backplane::Backplane;
use super::super::backplane::memory::Memory;
use super::super::http_link::HttpLink;
use super::super::turn::Broker;
use super::super::{RequestSenders, Setup, inlet};
use crate::base::mailbox::{Receiver, Wake, mailbox};
use crate::config::Config;
use crate::domain::mail::{Mail, ShardId};
use crate::domain::namespaces::Namespaces;
use crate::http_client::{HttpAnswer, HttpCall, HttpTargets};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Counts how often a shard is woken.
struct Count(Arc<AtomicUsize>);

impl Wake for Count {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The other ends of what a broker thread is given.
pub(in crate::broker) struct Ends {
    pub(in crate::broker) requests: RequestSenders,
    pub(in crate::broker) shards: Vec<Receiver<Mail>>,
    pub(in crate::broker) woken: Vec<Arc<AtomicUsize>>,
    /// The calls by HTTP.
    pub(in crate::broker) calls: UnboundedReceiver<HttpCall>,
    pub(in crate::broker) answers: UnboundedSender<HttpAnswer>,
}

/// What a broker thread with so many shards is given.
pub(in crate::broker) fn setup(config: Config, shards: ShardId) -> (Setup, Ends) {
    let (requests, inlet) = inlet(&config.limits, shards);
    let woken: Vec<_> = (0..shards).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let senders =
        woken.iter().map(|woken| mailbox(config.limits.mailbox, Box::new(Count(Arc::clone(woken)))));
    let (senders, shards) = senders.unzip();
    let (calls, call_inbox) = unbounded_channel();
    let (answers, answer_inbox) = unbounded_channel();
    let targets = HttpTargets::new(&config, &HttpTargets::default()).unwrap();
    let http = HttpLink { calls, answers: answer_inbox, targets };
    let setup = Setup {
        namespaces: Arc::new(Namespaces::new(&config)),
        config: Arc::new(config),
        requests: inlet,
        shards: senders,
        receipts: Vec::new(),
        http,
        stats: Arc::default(),
    };
    (setup, Ends { requests, shards, woken, calls: call_inbox, answers })
}

/// A broker on the embedded backplane, whose turns the test takes.
pub(in crate::broker) fn broker(config: Config, shards: ShardId) -> (Broker, Ends) {
    let backplane = Backplane::Memory(Memory::new(&config));
    let (setup, ends) = setup(config, shards);
    (Broker::new(setup, backplane), ends)
}
