//! Answers of the API: `{"result":{..}}` or `{"error":{"code":..,"message":".."}}`, as in Centrifugo's server
//! API, so that its clients understand them.

use std::fmt::Display;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::domain::reasons::ErrorCode;

/// The greatest length of an error's message, in characters.
const MESSAGE_CHARS: usize = 300;

/// What is said about a request that is not carried out because of the stop.
pub(super) const STOPPING: &str = "the engine is stopping, and has not done it; ask another one";

/// Why a request was not carried out: a code for programs, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    #[serde(serialize_with = "as_number")]
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl Fault {
    /// The code's own text, followed by what exactly was wrong.
    pub(super) fn new(code: ErrorCode, detail: impl Display) -> Self {
        let mut message = format!("{}: {detail}", code.text());
        // What is complained of may be as long as the request.
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        Self { code, message }
    }

    /// The same without a limit on the length: for what the operator's own files are complained of.
    pub(super) fn whole(code: ErrorCode, detail: impl Display) -> Self {
        Self { code, message: format!("{}: {detail}", code.text()) }
    }

    /// The caller's request is wrong.
    pub(super) fn bad(detail: impl Display) -> Self {
        Self::new(ErrorCode::BadRequest, detail)
    }
}

fn as_number<S: Serializer>(code: &ErrorCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(code.code())
}

/// The outcome of a request: its result, mostly as JSON already, or a fault.
pub(super) type Outcome<T = Box<RawValue>> = Result<T, Fault>;

/// The JSON of a result.
pub(super) fn result(value: &impl Serialize) -> Outcome {
    to_raw_value(value).map_err(|error| Fault::new(ErrorCode::Internal, error))
}

/// The empty result.
pub(super) fn done() -> Outcome {
    result(&serde_json::Map::new())
}

/// One envelope: an answer of its own, or one of a broadcast's `responses`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Envelope<T = Box<RawValue>> {
    Result(T),
    Error(Fault),
}

impl<T> From<Outcome<T>> for Envelope<T> {
    fn from(outcome: Outcome<T>) -> Self {
        outcome.map_or_else(Self::Error, Self::Result)
    }
}

/// Where an error is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorMode {
    /// In the envelope. The HTTP status is 200 whenever the API understood the request.
    Envelope,
    /// In the HTTP status, with the bare error object as the body.
    Transport,
}

impl ErrorMode {
    /// The mode that the header `X-Centrifugo-Error-Mode` names.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        match headers.get("x-centrifugo-error-mode") {
            Some(mode) if mode == "transport" => Self::Transport,
            _ => Self::Envelope,
        }
    }
}

/// The answer to a request that the API understood.
pub(super) fn respond<T: Serialize>(outcome: Outcome<T>, mode: ErrorMode) -> Response {
    match (outcome, mode) {
        (Err(fault), ErrorMode::Transport) => json(status_of(fault.code), &fault),
        (outcome, _) => json(StatusCode::OK, &Envelope::from(outcome)),
    }
}

/// The answer to a request that reached no method. The HTTP status is an error in both modes, and the body
/// has the API's form. `code` may be one that only this API has, such as 101.
pub(super) fn refuse(status: StatusCode, code: u16, message: &str) -> Response {
    json(status, &serde_json::json!({ "error": { "code": code, "message": message } }))
}

/// The answer to a request that may be sent again later. `why`: the reason.
pub(super) fn too_many(why: &str) -> Response {
    let text = format!("too many requests: {why}");
    refuse(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::TooManyRequests.code(), &text)
}

/// The answer to a request that came after its connection was told to close.
pub(super) fn told_to_close() -> Response {
    too_many("this connection was told to close; ask on another one")
}

/// The answer to a publish that came after the engine was told to stop.
pub(super) fn stopping() -> Response {
    too_many(STOPPING)
}

/// The answer to HTTP/2's preface behind a request of HTTP/1.1.
pub(super) fn late_preface() -> Response {
    let text =
        "bad request: this connection has spoken HTTP/1.1; speak HTTP/2 on another one, from its first byte";
    refuse(StatusCode::BAD_REQUEST, ErrorCode::BadRequest.code(), text)
}

/// The answer to a request whose end can be read in two ways.
pub(super) fn two_framings() -> Response {
    let text = "bad request: it has both Content-Length and Transfer-Encoding (RFC 9112, section 6.3)";
    refuse(StatusCode::BAD_REQUEST, ErrorCode::BadRequest.code(), text)
}

/// This answer, which says that the connection closes after it.
pub(super) fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// JSON with `status`, which must not be cached.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let (status, body) = match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The HTTP status of an error in transport mode: that of Centrifugo's table, and a matching one for the
/// three codes that are not in it (103, 106 and 111).
const fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::UnknownChannel | ErrorCode::MethodNotFound => StatusCode::NOT_FOUND,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorCode::LimitExceeded => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::UnrecoverablePosition => StatusCode::RANGE_NOT_SATISFIABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(envelope: &Envelope) -> String {
        serde_json::to_string(envelope).unwrap()
    }

    #[test]
    fn an_envelope_has_a_result_or_an_error() {
        assert_eq!(text(&Envelope::from(done())), r#"{"result":{}}"#);
        let fault = Fault::bad("no `channel`");
        let expected = r#"{"error":{"code":107,"message":"bad request: no `channel`"}}"#;
        assert_eq!(text(&Envelope::from(Outcome::Err(fault))), expected);
    }

    #[test]
    fn the_status_follows_the_mode() {
        let table = [
            (ErrorCode::Internal, 500),
            (ErrorCode::UnknownChannel, 404),
            (ErrorCode::MethodNotFound, 404),
            (ErrorCode::BadRequest, 400),
            (ErrorCode::NotAvailable, 400),
            (ErrorCode::PermissionDenied, 403),
            (ErrorCode::LimitExceeded, 413),
            (ErrorCode::TooManyRequests, 429),
            (ErrorCode::UnrecoverablePosition, 416),
        ];
        for (code, status) in table {
            let answer = |mode| respond(Outcome::<()>::Err(Fault::new(code, "x")), mode).status().as_u16();
            assert_eq!(
                (answer(ErrorMode::Envelope), answer(ErrorMode::Transport)),
                (200, status),
                "{code:?}"
            );
        }
    }

    #[test]
    fn only_the_word_transport_asks_for_statuses() {
        for (value, mode) in [
            (None, ErrorMode::Envelope),
            (Some("transport"), ErrorMode::Transport),
            (Some("any"), ErrorMode::Envelope),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert("X-Centrifugo-Error-Mode", value.parse().unwrap());
            }
            assert_eq!(ErrorMode::of(&headers), mode, "{value:?}");
        }
    }
}
