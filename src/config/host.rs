//! What this machine allows, and whether the configuration fits.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::cpus::list_cpus;
use super::{Config, grouped, parse_cpus};

/// Descriptors that are not for clients, nor for connections to backends by HTTP: listeners, event queues, RabbitMQ, the
/// control port's connections, files.
pub const DESCRIPTORS_RESERVE: usize = 256;

/// Descriptors that a process may have by the kernel's default.
const DESCRIPTORS_DEFAULT: usize = 1024;

/// With fewer clients than this, the operator is warned: nobody runs a push engine for so few.
const FEW_CLIENTS: usize = 500;

/// How many descriptors this process may have open (`RLIMIT_NOFILE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// The limit in force: `ulimit -n`.
    pub soft: usize,
    /// The value up to which the process' owner may raise it: `ulimit -Hn`.
    pub hard: usize,
}

impl DescriptorLimit {
    /// The limit of this process. No limit is `usize::MAX`.
    #[must_use]
    pub fn of_this_process() -> Self {
        // Linux refuses nobody its own limits; should a sandbox do so, the kernel's default is assumed.
        let of_kernel = DESCRIPTORS_DEFAULT as u64;
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((of_kernel, of_kernel));
        let descriptors = |limit| usize::try_from(limit).unwrap_or(usize::MAX);
        Self { soft: descriptors(soft), hard: descriptors(hard) }
    }

    /// Raises the limit of this process as far as its owner may. The soft limit of 1,024 that most hosts set
    /// protects programs that use `select`, which this one does not.
    ///
    /// If that is refused, the limit stays unchanged; the check of `limits.clients` then reports it.
    pub fn raise() {
        let limit = Self::of_this_process();
        if limit.soft < limit.hard {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, limit.hard as u64, limit.hard as u64);
        }
    }

    /// How many clients it allows by a configuration: the value of `limits.clients = 0`. The kernel counts per table of
    /// descriptors, so each shard with a private table has as much room as a process.
    #[must_use]
    pub fn clients(self, config: &Config) -> usize {
        self.clients_of_table(config).saturating_mul(tables(config))
    }

    /// How many clients it allows in one table of descriptors, at least one.
    #[must_use]
    pub fn clients_of_table(self, config: &Config) -> usize {
        self.soft.saturating_sub(reserve_of_table(config)).max(1)
    }

    /// What it leaves room for, in words: `1 client`, or `1,000 clients besides 20 connections to backends`.
    #[must_use]
    pub fn room(self, config: &Config) -> String {
        let clients = match self.clients(config) {
            1 => "1 client".to_owned(),
            clients => format!("{} clients", grouped(clients)),
        };
        match connections_to_backends(config) {
            0 => clients,
            connections => format!(
                "{clients} besides {} connections to backends (the sum of `concurrency` of those with a URL)",
                grouped(connections)
            ),
        }
    }

    /// What the operator must do so that there is room for `limits.clients` clients, or, with 0, for more than a few, and for
    /// all connections to backends. `None` if there is.
    #[must_use]
    pub fn warning(self, config: &Config) -> Option<String> {
        let (clients, room) = (config.limits.clients, self.clients(config));
        let connections = connections_to_backends(config);
        let of_process = DESCRIPTORS_RESERVE.saturating_add(connections);
        let is_enough = if clients == 0 { room >= FEW_CLIENTS } else { clients <= room };
        if is_enough && (connections == 0 || of_process < self.soft) {
            return None;
        }
        let per_table = match clients {
            0 => DESCRIPTORS_DEFAULT * 10,
            clients => clients.div_ceil(tables(config)).saturating_add(DESCRIPTORS_RESERVE),
        };
        let needed = match config.server.private_fd_tables {
            true => per_table.max(of_process.saturating_add(1)),
            false => per_table.saturating_add(connections),
        };
        let limit = format!("the limit on descriptors (ulimit -n, {})", grouped(self.soft));
        let why = match (clients, is_enough) {
            (_, true) => format!(
                "{limit} leaves no room for {} connections to backends (the sum of `concurrency` of those with a URL)",
                grouped(connections)
            ),
            (0, _) => format!("{limit} leaves room for {} only", self.room(config)),
            _ => format!(
                "limits.clients is {}, but {limit} leaves room for {}",
                grouped(clients),
                self.room(config)
            ),
        };
        Some(format!("{why}: {}", self.remedy(needed)))
    }

    /// What the operator must do so that a process may have `needed` descriptors.
    #[must_use]
    pub fn remedy(self, needed: usize) -> String {
        if needed <= self.hard {
            format!("run `ulimit -n {needed}` before it")
        } else {
            format!(
                "set `LimitNOFILE={needed}` in its systemd unit, or `nofile {needed}` in \
                 /etc/security/limits.conf (the hard limit is {})",
                grouped(self.hard)
            )
        }
    }
}

/// Tables of descriptors that have clients.
fn tables(config: &Config) -> usize {
    if config.server.private_fd_tables { shards(config).into() } else { 1 }
}

/// Descriptors of such a table that are not for clients.
fn reserve_of_table(config: &Config) -> usize {
    // With tables of their own, shards do not share those of the thread that asks backends.
    let connections = if config.server.private_fd_tables { 0 } else { connections_to_backends(config) };
    DESCRIPTORS_RESERVE.saturating_add(connections)
}

/// Connections to backends by HTTP, at most: one for each call that is sent at the same time.
fn connections_to_backends(config: &Config) -> usize {
    let by_http = config.backends.values().filter(|backend| !backend.url.is_empty());
    by_http.map(|backend| backend.concurrency).fold(0, usize::saturating_add)
}

/// The CPUs that the calling thread may run on: those of the start-up mask, as long as no thread is pinned.
/// Empty if the kernel does not tell.
#[must_use]
pub fn available_cpus() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|cpu| cpu.id).collect()
}

/// The number of shards: the value of `server.shards = 0` on this machine. With three CPUs or more, one is
/// left to the broker thread and the control thread, unless `server.cpus` names the CPUs for shards.
#[must_use]
pub fn shards(config: &Config) -> u16 {
    if config.server.shards > 0 {
        return config.server.shards;
    }
    let chosen = parse_cpus(&config.server.cpus).map_or(0, |cpus| cpus.len());
    let count = match (chosen, available_cpus().len()) {
        (0, available @ 3..) => available - 1,
        (0, available) => available,
        (chosen, _) => chosen,
    };
    u16::try_from(count.max(1)).unwrap_or(u16::MAX)
}

/// What is wrong with `server.cpus` on this machine: it names CPUs that do not exist, or that the process may
/// not use.
#[must_use]
pub fn cpus_problem(config: &Config) -> Option<String> {
    let available = available_cpus();
    let missing: Vec<usize> =
        parse_cpus(&config.server.cpus).ok()?.into_iter().filter(|cpu| !available.contains(cpu)).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "server.cpus names {}, but this process may run on the CPUs {} only",
            list_cpus(&missing),
            list_cpus(&available)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Backend;

    #[test]
    fn the_limit_is_the_one_that_the_kernel_shows() {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let number = |text: &str| if text == "unlimited" { usize::MAX } else { text.parse().unwrap() };
        let shown: Vec<usize> = line.split_whitespace().take(2).map(number).collect();
        let DescriptorLimit { soft, hard } = DescriptorLimit::of_this_process();
        assert_eq!(shown, [soft, hard]);
    }

    fn with_clients(clients: usize) -> Config {
        let mut config = Config::default();
        config.limits.clients = clients;
        config
    }

    /// Backends that may be sent so many calls at the same time, and one that has no connections.
    fn with_backends(clients: usize, concurrency: &[usize]) -> Config {
        let mut config = with_clients(clients);
        for (number, &concurrency) in concurrency.iter().enumerate() {
            let backend = Backend { url: "http://127.0.0.1:1/".into(), concurrency, ..Backend::default() };
            config.backends.insert(format!("b{number}"), backend);
        }
        config.backends.insert("amqp".to_owned(), Backend::default());
        config
    }

    #[test]
    fn clients_that_do_not_fit_are_warned_of_with_the_number_to_set() {
        let limit = DescriptorLimit { soft: 1024, hard: 20_000 };
        assert_eq!(limit.clients(&Config::default()), 768);
        assert_eq!(limit.warning(&with_clients(768)), None);
        assert!(limit.warning(&with_clients(769)).unwrap().contains("run `ulimit -n 1025`"));
        assert!(limit.warning(&with_clients(19_745)).unwrap().contains("LimitNOFILE=20001"));
        assert_eq!(DescriptorLimit { soft: 10, hard: 10 }.clients(&Config::default()), 1);
        assert_eq!(limit.warning(&with_clients(0)), None);
        let few = DescriptorLimit { soft: 64, hard: 64 }.warning(&with_clients(0)).unwrap();
        assert!(few.contains("ulimit -n, 64") && few.contains("room for 1 client only: set"), "{few}");
    }

    #[test]
    fn connections_to_backends_have_descriptors_of_their_own() {
        let limit = DescriptorLimit { soft: 2000, hard: 20_000 };
        let config = with_backends(1644, &[60, 40]);
        assert_eq!((limit.clients(&config), limit.warning(&config)), (1644, None));
        let warning = limit.warning(&with_backends(1645, &[60, 40])).unwrap();
        assert!(
            warning.contains("room for 1,644 clients besides 100 connections to backends")
                && warning.ends_with("run `ulimit -n 2001` before it"),
            "{warning}"
        );
        let few = limit.warning(&with_backends(0, &[1245])).unwrap();
        assert!(
            few.contains("499 clients besides 1,245") && few.ends_with("ulimit -n 11485` before it"),
            "{few}"
        );
        assert_eq!(limit.warning(&with_backends(0, &[1244])), None);
        assert_eq!(limit.clients(&with_backends(0, &[usize::MAX, usize::MAX])), 1);
    }

    /// Then they are in the table that the process began with.
    #[test]
    fn connections_to_backends_take_nothing_of_tables_that_shards_have_for_themselves() {
        let private = |clients, concurrency: &[usize]| {
            let mut config = with_backends(clients, concurrency);
            (config.server.private_fd_tables, config.server.shards) = (true, 3);
            config
        };
        let limit = DescriptorLimit { soft: 2000, hard: 20_000 };
        assert_eq!(limit.clients(&private(0, &[1000])), 3 * 1744);
        assert_eq!(limit.warning(&private(3 * 1744, &[1743])), None);
        let warning = limit.warning(&private(3 * 1744 + 1, &[1000])).unwrap();
        assert!(
            warning.contains("room for 5,232 clients") && warning.contains("ulimit -n 2001`"),
            "{warning}"
        );
        let warning = limit.warning(&private(0, &[1744])).unwrap();
        assert!(warning.contains("no room for 1,744 connections to backends"), "{warning}");
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        let mut config = Config::default();
        assert_eq!(cpus_problem(&config), None);
        config.server.cpus = format!("{},1023", available_cpus()[0]);
        let problem = cpus_problem(&config).unwrap();
        assert!(problem.starts_with("server.cpus names 1023, but"), "{problem}");
        config.server.cpus = "900-999,1023".to_owned();
        let problem = cpus_problem(&config).unwrap();
        assert!(problem.starts_with("server.cpus names 900-999,1023, but"), "{problem}");
    }
}
