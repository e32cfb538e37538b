//! The raw loop: pings to each client on a schedule, and whatever the clients answer is read.

use std::io::{Error, ErrorKind, Read, Result};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::common::floor::{send, welcome_all};
use crate::common::{Arguments, SERVER_CPU, pin};

/// The engine's ping: an empty JSON object as a frame of text.
const PING: &[u8] = b"\x81\x02{}";
/// How many clients' times come together: the engine's own, `shard/timer_wheel.rs`.
const GRAIN: Duration = Duration::from_millis(64);

/// What the raw loop's process does, if the command line says that this is one.
pub(crate) fn run_if_asked(arguments: &Arguments) -> Option<Result<()>> {
    let [clients, interval] = arguments.after("--raw-loop")? else { return None };
    Some(run(clients, interval))
}

/// Pings `clients` clients, each once in `interval` seconds. For each byte of standard input, prints how many
/// pings it has sent.
fn run(clients: &str, interval: &str) -> Result<()> {
    pin(SERVER_CPU);
    let interval = Duration::from_secs(interval.parse().map_err(Error::other)?);
    let mut sockets = welcome_all(clients.parse().map_err(Error::other)?)?;
    let mut poll = Poll::new()?;
    for (index, socket) in sockets.iter().enumerate() {
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(index), Interest::READABLE)?;
    }
    let pings = Arc::new(AtomicU64::new(0));
    answer_on_another_thread(Arc::clone(&pings));
    let buckets = buckets(sockets.len(), interval);
    let mut events = Events::with_capacity(1024);
    let mut due = Instant::now();
    for bucket in buckets.iter().cycle() {
        due += GRAIN;
        while let Some(rest) = due.checked_duration_since(Instant::now()) {
            match poll.poll(&mut events, Some(rest)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            events.iter().for_each(|event| read(&mut sockets[event.token().0]));
        }
        for &client in bucket {
            assert_eq!(send(&mut sockets[client], PING), PING.len(), "a ping always fits");
        }
        pings.store(pings.load(Ordering::Relaxed) + bucket.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Which clients are pinged together. As with the engine's, the first pings are spread over half of an
/// interval, and the other half has none.
fn buckets(clients: usize, interval: Duration) -> Vec<Vec<usize>> {
    let count = usize::try_from(interval.as_millis() / GRAIN.as_millis()).expect("small");
    let mut buckets = vec![Vec::new(); count];
    for client in 0..clients {
        // A prime, so that clients next to each other are not pinged together.
        buckets[client * 7919 % (count / 2)].push(client);
    }
    buckets
}

/// Reads what has come. When a client goes, the bench is over; if it is not, it misses our answers.
fn read(socket: &mut TcpStream) {
    match socket.read(&mut [0; 64]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Ok(0) | Err(_) => std::process::exit(0),
        Ok(_) => {}
    }
}

fn answer_on_another_thread(pings: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().bytes().map_while(Result::ok) {
            println!("{}", pings.load(Ordering::Relaxed));
        }
        // Whoever asked has gone.
        std::process::exit(0);
    });
}
