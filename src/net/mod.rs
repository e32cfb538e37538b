//! The only module that has clients' sockets: a shard's event loop, its listeners and its connections.

pub mod event_loop;
pub mod listener;
pub mod stream;
mod tcp;
