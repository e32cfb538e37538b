//! The answer to a survey of the topics in use.

use tokio::sync::mpsc;

use super::TopicName;

/// Topics with their numbers of subscribers: a part of the answer.
pub type TopicCounts = Vec<(TopicName, u32)>;

/// Why a survey has no whole answer: some shard has not answered within `timeouts.publish`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurveyTimeout;

/// Takes the parts of the answer, which is complete when the sender is dropped, unless an error came before. Bounded by
/// the topics per node.
pub type SurveySender = mpsc::UnboundedSender<Result<TopicCounts, SurveyTimeout>>;
