//! What is refused of backends, and of those who are to ask them.

use super::*;

/// The configuration of a backend `shop`, changed.
fn with_shop(config: &mut Config, change: impl FnOnce(&mut Backend)) {
    let mut shop = Backend { url: "https://shop/".into(), ..Backend::default() };
    change(&mut shop);
    config.backends.insert("shop".to_owned(), shop);
}

fn with_rule(config: &mut Config, status: u16, error: Option<u32>, disconnect: Option<u16>, reason: &str) {
    let error = error.map(|code| StatusError { code, message: String::new(), temporary: false });
    let disconnect = disconnect.map(|code| StatusDisconnect { code, reason: reason.to_owned() });
    with_shop(config, |shop| shop.statuses = vec![StatusRule { status, error, disconnect }]);
}

#[test]
fn backends_that_make_no_sense_are_refused() {
    refused(&[
        (
            |c| {
                drop(
                    c.backends
                        .insert("a b".to_owned(), Backend { url: "https://a".into(), ..Backend::default() }),
                )
            },
            "backends.`a b`: expected a name",
        ),
        (|c| with_shop(c, |shop| shop.url = HttpUrl::default()), "backends.shop.url is empty"),
        (|c| with_shop(c, |shop| shop.url = "ftp://shop/".into()), "backends.shop.url begins neither with"),
        (|c| with_shop(c, |shop| shop.url = "https://ann@shop/".into()), "backends.shop.url has a user"),
        (|c| with_shop(c, |shop| shop.timeout = Interval::default()), "backends.shop.timeout is 0s"),
        (
            |c| with_shop(c, |shop| shop.queue_timeout = Interval::from_secs(601)),
            "shop.queue_timeout is 601s",
        ),
        (|c| with_shop(c, |shop| shop.concurrency = 0), "backends.shop.concurrency is 0"),
        (|c| with_shop(c, |shop| shop.concurrency = 65_536), "from 1 to 65,535"),
        (|c| with_shop(c, |shop| shop.answer_bytes = 1023), "backends.shop.answer_bytes is 1,023"),
        (
            |c| with_shop(c, |shop| shop.answer_bytes = 524_288),
            "backends.shop.answer_bytes with braces (524,416) must not exceed limits.frame_bytes",
        ),
        (
            |c| {
                with_shop(c, |shop| {
                    shop.url = "http://shop/".into();
                    shop.ca_file = "ca.pem".to_owned();
                });
            },
            "backends.shop.ca_file says whom to trust",
        ),
        (
            |c| {
                drop(
                    c.backends
                        .insert("amqp".to_owned(), Backend { url: "https://a".into(), ..Backend::default() }),
                )
            },
            "backends.amqp.url is for requests by HTTP",
        ),
        (
            |c| {
                let headers = vec!["Cookie".to_owned()];
                c.backends.insert("amqp".to_owned(), Backend { headers, ..Backend::default() });
            },
            "backends.amqp.headers is for requests by HTTP",
        ),
        (
            |c| {
                let backend = Backend { url: "https://a".into(), ..Backend::default() };
                c.backends = (0..101).map(|number: u8| (number.to_string(), backend.clone())).collect();
            },
            "the number of backends is 101",
        ),
    ]);
}

#[test]
fn headers_that_cannot_be_sent_are_refused() {
    let with_static = |c: &mut Config, name: &str, value: &str| {
        with_shop(c, |shop| drop(shop.static_headers.insert(name.to_owned(), value.into())));
    };
    for (name, problem) in [
        ("", "backends.shop.headers names the header ``: expected a name"),
        ("a b", "backends.shop.headers names the header `a b`: expected a name"),
        ("a:", "names the header `a:`"),
        ("a\r\nb", "names the header `a\\r\\nb`"),
        ("é", "names the header"),
        ("Host", "names the header `Host`, which the engine sets itself"),
        ("Content-Length", "which the engine sets itself"),
        ("transfer-ENCODING", "which the engine sets itself"),
        ("Sec-WebSocket-Key", "or which is about one connection or its handshake"),
        ("sec-websocket-protocol", "or its handshake"),
        ("Upgrade", "or which is about one connection"),
    ] {
        let mut config = Config::default();
        with_shop(&mut config, |shop| shop.headers = vec![name.to_owned()]);
        let problems = config.validate().unwrap_err().to_string();
        assert!(problems.contains(problem), "{name}: {problems}");
        with_shop(&mut config, |shop| shop.client_headers = vec![name.to_owned()]);
        assert!(config.validate().unwrap_err().to_string().contains("client_headers names"), "{name}");
        config.backends.clear();
        with_static(&mut config, name, "1");
        let problems = config.validate().unwrap_err().to_string();
        let quoted = keys::quoted(name);
        assert!(
            problems.contains(&format!("static_headers.{quoted} names the header")),
            "{name}: {problems}"
        );
    }
    let mut twice = Config::default();
    with_shop(&mut twice, |shop| shop.headers = vec!["Cookie".to_owned(), "cookie".to_owned()]);
    assert!(twice.validate().unwrap_err().to_string().contains("names the header `cookie` twice"));
    for value in ["hunter2\r\nHost: a", "hunter2\0", "\u{7f}hunter2"] {
        let mut config = Config::default();
        with_static(&mut config, "X-Key", value);
        let problems = config.validate().unwrap_err().to_string();
        assert!(problems.starts_with("backends.shop.static_headers.X-Key has a line break"), "{problems}");
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    let mut config = Config::default();
    with_static(&mut config, "X-Key", "a b\té");
    assert!(config.validate().is_ok());
}

#[test]
fn rules_for_statuses_that_make_no_sense_are_refused() {
    refused(&[
        (|c| with_rule(c, 399, Some(400), None, ""), "a status of backends.shop.statuses is 399"),
        (|c| with_rule(c, 600, Some(400), None, ""), "from 400 to 599: 200 is an answer"),
        (|c| with_rule(c, 404, None, None, ""), "says of the status 404 nothing or two things"),
        (|c| with_rule(c, 404, Some(400), Some(4000), ""), "says of the status 404 nothing or two things"),
        (|c| with_rule(c, 404, Some(399), None, ""), "an error's code of backends.shop.statuses is 399"),
        (|c| with_rule(c, 404, Some(2000), None, ""), "from 400 to 1,999"),
        (
            |c| with_rule(c, 404, None, Some(3999), ""),
            "a disconnect's code of backends.shop.statuses is 3,999",
        ),
        (|c| with_rule(c, 404, None, Some(5000), ""), "from 4,000 to 4,999"),
        (|c| with_rule(c, 404, None, Some(4000), &"x".repeat(124)), "the bytes of a reason of"),
        (
            |c| {
                with_rule(c, 404, Some(400), None, "");
                with_shop(c, |shop| {
                    let error = Some(StatusError { code: 400, message: String::new(), temporary: false });
                    shop.statuses = vec![StatusRule { status: 404, error, disconnect: None }; 2];
                });
            },
            "backends.shop.statuses has two rules for the status 404",
        ),
    ]);
    let mut config = Config::default();
    with_rule(&mut config, 503, None, Some(4999), &"x".repeat(123));
    assert!(config.validate().is_ok());
}

#[test]
fn whoever_is_to_be_asked_must_exist() {
    refused(&[
        (
            |c| c.hooks.connect = "shop".to_owned(),
            "hooks.connect names the backend `shop`, which is not configured: add",
        ),
        (
            |c| {
                with_shop(c, |_| ());
                c.hooks.refresh = "shp".to_owned();
            },
            "hooks.refresh names the backend `shp`, which is not configured; the nearest is `shop`",
        ),
        (|c| c.rpc.send = "ampq".to_owned(), "the nearest is `amqp`"),
        (
            |c| c.rpc.send = "amqp".to_owned(),
            "rpc.send names the backend `amqp`, which is reached through RabbitMQ, but",
        ),
        (
            |c| drop(c.rpc.methods.insert("order.*".to_owned(), String::new())),
            "rpc.methods.\"order.*\" names the backend ``, which is not configured; the empty name is none",
        ),
        (
            |c| {
                let publish_hook = "shop".to_owned();
                with_namespace(c, "a", Namespace { publish_hook, ..Namespace::default() });
            },
            "namespaces.a.publish_hook names the backend `shop`",
        ),
        (
            |c| {
                let sub_refresh_hook = "shop".to_owned();
                with_namespace(c, "a", Namespace { sub_refresh_hook, ..Namespace::default() });
            },
            "namespaces.a.sub_refresh_hook names the backend `shop`",
        ),
        (
            |c| {
                c.amqp.url = "amqp://rabbit".into();
                c.amqp.exchange = "x".repeat(252);
                c.hooks.connect = "amqp".to_owned();
            },
            "amqp.exchange: `",
        ),
        (
            |c| {
                with_shop(c, |_| ());
                c.rpc.methods.insert("*.get".to_owned(), "shop".to_owned());
            },
            "rpc.methods.\"*.get\" is no pattern of methods",
        ),
        (
            |c| {
                with_shop(c, |_| ());
                c.rpc.methods.insert("x".repeat(252), "shop".to_owned());
            },
            "is no pattern of methods: it has at most 251 bytes",
        ),
    ]);
    let mut config = Config::default();
    config.amqp.url = "amqp://rabbit".into();
    with_shop(&mut config, |_| ());
    for (method, backend) in [("", "shop"), ("*", "amqp"), ("order.get", "shop"), ("order.*", "amqp")] {
        config.rpc.methods.insert(method.to_owned(), backend.to_owned());
    }
    let subscribe_hook = "shop".to_owned();
    with_namespace(&mut config, "a", Namespace { subscribe_hook, ..Namespace::default() });
    assert!(config.validate().is_ok());
}

#[test]
fn a_connect_hook_says_who_clients_are_as_a_key_does() {
    let mut config = Config::default();
    with_shop(&mut config, |_| ());
    config.hooks.connect = "shop".to_owned();
    assert!(config.identifies_clients() && !config.has_keys() && !config.allows_anonymous());
    assert_eq!((config.anonymous_note(), config.opens_without_keys()), (None, false));
    config.server.listen = vec![address("0.0.0.0:8000")];
    assert!(config.validate().is_ok(), "other machines may connect");
    config.jwks.url = "https://issuer.example/".into();
    assert!(!config.depends_on_key_set());
    config.tokens.anonymous = Anonymous::Allow;
    assert!(config.allows_anonymous());
}
