//! Configuration: where values come from, how to check them, and namespaces.
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
