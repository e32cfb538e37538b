//! What people do with it, by name: the rows of README's "Use cases".

mod support;

use serde_json::{Value, json};
use support::engine::Engine;
use support::rabbitmq::RabbitNode;
use support::script::{Amqp, Script, Subscriber};
use support::wait::{SOON, wait_until};

/// Two tabs subscribe to A, B and C and get whatever is sent to all. One unsubscribes from A: from then on
/// it gets B and C only, the other still all three.
#[test]
fn topics_a_b_c() {
    let engine = Engine::start(&[]);
    let mut tabs = [Subscriber::node(&engine.ws_url()), Subscriber::python(&engine.ws_url())];
    for tab in &mut tabs {
        ["A", "B", "C"].iter().for_each(|topic| tab.subscribe(topic));
    }
    broadcast(&engine, &json!("to all"));
    for tab in &tabs {
        ["A", "B", "C"].iter().for_each(|topic| tab.expect(topic, &[json!("to all")]));
    }

    tabs[0].unsubscribe("A");
    broadcast(&engine, &json!("again"));
    // One more in a topic that both have is the sign that the broadcast is through.
    engine.publish("C", &json!("end"));
    for tab in &tabs {
        tab.expect("B", &[json!("to all"), json!("again")]);
        tab.expect("C", &[json!("to all"), json!("again"), json!("end")]);
    }
    tabs[0].expect("A", &[json!("to all")]);
    tabs[1].expect("A", &[json!("to all"), json!("again")]);
}

fn broadcast(engine: &Engine, data: &Value) {
    let answer = engine.api("broadcast", &json!({ "channels": ["A", "B", "C"], "data": data }));
    assert_eq!(answer["result"]["responses"].as_array().map(Vec::len), Some(3), "{answer}");
}

/// Services that know RabbitMQ and nothing else publish the status of orders. The tab that shows order 42
/// hears of it, and no other.
#[test]
fn order_status() {
    let url = RabbitNode::shared().new_vhost("order_status");
    let engine = Engine::start(&["--amqp", &url]);
    engine.wait_until_ready();
    let mut tab_of_42 = Subscriber::node(&engine.ws_url());
    let mut tab_of_43 = Subscriber::python(&engine.ws_url());
    tab_of_42.subscribe("order.42");
    tab_of_43.subscribe("order.43");

    let mut shop = Amqp::connect(&url);
    shop.publish("order.42", br#"{"order":42,"status":"paid"}"#);
    let _warehouse = Script::python("publish.py", &[&url, "order.42", r#"{"order":42,"status":"shipped"}"#]);
    let statuses = [json!({"order": 42, "status": "paid"}), json!({"order": 42, "status": "shipped"})];
    tab_of_42.expect("order.42", &statuses);

    shop.publish("order.43", br#"{"order":43,"status":"paid"}"#);
    tab_of_43.expect("order.43", &[json!({"order": 43, "status": "paid"})]);
    assert!(tab_of_43.publications("order.42").is_empty());
    assert!(tab_of_42.publications("order.43").is_empty());
}

/// The operator stops the engine while people are there. Nobody has to reload the page: the clients are
/// back, and subscribed, as soon as the engine is.
#[test]
fn friday_restart() {
    let engine = Engine::on_fixed_ports("");
    let mut tabs = [Subscriber::node(&engine.ws_url()), Subscriber::python(&engine.ws_url())];
    for tab in &mut tabs {
        tab.subscribe("news");
    }
    let engine = engine.restart();
    for tab in &mut tabs {
        assert_eq!(tab.event("connecting", None)["code"], 3001);
        tab.event("subscribed", Some("news"));
    }
    engine.publish("news", &json!("we are back"));
    tabs.iter().for_each(|tab| tab.expect("news", &[json!("we are back")]));
    wait_until(SOON, "both clients to be counted", || {
        engine.metric("fanfare_clients", &[("state", "open")]) == 2.0
    });
}
