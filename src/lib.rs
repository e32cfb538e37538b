//! Fanfare: a push engine. RabbitMQ in, WebSockets out.

pub mod broker;
pub mod client_id;
pub mod config;
pub mod control;
pub mod demo;
pub mod engine;
pub mod lifecycle;
pub mod mail;
pub mod mailbox;
pub mod namespaces;
pub mod protocol;
pub mod ratelimit;
pub mod session;
pub mod shard;
pub mod stats;
pub mod wire;
