//! RabbitMQ: sources, several engines, what happens while it is away, and the rights that an engine needs.
//!
//! # Sources
//!
//! | Source | What it is | Choose it when |
//! |---|---|---|
//! | `source = "stream"` (default) | One durable stream for all engines. Each engine reads all of it and removes nothing. | clients must be able to recover on every engine, and after an engine was killed |
//! | `source = "queue"` | A queue for each engine, gone when its connection ends. | latency counts more than recovery, or an engine should receive only its own clients' topics (`bindings = "dynamic"`) |
//! | `source = "queue"`, `queue = "NAME"` | A durable queue that exists already. Use one engine per queue. | messages that are sent while the engine is down must wait for it |
//!
//! Any number of engines can use the same exchange. Each receives every message.
//!
//! # While RabbitMQ is away
//!
//! Clients stay connected, and `/health` answers 503. Publishes of clients and of the API wait. They are sent
//! as soon as RabbitMQ is back, or fail with a temporary error after `timeouts.publish`. When RabbitMQ is
//! back, an engine goes on in the stream where it was. With a queue of its own (`--source queue`), it tells
//! subscribers that messages may be missing (2500); their SDKs subscribe again by themselves.
//!
//! An engine that starts while RabbitMQ is away accepts clients at once. Clients that recover get a temporary error
//! (100) until the stream has been read back, and try again by themselves. If RabbitMQ refuses the user or the
//! virtual host at the start, the program ends and says so. If it does later, the engine tries again, and `/health`
//! says `refused`.
//!
//! To use a cluster, name several of its nodes with commas between them. When one node is away, the engine connects
//! to the next: `--amqp amqp://rabbit1,amqp://rabbit2`.
//!
//! If your own certificate authority has signed RabbitMQ's certificate, name its file in the URL:
//! `?cacertfile=FILE`. The file is read at each connect.
//!
//! # Rights
//!
//! An engine declares what it needs if it does not exist yet. A user that may declare nothing is enough when
//! everything exists: because an engine ran once with more rights, or because the operator of RabbitMQ
//! declared it. These are the least rights for each source, with the default names:
//!
//! | Source | configure | write | read |
//! |---|---|---|---|
//! | `source = "stream"` | `^$` | `^(fanfare\|fanfare\.dead\|amq\.default)$` | `^fanfare$` |
//! | `source = "queue"`, a queue of the engine's own | `^amq\.gen.*` | `^(amq\.gen.*\|amq\.default\|fanfare\|fanfare\.dead)$` | `^(fanfare\|amq\.gen.*)$` |
//! | `source = "queue"`, `queue = "orders"` | `^$` | `^fanfare(\.dead)?$` | `^orders$` |
//!
//! Where the backend `amqp` is asked, the engine must also be allowed to write to the exchange `fanfare.rpc`. That must be
//! of type topic: by one of another type no call is sent, and the log and `check --connect` say so. Replies need no right. Topic permissions there must allow each method that clients may call: RabbitMQ closes the channel for one that
//! is not allowed, and all calls that are under way by AMQP are lost.
//!
//! An engine opens two connections. A limit on connections of a virtual host or of a user must leave room for
//! them. `fanfare check --connect` connects to RabbitMQ and prints what an engine would declare there.
//!
//! The test `an_engine_needs_no_more_rights_than_the_manual_says` in `tests/it/rabbitmq_node.rs` runs an
//! engine with each set of rights.
