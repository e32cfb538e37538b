//! What this machine allows, and whether the configuration fits.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::cpus::list_cpus;
use super::{Config, grouped, parse_cpus};

/// Descriptors that are not for clients: listeners, event queues, RabbitMQ, the control port's connections,
/// files.
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

    /// How many clients it allows, at least one.
    #[must_use]
    pub fn clients(self) -> usize {
        self.soft.saturating_sub(DESCRIPTORS_RESERVE).max(1)
    }

    /// [`Self::clients`] in words: `1 client`, `1,000 clients`.
    #[must_use]
    pub fn clients_in_words(self) -> String {
        match self.clients() {
            1 => "1 client".to_owned(),
            clients => format!("{} clients", grouped(clients)),
        }
    }

    /// What the operator must do so that `clients` clients have room, or, with 0, more than a few. `None` if
    /// they have.
    #[must_use]
    pub fn warning(self, clients: usize) -> Option<String> {
        if clients == 0 && self.clients() < FEW_CLIENTS {
            return Some(format!(
                "the limit on descriptors (ulimit -n, {}) leaves room for {} only: {}",
                grouped(self.soft),
                self.clients_in_words(),
                self.remedy(DESCRIPTORS_DEFAULT * 10),
            ));
        }
        if clients <= self.clients() {
            return None;
        }
        let needed = clients.saturating_add(DESCRIPTORS_RESERVE);
        Some(format!(
            "limits.clients is {}, but the limit on descriptors (ulimit -n, {}) leaves room for {}: {}",
            grouped(clients),
            grouped(self.soft),
            self.clients_in_words(),
            self.remedy(needed),
        ))
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

/// How many clients the limit on descriptors allows: the value of `limits.clients = 0`. The kernel counts per
/// table of descriptors, so each shard with a private table has as much room as a process.
#[must_use]
pub fn clients_by_descriptors(private_fd_tables: bool, shards: u16) -> usize {
    let tables = if private_fd_tables { usize::from(shards) } else { 1 };
    DescriptorLimit::of_this_process().clients().saturating_mul(tables)
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

    #[test]
    fn the_limit_is_the_one_that_the_kernel_shows() {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let number = |text: &str| if text == "unlimited" { usize::MAX } else { text.parse().unwrap() };
        let shown: Vec<usize> = line.split_whitespace().take(2).map(number).collect();
        let DescriptorLimit { soft, hard } = DescriptorLimit::of_this_process();
        assert_eq!(shown, [soft, hard]);
    }

    #[test]
    fn clients_that_do_not_fit_are_warned_of_with_the_number_to_set() {
        let limit = DescriptorLimit { soft: 1024, hard: 20_000 };
        assert_eq!(limit.clients(), 768);
        assert_eq!(limit.warning(768), None);
        assert!(limit.warning(769).unwrap().contains("run `ulimit -n 1025`"));
        assert!(limit.warning(19_745).unwrap().contains("LimitNOFILE=20001"));
        assert_eq!(DescriptorLimit { soft: 10, hard: 10 }.clients(), 1);
        assert_eq!(limit.warning(0), None);
        let few = DescriptorLimit { soft: 64, hard: 64 }.warning(0).unwrap();
        assert!(few.contains("ulimit -n, 64") && few.contains("room for 1 client only: set"), "{few}");
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
