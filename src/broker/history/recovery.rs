//! Answers recoveries and history requests: whether a client can continue, and with which publications.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::domain::position::{Position, Since};
use crate::domain::publication::Publication;

use super::answers::SharedAnswer;
use super::expiry::RecordId;
use super::ring::Ring;
use super::{History, Query, Record, RecoveryQuery};

/// Bytes that an answer has for a publication besides its data, about.
const ADDED_BYTES: usize = 32;

impl History {
    /// Everything that is newer than what the client has, if all of it is kept.
    pub(super) fn missed(
        &mut self,
        id: Option<RecordId>,
        position: &Position,
        query: &RecoveryQuery<'_>,
        now: Instant,
    ) -> Option<Arc<[u8]>> {
        let Since { epoch, offset: asked } = query.since;
        if !self.is_ours(epoch) || !self.can_go_on(id, *asked, position.offset, query.read_to) {
            return None;
        }
        let Some((id, held)) = id.and_then(|id| Some((id, self.record(id).held()?))) else {
            return Some(Arc::default());
        };
        let range = held.range(*asked, position.offset);
        self.answer(id, &range, query, now)
    }

    /// Whether everything that a topic published after `asked` and up to `top` is known and kept.
    fn can_go_on(&self, id: Option<RecordId>, asked: u64, top: u64, read_to: u64) -> bool {
        let record = id.map(|id| self.record(id));
        let held = record.and_then(Record::held);
        let top_ever = record.map_or(self.base, |record| record.top);
        let floor = held.map_or(top_ever, Ring::floor);
        if asked <= top {
            // What went before it was handed over, nobody can have missed.
            return asked >= floor.min(top);
        }
        // Who already has what is still to come here must not be given it again.
        asked <= read_to && floor <= top && held.is_none_or(|held| held.range(top, asked).is_empty())
    }

    /// The newest publication, if the client does not have it, whatever it missed: as Centrifugo's recovery
    /// mode `cache`.
    pub(super) fn latest(
        &mut self,
        id: Option<RecordId>,
        position: &Position,
        query: &RecoveryQuery<'_>,
        now: Instant,
    ) -> Option<Arc<[u8]>> {
        let Since { epoch, offset } = query.since;
        if *offset > 0 && *offset == position.offset && **epoch == *position.epoch {
            return Some(Arc::default());
        }
        let id = id?;
        let held = self.record(id).held()?;
        let newest = held.range(position.offset.checked_sub(1)?, position.offset);
        if newest.is_empty() || held.has_ended(newest.start, now) {
            return None;
        }
        self.answer(id, &newest, query, now)
    }

    /// Publications of a topic, as the client's codec writes them. None if they are too many.
    fn answer(
        &mut self,
        id: RecordId,
        range: &Range<usize>,
        query: &RecoveryQuery<'_>,
        now: Instant,
    ) -> Option<Arc<[u8]>> {
        let held = self.record(id).held()?;
        let Some(offsets) = held.offsets(range) else { return Some(Arc::default()) };
        if let Some(encoded) = self.answers.find(id, query.codec, offsets, now) {
            return (encoded.len() <= query.bytes_max).then_some(encoded);
        }
        let encoded = encode(held, range, query, now)?;
        let until = held.ends_of(offsets).filter(|end| *end > now).min();
        let answer = SharedAnswer { offsets, until, encoded: Arc::clone(&encoded) };
        self.answers.keep(id, query.codec, answer);
        Some(encoded)
    }

    /// The position of a topic, of what was handed over.
    pub(super) fn position_of(&self, id: Option<RecordId>, up_to: u64) -> Position {
        let offset = match id.map(|id| self.record(id)) {
            None => self.base.min(up_to),
            Some(record) => record.held().map_or_else(|| record.top.min(up_to), |held| held.newest(up_to)),
        };
        Position { epoch: Arc::clone(&self.epoch), offset }
    }

    /// Whether a client's epoch is this one.
    pub(super) fn is_ours(&self, epoch: &str) -> bool {
        epoch.is_empty() || *epoch == *self.epoch
    }
}

/// Gives the publications that a query asks for to `take`, in its order, until that has no room for one.
pub(super) fn show(
    held: &Ring,
    query: &Query<'_>,
    now: Instant,
    mut take: impl FnMut(&Publication<'_>) -> bool,
) {
    let range = match query.since {
        None => 0..held.len(),
        Some(since) if query.reverse => held.range(0, since.offset.saturating_sub(1)),
        Some(since) => held.range(since.offset, u64::MAX),
    };
    let is_open = |index: &usize| !held.has_ended(*index, now);
    let take = |index: usize| held.show(index, &mut take);
    if query.reverse {
        range.rev().filter(is_open).take(query.limit).all(take);
    } else {
        range.filter(is_open).take(query.limit).all(take);
    }
}

/// The publications that have not expired, unless they have more than `bytes_max` bytes.
fn encode(held: &Ring, range: &Range<usize>, query: &RecoveryQuery<'_>, now: Instant) -> Option<Arc<[u8]>> {
    let none_has_ended = held.offsets(range).is_none_or(|offsets| held.ends_of(offsets).all(|end| end > now));
    let data_len = held.data_len(range);
    if none_has_ended && let Some((first, _)) = held.offsets(range) {
        // Refused before anything is written: offsets rise, so none has fewer digits than the first one. Clients are not
        // counted.
        let beside = query.codec.added_len(&Publication { data: b"", info: None, offset: first });
        if (data_len + range.len() * beside).saturating_sub(1) > query.bytes_max {
            return None;
        }
    }
    let mut encoded = Vec::with_capacity((data_len + range.len() * ADDED_BYTES).min(query.bytes_max));
    for index in range.clone() {
        if !none_has_ended && held.has_ended(index, now) {
            continue;
        }
        held.show(index, |publication| query.codec.add_publication(&mut encoded, publication));
        if encoded.len() > query.bytes_max {
            return None;
        }
    }
    Some(encoded.into())
}
