//! Calls to backends, from outside: what clients see of backends that answer, and of those that do not.

mod amqp;
mod backend;
mod channel;
mod faults;
mod hooks;
mod many;
