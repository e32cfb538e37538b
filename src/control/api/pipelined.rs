//! Publishes that are begun without waiting for those before them, as a connection does whose peer pipelines
//! requests (`control::pipeline`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::response::Response;
use tokio::sync::oneshot;

use crate::control::envelope::{Envelope, ErrorMode, Fault, Outcome, respond, stopping};
use crate::control::state::AppState;
use crate::domain::mail::{PublishOutcome, ReplyTo, Request};
use crate::domain::reasons::ErrorCode;
use crate::stats::ApiMethod;

use super::publishing::{ANSWER_GRACE, PublishResult, Single, fault_of, unconfirmed};
use super::{CountedRequest, malformed, parse};

/// A publish that the broker thread was asked for, or soon is.
#[derive(Debug)]
pub(in crate::control) struct Publishing<'a> {
    counting: CountedRequest<'a>,
    mode: ErrorMode,
    deadline: Instant,
    answer: oneshot::Receiver<PublishOutcome>,
}

/// What became of a publish at first.
#[derive(Debug)]
pub(in crate::control) enum Begun<'a> {
    /// It is refused.
    Refused(Response),
    /// It is in the broker thread's mailbox, which is to be notified.
    Sent(Publishing<'a>),
    /// There is no room for it in the mailbox at the moment.
    Waits(Publishing<'a>, Request),
}

/// Begins to carry out a request for a publish with this body, whose head came at `begun`.
pub(in crate::control) fn begin<'a>(
    state: &'a AppState,
    mode: ErrorMode,
    begun: Instant,
    body: &[u8],
) -> Begun<'a> {
    let mut counting = CountedRequest::begin(state, ApiMethod::Publish);
    counting.begun = begun;
    if state.is_stopping() {
        return Begun::Refused(stopping());
    }
    let single = match parse(body).and_then(|params| Single::new(state, params)) {
        Ok(single) => single,
        Err(fault) => {
            let malformed = if fault.code == ErrorCode::BadRequest { malformed(body) } else { None };
            return Begun::Refused(malformed.unwrap_or_else(|| refused(fault, mode)));
        }
    };
    let (reply_to, answer) = ReplyTo::control();
    let publishing = Publishing { counting, mode, deadline: state.deadline(), answer };
    match state.push(single.request(reply_to)) {
        Ok(()) => Begun::Sent(publishing),
        Err(request) => Begun::Waits(publishing, request),
    }
}

/// Counts a request that began at `begun` as failed: its body did not come, or not in time.
pub(in crate::control) fn count_late(state: &AppState, method: ApiMethod, begun: Instant) {
    let mut counting = CountedRequest::begin(state, method);
    counting.begun = begun;
}

impl Publishing<'_> {
    /// Until when it can be sent.
    pub(in crate::control) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// When it is answered at the latest.
    pub(in crate::control) fn answered_by(&self) -> Instant {
        self.deadline + ANSWER_GRACE
    }

    /// Appends the body of the answer to `body`, once there is one; or returns the whole answer to a publish that
    /// failed. Not to be called again after that.
    pub(in crate::control) fn poll_answer(
        &mut self,
        state: &AppState,
        body: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Response>> {
        let numbered = match ready!(Pin::new(&mut self.answer).poll(cx)) {
            Ok(Ok(numbered)) => numbered,
            Ok(Err(fault)) => return Poll::Ready(Err(refused(fault_of(state, fault), self.mode))),
            Err(_) => return Poll::Ready(Err(self.give_up(state))),
        };
        self.counting.outcome.is_done = true;
        let result = PublishResult::of(numbered.first().map(|(_, position)| position));
        let written = serde_json::to_writer(body, &Envelope::Result(result));
        Poll::Ready(written.map_err(|error| self.fail(Fault::new(ErrorCode::Internal, error))))
    }

    /// The answer if there is none in time.
    pub(in crate::control) fn give_up(&self, state: &AppState) -> Response {
        self.fail(unconfirmed(state))
    }

    /// The answer if it could not be sent.
    pub(in crate::control) fn fail(&self, fault: Fault) -> Response {
        refused(fault, self.mode)
    }
}

fn refused(fault: Fault, mode: ErrorMode) -> Response {
    respond(Outcome::<()>::Err(fault), mode)
}
