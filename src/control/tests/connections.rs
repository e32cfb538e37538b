//! Connections that misbehave: each gets its answer or its end, and takes nothing from the others.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::super::places::{PLACES, RESERVED};
use super::harness::{Answer, Harness, TIMEOUT, request};
use crate::config::memory::API_STREAMS_MAX;
use crate::config::{Config, Interval};

const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
const METRICS: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn with_first_head(limit: Duration) -> Harness {
    let mut config = Config::default();
    config.timeouts.upgrade = Interval(limit);
    Harness::open(config)
}

/// Whether the peer closes without another word.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn requests_without_a_pause_are_answered() {
    let harness = Harness::open(Config::default());
    let mut stream = harness.connect();
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || while sender.write_all(METRICS).is_ok() {});
    for _ in 0..100 {
        assert_eq!(Answer::read(&mut stream).status, 200);
    }
    stream.shutdown(Shutdown::Both).unwrap();
    sending.join().unwrap();
}

/// A proxy that speaks the PROXY protocol, or TLS, to this port is told so.
#[test]
fn what_is_no_http_is_named() {
    let harness = Harness::open(Config::default());
    for (bytes, words) in [
        (&b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 9000\r\nGET /health HTTP/1.1\r\n\r\n"[..], "PROXY protocol"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "PROXY protocol"),
        (b"\x16\x03\x01\x02\0\x01", "takes HTTP without TLS"),
    ] {
        let mut stream = harness.connect();
        stream.write_all(bytes).unwrap();
        let answer = Answer::read(&mut stream);
        assert!(answer.status == 400 && answer.body.contains(words), "{bytes:?}: {}", answer.body);
    }
}

#[test]
fn a_request_is_answered_although_the_next_one_has_begun() {
    let harness = Harness::open(Config::default());
    let mut stream = harness.connect();
    let (begun, rest) = HEALTH.split_at(10);
    stream
        .write_all(&[request("/api/publish", "", r#"{"channel":"a","data":1}"#).as_bytes(), begun].concat())
        .unwrap();
    assert_eq!(Answer::read(&mut stream).body, r#"{"result":{}}"#);
    stream.write_all(rest).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200);
}

/// What waits for a request that takes its time does not wait with it.
#[test]
fn an_answer_does_not_wait_for_the_next_one() {
    let harness = Harness::open(Config::default());
    let mut stream = harness.connect();
    let publish = |channel| request("/api/publish", "", &format!(r#"{{"channel":"{channel}","data":1}}"#));
    // Nobody answers the second one.
    stream.write_all((publish("a") + &publish("silent")).as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert_eq!(Answer::read(&mut stream).body, r#"{"result":{}}"#);
}

#[test]
fn what_is_no_request_gets_its_status_behind_the_answers_before_it() {
    let harness = Harness::open(Config::default());
    let publish = request("/api/publish", "", r#"{"channel":"slow","data":1}"#);
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    for (bad, status) in
        [("nonsense\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400), (&large, 431)]
    {
        for before in ["", &publish] {
            let mut stream = harness.connect();
            // The rest of a head that is too large may find nobody who takes it.
            let _ = stream.write_all(format!("{before}{bad}").as_bytes());
            if !before.is_empty() {
                assert_eq!(Answer::read(&mut stream).status, 200, "{bad:.20}");
            }
            assert_eq!(Answer::read(&mut stream).status, status, "{bad:.20}");
            assert!(is_closed(&mut stream), "{bad:.20}");
        }
    }
}

#[test]
fn a_body_that_is_too_large_is_answered_however_much_of_it_follows() {
    let mut config = Config::default();
    config.control.body_bytes = 1000;
    let harness = Harness::open(config);
    let mut stream = harness.connect();
    let _ = stream.write_all(request("/api/publish", "", &"x".repeat(1 << 20)).as_bytes());
    assert_eq!(Answer::read(&mut stream).status, 413);
    // Who waits for a word has it at once.
    let whole = request("/api/publish", "Expect: 100-continue\r\n", &"x".repeat(1 << 20));
    let mut stream = harness.connect();
    stream.write_all(&whole.as_bytes()[..whole.len() - (1 << 20)]).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 413);
}

#[test]
fn silent_connections_and_half_a_preface_end_in_time() {
    let limit = Duration::from_millis(300);
    let harness = with_first_head(limit);
    let begun = Instant::now();
    let beginnings: [&[u8]; 5] =
        [b"", b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HT"];
    let mut streams = beginnings.map(|beginning| {
        let mut stream = harness.connect();
        stream.write_all(beginning).unwrap();
        stream
    });
    for (stream, beginning) in streams.iter_mut().zip(beginnings) {
        // HTTP/2's own first frames may come before the end.
        let ended = std::iter::repeat_with(|| stream.read(&mut [0; 1024])).take(10);
        let ended = ended.map(|read| {
            matches!(read, Ok(0)) || read.is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
        });
        assert!(ended.into_iter().any(|ended| ended), "{beginning:?}");
    }
    assert!(begun.elapsed() >= limit && begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
    // Who has asked may be silent for longer than that.
    let mut stream = harness.connect();
    stream.write_all(HEALTH).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200);
    stream.set_read_timeout(Some(limit * 2)).unwrap();
    let silence = stream.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(silence, Err(ErrorKind::WouldBlock));
}

#[test]
fn silent_connections_make_room_for_those_who_ask() {
    let harness = Harness::open(Config::default());
    let mut asks = harness.connect();
    let mut silent: Vec<_> = (0..3 * PLACES)
        .map(|n| {
            let mut stream = harness.connect();
            stream.write_all(if n % 2 == 0 { b"" } else { b"P" }).unwrap();
            if n % 50 == 0 {
                asks.write_all(METRICS).unwrap();
                assert_eq!(Answer::read(&mut asks).status, 200, "who asks keeps its place");
            }
            stream
        })
        .collect();
    assert_eq!(harness.get("/health").status, 200);
    assert_eq!(harness.get("/metrics").status, 200);
    assert!(is_closed(&mut silent[0]));
}

/// Half a request holds no place, whichever half it is, and however slowly the rest comes.
#[test]
fn who_does_not_send_the_whole_body_makes_room_for_those_who_ask() {
    let harness = Harness::open(Config::default());
    let mut asks = harness.connect();
    asks.write_all(METRICS).unwrap();
    assert_eq!(Answer::read(&mut asks).status, 200);
    let long = "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{";
    let chunked =
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
    let slow: Vec<_> = (0..3 * PLACES)
        .map(|n| {
            let mut stream = harness.connect();
            stream.write_all(if n % 2 == 0 { long } else { chunked }.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(harness.get("/health").status, 200);
    assert_eq!(harness.get("/metrics").status, 200);
    let publish = request("/api/publish", "", r#"{"channel":"a","data":1}"#);
    asks.write_all(publish.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut asks).body, r#"{"result":{}}"#, "who has asked keeps its place");
    drop(slow);
}

#[test]
fn where_everybody_is_being_answered_health_is_answered_all_the_same() {
    let mut config = Config::default();
    config.timeouts.publish = Interval(6 * TIMEOUT);
    let harness = Harness::open(config);
    let publish = request("/api/publish", "", r#"{"channel":"silent","data":1}"#);
    let slow: Vec<_> = (0..PLACES)
        .map(|_| {
            let mut stream = harness.connect();
            stream.write_all(publish.as_bytes()).unwrap();
            stream
        })
        .collect();
    // Each of them waits for its answer.
    (0..PLACES).for_each(|_| _ = harness.heard());
    for _ in 0..2 * RESERVED {
        let health = harness.get("/health");
        assert_eq!(health.status, 200);
        assert!(health.head.contains("connection: close"), "{}", health.head);
        assert_eq!((harness.get("/metrics").status, harness.get("/metrics").error_code()), (503, 111));
    }
    // Its place is free for everything.
    drop(slow);
    let deadline = Instant::now() + TIMEOUT;
    while harness.get("/metrics").status != 200 {
        assert!(Instant::now() < deadline, "no place became free");
    }
}

/// Whoever makes room for somebody else answers what it has carried out: it reads nothing more, or answers.
#[test]
fn no_publication_of_a_connection_that_makes_room_goes_unanswered() {
    let harness = Harness::open(Config::default());
    let publish = request("/api/publish", "", r#"{"channel":"a","data":1}"#);
    let mut kept: Vec<_> = (0..PLACES)
        .map(|_| {
            let mut stream = harness.connect();
            stream.write_all(METRICS).unwrap();
            assert_eq!(Answer::read(&mut stream).status, 200);
            stream
        })
        .collect();
    // Each of them may be asked to make room.
    std::thread::sleep(Duration::from_millis(1100));
    // Of half of them: a publication that comes first keeps its connection, and another one makes room.
    let mut newcomers = Vec::new();
    for stream in &mut kept[..PLACES / 2] {
        let mut newcomer = harness.connect();
        let _ = stream.write_all(publish.as_bytes());
        newcomer.write_all(METRICS).unwrap();
        assert_eq!(Answer::read(&mut newcomer).status, 200);
        newcomers.push(newcomer);
    }
    let mut answered = 0;
    for stream in &mut kept {
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let _ = stream.read_to_end(&mut answer);
        answered += usize::from(answer.starts_with(b"HTTP/1.1 200"));
    }
    assert_eq!(harness.all_heard().len(), answered, "carried out, and answered");
}

/// As `nc -N` and `socat` do, and programs that end what they send.
#[test]
fn who_has_closed_its_half_is_answered() {
    let harness = Harness::open(Config::default());
    let publish =
        |channel: &str| request("/api/publish", "", &format!(r#"{{"channel":"{channel}","data":1}}"#));
    for requests in [publish("slow"), publish("slow") + &publish("slow"), publish("a")] {
        let mut stream = harness.connect();
        stream.write_all(requests.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        let (sent, done) = (requests.matches("POST").count(), answers.matches(r#"{"result":{}}"#).count());
        assert_eq!((done, harness.all_heard().len()), (sent, sent), "{answers}");
    }
    let mut half = harness.connect();
    let whole = publish("a");
    half.write_all(&whole.as_bytes()[..whole.len() - 1]).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(harness.all_heard().is_empty(), "half a request is none");
}

#[test]
fn who_says_nothing_does_not_delay_the_stop() {
    let mut harness = Harness::open(Config::default());
    let publish = request("/api/publish", "", r#"{"channel":"a","data":1}"#);
    let beginnings: [&[u8]; 4] = [b"", b"P", b"GET / HT", &publish.as_bytes()[..publish.len() - 1]];
    let silent = beginnings.map(|beginning| {
        let mut stream = harness.connect();
        stream.write_all(beginning).unwrap();
        stream
    });
    let mut asks = harness.connect();
    asks.write_all(request("/api/publish", "", r#"{"channel":"slow","data":1}"#).as_bytes()).unwrap();
    harness.heard();
    let begun = Instant::now();
    drop(harness.stop.take());
    assert_eq!(Answer::read(&mut asks).status, 200, "what is in flight is answered");
    for mut stream in silent {
        assert!(is_closed(&mut stream));
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

/// Whoever may ask for `/health` alone, as anybody may, keeps nobody out who has the key.
#[test]
fn who_asks_only_for_health_makes_room_for_those_with_the_key() {
    let mut config = Config::default();
    config.control.api_key = "right".to_owned().into();
    let harness = Harness::open(config);
    let mut probes: Vec<_> = (0..PLACES).map(|_| harness.connect()).collect();
    for probe in &mut probes {
        probe.write_all(HEALTH).unwrap();
        assert_eq!(Answer::read(probe).status, 200);
    }
    for _ in 0..10 {
        for probe in &mut probes {
            let _ = probe.write_all(HEALTH);
        }
        let body = r#"{"channel":"a","data":1}"#;
        assert_eq!(harness.post("/api/publish", "X-API-Key: right\r\n", body).status, 200);
    }
}

/// A body takes room as it comes, and half of one gives it up for others.
#[test]
fn half_bodies_hold_nobody_up() {
    let harness = Harness::open(Config::default());
    let publish = |bytes: usize| {
        let data = "x".repeat(bytes);
        let begun = Instant::now();
        let body = format!(r#"{{"channel":"a","data":"{data}"}}"#);
        assert_eq!(harness.ask("publish", &body), serde_json::json!({"result": {}}));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    };
    let head = "POST /api/publish HTTP/1.1\r\nHost: localhost\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n");
    let begin = |count: usize, bytes: &str| -> Vec<_> {
        let one = || {
            let mut stream = harness.connect();
            stream.write_all(bytes.as_bytes()).unwrap();
            stream
        };
        std::iter::repeat_with(one).take(count).collect()
    };
    let small = begin(64, &chunked);
    publish(1);
    publish(1000);
    drop(small);
    // As many as fill all the room there is.
    let length = (1 << 20) - 1;
    let half = format!("{head}Content-Length: {}\r\n\r\n{}", length + 1, "x".repeat(length));
    let mut large = begin(66, &half);
    publish(1000);
    publish(500_000);
    let mut given_up = || {
        let answered = large.iter_mut().filter(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            stream.peek(&mut [0; 12]).is_ok_and(|read| read > 0)
        });
        answered.count()
    };
    let deadline = Instant::now() + TIMEOUT;
    while given_up() < 2 {
        assert!(Instant::now() < deadline, "there is room for no more than 64 of them");
    }
    publish(500_000);
    assert!(given_up() < 10, "only those whose room is needed");
}

/// Answers are bounded, together: who does not take its own is closed when others wait.
#[test]
fn answers_that_nobody_takes_make_room() {
    use futures_util::future::join_all;
    use http_body_util::Full;
    use hyper::body::Bytes;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let harness = Harness::open(Config::default());
    let names = vec![""; 10_000];
    let body = serde_json::json!({"channels": names, "data": 1}).to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let connect = async |requests: u32| {
        let stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
        // Next to nothing of an answer is taken before somebody reads it.
        let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        client.initial_stream_window_size(1);
        let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await.unwrap();
        let closed = tokio::spawn(connection);
        for _ in 0..requests {
            let uri = format!("http://{}/api/broadcast", harness.address);
            let request = hyper::Request::post(uri).body(Full::new(Bytes::from(body.clone())));
            let answer = sender.send_request(request.unwrap());
            // Its body is kept, and not read.
            tokio::spawn(async move {
                let _answer = answer.await;
                std::future::pending::<()>().await;
            });
        }
        tokio::spawn(async move {
            let _sender = sender;
            std::future::pending::<()>().await;
        });
        closed.abort_handle()
    };
    // Their answers are larger together than the room for answers, which has place for 19 of 850 KB.
    let connections = runtime.block_on(join_all([API_STREAMS_MAX, 12].map(connect)));
    let deadline = Instant::now() + 2 * TIMEOUT;
    while !connections.iter().any(|connection| connection.is_finished()) {
        assert!(Instant::now() < deadline, "none of them makes room");
        // Whoever asks for little is answered meanwhile.
        assert_eq!(harness.get("/health").status, 200);
        assert_eq!(harness.ask("publish", r#"{"channel":"a","data":1}"#), serde_json::json!({"result": {}}));
        std::thread::sleep(Duration::from_millis(10));
    }
    let answer = harness.ask("broadcast", &body);
    assert_eq!(answer["result"]["responses"].as_array().map(Vec::len), Some(10_000));
}

#[test]
fn a_large_answer_arrives_whole() {
    let harness = Harness::open(Config::default());
    let body = serde_json::json!({"channels": vec![""; 10_000], "data": 1}).to_string();
    let mut stream = harness.connect();
    stream.write_all(request("/api/broadcast", "", &body).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let answer = Answer::read(&mut stream).json();
    assert_eq!(answer["result"]["responses"].as_array().map(Vec::len), Some(10_000));
    assert!(is_closed(&mut stream));
}
