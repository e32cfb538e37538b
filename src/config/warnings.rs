//! Warns of values that no operator would want, and of keys that were set and have no effect.

use super::{Allowed, Anonymous, Loaded, Namespace, grouped};

impl Loaded {
    /// The values that an operator should change.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.keys_without_history()
            .chain(self.nobody_connects())
            .chain(self.keys_without_presence())
            .chain(self.short_secrets())
            .chain(self.plain_backends())
            .chain(self.idle_backends())
            .chain(self.keys_without_hook())
            .chain(self.hooks_without_question())
            .chain(self.long_queues())
            .collect()
    }

    /// A warning for each backend that is asked without TLS, over a network.
    fn plain_backends(&self) -> impl Iterator<Item = String> {
        let plain = self.config.backends.iter().filter(|(_, backend)| backend.url.is_plain());
        plain.map(|(name, _)| {
            format!(
                "backends.{name}.url begins with `http://` and names another host: whoever is on the way can read what clients \
                 send and which cookies are forwarded, and can answer; say `https://` unless the network is yours"
            )
        })
    }

    /// A warning for each backend that nothing names.
    fn idle_backends(&self) -> impl Iterator<Item = String> {
        let named = self.config.named_backends();
        let is_idle = move |name: &&String| !named.iter().any(|(_, named)| named == name);
        self.config
            .backends
            .keys()
            .filter(is_idle)
            .map(|name| format!("backends.{name} has no effect: no hook and no key of [rpc] names it"))
    }

    /// A warning for each namespace that says what happens if nobody answers, and asks nobody.
    fn keys_without_hook(&self) -> impl Iterator<Item = String> {
        let asks_nobody =
            |options: &Namespace| options.subscribe_hook.is_empty() && options.publish_hook.is_empty();
        let namespaces = self.config.namespaces.iter().filter(move |(_, options)| asks_nobody(options));
        let keys = namespaces.map(|(name, _)| format!("namespaces.{name}.hook_failure"));
        keys.filter(|key| self.origins.contains_key(key)).map(|key| {
            format!("{key} has no effect: its namespace has neither a subscribe_hook nor a publish_hook")
        })
    }

    /// A warning for each namespace whose backend would say who may subscribe, where nobody may.
    fn hooks_without_question(&self) -> impl Iterator<Item = String> {
        let asks = |options: &Namespace| options.server_only && !options.subscribe_hook.is_empty();
        let namespaces = self.config.namespaces.iter().filter(move |(_, options)| asks(options));
        namespaces.map(|(name, _)| {
            format!(
                "namespaces.{name}.subscribe_hook has no effect: namespaces.{name}.server_only is true, so no client \
                 subscribes by itself, and its backend is never asked"
            )
        })
    }

    /// A warning for each backend that was given a longer queue than all of them have together.
    fn long_queues(&self) -> impl Iterator<Item = String> {
        let most = self.config.limits.calls;
        let queues = self
            .config
            .backends
            .iter()
            .map(|(name, backend)| (format!("backends.{name}.queue"), backend.queue));
        let long = queues.filter(move |(key, queue)| *queue > most && self.origins.contains_key(key));
        long.map(move |(key, queue)| {
            format!(
                "{key} is {}, and limits.calls, which counts the calls to all backends, is {}: no more than that ever wait",
                grouped(queue),
                grouped(most)
            )
        })
    }

    /// A warning for each key with a secret that can be guessed.
    fn short_secrets(&self) -> impl Iterator<Item = String> {
        self.config.short_secrets().map(|key| {
            format!(
                "{key} has a secret of less than 32 bytes: whoever has a token can try out secrets until one fits; \
                 `head -c 32 /dev/urandom | base64` makes a good one"
            )
        })
    }

    /// A warning if no client can connect.
    fn nobody_connects(&self) -> Option<String> {
        let is_closed =
            self.config.tokens.anonymous == Anonymous::Refuse && !self.config.identifies_clients();
        let text = "tokens.anonymous is \"refuse\", and there is neither a key for tokens of connections nor a connect hook \
                    (hooks.connect): no client can connect";
        is_closed.then(|| text.to_owned())
    }

    /// A warning for each namespace whose presence somebody may ask for.
    fn keys_without_presence(&self) -> impl Iterator<Item = String> {
        let allowing = |options: &Namespace| options.client_presence != Allowed::NOBODY;
        let namespaces = self.config.namespaces.iter().filter(move |(_, options)| allowing(options));
        namespaces.map(|(name, _)| {
            format!(
                "namespaces.{name}.client_presence has no effect: this version keeps no presence (error 108)"
            )
        })
    }

    /// A warning for each key that was set and needs a history that its namespace does not have.
    fn keys_without_history(&self) -> impl Iterator<Item = String> {
        let without = self.config.namespaces.iter().filter(|(_, options)| options.history_size == 0);
        let keys = without.flat_map(|(name, options)| {
            let ttl = self.origins.contains_key(&format!("namespaces.{name}.history_ttl"));
            let set = [("force_recovery", options.force_recovery), ("history_ttl", ttl)];
            set.into_iter().filter_map(move |(key, is_set)| is_set.then_some((name, key)))
        });
        keys.map(|(name, key)| {
            format!(
                "namespaces.{name}.{key} has no effect: namespaces.{name}.history_size is 0, so no publication is kept"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;

    /// Whoever gets a token can guess a short secret without asking the engine.
    #[test]
    fn a_short_secret_is_warned_of_and_not_shown() {
        let warnings = |name: &str, secrets: &str| {
            load(None, [(format!("FANFARE_{name}").into(), secrets.into())]).unwrap().warnings().join("\n")
        };
        let (short, long) = ("hunter2".repeat(4), "hunter2".repeat(5));
        for (key, name) in [
            ("tokens.hmac_keys", "TOKENS_HMAC_KEYS"),
            ("subscription_tokens.hmac_keys", "SUBSCRIPTION_TOKENS_HMAC_KEYS"),
        ] {
            let warning = warnings(name, &format!("{long},{short}"));
            assert!(warning.starts_with(&format!("{key} has a secret of less than 32 bytes")), "{warning}");
            assert!(!warning.contains("hunter2"), "{warning}");
            assert_eq!(warnings(name, &long), "");
        }
    }

    #[test]
    fn an_engine_that_nobody_can_connect_to_is_warned_of() {
        let is_warned_of = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            load(None, variables)
                .unwrap()
                .warnings()
                .iter()
                .any(|warning| warning.ends_with("no client can connect"))
        };
        let refuse = ("FANFARE_TOKENS_ANONYMOUS", "refuse");
        assert!(is_warned_of(&[refuse]) && !is_warned_of(&[]));
        assert!(!is_warned_of(&[refuse, ("FANFARE_TOKENS_HMAC_KEYS", "a secret")]));
        assert!(!is_warned_of(&[refuse, ("FANFARE_HOOKS_CONNECT", "amqp")]));
    }

    #[test]
    fn backends_that_others_can_read_along_with_or_nothing_names_are_warned_of() {
        let of = |variables: &[(&str, &str)]| {
            let variables =
                variables.iter().map(|(name, value)| (format!("FANFARE_{name}").into(), value.into()));
            load(None, variables).unwrap().warnings()
        };
        let (near, far) = ("http://localhost/", "http://shop.internal/?key=hunter2");
        let connect = ("HOOKS_CONNECT", "shop");
        assert_eq!(of(&[("BACKENDS_SHOP_URL", near), connect]), [""; 0]);
        assert_eq!(of(&[("BACKENDS_SHOP_URL", "https://shop.internal/"), connect]), [""; 0]);
        let plain = of(&[("BACKENDS_SHOP_URL", far), connect]);
        assert!(
            plain.len() == 1 && plain[0].starts_with("backends.shop.url begins with `http://`"),
            "{plain:?}"
        );
        assert!(!plain[0].contains("hunter2"), "{plain:?}");
        let idle =
            of(&[("BACKENDS_SHOP_URL", near), ("BACKENDS_AMQP_TIMEOUT", "2s"), ("RPC_METHODS", "*=amqp")]);
        assert!(idle.len() == 1 && idle[0].starts_with("backends.shop has no effect"), "{idle:?}");
        let failure = ("NAMESPACES_CHAT_HOOK_FAILURE", "allow");
        let asks_nobody = of(&[failure]);
        assert!(asks_nobody[0].starts_with("namespaces.chat.hook_failure has no effect"), "{asks_nobody:?}");
        assert_eq!(of(&[failure, ("NAMESPACES_CHAT_PUBLISH_HOOK", "amqp")]), [""; 0]);
    }

    #[test]
    fn a_queue_that_is_never_full_and_a_hook_that_is_never_asked_are_warned_of() {
        let of = |variables: &[(&str, &str)]| {
            let variables =
                variables.iter().map(|(name, value)| (format!("FANFARE_{name}").into(), value.into()));
            load(None, variables).unwrap().warnings()
        };
        let (few, many, connect) =
            (("BACKENDS_AMQP_QUEUE", "1000"), ("BACKENDS_AMQP_QUEUE", "1001"), ("HOOKS_CONNECT", "amqp"));
        let calls = ("LIMITS_CALLS", "1000");
        assert_eq!(of(&[few, calls, connect]), [""; 0]);
        assert_eq!(
            of(&[("BACKENDS_AMQP_TIMEOUT", "2s"), calls, connect]),
            [""; 0],
            "nobody has set the queue"
        );
        let long = of(&[many, calls, connect]);
        assert!(
            long.len() == 1 && long[0].starts_with("backends.amqp.queue is 1,001, and limits.calls"),
            "{long:?}"
        );
        let (server_only, hook) =
            (("NAMESPACES_A_SERVER_ONLY", "true"), ("NAMESPACES_A_SUBSCRIBE_HOOK", "amqp"));
        assert_eq!(of(&[hook]), [""; 0]);
        assert_eq!(of(&[server_only, ("NAMESPACES_A_PUBLISH_HOOK", "amqp")]), [""; 0]);
        let never = of(&[server_only, hook]);
        assert!(
            never.len() == 1 && never[0].starts_with("namespaces.a.subscribe_hook has no effect"),
            "{never:?}"
        );
    }

    #[test]
    fn keys_without_effect_are_warned_of() {
        let without_effect = |variables: &[(&str, &str)]| {
            let variables = variables
                .iter()
                .map(|(name, value)| (format!("FANFARE_NAMESPACES_DEFAULT_{name}").into(), value.into()));
            let warnings = load(None, variables).unwrap().warnings();
            let keys = warnings.iter().filter_map(|warning| warning.split_once(" has no effect: "));
            keys.map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
        };
        let (recovery, ttl) = ("namespaces.default.force_recovery", "namespaces.default.history_ttl");
        for (variables, keys) in [
            (&[("SLOW", "skip")][..], &[][..]),
            (&[("FORCE_RECOVERY", "true")], &[recovery]),
            (&[("CLIENT_PRESENCE", "user")], &["namespaces.default.client_presence"]),
            (&[("CLIENT_PRESENCE", "false")], &[]),
            (&[("FORCE_RECOVERY", "false")], &[]),
            (&[("HISTORY_TTL", "1m")], &[ttl]),
            (&[("HISTORY_TTL", "5m"), ("FORCE_RECOVERY", "true")], &[recovery, ttl]),
            (&[("HISTORY_TTL", "1m"), ("FORCE_RECOVERY", "true"), ("HISTORY_SIZE", "9")], &[]),
        ] {
            assert_eq!(without_effect(variables), keys, "{variables:?}");
        }
    }
}
