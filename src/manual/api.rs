//! The server API: every method, with its parameters, results and errors.
//!
//! The API is that of Centrifugo (v5 and v6), as far as Fanfare offers it. Send `POST /api/METHOD` to the
//! control port with a JSON body. Where `control.api_key` is set, send the key as `X-API-Key: KEY` or
//! `Authorization: apikey KEY`.
//!
//! <!-- test: start engine until "serving clients" -->
//! ```sh
//! cargo run --release -- serve
//! ```
//!
//! <!-- test: run -->
//! ```sh
//! curl http://127.0.0.1:9000/api/broadcast -d '{"channels": ["order.41", "order.42"], "data": {"open": true}}'
//! ```
//! <!-- test: printed {"result":{"responses": -->
//! <!-- test: stop engine -->
//!
//! # Methods
//!
//! | Method | Parameters | Result | Errors |
//! |---|---|---|---|
//! | `publish` | `channel`, `data`; optional `idempotency_key`, `key` | `offset` and `epoch` if they are known: with history, without RabbitMQ, and not a repetition | 100, 102, 106, 107, 108, 111 |
//! | `broadcast` | `channels` (at most 10,000), `data`; optional `idempotency_key`, `key` | `responses`: for each channel the answer of a `publish` to it. If all of them fail together, such as while RabbitMQ is away, there may be one error instead | 100, 102, 106, 107, 108, 111 |
//! | `info` | none | `nodes`: this engine, with its numbers of clients, subscriptions and channels | 107, 108 |
//! | `channels` | optional `pattern` | `channels` that have subscribers, each with `num_clients` | 100, 107, 108, 111 |
//! | `history` | `channel`; optional `limit` (without it there is only the position; -1: as many as an answer may have, at most 300 publications, and no more than fit into `limits.frame_bytes`), `since` (`offset`, `epoch`), `reverse` | `publications` (each with `data`, `offset`, and `info` if a client made it: [who wrote](super::publishing)), `offset`, `epoch` | 100, 102, 107, 108, 111, 112 |
//! | `history_remove` | `channel` | empty; all engines on the same stream forget this history | 100, 102, 107, 108, 111 |
//! | `disconnect` | `client`; optional `disconnect` (`code` from 3000 to 4999, `reason` of at most 123 bytes) | empty | 107, 108, 111 |
//! | `unsubscribe` | `channel`; optional `client`, otherwise all clients | empty | 107, 108, 111 |
//! | `reload` | none | `changed`: the keys of the [configuration](super::configuration) that took effect; `needs_restart`: those that keep the value in force | 107 with everything that is wrong with the configuration, 108, 111 |
//!
//! * `idempotency_key` names one publication of each channel. A repeated request succeeds, and is pushed
//!   once.
//! * `key` is the AMQP header `x-key`: it identifies the item that this publication updates.
//! * Parameters of Centrifugo that have no effect here, such as `version`, `delta`, `tags` and `b64data`, are
//!   refused by name (108). Empty values (`null`, `false`, 0, `""`) are accepted.
//! * With `skip_history`, no history keeps the publication: it has no `offset`, and clients that come back do not get it.
//!
//! # Many publishes on one connection
//!
//! A client that sends `publish` requests by HTTP/1.1 without waiting for the answers (pipelining) gets the answers in
//! the order of the requests. Up to 64 publishes of a connection are carried out at the same time, and they reach
//! their topics in the order of the requests. One that fails does not stop those after it: if a publish depends
//! on an earlier one, wait for the earlier answer. A request for any other method begins when
//! all before it are answered, and those behind it wait for its answer. With RabbitMQ, an answered publish is in the
//! history when it has come back from the stream, milliseconds later.
//!
//! Only plain requests overlap: a `POST` with a `Content-Length`, with at most 32 header fields, and with at most 64 KiB
//! in all. The first request of another kind (chunked, larger, a `GET`, or refused because of its head) ends this for its
//! connection: from then on, its requests are carried out one after the other.
//!
//! # Errors
//!
//! The answer is `{"result":{..}}` or `{"error":{"code":..,"message":".."}}` with status 200. With the header
//! `X-Centrifugo-Error-Mode: transport`, an error is in the status instead: 100 is 500, 102 and 104 are 404, 103 is
//! 403, 106 is 413, 107 and 108 are 400, 111 is 429, 112 is 416.
//!
//! | Code | Meaning |
//! |---|---|
//! | 100 | Outcome unknown: the publication was not confirmed in time, and it may still arrive. To send it again with the same `idempotency_key` is safe. The message says whether RabbitMQ is away, has an alarm, or refused it. A `broadcast` has the time of one publication; channels that it did not reach in that time are reported as not sent. |
//! | 101 | The API key is missing or wrong (status 401). |
//! | 102 | The namespace is not configured, and `server.unknown_namespace` is `"refuse"`, its default. Permissions of clients do not bind the API. |
//! | 103 | The request's `Host` or `Origin` is another site's, and there is no key (status 403). |
//! | 104 | There is no such method. |
//! | 106 | `data` is too large. |
//! | 107 | The request is wrong; the message says where. |
//! | 108 | The engine does not offer this parameter, or the topic has no history. |
//! | 111 | The engine is behind, or is stopping, and has not done it; try again. |
//! | 112 | `since` is a position of another epoch. |
//!
//! # Statuses
//!
//! A request that is answered with one of these was not carried out.
//!
//! | Status | Meaning |
//! |---|---|
//! | 400 | The body is not JSON in UTF-8, or the request is not HTTP, breaks off, or leaves in doubt where its body ends. |
//! | 401, 403 | See errors 101 and 103. |
//! | 404 | There is no such path. |
//! | 405 | The method of HTTP is not POST. |
//! | 408 | The body did not arrive within `timeouts.upgrade`, or the memory for bodies was needed for those of other requests. While a client of HTTP/1.1 does not read its answers, its requests are not read either, and the time does not run. |
//! | 413 | The body is larger than `control.body_bytes`. |
//! | 431 | The head has more than 64 fields, or more bytes than allowed. |
//! | 503 | There is no room: all connections wait for answers, or answers that nobody reads fill the memory for them. Or the connection is about to be closed, or nothing is published any more, because the engine is stopping. With HTTP/2, where a connection is about to be closed, `REFUSED_STREAM` says so, and clients send the request again by themselves. |
