//! Clients that send without a pause.

use std::io::{Read as _, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{CONFIG, Scene};
use crate::support::engine::Engine;
use crate::support::framed::compressed;
use crate::support::frames::{COMPRESSED, PING, TEXT, frame};
use crate::support::peer::{Peer, UPGRADE};

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
fn padded(command: &str) -> Vec<u8> {
    let message = format!("{command}{}", " ".repeat((64 << 10) - command.len()));
    frame(COMPRESSED | TEXT, &compressed(message.as_bytes()))
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
    let mut honest: Vec<_> = (0..10).map(|_| scene.engine.client()).collect();
    honest.iter_mut().for_each(|client| client.subscribe("alive:1"));
    let unsubscribe = r#"{"id":1,"unsubscribe":{"channel":"A"}}"#;
    let many = vec![unsubscribe; 1600].join("\n");
    let floods = [
        ("compressed commands", padded(unsubscribe)),
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
