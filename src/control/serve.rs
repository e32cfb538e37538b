//! Connections of the control port: HTTP/1.1 with keep-alive and pipelining, and HTTP/2 without TLS for
//! clients that begin with its preface. Bounded in number and in time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use crate::config::Config;

/// Connections at the same time; the next ones wait in the kernel's queue. Operators, a scraper and some
/// publishers with pools need dozens. Costs about 20 KiB each, and a body in flight each.
const CONNECTIONS_MAX: usize = 512;

/// Requests at the same time on one HTTP/2 connection; the client waits with the next.
const STREAMS_MAX: u32 = 64;

/// How long a connection may be silent between two requests. Longer than a scraper's usual interval, so
/// that a scraper and publishers can keep their connections.
const IDLE_MAX: Duration = Duration::from_secs(75);

/// Pause after a failed `accept`: without descriptors the next one would fail at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whose request it is; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What the configuration says about connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of a request's head.
    head_bytes: usize,
    /// From the stop to the return, whatever is still in flight.
    stop: Duration,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        // Below 8 KiB hyper's own minimum holds.
        Self { head_bytes: config.limits.head_bytes.max(8 << 10), stop: config.stop.limit.0 }
    }
}

/// Serves until `stop`, then lets the requests in flight end.
pub(super) async fn serve(
    router: Router,
    listener: std::net::TcpListener,
    limits: Limits,
    mut stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (place, stream, peer) = tokio::select! {
            _ = &mut stop => break,
            accepted = next_connection(&listener, &places) => accepted,
        };
        let (router, watcher) = (router.clone(), graceful.watcher());
        tokio::spawn(async move {
            converse(router, stream, peer, limits, watcher).await;
            drop(place);
        });
    }
    drop(listener);
    if timeout(limits.stop, graceful.shutdown()).await.is_err() {
        tracing::warn!("control: requests were still in flight when stop.limit was reached");
    }
    Ok(())
}

/// The next connection, once there is a place for it. Dropping the future loses none: what was not
/// accepted stays in the kernel's queue.
async fn next_connection(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (Option<OwnedSemaphorePermit>, TcpStream, SocketAddr) {
    // The semaphore is never closed, so a place is always had in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (place, stream, peer),
            Err(error) => {
                tracing::warn!("control: a connection could not be accepted: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection, in order, until it closes or the server stops.
async fn converse(router: Router, stream: TcpStream, peer: SocketAddr, limits: Limits, watcher: Watcher) {
    // The version is told by the first bytes, and that wait has no timer of its own in the builder.
    if !matches!(timeout(IDLE_MAX, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    // Answers are small and whole: waiting to fill a packet only delays them. Where it fails, they are late.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("control: no TCP_NODELAY for {peer}: {error}");
    }
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.call(request)
    });
    let builder = builder(limits);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!("control: the connection of {peer} ended early: {error}");
    }
}

fn builder(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_MAX)
        .max_buf_size(limits.head_bytes)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(IDLE_MAX)
        .max_concurrent_streams(STREAMS_MAX);
    builder
}
