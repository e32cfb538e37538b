//! Verifies the tokens of commands, and remembers what they said.
//!
//! A signature takes 2 to 100 us. So each one that is checked counts as much input, and clients take turns with it as with
//! everything that they send: within a turn a client has few signatures checked, and within a tick all of them together
//! have the time for reading (`budgets.read_time`).

use std::sync::Arc;
use std::time::Duration;

use crate::auth::{
    Cached, ConnectionClaims, SubscriptionClaims, TokenCache, TokenDigest, TokenError, Verifier,
};
use crate::base::clock::UnixTime;
use crate::codec::command::{Command, Method, Token};
use crate::config::Config;
use crate::net::stream::Stream;
use crate::session::rules::Verdict;
use crate::shard::Shard;
use crate::transport::Transport;

/// What a check of a signature costs of a client's share of its turn, in bytes: half of it by default.
const VERIFICATION_COST: usize = 8 << 10;

/// Verifies tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    verifier: Verifier,
    connections: TokenCache<ConnectionClaims>,
    subscriptions: TokenCache<SubscriptionClaims>,
    leeway: Duration,
    /// Tokens are not looked at: there is no key, and the operator has said that clients need none.
    ignores: bool,
}

/// What a token says, and whether its signature had to be checked for that.
struct Checked<T> {
    said: Result<Arc<T>, TokenError>,
    is_new: bool,
}

impl Tokens {
    pub(super) fn new(config: &Config, verifier: Verifier) -> Self {
        Self {
            connections: TokenCache::new(config.limits.tokens),
            subscriptions: TokenCache::new(config.limits.tokens),
            leeway: config.tokens.leeway.0,
            ignores: config.server.insecure && !config.has_keys(),
            verifier,
        }
    }

    /// Verifies by other keys from here on. What tokens said is forgotten, unless the keys are the same: a key that is gone
    /// accepts nobody who comes from now on. Whoever is connected stays until its token expires.
    pub(super) fn replace_verifier(&mut self, verifier: Verifier) {
        if !verifier.has_same_keys(&self.verifier) {
            self.connections.clear();
            self.subscriptions.clear();
        }
        self.verifier = verifier;
    }

    fn connection(&mut self, token: &str, now: UnixTime) -> Checked<ConnectionClaims> {
        let Checked { said, is_new } =
            check(&mut self.connections, token, |token| self.verifier.connection(token));
        let said = said.and_then(|claims| claims.check_time(now, self.leeway).map(|()| claims));
        Checked { said, is_new }
    }

    fn subscription(&mut self, token: &str, now: UnixTime) -> Checked<SubscriptionClaims> {
        let Checked { said, is_new } =
            check(&mut self.subscriptions, token, |token| self.verifier.subscription(token));
        let said = said.and_then(|claims| claims.check_time(now, self.leeway).map(|()| claims));
        Checked { said, is_new }
    }
}

fn check<T: Cached>(
    cache: &mut TokenCache<T>,
    token: &str,
    verify: impl FnOnce(&str) -> Result<T, TokenError>,
) -> Checked<T> {
    let digest = TokenDigest::of(token);
    match cache.get(&digest) {
        Some(said) => Checked { said, is_new: false },
        None => Checked { said: cache.insert(digest, verify(token)), is_new: true },
    }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// What the token of a command says, if it has one.
    pub(super) fn verdict(&mut self, command: &Command<'_>) -> Verdict {
        match &command.method {
            Method::Connect(connect) => self.connection_verdict(&connect.token),
            Method::Refresh { token } => self.connection_verdict(token),
            Method::Subscribe(subscribe) => self.subscription_verdict(&subscribe.token),
            Method::RefreshSubscription { token, .. } => self.subscription_verdict(token),
            _ => Verdict::None,
        }
    }

    fn connection_verdict(&mut self, Token(token): &Token<'_>) -> Verdict {
        if token.is_empty() || self.tokens.ignores {
            return Verdict::None;
        }
        let Checked { said, is_new } = self.tokens.connection(token, self.unix);
        self.charge(is_new);
        Verdict::Connection(said)
    }

    fn subscription_verdict(&mut self, Token(token): &Token<'_>) -> Verdict {
        if token.is_empty() || self.tokens.ignores {
            return Verdict::None;
        }
        let Checked { said, is_new } = self.tokens.subscription(token, self.unix);
        self.charge(is_new);
        Verdict::Subscription(said)
    }

    /// Charges a signature that was checked to the client that is being read.
    fn charge(&mut self, was_checked: bool) {
        if was_checked {
            self.stats.tokens_verified.add(1);
            self.use_share(VERIFICATION_COST);
        }
    }
}
