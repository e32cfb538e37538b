//! Lists of CPUs, as the kernel and `taskset` write them.

use thiserror::Error;

/// Which part of a list is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CpuListError {
    /// A range runs backwards.
    #[error("`{part}` runs backwards: write `{last}-{first}`")]
    Backwards {
        /// The range as it is written.
        part: String,
        /// Its first CPU.
        first: usize,
        /// Its last CPU.
        last: usize,
    },
    /// A CPU is named twice.
    #[error("CPU {0} is named twice")]
    Twice(usize),
    /// A part is neither a number nor a range, or the number is too large.
    #[error("`{part}` names no CPU from 0 to {}: a list looks like `0-3,6`", CPUS_MAX - 1)]
    NoCpu {
        /// The part as it is written.
        part: String,
    },
}

/// CPUs are numbered below this: the size of the kernel interface's fixed mask (`CPU_SETSIZE`).
const CPUS_MAX: usize = 1024;

/// The CPUs that a list such as `0-3,6` names, ascending. An empty list names none.
///
/// # Errors
/// Which part of the list is wrong, and why.
pub fn parse_cpus(list: &str) -> Result<Vec<usize>, CpuListError> {
    if list.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_cpu(first, part)?, parse_cpu(last, part)?);
        if first > last {
            return Err(CpuListError::Backwards { part: part.trim().to_owned(), first, last });
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    match cpus.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(CpuListError::Twice(pair[0])),
        None => Ok(cpus),
    }
}

/// CPUs in ascending order as such a list: `0-3,6`.
pub(super) fn list_cpus(cpus: &[usize]) -> String {
    let ranges = cpus.chunk_by(|before, after| before + 1 == *after);
    let written = ranges.map(|range| match range {
        [first, .., last] => format!("{first}-{last}"),
        single => single.first().map(usize::to_string).unwrap_or_default(),
    });
    written.collect::<Vec<_>>().join(",")
}

fn parse_cpu(text: &str, part: &str) -> Result<usize, CpuListError> {
    let cpu = text.trim().parse().ok().filter(|&cpu| cpu < CPUS_MAX);
    cpu.ok_or_else(|| CpuListError::NoCpu { part: part.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        for (list, cpus) in [
            ("", vec![]),
            ("0", vec![0]),
            ("0-3,6", vec![0, 1, 2, 3, 6]),
            (" 6 , 0 - 1 ", vec![0, 1, 6]),
            ("1023", vec![1023]),
        ] {
            assert_eq!(parse_cpus(list), Ok(cpus), "{list}");
        }
    }

    #[test]
    fn lists_are_written_as_ranges() {
        for list in ["", "0", "0-3,6", "0-1,3-4,1023"] {
            assert_eq!(list_cpus(&parse_cpus(list).unwrap()), list);
        }
    }

    #[test]
    fn wrong_lists_say_what_is_wrong() {
        for (list, problem) in [
            (",", "`` names no CPU"),
            ("0,", "names no CPU"),
            ("a", "`a` names no CPU"),
            ("-1", "`-1` names no CPU"),
            ("0-", "`0-` names no CPU"),
            ("1-2-3", "`1-2-3` names no CPU"),
            ("1024", "from 0 to 1023"),
            ("0-99999999999", "names no CPU"),
            ("3-0", "write `0-3`"),
            ("0-3,2", "CPU 2 is named twice"),
        ] {
            let error = parse_cpus(list).unwrap_err().to_string();
            assert!(error.contains(problem), "{list}: {error}");
        }
    }
}
