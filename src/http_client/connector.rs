//! Connections to the host of a URL, with TLS if the URL says so.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_compat::Compat;
use futures_rustls::TlsConnector;
use futures_rustls::pki_types::ServerName;
use futures_rustls::rustls::ClientConfig;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::{TcpStream, lookup_host};
use url::{Host, Url};

use super::error::RequestError;

/// What HTTP is spoken over.
pub(super) type Connection = Box<dyn Stream>;

/// A stream of bytes, with or without TLS.
pub(super) trait Stream: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Stream for T {}

/// Connects to one host.
pub(super) struct Connector {
    host: String,
    port: u16,
    /// With `https://`: TLS, and the name that the host's certificate must have.
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The look-up that is under way. Whoever connects meanwhile waits for the same one, and it goes on when nobody waits any
    /// more: a resolver that hangs occupies one thread for each host, however many connect.
    lookup: Mutex<Option<Lookup>>,
}

type Lookup = Shared<BoxFuture<'static, Result<Arc<[SocketAddr]>, Arc<io::Error>>>>;

impl Connector {
    /// For the host of a URL. Whoever asks an `https://` URL gives what TLS needs.
    ///
    /// # Errors
    /// With TLS: no certificate can have the host's name.
    pub(super) fn new(url: &Url, tls: Option<Arc<ClientConfig>>) -> Result<Self, RequestError> {
        let port = url.port_or_known_default().unwrap_or_default();
        let (host, name) = match url.host() {
            Some(Host::Domain(name)) => (name.to_owned(), ServerName::try_from(name.to_owned()).ok()),
            Some(Host::Ipv4(address)) => (address.to_string(), Some(ServerName::from(address))),
            Some(Host::Ipv6(address)) => (address.to_string(), Some(ServerName::from(address))),
            None => (String::new(), None),
        };
        let tls = match (tls, name) {
            (Some(tls), Some(name)) => Some((TlsConnector::from(tls), name)),
            (Some(_), None) => return Err(RequestError::HostName),
            (None, _) => None,
        };
        Ok(Self { host, port, tls, lookup: Mutex::new(None) })
    }

    /// A new connection. Must be called in a runtime of tokio.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn connect(&self) -> Result<Connection, RequestError> {
        let addresses = self.addresses().await.map_err(RequestError::Connect)?;
        let stream = TcpStream::connect(&*addresses).await.map_err(RequestError::Connect)?;
        // Else the end of a large request would wait for an acknowledgement. If it cannot be set, it is only slower.
        let _ = stream.set_nodelay(true);
        let Some((tls, name)) = &self.tls else { return Ok(Box::new(TokioIo::new(stream))) };
        let stream = tls.connect(name.clone(), Compat::new(stream)).await.map_err(RequestError::Tls)?;
        Ok(Box::new(TokioIo::new(Compat::new(stream))))
    }

    /// The host's addresses. They may change, so they are looked up for each connection.
    async fn addresses(&self) -> io::Result<Arc<[SocketAddr]>> {
        let lookup = self.lookup.lock().get_or_insert_with(|| self.look_up()).clone();
        let found = lookup.clone().await;
        let mut latest = self.lookup.lock();
        if latest.as_ref().is_some_and(|latest| latest.ptr_eq(&lookup)) {
            *latest = None;
        }
        found.map_err(|error| io::Error::new(error.kind(), error))
    }

    fn look_up(&self) -> Lookup {
        let place = (self.host.clone(), self.port);
        async move { Ok(lookup_host(place).await.map_err(Arc::new)?.collect()) }.boxed().shared()
    }
}
