//! What tests the engine from outside, one module for each subject. They are one program, because each program has to
//! link the whole engine. `tests/run` runs those that share a RabbitMQ in one process, and each other one in a process of
//! its own.

mod acknowledge;
mod calls;
mod client_info;
mod command_line;
mod control_port;
mod deflate;
mod descriptors;
mod differential;
mod hostile;
mod identity;
mod load;
mod page;
mod payloads;
mod permissions;
mod proxies;
mod rabbit;
mod rabbit_bindings;
mod rabbit_overflow;
mod rabbit_rewound;
mod rabbit_stream;
mod rabbitmq_away;
mod rabbitmq_node;
mod rabbitmq_retries;
mod rabbitmq_tls;
mod recovery;
mod reloading;
mod sdks;
mod server_api;
mod stopping;
mod stories;
#[path = "../support/mod.rs"]
mod support;
mod swarm;
mod tuning;
mod upgrade_tokens;
