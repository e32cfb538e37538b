//! Bounds the memory of all large answers together, until their peers have taken them.
//!
//! A request with a large answer takes a share of the room for answers before the answer is made. The share
//! is kept until the answer's bytes are in the connection's output, which is counted with the connection. If there
//! is no room, requests for what is open to everybody are refused, and others wait. While there is no room, a connection that has not taken all of an
//! answer within [`UNREAD_KEPT`](super::places::UNREAD_KEPT) is closed, even if it steadily takes a little.
//! Small answers are bounded by the numbers of connections and of requests on each.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::time::timeout;

use super::places::{Peer, Unwritten};
use super::room::{Room, Share};
use crate::config::memory::SMALL_ANSWER_BYTES;

/// How long a request waits for room for its answer.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// Bytes that are passed to the server at once.
const CHUNK: usize = 16 << 10;

/// The error for a request that found no room.
pub(super) const NO_ROOM: &str =
    "too many requests: answers that others have not taken leave no room for this one; try again";

/// Takes a share of the room for an answer of about so many bytes to `peer`. Returns `None` after a while, or
/// at once for a peer that has asked only for what is open to everybody. So nobody waits behind such peers,
/// and they keep their places no longer.
pub(super) async fn room_for(room: &Arc<Room>, bytes: usize, peer: Option<&Peer>) -> Option<Share> {
    let mut share = room.share();
    if bytes <= SMALL_ANSWER_BYTES {
        return Some(share);
    }
    if peer.is_some_and(|peer| !peer.connection.is_trusted()) {
        return share.grow_at_once(bytes).then_some(share);
    }
    let is_evicted = async {
        match peer {
            Some(peer) => peer.connection.is_evicted().await,
            None => std::future::pending().await,
        }
    };
    let has_room = tokio::select! {
        biased;
        grown = timeout(ROOM_WAIT, share.grow(bytes)) => grown.is_ok_and(|grown| grown.is_ok()),
        () = is_evicted => false,
    };
    has_room.then_some(share)
}

/// This answer, whose bytes hold `share` until they are written.
pub(super) fn counted(response: Response, mut share: Share, peer: Option<Peer>) -> Response {
    let is_large = |bytes: &u64| usize::try_from(*bytes).is_ok_and(|bytes| bytes > SMALL_ANSWER_BYTES);
    if response.body().size_hint().exact().filter(is_large).is_none() {
        return response;
    }
    let (head, body) = response.into_parts();
    // All of it is there.
    let bytes = body.collect().now_or_never().and_then(Result::ok).unwrap_or_default().to_bytes();
    share.fit(bytes.len());
    let connection = peer.map(|peer| peer.connection);
    share.offer(connection.clone());
    let counted = CountedBytes { bytes, _share: share, _unwritten: connection.map(Unwritten::new) };
    Response::from_parts(head, Body::new(Chunks(Bytes::from_owner(counted))))
}

/// The bytes of an answer, and their share.
struct CountedBytes {
    bytes: Bytes,
    _share: Share,
    _unwritten: Option<Unwritten>,
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The body of a large answer.
struct Chunks(Bytes);

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.len().min(CHUNK);
        let chunk = if next == self.0.len() { std::mem::take(&mut self.0) } else { self.0.split_to(next) };
        Poll::Ready((next > 0).then(|| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::places::Places;
    use super::*;

    /// A peer that may wait does not lose room to peers that may not.
    #[tokio::test]
    async fn who_asks_only_for_what_is_open_to_all_does_not_wait_for_room() {
        const BYTES: usize = 2 * SMALL_ANSWER_BYTES;
        let room = Room::new(BYTES.try_into().unwrap(), Duration::ZERO);
        let place = Places::default().take().await;
        let peer = Peer { address: SocketAddr::from(([127, 0, 0, 1], 1)), connection: Arc::clone(&place.0) };
        let mut unread = room_for(&room, BYTES, Some(&peer)).await.expect("there is room");
        assert!(room_for(&room, BYTES, Some(&peer)).now_or_never().expect("an answer at once").is_none());
        peer.connection.trust();
        let mut waits = std::pin::pin!(room_for(&room, BYTES, Some(&peer)));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(unread);
        let has_room = waits.await.expect("there is room");
        drop(has_room);

        // Where nobody waits, what is not read makes room for who comes next.
        let stranger = Places::default().take().await;
        let peer = Peer { connection: Arc::clone(&stranger.0), ..peer };
        unread = room_for(&room, BYTES, Some(&peer)).await.expect("there is room");
        unread.offer(Some(Arc::clone(&place.0)));
        assert!(room_for(&room, BYTES, Some(&peer)).await.is_none());
        assert!(place.0.is_leaving());
    }
}
