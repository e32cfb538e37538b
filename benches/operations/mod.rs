//! Operations of the hot path, and those of clients that connect, each called as the engine calls it. The suite `micro` measures their time, with criterion;
//! `instructions` counts their instructions, with valgrind.

#![allow(dead_code, reason = "each suite uses another part")]

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod handshake;
pub(crate) mod log;
pub(crate) mod mailbox;
pub(crate) mod token;
