//! Fanfare: a push engine. RabbitMQ in, WebSockets out, one pinned event loop per core.
//!
//! This page is the architecture: the picture, the words, the laws, and the order in which to read.
//!
//! ```text
//!  publishers ──AMQP──▶ RabbitMQ ──▶ broker thread ═════ mailbox 0 ═▶ shard 0 (cpu 0) ──▶ its sockets
//!                                     │  interest, merging,  ...
//!                                     │  encoding        mailbox n ═▶ shard n (cpu n) ──▶ its sockets
//!                                     ◀═══ requests ═══════ (attach, detach, publish)
//!  operators ──HTTP──▶ control thread ═══ requests ══▶ broker      /api /metrics /health, live page
//! ```
//!
//! * A **shard** ([`shard`]) owns its clients, its listeners and its poll. A client never changes shard, and a
//!   shard waits for nothing but its poll. *Deliberately absent: locks, tokio, and the clock, which is an
//!   argument.*
//! * The **broker thread** ([`broker`]) is the single writer of everything that belongs to a topic, and the
//!   only one that puts publications into mailboxes. It never blocks. *Deliberately absent: sockets of
//!   clients.*
//! * The **control thread** ([`control`]) answers operators. A scrape or an API call never delays a delivery.
//! * A **mailbox** ([`mailbox`]) is the door between threads: a bounded queue, a flag, a wake-up per batch.
//!
//! # Words
//!
//! | word | means |
//! |---|---|
//! | topic | what one publishes to and subscribes to: `channel` on the wire, the routing key in AMQP |
//! | publication | one message of one topic |
//! | line | a publication encoded for the wire, ready to stand beside others in a frame |
//! | frame | one WebSocket frame: a header and one or more lines of one topic |
//! | batch | the lines that one mail carries to one shard |
//! | encoding | what a batch is to those who want it so: lines of JSON, or a segment |
//! | segment | a batch compressed alone, so that it can stand beside others in a frame |
//! | log | the lines of one topic, on one shard, that some subscriber there has not been sent yet |
//! | cursor | where in that log one subscriber stands |
//! | session | one client's protocol state, from upgrade to close |
//! | tick | one turn of a shard's loop |
//!
//! # Laws
//!
//! 1. **Encode once**: a publication becomes bytes once per encoding in use, by the broker thread, whoever
//!    listens.
//! 2. **A slow client costs a cursor, not a queue.** Only a client that could not be written to can lose
//!    publications; the namespace's policy says what becomes of it. Who is in the middle of a frame gets the
//!    rest of it first.
//! 3. **Merging is adaptive**: who is up to date gets a line at once; who is behind gets everything from its
//!    cursor on in one frame. The busier, the larger the frames.
//! 4. **One write per client per visit**, whatever is pending. A visit looks at the smaller of two sets: the
//!    client's topics, and the shard's topics with something pending.
//! 5. **A tick is bounded**: each kind of work has a budget, and topics take turns.
//! 6. **An idle client costs a slot**: no buffer, no log; what is rare is boxed while it is there.
//! 7. **Nothing is unbounded**: each limit has a name, a default and a cost in [`config`].
//! 8. **Order and exactness**: per topic, clients see the backplane's order. After a subscribe reply comes the
//!    first publication after it: none missing, none twice.
//! 9. **Back-pressure ends in RabbitMQ**: a full log stops the mail, a full mailbox stops the consumer, and
//!    what was not handed over is not acknowledged.
//! 10. **One road out per client**: the rest of a started frame, then replies in order, then publications.
//! 11. **The broker thread never blocks**: a full shard's mail waits in its outbox while requests, heartbeats
//!     and timers go on. Taking mail never needs room among the requests: so the two cannot wait for each
//!     other.
//! 12. **Every close has a reason** out of one closed set ([`protocol::codes`]).
//! 13. **Our own bug asserts; the peer's fault and the environment's are values.**
//!
//! # Exact subscribe without a lock
//!
//! A shard asks the broker for a topic with the topic's first subscriber. The broker registers the shard and
//! answers *through the mailbox that publications come by*, which is first in, first out: so when the answer is
//! taken out, every later mail is a later publication, and whoever waited is attached at the log's end. Who
//! comes to a live topic is attached there at once. A slot for a topic is used again only after the broker's
//! last word on it ([`mail`]).
//!
//! # How a frame leaves without a copy
//!
//! The log holds lines one after the other. What a subscriber lacks is one slice, and all that is missing for
//! a WebSocket frame is a header for its length. [`shard::log::Log::with_frame`] writes it over the bytes
//! *before* the slice, calls `send` once, and puts the bytes back.
//!
//! It is the same where clients take compressed messages (permessage-deflate, RFC 7692) and the namespace has
//! `deflate`. A topic in two encodings is two topics of one name to a shard, and the log of the second holds
//! segments: each a deflate stream that refers to nothing before it and ends at a byte ([`wire::deflate`]). Any
//! number of them, from any cursor on, is one message. So compressing is paid once per batch, and a client that
//! takes it costs its shard what any other does, for fewer bytes.
//!
//! # Descriptors
//!
//! With `server.private_fd_tables` each shard's thread has a table of descriptors of its own, so that the limit on
//! them counts per shard: that is how a million clients fit into one process. Nothing may be open when the tables
//! part but what all need: the polls, and the broker's event loop, which shards wake by a descriptor's number. So
//! threads take their places first, and only then anybody listens or connects ([`engine`]).
//!
//! # In which order to read
//!
//! 1. [`mail`] and [`mailbox`]: what the threads say to each other.
//! 2. [`shard`]: the tick; then `shard/delivery.rs` (sweep and visit), [`shard::topics`] (cursors),
//!    [`shard::log`], `shard/retention.rs` (what logs keep, and who pays).
//! 3. [`session`], [`wire`], [`protocol`]: from bytes to commands, and back.
//! 4. [`broker`]: `turn.rs` (the loop), `incoming.rs` and `requests.rs` (its two doors), `merge.rs`, `acks.rs`,
//!    then `backplane.rs` and behind it `rabbit/` and `memory.rs`.
//! 5. [`engine`]: how it is put together, started and stopped. [`control`] and [`config`] when you need them.
//! 6. [`load`]: the load generator, which knows nothing of the engine but its protocol.
//!
//! Who may know whom is kept by `tests/tidy.rs`; that the laws hold, by `tests/simulation`.

pub mod broker;
pub mod client_id;
pub mod config;
pub mod control;
pub mod demo;
pub mod engine;
pub mod lifecycle;
pub mod load;
pub mod mail;
pub mod mailbox;
pub mod namespaces;
pub mod protocol;
pub mod ratelimit;
pub mod receipt;
pub mod session;
pub mod shard;
pub mod slab;
pub mod stats;
pub mod wire;
