//! Clients whose tokens bring subscriptions.

use super::clients::{Asked, Brought};
use super::{TOPICS, World};

/// Topics that a token brings at most: with more, the command would be too long.
const TOPICS_MAX: usize = 3;

impl World {
    /// Somebody connects with a token that brings some topics, and goes on where others were.
    pub(super) fn connect_to_some(&mut self) {
        let peer = self.arrive();
        let mut topics: Vec<Brought> = Vec::new();
        let mut resumed = Vec::new();
        for _ in 0..=self.random.below(TOPICS_MAX) {
            let topic = TOPICS[self.random.below(TOPICS.len())];
            if topics.iter().any(|brought| brought.topic == topic) {
                continue;
            }
            let resume = self.resume(topic);
            let floor = self.settled.get(topic).copied().unwrap_or(0);
            topics.push(Brought { topic, floor, resumes: resume.is_some() });
            resumed.extend(resume.map(|resume| format!("\"{topic}\":{{{resume}}}")));
        }
        let names: Vec<_> = topics.iter().map(|brought| brought.topic).collect();
        // While it waits for its reply, it is like somebody whose socket is full. With little room for all, it may have to
        // leave.
        self.peers[peer].excused |= self.tight || names.iter().any(|name| name.starts_with('s'));
        let token = self.signer.sign(&format!("{{\"channels\":{names:?}}}")).expect("it signs");
        let subs = resumed.join(",");
        let connect = format!("\"connect\":{{\"token\":\"{token}\",\"subs\":{{{subs}}}}}");
        self.events.brought += topics.len() as u64;
        self.command(peer, &connect, Asked::Connect { topics, resumed: None });
    }

    /// Whether the reply to the client's connect has not come.
    pub(super) fn is_connecting(&self, peer: usize) -> bool {
        self.peers[peer].asked.values().any(|asked| matches!(asked, Asked::Connect { .. }))
    }

    /// A connect was answered, with exactly the subscriptions of its token.
    pub(super) fn connected(&mut self, peer: usize, topics: &[Brought], reply: &serde_json::Value) {
        let client = reply["client"].as_str().expect("a client is told its id");
        let known = self.peers[peer].said.client.get_or_insert_with(|| client.into());
        assert_eq!(**known, *client, "a client has one id");
        let subs = &reply["subs"];
        let count = subs.as_object().map_or(0, serde_json::Map::len);
        assert_eq!(count, topics.len(), "{subs} for {topics:?}");
        for brought in topics {
            let result = subs.get(brought.topic);
            let result = result.unwrap_or_else(|| panic!("{} is not in {subs}", brought.topic));
            self.subscribed(peer, brought, result, None, true);
        }
    }
}
