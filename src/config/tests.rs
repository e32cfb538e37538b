//! What is printed, and what is refused of values together: tables of what an operator may write.

use super::*;

mod backends;

#[test]
fn the_printed_defaults_are_the_defaults() {
    let config: Config = toml::from_str(DEFAULT_FILE).unwrap();
    assert_eq!(config, Config::default());
    let written: toml::Table = DEFAULT_FILE.parse().unwrap();
    let mut whole = toml::Table::try_from(Config::default()).unwrap();
    assert_eq!(whole.remove("namespaces"), Some(toml::Table::new().into()));
    assert_eq!(whole.remove("backends"), Some(toml::Table::new().into()));
    assert_eq!(written, whole, "every key is printed");

    let written: toml::Table = commented("namespaces.default").parse().unwrap();
    let namespace = toml::Value::try_from(Namespace::default()).unwrap();
    assert_eq!(written["namespaces"]["default"], namespace, "every option of a namespace is printed");
    let written: toml::Table = commented("backends.shop").parse().unwrap();
    let backend = toml::Value::try_from(Backend::default()).unwrap();
    assert_eq!(written["backends"]["shop"], backend, "every option of a backend is printed");
}

/// The lines of the printed defaults that show a table as a comment, without the sign of a comment.
fn commented(table: &str) -> String {
    let lines = DEFAULT_FILE.lines().skip_while(|line| *line != format!("#[{table}]"));
    lines.map_while(|line| line.strip_prefix('#')).map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_printed_key_tells_default_limit_and_cost() {
    for text in [DEFAULT_FILE, &commented("namespaces.default"), &commented("backends.shop")] {
        let mut comment = String::new();
        for line in text.lines() {
            assert!(line.len() <= 110, "{line}");
            match line.strip_prefix('#') {
                Some(words) => comment.push_str(words),
                None => {
                    if line.contains(" = ") {
                        for word in ["Default", "Limit", "Cost"] {
                            assert!(comment.contains(word), "{line}: no {word} in its comment");
                        }
                    }
                    comment.clear();
                }
            }
        }
    }
}

/// A change to the defaults, and what validation says of it.
type Case = (fn(&mut Config), &'static str);

fn refused(cases: &[Case]) {
    for (number, (change, problem)) in cases.iter().enumerate() {
        let mut config = Config::default();
        change(&mut config);
        let problems = config.validate().unwrap_err().to_string();
        assert!(problems.contains(problem), "case {number}: {problems}\n  not: {problem}");
        assert_eq!(problems.lines().count(), 1, "case {number}: {problems}");
    }
}

fn address(text: &str) -> SocketAddr {
    super::address(text).unwrap()
}

fn with_namespace(config: &mut Config, name: &str, namespace: Namespace) {
    config.namespaces.insert(name.to_owned(), namespace);
}

#[test]
fn doors_open_to_strangers_are_refused() {
    refused(&[
        (|c| c.server.listen = vec![address("0.0.0.0:8000")], "there is no key for tokens"),
        (|c| c.server.listen = vec![address("[::]:8000")], "`--insecure`"),
        (|c| c.control.listen = address("10.0.0.1:9000"), "Set the key"),
        (|c| c.control.api_key = "two words".into(), "HTTP header"),
    ]);
    let mut open = Config::default();
    open.server.listen = vec![address("0.0.0.0:8000"), address("[::]:8001")];
    open.server.insecure = true;
    open.control.listen = address("0.0.0.0:9000");
    open.control.api_key = "key".into();
    assert!(open.validate().is_ok());
    let mut mapped = Config::default();
    mapped.server.listen = vec![address("[::ffff:127.0.0.1]:8000")];
    mapped.control.listen = address("127.1.2.3:9000");
    assert!(mapped.validate().is_ok(), "all of 127.0.0.0/8 is loopback, however it is written");
}

#[test]
fn a_server_that_makes_no_sense_is_refused() {
    refused(&[
        (|c| c.server.listen.clear(), "no client could connect"),
        (|c| c.server.listen.push(c.server.listen[0]), "twice"),
        (|c| c.control.listen = c.server.listen[0], "different doors"),
        (|c| c.control.body_bytes = 0, "control.body_bytes is 0"),
        (|c| c.control.body_bytes = (64 << 20) + 1, "control.body_bytes is 67,108,865"),
        (|c| c.limits.mailbox = 9_000_000_000_000_000_000, "limits.mailbox is 9,000,000,000,000,000,000"),
        (|c| c.limits.requests = 1_000_000_000, "limits.requests is 1,000,000,000"),
        (|c| c.amqp.message_ids = 1_000_000_000, "amqp.message_ids is 1,000,000,000"),
        (|c| c.server.shards = 4097, "from 0 to 4,096"),
        (|c| c.server.cpus = "3-0".to_owned(), "server.cpus: `3-0` runs backwards"),
        (|c| c.server.allowed_origins = vec!["https://a/".to_owned()], "leave out what follows"),
        (
            |c| {
                c.server.token_cookie = "a b".to_owned();
                c.server.allowed_origins = vec!["https://a".to_owned()];
            },
            "server.token_cookie is `a b`: expected the name",
        ),
        (|c| c.server.token_cookie = "a".to_owned(), "server.token_cookie needs the origins of your pages"),
        (
            |c| {
                c.server.token_cookie = "a".to_owned();
                c.server.allowed_origins = vec!["https://a".to_owned(), "null".to_owned()];
            },
            "neither `*` nor `null`",
        ),
        (|c| c.server.token_query = "a=b".to_owned(), "server.token_query is `a=b`"),
        (|c| c.server.token_query = "format".to_owned(), "server.token_query is `format`"),
        (|c| c.server.allowed_origins = vec!["example.org".to_owned()], "a scheme is missing"),
        (|c| c.server.path = "connection".to_owned(), "expected a path"),
        (|c| c.server.path = "/a?b".to_owned(), "expected a path"),
        (|c| c.server.namespace_boundary = '\n', "control character"),
        (|c| c.log.level = "loud".to_owned(), "log.level is `loud`"),
    ]);
    let mut several = Config::default();
    several.server.listen = vec![address("127.0.0.1:0"), address("127.0.0.1:0")];
    several.control.listen = address("127.0.0.1:0");
    several.server.allowed_origins =
        ["*", "null", "file://", "https://a:8", "https://*.a:443", "http://[::1]:*"]
            .map(str::to_owned)
            .to_vec();
    assert!(several.validate().is_ok(), "port 0 is always another one");
}

#[test]
fn tokens_that_make_no_sense_are_refused() {
    refused(&[
        (|c| c.tokens.user_id_claim = "exp".to_owned(), "tokens.user_id_claim is `exp`"),
        (|c| c.tokens.user_id_claim.clear(), "tokens.user_id_claim is ``"),
        (|c| c.tokens.hmac_keys = vec!["a".into(), "".into()].into(), "tokens.hmac_keys has an empty secret"),
        (
            |c| c.subscription_tokens.hmac_keys = vec!["".into()].into(),
            "subscription_tokens.hmac_keys has an",
        ),
        (
            |c| c.tokens.hmac_keys = vec!["-----BEGIN PUBLIC KEY-----".into()].into(),
            "tokens.hmac_keys has a key in PEM",
        ),
        (|c| c.tokens.leeway = Interval::from_secs(86_401), "tokens.leeway is 86401s"),
        (|c| c.jwks.url = "http://issuer.example/".into(), "jwks.url begins with `http://`"),
        (|c| c.jwks.url = "https://ann@issuer.example/".into(), "jwks.url has a user or a password"),
        (
            |c| {
                c.jwks.url = "https://issuer.example/".into();
                c.jwks.file = "keys.json".to_owned();
            },
            "jwks.file and jwks.url both name a key set",
        ),
        (|c| c.jwks.ca_file = "ca.pem".to_owned(), "jwks.ca_file says whom to trust for jwks.url"),
        (|c| c.jwks.refresh = Interval::from_secs(9), "jwks.refresh is 9s"),
        (|c| c.jwks.refresh = Interval::from_secs(86_401), "jwks.refresh is 86401s"),
        (|c| c.limits.user_max = 0, "limits.user_max is 0"),
        (|c| c.limits.user_max = 4097, "from 1 to 4,096"),
        (|c| c.limits.info_bytes = 16_385, "from 1 to 16,384"),
        (|c| c.limits.tokens = 10_000_001, "from 0 to 10,000,000"),
    ]);
    let mut config = Config::default();
    config.tokens.user_id_claim = "email".to_owned();
    config.limits.tokens = 0;
    assert!(config.validate().is_ok());
}

#[test]
fn a_key_set_of_a_url_is_a_key_and_perhaps_the_only_one() {
    let mut config = Config::default();
    config.jwks.url = "https://issuer.example/".into();
    config.jwks.ca_file = "ca.pem".to_owned();
    config.server.listen = vec![address("0.0.0.0:8000")];
    assert!(config.validate().is_ok() && config.depends_on_key_set());
    config.tokens.anonymous = Anonymous::Allow;
    assert!(!config.depends_on_key_set());
    config.tokens.anonymous = Anonymous::Refuse;
    config.tokens.public_keys = vec!["public.pem".to_owned()];
    assert!(!config.depends_on_key_set());
}

#[test]
fn a_rabbitmq_that_makes_no_sense_is_refused() {
    refused(&[
        (|c| c.amqp.url = "rabbit".into(), "amqp.url is no URL"),
        (|c| c.amqp.exchange.clear(), "amqp.exchange is empty"),
        (|c| c.amqp.exchange = "x".repeat(256), "longer than AMQP's 255 bytes"),
        (|c| c.amqp.bindings = Bindings::Patterns(vec!["x".repeat(256)]), "amqp.bindings"),
        (|c| c.amqp.bindings = Bindings::Patterns(Vec::new()), "nothing would ever arrive"),
        (|c| c.amqp.bindings = Bindings::Dynamic, "but amqp.source is \"stream\""),
        (
            |c| {
                c.amqp.source = Source::Queue;
                c.amqp.queue = "mine".to_owned();
                c.amqp.bindings = Bindings::Dynamic;
            },
            "but amqp.queue names `mine`",
        ),
        (|c| c.amqp.binding_linger = Interval::from_secs(86_401), "amqp.binding_linger is 86401s"),
        (|c| c.amqp.queue_max_messages = 0, "amqp.queue_max_messages is 0"),
        (|c| c.amqp.dead_letter_exchange = c.amqp.exchange.clone(), "for ever"),
        (
            |c| {
                c.amqp.source = Source::Queue;
                c.amqp.queue = c.amqp.dead_letter_queue.clone();
            },
            "for ever",
        ),
        (|c| c.amqp.queue = "mine".to_owned(), "but amqp.source is \"stream\""),
        (|c| c.amqp.stream.clear(), "amqp.stream is empty"),
        (|c| c.amqp.stream = c.amqp.dead_letter_queue.clone(), "for ever"),
        (|c| c.amqp.replay_max_age = Interval::from_secs(119), "amqp.replay_max_age is 119s"),
        (|c| c.amqp.stream_max_age = Interval::from_secs(599), "amqp.stream_max_age is 599s"),
        (|c| c.amqp.stream_max_bytes = 999_999, "amqp.stream_max_bytes is 999,999"),
        (|c| c.amqp.replay_max_messages = 0, "amqp.replay_max_messages is 0"),
        (|c| c.amqp.prefetch = 0, "amqp.prefetch is 0"),
        (|c| c.amqp.prefetch_bytes = 0, "amqp.prefetch_bytes is 0"),
        (|c| c.amqp.dead_letter_max = 0, "amqp.dead_letter_max is 0"),
        (|c| c.amqp.queue_delay = Interval::from_secs(86_401), "amqp.queue_delay is 86401s"),
        (
            |c| c.amqp.reconnect_min = Interval::from_secs(11),
            "(11s) must not exceed amqp.reconnect_max (10s)",
        ),
    ]);
}

#[test]
fn limits_that_do_not_fit_each_other_are_refused() {
    refused(&[
        (|c| c.limits.head_bytes = 1023, "limits.head_bytes is 1,023 and must be at least 1,024"),
        (|c| c.limits.message_bytes = 510, "limits.message_bytes is 510"),
        (|c| c.limits.topic_bytes = 256, "from 1 to 255"),
        (|c| c.limits.topic_bytes = 0, "from 1 to 255"),
        (|c| c.limits.topics_per_client = 0, "limits.topics_per_client"),
        (|c| c.limits.topics = 0, "limits.topics"),
        (|c| c.limits.publication_bytes = 0, "limits.publication_bytes"),
        (
            |c| c.limits.publication_bytes = c.limits.frame_bytes,
            "must not exceed limits.frame_bytes (524,288)",
        ),
        (|c| c.limits.json_depth = 1025, "limits.json_depth"),
        (|c| c.limits.frame_bytes = c.limits.log_bytes + 1, "must not exceed limits.log_bytes"),
        (|c| c.limits.logs_bytes = c.limits.log_bytes - 1, "must not exceed limits.logs_bytes"),
        (|c| c.limits.rest_bytes = c.limits.frame_bytes - 1, "must not exceed limits.rest_bytes"),
        (|c| c.limits.merging_bytes = 0, "must not exceed limits.merging_bytes (0)"),
        (|c| c.limits.replies_bytes = 0, "limits.replies_bytes"),
        (|c| c.limits.shard_replies_bytes = (1 << 20) - 1, "must not exceed limits.shard_replies_bytes"),
        (|c| c.limits.shard_input_bytes = 0, "must not exceed limits.shard_input_bytes (0)"),
        (|c| c.limits.mailbox_bytes = 0, "must not exceed limits.mailbox_bytes (0)"),
        (|c| c.limits.requests_bytes = 0, "must not exceed limits.requests_bytes (0)"),
        (|c| c.limits.publishes_bytes = 0, "must not exceed limits.publishes_bytes (0)"),
        (|c| c.limits.mailbox = 15, "limits.mailbox is 15 and must be from 16"),
        (|c| c.limits.requests = 0, "limits.requests"),
        (|c| c.limits.publishes = 0, "limits.publishes"),
        (|c| c.limits.calls = 0, "limits.calls is 0"),
        (|c| c.limits.calls_bytes = 0, "must not exceed limits.calls_bytes (0)"),
        (|c| c.limits.rpcs_per_client = 0, "limits.rpcs_per_client is 0"),
        (|c| c.budgets.accepts = 0, "budgets.accepts"),
        (|c| c.budgets.reads = 0, "budgets.reads"),
        (|c| c.budgets.mails = 0, "budgets.mails"),
        (|c| c.budgets.visits = 0, "budgets.visits"),
        (|c| c.budgets.deadlines = 0, "budgets.deadlines"),
        (|c| c.budgets.crowd = 0, "budgets.crowd"),
        (|c| c.budgets.read_bytes = 1023, "budgets.read_bytes is 1,023"),
        (|c| c.budgets.read_time = Interval::from_secs(2), "budgets.read_time is 2s"),
        (|c| c.stop.clients_per_second = 0, "stop.clients_per_second"),
        (|c| c.stop.gaps_per_second = 0, "stop.gaps_per_second"),
        (|c| c.stop.limit = Interval::default(), "stop.limit is 0s and must be from 1ms to 24h"),
        (|c| c.timeouts.upgrade = Interval::from_secs(86_401), "timeouts.upgrade"),
        (
            |c| c.timeouts.pong = c.timeouts.ping,
            "timeouts.pong (25s) must be shorter than timeouts.ping (25s)",
        ),
        (|c| c.timeouts.ping = Interval::from_millis(25_500), "whole seconds"),
    ]);
}

#[test]
fn namespaces_that_make_no_sense_are_refused() {
    refused(&[
        (|c| with_namespace(c, "a:b", Namespace::default()), "namespaces.`a:b`"),
        (|c| with_namespace(c, "", Namespace::default()), "no topic"),
        (|c| with_namespace(c, "a\n", Namespace::default()), "namespaces.`a\\n`"),
        (|c| with_namespace(c, "$a", Namespace::default()), "namespaces.`$a` begins with"),
        (|c| c.server.private_prefix = "a:".to_owned(), "server.private_prefix contains a comma"),
        (|c| c.server.user_boundary = ",".to_owned(), "server.user_boundary contains a comma"),
        (
            |c| {
                let client_subscribe = [Role::User, Role::Subscriber].into_iter().collect();
                with_namespace(c, "a", Namespace { client_subscribe, ..Namespace::default() });
            },
            "namespaces.a.client_subscribe names \"subscriber\"",
        ),
        (
            |c| {
                let topic_pattern = "[a-z".to_owned();
                with_namespace(c, "a", Namespace { topic_pattern, ..Namespace::default() });
            },
            "namespaces.a.topic_pattern is no regular expression: unclosed character class",
        ),
        (|c| with_namespace(c, "a", Namespace { max_messages: 1, ..Namespace::default() }), "nothing waits"),
        (
            |c| with_namespace(c, "a", Namespace { max_bytes: 1, ..Namespace::default() }),
            "namespaces.a.max_delay",
        ),
        (
            |c| with_namespace(c, "a", Namespace { publication_bytes: 524_288, ..Namespace::default() }),
            "namespaces.a.publication_bytes with its topic and braces (524,926)",
        ),
        (
            |c| with_namespace(c, "a", Namespace { log_bytes: 524_287, ..Namespace::default() }),
            "must not exceed namespaces.a.log_bytes (524,287)",
        ),
        (
            |c| with_namespace(c, "a", Namespace { log_bytes: usize::MAX, ..Namespace::default() }),
            "must not exceed limits.logs_bytes",
        ),
        (
            |c| {
                let max_delay = Interval::from_secs(1);
                with_namespace(c, "a", Namespace { max_delay, max_bytes: 524_289, ..Namespace::default() });
            },
            "namespaces.a.max_bytes (524,289) must not exceed limits.frame_bytes",
        ),
        (
            |c| {
                let max_delay = Interval::from_secs(86_401);
                with_namespace(c, "a", Namespace { max_delay, ..Namespace::default() });
            },
            "at most 24h",
        ),
        (
            |c| (0..=65_535).for_each(|n| with_namespace(c, &n.to_string(), Namespace::default())),
            "the number of namespaces is 65,536",
        ),
    ]);
    let mut dotted = Config::default();
    dotted.server.namespace_boundary = '.';
    with_namespace(&mut dotted, "a:b", Namespace::default());
    assert!(dotted.validate().is_ok());
}

#[test]
fn validation_tells_everything_at_once() {
    let mut config = Config::default();
    config.limits.mailbox = 0;
    config.budgets.reads = 0;
    config.server.listen = vec![address("0.0.0.0:1"), address("[::]:1")];
    assert_eq!(config.validate().unwrap_err().0.len(), 4);
}

#[test]
fn without_a_token_clients_connect_if_only_this_host_can_and_nobody_has_a_key() {
    let key = |c: &mut Config| c.tokens.hmac_keys = vec![Secret::from("secret")].into();
    let listen = |c: &mut Config| c.server.listen.push(address("0.0.0.0:8000"));
    for (has_key, listens, insecure, auto) in [
        (false, false, false, true),
        (true, false, false, false),
        (false, true, false, false),
        (true, true, false, false),
        (false, false, true, true),
        (true, true, true, true),
    ] {
        let allowed = [Anonymous::Auto, Anonymous::Allow, Anonymous::Refuse].map(|anonymous| {
            let mut config = Config::default();
            (config.tokens.anonymous, config.server.insecure) = (anonymous, insecure);
            if has_key {
                key(&mut config);
            }
            if listens {
                listen(&mut config);
            }
            config.allows_anonymous()
        });
        assert_eq!(allowed, [auto, true, false], "{has_key} {listens} {insecure}");
    }
    let mut config = Config::default();
    assert!(config.anonymous_note().is_some_and(|note| note.contains("a proxy on this host")));
    listen(&mut config);
    key(&mut config);
    assert!(config.validate().is_ok(), "with a key, other machines may connect");
    assert_eq!(config.anonymous_note(), None);
}
