//! The socket under a [`Feed`]: connects, passes frames in both directions, and says in plain words why it
//! ended.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fanfare::base::printable::{escaped, printable};
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message, WebSocket};
use url::Url;

use super::super::say;
use super::End;
use super::feed::{self, Feed};

/// How long connecting, the upgrade and the connect reply may take, each.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// One connection, from its beginning to its end.
pub(super) fn follow(url: &Url, feed: &mut Feed) -> End {
    let Err(end) = open(url).and_then(|mut socket| converse(&mut socket, feed));
    end
}

fn open(url: &Url) -> Result<WebSocket<TcpStream>, End> {
    let stream = dial(url).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => End::Retry(format!(
            "nothing listens at {url}: start `fanfare serve`, or name the endpoint with --url"
        )),
        _ => End::Retry(format!("{url} cannot be reached: {error}")),
    })?;
    tungstenite::client(url.as_str(), stream).map(|(socket, _)| socket).map_err(|error| match error {
        HandshakeError::Failure(error) => refused(url, &error),
        // A read that ran into its time limit looks like one that would block.
        HandshakeError::Interrupted(_) => End::Retry(format!("{url} does not answer")),
    })
}

fn dial(url: &Url) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in url.socket_addrs(|| None)? {
        match TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(CONNECT_LIMIT))?;
                stream.set_write_timeout(Some(CONNECT_LIMIT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn refused(url: &Url, error: &Error) -> End {
    match error {
        Error::Http(response) => {
            let status = response.status();
            let why = explanation(response.body().as_deref().unwrap_or_default());
            let text = format!("{url} refused the WebSocket: {status}{why}");
            match status.as_u16() {
                429 | 500..=599 => End::Retry(text),
                404 => {
                    let sign = if why.is_empty() { ':' } else { ';' };
                    End::Final(format!(
                        "{text}{sign} no endpoint has this path; the default is /connection/websocket"
                    ))
                }
                _ => End::Final(text),
            }
        }
        Error::Io(error) => End::Retry(format!("{url} broke the connection off: {error}")),
        error => End::Final(format!("what listens at {url} is no WebSocket endpoint: {error}")),
    }
}

/// The text of a refusal, after its status: of the control port's JSON, its message.
fn explanation(body: &[u8]) -> String {
    let body = body.trim_ascii();
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|json| json["error"]["message"].as_str()).map(str::as_bytes);
    let why = printable(message.unwrap_or(body), 300);
    let why = why.trim_end_matches('.');
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

/// Passes frames in both directions until an [`End`].
fn converse(socket: &mut WebSocket<TcpStream>, feed: &mut Feed) -> Result<Infallible, End> {
    send(socket, feed.opening(Instant::now()))?;
    loop {
        match socket.read() {
            Ok(Message::Text(frame)) => {
                let step = feed.take(&frame)?;
                step.notices.iter().for_each(say);
                print(&step.output)?;
                if !step.commands.is_empty() {
                    send(socket, step.commands)?;
                }
                if let Some(silence) = step.silence {
                    let set = socket.get_ref().set_read_timeout(Some(silence));
                    set.map_err(|error| End::Retry(error.to_string()))?;
                }
            }
            Ok(Message::Close(frame)) => return Err(closed(frame.as_ref())),
            Ok(_) => {}
            Err(error) => return Err(broken(&error)),
        }
    }
}

fn send(socket: &mut WebSocket<TcpStream>, commands: String) -> Result<(), End> {
    socket.send(Message::text(commands)).map_err(|error| broken(&error))
}

/// Prints at once what one frame contained.
fn print(lines: &str) -> Result<(), End> {
    let mut output = io::stdout().lock();
    output.write_all(lines.as_bytes()).and_then(|()| output.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => End::NoReader,
        _ => End::Final(format!("standard output cannot be written: {error}")),
    })
}

fn closed(frame: Option<&CloseFrame>) -> End {
    match frame {
        Some(frame) => {
            let code = u16::from(frame.code);
            feed::end(u32::from(code), &format!("closed by the engine: {} ({code})", escaped(&frame.reason)))
        }
        None => End::Retry("closed by the engine without a reason".to_owned()),
    }
}

fn broken(error: &Error) -> End {
    End::Retry(match error {
        Error::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            "nothing was heard from the engine, not even a ping".to_owned()
        }
        error => format!("the connection broke: {error}"),
    })
}
