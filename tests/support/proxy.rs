//! A TCP proxy between the engine and RabbitMQ, or between clients and engines, that does what networks do: cuts
//! connections, in the middle of a frame if asked to, or falls silent while they stay open.

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

/// Accepts on a port of its own and forwards to others. Ends, with all connections, when it is dropped.
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
    /// Bytes that may still go this way before everything is cut.
    cut_after: Option<(Way, usize)>,
    /// Connections that were ever taken.
    taken: u64,
    /// So many of those, the oldest, are silent for good.
    silent: u64,
    has_ended: bool,
}

impl Proxy {
    /// Forwards to `target` on 127.0.0.1.
    ///
    /// # Panics
    /// If no port can be listened on.
    pub fn to(target: u16) -> Self {
        Self::to_any(&[target])
    }

    /// Forwards each connection to the next of `targets` on 127.0.0.1 that takes it, in turns.
    ///
    /// # Panics
    /// If no port can be listened on.
    pub fn to_any(targets: &[u16]) -> Self {
        let targets = targets.to_vec();
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let accepting = thread::spawn(move || accept(&listener, &targets, &shared));
        Self { port, state, accepting: Some(accepting) }
    }

    /// Where it accepts.
    pub fn port(&self) -> u16 {
        self.port
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
        self.cut_after_going(Way::There, bytes);
    }

    /// The same with bytes that go this way.
    pub fn cut_after_going(&self, way: Way, bytes: usize) {
        self.state.rules().cut_after = Some((way, bytes));
    }

    /// Whether the cut that was asked for last is still to come.
    pub fn is_to_cut(&self) -> bool {
        self.state.rules().cut_after.is_some()
    }

    /// Forwards nothing more this way. Connections stay open, and new ones are taken: nobody is told.
    pub fn hold(&self, way: Way) {
        self.state.rules().held.push(way);
    }

    /// Forwards nothing more for the connections that are open now, either way and for good. Both ends stay open:
    /// nobody is told. New connections are as usual.
    pub fn silence(&self) {
        let mut rules = self.state.rules();
        rules.silent = rules.taken;
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
        match &mut rules.cut_after {
            Some((its, left)) if *its == way && *left <= len => (*left, true),
            Some((its, left)) if *its == way => {
                *left -= len;
                (len, false)
            }
            _ => (len, false),
        }
    }

    /// Whether this connection, by its number, is silent for good.
    fn is_silent(&self, number: u64) -> bool {
        number < self.rules().silent
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

fn accept(listener: &TcpListener, targets: &[u16], state: &Arc<State>) {
    let mut first = 0;
    for client in listener.incoming().map_while(Result::ok) {
        let mut rules = state.rules();
        if rules.has_ended {
            return;
        }
        first += 1;
        let turn = targets.iter().cycle().skip(first % targets.len()).take(targets.len());
        let server = turn.into_iter().find_map(|&target| TcpStream::connect(("127.0.0.1", target)).ok());
        // Servers that are away show as a connection that is closed at once.
        let Some(server) = server else { continue };
        let number = rules.taken;
        rules.taken += 1;
        for (from, to, way) in [(&client, &server, Way::There), (&server, &client, Way::Back)] {
            let (from, to) = (clone(from), clone(to));
            let state = Arc::clone(state);
            thread::spawn(move || forward(from, to, way, number, &state));
        }
        rules.streams.extend([client, server]);
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a descriptor")
}

fn forward(mut from: TcpStream, mut to: TcpStream, way: Way, number: u64, state: &State) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        if state.is_silent(number) {
            continue;
        }
        let (len, is_last) = state.allow(way, len);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
        if is_last {
            state.rules().cut();
        }
    }
    // What is silent does not say either that one side has gone.
    if !state.is_silent(number) {
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
