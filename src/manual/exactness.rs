//! Exactness: how a subscription begins exactly after one publication, without a lock.
//!
//! # A subscription
//!
//! A shard has a slot for each topic that has subscribers there. With a topic's first subscriber, the shard
//! sends the broker thread a request to attach. The broker thread registers the shard, and answers *through
//! the mailbox that publications come by*. A mailbox keeps its order. So when the shard takes out the answer,
//! every later mail is a later publication, and all subscribers that waited are attached at the log's end. A
//! subscriber that comes to a topic that is attached already is attached at the log's end at once.
//!
//! A slot is used for another topic only after the broker thread's last mail about the old one
//! ([`crate::domain::mail`]).
//!
//! # A topic that must be bound first
//!
//! With `bindings = "dynamic"`, the engine's queue is bound only to topics that have subscribers on this engine.
//! The broker thread then answers when RabbitMQ has confirmed the binding. So everything that is published
//! after the subscribe reply comes to this engine. A topic stays bound for a while after its last subscriber.
//! Where there are many topics, several share a binding by pattern. Nothing is known of a topic while it is
//! not bound, so its history ends with its binding.
//!
//! # A client that comes back
//!
//! A client that comes back tells its position: an epoch and an offset. Its shard asks the broker thread,
//! which has the history. The answer comes through the same mailbox. So it ends with the last publication
//! that was put into that mailbox before it, and the client is attached at the log's end, as any other. A
//! publication that still waits to be merged is not in the answer, and comes after it.
//!
//! # A connect that brings subscriptions
//!
//! The token of a connection can bring several topics, and the connect has one reply for all of them. Each topic begins as
//! above, at its own moment, and its result is prepared for the reply. Until the reply is written, the sweep leaves the
//! client out, as one whose socket is full: its cursors stand at the log's end of each beginning, and publications wait
//! behind them in the logs. With the reply, the client comes back into the sweep. So nothing is missing behind the reply
//! and nothing comes twice, and a delivery knows nothing of all this.
//!
//! Where the numbers come from: [`lineage`](super::lineage).
