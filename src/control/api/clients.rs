//! `disconnect` and `unsubscribe`: what operators do to clients. The engine knows clients by their ids
//! only: requests that pick people by their user name wait until there are identities.

use serde::Deserialize;

use crate::client_id::ClientId;
use crate::control::desk::Desk;
use crate::control::envelope::{Fault, Outcome, done};
use crate::mail::{ClientKey, Request, ShardId};
use crate::protocol::codes::CloseReason;

use super::others::Others;

/// The parameters of `disconnect`.
#[derive(Debug, Deserialize)]
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

/// With what a client is sent away.
#[derive(Debug, Default, Deserialize)]
struct CloseParams {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    reason: String,
}

/// The parameters of `unsubscribe`.
#[derive(Debug, Deserialize)]
pub(super) struct UnsubscribeParams {
    #[serde(default)]
    user: String,
    channel: String,
    #[serde(default)]
    client: String,
    #[serde(flatten)]
    others: Others,
}

/// Closes one client. Like Centrifugo, says nothing about whether it was still there.
pub(super) async fn disconnect(desk: &Desk, params: DisconnectParams) -> Outcome {
    nobody_by_name(&params.user, params.others)?;
    let reason = close_reason(&params.disconnect)?;
    if params.client.is_empty() {
        return Err(Fault::bad(
            "`client` is missing: name the id that the client got in its connect reply; a `user` cannot be \
             disconnected before this engine knows identities",
        ));
    }
    let (shard, client) = client(desk, &params.client)?;
    desk.post(Request::Disconnect { shard, client, reason }).await?;
    done()
}

/// Takes a topic away from one client, or from everybody.
pub(super) async fn unsubscribe(desk: &Desk, params: UnsubscribeParams) -> Outcome {
    nobody_by_name(&params.user, params.others)?;
    if params.channel.is_empty() {
        return Err(Fault::bad("`channel` is empty"));
    }
    let client = if params.client.is_empty() { None } else { Some(client(desk, &params.client)?) };
    desk.post(Request::Unsubscribe { client, topic: params.channel.into() }).await?;
    done()
}

/// Refuses to pick clients by what this engine does not know of them.
fn nobody_by_name(user: &str, mut others: Others) -> Result<(), Fault> {
    if !user.is_empty() {
        return Err(Fault::bad(
            "`user` must be \"\": every client is anonymous until this engine knows identities",
        ));
    }
    if others.take("session") {
        return Err(Fault::bad("`session` is for other transports: name the `client`"));
    }
    others.refuse()
}

/// Where the client of this id is.
fn client(desk: &Desk, id: &str) -> Result<(ShardId, ClientKey), Fault> {
    let Some(parsed) = ClientId::parse(id) else {
        return Err(Fault::bad(format_args!("`client` is no id that this engine gives out: {id:?}")));
    };
    if parsed.node != desk.node || usize::from(parsed.shard) >= desk.stats.shards.len() {
        return Err(Fault::bad("`client` is not of this node, or not of its current run"));
    }
    Ok((parsed.shard, parsed.key))
}

/// The reason of this code. Reasons are a closed set, so an operator picks one and cannot invent any.
fn close_reason(wanted: &CloseParams) -> Result<CloseReason, Fault> {
    if wanted.code == 0 && wanted.reason.is_empty() {
        return Ok(CloseReason::ForceDisconnect);
    }
    let of_ours = |reason: &CloseReason| reason.code() == wanted.code && reason.code() >= 3000;
    let Some(reason) = CloseReason::ALL.into_iter().find(of_ours) else {
        return Err(Fault::bad(format_args!(
            "`disconnect.code` {} is none of this engine's: 3503 sends the client away for good, 3011 makes \
             it come back",
            wanted.code
        )));
    };
    if wanted.reason.is_empty() || wanted.reason == reason.text() {
        Ok(reason)
    } else {
        Err(Fault::bad(format_args!(
            "`disconnect.reason` of code {} is {:?} here: leave it out",
            wanted.code,
            reason.text()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_pick_from_the_closed_set_of_reasons() {
        let pick = |code, reason: &str| {
            close_reason(&CloseParams { code, reason: reason.to_owned() }).map_err(|fault| fault.code.code())
        };
        assert_eq!(pick(0, ""), Ok(CloseReason::ForceDisconnect));
        assert_eq!(pick(3503, ""), Ok(CloseReason::ForceDisconnect));
        assert_eq!(pick(3011, "force reconnect"), Ok(CloseReason::ForceReconnect));
        for (code, reason) in
            [(3011, "go away"), (0, "go away"), (1000, ""), (1006, ""), (4000, ""), (3999, "")]
        {
            assert_eq!(pick(code, reason), Err(107), "{code} {reason}");
        }
    }
}
