//! Reads the stream: says what each delivery means to the broker, and which markers this node has to write.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState as Fingerprints;
use lapin::message::Delivery;

use crate::broker::backplane::event::{Event, Message, StreamPlace};
use crate::config::{Config, Interval};
use crate::domain::position::Epoch;

use super::attach::{CLAIM_MESSAGES, CLAIM_SPAN, Reach, Start};
use super::coverage::Coverage;
use super::lineage::{Anchor, Claim, Lineage, Marker, MarkerEffect};
use super::{markers, message};

/// Time between two claims of one node. While any node lives, there is a claim within twice this time.
const CLAIM_EVERY: Duration = Duration::from_secs(CLAIM_SPAN.as_secs() / 2);
/// Messages after which a claim is due as well. After a lost link, the stream is read again from the newest marker on; and a
/// node that starts need not read far back to find a claim.
const CLAIM_EVERY_MESSAGES: u64 = CLAIM_MESSAGES / 2;
/// Between two log lines about how far the stream has been read back.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long the marker that ends the reading back may take to come, before it is written again.
const REPEAT_AFTER: Duration = Duration::from_secs(5);

/// What a new link needs to find the place in the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResumePoint {
    pub(super) anchor: Option<Anchor>,
    pub(super) reach: Reach,
    pub(super) node: u64,
}

/// What a node has read of its stream, over all links.
#[derive(Debug)]
pub(super) struct Reader {
    node: u64,
    reach: Reach,
    /// Levels of nesting of what a message says of its client.
    depth_max: usize,
    lineage: Lineage,
    pub(super) coverage: Coverage,
    fingerprints: Fingerprints,
    /// While the stream is read back.
    loading: Option<Loading>,
    /// The offset of the next delivery, in case it comes without one.
    next: u64,
    /// Where the stream ended when the link was made.
    pub(super) end: u64,
    /// Whether this node has read back a stream before.
    was_live: bool,
    /// When this node wrote a marker last.
    marked: Instant,
    /// When [`Self::on_time`] has something to do next.
    due: Instant,
}

#[derive(Debug)]
struct Loading {
    /// Nonce of the marker that ends the reading back.
    goal: u64,
    /// See [`Start::Back`].
    first: u64,
    wanted: u64,
    top: u64,
    is_short: bool,
    /// Messages read so far.
    read: u64,
    since: Instant,
}

impl Reader {
    /// For a node that has read nothing yet.
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let node = rand::random();
        Self {
            node,
            reach: reach(config),
            depth_max: config.limits.json_depth,
            lineage: Lineage::new(node),
            coverage: Coverage::new(node),
            fingerprints: Fingerprints::default(),
            loading: None,
            next: 0,
            end: 0,
            was_live: false,
            marked: now,
            due: now,
        }
    }

    /// Where the next link has to begin.
    pub(super) fn resume_point(&self) -> ResumePoint {
        ResumePoint { anchor: self.lineage.anchor(), reach: self.reach, node: self.node }
    }

    /// Whether the stream has been read back.
    pub(super) fn is_live(&self) -> bool {
        self.lineage.is_live()
    }

    /// Whether the link is at the wrong place, and a new one has to be made.
    pub(super) fn astray(&self) -> Option<Astray> {
        let why = if self.reach.is_far { Astray::Short } else { Astray::Rewound };
        self.lineage.is_blank().then_some(why)
    }

    /// There is a link, and it begins here. Returns the marker to write.
    pub(super) fn linked(
        &mut self,
        start: Start,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) -> Option<Marker> {
        match start {
            Start::Anchor { top } => {
                self.end = top + 1;
                self.next = self.lineage.anchor().map_or(0, |anchor| anchor.offset + 1);
                self.lineage.resume();
                events.push_back(Event::Connected { has_missed: false });
                // When it comes, all that waited has been read.
                Some(self.marker(rand::random(), None, now))
            }
            Start::Back { first, wanted, top, is_short, is_rewound } => {
                if self.was_live {
                    tracing::warn!("the stream was replaced or has lost messages: reading it back again");
                }
                if is_rewound {
                    self.lineage.rewound();
                }
                (self.next, self.end) = (first, top + 1);
                let goal = rand::random();
                self.lineage.begin(goal);
                self.coverage.begin();
                self.loading = Some(Loading { goal, first, wanted, top, is_short, read: 0, since: now });
                self.due = now + PROGRESS_EVERY;
                Some(self.marker(goal, None, now))
            }
        }
    }

    /// Says what a delivery is. Returns the marker to write because of it.
    pub(super) fn take(
        &mut self,
        delivery: Delivery,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) -> Option<Marker> {
        let tag = delivery.delivery_tag;
        let Some(offset) = markers::offset(&delivery) else {
            events.push_back(self.without_offset(delivery));
            return None;
        };
        self.next = offset + 1;
        if let Some(loading) = &mut self.loading {
            if loading.read == 0 {
                // What RabbitMQ dropped in this moment is not there to be known.
                events.push_back(Event::Loading { base: loading.wanted.max(offset) });
            }
            loading.read += 1;
        }
        if let Some(marker) = markers::read(&delivery) {
            events.push_back(Event::Passed { tag, offset: Some(offset + 1), time: markers::time(&delivery) });
            return self.marker_came(offset, &marker, markers::settled(&delivery), events, now);
        }
        let fingerprint = message::fingerprint(&delivery, &self.fingerprints);
        let role = self.lineage.publication(offset, fingerprint);
        if self.is_live() {
            self.coverage.read(offset);
        }
        let Some(role) = role else {
            events.push_back(Event::Passed { tag, offset: Some(offset + 1), time: None });
            return None;
        };
        if let Some(topic) = markers::removed(&delivery) {
            events.push_back(Event::HistoryRemoved { topic: topic.into(), tag, offset: offset + 1 });
            return None;
        }
        let place = StreamPlace {
            offset: offset + 1,
            is_replayed: role.replayed,
            is_ours_to_dead_letter: role.is_dead_letterer,
        };
        events.push_back(Event::Message(message::receive(delivery, Some(place), self.depth_max)));
        let is_due = self.is_live() && self.lineage.since_anchor().is_multiple_of(CLAIM_EVERY_MESSAGES);
        if is_due { self.claim(now) } else { None }
    }

    /// A delivery without its offset: the filter drops headers that are too many or that lapin cannot read
    /// ([`amqp_filter`](super::amqp_filter)), and the offset may be among them. It comes right after the delivery before it,
    /// and cannot be delivered. If it was in the stream before the start and nobody has settled it, it is examined when that
    /// part is read again.
    fn without_offset(&mut self, delivery: Delivery) -> Event {
        let offset = self.next;
        self.next += 1;
        if !self.is_live() || offset < self.lineage.next_offset() {
            return Event::Passed { tag: delivery.delivery_tag, offset: None, time: None };
        }
        self.coverage.read(offset);
        let is_ours_to_dead_letter = self.lineage.is_dead_letterer();
        let place = StreamPlace { offset: offset + 1, is_replayed: false, is_ours_to_dead_letter };
        Event::Message(message::receive_unplaced(delivery, place, self.depth_max))
    }

    fn marker_came(
        &mut self,
        offset: u64,
        marker: &Marker,
        settled: Option<u64>,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) -> Option<Marker> {
        let was_dead_letterer = self.lineage.is_dead_letterer();
        let finding = self.lineage.marker(offset, marker);
        self.coverage.marker(offset, settled, marker.claim.is_some(), now);
        match finding {
            MarkerEffect::CaughtUp(_) => self.coverage.live(offset + 1, now),
            _ if self.is_live() => self.coverage.read(offset),
            _ => {}
        }
        match (was_dead_letterer, self.lineage.is_dead_letterer()) {
            (true, false) => self.coverage.handed_over(offset),
            (false, true) => self.coverage.takes_charge(now),
            _ => {}
        }
        self.act_on(finding, events, now)
    }

    /// A message that is read again, if it is to be examined.
    pub(super) fn take_again(&mut self, delivery: Delivery) -> Option<Message> {
        let told = markers::offset(&delivery);
        let offset = told.or_else(|| self.coverage.wanted())?;
        let marker = markers::read(&delivery);
        let is_marker = marker.is_some();
        if let Some(marker) = marker {
            self.coverage.marker_again(offset, markers::settled(&delivery), marker.claim.is_some());
        }
        let is_wanted = self.coverage.read_again(offset);
        let is_publication = !is_marker && markers::removed(&delivery).is_none();
        let place = StreamPlace { offset: offset + 1, is_replayed: true, is_ours_to_dead_letter: true };
        (is_wanted && is_publication).then(|| match told {
            Some(_) => message::receive(delivery, Some(place), self.depth_max),
            None => message::receive_unplaced(delivery, place, self.depth_max),
        })
    }

    /// The offset up to which the stream is settled, as a marker that is written now says it.
    pub(super) fn settled(&self, marker: &Marker) -> Option<u64> {
        match (self.is_live(), &marker.claim) {
            (true, _) => self.coverage.settled(),
            (false, Some(_)) => Some(self.coverage.told()),
            (false, None) => None,
        }
    }

    /// The marker of a node that stops, and up to where it knows the stream to be settled, if that was not reported yet:
    /// without it, the next node would send the dead letters of the last second again.
    pub(super) fn last_marker(&mut self, now: Instant) -> Option<(Marker, u64)> {
        let settled = self.coverage.settled().filter(|&settled| settled > self.coverage.told());
        let settled = settled.filter(|_| self.is_live())?;
        Some((self.marker(rand::random(), None, now), settled))
    }

    fn act_on(
        &mut self,
        finding: MarkerEffect,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) -> Option<Marker> {
        match finding {
            MarkerEffect::Nothing => None,
            MarkerEffect::NoEpoch if self.may_find_a_claim() => {
                self.reach.is_far = true;
                self.lineage.forget();
                None
            }
            MarkerEffect::NoEpoch => Some(self.proposal(now)),
            MarkerEffect::Contested => self.claim(now),
            MarkerEffect::Renamed(epoch) => {
                tracing::warn!(
                    %epoch,
                    "another node's epoch of the stream holds: it is older than ours, or the stream was rewound"
                );
                events.push_back(Event::Renamed { epoch });
                None
            }
            MarkerEffect::CaughtUp(epoch) => {
                self.caught_up(&epoch, now);
                events.push_back(Event::CaughtUp { epoch });
                events.push_back(Event::Connected { has_missed: true });
                self.was_live = true;
                self.claim(now)
            }
        }
    }

    /// Whether the stream may have a claim before what was read back.
    fn may_find_a_claim(&self) -> bool {
        self.lineage.claim().is_none() && self.loading.as_ref().is_some_and(|loading| loading.is_short)
    }

    fn caught_up(&mut self, epoch: &Epoch, now: Instant) {
        self.reach.is_far = false;
        if let Some(Loading { read, since, .. }) = self.loading.take() {
            // Tenths are enough for people, and for programs.
            let seconds = format_args!("{:.1}", now.duration_since(since).as_secs_f32());
            tracing::info!(messages = read, %seconds, %epoch, "read the stream back");
        }
    }

    /// When [`Self::on_time`] has something to do.
    pub(super) fn due(&self) -> Instant {
        self.coverage.due().filter(|_| self.is_live()).map_or(self.due, |due| due.min(self.due))
    }

    /// Does what is due at `now`. Returns the marker to write.
    pub(super) fn on_time(&mut self, now: Instant) -> Option<Marker> {
        let Some(loading) = &self.loading else { return self.on_time_when_live(now) };
        let of = loading.top.saturating_sub(loading.first);
        tracing::info!(messages = loading.read, about = of, "reading the stream back");
        self.due = now + PROGRESS_EVERY;
        if now < self.marked + REPEAT_AFTER {
            return None;
        }
        // It was not confirmed, or it is behind much else: then it comes twice, which is one time too many
        // and does no harm.
        if self.lineage.lacks_epoch() {
            return Some(self.proposal(now));
        }
        Some(self.marker(loading.goal, None, now))
    }

    fn on_time_when_live(&mut self, now: Instant) -> Option<Marker> {
        let pass = self.coverage.pass();
        let takes_over = self.coverage.takes_over(now);
        if let Some((offsets, is_search)) = self.coverage.pass().filter(|_| pass.is_none()) {
            let (from, messages) = (offsets.start, offsets.end - offsets.start);
            let purpose = if is_search {
                "find out which messages were dead-lettered"
            } else {
                "dead-letter what no engine has reported as dead-lettered"
            };
            tracing::info!(from, messages, purpose, "reading a part of the stream again, as a routine");
        }
        if takes_over || self.due <= now {
            return self.claim(now);
        }
        self.coverage.tells(now).then(|| self.marker(rand::random(), None, now))
    }

    /// What this node knows of the epoch, told again.
    fn claim(&mut self, now: Instant) -> Option<Marker> {
        let claim = self.lineage.claim();
        self.due = now + CLAIM_EVERY;
        claim.map(|claim| self.marker(rand::random(), Some(claim), now))
    }

    /// A new epoch, for a stream without one that holds.
    fn proposal(&mut self, now: Instant) -> Marker {
        let claim = self.lineage.proposal(format!("{:016x}", rand::random::<u64>()).into());
        self.marker(rand::random(), Some(claim), now)
    }

    fn marker(&mut self, nonce: u64, claim: Option<Claim>, now: Instant) -> Marker {
        self.marked = now;
        Marker { nonce, node: self.node, claim }
    }
}

/// Why a link is at the wrong place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Astray {
    /// The stream has other messages at offsets that this node has read.
    #[error("its stream was rewound: other messages are where some were that we read")]
    Rewound,
    /// No claim was in what was read back, and there may be one further back.
    #[error("no engine's claim was in what was read of the stream: it is read from further back")]
    Short,
}

/// As far back as the longest history goes, within the limits.
fn reach(config: &Config) -> Reach {
    let amqp = &config.amqp;
    let (history, limit) = (config.longest_history(), amqp.replay_max_age.0);
    if history > limit {
        let (history, limit) = (String::from(Interval(history)), String::from(amqp.replay_max_age));
        tracing::info!(
            "a history_ttl is {history}, amqp.replay_max_age {limit}: who comes back after a restart of the \
             engine recovers what is younger than the latter"
        );
    }
    let ids = u64::try_from(amqp.message_ids).unwrap_or(u64::MAX);
    Reach { span: history.min(limit), messages: amqp.replay_max_messages, ids, is_far: false }
}

#[cfg(test)]
mod tests;
