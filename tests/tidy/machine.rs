//! The project stands alone: no text in it names a path of the machine that it is worked on.

use std::fs;

use super::{Finding, below, files_below, report, root};

/// Folders that every system of this kind has: text may name them.
const SYSTEM: &[&str] = &[
    "bin", "boot", "dev", "etc", "lib", "media", "mnt", "opt", "proc", "run", "srv", "sys", "tmp", "usr",
    "var",
];

/// Beginnings of paths that exist on one machine only, as far as this machine shows them.
fn private_paths() -> Vec<String> {
    let mut paths = vec![root().to_string_lossy().into_owned()];
    // Put together here, so that this file does not name them itself.
    paths.extend(["home", "root", "Users"].map(|folder| format!("/{folder}/")));
    let top = root().iter().nth(1).map(|folder| folder.to_string_lossy().into_owned());
    paths.extend(top.filter(|folder| !SYSTEM.contains(&&**folder)).map(|folder| format!("/{folder}/")));
    paths
}

fn machine_paths(file: &str, text: &str, private: &[String]) -> Vec<Finding> {
    let begins_path = |line: &str, at: usize| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-/".contains(before))
    };
    let names = |line: &str| {
        private.iter().any(|path| line.match_indices(path.as_str()).any(|(at, _)| begins_path(line, at)))
    };
    let lines = text.lines().enumerate().filter(|(_, line)| names(line));
    lines
        .map(|(at, line)| Finding {
            file: file.to_owned(),
            line: at + 1,
            rule: format!("a path that only one machine has: {}", line.trim()),
            instead: "name it relative to the project, or find it at run time".to_owned(),
        })
        .collect()
}

#[test]
fn no_text_names_a_path_of_this_machine() {
    let private = private_paths();
    let mut findings = Vec::new();
    for path in files_below(root()) {
        // What is not text has no paths to read.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        findings.extend(machine_paths(&below(root(), &path), &text, &private));
    }
    report(&findings);
}

#[test]
fn a_path_of_this_machine_is_found_only_where_one_begins() {
    let private = private_paths();
    let found = machine_paths("README.md", &format!("a\nsee `{}x`", private[1]), &private);
    assert!(matches!(&found[..], [Finding { line: 2, .. }]));
    report(&machine_paths("README.md", "`src/home/x`, https://a.example/home/, /usr/lib, /tmp/x", &private));
}
