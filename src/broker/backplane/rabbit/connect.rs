//! Opens one connection to RabbitMQ.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use lapin::{Connection, ConnectionProperties};
use parking_lot::Mutex;
use socket2::Socket;
use tokio::time::timeout;

use super::address::Address;
use super::amqp_filter::Terms;
use super::fault::{FaultKind, RabbitMqFault};
use super::transport;

/// Time limit from the first packet to a connection with TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Time limit from the first packet to AMQP's `open`.
const OPEN_LIMIT: Duration = Duration::from_secs(15);

/// Opens one connection. `is_careful`: see [`amqp_filter`](super::amqp_filter).
///
/// # Errors
/// What is wrong, and whether it may pass.
pub(super) async fn connect(
    address: &Address,
    name: &str,
    is_careful: bool,
) -> Result<Connection, RabbitMqFault> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let tls = address.tls().await?;
    let lifeline = Lifeline::default();
    let socket = Arc::clone(&lifeline.0);
    let terms = Terms::new(is_careful);
    let agreed = terms.clone();
    let opening = Connection::connector(
        address.uri.clone(),
        transport::runtime(),
        async move |uri, _| {
            let host = uri.authority.host.as_str();
            let connecting =
                transport::connect(host, uri.authority.port, tls.as_ref(), terms.clone(), &socket);
            let connected = timeout(CONNECT_LIMIT, connecting).await;
            Ok(connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?)
        },
        properties,
    );
    let opened = timeout(OPEN_LIMIT, opening).await;
    let opened = opened.map_err(|_| FaultKind::NoAnswer { node: address.to_string() })?;
    lifeline.release();
    let connection = opened.map_err(|error| RabbitMqFault::connecting(error, address))?;
    agreed.set_frame_max(connection.configuration().frame_max());
    Ok(connection)
}

/// A second handle of a socket, by which it is shut down if the attempt to speak AMQP over it is given up:
/// lapin's thread would wait for ever for a server that accepts and says nothing.
#[derive(Default)]
struct Lifeline(Arc<Mutex<Option<Socket>>>);

impl Lifeline {
    /// The connection is open: it is not shut down any more.
    fn release(self) {
        self.0.lock().take();
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if let Some(socket) = self.0.lock().take() {
            // It fails only if the peer has gone, which does as well.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
