//! Merges publications of one topic into batches: always those of one turn of the loop, and those of a longer
//! window if the namespace has `max_delay`. Each lane has windows of its own.
//!
//! Pure: time is an argument, nothing is sent, logged or counted here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::base::clock::UnixTime;
use crate::domain::mail::{KeyedLine, Lane};

use super::lanes::{Lanes, Rhythm};
use super::topics::TopicId;

/// How long publications of a topic wait for each other, and what ends the wait earlier.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// From the first waiting publication. Zero: to the end of this turn.
    pub(super) delay: Duration,
    /// Lines that end the wait; 0: any number.
    pub(super) lines: u32,
    /// Bytes that end the wait; 0: as many as fit into a frame.
    pub(super) bytes: usize,
}

/// A line that may wait.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) topic: TopicId,
    /// Where there is somebody to wait for it.
    pub(super) lanes: Lanes,
    /// Taken if a batch begins with it, so that it is not copied. Empty then.
    pub(super) line: &'a mut Vec<u8>,
    /// What it is the latest of, as a hash, where that matters to slow subscribers.
    pub(super) key: Option<u64>,
    /// The message it came in; they rise.
    pub(super) tag: u64,
    /// When it was published, if it says so.
    pub(super) published: Option<UnixTime>,
    /// Where its topic stands with it; 0 where topics have no history.
    pub(super) offset: u64,
    /// Whether that is its own offset. If not, no history keeps it, and the topic stood there before.
    pub(super) is_numbered: bool,
}

/// Lines to hand over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) topic: TopicId,
    /// To whom. In each of these lanes a batch has begun with `tag`.
    pub(super) lanes: Lanes,
    /// The lines one after the other, at most a frame's payload.
    pub(super) bytes: Arc<Vec<u8>>,
    /// How many they are.
    pub(super) lines: u32,
    /// Those with a key.
    pub(super) keyed: Vec<KeyedLine>,
    /// The message that the first of them came in.
    pub(super) tag: u64,
    /// When those were published that say so.
    pub(super) published: Vec<UnixTime>,
    /// Where the topic stands with the last of them; 0 where topics have no history.
    pub(super) offset: u64,
}

/// Everything that waits.
#[derive(Debug)]
pub(super) struct Merge {
    frame_bytes: usize,
    bytes_max: usize,
    windows: FxHashMap<Where, Window>,
    /// One entry per window.
    deadlines: BTreeSet<(Instant, Where)>,
    /// Of topics with several lanes. Such topics are few: each has a crowd of subscribers.
    rhythms: FxHashMap<TopicId, Rhythm>,
    /// What need not wait any longer, in the order in which it ceased to.
    ripe: Vec<Batch>,
    /// Bytes of all windows.
    bytes: usize,
}

/// Whose window.
type Where = (TopicId, Lane);

#[derive(Debug)]
struct Window {
    deadline: Instant,
    tag: u64,
    /// Everything of the topic before the first one was handed over. The topic stands at the second one with the last line.
    offsets: (u64, u64),
    lines: Lines,
}

#[derive(Debug, Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u32,
    keyed: Vec<KeyedLine>,
    published: Vec<UnixTime>,
}

impl Merge {
    /// Batches of at most `frame_bytes`; everything is handed over when more than `bytes_max` wait.
    pub(super) fn new(frame_bytes: usize, bytes_max: usize) -> Self {
        Self {
            frame_bytes,
            bytes_max,
            windows: FxHashMap::default(),
            deadlines: BTreeSet::new(),
            rhythms: FxHashMap::default(),
            ripe: Vec::new(),
            bytes: 0,
        }
    }

    /// Sets how many bytes may wait.
    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Takes a line, of at most `frame_bytes`. Returns how many new batches begin with it: at most one a lane.
    pub(super) fn add(&mut self, mut arrival: Arrival<'_>, rules: &Rules, now: Instant) -> usize {
        let rhythm = arrival.lanes.are_several().then(|| {
            let rhythm = self.rhythms.entry(arrival.topic).or_insert_with(|| Rhythm::new(now));
            rhythm.line(rules.delay, now);
            *rhythm
        });
        let end = |lane| match rhythm {
            Some(rhythm) => rhythm.window_end(lane, rules.delay, now),
            None => now + rules.delay,
        };
        let lanes = arrival.lanes;
        let begun = lanes.iter().filter(|&lane| self.add_to(lane, &mut arrival, rules, end(lane))).count();
        if self.bytes > self.bytes_max {
            self.close_all();
        }
        begun
    }

    /// Adds a line to the window of one lane. Returns whether one began with it, to end at `end`.
    fn add_to(&mut self, lane: Lane, arrival: &mut Arrival<'_>, rules: &Rules, end: Instant) -> bool {
        let key = (arrival.topic, lane);
        let len = arrival.line.len();
        let frame_is_full = |window: &Window| window.lines.bytes.len() + len > self.frame_bytes;
        if self.windows.get(&key).is_some_and(frame_is_full) {
            self.close(key);
        }
        let mut begins = false;
        let window = self.windows.entry(key).or_insert_with(|| {
            begins = true;
            Window::new(end, arrival)
        });
        if begins {
            self.deadlines.insert((end, key));
        }
        window.lines.push(arrival);
        window.offsets.1 = arrival.offset;
        self.bytes += len;
        if window.is_complete(rules) {
            self.close(key);
        }
        begins
    }

    /// What need not wait any longer at `now`.
    pub(super) fn take_ripe(&mut self, now: Instant) -> Vec<Batch> {
        while let Some(&(deadline, key)) = self.deadlines.first()
            && deadline <= now
        {
            self.close(key);
        }
        std::mem::take(&mut self.ripe)
    }

    /// The offset with which what waits for a lane begins at the earliest: everything before was handed over.
    pub(super) fn waiting_from(&self, topic: TopicId, lane: Lane) -> Option<u64> {
        self.windows.get(&(topic, lane)).map(|window| window.offsets.0)
    }

    /// Ends the waiting for one lane.
    pub(super) fn close_lane(&mut self, topic: TopicId, lane: Lane) {
        self.close((topic, lane));
    }

    /// When [`Merge::take_ripe`] has something to give at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Ends all waiting.
    pub(super) fn close_all(&mut self) {
        while let Some(&(_, key)) = self.deadlines.first() {
            self.close(key);
        }
    }

    /// A topic is gone: returns the tags that its waiting batches held.
    pub(super) fn forget(&mut self, topic: TopicId) -> impl Iterator<Item = u64> {
        debug_assert!(self.ripe.is_empty(), "requests come after the hand-over");
        self.rhythms.remove(&topic);
        Lane::ALL.into_iter().filter_map(move |lane| self.remove((topic, lane))).map(|window| window.tag)
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lanes whose windows end one after the other with the same in them share a batch.
    fn close(&mut self, key: Where) {
        let Some(window) = self.remove(key) else { return };
        let (_, lane) = key;
        let batch = window.into_batch(key);
        match self.ripe.last_mut() {
            Some(last) if last.is_same_for(lane, &batch) => last.lanes.insert(lane),
            _ => self.ripe.push(batch),
        }
    }

    fn remove(&mut self, key: Where) -> Option<Window> {
        let window = self.windows.remove(&key)?;
        self.deadlines.remove(&(window.deadline, key));
        self.bytes -= window.lines.bytes.len();
        Some(window)
    }
}

impl Batch {
    /// Whether it is what the batch of `lane` is, and that lane is none of its own.
    fn is_same_for(&self, lane: Lane, batch: &Self) -> bool {
        !self.lanes.contains(lane)
            && (self.topic, self.tag, self.lines) == (batch.topic, batch.tag, batch.lines)
            && self.bytes == batch.bytes
    }
}

impl Window {
    fn new(deadline: Instant, first: &Arrival<'_>) -> Self {
        let begins_at = first.offset + u64::from(!first.is_numbered);
        Self { deadline, tag: first.tag, offsets: (begins_at, first.offset), lines: Lines::default() }
    }

    fn is_complete(&self, rules: &Rules) -> bool {
        let enough_lines = rules.lines > 0 && self.lines.count >= rules.lines;
        let enough_bytes = rules.bytes > 0 && self.lines.bytes.len() >= rules.bytes;
        enough_lines || enough_bytes
    }

    fn into_batch(self, (topic, lane): Where) -> Batch {
        let Lines { mut bytes, count: lines, keyed, published } = self.lines;
        bytes.shrink_to(bytes.len() + bytes.len() / 4);
        let lanes = Lanes::from_iter([lane]);
        Batch {
            topic,
            lanes,
            bytes: Arc::new(bytes),
            lines,
            keyed,
            tag: self.tag,
            published,
            offset: self.offsets.1,
        }
    }
}

impl Lines {
    fn push(&mut self, arrival: &mut Arrival<'_>) {
        let from = self.bytes.len();
        if self.bytes.is_empty() && !arrival.lanes.are_several() {
            std::mem::swap(&mut self.bytes, arrival.line);
            // The buffer may have had a larger line, and limits count bytes, not capacity.
            self.bytes.shrink_to(self.bytes.len() + self.bytes.len() / 4);
        } else {
            // A batch has begun, or other lanes need the line as well.
            self.bytes.extend_from_slice(arrival.line);
        }
        self.count += 1;
        self.published.extend(arrival.published);
        // A batch fits into a frame. Beyond 4 GB a line counts as one without a key.
        if let Some(key) = arrival.key
            && let (Ok(from), Ok(to)) = (u32::try_from(from), u32::try_from(self.bytes.len()))
        {
            self.keyed.push(KeyedLine { key, from, to });
        }
    }
}

#[cfg(test)]
mod tests;
