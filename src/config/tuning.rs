//! The settings that Fanfare wants of the host. They are read from the files in `tuning/` that operators
//! install, so that `fanfare check` compares with exactly those files.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use thiserror::Error;

/// The kernel's settings, with a reason for each: `tuning/sysctl.d/60-fanfare.conf`.
pub const SYSCTL_FILE: &str = include_str!("../../tuning/sysctl.d/60-fanfare.conf");

/// The service: `tuning/systemd/fanfare.service`.
const UNIT_FILE: &str = include_str!("../../tuning/systemd/fanfare.service");

/// The beginning of a comment that says how to compare the setting below it.
const RULE: &str = "# Rule: ";

/// How a value is compared with the wanted value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A larger value is as good.
    AtLeast,
    /// Only the wanted value is good.
    Exactly,
}

/// One of the kernel's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sysctl<'a> {
    /// Its name, such as `net.core.somaxconn`.
    pub key: &'a str,
    /// The wanted value.
    pub value: &'a str,
    /// How it is compared.
    pub rule: Rule,
    /// The kernel module that provides the setting; `None` if the kernel itself does.
    pub module: Option<&'a str>,
}

/// The state of one setting on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingState {
    /// As wanted.
    Met,
    /// Another value.
    Off(String),
    /// The kernel has no such setting, or its module is not loaded.
    Absent,
    /// The setting exists and cannot be read, as in some containers.
    Unreadable(String),
}

/// The settings in [`SYSCTL_FILE`].
#[must_use]
pub fn sysctls() -> Vec<Sysctl<'static>> {
    parse(SYSCTL_FILE).expect("the file is part of the program")
}

/// Which line of a file for `sysctl` is malformed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {number}: {flaw}: {line}")]
pub struct SysctlFileError {
    number: usize,
    line: String,
    flaw: SysctlFlaw,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum SysctlFlaw {
    #[error("no such rule")]
    UnknownRule,
    #[error("no setting")]
    NoSetting,
    #[error("no rule before this setting")]
    NoRule,
}

/// Reads a file for `sysctl`, in which a comment `# Rule: ...` stands before each setting.
///
/// # Errors
/// Which line is malformed, and why.
pub fn parse(file: &str) -> Result<Vec<Sysctl<'_>>, SysctlFileError> {
    let mut settings = Vec::new();
    let mut rule = None;
    for (line, number) in file.lines().zip(1..) {
        let wrong = |flaw| SysctlFileError { number, line: line.to_owned(), flaw };
        if let Some(text) = line.strip_prefix(RULE) {
            rule = Some(parse_rule(text).ok_or_else(|| wrong(SysctlFlaw::UnknownRule))?);
        } else if !line.is_empty() && !line.starts_with('#') {
            let (key, value) = line.split_once(" = ").ok_or_else(|| wrong(SysctlFlaw::NoSetting))?;
            let key = key.trim_start_matches('-');
            let (rule, module) = rule.take().ok_or_else(|| wrong(SysctlFlaw::NoRule))?;
            settings.push(Sysctl { key, value, rule, module });
        }
    }
    Ok(settings)
}

/// `at least` or `exactly`, and perhaps `, module NAME`.
fn parse_rule(text: &str) -> Option<(Rule, Option<&str>)> {
    let (rule, module) = match text.split_once(", module ") {
        Some((rule, module)) => (rule, Some(module)),
        None => (text, None),
    };
    match rule {
        "at least" => Some((Rule::AtLeast, module)),
        "exactly" => Some((Rule::Exactly, module)),
        _ => None,
    }
}

impl Sysctl<'_> {
    /// Its state on this host.
    #[must_use]
    pub fn state(&self) -> SettingState {
        self.state_below(Path::new("/proc/sys"))
    }

    /// The command that sets it, until the next boot.
    #[must_use]
    pub fn remedy(&self) -> String {
        let module = self.module.map(|module| format!("modprobe {module} && ")).unwrap_or_default();
        if self.value.contains(' ') {
            return format!("{module}sysctl -w {}=\"{}\"", self.key, self.value);
        }
        format!("{module}sysctl -w {}={}", self.key, self.value)
    }

    fn state_below(&self, folder: &Path) -> SettingState {
        match read(folder, self.key) {
            Ok(value) if self.is_met_by(&value) => SettingState::Met,
            Ok(value) => SettingState::Off(value),
            Err(error) if error.kind() == ErrorKind::NotFound => SettingState::Absent,
            Err(error) => SettingState::Unreadable(error.to_string()),
        }
    }

    fn is_met_by(&self, value: &str) -> bool {
        match (self.rule, value.parse::<u64>(), self.value.parse::<u64>()) {
            (Rule::AtLeast, Ok(value), Ok(wanted)) => value >= wanted,
            _ => value == self.value,
        }
    }
}

/// A setting's value, its parts separated by single spaces.
fn read(folder: &Path, key: &str) -> io::Result<String> {
    let text = fs::read_to_string(folder.join(key.replace('.', "/")))?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The range of ports that this host uses for outgoing connections; `None` if it does not tell.
#[must_use]
pub fn outgoing_ports() -> Option<std::ops::RangeInclusive<u16>> {
    let range = read(Path::new("/proc/sys"), "net.ipv4.ip_local_port_range").ok()?;
    let (first, last) = range.split_once(' ')?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// How many descriptors the service may have: `LimitNOFILE` of its unit.
#[must_use]
pub fn descriptors_of_the_service() -> usize {
    let value = UNIT_FILE.lines().find_map(|line| line.strip_prefix("LimitNOFILE="));
    value.and_then(|value| value.parse().ok()).expect("the file is part of the program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_carries_can_be_read() {
        assert!(sysctls().iter().any(|setting| setting.key == "net.core.somaxconn"));
        assert!(descriptors_of_the_service() > 1_000_000);
        assert!(outgoing_ports().is_some_and(|ports| !ports.is_empty()));
    }

    #[test]
    fn a_file_is_read_and_its_mistakes_are_told() {
        let file = "# Why.\n# Rule: at least\na.b = 5\n\n# Rule: exactly, module m\n-c = 1 2\n";
        let expected = [
            Sysctl { key: "a.b", value: "5", rule: Rule::AtLeast, module: None },
            Sysctl { key: "c", value: "1 2", rule: Rule::Exactly, module: Some("m") },
        ];
        assert_eq!(parse(file).unwrap(), expected);
        for (file, problem) in [
            ("a = 1\n", "line 1: no rule before this setting"),
            ("# Rule: at least\na = 1\nb = 2\n", "line 3: no rule"),
            ("# Rule: more\n", "line 1: no such rule"),
            ("# Rule: exactly\na: 1\n", "line 2: no setting"),
        ] {
            let error = parse(file).unwrap_err().to_string();
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn a_host_is_compared_by_the_rule() {
        let folder = std::env::temp_dir().join(format!("fanfare-sysctl-{}", std::process::id()));
        fs::create_dir_all(folder.join("net")).unwrap();
        fs::write(folder.join("net/x"), "100\n").unwrap();
        fs::write(folder.join("net/y"), "1\t2\n").unwrap();
        let setting = |key, value, rule| Sysctl { key, value, rule, module: None };
        for (setting, state) in [
            (setting("net.x", "99", Rule::AtLeast), SettingState::Met),
            (setting("net.x", "101", Rule::AtLeast), SettingState::Off("100".to_owned())),
            (setting("net.x", "99", Rule::Exactly), SettingState::Off("100".to_owned())),
            (setting("net.y", "1 2", Rule::Exactly), SettingState::Met),
            (setting("net.z", "1", Rule::Exactly), SettingState::Absent),
        ] {
            assert_eq!(setting.state_below(&folder), state, "{setting:?}");
        }
        let unreadable = setting("net", "1", Rule::Exactly).state_below(&folder);
        assert!(matches!(unreadable, SettingState::Unreadable(_)), "{unreadable:?}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_remedy_is_a_command() {
        let setting = Sysctl { key: "a.b", value: "1 2", rule: Rule::Exactly, module: Some("m") };
        assert_eq!(setting.remedy(), "modprobe m && sysctl -w a.b=\"1 2\"");
        let setting = Sysctl { value: "1", module: None, ..setting };
        assert_eq!(setting.remedy(), "sysctl -w a.b=1");
    }
}
