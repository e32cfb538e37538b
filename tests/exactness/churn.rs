//! Clients that come, go, and change their minds, in proportion to what is published.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ledger::{Ledger, TOPICS_PER_CLIENT};
use crate::publisher::Progress;
use crate::support::random::Random;
use crate::support::swarm::{ClientIndex, Goodbye, Swarm};

/// How often the driver looks for another client when the one it met is busy.
const ATTEMPTS: usize = 50;

/// How much is to happen.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Publications on all topics together.
    pub publications: u64,
    /// Subscriptions ended and begun again, on the same connection; at least.
    pub resubscribes: u64,
    /// Connections ended and made again; at least.
    pub reconnects: u64,
    /// The first clients are left in peace: they see everything, and set the pace.
    pub witnesses: usize,
    /// Publications of each topic that may be on their way, from the publisher's hand to the slowest witness.
    pub window: u64,
}

/// Drives a swarm according to a plan, while a publisher publishes.
#[derive(Debug)]
pub struct Driver {
    pub swarm: Swarm,
    pub ledger: Ledger,
    pub progress: Arc<Progress>,
    topics: usize,
    random: Random,
    /// What this plan has asked for, and what the ledger had counted before it.
    asked: Churned,
    before: Churned,
}

/// Numbers of things that clients do.
#[derive(Clone, Copy, Debug, Default)]
struct Churned {
    resubscribes: u64,
    reconnects: u64,
}

impl Churned {
    fn covers(self, plan: Plan) -> bool {
        self.resubscribes >= plan.resubscribes && self.reconnects >= plan.reconnects
    }
}

impl Driver {
    pub fn new(swarm: Swarm, ledger: Ledger, progress: Arc<Progress>, topics: usize) -> Self {
        let random = Random::new(0x5eed);
        Self {
            swarm,
            ledger,
            progress,
            topics,
            random,
            asked: Churned::default(),
            before: Churned::default(),
        }
    }

    /// Connects everyone to the topics that `topics_of` names.
    pub fn connect_all(
        &mut self,
        topics_of: impl Fn(ClientIndex) -> Vec<usize>,
        limit: Duration,
    ) -> io::Result<()> {
        let Self { swarm, ledger, .. } = self;
        swarm.connect_all(ledger, limit, |ledger, client| ledger.connecting(client, &topics_of(client)))
    }

    /// Publications and churn go on, each waiting for the other, until all is published and asked for.
    pub fn carry_out(&mut self, plan: Plan, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        let start = self.progress.begun_total();
        self.asked = Churned::default();
        self.before = self.ledger_counts();
        while self.progress.begun_total() - start < plan.publications || !self.asked.covers(plan) {
            assert!(Instant::now() < deadline, "not all was published within {limit:?}: {:?}", self.progress);
            self.churn(plan, self.progress.begun_total() - start)?;
            self.swarm.turn(Duration::from_millis(2), &mut self.ledger)?;
            self.return_lost_clients()?;
            self.progress.allow(start + self.pace(plan, start).min(plan.publications));
        }
        Ok(())
    }

    /// Turns until so many publications, since the start, have begun.
    pub fn wait_for_publications(&mut self, total: u64, limit: Duration) -> io::Result<()> {
        let progress = self.progress.clone();
        let all = |_: &Swarm, _: &mut Ledger| progress.begun_total() >= total;
        self.swarm.turn_until("the publisher publishes", limit, &mut self.ledger, all)
    }

    /// Turns until every client has seen all that was published.
    pub fn complete(&mut self, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        let mut complete = 0;
        while complete < self.swarm.len() {
            self.swarm.turn(Duration::from_millis(20), &mut self.ledger)?;
            self.return_lost_clients()?;
            // Nothing is published any more, so who is complete stays so.
            complete +=
                (complete..self.swarm.len()).take_while(|&client| self.ledger.is_complete(client)).count();
            assert!(Instant::now() < deadline, "within {limit:?}: {}", self.ledger.describe_incomplete());
        }
        Ok(())
    }

    /// Turns for a while in which nothing may come that the ledger does not allow.
    pub fn linger(&mut self, length: Duration) -> io::Result<()> {
        let end = Instant::now() + length;
        while Instant::now() < end {
            self.swarm.turn(Duration::from_millis(20), &mut self.ledger)?;
        }
        Ok(())
    }

    fn ledger_counts(&self) -> Churned {
        Churned { resubscribes: self.ledger.resubscribed, reconnects: self.ledger.reconnected }
    }

    /// How many publications of a plan, whose first was number `start` of all, may have begun by now.
    fn pace(&self, plan: Plan, start: u64) -> u64 {
        let by_churn = |done: u64, wanted: u64| (done * plan.publications).checked_div(wanted);
        let (now, before) = (self.ledger_counts(), self.before);
        let churned = [
            by_churn(now.resubscribes - before.resubscribes, plan.resubscribes),
            by_churn(now.reconnects - before.reconnects, plan.reconnects),
        ];
        let topics = self.topics as u64;
        let witnessed = (0..plan.witnesses)
            .flat_map(|client| (0..TOPICS_PER_CLIENT).map(move |slot| (client, slot)))
            .map(|(client, slot)| (self.ledger.last_seen(client, slot) * topics).saturating_sub(start));
        let slowest = churned.into_iter().flatten().chain(witnessed).min();
        slowest.unwrap_or(plan.publications) + plan.window * topics
    }

    /// Does what is due when so many publications of the plan are published, and a little more, as far as
    /// clients are free.
    fn churn(&mut self, plan: Plan, published: u64) -> io::Result<()> {
        let due = |wanted: u64| (wanted * published / plan.publications + wanted / 100) * 21 / 20;
        while self.asked.resubscribes < due(plan.resubscribes) {
            let Some(client) = self.free_client(plan) else { break };
            self.resubscribe(client);
        }
        while self.asked.reconnects < due(plan.reconnects) {
            let Some(client) = self.free_client(plan) else { break };
            self.reconnect(client)?;
        }
        Ok(())
    }

    /// A random client that waits for no answer and is no witness.
    fn free_client(&mut self, plan: Plan) -> Option<ClientIndex> {
        let range = plan.witnesses..self.swarm.len();
        (0..ATTEMPTS)
            .map(|_| range.start + self.random.below(range.len()))
            .find(|&client| self.ledger.may_churn(client))
    }

    /// Half of them leave a topic and take it up again in one breath; the others take another topic as soon
    /// as the server has let them go: [`Self::return_lost_clients`].
    fn resubscribe(&mut self, client: ClientIndex) {
        self.asked.resubscribes += 1;
        let slot = self.random.below(TOPICS_PER_CLIENT);
        let topic = self.ledger.topics_of(client)[slot];
        let id = self.swarm.unsubscribe(client, self.ledger.name(topic));
        self.ledger.leaving(client, slot, id);
        if self.random.below(2) == 0 {
            self.subscribe(client, slot, topic);
        }
    }

    fn reconnect(&mut self, client: ClientIndex) -> io::Result<()> {
        self.asked.reconnects += 1;
        let goodbye = if self.random.below(2) == 0 { Goodbye::CloseFrame } else { Goodbye::Abrupt };
        self.swarm.disconnect(client, goodbye);
        let topics = self.ledger.topics_of(client);
        self.swarm.connect(client, &self.ledger.connecting(client, &topics))
    }

    /// Gives vacant slots a topic, and clients that the server closed a connection, as SDKs do.
    fn return_lost_clients(&mut self) -> io::Result<()> {
        for (client, slot) in std::mem::take(&mut self.ledger.vacant) {
            let topic = self.ledger.next_topic(client, slot, self.random.below(self.topics));
            self.subscribe(client, slot, topic);
        }
        for client in std::mem::take(&mut self.ledger.gone) {
            let topics = self.ledger.topics_of(client);
            self.swarm.connect(client, &self.ledger.connecting(client, &topics))?;
        }
        Ok(())
    }

    fn subscribe(&mut self, client: ClientIndex, slot: usize, topic: usize) {
        let id = self.swarm.subscribe(client, self.ledger.name(topic));
        self.ledger.joining(client, slot, topic, id);
    }
}
