//! A client that shows the bytes: the protocol by hand on tungstenite's WebSocket. SDKs parse what they get,
//! and a parsed number of 30 digits is not what was sent.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use tungstenite::client::IntoClientRequest as _;
use tungstenite::http::HeaderName;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

use super::wait::SOON;

/// A connected client that answers pings.
#[derive(Debug)]
pub struct RawClient {
    socket: WebSocket<TcpStream>,
    lines: VecDeque<String>,
    next_id: u32,
}

impl RawClient {
    /// Opens a WebSocket and connects in the protocol's sense.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::open(address);
        let reply = client.command(r#""connect":{}"#);
        let version = format!(r#""version":"{}""#, env!("CARGO_PKG_VERSION"));
        assert!(reply.contains(r#""client":"#) && reply.contains(&version), "connect: {reply}");
        client
    }

    /// Opens a WebSocket only.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::open_with(address, "", &[])
    }

    /// The same, by a request with this query and these further header lines.
    ///
    /// # Panics
    /// If that fails.
    #[track_caller]
    pub fn open_with(address: SocketAddr, query: &str, lines: &[String]) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(SOON)).expect("a timeout that is not zero");
        let url = format!("ws://{address}/connection/websocket{query}");
        let mut request = url.into_client_request().unwrap_or_else(|error| panic!("{query}: {error}"));
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header line");
            let name = HeaderName::try_from(name).expect("a header's name");
            request.headers_mut().insert(name, value.parse().expect("a header's value"));
        }
        let (socket, _) =
            tungstenite::client(request, stream).unwrap_or_else(|error| panic!("upgrade: {error}"));
        Self { socket, lines: VecDeque::new(), next_id: 1 }
    }

    /// Sends text as one frame.
    ///
    /// # Panics
    /// If the connection is gone.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap_or_else(|error| panic!("sending {text}: {error}"));
    }

    /// Sends a command, given without its id, such as `"subscribe":{...}`, and returns the line of its
    /// reply. Publications that come before it are kept.
    ///
    /// # Panics
    /// If no reply comes.
    #[track_caller]
    pub fn command(&mut self, body: &str) -> String {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&format!(r#"{{"id":{id},{body}}}"#));
        let start = format!(r#"{{"id":{id},"#);
        let mut before = VecDeque::new();
        let reply = loop {
            let line = self.line();
            if line.starts_with(&start) {
                break line;
            }
            before.push_back(line);
        };
        before.append(&mut self.lines);
        self.lines = before;
        reply
    }

    /// Subscribes.
    ///
    /// # Panics
    /// If the reply is an error.
    #[track_caller]
    pub fn subscribe(&mut self, topic: &str) {
        let topic = serde_json::Value::from(topic);
        let reply = self.command(&format!(r#""subscribe":{{"channel":{topic}}}"#));
        assert!(reply.contains(r#""subscribe":{"#), "subscribing to {topic}: {reply}");
    }

    /// The next line that is no ping.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.try_line().unwrap_or_else(|error| panic!("no line came: {error}"))
    }

    /// The bytes of the next publication's data, as they came; lines that are no publication are an error.
    ///
    /// # Panics
    /// If something else comes, or nothing.
    #[track_caller]
    pub fn publication(&mut self, topic: &str) -> String {
        let line = self.line();
        data_of(&line, topic).unwrap_or_else(|| panic!("no publication of {topic}: {line}")).to_owned()
    }

    /// Waits for the server's close frame and answers it.
    ///
    /// # Panics
    /// If the connection ends without one.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        let deadline = Instant::now() + SOON;
        loop {
            assert!(Instant::now() < deadline, "no close frame came");
            match self.socket.read() {
                Ok(Message::Close(Some(CloseFrame { code, reason }))) => {
                    return (code.into(), reason.to_string());
                }
                Ok(_) => {}
                Err(error) => panic!("the connection ended without a close frame: {error}"),
            }
        }
    }

    /// Whether nothing comes for this long, pings aside.
    ///
    /// # Panics
    /// If the connection breaks.
    #[track_caller]
    pub fn is_silent_for(&mut self, length: Duration) -> bool {
        self.socket.get_ref().set_read_timeout(Some(length)).expect("a timeout that is not zero");
        let answer = self.try_line();
        self.socket.get_ref().set_read_timeout(Some(SOON)).expect("a timeout that is not zero");
        match answer {
            Ok(line) => {
                self.lines.push_front(line);
                false
            }
            Err(Error::Io(_)) => true,
            Err(error) => panic!("the connection broke: {error}"),
        }
    }

    fn try_line(&mut self) -> Result<String, Error> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(line);
            }
            let message = self.socket.read()?;
            for line in message.to_text()?.split('\n').filter(|line| !line.is_empty()) {
                if line == "{}" {
                    self.socket.send(Message::text("{}"))?;
                } else {
                    self.lines.push_back(line.to_owned());
                }
            }
        }
    }
}

/// The bytes of `data` in the line of a publication of `topic`.
fn data_of<'a>(line: &'a str, topic: &str) -> Option<&'a str> {
    let line: Line<'a> = serde_json::from_str(line).ok()?;
    (line.push.channel == topic).then(|| line.push.publication.data.get())
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    push: Push<'a>,
}

#[derive(Deserialize)]
struct Push<'a> {
    channel: String,
    #[serde(borrow, rename = "pub")]
    publication: Publication<'a>,
}

#[derive(Deserialize)]
struct Publication<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Where a subscriber stands in a topic with history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which numbering of the topic's publications it is.
    pub epoch: String,
    /// The number of the last publication that it has.
    pub offset: u64,
}

impl Position {
    /// What the `subscribe` of a reply says.
    ///
    /// # Panics
    /// If it says nothing of it.
    #[track_caller]
    pub fn of(subscribed: &serde_json::Value) -> Self {
        let epoch = subscribed["epoch"].as_str().unwrap_or_else(|| panic!("no epoch: {subscribed}"));
        Self { epoch: epoch.to_owned(), offset: subscribed["offset"].as_u64().unwrap_or(0) }
    }
}
