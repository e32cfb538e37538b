//! Configuration: where values come from, how to check them, how to change them while the engine runs, and namespaces.
//!
//! Every key has a default, so there is nothing to configure at first. Defaults come first, then the file,
//! then the environment (`FANFARE_LIMITS_CLIENTS=50000`), then the flags. A later value replaces an earlier
//! one. This prints all keys with what they do, their limits and their cost, and then checks the file. An
//! engine may be running meanwhile:
//!
//! <!-- test: run -->
//! ```sh
//! cargo run --release -- config > fanfare.toml
//! cargo run --release -- check --config fanfare.toml
//! ```
//!
//! # Namespaces
//!
//! The namespace of a topic is what stands before its first `:`. Each namespace has a table of options:
//!
//! <!-- test: file chat.toml -->
//! ```toml
//! [namespaces.chat]           # the topics chat:...
//! client_publish = true       # every client may publish here; a list of roles says who instead
//! slow = "disconnect"         # a client that is too slow is closed (3008) and comes back; or "resync", or "skip"
//!
//! [namespaces.prices]         # the topics prices:...
//! slow = "skip"               # a client that is too slow gets the newest of each x-key; without keys, the newest
//!
//! [namespaces.default]        # the topics without a `:`
//! max_delay = "100ms"         # publications wait for each other for this long, and leave in one frame
//!
//! [server]
//! unknown_namespace = "refuse"  # `mistyped:x` is error 102; "default": it has the options of the default namespace
//! ```
//!
//! <!-- test: run -->
//! ```sh
//! cargo run --release -- check --config chat.toml
//! ```
//!
//! What clients may do is narrow until a namespace says otherwise: they subscribe, and do not publish or read histories.
//! Topics of a namespace that is not configured do not exist. [`permissions`](super::permissions) has the rules. Who
//! a client is, its token says: [`identity`](super::identity).
//!
//! # Reload
//!
//! `SIGHUP` (`systemctl reload fanfare`) or `POST /api/reload` has the engine read its configuration again: the file, and
//! the files with keys that it names. Clients stay connected.
//!
//! <!-- test: start engine until "serving clients" -->
//! ```sh
//! cargo run --release -- serve
//! ```
//!
//! <!-- test: run -->
//! ```sh
//! curl -X POST http://127.0.0.1:9000/api/reload
//! ```
//! <!-- test: printed {"result":{"changed":[],"needs_restart":[]}} -->
//! <!-- test: stop engine -->
//!
//! * All of it takes effect, or nothing. If something is wrong, everything stays as it was, and the log and the answer
//!   say what a start would say.
//! * `changed` names the keys that took effect, and those whose files have other contents. `needs_restart` names the keys
//!   that have another value in the file and keep the one in force. The log names both.
//! * The keys that take effect must be valid together with the values in force of those that do not. Otherwise nothing
//!   changes.
//! * A process cannot see that its environment has changed, and its flags stay: both go over the file as at the start.
//!   A secret that is to be replaced without a restart belongs into the file.
//! * An engine that wants tokens goes on wanting them: a file without any key, one that is just being written for example,
//!   is refused unless it says `tokens.anonymous = "allow"`.
//! * Each engine is told by itself.
//!
//! When the answer comes, everything has been read and checked, and the broker thread has been told. The shards follow, one
//! after the other, mostly within milliseconds; later while a shard is behind, or while a stream is read back at the start.
//! A signal before the first listener is open has no effect.
//!
//! | Keys | Take effect |
//! |---|---|
//! | `[tokens]`, `[subscription_tokens]`, `jwks.file`, `limits.user_max`, `limits.info_bytes` | with the next token that a client shows. A key that is gone opens no connection and no subscription, and refreshes none. Whoever is connected stays until its token expires. |
//! | `limits.tokens` | at once; what tokens said is forgotten. |
//! | `server.insecure`, `tokens.anonymous` | when clients connect. |
//! | `server.allowed_origins`, `server.token_cookie`, `server.token_query` | with the next HTTP request. |
//! | `control.api_key`, `guard_metrics`, `api_key_in_url`, `body_bytes` | with the next request to the control port, on open connections too. |
//! | `client_subscribe`, `client_publish`, `client_history`, `client_presence`, `topic_pattern`, `server_only`, `server.user_boundary`, `limits.topics_per_client`, `limits.topic_bytes` | with a client's next command. Subscriptions stay, even those that would not be allowed any more. |
//! | `slow`, `keys_max`, `log_bytes`, `publication_bytes`, `binary`, `history_size`, `deflate_min_bytes` | with a topic's next publication. |
//! | `max_delay`, `max_messages`, `max_bytes` | with the next publication. What waits goes out at once. Subscribers stay in their lanes. |
//! | `deflate` | with the next subscription of a client that has connected while some namespace had `deflate`. |
//! | `recovery_mode`, `force_recovery`, `force_positioning` | with the next subscription. |
//! | the other `[limits]`, `[budgets]` | with what is done next. Under a smaller limit in bytes, those are closed that the limit names. `limits.topics`: topics that are there stay. |
//! | `timeouts.upgrade`, `connect`, `message`, `close`, `replies`, `expired` | with the next time-out. One that runs may last as long as before. |
//! | `stop.clients_per_second`, `stop.gaps_per_second` | with the next pass over all clients. |
//! | `log.level` | at once. |
//!
//! A namespace that is added exists at once. One that is removed does not exist for anybody who comes: its topics are
//! error 102. Whoever is subscribed stays, and receives what comes from RabbitMQ, by the options that the namespace had. If
//! a namespace with a history comes, or comes back, its histories begin anew, and a position of an earlier one cannot be
//! recovered. Clients of quiet topics elsewhere, with no publication since the engine began, may then be told once that they
//! cannot recover, although they have missed nothing. Metrics of a removed namespace stay until a restart.
//!
//! These need a restart: `server.listen`, `shards`, `cpus`, `private_fd_tables`, `path`, `namespace_boundary`,
//! `private_prefix` and `unknown_namespace`; `control.listen`; `jwks.url`, `ca_file` and `refresh`; all of `[amqp]`;
//! `limits.clients`, `head_bytes`, `message_bytes`, `json_depth`, `frame_bytes`, `mailbox`, `mailbox_bytes`, `requests`,
//! `requests_bytes`, `publishes` and `publishes_bytes`; `timeouts.ping`, `pong` and `publish`; `stop.limit`; `log.format`;
//! `history_ttl`, and `history_size` from or to 0, of a namespace that exists; and with `unknown_namespace = "default"`, to
//! add or remove a namespace.
//!
//! `fanfare_reloads_total` counts reloads, by `outcome`.
//!
//! # What `check` compares
//!
//! `check` reports what is wrong in the file. It also compares this machine with what many clients need
//! (kernel settings, limits, ports, CPUs), and the limits with the memory that there is. Where a
//! command corrects a problem, it prints the command. With `--connect` it connects to RabbitMQ and prints what an engine
//! would declare there, and fetches the key set of `jwks.url`.
//!
//! It compares with two files in `tuning/`: the kernel settings and the systemd unit. The folder also has
//! limits for a login session, an example configuration, a script with advice on interrupts, and configurations
//! of nginx and HAProxy. Each line has its reason.
