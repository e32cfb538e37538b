//! What backends are sent, and every way in which their answers can be wrong.

mod answers;
mod generated;
mod requests;
