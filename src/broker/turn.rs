//! The loop of the broker thread, turn by turn.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::select;
use tokio::task::yield_now;
use tokio::time::sleep_until;

use crate::base::clock::{Clock, UnixTime};
use crate::config::Config;
use crate::domain::mail::{Mail, ShardId};
use crate::domain::namespaces::Namespaces;
use crate::domain::position::Epoch;
use crate::hooks::Answers;
use crate::stats::{BackplaneState, BrokerStats};

use super::Setup;
use super::acks::Acks;
use super::backplane::Backplane;
use super::backplane::event::Event;
use super::calls::Calls;
use super::catch_up::CatchUps;
use super::confirms::Confirms;
use super::dedup::DedupWindow;
use super::encoder::Encoder;
use super::expiration::Expiration;
use super::history::History;
use super::http_link::HttpLink;
use super::inlet::Inlet;
use super::merge::Merge;
use super::outbox::Outbox;
use super::progress::ReadProgress;
use super::stage::Stage;
use super::surveys::Surveys;
use super::topics::Topics;

/// Events taken from the backplane in one turn: enough to merge what came together, and few enough to be
/// done within a millisecond or so.
const EVENTS_PER_TURN: usize = 512;
/// How long events are taken in one turn, checked after every eighth event. Heartbeats, requests and the order to stop
/// wait for so long, and for up to eight events more: one can be expensive, such as a message of a thousand topics.
const EVENTS_TIME: Duration = Duration::from_millis(10);
/// Events between two looks at how long the turn has taken.
const EVENTS_PER_LOOK: usize = 8;
/// Requests taken in one turn.
pub(super) const REQUESTS_PER_TURN: usize = 512;
/// Pause between two attempts to put mail into a full mailbox: a shard does not report that it has taken mail.
const OUTBOX_RETRY: Duration = Duration::from_millis(1);

/// Everything that the broker thread knows.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) config: Arc<Config>,
    pub(super) namespaces: Arc<Namespaces>,
    pub(super) stats: Arc<BrokerStats>,
    pub(super) inlet: Inlet,
    pub(super) outbox: Outbox,
    pub(super) topics: Topics,
    pub(super) merge: Merge,
    pub(super) acks: Acks,
    pub(super) dedup: DedupWindow,
    pub(super) expiration: Expiration,
    pub(super) history: History,
    /// Clients that wait for messages that this node has not read yet.
    pub(super) catch_up: CatchUps,
    pub(super) progress: ReadProgress,
    pub(super) encoder: Encoder,
    pub(super) surveys: Surveys,
    pub(super) confirms: Confirms,
    /// Calls to backends that have no answer yet.
    pub(super) calls: Calls,
    /// Reads their answers.
    pub(super) answers: Arc<Answers>,
    pub(super) http: HttpLink,
    pub(super) backplane: Backplane,
    pub(super) stage: Stage,
}

impl Broker {
    pub(super) fn new(setup: Setup, backplane: Backplane) -> Self {
        let (limits, shards) = (&setup.config.limits, setup.shards.len().max(1));
        // Room for more than one of the largest answers.
        let share = (limits.mailbox_bytes / shards).max(2 * limits.frame_bytes);
        Self {
            outbox: Outbox::new(setup.shards, share),
            topics: Topics::new(limits.topics),
            merge: Merge::new(limits.frame_bytes, limits.merging_bytes),
            acks: Acks::new(setup.receipts),
            dedup: DedupWindow::new(setup.config.amqp.message_ids),
            expiration: Expiration::new(&setup.config.amqp),
            history: History::new(new_epoch(), limits.history_bytes, limits.history_topics, Instant::now()),
            catch_up: CatchUps::new(shards),
            progress: ReadProgress::new(setup.config.amqp.reads_stream()),
            encoder: Encoder::default(),
            surveys: Surveys::new(setup.config.timeouts.publish.0),
            confirms: Confirms::default(),
            calls: Calls::new(&setup.config, setup.stats.backends.clone()),
            answers: Arc::new(Answers::new(&setup.config)),
            http: setup.http,
            backplane,
            stage: Stage::new(),
            config: setup.config,
            namespaces: setup.namespaces,
            stats: setup.stats,
            inlet: setup.requests,
        }
    }

    /// Turns until a stream that can be read has been read back. The shards do not run yet.
    pub(super) async fn load(&mut self) {
        while self.backplane.is_loading() && !self.stage.is_over() {
            self.wait_and_turn().await;
        }
        self.stage.shards_start();
    }

    /// Turns until all shards have ended. What has been asked for until then is answered. Whoever asks later is told that
    /// nobody is there, and does not wait until the backplane is closed.
    pub(super) async fn serve(mut self) {
        while !self.stage.is_over() {
            self.wait_and_turn().await;
        }
        self.take_last_requests();
        drop(self.inlet);
        self.backplane.close().await;
    }

    async fn wait_and_turn(&mut self) {
        let first = self.wait().await;
        self.turn(first);
        // lapin's and the publishes' tasks are on this thread, too. What waits while no message is taken has time limits,
        // which this lets pass.
        if self.backplane.has_tasks() || !self.takes_messages() {
            yield_now().await;
        }
    }

    /// Sleeps until there is something to do. If it is an event, it is the first of the turn. An answer by HTTP is taken at
    /// once.
    async fn wait(&mut self) -> Option<Event> {
        self.inlet.rearm();
        let may_ask = |requester| self.outbox.may_ask(requester);
        let has_requests = self.inlet.has(may_ask) || self.calls.is_ready();
        if self.takes_requests() && has_requests || self.acks.has_written() {
            return None;
        }
        let alarm = self.alarm();
        let take = self.takes_messages();
        select! {
            () = self.inlet.rung() => None,
            event = self.backplane.next(take) => Some(event),
            answer = self.http.next() => {
                self.call_answered_by_http(answer);
                None
            }
            () = ring_at(alarm) => None,
        }
    }

    /// One turn. The order matters. Batches go out before requests are taken: when the last shard detaches from a topic,
    /// nothing waits under the topic's number. Acknowledgements come after the hand-over. Questions that have waited come
    /// before new requests, which may be more than there is room for.
    fn turn(&mut self, first: Option<Event>) {
        self.retry();
        self.take_events(first);
        if self.expiration.is_over(Instant::now()) {
            self.take_undated(None);
        }
        self.hand_over();
        self.answer_caught_up();
        self.take_http_answers();
        self.take_requests();
        self.expire_calls();
        self.send_calls();
        self.history.expire(Instant::now());
        self.surveys.expire(Instant::now());
        self.acknowledge();
        self.continue_stopping();
        self.outbox.notify();
        self.gauge();
        self.confirms.tell();
    }

    /// Sends the mail that waits, and acknowledges when all of it was sent: later in this turn new mail may have to wait, and
    /// nothing could be acknowledged then.
    fn retry(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        self.outbox.retry();
        if self.outbox.is_empty() {
            self.acknowledge();
        }
    }

    fn take_events(&mut self, first: Option<Event>) {
        let mut next = first;
        let begun = Instant::now();
        for taken in 1..=EVENTS_PER_TURN {
            let take = self.takes_messages();
            match next.take().or_else(|| self.backplane.next(take).now_or_never()) {
                Some(event) => self.event(event),
                None => return,
            }
            if taken.is_multiple_of(EVENTS_PER_LOOK) && begun.elapsed() >= EVENTS_TIME {
                return;
            }
        }
    }

    /// Takes an event, or lets it wait for its age or behind others that do.
    fn event(&mut self, event: Event) {
        match event {
            event if self.expiration.must_wait(&event) => {
                self.backplane.look_later(true);
                self.expiration.hold(event, Instant::now());
            }
            Event::Loading { .. } | Event::CaughtUp { .. } | Event::Renamed { .. } | Event::Lost => {
                self.take_undated(None);
                self.take_event(event);
            }
            event => self.take_event(event),
        }
    }

    /// Takes the events that waited for their age. They are this old, if that is known.
    fn take_undated(&mut self, age: Option<Duration>) {
        for event in self.expiration.begin_release(age) {
            self.take_event(event);
        }
        self.expiration.end_release();
        self.backplane.look_later(false);
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Message(message) => self.take_message(message, Clock::now()),
            Event::Unsettled(message) => self.look_again(message),
            Event::Published { reply_to, outcome } => {
                self.answer(reply_to, outcome);
            }
            Event::DeadLettered { tag } => self.acks.release(tag),
            Event::DeadLetterLost { is_unroutable } => self.dead_letter_lost(is_unroutable),
            Event::Passed { tag, offset, time } => {
                let age = time.map(|time| self.expiration.marker(time, UnixTime::now()));
                if age.is_some() {
                    self.take_undated(age);
                }
                self.pass(tag, offset);
                // What came before a marker is as old.
                if let Some(age) = age {
                    self.history.date(age, Instant::now());
                }
            }
            Event::HistoryRemoved { topic, tag, offset } => {
                self.pass(tag, Some(offset));
                self.history.remove(&topic);
            }
            Event::Bound { topic } => self.arrived(&topic),
            Event::Refused { topic } => self.forbidden(&topic),
            Event::Overflowed => self.overflowed(),
            Event::Blocked { is_blocked } => self.stats.rabbitmq_blocked.set(u64::from(is_blocked)),
            Event::Loading { base } => self.loading(base),
            Event::CaughtUp { epoch } => self.caught_up(epoch),
            Event::Renamed { epoch } => self.renamed(epoch),
            Event::Connected { has_missed } => self.connected(has_missed),
            Event::Called { number, outcome } => self.call_answered_by_amqp(number, outcome),
            Event::Unclaimed => self.stats.call_answers_unexpected.add(1),
            Event::NotConnected { refusal } => self.stats.not_connected(refusal),
            Event::Lost => self.lost(),
        }
    }

    /// Takes note of a delivery that is no publication: it shows how far the stream has been read.
    fn pass(&mut self, tag: u64, offset: Option<u64>) {
        self.acks.take(tag, 0);
        self.progress.read(offset);
    }

    fn dead_letter_lost(&self, is_unroutable: bool) {
        let stats = &self.stats;
        if is_unroutable { stats.dead_letters_unroutable.add(1) } else { stats.dead_letters_refused.add(1) }
    }

    /// A stream is about to be read back. Ids, ages and histories of what was read before say nothing about it.
    fn loading(&mut self, base: u64) {
        self.stats.backplane.set(BackplaneState::Loading as u64);
        self.merge.close_all();
        self.hand_over();
        self.dedup.forget();
        self.expiration.forget();
        self.history.restart(new_epoch(), base);
        self.progress.loading(base);
    }

    fn caught_up(&mut self, epoch: Epoch) {
        self.progress.caught_up();
        self.history.rename(epoch);
        self.tell_positions();
        self.ask_again();
    }

    /// Other nodes have another name for the epoch. Clients are told, so that they do not come to other nodes with ours.
    fn renamed(&mut self, epoch: Epoch) {
        self.caught_up(epoch);
        self.tell_of_gap();
    }

    fn connected(&mut self, has_missed: bool) {
        self.stats.backplane.set(BackplaneState::Ready as u64);
        self.stats.connects.add(u64::from(self.backplane.prefetch().is_some()));
        let was_linked = self.progress.linked();
        self.expiration.linked(UnixTime::now());
        // Who came before the first link may have missed something. Mostly nobody did.
        let has_missed = has_missed && (was_linked || self.topics.len() > 0);
        if has_missed && !self.config.amqp.reads_stream() {
            self.begin_anew();
        }
        if has_missed {
            self.tell_of_gap();
        }
    }

    /// The node's own queue has lost messages, and it is not known of which topics.
    fn overflowed(&mut self) {
        self.stats.overflows.add(1);
        self.merge.close_all();
        self.hand_over();
        self.begin_anew();
        self.tell_of_gap();
    }

    /// Publications were missed that this node would have numbered: offsets begin again, in another epoch.
    fn begin_anew(&mut self) {
        self.history.restart(new_epoch(), 0);
        self.tell_positions();
    }

    fn tell_of_gap(&mut self) {
        self.stats.gaps.add(1);
        self.outbox.push_to_all(|| Mail::Gap);
    }

    /// The link is lost. What waits to be merged goes out now, as it is in the history already. When RabbitMQ sends it again,
    /// a message with an id is recognised; one without is pushed twice.
    fn lost(&mut self) {
        self.stats.backplane.set(BackplaneState::Away as u64);
        self.stats.rabbitmq_blocked.set(0);
        self.progress.lost();
        self.merge.close_all();
        self.hand_over();
        self.acks.reset();
        // What they wait for comes with the next link.
        let awaiting = self.topics.end_all_awaiting();
        awaiting.for_each(|(topic, attachments)| self.admit(&topic, &attachments));
    }

    /// Acknowledges what was handed over: what is in a mailbox, and not what is in the outbox. With `amqp.ack = "written"`,
    /// messages are held until the shards have written them.
    fn acknowledge(&mut self) {
        self.acks.release_written();
        if self.outbox.is_empty()
            && let Some(tag) = self.acks.due()
        {
            self.backplane.acknowledge(tag);
        }
    }

    /// Whether messages are taken from the backplane. They are left in RabbitMQ while mail waits here, and while the messages
    /// that are not acknowledged have `amqp.prefetch_bytes`.
    fn takes_messages(&self) -> bool {
        let bytes = self.acks.bytes() + self.expiration.bytes();
        self.outbox.is_empty() && bytes < self.config.amqp.prefetch_bytes
    }

    /// Whether requests are taken. Their answers may have to wait in the outbox, so beyond a limit none are. That ends,
    /// because shards take their mail whatever becomes of their requests. [`Outbox::may_ask`] limits a single shard.
    pub(super) fn takes_requests(&self) -> bool {
        let limits = &self.config.limits;
        self.outbox.len() < limits.requests && self.outbox.bytes() < limits.mailbox_bytes
    }

    /// When the thread has something to do although no event and no request comes.
    fn alarm(&self) -> Option<Instant> {
        let retry = (!self.outbox.is_empty()).then(|| Instant::now() + OUTBOX_RETRY);
        let alarms = [
            retry,
            self.merge.next_deadline(),
            self.next_recovery(),
            self.history.next_expiry(),
            self.stage.settles_until(),
            self.expiration.next_deadline(),
            self.surveys.next_deadline(),
            self.calls.next_deadline(),
        ];
        alarms.into_iter().flatten().min()
    }

    /// Begins to stop: no message is taken any more, and what waits to be merged goes out.
    pub(super) fn begin_to_stop(&mut self) {
        if self.stage.is_stopping() {
            return;
        }
        self.take_undated(None);
        self.backplane.wind_down();
        self.merge.close_all();
        self.hand_over();
        self.give_up_waiting_calls();
        self.stage.settle(Instant::now() + self.config.timeouts.publish.0);
    }

    /// Tells the shards to close their clients, once no publish and no call is under way or `timeouts.publish` is over.
    fn continue_stopping(&mut self) {
        if let Some(until) = self.stage.settles_until()
            && (self.backplane.in_flight() + self.calls.under_way() == 0 || Instant::now() >= until)
        {
            self.outbox.push_to_all(|| Mail::Drain);
            self.stage.drain(self.outbox.shards());
        }
    }

    /// A shard has closed its last client, and takes no more mail.
    pub(super) fn drained(&mut self, shard: ShardId) {
        self.outbox.close(shard);
        self.acks.close(shard);
        self.surveys.end();
        self.stage.drained(shard);
    }

    fn gauge(&self) {
        let gauges = [
            (&self.stats.topics, self.topics.len()),
            (&self.stats.outbox, self.outbox.len()),
            (&self.stats.merging_bytes, self.merge.bytes()),
            (&self.stats.requests_depth, self.inlet.len()),
            (&self.stats.history_bytes, self.history.bytes()),
            (&self.stats.history_publications, self.history.publications()),
            (&self.stats.history_topics, self.history.topics()),
        ];
        self.calls.gauge();
        for (gauge, value) in gauges {
            gauge.set(value as u64);
        }
        if let Some(read_to) = self.progress.newest() {
            self.stats.stream_offset.set(read_to);
            self.stats.stream_behind.set(self.backplane.stream_end().saturating_sub(read_to));
        }
        if self.backplane.prefetch().is_some() {
            self.stats.unacknowledged.set(self.acks.unacknowledged());
        }
    }
}

/// A name for an epoch that no epoch had before: 64 random bits.
fn new_epoch() -> Epoch {
    format!("{:016x}", rand::random::<u64>()).into()
}

async fn ring_at(alarm: Option<Instant>) {
    match alarm {
        Some(alarm) => sleep_until(alarm.into()).await,
        None => pending().await,
    }
}
