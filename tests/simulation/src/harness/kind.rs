//! Which configuration the world of a seed has.

use super::TOPICS;
use super::asking::METHOD;
use crate::random::Random;
use fanfare::config::{
    AMQP_BACKEND, Allowed, Anonymous, Backend, Budgets, Config, Interval, Limits, Namespace, Secret,
    SlowPolicy, Timeouts, Tokens,
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

/// Bytes of a message where clients have requests for the backend, so that several of them can be under way at once.
const MESSAGE_BYTES_ASKING: usize = 2000;
/// Requests of a client that may be under way there.
pub(super) const RPCS_MAX: usize = 3;
/// How long what has expired stays if nobody prolongs it.
pub(super) const EXPIRED_MS: u64 = 200;

/// How long a client whose connect was refused may stay.
pub(super) const CLOSE_MS: u64 = 500;

/// What the application's backend is asked, besides clients' requests and messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hooks {
    /// Who clients without a token are.
    pub(super) connect: bool,
    /// For how long connections, and subscriptions to topics that skip, may stay.
    pub(super) refresh: bool,
    /// Whether clients may subscribe to topics with a history and to those that skip.
    pub(super) subscribe: bool,
    /// Whether clients may publish.
    pub(super) publish: bool,
    /// Reloads switch the hooks for connects, subscribes and publishes off and on.
    pub(super) switch: bool,
}

impl Hooks {
    /// In some worlds.
    fn of(seed: u64) -> Option<Self> {
        let bits = Random::new(seed).next();
        (seed % 11 < 5).then_some(Self {
            connect: bits & 1 > 0,
            refresh: bits & 2 > 0,
            subscribe: bits & 4 > 0,
            publish: bits & 8 > 0,
            switch: bits & 48 == 0,
        })
    }

    /// Some of them, but that what has expired is asked about as before.
    pub(super) fn at_random(self, random: &mut Random) -> Self {
        let [connect, subscribe, publish] = [(); 3].map(|()| random.one_in(2));
        Self { connect, subscribe, publish, ..self }
    }

    /// Switches them on and off in a configuration.
    pub(super) fn put_into(self, config: &mut Config) {
        let backend = |is_on: bool| if is_on { AMQP_BACKEND.to_owned() } else { String::new() };
        config.hooks.connect = backend(self.connect);
        config.hooks.refresh = backend(self.refresh);
        for (name, namespace) in &mut config.namespaces {
            let (skips, keeps) = (name == "s", name == "h");
            namespace.subscribe_hook = backend(self.subscribe && (skips || keeps));
            namespace.sub_refresh_hook = backend(self.refresh && skips);
            namespace.publish_hook = backend(self.publish && name == "r");
        }
    }
}

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
    /// By how many bytes the bound on replies is higher there: with one bound, replies would seldom have exactly as many.
    pub(super) spare: usize,
    /// Clients want more topics than they may have.
    pub(super) few_topics: bool,
    /// Clients have requests for the application's backend, and hooks may be switched on.
    pub(super) hooks: Option<Hooks>,
}

impl Kind {
    /// That of a world without a backend in which nothing is special.
    pub(super) const PLAIN: Self = Self {
        scale: 1,
        read_bytes: READ_BYTES,
        pings: true,
        tight: false,
        spare: 0,
        few_topics: false,
        hooks: None,
    };

    pub(super) fn of(seed: u64) -> Self {
        Self {
            scale: if seed % 32 == 7 { LARGE } else { 1 },
            read_bytes: if seed % 3 == 2 { READ_BYTES_LARGE } else { READ_BYTES },
            pings: seed % 4 != 1,
            tight: seed % 5 == 3,
            spare: usize::try_from(seed / 5 % 32).expect("small"),
            few_topics: seed % 7 == 2,
            hooks: Hooks::of(seed),
        }
    }
}

pub(super) fn config(kind: Kind) -> Config {
    let mut config = plain_config(kind);
    if let Some(hooks) = kind.hooks {
        config.backends = [(AMQP_BACKEND.to_owned(), Backend { meta: true, ..Backend::default() })].into();
        config.rpc.methods = [(METHOD.to_owned(), AMQP_BACKEND.to_owned())].into();
        AMQP_BACKEND.clone_into(&mut config.rpc.send);
        hooks.put_into(&mut config);
        config.limits.rpcs_per_client = RPCS_MAX;
        if !kind.tight {
            config.limits.message_bytes = MESSAGE_BYTES_ASKING;
        }
        config.timeouts.expired = Interval::from_millis(EXPIRED_MS);
        config.timeouts.close = Interval::from_millis(CLOSE_MS);
    }
    config
}

/// Without a backend.
fn plain_config(Kind { scale, read_bytes, pings, tight, spare, few_topics, .. }: Kind) -> Config {
    let bounds = if tight { (TIGHT_INPUT, TIGHT_REPLIES + spare) } else { (64 << 20, 64 << 20) };
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
