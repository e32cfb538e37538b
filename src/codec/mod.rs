//! Between bytes and what they say: commands, replies and pushes of the client protocol, and compression. No socket,
//! no clock, no thread.
//!
//! [`command`], [`reply`] and [`push`] are values, the same for every codec. The methods of [`Codec`] below are the table
//! of codecs: a new one is a folder beside [`json`], a variant of [`Codec`], and one arm in each of them.

pub mod command;
pub mod deflate;
mod encoding;
pub mod json;
pub mod push;
pub mod reply;

use std::ops::Range;

use crate::domain::codec::Codec;
use crate::domain::publication::Publication;

use command::{Command, Malformed};
use push::{Published, Push};
use reply::{Reply, Subscribed};

impl Codec {
    /// Whether a message in a binary frame can be one of this codec's.
    #[must_use]
    pub fn takes_binary(self, message: &[u8]) -> bool {
        match self {
            Self::Json => json::read::is_json(message),
        }
    }

    /// The bytes of a message's first command, and what follows them, if anything does.
    #[must_use]
    pub fn split(self, message: &[u8]) -> (&[u8], Option<&[u8]>) {
        match self {
            Self::Json => json::read::split(message),
        }
    }

    /// Reads one command, of at most so many levels of nesting.
    ///
    /// # Errors
    /// What is wrong with it; see [`Malformed`].
    pub fn read(self, bytes: &[u8], depth_max: usize) -> Result<Command<'_>, Malformed> {
        match self {
            Self::Json => json::read::shallow_command(bytes, depth_max),
        }
    }

    /// Appends the reply to a command. Replies and pushes can stand one after the other: each ends with the delimiter of
    /// [`Encoding::of`](crate::domain::encoding::Encoding::of) this codec.
    pub fn write_reply(self, out: &mut Vec<u8>, id: u32, reply: &Reply<'_>) {
        match self {
            Self::Json => json::write::reply(out, id, reply),
        }
    }

    /// Appends a push.
    pub fn write_push(self, out: &mut Vec<u8>, push: &Push<'_>) {
        match self {
            Self::Json => json::write::push(out, push),
        }
    }

    /// Appends the push of a publication. Returns where in `out` its data stands.
    pub fn write_publication(self, out: &mut Vec<u8>, published: &Published<'_>) -> Range<usize> {
        match self {
            Self::Json => json::write::publication(out, published),
        }
    }

    /// How many bytes [`Self::write_publication`] appends at most.
    #[must_use]
    pub fn publication_len(self, published: &Published<'_>) -> usize {
        match self {
            Self::Json => json::write::publication_len(published),
        }
    }

    /// Appends one more publication to those that are to stand in replies
    /// ([`EncodedPublications`](reply::EncodedPublications)).
    pub fn add_publication(self, list: &mut Vec<u8>, publication: &Publication<'_>) {
        match self {
            Self::Json => json::write::add_publication(list, publication),
        }
    }

    /// Appends one more subscription to those that are to stand in a connect reply
    /// ([`EncodedSubscriptions`](reply::EncodedSubscriptions)).
    pub fn add_subscription(self, list: &mut Vec<u8>, topic: &str, subscribed: &Subscribed<'_>) {
        match self {
            Self::Json => json::write::add_subscription(list, topic, subscribed),
        }
    }

    /// How many bytes [`Self::add_publication`] appends at most.
    #[must_use]
    pub fn added_len(self, publication: &Publication<'_>) -> usize {
        match self {
            Self::Json => json::write::added_len(publication),
        }
    }
}
