//! The manual: what a reader of the source, an operator and a publisher need to know, one chapter each.
//!
//! For those who use Fanfare:
//!
//! * [`publishing`]: which parts of a message Fanfare uses, and where a message goes that it cannot deliver.
//! * [`rabbitmq`]: sources, several engines, what happens while RabbitMQ is away, and the rights that an engine needs.
//! * [`configuration`]: where values come from, `check`, and namespaces.
//! * [`identity`]: tokens, which say who a client is, with a backend in Python and in Node.
//! * [`backends`]: requests of clients, and hooks by which your backend decides about them, with examples.
//! * [`permissions`]: which clients may subscribe, publish and read histories.
//! * [`recovery`]: history, and how a client receives what it missed.
//! * [`sdks`]: the SDKs that work today, with examples.
//! * [`bare_client`]: a client in 30 lines, without an SDK.
//! * [`api`]: every method of the server API, with parameters and errors.
//! * [`operating`]: metrics, health, the control port, logs, proxies and TLS.
//! * [`guarantees`]: what a subscriber receives after each fault, and the test that shows it.
//!
//! For those who read or change the source:
//!
//! * [`threads`]: what each thread does, and which descriptors it has.
//! * [`exactness`]: how a subscription begins exactly after one publication, without a lock.
//! * [`lineage`]: how offsets and epochs follow from a stream, and what happens when the stream is another
//!   one.
//! * [`acknowledging`]: when a message is acknowledged, what a gap is, and how dead letters are settled.
//! * [`slow_clients`]: logs, cursors, frames without a copy, and compaction by key.
//! * [`staggering`]: why the subscribers of a large topic receive their frames in eight lanes.
//! * [`walks`]: three ways through the source as lists of functions.
//! * [`extending`]: which files a typical change touches.
//!
//! `tests/readme.rs` runs the commands of every chapter.

pub mod publishing;
pub mod rabbitmq;
pub mod configuration;
pub mod identity;
pub mod backends;
pub mod permissions;
pub mod recovery;
pub mod sdks;
pub mod bare_client;
pub mod api;
pub mod operating;
pub mod guarantees;
pub mod threads;
pub mod exactness;
pub mod lineage;
pub mod acknowledging;
pub mod slow_clients;
pub mod staggering;
pub mod walks;
pub mod extending;
