//! What clients and we say to each other: commands, replies, pushes, codes. Bytes in, values out, and the
//! other way round; no socket, no clock, no thread.

pub mod codes;
pub mod command;
pub mod json;
pub mod push;
pub mod reply;
pub mod topic;
