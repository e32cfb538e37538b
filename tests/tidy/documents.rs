//! Documents and comments name files that exist: a name that leads nowhere is worse than none.

use super::{Finding, below, files_below, root};
use std::fs;
use std::path::Path;

/// The folders of the project that texts name, as `src/broker/`.
const FOLDERS: [&str; 3] = ["src", "tests", "benches"];

/// Files of the project that a text names in backquotes, with their lines.
fn named(text: &str) -> Vec<(usize, &str)> {
    let is_path = |name: &&str| {
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte));
        let is_file = name.ends_with(".rs") || name.ends_with(".md");
        let is_folder = name.ends_with('/') && FOLDERS.iter().any(|folder| name.starts_with(folder));
        is_plain && !name.starts_with('/') && (is_file || is_folder)
    };
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(at, line)| {
            line.split('`').skip(1).step_by(2).filter(is_path).map(move |name| (at + 1, name))
        })
        .collect()
}

/// The comments of a source file; other lines are empty, so that numbers stay.
fn comments(source: &str) -> String {
    let comment = |line: &str| line.trim_start().starts_with("//").then(|| line.to_owned());
    source.lines().map(|line| comment(line).unwrap_or_default() + "\n").collect()
}

/// Whether a file is there for a reader of the file at `path`: from the project's root, from `src/`, or from any
/// folder between the root and the file, whose own folder is among them.
fn is_there(path: &Path, name: &str) -> bool {
    let own = path.with_extension("");
    let folders = own.ancestors().filter(|folder| folder.starts_with(root()));
    let sources = root().join("src");
    folders.chain([sources.as_path()]).any(|folder| folder.join(name).exists())
}

fn findings(path: &Path, text: &str) -> Vec<Finding> {
    let missing = named(text).into_iter().filter(|(_, name)| !is_there(path, name));
    missing
        .map(|(line, name)| Finding {
            file: below(root(), path),
            line,
            rule: format!("there is no `{name}`"),
            instead: "name the file that there is, from here, from src/ or from the project's root"
                .to_owned(),
        })
        .collect()
}

/// Functions that a text lists behind the name of their file, and that are not in it. Headings are left out.
fn missing_functions(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("//! #")).collect();
    let lines = lines.join("\n");
    let mut missing = Vec::new();
    let (mut file, mut source) = ("", String::new());
    for name in lines.split('`').skip(1).step_by(2) {
        if name.ends_with(".rs") {
            file = name;
            source = fs::read_to_string(root().join("src").join(name)).unwrap_or_default();
        } else if ["(", "<"].iter().all(|open| !source.contains(&format!("fn {name}{open}"))) {
            missing.push(format!("`{name}` in `{file}`"));
        }
    }
    missing
}

#[test]
fn functions_of_the_walks_are_there() {
    assert_eq!(missing_functions(include_str!("../../src/manual/walks.rs")), [""; 0]);
    let text = "//! # `heading`\n//! `lib.rs`: `gone`; `main.rs`: `main`";
    assert_eq!(missing_functions(text), ["`gone` in `lib.rs`"]);
}

#[test]
fn files_that_are_named_are_there() {
    let mut all = Vec::new();
    for path in files_below(root()) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let end = path.extension().and_then(|end| end.to_str());
        match end {
            Some("md") => all.extend(findings(&path, &text)),
            Some("rs") => all.extend(findings(&path, &comments(&text))),
            _ => {}
        }
    }
    super::report(&all);
}

#[test]
fn a_name_that_leads_nowhere_is_found() {
    let path = root().join("src/engine/mod.rs");
    let text = comments(
        "//! See `engine/mod.rs`, `threads.rs`.\nlet x = \"`none.rs`\";\n// `gone.rs`, `src/gone/`\n",
    );
    let found: Vec<_> =
        findings(&path, &text).into_iter().map(|finding| (finding.line, finding.rule)).collect();
    assert_eq!(found, [(3, "there is no `gone.rs`".to_owned()), (3, "there is no `src/gone/`".to_owned())]);
}
