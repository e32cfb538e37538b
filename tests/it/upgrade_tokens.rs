//! Tokens that come with the HTTP request of a WebSocket, and the configuration that says where they may stand.

use crate::support::engine::Engine;
use crate::support::http::{Response, request};
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;
use fanfare::auth::Signer;
use serde_json::{Value, json};

const SECRET: &str = "a secret that is long enough for a test";

const CONFIG: &str = "[tokens]\nhmac_keys = [\"a secret that is long enough for a test\"]\n\
                      [server]\ntoken_cookie = \"session\"\ntoken_query = \"token\"\n\
                      allowed_origins = [\"https://app.example.org\"]\n";

fn token(claims: &Value) -> String {
    let signer = Signer::with_secret(SECRET.as_bytes()).expect("a secret");
    signer.sign(&claims.to_string()).expect("it can sign")
}

/// A client whose request has this query and these further header lines.
fn client(engine: &Engine, query: &str, lines: &[String]) -> RawClient {
    RawClient::open_with(engine.client_address(), query, lines)
}

/// The answer to a request that is not to become a WebSocket.
fn refused(engine: &Engine, query: &str, lines: &[String]) -> Response {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!(
        "GET /connection/websocket{query} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    );
    request(engine.client_address(), &head).expect("an answer")
}

fn cookie(token: &str) -> Vec<String> {
    vec!["Origin: https://app.example.org".to_owned(), format!("Cookie: theme=dark; session={token}")]
}

#[test]
fn a_token_comes_in_a_header_a_cookie_or_the_query_and_the_one_of_connect_counts_first() {
    let engine = Engine::with_config(CONFIG);
    let (ann, bob) = (token(&json!({"sub": "ann"})), token(&json!({"sub": "bob"})));
    let bearer = |token: &str| vec![format!("Authorization: Bearer {token}")];
    let own = json!({"token": bob});
    let emulated = json!({"headers": {"Authorization": format!("Bearer {bob}")}});
    for (query, lines, fields, user) in [
        (String::new(), bearer(&ann), json!({}), "ann"),
        (String::new(), cookie(&ann), json!({}), "ann"),
        (format!("?token={ann}"), Vec::new(), json!({}), "ann"),
        (format!("?token={ann}"), cookie(&ann), own, "bob"),
        (String::new(), bearer(&ann), emulated, "bob"),
    ] {
        let mut client = client(&engine, &query, &lines);
        let reply = client.command(&format!(r#""connect":{fields}"#));
        assert!(reply.contains(r#""client":"#), "{reply}");
        // Only the user itself may subscribe to its own topic.
        let reply = client.command(&format!(r##""subscribe":{{"channel":"#{user}"}}"##));
        assert!(reply.contains(r#""subscribe":{"#), "{user}: {reply}");
    }
}

#[test]
fn a_forged_token_is_answered_with_401_and_an_expired_one_does_not_lock_a_page_out() {
    let engine = Engine::with_config(CONFIG);
    for (query, lines) in [("?token=a.b.c", vec![]), ("", cookie("a.b.c"))] {
        let answer = refused(&engine, query, &lines);
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(!answer.head.contains("a.b.c") && !answer.body.contains("a.b.c"), "{answer:?}");
    }
    wait_until(SOON, "the refusal is logged", || engine.stderr().contain("invalid_token"));
    assert!(!engine.stderr().contain("a.b.c"), "a token is not logged");
    let (expired, valid) =
        (token(&json!({"sub": "ann", "exp": 1_000_000_000})), token(&json!({"sub": "ann"})));
    let reply = client(&engine, "", &cookie(&expired)).command(r#""connect":{}"#);
    assert!(reply.contains(r#""code":109"#), "{reply}");
    let fields = json!({"token": valid});
    let reply = client(&engine, "", &cookie(&expired)).command(&format!(r#""connect":{fields}"#));
    assert!(reply.contains(r#""client":"#), "{reply}");
}

#[test]
fn a_cookie_does_not_help_a_page_of_another_origin() {
    let engine = Engine::with_config(CONFIG);
    let mut lines = cookie(&token(&json!({"sub": "ann"})));
    lines[0] = "Origin: https://evil.example".to_owned();
    assert_eq!(refused(&engine, "", &lines).status, 403);
}
