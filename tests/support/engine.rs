//! The real binary, as a child of the test.

use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{self, Response};
use super::ports::free_port;
use super::process::{Lines, TempDir, signal};
use super::wait::{SOON, wait_for, wait_until};
use super::websocket::RawClient;

/// The compiled `fanfare`.
pub const BINARY: &str = env!("CARGO_BIN_EXE_fanfare");

/// How long an engine may take that comes again: it reads its stream back before it serves.
const START_AGAIN: Duration = Duration::from_secs(60);

/// A running engine on ports of its own. It ends with the value; when the test fails, what it wrote to
/// standard error is shown.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    clients: SocketAddr,
    control: SocketAddr,
    files: Option<TempDir>,
}

impl Engine {
    /// `fanfare serve` on free ports of 127.0.0.1, with these further arguments. Returns when it listens.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = serve();
        command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]).args(arguments);
        Self::launch(command, None)
    }

    /// The same with a configuration file of this content.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn with_config(toml: &str) -> Self {
        Self::with_config_and(toml, &[])
    }

    /// The same with a configuration file and further arguments.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn with_config_and(toml: &str, arguments: &[&str]) -> Self {
        Self::with_config_within(SOON, toml, arguments)
    }

    /// The same for an engine that consumes the RabbitMQ at `url`. Returns when it is ready.
    ///
    /// # Panics
    /// If it does not start, or is not ready in time.
    #[track_caller]
    pub fn consuming(url: &str, toml: &str) -> Self {
        let engine = Self::with_config_and(toml, &["--amqp", url]);
        engine.wait_until_ready();
        engine
    }

    /// As [`Self::with_config_and`], where it has more, or less, time for its start: there may be much to read back.
    ///
    /// # Panics
    /// If it does not start within `limit`.
    #[track_caller]
    pub fn with_config_within(limit: Duration, toml: &str, arguments: &[&str]) -> Self {
        let files = TempDir::new("engine");
        let file = files.write("fanfare.toml", toml);
        let mut command = serve();
        command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--config"]).arg(file);
        command.args(arguments);
        Self::launch_within(limit, command, Some(files))
    }

    /// The same on ports that stay with it over a [`Self::restart`], below the range from which the kernel
    /// takes ports for clients.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn on_fixed_ports(toml: &str) -> Self {
        let listen = [free_port(), free_port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let files = TempDir::new("engine");
        files.write("fanfare.toml", toml);
        Self::launch(serve_at(listen, &files), Some(files))
    }

    /// Stops it by SIGTERM and starts it again with the same file on the same ports.
    ///
    /// # Panics
    /// If it was not made by [`Self::on_fixed_ports`], or does not end or start.
    #[track_caller]
    pub fn restart(self) -> Self {
        self.stop_for_now().start()
    }

    /// Stops it by SIGTERM, to be started again later.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn stop_for_now(mut self) -> Stopped {
        signal(self.child.id(), "TERM");
        let status = self.wait_for_exit(SOON * 2);
        assert!(status.success(), "{status}");
        self.stopped()
    }

    /// Ends it by SIGKILL, to be started again later.
    ///
    /// # Panics
    /// If it was not made by [`Self::on_fixed_ports`].
    #[track_caller]
    pub fn kill_for_now(mut self) -> Stopped {
        self.end();
        self.stopped()
    }

    fn stopped(&mut self) -> Stopped {
        Stopped { listen: [self.clients, self.control], files: self.files.take().expect("it has a file") }
    }

    /// Starts what `command` says, such as [`serve`] with arguments or a shell that ends in `exec fanfare`,
    /// and waits for the addresses.
    ///
    /// # Panics
    /// If it ends, or prints no addresses in time.
    #[track_caller]
    pub fn launch(command: Command, files: Option<TempDir>) -> Self {
        Self::launch_within(SOON, command, files)
    }

    #[track_caller]
    fn launch_within(limit: Duration, mut command: Command, files: Option<TempDir>) -> Self {
        let (child, stdout, stderr) = spawn(&mut command);
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        // It is an engine from the start, so that it ends with us if it prints nothing.
        let mut engine = Self { child, stdout, stderr, clients: unknown, control: unknown, files };
        let (clients, control) = wait_for(limit, "the engine's addresses in its log", || {
            if let Some(status) = engine.child.try_wait().expect("the child can be asked") {
                panic!("the engine ended with {status}");
            }
            addresses(&engine.stderr.so_far())
        });
        (engine.clients, engine.control) = (clients, control);
        engine
    }

    /// Where clients connect.
    pub fn client_address(&self) -> SocketAddr {
        self.clients
    }

    /// Where operators connect.
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// The URL for SDKs.
    pub fn ws_url(&self) -> String {
        format!("ws://{}/connection/websocket", self.clients)
    }

    /// The live page.
    pub fn page_url(&self) -> String {
        format!("http://{}/", self.control)
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error up to now.
    pub fn stderr(&self) -> &Lines {
        &self.stderr
    }

    /// What it wrote to standard output up to now.
    pub fn stdout(&self) -> &Lines {
        &self.stdout
    }

    /// `GET` on the control port.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        http::get(self.control, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// `POST` to the server API, such as `api("publish", ...)`: the whole answer.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn api(&self, method: &str, body: &Value) -> Value {
        let path = format!("/api/{method}");
        http::post(self.control, &path, &[], body)
            .unwrap_or_else(|error| panic!("POST {path}: {error}"))
            .json()
    }

    /// Publishes by the server API.
    ///
    /// # Panics
    /// If the answer is an error.
    #[track_caller]
    pub fn publish(&self, channel: &str, data: &Value) {
        let answer = self.api("publish", &json!({ "channel": channel, "data": data }));
        assert!(answer.get("result").is_some(), "publishing to {channel}: {answer}");
    }

    /// Sum of a metric over all samples that carry these labels; 0 if there is none.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.get("/metrics").body;
        text.lines().filter_map(|line| sample(line, name, labels)).sum()
    }

    /// Waits until `/health/ready` says 200: where there is a RabbitMQ, until it is consumed.
    ///
    /// # Panics
    /// If that does not happen.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        wait_until(SOON * 2, "the engine to be ready", || {
            http::get(self.control, "/health/ready").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// The epochs in which it has read its stream back, in order.
    pub fn epochs(&self) -> Vec<String> {
        let of = |line: &String| {
            let (_, rest) = line.split_once("read the stream back")?.1.split_once("epoch=")?;
            Some(rest.split_whitespace().next()?.to_owned())
        };
        self.stderr.so_far().iter().filter_map(of).collect()
    }

    /// A connected client.
    ///
    /// # Panics
    /// If it cannot connect.
    #[track_caller]
    pub fn client(&self) -> RawClient {
        RawClient::connect(self.clients)
    }

    /// A client with these subscriptions.
    ///
    /// # Panics
    /// If one is refused.
    #[track_caller]
    pub fn subscriber(&self, topics: &[&str]) -> RawClient {
        let mut client = self.client();
        topics.iter().for_each(|topic| client.subscribe(topic));
        client
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// If it does not end in time.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        self.wait_for_exit(SOON * 2)
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for the end without asking for it.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    #[track_caller]
    pub fn wait_for_exit(&mut self, limit: Duration) -> ExitStatus {
        wait_for(limit, "the engine's end", || self.try_exit())
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// If the child cannot be asked.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child can be asked")
    }

    /// Ends it by SIGKILL.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An engine between two runs.
#[derive(Debug)]
pub struct Stopped {
    listen: [SocketAddr; 2],
    files: TempDir,
}

impl Stopped {
    /// The next run.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start(self) -> Engine {
        self.start_with(&[])
    }

    /// The same with further variables of the environment, for this run only.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    pub fn start_with(self, environment: &[(&str, &str)]) -> Engine {
        let mut command = serve_at(self.listen, &self.files);
        command.envs(environment.iter().copied());
        Engine::launch_within(START_AGAIN, command, Some(self.files))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- standard error of the engine ---");
            let lines = self.stderr.so_far();
            lines[lines.len().saturating_sub(60)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// `fanfare serve` without the settings that the caller's environment may hold.
pub fn serve() -> Command {
    let mut command = Command::new(BINARY);
    command.arg("serve");
    clear_settings(&mut command);
    command
}

fn serve_at([clients, control]: [SocketAddr; 2], files: &TempDir) -> Command {
    let mut command = serve();
    command.args(["--listen", &clients.to_string(), "--control", &control.to_string(), "--config"]);
    command.arg(files.path().join("fanfare.toml"));
    command
}

/// Keeps `FANFARE_*` of the environment from `command`.
pub fn clear_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
}

/// Runs a command that should end by itself, such as an engine whose port is taken: status, standard
/// output, standard error.
///
/// # Panics
/// If it does not end within `limit`.
#[track_caller]
pub fn run_to_end(mut command: Command, limit: Duration) -> (ExitStatus, String, String) {
    let (mut child, stdout, stderr) = spawn(&mut command);
    let deadline = std::time::Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child can be asked") {
            break status;
        }
        if std::time::Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!(
                "{command:?} did not end within {limit:?}; standard error:\n{}",
                stderr.so_far().join("\n")
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    (status, stdout.whole(), stderr.whole())
}

fn spawn(command: &mut Command) -> (Child, Lines, Lines) {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = Lines::collect(child.stdout.take().expect("piped"));
    let stderr = Lines::collect(child.stderr.take().expect("piped"));
    (child, stdout, stderr)
}

/// The first client address and the page's address, once they are told, in whatever format.
fn addresses(lines: &[String]) -> Option<(SocketAddr, SocketAddr)> {
    let line = lines.iter().find(|line| line.contains("serving") && line.contains("clients"))?;
    let find = |scheme: &str| line.split_once(scheme)?.1.split('/').next()?.parse().ok();
    Some((find("ws://")?, find("http://")?))
}

/// The value in a line of Prometheus' text format, if it is a sample of `name` with these labels.
fn sample(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let (series, value) = line.rsplit_once(' ')?;
    let (metric, carried) = series.split_once('{').unwrap_or((series, ""));
    let carries = |(key, value): &(&str, &str)| carried.contains(&format!("{key}=\"{value}\""));
    (metric == name && labels.iter().all(carries)).then(|| value.parse().ok())?
}
