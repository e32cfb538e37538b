//! Fanfare is a push engine: messages come in from RabbitMQ and go out over WebSockets, with one pinned event
//! loop per core.
//!
//! This page has the picture, the words, the laws, and the order in which to read the source. The chapters of
//! the [`manual`] explain single subjects.
//!
//! ```text
//!  publishers ──AMQP──▶ RabbitMQ ──▶ broker thread ═════ mailbox 0 ═▶ shard 0 (cpu 0) ──▶ its sockets
//!                                     │  interest, merging,  ...
//!                                     │  encoding        mailbox n ═▶ shard n (cpu n) ──▶ its sockets
//!                                     ◀═══ requests ═══════ (attach, detach, publish, ask)
//!  operators ──HTTP──▶ control thread ═══ requests ══▶ broker      /api /metrics /health, live page
//! ```
//!
//! * A **shard** ([`shard`]) owns its clients, its listeners and its poll. A client never changes its shard. A
//!   shard waits for nothing but its poll. *Deliberately absent: locks, tokio, and the [clock](base::clock), which
//!   is an argument.*
//! * The **broker thread** ([`broker`]) is the only writer of everything that belongs to a topic, and the only
//!   thread that puts publications into mailboxes. It never blocks. *Deliberately absent: sockets of clients.*
//! * The **control thread** ([`control`]) answers operators. A scrape or an API call never delays a delivery.
//! * The **http thread** ([`http_client`]) asks backends that have a URL. Resolving names, waiting for answers and
//!   reading them delay neither the broker thread nor a shard.
//! * A **mailbox** ([`base::mailbox`]) connects two threads: a bounded queue, a flag, and one wake-up for all mail of a turn.
//!
//! # Words
//!
//! | Word | Meaning |
//! |---|---|
//! | topic | the name that messages are published to and subscribed to: `channel` on the wire, the routing key in AMQP |
//! | publication | one message of one topic |
//! | line | a publication or a reply, encoded for the wire; lines are concatenated in a frame |
//! | frame | one WebSocket frame: a header, and replies or the lines of one topic |
//! | batch | the lines that one mail carries to one shard |
//! | encoding | the form in which subscribers receive a batch: lines of JSON, or a segment |
//! | segment | a batch that was compressed alone, so that segments can be concatenated in a frame |
//! | lane | an eighth of a large topic's subscribers, with merging windows of its own |
//! | log | the lines of one topic, on one shard, that some subscriber there has not been sent yet |
//! | cursor | the place of one subscriber in a log |
//! | key | identifies the item that a publication updates (`x-key`) |
//! | compaction | removes the older lines of each key from a log |
//! | history | a topic's latest publications, kept by the broker thread for recovery |
//! | position | a place in a topic's history: an offset and an epoch |
//! | epoch | identifies one numbering of publications |
//! | stream | in `net`, what moves the bytes of a connection: a TCP socket. Elsewhere, RabbitMQ's: a log that every engine reads and none empties |
//! | transport | what a connection's bytes mean, from the HTTP head to the last message: WebSocket |
//! | framing | the header that a transport puts before a slice of a log |
//! | backend | a program of the application that answers calls, reached through RabbitMQ or by HTTP |
//! | call | one request to a backend: a client's own (`rpc`, `send`), or a hook |
//! | hook | a call by which the engine asks whether a client may do something, and on what terms |
//! | session | one client's side of the protocol: it decides what each command means, and the shard does it |
//! | role | what a client is to a topic: anonymous or a user, and perhaps a subscriber; permissions name roles |
//! | node | an engine, where several use one RabbitMQ. A node of RabbitMQ is always called so |
//! | question | a request to the broker thread whose answer may be large |
//! | answer | what the broker thread says to a request, whoever sent it |
//! | reply | what a client receives for a command; the session makes it of an answer, if there was one |
//! | tick | one turn of a shard's loop |
//! | sweep | the part of a tick that goes through the subscribers of each topic with new lines |
//! | visit | one client's turn to be written to |
//!
//! # Laws
//!
//! 1. **Encode once.** The broker thread encodes a publication once per encoding in use, however many clients
//!    receive it. Lanes of a large topic may have different batches; then each lane's batch is compressed once.
//! 2. **A slow client costs a cursor, not a queue.** Only a client whose socket took nothing can lose
//!    publications. The namespace's policy decides what happens to it. A frame that was begun is always finished.
//! 3. **Merging is adaptive.** A client that is up to date gets a line at once. A client that is behind gets
//!    everything from its cursor on, in as few frames as their size allows. The busier the engine, the larger the frames.
//! 4. **One write per client per visit**, whatever is pending. A visit goes through the smaller of two sets: the
//!    client's topics, and the shard's topics with something pending.
//! 5. **A tick is bounded.** Each kind of work has a budget, and topics take turns. Clients take turns as well:
//!    each is read at most once per tick, and for at most its share.
//! 6. **An idle client costs a slot**: no buffer and no log. Rare state is boxed, and exists only while needed.
//! 7. **Nothing is unbounded.** Each limit has a name, a default and a cost in [`config`]. When all clients of a
//!    shard together reach a limit, the shard closes clients that it waits for, and at last those that hold most.
//! 8. **Order and exactness.** Per topic, clients see the order of the source. The first publication after a
//!    subscribe reply is the next one of the topic: none is missing, none comes twice.
//! 9. **Back-pressure ends in RabbitMQ.** A full log stops the mail, a full mailbox stops the consumer, and a
//!    message that was not handed over is not acknowledged.
//! 10. **One order of output per client**: the rest of a started frame, then replies in order, then publications.
//! 11. **The broker thread never blocks.** Mail for a full shard waits in the outbox. Heartbeats, timers and requests
//!     go on, except that shard's own requests beyond a bound. Taking mail never needs room among the requests, so
//!     the two threads cannot wait for each other.
//! 12. **Every close has a reason** from one closed set ([`domain::reasons`]).
//! 13. **A bug of ours asserts. A fault of a peer or of the environment is a value.**
//!
//! # In which order to read
//!
//! 1. [`domain::mail`] and [`base::mailbox`]: what the threads say to each other, and how.
//! 2. [`shard`]: the tick; then `shard/delivery.rs` (sweep and visit), [`shard::topic`] and
//!    `shard/subscribers.rs` (cursors),
//!    [`shard::log`], `shard/retention.rs` (what logs keep), `shard/compaction.rs`.
//! 3. [`net`], [`transport`], [`codec`], [`session`]: from streams to messages to commands to decisions, and back; and
//!    [`auth`]: what the token of a client says. [`domain::call`] and [`hooks`]: what the engine asks backends on behalf
//!    of clients, and what they answer.
//! 4. [`broker`]: `broker/turn.rs` (the loop), `broker/incoming.rs` and `broker/requests.rs` (its two inputs),
//!    `broker/outbox.rs`, `broker/merge.rs`, `broker/lanes.rs`, `broker/acks.rs`; then `broker/questions.rs`,
//!    `broker/recovery.rs` and `src/broker/history/`; then `src/broker/backplane/`, the seam to RabbitMQ and to
//!    topics in memory.
//! 5. [`engine`]: how the threads are put together, started and stopped. [`domain::settings`] is what they take from the
//!    configuration, and `engine/settings.rs` makes it, again at each reload.
//! 6. [`control`], [`http_client`], [`config`] and [`stats`], when you need them.
//! 7. [`load`]: the load generator, which shares no code with the part of the engine that talks to clients.
//!
//! `tests/tidy.rs` checks which module uses which. `tests/simulation` checks the laws of a shard and its sessions.

pub mod manual;

pub mod base;
pub mod domain;
pub mod auth;
pub mod shard;
pub mod net;
pub mod transport;
pub mod codec;
pub mod session;
pub mod broker;
pub mod engine;
pub mod hooks;
pub mod http_client;
pub mod control;
pub mod config;
pub mod stats;
pub mod load;
