//! Publications that leave together. A pure room: lines in, batches out, time as an argument.
//!
//! Lines of one topic that come in one turn of the broker's loop are joined in any case, which costs no time.
//! They wait for more only where a namespace says so, at most `max_delay` from the first of them on.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;

use crate::broker::frontier::Tag;
use crate::broker::topics::TopicIndex;
use crate::config::{Namespace, SlowPolicy};

/// When waiting lines leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    delay: Duration,
    messages: u32,
    bytes: usize,
    latest_per_key: bool,
}

impl Rule {
    /// The rule of a namespace. A batch never has more than `frame_bytes` of payload.
    pub(super) fn of(namespace: &Namespace, frame_bytes: usize) -> Self {
        let or_none = |limit: usize, none: usize| if limit == 0 { none } else { limit };
        Self {
            delay: namespace.max_delay.0,
            messages: if namespace.max_messages == 0 { u32::MAX } else { namespace.max_messages },
            bytes: or_none(namespace.max_bytes, frame_bytes).min(frame_bytes),
            latest_per_key: namespace.slow == SlowPolicy::Skip,
        }
    }
}

/// A line on its way into a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// The line, its end included.
    pub bytes: &'a [u8],
    /// Of lines with the same key only the latest matters, where the namespace says so.
    pub key: Option<&'a str>,
    /// The message it came in.
    pub tag: Option<Tag>,
}

/// Lines of one topic that leave together.
#[derive(Debug)]
pub(super) struct Batch {
    /// Whose.
    pub topic: TopicIndex,
    /// The lines, one after the other.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub count: u32,
    /// The first message in it: what held the frontier back.
    pub first: Option<Tag>,
}

#[derive(Debug, Default)]
struct Open {
    bytes: Vec<u8>,
    /// Where each line ends, with the hash of its key; only kept where keys matter.
    keyed: Vec<(usize, Option<Box<str>>)>,
    count: u32,
    first: Option<Tag>,
    due: Option<Instant>,
}

/// All batches that are open.
#[derive(Debug, Default)]
pub(super) struct Merger {
    open: HashMap<TopicIndex, Open, FxBuildHasher>,
    /// Topics whose batch leaves at the end of this turn, in the order of their first lines.
    leaving: Vec<TopicIndex>,
    /// Topics whose batch waits, by when it leaves.
    waiting: BTreeSet<(Instant, TopicIndex)>,
    /// Batches that were full within the turn.
    full: Vec<Batch>,
    bytes: usize,
}

impl Merger {
    /// Adds a line to its topic's batch. Whether it began the batch, whose first message is then to be held
    /// back until the batch leaves.
    pub(super) fn add(&mut self, topic: TopicIndex, line: Line<'_>, rule: &Rule, now: Instant) -> bool {
        let open_bytes = self.open.get(&topic).map_or(0, |open| open.bytes.len());
        if open_bytes > 0 && open_bytes + line.bytes.len() > rule.bytes {
            self.close(topic);
        }
        let open = self.open.entry(topic).or_default();
        let begins = open.count == 0;
        if begins {
            open.first = line.tag;
            if rule.delay.is_zero() {
                self.leaving.push(topic);
            } else {
                let due = now + rule.delay;
                open.due = Some(due);
                self.waiting.insert((due, topic));
            }
        }
        open.bytes.extend_from_slice(line.bytes);
        open.count += 1;
        if rule.latest_per_key {
            open.keyed.push((open.bytes.len(), line.key.map(Into::into)));
        }
        let full = open.count >= rule.messages || open.bytes.len() >= rule.bytes;
        self.bytes += line.bytes.len();
        if full {
            self.close(topic);
        }
        begins
    }

    /// Everything that leaves now: what is full, what does not wait, and what has waited long enough.
    pub(super) fn leave(&mut self, now: Instant) -> Vec<Batch> {
        for topic in std::mem::take(&mut self.leaving) {
            self.close(topic);
        }
        while let Some(&(due, topic)) = self.waiting.first() {
            if due > now {
                break;
            }
            self.close(topic);
        }
        std::mem::take(&mut self.full)
    }

    /// Everything that waits, whether its time has come or not.
    pub(super) fn leave_all(&mut self, now: Instant) -> Vec<Batch> {
        while let Some(&(_, topic)) = self.waiting.first() {
            self.close(topic);
        }
        self.leave(now)
    }

    /// Drops what waits for a topic that nobody subscribes to any more: its first message.
    pub(super) fn forget(&mut self, topic: TopicIndex) -> Option<Tag> {
        self.close(topic);
        let position = self.full.iter().position(|batch| batch.topic == topic)?;
        self.full.remove(position).first
    }

    /// When the next batch leaves.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|&(due, _)| due)
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn close(&mut self, topic: TopicIndex) {
        let Some(open) = self.open.remove(&topic) else { return };
        if let Some(due) = open.due {
            self.waiting.remove(&(due, topic));
        }
        self.bytes -= open.bytes.len();
        let (bytes, count) = if open.keyed.iter().any(|(_, key)| key.is_some()) {
            latest_per_key(&open.bytes, &open.keyed)
        } else {
            (open.bytes, open.count)
        };
        self.full.push(Batch { topic, bytes, count, first: open.first });
    }
}

/// The lines without those that a later line with the same key replaces, in the order of what is left.
fn latest_per_key(bytes: &[u8], keyed: &[(usize, Option<Box<str>>)]) -> (Vec<u8>, u32) {
    let mut latest = HashMap::new();
    for (index, (_, key)) in keyed.iter().enumerate() {
        if let Some(key) = key {
            latest.insert(key, index);
        }
    }
    let (mut kept, mut count, mut from) = (Vec::with_capacity(bytes.len()), 0, 0);
    for (index, (to, key)) in keyed.iter().enumerate() {
        if key.as_ref().is_none_or(|key| latest[key] == index) {
            kept.extend_from_slice(&bytes[from..*to]);
            count += 1;
        }
        from = *to;
    }
    (kept, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Interval;

    fn rule(namespace: &Namespace) -> Rule {
        Rule::of(namespace, 100)
    }

    fn delayed() -> Namespace {
        Namespace { max_delay: Interval::from_secs(1), ..Namespace::default() }
    }

    fn line(text: &str) -> Line<'_> {
        Line { bytes: text.as_bytes(), key: None, tag: None }
    }

    fn texts(batches: &[Batch]) -> Vec<(u32, String, u32)> {
        batches.iter().map(|b| (b.topic.0, String::from_utf8(b.bytes.clone()).unwrap(), b.count)).collect()
    }

    #[test]
    fn lines_of_one_turn_leave_together_and_topics_in_their_order() {
        let (mut merger, now) = (Merger::default(), Instant::now());
        let rule = rule(&Namespace::default());
        for (topic, text) in [(2, "a\n"), (1, "b\n"), (2, "c\n")] {
            merger.add(TopicIndex(topic), line(text), &rule, now);
        }
        assert_eq!(texts(&merger.leave(now)), [(2, "a\nc\n".into(), 2), (1, "b\n".into(), 1)]);
        assert_eq!((merger.bytes(), merger.next_due()), (0, None));
    }

    #[test]
    fn a_delay_counts_from_the_first_line() {
        let (mut merger, start) = (Merger::default(), Instant::now());
        let rule = rule(&delayed());
        assert!(merger.add(TopicIndex(1), line("a\n"), &rule, start));
        let later = start + Duration::from_millis(900);
        assert!(!merger.add(TopicIndex(1), line("b\n"), &rule, later));
        assert!(merger.leave(later).is_empty());
        assert_eq!(merger.next_due(), Some(start + Duration::from_secs(1)));
        assert_eq!(texts(&merger.leave(start + Duration::from_secs(1))), [(1, "a\nb\n".into(), 2)]);
    }

    #[test]
    fn a_full_batch_leaves_early() {
        let now = Instant::now();
        let by_count = rule(&Namespace { max_messages: 2, ..delayed() });
        let by_bytes = rule(&Namespace { max_bytes: 4, ..delayed() });
        for rule in [by_count, by_bytes] {
            let mut merger = Merger::default();
            for text in ["a\n", "b\n", "c\n"] {
                merger.add(TopicIndex(1), line(text), &rule, now);
            }
            assert_eq!(texts(&merger.leave(now)), [(1, "a\nb\n".into(), 2)]);
            assert_eq!(texts(&merger.leave_all(now)), [(1, "c\n".into(), 1)]);
        }
    }

    #[test]
    fn a_line_that_does_not_fit_begins_the_next_batch() {
        let (mut merger, now) = (Merger::default(), Instant::now());
        let rule = rule(&Namespace { max_bytes: 5, ..delayed() });
        for text in ["aaa\n", "bbb\n"] {
            assert!(merger.add(TopicIndex(1), line(text), &rule, now));
        }
        assert_eq!(texts(&merger.leave(now)), [(1, "aaa\n".into(), 1)]);
    }

    #[test]
    fn only_the_latest_per_key_stays_where_slow_clients_skip() {
        let (mut merger, now) = (Merger::default(), Instant::now());
        let lines = [
            ("a1\n", Some("a")),
            ("b1\n", Some("b")),
            ("x\n", None),
            ("a2\n", Some("a")),
            ("b2\n", Some("b")),
        ];
        let skip = rule(&Namespace { slow: SlowPolicy::Skip, ..delayed() });
        let keep = rule(&delayed());
        for (rule, expected) in [(skip, ("x\na2\nb2\n", 3)), (keep, ("a1\nb1\nx\na2\nb2\n", 5))] {
            for (text, key) in lines {
                merger.add(TopicIndex(1), Line { key, ..line(text) }, &rule, now);
            }
            assert_eq!(texts(&merger.leave_all(now)), [(1, expected.0.to_owned(), expected.1)]);
        }
    }

    #[test]
    fn a_forgotten_topic_gives_its_first_message_back() {
        let (mut merger, now) = (Merger::default(), Instant::now());
        let tag = Some(Tag { generation: 1, number: 7 });
        merger.add(TopicIndex(1), Line { tag, ..line("a\n") }, &rule(&delayed()), now);
        assert_eq!(merger.forget(TopicIndex(1)), tag);
        assert!(merger.leave_all(now).is_empty());
        assert_eq!(merger.forget(TopicIndex(1)), None);
    }
}
