//! Extending: which files a typical change touches.
//!
//! | Change | Files |
//! |---|---|
//! | A counter or a gauge | its row in `stats/shard.rs`, `stats/broker.rs` or `stats/control.rs`; the code that adds to it |
//! | A close reason | its row in `domain/reasons.rs`; the code that closes with it |
//! | A configuration key | the field and its default in its table, such as `config/amqp.rs`; the comment in `src/config/default.toml`; the code that uses it; its bounds, if its type has others, in `config/validate.rs`. Some need more: `config/unusable.rs`, if its bounds have words of their own; `config/memory.rs`, if it bounds memory; `config/warnings.rs`, if its default is wider than an operator may expect |
//! | A command that the shard answers itself | its values in `codec/command.rs`; each codec's reader, such as `codec/json/read.rs`; `session/commands.rs` (when it is allowed, and what it means); `shard/commands.rs` (what is done) |
//! | A command about a topic that the broker thread answers | what is asked and what is told in `domain/asked.rs`; each codec's reader and writer, such as `codec/json/read.rs` and `codec/json/write.rs`; who may ask it in `session/rules.rs`; its arm and the function that answers in `broker/questions.rs`. What is between them is the same for all: [`Asked`](crate::domain::asked::Asked) becomes a [`Question`](crate::domain::mail::Question), and [`Told`](crate::domain::asked::Told) a reply |
//! | A request of an operator to the broker thread | its variant in `domain/mail.rs`, with a [`ReplyTo`](crate::domain::mail::ReplyTo) or a [`ControlReply`](crate::domain::mail::ControlReply) as the address of the answer; its arm in `broker/requests.rs` |
//! | A reply or a push with fields of its own | its values in `codec/reply.rs` or `codec/push.rs`; each codec's writer, such as `codec/json/write.rs` |
//! | What a namespace permits its clients | its configuration key; the check in `session/rules.rs` |
//! | A codec | a folder beside `src/codec/json/`; its variant in `domain/codec.rs`; one arm in each method of `codec/mod.rs`; its sub-protocol in `transport/upgrade.rs`. Its batches are an encoding |
//! | An encoding of batches | its variant in `domain/encoding.rs`; `shard/membership.rs`: `variant_for` (who gets it); `codec/encoding.rs` (its form); `broker/encoder.rs` (how it is made of lines); `broker/incoming.rs`, if its lines are of another codec |
//! | A method of the server API | its row in `stats/control.rs`, which also counts it; its arms in `control/api.rs`; a function in `src/control/api/`; `manual/api.rs` |
//! | A transport | its `Transport` in a file of its own in `src/transport/`, declared in `transport/mod.rs`; `transport/framing.rs` if its messages have another header; `engine/shard_thread.rs`, which names the one type that a shard's connections have. Beside WebSocket: a type that becomes either when the head is read, as `Either` in `tests/simulation/src/raw.rs` is; `transport/upgrade.rs` (its request) and `Step::Broken` in `transport/mod.rs` (its violations) |
//! | A kind of stream | its `Stream` in a file of its own in `src/net/`, declared in `net/mod.rs`; `net/listener.rs`, which accepts it; `net/event_loop.rs`, which names the one type that a shard has; `tests/tidy.rs`, which lists the files that may use mio |
//! | A reason to refuse an upgrade | its variant in `transport/refusal.rs`; the check in `transport/upgrade.rs` |
//!
//! # Rules that a change must keep
//!
//! * `tests/tidy.rs` says which module may use which, and how long files and functions may be. Change the
//!   rule there, with the reason, if it stands in the way of something better.
//! * A queue, buffer or table needs a limit with a name, in number and in bytes ([`crate::config`]).
//! * A new fault of a peer needs a case in the simulation or in a test program. A new fault of RabbitMQ needs
//!   one in `tests/ledger/`.
//! * A change that users notice needs a line in the changelog.
