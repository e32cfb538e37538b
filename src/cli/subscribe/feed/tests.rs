use super::*;

const CONNECT_REPLY: &str = r#"{"id":1,"connect":{"client":"c","version":"v","ping":25,"pong":true}}"#;

fn feed(topics: &[&str]) -> Feed {
    let topics: Vec<String> = topics.iter().map(|&topic| topic.to_owned()).collect();
    let mut feed = Feed::new(&topics, Format::Plain);
    feed.opening(Instant::now());
    feed.take(CONNECT_REPLY).unwrap();
    feed
}

#[test]
fn the_first_frame_connects_and_subscribes_to_each_topic_once() {
    let mut feed = Feed::new(&["a", "b\"c", "a"].map(str::to_owned), Format::Plain);
    assert_eq!(
        feed.opening(Instant::now()),
        "{\"connect\":{\"name\":\"fanfare\"},\"id\":1}\n\
         {\"id\":2,\"subscribe\":{\"channel\":\"a\",\"recoverable\":true}}\n\
         {\"id\":3,\"subscribe\":{\"channel\":\"b\\\"c\",\"recoverable\":true}}"
    );
    assert_eq!(feed.opening(Instant::now()).lines().count(), 3, "and again on the next connection");
}

#[test]
fn several_replies_in_one_frame_are_taken_in_order() {
    let mut feed = Feed::new(&["a".to_owned()], Format::Plain);
    feed.opening(Instant::now());
    let frame = format!(
        "{CONNECT_REPLY}\n{}\n{{}}\n{}\n{}\n",
        r#"{"id":2,"subscribe":{}}"#,
        r#"{"push":{"channel":"a","pub":{"data":{"n": 1e400},"offset":1}}}"#,
        r#"{"push":{"channel":"a","pub":{"data":"x\ty"}}}"#,
    );
    let step = feed.take(&frame).unwrap();
    assert_eq!(step.output, "a\t{\"n\": 1e400}\na\t\"x\\ty\"\n");
    assert_eq!(step.commands, "{}");
    assert_eq!(step.silence, Some(Duration::from_secs(35)));
    assert_eq!(step.notices, ["fanfare: subscribed to a"]);
    assert!(feed.leave(Instant::now()));
    assert!(!feed.leave(Instant::now()));
}

/// A feed that was subscribed to a topic with history, got publication 6, and was away for two seconds: the
/// command with which it comes back.
fn coming_back() -> (Feed, String) {
    let mut feed = feed(&["a"]);
    feed.take(r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":5}}"#).unwrap();
    feed.take(r#"{"push":{"channel":"a","pub":{"data":6,"offset":6}}}"#).unwrap();
    let left = Instant::now();
    assert!(feed.leave(left));
    feed.opening(left + Duration::from_secs(1));
    assert!(!feed.leave(left + Duration::from_secs(1)), "not connected: that does not count");
    let opening = feed.opening(left + Duration::from_secs(2));
    let command = opening.lines().nth(1).expect("a subscribe").to_owned();
    feed.take(CONNECT_REPLY).unwrap();
    (feed, command)
}

#[test]
fn who_was_away_asks_for_what_it_missed() {
    let (mut feed, command) = coming_back();
    let expected = json!({"channel": "a", "recoverable": true, "recover": true, "epoch": "e", "offset": 6});
    assert_eq!(command, json!({"id": 2, "subscribe": expected}).to_string());
    let reply = r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","offset":6,"recovered":true,
        "publications":[{"data":7,"offset":7},{"data":"8","offset":9}]}}"#;
    let step = feed.take(&reply.replace('\n', "")).unwrap();
    assert_eq!(step.notices, ["fanfare: subscribed to a again after 2.0 s; 2 publications recovered"]);
    assert_eq!(step.output, "a\t7\na\t\"8\"\n");
    let push = r#"{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    let again = feed.take(push).unwrap().commands;
    assert!(again.contains(r#""offset":9"#) && again.contains(r#""recover":true"#), "{again}");
}

#[test]
fn what_became_of_the_time_away_is_told() {
    for (reply, told) in [
        (r#""recoverable":true,"epoch":"e","offset":6,"recovered":true"#, "nothing was missed"),
        (r#""recoverable":true,"epoch":"f","offset":2"#, "something may be missing here"),
        ("", "something may be missing here"),
        (
            r#""recoverable":true,"epoch":"e","recovered":true,"publications":[{"data":7,"offset":7}]"#,
            "1 publication recovered",
        ),
    ] {
        let (mut feed, _) = coming_back();
        let step = feed.take(&format!(r#"{{"id":2,"subscribe":{{{reply}}}}}"#)).unwrap();
        assert_eq!(step.notices, [format!("fanfare: subscribed to a again after 2.0 s; {told}")]);
    }
}

#[test]
fn as_json_each_publication_is_an_object_on_a_line() {
    let mut feed = Feed::new(&["a\"b".to_owned()], Format::Json);
    feed.opening(Instant::now());
    let frame = [
        CONNECT_REPLY,
        r#"{"id":2,"subscribe":{"recoverable":true,"epoch":"e","publications":[{"data":{"n": 1e400},"offset":7}]}}"#,
        r#"{"push":{"channel":"a\"b","pub":{"data":"x\ty"}}}"#,
    ];
    let step = feed.take(&frame.join("\n")).unwrap();
    let expected = "{\"topic\":\"a\\\"b\",\"offset\":7,\"data\":{\"n\": 1e400}}\n\
                    {\"topic\":\"a\\\"b\",\"data\":\"x\\ty\"}\n";
    assert_eq!(step.output, expected);
    step.output.lines().for_each(|line| assert!(serde_json::from_str::<&RawValue>(line).is_ok(), "{line}"));
}

#[test]
fn a_name_that_no_engine_takes_is_told_with_its_length() {
    let name = "x".repeat(300);
    let end = feed(&[&name]).take(r#"{"id":2,"error":{"code":107,"message":"bad request"}}"#).unwrap_err();
    assert!(
        matches!(&end, End::Final(text) if text.contains("(error 107); the name has 300 bytes")),
        "{end:?}"
    );
}

#[test]
fn an_unknown_namespace_is_told_with_the_keys_that_make_it_known() {
    let frame = r#"{"id":2,"error":{"code":102,"message":"unknown channel"}}"#;
    let end = feed(&["chat:1"]).take(frame).unwrap_err();
    assert!(
        matches!(&end, End::Final(text) if text.contains("(error 102); its namespace is not configured")),
        "{end:?}"
    );
}

#[test]
fn pings_are_answered_only_where_pongs_are_wanted() {
    let mut feed = Feed::new(&["a".to_owned()], Format::Plain);
    feed.opening(Instant::now());
    feed.take(r#"{"id":1,"connect":{"ping":25}}"#).unwrap();
    assert_eq!(feed.take("{}").unwrap(), Step::default());
}

#[test]
fn a_refused_topic_is_left_out_and_the_last_one_ends_it() {
    let mut feed = feed(&["a", "b"]);
    let step = feed.take(r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#).unwrap();
    assert_eq!(step.notices, ["fanfare: no subscription to a: permission denied (error 103)"]);
    assert!(!feed.opening(Instant::now()).contains("\"a\""));
    let end = feed.take(r#"{"id":2,"error":{"code":103,"message":"permission denied"}}"#).unwrap_err();
    assert_eq!(end, End::Final("no subscription to b: permission denied (error 103)".to_owned()));
}

#[test]
fn temporary_errors_lead_to_another_try() {
    for (frame, retry) in [
        (r#"{"id":1,"error":{"code":100,"message":"m","temporary":true}}"#, true),
        (r#"{"id":1,"error":{"code":101,"message":"m"}}"#, false),
        (r#"{"id":2,"error":{"code":111,"message":"m","temporary":true}}"#, true),
        (r#"{"push":{"disconnect":{"code":3001,"reason":"shutdown"}}}"#, true),
        (r#"{"push":{"disconnect":{"code":3501,"reason":"bad request"}}}"#, false),
        ("<html>", false),
    ] {
        let end = feed(&["a"]).take(frame).unwrap_err();
        assert_eq!(matches!(end, End::Retry(_)), retry, "{frame}: {end:?}");
    }
}

#[test]
fn a_subscription_that_missed_something_is_made_again() {
    let mut feed = feed(&["a"]);
    feed.take(r#"{"id":2,"subscribe":{}}"#).unwrap();
    let push = r#"{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#;
    let step = feed.take(push).unwrap();
    assert_eq!(step.commands, r#"{"id":3,"subscribe":{"channel":"a","recoverable":true}}"#);
    assert_eq!(step.notices, ["fanfare: a: insufficient state; subscribing again"]);
    let step = feed.take(r#"{"id":3,"subscribe":{}}"#).unwrap();
    assert_eq!(step.notices, ["fanfare: subscribed to a again; something may be missing here"]);
    let push = r#"{"push":{"channel":"a","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#;
    let end = feed.take(push).unwrap_err();
    assert!(matches!(end, End::Final(text) if text.contains("server unsubscribe (2000)")));
}

#[test]
fn close_codes_say_whether_to_come_back() {
    for (code, retry) in [
        (1000, true),
        (1009, false),
        (3001, true),
        (3499, true),
        (3500, false),
        (3999, false),
        (4000, true),
        (4500, false),
        (5000, true),
    ] {
        assert_eq!(matches!(end(code, ""), End::Retry(_)), retry, "{code}");
    }
}

#[test]
fn what_a_peer_says_cannot_move_the_terminal() {
    let end =
        feed(&["a"]).take("{\"id\":1,\"error\":{\"code\":101,\"message\":\"\\u001b[2J\"}}").unwrap_err();
    assert!(matches!(end, End::Final(text) if !text.contains('\x1b')));
}
