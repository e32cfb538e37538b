//! Operating: metrics, health, the control port, logs, proxies and TLS.
//!
//! # Metrics
//!
//! `/metrics` on the control port has Prometheus' text format, and OpenMetrics for scrapers that ask for it.
//! Each metric has its explanation in the answer. With an `api_key`, `/metrics` and the live page are open
//! to everybody who can reach the port. With `control.guard_metrics = true`, both want the key; Prometheus
//! sends it by `authorization: {type: apikey, credentials: KEY}`.
//!
//! # Health
//!
//! `/health` and `/health/ready` answer 200, or 503 while the engine starts or stops, while it is not connected to
//! RabbitMQ, and before it has the key set without which nobody can connect (`jwks.url`; the field `key_set` is then
//! `awaited`): for proxies. `/health/live` always answers 200: for supervisors. None of them wants a key. Their field
//! `rabbitmq` has one of these values:
//!
//! | Value | Meaning |
//! |---|---|
//! | `ready` | RabbitMQ is connected. |
//! | `loading` | A stream is being read back. |
//! | `blocked` | RabbitMQ accepts no publishes because of an alarm for memory or disk. RabbitMQ reports this only to a connection that publishes, when it publishes. Clients still receive, so the status stays 200. |
//! | `refused` | RabbitMQ does not let the engine in; `reason` says why. |
//! | `away` | There is no connection. |
//! | `embedded` | The engine runs without RabbitMQ. |
//!
//! While a shard hangs, `/health` and `/health/ready` answer 503, and `hung_shards` has its number: its loop has not
//! turned for five seconds, so its clients receive nothing. An idle shard turns once per second. The log has a line at
//! level `error` when a shard begins to hang. Only a restart helps if it does not turn again.
//!
//! A backend of the application that has failed too often (`backends.NAME.failures` times in a row) is left alone for a
//! second, and then for up to 30 s at a time: calls to it end at once (error 100). `suspended_backends` names it, with
//! the time since when and what failed last. The status stays 200, as everything else works. The log has a line when that
//! begins and when it ends, and `fanfare_backend_suspended` is 1 meanwhile.
//!
//! # The control port
//!
//! The port takes 96 connections, and 8 more for `/health`. One connection of HTTP/2 may have 16 requests at
//! a time; their bodies share 64 KiB per round trip. When more connections come, the engine closes an idle
//! one, in this order:
//!
//! 1. one that has never sent a request;
//! 2. one that has asked only for what is open to all;
//! 3. the one that has been idle for longest.
//!
//! A connection that has asked only for what is open to all may be closed even within an answer. Where there
//! is an `api_key`, let scrapers send it.
//!
//! When there is no room for large answers, the engine closes a connection that has not read all of its
//! answer within two seconds. Where there is an `api_key`, requests without it get 503 until then.
//!
//! # Logs
//!
//! Some log lines are caused by peers, such as refused connections or dead letters. Each kind has at most one
//! line per interval. `more_since_last` counts those since the line before. If nothing follows, a last line
//! tells that number.
//!
//! # Several engines behind one address
//!
//! Any number of engines on one RabbitMQ serve the same topics. A client may connect to any of them, and a
//! proxy needs no sticky sessions. `tuning/nginx/nginx.conf` and `tuning/haproxy/haproxy.cfg` put one address
//! in front of two engines: by least connections, at random, or in turns, chosen by one line.
//! `tests/it/proxies/` starts both proxies with each method, and stops an engine.
//!
//! Prefer HAProxy: it asks each engine's `/health`. nginx notices only by failed clients that it must go to
//! the next engine.
//!
//! An engine that stops closes its clients at a bounded rate (`stop.clients_per_second`). They reconnect
//! through the proxy to the other engines.
//!
//! # TLS
//!
//! Fanfare speaks no TLS to clients yet. Both proxy configurations contain the lines for TLS as comments. To
//! RabbitMQ, use `amqps://`.
//!
//! # Limits and tuning
//!
//! Every queue, buffer and table has a limit with a name in the configuration. `fanfare config` prints each
//! with its default and its cost. `fanfare check` compares the limits with this machine; see
//! [`configuration`](super::configuration).
