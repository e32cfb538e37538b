//! How the engine starts where it cannot, and how it leaves.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::engine::{BINARY, Engine, clear_settings, run_to_end, serve};
use crate::support::http;
use crate::support::ports::free_port;
use crate::support::process::{Lines, signal};
use crate::support::script::Subscriber;
use crate::support::wait::{SOON, wait_for, wait_until};
use serde_json::Value;

#[test]
fn clients_are_sent_away_with_3001_and_the_exit_code_is_0() {
    for signal in ["TERM", "INT"] {
        let mut engine = Engine::start(&[]);
        let mut client = engine.client();
        let mut node = Subscriber::node(&engine.ws_url());
        let start = Instant::now();
        engine.signal(signal);
        assert_eq!(client.closed(), (3001, "shutdown".to_owned()));
        // The SDK tells a server that leaves from one that sends it away.
        assert_eq!(node.event("connecting", None)["code"], 3001);
        drop(client);
        let status = engine.wait_for_exit(SOON);
        assert_eq!(status.code(), Some(0), "{signal}");
        // Under 100 clients: within a second; the rest is for machines that are busy.
        assert!(start.elapsed() < Duration::from_secs(4), "{signal}: {:?}", start.elapsed());
    }
}

/// While it sends its clients away one after the other, nobody new comes in and `/health` says so.
#[test]
fn who_is_stopping_takes_nobody_in_and_says_so() {
    let engine = Engine::with_config("[stop]\nclients_per_second = 1\n");
    let clients: Vec<_> = (0..20).map(|_| engine.client()).collect();
    engine.signal("TERM");
    wait_until(SOON, "not ready", || {
        http::get(engine.control_address(), "/health/ready").is_ok_and(|answer| answer.status == 503)
    });
    wait_until(SOON, "no listener", || std::net::TcpStream::connect(engine.client_address()).is_err());
    assert!(clients.len() == 20);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut engine = Engine::with_config("[stop]\nclients_per_second = 1\nlimit = \"60s\"\n");
    let _clients: Vec<_> = (0..20).map(|_| engine.client()).collect();
    engine.signal("TERM");
    wait_until(SOON, "no listener", || std::net::TcpStream::connect(engine.client_address()).is_err());
    let start = Instant::now();
    // It counts from a second after the first one on.
    let mut status = None;
    wait_until(SOON, "the end", || {
        engine.signal("TERM");
        status = engine.try_exit();
        status.is_some()
    });
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(status.and_then(|status| status.code()), Some(1));
    assert!(engine.stderr().contain("SIGTERM again: stopped at once, not all clients were told"));
}

/// `timeout fanfare serve` signals its child, and then the group that the child is in.
#[test]
fn two_signals_that_arrive_together_are_one() {
    let mut engine = Engine::with_config("[stop]\nclients_per_second = 10\n");
    let _clients: Vec<_> = (0..5).map(|_| engine.client()).collect();
    engine.signal("TERM");
    wait_until(SOON, "the stop", || engine.stderr().contain("stopping"));
    engine.signal("TERM");
    assert_eq!(engine.wait_for_exit(SOON).code(), Some(0));
}

/// A closed terminal and a tool that rotates logs send SIGHUP, which has the configuration read again. The other two mean
/// nothing. systemd would count an end by any of them as clean.
#[test]
fn signals_that_do_not_stop_the_engine_are_told_and_end_nothing() {
    let mut engine = Engine::start(&[]);
    let mut client = engine.client();
    for name in ["HUP", "USR1", "USR2"] {
        engine.signal(name);
        let word = format!("signal=\"SIG{name}\"");
        wait_until(SOON, &word, || engine.stderr().contain(&word));
        assert_eq!(engine.stderr().so_far().iter().filter(|line| line.contains(&word)).count(), 1);
    }
    client.subscribe("still here");
    engine.signal("TERM");
    assert_eq!(client.closed(), (3001, "shutdown".to_owned()));
    drop(client);
    // While it waits for the end, too.
    assert_eq!(engine.wait_for_exit(SOON).code(), Some(0));
}

/// Whoever collects what it writes gets log lines only, in the format that was asked for.
#[test]
fn the_banner_is_for_terminals() {
    let mut engine = Engine::with_config("[log]\nformat = \"json\"\n");
    engine.signal("HUP");
    wait_until(SOON, "the signal's line", || engine.stderr().contain("SIGHUP"));
    engine.signal("TERM");
    engine.wait_for_exit(SOON);
    let lines: Vec<Value> = engine
        .stderr()
        .whole()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let serving = lines.iter().find(|line| line["message"] == "serving").expect("it says where it is");
    assert_eq!(serving["page"], format!("http://{}/", engine.control_address()));
    assert_eq!(engine.stdout().whole(), "");

    let taken = Engine::start(&[]);
    let mut second = serve();
    second.args(["--listen", "127.0.0.1:0", "--control", &taken.control_address().to_string()]);
    second.env("FANFARE_LOG_FORMAT", "json");
    let (status, _, errors) = run_to_end(second, SOON);
    let last: Value = serde_json::from_str(errors.lines().last().expect("a line")).expect("JSON");
    assert_eq!((status.code(), &last["level"]), (Some(1), &"ERROR".into()), "{errors}");
    assert!(last["message"].as_str().expect("text").contains("perhaps a second fanfare"), "{errors}");

    let mut terminal = Command::new("script");
    let line = format!("exec {BINARY} serve --listen localhost:0 --control localhost:0");
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    clear_settings(&mut terminal);
    let mut terminal = terminal.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("script runs");
    let shown = Lines::collect(terminal.stdout.take().expect("piped"));
    wait_until(SOON, "the banner", || shown.contain("Stop with Ctrl-C"));
    assert!(shown.contain("  clients  ws://127.0.0.1:"), "localhost is an address: {:?}", shown.so_far());
    assert!(!shown.contain("serving clients"), "said once");
    // It passes the signal on.
    signal(terminal.id(), "TERM");
    terminal.wait().expect("it ends");
}

/// While RabbitMQ lets it wait, operators can see that it starts, and end it.
#[test]
fn who_is_starting_says_so_and_can_be_stopped() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let rabbitmq = format!("amqp://{}", silent.local_addr().expect("bound"));
    let control = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = serve();
    command.args(["--listen", "127.0.0.1:0", "--control", &control.to_string(), "--amqp", &rabbitmq]);
    let mut engine = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    let health = wait_for(SOON, "an answer", || http::get(control, "/health").ok());
    assert_eq!((health.status, &health.json()["phase"]), (503, &"starting".into()));
    assert!(http::get(control, "/metrics").expect("metrics").body.contains("fanfare_replayed_total 0"));
    signal(engine.0.id(), "TERM");
    let status = wait_for(SOON, "its end", || engine.0.try_wait().expect("it is ours"));
    assert_eq!(status.code(), Some(0));
}

/// Ended with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Clients that never answer the close frame hold nobody up for longer than `timeouts.close`.
#[test]
fn clients_that_do_not_answer_are_left_behind() {
    let mut engine = Engine::with_config("[timeouts]\nclose = \"500ms\"\n");
    let _silent: Vec<_> = (0..3).map(|_| engine.client()).collect();
    engine.signal("TERM");
    assert_eq!(engine.wait_for_exit(SOON / 2).code(), Some(0));
}

/// It starts, as not everybody comes at once; but the operator is told the number to set.
#[test]
fn too_few_descriptors_for_the_configured_clients_are_warned_of() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 300; exec \"$@\"", "sh", BINARY, "serve", "--shards", "1"]);
    shell.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]);
    clear_settings(&mut shell);
    shell.env("FANFARE_LIMITS_CLIENTS", "500");
    let engine = Engine::launch(shell, None);
    for words in
        ["limits.clients is 500", "leaves room for 44 clients", "LimitNOFILE=756", "(the hard limit is 300)"]
    {
        wait_until(SOON, words, || engine.stderr().contain(words));
    }
}

/// Whoever edits the configuration of an engine that runs wants to know whether it is right.
#[test]
fn check_knows_an_engine_that_runs_from_a_stranger() {
    let engine = Engine::start(&[]);
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a port");
    let check = |control: SocketAddr| {
        let mut check = Command::new(BINARY);
        clear_settings(&mut check);
        check.arg("check").env("FANFARE_SERVER_LISTEN", engine.client_address().to_string());
        check.env("FANFARE_CONTROL_LISTEN", control.to_string());
        run_to_end(check, SOON)
    };
    let (status, report, _) = check(engine.control_address());
    assert_eq!(status.code(), Some(0), "{report}");
    for address in [engine.client_address(), engine.control_address()] {
        assert!(
            report.contains(&format!("note     {address} is taken: a Fanfare listens there")),
            "{report}"
        );
    }
    let address = stranger.local_addr().expect("bound");
    let (status, report, _) = check(address);
    assert_eq!(status.code(), Some(1), "{report}");
    assert!(report.contains(&format!("problem  {address} is taken: another program")), "{report}");
}

/// SO_REUSEPORT would let a second instance share the port in silence.
#[test]
fn a_port_that_is_taken_is_named() {
    let engine = Engine::start(&[]);
    let [clients, control] = [engine.client_address(), engine.control_address()].map(|at| at.to_string());
    for [listen, operators] in [[&*clients, "127.0.0.1:0"], ["127.0.0.1:0", &*control]] {
        let mut second = serve();
        second.args(["--listen", listen, "--control", operators]);
        let (status, _, stderr) = run_to_end(second, SOON);
        let taken = if listen == clients { &clients } else { &control };
        assert_eq!(status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(taken.as_str()), "{taken} is not named in:\n{stderr}");
        assert!(stderr.contains("perhaps a second fanfare"), "what to do is not said: {stderr}");
    }
    engine.subscriber(&["still here"]);
}
