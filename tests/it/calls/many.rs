//! Many clients that come at once to an engine that asks its backend about each.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::backend::{Backend, Does};
use super::hooks::asking;
use crate::support::websocket::RawClient;

const CLIENTS: usize = 300;

/// Fewer places at the backend than clients.
#[test]
fn all_that_come_at_once_are_let_in_by_a_slow_backend() {
    let backend = Backend::start(|asked| {
        thread::sleep(Duration::from_millis(300));
        Does::Answers(json!({"result": {"user": asked.body["name"], "data": asked.body["data"]}}))
    });
    let engine = asking(&backend, "");
    let address = engine.client_address();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let mut client = RawClient::open(address);
            client.send(&format!(r#"{{"id":1,"connect":{{"name":"u{n}","data":{n}}}}}"#));
            client
        })
        .collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let reply = client.line();
        assert!(reply.contains(&format!(r#""data":{n}"#)), "{reply}");
    }
    assert_eq!(backend.asked().len(), CLIENTS, "each once");
}
