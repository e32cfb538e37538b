//! Threads and descriptors: what each thread does, and which descriptors it has.
//!
//! # Threads
//!
//! | Thread | What it does | What it never does |
//! |---|---|---|
//! | shard, one per CPU | Serves its own listeners and its own clients in an event loop. | Wait for anything but its poll; take a lock; read the clock by itself: the event loop passes the time, and a clock for the budget of reading. |
//! | broker | Writes everything that belongs to a topic: which shards have subscribers, offsets, merging, encoding, history. | Block. |
//! | control | Answers operators: API, metrics, health, the live page. | Delay a delivery. |
//! | http | Sends the calls of the broker thread to the application's backends by HTTP, and reads their answers ([`crate::http_client`]). | Send a call twice. |
//! | lapin's | The sockets to RabbitMQ. | |
//! | log writer | Writes log lines, so that a shard never waits for the reader of standard error. | |
//! | watcher | Notices when another thread ends. | |
//!
//! No shard shares a lock with another thread. Threads exchange mail through mailboxes ([`crate::base::mailbox`]): bounded queues
//! with one wake-up per batch. Only answers to the control thread, and calls to the
//! application's backends and their answers, go by channels of tokio. The broker thread and
//! the control thread share two locks, for the reason why RabbitMQ refuses the engine, and for the reason why a backend is
//! left alone; a change of these and a request for the health take them for the time of a copy. A client never
//! changes its shard.
//!
//! When shards are too busy, their mailboxes fill. Then the broker's outbox fills. Then the broker stops
//! acknowledging, and RabbitMQ keeps the rest.
//!
//! # Descriptors
//!
//! With `server.private_fd_tables`, each shard's thread has a table of descriptors of its own, so that the
//! limit on descriptors counts per shard. That is how a million clients fit into one process.
//!
//! Of each limit, 256 descriptors are not for clients: listeners, RabbitMQ, the control port, files. Connections to
//! backends by HTTP have descriptors of their own: `concurrency` of each backend with a URL, 1,024 by default. They are in
//! the table of the process, so with private tables they leave as much room for clients as before. The start and `check`
//! say how many clients there is room for, and what to do if it is too few. The room is that of the start: after a reload
//! that adds backends or raises `concurrency`, a node that is full of clients may lack descriptors for connections, and calls
//! fail (100).
//!
//! When a thread gets a table of its own, only those descriptors may be open that all threads need: the polls, and the
//! broker's event loop, which shards wake by the number of a descriptor. Therefore all threads start first,
//! and only then does any of them listen or connect ([`crate::engine`]).
