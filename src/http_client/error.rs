//! Why there is no answer.

use std::path::PathBuf;
use std::time::Duration;

use futures_rustls::{pki_types, rustls};
use thiserror::Error;

use crate::config::HttpUrlError;

/// Why a request has no answer that can be used. It holds nothing of the URL but, in a redirect, another host.
#[derive(Debug, Error)]
pub enum RequestError {
    /// The URL cannot be asked.
    #[error("the URL {0}")]
    Url(HttpUrlError),
    /// The host cannot be found or connected to.
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    /// There is no connection in time.
    #[error("no connection within {0:?}")]
    NoConnection(Duration),
    /// The host's name cannot stand in a certificate.
    #[error("the host's name cannot be that of a certificate")]
    HostName,
    /// TLS failed: an authority that is not trusted, another host's certificate, or no TLS at all.
    #[error("no TLS: {0}")]
    Tls(std::io::Error),
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Unsendable(hyper::http::Error),
    /// The answer is not HTTP, or breaks off.
    #[error("no HTTP: {0}")]
    Http(hyper::Error),
    /// The answer is not there in time.
    #[error("no complete answer within {0:?}")]
    NoAnswer(Duration),
    /// The answer is somewhere else.
    #[error("it redirects{} (status {status}), and redirects are not followed: name the last URL", to_host(.to.as_deref()))]
    Redirect {
        /// The answer's status.
        status: u16,
        /// Scheme, host and port to which it points.
        to: Option<String>,
    },
    /// The answer has a status other than 200.
    #[error("it answers with status {0}")]
    Status(u16),
    /// The answer is too large.
    #[error("its answer has more than {0} bytes")]
    TooLarge(usize),
}

fn to_host(to: Option<&str>) -> String {
    to.map_or_else(String::new, |to| format!(" to {to}"))
}

/// Why there are no authorities to trust.
#[derive(Debug, Error)]
pub enum AuthoritiesError {
    /// The file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: std::io::Error,
    },
    /// The file is not in PEM.
    #[error("{} has a damaged certificate: {error}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: pki_types::pem::Error,
    },
    /// A certificate of the file cannot be used.
    #[error("{} has a certificate that cannot be used: {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: rustls::Error,
    },
    /// The file has no certificate.
    #[error("{} has no certificate: expected `-----BEGIN CERTIFICATE-----`", path.display())]
    None {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
}
