//! `fanfare check` and the printed defaults, and what is wrong with a configuration.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::thread;

use super::{fanfare, run};

/// A configuration file, gone with the test.
struct File(std::path::PathBuf);

impl File {
    fn new(test: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fanfare-cli-{}-{test}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // What is left of it in a temporary directory harms nobody.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `check` with ports that are free whatever else runs here.
fn check(arguments: &[&str]) -> Command {
    let mut command = fanfare(&[&["check"], arguments].concat());
    command.env("FANFARE_SERVER_LISTEN", "127.0.0.1:0").env("FANFARE_CONTROL_LISTEN", "127.0.0.1:0");
    command
}

#[test]
fn the_printed_defaults_can_be_used_as_they_are() {
    let (code, text, errors) = run(&mut fanfare(&["config"]));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let file = File::new("defaults", &text);
    let (code, report, errors) = run(&mut check(&["--config", file.path()]));
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{report}");
    let differences: Vec<&str> = report.lines().filter(|line| line.contains(" = ")).collect();
    assert_eq!(differences.len(), 2, "only the two ports: {report}");
}

#[test]
fn check_shows_what_differs_and_who_said_so_but_no_secret() {
    let file = File::new("differs", "[limits]\nclients = 90000000\n[control]\napi_key = 'hunter2'\n");
    let mut command = check(&["--config", file.path()]);
    command.env("FANFARE_AMQP_URL", "amqp://shop:hunter2@rabbit");
    let (code, report, _) = run(&mut command);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains(&format!("limits.clients = 90000000  # {}, line 2\n", file.path())), "{report}");
    assert!(report.contains("api_key = \"***\""), "{report}");
    assert!(report.contains("url = \"amqp://rabbit:5672/%2f\"  # environment, FANFARE_AMQP_URL"), "{report}");
    assert!(report.contains("warning  limits.clients is 90,000,000"), "{report}");
    assert!(report.contains("90000256"), "the number to set: {report}");
    assert!(!report.contains("hunter2"), "{report}");
}

/// The same file is read when an engine starts.
#[test]
fn check_reads_the_file_that_an_amqp_url_names() {
    let url = "amqps://shop:hunter2@rabbit?cacertfile=/nowhere/ca.pem";
    let (code, report, errors) = run(check(&[]).env("FANFARE_AMQP_URL", url));
    assert_eq!((code, errors.as_str()), (Some(1), ""), "{report}");
    let told = "names the file /nowhere/ca.pem in `cacertfile`: No such file";
    assert!(report.contains("problem  ") && report.contains(told) && !report.contains("hunter2"), "{report}");
    let serve = ["serve", "--amqp", url, "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"];
    let (code, _, errors) = run(&mut fanfare(&serve));
    assert!(code == Some(1) && errors.contains(told), "{errors}");
}

#[test]
fn check_shows_backends_without_their_secrets_and_reads_their_authorities() {
    let file = File::new(
        "backends",
        "[backends.shop]\nurl = 'http://shop.internal/hook?key=hunter2'\nstatic_headers = { X-Key = 'hunter2' }\n\
         [rpc.methods]\n'order.*' = 'shop'\n",
    );
    let (code, report, errors) = run(&mut check(&["--config", file.path()]));
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{report}");
    for line in [
        format!("  backends.shop.static_headers.X-Key = \"***\"  # {}, line 3\n", file.path()),
        format!("  rpc.methods.\"order.*\" = \"shop\"  # {}, line 5\n", file.path()),
        "warning  backends.shop.url begins with `http://` and names another host".to_owned(),
        "backends.shop: http://shop.internal/hook is well-formed; it was not asked\n".to_owned(),
    ] {
        assert!(report.contains(&line), "{report}\n  without {line}");
    }
    assert!(!report.contains("hunter2"), "{report}");
    let mut command = check(&["--config", file.path()]);
    command.env("FANFARE_BACKENDS_SHOP_URL", "https://shop.internal/?key=hunter2");
    let (code, report, _) = run(command.env("FANFARE_BACKENDS_SHOP_CA_FILE", "/nowhere/ca.pem"));
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("problem  backends.shop.ca_file: /nowhere/ca.pem"), "{report}");
}

#[test]
fn flags_are_named_as_the_places_of_what_they_say() {
    let (code, _, errors) = run(&mut fanfare(&["serve", "--amqp", "foo"]));
    assert_eq!(code, Some(1));
    assert!(errors.contains("\n  --amqp: amqp.url is no URL"), "{errors}");
}

#[test]
fn several_nodes_of_rabbitmq_are_a_list_or_one_text() {
    let file = File::new("nodes", "[amqp]\nurl = ['amqp://shop:hunter2@one', 'amqps://shop:hunter2@two']\n");
    let shown = "url = [\"amqp://one:5672/%2f\", \"amqps://two:5671/%2f\"]";
    let mut from_file = check(&["--config", file.path()]);
    let mut from_environment = check(&[]);
    from_environment.env("FANFARE_AMQP_URL", "amqp://shop:hunter2@one, amqps://shop:hunter2@two");
    for command in [&mut from_file, &mut from_environment] {
        let (code, report, _) = run(command);
        assert_eq!(code, Some(0), "{report}");
        assert!(report.contains(shown), "{report}");
        assert!(report.contains("ok       amqps://two:5671/%2f is well-formed"), "{report}");
        assert!(!report.contains("hunter2"), "{report}");
    }
    let (code, _, errors) = run(check(&[]).env("FANFARE_AMQP_URL", "amqp://one,shop:hunter2@two"));
    assert_eq!(code, Some(1));
    assert!(errors.contains("amqp.url (number 2 of 2) begins neither"), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn check_fails_where_the_machine_does_not_fit() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, report, _) = run(check(&[]).env("FANFARE_CONTROL_LISTEN", &address));
    assert_eq!(code, Some(1));
    assert!(report.contains(&format!("problem  {address} is taken")), "{report}");
    let port = taken.local_addr().unwrap().port();
    assert!(report.contains(&format!("`ss -ltnp 'sport = :{port}'`")), "{report}");

    let (code, report, _) = run(check(&[]).env("FANFARE_SERVER_CPUS", "1023"));
    assert_eq!(code, Some(1));
    assert!(report.contains("problem  server.cpus names 1023"), "{report}");
}

/// The password is written where others may see it, so nothing of it is shown, however it was split.
#[test]
fn a_password_that_needs_escapes_is_refused_without_a_piece_of_it() {
    for (password, escapes) in [
        ("hun/ter", "`%2F`"),
        ("hunter@ter/w#rd", "`%2F` `%23` `%40`"),
        ("1/hunter", "`%2F`"),
        ("hunter?1", "`%3F`"),
    ] {
        let url = format!("amqp://shop:{password}@127.0.0.1:1/%2f");
        for command in [&["check"][..], &["serve"], &["publish", "a", "1", "--amqp", &url]] {
            let (code, report, errors) = run(fanfare(command).env("FANFARE_AMQP_URL", &url));
            assert_eq!((code, report.as_str()), (Some(1), ""), "{errors}");
            assert!(errors.contains(escapes), "{password}: {errors}");
            assert!(
                !errors.contains("hun") && !errors.contains("ter@") && !errors.contains("w#rd"),
                "{errors}"
            );
        }
    }
}

/// Which would otherwise wait for the end of a line that never comes.
#[test]
fn an_http_port_in_place_of_rabbitmqs_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\n") {
                    let mut byte = [0];
                    if !matches!(stream.read(&mut byte), Ok(1)) {
                        return;
                    }
                    request.extend(byte);
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            });
        }
    });
    let url = format!("amqp://guest:hunter2@{address}/%2f");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--amqp", &url];
    for command in [&serve[..], &["publish", "a", "1", "--amqp", &url]] {
        let (code, _, errors) = run(fanfare(command).env("FANFARE_TIMEOUTS_PUBLISH", "10s"));
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("speaks HTTP and no AMQP") && errors.contains("management page"), "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn a_wrong_configuration_is_told_whole_and_fails() {
    let file = File::new("wrong", "[limits]\nclient = 1\n[server]\nshards = 'many'\n");
    for command in ["check", "serve"] {
        let (code, report, errors) = run(&mut fanfare(&[command, "--config", file.path()]));
        assert_eq!((code, report.as_str()), (Some(1), ""));
        let expected = format!(
            "fanfare: the configuration is wrong\n  {path}, line 2: there is no key `limits.client`; the \
             nearest is `limits.clients`\n  {path}, line 4: `server.shards` is `\"many\"`: expected a whole \
             number from 0 to 65,535\n",
            path = file.path()
        );
        assert_eq!(errors, expected);
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_named_and_fails() {
    let (code, _, errors) = run(fanfare(&["check"]).env("FANFARE_CONFIG", "/nowhere.toml"));
    assert_eq!(code, Some(1));
    assert!(errors.contains("/nowhere.toml: cannot be read: No such file"), "{errors}");
    // A directory fails for everybody; permissions would not fail for root.
    let directory = std::env::temp_dir();
    let directory = directory.to_str().unwrap();
    for command in ["check", "serve"] {
        let (code, report, errors) = run(&mut fanfare(&[command, "--config", directory]));
        assert_eq!((code, report.as_str()), (Some(1), ""));
        assert!(errors.contains(&format!("{directory}: cannot be read: Is a directory")), "{errors}");
    }
}

#[test]
fn flags_go_over_the_environment() {
    let mut command = fanfare(&["serve", "--listen", "192.0.2.1:2", "--listen", "192.0.2.1:3"]);
    let (code, report, errors) = run(command.env("FANFARE_SERVER_LISTEN", "192.0.2.1:1"));
    assert_eq!((code, report.as_str()), (Some(1), ""));
    assert!(!errors.contains("192.0.2.1:1"), "{errors}");
    for address in ["192.0.2.1:2", "192.0.2.1:3"] {
        assert!(errors.contains(&format!("{address} can be reached from other machines")), "{errors}");
    }
    assert!(errors.contains("--insecure"), "{errors}");
}

#[test]
fn a_source_without_a_rabbitmq_is_no_silent_default() {
    let (code, report, errors) = run(&mut fanfare(&["serve", "--source", "queue"]));
    assert_eq!((code, report.as_str()), (Some(1), ""));
    assert!(errors.contains("no RabbitMQ is named") && errors.contains("--amqp"), "{errors}");
    let (code, report, _) = run(check(&[]).env("FANFARE_AMQP_SOURCE", "queue"));
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("warning  amqp.source has no effect: amqp.url is empty"), "{report}");
    let (code, _, errors) = run(&mut check(&["--connect"]));
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("--connect: no RabbitMQ is named"), "{errors}");
}

#[test]
fn what_clients_may_not_do_by_default_is_told_until_somebody_decides() {
    let undecided = "[namespaces.chat]\nhistory_size = 5\n";
    let decided = format!("{undecided}client_history = ['user']\n[server]\nunknown_namespace = 'default'\n");
    for (text, notes) in [(undecided, 2), (&decided, 0)] {
        let file = File::new("undecided", text);
        let (code, report, _) = run(&mut check(&["--config", file.path()]));
        assert_eq!(code, Some(0), "{report}");
        let keys = ["server.unknown_namespace = \"default\"", "client_history = true"];
        let told = report
            .lines()
            .filter(|line| line.starts_with("note  ") && keys.iter().any(|key| line.contains(key)));
        assert_eq!(told.count(), notes, "{report}");
    }
}

#[test]
fn service_links_of_kubernetes_are_told_in_one_line() {
    let mut command = check(&[]);
    command.env("FANFARE_PORT", "tcp://10.96.12.7:8000").env("FANFARE_SERVICE_HOST", "10.96.12.7");
    let (code, report, errors) = run(&mut command);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{report}");
    let told: Vec<&str> = report.lines().filter(|line| line.contains("Kubernetes")).collect();
    assert!(
        matches!(told[..], [line] if line.starts_with("note     Kubernetes set FANFARE_PORT, FANFARE_SERVICE_HOST")),
        "{report}"
    );
}

#[test]
fn the_port_of_the_management_page_is_recognised_without_connecting() {
    for (url, code, words) in [
        ("http://localhost:15672", 1, "begins with `http://`, as the address of RabbitMQ's management page"),
        ("amqp://localhost:15672", 0, "has the usual port of RabbitMQ's management page; AMQP's is 5672"),
    ] {
        let (status, report, errors) = run(check(&[]).env("FANFARE_AMQP_URL", url));
        assert_eq!(status, Some(code), "{report}{errors}");
        assert!((report.clone() + &errors).contains(words), "{report}{errors}");
    }
}
