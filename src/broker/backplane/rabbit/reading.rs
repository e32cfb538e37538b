//! Reads the queue or stream: between the link, which receives messages, the reader, which knows what they
//! mean, and the broker.

use std::collections::VecDeque;
use std::time::Instant;

use lapin::message::Delivery;

use crate::broker::backplane::event::{Event, StreamPlace};
use crate::config::{Config, Source};

use super::attach::Start;
use super::coverage::Ticket;
use super::lineage::Marker;
use super::loss::Loss;
use super::reader::{Astray, Reader, ResumePoint};
use super::{LinkState, Rabbit, message};

/// The reader of a stream, and what it wants done. Nothing where the source is a queue.
#[derive(Debug)]
pub(super) struct StreamReading {
    reader: Option<Reader>,
    /// See [`Rabbit::look_later`].
    looks_later: bool,
    /// The link was given up only to read the stream from further back.
    reads_further: bool,
    /// The marker that the reader wants written next: before publishes, once, and only over this link. If it is lost, the
    /// reader asks for another one.
    marker: Option<Marker>,
}

impl StreamReading {
    /// Nothing was read yet.
    pub(super) fn new(config: &Config, now: Instant) -> Self {
        let reads_stream = config.amqp.source == Source::Stream;
        let reader = reads_stream.then(|| Reader::new(config, now));
        Self { reader, looks_later: false, reads_further: false, marker: None }
    }

    /// Whether there is a stream.
    pub(super) fn has_stream(&self) -> bool {
        self.reader.is_some()
    }

    /// There is a link. Returns whether it reads a stream, which it does from `start` on.
    pub(super) fn linked(&mut self, start: Option<Start>, events: &mut VecDeque<Event>) -> bool {
        let (Some(reader), Some(start)) = (&mut self.reader, start) else { return false };
        self.marker = reader.linked(start, events, Instant::now());
        true
    }

    /// An attempt to make a link is over: the stream no longer counts as about to be read from further back.
    pub(super) fn attempted(&mut self) {
        self.reads_further = false;
    }

    /// No marker is written over this link any more.
    pub(super) fn drop_marker(&mut self) {
        self.marker = None;
    }

    /// The marker that is to be written, and up to where the stream is settled.
    pub(super) fn take_marker(&mut self) -> Option<(Marker, Option<u64>)> {
        let marker = self.marker.take()?;
        let settled = self.reader.as_ref().and_then(|reader| reader.settled(&marker));
        Some((marker, settled))
    }

    /// The last marker of this node, and up to where the stream is settled.
    pub(super) fn last_marker(&mut self) -> Option<(Marker, u64)> {
        self.reader.as_mut().and_then(|reader| reader.last_marker(Instant::now()))
    }

    /// Does what is due at `now`.
    pub(super) fn on_time(&mut self, now: Instant) {
        if let Some(marker) = self.reader.as_mut().and_then(|reader| reader.on_time(now)) {
            // Every claim says what is settled as well.
            self.marker = self.marker.take().filter(|waiting| waiting.claim.is_some()).or(Some(marker));
        }
    }

    /// The dead letter of the message at this place is about to be sent. [`Self::is_safe`] takes the ticket when it is safe.
    pub(super) fn sends(&mut self, place: Option<StreamPlace>) -> Option<Ticket> {
        let (place, reader) = place.zip(self.reader.as_mut())?;
        Some(reader.coverage.sends(place.offset - 1))
    }

    /// The dead letter of this ticket is safe.
    pub(super) fn is_safe(&mut self, ticket: Option<Ticket>) {
        if let (Some(ticket), Some(reader)) = (ticket, &mut self.reader) {
            reader.coverage.is_safe(ticket);
        }
    }
}

impl Rabbit {
    /// Takes a delivery of the queue or stream.
    pub(super) fn delivered(&mut self, delivery: Delivery) {
        let StreamReading { reader: Some(reader), marker, reads_further, .. } = &mut self.reading else {
            let message = message::receive(delivery, None, self.config.limits.json_depth);
            self.events.push_back(Event::Message(message));
            return;
        };
        let wanted = reader.take(delivery, &mut self.events, Instant::now());
        *marker = wanted.or_else(|| marker.take());
        if let Some(astray) = reader.astray() {
            *reads_further = astray == Astray::Short;
            self.lost(&Loss::Stream(astray));
        }
    }

    /// Whether a stream is being read back at this moment.
    pub(in crate::broker) fn is_loading(&self) -> bool {
        let is_reading = self.reading.reads_further || matches!(self.state, LinkState::Linked { .. });
        is_reading && self.reading.reader.as_ref().is_some_and(|reader| !reader.is_live())
    }

    /// Where the stream ended when the newest link was made, as [`StreamPlace::offset`]; 0 if there is none.
    pub(in crate::broker) fn stream_end(&self) -> u64 {
        self.reading.reader.as_ref().map_or(0, |reader| reader.end)
    }

    /// Where the next link has to begin, if it reads a stream.
    pub(super) fn resume_point(&self) -> Option<ResumePoint> {
        self.reading.reader.as_ref().map(Reader::resume_point)
    }

    /// When the reader has something to do, while it reads.
    pub(super) fn reader_is_due(&self) -> Option<Instant> {
        let is_reading = matches!(self.state, LinkState::Linked { .. }) && !self.winding_down;
        self.reading.reader.as_ref().filter(|_| is_reading).map(Reader::due)
    }

    /// Leaves a message of the stream at this place to another node, which dead-letters it.
    pub(in crate::broker) fn leave_to_others(&mut self, place: StreamPlace) {
        if let Some(reader) = &mut self.reading.reader {
            reader.coverage.leaves(place.offset - 1, Instant::now());
        }
    }

    /// Sets whether messages that have come wait to be looked at: until then they do not count as settled.
    pub(in crate::broker) fn look_later(&mut self, later: bool) {
        self.reading.looks_later = later;
    }

    /// Begins or ends to read a part of the stream again, if dead letters may be missing there.
    pub(super) fn read_again(&mut self) {
        let LinkState::Linked { link, .. } = &mut self.state else { return };
        let Some(reader) = self.reading.reader.as_mut().filter(|reader| reader.is_live()) else { return };
        if !self.reading.looks_later {
            reader.coverage.looked_at_all();
        }
        let from = reader.coverage.wanted().filter(|_| !self.winding_down);
        link.read_again(from, self.config.amqp.prefetch_bytes);
    }

    /// A message of the stream that is read again.
    pub(super) fn came_again(&mut self, delivery: Delivery) {
        let message = self.reading.reader.as_mut().and_then(|reader| reader.take_again(delivery));
        self.events.extend(message.map(Event::Unsettled));
    }
}
