//! What clients may do with topics of each kind, by their tokens. All combinations are tested where it is decided
//! (`src/auth/permissions/tests.rs`); here it is shown that a whole engine asks there, for each command.

use crate::support::engine::Engine;
use crate::support::websocket::RawClient;
use fanfare::auth::Signer;
use serde_json::{Value, json};

const SECRET: &str = "a secret that is long enough for a test";

const CONFIG: &str = "[tokens]\nhmac_keys = [\"a secret that is long enough for a test\"]\nanonymous = \"allow\"\n\
                      [namespaces.news]\nclient_publish = [\"user\"]\nhistory_size = 5\nclient_history = [\"subscriber\"]\n\
                      [namespaces.team]\nclient_subscribe = [\"user\"]\nclient_publish = true\n\
                      history_size = 5\nclient_history = true\ntopic_pattern = '[$]?[a-z]+(#[a-z,]+)?'\n\
                      [namespaces.alert]\nserver_only = true\n";

fn token(claims: &Value) -> String {
    let signer = Signer::with_secret(SECRET.as_bytes()).expect("a secret");
    signer.sign(&claims.to_string()).expect("it can sign")
}

/// A connected client, with a token that has these claims.
fn client(engine: &Engine, claims: &Value) -> RawClient {
    let mut client = RawClient::open(engine.client_address());
    let fields = json!({"token": token(claims)});
    let reply = client.command(&format!(r#""connect":{fields}"#));
    assert!(reply.contains(r#""client":"#), "{reply}");
    client
}

/// The code of the error that the command is answered with, or 0.
fn ask(client: &mut RawClient, method: &str, fields: &Value) -> u64 {
    let reply: Value =
        serde_json::from_str(&client.command(&format!(r#""{method}":{fields}"#))).expect("JSON");
    reply["error"]["code"].as_u64().unwrap_or_default()
}

/// The outcomes of a history, a publish, a subscribe, and after that another history and another publish.
fn outcomes(client: &mut RawClient, topic: &str) -> [u64; 5] {
    let (history, publish) = (json!({"channel": topic, "limit": 1}), json!({"channel": topic, "data": 1}));
    [
        ask(client, "history", &history),
        ask(client, "publish", &publish),
        ask(client, "subscribe", &json!({"channel": topic})),
        ask(client, "history", &history),
        ask(client, "publish", &publish),
    ]
}

#[test]
fn who_a_client_is_and_what_a_topic_is_called_decide_what_it_may_do() {
    let engine = Engine::with_config(CONFIG);
    let mut anonymous = engine.client();
    let mut ann = client(&engine, &json!({"sub": "ann"}));
    let mut eve = client(&engine, &json!({"sub": "eve"}));
    let caps = json!([{"channels": ["news:*"], "match": "wildcard", "allow": ["pub", "hst"]}]);
    let mut robot = client(&engine, &json!({"caps": caps}));
    for (client, topics) in [
        (
            &mut anonymous,
            &[
                ("news:a", [103, 103, 0, 0, 103]),
                ("team:a", [0, 0, 103, 0, 0]),
                ("team:a#ann,bob", [103; 5]),
                ("order.42", [108, 103, 0, 108, 103]),
            ][..],
        ),
        (
            &mut ann,
            &[
                ("news:a", [103, 0, 0, 0, 0]),
                ("team:a", [0; 5]),
                ("team:A", [107; 5]),
                ("team:a#ann,bob", [0; 5]),
                ("team:$a", [103; 5]),
                ("$team:a", [103; 5]),
                ("alert:a", [108, 103, 103, 108, 103]),
                ("teams:a", [102; 5]),
            ],
        ),
        (&mut eve, &[("team:a#ann,bob", [103; 5])]),
        (&mut robot, &[("news:a", [0; 5])]),
    ] {
        for (topic, expected) in topics {
            assert_eq!(outcomes(client, topic), *expected, "{topic}");
        }
    }
}

/// A subscription token opens the topic that it is for, whatever the namespace says of it, and nothing where the server
/// alone subscribes.
#[test]
fn a_subscription_token_opens_a_private_topic() {
    let engine = Engine::with_config(CONFIG);
    let mut ann = client(&engine, &json!({"sub": "ann"}));
    for (topic, expected) in [("$team:a", 0), ("team:$a", 0), ("team:a#bob", 0), ("alert:a", 103)] {
        let token = token(&json!({"sub": "ann", "channel": topic}));
        assert_eq!(
            ask(&mut ann, "subscribe", &json!({"channel": topic, "token": token})),
            expected,
            "{topic}"
        );
    }
    for method in ["history", "publish"] {
        let fields = json!({"channel": "$team:a", "data": 1});
        assert_eq!(ask(&mut ann, method, &fields), 0, "{method} of a subscriber");
        assert_eq!(ask(&mut ann, "unsubscribe", &json!({"channel": "$team:a"})), 0);
        assert_eq!(ask(&mut ann, method, &fields), 103, "{method} of a stranger");
        let token = token(&json!({"sub": "ann", "channel": "$team:a"}));
        assert_eq!(ask(&mut ann, "subscribe", &json!({"channel": "$team:a", "token": token})), 0);
    }
}

/// Their permission is the API's key.
#[test]
fn operators_are_not_bound_by_what_clients_may_do() {
    let engine = Engine::with_config(CONFIG);
    for topic in ["news:a", "team:A", "$team:a", "team:a#ann", "alert:a", "order.42"] {
        engine.publish(topic, &json!(1));
    }
    let history = engine.api("history", &json!({"channel": "$team:a", "limit": 1}));
    assert_eq!(history["result"]["publications"][0]["data"], json!(1), "{history}");
    let unknown = engine.api("publish", &json!({"channel": "teams:a", "data": 1}));
    assert_eq!(unknown["error"]["code"], json!(102), "{unknown}");
}
