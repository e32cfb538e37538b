//! The floor: a non-blocking pinned loop, one `send` per socket. Nothing that writes one frame to each
//! client can cost less; what the engine costs above it is the engine's own.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// What every client is answered; it asks with the key of RFC 6455, section 1.3, for one topic.
const WELCOME: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\
    \x81\x2d{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{}}";

/// Serves `clients` clients from `cpu`: for each byte of standard input, `frame` goes to each of them.
pub(crate) fn run(cpu: usize, clients: usize, frame: &[u8]) -> Result<()> {
    assert!(core_affinity::set_for_current(core_affinity::CoreId { id: cpu }), "cannot pin to CPU {cpu}");
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("{}", listener.local_addr()?);
    let mut sockets: Vec<TcpStream> = (0..clients).map(|_| welcome(&listener)).collect::<Result<_>>()?;
    for poke in std::io::stdin().lock().bytes() {
        poke?;
        let mut behind: Vec<_> = sockets.iter_mut().map(|socket| (socket, 0)).collect();
        while !behind.is_empty() {
            behind.retain_mut(|(socket, sent)| {
                *sent += send(socket, &frame[*sent..]);
                *sent < frame.len()
            });
        }
    }
    Ok(())
}

fn welcome(listener: &TcpListener) -> Result<TcpStream> {
    let (mut socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    socket2::SockRef::from(&socket).set_tcp_notsent_lowat(16 << 10)?;
    let _request = socket.read(&mut [0; 4096])?;
    socket.write_all(WELCOME)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn send(socket: &mut TcpStream, bytes: &[u8]) -> usize {
    match socket.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        result => result.expect("no client goes away"),
    }
}
