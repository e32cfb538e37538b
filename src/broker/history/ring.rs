//! The publications of one topic: a ring of bytes, and the end of each publication in it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::client_info::ClientInfo;
use crate::domain::publication::Publication;

use super::expiry::Tick;

/// Bytes that are kept of one topic, at most: [`Entry::end`] must not wrap within them.
const BYTES_MAX: usize = 1 << 31;

/// Bytes that a publication costs besides its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    /// Where its bytes end, counted from the topic's first publication ever, modulo 2^32.
    end: u32,
    pub(super) born: Tick,
}

/// Publications with rising offsets.
#[derive(Debug)]
pub(super) struct Ring {
    /// The offset of the newest publication that is no longer held.
    floor: u64,
    /// The data of all, one after the other.
    bytes: VecDeque<u8>,
    entries: VecDeque<Entry>,
    /// Where `bytes` begin, counted like [`Entry::end`].
    begin: u32,
    /// When publications with an `expiration` expire, by offset.
    ends: VecDeque<(u64, Instant)>,
    /// The clients of those publications that clients made. Most topics have none.
    clients: Option<Box<Clients>>,
    /// The newest publications, from the first whose age is not known.
    undated: Option<Box<UndatedTail>>,
}

/// By offset.
#[derive(Debug, Default)]
struct Clients(VecDeque<(u64, Arc<ClientInfo>)>);

impl Clients {
    /// What one costs: its place here, and the client with its reference counts.
    fn cost(info: &ClientInfo) -> usize {
        size_of::<(u64, Arc<ClientInfo>)>() + 2 * size_of::<usize>() + info.weight()
    }

    fn push(&mut self, offset: u64, info: Arc<ClientInfo>) {
        make_room(&mut self.0, 1);
        self.0.push_back((offset, info));
    }

    /// Drops the client of the oldest publication, which has this offset. Returns what it cost: 0 if there is none.
    fn pop(&mut self, offset: u64) -> usize {
        if self.0.front().is_none_or(|(first, _)| *first != offset) {
            return 0;
        }
        let cost = self.0.pop_front().map_or(0, |(_, info)| Self::cost(&info));
        give_back(&mut self.0);
        cost
    }

    fn get(&self, offset: u64) -> Option<&Arc<ClientInfo>> {
        let found = self.0.binary_search_by_key(&offset, |(offset, _)| *offset);
        found.ok().map(|at| &self.0[at].1)
    }
}

#[derive(Debug, Default)]
struct UndatedTail {
    /// How many there are.
    count: usize,
    /// The ages at which they expire, by offset, of those with an `expiration` and an unknown age.
    lifetimes: VecDeque<(u64, Duration)>,
}

impl Ring {
    /// None so far; nothing is known of what was published up to and with `floor`.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            floor,
            bytes: VecDeque::new(),
            entries: VecDeque::new(),
            begin: 0,
            ends: VecDeque::new(),
            clients: None,
            undated: None,
        }
    }

    /// What a publication costs.
    pub(super) fn cost(publication: &Publication<'_>) -> usize {
        let client = publication.info.map_or(0, |info| Clients::cost(info));
        publication.data.len() + size_of::<Entry>() + client
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The offset of the newest publication that is no longer held.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Whether one more of `len` bytes can be held.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.bytes.len() + len < BYTES_MAX
    }

    /// The oldest one.
    pub(super) fn oldest(&self) -> Option<Entry> {
        self.entries.front().copied()
    }

    /// Adds one. It counts as no older than the one before it.
    pub(super) fn push(&mut self, publication: &Publication<'_>, born: Tick, end: Option<Instant>) {
        let &Publication { data, info, offset } = publication;
        make_room(&mut self.bytes, data.len());
        self.bytes.extend(data);
        make_room(&mut self.entries, 1);
        let born = self.entries.back().map_or(born, |last| last.born.max(born));
        // The distance fits, and the scale may wrap.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "has_room: at most BYTES_MAX, and wrapping anyway"
        )]
        let end_of_bytes = self.begin.wrapping_add(self.bytes.len() as u32);
        self.entries.push_back(Entry { offset, end: end_of_bytes, born });
        if let Some(end) = end {
            self.ends.push_back((offset, end));
        }
        if let Some(info) = info {
            self.clients.get_or_insert_default().push(offset, Arc::clone(info));
        }
    }

    /// Whether there are some whose age is not known.
    pub(super) fn is_undated(&self) -> bool {
        self.undated.is_some()
    }

    /// The age of the newest publication is not known, or that of one before it: [`Self::date`] tells it later.
    pub(super) fn leave_undated(&mut self, lifetime: Option<Duration>) {
        let Some(newest) = self.entries.back() else { return };
        let undated = self.undated.get_or_insert_default();
        undated.count += 1;
        undated.lifetimes.extend(lifetime.map(|lifetime| (newest.offset, lifetime)));
    }

    /// Sets the time of the publications whose age was not known, but not before that of the one before them.
    pub(super) fn date(&mut self, born: Tick, age: Duration, now: Instant) {
        let Some(UndatedTail { count, lifetimes }) = self.undated.take().map(|undated| *undated) else {
            return;
        };
        let from = self.entries.len() - count;
        let before = from.checked_sub(1).map(|before| self.entries[before].born);
        let born = before.map_or(born, |before| before.max(born));
        self.entries.range_mut(from..).for_each(|entry| entry.born = born);
        if !lifetimes.is_empty() {
            let end = |lifetime: Duration| now.checked_add(lifetime.saturating_sub(age));
            self.ends.extend(
                lifetimes.into_iter().filter_map(|(offset, lifetime)| Some((offset, end(lifetime)?))),
            );
            // Ages of some may have been known that came between.
            self.ends.make_contiguous().sort_unstable_by_key(|(offset, _)| *offset);
        }
    }

    /// Drops the oldest one. Returns the bytes that it cost: 0 if there is none.
    pub(super) fn pop(&mut self) -> usize {
        let Some(oldest) = self.entries.pop_front() else { return 0 };
        let len = oldest.end.wrapping_sub(self.begin) as usize;
        self.bytes.drain(..len);
        self.begin = oldest.end;
        self.floor = oldest.offset;
        if self.ends.front().is_some_and(|(offset, _)| *offset == oldest.offset) {
            self.ends.pop_front();
        }
        if let Some(undated) = &mut self.undated {
            undated.count = undated.count.min(self.entries.len());
            if undated.lifetimes.front().is_some_and(|(offset, _)| *offset == oldest.offset) {
                undated.lifetimes.pop_front();
            }
            if undated.count == 0 {
                self.undated = None;
            }
        }
        give_back(&mut self.bytes);
        give_back(&mut self.entries);
        let client = self.clients.as_mut().map_or(0, |clients| clients.pop(oldest.offset));
        self.clients.take_if(|clients| clients.0.is_empty());
        len + size_of::<Entry>() + client
    }

    /// The newest offset up to `up_to` that anything is known of.
    pub(super) fn newest(&self, up_to: u64) -> u64 {
        let after = self.entries.partition_point(|entry| entry.offset <= up_to);
        match after.checked_sub(1) {
            Some(newest) => self.entries[newest].offset,
            None => self.floor.min(up_to),
        }
    }

    /// Which of them are after `after` and not beyond `up_to`.
    pub(super) fn range(&self, after: u64, up_to: u64) -> Range<usize> {
        let from = self.entries.partition_point(|entry| entry.offset <= after);
        let to = self.entries.partition_point(|entry| entry.offset <= up_to);
        from..to.max(from)
    }

    /// The offsets of the first and the last of some of them, if there are any.
    pub(super) fn offsets(&self, range: &Range<usize>) -> Option<(u64, u64)> {
        let last = range.end.checked_sub(1).filter(|last| *last >= range.start)?;
        Some((self.entries[range.start].offset, self.entries[last].offset))
    }

    /// Gives the publication at `index` to `take`. Its data is copied if it lies across the ring's edge.
    pub(super) fn show<R>(&self, index: usize, take: impl FnOnce(&Publication<'_>) -> R) -> R {
        let offset = self.entries[index].offset;
        let info = self.clients.as_ref().and_then(|clients| clients.get(offset));
        take(&Publication { data: &self.data(index), info, offset })
    }

    fn data(&self, index: usize) -> Cow<'_, [u8]> {
        let Range { start, end } = self.place_of(index);
        let (head, tail) = self.bytes.as_slices();
        let edge = head.len();
        if end <= edge {
            Cow::Borrowed(&head[start..end])
        } else if start >= edge {
            Cow::Borrowed(&tail[start - edge..end - edge])
        } else {
            Cow::Owned([&head[start..], &tail[..end - edge]].concat())
        }
    }

    /// How many bytes of data some of them have.
    pub(super) fn data_len(&self, range: &Range<usize>) -> usize {
        if range.is_empty() {
            return 0;
        }
        self.place_of(range.end - 1).end - self.place_of(range.start).start
    }

    /// Where the data of one of them is.
    fn place_of(&self, index: usize) -> Range<usize> {
        let end_of = |index: usize| self.entries[index].end.wrapping_sub(self.begin) as usize;
        index.checked_sub(1).map_or(0, end_of)..end_of(index)
    }

    /// Whether the publication at `index` has expired by its own `expiration`.
    pub(super) fn has_ended(&self, index: usize, now: Instant) -> bool {
        let offset = self.entries[index].offset;
        let found = self.ends.binary_search_by_key(&offset, |(offset, _)| *offset);
        found.is_ok_and(|at| self.ends[at].1 <= now)
    }

    /// When publications in a range expire by their own `expiration`.
    pub(super) fn ends_of(&self, (first, last): (u64, u64)) -> impl Iterator<Item = Instant> {
        let from = self.ends.partition_point(|(offset, _)| *offset < first);
        self.ends.range(from..).take_while(move |(offset, _)| *offset <= last).map(|(_, end)| *end)
    }
}

/// Grows the memory of a ring. Doubling would leave half of it unused in many topics.
fn make_room<T>(ring: &mut VecDeque<T>, more: usize) {
    if ring.len() + more > ring.capacity() {
        ring.reserve_exact(more.max(ring.len() / 4));
    }
}

/// Gives back memory that a topic used when it had more publications.
fn give_back<T>(ring: &mut VecDeque<T>) {
    const WORTHWHILE: usize = 64;
    if ring.capacity() > WORTHWHILE && ring.len() < ring.capacity() / 4 {
        ring.shrink_to(ring.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::super::expiry::ExpiryIndex;
    use super::*;
    use std::time::Duration;

    fn publication(offset: u64, data: &[u8]) -> Publication<'_> {
        Publication { data, info: None, offset }
    }

    #[test]
    fn memory_is_what_is_needed() {
        let now = Instant::now();
        let birth = ExpiryIndex::new(now).birth(now, Duration::ZERO);
        let mut held = Ring::new(0);
        for offset in 1..=10_000 {
            held.push(&publication(offset, b"0123456789"), birth, Some(now));
        }
        assert!(held.bytes.capacity() <= 100_000 * 5 / 4, "{}", held.bytes.capacity());
        assert!(held.entries.capacity() <= 10_000 * 5 / 4, "{}", held.entries.capacity());
        while held.len() > 100 {
            held.pop();
        }
        assert!(held.bytes.capacity() <= 4 * 1000, "{}", held.bytes.capacity());
        assert!(held.entries.capacity() <= 4 * 100, "{}", held.entries.capacity());
        assert_eq!(held.ends.len(), 100);
        assert!(size_of::<Entry>() <= 16);
    }

    #[test]
    fn the_scale_of_positions_wraps() {
        let now = Instant::now();
        let birth = ExpiryIndex::new(now).birth(now, Duration::ZERO);
        let mut held = Ring { begin: u32::MAX - 5, ..Ring::new(0) };
        for (offset, data) in [(1, "123"), (2, "456"), (3, "789")] {
            held.push(&publication(offset, data.as_bytes()), birth, None);
        }
        held.show(2, |last| assert_eq!(*last, publication(3, b"789")));
        assert_eq!(held.data_len(&(1..3)), 6);
        let costs: Vec<_> = (0..4).map(|_| held.pop()).collect();
        let cost = Ring::cost(&publication(1, b"123"));
        assert_eq!(costs, [cost, cost, cost, 0]);
    }

    #[test]
    fn what_was_put_in_comes_out_wherever_the_ring_has_its_edge() {
        let now = Instant::now();
        let birth = ExpiryIndex::new(now).birth(now, Duration::ZERO);
        let mut held = Ring::new(0);
        let mut across = 0;
        for offset in 1..1000 {
            let len = |offset: u64| usize::try_from(offset * offset % 11).unwrap();
            let data = |offset: u64| vec![offset.to_le_bytes()[0]; len(offset)];
            held.push(&publication(offset, &data(offset)), birth, None);
            if held.len() > 5 {
                held.pop();
            }
            for index in 0..held.len() {
                held.show(index, |found| assert_eq!(found.data, data(found.offset)));
                across += u32::from(matches!(held.data(index), Cow::Owned(_)));
            }
        }
        assert!(across > 0);
    }

    #[test]
    fn who_came_later_is_not_older() {
        let now = Instant::now();
        let expiry = ExpiryIndex::new(now);
        let young = expiry.birth(now, Duration::from_secs(1));
        let mut held = Ring::new(0);
        held.push(&publication(1, b"1"), young, None);
        held.push(&publication(2, b"2"), expiry.birth(now, Duration::from_secs(60)), None);
        held.pop();
        assert_eq!(held.oldest().map(|entry| entry.born), Some(young));
    }

    #[test]
    fn those_of_clients_come_out_with_their_client_and_give_back_what_they_cost() {
        let now = Instant::now();
        let birth = ExpiryIndex::new(now).birth(now, Duration::ZERO);
        let client = |offset: u64| {
            let user = "u".repeat(usize::try_from(offset).unwrap()).into();
            offset.is_multiple_of(3).then(|| Arc::new(ClientInfo { user, ..ClientInfo::default() }))
        };
        let mut held = Ring::new(0);
        let mut cost = 0;
        for offset in 1..=1000 {
            let info = client(offset);
            let publication = Publication { info: info.as_ref(), ..publication(offset, b"1") };
            held.push(&publication, birth, None);
            cost += Ring::cost(&publication);
            if held.len() > 500 {
                cost -= held.pop();
            }
            for index in [0, held.len() / 2, held.len() - 1] {
                held.show(index, |found| assert_eq!(found.info, client(found.offset).as_ref()));
            }
        }
        while held.len() > 0 {
            cost -= held.pop();
        }
        assert_eq!(cost, 0);
        assert!(held.clients.is_none());
    }
}
