//! Guarantees: what a subscriber receives after each fault, and the test that shows it.
//!
//! The subscriber's topic has a history, and its subscription is recoverable: the client asks for it (`recoverable: true` in
//! the SDKs), or the namespace has `force_recovery` ([`recovery`](super::recovery)). The client may subscribe
//! ([`permissions`](super::permissions)); to recover needs no other permission. A row is about one fault; the
//! columns are the sources. An empty cell means that the fault cannot happen there, or that nothing is
//! promised. "Gets what it missed" means: in order, each once, and before anything new. "Is told of the gap"
//! means: the subscription ends with 2500, and the SDK subscribes again.
//!
//! | Fault | `source = "stream"` (default) | `source = "queue"`, a queue of the engine's own | Embedded, without RabbitMQ | Test |
//! |---|---|---|---|---|
//! | The client is away for a while. | Gets what it missed. | The same. | The same. | `who_was_away_gets_what_it_missed_and_then_the_next_one` in `tests/it/recovery/` |
//! | It comes back to another engine. | Gets what it missed. | Is told that it cannot recover. | There is no other engine. | `another_node_and_one_that_was_killed_know_what_was_missed` in `tests/it/recovery/` |
//! | The engine is killed and started again. | Gets what it missed. | Is told that it cannot recover. | Is told that it cannot recover. | the same |
//! | RabbitMQ is killed and started again. | Misses nothing. | Is told of the gap. | | `nothing_is_lost_or_repeated_when_rabbitmq_stops_or_is_killed` in `tests/it/rabbit_stream/`, `clients_stay_while_rabbitmq_is_away_and_are_told_of_the_gap` in `tests/it/rabbitmq_away.rs` |
//! | The connection to RabbitMQ is cut in the middle of a frame, or both ends fall silent. | Misses nothing. | Is told of the gap. | | `link cut`, `link silent` and `queue's link cut` in `tests/ledger/` |
//! | One of three RabbitMQ nodes is killed, then a second one. | Misses nothing. While two are away, publishes fail with error 100. Everything that was confirmed is there when they are back. | | | `node killed` and `two nodes killed` in `tests/ledger/` |
//! | RabbitMQ's disk goes back in time (a power cut, a snapshot): the stream has lost its end, and gives those offsets to other messages. | On every engine, it is told that something is missing (2500), and goes on in a new epoch in which no earlier position counts. This holds as long as one engine is there that had read what is lost. | | | `a_disk_that_goes_back_in_time_hides_nothing_and_begins_a_new_epoch` in `tests/it/rabbit_rewound.rs` |
//! | The stream, or the engine's queue, is deleted while the engine runs. | Is told that something is missing, and goes on. | Is told of the gap. | | `stream deleted` and `queue deleted` in `tests/ledger/` |
//! | A durable queue (`queue = "NAME"`) is deleted while the engine runs, or is missing when its connection is back, and is declared again. | | Is told of the gap. | | `a_durable_queue_that_is_deleted_and_made_anew_is_a_gap_that_is_told` in `tests/it/rabbitmq_away.rs` |
//! | The connection is lost while messages of a durable queue are on their way to the client. | | Gets each once, and once from the history. A message without a `message-id` that was not acknowledged yet comes twice. | | `what_comes_again_after_a_lost_link_is_known_by_its_id` in `tests/it/rabbit/`, `tests/it/acknowledge.rs` |
//! | The host's clock is set back or forward by less than `history_ttl`. | Misses nothing. | | | `clock set` in `tests/ledger/` |
//! | The engine is so far behind that RabbitMQ drops what waits for it (`queue_max_messages`, or a policy). | Misses nothing that the stream keeps. | Is told of the gap. | | `an_overflow_is_a_gap_that_is_told` in `tests/it/rabbit_overflow.rs` |
//! | It comes back after nobody else was subscribed for longer than `binding_linger`, with `bindings = "dynamic"`. | | Is told that it cannot recover. | | `history_lasts_as_long_as_the_binding` in `tests/it/rabbit_bindings.rs` |
//! | It was away for longer than the history. | Is told that it cannot recover (there is no `recovered`, or error 112). | The same. | The same. | `who_was_away_for_too_long_is_told_so` in `tests/it/recovery/` |
//! | The publisher sends a message again, with the same `message-id`. | It is pushed once. | Once. | | `tests/it/rabbit_stream/`, `tests/it/rabbit/` |
//! | A client or the API publishes while RabbitMQ is away, or the confirm is lost. | It is sent again with the same `message-id` until `timeouts.publish`, then error 100. It comes once. | The same with a durable queue. What waited in the engine's own queue is part of the gap. | | `tests/it/rabbitmq_retries.rs` |
//! | A client or the API publishes together with something that RabbitMQ refuses for good (no permission). | Only the refused publication fails with error 100. The others are sent again and come once. | The same. | | `of_those_under_way_together_only_the_one_that_rabbitmq_will_never_take_fails` in `tests/it/rabbitmq_retries.rs` |
//! | A message cannot be delivered while RabbitMQ is away or short of memory. | It becomes a dead letter as soon as RabbitMQ accepts it, if the engine lives until then. When `prefetch` of them wait, messages wait too. | The same. | | `undeliverable_messages_outlive_an_alarm_that_is_longer_than_publishes_wait` in `tests/it/rabbit/` |
//! | A message that cannot be delivered was left to an engine that is killed, or comes while no engine runs. | It becomes a dead letter at least once, seconds after another engine has noticed or has started. A repetition has the same `x-fanfare-stream-offset`. | The engine's own queue ends with its engine. | | `what_cannot_be_delivered_and_was_left_to_a_node_that_was_killed_is_dead_lettered_by_another` and `what_cannot_be_delivered_and_came_while_no_engine_lived_is_dead_lettered_by_the_next_one` in `tests/it/rabbit_stream/` |
//! | The engine is killed between taking a message from a durable queue (`queue = "NAME"`) and writing it. | | `ack = "handover"`: clients that were connected may lose it. `ack = "written"`: it comes again. | | `tests/it/acknowledge.rs` |
//!
//! To run these faults, one after the other for as long as you like, with real processes, signals and SDKs:
//!
//! <!-- test: skip it takes an hour; tests/run without arguments includes each kind of fault once -->
//! ```sh
//! tests/run --faults 3600
//! ```
//!
//! It counts every message that RabbitMQ confirmed against what every client received, and prints a table by
//! kind of fault. An engine that is stopped, a RabbitMQ that is frozen or short of memory, and clients that
//! are cut off are among the faults.
