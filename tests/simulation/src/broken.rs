//! The shard and its sessions with one deliberate bug, or none (see [`break_it`](crate::break_it)), and the same world around it.

include!(concat!(env!("OUT_DIR"), "/broken.rs"));

#[path = "harness/mod.rs"]
pub mod harness;
