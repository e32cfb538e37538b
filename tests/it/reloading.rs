//! The configuration is read again, by SIGHUP and by the API: all of it takes effect, or nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

use fanfare::auth::Signer;
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::support::engine::{Engine, run_to_end, serve};
use crate::support::http;
use crate::support::process::TempDir;
use crate::support::wait::{SOON, wait_until};
use crate::support::websocket::RawClient;

const OLD: &str = "the first secret, long enough for a test";
const NEW: &str = "another secret, long enough for a test as well";

const UPGRADE: &str = "GET /connection/websocket HTTP/1.1\r\nHost: fanfare.test\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

fn token(secret: &str) -> String {
    let signer = Signer::with_secret(secret.as_bytes()).expect("a secret");
    signer.sign(r#"{"sub":"ann"}"#).expect("it can sign")
}

/// A client that has shown a token of this secret.
fn shown(engine: &Engine, secret: &str) -> RawClient {
    let mut client = RawClient::open(engine.client_address());
    client.send(&json!({"id": 1, "connect": {"token": token(secret)}}).to_string());
    client
}

fn connected(engine: &Engine, secret: &str) -> RawClient {
    let mut client = shown(engine, secret);
    let reply = client.line();
    assert!(reply.contains(r#""client":"#), "{reply}");
    client
}

/// An engine with a file that can be changed.
struct Scene {
    engine: Engine,
    files: TempDir,
}

impl Scene {
    fn new(config: &str) -> Self {
        let files = TempDir::new("reload");
        let file = files.write("fanfare.toml", config);
        let mut command = serve();
        // With one shard, what one connection shows holds for all.
        command
            .args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--shards", "1", "--config"])
            .arg(file);
        Self { engine: Engine::launch(command, None), files }
    }

    fn write(&self, config: &str) -> PathBuf {
        self.files.write("fanfare.toml", config)
    }

    fn reload(&self) -> Value {
        self.engine.api("reload", &json!({}))
    }

    fn told(&self, words: &str) {
        wait_until(SOON, words, || self.engine.stderr().contain(words));
    }

    fn status_of_origin(&self, origin: &str) -> String {
        let mut stream = TcpStream::connect(self.engine.client_address()).expect("it listens");
        stream.write_all(format!("{UPGRADE}Origin: {origin}\r\n\r\n").as_bytes()).expect("it reads");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("it answers");
        String::from_utf8_lossy(&status[9..]).into_owned()
    }
}

#[test]
fn a_signal_reloads_keys_namespaces_origins_and_the_level_of_the_log() {
    let scene = Scene::new(&format!("[tokens]\nhmac_keys = [\"{OLD}\"]\n[namespaces.chat]\n"));
    let engine = &scene.engine;
    let mut stays = connected(engine, OLD);
    stays.subscribe("chat:a");
    assert_eq!(scene.status_of_origin("https://page.example"), "403");
    assert_eq!(engine.api("publish", &json!({"channel": "news:a", "data": 1}))["error"]["code"], 102);

    scene.write(&format!(
        "[tokens]\nhmac_keys = [\"{NEW}\"]\n[namespaces.chat]\n[namespaces.news]\n[log]\nlevel = \"debug\"\n\
         [server]\nallowed_origins = [\"https://page.example\"]\nprivate_fd_tables = true\nshards = 7\n[limits]\nclients = 5\n"
    ));
    engine.signal("HUP");
    scene.told("the configuration is reloaded");
    scene.told("changed=server.allowed_origins, tokens.hmac_keys, log.level, namespaces.news");
    // The flag `--shards` is still there.
    scene.told("keys=server.private_fd_tables, limits.clients");

    engine.publish("news:a", &json!(1));
    wait_until(SOON, "the page to be let in", || scene.status_of_origin("https://page.example") == "101");
    assert_eq!(shown(engine, OLD).closed().0, 3500, "the old key opens nothing");
    connected(engine, NEW).subscribe("news:a");
    engine.publish("chat:a", &json!("still here"));
    assert!(stays.publication("chat:a").contains("still here"), "whoever is connected stays");
    let mut half = TcpStream::connect(engine.control_address()).expect("it listens");
    half.write_all(b"GET / HTTP/1.1\r\nHo").expect("it reads");
    drop(half);
    scene.told("ended early");
}

#[test]
fn the_new_key_opens_what_the_old_one_opened() {
    let scene = Scene::new(&format!("[tokens]\nhmac_keys = [\"{OLD}\"]\n"));
    scene.write(&format!("[tokens]\nhmac_keys = [\"{NEW}\", \"{OLD}\"]\n"));
    let told = json!({"changed": ["tokens.hmac_keys"], "needs_restart": []});
    assert_eq!(scene.reload(), json!({"result": told}));
    connected(&scene.engine, OLD).subscribe("a");
    wait_until(SOON, "the new key", || shown(&scene.engine, NEW).line().contains(r#""client":"#));
    assert_eq!(scene.reload(), json!({"result": {"changed": [], "needs_restart": []}}));
}

#[test]
fn a_file_of_keys_is_read_again() {
    let pem = || KeyPair::generate().expect("a key").public_key_pem();
    let scene = Scene::new("");
    let file = scene.files.write("key.pem", &pem());
    scene.write(&format!("[tokens]\npublic_keys = [\"{}\"]\nanonymous = \"allow\"\n", file.display()));
    let changed = |answer: Value| answer["result"]["changed"].clone();
    assert_eq!(changed(scene.reload()), json!(["tokens.public_keys", "tokens.anonymous"]));
    scene.files.write("key.pem", &pem());
    assert_eq!(changed(scene.reload()), json!(["tokens.public_keys"]), "the file has another key");
    assert_eq!(changed(scene.reload()), json!([]));
    assert_eq!(scene.engine.metric("fanfare_reloads_total", &[("outcome", "done")]), 3.0);
}

/// What is wrong is told as a start would tell it, and everything stays.
#[test]
fn a_configuration_that_cannot_be_used_changes_nothing() {
    let scene = Scene::new("[namespaces.chat]\n[control]\napi_key = \"secret-of-operators\"\n");
    let (engine, key) = (&scene.engine, "X-API-Key: secret-of-operators");
    let ask = |method: &str, body: Value| {
        let answer = http::post(engine.control_address(), &format!("/api/{method}"), &[key], &body);
        answer.expect("an answer").json()
    };
    for (number, wrong) in (1_u32..).zip([
        "[limits]\ntopics = 0\njson_depth = 0\n[namespaces.news]\n",
        "[limits]\ntopcs = 5\nclients = \"many\"\n[namespaces.news]\n",
        "[control]\napi_key = \"another-secret",
        "[tokens]\nhmac_keys = [\"a secret\"]\n[jwks]\nfile = \"/nowhere/keys.json\"\n[namespaces.news]\n",
    ]) {
        let file = scene.write(wrong);
        let mut start = serve();
        start.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--config"]).arg(file);
        let (status, _, errors) = run_to_end(start, SOON);
        assert!(!status.success());
        let error = ask("reload", json!({}))["error"].take();
        assert_eq!(error["code"], 107, "{error}");
        let message = error["message"].as_str().expect("a text");
        let lines = errors
            .lines()
            .map(str::trim)
            .filter(|line| line.contains("fanfare.toml") || line.contains("jwks"));
        let lines: Vec<_> = lines.collect();
        assert!(!lines.is_empty() && lines.iter().all(|line| message.contains(line)), "{errors}\n{message}");
        assert!(!message.contains("another-secret"), "{message}");
        let publish = ask("publish", json!({"channel": "news:a", "data": 1}));
        assert_eq!(publish["error"]["code"], 102, "the namespace is not added");
        engine.signal("HUP");
        let failed =
            || engine.stderr().so_far().iter().filter(|line| line.contains("is not reloaded")).count();
        wait_until(SOON, "the log's line", || failed() == 2 * number as usize);
    }
    let lines = engine.stderr().so_far().join("\n");
    assert!(!lines.contains("secret-of-operators") && !lines.contains("another-secret"), "{lines}");
    assert_eq!(engine.metric("fanfare_reloads_total", &[("outcome", "failed")]), 8.0);
}
