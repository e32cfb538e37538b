//! Extending: which files a typical change touches.
//!
//! The number counts the files that every such change touches. Tests and the changelog are not counted.
//!
//! | Change | | Files |
//! |---|---|---|
//! | A counter or a gauge | 2 | its row in `stats/shard.rs`, `stats/broker.rs` or `stats/control.rs`; the code that adds to it |
//! | A close reason | 2 | its row in `domain/reasons.rs`; the code that closes with it |
//! | A configuration key | 3 or 4 | the field and its default in its table, such as `config/amqp.rs`; the comment in `src/config/default.toml`; the code that uses it; its bounds, if its type has others, in `config/validate.rs`. Some need one more: `config/unusable.rs`, if its bounds have words of their own; `config/memory.rs`, if it bounds memory; `config/warnings.rs`, if no operator would want some valid value; `config/decisions.rs`, if its default is narrower than an operator may expect |
//! | A command that the shard answers itself | 5 | its values in `codec/command.rs`; each codec's reader, such as `codec/json/read.rs`; `session/commands.rs` (when it is allowed, and what it means); `session/action.rs` (what the session decides); `shard/commands.rs` (what is done). Two more if its reply has fields of its own: the next row but two |
//! | A command about a topic that the broker thread answers | 5 | its question and its answer in `domain/asked.rs`; each codec's reader and writer, such as `codec/json/read.rs` and `codec/json/write.rs`; who may ask it in `session/rules.rs`; its arm, and the function that answers, in `broker/questions.rs`. Session and shard need no change: [`Asked`](crate::domain::asked::Asked) becomes a [`Question`](crate::domain::mail::Question), and [`Told`](crate::domain::asked::Told) a reply |
//! | A request of an operator to the broker thread | 2 | its variant in `domain/mail.rs`, with a [`ReplyTo`](crate::domain::mail::ReplyTo) or a [`ControlReply`](crate::domain::mail::ControlReply) as the address of the answer; its arm in `broker/requests.rs` |
//! | A reply or a push with fields of its own | 2 | its values in `codec/reply.rs` or `codec/push.rs`; each codec's writer, such as `codec/json/write.rs` |
//! | A hook: a question to a backend before a command is decided. There is none yet | 4 | `session/commands.rs`: the command waits ([`Session::asked`](crate::session::Session::asked)); its request in `domain/mail.rs`, with a [`ReplyTo`](crate::domain::mail::ReplyTo); its arm in `broker/requests.rs`; the code that asks the backend, in a file of its own in `src/broker/` |
//! | What a namespace permits its clients | 1, and a key | its configuration key; the check in `session/rules.rs` |
//! | A codec | 4, and an encoding | a folder beside `src/codec/json/`; its variant in `domain/codec.rs`; one arm in each method of `codec/mod.rs`; its sub-protocol in `transport/upgrade.rs`. Its subscribers receive batches in an encoding of their own: the next row |
//! | An encoding of batches | 4 or 5 | its variant in `domain/encoding.rs`; `shard/membership.rs`: `variant_for` (who gets it); `codec/encoding.rs` (its form); `broker/encoder.rs` (how it is made of lines). If its lines are of another codec, also `broker/incoming.rs` (whether they fit into a frame) |
//! | A method of the server API | 4 | its row in `stats/control.rs`, which also counts it; its arms in `control/api.rs`; a function in `src/control/api/`; `manual/api.rs` |
//! | A transport | 4 to 6 | its `Transport` in a file of its own in `src/transport/`; `transport/mod.rs` (its module, and its violations in `Step::Broken`); `transport/upgrade.rs` (its request); `engine/shard_thread.rs`, which names the one type that a shard's connections have. If its messages have another header: `transport/framing.rs`. The second one beside WebSocket also needs a type that becomes one or the other when the head is read, as `Either` in `tests/simulation/src/raw.rs` does |
//! | A kind of stream | 5 | its `Stream` in a file of its own in `src/net/`; `net/mod.rs` (its module); `net/listener.rs`, which accepts it; `net/event_loop.rs`, which names the one type that a shard has; `tests/tidy.rs`, which lists the files that may use mio |
//! | A reason to refuse an upgrade | 2 | its variant in `transport/refusal.rs`; the check in `transport/upgrade.rs` |
//!
//! Five where one would like four: the reader and the writer of a codec are two files, because one would have
//! about 500 lines.
//!
//! # Rules that a change must keep
//!
//! * `tests/tidy.rs` says which module may use which, and how long files and functions may be. Change the
//!   rule there, with the reason, if it stands in the way of something better.
//! * A queue, buffer or table needs a limit with a name, in number and in bytes ([`crate::config`]).
//! * A new fault of a peer needs a case in the simulation or in a test program. A new fault of RabbitMQ needs
//!   one in `tests/ledger/`.
//! * A change that users notice needs a line in the changelog.
