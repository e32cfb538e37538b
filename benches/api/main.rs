//! Server API: publications per second through `/api/publish`, and what each costs the control thread and the
//! broker thread. HTTP/1.1 on one kept connection, one request after the other and pipelined; HTTP/2 without
//! TLS (h2c), as many streams at the same time as the engine allows, and more requests that wait for one.
//!
//! One client is subscribed, so that each publication goes all the way. Clients and publishers are on the
//! shard's CPU, which has little to do, so that control and broker thread have one for themselves.
//!
//! Then the same with a private topic for each client, and everything of the server on one CPU, beside a floor:
//! [`private`]. `--short` publishes a tenth.

#[path = "../common/mod.rs"]
mod common;

mod bare;
mod private;

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::measure::{CpuTime, Summary, Watched};
use common::publisher::{Publisher, plain_data};
use common::report::{Report, Target};
use common::support::engine::Engine;
use common::support::swarm::Swarm;
use common::{
    Arguments, CLIENT_CPU, LIMIT, LINE_BYTES, Nobody, SERVER_CPU, counting_clients, pin, start_engine,
};
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::runtime::{Builder, Runtime};

const ROUNDS: usize = 5;
const TOPIC: &str = "api:bench";
/// Requests on the way at the same time. The engine has 16 at a time of them on one HTTP/2 connection.
const AT_ONCE: usize = 64;

/// Publishes, and what it costs.
struct Rig {
    swarm: Swarm,
    control: Watched,
    broker: Watched,
}

/// What one round cost.
struct Cost {
    publications: f64,
    wall: Duration,
    control: CpuTime,
    broker: CpuTime,
}

impl Cost {
    fn per_second(&self) -> f64 {
        self.publications / self.wall.as_secs_f64()
    }

    fn microseconds(&self, of: CpuTime) -> f64 {
        of.microseconds_each(self.publications)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help().or_else(|| bare::run_if_asked(&arguments)) {
        return result;
    }
    let (batches, rounds) = (if arguments.short() { 30 } else { 300 }, arguments.rounds(ROUNDS));
    let engine = start_engine("[timeouts]\nping = \"1h\"\n[namespaces.api]\n");
    let about = format!("{} publications a round, {rounds} rounds", batches * AT_ONCE);
    let places = format!(
        "shard, publishers and client on CPU {SERVER_CPU}; the engine's other threads on CPU {CLIENT_CPU}"
    );
    let mut report = Report::new("api", &about, places);
    pin(SERVER_CPU);
    let mut rig = Rig {
        swarm: counting_clients(engine.client_address(), 1, &[TOPIC.to_owned()])?,
        control: Watched::new(engine.pid(), Some("control"))?,
        broker: Watched::new(engine.pid(), Some("broker"))?,
    };
    let mut one = http1(&engine, 1)?;
    let mut pipelined = http1(&engine, AT_ONCE)?;
    let mut h2c = H2c::connect(engine.control_address())?;
    let (mut in_turn, mut in_pipe, mut in_streams) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        in_turn.push(rig.round(batches, 1, &mut one)?);
        in_pipe.push(rig.round(batches, AT_ONCE, &mut pipelined)?);
        in_streams.push(rig.round(batches, AT_ONCE, &mut || h2c.publish())?);
    }
    show("in turn", "HTTP/1.1, one request after the other", &in_turn, &mut report);
    show("pipelined", "HTTP/1.1, 64 requests at a time", &in_pipe, &mut report);
    show("h2c", "HTTP/2, 64 requests at a time", &in_streams, &mut report);
    drop((rig, one, pipelined, engine));
    private::measure(&arguments, &mut report)?;
    report.finish()
}

impl Rig {
    /// So many batches, each of which `publish` sends and sees answered, until the client has all of it.
    fn round(
        &mut self,
        batches: usize,
        batch: usize,
        publish: &mut impl FnMut() -> Result<()>,
    ) -> Result<Cost> {
        let publications = (batches * batch) as u64;
        // Lines in a frame have a line break between them.
        let came = |swarm: &Swarm| swarm.counted().bytes + swarm.counted().frames;
        let wanted = came(&self.swarm) + publications * LINE_BYTES as u64;
        let (control, broker, begin) = (self.control.thread()?, self.broker.thread()?, Instant::now());
        for _ in 0..batches {
            publish()?;
            self.swarm.turn(Duration::ZERO, &mut Nobody)?;
        }
        let all = |swarm: &Swarm, _: &mut Nobody| came(swarm) >= wanted;
        self.swarm.turn_until("the client gets everything", LIMIT, &mut Nobody, all)?;
        Ok(Cost {
            publications: publications as f64,
            wall: begin.elapsed(),
            control: self.control.thread()?.since(control),
            broker: self.broker.thread()?.since(broker),
        })
    }
}

/// Publishes so many at a time over one HTTP/1.1 connection.
fn http1(engine: &Engine, at_once: usize) -> Result<impl FnMut() -> Result<()> + use<>> {
    let mut publisher = Publisher::connect(engine.control_address())?;
    let requests = publisher.request(TOPIC, &plain_data(TOPIC, LINE_BYTES)).repeat(at_once);
    Ok(move || publisher.publish(&requests, at_once))
}

/// One HTTP/2 connection.
struct H2c {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    uri: String,
    body: Bytes,
}

impl H2c {
    fn connect(address: SocketAddr) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let sender = runtime.block_on(async {
            let health = Request::get(format!("http://{address}/health")).body(Full::default());
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let connection = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let (mut sender, connection) = connection.map_err(Error::other)?;
            tokio::spawn(connection);
            // From its answer on it is known how many requests may be sent at once.
            sender.send_request(health.map_err(Error::other)?).await.map_err(Error::other)?;
            Ok::<_, Error>(sender)
        })?;
        let data = plain_data(TOPIC, LINE_BYTES);
        let body = format!(r#"{{"channel":"{TOPIC}","data":{data}}}"#).into();
        Ok(Self { runtime, sender, uri: format!("http://{address}/api/publish"), body })
    }

    /// Publishes [`AT_ONCE`] at the same time, and waits for all answers.
    fn publish(&mut self) -> Result<()> {
        let Self { runtime, sender, uri, body } = self;
        let publish = |_| {
            let request = Request::post(uri.as_str()).body(Full::new(body.clone()));
            let mut sender = sender.clone();
            async move {
                let answer = sender.send_request(request.map_err(Error::other)?).await;
                let (head, body) = answer.map_err(Error::other)?.into_parts();
                let body = body.collect().await.map_err(Error::other)?.to_bytes();
                let is_success = head.status == StatusCode::OK && body.starts_with(b"{\"result\"");
                if is_success { Ok(()) } else { Err(Error::other(format!("{head:?} {body:?}"))) }
            }
        };
        runtime.block_on(async {
            let mut answers = futures_util::stream::iter(0..AT_ONCE).map(publish).buffer_unordered(AT_ONCE);
            while let Some(answer) = answers.next().await {
                answer?;
            }
            Ok(())
        })
    }
}

fn show(part: &'static str, about: &str, costs: &[Cost], report: &mut Report) {
    report.part(part, about);
    let summary = |of: &dyn Fn(&Cost) -> f64| Summary::of(costs.iter().map(of));
    report.row("publications", summary(&Cost::per_second), "per second", Target::None);
    let control = summary(&|cost| cost.microseconds(cost.control));
    report.row("CPU of control thread", control, "us per publication", Target::None);
    let broker = summary(&|cost| cost.microseconds(cost.broker));
    report.row("CPU of broker thread", broker, "us per publication", Target::None);
}
