//! Single requests.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_rustls::rustls::ClientConfig;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response};
use tokio::time::timeout;
use url::Url;

use crate::config::HttpUrl;

use super::connector::{Connection, Connector};
use super::error::{AuthoritiesError, RequestError};
use super::{AGENT, HEAD_BYTES, authority, body, path, tls};

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
        let url = url.parse_genuine().map_err(RequestError::Url)?;
        let Limits { connect, whole, body_bytes } = self.limits;
        let exchange = async {
            let tls = (url.scheme() == "https").then(|| Arc::clone(&self.tls));
            let connector = Connector::new(&url, tls)?;
            let connecting = timeout(connect, connector.connect());
            let stream = connecting.await.map_err(|_| RequestError::NoConnection(connect))??;
            get(stream, &url, accept, body_bytes).await
        };
        timeout(whole, exchange).await.map_err(|_| RequestError::NoAnswer(whole))?
    }
}

/// Asks once, and takes the answer.
async fn get(
    stream: Connection,
    url: &Url,
    accept: &'static str,
    body_bytes: usize,
) -> Result<Vec<u8>, RequestError> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(stream).await.map_err(RequestError::Http)?;
    let request = request(url, accept)?;
    let exchange = pin!(async {
        let answer = sender.send_request(request).await.map_err(RequestError::Http)?;
        body(&mut check(answer, url)?, body_bytes).await
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
    Request::get(path(url))
        .header(HOST, authority(url))
        .header(USER_AGENT, AGENT)
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
