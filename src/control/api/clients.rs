//! `disconnect` and `unsubscribe`. The engine knows clients only by their ids. Requests that name a user are
//! refused until there are identities.

use serde::Deserialize;

use crate::base::printable::printable;
use crate::control::envelope::{Fault, Outcome, done};
use crate::control::state::AppState;
use crate::domain::client_id::{ClientId, IdError};
use crate::domain::mail::{ClientKey, Request, ShardId};
use crate::domain::reasons::{CLOSE_TEXT_BYTES, CloseReason, Closing, ClosingError};

use super::others::Others;

/// The parameters of `disconnect`.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a JSON object with `client`")]
pub(super) struct DisconnectParams {
    #[serde(default)]
    user: String,
    #[serde(default)]
    client: String,
    #[serde(default)]
    disconnect: CloseParams,
    #[serde(flatten)]
    others: Others,
}

/// The code and the text of a close.
#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object with `code` and `reason`")]
struct CloseParams {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    reason: String,
    #[serde(flatten)]
    others: Others,
}

/// The parameters of `unsubscribe`.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a JSON object with `channel`")]
pub(super) struct UnsubscribeParams {
    #[serde(default)]
    user: String,
    channel: String,
    #[serde(default)]
    client: String,
    #[serde(flatten)]
    others: Others,
}

/// Closes one client. Like Centrifugo, it does not say whether the client was still connected.
pub(super) async fn disconnect(state: &AppState, params: DisconnectParams) -> Outcome {
    nobody_by_name(&params.user, params.others)?;
    let closing = closing(params.disconnect)?;
    if params.client.is_empty() {
        return Err(Fault::bad(
            "`client` is missing: name the id that the client got in its connect reply; to disconnect all clients of \
             a `user` is not offered",
        ));
    }
    let (shard, client) = client(state, &params.client)?;
    state.post(Request::Disconnect { shard, client, closing }).await?;
    done()
}

/// Ends the subscription of one client, or of all clients.
pub(super) async fn unsubscribe(state: &AppState, params: UnsubscribeParams) -> Outcome {
    nobody_by_name(&params.user, params.others)?;
    if params.channel.is_empty() {
        return Err(Fault::bad("`channel` is empty"));
    }
    let client = if params.client.is_empty() { None } else { Some(client(state, &params.client)?) };
    state.post(Request::Unsubscribe { client, topic: params.channel.into() }).await?;
    done()
}

/// Refuses to pick clients by something that this engine does not know about them.
fn nobody_by_name(user: &str, mut others: Others) -> Result<(), Fault> {
    if !user.is_empty() {
        return Err(Fault::bad("`user` must be \"\": to unsubscribe all clients of a user is not offered"));
    }
    if others.take("session") {
        return Err(Fault::bad("`session` is for other transports: name the `client`"));
    }
    others.refuse()
}

/// The place of the client with this id.
fn client(state: &AppState, id: &str) -> Result<(ShardId, ClientKey), Fault> {
    let parsed = ClientId::parse(id, state.node)
        .map_err(|error| Fault::bad(format_args!("`client` {error}: {}", printable(id.as_bytes(), 40))))?;
    if usize::from(parsed.shard) >= state.stats.shards.len() {
        // Deciphered to a place that this node does not have: nobody was given it.
        return Err(Fault::bad(format_args!("`client` {}", IdError::Malformed)));
    }
    Ok((parsed.shard, parsed.key))
}

/// How the client is closed: with a reason of the protocol, or with a code of the application (3000 to 4999;
/// codes below are WebSocket's own).
fn closing(wanted: CloseParams) -> Result<Closing, Fault> {
    let CloseParams { code, reason, others } = wanted;
    others.refuse()?;
    if code == 0 && reason.is_empty() {
        return Ok(Closing::Known(CloseReason::ForceDisconnect));
    }
    Closing::with(code.into(), &reason).map_err(|error| match error {
        ClosingError::Code(code) => Fault::bad(format_args!(
            "`disconnect.code` {code} may not be sent: from 3000 to 4999; clients stay away on 3500 to 3999 and 4500 \
             to 4999, and come back on the others"
        )),
        ClosingError::Text(bytes) => Fault::bad(format_args!(
            "`disconnect.reason` has {bytes} bytes: a close frame has room for {CLOSE_TEXT_BYTES}"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_pick_a_reason_or_bring_one() {
        let pick = |code, reason: &str| {
            closing(CloseParams { code, reason: reason.to_owned(), others: Others::default() })
                .map_err(|fault| fault.code.code())
        };
        let own = |code, text: &str| Ok(Closing::Application { code, text: text.into() });
        assert_eq!(pick(0, ""), Ok(Closing::Known(CloseReason::ForceDisconnect)));
        assert_eq!(pick(3503, ""), Ok(Closing::Known(CloseReason::ForceDisconnect)));
        assert_eq!(pick(3011, "force reconnect"), Ok(Closing::Known(CloseReason::ForceReconnect)));
        for (code, reason) in [
            (3011, "go away"),
            (3000, ""),
            (3999, ""),
            (4000, ""),
            (4001, "blocked"),
            (4999, &"x".repeat(123)),
        ] {
            assert_eq!(pick(code, reason), own(code, reason), "{code} {reason}");
        }
        for (code, reason) in
            [(0, "go away"), (1000, ""), (1006, ""), (2999, ""), (5000, ""), (4001, &"x".repeat(124))]
        {
            assert_eq!(pick(code, reason), Err(107), "{code} {reason}");
        }
    }
}
