//! Pipelined requests, over a real socket.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::input::INPUT_BYTES;
use crate::config::memory::API_PIPELINED_MAX;
use crate::config::{Config, Interval};
use crate::control::tests::harness::{Answer, Harness, TIMEOUT, request};
use crate::domain::lifecycle::Phase;

const DONE: &str = r#"{"result":{}}"#;
const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn publish(channel: &str) -> String {
    request("/api/publish", "", &format!(r#"{{"channel":"{channel}","data":1}}"#))
}

fn open() -> Harness {
    Harness::open(Config::default())
}

fn send(harness: &Harness, requests: &str) -> TcpStream {
    let mut stream = harness.connect();
    stream.write_all(requests.as_bytes()).unwrap();
    stream
}

/// The broker thread has them all before it answers the first one, which it does when nothing more comes.
#[test]
fn publishes_overlap() {
    let harness = open();
    let mut stream = send(&harness, &(0..4).map(|n| publish(&format!("held{n}"))).collect::<String>());
    for n in 0..4 {
        assert_eq!(harness.heard(), format!("publish held{n} 1"));
    }
    assert_eq!(harness.heard(), "4 at once");
    assert_eq!(harness.wakes.load(Ordering::Relaxed), 1, "the broker thread is woken once for all of them");
    for _ in 0..4 {
        assert_eq!(Answer::read(&mut stream).body, DONE);
    }
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let harness = open();
    let names = ["a#1", "held#2", "", "b#3", "fails", "slow#4", "c#5"];
    let mut stream = send(&harness, &names.map(publish).concat());
    for name in names {
        let answer = Answer::read(&mut stream).json();
        let wanted = match name {
            "" => (None, Some(107)),
            "fails" => (None, Some(100)),
            name => (name.split_once('#').map(|(_, offset)| offset.parse().unwrap()), None),
        };
        let came = (answer["result"]["offset"].as_u64(), answer["error"]["code"].as_u64());
        assert_eq!(came, wanted, "{name}: {answer}");
    }
}

#[test]
fn a_bad_request_between_good_ones_spoils_none() {
    let harness = open();
    let bodies = [
        r#"{"channel":"a","data":1}"#,
        "nonsense",
        r#"{"channel":"b","data":}"#,
        r#"{"channel":"c","data":1}"#,
    ];
    let mut stream = send(&harness, &bodies.map(|body| request("/api/publish", "", body)).concat());
    let statuses = bodies.map(|_| Answer::read(&mut stream).status);
    assert_eq!(statuses, [200, 400, 400, 200]);
    assert_eq!(harness.all_heard(), ["publish a 1", "publish c 1"]);
    // In the transport mode, errors are in the status.
    let head = "X-Centrifugo-Error-Mode: transport\r\n";
    let body = |channel: &str| format!(r#"{{"channel":"{channel}","data":1}}"#);
    let requests = ["a", "busy", "c"].map(|channel| request("/api/publish", head, &body(channel))).concat();
    let mut stream = send(&harness, &requests);
    assert_eq!([(); 3].map(|()| Answer::read(&mut stream).status), [200, 429, 200]);
}

/// What depends on earlier publications finds them, and what comes later finds what it has done.
#[test]
fn other_requests_neither_begin_earlier_nor_end_later() {
    let harness = open();
    let requests = publish("held1")
        + &request("/api/channels", "", "{}")
        + &publish("held2")
        + &request("/api/broadcast", "", r#"{"channels":["held3","b"],"data":1}"#)
        + &publish("c");
    let mut stream = send(&harness, &requests);
    let heard: Vec<_> = (0..8).map(|_| harness.heard()).collect();
    let once = "1 at once";
    assert_eq!(
        heard,
        [
            "publish held1 1",
            once,
            "survey",
            "publish held2 1",
            once,
            "publish held3,b 1",
            once,
            "publish c 1"
        ]
    );
    let bodies = [(); 5].map(|()| Answer::read(&mut stream).body);
    assert!(bodies[1].contains("num_clients") && bodies[3].contains("responses"), "{bodies:?}");
}

/// There is more of it than the input has room for.
#[test]
fn what_waits_for_its_turn_is_not_lost() {
    let harness = open();
    let info = request("/api/info", "", &format!("{{{}}}", " ".repeat(1000)));
    let mut stream = send(&harness, &(publish("held1") + &info.repeat(200) + &publish("b")));
    for n in 0..202 {
        let body = Answer::read(&mut stream).body;
        assert_eq!(body == DONE, [0, 201].contains(&n), "{n}: {body}");
    }
}

/// In the middle, and with every beginning of it in a segment of its own.
#[test]
fn what_is_not_plain_is_answered_in_its_turn() {
    let harness = open();
    let chunked = "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                   1b\r\n{\"channel\":\"slow\",\"data\":2}\r\n0\r\n\r\n";
    let requests = publish("slow") + chunked + HEALTH + &publish("c");
    for pieces in [1, 2, 7] {
        let mut stream = harness.connect();
        stream.set_nodelay(true).unwrap();
        for piece in requests.as_bytes().chunks(requests.len().div_ceil(pieces)) {
            stream.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        let bodies = [(); 4].map(|()| Answer::read(&mut stream).body);
        assert!([0, 1, 3].iter().all(|&at| bodies[at] == DONE), "{bodies:?}");
        assert_eq!(harness.all_heard(), ["publish slow 1", "publish slow 2", "publish c 1"]);
    }
}

/// A peer that could put a request of its own into the body of another's would publish what a proxy has not seen.
#[test]
fn a_body_whose_length_is_in_doubt_is_no_two_requests() {
    let harness = open();
    let hidden = publish("hidden");
    let head = "POST /api/publish HTTP/1.1\r\nHost: localhost\r\n";
    // Behind an empty chunk, or behind nothing.
    let bodies = [format!("0\r\n\r\n{hidden}"), hidden.clone()];
    let fields = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", 5 + hidden.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", 5 + hidden.len()),
        format!("Content-Length: 0\r\nContent-Length: {}\r\n", hidden.len()),
        format!("Content-Length: {}\r\nContent-Length: 0\r\n", hidden.len()),
        "Content-Length: 0\r\n 7\r\n".to_owned(),
        "Content-Length: 0, 7\r\n".to_owned(),
        "Content-Length: +0\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
    ];
    for (fields, body) in fields.iter().flat_map(|fields| bodies.iter().map(move |body| (fields, body))) {
        let mut stream = send(&harness, &format!("{}{head}{fields}\r\n{body}", publish("a")));
        let mut answers = Vec::new();
        let _ = stream.read_to_end(&mut answers);
        let answers = String::from_utf8(answers).unwrap();
        assert!(answers.starts_with("HTTP/1.1 200 "), "{fields}: {answers}");
        assert_eq!(harness.all_heard(), ["publish a 1"], "{fields}: {answers}");
    }
}

#[test]
fn a_connection_has_so_many_publishes_in_flight_and_no_more() {
    const MORE: usize = 8;
    let harness = open();
    let mut stream = send(&harness, &publish("held").repeat(API_PIPELINED_MAX + MORE));
    for count in [API_PIPELINED_MAX, MORE] {
        for _ in 0..count {
            assert_eq!(harness.heard(), "publish held 1");
        }
        assert_eq!(harness.heard(), format!("{count} at once"));
    }
    for _ in 0..API_PIPELINED_MAX + MORE {
        assert_eq!(Answer::read(&mut stream).body, DONE);
    }
}

#[test]
fn publishes_that_nobody_answers_are_given_up_and_others_have_their_turns() {
    let mut config = Config::default();
    config.timeouts.publish = Interval::from_millis(100);
    let harness = Harness::open(config);
    let requests = publish("silent").repeat(API_PIPELINED_MAX + 8) + HEALTH;
    let mut stream = send(&harness, &requests);
    for _ in 0..API_PIPELINED_MAX + 8 {
        assert_eq!(Answer::read(&mut stream).error_code(), 100);
    }
    assert_eq!(Answer::read(&mut stream).status, 200);
    let heard = harness.all_heard();
    assert_eq!(heard.len(), API_PIPELINED_MAX + 8);
}

/// One that is not answered in time takes none with it that were, although their time is over as well.
#[test]
fn a_publish_that_was_confirmed_is_not_given_up_with_the_one_before() {
    let mut config = Config::default();
    // However busy the machine is, the five are answered before the first publish is given up.
    config.timeouts.publish = Interval::from_millis(2_000);
    let harness = Harness::open(config);
    let mut stream = send(&harness, &(publish("silent") + &publish("a#1").repeat(5)));
    assert_eq!(Answer::read(&mut stream).error_code(), 100);
    for _ in 0..5 {
        let answer = Answer::read(&mut stream).json();
        assert_eq!(answer["result"]["offset"].as_u64(), Some(1), "{answer}");
    }
}

#[test]
fn who_takes_no_answers_is_not_heard_further() {
    let mut config = Config::default();
    // Nothing but the socket wakes the connection within the test's time.
    config.timeouts.upgrade = Interval::from_millis(600_000);
    let harness = Harness::open(config);
    let mut stream = harness.connect();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let requests = publish("").repeat(100);
    let mut sent = 0;
    while stream.write_all(requests.as_bytes()).is_ok() {
        sent += 100;
        assert!(sent < 1_000_000, "it is heard although it takes nothing");
    }
    assert_eq!(
        harness.ask("publish", r#"{"channel":"b","data":1}"#).to_string(),
        DONE,
        "others are answered"
    );
    // It goes on when its peer takes what there is. The last request may be there in part.
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let answered = answers.matches(r#""code":107"#).count();
    assert!((sent..sent + 100).contains(&answered), "{answered} of {sent}");
}

#[test]
fn who_has_closed_its_half_is_answered_and_closed() {
    let harness = open();
    let whole = publish("never");
    // Of the last one there is a part of the head, or all but the last byte of the body.
    for part in [&whole[..40], &whole[..whole.len() - 1]] {
        let requests =
            publish("held1") + &publish("b") + &request("/api/info", "", "{}") + &publish("c") + part;
        let mut stream = send(&harness, &requests);
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        let count = |text| answers.matches(text).count();
        assert_eq!((count("HTTP/1.1 "), count("HTTP/1.1 200 OK"), count(DONE)), (5, 4, 3), "{answers}");
        assert_eq!((count("HTTP/1.1 400 "), count(" broke off")), (1, 1), "{answers}");
        assert_eq!(harness.all_heard().len(), 4, "half a request is none");
    }
}

/// The time limit of a body does not run while the engine reads nothing, as its peer takes no answers.
#[test]
fn a_body_has_its_time_when_the_answers_before_it_are_taken() {
    for first in ["", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut config = Config::default();
        config.timeouts.upgrade = Interval::from_millis(1_000);
        let harness = Harness::open(config);
        let mut stream = send(&harness, first);
        // Longer than the limit: it would be over.
        stream.set_write_timeout(Some(Duration::from_millis(2_000))).unwrap();
        // Bodies larger than answers, so that the input ends in the middle of one.
        let body = format!(r#"{{"channel":"","data":"{}"}}"#, "x".repeat(6000));
        let publish = request("/api/publish", "", &body);
        let (mut sent, length) = (0, publish.len());
        let stopped = loop {
            match stream.write(&publish.as_bytes()[sent % length..]) {
                Ok(written) => sent += written,
                Err(error) => break error.kind(),
            }
            assert!(sent < 1 << 30, "it is heard although it takes nothing");
        };
        assert!(stopped == ErrorKind::WouldBlock && sent > 0, "{stopped}");
        let begun = sent.div_ceil(length);
        let mut writing = stream.try_clone().unwrap();
        let rest = publish[(sent - 1) % length + 1..].to_owned();
        let writer = std::thread::spawn(move || {
            writing.set_write_timeout(Some(TIMEOUT)).unwrap();
            writing.write_all(rest.as_bytes()).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        let mut answers = String::new();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.read_to_string(&mut answers).unwrap();
        writer.join().unwrap();
        assert_eq!(answers.matches(r#""code":107"#).count(), begun, "after {first:?}");
    }
}

/// A body that comes late is refused behind the answers before it, and nothing of it is carried out.
#[test]
fn a_body_that_does_not_come_is_refused_in_time() {
    let mut config = Config::default();
    config.timeouts.upgrade = Interval::from_millis(200);
    let harness = Harness::open(config);
    let whole = publish("a");
    let mut stream = send(&harness, &(publish("held") + &whole[..whole.len() - 1]));
    assert_eq!(Answer::read(&mut stream).status, 200);
    let late = Answer::read(&mut stream);
    assert!(late.status == 408 && late.head.contains("\r\nconnection: close\r\n"), "{}", late.head);
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0);
    let mut slow = harness.connect();
    for piece in whole.as_bytes().chunks(whole.len().div_ceil(4)) {
        slow.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(Answer::read(&mut slow).body, DONE);
}

/// The time limit is for the body to come, and not for those before it.
#[test]
fn a_body_that_has_come_waits_for_its_turn_as_long_as_it_takes() {
    let mut config = Config::default();
    config.timeouts.upgrade = Interval::from_millis(100);
    let harness = Harness::open(config);
    let info = request("/api/info", "", "{}");
    let mut stream = send(&harness, &(publish("held") + &info[..info.len() - 1]));
    assert_eq!(harness.heard(), "publish held 1");
    stream.write_all(&info.as_bytes()[info.len() - 1..]).unwrap();
    assert_eq!([(); 2].map(|()| Answer::read(&mut stream).status), [200, 200]);
}

/// It has almost all the input that a connection may have.
#[test]
fn a_large_body_is_read_to_its_end() {
    let harness = open();
    let body = format!(r#"{{"channel":"a","data":1{}}}"#, " ".repeat(INPUT_BYTES - 1000));
    for _ in 0..3 {
        let mut stream = send(&harness, &request("/api/publish", "", &body));
        assert_eq!(Answer::read(&mut stream).body, DONE);
    }
}

#[test]
fn all_answers_say_the_same_of_themselves() {
    let harness = open();
    let fields = |answer: &Answer| {
        let names = answer.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let mut fields: Vec<_> = names
            .filter(|(name, _)| *name != "date")
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        fields.sort();
        (fields, answer.head.contains("\r\ndate: "))
    };
    for (path, body) in [
        ("/api/publish", r#"{"channel":"a","data":1}"#),
        ("/api/publish", r#"{"channel":"","data":1}"#),
        ("/api/broadcast", r#"{"channels":["a","b"],"data":1}"#),
        ("/api/info", "{}"),
        ("/api/publish", "nonsense"),
    ] {
        let plain = harness.post(path, "", body);
        // hyper answers this one.
        let other = harness.post(path, "Connection: keep-alive, x\r\n", body);
        let lengths = |answer: &Answer| answer.head.matches("content-length: ").count();
        assert_eq!((lengths(&plain), lengths(&other)), (1, 1), "{path} {body}");
        if plain.body == other.body {
            assert_eq!(fields(&plain), fields(&other), "{path} {body}");
        }
    }
}

/// The peer closes its half in the middle of a request. By both paths.
#[test]
fn what_breaks_off_is_answered() {
    let harness = open();
    let (whole, head) = (publish("a"), "POST /api/publish HTTP/1.1\r\nHost: localhost\r\n");
    for (begun, part) in [
        (whole[..whole.len() - 1].to_owned(), "body"),
        (format!("{head}Content-Length: 5\r\nConnection: keep-alive, x\r\n\r\n{{"), "body"),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n1b\r\n{{"), "body"),
        (head.to_owned(), "head"),
    ] {
        for before in ["", &publish("slow")] {
            let mut stream = send(&harness, &(before.to_owned() + &begun));
            stream.shutdown(Shutdown::Write).unwrap();
            if !before.is_empty() {
                assert_eq!(Answer::read(&mut stream).body, DONE);
                assert_eq!(harness.heard(), "publish slow 1");
            }
            let refused = Answer::read(&mut stream);
            assert_eq!((refused.status, refused.error_code()), (400, 107), "{begun}");
            assert!(refused.body.contains(&format!("the {part} broke off")), "{begun}: {}", refused.body);
            assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0, "nothing more comes");
        }
    }
    assert_eq!(harness.all_heard(), [""; 0]);
    assert_eq!(send_nothing(&harness), 0, "who has not begun is not answered");
}

fn send_nothing(harness: &Harness) -> usize {
    let mut stream = send(harness, "");
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read(&mut [0; 64]).unwrap()
}

/// By both paths. The broker thread does not hear of it, and other requests are answered.
#[test]
fn nothing_is_published_while_the_engine_stops() {
    let harness = open();
    harness.lifecycle.enter(Phase::Draining);
    let body = r#"{"channel":"a","channels":["a"],"data":1}"#;
    for (method, fields) in [("publish", ""), ("publish", "Connection: keep-alive, x\r\n"), ("broadcast", "")]
    {
        let refused = harness.post(&format!("/api/{method}"), fields, body);
        assert_eq!((refused.status, refused.error_code()), (503, 111), "{method} {fields}");
        assert!(refused.body.contains("the engine is stopping"), "{method} {fields}: {}", refused.body);
    }
    assert!(harness.ask("channels", "{}")["result"].is_object());
    assert_eq!(harness.all_heard(), ["survey"]);
}

#[test]
fn stopping_answers_what_was_begun_and_refuses_the_rest() {
    let mut harness = open();
    // The last one waits for its turn.
    let requests = publish("held1") + &publish("held2") + &request("/api/channels", "", "{}");
    let mut stream = send(&harness, &requests);
    assert_eq!([harness.heard(), harness.heard()], ["publish held1 1", "publish held2 1"]);
    drop(harness.stop.take());
    assert_eq!([(); 2].map(|()| Answer::read(&mut stream).body), [DONE, DONE]);
    let refused = Answer::read(&mut stream);
    assert_eq!(refused.error_code(), 111);
    assert!(refused.head.contains("\r\nconnection: close\r\n"), "{}", refused.head);
    assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0, "nothing more comes");
    assert_eq!(harness.all_heard(), ["2 at once"]);
}
