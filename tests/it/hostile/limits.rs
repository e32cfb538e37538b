//! What many clients take together: places, descriptors and memory.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{CONFIG, Scene};
use crate::support::engine::{BINARY as FANFARE, Engine, clear_settings, run_to_end};
use crate::support::frames::{TEXT, frame};
use crate::support::peer::{Peer, UPGRADE};
use crate::support::process::{TempDir, resident_bytes};
use crate::support::wait::{SOON, wait_until};

/// More come than there are descriptors for: the limit is lowered under a running engine, as it knows better than to
/// take so many clients. Those who are here go on, the rest wait or are turned away,
/// and when some leave, others come in.
#[test]
fn descriptors_run_out_while_clients_come() {
    let files = TempDir::new("descriptors");
    let config = files.write("fanfare.toml", &format!("{CONFIG}[limits]\nclients = 500\n"));
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 500; exec \"$@\"", "sh", FANFARE, "serve", "--shards", "1"]);
    shell.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--config"]).arg(config);
    clear_settings(&mut shell);
    let mut scene = Scene::with(Engine::launch(shell, Some(files)));
    // The hard limit is as low: that is not for the process' owner to raise.
    wait_until(SOON, "a warning with the number to set", || scene.engine.stderr().contain("LimitNOFILE=756"));

    let pid = scene.engine.pid().to_string();
    let lowered = Command::new("prlimit").args(["--pid", &pid, "--nofile=80:80"]).status();
    assert!(lowered.expect("util-linux is installed").success());

    let begun = Instant::now();
    let crowd: Vec<Peer> = (0..200).map(|_| Peer::connect(scene.engine.client_address())).collect();
    for n in 0..20 {
        scene.is_unharmed(&format!("the crowd, round {n}"));
    }
    // Accepting is tried again and again, and is told of once per interval.
    let failures = || scene.engine.metric("fanfare_accept_failures_total", &[]);
    wait_until(SOON, "the descriptors to run out", || failures() >= 3.0);
    let log = scene.engine.stderr().so_far();
    let said = log.iter().filter(|line| line.contains("no connection can be accepted")).count();
    assert!((1..=1 + begun.elapsed().as_secs() / 10).contains(&(said as u64)), "{log:?}");
    drop(crowd);
    wait_until(SOON, "room for one more", || {
        let mut late = Peer::connect(scene.engine.client_address());
        late.send(UPGRADE.as_bytes());
        late.0.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout that is not zero");
        std::io::Read::read(&mut late.0, &mut [0; 12]).is_ok_and(|length| length == 12)
    });
    scene.is_unharmed("the crowd has left");
}

/// The limit is exact, whatever the number of shards; who comes is told why, and so is the operator.
#[test]
fn a_full_node_refuses_with_a_reason() {
    let engine = Engine::with_config_and(&format!("limits.clients = 5\n{CONFIG}"), &["--shards", "2"]);
    assert_eq!(engine.metric("fanfare_clients_limit", &[]), 5.0);
    let mut inside: Vec<_> = (0..5).map(|_| engine.client()).collect();
    for _ in 0..20 {
        let mut late = Peer::connect(engine.client_address());
        let head = late.read_head();
        assert!(head.starts_with("HTTP/1.1 503 ") && head.to_lowercase().contains("retry-after: "), "{head}");
        late.wait_for_end();
    }
    assert_eq!(engine.metric("fanfare_refused_upgrades_total", &[("reason", "full")]), 20.0);
    let said = |line: &String| line.contains("reason=\"full\"") && line.contains("limits.clients");
    assert!(engine.stderr().so_far().iter().any(said), "{:?}", engine.stderr().so_far());

    let mut subscribe = Command::new(FANFARE);
    subscribe.args(["subscribe", "alive:1", "--url", &engine.ws_url()]);
    clear_settings(&mut subscribe);
    let (status, _, said) = run_to_end(subscribe, SOON);
    assert!(
        !status.success() && said.contains("503") && said.contains("as many clients as it may"),
        "{said}"
    );
    assert!(!said.contains("nothing listens"), "{said}");

    inside.pop();
    wait_until(SOON, "a place to be free", || {
        let mut late = Peer::connect(engine.client_address());
        late.send(UPGRADE.as_bytes());
        late.read_head().starts_with("HTTP/1.1 101 ")
    });
}

/// One message asks for all of it, and nothing is taken: it was 378 MB before.
#[test]
fn answers_that_nobody_takes_are_bounded() {
    let history = "[namespaces.big]\nhistory_size = 20\nclient_history = true\n[limits]\nshard_replies_bytes = 4194304\n";
    let mut scene = Scene::with(Engine::with_config_and(&format!("{history}{CONFIG}"), &["--shards", "1"]));
    for topic in 0..100 {
        let data = "x".repeat(10_000);
        for _ in 0..20 {
            scene.engine.publish(&format!("big:{topic}"), &serde_json::json!(data));
        }
    }
    let ask = |method: &str, more: &str| {
        let command =
            |topic| format!(r#"{{"id":{},"{method}":{{"channel":"big:{topic}"{more}}}}}"#, topic + 2);
        (0..100).map(command).collect::<Vec<_>>().join("\n")
    };
    let deaf: Vec<Peer> = (0..40)
        .map(|n| {
            let mut peer = scene.connected();
            socket2::SockRef::from(&peer.0).set_recv_buffer_size(4096).expect("SO_RCVBUF");
            match n % 2 {
                0 => peer.command(&ask("history", r#","limit":-1"#)),
                _ => peer.command(&ask("subscribe", r#","recover":true,"offset":0"#)),
            }
            peer
        })
        .collect();
    let waiting = || scene.engine.metric("fanfare_reply_bytes", &[]);
    wait_until(SOON, "some to be closed", || {
        assert!(waiting() < 6e6, "{} bytes wait", waiting());
        scene.engine.metric("fanfare_closes_total", &[("reason", "slow")]) >= 20.0
    });
    // Somebody who takes them gets them all.
    let mut reader = scene.connected();
    reader.command(&ask("history", r#","limit":-1"#));
    let mut answers = 0;
    while answers < 100 {
        answers += reader.reply().matches(r#""history":"#).count();
    }
    scene.is_unharmed("answers that nobody takes");
    drop(deaf);
    wait_until(SOON, "nothing to be left", || scene.engine.metric("fanfare_reply_bytes", &[]) == 0.0);
}

/// The allocator looks at the clock only when a page is freed, and after the last of them nobody does anything.
#[test]
fn memory_that_clients_took_goes_back_to_the_kernel_when_they_have_gone() {
    const COUNT: usize = 400;
    const HALF: usize = 60_000;
    let mut scene = Scene::new();
    // Not by a metric: a request is some activity, too.
    let resident = || resident_bytes(scene.engine.pid()).expect("it runs") as f64;
    let before = resident();
    let half = &frame(TEXT, &[b' '; HALF + 1000])[..HALF];
    let peers: Vec<Peer> = (0..COUNT)
        .map(|_| {
            let mut peer = scene.connected();
            peer.send(half);
            peer
        })
        .collect();
    let taken = (COUNT * HALF) as f64;
    wait_until(SOON, "the halves of messages to be read", || {
        scene.engine.metric("fanfare_input_bytes", &[]) > 0.99 * taken
    });
    assert!(resident() > before + 0.9 * taken, "they are in memory: {}", resident());
    drop(peers);
    wait_until(SOON, "the memory to come back", || resident() < before + 0.3 * taken);
    scene.is_unharmed("halves of messages");
}
