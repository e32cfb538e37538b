//! Connections of the control port: HTTP/1.1 with keep-alive and pipelining, and HTTP/2 without TLS for
//! clients that begin with its preface. Bounded in number, in time and in memory.
//!
//! Answers of HTTP/1.1 are written in batches (`stream`), and nothing is read behind an answer that the peer does not
//! take: so a connection holds one head and one answer beyond a batch, whatever its peer sends.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::envelope::refuse;
use super::places::{Asked, Connection, IDLE_MAX, Place, Places};
use super::stream::Stream;
use crate::config::Config;
use crate::protocol::codes::ErrorCode;
use crate::ratelimit::RateLimit;
use crate::wire::preamble::{begins_with_proxy_preamble, may_become_http};
use crate::wire::refusal::Refusal;

/// Requests at the same time on one HTTP/2 connection; the client waits with the next.
const STREAMS_MAX: u32 = 64;

/// Bytes of bodies that one HTTP/2 stream may send before they are read.
const STREAM_WINDOW: u32 = 64 << 10;

/// The same of all streams of one connection.
const CONNECTION_WINDOW: u32 = 256 << 10;

/// As many of a connection's first bytes as tell what it is: the PROXY protocol's line has at most 107.
const FIRST_BYTES: usize = 128;

/// Pause after a failed `accept`: without descriptors the next one would fail at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two log lines about failed accepts.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Whose request it is; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What the configuration says about connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a request's head.
    head_bytes: usize,
    /// From the connection to the end of its first request's head.
    first_head: Duration,
    /// From the stop to the return, whatever is still in flight.
    stop: Duration,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        // Below 8 KiB hyper's own minimum holds.
        let head_bytes = config.limits.head_bytes.max(8 << 10);
        Self { head_bytes, first_head: config.timeouts.upgrade.0, stop: config.stop.limit.0 }
    }
}

/// Serves until `stop`, then lets the requests in flight end.
pub(super) async fn serve(
    router: Router,
    listener: std::net::TcpListener,
    limits: Limits,
    mut stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    let mut door = Door::new(TcpListener::from_std(listener)?);
    let graceful = GracefulShutdown::new();
    loop {
        let (place, stream, peer) = tokio::select! {
            _ = &mut stop => break,
            accepted = door.next_connection() => accepted,
        };
        let (router, watcher) = (router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let connection = Arc::clone(&place.0);
            tokio::select! {
                () = converse(router, stream, peer, limits, watcher, Arc::clone(&connection)) => {}
                () = connection.time_to_go(limits.first_head) => {}
            }
            drop(place);
        });
    }
    drop(door);
    if timeout(limits.stop, graceful.shutdown()).await.is_err() {
        tracing::warn!("control: requests were still in flight when stop.limit was reached");
    }
    Ok(())
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    places: Places,
    failures: RateLimit,
}

impl Door {
    fn new(listener: TcpListener) -> Self {
        Self { listener, places: Places::default(), failures: RateLimit::new(ACCEPT_LOG_INTERVAL) }
    }

    /// The next connection, with a place for it. The place is looked for when somebody has come, so that nobody makes
    /// room for nobody. Dropping the future closes who waits for a place; the others stay in the kernel's queue.
    async fn next_connection(&mut self) -> (Place, TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (self.places.take().await, stream, peer),
                Err(error) => {
                    if let Some(more_since_last) = self.failures.allow(Instant::now()) {
                        tracing::warn!(%error, more_since_last, "control: a connection could not be accepted");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Answers the requests of one connection, in order, until it closes or the server stops.
async fn converse(
    router: Router,
    stream: TcpStream,
    peer: SocketAddr,
    limits: Limits,
    watcher: Watcher,
    connection: Arc<Connection>,
) {
    // Answers are small and whole: waiting to fill a packet only delays them. Where it fails, they are late.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("control: no TCP_NODELAY for {peer}: {error}");
    }
    let mut stream = stream;
    if let Some(text) = no_http(&stream).await {
        // Who is gone needs no answer.
        let _ = stream.write_all(&Refusal::NotHttp.answer_saying(text)).await;
        return;
    }
    let stream = Stream::new(stream, Arc::clone(&connection));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        if is_bare_probe(&request) {
            *request.uri_mut() = Uri::from_static("/health");
        }
        let answering = Arc::new(connection.began());
        let request = request.map(|body| Asked::new(body, Arc::clone(&answering)));
        let only_health = connection.is_reserved();
        let answer =
            (!only_health || request.uri().path().starts_with("/health")).then(|| router.call(request));
        async move {
            let mut response = match answer {
                Some(answer) => answer.await.unwrap_or_else(|never: Infallible| match never {}),
                None => too_many_connections(),
            };
            if only_health {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            drop(answering);
            Ok::<Response<Body>, Infallible>(response)
        }
    });
    let builder = builder(limits);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(served.into_owned()).await {
        tracing::debug!("control: the connection of {peer} ended early: {error}");
    }
}

/// What to say to a peer whose first bytes are no HTTP, which hyper would answer without a word. Reads nothing.
async fn no_http(stream: &TcpStream) -> Option<&'static str> {
    let mut bytes = [0; FIRST_BYTES];
    let length = stream.peek(&mut bytes).await.unwrap_or_default();
    let head = &bytes[..length];
    if begins_with_proxy_preamble(head) {
        return Some(Refusal::ProxyPreamble.text());
    }
    (!may_become_http(head))
        .then_some("This is not an HTTP request. The control port takes HTTP without TLS.")
}

/// Whether this is how HAProxy's checks ask where nobody told them a path: `OPTIONS /`, often without a host. What a
/// browser asks before a request has an origin.
fn is_bare_probe(request: &hyper::Request<Incoming>) -> bool {
    request.method() == Method::OPTIONS
        && ["/", "*"].contains(&request.uri().path())
        && !request.headers().contains_key(header::ORIGIN)
}

/// What whoever got a reserved place is told about everything but `/health`.
fn too_many_connections() -> Response {
    let text = "too many requests: every connection that this port takes is waiting for an answer; try again";
    refuse(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::TooManyRequests.code(), text)
}

fn builder(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_MAX).max_buf_size(limits.head_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE_MAX)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX);
    builder
}
