//! `fanfare publish`, by RabbitMQ and by the control port.

use std::io::Write;
use std::process::Stdio;

use super::{fanfare, finish, http_once, refusing, run};

#[test]
fn publish_tries_one_node_after_the_other() {
    let nodes = [refusing(), refusing()];
    let urls = nodes.each_ref().map(|(_, address)| format!("amqp://shop:hunter2@{address}")).join(",");
    let (code, report, errors) = run(&mut fanfare(&["publish", "a", "1", "--amqp", &urls]));
    assert_eq!((code, report.as_str()), (Some(1), ""), "{errors}");
    for (_, address) in &nodes {
        assert!(errors.contains(&format!("amqp://{address}/%2f cannot be reached")), "{errors}");
    }
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn publish_says_what_is_wrong() {
    let (_socket, address) = refusing();
    let address = address.to_string();
    for (arguments, problem) in [
        (&["a", "{}", "--control", &address][..], format!("nothing listens on {address}")),
        (&["a", "{"], "`{` is not one JSON value: it ends at line 1, column 1".to_owned()),
        (&["a", "{}", "--amqp", "amqp://u:hunter2@[::1]"], "IPv6".to_owned()),
    ] {
        let (code, report, errors) = run(&mut fanfare(&[&["publish"], arguments].concat()));
        assert_eq!((code, report.as_str()), (Some(1), ""), "{errors}");
        assert!(errors.starts_with("fanfare: ") && errors.contains(&problem), "{errors}");
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn publish_goes_through_the_control_port() {
    let (address, server) = http_once("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"result\":{}}");
    let mut command = fanfare(&["publish", "news", r#"{"n": 1e400}"#, "--control", &address]);
    let (code, report, errors) = run(command.env("FANFARE_CONTROL_API_KEY", "hunter2"));
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(report, "published to news\n");
    let request = server.join().unwrap();
    assert!(request.starts_with("POST /api/publish HTTP/1.1\r\n"), "{request}");
    let request_head = request.to_lowercase();
    assert!(request_head.contains(&format!("host: {address}\r\n")), "{request}");
    assert!(request_head.contains("x-api-key: hunter2\r\n"), "{request}");
    assert!(request.ends_with(r#"{"channel":"news","data":{"n": 1e400}}"#), "byte for byte: {request}");
}

#[test]
fn publish_takes_standard_input() {
    let (address, server) = http_once("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"result\":{}}");
    let mut command = fanfare(&["publish", "news", "-", "--control", &address]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b" {\"n\": 1}\n").unwrap();
    let output = finish(child);
    assert!(output.status.success(), "{output:?}");
    assert!(server.join().unwrap().ends_with(r#"{"channel":"news","data":{"n": 1}}"#));
    // Nothing at all is no message.
    let (code, _, errors) = run(&mut fanfare(&["publish", "news", "-", "--control", &address]));
    assert_eq!(code, Some(1));
    assert!(errors.contains("standard input is empty: expected one JSON value"), "{errors}");
    let mut child = fanfare(&["publish", "news", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let errors = String::from_utf8(finish(child).stderr).unwrap();
    assert!(
        errors.contains("is not one JSON value: unexpected character at line 1, column 1 (a text is written"),
        "{errors}"
    );
}

#[test]
fn publish_calls_a_wrong_key_wrong() {
    let (address, server) = http_once("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
    let (code, _, errors) =
        run(&mut fanfare(&["publish", "news", "{}", "--control", &address, "--api-key", "hunter2"]));
    assert_eq!(code, Some(1));
    assert!(errors.contains("refuses this API key") && !errors.contains("hunter2"), "{errors}");
    server.join().unwrap();
}

#[test]
fn publish_tells_a_refusal() {
    let refusal = "HTTP/1.1 200 OK\r\ncontent-length: 46\r\n\r\n\
                   {\"error\":{\"code\":107,\"message\":\"bad request\"}}";
    for (answer, problem) in [
        (refusal, "bad request (error 107)"),
        ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "FANFARE_CONTROL_API_KEY"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
    ] {
        let (address, server) = http_once(answer);
        let (code, report, errors) = run(&mut fanfare(&["publish", "news", "{}", "--control", &address]));
        assert_eq!((code, report.as_str()), (Some(1), ""));
        assert!(errors.contains(problem), "{errors}");
        server.join().unwrap();
    }
}
