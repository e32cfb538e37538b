//! Drives a whole shard with a fake stream and a fake clock, by seed, and checks the laws after every tick.
//!
//! The world is [`harness`](shipped::harness): clients that subscribe, stall, reset and come back, by WebSocket or by a
//! [transport](raw) without frames, and that ask for what is not permitted; streams that take some of what is written; a
//! broker that answers late and out of step; mailboxes that are full. In some worlds the application's backend is asked as
//! well: by clients' requests and messages, and by hooks, which reloads switch on and off. It answers late, in any order,
//! with any outcome, twice, or for clients that have gone. A shard is ticked only when the loop around it
//! would tick it: after an event, after mail, or when it said that it must not sleep. So a lost wake-up is a client that
//! waits for ever, and is found.

use std::cell::Cell;

use fanfare::domain::call::CallKind;

#[allow(dead_code, unused_parens, unused_variables, unreachable_code, clippy::all)]
pub mod broken;
#[path = "../../support/frames.rs"]
pub mod frames;
#[path = "../../support/random.rs"]
pub mod random;
pub mod raw;
pub mod shipped;
pub mod wire;

/// How often each kind of thing happened: a simulation in which it did not happen proves nothing about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Events {
    pub ticks: u64,
    pub publications: u64,
    pub deliveries: u64,
    pub merged_frames: u64,
    pub deflated_frames: u64,
    pub short_writes: u64,
    pub refused_writes: u64,
    pub kept_writes: u64,
    pub raw_lines: u64,
    pub stalls: u64,
    pub resets: u64,
    pub connects: u64,
    pub subscribes: u64,
    pub unsubscribes: u64,
    pub client_publishes: u64,
    pub mailbox_full: u64,
    pub requests_full: u64,
    pub disconnected_for_slowness: u64,
    pub resynced: u64,
    pub skipped: u64,
    pub made_good: u64,
    pub keys_dropped: u64,
    pub worlds_without_room: u64,
    pub recovered: u64,
    pub unrecovered: u64,
    pub asked_again: u64,
    pub waits: u64,
    pub replies: u64,
    pub fair_turns: u64,
    pub fair_reads: u64,
    pub lanes: u64,
    pub halves: u64,
    pub shed: u64,
    pub hurries: u64,
    pub refusals: u64,
    pub offences: u64,
    pub brought: u64,
    pub closed_to_resync: u64,
    pub reloads: u64,
    /// In the order of [`CallKind::ALL`].
    pub calls: [u64; CallKind::ALL.len()],
    pub messages: u64,
    pub answers_for_nobody: u64,
    pub answered_twice: u64,
    pub closed_by_backend: u64,
    pub refused_connects: u64,
    pub brought_by_hooks: u64,
    pub expired: u64,
    pub switches: u64,
    pub attach_failures: u64,
}

impl Events {
    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        for ((_, value), (_, more)) in self.fields().into_iter().zip(other.fields()) {
            *value += *more;
        }
    }

    pub fn fields(&mut self) -> Vec<(&'static str, &mut u64)> {
        let calls = CallKind::ALL.map(CallKind::label).into_iter().zip(&mut self.calls);
        let others = [
            ("ticks", &mut self.ticks),
            ("publications", &mut self.publications),
            ("deliveries", &mut self.deliveries),
            ("merged frames", &mut self.merged_frames),
            ("deflated frames", &mut self.deflated_frames),
            ("short writes", &mut self.short_writes),
            ("refused writes", &mut self.refused_writes),
            ("kept writes", &mut self.kept_writes),
            ("raw lines", &mut self.raw_lines),
            ("stalls", &mut self.stalls),
            ("resets", &mut self.resets),
            ("connects", &mut self.connects),
            ("subscribes", &mut self.subscribes),
            ("unsubscribes", &mut self.unsubscribes),
            ("client publishes", &mut self.client_publishes),
            ("mailbox full", &mut self.mailbox_full),
            ("requests full", &mut self.requests_full),
            ("disconnected for slowness", &mut self.disconnected_for_slowness),
            ("resynced", &mut self.resynced),
            ("skipped", &mut self.skipped),
            ("made good", &mut self.made_good),
            ("keys dropped", &mut self.keys_dropped),
            ("worlds without room", &mut self.worlds_without_room),
            ("recovered", &mut self.recovered),
            ("unrecovered", &mut self.unrecovered),
            ("asked_again", &mut self.asked_again),
            ("waits", &mut self.waits),
            ("replies", &mut self.replies),
            ("fair turns", &mut self.fair_turns),
            ("fair reads", &mut self.fair_reads),
            ("lanes", &mut self.lanes),
            ("halves", &mut self.halves),
            ("shed", &mut self.shed),
            ("hurries", &mut self.hurries),
            ("refusals", &mut self.refusals),
            ("offences", &mut self.offences),
            ("brought by tokens", &mut self.brought),
            ("closed to resync", &mut self.closed_to_resync),
            ("reloads", &mut self.reloads),
            ("messages", &mut self.messages),
            ("answers for nobody", &mut self.answers_for_nobody),
            ("answered twice", &mut self.answered_twice),
            ("closed by the backend", &mut self.closed_by_backend),
            ("refused connects", &mut self.refused_connects),
            ("brought by hooks", &mut self.brought_by_hooks),
            ("expired", &mut self.expired),
            ("switches", &mut self.switches),
            ("attach failures", &mut self.attach_failures),
        ];
        others.into_iter().chain(calls).collect()
    }
}

thread_local! {
    /// The deliberate bug that the copy of the shard has, by its place in [`broken::BUGS`].
    static BUG: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Which deliberate bug this thread's copy of the shard has from now on.
pub fn break_it(bug: Option<usize>) {
    BUG.set(bug);
}

/// Whether the copy has this bug: the switches that `build.rs` puts into it ask.
fn is_broken(bug: usize) -> bool {
    BUG.get() == Some(bug)
}
