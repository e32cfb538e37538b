//! The server API: `POST /api/METHOD` with a JSON body, in the shape of Centrifugo's (v5 and v6), so that
//! its API clients work. The content type is not looked at: `curl -d` sends another one.

mod clients;
mod history;
mod others;
pub(super) mod pipelined;
mod publishing;
mod reloading;
mod surveys;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Version, header};
use axum::response::Response;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Bytes, Frame};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::timeout_at;

use super::answers::{NO_ROOM, counted, room_for};
use super::envelope::{ErrorMode, Fault, Outcome, refuse, respond, stopping};
use super::places::Peer;
use super::room::{Revoked, Share};
use super::state::AppState;
use crate::base::not_json::NotJson;
use crate::domain::mail::TopicName;
use crate::domain::reasons::ErrorCode;
use crate::domain::topic;
use crate::stats::{ApiMethod, ApiOutcome, ControlStats};
use history::HistoryResult;

/// Approximate bytes of a topic in the answer of `channels`.
const CHANNEL_BYTES: usize = 64;

/// The method of this name.
pub(super) fn method_named(name: &str) -> ApiMethod {
    ApiMethod::ALL.into_iter().find(|method| method.name() == name).unwrap_or(ApiMethod::Unknown)
}

/// Counts a request when it is dropped: as failed, unless the request was carried out. The caller may be gone
/// before that.
#[derive(Debug)]
struct CountedRequest<'a> {
    stats: &'a ControlStats,
    outcome: ApiOutcome,
    begun: Instant,
}

impl<'a> CountedRequest<'a> {
    fn begin(state: &'a AppState, method: ApiMethod) -> Self {
        let outcome = ApiOutcome { method, is_done: false };
        Self { stats: &state.stats.control, outcome, begun: Instant::now() }
    }
}

impl Drop for CountedRequest<'_> {
    fn drop(&mut self) {
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stats.count(self.outcome, micros);
    }
}

/// Answers one request of the API, and counts it.
pub(super) async fn answer(
    State(state): State<Arc<AppState>>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    let method = method_named(&method);
    let mut counting = CountedRequest::begin(&state, method);
    let mode = ErrorMode::of(request.headers());
    let peer = request.extensions().get::<Peer>().cloned();
    match outcome(&state, method, request, peer.as_ref()).await {
        Ok((outcome, share)) => {
            counting.outcome.is_done = outcome.is_ok();
            counted(respond(outcome, mode), share, peer)
        }
        Err(refusal) => refusal,
    }
}

/// The outcome of a request, with room for its answer; or the response to one that the API does not
/// understand.
async fn outcome(
    state: &AppState,
    method: ApiMethod,
    request: Request,
    peer: Option<&Peer>,
) -> Result<(Outcome<Answer>, Share), Response> {
    if request.method() != Method::POST {
        return Err(only_post());
    }
    let config = state.config();
    let (waits, max) = (waits_for_a_word(&request), config.control.body_bytes);
    let body = read(state, request.into_body(), max, waits);
    let body = in_time(config.timeouts.upgrade.0, peer, body).await??;
    if state.is_stopping() && matches!(method, ApiMethod::Publish | ApiMethod::Broadcast) {
        return Err(stopping());
    }
    let expected = expected(state, method, body.bytes.len());
    let Some(share) = room_for(&state.answers, expected, peer).await else {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::TooManyRequests.code(), NO_ROOM));
    };
    let outcome = carry_out(state, method, &body.bytes).await;
    match &outcome {
        Err(fault) if fault.code == ErrorCode::BadRequest => malformed(&body.bytes).map_or(Ok(()), Err)?,
        _ => {}
    }
    Ok((outcome, share))
}

/// The greatest or approximate size of the answer to a request, in bytes.
fn expected(state: &AppState, method: ApiMethod, body_bytes: usize) -> usize {
    match method {
        // A result has the name of an epoch, and a name in the request at least four bytes.
        ApiMethod::Broadcast => body_bytes.saturating_mul(20).min(publishing::CHANNELS_MAX * 80),
        ApiMethod::History => state.config().limits.frame_bytes,
        ApiMethod::Channels => {
            let topics = usize::try_from(state.stats.broker.topics.value()).unwrap_or(usize::MAX);
            topics.saturating_mul(CHANNEL_BYTES)
        }
        ApiMethod::Publish
        | ApiMethod::Info
        | ApiMethod::HistoryRemove
        | ApiMethod::Disconnect
        | ApiMethod::Unsubscribe
        | ApiMethod::Reload
        | ApiMethod::Unknown => 0,
    }
}

/// The result of a request.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Small(Box<RawValue>),
    /// May be large, so that it becomes JSON no earlier than in the body of the response.
    History(HistoryResult),
}

async fn carry_out(state: &AppState, method: ApiMethod, body: &[u8]) -> Outcome<Answer> {
    let outcome = match method {
        ApiMethod::Publish => publishing::publish(state, parse(body)?).await,
        ApiMethod::Broadcast => publishing::broadcast(state, parse(body)?).await,
        ApiMethod::Info => surveys::info(state, &parse(body)?),
        ApiMethod::Channels => surveys::channels(state, parse(body)?).await,
        ApiMethod::History => return history::history(state, parse(body)?).await.map(Answer::History),
        ApiMethod::HistoryRemove => history::remove(state, parse(body)?).await,
        ApiMethod::Disconnect => clients::disconnect(state, parse(body)?).await,
        ApiMethod::Unsubscribe => clients::unsubscribe(state, parse(body)?).await,
        ApiMethod::Reload => reloading::reload_configuration(state, parse(body)?).await,
        ApiMethod::Unknown => Err(unknown_method()),
    };
    outcome.map(Answer::Small)
}

/// The topic of this name, if the name is valid.
fn topic(state: &AppState, name: &str) -> Result<TopicName, Fault> {
    let checked = topic::check(name, state.config().limits.topic_bytes);
    checked.map(|()| name.into()).map_err(|error| Fault::bad(format_args!("`channel`: {error}")))
}

/// The error for a topic whose namespace is not configured, if such topics are refused.
fn unknown_namespace(channel: &str) -> Fault {
    let text = "its namespace is not configured, and server.unknown_namespace is \"refuse\"";
    Fault::new(ErrorCode::UnknownChannel, format_args!("`{channel}`: {text}"))
}

/// The parameters in `body`. An empty body counts as `{}`.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

/// Says what is wrong with a body, in words for its author.
fn unreadable(error: &serde_json::Error) -> Fault {
    if !error.is_data() {
        return Fault::bad(format_args!("not JSON: {}", NotJson::from(error)));
    }
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let words = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    match column {
        // The body as a whole is of the wrong type.
        0 => Fault::bad(words),
        _ => Fault::bad(format_args!("{words} at line {line}, column {column}")),
    }
}

/// Whether an answer at the head of a request is read. A peer that does not wait for one writes its body first: an answer
/// before the end of the body is lost in a reset.
fn waits_for_a_word(request: &Request) -> bool {
    request.headers().contains_key(header::EXPECT) || request.version() == Version::HTTP_2
}

/// What `body` gives, or the answer that it is late. While nothing is read from the peer, the time does not run.
async fn in_time<T>(
    limit: Duration,
    peer: Option<&Peer>,
    body: impl Future<Output = T>,
) -> Result<T, Response> {
    let (mut body, begun) = (pin!(body), tokio::time::Instant::now());
    let due = || peer.map_or(begun + limit, |peer| peer.connection.body_due(begun, limit));
    while due() > tokio::time::Instant::now() {
        if let Ok(body) = timeout_at(due(), body.as_mut()).await {
            return Ok(body);
        }
    }
    Err(late())
}

/// The response to a body that is not JSON. Called only for a request that was refused, because a body that
/// is not JSON cannot be carried out.
fn malformed(body: &[u8]) -> Option<Response> {
    let fault = match std::str::from_utf8(body) {
        Err(error) => Fault::bad(format_args!("the body is not UTF-8: {error}")),
        Ok(_) => parse::<IgnoredAny>(body).err()?,
    };
    Some(refuse(StatusCode::BAD_REQUEST, fault.code.code(), &fault.message))
}

/// A body, and its share of the room for bodies.
struct Whole {
    bytes: Bytes,
    _share: Share,
}

/// Reads a body. If the peer `waits` for a word, one that is announced too large is refused at once. Only bytes that have
/// arrived take a share of the room for all bodies. Others that need the room may take that of an incomplete body.
async fn read(state: &AppState, body: Body, limit: usize, waits: bool) -> Result<Whole, Response> {
    if waits && body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let (mut body, mut share) = (Limited::new(body, limit), state.bodies.share());
    let first = next(&mut body, &share, limit).await?;
    if body.is_end_stream() {
        share.grow(first.len()).await.map_err(|Revoked| late())?;
        return Ok(Whole { bytes: first, _share: share });
    }
    let (mut bytes, mut frame) = (Vec::new(), first);
    while !frame.is_empty() {
        let needed = bytes.len() + frame.len();
        if needed > bytes.capacity() {
            let capacity = needed.max(2 * bytes.len()).min(limit.max(needed));
            share.grow(capacity - bytes.capacity()).await.map_err(|Revoked| late())?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&frame);
        share.offer(None);
        frame = next(&mut body, &share, limit).await?;
    }
    share.keep();
    Ok(Whole { bytes: bytes.into(), _share: share })
}

/// The next bytes of a body; `None` at its end.
async fn next(body: &mut Limited<Body>, share: &Share, limit: usize) -> Result<Bytes, Response> {
    loop {
        let frame = tokio::select! {
            biased;
            () = share.revoked() => return Err(late()),
            frame = body.frame() => frame,
        };
        let Some(frame) = frame else { return Ok(Bytes::new()) };
        match frame.map(Frame::into_data) {
            Ok(Ok(bytes)) if bytes.is_empty() => {}
            Ok(Ok(bytes)) => return Ok(bytes),
            // Trailers.
            Ok(Err(_)) => {}
            Err(error) if error.is::<LengthLimitError>() => return Err(too_large(limit)),
            Err(_) => return Err(broken_off("body")),
        }
    }
}

/// An answer of the API in Centrifugo's form, so that its clients raise the matching error.
fn unknown_method() -> Fault {
    let methods = ApiMethod::ALL.into_iter().filter(|method| *method != ApiMethod::Unknown);
    let names: Vec<_> = methods.map(ApiMethod::name).collect();
    Fault::new(ErrorCode::MethodNotFound, format_args!("there are {}", names.join(", ")))
}

pub(super) fn too_large(limit: usize) -> Response {
    let text = format!("bad request: the body is larger than {limit} bytes (control.body_bytes)");
    refuse(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::BadRequest.code(), &text)
}

/// `part`: of the request that has not come whole before the peer's end.
pub(super) fn broken_off(part: &str) -> Response {
    let text = format!("bad request: the {part} broke off");
    refuse(StatusCode::BAD_REQUEST, ErrorCode::BadRequest.code(), &text)
}

pub(super) fn late() -> Response {
    let text = "bad request: the body did not come in time (timeouts.upgrade), or others needed its room";
    refuse(StatusCode::REQUEST_TIMEOUT, ErrorCode::BadRequest.code(), text)
}

fn only_post() -> Response {
    let text = "bad request: send a POST with a JSON body";
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest.code(), text);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}
