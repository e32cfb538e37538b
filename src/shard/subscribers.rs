//! The subscribers of one topic, each with its cursor.
//!
//! They stand in one dense array of two parts:
//!
//! ```text
//!   0            awake              len
//!   ├── swept ─────┼── parked ───────┤
//! ```
//!
//! The first part is swept: an index goes round it, and is not reset, until no subscriber in it is behind the end of the
//! log. A subscriber whose socket is full is parked in the second part, which no sweep touches, and comes back with
//! its socket's writable edge. Removal swaps with the last: a subscriber that was moved is still behind if it was, and the
//! sweep will meet it.
//!
//! Where the log ends is an argument.

use crate::shard::lap::Lap;

/// One subscriber of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber {
    /// The position up to which it has been sent everything.
    pub cursor: u64,
    /// The slot of its client.
    pub client: u32,
}

/// A subscriber that has another place in the array: its client must remember it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The slot of the client.
    pub client: u32,
    /// Where its subscriber stands now.
    pub position: u32,
}

/// The subscribers of one topic.
///
/// Invariant: `behind` is the number of subscribers below `awake` whose cursor is before the end of the log.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    array: Vec<Subscriber>,
    /// How many are swept.
    awake: u32,
    /// How many of those lack something.
    behind: u32,
    lap: Lap,
}

impl Subscribers {
    /// All of them, the swept ones first.
    pub(super) fn as_slice(&self) -> &[Subscriber] {
        &self.array
    }

    /// Those that are swept.
    pub(super) fn awake(&self) -> &[Subscriber] {
        &self.array[..self.awake as usize]
    }

    /// Those that are parked.
    pub(super) fn parked(&self) -> &[Subscriber] {
        &self.array[self.awake as usize..]
    }

    /// The same, to be moved to other places in the log.
    pub(super) fn parked_mut(&mut self) -> &mut [Subscriber] {
        &mut self.array[self.awake as usize..]
    }

    /// How many swept subscribers lack something.
    #[inline]
    pub(super) fn behind(&self) -> u32 {
        self.behind
    }

    /// Whether the subscriber at `position` is parked.
    pub(super) fn is_parked(&self, position: u32) -> bool {
        position >= self.awake
    }

    /// The cursor of the subscriber at `position`.
    #[inline]
    pub(super) fn cursor(&self, position: u32) -> u64 {
        self.array[position as usize].cursor
    }

    /// Whether the subscriber at `position` lacks something.
    #[inline]
    pub(super) fn lacks(&self, position: u32, end: u64) -> bool {
        self.cursor(position) < end
    }

    /// Adds a subscriber at the log's end. `moved` is told of all that have another place, the new one included.
    pub(super) fn subscribe(&mut self, client: u32, end: u64, mut moved: impl FnMut(Moved)) {
        if self.array.is_empty() {
            // Most topics of most users have one subscriber; growth by the usual steps begins at four.
            self.array.reserve_exact(1);
        }
        let newcomer = Subscriber { cursor: end, client };
        let place = self.awake as usize;
        self.array.push(newcomer);
        let last = self.array.len() - 1;
        self.awake += 1;
        self.exchange(place, last, &mut moved);
    }

    /// Takes the subscriber at `position` out. `moved` is told of all that have another place.
    pub(super) fn unsubscribe(&mut self, position: u32, end: u64, mut moved: impl FnMut(Moved)) {
        let mut hole = position as usize;
        if position < self.awake {
            self.behind -= u32::from(self.lacks(position, end));
            self.awake -= 1;
            let last_awake = self.awake as usize;
            if hole != last_awake {
                self.array.swap(hole, last_awake);
                self.report(hole, &mut moved);
                self.lap.taken(position);
            }
            hole = last_awake;
        }
        self.array.swap_remove(hole);
        if hole < self.array.len() {
            self.report(hole, &mut moved);
        }
        if self.array.capacity() > 64 && self.array.len() * 4 < self.array.capacity() {
            self.array.shrink_to(self.array.len() * 2);
        }
    }

    /// Takes the subscriber at `position` out of the sweep. `moved` is told of all that have another place.
    pub(super) fn park(&mut self, position: u32, end: u64, mut moved: impl FnMut(Moved)) {
        debug_assert!(position < self.awake, "only the swept are parked");
        self.behind -= u32::from(self.lacks(position, end));
        self.awake -= 1;
        self.lap.taken(position);
        self.exchange(position as usize, self.awake as usize, &mut moved);
    }

    /// Brings the parked subscriber at `position` back into the sweep. `moved` is told of all that have another place.
    pub(super) fn unpark(&mut self, position: u32, end: u64, mut moved: impl FnMut(Moved)) {
        debug_assert!(position >= self.awake, "only the parked come back");
        self.behind += u32::from(self.lacks(position, end));
        let place = self.awake;
        self.awake += 1;
        // Where the last of the swept are gone, the sweep stands beyond them.
        self.lap.taken(place);
        self.exchange(position as usize, place as usize, &mut moved);
    }

    /// Notes that the subscriber at `position` has been sent everything before `cursor`.
    #[inline]
    pub(super) fn advance(&mut self, position: u32, cursor: u64, end: u64) {
        let lacked = self.lacks(position, end);
        self.array[position as usize].cursor = cursor;
        if position < self.awake && lacked && !self.lacks(position, end) {
            self.behind -= 1;
        }
    }

    /// Notes that the log has become longer: all of them lack something now.
    pub(super) fn fall_behind(&mut self) {
        self.behind = self.awake;
    }

    /// The subscriber that the sweep has come to, and its place; none at the end of a lap.
    #[inline]
    pub(super) fn at_sweep(&self) -> Option<(u32, Subscriber)> {
        let place = self.lap.next();
        self.awake().get(place as usize).map(|&subscriber| (place, subscriber))
    }

    /// Has the sweep go on to the next subscriber.
    #[inline]
    pub(super) fn step_sweep(&mut self) {
        self.lap.step();
    }

    /// Has the sweep begin with the first subscriber again. The position before which no swept subscriber lacks anything,
    /// if the lap has shown one.
    pub(super) fn begin_lap(&mut self, end: u64) -> Option<u64> {
        self.lap.begin(end)
    }

    fn exchange(&mut self, a: usize, b: usize, moved: &mut impl FnMut(Moved)) {
        self.array.swap(a, b);
        self.report(a, moved);
        if a != b {
            self.report(b, moved);
        }
    }

    fn report(&self, place: usize, moved: &mut impl FnMut(Moved)) {
        let position = u32::try_from(place).expect("fewer subscribers than clients");
        moved(Moved { client: self.array[place].client, position });
    }
}
