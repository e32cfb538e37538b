//! What comes in place of an upgrade: other requests, and heads that are wrong, slow or endless.

use std::io::Write;
use std::time::{Duration, Instant};

use super::Scene;
use crate::support::frames::{TEXT, frame};
use crate::support::peer::UPGRADE;
use crate::support::wait::{SOON, wait_until};

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
