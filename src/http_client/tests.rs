//! Servers that do what they should not.

mod calls;
mod drains;
mod client;

use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use futures_rustls::pki_types::PrivateKeyDer;
use futures_rustls::rustls::crypto::aws_lc_rs;
use futures_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A server of one connection, on which `serve` says what it says.
fn server(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // What the client does not take is not the server's fault.
    thread::spawn(move || serve(listener.accept().unwrap().0));
    address
}

/// Takes the head of a request.
fn head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// An authority of our own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate in a file, while something is made of it.
    fn in_file<T>(&self, make: impl FnOnce(PathBuf) -> T) -> T {
        let name = format!("fanfare-authority-{}-{:p}.pem", std::process::id(), self);
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, self.0.pem()).unwrap();
        let made = make(path.clone());
        std::fs::remove_file(&path).unwrap();
        made
    }

    /// A server of one connection with a certificate for this name, which answers every request on it with `{}`.
    fn server(&self, name: &str) -> u16 {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        let address = server(move |stream| {
            let mut stream = StreamOwned::new(connection, stream);
            while !head(&mut stream).is_empty() {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
            }
        });
        address.port()
    }
}
