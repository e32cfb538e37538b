//! The shard as it ships, and the world around it.

pub use fanfare::shard;

#[path = "harness/mod.rs"]
pub mod harness;
