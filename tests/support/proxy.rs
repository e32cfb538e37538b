//! A TCP proxy between the engine and RabbitMQ that does what networks do: cuts connections, in the middle of a
//! frame if asked to, or falls silent while they stay open.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From whoever connected to the server.
    There,
    /// From the server back.
    Back,
}

/// Accepts on a port of its own and forwards to another one. Ends, with all connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    rules: Mutex<Rules>,
    /// Rung when the rules have changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Rules {
    /// Both ends of every connection since the last cut.
    streams: Vec<TcpStream>,
    held: Vec<Way>,
    /// Bytes that may still go there before everything is cut.
    cut_after: Option<usize>,
    has_ended: bool,
}

impl Proxy {
    /// Forwards to `target` on 127.0.0.1.
    ///
    /// # Panics
    /// If no port can be listened on.
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let accepting = thread::spawn(move || accept(&listener, target, &shared));
        Self { port, state, accepting: Some(accepting) }
    }

    /// `url` with the proxy's port in place of `port`, its target.
    pub fn instead_of(&self, port: u16, url: &str) -> String {
        url.replace(&format!(":{port}/"), &format!(":{}/", self.port))
    }

    /// Cuts all connections, at whatever byte they are. New ones are taken.
    pub fn cut(&self) {
        self.state.rules().cut();
    }

    /// Cuts all connections when so many bytes more have gone to the server, over all of them together.
    pub fn cut_after(&self, bytes: usize) {
        self.state.rules().cut_after = Some(bytes);
    }

    /// Whether the cut that was asked for last is still to come.
    pub fn is_to_cut(&self) -> bool {
        self.state.rules().cut_after.is_some()
    }

    /// Forwards nothing more this way. Connections stay open, and new ones are taken: nobody is told.
    pub fn hold(&self, way: Way) {
        self.state.rules().held.push(way);
    }

    /// Forwards everything again, what was held back included.
    pub fn resume(&self) {
        self.state.rules().held.clear();
        self.state.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut rules = self.state.rules();
        rules.has_ended = true;
        rules.held.clear();
        rules.cut();
        drop(rules);
        self.state.changed.notify_all();
        // Wakes the listener, which then sees that it has ended.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("the proxy does not panic");
        }
    }
}

impl State {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().expect("no holder panics")
    }

    /// Waits until bytes may go this way; returns how many of `len` may, and whether the cut comes then.
    fn allow(&self, way: Way, len: usize) -> (usize, bool) {
        let rules = self.rules();
        let mut rules =
            self.changed.wait_while(rules, |rules| rules.held.contains(&way)).expect("no holder panics");
        match (way, &mut rules.cut_after) {
            (Way::There, Some(left)) if *left <= len => (*left, true),
            (Way::There, Some(left)) => {
                *left -= len;
                (len, false)
            }
            _ => (len, false),
        }
    }
}

impl Rules {
    fn cut(&mut self) {
        self.cut_after = None;
        for stream in self.streams.drain(..) {
            // It fails only if the other side has gone, which is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, target: u16, state: &Arc<State>) {
    for client in listener.incoming().map_while(Result::ok) {
        let mut rules = state.rules();
        if rules.has_ended {
            return;
        }
        // A server that is away shows as a connection that is closed at once.
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
        for (from, to, way) in [(&client, &server, Way::There), (&server, &client, Way::Back)] {
            let (from, to) = (clone(from), clone(to));
            let state = Arc::clone(state);
            thread::spawn(move || forward(from, to, way, &state));
        }
        rules.streams.extend([client, server]);
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a descriptor")
}

fn forward(mut from: TcpStream, mut to: TcpStream, way: Way, state: &State) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let (len, is_last) = state.allow(way, len);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
        if is_last {
            state.rules().cut();
        }
    }
    for stream in [from, to] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}
