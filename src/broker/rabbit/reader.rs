//! Reading the stream: what its deliveries are to the broker, and which markers this node has to write.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState as Fingerprints;
use lapin::message::Delivery;

use crate::broker::backplane::{Event, Place};
use crate::config::{Config, Interval};
use crate::mail::Epoch;

use super::attach::{CLAIM_MESSAGES, CLAIM_SPAN, Reach, Start};
use super::trail::{Anchor, Claim, Finding, Marker, Trail};
use super::{markers, message};

/// Between two claims of one node. Whoever reads back over twice that meets one, if a node lives.
const CLAIM_EVERY: Duration = Duration::from_secs(CLAIM_SPAN.as_secs() / 2);
/// Messages after which a claim is due as well: after a lost link, the stream is read again from the newest
/// marker on, and who starts need not read far for a claim.
const CLAIM_EVERY_MESSAGES: u64 = CLAIM_MESSAGES / 2;
/// Between two lines about how far the reading back has come.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// After which a marker that was waited for while reading back is written again.
const REPEAT_AFTER: Duration = Duration::from_secs(5);

/// What it takes to find the place in the stream, for whoever makes the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entrance {
    pub(super) anchor: Option<Anchor>,
    pub(super) reach: Reach,
    pub(super) node: u64,
}

/// A node's way through its stream, over all links.
#[derive(Debug)]
pub(super) struct Reader {
    node: u64,
    reach: Reach,
    trail: Trail,
    fingerprints: Fingerprints,
    /// While the stream is read back.
    loading: Option<Loading>,
    /// Whether a stream was read back before.
    was_live: bool,
    /// When this node wrote a marker last.
    marked: Instant,
    /// When it looks after markers next.
    due: Instant,
}

#[derive(Debug)]
struct Loading {
    /// Nonce of the marker that ends it.
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
        let node = random();
        Self {
            node,
            reach: reach(config),
            trail: Trail::new(node),
            fingerprints: Fingerprints::default(),
            loading: None,
            was_live: false,
            marked: now,
            due: now,
        }
    }

    /// Where the next link has to begin.
    pub(super) fn entrance(&self) -> Entrance {
        Entrance { anchor: self.trail.anchor(), reach: self.reach, node: self.node }
    }

    /// Whether the stream has been read back.
    pub(super) fn is_live(&self) -> bool {
        self.trail.is_live()
    }

    /// Whether the link is at the wrong place, and a new one has to be made.
    pub(super) fn astray(&self) -> Option<Astray> {
        let why = if self.reach.is_far { Astray::Short } else { Astray::Rewound };
        self.trail.is_blank().then_some(why)
    }

    /// There is a link, and it begins here. Returns the marker to write.
    pub(super) fn linked(
        &mut self,
        start: Start,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) -> Option<Marker> {
        match start {
            Start::Anchor => {
                self.trail.resume();
                events.push_back(Event::Connected { gap: false });
                None
            }
            Start::Back { first, wanted, top, is_short, is_rewound } => {
                if self.was_live {
                    tracing::warn!("this is another stream, or it has lost messages: read anew");
                }
                if is_rewound {
                    self.trail.rewound();
                }
                let goal = random();
                self.trail.begin(goal);
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
            let (topic, bytes) = (delivery.routing_key.as_str(), delivery.data.len());
            tracing::error!(
                topic,
                bytes,
                "a message of the stream came without its offset: it is passed over"
            );
            events.push_back(Event::Passed { tag, offset: None });
            return None;
        };
        if let Some(loading) = &mut self.loading {
            if loading.read == 0 {
                // What RabbitMQ dropped in this moment is not there to be known.
                events.push_back(Event::Loading { base: loading.wanted.max(offset) });
            }
            loading.read += 1;
        }
        if let Some(marker) = markers::read(&delivery) {
            events.push_back(Event::Passed { tag, offset: Some(offset + 1) });
            let finding = self.trail.marker(offset, &marker);
            return self.act_on(finding, events, now);
        }
        let fingerprint = message::fingerprint(&delivery, &self.fingerprints);
        let Some(role) = self.trail.publication(offset, fingerprint) else {
            events.push_back(Event::Passed { tag, offset: Some(offset + 1) });
            return None;
        };
        if let Some(topic) = markers::removed(&delivery) {
            events.push_back(Event::HistoryRemoved { topic: topic.into(), tag, offset: offset + 1 });
            return None;
        }
        let place = Place { offset: offset + 1, is_replayed: role.replayed, is_ours_to_bury: role.buries };
        events.push_back(Event::Message(message::receive(delivery, Some(place))));
        let is_due = self.is_live() && self.trail.since_anchor().is_multiple_of(CLAIM_EVERY_MESSAGES);
        if is_due { self.claim(now) } else { None }
    }

    fn act_on(&mut self, finding: Finding, events: &mut VecDeque<Event>, now: Instant) -> Option<Marker> {
        match finding {
            Finding::Nothing => None,
            Finding::NoEpoch if self.may_find_a_claim() => {
                self.reach.is_far = true;
                self.trail.forget();
                None
            }
            Finding::NoEpoch => Some(self.proposal(now)),
            Finding::Contested => self.claim(now),
            Finding::Renamed(epoch) => {
                tracing::warn!(
                    %epoch,
                    "another node's epoch of the stream holds: it is older than ours, or the stream was rewound"
                );
                events.push_back(Event::Renamed { epoch });
                None
            }
            Finding::CaughtUp(epoch) => {
                self.caught_up(&epoch, now);
                events.push_back(Event::CaughtUp { epoch });
                events.push_back(Event::Connected { gap: true });
                self.was_live = true;
                self.claim(now)
            }
        }
    }

    /// Whether the stream may have a claim before what was read back.
    fn may_find_a_claim(&self) -> bool {
        self.trail.claim().is_none() && self.loading.as_ref().is_some_and(|loading| loading.is_short)
    }

    fn caught_up(&mut self, epoch: &Epoch, now: Instant) {
        self.reach.is_far = false;
        if let Some(Loading { read, since, .. }) = self.loading.take() {
            let seconds = now.duration_since(since).as_secs_f32();
            tracing::info!(messages = read, seconds, %epoch, "read the stream back");
        }
    }

    /// When [`Self::on_time`] has something to do.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Looks after what has to be done although nothing comes. Returns the marker to write.
    pub(super) fn on_time(&mut self, now: Instant) -> Option<Marker> {
        let Some(loading) = &self.loading else { return self.claim(now) };
        let of = loading.top.saturating_sub(loading.first);
        tracing::info!(messages = loading.read, about = of, "reading the stream back");
        self.due = now + PROGRESS_EVERY;
        if now < self.marked + REPEAT_AFTER {
            return None;
        }
        // It was not confirmed, or it is behind much else: then it comes twice, which is one time too many
        // and does no harm.
        if self.trail.lacks_epoch() {
            return Some(self.proposal(now));
        }
        Some(self.marker(loading.goal, None, now))
    }

    /// What this node knows of the epoch, told again.
    fn claim(&mut self, now: Instant) -> Option<Marker> {
        let claim = self.trail.claim();
        self.due = now + CLAIM_EVERY;
        claim.map(|claim| self.marker(random(), Some(claim), now))
    }

    /// A new epoch, for a stream without one that holds.
    fn proposal(&mut self, now: Instant) -> Marker {
        let claim = self.trail.proposal(format!("{:016x}", random()).into());
        self.marker(random(), Some(claim), now)
    }

    fn marker(&mut self, nonce: u64, claim: Option<Claim>, now: Instant) -> Marker {
        self.marked = now;
        Marker { nonce, node: self.node, claim }
    }
}

/// Why a link is at the wrong place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Astray {
    /// Other messages are where some were that this node has read.
    Rewound,
    /// It began too late for a claim to be met, and there may be one further back.
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

/// 64 bits from the operating system's randomness.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one("fanfare marker")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Namespace;
    use lapin::BasicProperties;
    use lapin::types::AMQPValue;

    /// Back to the beginning.
    const BACK: Start = Start::Back { first: 0, wanted: 0, top: 0, is_short: false, is_rewound: false };

    struct House {
        reader: Reader,
        events: VecDeque<Event>,
        now: Instant,
        offset: i64,
    }

    impl House {
        fn new() -> Self {
            let now = Instant::now();
            Self { reader: Reader::new(&Config::default(), now), events: VecDeque::new(), now, offset: 0 }
        }

        fn begin(&mut self) -> Marker {
            self.reader.linked(BACK, &mut self.events, self.now).expect("a marker to read back")
        }

        /// The stream gives back what was written into it, at the next offset.
        fn deliver(&mut self, marker: Option<&Marker>) -> Option<Marker> {
            let written = marker.map(|marker| markers::letter(&"fanfare".into(), marker).properties);
            let properties = written.unwrap_or_default();
            let mut headers = properties.headers().clone().unwrap_or_default();
            headers.insert(message::OFFSET.into(), AMQPValue::LongLongInt(self.offset));
            self.offset += 1;
            let exchange = if marker.is_some() { "" } else { "fanfare" };
            let mut delivery = Delivery::mock(1, exchange.into(), "a".into(), false, Vec::new());
            delivery.properties = BasicProperties::default().with_headers(headers);
            self.reader.take(delivery, &mut self.events, self.now)
        }

        /// What was said since the last time, in short.
        fn said(&mut self) -> Vec<String> {
            let short = |event| match event {
                Event::Message(message) => {
                    let place = message.place.expect("from a stream");
                    format!("{} {} {}", place.offset, place.is_replayed, place.is_ours_to_bury)
                }
                Event::Passed { .. } => "passed".to_owned(),
                Event::Loading { base } => format!("loading after {base}"),
                Event::CaughtUp { .. } => "caught up".to_owned(),
                Event::Connected { gap } => format!("connected {gap}"),
                event => panic!("{event:?}"),
            };
            self.events.drain(..).map(short).collect()
        }

        fn live() -> Self {
            let mut house = Self::new();
            let goal = house.begin();
            let proposal = house.deliver(Some(&goal)).expect("a proposal");
            house.deliver(Some(&proposal));
            house.said();
            house
        }
    }

    #[test]
    fn it_reads_back_as_far_as_the_longest_history_within_the_limit() {
        let minutes = |minutes: u64| Interval::from_secs(60 * minutes);
        for (histories, limit, span) in [
            (vec![], 10, 0),
            (vec![(0, 8)], 10, 0),
            (vec![(1, 1)], 10, 1),
            (vec![(1, 5), (1, 8)], 10, 8),
            (vec![(1, 5), (1, 30)], 10, 10),
        ] {
            let namespace = |(history_size, ttl): (u32, u64)| Namespace {
                history_size,
                history_ttl: minutes(ttl),
                ..Namespace::default()
            };
            let mut config = Config::default();
            config.amqp.replay_max_age = minutes(limit);
            let named = histories.iter().enumerate().map(|(n, &history)| (n.to_string(), namespace(history)));
            config.namespaces = named.collect();
            assert_eq!(reach(&config).span, minutes(span).0, "{histories:?}");
        }
    }

    #[test]
    fn a_stream_is_read_back_before_anything_is_new() {
        let mut house = House::new();
        house.offset = 5;
        let goal = house.begin();
        assert_eq!(goal.claim, None, "which stream this is is not known yet");
        house.deliver(None);
        let proposal = house.deliver(Some(&goal)).expect("a proposal");
        assert!(proposal.claim.as_ref().is_some_and(|claim| claim.origin.is_none()));
        house.deliver(None);
        let claim = house.deliver(Some(&proposal)).expect("a claim").claim.expect("a claim");
        assert_eq!((claim.epoch, claim.origin), (proposal.claim.unwrap().epoch, Some(8)));
        house.deliver(None);
        let said = house.said();
        let read = ["loading after 5", "6 true false", "passed", "8 true false", "passed"];
        assert_eq!(said[..5], read);
        assert_eq!(said[5..], ["caught up", "connected true", "10 false true"]);
    }

    #[test]
    fn what_was_read_before_a_lost_link_is_passed_over() {
        let mut house = House::live();
        house.deliver(None);
        house.reader.linked(Start::Anchor, &mut house.events, house.now);
        house.offset = 2;
        (0..2).for_each(|_| drop(house.deliver(None)));
        assert_eq!(house.said(), ["3 false true", "connected false", "passed", "4 false true"]);
        let goal = house.begin();
        house.offset = 0;
        let proposal = house.deliver(Some(&goal)).expect("another epoch");
        house.deliver(Some(&proposal));
        assert_eq!(house.said(), ["loading after 0", "passed", "passed", "caught up", "connected true"]);
    }

    #[test]
    fn a_stream_that_was_rewound_is_read_back_and_gets_an_epoch_of_the_next_generation() {
        let mut house = House::live();
        house.deliver(None);
        house.reader.linked(Start::Anchor, &mut house.events, house.now);
        house.offset = 2;
        let old = house.reader.claim(house.now).expect("a claim");
        assert_eq!(house.reader.astray(), None);
        house.deliver(Some(&old));
        assert_eq!(house.reader.astray(), Some(Astray::Rewound));
        assert_eq!(house.reader.entrance().anchor.map(|anchor| anchor.offset), None);
        let goal = house.begin();
        house.offset = 1;
        house.deliver(Some(&old));
        let proposal = house.deliver(Some(&goal)).expect("the old epoch does not hold").claim;
        assert_eq!(proposal.map(|claim| claim.generation), Some(1));

        // As who finds the anchor gone.
        let mut house = House::live();
        let start = Start::Back { first: 0, wanted: 0, top: 0, is_short: false, is_rewound: true };
        let goal = house.reader.linked(start, &mut house.events, house.now).expect("a marker");
        let proposal = house.deliver(Some(&goal)).expect("a proposal").claim;
        assert_eq!(proposal.map(|claim| claim.generation), Some(1));
    }

    /// A node that reads back too little to meet a claim must not propose an epoch: everybody would be told of a gap.
    #[test]
    fn where_no_claim_is_met_it_reads_from_further_back_once_before_it_proposes_one() {
        let short = |is_short| Start::Back { first: 7, wanted: 9, top: 9, is_short, is_rewound: false };
        let mut house = House::new();
        house.offset = 7;
        let goal = house.reader.linked(short(true), &mut house.events, house.now);
        assert!(!house.reader.entrance().reach.is_far);
        assert_eq!(house.deliver(goal.as_ref()), None);
        assert_eq!(house.reader.astray(), Some(Astray::Short));
        assert!(house.reader.entrance().reach.is_far);
        let goal = house.reader.linked(short(false), &mut house.events, house.now);
        assert_eq!(house.reader.astray(), None);
        let proposal = house.deliver(goal.as_ref()).expect("there is none");
        house.deliver(Some(&proposal));
        assert!(house.reader.is_live() && !house.reader.entrance().reach.is_far);

        let mut house = House::live();
        let claim = house.reader.claim(house.now).expect("a claim");
        let goal = house.reader.linked(short(true), &mut house.events, house.now);
        house.deliver(Some(&claim));
        house.deliver(goal.as_ref());
        assert!(house.reader.is_live(), "it has met one");
    }

    #[test]
    fn claims_are_repeated_and_so_is_what_was_not_read_back() {
        let mut house = House::live();
        assert_eq!(house.reader.due(), house.now + CLAIM_EVERY);
        assert!(house.reader.on_time(house.now + CLAIM_EVERY).is_some_and(|marker| marker.claim.is_some()));

        let mut house = House::new();
        let goal = house.begin();
        assert_eq!(house.reader.on_time(house.now + PROGRESS_EVERY), None);
        assert_eq!(house.reader.due(), house.now + PROGRESS_EVERY * 2);
        assert_eq!(house.reader.on_time(house.now + REPEAT_AFTER), Some(goal.clone()));
        house.now += REPEAT_AFTER;
        assert!(house.deliver(Some(&goal)).is_some());
        let again = house.reader.on_time(house.now + REPEAT_AFTER);
        assert!(again.is_some_and(|marker| marker.claim.is_some()));
    }
}
