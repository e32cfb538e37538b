//! What the tests through the whole share: a running engine, a RabbitMQ of their own, scripts that drive
//! SDKs, and waiting without sleeping for luck.
//!
//! Every test program compiles this for itself and uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test program uses another part")]

pub mod bytes;
pub mod engine;
pub mod framed;
pub mod frames;
pub mod harness;
pub mod http;
pub mod kept;
pub mod peer;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod publisher;
pub mod rabbitmq;
pub mod random;
pub mod script;
pub mod swarm;
pub mod wait;
pub mod websocket;
