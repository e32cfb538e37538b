//! The options of a raw loop's sockets: the engine's own, or others to compare them with.

use std::io::Result;
use std::os::fd::AsFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::SockRef;

/// What is set on each accepted socket; `None` leaves it to the kernel. The default is the engine's set,
/// `net/listener.rs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SocketOptions {
    /// `TCP_NODELAY`.
    pub(crate) nodelay: bool,
    /// `TCP_NOTSENT_LOWAT`, bytes.
    pub(crate) notsent_lowat: Option<u32>,
    /// `SO_INCOMING_CPU`.
    pub(crate) incoming_cpu: Option<usize>,
    /// `SO_SNDBUF`, bytes; the kernel doubles it and no longer adapts it to the path.
    pub(crate) send_buffer: Option<usize>,
    /// `TCP_USER_TIMEOUT`.
    pub(crate) user_timeout: Option<Duration>,
    /// `TCP_CONGESTION`, a name.
    pub(crate) congestion: Option<String>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            notsent_lowat: Some(16 << 10),
            incoming_cpu: None,
            send_buffer: None,
            user_timeout: None,
            congestion: None,
        }
    }
}

impl SocketOptions {
    /// Sets them on a socket, or on a listener for all that it will accept.
    pub(crate) fn set_on(&self, socket: &impl AsFd) -> Result<()> {
        let socket = SockRef::from(socket);
        socket.set_tcp_nodelay(self.nodelay)?;
        self.notsent_lowat.map_or(Ok(()), |bytes| socket.set_tcp_notsent_lowat(bytes))?;
        self.incoming_cpu.map_or(Ok(()), |cpu| socket.set_cpu_affinity(cpu))?;
        self.send_buffer.map_or(Ok(()), |bytes| socket.set_send_buffer_size(bytes))?;
        self.user_timeout.map_or(Ok(()), |limit| socket.set_tcp_user_timeout(Some(limit)))?;
        self.congestion.as_ref().map_or(Ok(()), |name| socket.set_tcp_congestion(name.as_bytes()))
    }
}
