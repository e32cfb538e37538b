//! Tests the history against a list of everything that was ever published.

use std::sync::Arc;

use super::topics::cost_of;
use super::*;
use crate::domain::client_info::ClientInfo;

use proptest::prelude::*;

/// What ages are rounded to.
const STEP: Duration = Duration::from_millis(100);
const TOPICS: [&str; 4] = ["a", "b", "cc", "ddd"];

#[derive(Clone, Debug)]
enum Step {
    /// To which topic, after how many offsets of others, how long, when it ends after how many steps, and whether its
    /// age is known.
    Add(usize, u64, usize, Option<u32>, bool),
    /// How old all those are whose age was not known.
    Date(u32),
    Remove(usize),
    Pass(u32),
    Restart(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let ends = prop::option::weighted(0.2, 0..20_u32);
    let add = (0..TOPICS.len(), 1..5_u64, 0..40_usize, ends, prop::bool::weighted(0.6));
    prop_oneof![
        20 => add.prop_map(|(topic, skip, len, ends, dated)| Step::Add(topic, skip, len, ends, dated)),
        2 => (0..25_u32).prop_map(Step::Date),
        1 => (0..TOPICS.len()).prop_map(Step::Remove),
        4 => (1..15_u32).prop_map(Step::Pass),
        1 => (0..100_u64).prop_map(Step::Restart),
    ]
}

fn keep(topic: &str) -> Keep {
    let (size, steps) = match topic {
        "a" => (1, 20),
        "b" => (3, 20),
        _ => (6, 30),
    };
    Keep { size, ttl: STEP * steps }
}

/// A publication, held or not.
#[derive(Clone, Debug)]
struct Published {
    topic: &'static str,
    offset: u64,
    /// What it costs.
    cost: usize,
    /// What a codec makes of it.
    json: String,
    born: Instant,
    lifetime: Option<Duration>,
    ends: Option<Instant>,
    undated: bool,
    held: bool,
}

struct Model {
    room: History,
    /// Oldest first.
    all: Vec<Published>,
    dense: bool,
    bytes_max: usize,
    base: u64,
    newest: u64,
    now: Instant,
}

impl Model {
    fn new(dense: bool, bytes_max: usize, topics_max: usize) -> Self {
        let now = Instant::now();
        let room = History::new("E".into(), bytes_max, topics_max, now);
        Self { room, all: Vec::new(), dense, bytes_max, base: 0, newest: 0, now }
    }

    fn take(&mut self, step: &Step) {
        // One publication per step of the clock: no two are of the same age.
        self.now += STEP;
        match *step {
            Step::Add(topic, skip, len, ends, dated) => self.add(TOPICS[topic], skip, len, ends, dated),
            Step::Date(steps) => self.date(STEP * steps),
            Step::Remove(topic) => {
                self.room.remove(TOPICS[topic]);
                self.of(TOPICS[topic]).for_each(|published| published.held = false);
            }
            Step::Pass(steps) => self.now += STEP * steps,
            Step::Restart(ahead) => {
                self.base = if self.dense { 0 } else { self.newest + ahead };
                self.newest = self.base;
                self.room.restart("E".into(), self.base);
                self.all.clear();
            }
        }
        let now = self.now;
        self.room.expire(now);
        self.all.iter_mut().for_each(|it| it.held &= it.born + keep(it.topic).ttl > now);
    }

    /// Times do not go back: what came before is older.
    fn date(&mut self, age: Duration) {
        let newest_dated = self.all.iter().filter(|it| !it.undated).map(|it| it.born).max();
        let born = newest_dated.map_or(self.now - age, |newest| newest.max(self.now - age));
        self.room.date(self.now - born, self.now);
        for it in self.all.iter_mut().filter(|it| it.undated) {
            it.born = born;
            it.ends = it.ends.or_else(|| it.lifetime.map(|lifetime| self.now.max(born + lifetime)));
            it.undated = false;
        }
    }

    fn add(&mut self, topic: &'static str, skip: u64, len: usize, ends: Option<u32>, dated: bool) {
        self.room.expire(self.now);
        let now = self.now;
        self.all.iter_mut().for_each(|it| it.held &= it.born + keep(it.topic).ttl > now);
        let offset = if self.dense { self.room.next_offset(topic) } else { self.newest + skip };
        self.newest = self.newest.max(offset);
        let data = format!("\"{}\"", "-".repeat(len));
        // Some were made by clients.
        let user = "u".repeat(len);
        let client = ClientInfo { user: user.as_str().into(), client: "c".into(), ..ClientInfo::default() };
        let info = (len % 3 == 1).then(|| Arc::new(client));
        let said = if info.is_some() {
            format!(",\"info\":{{\"user\":\"{user}\",\"client\":\"c\"}}")
        } else {
            String::new()
        };
        let json = format!("{{\"data\":{data}{said},\"offset\":{offset}}}");
        let lifetime = ends.map(|steps| STEP * steps);
        // Where topics are numbered alone, publications are known as they come.
        let dated = dated || self.dense;
        let age = dated.then_some(Duration::ZERO);
        let publication = Publication { data: data.as_bytes(), info: info.as_ref(), offset };
        let cost = Ring::cost(&publication);
        self.room.add(topic, &Addition { publication, age, lifetime }, keep(topic), now);
        let ends = lifetime.filter(|_| dated).map(|lifetime| now + lifetime);
        let too_many = (self.held(topic).count() + 1).saturating_sub(keep(topic).size as usize);
        self.of(topic).filter(|it| it.held).take(too_many).for_each(|it| it.held = false);
        // What comes after one whose age is not known is of the same.
        let undated = !dated || self.held(topic).any(|it| it.undated);
        let born = now;
        self.all.push(Published { topic, offset, cost, json, born, lifetime, ends, undated, held: true });
        while self.cost() > self.bytes_max {
            let oldest = self.all.iter_mut().filter(|it| it.held).min_by_key(|it| (it.born, it.offset));
            oldest.expect("no publications cost nothing").held = false;
        }
    }

    fn of(&mut self, topic: &str) -> impl Iterator<Item = &mut Published> {
        self.all.iter_mut().filter(move |it| it.topic == topic)
    }

    fn held(&self, topic: &str) -> impl DoubleEndedIterator<Item = &Published> {
        self.all.iter().filter(move |it| it.topic == topic && it.held)
    }

    fn open(&self, published: &Published) -> bool {
        published.ends.is_none_or(|end| self.now < end)
    }

    fn cost(&self) -> usize {
        let topics: usize =
            TOPICS.iter().filter(|topic| self.held(topic).count() > 0).map(|topic| cost_of(topic)).sum();
        let held = self.all.iter().filter(|it| it.held);
        topics + held.map(|it| it.cost).sum::<usize>()
    }

    fn ask(&mut self, topic: &str, offset: u64, up_to: u64, mode: Mode) -> Recovery {
        let since = Since { epoch: "E".into(), offset };
        let read_to = if self.dense { 0 } else { self.newest };
        let (since, codec, bytes_max) = (&since, Codec::Json, usize::MAX);
        let query = RecoveryQuery { topic, since, up_to, read_to, mode, codec, bytes_max };
        self.room.recover(&query, self.now)
    }

    /// Everything of a topic with offsets in `range` that has not come to its own end, joined.
    fn joined(&self, topic: &str, range: impl Fn(u64) -> bool) -> String {
        let found = self.all.iter().filter(|it| it.topic == topic && range(it.offset) && self.open(it));
        found.map(|it| &*it.json).collect::<Vec<_>>().join(",")
    }

    /// All that one can ask: from where, and what was handed over.
    fn questions(&self, topic: &str) -> Vec<(u64, u64)> {
        let mut offsets: Vec<_> =
            self.all.iter().filter(|it| it.topic == topic).map(|it| it.offset).collect();
        // Of those long gone, a few are enough.
        offsets.drain(..offsets.len().saturating_sub(9));
        let mut asked: Vec<_> = offsets.iter().flat_map(|&offset| [offset - 1, offset, offset + 1]).collect();
        asked.extend([0, 1, self.base, self.base + 1, self.newest, self.newest + 1]);
        asked.sort_unstable();
        asked.dedup();
        let up_to: Vec<_> = offsets.iter().rev().take(2).copied().chain([u64::MAX]).collect();
        asked.iter().flat_map(|&asked| up_to.iter().map(move |&up_to| (asked, up_to))).collect()
    }

    /// Which of a topic's publications is the newest that was handed over.
    fn top(&self, topic: &str, up_to: u64) -> u64 {
        let mut offsets = self.all.iter().filter(|it| it.topic == topic).map(|it| it.offset);
        offsets.rfind(|offset| *offset <= up_to).unwrap_or(self.base)
    }

    /// Nothing is forgotten: the answers of the history are exactly known.
    fn compare(&mut self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.room.bytes(), self.cost());
        prop_assert_eq!(self.room.publications(), self.all.iter().filter(|it| it.held).count());
        for topic in TOPICS {
            for (asked, up_to) in self.questions(topic) {
                let top = self.top(topic, up_to);
                let recovery = self.ask(topic, asked, up_to, Mode::Stream);
                prop_assert_eq!(recovery.position.offset, top);
                prop_assert_eq!(self.room.position(topic, up_to).offset, top);
                let missed = |offset| asked < offset && offset <= top;
                let all_held = self.all.iter().all(|it| it.topic != topic || !missed(it.offset) || it.held);
                // Ahead of what was handed over: what waits must be known, and not be had already.
                let in_the_way =
                    |it: &Published| it.topic == topic && it.offset > top && (it.offset <= asked || !it.held);
                let again = asked > top && self.all.iter().any(in_the_way);
                let known = if self.dense { top } else { self.newest.max(top) };
                let expected = (all_held && !again && (self.base..=known).contains(&asked))
                    .then(|| self.joined(topic, missed));
                let told = recovery.missed.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
                prop_assert_eq!(told, expected, "{} from {} up to {}", topic, asked, up_to);
                self.compare_latest(topic, asked, up_to)?;
            }
            self.compare_pages(topic)?;
        }
        Ok(())
    }

    fn compare_latest(&mut self, topic: &str, asked: u64, up_to: u64) -> Result<(), TestCaseError> {
        let top = self.top(topic, up_to);
        let latest = self.held(topic).find(|it| it.offset == top && self.open(it));
        let expected = if asked > 0 && asked == top {
            Some(String::new())
        } else {
            latest.map(|latest| latest.json.clone())
        };
        let told = self.ask(topic, asked, up_to, Mode::Cache).missed;
        prop_assert_eq!(told.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()), expected);
        Ok(())
    }

    fn compare_pages(&mut self, topic: &str) -> Result<(), TestCaseError> {
        let middle = self.held(topic).nth(1).map_or(self.base, |it| it.offset);
        for (after, reverse) in [(None, false), (None, true), (Some(middle), false), (Some(middle), true)] {
            let since = after.map(|offset| Since { epoch: "".into(), offset });
            let query = Query { topic, since: since.as_ref(), limit: 2, reverse };
            let mut page = Vec::new();
            let position = self.room.read(&query, self.now, |publication| {
                Codec::Json.add_publication(&mut page, publication);
                true
            });
            prop_assert!(position.is_ok());
            let beyond = |it: &&Published| match after {
                None => true,
                Some(after) if reverse => it.offset < after,
                Some(after) => it.offset > after,
            };
            let found = self.held(topic).filter(beyond).filter(|it| self.open(it)).map(|it| &*it.json);
            let expected: Vec<_> =
                if reverse { found.rev().take(2).collect() } else { found.take(2).collect() };
            prop_assert_eq!(String::from_utf8(page).unwrap(), expected.join(","));
        }
        Ok(())
    }

    /// Topics are forgotten: whoever is told to go on misses nothing, and gets nothing twice.
    fn check_that_nothing_is_lost(&mut self) -> Result<(), TestCaseError> {
        prop_assert!(self.room.bytes() <= self.bytes_max);
        for topic in TOPICS {
            for (asked, up_to) in self.questions(topic) {
                let recovery = self.ask(topic, asked, up_to, Mode::Stream);
                let top = recovery.position.offset;
                let Some(missed) = recovery.missed else { continue };
                let expected = self.joined(topic, |offset| asked < offset && offset <= up_to);
                prop_assert_eq!(std::str::from_utf8(&missed).unwrap(), expected, "{} from {}", topic, asked);
                prop_assert_eq!(self.joined(topic, |offset| up_to < offset && offset <= asked), "");
                prop_assert!(top <= up_to);
            }
            // Numbers are never given twice, and a known topic loses no held publication to forgetting.
            let next = self.room.next_offset(topic);
            prop_assert!(self.all.iter().all(|it| it.topic != topic || it.offset < next));
            let newest = self.all.iter().rfind(|it| it.topic == topic);
            let newest = newest.filter(|newest| newest.held && self.open(newest)).cloned();
            if let Some(Published { offset, json, .. }) = newest {
                let recovery = self.ask(topic, offset - 1, u64::MAX, Mode::Cache);
                prop_assert_eq!(recovery.missed.as_deref(), Some(json.as_bytes()));
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn it_is_exact_as_long_as_no_topic_is_forgotten(
        dense in any::<bool>(),
        bytes_max in prop_oneof![Just(usize::MAX), 300..3000_usize],
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut model = Model::new(dense, bytes_max, usize::MAX);
        for step in &steps {
            model.take(step);
            model.compare()?;
        }
    }

    #[test]
    fn nothing_is_lost_when_topics_are_forgotten(
        dense in any::<bool>(),
        bytes_max in prop_oneof![Just(usize::MAX), 300..3000_usize],
        topics_max in 0..3_usize,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut model = Model::new(dense, bytes_max, topics_max);
        for step in &steps {
            model.take(step);
            model.check_that_nothing_is_lost()?;
        }
    }
}
