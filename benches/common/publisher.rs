//! Publishing through the server API over kept connections: one after the other, pipelined, or at even
//! intervals whatever becomes of the publications before.

use std::io::{BufRead, BufReader, Error, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::LIMIT;
use super::latency::{Clock, nanoseconds};

/// One kept connection, made when there is something to send: the engine closes one that is silent at first.
#[derive(Debug)]
pub(crate) struct Publisher {
    address: SocketAddr,
    answers: Option<BufReader<TcpStream>>,
}

impl Publisher {
    /// For an engine's control port, which must be there.
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        TcpStream::connect(address)?;
        Ok(Self { address, answers: None })
    }

    fn connection(&mut self) -> Result<&mut BufReader<TcpStream>> {
        let answers = match self.answers.take() {
            Some(answers) => answers,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(LIMIT))?;
                BufReader::new(stream)
            }
        };
        Ok(self.answers.insert(answers))
    }

    /// A request for one publication; `data` is JSON.
    pub(crate) fn request(&self, topic: &str, data: &str) -> Vec<u8> {
        request_to(self.address, "", topic, data)
    }

    /// Sends requests that belong together in one piece, and waits for all their answers.
    pub(crate) fn publish(&mut self, requests: &[u8], count: usize) -> Result<()> {
        self.send(requests)?;
        self.read_answers(count)
    }

    /// Sends requests; their answers have to be read.
    pub(crate) fn send(&mut self, requests: &[u8]) -> Result<()> {
        self.connection()?.get_mut().write_all(requests)
    }

    /// Reads so many answers, each of which must be a success.
    pub(crate) fn read_answers(&mut self, count: usize) -> Result<()> {
        let answers = self.connection()?;
        (0..count).try_for_each(|_| read_answer(answers))
    }
}

/// A request for one publication to the engine whose control port this is; `data` is JSON. `fields` are further
/// lines of its head.
pub(crate) fn request_to(control: SocketAddr, fields: &str, topic: &str, data: &str) -> Vec<u8> {
    let body = format!(r#"{{"channel":"{topic}","data":{data}}}"#);
    format!(
        "POST /api/publish HTTP/1.1\r\nHost: {control}\r\n{fields}Content-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Reads one HTTP answer, which must be a success.
fn read_answer(answers: &mut impl BufRead) -> Result<()> {
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        if answers.read_line(&mut head)? == 0 {
            return Err(Error::other("the engine closed the connection of the publisher"));
        }
        let line = head[start..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(Error::other)?;
        }
    }
    let mut body = vec![0; length];
    answers.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body);
    let is_success = head.starts_with("HTTP/1.1 200 ") && body.contains("result");
    if is_success { Ok(()) } else { Err(Error::other(format!("publishing was answered {head}{body}"))) }
}

/// When publications are due: the first one at `first`, then one in each `interval`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) clock: Clock,
    /// In nanoseconds of the clock.
    pub(crate) first: u64,
    pub(crate) interval: Duration,
    pub(crate) count: u64,
}

impl Pace {
    /// One publication in each `interval` for that `length`, but at least one, from a moment from now on.
    pub(crate) fn every(clock: Clock, interval: Duration, length: Duration) -> Self {
        const AHEAD: u64 = 100_000_000;
        let count = length.as_nanos() / interval.as_nanos();
        let count = u64::try_from(count).expect("nobody waits for that many").max(1);
        Self { clock, first: clock.now() + AHEAD, interval, count }
    }

    /// When the publication of this number is due.
    pub(crate) fn due(self, number: u64) -> u64 {
        self.first + nanoseconds(self.interval) * number
    }
}

/// Publishes on a thread of its own at the times that `pace` says. `publication_of` names topic and data for
/// a number and the time it is due at. Publications that are due together leave together; nothing waits for
/// answers.
pub(crate) fn publish_evenly(
    control: SocketAddr,
    pace: Pace,
    mut publication_of: impl FnMut(u64, u64) -> (String, String) + Send + 'static,
) -> Result<JoinHandle<Result<()>>> {
    let mut publisher = Publisher::connect(control)?;
    let mut answers = BufReader::new(publisher.connection()?.get_ref().try_clone()?);
    let reader = std::thread::spawn(move || (0..pace.count).try_for_each(|_| read_answer(&mut answers)));
    Ok(std::thread::spawn(move || {
        let (mut number, mut requests) = (0, Vec::new());
        while number < pace.count {
            pace.clock.sleep_until(pace.due(number));
            let now = pace.clock.now();
            requests.clear();
            while number < pace.count && pace.due(number) <= now {
                let (topic, data) = publication_of(number, pace.due(number));
                requests.extend(publisher.request(&topic, &data));
                number += 1;
            }
            publisher.send(&requests)?;
        }
        reader.join().expect("it does not panic")
    }))
}

/// Waits for a publisher's end.
pub(crate) fn ended(publisher: JoinHandle<Result<()>>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !publisher.is_finished() {
        assert!(Instant::now() < deadline, "the publisher has not got all its answers");
        std::thread::sleep(Duration::from_millis(1));
    }
    publisher.join().expect("it does not panic")
}

/// Data, a string, that make a line of `line_bytes`, its line break included.
pub(crate) fn plain_data(topic: &str, line_bytes: usize) -> String {
    fill(topic, line_bytes, "\"", "\"")
}

/// Data that carry a number, such as the time at which they are due, in a line of `line_bytes`. Longer, if
/// that is too little.
pub(crate) fn numbered_data(topic: &str, number: u64, line_bytes: usize) -> String {
    fill(topic, line_bytes, &format!(r#"{{"n":{number},"fill":""#), "\"}")
}

fn fill(topic: &str, line_bytes: usize, start: &str, end: &str) -> String {
    let around = format!(r#"{{"push":{{"channel":"{topic}","pub":{{"data":{start}{end}}}}}}}"#).len() + 1;
    format!("{start}{}{end}", "x".repeat(line_bytes.saturating_sub(around)))
}
