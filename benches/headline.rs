//! The headline: 100,000 clients of one topic on one CPU, ten publications a second, merged for a second.
//!
//! Each client gets every publication, in at most one frame a second: that is checked. Printed is how old the
//! lines were when they came, from the time at which they were due. The last client of a lane cannot have its
//! frame before those of all others in it were sent, so a part of it is a pass over an eighth of the clients; with
//! the first frame, for which all lanes wait the whole second, it is a pass over all of them.
//!
//! A process may have 20,000 descriptors here, so there are as many shards, all on one CPU, and the clients
//! are in processes of their own on the other. `--short` does a little of it.

mod common;

use std::io::Result;
use std::time::Duration;

use common::crowd::{Crowd, Reads};
use common::latency::{Clock, milliseconds};
use common::measure::{CpuTime, Watched};
use common::publisher::{Pace, ended, numbered_data, publish_evenly};
use common::report::{Report, Target, places};
use common::support::engine::Engine;
use common::{Arguments, CLIENTS_PER_SHARD, LINE_BYTES, SERVER_CPU, on_client_cpu};

const TOPIC: &str = "headline:all";
const CONFIGURATION: &str = r#"
[server]
private_fd_tables = true
[limits]
clients = 120_000
[timeouts]
ping = "1h"
[namespaces.headline]
max_delay = "1s"
"#;
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let Some(result) = arguments.help() {
        return result;
    }
    let (clients, length) = if arguments.short() { (2000_usize, 5) } else { (100_000, 60) };
    let shards = clients.div_ceil(CLIENTS_PER_SHARD).to_string();
    let engine =
        Engine::with_config_and(CONFIGURATION, &["--shards", &shards, "--cpus", &SERVER_CPU.to_string()]);
    let about = format!(
        "{clients} clients, {shards} shards on one CPU, {length} s of a publication each {} ms, merged for 1 s",
        PUBLISH_EVERY.as_millis()
    );
    let mut report = Report::new("headline", &about, places(&format!("{shards} shards")));
    on_client_cpu(|| headline(&engine, clients, Duration::from_secs(length), &mut report))?;
    report.finish()
}

fn headline(engine: &Engine, clients: usize, length: Duration, report: &mut Report) -> Result<()> {
    let mut crowd = Crowd::connect(engine.client_address(), clients, TOPIC, Reads::Lines)?;
    let process = Watched::new(engine.pid(), None)?;
    let pace = Pace::every(Clock::start(), PUBLISH_EVERY, length);
    crowd.measure(pace.first, pace.count)?;
    let before = process.process()?;
    let publisher = publish_evenly(engine.control_address(), pace, |_, due| {
        (TOPIC.to_owned(), numbered_data(TOPIC, due, LINE_BYTES))
    })?;
    let ages = crowd.ages()?;
    ended(publisher)?;
    let used: CpuTime = process.process()?.since(before);
    let frames_wanted = length.as_secs() as f64 + 1.0;
    report.row("publications to each client", pace.count as f64, "none missing", Target::None);
    report.row("frames, least", ages.frames_least as f64, "per client", Target::None);
    report.row("frames, most", ages.frames_most as f64, "per client", Target::AtMost(frames_wanted));
    report.row("age, p50", milliseconds(&ages.histogram, 0.5), "ms", Target::None);
    report.row("age, p99", milliseconds(&ages.histogram, 0.99), "ms", Target::AtMost(1200.0));
    report.row("age, longest", milliseconds(&ages.histogram, 1.0), "ms", Target::None);
    report.row("CPU of all threads of the engine", used.percent_of(length), "% of one CPU", Target::None);
    Ok(())
}
