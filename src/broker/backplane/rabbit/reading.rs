//! Reads the queue or stream: between the link, which receives messages, the reader, which knows what they
//! mean, and the broker.

use std::time::Instant;

use lapin::message::Delivery;

use crate::broker::backplane::event::{Event, Place};

use super::link::Loss;
use super::reader::{Astray, Reader, ResumePoint};
use super::{Rabbit, State, message};

impl Rabbit {
    /// Takes a delivery of the queue or stream.
    pub(super) fn delivered(&mut self, delivery: Delivery) {
        let Some(reader) = &mut self.reader else {
            self.events.push_back(Event::Message(message::receive(delivery, None)));
            return;
        };
        let marker = reader.take(delivery, &mut self.events, Instant::now());
        self.marker = marker.or_else(|| self.marker.take());
        if let Some(astray) = reader.astray() {
            self.reads_further = astray == Astray::Short;
            self.lost(&Loss::because(match astray {
                Astray::Rewound => "its stream was rewound: other messages are where some were that we read",
                Astray::Short => {
                    "no engine's claim was in what was read of the stream: it is read from further back"
                }
            }));
        }
    }

    /// Whether a stream is being read back at this moment.
    pub(in crate::broker) fn is_loading(&self) -> bool {
        let is_reading = self.reads_further || matches!(self.state, State::Linked { .. });
        is_reading && self.reader.as_ref().is_some_and(|reader| !reader.is_live())
    }

    /// Where the stream ended when the newest link was made, as [`Place::offset`]; 0 if there is none.
    pub(in crate::broker) fn stream_end(&self) -> u64 {
        self.reader.as_ref().map_or(0, |reader| reader.end)
    }

    /// Where the next link has to begin, if it reads a stream.
    pub(super) fn resume_point(&self) -> Option<ResumePoint> {
        self.reader.as_ref().map(Reader::resume_point)
    }

    /// When the reader has something to look after, while it reads.
    pub(super) fn reader_is_due(&self) -> Option<Instant> {
        let is_reading = matches!(self.state, State::Linked { .. }) && !self.winding_down;
        self.reader.as_ref().filter(|_| is_reading).map(Reader::due)
    }

    /// Leaves a message of the stream at this place to another node, which dead-letters it.
    pub(in crate::broker) fn leave_to_others(&mut self, place: Place) {
        if let Some(reader) = &mut self.reader {
            reader.coverage.leaves(place.offset - 1, Instant::now());
        }
    }

    /// Whether messages that have come are looked at later: until then they do not count as settled.
    pub(in crate::broker) fn look_later(&mut self, later: bool) {
        self.looks_later = later;
    }

    /// Begins or ends to read a part of the stream again, as far as there is something to look for.
    pub(super) fn read_again(&mut self) {
        let State::Linked { link, .. } = &mut self.state else { return };
        let Some(reader) = self.reader.as_mut().filter(|reader| reader.is_live()) else { return };
        if !self.looks_later {
            reader.coverage.looked_at_all();
        }
        let from = reader.coverage.wanted().filter(|_| !self.winding_down);
        link.read_again(from, self.config.amqp.prefetch_bytes);
    }

    /// A message of the stream that is read again.
    pub(super) fn came_again(&mut self, delivery: Delivery) {
        let message = self.reader.as_mut().and_then(|reader| reader.take_again(delivery));
        self.events.extend(message.map(Event::Unsettled));
    }
}
