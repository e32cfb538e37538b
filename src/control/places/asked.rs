//! Counts the requests of a connection and its unwritten answers: each from its beginning until it is
//! dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::Connection;

/// An answer with unwritten bytes, until this is dropped.
#[derive(Debug)]
pub(in crate::control) struct Unwritten(Arc<Connection>);

impl Unwritten {
    pub(in crate::control) fn new(connection: Arc<Connection>) -> Self {
        connection.unwritten.fetch_add(1, Ordering::Relaxed);
        Self(connection)
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.0.unwritten.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that is being answered, from the end of its body until this is dropped.
#[derive(Debug)]
pub(in crate::control) struct Answering {
    connection: Arc<Connection>,
    is_whole: AtomicBool,
}

impl Answering {
    /// `whole`: when the request was complete, if it is.
    pub(super) fn new(connection: Arc<Connection>, whole: Option<u64>) -> Self {
        connection.half.fetch_add(1, Ordering::Relaxed);
        let answering = Self { connection, is_whole: AtomicBool::new(false) };
        if let Some(now) = whole {
            answering.is_whole(now);
        }
        answering
    }

    /// Whether the request is complete and was processed.
    pub(in crate::control) fn has_come_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

    /// The same request, whose body has come whole.
    pub(in crate::control) fn completed(self) -> Self {
        self.is_whole(self.connection.now());
        self
    }

    /// Records that the request is complete.
    pub(super) fn is_whole(&self, now: u64) {
        if !self.is_whole.swap(true, Ordering::Relaxed) {
            self.connection.half.fetch_sub(1, Ordering::Relaxed);
            self.connection.in_flight.fetch_add(1, Ordering::Relaxed);
            self.connection.last_request.store(now, Ordering::Relaxed);
            self.connection.freed.tell();
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if *self.is_whole.get_mut() {
            self.connection.last_request.store(self.connection.now(), Ordering::Relaxed);
            self.connection.in_flight.fetch_sub(1, Ordering::Relaxed);
            self.connection.freed.tell();
        } else {
            self.connection.half.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The body of a request. At its end, the request is complete.
#[derive(Debug)]
pub(in crate::control) struct Asked {
    body: Incoming,
    answering: Arc<Answering>,
}

impl Asked {
    pub(in crate::control) fn new(body: Incoming, answering: Arc<Answering>) -> Self {
        Self { body, answering }
    }
}

impl Body for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.answering.is_whole(self.answering.connection.now());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
