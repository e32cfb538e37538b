//! Subscriptions that the token of a connection brings: as the SDKs show them, and by what is on the wire.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::token;
use crate::support::engine::Engine;
use crate::support::script::{Sdk, Subscriber};
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;
use serde_json::{Value, json};

const CONFIG: &str = "[tokens]\nhmac_keys = [\"a secret that is long enough for a test\"]\n\
                      [namespaces.chat]\nclient_subscribe = false\nclient_publish = [\"subscriber\"]\n\
                      history_size = 100\nforce_recovery = true\n\
                      [namespaces.alert]\nserver_only = true\n";

/// The reply to the first command of a client.
fn connect(client: &mut RawClient, claims: &Value, subs: &Value) -> Value {
    let fields = json!({"token": token(claims), "subs": subs});
    serde_json::from_str(&client.command(&format!(r#""connect":{fields}"#))).expect("JSON")
}

#[test]
fn an_sdk_is_subscribed_when_it_connects_and_gets_what_it_missed_when_it_returns() {
    let engine = Engine::with_config(CONFIG);
    for (sdk, topic) in [(Sdk::Node, "chat:node"), (Sdk::Python, "chat:python")] {
        let subs = json!({topic: {"info": {"name": "Ann"}, "data": {"role": "guest"}}});
        let token = token(&json!({"sub": "ann", "channels": ["alert:all"], "subs": subs}));
        let mut client = Subscriber::with_tokens(sdk, &engine.ws_url(), &json!({"token": token}));
        let begins = client.event("subscribed", Some(topic));
        assert_eq!((&begins["data"], &begins["recovered"]), (&json!({"role": "guest"}), &json!(false)));
        engine.publish(topic, &json!(1));
        assert_eq!(client.ask("publish", topic, &json!(2)), Ok(()));
        client.expect(topic, &[json!(1), json!(2)]);
        let events = client.0.events();
        let own = events.iter().find(|event| event["channel"] == topic && event["data"] == json!(2));
        let own = own.expect("it was expected");
        let name = own["info"].get("chanInfo").or_else(|| own["info"].get("chan_info"));
        assert_eq!(name, Some(&json!({"name": "Ann"})), "{own}");
        engine.publish("alert:all", &json!("fire"));
        client.expect("alert:all", &[json!("fire")]);

        client.0.tell(&json!({"do": "disconnect"}));
        client.event("disconnected", None);
        [3, 4].into_iter().for_each(|number| engine.publish(topic, &json!(number)));
        client.0.tell(&json!({"do": "connect"}));
        assert_eq!(client.event("subscribed", Some(topic))["recovered"], json!(true));
        engine.publish(topic, &json!(5));
        client.expect(topic, &[1, 2, 3, 4, 5].map(|number| json!(number)));

        engine.api("unsubscribe", &json!({"channel": topic, "user": ""}));
        client.event("unsubscribed", Some(topic));
        engine.publish("alert:all", &json!("again"));
        client.expect("alert:all", &[json!("fire"), json!("again")]);
    }
}

/// Topics are attached and detached all the time, and publications come meanwhile.
#[test]
fn behind_the_reply_nothing_is_missing_and_nothing_comes_twice() {
    let engine = Engine::with_config(CONFIG);
    let is_over = AtomicBool::new(false);
    engine.publish("chat:busy", &json!(1));
    let publish = || {
        let mut number = 2;
        while !is_over.load(Ordering::Relaxed) {
            engine.publish("chat:busy", &json!(number));
            number += 1;
        }
    };
    let expect_all = |round: usize, epoch: &mut Value| {
        let mut client = RawClient::open(engine.client_address());
        let claims = json!({"channels": ["chat:busy", "chat:quiet", "alert:all"]});
        let resumes = !epoch.is_null() && round.is_multiple_of(2);
        let since = json!({"recover": true, "epoch": epoch, "offset": 1});
        let subs = if resumes { json!({"chat:busy": since}) } else { json!({}) };
        let reply = connect(&mut client, &claims, &subs);
        let subscribed = &reply["connect"]["subs"]["chat:busy"];
        *epoch = subscribed["epoch"].clone();
        let mut last = subscribed["offset"].as_u64().unwrap_or_else(|| panic!("no offset: {reply}"));
        for one in subscribed["publications"].as_array().unwrap_or(&Vec::new()) {
            assert_eq!(one["data"].as_u64(), Some(last + 1), "{reply}");
            last += 1;
        }
        for _ in 0..5 {
            assert_eq!(client.publication("chat:busy"), (last + 1).to_string(), "after {reply}");
            last += 1;
        }
    };
    thread::scope(|scope| {
        scope.spawn(publish);
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut epoch = Value::Null;
            (0..40).for_each(|round| expect_all(round, &mut epoch));
        }));
        is_over.store(true, Ordering::Relaxed);
        rounds.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_topic_that_finds_no_room_fails_the_connect() {
    let engine = Engine::with_config(&format!("[limits]\ntopics = 1\n{CONFIG}"));
    let mut client = RawClient::open(engine.client_address());
    let reply = connect(&mut client, &json!({"channels": ["alert:a", "alert:b"]}), &json!({}));
    assert_eq!(reply["error"]["code"], json!(106), "{reply}");
    wait_until(SOON, "no topic", || engine.metric("fanfare_topics", &[]) == 0.0);
    let mut client = RawClient::open(engine.client_address());
    let reply = connect(&mut client, &json!({"channels": ["alert:a"]}), &json!({}));
    assert_eq!(reply["connect"]["subs"], json!({"alert:a": {}}), "{reply}");
    let mut client = RawClient::open(engine.client_address());
    let reply = connect(&mut client, &json!({"channels": ["nowhere:a"]}), &json!({}));
    assert_eq!(reply["error"]["code"], json!(102), "{reply}");
}
