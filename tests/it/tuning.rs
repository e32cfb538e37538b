//! The files in `tuning/`: each is read as its reader would, and what it names is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{fs, str};

use crate::support::engine::{BINARY, clear_settings};
use crate::support::process::TempDir;
use fanfare::config::Config;
use fanfare::config::tuning::{self, SettingState, Sysctl};

/// System calls that the engine makes besides those of every program, as seen by `strace -f`; without one of
/// them it would not run, or not as fast.
const SYSTEM_CALLS: [&str; 13] = [
    "accept4",
    "bind",
    "clone3",
    "epoll_wait",
    "eventfd2",
    "getrandom",
    "madvise",
    "prlimit64",
    "sched_getaffinity",
    "sched_setaffinity",
    "sendto",
    "socketpair",
    "unshare",
];

fn file(path: &str) -> String {
    let path = folder().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning")
}

/// Runs a command that has to be installed: that it is missing is a failure.
fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error} (`tests/run --install` installs what is missing)")
    })
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).expect("text")
}

fn fanfare(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    clear_settings(&mut command);
    command.args(arguments);
    command
}

/// Lines that say something to a program, each with the comment right above its paragraph or itself.
fn assert_every_line_has_a_reason(name: &str, content: &str) {
    let mut explained = false;
    for line in content.lines().map(str::trim_start) {
        match line {
            "" => explained = false,
            "}" => {}
            line if line.starts_with('#') => explained |= !line.starts_with("# Rule: "),
            line if line.starts_with('[') => {}
            line => assert!(explained, "{name}: no comment says why: {line}"),
        }
    }
}

/// The values of a key in a file of `KEY=VALUE` lines.
fn values<'a>(file: &'a str, key: &str) -> Vec<&'a str> {
    let pairs = file.lines().filter_map(|line| line.split_once('='));
    pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

fn unit() -> String {
    file("systemd/fanfare.service")
}

#[test]
fn every_setting_of_the_kernel_exists_or_names_its_module() {
    let files = ["sysctl.d/60-fanfare.conf", "sysctl.d/61-fanfare-load.conf"].map(file);
    let settings: Vec<Sysctl<'_>> =
        files.iter().flat_map(|file| tuning::parse(file).unwrap_or_else(|error| panic!("{error}"))).collect();
    assert!(settings.len() > 5, "{settings:?}");
    for setting in &settings {
        let state = setting.state();
        let exists = !matches!(state, SettingState::Absent);
        assert!(exists || setting.module.is_some(), "{} is not below /proc/sys: {state:?}", setting.key);
    }
    let keys: BTreeSet<&str> = settings.iter().map(|setting| setting.key).collect();
    assert_eq!(keys.len(), settings.len(), "each key once");
}

#[test]
fn every_line_has_its_reason() {
    for name in [
        "sysctl.d/60-fanfare.conf",
        "sysctl.d/61-fanfare-load.conf",
        "limits.d/60-fanfare.conf",
        "systemd/fanfare.service",
        "fanfare.toml",
        "nginx/nginx.conf",
        "haproxy/haproxy.cfg",
    ] {
        assert_every_line_has_a_reason(name, &file(name));
    }
}

#[test]
fn check_tells_what_the_same_file_would_change() {
    let mut check = fanfare(&["check"]);
    check.env("FANFARE_SERVER_LISTEN", "127.0.0.1:0").env("FANFARE_CONTROL_LISTEN", "127.0.0.1:0");
    let output = run(&mut check);
    let report = text(&output.stdout);
    let settings = tuning::sysctls();
    let off = settings.iter().filter(|setting| matches!(setting.state(), SettingState::Off(_)));
    for setting in off.clone() {
        assert!(report.contains(&format!("`{}`", setting.remedy())), "{}: {report}", setting.key);
    }
    let advised = report.lines().filter(|line| line.contains("sysctl -w")).count();
    assert_eq!(advised, off.count(), "{report}");
    assert!(report.contains(&format!("of {} kernel settings are as wanted", settings.len())), "{report}");
}

#[test]
fn a_port_that_outgoing_connections_may_take_is_told() {
    let ports = tuning::outgoing_ports().expect("Linux tells");
    let port = ports
        .into_iter()
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of thousands is free");
    let mut check = fanfare(&["check"]);
    check.env("FANFARE_SERVER_LISTEN", format!("127.0.0.1:{port}"));
    check.env("FANFARE_CONTROL_LISTEN", "127.0.0.1:0");
    let output = run(&mut check);
    let reserve = format!("sysctl -w net.ipv4.ip_local_reserved_ports={port}");
    assert!(text(&output.stdout).contains(&reserve), "{output:?}");
}

#[test]
fn systemd_takes_the_unit() {
    let directory = TempDir::new("unit");
    // The program is not installed where the unit looks for it, which systemd would complain of.
    let unit = unit().replace("/usr/local/bin/fanfare", BINARY);
    let path = directory.write("fanfare.service", &unit);
    let output = run(Command::new("systemd-analyze").arg("verify").arg(&path));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "", "systemd complains of nothing");
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn the_unit_starts_the_engine_with_flags_that_exist() {
    let unit = unit();
    let [start] = values(&unit, "ExecStart")[..] else { panic!("one ExecStart") };
    let mut words = start.split(' ');
    assert_eq!(words.next(), Some("/usr/local/bin/fanfare"));
    let arguments: Vec<&str> = words.collect();
    assert_eq!(arguments[0], "serve");
    // With --help at the end everything before it is still parsed.
    let output = run(&mut fanfare(&[&arguments[..], &["--help"]].concat()));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn the_unit_leaves_the_engine_what_it_needs() {
    let unit = unit();
    let mut allowed = BTreeSet::new();
    for set in values(&unit, "SystemCallFilter").iter().flat_map(|value| value.split(' ')) {
        add_calls(set, &mut allowed);
    }
    for call in SYSTEM_CALLS {
        assert!(allowed.contains(call), "SystemCallFilter keeps {call} from the engine");
    }
    let families = values(&unit, "RestrictAddressFamilies").join(" ");
    assert!(["AF_INET", "AF_INET6"].iter().all(|family| families.split(' ').any(|word| word == *family)));
    let [limit] = values(&unit, "TimeoutStopSec")[..] else { panic!("one TimeoutStopSec") };
    let seconds: u64 = limit.trim_end_matches('s').parse().expect("seconds");
    assert!(seconds > Config::default().stop.limit.0.as_secs() + 2, "killed before it could end by itself");
}

/// Adds the system calls of one of systemd's sets, such as `@system-service`, or a single one.
fn add_calls(name: &str, calls: &mut BTreeSet<String>) {
    if !name.starts_with('@') {
        calls.insert(name.to_owned());
        return;
    }
    let output = run(Command::new("systemd-analyze").args(["syscall-filter", name]));
    assert!(output.status.success(), "{output:?}");
    let lines = text(&output.stdout).lines().skip(1).map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).for_each(|line| add_calls(line, calls));
}

#[test]
fn the_limits_on_descriptors_agree() {
    let descriptors = tuning::descriptors_of_the_service();
    let bound =
        tuning::sysctls().iter().find(|setting| setting.key == "fs.nr_open").map(|setting| setting.value);
    assert!(descriptors <= bound.expect("it is there").parse().expect("a number"));
    let limits = file("limits.d/60-fanfare.conf");
    let lines: Vec<Vec<&str>> = limits
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines, [["fanfare", "hard", "nofile", &descriptors.to_string()]], "user, kind, item, value");
}

#[test]
fn the_example_configuration_passes_the_check() {
    let path = folder().join("fanfare.toml");
    let mut check = fanfare(&["check", "--config", path.to_str().expect("a plain path")]);
    // Its own ports may be taken where this runs.
    check.env("FANFARE_SERVER_LISTEN", "127.0.0.1:0").env("FANFARE_CONTROL_LISTEN", "127.0.0.1:0");
    let output = run(&mut check);
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("namespaces.prices.max_delay = \"100ms\""), "{output:?}");
}

#[test]
fn the_script_only_prints() {
    let script = folder().join("irq-and-rps");
    let first = file("irq-and-rps").lines().next().map(str::to_owned);
    assert_eq!(first.as_deref(), Some("#!/bin/bash -r"), "a restricted shell writes to no file");
    let output = run(&mut Command::new(&script));
    assert!(output.status.success(), "{output:?}");
    assert!(text(&output.stdout).contains("Nothing was changed"), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    let output = run(Command::new(&script).arg("0"));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
