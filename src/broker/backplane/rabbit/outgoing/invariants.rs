//! What is true of [`Outgoing`] between any two calls.

use super::Outgoing;
use super::stage::Stage;

impl Outgoing {
    /// Asserts that each number is where its stage says, and nowhere else. Looks at every publish.
    pub(super) fn assert_invariants(&self) {
        for (number, publish) in self.publishes.iter() {
            let (stage, place) = (publish.stage, publish.place(number));
            assert_eq!(self.due.contains(publish.sender, number), stage.is_due(), "{number}: {stage:?}");
            assert_eq!(self.suspects.contains(&number), stage.is_suspect(), "{number}: {stage:?}");
            assert_eq!(self.postponed.contains(place), stage == Stage::Postponed, "{number}: {stage:?}");
            assert_eq!(publish.purpose.is_none(), stage.is_failed(), "{number}: {stage:?}");
        }
        let count =
            |is: fn(Stage) -> bool| self.publishes.iter().filter(|(_, publish)| is(publish.stage)).count();
        assert_eq!(self.due.len(), count(Stage::is_due));
        assert_eq!(self.suspects.len(), count(Stage::is_suspect));
        assert_eq!(self.postponed.len(), count(|stage| stage == Stage::Postponed));
        assert_eq!(self.unheard, count(Stage::is_unheard));
        assert_eq!(self.under_way, count(Stage::is_under_way));
        assert_eq!(self.failed, count(Stage::is_failed));
        let bytes: usize = self.publishes.iter().map(|(_, publish)| publish.bytes).sum();
        assert_eq!(self.shares.taken(), (self.publishes.len(), bytes));
    }
}
