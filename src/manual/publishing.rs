//! Publishing: which parts of a message Fanfare uses, and where a message goes that it cannot deliver.
//!
//! Publish to the topic exchange `fanfare` (`amqp.exchange`). The routing key is the topic, and the body is
//! JSON. README shows this in Python. In Node with `npm install amqplib`, as `publish.mjs`:
//!
//! <!-- test: file publish.mjs -->
//! ```js
//! import amqp from 'amqplib';
//!
//! const connection = await amqp.connect('amqp://guest:guest@127.0.0.1:5672/%2f');
//! const channel = await connection.createConfirmChannel();
//! channel.publish('fanfare', 'order.42', Buffer.from(JSON.stringify({ order: 42, by: 'amqplib' })));
//! await channel.waitForConfirms();
//! await connection.close();
//! ```
//! <!-- test: rabbitmq -->
//!
//! With an engine on the same RabbitMQ, and a subscriber:
//!
//! <!-- test: start engine until "serving clients" -->
//! ```sh
//! cargo run --release -- serve --amqp amqp://guest:guest@127.0.0.1:5672/%2f
//! ```
//! <!-- test: ready -->
//!
//! <!-- test: start subscriber until "subscribed" -->
//! ```sh
//! cargo run --release -- subscribe order.42
//! ```
//!
//! <!-- test: run -->
//! ```sh
//! node publish.mjs
//! ```
//! <!-- test: subscriber said amqplib -->
//! <!-- test: stop subscriber -->
//! <!-- test: stop engine -->
//!
//! # Headers and properties
//!
//! | Part of the message | What it does |
//! |---|---|
//! | routing key | The topic. |
//! | header `x-topics` | Further topics: a text with one topic per line, or a list of names. Use the text when an engine reads a stream: RabbitMQ 3 does not store lists there. |
//! | header `CC` | Further topics. RabbitMQ routes by them as well. RabbitMQ 4 stores this header in a stream, RabbitMQ 3 does not: use `x-topics` there. `BCC` adds no topic, because RabbitMQ removes it. |
//! | header `x-key` | A text that identifies the item that this publication updates, such as an instrument. With `slow = "skip"`, a slow client receives the newest publication of each key. |
//! | header `x-client-info` | The client that published it, as a text of JSON: see below. Engines set it, and a service may. |
//! | header `x-skip-history` | `true`: no history keeps the publication. It has no offset, and clients that come back do not get it. For what is of use only while it is new, such as "is typing". |
//! | `message-id` | A message whose id was seen recently is a repetition. It is not pushed again to the topics that it was pushed to. An empty id does not count. |
//! | `content-type` | `application/json`, `application/*+json`, none, or an unknown type: the body is JSON. `text/plain`: the body becomes a JSON string, even if it is JSON. Binary types (`application/octet-stream`, protobuf, msgpack, CBOR, images, ...): the namespace's option `binary` decides. `"refuse"` makes it a dead letter. `"json"` takes it if it is JSON; use it for libraries that label everything so, such as Ruby's bunny, Spring's `byte[]` and Java's `PERSISTENT_BASIC`. `"base64"` makes it a string. |
//! | `content-encoding` | `gzip` and `deflate` are decoded, to at most `publication_bytes`. |
//! | `expiration` | Milliseconds from when the engine received the message. An expired publication is given to nobody. RabbitMQ drops an expired message of a queue itself. A message that an engine reads late, at the start or after a lost connection, is as old as the next marker in the stream says, to one minute. After a lost connection, messages wait up to 300 ms for that marker; if it does not come, they are pushed. |
//! | `timestamp`, headers `timestamp_in_ms`, `x-timestamp-us` | When it was published, in seconds, milliseconds or microseconds since 1970. Latency is measured by the most precise one. With `amqp.trust_timestamps`, `expiration` and `history_ttl` count from it. |
//!
//! A message has at most 1,000 topics in all. A message with more reaches none of them, and is a dead letter.
//! A byte order mark before the body is skipped.
//!
//! RabbitMQ 4.0 closes the channel of a publisher that sends a header with a decimal number (AMQP's type `D`)
//! to a stream. Send such a number as text.
//!
//! # Who wrote
//!
//! A publication that a client makes (`publish` of the SDKs, in a namespace with `client_publish`) says who made it, so
//! that a chat can show it. The SDKs call this `info`: `context.info.client` in JavaScript, `context.pub.info.client` in
//! Python. It stands beside the data wherever the publication is read: live, recovered, and in a history.
//!
//! ```text
//! {"data": "hello", "info": {"user": "42", "client": "01930f3c-...", "conn_info": {"name": "Ann"}}, "offset": 7}
//! ```
//!
//! * `client` is the client's id, and is always there.
//! * `user` is the user's id. A client without one has no `user`.
//! * `conn_info` is what the connection's token says of the client for others to see, and `chan_info` the
//!   subscription's. Either may be missing.
//!
//! What a service publishes, by RabbitMQ or by the API, has no `info`. Through RabbitMQ the engines pass it on in the
//! header `x-client-info`, as JSON of this form. A service that speaks for somebody may set this header: engines believe
//! everyone who may publish to the exchange. The header has at most 64 KiB, and `conn_info` and `chan_info` have at most
//! `limits.json_depth` levels of nesting. A message with any other `x-client-info` reaches none of its topics, and is a
//! dead letter: without `info`, it would look like a message of a service.
//!
//! `info` does not count for `publication_bytes`. A publication has to fit into `limits.frame_bytes` with it, otherwise
//! the client gets error 106.
//!
//! # Dead letters
//!
//! A message that cannot be delivered goes to the exchange `fanfare.dead`, and is kept in the queue
//! `fanfare.dead`. It keeps its body, all headers and all properties. The header `x-fanfare-reason` says what
//! was wrong, and `x-fanfare-topic` names the topics; both have at most 1,024 bytes. Correct the message and
//! send it again.
//!
//! * Headers that RabbitMQ would act on have other names: `x-fanfare-expiration`, `x-fanfare-user-id`,
//!   `x-fanfare-cc` and `x-fanfare-bcc`.
//! * `x-fanfare-left-out` names the headers that did not fit into a frame.
//! * `x-fanfare-letter` is a number of the engine's own, by which it knows the confirm.
//! * A dead letter from a stream may come twice. Both have the same `x-fanfare-stream-offset`.
