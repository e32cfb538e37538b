//! Extending: which files a typical change touches.
//!
//! | Change | Files |
//! |---|---|
//! | A counter or a gauge | its row in `stats/shard.rs`, `stats/broker.rs` or `stats/control.rs`; the code that adds to it |
//! | A close reason | its row in `domain/reasons.rs`; the code that closes with it |
//! | A configuration key | the field and its default in its table, such as `config/amqp.rs`; the comment in `src/config/default.toml`; its bounds in `config/validate.rs`; the code that uses it; and `config/memory.rs` if it bounds memory |
//! | A command that the shard answers itself | its values in `codec/command.rs`; each codec's reader, such as `codec/json/read.rs`; `session/commands.rs` (when it is allowed, and what it means); `shard/commands.rs` (`facts`: what the session must know; `execute`: what is done). If it has an action or a reply of its own: `session/action.rs`, `codec/reply.rs` and each codec's writer |
//! | A question to the broker thread, of a client or an operator | its variant in `domain/mail/question.rs`; its answer in `domain/mail/answer.rs`; the arm in `broker/requests.rs`, with the function that answers; if clients ask: the row above, `Pending` in `session/mod.rs`, `session/unanswered.rs`, and `session/answers.rs` (the reply); if operators ask: the row for a method. It needs no mail and no address of its own: [`ReplyTo`](crate::domain::mail::ReplyTo) and [`Mail::Answer`](crate::domain::mail::Mail::Answer) serve all of them |
//! | What a namespace permits its clients | its configuration key; the check in `session/rules.rs` |
//! | A codec | a folder beside `src/codec/json/`; its variant in `domain/codec.rs`; one arm in each method of `codec/mod.rs`; how a client asks for it: `transport/upgrade.rs` and `session/mod.rs`; its batches: `domain/encoding.rs` and `codec/encoding.rs` (form), `broker/incoming.rs` and `broker/encoder.rs` (made), `shard/membership.rs` (who gets which) |
//! | A method of the server API | its row in `stats/control.rs`, which also counts it; its arms in `control/api.rs`; a function in `src/control/api/`; `manual/api.rs` |
//! | A transport | its `Transport` in a file of its own in `src/transport/`, declared in `transport/mod.rs`; `transport/framing.rs` if its messages have another header; `engine/shard_thread.rs`, which names the one type that a shard's connections have. Beside WebSocket: a type that becomes either when the head is read, as `Either` in `tests/simulation/src/raw.rs` is; `transport/upgrade.rs` (its request) and `Step::Broken` in `transport/mod.rs` (its violations) |
//! | A kind of stream | its `Stream` in a file of its own in `src/net/`; `net/listener.rs`, which accepts it; `net/event_loop.rs`, which names the one type that a shard has; `tests/tidy.rs`, which lists the files that may use mio |
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
