//! A blocking HTTP/1.1 client of one request per connection, for the control port.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longest wait for an answer; a publish may take as long as RabbitMQ needs to come back.
const LIMIT: Duration = Duration::from_secs(120);

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// Such as 200.
    pub status: u16,
    /// Status line and header lines.
    pub head: String,
    /// The body as text.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in answer {self:?}"))
    }

    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

/// `GET path`.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Response> {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// `POST path` with a JSON body and further header lines, each `Name: value`.
pub fn post(address: SocketAddr, path: &str, headers: &[&str], body: &Value) -> io::Result<Response> {
    let body = body.to_string();
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    request(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        ),
    )
}

/// Sends `text` as it is and reads the answer to the connection's end.
pub fn request(address: SocketAddr, text: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
}

fn parse(answer: &str) -> io::Result<Response> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(invalid)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(invalid)?;
    Ok(Response { status, head: head.to_owned(), body: body.to_owned() })
}
