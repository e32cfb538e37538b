//! Connections of the control port: HTTP/1.1 with keep-alive and pipelining, and HTTP/2 without TLS for
//! clients that begin with its preface. Bounded in number, in time and in memory.
//!
//! Requests of the API by HTTP/1.1 are carried out by `pipeline`, as long as they are plain. Everything else is
//! hyper's.
//!
//! hyper's answers of HTTP/1.1 are written in batches (`stream`), and nothing is read behind an answer that the peer
//! does not take. So such a connection holds one head and one answer beyond a batch, whatever its peer sends.
//! One of HTTP/2 holds [`API_STREAMS_MAX`] of each.

use std::convert::Infallible;
use std::error::Error;
use std::future::ready;
use std::io;
use std::iter::successors;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode, Uri, Version, header};
use axum::response::Response;
use futures_util::FutureExt as _;
use futures_util::future::Either;
use hyper::body::{Body as _, Incoming};
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use tokio::time::{sleep, timeout};

use super::envelope::{closing, refuse, told_to_close, too_many};
use super::pipeline::{End, Pipeline};
use super::places::{Asked, Connection, IDLE_MAX, Peer, Place, Places};
use super::state::AppState;
use super::stream::Stream;
use crate::base::log_limiter::RateLimit;
use crate::config::Config;
use crate::config::memory::{API_CONNECTION_WINDOW, API_STREAMS_MAX};
use crate::domain::reasons::ErrorCode;
use crate::transport::preamble::{begins_with_proxy_preamble, may_become_http};
use crate::transport::refusal::Refusal;

/// Bytes of the fields in the head of a request by HTTP/2, with 32 more for each (RFC 9113, section 6.5.2).
const FIELDS_BYTES: u32 = 8 << 10;

/// Fields in the head of a request. However small each is on the wire, `config::memory` counts some 200 bytes for it.
const FIELDS_MAX: usize = 64;

/// Number of a connection's first bytes that identify its protocol: the PROXY protocol's line has at most
/// 107.
const FIRST_BYTES: usize = 128;

/// Pause after a failed `accept`: without descriptors, the next one would fail at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Interval between two log lines about failed accepts.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Who answers.
#[derive(Clone, Debug)]
pub(super) struct Service {
    /// Every path.
    pub(super) router: Router,
    /// What handlers share, for those requests that go by no router.
    pub(super) state: Arc<AppState>,
}

/// The configuration of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a request's head.
    head_bytes: usize,
    /// From the connection to the end of its first request's head.
    first_head: Duration,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        // Below 8 KiB hyper's own minimum holds.
        let head_bytes = config.limits.head_bytes.max(8 << 10);
        Self { head_bytes, first_head: config.timeouts.upgrade.0 }
    }
}

/// Serves until `stop`, then lets the requests in flight finish.
pub(super) async fn serve(
    service: Service,
    listener: std::net::TcpListener,
    mut stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    let mut acceptor = Acceptor::new(TcpListener::from_std(listener)?);
    loop {
        let (place, stream, address) = tokio::select! {
            _ = &mut stop => break,
            accepted = acceptor.next_connection() => accepted,
        };
        let service = service.clone();
        let limits = Limits::of(&service.state.config());
        tokio::spawn(async move {
            let peer = Peer { address, connection: Arc::clone(&place.0) };
            converse(service, stream, peer, limits).await;
            drop(place);
        });
    }
    let Acceptor { listener, mut places, .. } = acceptor;
    drop(listener);
    if timeout(service.state.config().stop.limit.0, places.close()).await.is_err() {
        tracing::warn!("control: requests were still in flight when stop.limit was reached");
    }
    Ok(())
}

/// Accepts connections.
struct Acceptor {
    listener: TcpListener,
    places: Places,
    failures: RateLimit,
}

impl Acceptor {
    fn new(listener: TcpListener) -> Self {
        Self { listener, places: Places::default(), failures: RateLimit::new(ACCEPT_LOG_INTERVAL) }
    }

    /// The next connection, with a place for it. A place is sought only when a connection has come, so that
    /// no connection makes room for nothing. Dropping the future closes the connection that waits for a
    /// place; the others stay in the kernel's queue.
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

/// Serves one connection until it closes or has to.
async fn converse(service: Service, stream: TcpStream, peer: Peer, limits: Limits) {
    let connection = Arc::clone(&peer.connection);
    tokio::select! {
        biased;
        () = answer_all(service, stream, peer, limits) => {}
        never = connection.end_grace() => match never {},
    }
}

/// Answers the requests of one connection, in order, until it closes or has to.
async fn answer_all(service: Service, mut stream: TcpStream, peer: Peer, limits: Limits) {
    // Answers are small and whole: waiting to fill a packet only delays them. Where it fails, they are late.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("control: no TCP_NODELAY for {}: {error}", peer.address);
    }
    let connection = Arc::clone(&peer.connection);
    let text = tokio::select! {
        biased;
        () = connection.time_to_go(limits.first_head) => return,
        text = no_http(&stream) => text,
    };
    if let Some(text) = text {
        let mut stream = Stream::new(stream, Bytes::new(), Arc::clone(&connection));
        let refused = async {
            // Who is gone needs no answer.
            let _ = stream.write_all(&Refusal::NotHttp.answer_saying(text)).await;
            let _ = stream.shutdown().await;
        };
        tokio::select! {
            biased;
            () = refused => {}
            () = connection.time_to_go(limits.first_head) => {}
        }
        return;
    }
    let router = TowerToHyperService::new(service.router);
    let unused = if connection.is_reserved() {
        Bytes::new()
    } else {
        match pipelined(&service.state, &router, &mut stream, &peer, limits).await {
            Ok(End::Foreign(unused)) => unused,
            Ok(End::Over) => {
                say_goodbye(stream, &connection, limits).await;
                return;
            }
            Err(error) => return ended_early(&peer, &error),
        }
    };
    let stream = Stream::new(stream, unused, Arc::clone(&connection));
    let service = service_fn(|request| answer(&router, peer.clone(), request));
    let builder = builder(limits);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Whoever has to go is looked at first: so what comes after it was told to go finds that it was.
    let ended = tokio::select! {
        biased;
        () = connection.time_to_go(limits.first_head) => None,
        ended = served.as_mut() => Some(ended),
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            // What was answered is offered to the socket before the connection is dropped. Its end has no part in what tokio
            // lets a task do at a time, which a peer that sends without a pause uses up.
            tokio::select! {
                biased;
                ended = served => ended,
                () = unconstrained(connection.has_answered()) => return,
            }
        }
    };
    if let Err(error) = ended {
        ended_early(&peer, &*error);
    }
}

/// Closes our side, and waits for the peer to close its own: not for long if the connection has to go.
async fn say_goodbye(stream: TcpStream, connection: &Arc<Connection>, limits: Limits) {
    let mut stream = Stream::new(stream, Bytes::new(), Arc::clone(connection));
    let has_to_go = async {
        connection.time_to_go(limits.first_head).await;
        unconstrained(connection.has_answered()).await;
    };
    tokio::select! {
        biased;
        // Who is gone already needs no end.
        _ = stream.shutdown() => {}
        () = has_to_go => {}
    }
}

fn ended_early(peer: &Peer, error: &(dyn Error + 'static)) {
    tracing::debug!("control: the connection of {} ended early: {}", peer.address, with_causes(error));
}

/// An error with its causes: hyper's own words say only which protocol failed.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let chain = successors(Some(error), |&error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Answers plain requests of the API, until the connection ends or the next request is hyper's.
async fn pipelined(
    state: &AppState,
    router: &TowerToHyperService<Router>,
    stream: &mut TcpStream,
    peer: &Peer,
    limits: Limits,
) -> io::Result<End> {
    let mut pipeline = Pipeline::new(state, router, peer.clone(), stream, limits.head_bytes);
    tokio::select! {
        biased;
        () = peer.connection.time_to_go(limits.first_head) => {}
        ended = pipeline.run() => return ended,
    }
    tokio::select! {
        biased;
        ended = pipeline.run() => ended,
        () = unconstrained(peer.connection.has_answered()) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Answers one request. By HTTP/2, a request that may be sent again is refused so that clients send it again
/// by themselves (RFC 9113, section 8.7).
fn answer(
    router: &TowerToHyperService<Router>,
    peer: Peer,
    request: hyper::Request<Incoming>,
) -> impl Future<Output = Result<Response<Body>, h2::Error>> + use<> {
    if !is_refused(&peer.connection) {
        return Either::Right(carry_out(router, peer, request).map(Ok));
    }
    Either::Left(ready(match request.version() {
        Version::HTTP_2 => Err(h2::Reason::REFUSED_STREAM.into()),
        _ => Ok(told_to_close()),
    }))
}

/// Whether a connection must carry out nothing now: it was told to close, or has as many requests as it may.
/// HTTP/2 itself bounds their number, except for requests that were just cancelled. Such a request does not
/// count, and nothing of it is kept.
fn is_refused(connection: &Connection) -> bool {
    connection.is_leaving() || connection.requests() >= API_STREAMS_MAX
}

/// Carries out one request, if it is allowed. A refused request is not kept until the answer leaves.
fn carry_out(
    router: &TowerToHyperService<Router>,
    peer: Peer,
    mut request: hyper::Request<Incoming>,
) -> impl Future<Output = Response<Body>> + use<> {
    let answering = Arc::new(peer.connection.began(request.body().is_end_stream()));
    let only_health = peer.connection.is_reserved();
    request.extensions_mut().insert(peer);
    if is_bare_probe(&request) {
        *request.uri_mut() = Uri::from_static("/health");
    }
    let answer = if let Some(refusal) = refusal_of(request.headers()) {
        Either::Left(ready(refusal))
    } else if only_health && !request.uri().path().starts_with("/health") {
        // What whoever got a reserved place is told about everything else.
        let why = "every connection that this port takes is waiting for an answer; try again";
        Either::Left(ready(too_many(why)))
    } else {
        let answer = router.call(request.map(|body| Asked::new(body, Arc::clone(&answering))));
        Either::Right(answer.map(|answer| answer.unwrap_or_else(|never: Infallible| match never {})))
    };
    async move {
        let mut response = answer.await;
        // Behind a body that nobody has read, hyper would read on although the peer has not taken the answer.
        if only_health || !answering.has_come_whole() {
            response = closing(response);
        }
        drop(answering);
        response
    }
}

/// The answer to a peer whose first bytes are not HTTP, for which hyper has none. Reads nothing.
async fn no_http(stream: &TcpStream) -> Option<&'static str> {
    let mut bytes = [0; FIRST_BYTES];
    let length = stream.peek(&mut bytes).await.unwrap_or_default();
    let head = &bytes[..length];
    if begins_with_proxy_preamble(head) {
        return Some(Refusal::ProxyPreamble.text());
    }
    // One empty line before the first request is ignored (RFC 9112, section 2.2).
    (!may_become_http(head.strip_prefix(b"\r\n").unwrap_or(head)))
        .then_some("This is not an HTTP request. The control port takes HTTP without TLS.")
}

/// Whether this is HAProxy's default health check: `OPTIONS /`, often without a host. The preflight of a
/// browser has an origin.
fn is_bare_probe(request: &hyper::Request<Incoming>) -> bool {
    request.method() == Method::OPTIONS
        && ["/", "*"].contains(&request.uri().path())
        && !request.headers().contains_key(header::ORIGIN)
}

/// The answer to a request whose head hyper takes, and this port does not.
fn refusal_of(headers: &HeaderMap) -> Option<Response> {
    if headers.len() > FIELDS_MAX {
        return Some(too_many_fields());
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next()?;
    let is_plain = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    (!is_plain).then(not_only_chunked)
}

/// hyper looks at the end of the last field alone.
fn not_only_chunked() -> Response {
    let text = "bad request: Transfer-Encoding may only be `chunked`, once (RFC 9112, section 6.1)";
    refuse(StatusCode::BAD_REQUEST, ErrorCode::BadRequest.code(), text)
}

fn too_many_fields() -> Response {
    let text = format!("bad request: its head has more than {FIELDS_MAX} fields");
    refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, ErrorCode::BadRequest.code(), &text)
}

fn builder(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_MAX).max_buf_size(limits.head_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE_MAX)
        .max_header_list_size(FIELDS_BYTES)
        .initial_stream_window_size(API_CONNECTION_WINDOW)
        .initial_connection_window_size(API_CONNECTION_WINDOW)
        .max_concurrent_streams(API_STREAMS_MAX);
    builder
}

#[cfg(test)]
mod tests;
