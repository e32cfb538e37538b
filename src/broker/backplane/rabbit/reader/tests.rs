use super::super::headers;
use super::*;
use crate::base::clock::UnixTime;
use crate::config::Namespace;
use lapin::BasicProperties;
use lapin::types::AMQPValue;

/// Back to the beginning.
const BACK: Start = Start::Back { first: 0, wanted: 0, top: 0, is_short: false, is_rewound: false };

struct Harness {
    reader: Reader,
    events: VecDeque<Event>,
    now: Instant,
    offset: i64,
}

impl Harness {
    fn new() -> Self {
        let now = Instant::now();
        Self { reader: Reader::new(&Config::default(), now), events: VecDeque::new(), now, offset: 0 }
    }

    fn begin(&mut self) -> Marker {
        self.reader.linked(BACK, &mut self.events, self.now).expect("a marker to read back")
    }

    /// The stream gives back what was written into it, at the next offset.
    fn deliver(&mut self, marker: Option<&Marker>) -> Option<Marker> {
        let delivery = self.written(marker);
        self.reader.take(delivery, &mut self.events, self.now)
    }

    /// The same without its offset.
    fn deliver_without_offset(&mut self) {
        let mut delivery = self.written(None);
        delivery.properties = BasicProperties::default();
        assert_eq!(self.reader.take(delivery, &mut self.events, self.now), None);
    }

    fn written(&mut self, marker: Option<&Marker>) -> Delivery {
        let written = marker.map(|marker| {
            markers::publish_of(&"fanfare".into(), marker, None, UnixTime::default()).properties
        });
        let properties = written.unwrap_or_default();
        let mut headers = properties.headers().clone().unwrap_or_default();
        headers.insert(headers::OFFSET.into(), AMQPValue::LongLongInt(self.offset));
        self.offset += 1;
        let exchange = if marker.is_some() { "" } else { "fanfare" };
        let mut delivery = Delivery::mock(1, exchange.into(), "a".into(), false, Vec::new());
        delivery.properties = BasicProperties::default().with_headers(headers);
        delivery
    }

    /// What was said since the last time, in short.
    fn said(&mut self) -> Vec<String> {
        let short = |event| match event {
            Event::Message(message) => {
                let place = message.place.expect("from a stream");
                format!("{} {} {}", place.offset, place.is_replayed, place.is_ours_to_dead_letter)
            }
            Event::Passed { .. } => "passed".to_owned(),
            Event::Loading { base } => format!("loading after {base}"),
            Event::CaughtUp { .. } => "caught up".to_owned(),
            Event::Connected { has_missed } => format!("connected {has_missed}"),
            event => panic!("{event:?}"),
        };
        self.events.drain(..).map(short).collect()
    }

    fn live() -> Self {
        let mut harness = Self::new();
        let goal = harness.begin();
        let proposal = harness.deliver(Some(&goal)).expect("a proposal");
        harness.deliver(Some(&proposal));
        harness.said();
        harness
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
    let mut harness = Harness::new();
    harness.offset = 5;
    let goal = harness.begin();
    assert_eq!(goal.claim, None, "which stream this is is not known yet");
    harness.deliver(None);
    let proposal = harness.deliver(Some(&goal)).expect("a proposal");
    assert!(proposal.claim.as_ref().is_some_and(|claim| claim.origin.is_none()));
    harness.deliver(None);
    let claim = harness.deliver(Some(&proposal)).expect("a claim").claim.expect("a claim");
    assert_eq!((claim.epoch, claim.origin), (proposal.claim.unwrap().epoch, Some(8)));
    harness.deliver(None);
    let said = harness.said();
    let read = ["loading after 5", "6 true false", "passed", "8 true false", "passed"];
    assert_eq!(said[..5], read);
    assert_eq!(said[5..], ["caught up", "connected true", "10 false true"]);
}

#[test]
fn what_was_read_before_a_lost_link_is_passed_over() {
    let mut harness = Harness::live();
    harness.deliver(None);
    let marker =
        harness.reader.linked(Start::Anchor { top: 9 }, &mut harness.events, harness.now).expect("a marker");
    assert_eq!(marker.claim, None, "it only shows by when all that waited has been read");
    harness.offset = 2;
    (0..2).for_each(|_| drop(harness.deliver(None)));
    assert_eq!(harness.said(), ["3 false true", "connected false", "passed", "4 false true"]);
    let goal = harness.begin();
    harness.offset = 0;
    let proposal = harness.deliver(Some(&goal)).expect("another epoch");
    harness.deliver(Some(&proposal));
    assert_eq!(harness.said(), ["loading after 0", "passed", "passed", "caught up", "connected true"]);
}

/// It is behind the message before it, and is dead-lettered: when it comes, or when that part is read again.
#[test]
fn what_comes_without_its_offset_is_dead_lettered_at_its_place() {
    let mut harness = Harness::live();
    harness.deliver(None);
    harness.deliver_without_offset();
    harness.deliver(None);
    let flaw = harness.events.iter().find_map(|event| match event {
        Event::Message(message) => message.flaw.as_ref().map(|flaw| flaw.to_string()),
        _ => None,
    });
    assert!(flaw.is_some_and(|flaw| flaw.contains("without its offset")));
    assert_eq!(harness.said(), ["3 false true", "4 false true", "5 false true"]);

    harness.reader.linked(Start::Anchor { top: 9 }, &mut harness.events, harness.now);
    harness.offset = 2;
    harness.deliver(None);
    harness.deliver_without_offset();
    (0..2).for_each(|_| drop(harness.deliver(None)));
    assert_eq!(harness.said(), ["connected false", "passed", "passed", "passed", "6 false true"]);

    let goal = harness.begin();
    harness.offset = 0;
    harness.deliver(Some(&goal));
    harness.said();
    harness.deliver_without_offset();
    assert_eq!(harness.said(), ["passed"], "it is not looked at while the stream is read back");
}

#[test]
fn a_stream_that_was_rewound_is_read_back_and_gets_an_epoch_of_the_next_generation() {
    let mut harness = Harness::live();
    harness.deliver(None);
    harness.reader.linked(Start::Anchor { top: 9 }, &mut harness.events, harness.now);
    harness.offset = 2;
    let old = harness.reader.claim(harness.now).expect("a claim");
    assert_eq!(harness.reader.astray(), None);
    harness.deliver(Some(&old));
    assert_eq!(harness.reader.astray(), Some(Astray::Rewound));
    assert_eq!(harness.reader.resume_point().anchor.map(|anchor| anchor.offset), None);
    let goal = harness.begin();
    harness.offset = 1;
    harness.deliver(Some(&old));
    let proposal = harness.deliver(Some(&goal)).expect("the old epoch does not hold").claim;
    assert_eq!(proposal.map(|claim| claim.generation), Some(1));

    // As who finds the anchor gone.
    let mut harness = Harness::live();
    let start = Start::Back { first: 0, wanted: 0, top: 0, is_short: false, is_rewound: true };
    let goal = harness.reader.linked(start, &mut harness.events, harness.now).expect("a marker");
    let proposal = harness.deliver(Some(&goal)).expect("a proposal").claim;
    assert_eq!(proposal.map(|claim| claim.generation), Some(1));
}

/// A node that reads back too little to meet a claim must not propose an epoch: everybody would be told of a gap.
#[test]
fn where_no_claim_is_met_it_reads_from_further_back_once_before_it_proposes_one() {
    let short = |is_short| Start::Back { first: 7, wanted: 9, top: 9, is_short, is_rewound: false };
    let mut harness = Harness::new();
    harness.offset = 7;
    let goal = harness.reader.linked(short(true), &mut harness.events, harness.now);
    assert!(!harness.reader.resume_point().reach.is_far);
    assert_eq!(harness.deliver(goal.as_ref()), None);
    assert_eq!(harness.reader.astray(), Some(Astray::Short));
    assert!(harness.reader.resume_point().reach.is_far);
    let goal = harness.reader.linked(short(false), &mut harness.events, harness.now);
    assert_eq!(harness.reader.astray(), None);
    let proposal = harness.deliver(goal.as_ref()).expect("there is none");
    harness.deliver(Some(&proposal));
    assert!(harness.reader.is_live() && !harness.reader.resume_point().reach.is_far);

    let mut harness = Harness::live();
    let claim = harness.reader.claim(harness.now).expect("a claim");
    let goal = harness.reader.linked(short(true), &mut harness.events, harness.now);
    harness.deliver(Some(&claim));
    harness.deliver(goal.as_ref());
    assert!(harness.reader.is_live(), "it has met one");
}

#[test]
fn claims_are_repeated_and_so_is_what_was_not_read_back() {
    let mut harness = Harness::live();
    assert_eq!(harness.reader.due(), harness.now + CLAIM_EVERY);
    assert!(harness.reader.on_time(harness.now + CLAIM_EVERY).is_some_and(|marker| marker.claim.is_some()));

    let mut harness = Harness::new();
    let goal = harness.begin();
    assert_eq!(harness.reader.on_time(harness.now + PROGRESS_EVERY), None);
    assert_eq!(harness.reader.due(), harness.now + PROGRESS_EVERY * 2);
    assert_eq!(harness.reader.on_time(harness.now + REPEAT_AFTER), Some(goal.clone()));
    harness.now += REPEAT_AFTER;
    assert!(harness.deliver(Some(&goal)).is_some());
    let again = harness.reader.on_time(harness.now + REPEAT_AFTER);
    assert!(again.is_some_and(|marker| marker.claim.is_some()));
}
