//! What others notice of a storm of clients that a backend lets in: each of 15,000 that connect again at once is asked about
//! by HTTP, and each answer takes 300 ms. All of them must get in.

use std::io::Result;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::time::sleep;

use super::reconnecting::Reconnecting;
use crate::common::broadcasts::{Broadcasts, Spaced};
use crate::common::measure::Summary;
use crate::common::report::{Report, Target};
use crate::common::support::process::TempDir;
use crate::common::support::wait::wait_until;
use crate::common::{LIMIT, LINE_BYTES, on_client_cpu, start_engine};

const TOPIC: &str = "storm:others";
const CLIENTS: usize = 500;
const EACH: Duration = Duration::from_millis(20);
/// As long as a storm: 15,000 answers of 300 ms, of which 1,024 are awaited at the same time.
const LENGTH: Duration = Duration::from_secs(6);
/// How long the backend takes.
const THINKS: Duration = Duration::from_millis(300);

/// The rows of this part. `storming` clients reconnect.
pub(crate) fn measure(storming: usize, rounds: usize, report: &mut Report) -> Result<()> {
    let backend = start_backend()?;
    let engine = start_engine(&format!(
        "[timeouts]\nping = \"1h\"\n[namespaces.storm]\n[hooks]\nconnect = \"slow\"\n[backends.slow]\nurl = \
         \"http://{backend}/\"\ntimeout = \"5s\"\nqueue_timeout = \"1m\"\n"
    ));
    let files = TempDir::new("hooked");
    let nobody = files.write("tokens", &"none\n".repeat(storming));
    let rounds = on_client_cpu(|| {
        let mut others = Broadcasts::connect(&engine, CLIENTS, TOPIC, LINE_BYTES)?;
        let mut reconnecting = Reconnecting::start(engine.client_address(), &nobody)?;
        reconnecting.begin(false)?;
        reconnecting.end()?;
        others.round(EACH, LENGTH)?;
        let open = || engine.metric("fanfare_clients", &[("state", "open")]);
        let round = |_| {
            let quiet = others.round(EACH, LENGTH)?;
            reconnecting.cut()?;
            wait_until(LIMIT, "the connections that were cut to be gone", || open() <= CLIENTS as f64);
            reconnecting.begin(false)?;
            let seen = others.round(EACH, LENGTH)?;
            Ok((quiet, seen, reconnecting.end()?))
        };
        (0..rounds).map(round).collect::<Result<Vec<_>>>()
    })?;
    show(&rounds, storming, report);
    Ok(())
}

fn show(rounds: &[(Spaced, Spaced, f64)], storming: usize, report: &mut Report) {
    let about =
        format!("{CLIENTS} receive, while a backend that takes 300 ms is asked about {storming} clients");
    report.part("hooked", &about);
    let over_none = Summary::of(rounds.iter().map(|(quiet, seen, _)| seen.p99 / quiet.p99));
    report.row("p99 beside the storm / without", over_none, "", Target::AtMost(1.5));
    report.row(
        "p99 without a storm",
        Summary::of(rounds.iter().map(|round| round.0.p99)),
        "ms",
        Target::None,
    );
    report.row("p50 beside it", Summary::of(rounds.iter().map(|round| round.1.p50)), "ms", Target::None);
    report.row("p99 beside it", Summary::of(rounds.iter().map(|round| round.1.p99)), "ms", Target::None);
    report.row(
        "longest beside it",
        Summary::of(rounds.iter().map(|round| round.1.longest)),
        "ms",
        Target::None,
    );
    let back = Summary::of(rounds.iter().map(|round| round.2));
    report.row("all have come", back, "ms after the first", Target::None);
}

/// Answers every call after a while, on a thread of its own that ends with the process.
fn start_backend() -> Result<SocketAddr> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        });
    });
    Ok(address)
}

/// A call is small enough to come at once.
async fn answer(mut stream: TcpStream) -> Result<()> {
    const BODY: &str = r#"{"result":{"user":"somebody"}}"#;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
    let mut call = [0; 2048];
    while stream.read(&mut call).await? > 0 {
        sleep(THINKS).await;
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
