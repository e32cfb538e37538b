//! What is true of [`Outgoing`] between any two calls.

use super::Outgoing;
use super::stage::PublishStage;

impl Outgoing {
    /// Asserts that each number is where its stage says, and nowhere else. Looks at every publish.
    pub(super) fn assert_invariants(&self) {
        for (number, publish) in self.publishes.iter() {
            let (stage, reference) = (publish.stage, publish.reference(number));
            assert_eq!(self.due.contains(publish.sender, number), stage.is_due(), "{number}: {stage:?}");
            assert_eq!(self.suspects.contains(&number), stage.is_suspect(), "{number}: {stage:?}");
            assert_eq!(
                self.postponed.contains(reference),
                stage == PublishStage::Postponed,
                "{number}: {stage:?}"
            );
            assert_eq!(publish.purpose.is_none(), stage.is_failed(), "{number}: {stage:?}");
        }
        let count = |is: fn(PublishStage) -> bool| {
            self.publishes.iter().filter(|(_, publish)| is(publish.stage)).count()
        };
        assert_eq!(self.due.len(), count(PublishStage::is_due));
        assert_eq!(self.suspects.len(), count(PublishStage::is_suspect));
        assert_eq!(self.postponed.len(), count(|stage| stage == PublishStage::Postponed));
        assert_eq!(self.unheard, count(PublishStage::is_unheard));
        assert_eq!(self.under_way, count(PublishStage::is_under_way));
        assert_eq!(self.failed, count(PublishStage::is_failed));
        let bytes: usize = self.publishes.iter().map(|(_, publish)| publish.bytes).sum();
        assert_eq!(self.shares.taken(), (self.publishes.len(), bytes));
    }
}
