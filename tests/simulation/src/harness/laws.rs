//! What must hold after every tick, and in the end.

use std::time::Duration;

use super::broker::VARIANTS;
use super::clients::Peer;
use super::{Edge, TOPICS, World};

pub(super) const QUIET_LIMIT: usize = 5000;

impl World {
    pub(super) fn is_settled(&self) -> bool {
        self.outbox.is_empty()
            && self.windows.is_empty()
            && !self.shard.has_mail()
            && self.shard.poll_timeout() != Some(Duration::ZERO)
    }

    pub(super) fn check_limits(&self) {
        // Where slow clients skip, the newest batch of each topic stays, whatever the limit says.
        let newest = TOPICS.len() * VARIANTS.len() * 4 * (60 * self.scale + 24);
        let logs = self.stats.log_bytes.value();
        assert!(logs <= (self.limits.logs_bytes + newest) as u64, "{logs} bytes in logs");
        let rest = self.stats.rest_bytes.value();
        assert!(rest <= self.limits.rest_bytes as u64, "{rest} bytes kept for started frames");
        // What one read brings, and what becomes of a message in it.
        let beyond = 3 * self.limits.message_bytes + self.limits.head_bytes;
        let input = self.stats.input_bytes.value();
        assert!(input < (self.limits.shard_input_bytes + beyond) as u64, "{input} bytes of input are kept");
        let replies = self.stats.reply_bytes.value();
        assert!(replies < self.limits.shard_replies_bytes as u64, "{replies} bytes of replies wait");
    }

    /// What is said to be written, everybody has whose socket never refused anything.
    pub(super) fn check_receipt(&self) {
        for (&topic, run) in self.peers.iter().filter(|peer| !peer.excused).flat_map(|peer| &peer.runs) {
            // What came before the reply to its connect follows that.
            let catches_up = run.is_server_side && run.last.is_none_or(|last| last + 1 < run.ceiling);
            if let (Some(last), Some(written)) = (run.last, self.surely_written(topic))
                && !catches_up
            {
                assert!(last >= written, "{topic} is written up to {written}, and a client has {last}");
            }
        }
    }

    /// Up to which number every variant of a topic is said to be written, if it is.
    pub(super) fn surely_written(&self, topic: &str) -> Option<u64> {
        let batches = &self.batches[..usize::try_from(self.receipt.written()).expect("few")];
        let slots = self.interest.iter().filter(|((name, _), _)| name == topic).map(|(_, &slot)| slot);
        let newest = slots.map(|slot| {
            let newest = batches.iter().rev().find(|batch| (batch.0, batch.1) == (slot, topic));
            newest.map(|batch| batch.2)
        });
        newest.min().flatten()
    }

    /// Everybody reads again and nothing new happens: then everybody must get everything, and the shard must
    /// find its sleep.
    pub(super) fn become_quiet(&mut self) {
        self.backend.hurry();
        // Nobody else is woken by this.
        for peer in 0..self.peers.len() {
            if !self.peers[peer].rest.is_empty() {
                self.send(peer, b"");
            }
        }
        for _ in 0..QUIET_LIMIT {
            for peer in 0..self.peers.len() {
                self.give_room(peer);
                self.peers[peer].pipe.borrow_mut().room += 1000 * self.scale;
            }
            self.broker_acts();
            self.turn();
            let is_written = self.receipt.written() == self.batches.len() as u64;
            let is_answered =
                self.late_answers.is_empty() && self.requests.is_empty() && self.backend.is_idle();
            if self.is_settled() && is_answered && self.is_served() && is_written {
                break;
            }
        }
        assert_ne!(self.shard.poll_timeout(), Some(Duration::ZERO), "the shard finds no sleep");
        assert_eq!(self.receipt.written(), self.batches.len() as u64, "everybody has everything");
        self.events.keys_dropped += self.stats.keys_dropped.value();
        self.events.worlds_without_room += u64::from(self.stats.keys_dropped.value() > 0);
        for peer in &self.peers {
            assert_eq!(peer.fault, None, "client {} was not closed for what it sent", peer.slot);
            assert!(peer.asked.is_empty(), "client {} waits for {:?}", peer.slot, peer.asked);
            self.check_said(peer);
            for (topic, run) in &peer.runs {
                let all = self.published.get(topic).copied().unwrap_or(0);
                let complete = run.last.map_or(all < run.ceiling, |last| last == all);
                assert!(complete, "client {} lacks {topic} after {:?}, of {all}", peer.slot, run.last);
                let had_room = self.stats.keys_dropped.value() == 0;
                assert!(
                    !had_room || run.owed.is_empty(),
                    "client {} lacks {topic} {:?}",
                    peer.slot,
                    run.owed
                );
            }
            let pipe = peer.pipe.borrow();
            self.events.short_writes += pipe.short_writes;
            self.events.refused_writes += pipe.refused_writes;
            self.events.kept_writes += pipe.kept_writes;
        }
    }

    /// Whether any of these clients has not been sent all of a topic.
    pub(super) fn lacks_any(&self, peers: std::ops::Range<usize>, topic: &str) -> bool {
        let all = self.published.get(topic).copied();
        self.peers[peers].iter().any(|peer| peer.runs[topic].last != all)
    }

    pub(super) fn is_served(&self) -> bool {
        let complete = |peer: &Peer| {
            let all = |topic: &&'static str| self.published.get(*topic).copied().unwrap_or(0);
            peer.asked.is_empty()
                && peer.fault.is_none()
                && peer.said.closes.is_empty()
                && peer
                    .runs
                    .iter()
                    .all(|(topic, run)| run.last.map_or(all(topic) < run.ceiling, |last| last == all(topic)))
        };
        self.peers.iter().all(complete)
    }

    /// Everybody goes: then nothing may be left.
    pub(super) fn everybody_leaves(&mut self) {
        for peer in self.peers.drain(..) {
            peer.pipe.borrow_mut().client_closed = true;
            self.ready.push((peer.slot, Edge::HungUp));
        }
        for _ in 0..QUIET_LIMIT {
            self.broker_acts();
            self.turn();
            if self.shard.is_empty()
                && self.interest.is_empty()
                && self.is_settled()
                && self.requests.is_empty()
                && self.backend.is_idle()
            {
                break;
            }
        }
        // A last tick shows the gauges as they are.
        let now = self.now;
        self.shard.tick(now, || now.monotonic);
        self.shard.check();
        assert!(self.shard.is_empty(), "{} clients are left", self.shard.len());
        let stats = &self.stats;
        let left = [
            ("topics", &stats.topics),
            ("subscriptions", &stats.subscriptions),
            ("log bytes", &stats.log_bytes),
            ("rest bytes", &stats.rest_bytes),
            ("reply bytes", &stats.reply_bytes),
            ("input bytes", &stats.input_bytes),
            ("blocked clients", &stats.blocked_clients),
            ("clients upgrading", &stats.upgrading),
            ("clients open", &stats.open),
            ("clients closing", &stats.closing),
        ];
        for (what, gauge) in left {
            assert_eq!(gauge.value(), 0, "{what} are left");
        }
        assert_eq!(self.shard.promised_bytes(), 0, "bytes are promised to nobody");
    }
}
