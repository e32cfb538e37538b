//! Calls to backends.

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::pool::Pool;
use super::super::*;
use super::{Authority, head, server};
use crate::config::Backend;
use crate::domain::call::{BackendAnswer, CallFault, Terms};

/// For what does not end by time.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// For what ends by time alone.
const SHORT: Duration = Duration::from_millis(300);
/// Bytes of an answer.
const ANSWER_BYTES: usize = 1000;

/// The thread that sends calls, and both ends of it.
pub(super) struct Calls {
    sender: CallSender,
    answers: AnswerReceiver,
    thread: JoinHandle<()>,
    next: u64,
}

impl Calls {
    pub(super) fn new() -> Self {
        let (sender, answers, caller) = caller();
        let thread = thread::spawn(move || caller.run().unwrap());
        Self { sender, answers, thread, next: 0 }
    }

    fn send(&mut self, target: &Arc<HttpTarget>, limit: Duration) -> u64 {
        self.next += 1;
        let body = format!("{{\"call\":{}}}", self.next).into_bytes();
        let target = Arc::clone(target);
        let call =
            HttpCall { number: self.next, target, headers: Vec::new(), body, limit, read: Box::new(read) };
        self.sender.send(call).unwrap();
        self.next
    }

    /// Sends a call, and waits for its answer.
    pub(super) fn ask(&mut self, target: &Arc<HttpTarget>, limit: Duration) -> Result<String, CallFault> {
        let number = self.send(target, limit);
        let answer = self.answers.blocking_recv().unwrap();
        assert_eq!(answer.number, number);
        text(answer)
    }
}

/// Takes any body for the data of an answer.
fn read(body: &[u8]) -> Result<BackendAnswer, CallFault> {
    Ok(BackendAnswer::Granted(Terms::Rpc { data: body.into() }))
}

/// The body of which [`read`] made an answer.
fn text(answer: HttpAnswer) -> Result<String, CallFault> {
    answer.outcome.map(|answer| match answer {
        BackendAnswer::Granted(Terms::Rpc { data }) => String::from_utf8(data.into()).unwrap(),
        other => panic!("{other:?}"),
    })
}

fn target_of(url: &str) -> Arc<HttpTarget> {
    let backend =
        Backend { url: url.into(), concurrency: 10, answer_bytes: ANSWER_BYTES, ..Backend::default() };
    Arc::new(HttpTarget::new(&backend).unwrap())
}

pub(super) fn target(address: SocketAddr) -> Arc<HttpTarget> {
    target_of(&format!("http://{address}/hooks?a=b"))
}

/// A server of many connections, each on a thread of its own. Returns how many there were, too.
pub(super) fn backend(
    serve: impl Fn(&mut TcpStream) + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, serve) = (Arc::new(AtomicUsize::new(0)), Arc::new(serve));
    let counter = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            let (mut stream, serve) = (stream.unwrap(), Arc::clone(&serve));
            thread::spawn(move || serve(&mut stream));
        }
    });
    (address, connections)
}

/// The next request on a connection: its head and its body. None if the other side has hung up.
pub(super) fn request(stream: &mut impl Read) -> Option<(String, String)> {
    let head = head(stream);
    let len = head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse().ok()?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

fn with_length(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Answers each request with its body.
fn echo(stream: &mut TcpStream) {
    while let Some((_, body)) = request(stream) {
        drop(stream.write_all(with_length("200 OK", &body).as_bytes()));
    }
}

/// What a call comes to whose request is answered with some bytes, after which the server hangs up.
fn answered(answer: impl Into<Vec<u8>>) -> Result<String, CallFault> {
    let answer = answer.into();
    let address = server(move |mut stream| {
        request(&mut stream);
        drop(stream.write_all(&answer));
    });
    Calls::new().ask(&target(address), LIMIT)
}

/// What a call comes to that the server answers with some bytes and then lets wait.
fn kept_waiting(answer: &'static str) -> Result<String, CallFault> {
    let (address, _) = backend(move |stream| {
        request(stream);
        drop(stream.write_all(answer.as_bytes()));
        // Until the other side hangs up.
        drop(stream.read(&mut [0]));
    });
    Calls::new().ask(&target(address), SHORT)
}

#[test]
fn a_call_is_a_post_of_json_with_the_headers_that_are_given() {
    let (asked, requests) = mpsc::channel();
    let (address, _) = backend(move |stream| {
        while let Some(request) = request(stream) {
            asked.send(request).unwrap();
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
                .unwrap();
        }
    });
    let mut calls = Calls::new();
    assert_eq!(calls.ask(&target(address), LIMIT).as_deref(), Ok("{}"));
    let version = env!("CARGO_PKG_VERSION");
    let (head, body) = requests.recv().unwrap();
    let line = "POST /hooks?a=b HTTP/1.1\r\n";
    let rest = "\r\ncontent-length: 10\r\n\r\n";
    let own = format!("content-type: application/json\r\nuser-agent: fanfare/{version}\r\nhost: {address}");
    assert_eq!((head, body), (format!("{line}{own}{rest}"), "{\"call\":1}".to_owned()));

    // Those of HTTP itself are not forwarded: a length that a client chose would make two requests of this one.
    let given = [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("User-Agent", "Mozilla\u{ff}"),
        ("Content-Length", "1"),
        ("transfer-encoding", "chunked"),
        ("Host", "other.example"),
        ("Connection", "close"),
    ];
    let headers = given.map(|(name, value)| (name.into(), value.as_bytes().into())).to_vec();
    let body = b"[]".to_vec();
    let (number, read) = (9, Box::new(read));
    let call = HttpCall { number, target: target(address), headers, body, limit: LIMIT, read };
    assert!(!format!("{call:?}").contains("a=1"), "{call:?}");
    calls.sender.send(call).unwrap();
    assert_eq!(text(calls.answers.blocking_recv().unwrap()).as_deref(), Ok("{}"));
    let (head, body) = requests.recv().unwrap();
    let own = format!("content-type: application/json\r\nhost: {address}");
    let given = "cookie: a=1\r\ncookie: b=2\r\nuser-agent: Mozilla\u{ff}\r\n";
    assert_eq!((head, body), (format!("{line}{given}{own}\r\ncontent-length: 2\r\n\r\n"), "[]".to_owned()));
}

#[test]
fn an_answer_that_is_none_is_a_fault_of_its_kind() {
    let unreadable = |answer: String| match answered(answer.clone()) {
        Err(CallFault::Unreadable(words)) => words,
        other => panic!("{answer:.50}: {other:?}"),
    };
    unreadable("SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned());
    unreadable("\0\u{1}\u{2}\u{3}\r\n\r\n".to_owned());
    unreadable(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(4 * HEAD_BYTES)));
    for answer in [
        "",
        "HTTP/1.1 200 O",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{}\r\n",
    ] {
        assert!(matches!(answered(answer), Err(CallFault::Lost(_))), "{answer}: {:?}", answered(answer));
    }
    for (status, number) in [
        ("201 Created", 201),
        ("302 Found\r\nLocation: http://127.0.0.1:1/", 302),
        ("404 Not Found", 404),
        ("500 Oh", 500),
        ("599 What", 599),
    ] {
        assert_eq!(answered(with_length(status, "{}")), Err(CallFault::Status(number)));
    }
    assert_eq!(answered("HTTP/1.1 204 No Content\r\n\r\n"), Err(CallFault::Status(204)));
    assert_eq!(answered("HTTP/1.0 200 OK\r\n\r\nuntil the end").as_deref(), Ok("until the end"));
}

/// The broker thread, which takes the outcome, has nothing left to do that a backend makes expensive.
#[test]
fn an_answer_is_read_where_calls_are_sent_and_may_be_of_no_use() {
    let (address, _) = backend(echo);
    let mut calls = Calls::new();
    let (told, reads) = mpsc::channel();
    let read = move |body: &[u8]| {
        told.send((thread::current().id(), body.to_vec())).unwrap();
        Err(CallFault::Unreadable("it is of no use".into()))
    };
    let (target, body) = (target(address), b"hunter2".to_vec());
    let call = HttpCall { number: 7, target, headers: Vec::new(), body, limit: LIMIT, read: Box::new(read) };
    calls.sender.send(call).unwrap();
    let answer = calls.answers.blocking_recv().unwrap();
    assert_eq!(answer.outcome, Err(CallFault::Unreadable("it is of no use".into())));
    assert_eq!(reads.recv(), Ok((calls.thread.thread().id(), b"hunter2".to_vec())));
    let answer = HttpAnswer { number: 7, outcome: super::calls::read(b"hunter2") };
    assert!(!format!("{answer:?}").contains("104, 117"), "{answer:?}");
}

#[test]
fn a_backend_that_keeps_a_call_waiting_is_late_wherever_it_stops() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\n\r\n{}",
    ] {
        let begun = Instant::now();
        assert_eq!(kept_waiting(answer), Err(CallFault::Late), "{answer}");
        assert!((SHORT..LIMIT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
    // Each byte comes in time, and all of them do not.
    let (slow, _) = backend(|stream| {
        request(stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(Calls::new().ask(&target(slow), SHORT), Err(CallFault::Late));
    // So is one that does not even take the connection into TLS.
    let (silent, _) = backend(|stream| drop(stream.read(&mut [0; 4096]).and_then(|_| stream.read(&mut [0]))));
    let url = format!("https://127.0.0.1:{}/", silent.port());
    assert_eq!(Calls::new().ask(&target_of(&url), SHORT), Err(CallFault::Late));
}

#[test]
fn an_answer_is_bounded_whether_it_says_its_length_or_not() {
    for answer in [
        with_length("200 OK", &"x".repeat(10 << 20)),
        format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(10 << 20)),
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n".to_owned(),
        with_length("200 OK", &"x".repeat(ANSWER_BYTES + 1)),
    ] {
        assert_eq!(answered(answer), Err(CallFault::TooLarge(ANSWER_BYTES)));
    }
    let most = "x".repeat(ANSWER_BYTES);
    assert_eq!(answered(with_length("200 OK", &most)), Ok(most.clone()));
    assert_eq!(answered(format!("HTTP/1.1 200 OK\r\n\r\n{most}")), Ok(most));
}

#[test]
fn a_backend_that_is_not_there_is_unreachable_and_nothing_of_its_url_is_told() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [
        format!("http://{closed}/hunter2?key=hunter2"),
        format!("https://{closed}/hunter2"),
        "https://nowhere.invalid/hunter2".to_owned(),
    ] {
        let Err(CallFault::Unreachable(words)) = Calls::new().ask(&target_of(&url), LIMIT) else {
            panic!("{url}: not reached")
        };
        assert!(words.starts_with("no connection: ") && !words.contains("hunter2"), "{words}");
        assert!(!format!("{:?}", target_of(&url)).contains("key="), "a query may hold a key");
    }
    for url in ["ftp://10.0.0.1/", "http://ann@10.0.0.1/", ""] {
        let wrong = Backend { url: url.into(), ..Backend::default() };
        assert!(matches!(HttpTarget::new(&wrong), Err(TargetError::Url(_))), "{url}");
    }
    let far = Backend { url: "http://10.0.0.1/".into(), ..Backend::default() };
    assert!(HttpTarget::new(&far).is_ok(), "backends in private networks are commonly asked without TLS");
    let wrong =
        Backend { url: "https://a.example/".into(), ca_file: "/dev/null".into(), ..Backend::default() };
    assert!(matches!(HttpTarget::new(&wrong), Err(TargetError::Authorities(_))));
}

#[test]
fn calls_in_a_row_share_a_connection_whatever_their_status() {
    let (address, connections) = backend(|stream| {
        let mut statuses = ["200 OK", "403 Forbidden", "500 Oh", "200 OK"].iter().cycle();
        while let Some((_, body)) = request(stream) {
            drop(stream.write_all(with_length(statuses.next().unwrap(), &body).as_bytes()));
        }
    });
    let (mut calls, target) = (Calls::new(), target(address));
    let statuses: Vec<_> = (0..40)
        .map(|_| match calls.ask(&target, LIMIT) {
            Ok(_) => 200,
            Err(CallFault::Status(status)) => status,
            Err(fault) => panic!("{fault:?}"),
        })
        .collect();
    assert_eq!(statuses, [200, 403, 500, 200].repeat(10));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn little_is_taken_of_an_answer_that_is_of_no_use() {
    let (wrote, written) = mpsc::channel();
    let (address, connections) = backend(move |stream| {
        request(stream);
        stream.write_all(b"HTTP/1.1 500 Oh\r\n\r\n").unwrap();
        let (part, mut bytes) = ([b'x'; 64 << 10], 0);
        while stream.write_all(&part).is_ok() {
            bytes += part.len();
        }
        wrote.send(bytes).unwrap();
    });
    let (mut calls, target) = (Calls::new(), target(address));
    for number in 1..=3 {
        assert_eq!(calls.ask(&target, LIMIT), Err(CallFault::Status(500)));
        // What the sockets hold; in the time that it may take, it would be hundreds of megabytes.
        let bytes = written.recv().unwrap();
        assert!(bytes < 32 << 20, "{bytes}");
        assert_eq!(connections.load(Ordering::SeqCst), number);
    }
}

#[test]
fn many_calls_at_once_are_answered_once_each_and_few_of_their_connections_are_kept() {
    let barrier = Arc::new(std::sync::Barrier::new(100));
    let (address, connections) = backend(move |stream| {
        let Some((_, body)) = request(stream) else { return };
        // All have come before the first is answered.
        barrier.wait();
        stream.write_all(with_length("200 OK", &body).as_bytes()).unwrap();
        echo(stream);
    });
    let (mut calls, target) = (Calls::new(), target(address));
    let sent: Vec<_> = (0..100).map(|_| calls.send(&target, LIMIT)).collect();
    let mut answered: Vec<_> = (0..100)
        .map(|_| {
            let answer = calls.answers.blocking_recv().unwrap();
            let number = answer.number;
            assert_eq!(text(answer), Ok(format!("{{\"call\":{number}}}")));
            number
        })
        .collect();
    answered.sort_unstable();
    assert_eq!((answered, connections.load(Ordering::SeqCst)), (sent, 100));
    // Ten calls find a connection of the ten that are kept.
    (0..10).for_each(|_| _ = calls.send(&target, LIMIT));
    (0..10).for_each(|_| assert!(calls.answers.blocking_recv().unwrap().outcome.is_ok()));
    assert_eq!(connections.load(Ordering::SeqCst), 100);
}

/// The server closes each connection after an answer, and has closed it when the next call begins.
#[test]
fn a_connection_that_was_closed_while_it_was_idle_fails_no_call() {
    let (closed, closes) = mpsc::channel();
    let (address, connections) = backend(move |stream| {
        let Some((_, body)) = request(stream) else { return };
        stream.write_all(with_length("200 OK", &body).as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Both).unwrap();
        closed.send(()).unwrap();
    });
    let (mut calls, target) = (Calls::new(), target(address));
    for number in 1..=200 {
        assert_eq!(calls.ask(&target, LIMIT), Ok(format!("{{\"call\":{number}}}")));
        closes.recv().unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 200);
}

#[test]
fn a_request_that_was_written_is_never_sent_again() {
    let (asked, requests) = mpsc::channel();
    let (address, _) = backend(move |stream| {
        let mut is_first = true;
        while let Some((_, body)) = request(stream) {
            asked.send(body.clone()).unwrap();
            // The second request on a connection is taken, and the server hangs up.
            if !std::mem::take(&mut is_first) {
                return;
            }
            stream.write_all(with_length("200 OK", &body).as_bytes()).unwrap();
        }
    });
    let (mut calls, target) = (Calls::new(), target(address));
    for _ in 0..20 {
        assert!(calls.ask(&target, LIMIT).is_ok());
        assert!(matches!(calls.ask(&target, LIMIT), Err(CallFault::Lost(_))));
    }
    drop((calls, target));
    let expected: Vec<_> = (1..=40).map(|number| format!("{{\"call\":{number}}}")).collect();
    assert_eq!(requests.iter().take(40).collect::<Vec<_>>(), expected);
    assert!(requests.try_recv().is_err());
}

#[test]
fn a_second_answer_to_a_request_is_not_taken_for_that_of_the_next() {
    let (address, connections) = backend(|stream| {
        while let Some((_, body)) = request(stream) {
            let answer = with_length("200 OK", &body).repeat(2);
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    let (mut calls, target) = (Calls::new(), target(address));
    for number in 1..=5 {
        assert_eq!(calls.ask(&target, LIMIT), Ok(format!("{{\"call\":{number}}}")));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

#[test]
fn a_connection_with_tls_is_kept_and_is_of_an_authority_that_is_trusted() {
    let (own, other) = (Authority::new(), Authority::new());
    let trusting = |authority: &Authority, url: &str| {
        authority.in_file(|path| {
            let ca_file = path.to_str().unwrap().to_owned();
            let backend = Backend { url: url.into(), ca_file, ..Backend::default() };
            Arc::new(HttpTarget::new(&backend).unwrap())
        })
    };
    let mut calls = Calls::new();
    let target = trusting(&own, &format!("https://localhost:{}/", own.server("localhost")));
    for _ in 0..3 {
        assert_eq!(calls.ask(&target, LIMIT).as_deref(), Ok("{}"));
    }
    for (authority, name) in [(&other, "localhost"), (&own, "issuer.example")] {
        let target = trusting(authority, &format!("https://localhost:{}/", own.server(name)));
        let Err(CallFault::Unreachable(words)) = calls.ask(&target, LIMIT) else { panic!("{name}: reached") };
        assert!(words.starts_with("no TLS: "), "{words}");
    }
}

/// Of three connections two are kept, and none of them for longer than is allowed.
#[test]
fn a_connection_is_closed_that_is_idle_for_too_long() {
    let (closed, closes) = mpsc::channel();
    let (address, _) = backend(move |stream| {
        assert!(request(stream).is_none());
        closed.send(Instant::now()).unwrap();
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (pool, target) = (Pool::new(2, SHORT), target(address));
        let begun = Instant::now();
        for _ in 0..3 {
            pool.keep(target.connect().await.unwrap());
        }
        let latest = pool.take().unwrap();
        pool.keep(latest);
        let closes = tokio::task::spawn_blocking(move || closes.iter().take(3).collect::<Vec<_>>());
        let closes = tokio::time::timeout(LIMIT, closes).await.unwrap().unwrap();
        let early = closes.iter().filter(|&&close| close - begun < SHORT).count();
        assert_eq!(early, 1, "{closes:?} {begun:?}");
        assert!(pool.take().is_none());
    });
}

#[test]
fn a_backend_may_have_an_address_of_ipv6() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || echo(&mut listener.accept().unwrap().0));
    assert!(Calls::new().ask(&target_of(&format!("http://[::1]:{port}/")), LIMIT).is_ok());
}

#[test]
fn the_thread_ends_when_nobody_can_send_a_call_whatever_is_under_way() {
    let (silent, _) = backend(|stream| drop(request(stream).map(|_| stream.read(&mut [0]))));
    let mut calls = Calls::new();
    (0..50).for_each(|_| _ = calls.send(&target(silent), LIMIT));
    calls.send(&target_of("https://nowhere.invalid/"), LIMIT);
    let Calls { sender, thread, .. } = calls;
    drop(sender);
    let begun = Instant::now();
    thread.join().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}
