//! Loading, precedence, and what is refused of single values: tables of what an operator may write.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::config::*;

/// A file of its own, gone with it.
struct File(PathBuf);

static FILES: AtomicUsize = AtomicUsize::new(0);

impl File {
    fn new(test: &str, text: &str) -> Self {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fanfare-{}-{test}-{number}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // What is left of it in a temporary directory harms nobody.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn environment(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, text)| (name.into(), text.into())).collect()
}

fn load_text(test: &str, text: &str, variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let file = File::new(test, text);
    load(Some(&file.0), environment(variables))
        .map_err(|problems| problems.to_string().replace(&file.0.display().to_string(), "FILE"))
}

#[test]
fn nothing_said_means_the_defaults() {
    assert_eq!(load(None, []).unwrap().config, Config::default());
    assert_eq!(load_text("empty", "", &[]).unwrap().config, Config::default());
    assert!(Config::default().validate().is_ok());
}

#[test]
fn the_environment_goes_over_the_file_and_the_file_over_the_defaults() {
    let file = "limits.clients = 5\n[server]\nshards = 3\nlisten = ['127.0.0.1:1']\n\
                [namespaces.Chat]\nslow = 'skip'\n";
    let variables = [
        ("FANFARE_SERVER_SHARDS", "4"),
        ("FANFARE_SERVER_LISTEN", "127.0.0.1:2, [::1]:3"),
        ("FANFARE_SERVER_INSECURE", "true"),
        ("FANFARE_CONTROL_API_KEY", "7"),
        ("FANFARE_AMQP_BINDINGS", "dynamic"),
        ("FANFARE_TIMEOUTS_PING", "2m"),
        ("FANFARE_LOG_FORMAT", "json"),
        ("FANFARE_NAMESPACES_CHAT_MAX_DELAY", "1s"),
        ("FANFARE_NAMESPACES_NEWS_BINARY", "base64"),
        ("FANFARE_NAMESPACES_NEWS_CLIENT_PUBLISH", "user,subscriber"),
        ("FANFARE_NAMESPACES_NEWS_CLIENT_SUBSCRIBE", "false"),
        ("FANFARE_CONFIG", "elsewhere"),
        ("HOME", "/"),
    ];
    let Loaded { config, origins, .. } = load_text("precedence", file, &variables).unwrap();
    assert_eq!(config.limits.clients, 5);
    assert_eq!(config.server.shards, 4);
    assert_eq!(config.server.listen, ["127.0.0.1:2".parse().unwrap(), "[::1]:3".parse().unwrap()]);
    assert!(config.server.insecure);
    assert_eq!(&*config.control.api_key, "7");
    assert_eq!(config.amqp.bindings, Bindings::Dynamic);
    assert_eq!(config.timeouts.ping, Interval::from_secs(120));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.limits.mailbox, Limits::default().mailbox);
    let chat = &config.namespaces["Chat"];
    assert_eq!((chat.slow, chat.max_delay), (SlowPolicy::Skip, Interval::from_secs(1)));
    assert_eq!(config.namespaces["news"].binary, BinaryPayloads::Base64);
    assert_eq!(config.namespaces["news"].client_publish, Allowed::from_iter([Role::User, Role::Subscriber]));
    assert_eq!(config.namespaces["news"].client_subscribe, Allowed::NOBODY);
    assert_eq!(origins["server.shards"], ValueOrigin::Environment("FANFARE_SERVER_SHARDS".to_owned()));
    assert!(matches!(&origins["limits.clients"], ValueOrigin::File { line: 1, .. }));
    assert_eq!(origins.len(), 13, "{origins:?}");
}

#[test]
fn names_of_hosts_stand_for_their_addresses() {
    let text = "server.listen = ['localhost:1', '127.0.0.2:3']\ncontrol.listen = 'localhost:2'\n";
    let config = load_text("names", text, &[]).unwrap().config;
    assert!(config.server.listen.contains(&"127.0.0.1:1".parse().unwrap()), "{:?}", config.server.listen);
    assert!(config.server.listen.contains(&"127.0.0.2:3".parse().unwrap()));
    assert_eq!(config.control.listen, "127.0.0.1:2".parse().unwrap());
    assert!(config.validate().is_ok());
}

#[test]
fn the_environment_adds_to_tables_with_keys_of_the_operator() {
    let file = "[rpc]\nmethods = { 'order.*' = 'shop', stock = 'shop' }\n[backends.Shop]\nurl = 'http://localhost'\n\
                static_headers = { X-Key = 'one' }\n[[backends.Shop.statuses]]\nstatus = 404\nerror = { code = 404 }\n";
    let variables = [
        ("FANFARE_RPC_METHODS", "stock=amqp, *=Shop,"),
        ("FANFARE_BACKENDS_SHOP_STATIC_HEADERS", " X-Key = two=2 "),
        ("FANFARE_BACKENDS_NEW_URL", "http://localhost/new"),
        ("FANFARE_BACKENDS_NEW_HEADERS", "Cookie,Authorization"),
        ("FANFARE_HOOKS_CONNECT", "new"),
    ];
    let Loaded { config, origins, .. } = load_text("free", file, &variables).unwrap();
    let methods: Vec<_> =
        config.rpc.methods.iter().map(|(method, backend)| (&**method, &**backend)).collect();
    assert_eq!(methods, [("*", "Shop"), ("order.*", "shop"), ("stock", "amqp")]);
    let shop = &config.backends["Shop"];
    assert_eq!((&*shop.static_headers["X-Key"], shop.statuses[0].status), ("two=2", 404));
    assert_eq!(config.backends["new"].headers, ["Cookie", "Authorization"]);
    assert_eq!(config.backends["new"].url, "http://localhost/new".into());
    let methods = ValueOrigin::Environment("FANFARE_RPC_METHODS".to_owned());
    assert_eq!((&origins["rpc.methods.\"*\""], &origins["rpc.methods.stock"]), (&methods, &methods));
    assert!(matches!(&origins["rpc.methods.\"order.*\""], ValueOrigin::File { line: 2, .. }));
    assert_eq!(load_text("named", "[backends.a]\n", &[]).unwrap().config.backends["a"], Backend::default());
}

#[test]
fn what_is_wrong_with_a_backend_is_told_with_line_key_and_remedy() {
    for (text, problem) in [
        ("[backends.a]\nulr = ''", "no key `backends.a.ulr`; the nearest is `backends.a.url`"),
        ("backends.a = 'b'", "`backends.a` is of type string: expected a table, `[backends.a]`"),
        ("rpc.methods = 'shop'", "`rpc.methods` is of type string: expected a table, `[rpc.methods]`"),
        ("rpc.methods = { '*' = 5 }", "`rpc.methods.\"*\"` is `5`: expected text in quotes"),
        (
            "backends.a.statuses = [{ status = 70000 }]",
            "`backends.a.statuses` is `[{ status = 70000 }]`: expected a whole number from 0 to 65,535",
        ),
        ("backends.a.statuses = [{}]", "expected `status` as well"),
        ("backends.a.statuses = [5]", "expected tables such as `{ status = 404, error = { code = 404 } }`"),
        (
            "backends.a.statuses = [{ status = 404, erorr = 1 }]",
            "expected one of `status`, `error`, `disconnect`",
        ),
        ("namespaces.a.hook_failure = 'ask'", "expected `deny` or `allow`"),
    ] {
        is_refused(text, problem);
    }
    let problems = load(None, environment(&[("FANFARE_RPC_METHODS", "shop")])).unwrap_err().to_string();
    let problem =
        "FANFARE_RPC_METHODS: `rpc.methods` is text without `=`: expected `key=value`, several of them";
    assert!(problems.contains(problem), "{problems}");
}

#[test]
fn a_namespace_exists_by_being_named() {
    let config = load_text("named", "[namespaces.order]\n", &[]).unwrap().config;
    assert_eq!(config.namespaces["order"], Namespace::default());
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_line_key_and_remedy() {
    for (text, problem) in [
        (
            "[server]\n\nlisen = []",
            "FILE, line 3: there is no key `server.lisen`; the nearest is `server.listen`",
        ),
        ("[sever]\nlisten = []", "FILE, line 1: there is no key `sever`; the nearest is `server`"),
        ("frame_bytes = 1", "there is no key `frame_bytes`; the nearest is `limits.frame_bytes`"),
        ("[redis]\nserver = 'a'", "FILE, line 1: there is no key `redis`"),
        (
            "[namespaces.a]\nslo = 'skip'",
            "FILE, line 2: there is no key `namespaces.a.slo`; the nearest is `namespaces.a.slow`",
        ),
        ("server = 3", "FILE, line 1: `server` is of type integer: expected a table, `[server]`"),
        ("namespaces.a = 'b'", "`namespaces.a` is of type string: expected a table, `[namespaces.a]`"),
        (
            "[limits]\nclients = 'many'",
            "FILE, line 2: `limits.clients` is `\"many\"`: expected a whole number from 0",
        ),
        ("limits.clients = -1", "`limits.clients` is `-1`: expected a whole number from 0"),
        ("limits.clients = 1.5", "expected a whole number from 0"),
        (
            "limits.clients = 99999999999999999999",
            "FILE, line 1: `limits.clients` is `99999999999999999999`: expected a whole number from 0 to 9,223,",
        ),
        ("server.shards = 0xffffffffffffffffff", "expected a whole number from 0 to 65,535"),
        ("timeouts.ping = 99999999999999999999", "expected a length of time in quotes"),
        ("amqp.stream_max_bytes = 'all'", "expected a whole number from 0 to 9,223,372,036,854,775,807"),
        ("server.shards = 70000", "`server.shards` is `70000`: expected a whole number from 0 to 65,535"),
        ("server.insecure = 'yes'", "expected `true` or `false`"),
        ("server.listen = '127.0.0.1:1'", "expected a list, such as"),
        ("server.listen = ['localhost']", "expected an address with its port, such as `127.0.0.1:8000`"),
        ("server.listen = ['nowhere.invalid:1']", "expected a name that this host can resolve"),
        ("control.listen = '127.0.0.1'", "expected an address with its port, such as"),
        ("control.listen = 9000", "expected text in quotes"),
        ("server.namespace_boundary = '::'", "expected one character in quotes"),
        ("log.format = 'xml'", "`log.format` is `\"xml\"`: expected `human` or `json`"),
        ("namespaces.a.slow = 'drop'", "expected one of `disconnect`, `resync`, `skip`"),
        (
            "timeouts.ping = '25'",
            "`timeouts.ping` is `\"25\"`: expected a whole number and `ms`, `s`, `m` or `h`, such as `25s`",
        ),
        (
            "timeouts.ping = '25sec'",
            "`\"25sec\"`: expected a whole number and `ms`, `s`, `m` or `h`, such as `25s`",
        ),
        ("timeouts.ping = '2 minutes'", "such as `2m`"),
        ("amqp.stream_max_age = '7d'", "such as `168h`"),
        ("timeouts.ping = 'often'", "expected a whole number and `ms`, `s`, `m` or `h`, such as `250ms`"),
        ("timeouts.ping = '99999999999999999999h'", "expected a whole number and"),
        (
            "timeouts.ping = 25",
            "`timeouts.ping` is `25`: expected a length of time in quotes, such as `\"25s\"`",
        ),
        ("[limits.clients]\na = 1", "expected a whole number from 0"),
        ("[server]\nshards = = 1", "FILE, line 2: this is not TOML"),
        (
            "log.level = 'info'\nlog.level = 'warn'",
            "FILE, line 2: this is not TOML: `level` is there already",
        ),
        (
            "[log]\nlevel = 'info'\n[log]\n",
            "FILE, line 3: this is not TOML: `log` is there already, further up",
        ),
    ] {
        is_refused(text, problem);
    }
}

#[test]
fn what_is_no_set_of_roles_is_told_with_the_roles_that_there_are() {
    for (text, problem) in [
        (
            "namespaces.a.client_publish = 'users'",
            "expected `true`, `false`, or a list of `\"anonymous\"`, `\"user\"` and `\"subscriber\"`",
        ),
        ("namespaces.a.client_publish = ['users']", "expected `true`, `false`, or a list of"),
    ] {
        is_refused(text, problem);
    }
}

/// A file with this text is refused for this problem alone.
fn is_refused(text: &str, problem: &str) {
    let problems = load_text("wrong", text, &[]).unwrap_err();
    assert!(problems.contains(problem), "{text}\n  gave: {problems}\n  not:  {problem}");
    assert!(problems.lines().count() == 1, "{text}: {problems}");
}

#[test]
fn what_is_wrong_in_the_environment_is_told_with_the_variable() {
    for (variable, problem) in [
        (
            ("FANFARE_LIMITS_CLIENT", "1"),
            "environment, FANFARE_LIMITS_CLIENT: there is no key `FANFARE_LIMITS_CLIENT`; the nearest is \
             `FANFARE_LIMITS_CLIENTS`",
        ),
        (("FANFARE_NAMESPACES_SLOW", "skip"), "there is no key"),
        (
            ("FANFARE_LIMITS_CLIENTS", "many"),
            "`limits.clients` is `\"many\"`: expected a whole number from 0",
        ),
        (("FANFARE_SERVER_INSECURE", "yes"), "expected `true` or `false`"),
        (("FANFARE_SERVER_LISTEN", "nowhere"), "expected an address with its port"),
        (
            ("FANFARE_TIMEOUTS_PING", "25"),
            "FANFARE_TIMEOUTS_PING: `timeouts.ping` is `\"25\"`: expected a whole number and `ms`, `s`, `m` or `h`, such \
             as `25s`",
        ),
        (("FANFARE_LIMITS_CLIENTS", "99999999999999999999"), "expected a whole number from 0 to 9,223,"),
        (("FANFARE_PORT", "8000"), "there is no key `FANFARE_PORT`"),
    ] {
        let problems = load(None, environment(&[variable])).unwrap_err().to_string();
        assert!(problems.contains(problem), "{variable:?}: {problems}");
    }
}

/// A Service called `fanfare` puts them into every container beside it.
#[test]
fn service_links_of_kubernetes_are_passed_over_and_told() {
    let links = [
        ("FANFARE_PORT", "tcp://10.96.12.7:8000"),
        ("FANFARE_PORT_8000_TCP", "tcp://10.96.12.7:8000"),
        ("FANFARE_PORT_8000_TCP_ADDR", "10.96.12.7"),
        ("FANFARE_PORT_8000_TCP_PORT", "8000"),
        ("FANFARE_PORT_8000_TCP_PROTO", "tcp"),
        ("FANFARE_SERVICE_HOST", "10.96.12.7"),
        ("FANFARE_SERVICE_PORT", "8000"),
        ("FANFARE_SERVICE_PORT_WS", "8000"),
    ];
    let loaded = load(None, environment(&links)).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.service_links, links.map(|(name, _)| name));
    assert!(loaded.notice().unwrap().starts_with("Kubernetes set FANFARE_PORT, FANFARE_PORT_8000_TCP, "));
    assert_eq!(load(None, []).unwrap().notice(), None);
    let typo = [&links[..], &[("FANFARE_LIMITS_CLIENT", "1")]].concat();
    let problems = load(None, environment(&typo)).unwrap_err().to_string();
    assert_eq!(problems.lines().count(), 1, "{problems}");
    assert!(problems.contains("FANFARE_LIMITS_CLIENTS"), "{problems}");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let variable = (OsString::from("FANFARE_AMQP_QUEUE"), OsString::from_vec(vec![0xff]));
    let problems = load(None, [variable]).unwrap_err().to_string();
    assert!(problems.contains("`amqp.queue` is not UTF-8"), "{problems}");
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "lisen = 1\n[limits]\nclients = 'x'\n[log]\nformat = 1\n";
    let problems = load_text("all", text, &[("FANFARE_X", "1")]).unwrap_err();
    assert_eq!(problems.lines().count(), 4, "{problems}");
}

#[test]
fn an_unreadable_file_is_named() {
    let problems = load(Some(std::path::Path::new("/nowhere/fanfare.toml")), []).unwrap_err().to_string();
    assert!(problems.contains("/nowhere/fanfare.toml: cannot be read: No such file"), "{problems}");
    let problems = load(Some(&std::env::temp_dir()), []).unwrap_err().to_string();
    assert!(problems.contains("Is a directory"), "{problems}");
}

#[test]
fn no_secret_is_ever_shown() {
    for text in [
        "control.api_key = 7777777",
        "control.api_key = 77777777777777777777",
        "control.api_key = ['7777777']",
        "amqp.url = [7777777]",
        "amqp.url = { a = 'amqp://a:7777777@b' }",
        "control.api_key = \"7777777",
        "control.api_ky = '7777777'",
        "amqp.url = 'amqp://a:7777777@b' x",
        "backends.a.static_headers = '7777777'",
        "backends.a.static_headers = { X-Key = 7777777 }",
        "backends.a.static_headers = { X-Key = ['7777777'] }",
        "backends.a.static_headers = { X-Key = 77777777777777777777 }",
        "backends.a.static_headers.X-Key.a = '7777777'",
        "backends.a.url = ['7777777']",
    ] {
        let problems = load_text("secret", text, &[]).unwrap_err();
        assert!(!problems.contains("7777777"), "{problems}");
    }
    let headers = ("FANFARE_BACKENDS_A_STATIC_HEADERS", "7777777");
    assert!(!load(None, environment(&[headers])).unwrap_err().to_string().contains("7777777"));
    for urls in ["'amqp://a:7777777@[::1]'", "['amqp://a:7777777@b', 'amqp://a:7777777@[::1]']"] {
        let text = format!(
            "control.api_key = '7777777'\namqp.url = {urls}\nbackends.a.static_headers = {{ X-Key = \"\\n7777777\" }}\n\
             backends.a.url = 'http://7777777@a'"
        );
        let loaded = load_text("secret", &text, &[]).unwrap();
        assert!(!format!("{loaded:?}").contains("7777777"), "{loaded:?}");
        assert!(!toml::to_string(&loaded.config).unwrap().contains("7777777"));
        assert!(!format!("{:?}", loaded.config.differences()).contains("7777777"));
        assert!(!loaded.config.validate().unwrap_err().to_string().contains("7777777"));
    }
}

/// Values that are wrong only by their bounds, or together, are told with their places as well.
#[test]
fn what_cannot_be_used_is_told_with_the_place_of_each_key() {
    let told = |text: &str, variables: &[(&str, &str)], flags: fn(&mut Loaded)| {
        let file = File::new("unusable", text);
        let mut loaded = load(Some(&file.0), environment(variables)).unwrap();
        flags(&mut loaded);
        loaded.validate().unwrap_err().to_string().replace(&file.0.display().to_string(), "FILE")
    };
    let no_flag = |_: &mut Loaded| {};
    let topic_bytes = ("FANFARE_LIMITS_TOPIC_BYTES", "300");
    for (text, variable, flag, beginning) in [
        ("[server]\nshards = 9999", None, no_flag as fn(&mut Loaded), "FILE, line 2: server.shards is 9,999"),
        (
            "",
            Some(topic_bytes),
            no_flag,
            "environment, FANFARE_LIMITS_TOPIC_BYTES: limits.topic_bytes is 300",
        ),
        (
            "[limits]\nlog_bytes = 1000000\nframe_bytes = 1000001",
            None,
            no_flag,
            "FILE, line 3 and FILE, line 2: limits.frame_bytes (1,000,001) must not exceed limits.log_bytes",
        ),
        (
            "limits.frame_bytes = 1048577",
            None,
            no_flag,
            "FILE, line 1: limits.frame_bytes (1,048,577) must not",
        ),
        (
            "namespaces.a.max_bytes = 3",
            None,
            no_flag,
            "FILE, line 1: namespaces.a.max_messages and namespaces.a",
        ),
        (
            "[backends.a]\nurl = 'https://a'\n[backends.a.static_headers]\nX-Key = '1'\nHost = 'b'",
            None,
            no_flag,
            "FILE, line 5: backends.a.static_headers.Host names the header `Host`, which the engine sets itself",
        ),
        (
            "[backends.a]\nurl = 'https://a'\n[[backends.a.statuses]]\nstatus = 302\nerror.code = 400",
            None,
            no_flag,
            "FILE, line 3: a status of backends.a.statuses is 302",
        ),
        (
            "amqp.url = 'amqp://rabbit'",
            None,
            |loaded| {
                loaded.set_by_flag("--amqp", Some("foo".into()), "amqp.url", |config| &mut config.amqp.url)
            },
            "--amqp: amqp.url is no URL",
        ),
    ] {
        let problems = told(text, variable.as_slice(), flag);
        assert!(problems.starts_with(beginning), "{text}\n  gave: {problems}\n  not:  {beginning}");
    }
}
