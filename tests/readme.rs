//! The documents for users, word for word: README.md, those beside the benchmarks and the tests, and each chapter of the
//! manual. Their fenced blocks are run as they stand, top to bottom; comments that readers do not see say how:
//!
//! ```text
//! <!-- test: file NAME -->                 the next block is saved as NAME
//! <!-- test: run -->                       the next block is run to its end, by bash
//! <!-- test: start NAME until "TEXT" -->   the next block is started, and goes on once it printed TEXT
//! <!-- test: skip REASON -->               the next block is not run, because of REASON
//! <!-- test: printed TEXT -->              what was run last printed TEXT
//! <!-- test: NAME said TEXT -->            what was started as NAME prints TEXT
//! <!-- test: NAME goes on -->              what was started as NAME prints some more lines
//! <!-- test: NAME counts -->               what was started as NAME has printed 1, 2, 3, ... and nothing else
//! <!-- test: browse URL until "TEXT" -->   URL is opened in Chromium and shows TEXT
//! <!-- test: page shows TEXT -->           the page that is open shows TEXT
//! <!-- test: stop NAME -->                 ends what was started as NAME, as Ctrl-C does
//! <!-- test: ready -->                     waits until the engine is, RabbitMQ included
//! <!-- test: rabbitmq -->                  a RabbitMQ of the test's own begins to answer on port 5672
//! ```
//!
//! Blocks without such a comment are pictures and must be `text`. Each document begins with nothing running. This test
//! alone uses the default ports.

mod support;

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use support::engine::clear_settings;
use support::process::{Lines, TempDir};
use support::rabbitmq::RabbitNode;
use support::script::{python, sdk_directory};
use support::wait::{SOON, wait_for, wait_until};

/// The first command compiles everything for release.
const COMPILE_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Ports that the documents name.
const CLIENTS: u16 = 8000;
const CONTROL: u16 = 9000;
const AMQP: u16 = 5672;
const BACKEND: u16 = 3000;

/// Documents besides README, and the folder of the manual, each file of which is one.
const OTHERS: [&str; 2] = ["benches/README.md", "tests/README.md"];
const MANUAL: &str = "src/manual";

#[test]
fn readme_does_what_it_says() {
    follow(&Document::read("README.md"));
}

#[test]
fn the_other_documents_do_what_they_say() {
    let chapters = std::fs::read_dir(root().join(MANUAL)).expect("the manual is there");
    let names = chapters.map(|chapter| chapter.expect("it can be listed").file_name());
    let mut chapters: Vec<String> =
        names.map(|name| format!("{MANUAL}/{}", name.to_string_lossy())).collect();
    chapters.sort();
    assert!(chapters.len() > 10, "the manual is where it is looked for: {chapters:?}");
    for path in OTHERS.map(str::to_owned).iter().chain(&chapters) {
        follow(&Document::read(path));
    }
}

/// Serializes the documents, which use the same ports.
static PORTS: Mutex<()> = Mutex::new(());

fn follow(document: &Document) {
    // A document that failed does not keep the next one from its turn.
    let _turn = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let steps = document.steps();
    if !steps.is_empty() {
        [CLIENTS, CONTROL, AMQP, BACKEND].into_iter().for_each(assert_free);
    }
    let mut reader = Reader::new();
    for step in steps {
        println!("{}: {}", step.place, step.directive);
        reader.follow(&step);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn assert_free(port: u16) {
    let bound = TcpListener::bind(("127.0.0.1", port));
    assert!(
        bound.is_ok(),
        "the documents' commands use port {port}, which is taken: stop what listens there"
    );
}

fn is_ready() -> bool {
    let address = ([127, 0, 0, 1], CONTROL).into();
    support::http::get(address, "/health/ready").is_ok_and(|answer| answer.status == 200)
}

/// A text that tells commands.
struct Document {
    path: String,
    /// Of a Rust file, the documentation at its beginning. Other lines are empty, so that numbers stay.
    lines: Vec<String>,
}

impl Document {
    fn read(path: &str) -> Self {
        let text =
            std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let is_source = path.ends_with(".rs");
        let shown = |line: &str| match line.strip_prefix("//!") {
            Some(shown) => shown.strip_prefix(' ').unwrap_or(shown).to_owned(),
            None => String::new(),
        };
        let lines = text.lines().map(|line| if is_source { shown(line) } else { line.to_owned() }).collect();
        Self { path: path.to_owned(), lines }
    }

    /// The instructions of the text, in order.
    ///
    /// # Panics
    /// If a block has none, or an instruction that needs a block is not right before one.
    fn steps(&self) -> Vec<Step<'_>> {
        let mut steps: Vec<Step<'_>> = Vec::new();
        let mut lines = self.lines.iter().enumerate();
        let mut previous = "";
        while let Some((index, content)) = lines.next() {
            let place = format!("{}:{}", self.path, index + 1);
            if let Some(directive) =
                content.strip_prefix("<!-- test: ").and_then(|rest| rest.strip_suffix(" -->"))
            {
                steps.push(Step { place, directive, block: String::new() });
            } else if let Some(language) = content.strip_prefix("```") {
                let block: Vec<&str> =
                    lines.by_ref().map(|(_, line)| line.as_str()).take_while(|line| *line != "```").collect();
                let told = previous.starts_with("<!-- test: ");
                assert!(told || language == "text", "{place}: nothing says how to test this block");
                if let Some(step) = steps.last_mut().filter(|_| told) {
                    step.block = block.join("\n") + "\n";
                }
            }
            previous = content;
        }
        steps
    }
}

/// One instruction, with its block if it has one.
struct Step<'a> {
    place: String,
    directive: &'a str,
    block: String,
}

/// Somebody who follows a document.
struct Reader {
    directory: TempDir,
    running: HashMap<String, Running>,
    printed: String,
    rabbitmq: Option<RabbitNode>,
}

impl Reader {
    fn new() -> Self {
        let directory = TempDir::new("readme");
        // As if `npm install` had been run here.
        let modules = sdk_directory().join("node_modules");
        std::os::unix::fs::symlink(modules, directory.path().join("node_modules"))
            .expect("a fresh directory");
        Self { directory, running: HashMap::new(), printed: String::new(), rabbitmq: None }
    }

    fn follow(&mut self, step: &Step<'_>) {
        let words: Vec<&str> = step.directive.split(' ').collect();
        let rest = |count: usize| words[count..].join(" ").trim_matches('"').to_owned();
        match words[..] {
            ["file", name] => drop(self.directory.write(name, step.text())),
            ["run"] => self.run(step.text()),
            ["start", name, "until", ..] => self.start(name, bash(step.text()), &rest(3)),
            ["browse", url, "until", ..] => self.browse(url, &rest(3)),
            ["page", "shows", ..] => self.running["page"].wait_to_say(&rest(2)),
            ["printed", ..] => assert!(self.printed.contains(&rest(1)), "printed instead: {}", self.printed),
            ["stop", name] => self.stop(name),
            ["rabbitmq"] => self.rabbitmq = Some(RabbitNode::start_on(AMQP)),
            ["ready"] => wait_until(SOON * 2, "the engine to be ready", is_ready),
            ["skip", _, ..] => {}
            [name, "said", ..] => self.running[name].wait_to_say(&rest(2)),
            [name, "goes", "on"] => self.running[name].wait_to_go_on(),
            [name, "counts"] => self.running[name].check_counting(),
            _ => panic!("{}: no such instruction: {}", step.place, step.directive),
        }
    }

    fn run(&mut self, block: &str) {
        let output = self.prepare(bash(block)).output().expect("bash runs");
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{block}{stdout}{stderr}");
        self.printed = stdout.into_owned();
    }

    fn start(&mut self, name: &str, command: Command, text: &str) {
        let running = Running::start(self.prepare(command));
        wait_until(COMPILE_LIMIT, &format!("{name} to print {text:?}"), || {
            running.output.contain(text) || running.errors.contain(text) || running.has_ended()
        });
        running.wait_to_say(text);
        self.running.insert(name.to_owned(), running);
    }

    fn browse(&mut self, url: &str, text: &str) {
        let mut browser = Command::new("node");
        browser.arg(sdk_directory().join("browse.mjs")).arg(url);
        self.start("page", browser, text);
    }

    fn stop(&mut self, name: &str) {
        let running = self.running.remove(name).unwrap_or_else(|| panic!("{name} is not running"));
        running.interrupt();
        if name == "engine" {
            wait_until(SOON, "free ports", || TcpListener::bind(("127.0.0.1", CLIENTS)).is_ok());
        }
    }

    /// In the reader's directory, which is inside the repository, with the tests' packages.
    fn prepare(&self, mut command: Command) -> Command {
        let venv = python().parent().map(Path::to_path_buf).unwrap_or_default();
        let path = std::env::var("PATH").unwrap_or_default();
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", venv.display())).env("CARGO_NET_OFFLINE", "true");
        clear_settings(&mut command);
        command
    }
}

impl Step<'_> {
    #[track_caller]
    fn text(&self) -> &str {
        assert!(!self.block.is_empty(), "{}: no block follows", self.place);
        &self.block
    }
}

/// The block as a shell's input, which stops at the first line that fails. Ctrl-C ends it, as at a terminal,
/// although the tests themselves may run where nobody types it, and it is ignored.
fn bash(block: &str) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", "bash", "-euo", "pipefail", "-c", block]);
    command
}

/// A command that goes on in the background, with all its children.
struct Running {
    child: Child,
    output: Lines,
    errors: Lines,
}

impl Running {
    fn start(mut command: Command) -> Self {
        // A group of its own, because cargo passes no signals on.
        command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Lines::collect(child.stdout.take().expect("piped"));
        let errors = Lines::collect(child.stderr.take().expect("piped"));
        Self { child, output, errors }
    }

    fn has_ended(&self) -> bool {
        !support::process::is_running(self.child.id())
    }

    #[track_caller]
    fn wait_to_say(&self, text: &str) {
        wait_until(SOON, &format!("{text:?} to be said"), || {
            self.output.contain(text) || self.errors.contain(text)
        });
    }

    #[track_caller]
    fn wait_to_go_on(&self) {
        let enough = self.output.so_far().len() + 3;
        wait_until(SOON, "more lines", || self.output.so_far().len() >= enough);
    }

    /// It prints a number per line, after a tab: none is missing, none comes twice.
    #[track_caller]
    fn check_counting(&self) {
        let lines = self.output.so_far();
        let numbers: Vec<usize> =
            lines.iter().filter_map(|line| line.split_once('\t')?.1.parse().ok()).collect();
        assert_eq!(numbers, (1..=lines.len()).collect::<Vec<_>>());
    }

    /// As Ctrl-C does.
    fn interrupt(mut self) {
        support::process::signal_group(self.child.id(), "INT");
        wait_for(SOON * 2, "the end after Ctrl-C", || self.child.try_wait().expect("it can be asked"));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended() {
            support::process::signal_group(self.child.id(), "TERM");
        }
        // It fails only if it has been waited for.
        let _ = self.child.wait();
        if std::thread::panicking() {
            self.output.so_far().iter().chain(&self.errors.so_far()).for_each(|line| eprintln!("{line}"));
        }
    }
}
