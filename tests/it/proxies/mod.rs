//! The configurations of nginx and HAProxy in `tuning/`, each started in front of two engines. Nothing is changed in
//! them but the lines that choose how to balance, and what cannot be here: addresses, paths, and what only root may.

mod proxy;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::engine::Engine;
use crate::support::http;
use crate::support::ports::free_port;
use crate::support::wait::{SOON, wait_for, wait_until};
use crate::support::websocket::RawClient;
use proxy::{Config, HAPROXY, NGINX, Place, Proxy};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;

/// What is chosen in the files as they are.
const NGINX_DEFAULT: &str = "least_conn;";
const HAPROXY_DEFAULT: &str = "balance leastconn";

/// Clients at the beginning, on both engines together.
const CLIENTS: usize = 48;
const HALF: usize = CLIENTS / 2;

/// Of several shards one may hear of the stop a little later: who comes back at once could meet it, and would be sent
/// away a second time.
const ONE_SHARD: &str = "[server]\nshards = 1\n";

/// What an engine answers that stops, or that is full.
const UNAVAILABLE: &str =
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Where all clients are.
const TOPIC: &str = "news";

// How each method chooses -----------------------------------------------------------------------------------

#[test]
fn nginx_with_least_connections_refills_an_engine_that_lost_its_clients() {
    balances(Config::shipped(NGINX), HALF - 1..=HALF);
}

#[test]
fn nginx_at_random_prefers_the_engine_with_less() {
    let config = Config::shipped(NGINX).disable(NGINX_DEFAULT).enable("random two least_conn;");
    balances(config, HALF - 1..=HALF);
}

#[test]
fn nginx_takes_turns() {
    balances(Config::shipped(NGINX).disable(NGINX_DEFAULT), HALF / 2 - 1..=HALF / 2 + 1);
}

#[test]
fn haproxy_with_least_connections_refills_an_engine_that_lost_its_clients() {
    balances(Config::shipped(HAPROXY), HALF - 1..=HALF);
}

/// It may draw the same engine twice, so three of four come to the one with less: 18, and hardly ever 7.
#[test]
fn haproxy_at_random_prefers_the_engine_with_less() {
    let config = Config::shipped(HAPROXY).disable(HAPROXY_DEFAULT).enable("balance random(2)");
    balances(config, 8..=HALF);
}

#[test]
fn haproxy_takes_turns() {
    let config = Config::shipped(HAPROXY).disable(HAPROXY_DEFAULT).enable("balance roundrobin");
    balances(config, HALF / 2 - 1..=HALF / 2 + 1);
}

/// The life of two engines behind a proxy. `refill` is how many of [`HALF`] further clients go to the one of
/// them that has lost its own.
fn balances(config: Config, refill: RangeInclusive<usize>) {
    let mut engines = [Engine::on_fixed_ports(ONE_SHARD), Engine::on_fixed_ports(ONE_SHARD)];
    let proxy = config.start_before([Place::of(&engines[0]), Place::of(&engines[1])]);

    let mut clients: Vec<_> = (0..CLIENTS).map(|_| subscriber(&proxy)).collect();
    let [first, second] = homes(&engines, &mut clients);
    assert!(first.len().min(second.len()) >= CLIENTS / 4, "{} and {}", first.len(), second.len());

    first.iter().rev().for_each(|&client| drop(clients.remove(client)));
    wait_until(SOON, "the first engine has lost its clients", || count(&engines[0]) == 0);
    clients.truncate(HALF);
    wait_until(SOON, "the second engine has half of them", || count(&engines[1]) == clients.len());
    clients.extend((0..HALF).map(|_| subscriber(&proxy)));
    let [first, _] = homes(&engines, &mut clients);
    assert!(refill.contains(&first.len()), "{} of {HALF} came to the empty engine", first.len());

    let [leaving, staying] = engines;
    let stopping = thread::spawn(|| leaving.stop_for_now());
    for &client in &first {
        assert_eq!(clients[client].closed(), (3001, "shutdown".to_owned()));
        clients[client] = subscriber(&proxy);
    }
    let stopped = stopping.join().expect("it stops");
    assert_eq!(count(&staying), clients.len(), "all are at the other engine");

    engines = [stopped.start(), staying];
    let [_, second] = homes(&engines, &mut clients);
    assert_eq!(second.len(), clients.len(), "the other engine serves them all");
    wait_until(SOON, "somebody comes to the engine that is back", || {
        let _client = subscriber(&proxy);
        count(&engines[0]) > 0
    });
}

/// An engine and a proxy that knows it twice, or once beside something else.
struct Scene {
    engine: Engine,
    proxy: Proxy,
}

impl Scene {
    #[track_caller]
    fn start(name: &'static str) -> Self {
        let engine = Engine::start(&[]);
        let proxy = Config::shipped(name).start_before([Place::of(&engine); 2]);
        Self { engine, proxy }
    }

    /// The proxy's first engine is what listens at this address, if anything does. It counts as healthy.
    #[track_caller]
    fn start_with_first(name: &'static str, address: SocketAddr) -> Self {
        let engine = Engine::start(&[]);
        let first = Place { clients: address, ..Place::of(&engine) };
        let proxy = Config::shipped(name).start_before([first, Place::of(&engine)]);
        Self { engine, proxy }
    }
}

/// Which clients are at which engine: each engine publishes, and every client gets its own engine's publication,
/// once, and nothing else.
fn homes(engines: &[Engine; 2], clients: &mut [RawClient]) -> [Vec<usize>; 2] {
    static ROUND: AtomicUsize = AtomicUsize::new(0);
    let round = ROUND.fetch_add(1, Ordering::Relaxed);
    for (number, engine) in engines.iter().enumerate() {
        engine.publish(TOPIC, &json!({ "round": round, "engine": number }));
    }
    let mut homes = [vec![], vec![]];
    for (index, client) in clients.iter_mut().enumerate() {
        let data: Value = serde_json::from_str(&client.publication(TOPIC)).expect("JSON");
        assert_eq!(data["round"], round, "client {index} missed something, or got it twice");
        let home = data["engine"].as_u64().and_then(|engine| usize::try_from(engine).ok());
        homes[home.expect("a number")].push(index);
    }
    for (engine, home) in engines.iter().zip(&homes) {
        assert_eq!(count(engine), home.len(), "as the engine counts");
    }
    homes
}

fn subscriber(proxy: &Proxy) -> RawClient {
    let mut client = RawClient::connect(proxy.address);
    client.subscribe(TOPIC);
    client
}

/// Clients that an engine has.
fn count(engine: &Engine) -> usize {
    let clients = engine.metric("fanfare_clients", &[("state", "open")]);
    format!("{clients:.0}").parse().expect("a whole number")
}

// What holds for each method --------------------------------------------------------------------------------

#[test]
fn the_endpoint_is_there_and_nothing_else() {
    for name in [NGINX, HAPROXY] {
        let Scene { engine, proxy } = Scene::start(name);
        for path in ["/", "/health", "/metrics", "/api/info", "/connection/websocket/", "/connection"] {
            let answer = http::get(proxy.address, path).expect("an answer");
            assert_eq!(answer.status, 404, "{name}: {path}: {answer:?}");
        }
        let asked = || engine.metric("fanfare_closes_total", &[("reason", "upgrade_failed")]) > 0.0;
        assert!(!asked(), "{name}: the engine was asked");
        let answer = http::get(proxy.address, "/connection/websocket").expect("an answer");
        assert_eq!(answer.status, 426, "{name}: the engine says what to do: {answer:?}");
        wait_until(SOON, "the engine's own count of refusals", asked);
    }
}

/// The engine compares a page's origin with the host that the browser asked for.
#[test]
fn pages_of_the_same_host_and_port_may_connect() {
    for name in [NGINX, HAPROXY] {
        let Scene { engine: _engine, proxy } = Scene::start(name);
        for (origin, is_allowed) in [
            (format!("http://{}", proxy.address), true),
            (format!("http://127.0.0.1:{}", proxy.address.port() - 1), false),
            ("https://foreign.example".to_owned(), false),
        ] {
            let url = format!("ws://{}/connection/websocket", proxy.address);
            let mut request = url.into_client_request().expect("a URL");
            request.headers_mut().insert("Origin", HeaderValue::from_str(&origin).expect("plain"));
            let stream = TcpStream::connect(proxy.address).expect("it listens");
            let answer = tungstenite::client(request, stream);
            assert_eq!(answer.is_ok(), is_allowed, "{name}: {origin}: {answer:?}");
        }
    }
}

/// As a single sign-on leaves behind; nginx passes on up to 32 KB.
#[test]
fn twelve_kilobytes_of_cookies_pass() {
    for name in [NGINX, HAPROXY] {
        let Scene { engine: _engine, proxy } = Scene::start(name);
        let url = format!("ws://{}/connection/websocket", proxy.address);
        let mut request = url.into_client_request().expect("a URL");
        for (header, bytes) in [("Cookie", 7000), ("X-Token", 5000)] {
            let value = HeaderValue::from_str(&"x".repeat(bytes)).expect("plain");
            request.headers_mut().insert(header, value);
        }
        let stream = TcpStream::connect(proxy.address).expect("it listens");
        let answer = tungstenite::client(request, stream);
        assert!(answer.is_ok(), "{name}: {answer:?}");
    }
}

#[test]
fn the_engine_is_told_where_the_client_is() {
    for name in [NGINX, HAPROXY] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let healthy = Engine::start(&[]);
        let listening = Place { clients: address, ..Place::of(&healthy) };
        let proxy = Config::shipped(name).start_before([listening; 2]);
        let mut client = TcpStream::connect(proxy.address).expect("it listens");
        let lines = "Host: push.example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                     X-Forwarded-For: 203.0.113.7\r\n\r\n";
        write!(client, "GET /connection/websocket HTTP/1.1\r\n{lines}").expect("it is taken");
        listener.set_nonblocking(true).expect("Linux can");
        let (mut stream, _) = wait_for(SOON, "the request", || listener.accept().ok());
        let head = read_head(&mut stream);
        assert!(head.contains("\r\nx-forwarded-for: 127.0.0.1\r\n"), "{name}: {head}");
        assert!(!head.contains("203.0.113.7"), "{name}: what the client claims: {head}");
        assert!(head.contains("\r\nhost: push.example.org\r\n"), "{name}: {head}");
    }
}

/// What an engine does with those who come while it stops or is full, or that is broken.
#[test]
fn who_is_refused_by_one_engine_is_taken_in_by_the_other() {
    for name in [NGINX, HAPROXY] {
        for answer in [UNAVAILABLE, ""] {
            let (address, refused) = refusing_engine(answer);
            let Scene { engine, proxy } = Scene::start_with_first(name, address);
            let clients: Vec<_> = (0..4).map(|_| subscriber(&proxy)).collect();
            assert_eq!(count(&engine), clients.len(), "{name}: {answer:?}");
            let tried = refused.load(Ordering::Relaxed);
            assert!((1..=clients.len()).contains(&tried), "{name}: {answer:?}: at most once each: {tried}");
        }
    }
}

/// Not even before HAProxy's checks have noticed. Before it tries the same engine again it waits for 1 s.
#[test]
fn nobody_waits_for_an_engine_that_is_gone() {
    for name in [NGINX, HAPROXY] {
        let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let Scene { engine: _engine, proxy } = Scene::start_with_first(name, nobody);
        let start = Instant::now();
        let _clients: Vec<_> = (0..4).map(|_| subscriber(&proxy)).collect();
        assert!(start.elapsed() < Duration::from_secs(4), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn an_engine_may_be_silent_between_pings() {
    let timeouts = fanfare::config::Config::default().timeouts;
    for (name, key) in [(NGINX, "proxy_read_timeout "), (HAPROXY, "timeout tunnel ")] {
        let text = Config::shipped(name).text;
        let value = text.lines().find_map(|line| line.trim().strip_prefix(key)).expect(key);
        let seconds = value.trim_end_matches(';').trim_end_matches('s').parse().expect("seconds");
        let silence = timeouts.ping.0 + timeouts.pong.0;
        assert!(Duration::from_secs(seconds) > silence, "{name}: {key}{value}");
    }
}

/// nginx has no such checks, in open source.
#[test]
fn haproxy_leaves_an_engine_out_that_is_not_ready() {
    let engines = [Engine::start(&[]), Engine::start(&[])];
    let (unready, _) = refusing_engine(UNAVAILABLE);
    let first = Place { control: unready.port(), ..Place::of(&engines[0]) };
    let proxy = Config::shipped(HAPROXY).start_before([first, Place::of(&engines[1])]);
    wait_until(SOON, "a failed check", || proxy.stderr.contain("fanfare/engine1 is DOWN"));
    let mut clients: Vec<_> = (0..4).map(|_| subscriber(&proxy)).collect();
    let [first, second] = homes(&engines, &mut clients);
    assert_eq!([first.len(), second.len()], [0, clients.len()]);
}

/// Answers every request so and closes; and how many it were.
fn refusing_engine(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let count = Arc::new(AtomicUsize::new(0));
    let refused = count.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            read_head(&mut stream);
            refused.fetch_add(1, Ordering::Relaxed);
            // A peer that is gone already needs no answer.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, count)
}

/// The head of a request, in lower case, or what there is of it.
fn read_head(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(SOON)).expect("a timeout that is not zero");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).to_lowercase()
}

// What the proxies themselves think of the files ------------------------------------------------------------

/// nginx would open its port and its log for this: so its file is not quite as it is.
#[test]
fn nginx_and_haproxy_complain_of_nothing() {
    let haproxy = Config::shipped(HAPROXY);
    haproxy.passes_the_check();
    let anywhere = Place { clients: SocketAddr::from(([127, 0, 0, 1], 1)), control: 1 };
    Config::shipped(NGINX).fit([anywhere; 2], free_port()).passes_the_check();
}

#[test]
fn the_lines_for_tls_are_right() {
    let key = rcgen::generate_simple_self_signed(["push.example.org".to_owned()]).expect("a certificate");
    let (certificate, key) = (key.cert.pem(), key.signing_key.serialize_pem());
    let anywhere = Place { clients: SocketAddr::from(([127, 0, 0, 1], 1)), control: 1 };

    let mut nginx = Config::shipped(NGINX).enable_all(&["443", "ssl_"]).fit([anywhere; 2], free_port());
    for (path, content) in
        [("/etc/ssl/certs/fanfare.pem", &certificate), ("/etc/ssl/private/fanfare.key", &key)]
    {
        let file =
            nginx.files.write(Path::new(path).file_name().expect("a file").to_str().expect("plain"), content);
        nginx = nginx.put(path, file.to_str().expect("plain"));
    }
    for place in ["listen 443 ", "listen [::]:443 "] {
        nginx = nginx.put(place, &format!("listen 127.0.0.1:{} ", free_port()));
    }
    nginx.passes_the_check();

    let mut haproxy = Config::shipped(HAPROXY).enable_all(&["443"]);
    let file = haproxy.files.write("both.pem", &format!("{certificate}{key}"));
    haproxy.text = haproxy.text.replace("/etc/haproxy/fanfare.pem", file.to_str().expect("plain"));
    haproxy.passes_the_check();
}
