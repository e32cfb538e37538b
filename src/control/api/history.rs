//! `history` and `history_remove`: the history of a topic, as far as this node keeps it.

use serde::ser::{Error as _, SerializeMap as _, SerializeStruct as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::control::envelope::{Fault, Outcome, done};
use crate::control::state::AppState;
use crate::domain::asked::{HistoryPage, HistoryRange};
use crate::domain::client_info::ClientInfo;
use crate::domain::mail::{ControlReply, ReplyTo, Request};
use crate::domain::position::{Epoch, Since};
use crate::domain::publication::{Publication, Publications};
use crate::domain::reasons::ErrorCode;

use super::others::Others;
use super::publishing::confirmed;
use super::{topic, unknown_namespace};

/// The parameters of `history`.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a JSON object with `channel`")]
pub(super) struct HistoryParams {
    channel: String,
    /// At most this many publications. 0: none, only the position. Negative: as many as an answer may have.
    #[serde(default)]
    limit: i32,
    since: Option<SinceParams>,
    #[serde(default)]
    reverse: bool,
    #[serde(flatten)]
    others: Others,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object with `offset` and `epoch`")]
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
#[serde(expecting = "a JSON object with `channel`")]
pub(super) struct RemoveParams {
    channel: String,
    #[serde(flatten)]
    others: Others,
}

/// The result of `history`. Publications are serialized from their values, straight into the answer.
#[derive(Debug, Serialize)]
pub(super) struct HistoryResult {
    #[serde(serialize_with = "as_objects")]
    publications: Publications,
    #[serde(serialize_with = "as_text")]
    epoch: Epoch,
    offset: u64,
}

fn as_objects<S: Serializer>(publications: &Publications, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(publications.iter().map(Object))
}

/// A publication as the API shows it.
struct Object<'a>(Publication<'a>);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Publication { data, info, offset } = self.0;
        let mut object = serializer.serialize_struct("Publication", 2 + usize::from(info.is_some()))?;
        object.serialize_field("data", raw::<S>(data)?)?;
        if let Some(info) = info {
            object.serialize_field("info", &Client(info))?;
        }
        object.serialize_field("offset", &offset)?;
        object.end()
    }
}

/// The client that made a publication, as the API shows it: as in the client protocol.
struct Client<'a>(&'a ClientInfo);

impl Serialize for Client<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ClientInfo { user, client, conn_info, chan_info } = self.0;
        let mut object = serializer.serialize_map(None)?;
        if !user.is_empty() {
            object.serialize_entry("user", user)?;
        }
        object.serialize_entry("client", client)?;
        for (name, json) in [("conn_info", conn_info), ("chan_info", chan_info)] {
            if !json.is_empty() {
                object.serialize_entry(name, raw::<S>(json)?)?;
            }
        }
        object.end()
    }
}

/// JSON as it came.
fn raw<S: Serializer>(json: &[u8]) -> Result<&RawValue, S::Error> {
    serde_json::from_slice(json).map_err(S::Error::custom)
}

fn as_text<S: Serializer>(epoch: &Epoch, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(epoch)
}

/// Returns a part of a topic's history.
pub(super) async fn history(state: &AppState, params: HistoryParams) -> Outcome<HistoryResult> {
    params.others.refuse()?;
    params.since.as_ref().map_or(Ok(()), |since| since.others.refuse())?;
    let topic = topic(state, &params.channel)?;
    let (reply_to, answer) = ControlReply::new();
    let range = HistoryRange {
        limit: u32::try_from(params.limit).ok(),
        since: params.since.map(|SinceParams { epoch, offset, .. }| Since { epoch, offset }),
        reverse: params.reverse,
    };
    state.post(Request::ReadHistory { topic, range, reply_to }).await?;
    let page = timeout(state.config().timeouts.publish.0, answer).await;
    // No answer at all: the broker thread is going down, or hangs.
    let page = page.ok().and_then(Result::ok).unwrap_or(Err(ErrorCode::Internal));
    let HistoryPage { position, publications } = page.map_err(|code| refused(&params.channel, code))?;
    Ok(HistoryResult { publications, epoch: position.epoch, offset: position.offset })
}

/// Removes a topic's history on all nodes that read the same stream. Its offsets go on.
pub(super) async fn remove(state: &AppState, params: RemoveParams) -> Outcome {
    params.others.refuse()?;
    let topic = topic(state, &params.channel)?;
    let (reply_to, answer) = ReplyTo::control();
    state.post(Request::RemoveHistory { topic, reply_to }).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    #[test]
    fn publications_are_shown_with_their_data_as_it_came_and_with_their_client() {
        let client = ClientInfo { client: "c".into(), ..ClientInfo::default() };
        let (conn_info, chan_info) = (b"1e400"[..].into(), b"[ ]"[..].into());
        let user = Arc::new(ClientInfo { user: "u".into(), conn_info, chan_info, ..client.clone() });
        let mut publications = Publications::default();
        publications.push(&Publication { data: b"{\"n\" : 1e400}", info: None, offset: 7 });
        publications.push(&Publication { data: b"1", info: Some(&Arc::new(client)), offset: 8 });
        publications.push(&Publication { data: b"\"\\ud83d\"", info: Some(&user), offset: u64::MAX });
        let result = HistoryResult { publications, epoch: "e".into(), offset: 9 };
        let expected = concat!(
            r#"{"publications":[{"data":{"n" : 1e400},"offset":7},"#,
            r#"{"data":1,"info":{"client":"c"},"offset":8},"#,
            r#"{"data":"\ud83d","info":{"user":"u","client":"c","conn_info":1e400,"chan_info":[ ]},"#,
            r#""offset":18446744073709551615}],"epoch":"e","offset":9}"#
        );
        assert_eq!(serde_json::to_string(&result).unwrap(), expected);
    }
}
