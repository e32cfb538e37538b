//! A client of HTTP/1.1 (RFC 9112) for the control thread's few requests to other programs: one connection for each
//! request, and every part of it bounded in time and in bytes.
//!
//! Redirects are not followed. Whoever configures a URL trusts that host alone, and an answer from elsewhere, or without
//! TLS, must not take its place. Compressed answers are not asked for.

mod error;
mod tls;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_compat::Compat;
use futures_rustls::TlsConnector;
use futures_rustls::pki_types::ServerName;
use futures_rustls::rustls::ClientConfig;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Host, Url};

use crate::config::HttpUrl;

pub use error::{AuthoritiesError, RequestError};

/// Bytes of an answer's head, at most.
const HEAD_BYTES: usize = 64 << 10;

/// What a request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until there is a connection, TLS included.
    pub connect: Duration,
    /// Until the answer is there as a whole, the connection included.
    pub whole: Duration,
    /// Bytes of the answer's body.
    pub body_bytes: usize,
}

/// Sends requests to the hosts that some authorities vouch for.
#[derive(Clone, Debug)]
pub struct Client {
    tls: Arc<ClientConfig>,
    limits: Limits,
}

impl Client {
    /// `authorities` is a file of certificates in PEM whose owners are trusted. `None`: those that this host trusts. Files
    /// are read here, and so this blocks.
    ///
    /// # Errors
    /// There is no authority to trust.
    pub fn new(authorities: Option<&Path>, limits: Limits) -> Result<Self, AuthoritiesError> {
        Ok(Self { tls: Arc::new(tls::config(authorities)?), limits })
    }

    /// The body of what is at a URL. `accept`: the media types that are understood. Must be called in a runtime of tokio.
    ///
    /// # Errors
    /// Why there is no answer, or none of status 200 within the limits.
    pub async fn get(&self, url: &HttpUrl, accept: &'static str) -> Result<Vec<u8>, RequestError> {
        let url = url.parse().map_err(RequestError::Url)?;
        let Limits { connect, whole, body_bytes } = self.limits;
        let exchange = async {
            let connecting = timeout(connect, self.connect(&url));
            match connecting.await.map_err(|_| RequestError::NoConnection(connect))?? {
                Connection::Plain(stream) => get(TokioIo::new(stream), &url, accept, body_bytes).await,
                Connection::Tls(stream) => get(TokioIo::new(stream), &url, accept, body_bytes).await,
            }
        };
        timeout(whole, exchange).await.map_err(|_| RequestError::NoAnswer(whole))?
    }

    async fn connect(&self, url: &Url) -> Result<Connection, RequestError> {
        let port = url.port_or_known_default().unwrap_or_default();
        let (host, name) = match url.host() {
            Some(Host::Domain(name)) => (name.to_owned(), ServerName::try_from(name.to_owned()).ok()),
            Some(Host::Ipv4(address)) => (address.to_string(), Some(ServerName::from(address))),
            Some(Host::Ipv6(address)) => (address.to_string(), Some(ServerName::from(address))),
            None => (String::new(), None),
        };
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(RequestError::Connect)?;
        if url.scheme() != "https" {
            return Ok(Connection::Plain(stream));
        }
        let name = name.ok_or(RequestError::HostName)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(name, Compat::new(stream)).await.map_err(RequestError::Tls)?;
        Ok(Connection::Tls(Box::new(Compat::new(stream))))
    }
}

enum Connection {
    Plain(TcpStream),
    Tls(Box<Compat<futures_rustls::client::TlsStream<Compat<TcpStream>>>>),
}

/// Asks once, and takes the answer.
async fn get(
    stream: impl Read + Write + Send + Unpin + 'static,
    url: &Url,
    accept: &'static str,
    body_bytes: usize,
) -> Result<Vec<u8>, RequestError> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(stream).await.map_err(RequestError::Http)?;
    let request = request(url, accept)?;
    let exchange = pin!(async {
        let answer = sender.send_request(request).await.map_err(RequestError::Http)?;
        body(check(answer, url)?, body_bytes).await
    });
    // The connection makes progress only while it is polled here, so nothing of it outlives the request.
    let mut exchange = exchange;
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // It has ended, and what it has read is still to be taken. An error is that of the exchange as well.
        _ = connection => exchange.await,
    }
}

fn request(url: &Url, accept: &'static str) -> Result<Request<Empty<Bytes>>, RequestError> {
    let host = url.host_str().unwrap_or_default();
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    Request::get(target)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("fanfare/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, accept)
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(RequestError::Unsendable)
}

/// Refuses every status but 200.
fn check(answer: Response<Incoming>, url: &Url) -> Result<Incoming, RequestError> {
    let status = answer.status();
    if status.is_redirection() {
        let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        // Its host alone: what follows may hold a key.
        let to =
            location.and_then(|location| url.join(location).ok()).map(|to| to.origin().ascii_serialization());
        return Err(RequestError::Redirect { status: status.as_u16(), to });
    }
    if status.as_u16() == 200 { Ok(answer.into_body()) } else { Err(RequestError::Status(status.as_u16())) }
}

/// Takes a body, of at most so many bytes.
async fn body(mut body: Incoming, most: usize) -> Result<Vec<u8>, RequestError> {
    if body.size_hint().lower() > most as u64 {
        return Err(RequestError::TooLarge(most));
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(RequestError::Http)?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > most {
            return Err(RequestError::TooLarge(most));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}
