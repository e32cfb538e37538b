//! What a node knows of its stream: how far it has read, in which epoch, and who looks after dead letters.
//! Decided by what is read alone, so that all nodes, and all runs of one, come to the same.
//!
//! AMQP 0.9.1 shows no identity of a stream: one that is deleted and declared anew has the same name and
//! begins at 0 again. So nodes write **markers** into it, which are no publications:
//!
//! * Each has a nonce. The newest one read, with its offset, is the **anchor**: a stream that has another
//!   message there is another stream.
//! * One with a **claim** names the epoch and the epoch's origin: the offset of the first marker that claimed
//!   it, or none if it is this marker itself. Of two claims the one with the lower origin holds. So the first
//!   in the stream wins, whoever reads it in whatever order.
//! * The node that wrote the newest claim before a message is the one that dead-letters it.
//!
//! No lapin, no clock, no randomness: they are the caller's. Offsets here are the stream's, from 0.

use crate::mail::Epoch;

/// What nodes write into the stream between publications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// Tells it from all others.
    pub(super) nonce: u64,
    /// Who wrote it.
    pub(super) node: u64,
    /// None: it only shows where it is. From a node that does not know yet which stream this is.
    pub(super) claim: Option<Claim>,
}

/// That the stream is in this epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) epoch: Epoch,
    /// Offset of the first marker that claimed it. None: the one that holds this claim.
    pub(super) origin: Option<u64>,
}

/// A message by which a stream is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Anchor {
    pub(super) offset: u64,
    pub(super) nonce: u64,
}

/// What a publication is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Role {
    /// It was read to know of it, and not to be pushed.
    pub(super) replayed: bool,
    /// This node is the one that dead-letters it if need be.
    pub(super) buries: bool,
}

/// What a marker changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing that anybody has to know.
    Nothing,
    /// All that was there at the start has been read, and no epoch was found: one has to be claimed.
    NoEpoch,
    /// All that was there at the start has been read, and the epoch is known.
    CaughtUp(Epoch),
    /// The epoch has another name than this node thought. The offsets stay.
    Renamed(Epoch),
    /// A node claims what does not hold, and this one is to tell it.
    Contested,
}

/// How far a node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing of the stream is known, or is of any use any more.
    Blank,
    /// It reads back until the marker with this nonce comes.
    Loading { goal: u64 },
    /// It has come, and an epoch has not.
    WithoutEpoch,
    /// What comes now is new.
    Live,
}

#[derive(Debug)]
struct Known {
    epoch: Epoch,
    origin: u64,
}

/// What a node knows of its stream.
#[derive(Debug)]
pub(super) struct Trail {
    node: u64,
    stage: Stage,
    /// Offset of the last message read.
    last: Option<u64>,
    anchor: Option<Anchor>,
    epoch: Option<Known>,
    /// Who wrote the newest claim.
    burier: Option<u64>,
}

impl Trail {
    /// Of a node that knows nothing yet.
    pub(super) fn new(node: u64) -> Self {
        Self { node, stage: Stage::Blank, last: None, anchor: None, epoch: None, burier: None }
    }

    /// Forgets everything: the stream is read back until the marker with the nonce `goal` comes.
    pub(super) fn begin(&mut self, goal: u64) {
        *self = Self { stage: Stage::Loading { goal }, ..Self::new(self.node) };
    }

    /// By what the stream is known again after a lost link. None: it has to be read back.
    pub(super) fn anchor(&self) -> Option<Anchor> {
        self.anchor.filter(|_| self.is_live())
    }

    /// Whether the stream has been read back and its epoch is known.
    pub(super) fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// Whether all has been read but an epoch.
    pub(super) fn lacks_epoch(&self) -> bool {
        self.stage == Stage::WithoutEpoch
    }

    /// Messages read since the anchor.
    pub(super) fn since_anchor(&self) -> u64 {
        self.last.zip(self.anchor).map_or(0, |(last, anchor)| last - anchor.offset)
    }

    /// What this node knows, for others.
    pub(super) fn claim(&self) -> Option<Claim> {
        let known = self.epoch.as_ref()?;
        Some(Claim { epoch: Epoch::clone(&known.epoch), origin: Some(known.origin) })
    }

    /// A publication. None: it has been read before.
    pub(super) fn publication(&mut self, offset: u64) -> Option<Role> {
        let role = Role { replayed: !self.is_live(), buries: self.is_live() && self.is_burier() };
        self.advance(offset).then_some(role)
    }

    /// A marker.
    pub(super) fn marker(&mut self, offset: u64, marker: &Marker) -> Finding {
        if !self.advance(offset) {
            return Finding::Nothing;
        }
        self.anchor = Some(Anchor { offset, nonce: marker.nonce });
        let was_burier = self.is_burier();
        let verdict = marker.claim.as_ref().map_or(Verdict::Repeats, |claim| self.weigh(offset, claim));
        if marker.claim.is_some() && verdict != Verdict::Senseless {
            self.burier = Some(marker.node);
        }
        let has_arrived = self.stage == Stage::Loading { goal: marker.nonce };
        if has_arrived {
            self.stage = Stage::WithoutEpoch;
        }
        match (self.stage, &self.epoch) {
            (Stage::WithoutEpoch, None) if has_arrived => Finding::NoEpoch,
            (Stage::WithoutEpoch, Some(known)) => {
                self.stage = Stage::Live;
                Finding::CaughtUp(Epoch::clone(&known.epoch))
            }
            (Stage::Live, Some(known)) if verdict == Verdict::Wins => {
                Finding::Renamed(Epoch::clone(&known.epoch))
            }
            (Stage::Live, _) if verdict == Verdict::Loses && was_burier => Finding::Contested,
            _ => Finding::Nothing,
        }
    }

    fn is_burier(&self) -> bool {
        self.burier == Some(self.node)
    }

    fn advance(&mut self, offset: u64) -> bool {
        let is_new = self.last.is_none_or(|last| offset > last);
        if is_new {
            self.last = Some(offset);
        }
        is_new
    }

    /// Compares a claim with what is known, and takes it over if it holds.
    fn weigh(&mut self, offset: u64, claim: &Claim) -> Verdict {
        let origin = claim.origin.unwrap_or(offset);
        if origin > offset {
            return Verdict::Senseless;
        }
        let verdict = match &self.epoch {
            Some(known) if origin > known.origin => Verdict::Loses,
            Some(known) if origin == known.origin && known.epoch != claim.epoch => Verdict::Senseless,
            Some(known) if origin == known.origin => Verdict::Repeats,
            Some(_) | None => Verdict::Wins,
        };
        if verdict == Verdict::Wins {
            self.epoch = Some(Known { epoch: Epoch::clone(&claim.epoch), origin });
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
    /// It contradicts the stream itself, or another claim about the same marker.
    Senseless,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: u64 = 1;
    const OTHER: u64 = 2;
    const GOAL: u64 = 900;

    fn ping(nonce: u64) -> Marker {
        Marker { nonce, node: ME, claim: None }
    }

    fn claim(node: u64, epoch: &str, origin: Option<u64>) -> Marker {
        Marker { nonce: 7, node, claim: Some(Claim { epoch: epoch.into(), origin }) }
    }

    fn caught_up(epoch: &str) -> Finding {
        Finding::CaughtUp(epoch.into())
    }

    fn reading() -> Trail {
        let mut trail = Trail::new(ME);
        trail.begin(GOAL);
        trail
    }

    /// What each of these markers changes, for a node that begins with them.
    fn findings(markers: &[(u64, Marker)]) -> (Vec<Finding>, Trail) {
        let mut trail = reading();
        let findings = markers.iter().map(|(offset, marker)| trail.marker(*offset, marker)).collect();
        (findings, trail)
    }

    /// What is read, what comes of it, and which epoch holds at the end.
    type Case = (&'static str, Vec<(u64, Marker)>, Vec<Finding>, Option<(&'static str, u64)>);

    fn beginnings() -> Vec<Case> {
        use Finding::{Contested, NoEpoch, Nothing};
        vec![
            ("nobody was there", vec![(0, ping(GOAL))], vec![NoEpoch], None),
            (
                "the own proposal is the first",
                vec![(0, ping(GOAL)), (1, claim(ME, "a", None)), (2, claim(OTHER, "b", None))],
                vec![NoEpoch, caught_up("a"), Contested],
                Some(("a", 1)),
            ),
            (
                "another's proposal is the first",
                vec![(0, ping(GOAL)), (1, claim(OTHER, "b", None)), (2, claim(ME, "a", None))],
                vec![NoEpoch, caught_up("b"), Nothing],
                Some(("b", 1)),
            ),
            (
                "another's ping asks for no second proposal",
                vec![(0, ping(5)), (1, ping(GOAL)), (2, ping(6)), (3, claim(OTHER, "b", None))],
                vec![Nothing, NoEpoch, Nothing, caught_up("b")],
                Some(("b", 3)),
            ),
            (
                "an epoch whose first marker is long gone",
                vec![(100, claim(OTHER, "b", Some(3))), (101, ping(GOAL))],
                vec![Nothing, caught_up("b")],
                Some(("b", 3)),
            ),
        ]
    }

    fn disputes() -> Vec<Case> {
        use Finding::{NoEpoch, Nothing};
        let renamed = |epoch: &str| Finding::Renamed(epoch.into());
        vec![
            (
                "the lower origin wins, however late it is read",
                vec![
                    (100, ping(GOAL)),
                    (101, claim(ME, "a", None)),
                    (102, claim(OTHER, "b", Some(3))),
                    (103, claim(ME, "a", Some(101))),
                    (104, claim(OTHER, "b", Some(3))),
                ],
                vec![NoEpoch, caught_up("a"), renamed("b"), Nothing, Nothing],
                Some(("b", 3)),
            ),
            (
                "while it is read back, a better claim is no news",
                vec![
                    (10, claim(OTHER, "b", Some(9))),
                    (11, claim(OTHER, "c", Some(3))),
                    (12, claim(OTHER, "b", Some(9))),
                    (13, ping(GOAL)),
                ],
                vec![Nothing, Nothing, Nothing, caught_up("c")],
                Some(("c", 3)),
            ),
            (
                "a claim from another stream, or two about the same marker",
                vec![
                    (0, ping(GOAL)),
                    (1, claim(OTHER, "x", Some(50))),
                    (2, claim(ME, "a", None)),
                    (3, claim(OTHER, "y", Some(2))),
                ],
                vec![NoEpoch, Nothing, caught_up("a"), Nothing],
                Some(("a", 2)),
            ),
            (
                "what was read before changes nothing",
                vec![(5, claim(OTHER, "b", None)), (6, ping(GOAL)), (5, claim(OTHER, "c", Some(0)))],
                vec![Nothing, caught_up("b"), Nothing],
                Some(("b", 5)),
            ),
        ]
    }

    #[test]
    fn the_first_claim_in_the_stream_holds_for_everybody() {
        for (case, markers, expected, epoch) in beginnings().into_iter().chain(disputes()) {
            let (found, trail) = findings(&markers);
            assert_eq!(found, expected, "{case}");
            let known = trail.claim().map(|claim| (claim.epoch, claim.origin.unwrap()));
            assert_eq!(known, epoch.map(|(epoch, origin)| (epoch.into(), origin)), "{case}");
        }
    }

    #[test]
    fn the_newest_claims_writer_buries_and_nobody_what_is_replayed() {
        let mut trail = reading();
        let mut roles = Vec::new();
        let mut role = |trail: &mut Trail, offset| {
            roles.push(trail.publication(offset).map(|role| (role.replayed, role.buries)));
        };
        trail.marker(0, &claim(ME, "a", None));
        role(&mut trail, 1);
        trail.marker(2, &ping(GOAL));
        role(&mut trail, 3);
        trail.marker(4, &claim(OTHER, "a", Some(0)));
        role(&mut trail, 5);
        trail.marker(6, &claim(OTHER, "x", Some(60)));
        trail.marker(7, &claim(ME, "a", Some(0)));
        trail.marker(8, &ping(5));
        role(&mut trail, 9);
        role(&mut trail, 9);
        let (replayed, buries, leaves) = (Some((true, false)), Some((false, true)), Some((false, false)));
        assert_eq!(roles, [replayed, buries, leaves, buries, None]);
    }

    #[test]
    fn the_anchor_is_the_newest_marker_once_there_is_something_to_go_on_with() {
        let (_, mut trail) = findings(&[(3, claim(OTHER, "a", None))]);
        assert_eq!(trail.anchor(), None, "it must read back anew");
        trail.marker(4, &ping(GOAL));
        trail.publication(5);
        trail.publication(9);
        assert_eq!(trail.anchor(), Some(Anchor { offset: 4, nonce: GOAL }));
        assert_eq!(trail.since_anchor(), 5);
        trail.begin(GOAL);
        assert_eq!((trail.anchor(), trail.since_anchor(), trail.claim()), (None, 0, None));
        // Another stream of that name, with smaller offsets.
        assert_eq!(trail.marker(0, &ping(GOAL)), Finding::NoEpoch);
    }
}
