//! How much memory the limits allow an engine to use, and how much the machine has.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Backend, Config, host};

/// Bytes of all bodies of API requests in flight, counted as they arrive. If there is no room, the incomplete
/// body is refused that has held most for longest.
pub const API_BODIES_BYTES: u32 = 64 << 20;
/// Bytes of all larger answers of the control port that are not taken yet.
pub const API_ANSWERS_BYTES: u32 = 16 << 20;
/// Bytes of an answer that does not count among those.
pub const SMALL_ANSWER_BYTES: usize = 2 << 10;
/// Connections to the control port, including those that are being closed.
pub const API_CONNECTIONS_MAX: usize = 128;
/// Bytes of bodies that each connection may send before they are read: the default of HTTP/2.
pub const API_CONNECTION_WINDOW: u32 = (64 << 10) - 1;
/// Requests that each connection may have in flight by HTTP/2.
pub const API_STREAMS_MAX: u32 = 16;
/// Publishes that each connection may have in flight by HTTP/1.1. All connections together leave half of the default
/// of `limits.publishes` to others.
pub const API_PIPELINED_MAX: usize = 64;
/// Bytes that one request may use besides its body: first its head, 8 KiB and some 200 bytes for each of 64
/// fields, then the latest frame of its body, then a small answer.
const API_REQUEST: u64 = 24 << 10;
/// Bytes of each connection itself, and of what it has sent. One of HTTP/1.1 needs no more: 64 KiB of input, up to 160
/// KiB of output, one publish that waits, and small answers behind it.
const API_CONNECTION: u64 = (32 << 10) + API_CONNECTION_WINDOW as u64 + API_STREAMS_MAX as u64 * API_REQUEST;
/// Bytes of all history answers that are kept for others that ask for the same. Beyond, they are discarded: a
/// single subscriber asks once, and an answer that many share is soon made again.
pub const HISTORY_ANSWERS_BYTES: usize = 16 << 20;

/// Bytes that an engine uses without clients, rounded up generously.
const EMPTY_ENGINE: u64 = 48 << 20;
/// Memory that no limit of the configuration covers.
const FIXED: u64 = EMPTY_ENGINE
    + API_BODIES_BYTES as u64
    + API_ANSWERS_BYTES as u64
    + API_CONNECTIONS_MAX as u64 * API_CONNECTION
    + HISTORY_ANSWERS_BYTES as u64;
/// What one item of each limit costs besides its content, in bytes: see the comments in `default.toml`.
const CLIENT: u64 = 512;
const TOPIC: u64 = 250;
const HISTORY_TOPIC: u64 = 150;
/// One accepted token of a connection and one of a subscription, and an eighth as many refused ones.
const TOKEN: u64 = 2 * (1024 + 1024 / 8);
const MAIL: u64 = 56;
const REQUEST: u64 = 104;
/// Four pairs of id and topic.
const MESSAGE_ID: u64 = 4 * 70;
/// How often `amqp.prefetch_bytes` counts: messages received, messages sent ahead, and dead letters that
/// RabbitMQ does not accept.
const PREFETCHED: u64 = 3;
/// The part of the memory that proposed limits may add up to.
const PROPOSED_PERCENT: u64 = 90;
/// Proposed values are multiples of this, in bytes or in number.
const STEP: u64 = 1 << 20;
const COUNT_STEP: usize = 1000;

/// Costs are whole numbers of eighths of a byte.
const EIGHTHS: u64 = 8;

/// The files in which the kernel reports the limit of a process.
const CGROUPS: &str = "/sys/fs/cgroup";
/// A control group of version 1 without a limit reports a number larger than any memory.
const NO_LIMIT: u64 = 1 << 60;
const FILES: [&str; 2] = ["memory.max", "memory.limit_in_bytes"];

/// A limit of the configuration, and the memory that it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Share {
    key: &'static str,
    /// The limit's value.
    value: u64,
    /// Eighths of a byte that each unit of the value may cost.
    each: u64,
    /// The smallest value that may be proposed.
    least: u64,
}

impl Share {
    fn bytes(&self) -> u64 {
        self.value.saturating_mul(self.each) / EIGHTHS
    }

    /// The value with which it uses at most `bytes`; `None` if that is too small.
    fn within(&self, bytes: u64) -> Option<String> {
        let value = bytes.saturating_mul(EIGHTHS) / self.each.max(1);
        // Sizes as whole mebibytes, numbers of things as whole thousands.
        let step = if self.key.ends_with("_bytes") { STEP } else { number(COUNT_STEP) };
        let value = value - value % step;
        (value >= self.least.max(1)).then(|| format!("{} = {value}", self.key))
    }
}

/// How much memory there is, and the source of that number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    bytes: u64,
    /// The file that contains it.
    told_by: PathBuf,
}

impl Memory {
    /// What this process may use: the least of what its control groups and the machine allow. `None` if the
    /// kernel does not tell.
    #[must_use]
    pub fn of_this_process() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        // A unit of systemd may hide that file (`ProcSubset=pid`).
        let machine = Self::of_machine(&machine).or_else(Self::told_by_the_kernel);
        Self::of_group(&groups, Path::new(CGROUPS)).into_iter().chain(machine).min_by_key(|m| m.bytes)
    }

    /// Reads `/proc/self/cgroup` (`cgroups(7)`), and looks for limits from the process' own group up to the
    /// root. In a container the path may be the host's, and only its end or nothing of it exists.
    fn of_group(groups: &str, root: &Path) -> Option<Self> {
        let mut found: Vec<Self> = Vec::new();
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            // Version 2 has one hierarchy, with an empty name; version 1 one for each controller.
            let base = match controllers {
                "" => root.to_path_buf(),
                names if names.split(',').any(|name| name == "memory") => root.join("memory"),
                _ => continue,
            };
            let own = base.join(path.trim_start_matches('/'));
            let folders = own.ancestors().take_while(|folder| folder.starts_with(&base));
            found.extend(
                folders.flat_map(|folder| FILES.map(|name| folder.join(name))).filter_map(Self::told_by),
            );
        }
        found.into_iter().min_by_key(|memory| memory.bytes)
    }

    /// Version 2 writes `max` where there is no limit.
    fn told_by(file: PathBuf) -> Option<Self> {
        let bytes = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
        (bytes < NO_LIMIT).then_some(Self { bytes, told_by: file })
    }

    fn told_by_the_kernel() -> Option<Self> {
        let bytes = nix::sys::sysinfo::sysinfo().ok()?.ram_total();
        (bytes > 0).then(|| Self { bytes, told_by: "sysinfo(2)".into() })
    }

    fn of_machine(meminfo: &str) -> Option<Self> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(Self { bytes: kilobytes.saturating_mul(1024), told_by: "/proc/meminfo".into() })
    }

    /// The warning if the limits of `config` allow more than this memory; `None` if they do not.
    #[must_use]
    pub fn warning(&self, config: &Config) -> Option<String> {
        let shares = shares(config);
        let sum = sum(&shares);
        if sum <= self.bytes {
            return None;
        }
        let mut largest: Vec<&Share> = shares.iter().collect();
        largest.sort_by_key(|share| std::cmp::Reverse(share.bytes()));
        let largest: Vec<String> = largest
            .iter()
            .take(3)
            .map(|share| format!("{} {}", share.key, mebibytes(share.bytes())))
            .collect();
        let remedy = match proposal(&shares, self.bytes) {
            Some(values) => format!("set {}, or give it more", values.join(", ")),
            None => "give it more".to_owned(),
        };
        Some(format!(
            "the limits allow for {} of memory ({}, ...), and there are {} ({}): the kernel would end an engine that \
             fills them; {remedy}",
            mebibytes(sum),
            largest.join(", "),
            mebibytes(self.bytes),
            self.told_by.display()
        ))
    }

    /// The memory that the limits allow for, and how much there is, as a sentence.
    #[must_use]
    pub fn summary(&self, config: &Config) -> String {
        let sum = mebibytes(sum(&shares(config)));
        format!("the limits allow for {sum} of memory, and there are {}", mebibytes(self.bytes))
    }
}

fn sum(shares: &[Share]) -> u64 {
    shares.iter().map(Share::bytes).fold(FIXED, u64::saturating_add)
}

/// What a client costs. Where tokens or a hook say who clients are, every client may be a user with the longest name and the
/// largest `info`; where backends are sent headers, each client may have the longest head. What subscriptions have of their
/// own is not counted: few have any, and the application decides it.
fn client_bytes(config: &Config) -> u64 {
    let limits = &config.limits;
    let identity =
        if config.identifies_clients() { limits.user_max.saturating_add(limits.info_bytes) } else { 0 };
    let has_headers = |backend: &Backend| !backend.headers.is_empty() || !backend.client_headers.is_empty();
    let headers = if config.backends.values().any(has_headers) { limits.head_bytes } else { 0 };
    CLIENT + number(identity) + number(headers)
}

/// Every limit that memory depends on, with what it allows on this host.
fn shares(config: &Config) -> Vec<Share> {
    let limits = &config.limits;
    let shards = u64::from(host::shards(config));
    let clients = match limits.clients {
        0 => host::DescriptorLimit::of_this_process().clients(config),
        clients => clients,
    };
    let size = |key, value: usize, each, least: usize| Share {
        key,
        value: number(value),
        each: each * EIGHTHS,
        least: number(least),
    };
    let input = size("limits.shard_input_bytes", limits.shard_input_bytes, shards, 2 * limits.message_bytes);
    let mut shares = vec![
        size("limits.logs_bytes", limits.logs_bytes, shards, limits.log_bytes),
        size("limits.rest_bytes", limits.rest_bytes, shards, limits.frame_bytes),
        // Its bound may be exceeded by an eighth.
        Share { each: input.each + shards, ..input },
        // A buffer has up to twice the memory of its bytes.
        size("limits.shard_replies_bytes", limits.shard_replies_bytes, 2 * shards, 2 * limits.frame_bytes),
        size("limits.mailbox_bytes", limits.mailbox_bytes, shards, limits.frame_bytes),
        size("limits.requests_bytes", limits.requests_bytes, 1, limits.publication_bytes),
        size("limits.publishes_bytes", limits.publishes_bytes, 1, limits.publication_bytes),
        size("limits.merging_bytes", limits.merging_bytes, 1, limits.frame_bytes),
        size("limits.topics", limits.topics, TOPIC, 1),
        size("limits.clients", clients, client_bytes(config), 1),
        size("limits.mailbox", limits.mailbox, MAIL * shards, COUNT_STEP),
        size("limits.requests", limits.requests, REQUEST, COUNT_STEP),
    ];
    if config.has_subscription_keys() {
        shares.push(size("limits.tokens", limits.tokens, TOKEN * shards, COUNT_STEP));
    }
    if !config.named_backends().is_empty() {
        // Answers on their way are not counted: the application's own programs decide how large they are.
        shares.push(size("limits.calls_bytes", limits.calls_bytes, 1, limits.message_bytes));
    }
    if !config.amqp.url.is_empty() {
        shares.push(size("amqp.message_ids", config.amqp.message_ids, MESSAGE_ID, 1));
        shares.push(size("amqp.prefetch_bytes", config.amqp.prefetch_bytes, PREFETCHED, 1 << 20));
    }
    if !config.longest_history().is_zero() {
        shares.push(size("limits.history_bytes", limits.history_bytes, 1, 1 << 20));
        shares.push(size("limits.history_topics", limits.history_topics, HISTORY_TOPIC, 1));
    }
    shares
}

/// Values with which the limits fit into `memory`. The largest limits are reduced to an equal share, and as
/// few of them as possible. `None` if one would be too small.
fn proposal(shares: &[Share], memory: u64) -> Option<Vec<String>> {
    let room = (memory / 100 * PROPOSED_PERCENT).checked_sub(FIXED)?;
    let mut largest: Vec<&Share> = shares.iter().collect();
    largest.sort_by_key(|share| std::cmp::Reverse(share.bytes()));
    for (count, next) in (1..).zip(largest.iter().skip(1).map(|share| share.bytes()).chain([0])) {
        let (shrunk, others) = largest.split_at(count);
        let others = others.iter().map(|share| share.bytes()).fold(0, u64::saturating_add);
        let each = room.saturating_sub(others) / number(count);
        if each >= next && room > others {
            return shrunk.iter().map(|share| share.within(each)).collect();
        }
    }
    None
}

fn number(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", super::grouped(usize::try_from(bytes.div_ceil(1 << 20)).unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Namespace;

    fn with_history() -> Config {
        let mut config = Config::default();
        config.server.shards = 2;
        config.amqp.url = "amqp://localhost".into();
        config.rpc.send = "amqp".to_owned();
        let kept = Namespace { history_size: 100, ..Namespace::default() };
        config.namespaces.insert("default".to_owned(), kept);
        config
    }

    fn memory(mebibytes: u64) -> Memory {
        Memory { bytes: mebibytes << 20, told_by: "memory.max".into() }
    }

    #[test]
    fn limits_that_do_not_fit_are_warned_of_with_values_that_do() {
        let mut config = with_history();
        let warning = memory(400).warning(&config).unwrap();
        assert!(warning.contains("limits.history_bytes 256 MiB"), "{warning}");
        assert!(warning.contains("there are 400 MiB (memory.max)"), "{warning}");
        let (_, values) = warning.split_once("; set ").unwrap();
        let (values, _) = values.split_once(", or give").unwrap();
        for pair in values.split(", ") {
            let (key, value) = pair.split_once(" = ").unwrap();
            let value = value.parse().unwrap();
            *match key {
                "limits.history_bytes" => &mut config.limits.history_bytes,
                "amqp.prefetch_bytes" => &mut config.amqp.prefetch_bytes,
                "limits.history_topics" => &mut config.limits.history_topics,
                "limits.logs_bytes" => &mut config.limits.logs_bytes,
                "limits.rest_bytes" => &mut config.limits.rest_bytes,
                "limits.merging_bytes" => &mut config.limits.merging_bytes,
                "limits.topics" => &mut config.limits.topics,
                "limits.shard_input_bytes" => &mut config.limits.shard_input_bytes,
                "limits.shard_replies_bytes" => &mut config.limits.shard_replies_bytes,
                "limits.mailbox_bytes" => &mut config.limits.mailbox_bytes,
                "limits.requests_bytes" => &mut config.limits.requests_bytes,
                "limits.publishes_bytes" => &mut config.limits.publishes_bytes,
                "limits.calls_bytes" => &mut config.limits.calls_bytes,
                "limits.requests" => &mut config.limits.requests,
                "amqp.message_ids" => &mut config.amqp.message_ids,
                key => panic!("{key}"),
            } = value;
        }
        assert_eq!(memory(400).warning(&config), None, "{values}");
        assert!(config.validate().is_ok(), "{values}");
        assert_eq!(memory(4096).warning(&with_history()), None);
        let warning = memory(64).warning(&with_history()).unwrap();
        assert!(warning.ends_with("; give it more"), "{warning}");
    }

    /// Limits in bytes without a share of their own, and why.
    const NO_SHARES: &[(&str, &str)] = &[
        ("control.body_bytes", "all bodies together have API_BODIES_BYTES"),
        ("amqp.stream_max_bytes", "on RabbitMQ's disk"),
        ("limits.head_bytes", "kept as input: shard_input_bytes"),
        ("limits.message_bytes", "kept as input: shard_input_bytes"),
        ("limits.topic_bytes", "part of what a topic costs"),
        ("limits.publication_bytes", "kept in logs, histories, mailboxes, merging and prefetch"),
        ("limits.frame_bytes", "kept in logs, rest_bytes, replies and merging"),
        ("limits.replies_bytes", "part of shard_replies_bytes"),
        ("limits.info_bytes", "part of limits.clients, if there are keys"),
        ("limits.log_bytes", "part of logs_bytes"),
        ("budgets.read_bytes", "worked on, and not kept"),
    ];

    #[test]
    fn every_limit_in_bytes_is_a_share_or_part_of_one() {
        let counted: Vec<&str> = shares(&with_history()).iter().map(|share| share.key).collect();
        let tables: toml::Table = include_str!("default.toml").parse().unwrap();
        let mut seen = 0;
        for (table, values) in &tables {
            for key in values.as_table().unwrap().keys().filter(|key| key.ends_with("_bytes")) {
                let key = format!("{table}.{key}");
                let is_listed = NO_SHARES.iter().any(|(listed, _)| *listed == key);
                assert!(
                    counted.contains(&&*key) != is_listed,
                    "{key}: a share, or listed with the reason why not"
                );
                seen += 1;
            }
        }
        let sizes = counted.iter().filter(|key| key.ends_with("_bytes")).count();
        assert_eq!(seen, sizes + NO_SHARES.len(), "a key that is not there any more is listed");
    }

    #[test]
    fn what_is_not_kept_does_not_count() {
        let (mut config, kept) = (Config::default(), with_history());
        config.server.shards = 2;
        assert!(sum(&shares(&config)) + (256 << 20) < sum(&shares(&kept)));
        config.limits.clients = 4_000_000;
        assert!(memory(2000).warning(&config).is_some_and(|warning| warning.contains("limits.clients = ")));
    }

    #[test]
    fn what_may_exceed_its_bound_by_an_eighth_counts_with_it() {
        let mut config = with_history();
        config.limits.shard_input_bytes = 800 << 20;
        let warning = memory(1900).warning(&config).unwrap();
        assert!(warning.contains("limits.shard_input_bytes 1,800 MiB"), "{warning}");
    }

    #[test]
    fn clients_of_an_engine_with_keys_may_all_be_users() {
        let clients = |set: fn(&mut Config)| {
            let mut config = with_history();
            config.limits.clients = 1000;
            set(&mut config);
            shares(&config).into_iter().find(|share| share.key == "limits.clients").unwrap().bytes()
        };
        assert_eq!(clients(|_| ()), 512_000);
        let with_keys = clients(|config| {
            config.tokens.public_keys = vec!["a.pem".to_owned()];
            config.limits.info_bytes = 2000;
        });
        assert_eq!(with_keys, 512_000 + 256_000 + 2_000_000);
        assert_eq!(clients(|config| config.hooks.connect = "amqp".to_owned()), 512_000 + 256_000 + 1_024_000);
        let with_headers = clients(|config| {
            let shop = Backend { headers: vec!["Cookie".to_owned()], ..Backend::default() };
            config.backends.insert("shop".to_owned(), shop);
        });
        assert_eq!(with_headers, 512_000 + 32_768_000);
    }

    #[test]
    fn what_is_allocated_by_number_counts_and_only_what_is_too_large_is_proposed() {
        for (set, key) in [
            ((|config| config.limits.mailbox = 100_000_000) as fn(&mut Config), "limits.mailbox"),
            (|config| config.limits.requests = 1_000_000_000, "limits.requests"),
            (|config| config.amqp.message_ids = 1_000_000_000, "amqp.message_ids"),
            (|config| config.amqp.prefetch_bytes = 30 << 30, "amqp.prefetch_bytes"),
            (
                |config| {
                    config.tokens.hmac_keys = vec!["hunter2".into()].into();
                    config.limits.tokens = 10_000_000;
                },
                "limits.tokens",
            ),
        ] {
            let mut config = with_history();
            assert_eq!(memory(8000).warning(&config), None);
            set(&mut config);
            let warning = memory(8000).warning(&config).unwrap();
            let (_, values) = warning.split_once("; set ").unwrap();
            assert!(
                values.starts_with(&format!("{key} = ")) && values.matches(" = ").count() == 1,
                "{warning}"
            );
        }
    }

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let root = std::env::temp_dir().join(format!("fanfare-cgroup-{}", std::process::id()));
        for (file, text) in [
            ("memory.max", "max\n"),
            ("pod/memory.max", "500\n"),
            ("pod/app/memory.max", "max\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/old/memory.limit_in_bytes", "300\n"),
        ] {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let found = |groups: &str| Memory::of_group(groups, &root).map(|memory| memory.bytes);
        assert_eq!(found("0::/pod/app\n"), Some(500));
        assert_eq!(found("0::/\n"), None);
        assert_eq!(found("5:cpu,memory:/old\n0::/pod\n"), Some(300));
        assert_eq!(found("4:memory:/the/host/says/so\n"), None, "a number beyond all memory is no limit");
        assert_eq!(found("1:cpu:/old\nnonsense\n"), None);
        assert_eq!(found("0::/../../elsewhere\n"), None);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn the_machine_tells_how_much_it_has() {
        let machine = Memory::of_machine("MemFree: 1 kB\nMemTotal:       24576 kB\n").unwrap();
        assert_eq!((machine.bytes, machine.told_by.to_str()), (24 << 20, Some("/proc/meminfo")));
        assert_eq!(Memory::of_machine(""), None);
        assert!(Memory::of_this_process().is_some());
    }
}
