//! Small tools that use nothing else of Fanfare: bounded queues, slabs, counters of places, the time and deadlines, text
//! for log lines and errors.

pub mod capacity;
pub mod clock;
pub mod deadline_table;
pub mod log_limiter;
pub mod mailbox;
pub mod moment;
pub mod not_json;
pub mod printable;
pub mod slab;
