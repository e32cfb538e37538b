//! Connections that were told to go, as their peers see them.

mod unread;

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::{Extension, State};
use prometheus_client::registry::Registry;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

use super::*;
use crate::base::mailbox::{Wake, mailbox};
use crate::control::Setup;
use crate::control::places::PLACES;
use crate::control::tests::harness::Files;
use crate::domain::client_id::NodeId;
use crate::domain::settings::EngineSettings;
use crate::stats::Stats;

/// How long a test waits for anything.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How HTTP/2 begins: the preface, and settings that set nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// The frame that asks for `/` on this stream of HTTP/2.
fn get(stream: u32) -> Vec<u8> {
    // Three fields of HPACK's static table, and `:authority`.
    let block = b"\x82\x86\x84\x01\x09localhost";
    let length = u8::try_from(block.len()).unwrap();
    // HEADERS, with its end and the end of the request.
    [&[0, 0, length, 1, 5], &stream.to_be_bytes()[..], block].concat()
}

/// What HTTP/2 begins with, and so many requests.
fn h2(requests: u32) -> Vec<u8> {
    (0..requests).fold(PREFACE.to_vec(), |bytes, n| [bytes, get(2 * n + 1)].concat())
}

/// What handlers share, where nobody answers for the broker thread.
fn state(config: Config) -> Arc<AppState> {
    struct Nobody;
    impl Wake for Nobody {
        fn wake(&self) {}
    }
    let (requests, _) = mailbox(1, Box::new(Nobody));
    let setup = Setup {
        settings: EngineSettings::of(config),
        source: Arc::new(Files::default()),
        reload: Arc::default(),
        node: NodeId::random(),
        requests,
        stats: Stats::new(1, Vec::new()),
        clients: Vec::new(),
        lifecycle: Arc::default(),
        key_set: None,
        demo: false,
    };
    Arc::new(AppState::new(setup, Registry::default()))
}

/// A connection that is served, and its peer's end.
struct Served {
    connection: Arc<Connection>,
    peer: TcpStream,
    ended: JoinHandle<()>,
}

async fn serve_one(places: &mut Places, router: Router) -> Served {
    let service = Service { router, state: state(Config::default()) };
    serve_with(places, service, None).await
}

/// `buffers`: bytes of answers that each socket takes, if not as many as the system has room for.
async fn serve_with(places: &mut Places, service: Service, buffers: Option<u32>) -> Served {
    let (listening, socket) = (TcpSocket::new_v4().unwrap(), TcpSocket::new_v4().unwrap());
    if let Some(bytes) = buffers {
        listening.set_send_buffer_size(bytes).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
    }
    listening.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener = listening.listen(1).unwrap();
    let peer = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, address) = listener.accept().await.unwrap();
    let place = places.take().await;
    let connection = Arc::clone(&place.0);
    let limits = Limits::of(&service.state.config());
    let ended = tokio::spawn(async move {
        let peer = Peer { address, connection: Arc::clone(&place.0) };
        converse(service, stream, peer, limits).await;
        drop(place);
    });
    Served { connection, peer, ended }
}

/// All that comes until the other end closes, or resets.
async fn read_all(peer: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
    let read = async {
        while let Ok(1..) = peer.read(&mut bytes).await.inspect(|&read| all.extend(&bytes[..read])) {}
    };
    timeout(TIMEOUT, read).await.expect("it is closed");
    all
}

/// On a busy machine its task may run late.
#[tokio::test]
async fn what_has_come_is_answered_however_late_its_task_runs() {
    let mut places = Places::default();
    let router = Router::new().fallback(async || "answered");
    let Served { connection, mut peer, .. } = serve_one(&mut places, router).await;
    peer.try_write(GET.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let others: Vec<_> = std::iter::from_fn(|| places.take().now_or_never()).collect();
    assert!(!connection.is_leaving() && others.len() >= PLACES - 1);
    let mut answer = [0; 12];
    timeout(TIMEOUT, peer.read_exact(&mut answer)).await.expect("in time").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

fn count(all: &[u8], wanted: &str) -> usize {
    String::from_utf8_lossy(all).matches(wanted).count()
}

/// Whatever its peer does: one of HTTP/2 may go on asking until it has acknowledged that it was told to go.
#[tokio::test]
async fn who_goes_on_asking_when_it_was_told_to_go_is_closed() {
    for is_stop in [false, true] {
        let (mut places, carried_out) = (Places::default(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&carried_out);
        let router = Router::new().fallback(async move || _ = counted.fetch_add(1, Ordering::Relaxed));
        let Served { connection, mut peer, mut ended } = serve_one(&mut places, router).await;
        peer.write_all(PREFACE).await.unwrap();
        let mut streams = (1..).step_by(2);
        let mut ask = async || {
            let _ = peer.write_all(&get(streams.next().unwrap())).await;
            sleep(Duration::from_millis(2)).await;
        };
        ask().await;
        while carried_out.load(Ordering::Relaxed) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let answering = connection.began(true);
        let told = async {
            if is_stop {
                places.close().await;
            } else {
                connection.evict();
            }
        };
        let asks = async {
            for _ in 0..20 {
                ask().await;
            }
            assert_eq!(carried_out.load(Ordering::Relaxed), 1, "it was told to go");
            drop(answering);
            let begun = Instant::now();
            while !ended.is_finished() && begun.elapsed() < TIMEOUT {
                ask().await;
            }
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        };
        tokio::join!(told, asks);
        timeout(Duration::ZERO, &mut ended).await.expect("it ended").unwrap();
    }
}

/// However long the thread is busy with others between the answer and the turn of its connection.
#[tokio::test]
async fn what_was_carried_out_before_it_was_told_to_go_is_answered() {
    async fn carry_out(
        State(count): State<Arc<AtomicUsize>>,
        Extension(peer): Extension<Peer>,
    ) -> &'static str {
        match count.fetch_add(1, Ordering::Relaxed) {
            // Its turn comes after all of these, and before that of the connection.
            0 => _ = tokio::spawn(async { std::thread::sleep(Duration::from_millis(50)) }),
            15 => peer.connection.evict(),
            _ => {}
        }
        "carried out"
    }
    for (requests, about) in [(h2(16), "HTTP/2"), (GET.repeat(40).into(), "HTTP/1.1")] {
        let (mut places, carried_out) = (Places::default(), Arc::new(AtomicUsize::new(0)));
        let router = Router::new().fallback(carry_out).with_state(Arc::clone(&carried_out));
        let mut served = serve_one(&mut places, router).await;
        served.peer.write_all(&requests).await.unwrap();
        let answers = read_all(&mut served.peer).await;
        let carried_out = carried_out.load(Ordering::Relaxed);
        assert_eq!((carried_out, count(&answers, "carried out")), (16, 16), "{about}");
    }
}

/// Clients of HTTP/2 send again by themselves what is refused so.
#[tokio::test]
async fn what_crosses_the_end_of_a_connection_may_be_sent_again() {
    let (mut places, asked) = (Places::default(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    let router = Router::new().fallback(async move || _ = counted.fetch_add(1, Ordering::Relaxed));
    let mut served = serve_one(&mut places, router).await;
    served.peer.write_all(&h2(1)).await.unwrap();
    while asked.load(Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let answering = served.connection.began(true);
    served.connection.evict();
    served.peer.write_all(&[get(3), get(5)].concat()).await.unwrap();
    let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
    while !was_reset(&all, 3) || !was_reset(&all, 5) {
        let read = timeout(TIMEOUT, served.peer.read(&mut bytes)).await.expect("an answer").unwrap();
        assert!(read > 0, "it is closed: {all:?}");
        all.extend(&bytes[..read]);
    }
    drop(answering);
    read_all(&mut served.peer).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

/// Also where it has nothing else to answer, and would go at once.
#[tokio::test]
async fn what_crosses_the_end_of_an_idle_connection_may_be_sent_again() {
    let (mut places, asked) = (Places::default(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    let router = Router::new().fallback(async move || _ = counted.fetch_add(1, Ordering::Relaxed));
    let mut served = serve_one(&mut places, router).await;
    served.peer.write_all(&h2(1)).await.unwrap();
    while asked.load(Ordering::Relaxed) == 0 || served.connection.requests() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // From then on it is idle.
    sleep(Duration::from_millis(20)).await;
    served.connection.evict();
    served.peer.write_all(&get(3)).await.unwrap();
    let all = read_all(&mut served.peer).await;
    assert!(was_reset(&all, 3), "{all:?}");
}

/// The frame by which a peer cancels the request on this stream.
fn reset(stream: u32) -> Vec<u8> {
    [&[0, 0, 4, 3, 0][..], &stream.to_be_bytes(), &[0, 0, 0, 8]].concat()
}

/// Whether a stream of HTTP/2 was reset so that its request can be sent again.
fn was_reset(all: &[u8], stream: u8) -> bool {
    let reset = [0, 0, 4, 3, 0, 0, 0, 0, stream, 0, 0, 0, 7];
    all.windows(reset.len()).any(|frame| frame == reset)
}

/// Behind a body that was not read, hyper reads on before its answer has been taken, and collects heads of answers without
/// bound.
#[tokio::test]
async fn nothing_is_read_behind_a_request_whose_body_was_not_read() {
    let (mut places, asked) = (Places::default(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    let router = Router::new().fallback(async move || _ = counted.fetch_add(1, Ordering::Relaxed));
    let mut served = serve_one(&mut places, router).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx";
    served.peer.write_all(post.repeat(100).as_bytes()).await.unwrap();
    let answers = read_all(&mut served.peer).await;
    assert_eq!((asked.load(Ordering::Relaxed), count(&answers, "HTTP/1.1 200")), (1, 1));
    assert_eq!(count(&answers, "connection: close"), 1);
}

#[tokio::test]
async fn who_sends_no_http_goes_when_it_is_told() {
    let mut places = Places::default();
    let mut served = serve_one(&mut places, Router::new()).await;
    served.peer.write_all(b"\x16\x03\x01").await.unwrap();
    let mut answer = [0; 12];
    served.peer.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
    let begun = Instant::now();
    served.connection.evict();
    timeout(TIMEOUT, served.ended).await.expect("it ends").unwrap();
    assert!(begun.elapsed() < Duration::from_millis(300), "its peer has not closed: {:?}", begun.elapsed());
}

/// What `config::memory` counts is what a peer is told, and what it gets.
#[tokio::test]
async fn a_connection_has_so_many_requests_and_fields_and_no_more() {
    let mut places = Places::default();
    let mut served = serve_one(&mut places, Router::new().fallback(async || "answered")).await;
    served.peer.write_all(PREFACE).await.unwrap();
    let mut head = [0; 9];
    served.peer.read_exact(&mut head).await.unwrap();
    let mut settings = vec![0; usize::from(head[2])];
    served.peer.read_exact(&mut settings).await.unwrap();
    let setting = |id: u8| settings.chunks(6).find(|setting| setting[1] == id).expect("it is set");
    assert_eq!(setting(3)[2..], API_STREAMS_MAX.to_be_bytes(), "SETTINGS_MAX_CONCURRENT_STREAMS");
    assert_eq!(setting(6)[2..], FIELDS_BYTES.to_be_bytes(), "SETTINGS_MAX_HEADER_LIST_SIZE");

    let mut served = serve_one(&mut places, Router::new().fallback(async || "answered")).await;
    let with = |fields: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "Host: localhost\r\n".repeat(fields));
    let requests = [with(FIELDS_MAX), with(FIELDS_MAX + 1)].concat();
    served.peer.write_all(requests.as_bytes()).await.unwrap();
    let (mut answers, mut bytes) = (Vec::new(), [0; 4096]);
    while count(&answers, "\r\n\r\n") < 2 {
        let read = timeout(TIMEOUT, served.peer.read(&mut bytes)).await.expect("answers").unwrap();
        answers.extend(&bytes[..read]);
    }
    assert_eq!(["HTTP/1.1 200", "HTTP/1.1 431"].map(|status| count(&answers, status)), [1, 1]);

    let connection = &served.connection;
    let mut answering: Vec<_> = (0..API_STREAMS_MAX).map(|n| connection.began(n % 2 == 0)).collect();
    assert!(is_refused(connection));
    answering.pop();
    assert!(!is_refused(connection));
    connection.evict();
    assert!(is_refused(connection));
}

/// The line about its end is the only one that names the peer, so it has to say why.
#[tokio::test]
async fn what_is_told_of_a_failed_connection_is_why_it_failed() {
    let (peer, stream) = tokio::io::duplex(1 << 16);
    let resets = (0..100).map(|n| [get(2 * n + 1), reset(2 * n + 1)].concat());
    let (_, mut peer_writes) = tokio::io::split(peer);
    peer_writes.write_all(&[PREFACE, &resets.collect::<Vec<_>>().concat()].concat()).await.unwrap();
    let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Body::empty())));
    let builder = builder(Limits::of(&Config::default()));
    let served = builder.serve_connection(TokioIo::new(stream), service);
    let error = timeout(TIMEOUT, served).await.expect("it ends").expect_err("too many resets");
    assert!(with_causes(&*error).contains("excessive load"), "{}", with_causes(&*error));
}
