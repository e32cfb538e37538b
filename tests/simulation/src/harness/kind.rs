//! Which configuration the world of a seed has.

use super::TOPICS;
use fanfare::config::{
    Allowed, Anonymous, Budgets, Config, Interval, Limits, Namespace, Secret, SlowPolicy, Timeouts, Tokens,
};

/// Bytes of a message that come long before the others.
pub(super) const HALF: usize = 200;
/// What lines, limits and sockets' room are multiplied by in some seeds: logs then reach the size at which a
/// shard begins to trim them, 64 KiB.
pub(super) const LARGE: usize = 150;
/// Clients read in a tick.
pub(super) const READS: usize = 3;
/// A client's share of a tick, and that in some seeds: more than one read brings.
pub(super) const READ_BYTES: usize = 1000;
/// What each frame, and each command, counts at least.
pub(super) const STEP_BYTES: usize = 128;
/// Bounds on what is kept for all clients, where they are tight. Of input, that is four halves of messages.
const TIGHT_INPUT: usize = 4 * HALF;
const TIGHT_REPLIES: usize = 650;
/// Topics that a client may have, where these are less than there are.
const FEW_TOPICS: usize = 3;
/// What tokens are signed with.
pub(super) const SECRET: &str = "secret";
const FRAME_BYTES: usize = 300;
const LOG_BYTES: usize = 600;
const LOGS_BYTES: usize = 1500;
const REST_BYTES: usize = 500;
const READ_BYTES_LARGE: usize = 20_000;

/// What kind of world a seed has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// 1, or [`LARGE`].
    pub(super) scale: usize,
    /// [`READ_BYTES`], or [`READ_BYTES_LARGE`].
    pub(super) read_bytes: usize,
    /// Clients are pinged: their pongs may hide that somebody is not woken, so that some worlds do without.
    pub(super) pings: bool,
    /// What is kept for all clients together has bounds that are reached.
    pub(super) tight: bool,
    /// Clients want more topics than they may have.
    pub(super) few_topics: bool,
}

impl Kind {
    pub(super) fn of(seed: u64) -> Self {
        Self {
            scale: if seed % 32 == 7 { LARGE } else { 1 },
            read_bytes: if seed % 3 == 2 { READ_BYTES_LARGE } else { READ_BYTES },
            pings: seed % 4 != 1,
            tight: seed % 5 == 3,
            few_topics: seed % 7 == 2,
        }
    }
}

pub(super) fn config(Kind { scale, read_bytes, pings, tight, few_topics }: Kind) -> Config {
    let bounds = if tight { (TIGHT_INPUT, TIGHT_REPLIES) } else { (64 << 20, 64 << 20) };
    let ping = Interval::from_secs(if pings { 3 } else { 3600 });
    let policy = |slow, client_publish| Namespace { slow, client_publish, ..Namespace::default() };
    let max_delay = Interval::from_secs(1);
    let namespaces = [
        ("d", Namespace { max_delay, ..policy(SlowPolicy::Disconnect, Allowed::NOBODY) }),
        ("r", Namespace { deflate: true, ..policy(SlowPolicy::Resync, Allowed::EVERYONE) }),
        ("s", Namespace { deflate: true, max_delay, ..policy(SlowPolicy::Skip, Allowed::NOBODY) }),
        (
            "h",
            Namespace {
                deflate: true,
                history_size: 30,
                client_history: Allowed::NOBODY,
                force_recovery: true,
                ..policy(SlowPolicy::Resync, Allowed::NOBODY)
            },
        ),
    ];
    Config {
        limits: Limits {
            message_bytes: 400,
            head_bytes: 400,
            frame_bytes: scale * FRAME_BYTES,
            log_bytes: scale * LOG_BYTES,
            logs_bytes: scale * LOGS_BYTES,
            rest_bytes: scale * REST_BYTES,
            replies_bytes: if scale == 1 { 150 } else { 2000 },
            topics_per_client: if few_topics { FEW_TOPICS } else { TOPICS.len() },
            shard_input_bytes: bounds.0,
            shard_replies_bytes: bounds.1,
            ..Limits::default()
        },
        budgets: Budgets {
            accepts: 2,
            reads: READS,
            read_bytes,
            mails: 4,
            visits: 3,
            deadlines: 2,
            crowd: 2,
            ..Budgets::default()
        },
        timeouts: Timeouts { ping, pong: Interval::from_secs(2), ..Timeouts::default() },
        tokens: Tokens {
            hmac_keys: vec![Secret::from(SECRET)].into(),
            anonymous: Anonymous::Allow,
            ..Tokens::default()
        },
        namespaces: namespaces.map(|(name, options)| (name.to_owned(), options)).into(),
        ..Config::default()
    }
}
