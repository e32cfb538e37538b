//! What is answered: who may go on where it was, and with which publications.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::domain::mail::{Position, Since};

use super::answers::Answer;
use super::expiry::RecordId;
use super::ring::Ring;
use super::{History, Query, Record, RecoveryQuery};

impl History {
    /// Everything that is newer than what the client has, if that is held.
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
        self.answer(id, &range, query.bytes_max, now)
    }

    /// Whether it is known, and held, what a topic published after `asked` and up to `top`.
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
        self.answer(id, &newest, query.bytes_max, now)
    }

    /// Some publications of a topic, joined, unless they are more than `bytes_max`.
    fn answer(
        &mut self,
        id: RecordId,
        range: &Range<usize>,
        bytes_max: usize,
        now: Instant,
    ) -> Option<Arc<[u8]>> {
        let held = self.record(id).held()?;
        let Some(offsets) = held.offsets(range) else { return Some(Arc::default()) };
        if let Some(members) = self.answers.find(id, offsets, now) {
            return (members.len() <= bytes_max).then_some(members);
        }
        let members = if held.ends_of(offsets).any(|end| end <= now) {
            let open = range.clone().filter(|&index| !held.has_ended(index, now));
            Arc::from(join(held, open, bytes_max).ok()?)
        } else {
            copy(held, range, bytes_max)?
        };
        let until = held.ends_of(offsets).filter(|end| *end > now).min();
        self.answers.keep(id, Answer { offsets, until, members: Arc::clone(&members) });
        Some(members)
    }

    /// Where a topic stands, as far as it was handed over.
    pub(super) fn position_of(&self, id: Option<RecordId>, up_to: u64) -> Position {
        let offset = match id.map(|id| self.record(id)) {
            None => self.base.min(up_to),
            Some(record) => record.held().map_or_else(|| record.top.min(up_to), |held| held.newest(up_to)),
        };
        Position { epoch: Arc::clone(&self.epoch), offset }
    }

    /// Whether somebody who says so stands in this numbering.
    pub(super) fn is_ours(&self, epoch: &str) -> bool {
        epoch.is_empty() || *epoch == *self.epoch
    }
}

/// As many of the publications that a query is for as fit in.
pub(super) fn page(held: &Ring, query: &Query<'_>, now: Instant) -> Vec<u8> {
    let range = match query.since {
        None => 0..held.len(),
        Some(since) if query.reverse => held.range(0, since.offset.saturating_sub(1)),
        Some(since) => held.range(since.offset, u64::MAX),
    };
    let is_open = |index: &usize| !held.has_ended(*index, now);
    let joined = if query.reverse {
        join(held, range.rev().filter(is_open).take(query.limit), query.bytes_max)
    } else {
        join(held, range.filter(is_open).take(query.limit), query.bytes_max)
    };
    joined.unwrap_or_else(|TooMany(fitting)| fitting)
}

/// Those publications that fit in.
struct TooMany(Vec<u8>);

/// Publications, one by one.
fn join(held: &Ring, indices: impl Iterator<Item = usize>, bytes_max: usize) -> Result<Vec<u8>, TooMany> {
    let mut joined = Vec::new();
    for index in indices {
        let (head, tail) = held.members(&(index..index + 1));
        let comma = usize::from(!joined.is_empty());
        if joined.len() + comma + head.len() + tail.len() > bytes_max {
            return Err(TooMany(joined));
        }
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(head);
        joined.extend_from_slice(tail);
    }
    Ok(joined)
}

/// Publications all at once, unless they are more than `bytes_max`.
fn copy(held: &Ring, range: &Range<usize>, bytes_max: usize) -> Option<Arc<[u8]>> {
    let (head, tail) = held.members(range);
    if head.len() + tail.len() > bytes_max {
        return None;
    }
    Some(if tail.is_empty() { head.into() } else { [head, tail].concat().into() })
}
