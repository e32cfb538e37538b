//! WebSocket frames (RFC 6455) and permessage-deflate (RFC 7692).

pub mod connection;
pub mod decode;
pub mod encode;
pub mod extension;
