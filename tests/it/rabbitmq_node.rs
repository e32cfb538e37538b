//! The tests' own RabbitMQ: what other tests rely on. And what an engine needs of one: rights, and words for whoever
//! did not give them.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use crate::support::engine::{BINARY, Engine, clear_settings, run_to_end, serve};
use crate::support::harness::Harness;
use crate::support::publisher::Publisher;
use crate::support::rabbitmq::{RabbitNode, Version};
use crate::support::wait::{SOON, wait_until};
use lapin::BasicProperties;
use serde_json::json;
use socket2::{Domain, Socket, Type};

#[test]
fn a_node_keeps_durable_things_and_ends_with_its_value() {
    let mut node = RabbitNode::start();
    let url = node.new_vhost("shop");
    assert!(url.ends_with(&format!(":{}/shop", node.port())), "{url}");
    let wanted = match Version::of_this_run() {
        Version::Three => "3.10.",
        Version::Four => "4.",
    };
    let version = node.ctl(&["version"]);
    assert!(version.starts_with(wanted), "{version}");

    let has_shop = |node: &RabbitNode| node.ctl(&["list_vhosts"]).lines().any(|line| line == "shop");
    node.stop();
    node.start_again();
    assert!(has_shop(&node));
    node.kill();
    node.start_again();
    assert!(has_shop(&node));
    crowds_do_not_keep_rabbitmqctl_from_starting(&node);
}

/// Where clients have all ports from which it takes one by default.
fn crowds_do_not_keep_rabbitmqctl_from_starting(node: &RabbitNode) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("bound");
    let crowd: Vec<_> = (35_672..=35_682).map(|port| connect_from(port, address)).collect();
    node.new_vhost("crowded");
    drop((crowd, server));
}

/// A connection from this port, unless somebody has it already.
fn connect_from(port: u16, server: SocketAddr) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).ok()?;
    socket.connect(&server.into()).expect("it listens");
    Some(socket)
}

/// A user of a virtual host with these rights: configure, write, read. Returns its URL.
fn user(vhost: &str, rights: [&str; 3]) -> String {
    let node = RabbitNode::shared();
    let name = format!("of_{vhost}");
    node.ctl(&["add_user", &name, "hunter2"]);
    node.ctl(&[&["set_permissions", "-p", vhost, &name], &rights[..]].concat());
    format!("amqp://{name}:hunter2@127.0.0.1:{}/{vhost}", node.port())
}

/// The least rights with which an engine runs: everything is pushed, clients publish, and dead letters are kept. The
/// manual has the same (`manual/rabbitmq.rs`).
#[test]
fn an_engine_needs_no_more_rights_than_the_manual_says() {
    let own = "[amqp]\nsource = \"queue\"\n";
    let named = "[amqp]\nsource = \"queue\"\nqueue = \"orders\"\nqueue_delay = \"0s\"\n";
    let calls = "[rpc.methods]\n\"*\" = \"amqp\"\n";
    for (vhost, config, rights) in [
        ("least_calls", calls, ["^$", r"^(fanfare|fanfare\.dead|fanfare\.rpc|amq\.default)$", "^fanfare$"]),
        ("least_stream", "", ["^$", r"^(fanfare|fanfare\.dead|amq\.default)$", "^fanfare$"]),
        (
            "least_own",
            own,
            [r"^amq\.gen.*", r"^(amq\.gen.*|amq\.default|fanfare|fanfare\.dead)$", r"^(fanfare|amq\.gen.*)$"],
        ),
        ("least_named", named, ["^$", r"^fanfare(\.dead)?$", "^orders$"]),
    ] {
        let administrator = RabbitNode::shared().new_vhost(vhost);
        // Whoever may declare has declared what the user may not.
        let with_named = config == named;
        let declaring = Engine::consuming(&administrator, if config == calls { calls } else { "" });
        declaring.stop();
        let publisher = Publisher::connect(&administrator);
        if with_named {
            publisher.declare_queue("orders");
        }
        let url = user(vhost, rights);
        let engine = Engine::consuming(&url, config);
        let mut client = engine.subscriber(&["news"]);
        publisher.publish("news", b"1", BasicProperties::default());
        client.publication("news");
        engine.publish("news", &json!(2));
        client.publication("news");
        publisher.publish("news", b"{", BasicProperties::default());
        let (body, reason, _) = publisher.dead_letter();
        assert_eq!(body, b"{", "{vhost}: {reason}");
        let log = engine.stderr().so_far().join("\n");
        assert!(!log.contains("lost RabbitMQ"), "{vhost}: {log}");
        let warned = log.lines().filter(|line| line.contains("WARN") && !line.contains("dead letter"));
        assert_eq!(
            warned.collect::<Vec<_>>(),
            [""; 0],
            "{vhost}: what the manual advises is no reason to warn"
        );
    }
}

/// RabbitMQ's first answer has the reason; that the thing is not there either would hide it.
#[test]
fn why_nothing_can_be_declared_is_told_in_rabbitmqs_words() {
    let node = RabbitNode::shared();
    let ends_with = |url: &str| {
        let mut command = serve();
        command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--amqp", url]);
        let (status, _, errors) = run_to_end(command, SOON * 2);
        assert_eq!(status.code(), Some(1), "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
        errors
    };
    node.new_vhost("no_configure");
    let said = ends_with(&user("no_configure", ["^$", ".*", ".*"]));
    assert!(
        said.contains("the exchange `fanfare` is not there") && said.contains("ACCESS_REFUSED"),
        "{said}"
    );
    assert!(said.contains("right to configure"), "{said}");

    let url = node.new_vhost("few_queues");
    node.ctl(&["set_vhost_limits", "-p", "few_queues", r#"{"max-queues": 1}"#]);
    let said = ends_with(&url);
    assert!(said.contains("queue limit in vhost 'few_queues' (1) is reached"), "{said}");
    assert!(said.contains("set_vhost_limits") && !said.contains("NOT_FOUND"), "{said}");

    // An old engine may be about to give its connections back, so this is no end.
    let url = node.new_vhost("one_connection");
    node.ctl(&["set_vhost_limits", "-p", "one_connection", r#"{"max-connections": 1}"#]);
    let engine = Engine::start(&["--amqp", &url]);
    wait_until(SOON, "the reason", || engine.stderr().contain("connection limit (1) is reached"));
    assert_refused(&engine, "connection limit (1) is reached");
    let log = engine.stderr().so_far().join("\n");
    assert!(log.contains("an engine needs two") && !log.contains("no such vhost"), "{log}");
    node.ctl(&["clear_vhost_limits", "-p", "one_connection"]);
    engine.wait_until_ready();
}

/// Waits until `/health` says that RabbitMQ refuses the engine, for a reason with `words`.
fn assert_refused(engine: &Engine, words: &str) {
    wait_until(SOON, words, || {
        let health = engine.get("/health").json();
        let reason = health["reason"].as_str().unwrap_or_default().to_owned();
        assert!(!reason.contains("hunter2"), "{reason}");
        health["rabbitmq"] == "refused" && reason.contains(words)
    });
}

/// An engine that runs loses its connections, and RabbitMQ, which is there, does not take it again.
#[test]
fn a_rabbitmq_that_refuses_is_not_called_away() {
    let node = RabbitNode::shared();
    node.new_vhost("refusing");
    let engine = Engine::start(&["--amqp", &user("refusing", [".*", ".*", ".*"])]);
    engine.wait_until_ready();
    let closes_connections =
        || _ = node.ctl(&["close_all_connections", "-p", "refusing", "an operator says so"]);
    node.ctl(&["change_password", "of_refusing", "another"]);
    closes_connections();
    assert_refused(&engine, "ACCESS_REFUSED - Login was refused");
    node.ctl(&["change_password", "of_refusing", "hunter2"]);
    engine.wait_until_ready();
    assert_eq!(engine.get("/health").json()["reason"], json!(null));
    node.ctl(&["clear_permissions", "-p", "refusing", "of_refusing"]);
    closes_connections();
    assert_refused(&engine, "access to vhost 'refusing' refused");
    node.ctl(&["delete_vhost", "refusing"]);
    assert_refused(&engine, "has no such vhost");
}

/// `fanfare check --connect` with these settings: its exit code, and what it says.
fn check_with(url: &str, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(BINARY);
    clear_settings(&mut command);
    command.args(["check", "--connect"]).env("FANFARE_AMQP_URL", url).envs(settings.iter().copied());
    command.env("FANFARE_SERVER_LISTEN", "127.0.0.1:0").env("FANFARE_CONTROL_LISTEN", "127.0.0.1:0");
    let (status, report, errors) = run_to_end(command, SOON * 2);
    assert!(!report.contains("hunter2"), "{report}");
    (status.code(), report + &errors)
}

/// What exists is declared as an engine does it, which changes nothing, and shows what a passive look does not.
#[test]
fn check_says_what_would_end_an_engine_at_its_start() {
    let Harness { node, url, engine } = Harness::start("inspected", "");
    engine.stop();
    Publisher::connect(&url).declare_queue("orders");
    let things = || node.ctl(&["list_queues", "-p", "inspected", "name", "arguments"]);
    let bindings = || node.ctl(&["list_bindings", "-p", "inspected"]);
    let (before, bound) = (things(), bindings());
    let user = |name: &str, rights: [&str; 3]| {
        node.ctl(&["add_user", name, "hunter2"]);
        node.ctl(&[&["set_permissions", "-p", "inspected", name], &rights[..]].concat());
        format!("amqp://{name}:hunter2@127.0.0.1:{}/inspected", node.port())
    };
    let queue = [("FANFARE_AMQP_SOURCE", "queue"), ("FANFARE_AMQP_QUEUE", "orders")];
    let stream = [("FANFARE_AMQP_SOURCE", "queue"), ("FANFARE_AMQP_QUEUE", "fanfare")];
    let writes_not = user("writes_not", [".*", "^$", ".*"]);
    let reads_not = user("reads_not", [".*", ".*", "^fanfare$"]);
    for (case, url, settings, code, words) in [
        ("a stream as a queue", &url, &stream[..], 1, "is a stream, and what is sent to it"),
        ("another type", &url, &[("FANFARE_AMQP_EXCHANGE", "amq.direct")], 1, "is not of type topic"),
        ("no write right", &writes_not, &[], 1, "refused for user 'writes_not'"),
        ("no read right", &reads_not, &queue, 1, "refused for user 'reads_not'"),
        (
            "other limits",
            &url,
            &[("FANFARE_AMQP_STREAM_MAX_AGE", "1h")],
            0,
            "used as it is (PRECONDITION_FAILED",
        ),
        (
            "no right to configure",
            &user("configures_not", ["^$", ".*", ".*"]),
            &[],
            0,
            "may not configure it",
        ),
        ("a queue", &url, &queue, 0, "the queue `orders` is there"),
        ("what is not tried", &url, &[], 0, "rights and limits were not tried"),
    ] {
        let (status, report) = check_with(url, settings);
        assert_eq!(status, Some(code), "{case}: {report}");
        assert!(report.contains(words), "{case}: {words}: {report}");
    }
    assert_eq!((things(), bindings()), (before, bound), "nothing is changed");
}

#[test]
fn check_connects_if_it_is_told_to_and_declares_nothing() {
    let node = RabbitNode::shared();
    let url = node.new_vhost("looked_at");
    let check = |url: &str, source: &str| check_with(url, &[("FANFARE_AMQP_SOURCE", source)]);
    let (code, report) = check(&url, "stream");
    assert_eq!(code, Some(0), "{report}");
    for words in [
        "answers, and takes the user and password",
        "the topic exchange `fanfare` would be",
        "the stream `fanfare` would be",
    ] {
        assert!(report.contains(words), "{words}: {report}");
    }
    assert_eq!(node.ctl(&["list_queues", "-p", "looked_at", "name"]).trim(), "");
    let _engine = Engine::consuming(&url, "");
    let (code, report) = check(&url, "stream");
    assert_eq!(code, Some(0), "{report}");
    for words in ["the exchange `fanfare` is there", "the stream `fanfare` is there"] {
        assert!(report.contains(words), "{words}: {report}");
    }
    let (_, report) = check(&url, "queue");
    assert!(report.contains("a queue of the engine's own would be declared"), "{report}");

    let wrong = url.replace("guest:guest@", "guest:hunter2@");
    let (code, report) = check(&wrong, "stream");
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("problem  RabbitMQ at") && report.contains("user name or password"), "{report}");
    // Of two nodes one is enough.
    let (code, report) = check(&format!("{wrong},{url}"), "stream");
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("warning  RabbitMQ at"), "{report}");
}
