//! Makes two broken copies of the mailbox, each with one of its two orderings weakened: the model must
//! find both, or it proves nothing about the whole one.

use std::path::Path;
use std::{env, fs};

const MAILBOX: &str = "../../src/base/mailbox.rs";

/// Name of the copy, and the swap that is weakened in it.
const COPIES: [(&str, &str); 2] = [
    ("sender_relaxed.rs", ".swap(true, Ordering::AcqRel)"),
    ("receiver_relaxed.rs", ".swap(false, Ordering::AcqRel)"),
];

fn main() {
    println!("cargo::rerun-if-changed={MAILBOX}");
    let source = fs::read_to_string(MAILBOX).expect("the mailbox is there");
    // `include!` takes no documentation of a file as a whole.
    let source: String =
        source.lines().filter(|line| !line.starts_with("//!")).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(source.matches("Ordering::AcqRel").count(), COPIES.len(), "one copy for each ordering");
    let folder = env::var_os("OUT_DIR").expect("cargo says where to write");
    for (name, swap) in COPIES {
        assert_eq!(source.matches(swap).count(), 1, "{swap} is there once");
        let weakened = source.replace(swap, &swap.replace("AcqRel", "Relaxed"));
        fs::write(Path::new(&folder).join(name), weakened).expect("the build's folder can be written to");
    }
}
