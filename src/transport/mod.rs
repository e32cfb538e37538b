//! From a connection's bytes to complete messages: the HTTP request that opens it, and the protocol after it.
//! No socket, no clock, no thread, no lock: every parser borrows its input, and returns what it found and how
//! many bytes that took, or that it is incomplete.

pub mod origin;
pub mod preamble;
pub mod refusal;
pub mod upgrade;
pub mod websocket;
