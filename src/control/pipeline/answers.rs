//! Answers of HTTP/1.1 as bytes.

use std::io::Write as _;
use std::time::SystemTime;

use axum::body::HttpBody as _;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use httpdate::HttpDate;

use crate::base::clock::UnixTime;
use crate::control::envelope::json;
use crate::control::page::add_headers;

/// Writes answers, each behind the one before.
#[derive(Debug)]
pub(super) struct Answers {
    /// The second that `date` says, after 1970.
    second: u64,
    /// The line of the date.
    date: Vec<u8>,
    /// The status line and the headers of an answer that succeeded, but for its date and its length.
    success: Vec<u8>,
}

impl Answers {
    pub(super) fn new() -> Self {
        let mut response = json(StatusCode::OK, &());
        add_headers(response.headers_mut());
        let mut success = Vec::new();
        write_status(&mut success, response.status(), response.headers());
        Self { second: 0, date: Vec::new(), success }
    }

    /// Reads the clock. All answers until the next call have the same date.
    pub(super) fn read_clock(&mut self) {
        let now = UnixTime::now();
        let second = now.as_secs();
        if second != self.second || self.date.is_empty() {
            self.second = second;
            self.date = format!("date: {}\r\n", HttpDate::from(SystemTime::from(now))).into_bytes();
        }
    }

    /// Appends the answer with this JSON to a request that was carried out.
    pub(super) fn success(&self, output: &mut Vec<u8>, body: &[u8]) {
        output.extend_from_slice(&self.success);
        output.extend_from_slice(&self.date);
        write_length(output, body.len() as u64);
        output.extend_from_slice(body);
    }

    /// Appends the head of this answer, whose body has to follow. Its length must be known.
    pub(super) fn head(&self, output: &mut Vec<u8>, response: &Response) {
        write_status(output, response.status(), response.headers());
        output.extend_from_slice(&self.date);
        write_length(output, response.body().size_hint().lower());
    }
}

fn write_status(output: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    let reason = status.canonical_reason().unwrap_or_default();
    extend(output, format_args!("HTTP/1.1 {} {reason}\r\n", status.as_str()));
    for (name, value) in headers {
        output.extend_from_slice(name.as_str().as_bytes());
        output.extend_from_slice(b": ");
        output.extend_from_slice(value.as_bytes());
        output.extend_from_slice(b"\r\n");
    }
}

fn write_length(output: &mut Vec<u8>, length: u64) {
    extend(output, format_args!("content-length: {length}\r\n\r\n"));
}

fn extend(output: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    output.write_fmt(text).expect("a vector takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_its_headers_a_date_and_a_length() {
        let mut answers = Answers::new();
        answers.read_clock();
        let mut output = Vec::new();
        answers.success(&mut output, br#"{"result":{}}"#);
        let text = String::from_utf8(output).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body == r#"{"result":{}}"#, "{text}");
        for field in [
            "content-type: application/json",
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            "content-length: 13",
        ] {
            assert!(head.lines().any(|line| line == field), "{field}: {head}");
        }
        assert!(head.lines().any(|line| line.starts_with("date: ") && line.ends_with(" GMT")), "{head}");
        let mut refused = Vec::new();
        let mut response = json(StatusCode::NOT_FOUND, &1);
        add_headers(response.headers_mut());
        answers.head(&mut refused, &response);
        assert!(
            refused.starts_with(b"HTTP/1.1 404 Not Found\r\ncontent-type: ")
                && refused.ends_with(b"\r\ncontent-length: 1\r\n\r\n")
        );
    }
}
