//! `info` and `channels`: what is on this node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::control::envelope::{Fault, Outcome, result};
use crate::control::glob::Glob;
use crate::control::process;
use crate::control::state::AppState;
use crate::domain::mail::{Request, SurveyTimeout, TopicName};
use crate::domain::reasons::ErrorCode;

use super::others::Others;

/// The parameters of `info`: none.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an empty JSON object")]
pub(super) struct InfoParams {
    #[serde(flatten)]
    others: Others,
}

/// The parameters of `channels`.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a JSON object, which may have a `pattern`")]
pub(super) struct ChannelsParams {
    pattern: Option<String>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Debug, Serialize)]
struct InfoResult {
    nodes: [Node; 1],
}

/// What Centrifugo says about a node, field by field.
#[derive(Debug, Serialize)]
struct Node {
    uid: String,
    name: String,
    version: &'static str,
    num_clients: u64,
    /// Always 0, because there are no users yet.
    num_users: u64,
    num_subs: u64,
    num_channels: u64,
    /// Seconds since the start.
    uptime: u64,
}

#[derive(Debug, Serialize)]
struct ChannelsResult {
    #[serde(serialize_with = "by_name")]
    channels: BTreeMap<TopicName, ChannelInfo>,
}

fn by_name<S: Serializer>(
    channels: &BTreeMap<TopicName, ChannelInfo>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(channels.iter().map(|(topic, info)| (&**topic, info)))
}

#[derive(Debug, Default, Serialize)]
struct ChannelInfo {
    num_clients: u64,
}

/// Describes this node.
pub(super) fn info(state: &AppState, params: &InfoParams) -> Outcome {
    params.others.refuse()?;
    result(&InfoResult {
        nodes: [Node {
            uid: state.node.to_string(),
            name: process::host_name(),
            version: env!("CARGO_PKG_VERSION"),
            num_clients: state.stats.sum(|shard| &shard.open),
            num_users: 0,
            num_subs: state.stats.sum(|shard| &shard.subscriptions),
            num_channels: state.stats.broker.topics.value(),
            uptime: state.uptime().as_secs(),
        }],
    })
}

/// Lists the topics that have subscribers and match the pattern, if there is one.
pub(super) async fn channels(state: &AppState, params: ChannelsParams) -> Outcome {
    params.others.refuse()?;
    let pattern = params.pattern.filter(|pattern| !pattern.is_empty());
    let glob = pattern.map(|pattern| Glob::parse(&pattern)).transpose();
    let glob = glob.map_err(|wrong| Fault::bad(format_args!("`pattern`: {wrong}")))?;
    let (pieces, mut survey) = mpsc::unbounded_channel();
    state.post(Request::Survey(pieces)).await?;
    let mut channels = BTreeMap::<TopicName, ChannelInfo>::new();
    let whole = async {
        while let Some(piece) = survey.recv().await {
            let piece = piece?;
            let picked = |topic: &str| glob.as_ref().is_none_or(|glob| glob.matches(topic));
            for (topic, clients) in piece.into_iter().filter(|(topic, _)| picked(topic)) {
                channels.entry(topic).or_default().num_clients += u64::from(clients);
            }
        }
        Ok(())
    };
    // This limit ends first. The broker thread's is as long and begins later: it frees the survey there.
    let answered = timeout(state.config().timeouts.publish.0, whole).await;
    if !matches!(answered, Ok(Ok::<(), SurveyTimeout>(()))) {
        return Err(Fault::new(ErrorCode::Internal, "not every shard has answered in time; try again"));
    }
    result(&ChannelsResult { channels })
}
