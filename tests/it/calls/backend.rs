//! A backend that is asked by HTTP, and does what a test says.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use serde_json::Value;

/// A call, as it came.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Value,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one == name).map(|(_, value)| &**value)
    }
}

/// What a backend does with a call.
pub(super) enum Does {
    /// Answers with JSON.
    Answers(Value),
    /// Answers with a status and a body.
    Says(u16, Vec<u8>),
    /// Hangs up.
    HangsUp,
}

type Behaviour = dyn Fn(&Asked) -> Does + Send + Sync;

/// A backend. It serves until it is dropped.
pub(super) struct Backend {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Backend {
    pub(super) fn start(behaviour: impl Fn(&Asked) -> Does + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"), behaviour)
    }

    pub(super) fn on(
        listener: TcpListener,
        behaviour: impl Fn(&Asked) -> Does + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let backend =
            Self { address, asked: Arc::default(), connections: Arc::default(), is_over: Arc::default() };
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (asked, connections) = (Arc::clone(&backend.asked), Arc::clone(&backend.connections));
        let is_over = Arc::clone(&backend.is_over);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                connections.fetch_add(1, Ordering::Relaxed);
                let (behaviour, asked) = (Arc::clone(&behaviour), Arc::clone(&asked));
                thread::spawn(move || serve(&stream, &*behaviour, &asked));
            }
        });
        backend
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every call that has come.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// How many connections were made to it.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Its listener sees that with the next connection.
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers the calls of one connection until it ends.
fn serve(stream: &TcpStream, behaviour: &Behaviour, all: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        all.lock().push(asked.clone());
        let (status, body) = match behaviour(&asked) {
            Does::Answers(json) => (200, json.to_string().into_bytes()),
            Does::Says(status, body) => (status, body),
            Does::HangsUp => return,
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut stream = stream;
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let header = |line: &String| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let headers: Vec<_> = lines[1..].iter().map(header).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().expect("a number"))];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { path, headers, body: serde_json::from_slice(&body).expect("JSON") })
}
