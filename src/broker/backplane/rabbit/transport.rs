//! The stream that lapin reads: TCP, TLS over it if the address says so, and the [filter](super::amqp_filter) on top.
//!
//! lapin takes streams of the type that its runtime makes, and no others. So it gets a runtime of ours, which is tokio
//! but for that type.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::tcp::{AsyncTcpStream, OwnedTLSConfig};
use parking_lot::Mutex;
use socket2::{SockRef, Socket};

use super::amqp_filter::{Filter, Terms};

/// What tokio makes of a TCP connection for lapin.
type Tcp = <Tokio as Reactor>::TcpStream;

/// A connection to RabbitMQ of which lapin can read everything.
pub(super) struct Filtered {
    stream: AsyncTcpStream<Tcp>,
    filter: Filter,
}

/// Connects, with TLS if there is a configuration for it. `socket` gets a second handle of the socket as soon as there
/// is one.
///
/// # Errors
/// What the operating system or TLS says.
pub(super) async fn connect(
    host: &str,
    port: u16,
    tls: Option<&OwnedTLSConfig>,
    terms: Terms,
    socket: &Mutex<Option<Socket>>,
) -> io::Result<AsyncTcpStream<Filtered>> {
    let runtime = Runtime::tokio_current();
    let place = runtime.to_socket_addrs((host.to_owned(), port));
    let stream = AsyncTcpStream::connect(&runtime, place).await?;
    if let AsyncTcpStream::Plain(plain) = &stream {
        *socket.lock() = Some(SockRef::from(plain.get_ref()).try_clone()?);
    }
    let stream = match tls {
        Some(tls) => stream.into_tls(host, tls.as_ref()).await?,
        None => stream,
    };
    Ok(AsyncTcpStream::Plain(Filtered { stream, filter: Filter::new(terms) }))
}

impl AsyncRead for Filtered {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, filter } = self.get_mut();
        loop {
            let given = filter.give(buffer);
            if given > 0 || buffer.is_empty() {
                return Poll::Ready(Ok(given));
            }
            let direct = filter.direct().min(buffer.len());
            if direct > 0 {
                let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer[..direct]))?;
                filter.passed_by(read);
                return Poll::Ready(Ok(read));
            }
            match ready!(Pin::new(&mut *stream).poll_read(context, filter.space()))? {
                0 => return Poll::Ready(Ok(0)),
                read => filter.filled(read),
            }
        }
    }
}

impl AsyncWrite for Filtered {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(context)
    }
}

/// Tokio, with [`Filtered`] as its streams.
#[derive(Clone, Debug)]
pub(super) struct Kit(Tokio);

/// The runtime that lapin gets: the tokio that this is called in.
pub(super) fn runtime() -> Runtime<Kit> {
    Runtime::new(Kit(Tokio::current()))
}

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for Kit {
    type TcpStream = Filtered;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move {
            let stream = AsyncTcpStream::Plain(connecting.await?);
            Ok(Filtered { stream, filter: Filter::new(Terms::default()) })
        }
    }
}
