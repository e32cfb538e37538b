//! What clients read, and what they make sure of.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::asking::{Expiry, Verdict};
use super::broker::{key_of, stands_at};
use super::clients::{Asked, Brought, Peer, Run};
use super::{Edge, TOPICS, World};
use crate::frames::{CLOSE, PONG};
use crate::raw::ANSWER;
use crate::wire::{Frame, take_frames};
use fanfare::domain::reasons::{CloseReason, ErrorCode};

impl World {
    pub(super) fn peers_read(&mut self) {
        for peer in 0..self.peers.len() {
            let pipe = Rc::clone(&self.peers[peer].pipe);
            let mut pipe = pipe.borrow_mut();
            self.peers[peer].input.append(&mut pipe.from_server);
            self.peers[peer].excused |= pipe.ever_refused;
            drop(pipe);
            if !self.peers[peer].upgraded {
                self.upgrade(peer);
            }
            if self.peers[peer].upgraded {
                (self.peers[peer].pongs, self.peers[peer].replies) = (0, 0);
                if self.peers[peer].raw {
                    self.raw_lines(peer);
                } else {
                    for frame in take_frames(&mut self.peers[peer].input) {
                        self.frame(peer, &frame);
                    }
                }
                let pongs = self.peers[peer].pongs;
                assert!(
                    pongs <= self.steps_per_share,
                    "{pongs} pings of one client are answered in one tick"
                );
            }
        }
        self.forget_the_closed();
    }

    pub(super) fn upgrade(&mut self, peer: usize) {
        let Peer { input, raw, upgraded, .. } = &mut self.peers[peer];
        if *raw && input.len() >= ANSWER.len() {
            assert!(input.starts_with(ANSWER), "refused: {}", String::from_utf8_lossy(input));
            input.drain(..ANSWER.len());
            *upgraded = true;
        } else if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            assert!(input.starts_with(b"HTTP/1.1 101"), "refused: {}", String::from_utf8_lossy(input));
            input.drain(..end + 4);
            *upgraded = true;
        }
    }

    pub(super) fn frame(&mut self, peer: usize, frame: &Frame) {
        if frame.opcode == PONG {
            self.peers[peer].pongs += 1;
            return;
        }
        if frame.opcode == CLOSE {
            let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            return self.disconnected(peer, code);
        }
        let mut text = std::str::from_utf8(&frame.payload).expect("frames are text");
        let pushes = text.split('\n').filter(|line| line.starts_with("{\"push\"")).count();
        assert!(pushes == 0 || text.len() <= self.limits.frame_bytes, "a frame of {} bytes", text.len());
        if frame.deflated {
            assert!(self.peers[peer].inflates, "compressed for a client that did not offer it");
            text = text.strip_suffix('\n').expect("the last line's end is in its segment");
        }
        self.events.merged_frames += u64::from(pushes > 1);
        self.events.deflated_frames += u64::from(frame.deflated);
        for line in text.split('\n') {
            self.line(peer, line);
        }
    }

    /// Whole lines of a stream that has nothing else.
    fn raw_lines(&mut self, peer: usize) {
        while let Some(end) = self.peers[peer].input.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.peers[peer].input.drain(..=end).collect();
            let line = std::str::from_utf8(&line[..end]).expect("lines are text");
            self.events.raw_lines += 1;
            self.line(peer, line);
        }
    }

    fn disconnected(&mut self, peer: usize, code: u16) {
        let misses = code == CloseReason::InsufficientState.code();
        let is_held = misses && self.is_connecting(peer);
        let is_fair = self.peers[peer].excused || is_held || self.is_to_be_closed(peer, code);
        assert!(is_fair, "a healthy client was closed with {code}");
        let is_brought = is_held || self.peers[peer].runs.values().any(|run| run.is_server_side);
        assert!(!misses || is_brought, "closed although it can subscribe again");
        self.events.closed_to_resync += u64::from(misses);
        self.check_fault(peer, code);
        self.check_end_of_refused(peer, code);
        self.events.disconnected_for_slowness += u64::from(code == 3008);
        self.peers[peer].closed = Some(code);
    }

    pub(super) fn line(&mut self, peer: usize, line: &str) {
        if line == "{}" {
            assert!(!self.is_connecting(peer), "a ping before the reply to the connect");
            return self.send_message(peer, b"{}");
        }
        let value: serde_json::Value = serde_json::from_str(line).expect("lines are JSON");
        if let Some(code) = value["push"]["disconnect"]["code"].as_u64() {
            self.disconnected(peer, u16::try_from(code).expect("codes are short"));
        } else if let Some(push) = value.get("push") {
            let name = push["channel"].as_str().expect("pushes name their channel");
            let topic = TOPICS.into_iter().find(|topic| *topic == name).expect("a topic of ours");
            match push["pub"]["data"].as_u64() {
                Some(number) => self.publication(peer, topic, number),
                None => self.unsubscribed(peer, topic, &push["unsubscribe"]["code"]),
            }
        } else {
            let id = u32::try_from(value["id"].as_u64().expect("replies have ids")).expect("ours are small");
            self.reply(peer, id, &value);
        }
    }

    pub(super) fn reply(&mut self, peer: usize, id: u32, reply: &serde_json::Value) {
        self.events.replies += 1;
        self.peers[peer].replies += 1;
        let asked = self.peers[peer]
            .asked
            .remove(&id)
            .unwrap_or_else(|| panic!("a reply to {id}, which nobody asked"));
        self.check_order(peer, id, &asked);
        let verdict = self.peers[peer].said.verdicts.remove(&id);
        let error = reply["error"]["code"].as_u64();
        let expected = self.expected_error(peer, id, &asked, verdict.as_ref());
        let may_fail = self.peers[peer].may_fail.remove(&id);
        let fails = may_fail && error == Some(ErrorCode::Internal.code().into())
            || self.came_too_late(peer, &asked, verdict.as_ref(), error);
        assert!(fails || error == expected, "{reply} to {asked:?}, and not the error {expected:?}");
        if error.is_some() {
            self.events.refusals += 1;
            if matches!(asked, Asked::Connect { .. }) {
                self.refused_to_connect(peer);
            }
            return;
        }
        let (granted, expiry) = self.granted(&asked, verdict.as_ref(), reply);
        match asked {
            Asked::Subscribe { topic, floor, resumes } => {
                let asked = Brought { topic, floor: floor.max(granted), resumes };
                self.subscribed(peer, &asked, &reply["subscribe"], expiry, false);
            }
            Asked::Connect { topics, .. } => self.connected(peer, &topics, &reply["connect"]),
            Asked::Unsubscribe { topic } => {
                if let Some(run) = self.peers[peer].runs.remove(topic) {
                    self.left(topic, &run);
                }
            }
            Asked::Publish { .. } | Asked::Refused { .. } | Asked::Rpc { .. } => {}
        }
    }

    /// What the backend has said is in the reply: for this client, and about this command. Returns from where on a
    /// subscription begins at the earliest, and when it expires.
    fn granted(
        &self,
        asked: &Asked,
        verdict: Option<&Verdict>,
        reply: &serde_json::Value,
    ) -> (u64, Option<Expiry>) {
        let Some(Verdict::Granted { data, expiry, floor }) = verdict else {
            self.check_is_asked(asked);
            return (0, None);
        };
        let told = match asked {
            Asked::Rpc { .. } => &reply["rpc"]["data"],
            Asked::Connect { .. } => &reply["connect"]["data"],
            Asked::Subscribe { .. } => &reply["subscribe"]["data"],
            _ => &serde_json::Value::Null,
        };
        assert_eq!(told.as_u64(), *data, "{reply} to {asked:?}");
        (*floor, *expiry)
    }

    /// A subscription begins, with what its reply says.
    pub(super) fn subscribed(
        &mut self,
        peer: usize,
        &Brought { topic, floor, resumes }: &Brought,
        result: &serde_json::Value,
        expiry: Option<Expiry>,
        is_server_side: bool,
    ) {
        let ceiling = self.published.get(topic).copied().unwrap_or(0) + 1;
        let last = topic.starts_with('h').then(|| stands_at(result, resumes));
        let run = Run { is_server_side, floor, ceiling, last, owed: BTreeMap::new(), expiry };
        self.peers[peer].runs.insert(topic, run);
    }

    pub(super) fn left(&mut self, topic: &'static str, run: &Run) {
        if let Some(last) = run.last.filter(|_| topic.starts_with('h')) {
            self.left_at.push((topic, last));
        }
    }

    pub(super) fn publication(&mut self, peer: usize, topic: &'static str, number: u64) {
        self.events.deliveries += 1;
        let excused = self.peers[peer].excused;
        let run = self.peers[peer].runs.get_mut(topic);
        let run = run.unwrap_or_else(|| panic!("{topic} {number} without a subscription"));
        let skips = topic.starts_with('s') && excused;
        match run.last {
            None => {
                assert!(
                    number > run.floor,
                    "{topic} begins with {number}, {} was before its subscription",
                    run.floor
                );
                assert!(
                    skips || number <= run.ceiling,
                    "{topic} begins with {number}, after {}",
                    run.ceiling
                );
            }
            Some(last) if skips && number > last + 1 => self.events.skipped += 1,
            Some(last) => assert_eq!(number, last + 1, "{topic}: {number} after {last}"),
        }
        let expected = run.last.map_or(run.ceiling, |last| last + 1);
        run.owed.extend((expected..number).filter_map(|left_out| Some((key_of(topic, left_out)?, left_out))));
        if let Some(key) = key_of(topic, number) {
            self.events.made_good += u64::from(run.owed.remove(&key).is_some());
        }
        run.last = Some(number);
    }

    pub(super) fn unsubscribed(&mut self, peer: usize, topic: &'static str, code: &serde_json::Value) {
        let run =
            self.peers[peer].runs.remove(topic).unwrap_or_else(|| panic!("{topic} ended, and was none"));
        assert!(!run.is_server_side, "{topic} ended, and its client would not come again");
        if code.as_u64() == Some(2501) {
            assert!(self.may_have_expired(topic, run.expiry), "{topic} has expired: {:?}", run.expiry);
            self.events.expired += 1;
        } else {
            assert_eq!(code.as_u64(), Some(2500));
            let resyncs = topic.starts_with('r') || topic.starts_with('h');
            assert!(self.peers[peer].excused && resyncs, "{topic}: a healthy subscription ended");
            self.events.resynced += 1;
        }
        self.left(topic, &run);
    }

    pub(super) fn forget_the_closed(&mut self) {
        let mut index = 0;
        while index < self.peers.len() {
            let gone = self.peers[index].pipe.borrow().server_gone;
            if gone || self.peers[index].closed.is_some() {
                let mut peer = self.peers.swap_remove(index);
                assert!(peer.excused || peer.closed.is_some(), "a healthy client lost its connection");
                peer.runs.drain().for_each(|(topic, run)| self.left(topic, &run));
                let mut pipe = peer.pipe.borrow_mut();
                self.events.short_writes += pipe.short_writes;
                self.events.refused_writes += pipe.refused_writes;
                self.events.kept_writes += pipe.kept_writes;
                pipe.client_closed = true;
                if !gone {
                    self.ready.push((peer.slot, Edge::HungUp));
                }
            } else {
                index += 1;
            }
        }
    }
}
