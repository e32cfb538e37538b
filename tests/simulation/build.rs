//! Makes a copy of the shard for each deliberate bug: the shipped source with one piece of text replaced.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Name, file below `src/shard`, the shipped text, and what the bug makes of it.
type Bug = (&'static str, &'static str, &'static str, &'static str);

const BUGS: &[Bug] = &include!("bugs.in");

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let shard = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/shard");
    println!("cargo::rerun-if-changed={}", shard.display());
    println!("cargo::rerun-if-changed=bugs.in");
    let harness = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/harness.rs");
    let mut modules = String::new();
    let mut list = String::from("pub const BUGS: &[(&str, fn(u64) -> crate::Events)] = &[\n");
    for bug in BUGS {
        copy(&shard, &out.join(bug.0), bug);
        let name = bug.0;
        modules += &format!(
            "#[allow(dead_code)] pub mod {name} {{ #[path = {:?}] pub mod shard; #[path = {harness:?}] pub mod harness; }}\n",
            out.join(name).join("mod.rs")
        );
        list += &format!("(\"{name}\", {name}::harness::run),\n");
    }
    fs::write(out.join("bugs.rs"), modules + &list + "];\n").expect("OUT_DIR can be written");
}

/// Copies the shard without its poll, and with the bug in it.
fn copy(from: &Path, to: &Path, &(name, file, shipped, broken): &Bug) {
    fs::create_dir_all(to).expect("OUT_DIR can be written");
    for entry in fs::read_dir(from).expect("src/shard is there") {
        let path = entry.expect("src/shard can be read").path();
        let file_name =
            path.file_name().and_then(|name| name.to_str()).expect("sources have plain names").to_owned();
        if file_name == "poll.rs" || !file_name.ends_with(".rs") {
            continue;
        }
        let mut text = fs::read_to_string(&path).expect("sources can be read");
        if file_name == file {
            let places = text.matches(shipped).count();
            assert_eq!(
                places, 1,
                "bug `{name}`: its text must stand once in src/shard/{file}; adapt tests/simulation/bugs.in"
            );
            text = text.replace(shipped, broken);
        }
        let text = text
            .replace("pub mod poll;\n", "")
            .replace("crate::shard::", &format!("crate::bugs::{name}::shard::"))
            .replace("crate::shard;", &format!("crate::bugs::{name}::shard;"));
        let rooms = [
            "capacity", "client_id", "config", "mail", "mailbox", "namespaces", "printable", "protocol", "ratelimit", "receipt", "session",
            "slab", "stats", "wire",
        ];
        let text = rooms.iter().fold(text, |text, room| {
            text.replace(&format!("crate::{room}::"), &format!("fanfare::{room}::"))
        });
        // Only a text that has changed is written, so that cargo need not build it again.
        let target = to.join(&file_name);
        if fs::read_to_string(&target).ok().as_ref() != Some(&text) {
            fs::write(target, text).expect("OUT_DIR can be written");
        }
    }
}
