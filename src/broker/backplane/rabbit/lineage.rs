//! What a node knows of its stream: how far it has read, in which epoch, and which node writes dead letters.
//! Everything is decided by what is read from the stream, so that all nodes, and all runs of one node, agree.
//!
//! AMQP 0.9.1 shows no identity of a stream: a stream that is deleted and declared anew has the same name and
//! begins at 0 again. So nodes write **markers** into it, which are no publications:
//!
//! * Each has a nonce. The newest marker that was read, with its offset, is the **anchor**: a stream that has another
//!   message there is another stream.
//! * A marker with a **claim** names the epoch, its generation, and its origin: the offset of the first marker that
//!   claimed it, or none if it is this marker itself. Of two claims, the one of the higher generation holds; of two
//!   of the same generation, the one with the lower origin. So the first of a generation wins, in whatever order they
//!   are read.
//! * The node that wrote the newest claim before a message writes its dead letter. [`coverage`](super::coverage) decides
//!   what happens if that node dies.
//!
//! A stream can also be **rewound**: a host that loses power, or whose disk is put back to a snapshot, has lost the
//! end of the stream, and gives the same offsets to other messages. A node that continued behind them would never see
//! them, and a client that recovered in the same epoch would get the wrong ones. A node that has read the lost end
//! notices:
//!
//! * its anchor is gone, and not by retention, which drops from the front; or
//! * behind the anchor, which is the newest marker, there is another one before the last message read: every node
//!   writes one when it comes back, so that an end that is too short shows at once; or
//! * the messages between the two have another checksum. (Messages that are equal byte by byte, with the same
//!   `message-id` and time stamp, or without either, are equal for their receivers as well.)
//!
//! It then reads the stream back, ignores the claims that it finds, and proposes a new epoch of the next generation. All
//! other nodes accept it and tell their clients of a gap.
//!
//! No lapin, no clock, no randomness: these are the caller's. Offsets here are the stream's, from 0.

#[cfg(test)]
mod tests;

use std::cmp::{Ordering, Reverse};

use crate::domain::position::Epoch;

/// What nodes write into the stream between publications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// A random number, which no other marker has.
    pub(super) nonce: u64,
    /// The node that wrote it.
    pub(super) node: u64,
    /// None if its writer does not know yet which stream this is.
    pub(super) claim: Option<Claim>,
}

/// A node's statement that the stream is in this epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) epoch: Epoch,
    /// How often the stream had been rewound, as far as the node that claimed the epoch first knew.
    pub(super) generation: u32,
    /// Offset of the first marker that claimed it. None: the one that holds this claim.
    pub(super) origin: Option<u64>,
}

/// A message by which a stream is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) offset: u64,
    pub(super) nonce: u64,
}

/// What a publication is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublicationRole {
    /// It was in the stream before this node could push it: it is kept for histories, and not pushed.
    pub(super) replayed: bool,
    /// This node is the one that dead-letters it if need be.
    pub(super) is_dead_letterer: bool,
}

/// What a marker changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MarkerEffect {
    /// Nothing.
    Nothing,
    /// All that was there at the start has been read, and no epoch was found that holds: one has to be proposed.
    NoEpoch,
    /// All that was there at the start has been read, and the epoch is known.
    CaughtUp(Epoch),
    /// The epoch has another name than this node thought. The offsets of what it has read stay.
    Renamed(Epoch),
    /// A node claims an epoch that does not hold, and this node is to contradict it.
    Contested,
}

/// How far a node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadStage {
    /// Nothing is known of the stream, or nothing that still holds.
    Blank,
    /// It reads back until the marker with this nonce comes.
    Loading { goal: u64 },
    /// The marker has come. A valid epoch has not.
    WithoutEpoch,
    /// Messages that come now are new.
    Live,
}

#[derive(Debug)]
struct Known {
    epoch: Epoch,
    generation: u32,
    origin: u64,
}

impl Known {
    /// Of two claims the greater one holds.
    fn rank(&self) -> (u32, Reverse<u64>) {
        (self.generation, Reverse(self.origin))
    }
}

/// A checksum of messages in their order, each by its fingerprint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Checksum(u64);

impl Checksum {
    /// Fingerprints are as good as random: an odd factor is enough for their order to count.
    fn add(&mut self, fingerprint: u64) {
        self.0 = self.0.wrapping_mul(31).wrapping_add(fingerprint);
    }
}

/// What a node knows of its stream.
#[derive(Debug)]
pub(super) struct Lineage {
    node: u64,
    stage: ReadStage,
    /// Offset of the last message read.
    last: Option<u64>,
    anchor: Option<Anchor>,
    /// Of the messages behind the anchor.
    tail: Checksum,
    /// Of those of them that have come again, while the stream is read again from behind the anchor.
    again: Option<Checksum>,
    epoch: Option<Known>,
    /// The stream has been rewound in this generation: only a later one holds.
    over: Option<u32>,
    /// Who wrote the newest claim.
    dead_letterer: Option<u64>,
}

impl Lineage {
    /// Of a node that knows nothing yet.
    pub(super) fn new(node: u64) -> Self {
        Self {
            node,
            stage: ReadStage::Blank,
            last: None,
            anchor: None,
            tail: Checksum::default(),
            again: None,
            epoch: None,
            over: None,
            dead_letterer: None,
        }
    }

    /// Forgets everything except which generation is over. The stream is read back until the marker with the nonce `goal`
    /// comes.
    pub(super) fn begin(&mut self, goal: u64) {
        *self = Self { stage: ReadStage::Loading { goal }, over: self.over, ..Self::new(self.node) };
    }

    /// The stream is read again from behind the anchor on.
    pub(super) fn resume(&mut self) {
        self.again = (self.since_anchor() > 0).then(Checksum::default);
    }

    /// The stream was rewound: it has to be read back, and then to be in a later generation.
    pub(super) fn rewound(&mut self) {
        let generation = self.epoch.as_ref().map(|known| known.generation);
        // Nothing comes after the last generation. Only forged markers get there, and their author could as well claim
        // the epoch.
        let over = generation.max(self.over).filter(|&generation| generation < u32::MAX);
        *self = Self { over, ..Self::new(self.node) };
    }

    /// Too little was read back: the stream is read from further back.
    pub(super) fn forget(&mut self) {
        *self = Self { over: self.over, ..Self::new(self.node) };
    }

    /// Whether the stream has to be read back first: it was never read, or was found to be rewound.
    pub(super) fn is_blank(&self) -> bool {
        self.stage == ReadStage::Blank
    }

    /// The marker by which the stream is recognised after a lost link. None: it has to be read back.
    pub(super) fn anchor(&self) -> Option<Anchor> {
        self.anchor.filter(|_| self.is_live())
    }

    /// Whether the stream has been read back and its epoch is known.
    pub(super) fn is_live(&self) -> bool {
        self.stage == ReadStage::Live
    }

    /// Whether everything was read, and no valid epoch was found.
    pub(super) fn lacks_epoch(&self) -> bool {
        self.stage == ReadStage::WithoutEpoch
    }

    /// The offset of the message that comes next.
    pub(super) fn next_offset(&self) -> u64 {
        self.last.map_or(0, |last| last + 1)
    }

    /// Messages read since the anchor.
    pub(super) fn since_anchor(&self) -> u64 {
        self.last.zip(self.anchor).map_or(0, |(last, anchor)| last - anchor.offset)
    }

    /// A marker's claim of the epoch that this node knows.
    pub(super) fn claim(&self) -> Option<Claim> {
        let known = self.epoch.as_ref()?;
        let epoch = Epoch::clone(&known.epoch);
        Some(Claim { epoch, generation: known.generation, origin: Some(known.origin) })
    }

    /// A new epoch, for a stream without one that holds.
    pub(super) fn proposal(&self, epoch: Epoch) -> Claim {
        let generation = self.over.map_or(0, |over| over.saturating_add(1));
        Claim { epoch, generation, origin: None }
    }

    /// Takes note of a publication, by its fingerprint. None: it has been read before, or the stream was rewound, and the
    /// lineage [is blank](Self::is_blank).
    pub(super) fn publication(&mut self, offset: u64, fingerprint: u64) -> Option<PublicationRole> {
        let role = PublicationRole {
            replayed: !self.is_live(),
            is_dead_letterer: self.is_live() && self.is_dead_letterer(),
        };
        let is_new = self.advance(offset, Some(fingerprint));
        if is_new {
            self.tail.add(fingerprint);
        }
        is_new.then_some(role)
    }

    /// Takes note of a marker. If it shows that the stream was rewound, the lineage [is blank](Self::is_blank).
    pub(super) fn marker(&mut self, offset: u64, marker: &Marker) -> MarkerEffect {
        if !self.advance(offset, None) {
            return MarkerEffect::Nothing;
        }
        self.anchor = Some(Anchor { offset, nonce: marker.nonce });
        self.tail = Checksum::default();
        let was_dead_letterer = self.is_dead_letterer();
        let verdict = marker.claim.as_ref().map_or(Verdict::Repeats, |claim| self.weigh(offset, claim));
        if marker.claim.is_some() && verdict != Verdict::Senseless {
            self.dead_letterer = Some(marker.node);
        }
        let has_arrived = self.stage == ReadStage::Loading { goal: marker.nonce };
        if has_arrived {
            self.stage = ReadStage::WithoutEpoch;
        }
        match (self.stage, self.epoch_that_holds()) {
            (ReadStage::WithoutEpoch, None) if has_arrived => MarkerEffect::NoEpoch,
            (ReadStage::WithoutEpoch, Some(epoch)) => {
                self.stage = ReadStage::Live;
                self.over = None;
                MarkerEffect::CaughtUp(epoch)
            }
            (ReadStage::Live, Some(epoch)) if verdict == Verdict::Wins => MarkerEffect::Renamed(epoch),
            (ReadStage::Live, _) if verdict == Verdict::Loses && was_dead_letterer => MarkerEffect::Contested,
            _ => MarkerEffect::Nothing,
        }
    }

    fn epoch_that_holds(&self) -> Option<Epoch> {
        let known = self.epoch.as_ref().filter(|known| self.over.is_none_or(|over| known.generation > over));
        known.map(|known| Epoch::clone(&known.epoch))
    }

    /// Whether this node dead-letters the messages that come now.
    pub(super) fn is_dead_letterer(&self) -> bool {
        self.dead_letterer == Some(self.node)
    }

    /// Moves on to a publication with this fingerprint, or to a marker. Returns false if it is not new, or if the stream was
    /// rewound.
    fn advance(&mut self, offset: u64, fingerprint: Option<u64>) -> bool {
        if !self.is_as_before(offset, fingerprint) {
            self.rewound();
            return false;
        }
        let is_new = self.last.is_none_or(|last| offset > last);
        if is_new {
            self.last = Some(offset);
        }
        is_new
    }

    /// Compares a message that comes again with the one that came the first time.
    fn is_as_before(&mut self, offset: u64, fingerprint: Option<u64>) -> bool {
        let (Some(again), Some(last)) = (&mut self.again, self.last) else { return true };
        let Some(fingerprint) = fingerprint else { return false };
        again.add(fingerprint);
        if offset < last {
            return true;
        }
        // If it is behind the last one, that has not come: messages were dropped that had been there.
        let is_same = offset == last && *again == self.tail;
        self.again = None;
        is_same
    }

    /// Compares a claim with what is known, and takes it over if it holds.
    fn weigh(&mut self, offset: u64, claim: &Claim) -> Verdict {
        let origin = claim.origin.unwrap_or(offset);
        if origin > offset {
            return Verdict::Senseless;
        }
        let claimed = Known { epoch: Epoch::clone(&claim.epoch), generation: claim.generation, origin };
        let known = self.epoch.as_ref();
        let verdict = match known.map(|known| (claimed.rank().cmp(&known.rank()), &known.epoch)) {
            None | Some((Ordering::Greater, _)) => Verdict::Wins,
            Some((Ordering::Less, _)) => Verdict::Loses,
            Some((Ordering::Equal, epoch)) if *epoch == claim.epoch => Verdict::Repeats,
            Some((Ordering::Equal, _)) => Verdict::Senseless,
        };
        if verdict == Verdict::Wins {
            self.epoch = Some(claimed);
        }
        verdict
    }
}

/// What a claim is to what was known before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Wins,
    Repeats,
    Loses,
    /// It contradicts the stream, or another claim about the same marker.
    Senseless,
}
