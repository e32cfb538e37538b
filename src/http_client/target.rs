//! A backend's URL, and the connections to it.

use std::error::Error as _;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, Uri};
use thiserror::Error;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::{Backend, HttpUrl, HttpUrlError, is_own_header};
use crate::domain::call::CallFault;

use super::connector::Connector;
use super::error::{AuthoritiesError, RequestError};
use super::pool::{Pool, Sender};
use super::{AGENT, HEAD_BYTES, authority, path, tls};

/// How long a connection is kept without a request.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Connections that take the rest of answers of no use at the same time, beside those of calls: their calls have ended, and
/// others have taken their places. A backend may keep them waiting. They are part of the descriptors that are kept for other
/// purposes.
const DRAINS_MAX: usize = 32;

/// Why a backend cannot be asked at all.
#[derive(Debug, Error)]
pub enum TargetError {
    /// Its URL cannot be asked.
    #[error("url {0}")]
    Url(HttpUrlError),
    /// The host's name cannot stand in a certificate.
    #[error("url: {0}")]
    Host(RequestError),
    /// There is no authority to trust.
    #[error("ca_file: {0}")]
    Authorities(#[from] AuthoritiesError),
}

/// A backend that is asked by HTTP: its URL, whom to trust, and the connections that are kept. Each is used for one request
/// at a time, and is closed when it was not used for 60 s.
pub struct HttpTarget {
    url: HttpUrl,
    path: Uri,
    host: HeaderValue,
    connector: Connector,
    pool: Arc<Pool>,
    /// Permits to take what is left of an answer that is of no use.
    drains: Semaphore,
    answer_bytes: usize,
}

impl HttpTarget {
    /// The target of a backend with a URL. As many connections are kept as it may be sent calls at the same time. Reads the
    /// file of authorities, and so blocks.
    ///
    /// # Errors
    /// What is wrong with its URL or its authorities.
    pub fn new(backend: &Backend) -> Result<Self, TargetError> {
        let url = backend.url.parse().map_err(TargetError::Url)?;
        let authorities = Some(Path::new(&backend.ca_file)).filter(|path| !path.as_os_str().is_empty());
        let tls = match url.scheme() {
            "https" => Some(Arc::new(tls::config(authorities)?)),
            _ => None,
        };
        Ok(Self {
            url: backend.url.clone(),
            path: path(&url).parse().expect("the path of a URL is one of HTTP"),
            host: authority(&url).parse().expect("the host of a URL is printable"),
            connector: Connector::new(&url, tls).map_err(TargetError::Host)?,
            pool: Pool::new(backend.concurrency, IDLE_MAX),
            drains: Semaphore::new(DRAINS_MAX),
            answer_bytes: backend.answer_bytes,
        })
    }

    /// Bytes of an answer, at most.
    pub(super) fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    /// Permission to take what is left of an answer whose call has ended. None: enough connections are busy with that.
    pub(super) fn drain(&self) -> Option<SemaphorePermit<'_>> {
        self.drains.try_acquire().ok()
    }

    /// Keeps a connection for another request.
    pub(super) fn keep(&self, sender: Sender) {
        self.pool.keep(sender);
    }

    /// A `POST` of JSON, without those of the headers that are the client's own ([`is_own_header`]).
    pub(super) fn request(&self, headers: &[(Box<str>, Box<[u8]>)], body: Vec<u8>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = self.headers(headers);
        request
    }

    fn headers(&self, given: &[(Box<str>, Box<[u8]>)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let header = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
            match header {
                (Ok(name), Ok(value)) if !is_own_header(name.as_str()) => _ = headers.append(name, value),
                (Ok(_), Ok(_)) => {}
                _ => debug_assert!(false, "checked: the header {name:?}"),
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        headers.insert(HOST, self.host.clone());
        headers
    }

    /// Sends a request once, and takes the head of the answer. A connection that was kept may have been closed by the other
    /// side: a request of which nothing was written goes over the next one, and at last over a new one.
    ///
    /// # Errors
    /// Why there is no answer. The request may have been carried out if it is [`CallFault::Lost`].
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Sender), CallFault> {
        while let Some(mut sender) = self.pool.take() {
            match sender.try_send_request(request).await {
                Ok(answer) => return Ok((answer, sender)),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(cut_off(&failed.into_error())),
                },
            }
        }
        let unreachable = |error: &dyn fmt::Display| CallFault::Unreachable(error.to_string().into());
        let mut sender = self.connect().await.map_err(|error| unreachable(&error))?;
        match sender.try_send_request(request).await {
            Ok(answer) => Ok((answer, sender)),
            Err(mut failed) => {
                let was_sent = failed.take_message().is_none();
                let error = failed.into_error();
                Err(if was_sent { cut_off(&error) } else { unreachable(&error) })
            }
        }
    }

    /// A new connection, which a task serves until nobody holds its end.
    pub(super) async fn connect(&self) -> Result<Sender, RequestError> {
        let stream = self.connector.connect().await?;
        let handshake = http1::Builder::new().max_buf_size(HEAD_BYTES).handshake(stream);
        let (sender, connection) = handshake.await.map_err(RequestError::Http)?;
        tokio::spawn(async move {
            // Why it has ended is told to the request that was under way.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

/// Why the answer to a request that was sent is not there as a whole.
pub(super) fn cut_off(error: &hyper::Error) -> CallFault {
    let words = error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    if error.is_parse() { CallFault::Unreadable(words.into()) } else { CallFault::Lost(words.into()) }
}

impl fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTarget").field("url", &self.url).finish_non_exhaustive()
    }
}
