//! Peers that do what no client should. Each is answered clearly, and nobody else notices: after each one a
//! healthy client of the same engine still gets what is published.

use std::io::{ErrorKind, Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::engine::{BINARY as FANFARE, Engine, clear_settings, run_to_end};
use crate::support::peer::{BINARY, CLOSE, PING, Peer, TEXT, UPGRADE, frame, frame_with};
use crate::support::process::{TempDir, resident_bytes};
use crate::support::wait::{SOON, hold_for, wait_until};
use crate::support::websocket::RawClient;
use flate2::{Compress, Compression, FlushCompress};

/// Healthy clients publish for themselves, so that the check needs nothing but their own connection; and
/// limits on time are short.
const CONFIG: &str = "[namespaces.alive]\nclient_publish = true\n\
                      [timeouts]\nupgrade = \"500ms\"\nconnect = \"500ms\"\nreplies = \"500ms\"\nclose = \"500ms\"\n";

/// An engine and its healthy client.
struct Scene {
    engine: Engine,
    healthy: RawClient,
    published: u32,
}

impl Scene {
    fn new() -> Self {
        Self::with(Engine::with_config(CONFIG))
    }

    fn with(engine: Engine) -> Self {
        let mut healthy = RawClient::connect(engine.client_address());
        healthy.subscribe("alive:1");
        Self { engine, healthy, published: 0 }
    }

    /// Someone who has connected in the protocol's sense.
    fn connected(&self) -> Peer {
        Peer::connected(self.engine.client_address())
    }

    /// Someone who has a WebSocket and said nothing.
    fn upgraded(&self) -> Peer {
        Peer::upgraded(self.engine.client_address())
    }

    /// Someone who has a connection and sent this.
    fn sends(&self, bytes: &[u8]) -> Peer {
        let mut peer = Peer::connect(self.engine.client_address());
        peer.send(bytes);
        peer
    }

    /// The healthy client still gets what is published.
    #[track_caller]
    fn is_unharmed(&mut self, after: &str) {
        self.published += 1;
        let data = self.published.to_string();
        let command = format!(r#""publish":{{"channel":"alive:1","data":{data}}}"#);
        let reply = self.healthy.command(&command);
        assert!(reply.contains(r#""publish":{}"#), "after {after}: {reply}");
        assert_eq!(self.healthy.publication("alive:1"), data, "after {after}");
    }
}

#[test]
fn requests_that_are_no_upgrade_get_their_status() {
    let mut scene = Scene::new();
    let without = |line: &str| UPGRADE.replace(line, "");
    let requests = [
        ("a request without a key", without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "400"),
        ("a key that is none", UPGRADE.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), "400"),
        ("not HTTP at all", "HELO mail.example.org\r\n\r\n".to_owned(), "400"),
        ("a foreign page", UPGRADE.replace("\r\n\r\n", "\r\nOrigin: https://evil.example\r\n\r\n"), "403"),
        ("a sandboxed page", UPGRADE.replace("\r\n\r\n", "\r\nOrigin: null\r\n\r\n"), "403"),
        ("a body", UPGRADE.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\n"), "400"),
        ("an unknown path", UPGRADE.replace("/connection/websocket", "/nowhere"), "404"),
        ("another method", UPGRADE.replace("GET", "POST"), "405"),
        ("no upgrade", without("Upgrade: websocket\r\n"), "426"),
        ("another version", UPGRADE.replace("Version: 13", "Version: 12"), "426"),
        (
            "a head over 32 KiB",
            UPGRADE.replace("\r\n\r\n", &format!("\r\nCookie: {}\r\n\r\n", "x".repeat(33_000))),
            "431",
        ),
    ];
    for (what, request, status) in requests {
        let mut peer = scene.sends(request.as_bytes());
        let head = peer.read_head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {head}");
        assert!(
            status != "426" || head.to_lowercase().contains("sec-websocket-version: 13"),
            "{what}: {head}"
        );
        peer.wait_for_end();
        scene.is_unharmed(what);
    }
    let counted = |labels: &[(&str, &str)]| scene.engine.metric("fanfare_refused_upgrades_total", labels);
    wait_until(SOON, "the counter", || counted(&[]) == 11.0);
    assert_eq!(counted(&[("status", "403")]), 2.0);
    assert_eq!(counted(&[("reason", "foreign_origin")]), 1.0);
    // Each kind has left a line, with where it came from and what it was told.
    for words in [
        ["foreign_origin", "127.0.0.1:", "https://evil.example", "server.allowed_origins"],
        ["opaque_origin", "127.0.0.1:", "origin=\"null\"", "sandboxed"],
        ["long_head", "127.0.0.1:", "/connection/websocket", "limits.head_bytes"],
        ["other_path", "127.0.0.1:", "/nowhere", "404"],
    ] {
        let is_said = |line: &String| words.iter().all(|word| line.contains(word));
        wait_until(SOON, words[0], || scene.engine.stderr().so_far().iter().any(is_said));
    }
}

/// Not even a stranger with much to say fills the log, or writes a line of its own into it.
#[test]
fn what_clients_do_wrong_leaves_one_line_per_interval() {
    let mut scene = Scene::new();
    for forged in 0..50 {
        let target = format!("/{forged}\u{9b}31m{}", "x".repeat(5000));
        scene.sends(UPGRADE.replace("/connection/websocket", &target).as_bytes()).wait_for_end();
        let mut peer = scene.connected();
        peer.command(&format!("{{\"id\":1,\"sub\u{1b}[2Jscribe\":{}", "y".repeat(5000)));
        assert_eq!(peer.close_code(), Some(3501));
        scene.is_unharmed("a forged line");
    }
    // Where a page comes from is known as long as it is connected.
    let mut page = scene.sends(
        UPGRADE
            .replace("fanfare.test", "localhost\r\nOrigin: http://localhost")
            .replace("websocket HTTP", "websocket?token=t HTTP")
            .as_bytes(),
    );
    page.read_head();
    page.send(&frame(TEXT, b"\xff"));
    assert_eq!(page.close_code(), Some(1007));
    let words = ["origin=\"http://localhost\"", "path=\"/connection/websocket\"", "127.0.0.1:", "told=1007"];
    let is_said = |line: &String| words.iter().all(|word| line.contains(word));
    wait_until(SOON, "the origin", || scene.engine.stderr().so_far().iter().any(is_said));
    let lines = scene.engine.stderr().so_far();
    let about = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
    // One shard or several, and the interval may have ended once.
    let shards = std::thread::available_parallelism().map_or(1, usize::from);
    assert!((1..=2 * shards).contains(&about("other_path")), "{lines:?}");
    assert!((1..=2 * shards).contains(&about("bad_request")), "{lines:?}");
    assert!(lines.iter().all(|line| line.len() < 1500), "{lines:?}");
    let faulty = |line: &&String| line.contains("bad_request") || line.contains("other_path");
    for line in lines.iter().filter(faulty) {
        assert!(!line.contains("\u{1b}[2J") && !line.contains('\u{9b}'), "{line:?}");
    }
}

#[test]
fn a_head_that_never_ends_is_ended() {
    let mut scene = Scene::new();
    for (what, bytes) in [
        ("silence from the start", &b""[..]),
        ("half a head", b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\n"),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("zeros", &[0; 64]),
    ] {
        let start = Instant::now();
        scene.sends(bytes).wait_for_end();
        assert!(start.elapsed() < SOON / 2, "{what}: {:?}", start.elapsed());
        scene.is_unharmed(what);
    }
    let mut peer = scene.sends(b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\n");
    let answer = peer.read_head();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(scene.engine.metric("fanfare_refused_upgrades_total", &[("reason", "late_head")]) >= 1.0);
    let is_said = |line: &String| line.contains("late_head") && line.contains("timeouts.upgrade");
    wait_until(SOON, "a line", || scene.engine.stderr().so_far().iter().any(is_said));
    // A byte now and then buys no time.
    let mut peer = scene.sends(b"GET /connection/websocket HTTP/1.1\r\nA: ");
    let start = Instant::now();
    wait_until(SOON / 2, "the slow one to be ended", || {
        std::thread::sleep(Duration::from_millis(20));
        peer.0.write_all(b"b").is_err()
    });
    assert!(start.elapsed() > Duration::from_millis(300));
    scene.is_unharmed("a slow head");
}

#[test]
fn frames_that_the_rfc_forbids_are_closed_with_its_codes() {
    let mut scene = Scene::new();
    let unmasked = [0x81, 2, b'{', b'}'].to_vec();
    let announced = |length: u64| [&[0x81, 0x80 | 127][..], &length.to_be_bytes(), &[1, 2, 3, 4]].concat();
    let cases: [(&str, Vec<u8>, u16); 17] = [
        ("an unmasked frame", unmasked, 1002),
        ("RSV1", frame_with(0xc1, b"{}"), 1002),
        ("RSV3", frame_with(0x91, b"{}"), 1002),
        ("a reserved opcode", frame_with(0x83, b"{}"), 1002),
        ("a reserved control opcode", frame_with(0x8b, b""), 1002),
        ("10 MB announced", announced(10 << 20), 1009),
        ("a length with the highest bit", announced(1 << 63), 1002),
        ("a length longer than need be", [&[0x81, 0x80 | 126, 0, 2, 0, 0, 0, 0][..], b"{}"].concat(), 1002),
        (
            "70,000 bytes in fragments",
            [frame_with(1, &[b' '; 35_000]), frame_with(0, &[b' '; 35_000])].concat(),
            1009,
        ),
        ("a ping in fragments", frame_with(PING, b""), 1002),
        ("a ping of 126 bytes", frame(PING, &[0; 126]), 1002),
        ("a continuation of nothing", frame(0, b"{}"), 1002),
        ("a text within a text", [frame_with(TEXT, b"{"), frame(TEXT, b"{}")].concat(), 1002),
        ("text that is not UTF-8", frame(TEXT, b"\"\xc0\xaf\""), 1007),
        ("a close frame of one byte", frame(CLOSE, &[3]), 1002),
        ("a close code that nobody may send", frame(CLOSE, &1006u16.to_be_bytes()), 1002),
        ("a close reason that is not UTF-8", frame(CLOSE, &[3, 232, 0xff]), 1007),
    ];
    for (what, bytes, code) in cases {
        let mut peer = scene.connected();
        peer.send(&bytes);
        assert_eq!(peer.close_code(), Some(code), "{what}");
        scene.is_unharmed(what);
    }
}

#[test]
fn what_is_no_command_is_closed_with_3501() {
    let mut scene = Scene::new();
    let levels = "[".repeat(10_000) + &"]".repeat(10_000);
    let deep_without_id = format!(r#"{{"publish":{{"channel":"alive:2","data":{levels}}}}}"#);
    let deep_and_open = format!(r#"{{"id":2,"rpc":{}"#, "[".repeat(10_000));
    let cases = [
        ("nothing", ""),
        ("a lone line break", "\n"),
        ("no JSON", "hello"),
        ("half an object", r#"{"id":2,"subscribe":{"#),
        ("an array", "[]"),
        ("a number", "1"),
        ("a string for a command", r#"{"id":2,"subscribe":"A"}"#),
        ("10,000 levels without an end", &deep_and_open),
        ("10,000 levels without an id", &deep_without_id),
        ("no id", r#"{"subscribe":{"channel":"A"}}"#),
        ("id 0", r#"{"id":0,"subscribe":{"channel":"A"}}"#),
        ("an id below 0", r#"{"id":-2,"subscribe":{"channel":"A"}}"#),
        ("an id beyond 32 bits", r#"{"id":4294967296,"subscribe":{"channel":"A"}}"#),
        ("an id that is text", r#"{"id":"2","subscribe":{"channel":"A"}}"#),
        ("two ids in one command", r#"{"id":2,"id":3,"subscribe":{"channel":"A"}}"#),
        ("a second connect", r#"{"id":2,"connect":{}}"#),
        ("a pong without a ping", "{}"),
    ];
    for (what, text) in cases {
        let mut peer = scene.connected();
        peer.command(text);
        assert_eq!(peer.close_code(), Some(3501), "{what}");
        scene.is_unharmed(what);
    }
    for (what, text) in [
        ("a command before connect", r#"{"id":1,"subscribe":{"channel":"A"}}"#),
        ("a publish before connect", r#"{"id":1,"publish":{"channel":"alive:1","data":1}}"#),
    ] {
        let mut peer = scene.upgraded();
        peer.command(text);
        assert_eq!(peer.close_code(), Some(3501), "{what}");
        scene.is_unharmed(what);
    }
    let mut peer = scene.connected();
    // As a client sends it that speaks Protobuf.
    peer.send(&frame(BINARY, b"\x0c\x08\x02\x2a\x08\x0a\x06{\"\x01\x02\x03\x04"));
    assert_eq!(peer.close_code(), Some(3506));
    scene.is_unharmed("bytes where JSON is spoken");
}

#[test]
fn commands_that_cannot_be_done_are_refused_by_number() {
    let mut scene = Scene::new();
    let mut peer = scene.connected();
    let levels = |count: usize| "[".repeat(count) + &"]".repeat(count);
    let deep_data = |count| format!(r#""publish":{{"channel":"alive:2","data":{}}}"#, levels(count));
    let (deep, deeper, just) = (deep_data(130), deep_data(10_000), deep_data(128));
    let deep_elsewhere = format!(r#""rpc":{}"#, levels(10_000));
    let too_long = format!(r#""subscribe":{{"channel":"{}"}}"#, "x".repeat(256));
    let cases = [
        ("the first subscription", r#""subscribe":{"channel":"A"}"#, r#""subscribe":{"#),
        ("a second one", r#""subscribe":{"channel":"A"}"#, r#""error":{"code":105"#),
        ("an empty topic", r#""subscribe":{"channel":""}"#, r#""error":{"code":107"#),
        ("a topic over 255 bytes", &too_long, r#""error":{"code":107"#),
        ("a line break in a topic", r#""subscribe":{"channel":"a\nb"}"#, r#""error":{"code":107"#),
        ("a NUL in a topic", r#""subscribe":{"channel":"\u0000"}"#, r#""error":{"code":107"#),
        (
            "publishing where it is not allowed",
            r#""publish":{"channel":"A","data":1}"#,
            r#""error":{"code":103"#,
        ),
        ("130 levels of data", &deep, r#""error":{"code":107"#),
        ("10,000 levels of data", &deeper, r#""error":{"code":107"#),
        ("as many levels as other publishers may have", &just, r#""publish":{}"#),
        ("10,000 levels of what is not looked at", &deep_elsewhere, r#""error":{"code":107"#),
        ("half a surrogate pair", r#""subscribe":{"channel":"\ud83d"}"#, r#""error":{"code":107"#),
        ("a filter", r#""subscribe":{"channel":"C","tf":{"key":"k"}}"#, r#""error":{"code":108"#),
        ("a strange delta", r#""subscribe":{"channel":"C","delta":"x"}"#, r#""error":{"code":108"#),
        ("a delta that SDKs offer", r#""subscribe":{"channel":"C","delta":"fossil"}"#, r#""subscribe":{}"#),
        ("an unknown method", r#""dance":{}"#, r#""error":{"code":104"#),
        ("no method", r#""":{}"#, r#""error":{"code":104"#),
        ("history", r#""history":{"channel":"A"}"#, r#""error":{"code":108"#),
        ("leaving what one is not in", r#""unsubscribe":{"channel":"B"}"#, r#""unsubscribe":{}"#),
    ];
    for (id, (what, command, answer)) in (2..).zip(cases) {
        peer.command(&format!(r#"{{"id":{id},{command}}}"#));
        let reply = peer.reply();
        assert!(reply.starts_with(&format!(r#"{{"id":{id},"#)) && reply.contains(answer), "{what}: {reply}");
        scene.is_unharmed(what);
    }
    // Ids are the client's own business: one that was used before gets its reply too.
    peer.command(r#"{"id":2,"unsubscribe":{"channel":"A"}}"#);
    assert_eq!(peer.reply().trim(), r#"{"id":2,"unsubscribe":{}}"#);
}

/// A connect that cannot be read is answered, and what came with it is dropped; it may be tried again.
#[test]
fn a_connect_that_fails_is_no_reason_to_close() {
    let scene = Scene::new();
    let mut peer = scene.upgraded();
    let half = r#"{"id":1,"connect":{"name":"\ud83d"}}"#;
    peer.command(&format!("{half}\n{}", r#"{"id":2,"subscribe":{"channel":"A"}}"#));
    assert_eq!(peer.reply(), r#"{"id":1,"error":{"code":107,"message":"bad request"}}"#);
    peer.command(r#"{"id":3,"connect":{}}"#);
    assert!(peer.reply().starts_with(r#"{"id":3,"connect":"#));
}

/// Whose library sends bytes only is answered in bytes.
#[test]
fn json_in_binary_frames_is_answered_in_binary_frames() {
    let mut scene = Scene::new();
    let mut peer = scene.upgraded();
    let mut ask = |json: &str| {
        peer.send(&frame(BINARY, json.as_bytes()));
        let (opcode, payload) = peer.read_frame().expect("an answer");
        assert_eq!(opcode, BINARY);
        String::from_utf8(payload).expect("JSON")
    };
    assert!(ask(r#"{"id":1,"connect":{}}"#).contains(r#""connect""#));
    assert!(ask(r#"{"id":2,"subscribe":{"channel":"alive:1"}}"#).contains(r#""subscribe":{}"#));
    scene.is_unharmed("bytes");
    let (opcode, payload) = peer.read_frame().expect("a publication");
    assert_eq!(opcode, BINARY);
    assert!(String::from_utf8_lossy(&payload).contains(r#""pub""#));
}

/// One command after the other, without an end to wait for, and the connection stays in order.
#[test]
fn many_commands_in_one_frame_are_answered_in_order() {
    let mut scene = Scene::new();
    let mut peer = scene.connected();
    let commands: Vec<String> =
        (2..102).map(|id| format!(r#"{{"id":{id},"subscribe":{{"channel":"T{id}"}}}}"#)).collect();
    peer.command(&commands.join("\n"));
    let mut ids = Vec::new();
    while ids.len() < 100 {
        let frame = peer.reply();
        let replies =
            frame.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        ids.extend(replies.map(|reply| reply["id"].as_u64().expect("an id")));
    }
    assert_eq!(ids, (2..102).collect::<Vec<_>>());
    scene.is_unharmed("many commands");
}

/// A shard with nobody to look after sleeps, and its clock with it.
#[test]
fn who_comes_after_a_long_silence_has_all_its_time() {
    let engine = Engine::with_config(CONFIG);
    let refused = || engine.metric("fanfare_refused_upgrades_total", &[]);
    hold_for(Duration::from_millis(700), "nobody to be refused", || refused() == 0.0);
    for _ in 0..8 {
        let mut late = Peer::connect(engine.client_address());
        hold_for(Duration::from_millis(100), "nobody to be refused", || refused() == 0.0);
        late.send(UPGRADE.as_bytes());
        assert!(late.read_head().starts_with("HTTP/1.1 101 "));
    }
}

#[test]
fn who_says_nothing_is_sent_away() {
    let mut scene = Scene::new();
    let mut silent = scene.upgraded();
    // Pings are not what is waited for.
    silent.send(&frame(PING, b"still here"));
    assert_eq!(silent.close_code(), Some(3502));
    scene.is_unharmed("silence");
}

/// Its replies pile up to their limit, then it is not read any more, then it is closed.
#[test]
fn who_sends_commands_and_never_reads_is_closed_as_slow() {
    let mut scene = Scene::new();
    let mut deaf = scene.connected();
    socket2::SockRef::from(&deaf.0).set_recv_buffer_size(4096).expect("SO_RCVBUF");
    deaf.0.set_write_timeout(Some(Duration::from_millis(50))).expect("a timeout that is not zero");
    let commands: Vec<u8> = (2..2000u32)
        .flat_map(|id| frame(TEXT, format!(r#"{{"id":{id},"unsubscribe":{{"channel":"A"}}}}"#).as_bytes()))
        .collect();
    let deadline = Instant::now() + SOON;
    let mut sent = 0;
    loop {
        assert!(Instant::now() < deadline, "still open after {sent} bytes");
        match deaf.0.write(&commands[sent % commands.len()..]) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    wait_until(SOON, "the reason to be counted", || {
        scene.engine.metric("fanfare_closes_total", &[("reason", "slow")]) == 1.0
    });
    scene.is_unharmed("someone who never reads");
}

#[test]
fn two_hundred_that_reset_at_once_leave_nothing_behind() {
    let mut scene = Scene::new();
    for n in 0..200 {
        let mut peer = Peer::connect(scene.engine.client_address());
        match n % 4 {
            0 => {}
            1 => peer.send(&UPGRADE.as_bytes()[..40]),
            2 => peer.send(UPGRADE.as_bytes()),
            _ => peer.send(&[UPGRADE.as_bytes(), &frame(TEXT, br#"{"id":1,"connect":{}}"#)].concat()),
        }
        peer.reset();
    }
    scene.is_unharmed("200 resets");
    wait_until(SOON, "only the healthy client to be left", || {
        scene.engine.metric("fanfare_clients", &[]) == 1.0
    });
}

/// Its commands are read, and the replies to the first of them find nobody: the last one is not done.
#[test]
fn who_resets_in_the_middle_of_its_commands_gets_no_subscription() {
    let mut scene = Scene::with(Engine::with_config_and(CONFIG, &["--shards", "1"]));
    let commands: Vec<_> = (2..800).map(|id| format!(r#"{{"id":{id},"rpc":{{}}}}"#)).collect();
    let and_then = r#"{"id":1000,"subscribe":{"channel":"alive:1"}}"#;
    let message = format!("{}\n{and_then}", commands.join("\n"));
    for n in 0..50 {
        let mut peer = scene.connected();
        peer.command(&message);
        peer.reset();
        scene.is_unharmed(&format!("reset {n}"));
    }
}

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
    let mut inside: Vec<_> = (0..5).map(|_| RawClient::connect(engine.client_address())).collect();
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
    let history = "[namespaces.big]\nhistory_size = 20\n[limits]\nshard_replies_bytes = 4194304\n";
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

/// Sends the same again and again on a thread of its own, and takes what it is answered, until it is told to stop.
struct Flooder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Flooder {
    fn begin(address: SocketAddr, bytes: Vec<u8>) -> Self {
        let mut peer = Peer::connect(address);
        let offer = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        peer.send(UPGRADE.replace("\r\n\r\n", offer).as_bytes());
        let head = peer.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        peer.command(r#"{"id":1,"connect":{}}"#);
        peer.reply();
        peer.0.set_nonblocking(true).expect("it is a socket");
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Self { stop, thread: std::thread::spawn(move || flood(&mut peer.0, &bytes, &told)) }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic");
    }
}

fn flood(stream: &mut TcpStream, bytes: &[u8], stop: &AtomicBool) {
    let (mut at, mut space) = (0, vec![0; 64 << 10]);
    while !stop.load(Ordering::Relaxed) {
        let sent = stream.write(&bytes[at..]).unwrap_or(0);
        at = (at + sent) % bytes.len();
        let taken = stream.read(&mut space).unwrap_or(0);
        if sent + taken == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The command with as many spaces as a message has room for: about 130 bytes.
fn compressed(command: &str) -> Vec<u8> {
    let message = format!("{command}{}", " ".repeat((64 << 10) - command.len()));
    let mut bytes = Vec::with_capacity(1 << 10);
    Compress::new(Compression::default(), false)
        .compress_vec(message.as_bytes(), &mut bytes, FlushCompress::Sync)
        .expect("it can be compressed");
    bytes.truncate(bytes.len() - 4);
    frame_with(0xc1, &bytes)
}

/// Commands done, and turns of the shards.
fn work(engine: &Engine) -> [f64; 2] {
    ["fanfare_commands_total", "fanfare_ticks_total"].map(|name| engine.metric(name, &[]))
}

/// Whatever one client sends, no more of it is done in a turn of the shard than its share; and those beside it lose
/// nothing.
#[test]
fn who_floods_takes_no_more_than_its_turns() {
    let mut scene = Scene::with(Engine::with_config_and(CONFIG, &["--shards", "1"]));
    let mut honest: Vec<_> = (0..10).map(|_| RawClient::connect(scene.engine.client_address())).collect();
    honest.iter_mut().for_each(|client| client.subscribe("alive:1"));
    let unsubscribe = r#"{"id":1,"unsubscribe":{"channel":"A"}}"#;
    let many = vec![unsubscribe; 1600].join("\n");
    let floods = [
        ("compressed commands", compressed(unsubscribe)),
        ("many commands in a message", frame(TEXT, many.as_bytes())),
        ("small messages", frame(TEXT, unsubscribe.as_bytes()).repeat(1000)),
        ("pings", frame(PING, b"").repeat(1000)),
    ];
    // A command counts 128 bytes, and its own, of a share of 16 KiB.
    let share = 100.0;
    for (what, bytes) in floods {
        let before = work(&scene.engine);
        let flooder = Flooder::begin(scene.engine.client_address(), bytes);
        for _ in 0..50 {
            scene.is_unharmed(what);
            for client in &mut honest {
                assert_eq!(client.publication("alive:1"), scene.published.to_string(), "beside {what}");
            }
        }
        let after = work(&scene.engine);
        flooder.end();
        let (commands, turns) = (after[0] - before[0], after[1] - before[1]);
        assert!(commands <= share * (turns + 10.0), "{what}: {commands} commands in {turns} turns");
    }
}
