//! A child that never outlives the test program.

use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::process::{Lines, is_running, signal};
use super::wait::{wait_for, wait_until};

/// How long a start or an end may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// A process that a shell ends as soon as our end of the shell's standard input is closed, which happens
/// even if the test program is killed: shared nodes are never dropped.
#[derive(Debug)]
pub struct Kept {
    keeper: Child,
    pid: u32,
    line: Option<ChildStdin>,
    output: Lines,
}

impl Kept {
    /// Starts `command`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(command: &Command) -> Self {
        // The background process has /dev/null for input; `wait` passes its status on.
        let script = r#""$@" 2>&1 & echo $!; read -r _; kill -KILL $! 2>/dev/null; wait $!"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "keeper"]).arg(command.get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = shell.spawn().expect("sh runs");
        let line = keeper.stdin.take();
        let output = Lines::collect(keeper.stdout.take().expect("piped"));
        let pid = wait_for(LIMIT, "the keeper to name its process", || {
            output.so_far().first().and_then(|pid| pid.trim().parse().ok())
        });
        Self { keeper, pid, line, output }
    }

    /// Whether it has not ended.
    pub fn runs(&self) -> bool {
        is_running(self.pid)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it has printed.
    pub fn output(&self) -> &Lines {
        &self.output
    }

    /// Sends it a signal, such as `TERM`, and waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn end(self, name: &str) {
        if self.runs() {
            signal(self.pid, name);
        }
        wait_until(LIMIT, "a process to end", || !self.runs());
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.line.take());
        // It fails only if the keeper has been waited for.
        let _ = self.keeper.wait();
    }
}
