//! The `message-id` of each publish of this engine, and other unique names.

use lapin::types::ShortString;

/// Ids that nobody else makes: 64 random bits for this run of this engine, and a number that rises.
#[derive(Debug)]
pub(super) struct Ids {
    run: u64,
    next: u64,
}

impl Ids {
    /// For this run.
    pub(super) fn new() -> Self {
        Self { run: rand::random(), next: 0 }
    }

    /// Another one. Short, as those of the latest messages are remembered.
    pub(super) fn next(&mut self) -> ShortString {
        let id = format!("fanfare:{:016x}:{:x}", self.run, self.next);
        self.next += 1;
        id.as_str().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_repeat_within_a_run_or_between_two() {
        let mut runs = [Ids::new(), Ids::new()];
        let ids: std::collections::HashSet<_> =
            (0..20).map(|n| runs[n % 2].next().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 20);
    }
}
