//! Values that threads exchange: topics and their options, mail and requests, ids, settings, and the reasons why
//! something ends or fails.

pub mod asked;
pub mod call;
pub mod client_id;
pub mod client_key;
pub mod client_info;
pub mod codec;
pub mod encoding;
pub mod lifecycle;
pub mod mail;
pub mod namespaces;
pub mod position;
pub mod publication;
pub mod reasons;
pub mod receipt;
pub mod settings;
pub mod topic;
pub mod topic_pattern;
