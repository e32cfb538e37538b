//! Verifies the tokens of commands, and remembers what they said.
//!
//! The check of a signature takes 2 to 100 us, and a token that names no key is checked with every key that may have signed
//! it. So each check counts as much input, and clients take turns with it as with everything that they send: within a turn
//! a client has few signatures checked, and within a tick all of them together have the time for reading
//! (`budgets.read_time`).

use std::sync::Arc;

use crate::auth::{
    Cached, ConnectionClaims, SubscriptionClaims, TokenCache, TokenDigest, TokenError, Verifier,
};
use crate::codec::command::{Command, Connect, Method, Token};
use crate::config::Config;
use crate::net::stream::Stream;
use crate::session::rules::Verdict;
use crate::shard::Shard;
use crate::transport::Transport;
use crate::transport::credential::{Credential, bearer};
use crate::transport::refusal::Refusal;

/// What the check of a signature costs of a client's share of its turn, in bytes: half of it by default.
const VERIFICATION_COST: usize = 8 << 10;

/// Verifies tokens.
#[derive(Debug)]
pub(super) struct Tokens {
    verifier: Verifier,
    connections: TokenCache<ConnectionClaims>,
    subscriptions: TokenCache<SubscriptionClaims>,
    /// How many tokens of each kind are remembered.
    remembered: usize,
    ignored: Ignored,
}

/// Which tokens are not looked at, because there is no key for them.
#[derive(Clone, Copy, Debug)]
struct Ignored {
    /// Those of HTTP requests, which may be meant for somebody else.
    offered: bool,
    /// Those of connections, because the operator has said that clients need none.
    connections: bool,
    /// Those of subscriptions, for the same reason.
    subscriptions: bool,
}

impl Ignored {
    fn new(config: &Config) -> Self {
        let (connections, subscriptions) = (config.has_keys(), config.has_subscription_keys());
        let insecure = config.server.insecure;
        Self {
            offered: !connections,
            connections: insecure && !connections,
            subscriptions: insecure && !subscriptions,
        }
    }
}

/// What a token says at any time, and how many signatures were checked to find that out.
struct Checked<T> {
    said: Result<Arc<T>, TokenError>,
    checks: usize,
}

impl Tokens {
    pub(super) fn new(config: &Config, verifier: Verifier) -> Self {
        Self {
            connections: TokenCache::new(config.limits.tokens),
            subscriptions: TokenCache::new(config.limits.tokens),
            remembered: config.limits.tokens,
            ignored: Ignored::new(config),
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

    /// Goes by another configuration from here on. What tokens said is also forgotten if another number of them is to be
    /// remembered.
    pub(super) fn reload(&mut self, config: &Config, verifier: Verifier) {
        if config.limits.tokens != self.remembered {
            *self = Self::new(config, verifier);
            return;
        }
        self.replace_verifier(verifier);
        self.ignored = Ignored::new(config);
    }

    fn connection(&mut self, token: &str) -> Checked<ConnectionClaims> {
        check(&mut self.connections, token, |checks| self.verifier.connection_counting(token, checks))
    }

    fn subscription(&mut self, token: &str) -> Checked<SubscriptionClaims> {
        check(&mut self.subscriptions, token, |checks| self.verifier.subscription_counting(token, checks))
    }
}

fn check<T: Cached>(
    cache: &mut TokenCache<T>,
    token: &str,
    verify: impl FnOnce(&mut usize) -> Result<T, TokenError>,
) -> Checked<T> {
    let digest = TokenDigest::of(token);
    if let Some(said) = cache.get(&digest) {
        return Checked { said, checks: 0 };
    }
    let mut checks = 0;
    let said = cache.insert(digest, verify(&mut checks));
    Checked { said, checks }
}

impl<S: Stream, T: Transport> Shard<S, T> {
    /// What the token of a command says, if it has one.
    pub(super) fn verdict(&mut self, slot: u32, command: &Command<'_>) -> Verdict {
        // Its commands are dropped.
        if self.clients[slot].session.is_refused() {
            return Verdict::None;
        }
        match &command.method {
            Method::Connect(connect) if connect.token.is_empty() => self.headers_verdict(slot, connect),
            Method::Connect(connect) => self.connection_verdict(&connect.token.0),
            Method::Refresh { token: Token(token) } => self.connection_verdict(token),
            Method::Subscribe(subscribe) => self.subscription_verdict(&subscribe.token),
            Method::RefreshSubscription { token, .. } => self.subscription_verdict(token),
            _ => Verdict::None,
        }
    }

    /// Takes the token of the HTTP request by which a client came. It counts if the connect command has none, so that one
    /// that has expired is no reason to refuse the request: a page could not read why.
    ///
    /// # Errors
    /// It is not a valid token, and was none at any time; or nobody can tell yet.
    pub(super) fn take_credential(
        &mut self,
        slot: u32,
        credential: &Credential,
    ) -> Result<(), (Refusal, TokenError)> {
        if self.tokens.ignored.offered {
            return Ok(());
        }
        let checked = self.tokens.connection(credential.token());
        let (said, is_undecided) = self.charge(checked);
        let refusal = if is_undecided { Refusal::UndecidedToken } else { Refusal::InvalidToken };
        self.clients[slot].session.offer(said.map_err(|error| (refusal, error))?);
        Ok(())
    }

    /// Takes the token of the header `Authorization` among the `headers` of a connect, by which SDKs in browsers send what
    /// they cannot send with the request. It counts like that of the request, and before it.
    fn headers_verdict(&mut self, slot: u32, connect: &Connect<'_>) -> Verdict {
        let token = bearer(connect.header("authorization")).unwrap_or_default();
        if token.is_empty() || self.tokens.ignored.offered {
            return Verdict::None;
        }
        let checked = self.tokens.connection(token);
        let (said, is_undecided) = self.charge(checked);
        if is_undecided {
            return Verdict::Undecided;
        }
        match said {
            Ok(claims) => {
                self.clients[slot].session.offer(claims);
                Verdict::None
            }
            Err(error) => Verdict::Connection(Err(error)),
        }
    }

    fn connection_verdict(&mut self, token: &str) -> Verdict {
        if token.is_empty() || self.tokens.ignored.connections {
            return Verdict::None;
        }
        let checked = self.tokens.connection(token);
        let (said, is_undecided) = self.charge(checked);
        if is_undecided {
            return Verdict::Undecided;
        }
        let in_time = |claims: &ConnectionClaims| claims.check_time(self.unix, self.settings.leeway);
        Verdict::Connection(said.and_then(|claims| in_time(&claims).map(|()| claims)))
    }

    fn subscription_verdict(&mut self, Token(token): &Token<'_>) -> Verdict {
        if token.is_empty() || self.tokens.ignored.subscriptions {
            return Verdict::None;
        }
        let checked = self.tokens.subscription(token);
        let (said, is_undecided) = self.charge(checked);
        if is_undecided {
            return Verdict::Undecided;
        }
        let in_time = |claims: &SubscriptionClaims| claims.check_time(self.unix, self.settings.leeway);
        Verdict::Subscription(said.and_then(|claims| in_time(&claims).map(|()| claims)))
    }

    /// Charges the signatures that were checked to the client that is being read. Says what the token says, and whether
    /// the key set must be fetched before anybody can tell whether it is accepted. The control thread sees in the counter
    /// that somebody waits for it.
    fn charge<C>(&mut self, Checked { said, checks }: Checked<C>) -> (Result<Arc<C>, TokenError>, bool) {
        self.stats.tokens_verified.add(checks as u64);
        self.use_share(checks * VERIFICATION_COST);
        let is_undecided = matches!(&said, Err(error) if self.tokens.verifier.awaits_key(error, self.unix));
        self.stats.tokens_undecided.add(u64::from(is_undecided));
        (said, is_undecided)
    }
}
