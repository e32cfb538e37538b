//! Between bytes and what they say: commands, replies and pushes of the client protocol, and compression. No socket,
//! no clock, no thread.

pub mod command;
pub mod deflate;
pub mod json;
pub mod push;
pub mod reply;
