//! Keys that come from a URL, and a host that is not always there.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{SECRET, token};
use crate::support::engine::{BINARY, Engine, clear_settings, run_to_end, serve};
use crate::support::peer::Peer;
use crate::support::process::TempDir;
use crate::support::wait::{SOON, wait_until};

/// A pair of keys, with the name that the public one has in a set.
struct Key(&'static str, Ed25519KeyPair);

impl Key {
    fn new(name: &'static str) -> Self {
        Self(name, Ed25519KeyPair::generate().expect("a pair of keys"))
    }

    fn token(&self) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(&json!({"alg": "EdDSA", "kid": self.0}));
        // Each is another one, so that what an earlier one said is not remembered.
        let message =
            format!("{header}.{}", part(&json!({"sub": "ann", "jti": rand::random::<u64>().to_string()})));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.1.sign(message.as_bytes())))
    }
}

fn set(keys: &[&Key]) -> String {
    let jwk = |Key(name, pair): &&Key| json!({"kty": "OKP", "crv": "Ed25519", "kid": name, "x": URL_SAFE_NO_PAD.encode(pair.public_key())});
    json!({"keys": keys.iter().map(jwk).collect::<Vec<_>>()}).to_string()
}

/// The host with the set.
#[derive(Clone)]
struct Issuer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What it answers. `None`: it hangs up.
    answer: Option<String>,
    asked: usize,
}

impl Issuer {
    /// The host, and an engine that asks it and that has this configuration besides.
    fn with_engine(answer: Option<String>, config: &str) -> (Self, Engine) {
        let (issuer, url) = Self::open(answer);
        (issuer, Engine::with_config(&format!("[jwks]\nurl = '{url}'\n{config}")))
    }

    /// The host and its URL.
    fn open(answer: Option<String>) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let issuer = Self(Arc::new(Mutex::new(State { answer, asked: 0 })));
        let served = issuer.clone();
        // It lasts as long as the test program.
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| served.serve(stream)));
        (issuer, format!("http://{address}/keys?key=hunter2"))
    }

    fn serve(&self, mut stream: TcpStream) {
        let answer = {
            let mut state = self.0.lock();
            state.asked += 1;
            state.answer.clone()
        };
        let mut head = [0; 1024];
        let read = stream.read(&mut head);
        if let (Ok(_), Some(body)) = (read, answer) {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            // An engine that ends hangs up.
            drop(stream.write_all((head + &body).as_bytes()));
        }
    }

    fn answers(&self, answer: Option<String>) {
        self.0.lock().answer = answer;
    }

    fn asked(&self) -> usize {
        self.0.lock().asked
    }
}

/// What becomes of a client that shows a token: 0 if it is connected, the code of the error in the reply, or that of the
/// close frame.
fn outcome(engine: &Engine, token: &str) -> u64 {
    let mut peer = Peer::upgraded(engine.client_address());
    peer.command(&json!({"id": 1, "connect": {"token": token}}).to_string());
    let (opcode, payload) = peer.read_frame().expect("an answer");
    if opcode == 8 {
        return u16::from_be_bytes([payload[0], payload[1]]).into();
    }
    let reply: Value = serde_json::from_slice(&payload).expect("JSON");
    let error = &reply["error"];
    assert!(error.is_null() || error["temporary"] == json!(error["code"] == 100), "{reply}");
    error["code"].as_u64().unwrap_or(0)
}

/// Waits until a client with a new token of a key has this outcome.
#[track_caller]
fn wait_for(engine: &Engine, key: &Key, expected: u64) {
    wait_until(SOON, &format!("{expected} for a token of {}", key.0), || {
        outcome(engine, &key.token()) == expected
    });
}

#[test]
fn a_new_key_is_fetched_when_a_token_names_it_and_keys_last_while_the_host_is_away() {
    let (old, new, unknown) = (Key::new("old"), Key::new("new"), Key::new("unknown"));
    let (issuer, engine) = Issuer::with_engine(Some(set(&[&old])), "");
    assert_eq!(outcome(&engine, &old.token()), 0, "the set is there before clients come in");
    let mut stays = Peer::upgraded(engine.client_address());
    stays.command(&json!({"id": 1, "connect": {"token": old.token()}}).to_string());
    assert!(stays.reply().contains(r#""connect":{"#));
    // Once the set is some seconds old, an unknown key may be a new one.
    wait_for(&engine, &unknown, 100);
    issuer.answers(Some(set(&[&new])));
    wait_for(&engine, &new, 0);
    assert_eq!(outcome(&engine, &old.token()), 3500, "a key that is gone is gone, and the set has just come");
    stays.command(r#"{"id":2,"subscribe":{"channel":"news"}}"#);
    assert!(stays.reply().starts_with(r#"{"id":2,"#), "who is connected stays");
    let failures = || engine.metric("fanfare_key_set_failures_total", &[]);
    for answer in [None, Some(r#"{"keys":[]}"#.to_owned()), Some("<html>".to_owned())] {
        issuer.answers(answer);
        let (before, asked) = (failures(), issuer.asked());
        wait_until(SOON, "another failure", || {
            outcome(&engine, &unknown.token()) == 100 && failures() > before
        });
        assert_eq!(outcome(&engine, &new.token()), 0, "the latest keys count");
        let asked = issuer.asked() - asked;
        assert!(asked <= 3, "the host is asked once per some seconds, whatever clients do: {asked}");
    }
    assert!(engine.metric("fanfare_tokens_undecided_total", &[]) >= 3.0);
    assert!(engine.metric("fanfare_key_set_time_seconds", &[]) > 1.7e9);
    assert!(
        !engine.stderr().contain("eyJ") && !engine.stderr().contain("hunter2"),
        "no token and no query is logged"
    );
}

#[test]
fn an_engine_starts_without_the_set_and_accepts_its_keys_once_it_is_there() {
    let key = Key::new("a");
    let (issuer, engine) = Issuer::with_engine(None, "");
    let health = engine.get("/health/ready");
    assert_eq!((health.status, &health.json()["key_set"]), (503, &json!("awaited")), "{}", health.body);
    assert_eq!(engine.get("/health/live").status, 200);
    assert_eq!(outcome(&engine, &key.token()), 100);
    assert!(engine.stderr().contain("the key set cannot be fetched"));
    issuer.answers(Some(set(&[&key])));
    wait_for(&engine, &key, 0);
    engine.wait_until_ready();
    assert_eq!(engine.get("/health").json()["key_set"], json!("fetched"));
}

#[test]
fn other_keys_count_while_the_set_is_away() {
    let (_issuer, engine) = Issuer::with_engine(None, &format!("[tokens]\nhmac_keys = ['{SECRET}']\n"));
    assert_eq!(outcome(&engine, &token(&json!({"sub": "ann"}))), 0);
    assert_eq!(outcome(&engine, &Key::new("a").token()), 100);
    assert_eq!(outcome(&engine, "a.b.c"), 3500);
    assert_eq!(engine.get("/health/ready").status, 200, "some clients can come in");
}

/// Neither takes back what the other has changed.
#[test]
fn a_reload_keeps_the_set_and_a_fetch_keeps_what_was_reloaded() {
    let (one, other) = (Key::new("one"), Key::new("other"));
    let (issuer, url) = Issuer::open(Some(set(&[&one])));
    let files = TempDir::new("key-set");
    let configure = |text: &str| files.write("fanfare.toml", text);
    let mut command = serve();
    command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--config"]);
    command.arg(configure(&format!("[jwks]\nurl = '{url}'\n")));
    let engine = Engine::launch(command, None);
    let reload = || engine.api("reload", &json!({}));
    let by_secret = || outcome(&engine, &token(&json!({"sub": "ann"})));
    assert_eq!((outcome(&engine, &one.token()), by_secret()), (0, 3500));

    configure(&format!("[jwks]\nurl = '{url}'\n[tokens]\nhmac_keys = ['{SECRET}']\n"));
    assert_eq!(reload(), json!({"result": {"changed": ["tokens.hmac_keys"], "needs_restart": []}}));
    wait_until(SOON, "the secret", || by_secret() == 0);
    assert_eq!(outcome(&engine, &one.token()), 0, "the set is still there");
    issuer.answers(Some(set(&[&one, &other])));
    wait_for(&engine, &other, 0);
    assert_eq!(by_secret(), 0, "the secret is still there");

    configure("[jwks]\nurl = 'https://issuer.example/'\n");
    assert_eq!(reload(), json!({"result": {"changed": ["tokens.hmac_keys"], "needs_restart": ["jwks.url"]}}));
    wait_until(SOON, "no secret", || by_secret() == 3500);
    assert_eq!(outcome(&engine, &other.token()), 0);
}

/// Exit code and report of a command whose configuration names this key set.
fn report(arguments: &[&str], url: &str) -> (Option<i32>, String) {
    let mut command = Command::new(BINARY);
    clear_settings(&mut command);
    command.args(arguments).env("FANFARE_JWKS_URL", url);
    command.env("FANFARE_SERVER_LISTEN", "127.0.0.1:0").env("FANFARE_CONTROL_LISTEN", "127.0.0.1:0");
    let (status, report, errors) = run_to_end(command, SOON);
    assert!(errors.is_empty() && !report.contains("hunter2"), "{errors}{report}");
    (status.code(), report)
}

#[test]
fn commands_fetch_the_set_to_judge_by_it() {
    let key = Key::new("a");
    let (issuer, url) = Issuer::open(Some(set(&[&key]).replace('[', r#"[{"kty":"AKP"},"#)));
    let (token, other) = (key.token(), Key::new("b").token());
    let (code, text) = report(&["check-token", &token], &url);
    assert!(code == Some(0) && text.contains("accepted   as the token of a connection"), "{text}");
    let (code, text) = report(&["check-token", &other], &url);
    assert!(code == Some(1) && text.contains("a key (`kid`) that is not in the key set"), "{text}");
    let asked = issuer.asked();
    let (_, text) = report(&["check"], &url);
    assert!(text.contains("/keys is well-formed; --connect tries whether it has a key set"), "{text}");
    assert_eq!(issuer.asked(), asked);
    let (code, text) = report(&["check", "--connect"], &url);
    assert!(code == Some(0) && text.contains("/keys has a key set with 1 keys"), "{text}");
    assert!(text.contains("/keys: key 1 of the set is of no kind that is used here"), "{text}");
    issuer.answers(Some("{}".to_owned()));
    let (_, text) = report(&["check", "--connect"], &url);
    assert!(text.contains("/keys: no key set: it is no JSON Web Key Set"), "{text}");
    let (code, text) = report(&["check-token", &token], &url);
    assert!(code == Some(1) && text.contains("/keys cannot be fetched: it is no JSON Web Key Set"), "{text}");
    assert!(text.contains("the key set has not been fetched yet"), "{text}");
}
