//! The server API as its own clients know it.

use crate::support::engine::Engine;
use crate::support::script::{Script, Subscriber};
use serde_json::{Value, json};

/// PyPI's `cent` does everything that this API offers, and what it does is seen by the clients.
#[test]
fn cent_publishes_broadcasts_lists_unsubscribes_and_disconnects() {
    let engine =
        Engine::with_config("[control]\napi_key = \"secret\"\n[namespaces.kept]\nhistory_size = 5\n");
    let mut client = Subscriber::node(&engine.ws_url());
    ["A", "B"].iter().for_each(|topic| client.subscribe(topic));
    let events = client.0.events();
    let id =
        events.iter().find_map(|event| event["client"].as_str()).expect("connected with an id").to_owned();

    let url = format!("http://{}", engine.control_address());
    let mut cent = Script::python("server_api.py", &[&url, "secret", &id]);
    let mut step = |name: &str| cent.next(name, |event| event["step"] == name);
    let broadcast = step("broadcast");
    assert_eq!((&broadcast["responses"], &broadcast["errors"]), (&json!(2), &json!([])));
    let repeated = step("repeated");
    assert_eq!((&repeated["responses"], &repeated["errors"]), (&json!(2), &json!([])));
    let kept = step("kept");
    assert_eq!(kept["offset"], json!(1), "{kept}");
    assert!(kept["epoch"].as_str().is_some_and(|epoch| !epoch.is_empty()), "{kept}");
    assert_eq!(step("unknown")["code"], 104, "an error of the API, not of HTTP");
    assert_eq!(step("channels")["channels"], json!({"A": 1, "B": 1}));
    let info = step("info");
    assert_eq!([&info["nodes"], &info["clients"], &info["channels"]], [1, 1, 2].map(Value::from).each_ref());
    assert_eq!(step("refused")["code"], 107);
    step("unauthorized");
    step("unsubscribed");
    assert_eq!(client.event("unsubscribed", Some("A"))["code"], 2000);
    client.expect("A", &[json!({"n": 1}), json!({"n": 2}), json!({"n": 3})]);
    client.expect("B", &[json!({"n": 2}), json!({"n": 3})]);

    cent.tell(&json!("go on"));
    cent.next("disconnected", |event| event["step"] == "disconnected");
    assert_eq!(client.event("disconnected", None)["code"], 3503);
}
