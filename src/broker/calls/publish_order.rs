//! Publishes of one client to one topic keep their order, whichever of them its backend grants first.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::Ended;
use super::waiting::client_of;
use crate::broker::shares::Client;
use crate::domain::mail::{Ask, Call, TopicName};

/// The publishes that have begun, by client and topic, each with its end if it has come before that of an earlier one.
#[derive(Debug, Default)]
pub(super) struct PublishOrder(FxHashMap<(Client, TopicName), Line>);

/// By number, which rise.
type Line = VecDeque<(u64, Option<Ended>)>;

impl PublishOrder {
    /// A call of this number begins. The numbers of calls rise.
    pub(super) fn begin(&mut self, number: u64, line: Option<(Client, TopicName)>) {
        if let Some(line) = line {
            self.0.entry(line).or_default().push_back((number, None));
        }
    }

    /// A call has ended: `done` gets it, and those that have waited for it; or it waits for others.
    pub(super) fn end(&mut self, number: u64, ended: Ended, done: &mut VecDeque<Ended>) {
        let Some(key) = line_of(&ended.call) else { return done.push_back(ended) };
        let line = self.0.get_mut(&key).expect("a publish that has begun stands in a line");
        let at = line.binary_search_by_key(&number, |(number, _)| *number).expect("it stands there");
        line[at].1 = Some(ended);
        while let Some((_, end)) = line.front_mut()
            && let Some(ended) = end.take()
        {
            done.push_back(ended);
            line.pop_front();
        }
        if line.is_empty() {
            self.0.remove(&key);
        }
    }

    /// Whether nobody waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a call stands in line, if it is a publish.
pub(super) fn line_of(call: &Call) -> Option<(Client, TopicName)> {
    let Ask::Publish(publish) = &call.ask else { return None };
    Some((client_of(call), publish.topics.first()?.clone()))
}
