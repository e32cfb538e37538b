//! Which keys take effect while the engine runs, and what becomes of a configuration that is read again.
//!
//! A key that needs a restart keeps the value that is in force, and is named. Everything else is replaced. So what is in
//! force afterwards is a mixture of both configurations, which is validated like any other.

use std::collections::BTreeSet;

use super::{Backend, Config, Namespace, Problems, UnknownNamespace};

/// What becomes of a configuration that is read again.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The configuration that is to be in force.
    pub config: Config,
    /// The keys that take effect, such as `limits.topics` or `namespaces.chat.slow`. A namespace that is added or removed
    /// is named as a whole.
    pub changed: Vec<String>,
    /// The keys that have another value now, and keep the one that is in force until a restart.
    pub needs_restart: Vec<String>,
}

/// Why a configuration cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum RefusedReload {
    /// With the values that need a restart, the others are not valid.
    #[error("{} cannot change without a restart, and with {} in force the rest is wrong:\n{problems}", .keys.join(", "),
        if .keys.len() == 1 { "the value" } else { "the values" })]
    Mixture {
        /// The keys that need a restart.
        keys: Vec<String>,
        /// What is wrong then.
        problems: Problems,
    },
    /// Clients say who they are, by tokens or by the connect hook, and would not have to any more because nobody says
    /// anything about it.
    #[error(
        "there is no key for tokens of connections any more, and no connect hook, and so everybody could connect: is the file \
         whole? Say tokens.anonymous = \"allow\" if that is meant, or \"refuse\""
    )]
    WithoutKeys,
}

/// Divides the keys of a table into those that take effect at once and those that need a restart. Makes a function that
/// puts what is in force into the latter, and collects the names of the keys that differ.
macro_rules! keys {
    ($(
        $(#[$meta:meta])*
        fn $table:ident($type:ty) {
            live { $($live:ident),* $(,)? }
            restart { $($restart:ident),* $(,)? }
        }
    )*) => {
        $(
            $(#[$meta])*
            fn $table(found: &mut Found, prefix: &str, in_force: &$type, new: &mut $type) {
                $( found.changed(prefix, stringify!($live), in_force.$live != new.$live); )*
                $(
                    found.needs_restart(prefix, stringify!($restart), in_force.$restart != new.$restart);
                    new.$restart = in_force.$restart.clone();
                )*
            }
        )*

        /// The tables, each with its keys that take effect at once, and its keys that need a restart.
        #[cfg(test)]
        const CLASSES: &[(&str, &[&str], &[&str])] =
            &[$( (stringify!($table), &[$( stringify!($live) ),*], &[$( stringify!($restart) ),*]) ),*];
    };
}

keys! {
    /// `namespace_boundary`, `private_prefix` and `unknown_namespace` say which namespace a topic belongs to, which must
    /// not change while it is in use.
    fn server(super::Server) {
        live { insecure, allowed_origins, user_boundary, token_cookie, token_query }
        restart {
            listen, shards, cpus, private_fd_tables, path, namespace_boundary, unknown_namespace, private_prefix,
        }
    }

    fn control(super::Control) {
        live { api_key, guard_metrics, api_key_in_url, body_bytes }
        restart { listen }
    }

    fn tokens(super::Tokens) {
        live { hmac_keys, public_keys, issuer, audience, user_id_claim, anonymous, leeway }
        restart {}
    }

    /// The task that fetches the set has these from the start.
    fn jwks(super::Jwks) {
        live { file }
        restart { url, ca_file, refresh }
    }

    fn subscription_tokens(super::SubscriptionTokens) {
        live { hmac_keys, public_keys }
        restart {}
    }

    fn amqp(super::Amqp) {
        live {}
        restart {
            url, exchange, source, stream, stream_max_age, stream_max_bytes, stream_replicas, replay_max_messages,
            replay_max_age, queue, queue_delay, queue_max_messages, bindings, binding_linger, dead_letter_exchange,
            dead_letter_queue, dead_letter_max, prefetch, prefetch_bytes, ack, written_timeout, message_ids,
            trust_timestamps, reconnect_min, reconnect_max,
        }
    }

    /// Sizes of mailboxes and of buffers that all clients share are fixed when a thread starts.
    fn limits(super::Limits) {
        live {
            topics_per_client, user_max, info_bytes, tokens, topic_bytes, topics, publication_bytes, replies_bytes,
            shard_replies_bytes, shard_input_bytes, log_bytes, logs_bytes, rest_bytes, history_bytes, history_topics,
            merging_bytes, calls, calls_bytes, rpcs_per_client,
        }
        restart {
            clients, head_bytes, message_bytes, json_depth, frame_bytes, mailbox, mailbox_bytes, requests,
            requests_bytes, publishes, publishes_bytes,
        }
    }

    /// Clients were told `ping` when they connected, and leave if no ping comes in time.
    fn timeouts(super::Timeouts) {
        live { upgrade, connect, message, close, replies, expired }
        restart { ping, pong, publish }
    }

    fn budgets(super::Budgets) {
        live { accepts, reads, read_bytes, read_time, mails, visits, deadlines, crowd }
        restart {}
    }

    fn stop(super::Stop) {
        live { clients_per_second, gaps_per_second }
        restart { limit }
    }

    fn log(super::Log) {
        live { level }
        restart { format }
    }

    fn hooks(super::Hooks) {
        live { connect, refresh }
        restart {}
    }

    fn rpc(super::Rpc) {
        live { methods, send }
        restart {}
    }

    /// Of one backend. Calls that were sent already are answered on the old terms.
    fn backend(Backend) {
        live {
            url, timeout, concurrency, queue, queue_timeout, answer_bytes, failures, ca_file, headers, client_headers,
            static_headers, meta, statuses,
        }
        restart {}
    }

    /// Of one namespace. `history_size` has a rule of its own.
    fn namespace(Namespace) {
        live {
            client_subscribe, client_publish, slow, keys_max, max_delay, max_messages, max_bytes, history_size,
            client_history, client_presence, topic_pattern, server_only, force_recovery, force_positioning, recovery_mode,
            log_bytes, publication_bytes, binary, deflate, deflate_min_bytes, subscribe_hook, sub_refresh_hook,
            publish_hook, hook_failure,
        }
        restart { history_ttl }
    }
}

/// The keys that differ.
#[derive(Debug, Default)]
struct Found {
    changed: Vec<String>,
    needs_restart: Vec<String>,
}

impl Found {
    fn changed(&mut self, prefix: &str, key: &str, differs: bool) {
        self.changed.extend(differs.then(|| format!("{prefix}.{key}")));
    }

    fn needs_restart(&mut self, prefix: &str, key: &str, differs: bool) {
        self.needs_restart.extend(differs.then(|| format!("{prefix}.{key}")));
    }
}

impl Config {
    /// What becomes of `new`, which is valid, while this configuration is in force.
    ///
    /// # Errors
    /// If what would be in force then is not valid, or would open the engine to everybody without saying so.
    pub fn reload(&self, new: Self) -> Result<Reload, RefusedReload> {
        let (mut config, mut found) = (new, Found::default());
        let (old, new, found_keys) = (self, &mut config, &mut found);
        server(found_keys, "server", &old.server, &mut new.server);
        control(found_keys, "control", &old.control, &mut new.control);
        tokens(found_keys, "tokens", &old.tokens, &mut new.tokens);
        jwks(found_keys, "jwks", &old.jwks, &mut new.jwks);
        subscription_tokens(
            found_keys,
            "subscription_tokens",
            &old.subscription_tokens,
            &mut new.subscription_tokens,
        );
        amqp(found_keys, "amqp", &old.amqp, &mut new.amqp);
        limits(found_keys, "limits", &old.limits, &mut new.limits);
        timeouts(found_keys, "timeouts", &old.timeouts, &mut new.timeouts);
        budgets(found_keys, "budgets", &old.budgets, &mut new.budgets);
        stop(found_keys, "stop", &old.stop, &mut new.stop);
        log(found_keys, "log", &old.log, &mut new.log);
        hooks(found_keys, "hooks", &old.hooks, &mut new.hooks);
        rpc(found_keys, "rpc", &old.rpc, &mut new.rpc);
        backends(found_keys, old, new);
        namespaces(found_keys, old, new);
        let Found { changed, needs_restart } = found;
        match config.validate() {
            Ok(()) if self.identifies_clients() && config.opens_without_keys() => {
                Err(RefusedReload::WithoutKeys)
            }
            Ok(()) => Ok(Reload { config, changed, needs_restart }),
            Err(problems) => Err(RefusedReload::Mixture { keys: needs_restart, problems }),
        }
    }
}

/// Backends are added and removed. A backend that is removed while it owes answers is waited for.
fn backends(found: &mut Found, old: &Config, new: &mut Config) {
    let names: BTreeSet<String> = old.backends.keys().chain(new.backends.keys()).cloned().collect();
    for name in names {
        let prefix = format!("backends.{name}");
        match (old.backends.get(&name), new.backends.get_mut(&name)) {
            (Some(in_force), Some(options)) => backend(found, &prefix, in_force, options),
            _ => found.changed.push(prefix),
        }
    }
}

/// Namespaces are added and removed, except where their topics exist without them, with the options of the default one.
fn namespaces(found: &mut Found, old: &Config, new: &mut Config) {
    let are_fixed = old.server.unknown_namespace == UnknownNamespace::Default;
    let names: BTreeSet<String> = old.namespaces.keys().chain(new.namespaces.keys()).cloned().collect();
    for name in names {
        let prefix = format!("namespaces.{name}");
        let is_default = name == "default";
        match (old.namespaces.get(&name), new.namespaces.get_mut(&name)) {
            (Some(in_force), Some(options)) => one_namespace(found, &prefix, in_force, options),
            (None, Some(options)) if is_default => {
                one_namespace(found, &prefix, &Namespace::default(), options);
            }
            (Some(in_force), None) if is_default => {
                let mut options = Namespace::default();
                one_namespace(found, &prefix, in_force, &mut options);
                new.namespaces.insert(name, options);
            }
            (None, Some(_)) if are_fixed => {
                found.needs_restart.push(prefix);
                new.namespaces.remove(&name);
            }
            (Some(in_force), None) if are_fixed => {
                found.needs_restart.push(prefix);
                new.namespaces.insert(name, in_force.clone());
            }
            _ => found.changed.push(prefix),
        }
    }
}

/// Whether there is a history must not change while clients hold positions in it, or have none.
fn one_namespace(found: &mut Found, prefix: &str, in_force: &Namespace, options: &mut Namespace) {
    let size = options.history_size;
    if (size > 0) != (in_force.history_size > 0) {
        options.history_size = in_force.history_size;
        found.needs_restart(prefix, "history_size", true);
    }
    namespace(found, prefix, in_force, options);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{Keys, dotted};

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn every_key_is_in_exactly_one_class() {
        let keys = Keys::new();
        let mut known: Vec<String> = keys.all().iter().map(|path| dotted(path)).collect();
        for (table, one) in [("namespaces", "namespace"), ("backends", "backend")] {
            let options = keys.find(&[table.to_owned(), "x".to_owned()]).and_then(|table| table.as_table());
            known.extend(options.unwrap().keys().map(|option| format!("{one}.{option}")));
        }
        let in_table =
            |table: &'static str, keys: &'static [&str]| keys.iter().map(move |key| format!("{table}.{key}"));
        let mut classified: Vec<String> = CLASSES
            .iter()
            .flat_map(|&(table, live, restart)| in_table(table, live).chain(in_table(table, restart)))
            .collect();
        known.sort_unstable();
        classified.sort_unstable();
        assert_eq!(classified, known);
    }

    #[test]
    fn what_is_live_is_replaced_and_the_rest_is_named_and_stays() {
        let old = config("[server]\nshards = 2\n[tokens]\nhmac_keys = [\"one\"]\n[limits]\ntopics = 5\n");
        let new = config(
            "[server]\nshards = 3\ninsecure = true\n[tokens]\nhmac_keys = [\"two\", \"one\"]\n[amqp]\nurl = \"amqp://b\"\n\
             [control]\napi_key = \"k\"\n",
        );
        let reload = old.reload(new).unwrap();
        assert_eq!(
            reload.changed,
            ["server.insecure", "control.api_key", "tokens.hmac_keys", "limits.topics"],
            "the default is a value like any other"
        );
        assert_eq!(reload.needs_restart, ["server.shards", "amqp.url"]);
        let Config { server, tokens, amqp, limits, .. } = &reload.config;
        assert_eq!((server.shards, server.insecure, limits.topics), (2, true, 1_000_000));
        assert_eq!((tokens.hmac_keys.len(), amqp.url.is_empty()), (2, true));
        let again = old.reload(old.clone()).unwrap();
        assert_eq!((again.changed, again.needs_restart, again.config), (vec![], vec![], old));
    }

    #[test]
    fn backends_and_what_they_are_asked_change_at_once() {
        let old = config(
            "[backends.gone]\nurl = \"http://a\"\n[backends.shop]\nurl = \"http://b\"\n\
             [backends.shop.static_headers]\nX-Key = \"one\"\n[hooks]\nconnect = \"gone\"\n[namespaces.a]\n\
             publish_hook = \"gone\"\n",
        );
        let new = config(
            "[backends.new]\nurl = \"http://c\"\n[backends.shop]\nurl = \"http://b?key=2\"\nmeta = true\n\
             [backends.shop.static_headers]\nX-Key = \"two\"\n[hooks]\nconnect = \"new\"\n[rpc.methods]\n\"*\" = \"shop\"\n\
             [limits]\ncalls = 5\n[namespaces.a]\nhook_failure = \"allow\"\n",
        );
        let reload = old.reload(new.clone()).unwrap();
        let changed = [
            "limits.calls",
            "hooks.connect",
            "rpc.methods",
            "backends.gone",
            "backends.new",
            "backends.shop.url",
            "backends.shop.static_headers",
            "backends.shop.meta",
            "namespaces.a.publish_hook",
            "namespaces.a.hook_failure",
        ];
        assert_eq!((reload.changed, reload.needs_restart), (changed.map(str::to_owned).to_vec(), vec![]));
        assert_eq!(reload.config, new);
    }

    #[test]
    fn namespaces_come_and_go_and_keep_their_histories() {
        let old = config(
            "[namespaces.gone]\n[namespaces.a]\nhistory_size = 5\n[namespaces.b]\nslow = \"skip\"\n[namespaces.default]\n\
             keys_max = 5\n",
        );
        let new = config(
            "[namespaces.new]\nhistory_size = 3\nhistory_ttl = \"1s\"\n[namespaces.a]\nhistory_size = 6\nhistory_ttl = \"1s\"\n\
             [namespaces.b]\nhistory_size = 7\nforce_recovery = true\n",
        );
        let reload = old.reload(new).unwrap();
        let changed = [
            "namespaces.a.history_size",
            "namespaces.b.slow",
            "namespaces.b.force_recovery",
            "namespaces.default.keys_max",
            "namespaces.gone",
            "namespaces.new",
        ];
        assert_eq!(reload.changed, changed);
        assert_eq!(reload.needs_restart, ["namespaces.a.history_ttl", "namespaces.b.history_size"]);
        let of = |name: &str| &reload.config.namespaces[name];
        assert_eq!((of("a").history_size, of("b").history_size, of("new").history_size), (6, 0, 3));
        assert_eq!(
            (of("a").history_ttl, of("new").history_ttl.0.as_secs()),
            (old.namespaces["a"].history_ttl, 1)
        );
        assert!(!reload.config.namespaces.contains_key("gone"));
    }

    #[test]
    fn namespaces_need_a_restart_where_their_topics_exist_without_them() {
        let server = "[server]\nunknown_namespace = \"default\"\n";
        let old = config(&format!("{server}[namespaces.a]\nkeys_max = 1\n"));
        let new = config(&format!("{server}[namespaces.b]\n"));
        let reload = old.reload(new).unwrap();
        assert_eq!(reload.needs_restart, ["namespaces.a", "namespaces.b"]);
        assert_eq!((reload.changed, reload.config), (vec![], old));
    }

    /// A file that is just being written has nothing in it.
    #[test]
    fn an_engine_with_keys_is_not_opened_by_a_file_without_any() {
        let hook = "[hooks]\nconnect = \"shop\"\n[backends.shop]\nurl = \"http://localhost\"\n";
        for old in ["[tokens]\nhmac_keys = [\"one\"]\n", hook] {
            let old = config(old);
            let error = old.reload(Config::default()).unwrap_err().to_string();
            assert!(error.starts_with("there is no key for tokens of connections any more"), "{error}");
            for said in [
                "[tokens]\nanonymous = \"allow\"\n",
                "[tokens]\nanonymous = \"refuse\"\n",
                "[server]\ninsecure = true\n",
                hook,
            ] {
                assert!(old.reload(config(said)).is_ok(), "{said}");
            }
        }
        assert!(Config::default().reload(Config::default()).is_ok(), "it was open before");
    }

    #[test]
    fn a_mixture_that_is_not_valid_is_refused_with_the_reason() {
        let old = Config::default();
        let new = config(
            "[limits]\nframe_bytes = 2_097_152\nlog_bytes = 2_097_152\npublication_bytes = 1_048_576\n",
        );
        new.validate().unwrap();
        let error = old.reload(new).unwrap_err().to_string();
        let beginning = "limits.frame_bytes cannot change without a restart, and with the value in force the rest is wrong:\n";
        assert!(error.starts_with(beginning), "{error}");
        assert!(error.contains("limits.publication_bytes"), "{error}");
    }
}
