//! The output of one connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody as _};
use axum::http::header;
use axum::response::Response;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

use super::answers::Answers;
use crate::control::page::add_headers;
use crate::control::places::Peer;

/// While so many bytes are not written, no request begins, and no large answer is added.
const OUTPUT_BYTES: usize = 64 << 10;

/// An answer of so many bytes is added at once, so that its request is over: those in flight have few of them.
const SMALL_ANSWER_BYTES: u64 = 4 << 10;

/// What is to be written.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// The rest of the latest answer.
    rest: Option<Body>,
    answers: Answers,
    /// The socket took nothing at the last attempt.
    is_blocked: bool,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), rest: None, answers: Answers::new(), is_blocked: false }
    }

    /// Reads the clock. All answers until the next call have the same date.
    pub(super) fn read_clock(&mut self) {
        self.answers.read_clock();
    }

    /// Whether another answer may be added.
    pub(super) fn has_room(&self) -> bool {
        self.rest.is_none()
    }

    /// Whether an answer has not been added to its end.
    pub(super) fn is_in_answer(&self) -> bool {
        self.rest.is_some()
    }

    /// Whether the socket has to take something before another request may begin.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_blocked || self.bytes.len() >= OUTPUT_BYTES
    }

    /// Adds the answer with this JSON to a request that was carried out.
    pub(super) fn succeed(&mut self, body: &[u8]) {
        self.answers.success(&mut self.bytes, body);
    }

    /// Adds an answer: as much as there is room for, and the rest by [`Self::pour`].
    pub(super) fn answer(&mut self, mut response: Response, cx: &mut Context<'_>) {
        add_headers(response.headers_mut());
        // Routers write it as well as `head`.
        response.headers_mut().remove(header::CONTENT_LENGTH);
        self.answers.head(&mut self.bytes, &response);
        self.rest = Some(response.into_body());
        self.pour(cx);
    }

    /// Adds the rest of an answer, as far as there is room.
    pub(super) fn pour(&mut self, cx: &mut Context<'_>) {
        while let Some(rest) = &mut self.rest
            && (self.bytes.len() < OUTPUT_BYTES || is_small(rest))
        {
            match Pin::new(rest).poll_frame(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(frame))) => {
                    self.bytes.extend_from_slice(frame.data_ref().map_or(&[], |bytes| bytes));
                }
                // No body of this port fails.
                Poll::Ready(Some(Err(_)) | None) => self.rest = None,
            }
        }
    }

    /// Writes. Returns whether the peer has taken all of it.
    pub(super) fn write(
        &mut self,
        socket: &mut TcpStream,
        peer: &Peer,
        cx: &mut Context<'_>,
    ) -> io::Result<bool> {
        let mut written = 0;
        while written < self.bytes.len() {
            match Pin::new(&mut *socket).poll_write(cx, &self.bytes[written..])? {
                Poll::Pending => {
                    self.is_blocked = true;
                    break;
                }
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => {
                    written += count;
                    if std::mem::take(&mut self.is_blocked) {
                        peer.connection.wrote();
                    }
                }
            }
        }
        self.bytes.drain(..written);
        Ok(self.bytes.is_empty())
    }
}

fn is_small(rest: &Body) -> bool {
    rest.size_hint().upper().is_some_and(|bytes| bytes <= SMALL_ANSWER_BYTES)
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker_ref;

    use super::*;

    /// A request whose answer waits for room would be in flight for as long as its peer takes nothing.
    #[test]
    fn small_answers_are_added_whatever_waits_and_large_ones_when_it_has_left() {
        let mut cx = Context::from_waker(noop_waker_ref());
        let mut output = Output::new();
        let answer = |bytes: usize| Response::new(Body::from(vec![b'1'; bytes]));
        output.answer(answer(OUTPUT_BYTES), &mut cx);
        assert!(output.is_stopped() && output.has_room());
        output.succeed(b"{}");
        output.answer(answer(4 << 10), &mut cx);
        assert!(output.has_room());
        output.answer(answer(5 << 10), &mut cx);
        assert!(output.is_in_answer() && !output.has_room());
        output.bytes.clear();
        output.pour(&mut cx);
        assert!(!output.is_in_answer() && output.bytes.len() == 5 << 10);
    }
}
