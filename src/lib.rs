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
//! * A **mailbox** ([`mailbox`](base::mailbox)) is the door between threads: a bounded queue, a flag, a wake-up per batch.
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
//! | lane | an eighth of a crowd: its windows for merging end at moments of its own |
//! | segment | a batch compressed alone, so that it can stand beside others in a frame |
//! | log | the lines of one topic, on one shard, that some subscriber there has not been sent yet |
//! | cursor | where in that log one subscriber stands |
//! | key | what a publication is the latest of, if its publisher says so (`x-key`) |
//! | digest | what is left of a log's older lines when only the latest of each key matter |
//! | history | a topic's latest publications, kept by the broker thread for those who come back |
//! | position | where somebody stands in a topic with history: an offset, in an epoch |
//! | epoch | what tells one numbering of publications from another |
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
//! 5. **A tick is bounded**: each kind of work has a budget, and topics take turns. So do clients: each is read once
//!    per tick, and has a share of it (`shard/reading.rs`).
//! 6. **An idle client costs a slot**: no buffer, no log; what is rare is boxed while it is there.
//! 7. **Nothing is unbounded**: each limit has a name, a default and a cost in [`config`]. Where all clients together
//!    reach one, those go who let the shard wait, and in the end those of whom most is kept (`shard/shedding.rs`).
//! 8. **Order and exactness**: per topic, clients see the backplane's order. After a subscribe reply comes the
//!    first publication after it: none missing, none twice.
//! 9. **Back-pressure ends in RabbitMQ**: a full log stops the mail, a full mailbox stops the consumer, and
//!    what was not handed over is not acknowledged.
//! 10. **One road out per client**: the rest of a started frame, then replies in order, then publications.
//! 11. **The broker thread never blocks**: a full shard's mail waits in its outbox while heartbeats, timers and
//!     requests go on, but for those of that shard beyond a bound. Taking mail never needs room among the
//!     requests: so the two cannot wait for each other.
//! 12. **Every close has a reason** out of one closed set ([`domain::reasons`]).
//! 13. **Our own bug asserts; the peer's fault and the environment's are values.**
//!
//! # Exact subscribe without a lock
//!
//! A shard asks the broker for a topic with the topic's first subscriber. The broker registers the shard and
//! answers *through the mailbox that publications come by*, which is first in, first out: so when the answer is
//! taken out, every later mail is a later publication, and whoever waited is attached at the log's end. Who
//! comes to a live topic is attached there at once. A slot for a topic is used again only after the broker's
//! last word on it ([`domain::mail`]).
//!
//! Where the node's queue is bound to those topics only that somebody here subscribes to, the broker answers when
//! RabbitMQ has confirmed the binding: so what is published after the reply comes to this node. A topic stays bound
//! for a while after its last subscriber, and shares a pattern with others where there are many
//! (`broker/backplane/rabbit/bindings.rs`). Nothing is known of a topic while it is not bound: its history ends with its binding.
//!
//! # How somebody comes back
//!
//! A stream numbers its messages, and that is what nodes number publications by; where there is none, each topic is
//! numbered 1, 2, 3 by the node. A client that comes back says which epoch and offset it has. Its shard asks the broker
//! thread, which has the history, and answers through the mailbox that publications come by: so the answer ends with
//! the last publication that was put into that mailbox before it, and the client is attached at the log's end, as
//! anybody else. What still waits to be merged is not in the answer, and comes after it (`broker/recovery.rs`,
//! `broker/history/mod.rs`).
//!
//! A node that starts reads the stream back before it lets clients in. What its history is, is a function of the stream
//! alone, so that any node, after any restart, gives the same answer; only what ends in time may end up to a minute later
//! on one (`broker/message_age.rs`). AMQP shows no identity of a stream: markers in it do, and name its epoch
//! (`broker/backplane/rabbit/trail.rs`). When the epoch is another one, every subscriber is told (2500), and gets nothing of the new
//! numbering before.
//!
//! # When a message is acknowledged
//!
//! When it is in the mailboxes of all shards that want it; or, if the operator wants so, when it was written to
//! everybody who could be written to. For that each shard reports one number, through which batch it has written
//! ([`domain::receipt`]), and the broker thread holds the messages that came in later ones.
//!
//! What was not acknowledged when a link is lost comes again from a durable queue. It is with the shards, or on its way
//! to them, and in the history; so what waits to be merged goes out at once, and what comes again is known by its
//! `message-id` and its topics, and acknowledged when what it repeats is. A message without an id comes twice then.
//!
//! # When something is missing
//!
//! Of a stream nothing is, but what its retention dropped. A queue of the node's own is gone with its connection, and
//! drops its oldest messages when it is full, of which RabbitMQ sends notices (`broker/backplane/rabbit/overflow.rs`). A durable
//! one is gone with all that is in it when somebody deletes it, which RabbitMQ tells by ending the consumer, or by having
//! none of its name (and what RabbitMQ 3 does not tell, its number of consumers does: `broker/backplane/rabbit/intake.rs`). The node numbers a queue's publications itself and sees no hole in them; so after either, everybody
//! is told (2500), and numbers begin again in another epoch.
//!
//! # What cannot be delivered
//!
//! Such a message goes to the dead-letter exchange, with all that it had and the reason. From a queue it is acknowledged
//! when that is confirmed. Of a stream every node reads every message, and one of them is to dead-letter what comes; the
//! others look at it as well, and remember what they left to that one. Markers say up to where the stream is settled, and
//! what nobody settles is read again and dead-lettered by another: so at least once (`broker/backplane/rabbit/coverage.rs`).
//!
//! # How a frame leaves without a copy
//!
//! The log holds lines one after the other. What a subscriber lacks is one slice, and all that is missing for
//! a WebSocket frame is a header for its length. [`shard::log::Log::with_frame`] writes it over the bytes
//! *before* the slice, calls `send` once, and puts the bytes back.
//!
//! It is the same where clients take compressed messages (permessage-deflate, RFC 7692) and the namespace has
//! `deflate`. A topic in two encodings is two topics of one name to a shard, and the log of the second holds
//! segments: each a deflate stream that refers to nothing before it and ends at a byte ([`codec::deflate`]). Any
//! number of them, from any cursor on, is one message. So compressing is paid once per batch, and a client that
//! takes it costs its shard what any other does, for fewer bytes.
//!
//! # Why a crowd gets its frames in lanes
//!
//! Where a namespace has `max_delay`, publications of a topic wait for each other in a window, and a window's end
//! is one pass over all subscribers. For 100,000 of them that takes most of a second: the last one's frame would
//! be that much older than the delay, and the CPU idle until the next window ends. So the subscribers of a crowd
//! (`budgets.crowd`) are spread over eight lanes, by their clients' slots. A lane is to a shard what an encoding
//! is, a topic of the same name ([`domain::mail::Variant`]); the broker merges for each lane that somebody is in, and the
//! lanes' windows end one after the other, evenly over the delay (`broker/lanes.rs`). A line is then as old as the
//! delay and an eighth of a pass at most.
//!
//! The first windows after a pause last the whole delay for every lane, so that what is published within the
//! delay leaves as one frame, and as one batch for all. After it, each lane has at most one frame per delay,
//! unless limits end its windows earlier. Batches that differ from lane to lane are compressed for each.
//!
//! # What a slow client gets of many keys
//!
//! Where a namespace's slow clients skip, and publications have keys, somebody who is too slow gets the latest of
//! each key that it missed. Who is too slow is known where the logs are, and not before a log must drop something:
//! so it is done there, and not while publications wait to be merged, where it would take changes from those who
//! keep up as well. The broker thread says with each batch which lines are of which key, as numbers. When a log is
//! full of what only blocked clients lack, the older part is *compacted* (`shard/log.rs`): lines that a
//! later one makes superfluous go, the others stay in their order.
//!
//! Of such a digest each client lacks what stands behind its cursor, as of any log: one slice, in as few frames as
//! the limit on frames allows, with nothing in it that the client has already. So a digest is made once per topic and
//! shard, whoever needs it; sending knows nothing of keys; and a client still costs a cursor. A segment is cut by
//! storing the lines that stay, uncompressed, where that is shorter: compressing is done once, by the broker.
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
//! 1. [`domain::mail`] and [`base::mailbox`]: what the threads say to each other, and how.
//! 2. [`shard`]: the tick; then `shard/delivery.rs` (sweep and visit), [`shard::topics`] (cursors),
//!    [`shard::log`], `shard/retention.rs` (what logs keep, and who pays), `shard/compaction.rs`.
//! 3. [`net`], [`session`], [`transport`], [`codec`]: from sockets to bytes to commands, and back.
//! 4. [`broker`]: `turn.rs` (the loop), `incoming.rs` and `requests.rs` (its two doors), `outbox.rs`,
//!    `merge.rs`, `lanes.rs`, `acks.rs`, then `recovery.rs` and `history/`, then `backplane/`: the seam, with `rabbit/` and
//!    `memory.rs` behind it.
//! 5. [`engine`]: how it is put together, started and stopped. [`control`] and [`config`] when you need them.
//! 6. [`load`]: the load generator, which knows nothing of the engine but its protocol.
//!
//! Who may know whom is kept by `tests/tidy.rs`; that the laws hold, by `tests/simulation`.

pub mod base;
pub mod domain;
pub mod shard;
pub mod net;
pub mod session;
pub mod transport;
pub mod codec;
pub mod broker;
pub mod engine;
pub mod config;
pub mod control;
pub mod stats;
pub mod load;
