//! Fan-out: what the engine's shard spends per frame, over the floor that nothing beats.
//!
//! ```text
//! CPU 0   engine, thread `shard-0`   or   the floor of `floor.rs`, never both at once
//! CPU 1   this process: clients and publisher; the engine's other threads
//! ```
//!
//! Engine and floor send the same bytes to the same client program through sockets with the same
//! options, in turns within one run: the machine's noise meets both. *Single* is one publication at a
//! time to 5,000 clients; *merged* is 100 lines in each frame to 2,000 clients. `--short` does a tenth.

mod floor;
mod measure;
#[path = "../tests/support/swarm/mod.rs"]
mod swarm;

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use measure::{CpuTime, Summary, Watched};
use serde_json::{Value, json};
use swarm::{ClientIndex, Line, Observer, Swarm};

/// Where the shard and the floor run, and where everything else does.
const SERVER_CPU: usize = 0;
const CLIENT_CPU: usize = 1;
/// Encoded bytes of each line, its line break included.
const LINE_BYTES: usize = 100;
/// Rounds that are counted; one more goes before them to warm up.
const ROUNDS: usize = 7;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// One way of loading a server.
struct Load {
    name: &'static str,
    topic: &'static str,
    clients: usize,
    lines_per_frame: usize,
    fan_outs_per_round: usize,
}

const LOADS: [Load; 2] = [
    Load { name: "single", topic: "single:bench", clients: 5000, lines_per_frame: 1, fan_outs_per_round: 40 },
    Load { name: "merged", topic: "merged:bench", clients: 2000, lines_per_frame: 100, fan_outs_per_round: 50 },
];

/// `merged` waits for a hundred lines and not for the clock.
const CONFIGURATION: &str = r#"
[timeouts]
ping = "1h"

[namespaces.merged]
max_delay = "30s"
max_messages = 100
"#;
