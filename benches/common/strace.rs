//! System calls of one thread, counted by `strace`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::support::process::{Lines, TempDir, signal};
use super::support::wait::{SOON, wait_for};

/// An `strace` that counts. The thread goes on without it when the value ends.
#[derive(Debug)]
pub(crate) struct Strace {
    child: Child,
    messages: Lines,
    table: PathBuf,
    _files: TempDir,
}

/// How often each system call was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls(BTreeMap<String, u64>);

impl Strace {
    /// Begins to count the calls of one thread, and of no thread that it starts. Each of its calls takes some
    /// twenty times as long from now on. Returns when not one more is missed.
    pub(crate) fn attach(thread_id: u32) -> Result<Self> {
        let files = TempDir::new("strace");
        let table = files.path().join("table");
        let mut child = Command::new("strace")
            .args(["-c", "-p", &thread_id.to_string(), "-o"])
            .arg(&table)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_started)?;
        let messages = Lines::collect(child.stderr.take().expect("piped"));
        let mut strace = Self { child, messages, table, _files: files };
        strace.wait_until_attached()?;
        Ok(strace)
    }

    fn wait_until_attached(&mut self) -> Result<()> {
        wait_for(SOON, "strace to attach to a thread", || {
            if self.messages.contain(" attached") {
                return Some(Ok(()));
            }
            let ended = self.child.try_wait().transpose()?;
            Some(ended.and_then(|status| {
                Err(Error::other(format!("strace ended with {status}: {}", self.messages.whole())))
            }))
        })
    }

    /// Ends the counting and returns what was counted.
    pub(crate) fn detach(mut self) -> Result<Calls> {
        signal(self.child.id(), "INT");
        // It ends by the same signal, so that its status says nothing; the table does.
        wait_for(SOON, "strace to write its table", || self.child.try_wait().transpose())?;
        let table = fs::read_to_string(&self.table)?;
        Calls::parse(&table)
            .ok_or_else(|| Error::other(format!("strace wrote no table that is understood:\n{table}")))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // The kernel lets go of what a tracer traced when that ends, however it does. Both fail only if it has
        // ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn not_started(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        let text = "this suite counts with strace, which is not installed: `apt-get install strace`";
        return Error::new(ErrorKind::NotFound, text);
    }
    error
}

impl Calls {
    /// Reads the table of `strace -c`, which is empty where nothing was called:
    ///
    /// ```text
    /// % time     seconds  usecs/call     calls    errors syscall
    /// ------ ----------- ----------- --------- --------- ----------------
    ///  98.61    0.130842           3     40000           sendto
    ///   1.39    0.001845          46        40         1 epoll_wait
    /// ------ ----------- ----------- --------- --------- ----------------
    /// 100.00    0.132687           3     40040         1 total
    /// ```
    fn parse(table: &str) -> Option<Self> {
        let rows = table.lines().skip_while(|line| !is_rule(line)).skip(1);
        let calls = rows.take_while(|line| !is_rule(line)).map(|row| {
            let columns: Vec<_> = row.split_whitespace().collect();
            // The column of errors is blank where there were none.
            let (name, calls) = (columns.last()?, columns.get(3)?);
            Some(((*name).to_owned(), calls.parse().ok()?))
        });
        calls.collect::<Option<_>>().map(Self)
    }

    /// Of this name; 0 if there were none.
    pub(crate) fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All together.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The names of those that were made.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Whether a line of the table is one of the two around its rows.
fn is_rule(line: &str) -> bool {
    line.starts_with("---")
}
