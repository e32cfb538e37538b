//! What the SDKs do with tokens, through their public interfaces: `token` and `getToken`, of clients and of
//! subscriptions. Tokens expire within seconds here, and `timeouts.expired` is short.

use std::thread;
use std::time::Duration;

use super::{expiring, signed, token};
use crate::support::engine::Engine;
use crate::support::script::{Sdk, Subscriber};
use crate::support::wait::{SOON, hold_for, wait_until};
use serde_json::{Value, json};

const CONFIG: &str = "[tokens]\nhmac_keys = [\"a secret that is long enough for a test\"]\n\
                      [timeouts]\nexpired = \"2s\"\n\
                      [namespaces.chat]\nclient_publish = [\"user\"]\n";

/// How long a token is valid that is to expire during a test: SDKs plan in whole seconds.
const SHORT: f64 = 2.0;
/// Longer than `timeouts.expired`.
const LONGER: Duration = Duration::from_secs(3);

/// A client whose tokens the test gives.
fn asking(sdk: Sdk, engine: &Engine) -> Subscriber {
    Subscriber::with_tokens(sdk, &engine.ws_url(), &json!({"getToken": true}))
}

/// A connected client of `ann`.
fn ann(sdk: Sdk, engine: &Engine) -> Subscriber {
    let mut client = asking(sdk, engine);
    client.give_token(None, &token(&json!({"sub": "ann"})));
    client.event("connected", None);
    client
}

/// Runs a test with both SDKs, side by side: they mostly wait.
fn with_both(test: impl Fn(Sdk) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for sdk in Sdk::ALL {
            scope.spawn(move || test(sdk));
        }
    });
}

/// Gives it a token that expires soon, made at the moment at which it is wanted.
#[track_caller]
fn give_short(client: &mut Subscriber, topic: Option<&str>, claims: &Value) {
    client.wait_to_want_token(topic);
    client.send_token(topic, &expiring(SHORT, claims));
}

/// Tells it to subscribe with tokens that the test gives.
fn subscribe(client: &mut Subscriber, topic: &str) {
    client.0.tell(&json!({"do": "subscribe", "channel": topic, "getToken": true}));
}

/// How many events of this kind there were.
fn count(client: &Subscriber, kind: &str) -> usize {
    client.0.events().iter().filter(|event| event["event"] == kind).count()
}

/// A client that has connected, or subscribed, once and stays so.
#[track_caller]
fn stays(client: &Subscriber, kind: &str) {
    hold_for(LONGER, kind, || count(client, kind) == 1 && count(client, "disconnected") == 0);
}

#[test]
fn a_client_connects_with_a_token_and_not_without() {
    let engine = Engine::with_config(CONFIG);
    let of_ann = json!({"sub": "ann"});
    let none = String::new();
    for (what, token, outcome) in [
        ("a static token", token(&of_ann), Ok(())),
        ("a static token that expires later", expiring(60.0, &of_ann), Ok(())),
        ("an anonymous token", token(&json!({})), Ok(())),
        ("no token", none, Err(3501)),
        ("another secret", signed("another secret, as long as that one", &of_ann), Err(3500)),
        ("no token at all", "x".to_owned(), Err(3500)),
        // The SDK has nothing to get another one with: "unauthorized".
        ("an expired token", expiring(-1.0, &of_ann), Err(1)),
        ("a token whose connection expired", token(&json!({"sub": "ann", "expire_at": 1})), Err(110)),
        ("a subscription's token", token(&json!({"sub": "ann", "channel": "chat:1"})), Err(3500)),
    ] {
        with_both(|sdk| {
            let mut client = Subscriber::with_tokens(sdk, &engine.ws_url(), &json!({"token": token}));
            match outcome {
                Ok(()) => drop(client.event("connected", None)),
                Err(code) => {
                    let event = client.event("disconnected", None);
                    assert_eq!(event["code"], json!(code), "{what}: {event}");
                }
            }
        });
    }
}

#[test]
fn a_token_is_refreshed_before_the_connection_expires() {
    let engine = Engine::with_config(CONFIG);
    with_both(|sdk| {
        let mut client = asking(sdk, &engine);
        give_short(&mut client, None, &json!({"sub": "ann"}));
        client.event("connected", None);
        client.give_token(None, &expiring(60.0, &json!({"sub": "ann"})));
        stays(&client, "connected");
    });
}

#[test]
fn a_token_that_has_expired_is_replaced_at_once() {
    let engine = Engine::with_config(CONFIG);
    with_both(|sdk| {
        let expired = expiring(-1.0, &json!({"sub": "ann"}));
        let mut client =
            Subscriber::with_tokens(sdk, &engine.ws_url(), &json!({"token": expired, "getToken": true}));
        client.event("error", None);
        client.give_token(None, &token(&json!({"sub": "ann"})));
        client.event("connected", None);
    });
}

#[test]
fn a_client_that_sends_no_further_token_is_closed_and_comes_back_with_one() {
    let engine = Engine::with_config(CONFIG);
    with_both(|sdk| {
        let mut client = asking(sdk, &engine);
        give_short(&mut client, None, &json!({"sub": "ann"}));
        client.event("connected", None);
        client.wait_to_want_token(None);
        let closed = client.0.next("the end", |event| event["event"] == "connecting" && event["code"] != 0);
        assert_eq!(closed["code"], json!(3005), "{closed}");
        client.give_token(None, &token(&json!({"sub": "ann"})));
        client.event("connected", None);
    });
}

#[test]
fn a_refresh_with_a_wrong_token_ends_the_client() {
    let engine = Engine::with_config(CONFIG);
    for wrong in
        [token(&json!({"sub": "eve"})), signed("another secret, as long as that one", &json!({"sub": "ann"}))]
    {
        with_both(|sdk| {
            let mut client = asking(sdk, &engine);
            give_short(&mut client, None, &json!({"sub": "ann"}));
            client.event("connected", None);
            client.give_token(None, &wrong);
            let event = client.event("disconnected", None);
            assert_eq!(event["code"], json!(3500), "{event}");
        });
    }
}

#[test]
fn a_private_topic_opens_with_a_subscription_token() {
    let engine = Engine::with_config(CONFIG);
    with_both(|sdk| {
        let mut client = ann(sdk, &engine);
        client.0.tell(&json!({"do": "subscribe", "channel": "chat:$plain"}));
        let event = client.event("unsubscribed", Some("chat:$plain"));
        assert_eq!(event["code"], json!(103), "without a token: {event}");
        for (topic, claims, code) in [
            ("chat:$room", json!({"sub": "ann", "channel": "chat:$room"}), None),
            ("$chat:room", json!({"sub": "ann", "channel": "$chat:room"}), None),
            ("chat:$typed", json!({"sub": "ann", "channel": 7}), Some(103)),
        ] {
            subscribe(&mut client, topic);
            client.give_token(Some(topic), &token(&claims));
            match code {
                None => drop(client.event("subscribed", Some(topic))),
                Some(code) => assert_eq!(client.event("unsubscribed", Some(topic))["code"], json!(code)),
            }
        }
        assert_eq!(client.ask("publish", "chat:$room", &json!(1)), Ok(()));
        // The other SDK's client may publish there as well.
        wait_until(SOON, "the publication", || client.publications("chat:$room").contains(&json!(1)));
    });
}

#[test]
fn a_subscription_token_for_something_else_ends_the_client() {
    let engine = Engine::with_config(CONFIG);
    for claims in
        [json!({"sub": "ann", "channel": "chat:$other"}), json!({"sub": "eve", "channel": "chat:$room"})]
    {
        with_both(|sdk| {
            let mut client = ann(sdk, &engine);
            subscribe(&mut client, "chat:$room");
            client.give_token(Some("chat:$room"), &token(&claims));
            let event = client.event("disconnected", None);
            assert_eq!(event["code"], json!(3500), "{claims}: {event}");
        });
    }
}

#[test]
fn a_subscription_token_is_refreshed_or_the_subscription_begins_anew() {
    let engine = Engine::with_config(CONFIG);
    let topic = "chat:$room";
    let claims = json!({"sub": "ann", "channel": topic});
    with_both(|sdk| {
        let mut client = ann(sdk, &engine);
        subscribe(&mut client, topic);
        client.give_token(Some(topic), &expiring(-1.0, &claims));
        let error = client.event("subscription_error", Some(topic));
        // Python gives a number of its own to every error of a subscribe.
        assert!(matches!(sdk, Sdk::Python) || error["code"] == json!(109), "{error}");
        give_short(&mut client, Some(topic), &claims);
        client.event("subscribed", Some(topic));
        client.give_token(Some(topic), &expiring(60.0, &claims));
        stays(&client, "subscribed");

        let mut client = ann(sdk, &engine);
        subscribe(&mut client, topic);
        give_short(&mut client, Some(topic), &claims);
        client.event("subscribed", Some(topic));
        client.wait_to_want_token(Some(topic));
        let ended = client.event("subscribing", Some(topic));
        assert_eq!(ended["code"], json!(2501), "{ended}");
        client.give_token(Some(topic), &token(&claims));
        client.event("subscribed", Some(topic));
        assert_eq!(count(&client, "connected"), 1, "the connection has not suffered");
    });
}

#[test]
fn a_refresh_of_a_subscription_with_a_wrong_token_ends_it_or_the_client() {
    let engine = Engine::with_config(CONFIG);
    let topic = "chat:$room";
    let claims = json!({"sub": "ann", "channel": topic});
    for (second, ended, code) in [
        (expiring(-1.0, &claims), "unsubscribed", 110),
        (signed("another secret, as long as that one", &claims), "disconnected", 3500),
        (token(&json!({"sub": "ann", "channel": "chat:$other"})), "disconnected", 3500),
    ] {
        with_both(|sdk| {
            let mut client = ann(sdk, &engine);
            subscribe(&mut client, topic);
            give_short(&mut client, Some(topic), &claims);
            client.event("subscribed", Some(topic));
            client.give_token(Some(topic), &second);
            let event = client.event(ended, None);
            assert_eq!(event["code"], json!(code), "{event}");
        });
    }
}

#[test]
fn a_topic_that_lists_users_is_for_them() {
    let engine = Engine::with_config(CONFIG);
    with_both(|sdk| {
        let mut client = ann(sdk, &engine);
        client.subscribe("chat:room#ann,bob");
        client.subscribe("#ann");
        for topic in ["chat:room#bob", "#bob"] {
            client.0.tell(&json!({"do": "subscribe", "channel": topic}));
            let event = client.event("unsubscribed", Some(topic));
            assert_eq!(event["code"], json!(103), "{topic}: {event}");
        }
    });
}

/// What tokens say of a client stands beside what it publishes, for both SDKs alike.
#[test]
fn a_publication_says_who_wrote_it() {
    let engine = Engine::with_config(CONFIG);
    let topic = "chat:$room";
    let mut clients = Sdk::ALL.map(|sdk| {
        let mut client = asking(sdk, &engine);
        client.give_token(None, &token(&json!({"sub": "ann", "info": {"name": "Ann"}})));
        client.event("connected", None);
        subscribe(&mut client, topic);
        let claims = json!({"sub": "ann", "channel": topic, "info": {"colour": "blue"}});
        client.give_token(Some(topic), &token(&claims));
        client.event("subscribed", Some(topic));
        client
    });
    clients.iter_mut().for_each(|client| assert_eq!(client.ask("publish", topic, &json!("hello")), Ok(())));
    for client in &clients {
        wait_until(SOON, "both publications", || count(client, "publication") == 2);
        let events = client.0.events();
        for event in events.iter().filter(|event| event["event"] == "publication") {
            assert_eq!(info(event, "user", "user"), json!("ann"), "{event}");
            assert_eq!(info(event, "conn_info", "connInfo"), json!({"name": "Ann"}), "{event}");
            assert_eq!(info(event, "chan_info", "chanInfo"), json!({"colour": "blue"}), "{event}");
        }
    }
}

/// A part of a publication's `info`, by its name in Python or in JavaScript.
fn info(event: &Value, python: &str, javascript: &str) -> Value {
    let info = &event["info"];
    info.get(python).or_else(|| info.get(javascript)).cloned().unwrap_or_default()
}
