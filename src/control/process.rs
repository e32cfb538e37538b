//! What the kernel reports about this process and this machine.

use std::fs;

/// Clock ticks per second in `/proc/self/stat`: the value that Linux shows to user space, whatever it uses
/// internally (proc_pid_stat(5); `USER_HZ`).
const USER_HZ: f64 = 100.0;

/// What this process uses. A number that cannot be read is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Resident memory in bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Open descriptors of the table that the process began with.
    pub(super) open_fds: Option<u64>,
    /// The limit on them.
    pub(super) max_fds: Option<u64>,
    /// CPU time of all threads, user and system, in seconds.
    pub(super) cpu_seconds: Option<f64>,
}

/// Reads it.
pub(super) fn usage() -> Usage {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    Usage {
        resident_bytes: resident_bytes(&read("status")),
        open_fds: open_fds(),
        max_fds: max_fds(&read("limits")),
        cpu_seconds: cpu_seconds(&read("stat")),
    }
}

/// The machine's name, which is the node's name in Centrifugo's `info`.
pub(super) fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "fanfare".to_owned(), |name| name.trim().to_owned())
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Since Linux 6.2 the directory's size is the number of descriptors. Before, it was 0, and descriptors have
/// to be counted, which takes milliseconds with tens of thousands of clients.
fn open_fds() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 { Some(size) } else { fs::read_dir("/proc/self/fd").ok().map(|fds| fds.count() as u64) }
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15. The second field is a name in parentheses that may contain anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / USER_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        assert_eq!(resident_bytes("VmPeak:\t  9 kB\nVmRSS:\t    1234 kB\n"), Some(1234 * 1024));
        assert_eq!(resident_bytes("VmPeak:\t  9 kB\n"), None);
        let limits = "Limit Soft Hard Units\nMax open files            20000                1048576 files\n";
        assert_eq!(max_fds(limits), Some(20_000));
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 4 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage();
        assert!(usage.resident_bytes > Some(1 << 20), "{usage:?}");
        assert!(usage.open_fds >= Some(3) && usage.max_fds >= usage.open_fds, "{usage:?}");
        assert!(usage.cpu_seconds.is_some() && !host_name().is_empty(), "{usage:?}");
    }
}
