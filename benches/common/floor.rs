//! The floor: a non-blocking pinned loop, one `send` per socket. Nothing that writes one frame to each
//! client can cost less; what the engine costs above it is the engine's own. It runs in a process of its
//! own: the suite's program once more.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::options::SocketOptions;
use super::{Arguments, SERVER_CPU, pin};

/// What every client is answered; it asks with the key of RFC 6455, section 1.3, for one topic.
pub(crate) const WELCOME: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\
    \x81\x2d{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{}}";

/// Orders to a floor, which answers each with a line: one frame to each client, and how many nanoseconds that
/// took; frames until no client takes more, and how many bytes all of them took.
const PASS: u8 = b'.';
const FILL: u8 = b'f';

/// Clients that took nothing for so long are full: no delayed acknowledgement and no pacing takes longer.
const FULL_AFTER: Duration = Duration::from_millis(500);

/// A floor in its process.
pub(crate) struct Floor {
    helper: Helper,
    /// Passes that were begun and whose time was not read yet.
    passes_open: usize,
    last_pass: Duration,
}

impl Floor {
    /// A floor for `clients` clients whose frames carry `payload` bytes. Its sockets have the engine's options.
    pub(crate) fn start(clients: usize, payload: usize) -> Result<Self> {
        Self::start_with(&SocketOptions::default(), clients, payload)
    }

    /// The same with other options.
    pub(crate) fn start_with(options: &SocketOptions, clients: usize, payload: usize) -> Result<Self> {
        let options = serde_json::to_string(options)?;
        let helper = Helper::start(&["--floor", &clients.to_string(), &payload.to_string(), &options])?;
        Ok(Self { helper, passes_open: 0, last_pass: Duration::ZERO })
    }

    /// Where its clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.helper.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.helper.child.id()
    }

    /// Begins to send one frame to each client.
    pub(crate) fn poke(&mut self) -> Result<()> {
        self.last_pass()?;
        self.passes_open += 1;
        self.helper.tell(&[PASS])
    }

    /// Sends to clients that read nothing until none of them takes more: how many bytes they took together.
    pub(crate) fn fill(&mut self) -> Result<u64> {
        self.last_pass()?;
        self.helper.tell(&[FILL])?;
        self.helper.answer()?.parse().map_err(Error::other)
    }

    /// How long the latest pass over all clients took, once it is over.
    pub(crate) fn last_pass(&mut self) -> Result<Duration> {
        while self.passes_open > 0 {
            self.passes_open -= 1;
            let nanoseconds = self.helper.answer()?.parse().map_err(Error::other)?;
            self.last_pass = Duration::from_nanos(nanoseconds);
        }
        Ok(self.last_pass)
    }
}

/// A process of this program that serves clients, told what to do by lines or bytes.
pub(crate) struct Helper {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Where its clients connect: the first line it prints.
    pub(crate) address: SocketAddr,
}

impl Helper {
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().expect("piped");
        let mut answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let address = line.trim().parse().map_err(Error::other)?;
        Ok(Self { child, orders, answers, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn tell(&mut self, order: &[u8]) -> Result<()> {
        self.orders.write_all(order)
    }

    /// The next line it prints.
    pub(crate) fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err(Error::other(format!("a helper of the bench ended: {:?}", self.child.wait()?))),
            _ => Ok(line.trim().to_owned()),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the floor's process does, if the command line says that this is one.
pub(super) fn run_if_asked(arguments: &Arguments) -> Option<Result<()>> {
    let [clients, payload, options] = arguments.after("--floor")? else { return None };
    Some(run(clients, payload, options))
}

fn run(clients: &str, payload: &str, options: &str) -> Result<()> {
    pin(SERVER_CPU);
    let frame = frame(payload.parse().map_err(Error::other)?)?;
    let mut sockets =
        welcome_all_with(&serde_json::from_str(options)?, clients.parse().map_err(Error::other)?)?;
    for order in std::io::stdin().lock().bytes() {
        match order? {
            FILL => println!("{}", fill(&mut sockets, &frame)),
            _ => {
                let begin = Instant::now();
                send_to_all(&mut sockets, &frame);
                println!("{}", begin.elapsed().as_nanos());
            }
        }
    }
    Ok(())
}

/// A frame of text with `payload` bytes.
pub(crate) fn frame(payload: usize) -> Result<Vec<u8>> {
    let mut frame = vec![0x81];
    match u8::try_from(payload) {
        Ok(length) if length < 126 => frame.push(length),
        _ => {
            frame.push(126);
            frame.extend(u16::try_from(payload).map_err(Error::other)?.to_be_bytes());
        }
    }
    frame.resize(frame.len() + payload, b'x');
    Ok(frame)
}

/// Listens, says where, and answers so many clients, each of which subscribes to one topic. Their sockets
/// have the options that the engine gives to its own.
pub(crate) fn welcome_all(clients: usize) -> Result<Vec<TcpStream>> {
    welcome_all_with(&SocketOptions::default(), clients)
}

fn welcome_all_with(options: &SocketOptions, clients: usize) -> Result<Vec<TcpStream>> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    println!("{}", listener.local_addr()?);
    (0..clients).map(|_| welcome(&listener, options)).collect()
}

fn welcome(listener: &TcpListener, options: &SocketOptions) -> Result<TcpStream> {
    let (mut socket, _) = listener.accept()?;
    options.set_on(&socket)?;
    // A client sends its request and its commands in one piece.
    let _request = socket.read(&mut [0; 4096])?;
    socket.write_all(WELCOME)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn send_to_all(sockets: &mut [TcpStream], frame: &[u8]) {
    let mut behind: Vec<_> = sockets.iter_mut().map(|socket| (socket, 0)).collect();
    while !behind.is_empty() {
        behind.retain_mut(|(socket, sent)| {
            *sent += send(socket, &frame[*sent..]);
            *sent < frame.len()
        });
    }
}

/// Sends frames, or pieces of them, to clients that read nothing, until all are full; returns the bytes taken.
fn fill(sockets: &mut [TcpStream], frame: &[u8]) -> usize {
    let (mut taken, mut latest) = (0, Instant::now());
    while latest.elapsed() < FULL_AFTER {
        let more: usize = sockets.iter_mut().map(|socket| send(socket, frame)).sum();
        if more > 0 {
            (taken, latest) = (taken + more, Instant::now());
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    taken
}

/// Sends what the socket takes and returns how much that was.
pub(crate) fn send(socket: &mut TcpStream, bytes: &[u8]) -> usize {
    match socket.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        result => result.expect("no client goes away"),
    }
}
