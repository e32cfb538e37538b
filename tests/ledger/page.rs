//! What one client has of one topic.

use std::collections::BTreeSet;
use std::fmt;

/// What is wrong with a topic at a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// These never came, and nothing was said about it.
    Lost(Vec<u64>),
    /// These never came, and it was said that some would not: no trouble where that may be.
    Announced(Vec<u64>),
    /// This came twice.
    Repeated { number: u64, offset: u64 },
    /// This came after something that was published when it was confirmed already.
    Disordered { number: u64, offset: u64 },
    /// Offsets must grow within an epoch.
    Backwards { number: u64, offset: u64, before: u64 },
    /// Another client has seen something else in this place.
    Disagrees { offset: u64, number: u64, known: u64 },
    /// This was never published.
    Unknown { number: u64 },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(numbers) => write!(f, "lost {}", Run(numbers)),
            Self::Announced(numbers) => write!(f, "was told that it will not get {}", Run(numbers)),
            Self::Repeated { number, offset } => write!(f, "{number} (offset {offset}) came again"),
            Self::Disordered { number, offset } => write!(f, "{number} (offset {offset}) came too late"),
            Self::Backwards { number, offset, before } => {
                write!(f, "{number} has offset {offset} after offset {before}")
            }
            Self::Disagrees { offset, number, known } => {
                write!(f, "offset {offset} is {number} here, and {known} for somebody else")
            }
            Self::Unknown { number } => write!(f, "{number} came, which was never published"),
        }
    }
}

/// Some numbers, shown by the first, the last and the count.
struct Run<'a>(&'a [u64]);

impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("nothing"),
            [only] => write!(f, "{only}"),
            [first, .., last] => write!(f, "{first} to {last} ({} publications)", self.0.len()),
        }
    }
}

/// A place in the stream of a topic.
#[derive(Clone, Debug, Default)]
struct Position {
    epoch: String,
    /// 0 before the first publication of the epoch.
    offset: u64,
}

/// One topic at one client.
#[derive(Debug)]
pub struct Page {
    batch: u64,
    position: Option<Position>,
    /// Up to here every number has come or was written off.
    settled: u64,
    /// What has come beyond.
    came: BTreeSet<u64>,
    /// Up to here nothing needs to come any more, because the client was told so.
    excused: u64,
    /// It was told so, and nothing has come since: what was begun by then.
    told: Option<u64>,
    /// Numbers that were written off.
    missing: BTreeSet<u64>,
}

impl Page {
    /// Nothing has come; a topic's publications are begun `batch` at a time.
    pub fn new(batch: u64) -> Self {
        Self {
            batch,
            position: None,
            settled: 0,
            came: BTreeSet::new(),
            excused: 0,
            told: None,
            missing: BTreeSet::new(),
        }
    }

    /// Whether it was ever subscribed.
    pub fn is_subscribed(&self) -> bool {
        self.position.is_some()
    }

    /// What offsets count from.
    pub fn epoch(&self) -> &str {
        self.position.as_ref().map_or("", |position| &position.epoch)
    }

    /// A subscription stands, when `begun` publications were begun. Returns what was announced with it: that
    /// not everything since the last one will come.
    pub fn subscribed(&mut self, recovered: bool, epoch: String, begun: u64) -> Option<String> {
        let before = self.position.as_ref().map(|position| position.epoch.clone());
        if before.as_ref() != Some(&epoch) {
            self.position = Some(Position { epoch: epoch.clone(), offset: 0 });
        }
        let before = before?;
        if recovered {
            return None;
        }
        self.told = Some(begun);
        Some(format!("recovered: false, epoch {before} before and {epoch} now"))
    }

    /// A publication has come, when `begun` were begun.
    pub fn received(&mut self, number: u64, offset: u64, begun: u64) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        if number == 0 || number > begun {
            return vec![Trouble::Unknown { number }];
        }
        if let Some(position) = &mut self.position {
            if offset <= position.offset {
                troubles.push(Trouble::Backwards { number, offset, before: position.offset });
            }
            position.offset = position.offset.max(offset);
        }
        if self.missing.remove(&number) {
            troubles.push(Trouble::Disordered { number, offset });
            return troubles;
        }
        if number <= self.settled || !self.came.insert(number) {
            troubles.push(Trouble::Repeated { number, offset });
            return troubles;
        }
        if let Some(begun) = self.told.take() {
            // Others of its batch may have come before it: while nobody was listening.
            let end_of_batch = number.div_ceil(self.batch) * self.batch;
            self.excused = self.excused.max(begun.min(end_of_batch));
        }
        // Everything in earlier batches was confirmed before this one was begun.
        troubles.extend(self.settle((number - 1) / self.batch * self.batch));
        troubles
    }

    /// Whether all up to `end` have come, or will not.
    pub fn is_complete(&self, end: u64) -> bool {
        let excused = self.excused.max(self.told.unwrap_or(0));
        (self.settled + 1..=end).all(|number| number <= excused || self.came.contains(&number))
    }

    /// Nothing up to `end` can come any more.
    pub fn close(&mut self, end: u64) -> Vec<Trouble> {
        self.excused = self.excused.max(self.told.take().unwrap_or(0));
        self.settle(end)
    }

    /// What is missing up to `end` is written off.
    fn settle(&mut self, end: u64) -> Vec<Trouble> {
        let gone: Vec<u64> = (self.settled + 1..=end).filter(|number| !self.came.contains(number)).collect();
        self.settled = self.settled.max(end);
        self.came = self.came.split_off(&(self.settled + 1));
        self.missing.extend(&gone);
        let (announced, lost): (Vec<_>, Vec<_>) =
            gone.into_iter().partition(|&number| number <= self.excused);
        let announced = (!announced.is_empty()).then_some(Trouble::Announced(announced));
        let lost = (!lost.is_empty()).then_some(Trouble::Lost(lost));
        announced.into_iter().chain(lost).collect()
    }
}

#[test]
fn a_page_tells_lost_from_announced_repeated_and_disordered() {
    let mut page = Page::new(1);
    assert_eq!(page.subscribed(false, "a".into(), 0), None);
    assert_eq!(page.received(1, 10, 9), []);
    assert_eq!(page.received(3, 12, 9), [Trouble::Lost(vec![2])]);
    assert_eq!(page.received(3, 13, 9), [Trouble::Repeated { number: 3, offset: 13 }]);
    assert_eq!(page.received(2, 14, 9), [Trouble::Disordered { number: 2, offset: 14 }]);
    assert_eq!(page.received(4, 14, 9), [Trouble::Backwards { number: 4, offset: 14, before: 14 }]);
    assert_eq!(page.subscribed(true, "a".into(), 9), None);
    assert!(page.subscribed(false, "b".into(), 9).is_some());
    assert!(page.is_complete(9) && !page.is_complete(10));
    assert_eq!(page.received(7, 1, 9), [Trouble::Announced(vec![5, 6])]);
    assert!(!page.is_complete(9));
    assert_eq!(page.received(12, 2, 9), [Trouble::Unknown { number: 12 }]);
    assert_eq!(page.close(9), [Trouble::Lost(vec![8, 9])]);
}

#[test]
fn within_a_batch_any_order_goes_but_not_between_batches() {
    let mut page = Page::new(3);
    page.subscribed(false, "a".into(), 0);
    assert_eq!(page.received(2, 1, 6), []);
    assert_eq!(page.received(1, 2, 6), []);
    assert_eq!(page.received(3, 3, 6), []);
    assert_eq!(page.received(5, 4, 6), []);
    assert_eq!(page.received(4, 5, 6), []);
    assert_eq!(page.received(1, 6, 6), [Trouble::Repeated { number: 1, offset: 6 }]);
    assert_eq!(page.close(6), [Trouble::Lost(vec![6])]);
}

#[test]
fn who_was_told_of_a_gap_may_lack_any_of_the_batch_that_comes_first() {
    let mut page = Page::new(3);
    page.subscribed(false, "a".into(), 0);
    assert_eq!(page.received(2, 1, 3), []);
    page.subscribed(false, "b".into(), 9);
    assert_eq!(page.received(4, 3, 9), [Trouble::Announced(vec![1, 3])]);
    assert_eq!(page.close(9), [Trouble::Announced(vec![5, 6]), Trouble::Lost(vec![7, 8, 9])]);
}
