//! Tokens as strangers and applications make them, by tables.

mod claims;
mod issuer;
mod key_sets;
mod limits;
mod signatures;
