//! The server API: `POST /api/METHOD` with a JSON body, in the shape of Centrifugo's (v5 and v6), so that
//! its API clients work. The content type is not looked at: `curl -d` sends another one.

mod clients;
mod history;
mod publishing;
mod surveys;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Bytes;
use serde::Deserialize;
use tokio::time::timeout;

use super::desk::Desk;
use super::envelope::{ErrorMode, Fault, Outcome, refuse, respond};
use crate::mail::TopicName;
use crate::protocol::codes::ErrorCode;
use crate::protocol::topic;

/// What operators can ask for.
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
}

impl Ask {
    fn named(method: &str) -> Option<Self> {
        Some(match method {
            "publish" => Self::Publish,
            "broadcast" => Self::Broadcast,
            "info" => Self::Info,
            "channels" => Self::Channels,
            "history" => Self::History,
            "history_remove" => Self::HistoryRemove,
            "disconnect" => Self::Disconnect,
            "unsubscribe" => Self::Unsubscribe,
            _ => return None,
        })
    }
}

/// Answers one request of the API.
pub(super) async fn answer(
    State(desk): State<Arc<Desk>>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    let Some(ask) = Ask::named(&method) else { return unknown_method() };
    if request.method() != Method::POST {
        return only_post();
    }
    let mode = ErrorMode::of(request.headers());
    let limits = &desk.config;
    let body = read(request.into_body(), limits.control.body_bytes);
    let body = match timeout(limits.timeouts.upgrade.0, body).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => return refusal,
        Err(_) => {
            return refuse(StatusCode::REQUEST_TIMEOUT, 107, "bad request: the body did not come in time");
        }
    };
    respond(carry_out(&desk, ask, &body).await, mode)
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
    }
}

/// The topic of this name, if it can be one.
fn topic(desk: &Desk, name: &str) -> Result<TopicName, Fault> {
    let checked = topic::check(name, desk.config.limits.topic_bytes);
    checked.map(|()| name.into()).map_err(|error| Fault::bad(format_args!("`channel`: {error}")))
}

/// The parameters in `body`. No body at all is as good as `{}`.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Fault> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(Fault::bad)
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Response> {
    Limited::new(body, limit).collect().await.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let text = format!("bad request: the body is larger than {limit} bytes (control.body_bytes)");
            refuse(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::BadRequest.code(), &text)
        } else {
            let text = format!("bad request: the body broke off: {error}");
            refuse(StatusCode::BAD_REQUEST, ErrorCode::BadRequest.code(), &text)
        }
    })
}

fn unknown_method() -> Response {
    let text = "method not found: there are publish, broadcast, info, channels, history, history_remove, \
                disconnect and unsubscribe";
    refuse(StatusCode::NOT_FOUND, ErrorCode::MethodNotFound.code(), text)
}

fn only_post() -> Response {
    let text = "bad request: send a POST with a JSON body";
    let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::BadRequest.code(), text);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}
