//! A filter between RabbitMQ's bytes and lapin, so that no message can end a connection.
//!
//! RabbitMQ passes on what publishers send and checks little of it. lapin fails the connection for what it
//! cannot parse, and the message comes again over the next connection. So every byte from RabbitMQ goes
//! through a [`Filter`] before lapin sees it. RabbitMQ 3.10 and 4.0 pass the following, and lapin 4.12 does
//! not handle it. Each was tried, and found by reading both parsers:
//!
//! * a short string that is not UTF-8 (RabbitMQ checks only names in declarations): properties, names of headers in
//!   tables at any depth, the routing key;
//! * tables and lists that are nested 20,000 deep: lapin's stack overflows, and the process ends;
//! * a content header beyond `frame_max`. A publisher may fill it, and RabbitMQ adds `x-stream-offset` or `x-death`;
//! * a reply text that is cut after 255 bytes, within a character;
//! * a message before the confirmation of its consumer, which RabbitMQ 3.10 sends now and then when a
//!   consumer of a stream begins. lapin drops such a message silently, so the filter passes the confirmation
//!   first;
//! * several headers of one name. lapin accepts them and shows the last, while RabbitMQ uses the first: a
//!   publisher could forge the offset of its message in the stream.
//!
//! lapin knows all types of values that RabbitMQ knows, and RabbitMQ refuses truncated values and trailing
//! bytes at the publisher. The filter checks that too: lapin can parse whatever it passes.
//!
//! # What happens to a message
//!
//! Nearly every content header passes unchanged, after one check without a copy. Otherwise a new header is
//! written:
//!
//! * a property that is not text is omitted: there is then no `message-id` or `expiration`, and the
//!   `content-type` is unknown. Its bytes are in hex in the header `x-fanfare-bytes-` with its name;
//! * a header whose name is not text, or that comes twice and has a meaning, is renamed to `x-fanfare-name-`
//!   with its name's bytes in hex, and keeps its value;
//! * a table or list that is too deep, or cannot be parsed, becomes the array of its bytes;
//! * of headers without a meaning to the engine, the longest are dropped if the frame is too large, and
//!   `x-fanfare-bytes-dropped` contains their number;
//! * a routing key that is not text has `?` for each invalid byte, and there is
//!   `x-fanfare-bytes-routing-key`;
//! * if something is missing that may have had a meaning, there is `x-fanfare-bytes-lost`.
//!
//! Messages with one of the last two are not delivered (`message.rs`). All these headers are in the dead
//! letter, if there is one. No publisher can forge them: such a header of a message is renamed.
//!
//! # The last resort
//!
//! If lapin nevertheless fails a connection because of a frame, the message has failed once. The filters of
//! all later connections are *careful*: lapin's own parser first parses every content header, and where it
//! fails, the filter writes one without properties. So no message fails twice, and that one becomes a dead
//! letter with its offset.
//!
//! # Cost
//!
//! Bodies are not checked, and large ones are read directly into lapin's buffer. Methods and content headers
//! are copied once and checked once. The memory is one frame of these: 512 KiB at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

mod consumers;
mod methods;
mod properties;
#[cfg(test)]
mod tests;

use consumers::Consumers;
use methods::{Announced, Said};
pub(super) use properties::{LOST, ROUTING_KEY, hex};

/// Types of frames (AMQP 0.9.1, section 4.2.3).
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// Type, channel and size of a frame.
const HEAD: usize = 7;
/// Ends every frame.
const FRAME_END: u8 = 0xce;

/// Bytes that are read at once.
const INBOX: usize = 64 << 10;
/// The largest frame that is kept to be looked at; of a larger content header, the front is. RabbitMQ's own limit is a
/// quarter of it, unless an operator has raised it.
const CHECKED_MAX: usize = 512 << 10;
/// So much of a body is worth a read of its own, into the buffer of who asks.
const DIRECT_MIN: usize = INBOX / 2;

/// What lapin and its filter agree on.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// See [`Terms::set_frame_max`]; 0 is none.
    frame_max: Arc<AtomicU32>,
    /// Whether lapin's parser reads all content headers first.
    is_careful: bool,
}

impl Terms {
    /// Without a limit yet; `is_careful` after lapin has failed once.
    pub fn new(is_careful: bool) -> Self {
        Self { frame_max: Arc::default(), is_careful }
    }

    /// Bytes of a frame, all in all, above which lapin fails: known when a connection has been opened, and no message
    /// comes before.
    pub fn set_frame_max(&self, bytes: u32) {
        self.frame_max.store(bytes, Ordering::Relaxed);
    }

    fn frame_max(&self) -> usize {
        match self.frame_max.load(Ordering::Relaxed) {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        }
    }
}

/// Takes what RabbitMQ sends and gives what lapin can read.
///
/// It is read into [`Self::space`], told by [`Self::filled`], and taken by [`Self::give`] until there is nothing.
#[derive(Debug)]
pub struct Filter {
    terms: Terms,
    inbox: Vec<u8>,
    /// Up to here, what is in the inbox was given.
    given: usize,
    /// Up to here, it may be given.
    passed: usize,
    /// Up to here, it is filled.
    filled: usize,
    /// Bytes after `passed` that pass without a look, also those that have not come yet.
    passing: usize,
    /// Bytes after `passed` that nobody gets.
    skipping: usize,
    /// The size of the frame after `passed`, if that is not all there.
    awaited: usize,
    /// Given before what is in the inbox.
    substitute: Vec<u8>,
    substitute_given: usize,
    /// A frame after `passed` has to be written anew, or left out, once everything before it was given.
    is_stalled: bool,
    /// Channels on which a content header comes next for a message with a routing key that is no text.
    damaged: Vec<(u16, Box<[u8]>)>,
    consumers: Consumers,
}

impl Filter {
    /// At the beginning of a connection.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            inbox: vec![0; INBOX],
            given: 0,
            passed: 0,
            filled: 0,
            passing: 0,
            skipping: 0,
            awaited: 0,
            substitute: Vec::new(),
            substitute_given: 0,
            is_stalled: false,
            damaged: Vec::new(),
            consumers: Consumers::default(),
        }
    }

    /// Copies what may be given, as much as fits, and returns how much. Nothing for an empty buffer.
    pub fn give(&mut self, buffer: &mut [u8]) -> usize {
        loop {
            let waiting = if self.substitute_given < self.substitute.len() {
                &self.substitute[self.substitute_given..]
            } else {
                &self.inbox[self.given..self.passed]
            };
            let count = waiting.len().min(buffer.len());
            buffer[..count].copy_from_slice(&waiting[..count]);
            if self.substitute_given < self.substitute.len() {
                self.substitute_given += count;
            } else {
                self.given += count;
            }
            if count > 0 || !self.is_stalled || buffer.is_empty() {
                return count;
            }
            self.look();
        }
    }

    /// How many bytes may be read straight to who asks, when [`Self::give`] has nothing: much of a body, or none.
    /// [`Self::passed_by`] tells of it.
    pub fn direct(&self) -> usize {
        let is_empty = self.given == self.filled;
        if is_empty && self.passing >= DIRECT_MIN { self.passing } else { 0 }
    }

    /// So many bytes were read straight to who asks.
    pub fn passed_by(&mut self, count: usize) {
        self.passing -= count;
    }

    /// Room for what is read next, when [`Self::give`] has nothing.
    pub fn space(&mut self) -> &mut [u8] {
        if self.given > 0 {
            self.inbox.copy_within(self.given..self.filled, 0);
            self.filled -= self.given;
            self.passed -= self.given;
            self.given = 0;
        }
        if self.inbox.len() < self.awaited {
            self.inbox.resize(self.awaited, 0);
        }
        &mut self.inbox[self.filled..]
    }

    /// So many bytes were read into [`Self::space`].
    pub fn filled(&mut self, count: usize) {
        self.filled += count;
        self.look();
    }

    /// Looks at what has come, up to a frame that is not all there, or that must wait.
    fn look(&mut self) {
        self.is_stalled = false;
        while self.passed < self.filled && self.step() {}
    }

    /// Passes something on; not if that must wait.
    fn step(&mut self) -> bool {
        let here = self.filled - self.passed;
        if self.skipping > 0 {
            if self.given < self.passed {
                return self.stall();
            }
            let count = self.skipping.min(here);
            self.skipping -= count;
            self.passed += count;
            self.given = self.passed;
            return true;
        }
        if self.passing > 0 {
            let count = self.passing.min(here);
            self.passing -= count;
            self.passed += count;
            return true;
        }
        self.awaited = 0;
        let Some(&[kind, c1, c2, s1, s2, s3, s4]) = self.inbox[self.passed..self.filled].first_chunk() else {
            return false;
        };
        let (channel, size) = (u16::from_be_bytes([c1, c2]), u32::from_be_bytes([s1, s2, s3, s4]));
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let whole = size.saturating_add(HEAD + 1);
        match kind {
            METHOD if whole <= CHECKED_MAX => self.whole(whole) && self.method(channel, whole),
            HEADER if whole <= CHECKED_MAX => self.whole(whole) && self.content_header(channel, whole),
            HEADER => self.whole(CHECKED_MAX) && self.endless_header(channel, whole),
            BODY | HEARTBEAT | METHOD => {
                self.passing = whole;
                true
            }
            // No frame: lapin says so.
            _ => {
                self.passing = usize::MAX;
                true
            }
        }
    }

    fn stall(&mut self) -> bool {
        self.is_stalled = true;
        false
    }

    /// Whether so much of a frame is there.
    fn whole(&mut self, len: usize) -> bool {
        let is_there = self.filled - self.passed >= len;
        self.awaited = if is_there { 0 } else { len };
        is_there
    }

    fn method(&mut self, channel: u16, whole: usize) -> bool {
        let all_given = self.is_all_given();
        let payload = &mut self.inbox[self.passed + HEAD..self.passed + whole - 1];
        match methods::consumer(payload) {
            Said::Delivered(tag) if !self.consumers.know(channel, tag) => {
                if !all_given {
                    return self.stall();
                }
                let begun = methods::consume_ok(tag);
                self.consumers.add(channel, tag, true);
                self.substitute(METHOD, channel, &begun);
                return true;
            }
            Said::Begun(tag) if self.consumers.was_told(channel, tag) => {
                self.skipping = whole;
                return true;
            }
            Said::Begun(tag) => self.consumers.add(channel, tag, false),
            Said::Delivered(_) | Said::Nothing => {}
        }
        match methods::mend(payload) {
            Announced::Delivery(Some(routing_key)) => {
                self.damaged.retain(|(at, _)| *at != channel);
                self.damaged.push((channel, routing_key));
            }
            Announced::Channel => self.consumers.forget(channel),
            Announced::Delivery(None) | Announced::Nothing => {}
        }
        self.passed += whole;
        true
    }

    fn content_header(&mut self, channel: u16, whole: usize) -> bool {
        let frame = &self.inbox[self.passed..self.passed + whole];
        let payload = &frame[HEAD..whole - 1];
        let routing_key = self.damaged.iter().find(|(at, _)| *at == channel).map(|(_, key)| &**key);
        let is_frame = frame[whole - 1] == FRAME_END && payload.len() >= properties::PREFIX;
        let fits = whole <= self.terms.frame_max();
        let passes =
            routing_key.is_none() && fits && properties::is_sound(payload) && self.lapin_reads(payload);
        if passes || !is_frame {
            self.passed += whole;
            return true;
        }
        if !self.is_all_given() {
            return self.stall();
        }
        let mut written = properties::mend(payload, routing_key, self.terms.frame_max());
        if !self.lapin_reads(&written) {
            written = properties::without_all(payload, routing_key, "lapin cannot read the properties");
        }
        if !self.lapin_reads(&written) {
            // With the offset, perhaps: it is a number of its own, but who knows.
            written = properties::without_all(
                &payload[..properties::PREFIX],
                routing_key,
                "lapin reads none of it",
            );
        }
        self.replace(channel, &written, whole);
        true
    }

    /// A content header of which only the front is here.
    fn endless_header(&mut self, channel: u16, whole: usize) -> bool {
        if !self.is_all_given() {
            return self.stall();
        }
        let payload = &self.inbox[self.passed + HEAD..self.passed + CHECKED_MAX];
        let routing_key = self.damaged.iter().find(|(at, _)| *at == channel).map(|(_, key)| &**key);
        let written =
            properties::without_all(payload, routing_key, "the properties are too large to be looked at");
        self.replace(channel, &written, whole);
        true
    }

    fn is_all_given(&self) -> bool {
        self.given == self.passed && self.substitute_given == self.substitute.len()
    }

    /// Gives another content header in place of the one that comes next.
    fn replace(&mut self, channel: u16, payload: &[u8], whole: usize) {
        self.damaged.retain(|(at, _)| *at != channel);
        self.substitute(HEADER, channel, payload);
        self.skipping = whole;
    }

    /// Gives a frame before the one that comes next. All before it has been given.
    fn substitute(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        self.substitute.clear();
        self.substitute_given = 0;
        self.substitute.push(kind);
        self.substitute.extend(channel.to_be_bytes());
        self.substitute.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.substitute.extend(payload);
        self.substitute.push(FRAME_END);
    }

    /// Whether lapin reads these properties. Only looked at if it has failed once.
    fn lapin_reads(&self, payload: &[u8]) -> bool {
        !self.terms.is_careful || reads(&payload[properties::PREFIX..])
    }
}

/// Whether lapin's parser reads properties to their end.
fn reads(properties: &[u8]) -> bool {
    lapin::protocol::basic::parse_properties(properties).is_ok_and(|(rest, _)| rest.is_empty())
}
