//! The raw loop: it accepts, reads once, and answers with bytes that it has ready.

use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::common::floor::WELCOME;
use crate::common::options::SocketOptions;
use crate::common::{Arguments, SERVER_CPU, pin};

const LISTENER: Token = Token(usize::MAX);

/// What the raw loop's process does, if the command line says that this is one.
pub(crate) fn run_if_asked(arguments: &Arguments) -> Option<Result<()>> {
    let [] = arguments.after("--raw-loop")? else { return None };
    Some(run())
}

/// Serves clients until it is killed.
fn run() -> Result<()> {
    pin(SERVER_CPU);
    let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    SocketOptions::default().set_on(&listener)?;
    println!("{}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut events, mut clients) = (Events::with_capacity(1024), Clients::default());
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => clients.accept(&listener, &poll)?,
                Token(slot) if event.is_readable() => clients.read(slot)?,
                _ => {}
            }
        }
    }
}

/// Clients by their tokens.
#[derive(Default)]
struct Clients {
    sockets: Vec<Option<TcpStream>>,
    free: Vec<usize>,
}

impl Clients {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> Result<()> {
        loop {
            let mut socket = match listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                result => result?.0,
            };
            let slot = self.free.pop().unwrap_or_else(|| {
                self.sockets.push(None);
                self.sockets.len() - 1
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut socket, Token(slot), interest)?;
            self.sockets[slot] = Some(socket);
        }
    }

    /// Reads what has come, and answers it. A client sends its request and its commands in one piece.
    fn read(&mut self, slot: usize) -> Result<()> {
        let Some(socket) = &mut self.sockets[slot] else { return Ok(()) };
        match socket.read(&mut [0; 4096]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => {
                self.sockets[slot] = None;
                self.free.push(slot);
            }
            Ok(_) => socket.write_all(WELCOME)?,
        }
        Ok(())
    }
}
