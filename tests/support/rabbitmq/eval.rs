//! Evaluates Erlang in a node without an Erlang of its own: `rabbitmqctl eval` starts one each time, for a second or
//! more of CPU.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What runs in the node.
const SERVER: &str = include_str!("eval.erl");

/// For a node that several tests use at once.
const LIMIT: Duration = Duration::from_secs(60);

/// The file that the node is to evaluate when it starts: its name and its text.
pub const FILE: (&str, &str) = ("eval.erl", SERVER);

/// Arguments of the node's Erlang, which listens on `port` then.
pub fn arguments(path: &std::path::Path, port: u16) -> String {
    // RabbitMQ's script splits them at spaces.
    format!("-test_eval_port {port} -eval file:eval({:?})", path.display().to_string())
}

/// Has the node that listens on `port` evaluate `expressions`, which end with a full stop.
///
/// # Panics
/// If they fail, or the node does not answer.
#[track_caller]
pub fn eval(port: u16, expressions: &str) {
    let answer = ask(port, expressions).unwrap_or_else(|error| panic!("the node evaluates nothing: {error}"));
    assert_eq!(answer, "ok", "of {expressions}");
}

fn ask(port: u16, expressions: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let length = u32::try_from(expressions.len()).expect("short");
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(expressions.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(answer.get(4..).unwrap_or_default()).into_owned())
}
