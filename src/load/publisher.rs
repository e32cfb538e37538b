//! Publishes through the control port: one connection, requests without waiting for the answers (pipelining,
//! RFC 9112, section 9.3.2), so that publications keep their order and their rate.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::lines::Topics;
use super::{LoadError, Plan, Shared};
use crate::base::printable::escaped;

/// Requests without an answer, at most. When so many wait, the engine is behind, and what is published next
/// counts as late.
const WINDOW: u64 = 512;

/// How long an answer may take: longer than the engine's own limit for a publish.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The answer to a publish has some 100 bytes; a longer one is not from the engine.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The longest sleep between two checks of what is due.
const NAP: Duration = Duration::from_micros(500);

/// A connection to a control port that accepts its requests.
#[derive(Debug)]
pub(super) struct Publisher {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
    /// The lines of every request's head except the first one and the length.
    head: String,
}

/// Why the engine did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum ApiRefusal {
    /// It wants an API key, and was shown none.
    #[error("it wants its API key: --api-key KEY, or FANFARE_CONTROL_API_KEY in the environment")]
    WantsKey,
    /// It was shown another API key.
    #[error("it refuses this API key: it is not what `control.api_key` is there")]
    WrongKey,
    /// An error of the API.
    #[error("{} (error {code})", escaped(.message))]
    Error {
        /// Its number.
        code: u32,
        /// Its text.
        message: String,
    },
    /// The status of an answer without an error of the API.
    #[error("{}", escaped(.0))]
    Status(String),
}

/// Why a question to the control port was not answered, or refused.
#[derive(Debug, Error)]
pub enum ControlError {
    /// It could not be sent.
    #[error("{0}")]
    Unsent(#[source] io::Error),
    /// No answer came, or none of Fanfare's.
    #[error("{}", broken(.0))]
    Unanswered(#[source] io::Error),
    /// The engine refused it.
    #[error(transparent)]
    Refused(#[from] ApiRefusal),
}

/// The result of publishing.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// How many publications the engine accepted.
    pub(super) taken: u64,
    /// How many were due in that time.
    pub(super) due: u64,
    /// How long that was.
    pub(super) lasted: Duration,
    /// Why the engine refused some, and how many.
    pub(super) refused: BTreeMap<String, u64>,
}

/// The API's answer: a result, or an error.
#[derive(Deserialize)]
struct ApiAnswer {
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    code: u32,
    message: String,
}

/// The state of writing and reading.
#[derive(Debug, Default)]
struct Pipeline {
    written: AtomicU64,
    answered: AtomicU64,
    /// Nothing more will be written.
    is_closed: AtomicBool,
    /// Nothing more will be answered.
    is_broken: AtomicBool,
}

impl Publisher {
    /// Connects, and checks that a Fanfare is there that lets it publish.
    pub(super) fn connect(plan: &Plan) -> Result<Self, LoadError> {
        let control = plan.control;
        let stream =
            TcpStream::connect_timeout(&control, ANSWER_LIMIT).map_err(|error| match error.kind() {
                ErrorKind::ConnectionRefused => LoadError::NoControlPort(control),
                _ => LoadError::ControlUnreachable { address: control, error },
            })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        let key =
            if plan.api_key.is_empty() { String::new() } else { format!("X-API-Key: {}\r\n", plan.api_key) };
        let head = format!("Host: {control}\r\nContent-Type: application/json\r\n{key}");
        let answers = BufReader::new(stream.try_clone()?);
        let mut publisher = Self { stream, answers, head };
        let asked = publisher.ask("info", "{}").map_err(|error| match error {
            ControlError::Refused(ApiRefusal::WantsKey) if !plan.api_key.is_empty() => {
                ApiRefusal::WrongKey.into()
            }
            error => error,
        });
        asked.map_err(|error| LoadError::Control { address: control, error })?;
        Ok(publisher)
    }

    /// One request and its answer.
    fn ask(&mut self, method: &str, body: &str) -> Result<(), ControlError> {
        let mut request = String::new();
        write_request(&mut request, method, &self.head, body);
        self.stream.write_all(request.as_bytes()).map_err(ControlError::Unsent)?;
        Ok(read_answer(&mut self.answers).map_err(ControlError::Unanswered)??)
    }

    /// Publishes for as long as the plan says, and waits for the answers.
    pub(super) fn run(self, plan: &Plan, topics: &Topics, shared: &Shared) -> Result<Published, LoadError> {
        let Self { mut stream, mut answers, head } = self;
        let pipeline = Pipeline::default();
        thread::scope(|scope| {
            let reader = scope.spawn(|| read_answers(&mut answers, &pipeline, plan.topics, shared));
            let written = write_requests(&mut stream, &pipeline, plan, topics, &head, shared);
            pipeline.is_closed.store(true, Ordering::Release);
            let mut published = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            published.lasted = written.unwrap_or_else(|error| {
                *published.refused.entry(broken(&error)).or_default() += 1;
                plan.length
            });
            published.due = due(plan, published.lasted);
            Ok(published)
        })
    }
}

/// How many publications are due after `time`.
fn due(plan: &Plan, time: Duration) -> u64 {
    u64::try_from(time.as_micros() * u128::from(plan.rate) / 1_000_000).unwrap_or(u64::MAX)
}

/// Writes each publication when it is due, all that are due at once. Returns how long it published, which is
/// less than planned if it was stopped.
fn write_requests(
    stream: &mut TcpStream,
    pipeline: &Pipeline,
    plan: &Plan,
    topics: &Topics,
    head: &str,
    shared: &Shared,
) -> io::Result<Duration> {
    let begin = shared.now();
    let (mut written, mut requests, mut body) = (0, String::new(), String::new());
    loop {
        let elapsed = Duration::from_micros(shared.now() - begin);
        let room = WINDOW - (written - pipeline.answered.load(Ordering::Acquire));
        let now_due = due(plan, elapsed.min(plan.length)).min(written + room);
        requests.clear();
        for number in written..now_due {
            let (topic, of_topic) = place(number, plan.topics);
            let time = begin + (number + 1) * 1_000_000 / u64::from(plan.rate);
            body.clear();
            body.push_str("{\"channel\":");
            body.push_str(&topics.quoted(topic));
            body.push_str(",\"data\":");
            Topics::write_data(&mut body, of_topic, time, plan.payload);
            body.push('}');
            write_request(&mut requests, "publish", head, &body);
        }
        // Before the bytes, so that no answer comes to what is not counted yet.
        written = now_due.max(written);
        pipeline.written.store(written, Ordering::Release);
        stream.write_all(requests.as_bytes())?;
        if elapsed >= plan.length || pipeline.is_broken.load(Ordering::Acquire) {
            return Ok(plan.length);
        }
        if shared.is_stopped() {
            return Ok(elapsed);
        }
        if requests.is_empty() {
            thread::sleep(NAP);
        }
    }
}

/// Topics take turns: the topic of the publication with this number (from 0), and its number there (from 1).
fn place(number: u64, topics: usize) -> (usize, u64) {
    let count = topics as u64;
    let topic = usize::try_from(number % count).expect("smaller than a usize");
    (topic, number / count + 1)
}

fn write_request(out: &mut String, method: &str, head: &str, body: &str) {
    out.push_str("POST /api/");
    out.push_str(method);
    out.push_str(" HTTP/1.1\r\n");
    out.push_str(head);
    out.push_str("Content-Length: ");
    out.push_str(&body.len().to_string());
    out.push_str("\r\n\r\n");
    out.push_str(body);
}

/// Reads answers, which come in the order of the requests, until no more will come.
fn read_answers(
    answers: &mut impl BufRead,
    pipeline: &Pipeline,
    topics: usize,
    shared: &Shared,
) -> Published {
    let mut published = Published::default();
    let mut answered = 0;
    loop {
        // In this order: what is written before the end is then seen.
        let is_closed = pipeline.is_closed.load(Ordering::Acquire);
        if answered == pipeline.written.load(Ordering::Acquire) {
            if is_closed {
                return published;
            }
            thread::sleep(NAP);
            continue;
        }
        match read_answer(answers) {
            Ok(Ok(())) => {
                let (topic, number) = place(answered, topics);
                shared.last[topic].store(number, Ordering::Relaxed);
                published.taken += 1;
            }
            Ok(Err(why)) => *published.refused.entry(why.to_string()).or_default() += 1,
            Err(error) => {
                pipeline.is_broken.store(true, Ordering::Release);
                let unanswered = pipeline.written.load(Ordering::Acquire) - answered;
                *published.refused.entry(broken(&error)).or_default() += unanswered;
                return published;
            }
        }
        answered += 1;
        pipeline.answered.store(answered, Ordering::Release);
    }
}

fn broken(error: &io::Error) -> String {
    match error.kind() {
        // A read that ran into its time limit looks like one that would block.
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "no answer in time".to_owned(),
        ErrorKind::InvalidData => error.to_string(),
        _ => format!("the connection broke: {error}"),
    }
}

/// The next answer: whether the engine did what was asked, and if not, why. Fails if it is not an answer.
fn read_answer(answers: &mut impl BufRead) -> io::Result<Result<(), ApiRefusal>> {
    let status = read_line(answers)?;
    let Some(status) = status.strip_prefix("HTTP/1.1 ") else { return Err(no_answer()) };
    let mut length = None;
    loop {
        let line = read_line(answers)?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok().filter(|&length| length <= ANSWER_BYTES_MAX);
        }
    }
    let mut body = vec![0; length.ok_or_else(no_answer)?];
    answers.read_exact(&mut body)?;
    Ok(accepted(status, &body))
}

fn read_line(answers: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    answers.take(ANSWER_BYTES_MAX as u64).read_line(&mut line)?;
    if line.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn no_answer() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "it does not speak HTTP as Fanfare's control port does")
}

/// Checks whether the answer reports success. The error says why not.
fn accepted(status: &str, body: &[u8]) -> Result<(), ApiRefusal> {
    if status.starts_with("401") {
        return Err(ApiRefusal::WantsKey);
    }
    match serde_json::from_slice(body) {
        Ok(ApiAnswer { error: Some(ApiError { code, message }) }) => Err(ApiRefusal::Error { code, message }),
        Ok(ApiAnswer { error: None }) if status.starts_with("200") => Ok(()),
        _ => Err(ApiRefusal::Status(status.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> io::Result<Result<(), ApiRefusal>> {
        read_answer(&mut BufReader::new(text.as_bytes()))
    }

    #[test]
    fn answers_are_understood() {
        let of = |status: &str, body: &str| {
            answer(&format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())).unwrap()
        };
        assert_eq!(of("200 OK", "{\"result\":{}}"), Ok(()));
        let refused = of("200 OK", "{\"error\":{\"code\":107,\"message\":\"bad\\u001b\"}}");
        assert_eq!(refused.unwrap_err().to_string(), "bad\\u{1b} (error 107)");
        assert_eq!(of("404 Not Found", ""), Err(ApiRefusal::Status("404 Not Found".to_owned())));
        assert!(of("401 Unauthorized", "").unwrap_err().to_string().contains("--api-key"));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in
            ["SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n"]
        {
            assert_eq!(answer(text).unwrap_err().kind(), ErrorKind::InvalidData, "{text}");
        }
        for text in ["", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}"] {
            assert_eq!(answer(text).unwrap_err().kind(), ErrorKind::UnexpectedEof, "{text}");
        }
    }

    #[test]
    fn topics_take_turns() {
        let places: Vec<(usize, u64)> = (0..5).map(|number| place(number, 2)).collect();
        assert_eq!(places, [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3)]);
    }
}
