//! Up to where a stream is **settled**: every message before that offset could be delivered, or its dead letter is safe.
//! What is not settled is read again, so that no message is lost that cannot be delivered, whichever node dies when.
//!
//! The node that wrote the newest claim ([`lineage`](super::lineage)) dead-letters what it reads. Every other node checks
//! each message as well, and remembers the offsets of those that it left to the first node. Markers say up to where their
//! writer knows the stream to be settled:
//!
//! * The node that has sent dead letters reports it when they are confirmed, at most every [`REPORT_EVERY`], and when it
//!   stops. Its report covers what was there before its start as well. Until that is settled, its markers report nothing
//!   new, and a node that starts meanwhile sends the dead letters of that time again. If nobody reports it, this takes
//!   [`TIMEOUT`] and [`SPREAD_MILLIS`] at most.
//! * Another node that has waited for [`TAKE_OVER_AFTER`] without such a report claims the stream, and reads again what
//!   it left.
//! * A node that starts does not check what was there before. If nobody reports within [`TIMEOUT`] that it is settled,
//!   the node reads it again, from the offset that markers report. So what was published while no engine ran is
//!   dead-lettered, too. If the node has read back no marker with a report, as after a long time without engines, it
//!   first searches for one, from its start backwards.
//!
//! A dead letter may be sent twice because of this; it has the offset of its message, by which a receiver can tell. What
//! RabbitMQ refuses or routes to no queue counts as settled: it would be refused again. Engines of earlier releases
//! neither write nor read reports: beside one of them, messages that it has dead-lettered are dead-lettered again. Where
//! only such engines wrote claims, everything before the newest of these counts as settled.
//!
//! No lapin and no clock: they are the caller's. Offsets here are the stream's, from 0; a span ends before its end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Least time between two markers that report what is settled, beside claims.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long a node waits for another one's dead letters.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(10);
/// How long a node waits after its start for a report that what was there before is settled.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How much longer a node waits at most, by its number, so that one node begins before the others.
const SPREAD_MILLIS: u64 = 3000;
/// Offsets of messages left to others that a node remembers. Beyond, it remembers only that there were some, and would
/// read everything again since what is settled.
const LEFT_MAX: usize = 4096;

/// How many messages are searched for a marker at first. Each further search covers twice as many.
const SEARCH_MESSAGES: u64 = 100_000;

/// A dead letter of a message of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// Differs before and after the stream was read back.
    round: u32,
    offset: u64,
}

/// A part of the stream that is read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pass {
    start: u64,
    /// Everything before has been looked at.
    next: u64,
    /// The same when what is under way has been.
    coming: u64,
    end: u64,
    /// Nothing is looked at but markers.
    is_search: bool,
    /// Whether one of these has said that something is settled.
    is_told: bool,
}

impl Pass {
    fn new(start: u64, end: u64) -> Self {
        Self { start, next: start, coming: start, end, is_search: false, is_told: false }
    }
}

/// What a node knows of what is settled.
#[derive(Debug)]
pub(super) struct Coverage {
    spread: Duration,
    round: u32,
    /// By what markers say.
    settled: Option<u64>,
    /// Whether a marker has said it, and not only a claim of an earlier release meant it.
    is_told: bool,
    /// What this node has looked at since it is live; none before.
    looked: Option<(u64, u64)>,
    /// The end of it when what is under way has been.
    coming: u64,
    /// Offsets of own dead letters that are not safe yet. As many as there may be dead letters.
    open: BTreeSet<u64>,
    /// Offsets of what was left to others, and since when.
    left: BTreeMap<u64, Instant>,
    pass: Option<Pass>,
    /// From where on the stream has been searched for markers.
    searched: u64,
    /// Others have to be told when this is settled.
    to_tell: u64,
    /// Not before.
    tells_from: Option<Instant>,
    /// When this node begins to read again what it has not looked at.
    patient_until: Option<Instant>,
    /// Since when this node dead-letters what comes, if it does.
    in_charge: Option<Instant>,
}

impl Coverage {
    /// Of this node, for a stream of which nothing is known.
    pub(super) fn new(node: u64) -> Self {
        Self {
            spread: Duration::from_millis(node % SPREAD_MILLIS),
            round: 0,
            settled: None,
            is_told: false,
            looked: None,
            coming: 0,
            open: BTreeSet::new(),
            left: BTreeMap::new(),
            pass: None,
            searched: 0,
            to_tell: 0,
            tells_from: None,
            patient_until: None,
            in_charge: None,
        }
    }

    /// The stream is read back: whatever is known of it is void.
    pub(super) fn begin(&mut self) {
        *self = Self { spread: self.spread, round: self.round + 1, ..Self::new(0) };
    }

    /// All before `offset` was there before; what comes from there on is looked at.
    pub(super) fn live(&mut self, offset: u64, now: Instant) {
        self.settled.get_or_insert(0);
        self.looked = Some((offset, offset));
        self.coming = offset;
        self.searched = offset;
        self.patient_until = Some(now + TIMEOUT + self.spread);
        self.tells_from = Some(now);
    }

    /// A message is about to be looked at, and all before it have been.
    pub(super) fn read(&mut self, offset: u64) {
        self.coming = self.coming.max(offset + 1);
    }

    /// Everything that was read has been looked at.
    pub(super) fn looked_at_all(&mut self) {
        if let Some((_, end)) = &mut self.looked {
            *end = (*end).max(self.coming);
        }
        let Some(pass) = &mut self.pass else { return };
        pass.next = pass.next.max(pass.coming);
        let Pass { start, next, end, is_search, .. } = *pass;
        if next < end {
            return;
        }
        self.pass = None;
        if is_search {
            self.searched = start;
            return;
        }
        self.left = self.left.split_off(&end);
        if let Some((from, _)) = &mut self.looked
            && end >= *from
        {
            *from = start.min(*from);
        }
        self.to_tell = self.to_tell.max(end);
    }

    /// A marker at `offset` says up to where the stream is settled, if it does.
    pub(super) fn marker(&mut self, offset: u64, settled: Option<u64>, has_claim: bool, now: Instant) {
        let settled = match settled.filter(|&settled| settled <= offset) {
            Some(settled) => {
                self.is_told = true;
                settled
            }
            None if has_claim && !self.is_told => offset + 1,
            None => return,
        };
        let before = self.settled;
        self.settled = before.max(Some(settled));
        if self.settled > before {
            self.left = self.left.split_off(&settled);
            // Somebody is at it.
            self.patient_until = self.patient_until.map(|until| until.max(now + TIMEOUT + self.spread));
        }
    }

    /// This node dead-letters what comes from now on. What it has left to others until now they settle soon, or never.
    pub(super) fn takes_charge(&mut self, now: Instant) {
        self.in_charge.get_or_insert(now);
    }

    /// Another node has claimed the stream, at this offset, and dead-letters what comes. It is to know what is settled.
    pub(super) fn handed_over(&mut self, offset: u64) {
        self.in_charge = None;
        self.to_tell = self.to_tell.max(offset);
    }

    /// This node sends the dead letter of a message.
    pub(super) fn sends(&mut self, offset: u64) -> Ticket {
        self.left.remove(&offset);
        self.open.insert(offset);
        Ticket { round: self.round, offset }
    }

    /// A dead letter is safe, or is lost for good.
    pub(super) fn is_safe(&mut self, Ticket { round, offset }: Ticket) {
        if round == self.round && self.open.remove(&offset) {
            self.to_tell = self.to_tell.max(offset + 1);
        }
    }

    /// A message cannot be delivered, and another node is to dead-letter it.
    pub(super) fn leaves(&mut self, offset: u64, now: Instant) {
        if self.settled.is_some_and(|settled| offset < settled) {
            return;
        }
        if self.left.len() < LEFT_MAX {
            self.left.insert(offset, now);
            return;
        }
        self.left.clear();
        self.looked = Some((offset + 1, offset + 1));
        self.patient_until = Some(now + TAKE_OVER_AFTER + self.spread);
    }

    /// Up to where the stream is settled, to this node's knowledge. None: it has not been read back.
    pub(super) fn settled(&self) -> Option<u64> {
        let (from, to) = self.looked?;
        let told = self.settled?;
        let mut end = told;
        if let Some(pass) = self.pass.filter(|pass| pass.start <= end && !pass.is_search) {
            end = end.max(pass.next.min(pass.end));
        }
        if end >= from {
            end = end.max(to);
        }
        let waiting = self.open.first().into_iter().chain(self.left.keys().next()).min();
        Some(waiting.map_or(end, |&first| first.min(end)).max(told))
    }

    /// The same for a marker that claims the stream before it has been read back: what others have said.
    pub(super) fn told(&self) -> u64 {
        self.settled.unwrap_or(0)
    }

    /// What is to be read again, from which offset on.
    pub(super) fn wanted(&self) -> Option<u64> {
        self.pass.map(|pass| pass.coming)
    }

    /// A marker has come that is read again, and says up to where the stream was settled, if it does. A claim means it,
    /// as in [`Self::marker`]; not one of a node that looked for such a marker itself, which says that it knows nothing.
    pub(super) fn marker_again(&mut self, offset: u64, settled: Option<u64>, has_claim: bool) {
        let Some(pass) = self.pass.as_mut().filter(|pass| pass.is_search) else { return };
        let settled = match settled {
            Some(settled) if settled <= offset => {
                pass.is_told |= settled > 0;
                settled
            }
            None if has_claim && !pass.is_told => offset + 1,
            _ => return,
        };
        self.settled = self.settled.max(Some(settled));
    }

    /// A message has come that is read again. Returns whether it is to be looked at, and dead-lettered if need be.
    pub(super) fn read_again(&mut self, offset: u64) -> bool {
        let Some(pass) = &mut self.pass else { return false };
        if offset < pass.coming {
            return false;
        }
        (pass.next, pass.coming) = (offset.min(pass.end), offset + 1);
        let is_known = self.looked.is_some_and(|(from, _)| offset >= from);
        let is_ours = if is_known { self.left.contains_key(&offset) } else { !self.open.contains(&offset) };
        offset < pass.end && is_ours && !pass.is_search
    }

    /// The part of the stream that is read again, if one is, and whether that is only to find markers.
    pub(super) fn pass(&self) -> Option<(Range<u64>, bool)> {
        self.pass.map(|pass| (pass.start..pass.end, pass.is_search))
    }

    /// When [`Self::tells`] or [`Self::takes_over`] may have something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.report_due().into_iter().chain(self.take_over_due()).chain(self.pass_due()).min()
    }

    fn report_due(&self) -> Option<Instant> {
        let (told, settled) = (self.settled?, self.settled()?);
        let is_wanted = self.to_tell > told || self.pass.is_some();
        self.tells_from.filter(|_| settled > told && is_wanted)
    }

    fn take_over_due(&self) -> Option<Instant> {
        let (_, &since) = self.left.first_key_value()?;
        // Who has dead letters under way would only have more: the exchange does not take them.
        let is_free = self.pass.is_none() && self.open.is_empty();
        let unheard = since + TAKE_OVER_AFTER;
        let due = self.in_charge.map_or(unheard, |in_charge| unheard.min(since.max(in_charge) + TIMEOUT));
        is_free.then(|| due + self.spread)
    }

    fn pass_due(&self) -> Option<Instant> {
        let ((from, _), settled) = (self.looked?, self.settled?);
        self.patient_until.filter(|_| settled < from && self.pass.is_none())
    }

    /// Whether a marker is to be written about what is settled.
    pub(super) fn tells(&mut self, now: Instant) -> bool {
        let is_due = self.report_due().is_some_and(|due| due <= now);
        if is_due {
            self.tells_from = Some(now + REPORT_EVERY);
        }
        is_due
    }

    /// Whether this node is to claim the stream. It begins to read again what nobody has settled, if it is time to.
    pub(super) fn takes_over(&mut self, now: Instant) -> bool {
        let (Some((from, _)), Some(settled)) = (self.looked, self.settled) else { return false };
        let is_time = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if is_time(self.pass_due()) {
            self.pass = Some(self.search(from).unwrap_or_else(|| Pass::new(settled, from)));
            return false;
        }
        let is_time = is_time(self.take_over_due());
        if let (true, Some((&start, _)), Some((&last, _))) =
            (is_time, self.left.first_key_value(), self.left.last_key_value())
        {
            self.pass = Some(Pass::new(start, last + 1));
        }
        is_time
    }

    /// The next part in which to look for a marker, of what was there before `from`, as long as none says anything.
    fn search(&self, from: u64) -> Option<Pass> {
        if self.told() > 0 || self.searched == 0 {
            return None;
        }
        let far = from.saturating_sub(self.searched).saturating_mul(2).max(SEARCH_MESSAGES);
        Some(Pass { is_search: true, ..Pass::new(from.saturating_sub(far), self.searched) })
    }
}

#[cfg(test)]
mod tests;
