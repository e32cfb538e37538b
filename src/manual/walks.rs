//! Walks: three ways through the source, as lists of functions.
//!
//! `tests/tidy.rs` checks that each file has the functions that are listed with it.
//!
//! # From a delivery to `send`
//!
//! On the broker thread:
//!
//! 1. `broker/turn.rs`: `take_events`, `event`, `take_event`. RabbitMQ's deliveries arrive as events.
//! 2. `broker/incoming.rs`: `take_message`, `deliver`, `publication`; `broker/encoder.rs`: `write_line`;
//!    `broker/incoming.rs`: `merge_line`. One publication per topic of the message, encoded once.
//! 3. `broker/merge.rs`: `add`. Publications of a topic wait for each other, if its namespace says so.
//! 4. `broker/incoming.rs`: `hand_over`; `broker/merge.rs`: `take_ripe`; `broker/incoming.rs`: `hand_over_batch`;
//!    `broker/encoder.rs`: `encode`. A batch is compressed here, if a subscriber wants that.
//! 5. `broker/outbox.rs`: `push`, `notify`. The lines are in the shards' mailboxes.
//!
//! On a shard:
//!
//! 1. `shard/mod.rs`: `tick`; `shard/inbox.rs`: `take_mail`, `open`.
//! 2. `shard/inbox.rs`: `append_if_wanted`; `shard/retention.rs`: `append`; `shard/topic.rs`: `append`;
//!    `shard/backlog.rs`: `append`; `shard/log.rs`: `append`. The lines are in the topic's log.
//! 3. `shard/delivery.rs`: `sweep`, `sweep_topic`, `serve`, `send_frame`. If more waits for the client, `visit` instead,
//!    as at the end of the next walk.
//! 4. `shard/topic.rs`: `next_span`, `with_frame`; `shard/log.rs`: `span`, `with_frame`; `transport/framing.rs`: `header`.
//!    The slice goes to the client's stream, with the header before it.
//! 5. `net/tcp.rs`: `write`.
//!
//! # From a command to its reply
//!
//! 1. `net/event_loop.rs`: `dispatch`; `shard/reading.rs`: `readable`. The client is in line to be read.
//! 2. `shard/mod.rs`: `tick`; `shard/reading.rs`: `read_clients`, `read`, `read_stream`, `process_input`.
//! 3. `transport/websocket/connection.rs`: `step`. A frame becomes a message:
//!    `shard/reading.rs`: `take`.
//! 4. `shard/commands.rs`: `message`, `commands`, `command`; `codec/mod.rs`: `split`, `read`; `shard/commands.rs`: `facts`.
//! 5. `session/commands.rs`: `handle`, and the method's own function, such as `subscribe`. The session decides.
//! 6. `shard/commands.rs`: `execute`, `subscribe`; `shard/membership.rs`: `join`. If the topic is attached already and
//!    the client does not recover, the reply is written at once: `queue_subscribed`. Otherwise the client waits for the
//!    broker thread's answer: `attached` or `recovered`.
//! 7. `shard/replies.rs`: `write`, `flush_lines`, `queue_lines`, `queue_output`. The codec has made the reply's bytes, and
//!    they are in the client's output.
//! 8. `shard/reading.rs`: `finish_share`; `shard/delivery.rs`: `visit`, `gather`, `settle`. One write for everything that
//!    waits for the client.
//!
//! # From a publish by the API (HTTP/1.1) to its confirm
//!
//! On the control thread:
//!
//! 1. `control/pipeline.rs`: `poll`, `begin_all`, `begin_next`, `begin`; `control/pipeline/head.rs`: `read`. All publishes
//!    that have arrived whole begin together.
//! 2. `control/api/pipelined.rs`: `begin`; `control/state.rs`: `push`, `notify`. The requests are in the broker
//!    thread's mailbox, and it is woken once for all of them.
//!
//! On the broker thread:
//!
//! 1. `broker/requests.rs`: `take_requests`, `request`, `publish`; `broker/backplane/mod.rs`: `publish`.
//! 2. `broker/backplane/rabbit/publishes.rs`: `publish`; `broker/backplane/rabbit/outgoing.rs`: `add`. The publish waits.
//! 3. `broker/backplane/rabbit/publishes.rs`: `send_pending`; `broker/backplane/rabbit/outgoing.rs`: `leave`;
//!    `broker/backplane/rabbit/link.rs`: `send`; `broker/backplane/rabbit/publisher.rs`: `send`. It goes to RabbitMQ.
//! 4. `broker/backplane/rabbit/publisher.rs`: `next`; `broker/backplane/rabbit/link.rs`: `next`;
//!    `broker/backplane/rabbit/mod.rs`: `happened`. RabbitMQ has confirmed it.
//! 5. `broker/backplane/rabbit/publishes.rs`: `hear`; `broker/backplane/rabbit/outgoing.rs`: `hear`;
//!    `broker/backplane/rabbit/publishes.rs`: `settle`. The confirm is an event.
//! 6. `broker/turn.rs`: `take_event`; `broker/requests.rs`: `answer`, `reply`; `broker/confirms.rs`: `push`, `tell`.
//!    The outcomes of a turn are told together.
//!
//! On the control thread again:
//!
//! 1. `control/pipeline.rs`: `poll`, `settle`, `settle_first`; `control/api/pipelined.rs`: `poll_answer`.
//! 2. `control/pipeline/output.rs`: `write`. One write for all answers that are there.
