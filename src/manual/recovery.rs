//! Recovery: how a client receives what it missed.
//!
//! A namespace with `history_size` keeps the latest publications of each topic. A client that comes back
//! receives those that it missed, in order, before any new one. The SDKs ask for this by themselves when a
//! subscription is recoverable. Set `recoverable: true` in the subscription's options, or `force_recovery =
//! true` in the namespace.
//!
//! <!-- test: file recovery.toml -->
//! ```toml
//! [namespaces.order]
//! history_size = 100        # publications of each topic; the oldest go first
//! history_ttl = "10m"       # how long each is kept
//! force_recovery = true     # every subscriber can recover, whether its client asks for it or not
//! client_history = true     # clients may also ask for the history by a command; by default it is for recovery only
//! ```
//!
//! <!-- test: run -->
//! ```sh
//! cargo run --release -- check --config recovery.toml
//! ```
//!
//! # How it works
//!
//! Each publication of such a topic has an offset, and the numbering has an epoch. The subscribe reply tells
//! the client the epoch and an offset; each publication then has its own offset. A client that comes back sends
//! its position. The engine answers with the publications after it, or tells the client that it cannot
//! (`recovered` is false, or error 112). It cannot when the history no longer reaches back to the position,
//! or when the epoch is another one.
//!
//! With a stream, the offset is the message's offset in the stream. All engines read the same stream, so a
//! position counts on every engine and after a restart. [`lineage`](super::lineage) explains epochs. Without
//! a stream each engine numbers by itself, and a position counts on that engine only, while it runs.
//!
//! `limits.history_bytes` bounds the memory of all histories of an engine. Beyond it, the oldest publications
//! go first.
//!
//! What holds after each fault: [`guarantees`](super::guarantees).
