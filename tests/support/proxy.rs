//! A TCP proxy that does what networks do: it cuts connections, at any byte, and lets them fall silent.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What is passed on at once.
const CHUNK: usize = 16 * 1024;
/// Longest wait for a server to take a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// A proxy before one or more servers: a connection goes to the next that takes it. It ends with the value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    servers: Vec<SocketAddr>,
    next: AtomicUsize,
    has_ended: AtomicBool,
    passages: Mutex<Vec<Arc<Passage>>>,
}

/// One connection and its other half.
#[derive(Debug)]
struct Passage {
    client: TcpStream,
    server: TcpStream,
    /// Bytes that may still pass, both ways together; then it is cut.
    rest: Mutex<Option<usize>>,
    /// Nothing passes any more, and nobody is told.
    is_silent: AtomicBool,
}

impl Proxy {
    /// A proxy on a port of its own.
    ///
    /// # Panics
    /// If there is none.
    pub fn start(servers: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            servers: servers.to_vec(),
            next: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
            passages: Mutex::default(),
        });
        let kept = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                if kept.has_ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&kept);
                thread::spawn(move || client.is_ok_and(|client| shared.connect(client).is_ok()));
            }
        });
        Self { address, shared }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every connection that is open now.
    pub fn cut(&self) {
        self.shared.each(Passage::cut);
    }

    /// Cuts every connection that is open now when `bytes` more have passed, wherever in a message that is.
    pub fn cut_after(&self, bytes: usize) {
        self.shared.each(|passage| *passage.rest.lock().expect("no holder panics") = Some(bytes));
    }

    /// Lets every connection that is open now fall silent, for good: both ends stay open.
    pub fn silence(&self) {
        self.shared.each(|passage| passage.is_silent.store(true, Ordering::SeqCst));
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.shared.passages.lock().expect("no holder panics").len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        self.shared.each(Passage::cut);
        // Wakes the thread that listens; it fails only if that has ended.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn each(&self, act: impl Fn(&Passage)) {
        self.passages.lock().expect("no holder panics").iter().for_each(|passage| act(passage));
    }

    fn connect(&self, client: TcpStream) -> io::Result<()> {
        let server = self.server()?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let passage =
            Arc::new(Passage { client, server, rest: Mutex::new(None), is_silent: AtomicBool::new(false) });
        self.passages.lock().expect("no holder panics").push(Arc::clone(&passage));
        let there = Arc::clone(&passage);
        let up = thread::spawn(move || there.pass(&there.client, &there.server));
        let _ = passage.pass(&passage.server, &passage.client);
        let _ = up.join();
        self.passages.lock().expect("no holder panics").retain(|other| !Arc::ptr_eq(other, &passage));
        Ok(())
    }

    /// A connection to the next server that takes one.
    fn server(&self) -> io::Result<TcpStream> {
        let count = self.servers.len();
        let first = self.next.fetch_add(1, Ordering::SeqCst);
        let connect = |step| TcpStream::connect_timeout(&self.servers[(first + step) % count], CONNECT_LIMIT);
        (0..count).find_map(|step| connect(step).ok()).ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }
}

impl Passage {
    /// Passes on what `from` sends, until one side ends or the rest has passed.
    fn pass(&self, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut chunk = [0; CHUNK];
        loop {
            let count = from.read(&mut chunk).unwrap_or(0);
            if self.is_silent.load(Ordering::SeqCst) {
                if count == 0 {
                    return Ok(());
                }
                continue;
            }
            let allowed = self.take(count);
            let is_passed = to.write_all(&chunk[..allowed]).is_ok();
            if count == 0 || allowed < count || !is_passed {
                self.cut();
                return Ok(());
            }
        }
    }

    /// How many of `count` bytes may pass.
    fn take(&self, count: usize) -> usize {
        let mut rest = self.rest.lock().expect("no holder panics");
        let allowed = rest.map_or(count, |rest| rest.min(count));
        *rest = rest.map(|rest| rest - allowed);
        allowed
    }

    fn cut(&self) {
        // Both fail only if the connection has ended.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}
