//! What the micro suites measure: with `encode`, `decode`, `mailbox` and `log` its time, by criterion; with
//! `instructions` the number of instructions, by valgrind.

#![allow(dead_code, reason = "each suite uses another part")]

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod log;
pub(crate) mod mailbox;
