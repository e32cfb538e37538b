//! Slow clients: logs, cursors, frames without a copy, and compaction by key.
//!
//! # Logs and cursors
//!
//! Each shard keeps a log for each topic: the lines that some subscriber there has not been sent yet, one
//! after the other. A subscriber is a cursor in the log. A visit sends everything from the cursor to the
//! log's end, in as few WebSocket frames as their size allows. A client that keeps up gets one line, a client that is behind gets many.
//!
//! A client whose socket takes nothing keeps its cursor, and costs nothing else. When the log is full, it
//! must drop lines that only such clients lack. Then the namespace's policy decides: the client is closed, is
//! told to subscribe again, or skips. Only a client whose socket took nothing can lose a publication. It
//! is told, except where the policy is to skip.
//!
//! # A frame without a copy
//!
//! The lines that a subscriber lacks are one slice of the log. A WebSocket frame is a header with the length,
//! followed by that slice. The log writes the header over the bytes *before* the slice, calls `send` once,
//! and puts the bytes back.
//!
//! The same holds for clients that take compressed messages (permessage-deflate, RFC 7692) in a namespace
//! with `deflate`. For a shard, a topic in two encodings is two topics of one name. The log of the second one
//! holds segments. A segment is a deflate stream that refers to nothing before it and ends at a byte. Any
//! number of segments, from any cursor on, is one message. So compressing is paid once per batch. A client
//! that takes compressed messages costs its shard what any other client does.
//!
//! # The latest of each key
//!
//! In a namespace with `slow = "skip"`, a client that is too slow gets the latest publication of each key
//! that it missed. Which client is too slow is known only where the logs are, and only when a log must drop
//! something. So the selection happens there. To select earlier, while publications wait to be merged, would
//! take changes away from clients that keep up.
//!
//! With each batch, the broker thread says which line is of which key, as numbers. When a log is full of
//! lines that only blocked clients lack, its older part is *compacted*: lines that a later line of the same
//! key makes superfluous go, and the others stay in their order.
//!
//! In a compacted log, too, a client is sent everything behind its cursor: one slice, in as few frames as
//! their size allows, with nothing in it that the client has already. So compaction is done once
//! per topic and shard, however many clients need it. Sending knows nothing of keys. A client still costs one
//! cursor. A segment is cut by storing the remaining lines uncompressed, where that is shorter; only the
//! broker thread compresses.
