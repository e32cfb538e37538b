//! `fanfare publish`: publishes one message, through a running engine's control port or directly to RabbitMQ.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use clap::Args;
use fanfare::base::not_json::NotJson;
use fanfare::base::printable::escaped;
use fanfare::config::{AmqpUrls, Config, Secret};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpStream;

use super::{ConfigurationFile, parse_address, print, reachable};

/// The answer to a publish has some 100 bytes; a longer one is not from the engine.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// The argument that stands for standard input.
const STANDARD_INPUT: &str = "-";
/// More than RabbitMQ accepts in one message.
const INPUT_BYTES_MAX: u64 = 512 << 20;
/// Time added to the engine's own limit for a publish, for the way there and back.
const ANSWER_GRACE: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(super) struct Options {
    /// The topic.
    topic: String,
    /// The data: one JSON value, in quotes for the shell, such as '{"hello":"world"}' or '"text"'; or - for what comes
    /// on standard input, to its end.
    #[arg(allow_negative_numbers = true)]
    json: String,
    /// The item that this message updates, such as an instrument. With `slow = "skip"`, a slow client receives the
    /// newest message of each key.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    file: ConfigurationFile,
    /// Publish straight to RabbitMQ; no engine needs to run. Several nodes, separated by commas, are tried in
    /// turn.
    #[arg(long, value_name = "URL", conflicts_with_all = ["control", "api_key"])]
    amqp: Option<AmqpUrls>,
    /// Control port of the engine to publish through.
    #[arg(long, value_name = "ADDR", value_parser = parse_address)]
    control: Option<SocketAddr>,
    /// What that engine's `control.api_key` is. Others on this machine can see flags:
    /// FANFARE_CONTROL_API_KEY hides it.
    #[arg(long, value_name = "KEY")]
    api_key: Option<Secret>,
}

/// The body of `POST /api/publish`.
#[derive(Serialize)]
struct Publication<'a> {
    channel: &'a str,
    data: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

/// The API's answer: a result, or an error.
#[derive(Deserialize)]
struct ApiAnswer {
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct ApiError {
    code: u32,
    message: String,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let config = options.file.load()?.config;
    let data: &RawValue = &data(&options.json)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &options.amqp {
        Some(urls) => through_rabbitmq(urls, options, &config, data)?,
        None => runtime.block_on(through_engine(options, &config, data))?,
    }
    print(&format!("published to {}\n", escaped(&options.topic)))?;
    Ok(ExitCode::SUCCESS)
}

/// The data as written on the command line.
fn data(argument: &str) -> anyhow::Result<Box<RawValue>> {
    if argument != STANDARD_INPUT {
        return parsed(argument, &format!("`{argument}`"));
    }
    let mut text = String::new();
    let read = io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_string(&mut text);
    read.context("standard input cannot be read as text")?;
    ensure!(text.len() as u64 <= INPUT_BYTES_MAX, "standard input is longer than {INPUT_BYTES_MAX} bytes");
    ensure!(!text.trim().is_empty(), "standard input is empty: expected one JSON value");
    parsed(&text, "what comes on standard input")
}

/// The JSON value in `text`. `whose` names the text in an error.
fn parsed(text: &str, whose: &str) -> anyhow::Result<Box<RawValue>> {
    serde_json::from_str(text).map_err(|error| {
        anyhow!("{whose} is not one JSON value: {} (a text is written '\"text\"')", NotJson::from(&error))
    })
}

async fn through_engine(options: &Options, config: &Config, data: &RawValue) -> anyhow::Result<()> {
    let address = reachable(options.control.unwrap_or(config.control.listen));
    let api_key = options.api_key.as_ref().unwrap_or(&config.control.api_key);
    let publication = Publication { channel: &options.topic, data, key: options.key.as_deref() };
    let body = serde_json::to_vec(&publication)?;
    let limit = config.timeouts.publish.0 + ANSWER_GRACE;
    let (status, answer) = tokio::time::timeout(limit, post(address, api_key, body))
        .await
        .with_context(|| format!("{address} did not answer within {} s", limit.as_secs()))??;
    accepted(address, status, &answer, !api_key.is_empty())
}

/// Sends the request and returns status and body of the answer.
async fn post(address: SocketAddr, api_key: &str, body: Vec<u8>) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "nothing listens on {address}: start `fanfare serve`, name its control port with --control, or \
             publish straight to RabbitMQ with --amqp"
        ),
        _ => anyhow::anyhow!("{address} cannot be reached: {error}"),
    })?;
    let stranger = || format!("{address} does not speak HTTP as Fanfare's control port does");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(stranger)?;
    let mut request = Request::post("/api/publish")
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json");
    if !api_key.is_empty() {
        request = request.header("X-API-Key", api_key);
    }
    let request = request.body(Full::new(Bytes::from(body))).context("the API key fits no HTTP header")?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok::<_, hyper::Error>((status, Limited::new(response.into_body(), ANSWER_BYTES_MAX)))
    };
    // The connection does the reading and writing; its own errors come out of the answer as well.
    let connection = tokio::spawn(connection);
    let (status, body) = answer.await.with_context(stranger)?;
    let body = body.collect().await.map_err(anyhow::Error::from_boxed).with_context(stranger)?.to_bytes();
    connection.abort();
    Ok((status, body))
}

/// Checks whether the answer reports success. The error says why not.
fn accepted(address: SocketAddr, status: StatusCode, body: &[u8], has_key: bool) -> anyhow::Result<()> {
    if status == StatusCode::UNAUTHORIZED && has_key {
        bail!("{address} refuses this API key: it is not what `control.api_key` is there");
    }
    if status == StatusCode::UNAUTHORIZED {
        bail!("{address} wants its API key: --api-key KEY, or FANFARE_CONTROL_API_KEY in the environment");
    }
    match serde_json::from_slice(body) {
        Ok(ApiAnswer { error: Some(ApiError { code, message }) }) => {
            bail!("{address} refused it: {} (error {code})", escaped(&message))
        }
        Ok(ApiAnswer { error: None }) if status.is_success() => Ok(()),
        _ => {
            let text = String::from_utf8_lossy(body);
            bail!("{address} refused it: {status} {}", escaped(text.trim()))
        }
    }
}

fn through_rabbitmq(
    urls: &AmqpUrls,
    options: &Options,
    config: &Config,
    data: &RawValue,
) -> anyhow::Result<()> {
    if let Err(problem) = urls.check() {
        bail!("--amqp {problem}");
    }
    fanfare::broker::publish_once(
        urls,
        &config.amqp.exchange,
        &options.topic,
        options.key.as_deref(),
        data.get().as_bytes(),
        config.timeouts.publish.0,
    )
    .with_context(|| format!("{} did not take it", urls.public()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_result_with_success_counts_as_published() {
        let address = SocketAddr::from(([127, 0, 0, 1], 9000));
        for (status, body, problem) in [
            (200, r#"{"result":{}}"#, None),
            (200, r#"{"error":{"code":107,"message":"bad request"}}"#, Some("bad request (error 107)")),
            (400, r#"{"error":{"code":107,"message":"bad request"}}"#, Some("bad request (error 107)")),
            (500, r#"{"result":{}}"#, Some("500")),
            (200, "<html>", Some("200 OK <html>")),
            (403, "foreign\x1b[2J", Some(r"403 Forbidden foreign\u{1b}[2J")),
            (401, "", Some("--api-key")),
        ] {
            let outcome = accepted(address, StatusCode::from_u16(status).unwrap(), body.as_bytes(), false);
            let text = outcome.err().map(|error| error.to_string());
            match (&text, problem) {
                (None, None) => {}
                (Some(text), Some(problem)) => assert!(text.contains(problem), "{body}: {text}"),
                _ => panic!("{body}: {text:?}"),
            }
        }
    }
}
