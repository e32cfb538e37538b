//! Staggering: why the subscribers of a large topic receive their frames in eight lanes.
//!
//! In a namespace with `max_delay`, publications of a topic wait for each other in a window. At the window's
//! end, all subscribers are visited in one pass. For 100,000 subscribers the pass takes most of a second. The
//! last one's frame would be that much older than the delay, and the CPU would then be idle until the next
//! window ends.
//!
//! So when a topic has `budgets.crowd` subscribers on a shard, those that come later are spread over eight
//! lanes, by the number of the client's slot. With a `max_delay` below 80 ms there are no lanes. For a shard, a lane is like an encoding: a topic of the same name
//! ([`crate::domain::mail::Variant`]). The broker thread merges separately for each lane that has
//! subscribers. The lanes' windows end one after the other, evenly over the delay. A line is then at most as
//! old as the delay and an eighth of a pass.
//!
//! After a pause, the first window of every lane lasts the whole delay. So what is published within the delay
//! leaves as one frame, and as one batch for all lanes. After that, each lane has at most one frame per
//! delay, unless a limit ends its window earlier. Batches that differ from lane to lane are compressed for
//! each lane.
