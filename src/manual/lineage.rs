//! Lineage: how offsets and epochs follow from a stream, and what happens when the stream is another one.
//!
//! # Offsets
//!
//! A stream numbers its messages. Engines use these numbers as the offsets of publications. Where there is no
//! stream, each engine numbers the publications of each topic 1, 2, 3, ... itself.
//!
//! An engine that starts reads the stream back before it accepts clients. Its history is a function of the
//! stream alone. Any engine gives the same answer to a client, also after a restart. There is one exception:
//! a publication that ends in time (`history_ttl`, `expiration`) may end up to a minute later on one engine
//! than on another.
//!
//! # Epochs
//!
//! An epoch names one numbering. Offsets of different epochs cannot be compared.
//!
//! AMQP shows no identity of a stream. A stream can be deleted and declared again, or lose its end with a
//! disk that goes back in time, and look the same. So engines write *markers* into the stream: small messages
//! with a name. The markers of a stream and their offsets are its lineage, and name its epoch. When an engine
//! reads back markers that contradict what it knows, the stream is another one and has another epoch. The
//! engine then tells every subscriber (2500), and sends nothing of the new numbering before that.
//!
//! Markers also date what came before them. The engine does not trust the time stamps of publishers, unless
//! `amqp.trust_timestamps` is set; so a message that is read back counts as received at the next marker,
//! which is a minute later at most.
