//! Acknowledging: when a message is acknowledged, what a gap is, and how dead letters are settled.
//!
//! # When a message is acknowledged
//!
//! With `ack = "handover"` (the default), a message is acknowledged when it is in the mailboxes of all shards
//! that want it. With `ack = "written"`, it is acknowledged when it was written to every client whose socket
//! takes bytes. For that, each shard reports one number, the last batch that it has written completely, and
//! the broker thread does not acknowledge the messages of later batches.
//!
//! A durable queue sends again what was not acknowledged when the connection was lost. The message may
//! already be with the shards, on its way to them, or in the history. So everything that waits to be merged
//! is handed over at once. A repeated message is known by its `message-id` and its topics, and is
//! acknowledged when the message that it repeats is. A message without an id comes twice.
//!
//! # Gaps
//!
//! A stream has no gaps, except what its retention dropped. Queues have:
//!
//! * A queue of the engine's own ends with its connection. When it is full, it drops its oldest messages;
//!   RabbitMQ sends notices of that.
//! * A durable queue loses its messages when somebody deletes it. RabbitMQ reports this: it ends the
//!   consumer, or answers that there is no queue of that name. RabbitMQ 3 does not report it if the queue is declared again within
//!   milliseconds; the engine then sees it by the queue's number of consumers.
//!
//! The engine numbers a queue's publications itself, so the numbers show no hole. After a gap, every
//! subscriber is told (2500), and numbers begin again in another epoch.
//!
//! # Dead letters
//!
//! A message that cannot be delivered goes to the dead-letter exchange, with everything that it had, and the
//! reason. A message of a queue is acknowledged when RabbitMQ confirms its dead letter.
//!
//! A stream is read by every engine, and one of them is to send the dead letters. The others check each
//! message as well, and remember what they left to that engine. Markers in the stream say up to which offset
//! it is settled. What nobody settles is read again and dead-lettered by another engine. So a message is
//! dead-lettered at least once.
