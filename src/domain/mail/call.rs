//! A call, and its end.

use std::time::Duration;

use super::{Publish, ReplyAddress, TopicName};
use crate::domain::call::{BackendAnswer, CallKind, Caller};
use crate::domain::reasons::ErrorCode;

/// One request to a backend.
#[derive(Debug)]
pub struct Call {
    /// The client's command, which waits for the answer. The id is 0 if the engine asks without a command of the client.
    pub reply_to: ReplyAddress,
    /// The client.
    pub caller: Caller,
    /// What is asked.
    pub ask: Ask,
    /// How long a publish has waited since it was read: for its client's connect, or for others to the topic. It counts as
    /// time in the backend's queue.
    pub waited: Duration,
}

impl Call {
    /// Bytes that it carries, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.caller.weight() + self.ask.weight()
    }
}

/// What is asked of a backend.
#[derive(Debug)]
pub enum Ask {
    /// A client's request.
    Rpc {
        /// The method; possibly empty.
        method: Box<str>,
        /// JSON without line breaks.
        data: Box<[u8]>,
    },
    /// A client's message, which has no answer.
    Send {
        /// JSON without line breaks.
        data: Box<[u8]>,
    },
    /// Who is the client, and may it connect?
    Connect {
        /// What it has sent along: JSON without line breaks.
        data: Option<Box<[u8]>>,
        /// The name of its library.
        name: Box<str>,
        /// The version of its library.
        version: Box<str>,
        /// The topics to which it was subscribed by the server, in an earlier connection.
        topics: Box<[Box<str>]>,
    },
    /// The connection expires now: for how long may it stay?
    Refresh,
    /// May the client subscribe?
    Subscribe {
        /// To which topic.
        topic: TopicName,
        /// What it has sent along: JSON without line breaks.
        data: Option<Box<[u8]>>,
    },
    /// The subscription expires now: for how long may it stay?
    RefreshSubscription {
        /// To which topic.
        topic: TopicName,
    },
    /// May the client publish this?
    Publish(Box<Publish>),
}

impl Ask {
    /// Of which kind it is.
    #[must_use]
    pub fn kind(&self) -> CallKind {
        match self {
            Self::Rpc { .. } => CallKind::Rpc,
            Self::Send { .. } => CallKind::Send,
            Self::Connect { .. } => CallKind::Connect,
            Self::Refresh => CallKind::Refresh,
            Self::Subscribe { .. } => CallKind::Subscribe,
            Self::RefreshSubscription { .. } => CallKind::RefreshSubscription,
            Self::Publish(_) => CallKind::Publish,
        }
    }

    /// The topic that it is about.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Subscribe { topic, .. } | Self::RefreshSubscription { topic } => Some(topic),
            Self::Publish(publish) => publish.topics.first().map(|topic| &**topic),
            Self::Rpc { .. } | Self::Send { .. } | Self::Connect { .. } | Self::Refresh => None,
        }
    }

    /// Bytes of what is asked.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Rpc { method, data } => method.len() + data.len(),
            Self::Send { data } => data.len(),
            Self::Connect { data, name, version, topics } => {
                let topics: usize = topics.iter().map(|topic| topic.len()).sum();
                len(data.as_deref()) + name.len() + version.len() + topics
            }
            Self::Refresh => 0,
            Self::Subscribe { topic, data } => topic.len() + len(data.as_deref()),
            Self::RefreshSubscription { topic } => topic.len(),
            Self::Publish(publish) => publish.weight(),
        }
    }
}

/// The end of a call, for the shard that made it.
#[derive(Debug)]
pub struct Called {
    /// What was asked.
    pub kind: CallKind,
    /// The topic that it was about.
    pub topic: Option<TopicName>,
    /// The answer, or the error for the client if there is none.
    pub outcome: Result<BackendAnswer, ErrorCode>,
}

impl Called {
    /// Bytes of the answer, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let answer = match &self.outcome {
            Ok(BackendAnswer::Granted(terms)) => terms.weight(),
            Ok(BackendAnswer::Error(error)) => error.message.len(),
            Ok(BackendAnswer::Close(_)) | Err(_) => 0,
        };
        size_of::<Self>() + answer
    }
}

fn len(data: Option<&[u8]>) -> usize {
    data.map_or(0, <[u8]>::len)
}
