//! Requests of the API by HTTP/1.1: publishes that a peer pipelines on one connection are carried out at the same time,
//! and answered in their order.
//!
//! hyper carries out one request of a connection at a time: each publish would wait for the one before it. Here, all
//! publishes that have arrived whole begin together. The broker thread is woken once for all of them, and the answers
//! leave in one write. Every other request may depend on publishes before it: it begins when all before it are
//! answered, and nothing else begins before it ends.
//!
//! Every connection begins here. The first request that is not a plain one of the API (`head`) passes the connection to
//! hyper for good, with the bytes that were read and not used: requests for pages and metrics, chunked or large bodies,
//! HTTP/2, and everything that is refused because of its head.
//!
//! A connection has at most [`API_PIPELINED_MAX`] publishes in flight, and [`INPUT_BYTES`] of input. Nothing is
//! read while the socket takes no answers. One poll reads [`READS`] times at most, so that connections take turns.

mod answers;
mod head;
mod input;
mod output;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use axum::response::Response;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until};

use super::api::pipelined::{Begun, Publishing, begin, count_late};
use super::api::{broken_off, late, too_large};
use super::envelope::{Fault, closing, late_preface, told_to_close, two_framings};
use super::places::{Answering, Peer};
use super::state::AppState;
use crate::config::memory::API_PIPELINED_MAX;
use crate::stats::ApiMethod;
use head::{Beginning, Heads, Refused, Shape};
use input::{INPUT_BYTES, Input};
use output::Output;

/// Reads of one poll.
const READS: usize = 4;

/// How a pipeline ends.
#[derive(Debug)]
pub(super) enum End {
    /// All is answered, and nothing more will be carried out.
    Over,
    /// The next request is left to hyper, with these bytes, which were read and not used.
    Foreign(Bytes),
}

/// A request in flight, until its answer is in the output.
#[derive(Debug)]
struct InFlight<'a> {
    _answering: Answering,
    stage: Stage<'a>,
}

#[derive(Debug)]
enum Stage<'a> {
    Publishing(Publishing<'a>),
    Answered(Response),
}

/// A request whose body came in parts.
#[derive(Debug)]
struct Half {
    answering: Answering,
    method: ApiMethod,
    begun: Instant,
    /// The body has come, and the request waits for those before it.
    has_come: bool,
}

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The requests of one connection.
pub(super) struct Pipeline<'a> {
    state: &'a AppState,
    router: &'a TowerToHyperService<Router>,
    peer: Peer,
    socket: &'a mut TcpStream,
    heads: Heads,
    input: Input,
    half: Option<Half>,
    /// In the order of the answers.
    in_flight: VecDeque<InFlight<'a>>,
    /// The latest publish waits for room in the broker thread's mailbox.
    sending: Option<Later<'a, Result<(), Fault>>>,
    /// A request that is carried out alone.
    alone: Option<Later<'a, Response>>,
    output: Output,
    /// Room for the body of one answer, before its length is known.
    body: Vec<u8>,
    /// Why nothing more is begun.
    ending: Option<Ending>,
    /// When the latest poll began.
    now: Instant,
    /// Fires when the earliest time limit is over, or earlier.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Over,
    Foreign,
}

impl<'a> Pipeline<'a> {
    /// Of a connection of which nothing has been read. `head_bytes`: what a head may have.
    pub(super) fn new(
        state: &'a AppState,
        router: &'a TowerToHyperService<Router>,
        peer: Peer,
        socket: &'a mut TcpStream,
        head_bytes: usize,
    ) -> Self {
        let heads = Heads::new(peer.address.ip(), head_bytes.min(INPUT_BYTES / 2));
        Self {
            state,
            router,
            peer,
            socket,
            heads,
            input: Input::default(),
            half: None,
            in_flight: VecDeque::new(),
            sending: None,
            alone: None,
            output: Output::new(),
            body: Vec::new(),
            ending: None,
            now: Instant::now(),
            timer: None,
        }
    }

    /// Carries out requests until the connection ends, or the next one is left to hyper. May be dropped between two
    /// polls, and called again.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) async fn run(&mut self) -> io::Result<End> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// One turn: takes the answers that are there, begins requests that have come, and writes once.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<End>> {
        self.now = Instant::now();
        self.output.read_clock();
        self.settle(cx);
        let mut reads = 0;
        self.begin_all();
        while reads < READS && self.may_read() && self.read(cx)? {
            reads += 1;
            self.begin_all();
        }
        // Only what has not come is late. After so many reads there may be more, and the next poll comes at once.
        if reads < READS {
            self.expire(cx);
        }
        // What was refused is answered already.
        let has_settled = self.settle(cx);
        // While output waited, nothing was begun: what has come is looked at once it is written.
        let was_stopped = self.output.is_stopped();
        let is_written = self.output.write(self.socket, &self.peer, cx)?;
        if let Some(ending) = self.ending
            && is_written
            && !self.is_answering()
        {
            return Poll::Ready(Ok(self.end(ending)));
        }
        if reads == READS || has_settled || was_stopped && is_written {
            cx.waker().wake_by_ref();
        }
        self.set_timer(cx);
        Poll::Pending
    }

    fn end(&mut self, ending: Ending) -> End {
        self.half = None;
        match ending {
            Ending::Over => End::Over,
            Ending::Foreign => End::Foreign(Bytes::copy_from_slice(self.input.unused())),
        }
    }

    fn is_answering(&self) -> bool {
        !self.in_flight.is_empty() || self.is_alone()
    }

    /// Whether something is under way during which nothing else begins.
    fn is_alone(&self) -> bool {
        self.alone.is_some() || self.output.is_in_answer() || self.sending.is_some()
    }

    fn may_begin(&self) -> bool {
        let has_room = self.in_flight.len() < API_PIPELINED_MAX && !self.output.is_stopped();
        has_room && !self.is_alone() && self.ending.is_none()
    }

    /// Whether more input is of use.
    fn may_read(&self) -> bool {
        self.may_begin() && !self.input.is_ended && !self.input.is_full()
    }

    /// Begins all requests that have come whole, and wakes the broker thread once for all of them.
    fn begin_all(&mut self) {
        let mut has_begun = false;
        while self.may_begin() && self.begin_next() {
            has_begun = true;
        }
        if has_begun {
            self.state.notify();
        }
    }

    /// Begins the next request, if it has come whole and need not wait for those before it.
    fn begin_next(&mut self) -> bool {
        let input = self.input.unused();
        let config = self.state.config();
        let beginning = self.heads.read(input, &config.control);
        let is_leaving = self.peer.connection.is_leaving();
        let shape = match beginning {
            Beginning::Foreign => {
                self.ending = Some(Ending::Foreign);
                return false;
            }
            Beginning::Partial => {
                if self.input.is_ended && !input.is_empty() && !is_leaving {
                    self.refuse(Refused::BrokenOff);
                } else if is_leaving || self.input.is_ended {
                    self.ending = Some(Ending::Over);
                }
                return false;
            }
            Beginning::Refused(refused) => {
                self.refuse(refused);
                return false;
            }
            Beginning::Head(shape) => shape,
        };
        if shape.request_bytes() > INPUT_BYTES || shape.body_bytes > config.control.body_bytes {
            self.ending = Some(Ending::Foreign);
            return false;
        }
        if input.len() < shape.request_bytes() {
            self.await_body(shape.method);
            return false;
        }
        if let Some(half) = &mut self.half {
            half.has_come = true;
        }
        if is_leaving {
            let (answering, _) = self.arrived();
            self.finish_with(answering, told_to_close());
            return false;
        }
        if shape.method != ApiMethod::Publish && !self.in_flight.is_empty() {
            return false;
        }
        self.begin(shape);
        true
    }

    /// A connection that has to go is given the time for the rest of a body by its owner.
    fn await_body(&mut self, method: ApiMethod) {
        if self.input.is_ended {
            let (answering, begun) = self.arrived();
            count_late(self.state, method, begun);
            self.finish_with(answering, broken_off("body"));
        } else if self.half.is_none() {
            let (answering, begun) = (self.peer.connection.began(false), self.now);
            self.half = Some(Half { answering, method, begun, has_come: false });
        }
    }

    /// Counts the next request as whole. Returns when it began as well.
    fn arrived(&mut self) -> (Answering, Instant) {
        match self.half.take() {
            Some(half) => (half.answering.completed(), half.begun),
            None => (self.peer.connection.began(true), self.now),
        }
    }

    fn begin(&mut self, shape: Shape) {
        let (answering, at) = self.arrived();
        self.peer.connection.trust();
        let body = &self.input.unused()[shape.head_bytes..shape.request_bytes()];
        if shape.method == ApiMethod::Publish {
            let begun = begin(self.state, shape.mode, at, body);
            self.input.take(shape.request_bytes());
            self.publishing(begun, answering);
            return;
        }
        let body = Body::from(body.to_vec());
        self.input.take(shape.request_bytes());
        let Some(parts) = self.heads.parts() else { return };
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(self.peer.clone());
        let answer = self.router.call(request);
        self.alone = Some(Box::pin(async move {
            let response = answer.await.unwrap_or_else(|never: Infallible| match never {});
            drop(answering);
            response
        }));
    }

    fn publishing(&mut self, begun: Begun<'a>, answering: Answering) {
        let stage = match begun {
            Begun::Refused(response) => Stage::Answered(response),
            Begun::Sent(publishing) => Stage::Publishing(publishing),
            Begun::Waits(publishing, request) => {
                let deadline = publishing.deadline();
                self.sending = Some(Box::pin(self.state.post_before(deadline, || request)));
                Stage::Publishing(publishing)
            }
        };
        self.in_flight.push_back(InFlight { _answering: answering, stage });
    }

    fn refuse(&mut self, refused: Refused) {
        let response = match refused {
            Refused::BrokenOff => broken_off("head"),
            Refused::LatePreface => late_preface(),
            Refused::TwoFramings => two_framings(),
            Refused::TooLarge => too_large(self.state.config().control.body_bytes),
        };
        let answering = self.peer.connection.began(true);
        self.finish_with(answering, response);
    }

    /// Answers a request that is not carried out, and nothing behind it.
    fn finish_with(&mut self, answering: Answering, response: Response) {
        let stage = Stage::Answered(closing(response));
        self.in_flight.push_back(InFlight { _answering: answering, stage });
        self.ending = Some(Ending::Over);
    }

    /// Moves the answers that are there to the output, as far as it has room. Returns whether there was one.
    fn settle(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_settled = self.go_on_sending(cx);
        self.output.pour(cx);
        while self.output.has_room() && self.settle_first(cx) {
            has_settled = true;
        }
        if let Some(alone) = &mut self.alone
            && let Poll::Ready(response) = alone.as_mut().poll(cx)
        {
            self.alone = None;
            self.output.answer(response, cx);
            has_settled = true;
        }
        has_settled
    }

    /// Returns whether the publish that waited for room does so no longer.
    fn go_on_sending(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(sending) = &mut self.sending else { return false };
        let Poll::Ready(sent) = sending.as_mut().poll(cx) else { return false };
        self.sending = None;
        if let Err(fault) = sent
            && let Some(last) = self.in_flight.back_mut()
            && let Stage::Publishing(publishing) = &last.stage
        {
            last.stage = Stage::Answered(publishing.fail(fault));
        }
        true
    }

    /// Moves the answer of the first request to the output, if it is there.
    fn settle_first(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(first) = self.in_flight.front_mut() else { return false };
        if let Stage::Publishing(publishing) = &mut first.stage {
            self.body.clear();
            match publishing.poll_answer(self.state, &mut self.body, cx) {
                Poll::Pending if publishing.answered_by() <= self.now => {
                    first.stage = Stage::Answered(publishing.give_up(self.state));
                }
                Poll::Pending => return false,
                Poll::Ready(Ok(())) => {
                    self.output.succeed(&self.body);
                    self.in_flight.pop_front();
                    return true;
                }
                Poll::Ready(Err(response)) => first.stage = Stage::Answered(response),
            }
        }
        if let Some(InFlight { stage: Stage::Answered(response), .. }) = self.in_flight.pop_front() {
            self.output.answer(response, cx);
        }
        true
    }

    /// Reads once. Returns whether something has come, or the end.
    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut buffer = ReadBuf::new(self.input.space());
        if Pin::new(&mut *self.socket).poll_read(cx, &mut buffer)?.is_pending() {
            return Ok(false);
        }
        let read = buffer.filled().len();
        self.input.came(read);
        if read == 0 {
            self.peer.connection.half_closed();
        }
        Ok(true)
    }

    /// Gives up a request whose body does not come.
    fn expire(&mut self, cx: &mut Context<'_>) {
        if self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready()) {
            self.timer = None;
        }
        self.peer.connection.set_reading(self.may_read());
        if self.body_due().is_some_and(|due| due <= self.now)
            && let Some(half) = self.half.take()
        {
            count_late(self.state, half.method, half.begun);
            self.finish_with(half.answering, late());
        }
    }

    /// Until when the body of a request may come that has begun.
    fn body_due(&self) -> Option<Instant> {
        let half = self.half.as_ref().filter(|half| !half.has_come)?;
        let limit = self.state.config().timeouts.upgrade.0;
        Some(self.peer.connection.body_due(half.begun.into(), limit).into())
    }

    /// Sets a timer for when a time limit is over.
    fn set_timer(&mut self, cx: &mut Context<'_>) {
        // Where its answer would have no room, the next poll comes when there is some.
        let first = self.in_flight.front().filter(|_| self.output.has_room());
        let answered_by = first.and_then(|first| match &first.stage {
            Stage::Publishing(publishing) => Some(publishing.answered_by()),
            Stage::Answered(_) => None,
        });
        // While nothing is read, no body is late.
        let body_due = self.body_due().filter(|_| self.may_read());
        let Some(due) = [answered_by, body_due].into_iter().flatten().min() else { return };
        let due = due.into();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // One that fires earlier is left: it would be moved for every request.
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests;
