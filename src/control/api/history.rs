//! `history` and `history_remove`: the history of a topic, as far as this node keeps it.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::control::envelope::{Fault, Outcome, done, result};
use crate::control::state::AppState;
use crate::domain::mail::{Asker, Epoch, History, HistoryAsker, HistoryPage, Request, Since};
use crate::domain::reasons::ErrorCode;

use super::others::Others;
use super::publishing::confirmed;
use super::{topic, unknown_namespace};

/// The parameters of `history`.
#[derive(Debug, Deserialize)]
pub(super) struct HistoryParams {
    channel: String,
    /// At most this many publications. 0: none, only the position. Negative: all.
    #[serde(default)]
    limit: i32,
    since: Option<SinceParams>,
    #[serde(default)]
    reverse: bool,
    #[serde(flatten)]
    others: Others,
}

#[derive(Debug, Deserialize)]
struct SinceParams {
    #[serde(default)]
    epoch: Box<str>,
    #[serde(default)]
    offset: u64,
    #[serde(flatten)]
    others: Others,
}

/// The parameters of `history_remove`.
#[derive(Debug, Deserialize)]
pub(super) struct RemoveParams {
    channel: String,
    #[serde(flatten)]
    others: Others,
}

#[derive(Debug, Serialize)]
struct HistoryResult {
    publications: Box<RawValue>,
    #[serde(serialize_with = "as_text")]
    epoch: Epoch,
    offset: u64,
}

fn as_text<S: serde::Serializer>(epoch: &Epoch, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(epoch)
}

/// Returns a part of a topic's history.
pub(super) async fn history(state: &AppState, params: HistoryParams) -> Outcome {
    params.others.refuse()?;
    params.since.as_ref().map_or(Ok(()), |since| since.others.refuse())?;
    let topic = topic(state, &params.channel)?;
    let (asker, answer) = oneshot::channel();
    let question = History {
        asker: HistoryAsker::Control(asker),
        topic,
        limit: u32::try_from(params.limit).ok(),
        since: params.since.map(|SinceParams { epoch, offset, .. }| Since { epoch, offset }),
        reverse: params.reverse,
    };
    state.post(Request::History(Box::new(question))).await?;
    let page = timeout(state.config.timeouts.publish.0, answer).await;
    // No answer at all: the broker thread is going down, or hangs.
    let page = page.ok().and_then(Result::ok).unwrap_or(Err(ErrorCode::Internal));
    let HistoryPage { position, publications } = page.map_err(|code| refused(&params.channel, code))?;
    let text = [b"[", &*publications, b"]"].concat();
    let publications =
        serde_json::from_slice(&text).map_err(|error| Fault::new(ErrorCode::Internal, error))?;
    result(&HistoryResult { publications, epoch: position.epoch, offset: position.offset })
}

/// Removes a topic's history on all nodes that read the same stream. Its offsets go on.
pub(super) async fn remove(state: &AppState, params: RemoveParams) -> Outcome {
    params.others.refuse()?;
    let topic = topic(state, &params.channel)?;
    let (asker, answer) = oneshot::channel();
    state.post(Request::RemoveHistory { topic, asker: Asker::Control(asker) }).await?;
    match confirmed(state, answer).await {
        Ok(_) => done(),
        Err(Fault { code: code @ (ErrorCode::NotAvailable | ErrorCode::UnknownChannel), .. }) => {
            Err(refused(&params.channel, code))
        }
        Err(fault) => Err(fault),
    }
}

fn refused(channel: &str, code: ErrorCode) -> Fault {
    match code {
        ErrorCode::NotAvailable => Fault::new(
            code,
            format_args!("`{channel}`: its namespace keeps no history (history_size); see `config`"),
        ),
        ErrorCode::UnknownChannel => unknown_namespace(channel),
        ErrorCode::UnrecoverablePosition => {
            Fault::new(code, "`since` is of another epoch; leave it out to read from the start")
        }
        code => Fault { code, message: code.text().to_owned() },
    }
}
