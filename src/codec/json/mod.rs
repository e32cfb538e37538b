//! The JSON codec: one object per line.

pub mod checker;
pub mod client_info;
pub mod read;
#[cfg(test)]
mod round_trip;
pub mod shallow;
pub mod text;
pub mod write;
