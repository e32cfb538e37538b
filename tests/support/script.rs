//! Scripts in `tests/sdk/` that drive SDKs: JSON lines in, JSON lines out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::process::Lines;
use super::wait::{SOON, wait_for, wait_until};

/// Directory of the scripts and of npm's packages.
pub fn sdk_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// `python` with the packages of `tests/sdk/requirements.txt`.
///
/// # Panics
/// If it is not installed.
pub fn python() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.cache/venv/bin/python");
    assert!(path.exists(), "{} is missing: run `tests/run --install`", path.display());
    path
}

/// A running script. It ends with the value; when the test fails, what it said is shown.
#[derive(Debug)]
pub struct Script {
    name: String,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines,
    stderr: Lines,
    seen: usize,
}

impl Script {
    /// `node tests/sdk/NAME ARGUMENTS`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn node(name: &str, arguments: &[&str]) -> Self {
        let modules = sdk_directory().join("node_modules");
        assert!(modules.exists(), "{} is missing: run `tests/run --install`", modules.display());
        Self::spawn("node".into(), name, arguments)
    }

    /// `python tests/sdk/NAME ARGUMENTS`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn python(name: &str, arguments: &[&str]) -> Self {
        Self::spawn(python(), name, arguments)
    }

    fn spawn(program: PathBuf, name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .arg(sdk_directory().join(name))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            name: name.to_owned(),
            stdin: child.stdin.take().expect("piped"),
            stdout: Lines::collect(child.stdout.take().expect("piped")),
            stderr: Lines::collect(child.stderr.take().expect("piped")),
            child,
            seen: 0,
        }
    }

    /// Sends one command.
    ///
    /// # Panics
    /// If the script has ended.
    #[track_caller]
    pub fn tell(&mut self, command: &Value) {
        writeln!(self.stdin, "{command}").unwrap_or_else(|error| panic!("{}: {command}: {error}", self.name));
    }

    /// Everything it said up to now.
    ///
    /// # Panics
    /// If a line is not JSON.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let lines = self.stdout.so_far();
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// Waits for the next event that `matches`, and passes over those before it. What was returned or
    /// passed over is not looked at again.
    ///
    /// # Panics
    /// If it does not come, naming `what`.
    #[track_caller]
    pub fn next(&mut self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        self.next_within(SOON, what, matches)
    }

    /// The same with another limit.
    ///
    /// # Panics
    /// If it does not come, naming `what`.
    #[track_caller]
    pub fn next_within(&mut self, limit: Duration, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let (seen, event) = wait_for(limit, what, || {
            let ended = self.child.try_wait().ok().flatten();
            let events = self.events();
            let found = events.get(self.seen..)?.iter().position(&matches);
            assert!(found.is_some() || ended.is_none(), "{} ended instead of: {what}", self.name);
            let at = self.seen + found?;
            Some((at + 1, events[at].clone()))
        });
        self.seen = seen;
        event
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Both fail only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let (said, complained) = (self.stdout.so_far(), self.stderr.so_far());
            let tail = said.len().saturating_sub(20);
            eprintln!("--- {} said ({} lines) ---", self.name, said.len());
            said[tail..].iter().for_each(|line| eprintln!("{}", line.chars().take(200).collect::<String>()));
            complained.iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// An SDK for which there is a script.
#[derive(Clone, Copy, Debug)]
pub enum Sdk {
    /// npm `centrifuge`.
    Node,
    /// PyPI `centrifuge-python`, with JSON.
    Python,
}

impl Sdk {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Node, Self::Python];
}

/// A client made of an SDK.
#[derive(Debug)]
pub struct Subscriber(pub Script);

impl Subscriber {
    /// npm `centrifuge` in Node, connected.
    #[track_caller]
    pub fn node(url: &str) -> Self {
        Self(Script::node("subscriber.mjs", &[url])).connected()
    }

    /// PyPI `centrifuge-python` with JSON, connected.
    #[track_caller]
    pub fn python(url: &str) -> Self {
        Self(Script::python("subscriber.py", &[url])).connected()
    }

    /// Either of them, with tokens as the scripts take them: `{"token": ..., "getToken": true}`. It may not be connected
    /// yet.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn with_tokens(sdk: Sdk, url: &str, tokens: &Value) -> Self {
        let arguments = [url, &tokens.to_string()];
        Self(match sdk {
            Sdk::Node => Script::node("subscriber.mjs", &arguments),
            Sdk::Python => Script::python("subscriber.py", &arguments),
        })
    }

    /// Waits until the SDK wants a token, of a channel if one is given, and gives it this one.
    ///
    /// # Panics
    /// If it wants none.
    #[track_caller]
    pub fn give_token(&mut self, channel: Option<&str>, token: &str) {
        self.wait_to_want_token(channel);
        self.send_token(channel, token);
    }

    /// Waits until the SDK wants a token, of a channel if one is given.
    ///
    /// # Panics
    /// If it wants none.
    #[track_caller]
    pub fn wait_to_want_token(&mut self, channel: Option<&str>) {
        let what = format!("{} to want a token for {channel:?}", self.0.name);
        self.0.next(&what, |event| event["event"] == "token_wanted" && event["channel"].as_str() == channel);
    }

    /// Gives the SDK the token that it wanted.
    ///
    /// # Panics
    /// If the script has ended.
    #[track_caller]
    pub fn send_token(&mut self, channel: Option<&str>, token: &str) {
        let mut command = json!({ "do": "token", "token": token });
        if let Some(channel) = channel {
            command["channel"] = channel.into();
        }
        self.0.tell(&command);
    }

    #[track_caller]
    fn connected(mut self) -> Self {
        self.event("connected", None);
        self
    }

    /// Waits for the next event of this kind, of this channel if one is given.
    ///
    /// # Panics
    /// If it does not come.
    #[track_caller]
    pub fn event(&mut self, kind: &str, channel: Option<&str>) -> Value {
        let what = format!("event `{kind}` of {channel:?} from {}", self.0.name);
        self.0.next(&what, |event| {
            event["event"] == kind && channel.is_none_or(|name| event["channel"] == name)
        })
    }

    /// Subscribes and waits until it is.
    ///
    /// # Panics
    /// If it is not in time.
    #[track_caller]
    pub fn subscribe(&mut self, channel: &str) {
        self.0.tell(&json!({ "do": "subscribe", "channel": channel }));
        self.event("subscribed", Some(channel));
    }

    /// Unsubscribes and waits until the SDK says so.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn unsubscribe(&mut self, channel: &str) {
        self.0.tell(&json!({ "do": "unsubscribe", "channel": channel }));
        self.event("unsubscribed", Some(channel));
    }

    /// Sends a command that is answered, such as `publish`: nothing, or the error's code.
    ///
    /// # Panics
    /// If there is no answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, channel: &str, data: &Value) -> Result<(), u64> {
        self.0.tell(&json!({ "do": method, "channel": channel, "data": data }));
        let what = format!("the answer to {method}");
        let answer = self.0.next(&what, |event| event["event"] == "replied" || event["event"] == "refused");
        answer["code"].as_u64().map_or(Ok(()), Err)
    }

    /// The data of all publications of a channel up to now.
    #[track_caller]
    pub fn publications(&self, channel: &str) -> Vec<Value> {
        let events = self.0.events();
        let ours =
            events.iter().filter(|event| event["event"] == "publication" && event["channel"] == channel);
        ours.map(|event| event["data"].clone()).collect()
    }

    /// Waits until the channel's publications are exactly these.
    ///
    /// # Panics
    /// If others come, or not all in time.
    #[track_caller]
    pub fn expect(&self, channel: &str, expected: &[Value]) {
        wait_until(SOON, &format!("{} publications of {channel}", expected.len()), || {
            let got = self.publications(channel);
            let wrong = (0..got.len()).find(|&n| got.get(n) != expected.get(n));
            if let Some(n) = wrong {
                panic!("publication {n} of {channel} is {}, not {:?}", got[n], expected.get(n));
            }
            got.len() == expected.len()
        });
    }
}

/// An AMQP client made of npm `amqplib`: what a publishing service is.
#[derive(Debug)]
pub struct Amqp(Script);

impl Amqp {
    /// Connects to `url`.
    ///
    /// # Panics
    /// If it cannot.
    #[track_caller]
    pub fn connect(url: &str) -> Self {
        let mut script = Script::node("amqp.mjs", &[url]);
        script.next("the AMQP connection", |event| event["event"] == "connected");
        Self(script)
    }

    /// Publishes a body to the exchange `fanfare` and waits for the confirm.
    ///
    /// # Panics
    /// If RabbitMQ does not confirm.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, body: &[u8]) {
        self.publish_with(topic, body, &json!({}));
    }

    /// The same with properties, in amqplib's words: `headers`, `contentType`, `CC`, ...
    ///
    /// # Panics
    /// If RabbitMQ does not confirm.
    #[track_caller]
    pub fn publish_with(&mut self, topic: &str, body: &[u8], options: &Value) {
        self.publish_to("fanfare", topic, body, options);
    }

    /// The same to another exchange.
    ///
    /// # Panics
    /// If RabbitMQ does not confirm.
    #[track_caller]
    pub fn publish_to(&mut self, exchange: &str, topic: &str, body: &[u8], options: &Value) {
        let body = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, body);
        let (exchange, key) = (json!(exchange), json!(topic));
        self.ask(
            &json!({ "do": "publish", "exchange": exchange, "key": key, "base64": body, "options": options }),
        );
    }

    /// Publishes many texts to one topic, then waits for the confirms.
    ///
    /// # Panics
    /// If RabbitMQ does not confirm.
    #[track_caller]
    pub fn publish_many(&mut self, topic: &str, bodies: &[String]) {
        self.ask(&json!({ "do": "publish_many", "exchange": "fanfare", "key": topic, "bodies": bodies }));
    }

    /// Declares an exchange.
    ///
    /// # Panics
    /// If RabbitMQ refuses.
    #[track_caller]
    pub fn declare_exchange(&mut self, exchange: &str, kind: &str, durable: bool) {
        self.ask(&json!({ "do": "exchange", "exchange": exchange, "type": kind, "durable": durable }));
    }

    /// Deletes an exchange, whoever uses it.
    ///
    /// # Panics
    /// If RabbitMQ refuses.
    #[track_caller]
    pub fn delete_exchange(&mut self, exchange: &str) {
        self.ask(&json!({ "do": "delete_exchange", "exchange": exchange }));
    }

    /// Declares a durable queue and binds it.
    ///
    /// # Panics
    /// If RabbitMQ refuses.
    #[track_caller]
    pub fn declare_queue(&mut self, queue: &str, exchange: &str, key: &str) {
        self.ask(&json!({ "do": "queue", "queue": queue, "exchange": exchange, "key": key }));
    }

    /// Waits for a message in a queue and takes it: body and headers.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn take(&mut self, queue: &str) -> (Vec<u8>, Value) {
        let what = format!("a message in {queue}");
        let message = wait_for(SOON, &what, || {
            let answer = self.ask(&json!({ "do": "get", "queue": queue }));
            (!answer.is_null()).then_some(answer)
        });
        let body = message["base64"].as_str().expect("the script sends base64");
        let body = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, body).expect("base64");
        (body, message["headers"].clone())
    }

    #[track_caller]
    fn ask(&mut self, command: &Value) -> Value {
        self.0.tell(command);
        self.0.next("an answer of the AMQP script", |event| event["event"] == "done")["result"].clone()
    }
}
