//! Bytes only: WebSocket upgrades, frames of clients, frames for clients. No socket, no clock, no thread,
//! no lock; every parser is lent its input and answers what it found and how many bytes that took, or that
//! it is not whole yet.

pub mod decode;
pub mod deflate;
pub mod encode;
pub mod extension;
pub mod origin;
pub mod preamble;
pub mod refusal;
pub mod upgrade;
