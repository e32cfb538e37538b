//! Children: what they printed, signals to them, directories for them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wait::{SOON, wait_until};

/// The lines that a child prints, collected while it runs.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    /// The child has closed its end of the pipe, and all is collected.
    ended: Arc<AtomicBool>,
}

impl Lines {
    /// Collects what comes out of `pipe` until its end.
    pub fn collect(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let collected = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                collected.lines.lock().expect("no holder panics").push(line);
            }
            collected.ended.store(true, Ordering::Release);
        });
        lines
    }

    /// What there is up to now.
    pub fn so_far(&self) -> Vec<String> {
        self.lines.lock().expect("no holder panics").clone()
    }

    /// All that a child printed that has ended: the last of it may still be on its way through the pipe.
    ///
    /// # Panics
    /// If the pipe does not end soon.
    #[track_caller]
    pub fn whole(&self) -> String {
        wait_until(SOON, "the pipe of a child to end", || self.ended.load(Ordering::Acquire));
        self.so_far().join("\n")
    }

    /// Whether a line contains `text`.
    pub fn contain(&self, text: &str) -> bool {
        self.so_far().iter().any(|line| line.contains(text))
    }
}

/// Sends a signal, such as `TERM`, to a child of ours. After `STOP` none of its threads runs any more.
///
/// # Panics
/// If there is no such process, or if it does not stop.
#[track_caller]
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.expect("kill runs").success(), "no process {pid} to send {name} to");
    if name == "STOP" {
        // The threads go on until the one that the kernel picks for the signal has its turn.
        wait_until(SOON, "all threads to stop", || has_stopped(pid));
    }
}

/// Whether each thread is in state `T` (proc_pid_stat(5)).
fn has_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    tasks.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The name before it may have any characters.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}

/// The same to all processes of a group that a child of ours leads.
///
/// # Panics
/// If there is no such group.
pub fn signal_group(leader: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), "--", &format!("-{leader}")]).status();
    assert!(status.expect("kill runs").success(), "no group {leader} to send {name} to");
}

/// Bytes of memory that the process `pid` has in RAM, its program's text included.
///
/// # Errors
/// Those of reading `/proc`: it has ended.
pub fn resident_bytes(pid: u32) -> std::io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    Ok(kilobytes.and_then(|number| number.parse::<u64>().ok()).expect("a size in KB") * 1024)
}

/// Whether a process is there and no zombie.
pub fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z')))
}

/// A directory that goes away with the value.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// A new, empty one, its name beginning with `name`.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it and returns the file's path.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A child that is just ending may still write into it; what remains is under target/.
        let _ = fs::remove_dir_all(&self.0);
    }
}
