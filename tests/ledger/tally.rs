//! The closing table.

use std::fmt;

use crate::clients::CLIENTS;
use crate::faults::FAULTS;
use crate::ledger::Sums;

/// How a fault ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing happened that must not.
    Clean,
    /// It could not be carried out and was undone; nothing happened that must not.
    Halfway,
    /// Something happened that must not.
    Failed,
}

/// A kind of fault, added up.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    times: u64,
    failed: u64,
    halfway: u64,
    sums: Sums,
}

/// All kinds, in the order of [`FAULTS`].
#[derive(Debug)]
pub struct Tally(Vec<Row>);

impl Tally {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self(vec![Row::default(); FAULTS.len()])
    }

    /// One more of a kind.
    pub fn add(&mut self, kind: usize, sums: Sums, end: End) {
        let row = &mut self.0[kind];
        row.times += 1;
        row.failed += u64::from(end == End::Failed);
        row.halfway += u64::from(end == End::Halfway);
        row.sums.add(sums);
    }

    /// How many in all.
    pub fn times(&self) -> u64 {
        self.0.iter().map(|row| row.times).sum()
    }

    /// How many in which something happened that must not.
    pub fn failed(&self) -> u64 {
        self.0.iter().map(|row| row.failed).sum()
    }

    /// How many that could not be carried out, without anything that must not happen.
    pub fn halfway(&self) -> u64 {
        self.0.iter().map(|row| row.halfway).sum()
    }

    /// Those of `kinds` of which there were fewer than `least`.
    pub fn too_few(&self, kinds: &[usize], least: u64) -> Vec<&'static str> {
        let few = kinds.iter().filter(|&&kind| self.0[kind].times < least);
        few.map(|&kind| FAULTS[kind].name).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<18}{:>6}{:>8}{:>9}{:>11}{:>11}{:>6}{:>10}{:>11}",
            "fault", "times", "failed", "halfway", "confirmed", "received", "lost", "repeated", "announced"
        )?;
        let rows = FAULTS.iter().map(|fault| fault.name).zip(self.0.iter().copied());
        let mut all = Row::default();
        for (name, row) in rows {
            all.times += row.times;
            all.failed += row.failed;
            all.halfway += row.halfway;
            all.sums.add(row.sums);
            write_row(f, name, row)?;
        }
        write_row(f, "all", all)?;
        write!(f, "confirmed: once; received, lost, repeated, announced: over all {CLIENTS} clients")
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, name: &str, row: Row) -> fmt::Result {
    let Row { times, failed, halfway, sums } = row;
    let Sums { confirmed, received, lost, repeated, announced } = sums;
    writeln!(
        f,
        "{name:<18}{times:>6}{failed:>8}{halfway:>9}{confirmed:>11}{received:>11}{lost:>6}{repeated:>10}{announced:>11}"
    )
}
