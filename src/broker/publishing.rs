//! Publishes of clients and operators: out to the backplane, and the answer back once it is safe there.

use std::time::Instant;

use crate::broker::backplane::{Content, Delivery, Outcome, Waiting};
use crate::broker::outbox::Outbox;
use crate::broker::{Broker, Source};
use crate::mail::{Asker, Mail, Publish};
use crate::protocol::codes::ErrorCode;
use crate::stats::BrokerStats;

impl Broker {
    /// Takes a publish: to RabbitMQ at once, or to wait in memory for its turn.
    pub(super) fn publish(&mut self, publish: Publish) {
        let limit = self.config.limits.publishes;
        let waiting_time = self.config.timeouts.publish.0;
        if self.in_flight >= limit {
            return self.refuse(publish.asker, ErrorCode::TooManyRequests);
        }
        self.in_flight += 1;
        match &mut self.source {
            Source::Rabbit(rabbit) => rabbit.publish(publish, self.outcome_sender.clone()),
            Source::Memory(memory) => {
                let delivery = Delivery {
                    topics: publish.topics.iter().map(|topic| topic.to_string()).collect(),
                    body: publish.data.into(),
                    content: Content::Json,
                    key: None,
                    published_at: None,
                    tag: None,
                };
                memory.push(Waiting { asker: publish.asker, delivery, until: Instant::now() + waiting_time });
            }
        }
    }

    /// Delivers what was published in memory, while the shards take mail: how many. Those whose time is up
    /// are told that the engine is behind.
    pub(super) fn publish_from_memory(&mut self, budget: usize, now: Instant) -> usize {
        let mut taken = 0;
        while taken < budget {
            let listens = self.listens();
            let Source::Memory(memory) = &mut self.source else { break };
            let next = if listens { memory.pop() } else { memory.pop_late(now) };
            let Some(Waiting { asker, delivery, .. }) = next else { break };
            let result = if listens {
                self.publication(delivery, now);
                Ok(())
            } else {
                Err(ErrorCode::TooManyRequests)
            };
            self.conclude(Outcome { asker, result });
            taken += 1;
        }
        taken
    }

    fn refuse(&mut self, asker: Asker, error: ErrorCode) {
        self.in_flight += 1;
        self.conclude(Outcome { asker, result: Err(error) });
    }

    fn conclude(&mut self, outcome: Outcome) {
        answer(outcome, &mut self.outbox, &self.stats, &mut self.in_flight);
    }
}

/// Tells whoever waits how a publish went.
pub(super) fn answer(outcome: Outcome, outbox: &mut Outbox, stats: &BrokerStats, in_flight: &mut usize) {
    *in_flight -= 1;
    let counter = if outcome.result.is_ok() { &stats.confirmed } else { &stats.publish_failures };
    counter.add(1);
    match outcome.asker {
        Asker::Client { shard, client, command } => {
            outbox.mail(shard, Mail::Published { client, command, outcome: outcome.result });
        }
        // Whoever asked may have hung up meanwhile.
        Asker::Control(sender) => drop(sender.send(outcome.result)),
    }
}
