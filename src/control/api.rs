//! The server API: `POST /api/METHOD` with a JSON body, in the shape of Centrifugo's (v5 and v6), so that
//! its API clients work. The content type is not looked at: `curl -d` sends another one.

mod clients;
mod history;
mod others;
mod publishing;
mod surveys;

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::desk::Desk;
use super::envelope::{ErrorMode, Fault, Outcome, refuse, respond};
use crate::config::memory::API_BODIES_BYTES;
use crate::mail::TopicName;
use crate::protocol::codes::ErrorCode;
use crate::protocol::topic;
use crate::stats::API_METHODS;

/// What operators can ask for, in the order of [`API_METHODS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Publish,
    Broadcast,
    Info,
    Channels,
    History,
    HistoryRemove,
    Disconnect,
    Unsubscribe,
    /// No method of this engine.
    Unknown,
}

impl Ask {
    const ALL: [Self; API_METHODS.len()] = [
        Self::Publish,
        Self::Broadcast,
        Self::Info,
        Self::Channels,
        Self::History,
        Self::HistoryRemove,
        Self::Disconnect,
        Self::Unsubscribe,
        Self::Unknown,
    ];

    fn named(method: &str) -> Self {
        let names = Self::ALL.into_iter().zip(API_METHODS);
        names.into_iter().find(|(_, name)| *name == method).map_or(Self::Unknown, |(ask, _)| ask)
    }
}

/// Answers one request of the API, and counts it.
pub(super) async fn answer(
    State(desk): State<Arc<Desk>>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    let (ask, begun) = (Ask::named(&method), Instant::now());
    let mode = ErrorMode::of(request.headers());
    let (response, is_done) = match outcome(&desk, ask, request).await {
        Ok(outcome) => {
            let is_done = outcome.is_ok();
            (respond(outcome, mode), is_done)
        }
        Err(refusal) => (refusal, false),
    };
    let counted = &desk.stats.control.methods[ask as usize];
    let counter = if is_done { &counted.done } else { &counted.failed };
    counter.add(1);
    counted.latency.observe(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX), 1);
    response
}

/// What becomes of a request, or the answer to what is none that the API understands.
async fn outcome(desk: &Desk, ask: Ask, request: Request) -> Result<Outcome, Response> {
    if request.method() != Method::POST {
        return Err(only_post());
    }
    let limits = &desk.config;
    let body = read(desk, request.into_body(), limits.control.body_bytes);
    let Ok(body) = timeout(limits.timeouts.upgrade.0, body).await else {
        return Err(refuse(
            StatusCode::REQUEST_TIMEOUT,
            107,
            "bad request: the body did not come in time, or found no room among others",
        ));
    };
    let body = body?;
    let outcome = carry_out(desk, ask, &body.bytes).await;
    match &outcome {
        Err(fault) if fault.code == ErrorCode::BadRequest => malformed(&body.bytes).map_or(Ok(outcome), Err),
        _ => Ok(outcome),
    }
}

async fn carry_out(desk: &Desk, ask: Ask, body: &[u8]) -> Outcome {
    match ask {
        Ask::Publish => publishing::publish(desk, parse(body)?).await,
        Ask::Broadcast => publishing::broadcast(desk, parse(body)?).await,
        Ask::Info => surveys::info(desk, &parse(body)?),
        Ask::Channels => surveys::channels(desk, parse(body)?).await,
        Ask::History => history::history(desk, parse(body)?).await,
        Ask::HistoryRemove => history::remove(desk, parse(body)?).await,
        Ask::Disconnect => clients::disconnect(desk, parse(body)?).await,
        Ask::Unsubscribe => clients::unsubscribe(desk, parse(body)?).await,
        Ask::Unknown => Err(unknown_method()),
    }
}

/// The topic of this name, if it can be one.
fn topic(desk: &Desk, name: &str) -> Result<TopicName, Fault> {
    let checked = topic::check(name, desk.config.limits.topic_bytes);
    checked.map(|()| name.into()).map_err(|error| Fault::bad(format_args!("`channel`: {error}")))
}

/// What is wrong with a topic whose namespace is not configured, where that is refused.
fn unknown_namespace(channel: &str) -> Fault {
    let text = "its namespace is not configured, and server.unknown_namespace is \"refuse\"";
    Fault::new(ErrorCode::UnknownChannel, format_args!("`{channel}`: {text}"))
}

/// The parameters in `body`. No body at all is as good as `{}`.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(Fault::bad)
}

/// The answer to a body that is no JSON at all. Asked only where something was refused: what is no JSON cannot be
/// carried out.
fn malformed(body: &[u8]) -> Option<Response> {
    let fault = parse::<IgnoredAny>(body).err()?;
    Some(refuse(StatusCode::BAD_REQUEST, fault.code.code(), &fault.message))
}

/// A body, and its share of what all bodies may take.
struct Whole<'a> {
    bytes: Bytes,
    _share: SemaphorePermit<'a>,
}

/// Reads a body, once there is room for it among the others that are in flight.
async fn read(desk: &Desk, body: Body, limit: usize) -> Result<Whole<'_>, Response> {
    let largest = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(limit);
    let share = u32::try_from(largest.min(limit)).unwrap_or(u32::MAX).min(API_BODIES_BYTES);
    let share = desk.bodies.acquire_many(share).await;
    let share =
        share.map_err(|_| refuse(StatusCode::SERVICE_UNAVAILABLE, 111, "the engine is going down"))?;
    let read = Limited::new(body, limit).collect().await;
    let bytes = read.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let text = format!("bad request: the body is larger than {limit} bytes (control.body_bytes)");
            refuse(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::BadRequest.code(), &text)
        } else {
            let text = format!("bad request: the body broke off: {error}");
            refuse(StatusCode::BAD_REQUEST, ErrorCode::BadRequest.code(), &text)
        }
    })?;
    Ok(Whole { bytes, _share: share })
}

/// An answer of the API, as Centrifugo gives it: so its clients raise the error that they have for this.
fn unknown_method() -> Fault {
    let (_, methods) = API_METHODS.split_last().unwrap_or((&"", &[]));
    Fault::new(ErrorCode::MethodNotFound, format_args!("there are {}", methods.join(", ")))
}

fn only_post() -> Response {
    let text = "bad request: send a POST with a JSON body";
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest.code(), text);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}
