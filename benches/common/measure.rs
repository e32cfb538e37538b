//! What the kernel says a process used, and how numbers of several rounds are summed up.

use std::fmt;
use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

/// Length of a tick in `/proc/PID/stat`: `sysconf(_SC_CLK_TCK)` is 100 on every Linux in use.
const TICK_NANOSECONDS: u64 = 10_000_000;

/// CPU time, as a difference of two readings.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    /// Nanoseconds on a CPU, from `schedstat`: exact while the thread sleeps.
    pub(crate) nanoseconds: u64,
    /// Nanoseconds in user mode, from `stat`: in steps of 10 ms, for the proportion only.
    pub(crate) user: u64,
    /// Nanoseconds in the kernel; the same.
    pub(crate) system: u64,
}

impl CpuTime {
    /// What one thread has used; `task` is its directory in `/proc`.
    fn of_task(task: &Path) -> Result<Self> {
        let schedstat = fs::read_to_string(task.join("schedstat"))?;
        let stat = fs::read_to_string(task.join("stat"))?;
        // The name, in parentheses, may hold spaces. After it, `state` is field 3 and `utime` field 14.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = |field: usize| number(after_name.split_whitespace().nth(field - 3));
        Ok(Self {
            nanoseconds: number(schedstat.split_whitespace().next())?,
            user: ticks(14)? * TICK_NANOSECONDS,
            system: ticks(15)? * TICK_NANOSECONDS,
        })
    }

    /// Microseconds for each of so many things.
    pub(crate) fn microseconds_each(self, things: f64) -> f64 {
        self.nanoseconds as f64 / 1000.0 / things
    }

    /// As a part, in percent, of the time that passed; that of several threads may be more than 100.
    pub(crate) fn percent_of(self, wall: Duration) -> f64 {
        self.nanoseconds as f64 / wall.as_nanos() as f64 * 100.0
    }

    /// The time between an earlier reading and this one; a process may have lost a thread between them.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds.saturating_sub(earlier.nanoseconds),
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds + other.nanoseconds,
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }

    /// The part of it that was spent in user mode, from 0 to 1.
    pub(crate) fn user_share(self) -> f64 {
        self.user as f64 / (self.user + self.system).max(1) as f64
    }
}

/// A process whose CPU time is read, with the one of its threads that matters.
#[derive(Debug)]
pub(crate) struct Watched {
    tasks: PathBuf,
    thread: PathBuf,
}

impl Watched {
    /// Watches the process `pid` and its thread called `thread`, or its main thread.
    pub(crate) fn new(pid: u32, thread: Option<&str>) -> Result<Self> {
        let tasks = PathBuf::from(format!("/proc/{pid}/task"));
        let thread = match thread {
            None => tasks.join(pid.to_string()),
            Some(name) => thread_called(&tasks, name)?,
        };
        Ok(Self { tasks, thread })
    }

    /// Watches the calling thread and its process.
    pub(crate) fn this_thread() -> Result<Self> {
        let tasks = PathBuf::from("/proc/self/task");
        // `/proc/thread-self` leads to `PID/task/TID`.
        let thread = Path::new("/proc").join(fs::read_link("/proc/thread-self")?);
        Ok(Self { tasks, thread })
    }

    /// The thread's id.
    pub(crate) fn thread_id(&self) -> Result<u32> {
        let name = self.thread.file_name().and_then(|name| name.to_str());
        number(name)?.try_into().map_err(Error::other)
    }

    /// What the thread has used so far.
    pub(crate) fn thread(&self) -> Result<CpuTime> {
        CpuTime::of_task(&self.thread)
    }

    /// What all threads that still live have used so far. Those that tokio starts to resolve a host's name end
    /// some seconds later, perhaps while they are read.
    pub(crate) fn process(&self) -> Result<CpuTime> {
        let mut sum = CpuTime::default();
        for task in fs::read_dir(&self.tasks)? {
            match CpuTime::of_task(&task?.path()) {
                Ok(time) => sum = sum.plus(time),
                Err(error)
                    if error.kind() == ErrorKind::NotFound
                        || error.raw_os_error() == Some(Errno::ESRCH as i32) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sum)
    }
}

/// The directory of the thread with this name.
fn thread_called(tasks: &Path, name: &str) -> Result<PathBuf> {
    for task in fs::read_dir(tasks)? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == name {
            return Ok(task);
        }
    }
    Err(Error::new(ErrorKind::NotFound, format!("no thread in {} is called `{name}`", tasks.display())))
}

/// Bytes of memory that belong to the process `pid` alone and are backed by no file: what it allocated.
pub(crate) fn anonymous_bytes(pid: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    Ok(number(line.and_then(|line| line.split_whitespace().next()))? * 1024)
}

/// A number in a file of `/proc`.
fn number(text: Option<&str>) -> Result<u64> {
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "a file in /proc has not the usual form"))
}

/// The middle of several measurements, and how far they lie apart.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Summary {
    /// Of at least one measurement.
    pub(crate) fn of(measurements: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = measurements.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self { median: sorted[sorted.len() / 2], least: sorted[0], most: sorted[sorted.len() - 1] }
    }
}

impl From<f64> for Summary {
    /// Of one measurement.
    fn from(figure: f64) -> Self {
        Self { median: figure, least: figure, most: figure }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Two digits after the point where they say something.
        let digits = if self.median.abs() < 1000.0 && self.median.fract() != 0.0 { 2 } else { 0 };
        write!(f, "{:.digits$}", self.median)?;
        if self.least < self.most {
            write!(f, " ({:.digits$} to {:.digits$})", self.least, self.most)?;
        }
        Ok(())
    }
}
