//! What each subscription has to see, and whether it did.

use std::sync::Arc;

use crate::publisher::{self, Progress};
use crate::support::swarm::{CONNECT_ID, ClientIndex, Line, Observer, Publication};

/// Subscriptions of each client.
pub const TOPICS_PER_CLIENT: usize = 2;

/// What may happen to a client besides the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sees everything.
    Healthy,
    /// Was stalled in a namespace that closes such clients.
    Disconnected,
    /// Was stalled in a namespace that ends such subscriptions.
    Resynced,
    /// Was stalled in a namespace that lets such subscriptions jump to the newest.
    Skipping,
}

/// What a command that waits for its answer will do to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Begin,
    End,
}

/// A stretch of publications from a subscribe reply on.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The first number that was begun after the reply was read: the run begins here or earlier.
    begins_by: u64,
    /// The latest number seen, 0 before the first.
    last: u64,
}

/// One subscription of one client.
#[derive(Debug, Default)]
struct Slot {
    topic: usize,
    run: Option<Run>,
    /// Commands about it without an answer yet, in order.
    pending: Vec<(u32, Change)>,
}

/// One client's subscriptions.
#[derive(Debug)]
struct Page {
    slots: Vec<Slot>,
    fate: Fate,
    /// Whether it reads; who does not cannot be expected to see anything.
    reads: bool,
    connected: bool,
    /// The last id of the commands that began its connection.
    last_first_id: u32,
}

/// Every subscription of every client. Whatever a client should not have seen ends the test.
#[derive(Debug)]
pub struct Ledger {
    topics: Vec<String>,
    fill: usize,
    progress: Arc<Progress>,
    pages: Vec<Page>,
    /// Publications that were compared with what had to come.
    pub checked: u64,
    /// Answers to `subscribe` that followed an `unsubscribe` on the same connection.
    pub resubscribed: u64,
    /// Answers to `connect` after the first of each client.
    pub reconnected: u64,
    /// Slots whose subscription has ended, by the client's wish or by the server's, and no other is asked for.
    pub vacant: Vec<(ClientIndex, usize)>,
    /// Clients whose connection the server has ended, and who have not come back yet.
    pub gone: Vec<ClientIndex>,
    /// Connections that the server has ended, as their client's fate allows.
    pub disconnected: u64,
    /// Subscriptions that the server has ended, as their client's fate allows.
    pub resynced: u64,
    /// Times that a subscription jumped over publications as its fate allows.
    pub jumps: u64,
}

impl Ledger {
    /// An empty page for each of `clients`.
    pub fn new(topics: Vec<String>, fill: usize, progress: Arc<Progress>, clients: usize) -> Self {
        let page = |_| Page {
            slots: Vec::new(),
            fate: Fate::Healthy,
            reads: true,
            connected: false,
            last_first_id: CONNECT_ID,
        };
        Self {
            topics,
            fill,
            progress,
            pages: (0..clients).map(page).collect(),
            checked: 0,
            resubscribed: 0,
            reconnected: 0,
            vacant: Vec::new(),
            gone: Vec::new(),
            disconnected: 0,
            resynced: 0,
            jumps: 0,
        }
    }

    /// A topic's name.
    pub fn name(&self, topic: usize) -> &str {
        &self.topics[topic]
    }

    /// Says what may happen to a client.
    pub fn set_fate(&mut self, client: ClientIndex, fate: Fate) {
        self.pages[client].fate = fate;
    }

    /// Says whether a client reads from now on.
    pub fn set_reads(&mut self, client: ClientIndex, reads: bool) {
        self.pages[client].reads = reads;
    }

    /// A client connects, with `subscribe` commands for these topics; returns their names.
    pub fn connecting(&mut self, client: ClientIndex, topics: &[usize]) -> Vec<String> {
        let page = &mut self.pages[client];
        page.slots = (CONNECT_ID + 1..)
            .zip(topics)
            .map(|(id, &topic)| Slot { topic, run: None, pending: vec![(id, Change::Begin)] })
            .collect();
        page.last_first_id = CONNECT_ID + u32::try_from(topics.len()).expect("few topics");
        topics.iter().map(|&topic| self.topics[topic].clone()).collect()
    }

    /// `unsubscribe` was sent.
    pub fn leaving(&mut self, client: ClientIndex, slot: usize, id: u32) {
        self.pages[client].slots[slot].pending.push((id, Change::End));
    }

    /// `subscribe` was sent. Where it is for another topic, nothing may be pending for the old one.
    pub fn joining(&mut self, client: ClientIndex, slot: usize, topic: usize, id: u32) {
        let slot = &mut self.pages[client].slots[slot];
        assert!(slot.topic == topic || slot.pending.is_empty(), "the test asks for too much at once");
        slot.topic = topic;
        slot.pending.push((id, Change::Begin));
    }

    /// The topics of a client's slots.
    pub fn topics_of(&self, client: ClientIndex) -> Vec<usize> {
        self.pages[client].slots.iter().map(|slot| slot.topic).collect()
    }

    /// The topic that a client takes for a slot that has become vacant: `wish` or the next that it has not, or
    /// the same as before where it was the server that ended the subscription.
    pub fn next_topic(&self, client: ClientIndex, slot: usize, wish: usize) -> usize {
        let Page { slots, fate, .. } = &self.pages[client];
        if *fate != Fate::Healthy {
            return slots[slot].topic;
        }
        let is_free = |topic: &usize| slots.iter().all(|slot| slot.topic != *topic);
        let found = (wish..self.topics.len()).chain(0..wish).find(is_free);
        found.expect("there are more topics than slots")
    }

    /// Whether the client may be told to leave: it is healthy and waits for no answer.
    pub fn may_churn(&self, client: ClientIndex) -> bool {
        self.pages[client].fate == Fate::Healthy && self.is_settled(client)
    }

    /// Whether every command of the client has its answer, and every topic is subscribed.
    pub fn is_settled(&self, client: ClientIndex) -> bool {
        let slots = &self.pages[client].slots;
        !slots.is_empty() && slots.iter().all(|slot| slot.pending.is_empty() && slot.run.is_some())
    }

    /// The latest number that a client has seen in a slot.
    pub fn last_seen(&self, client: ClientIndex, slot: usize) -> u64 {
        self.pages[client].slots[slot].run.map_or(0, |run| run.last)
    }

    /// Whether this client has seen everything that was begun up to now, or does not read.
    pub fn is_complete(&self, client: ClientIndex) -> bool {
        if !self.pages[client].reads {
            return true;
        }
        self.is_settled(client) && self.pages[client].slots.iter().all(|slot| self.is_slot_complete(slot))
    }

    fn is_slot_complete(&self, slot: &Slot) -> bool {
        let begun = self.progress.begun(slot.topic);
        slot.run.is_some_and(|run| run.last == begun || (run.last == 0 && run.begins_by > begun))
    }

    /// What the first incomplete clients have, for the failure's text.
    pub fn describe_incomplete(&self) -> String {
        let incomplete: Vec<_> = (0..self.pages.len()).filter(|&client| !self.is_complete(client)).collect();
        let lines = incomplete.iter().take(5).map(|&client| {
            let begun: Vec<_> =
                self.pages[client].slots.iter().map(|slot| self.progress.begun(slot.topic)).collect();
            format!("\nclient {client}: {:?}, published {begun:?}", self.pages[client])
        });
        format!("{} clients are incomplete, such as{}", incomplete.len(), lines.collect::<String>())
    }

    fn replied(&mut self, client: ClientIndex, id: u32) {
        let Page { slots, connected, last_first_id, .. } = &mut self.pages[client];
        if id == CONNECT_ID {
            self.reconnected += u64::from(*connected);
            *connected = true;
            return;
        }
        let found = slots.iter().position(|slot| slot.pending.first().is_some_and(|&(first, _)| first == id));
        let index = found.unwrap_or_else(|| panic!("client {client} got an answer to {id} out of turn"));
        let slot = &mut slots[index];
        match slot.pending.remove(0).1 {
            Change::End => {
                slot.run = None;
                if slot.pending.is_empty() {
                    self.vacant.push((client, index));
                }
            }
            Change::Begin => {
                let begun = self.progress.begun(slot.topic);
                let before = slot.run.replace(Run { begins_by: begun + 1, last: 0 });
                assert!(before.is_none(), "client {client} subscribed twice to {}", self.topics[slot.topic]);
                // The answers to a new connection's first commands are no resubscribes.
                self.resubscribed += u64::from(id > *last_first_id);
            }
        }
    }

    fn received(&mut self, client: ClientIndex, publication: Publication<'_>) {
        let Publication { topic, number, data } = publication;
        let Page { slots, fate, .. } = &mut self.pages[client];
        let found = slots
            .iter_mut()
            .filter(|slot| self.topics[slot.topic] == topic)
            .find_map(|slot| slot.run.as_mut());
        let run =
            found.unwrap_or_else(|| panic!("client {client} got {topic} {number} without a subscription"));
        if run.last == 0 {
            let begins_by = run.begins_by;
            assert!(number <= begins_by, "client {client} missed {topic} from {begins_by} to {number}");
        } else if *fate == Fate::Skipping && number > run.last + 1 {
            self.jumps += 1;
        } else {
            assert_eq!(number, run.last + 1, "client {client} got {topic} {number} after {}", run.last);
        }
        run.last = number;
        self.checked += 1;
        let text = || String::from_utf8_lossy(data);
        assert!(publisher::is_whole(data, number, self.fill), "client {client} got {topic} {}", text());
    }
}

impl Observer for Ledger {
    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        match line {
            Line::Publication(publication) => self.received(client, publication),
            Line::Reply { id, error: None } => self.replied(client, id),
            Line::Ping => {}
            Line::Unsubscribed { topic, code: 2500 } if self.pages[client].fate == Fate::Resynced => {
                self.resynced += 1;
                let slots = &mut self.pages[client].slots;
                let found = slots.iter().position(|slot| self.topics[slot.topic] == topic);
                let index = found.expect("a topic of the client");
                slots[index].run = None;
                self.vacant.push((client, index));
            }
            other => panic!("client {client} got {other:?}"),
        }
    }

    fn closed(&mut self, client: ClientIndex, code: Option<u16>) {
        let page = &mut self.pages[client];
        // A client that does not read may lose the close frame with everything else that was not sent.
        let is_allowed = page.fate == Fate::Disconnected && matches!(code, Some(3008) | None);
        assert!(is_allowed, "the server closed client {client}, {:?}, with {code:?}", page.fate);
        for slot in &mut page.slots {
            slot.run = None;
            slot.pending.clear();
        }
        self.disconnected += 1;
        self.gone.push(client);
    }
}
