//! No file may need another one that needs it in turn: what reads from top to bottom is understood so.

use std::collections::BTreeMap;

use super::{Word, is_test_file, sources, words};

/// A path of modules from the crate's root.
type Module = Vec<String>;

/// Which module each file is.
fn module_of(path: &str) -> Module {
    let parts = path.trim_end_matches(".rs").split('/');
    parts.filter(|part| !["mod", "lib", "main"].contains(part)).map(str::to_owned).collect()
}

/// All paths that are written out in a file, each as a whole. Those of a use tree are apart.
fn paths(words: &[Word]) -> Vec<Module> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let begins = at == 0 || words[at - 1].text != "::";
        if begins && is_name(word) && is(words, at + 1, "::") {
            follow(words, at, Vec::new(), &mut found);
        }
    }
    found
}

fn is_name(word: &Word) -> bool {
    word.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn is(words: &[Word], at: usize, text: &str) -> bool {
    words.get(at).is_some_and(|word| word.text == text)
}

/// Adds the paths that begin with `prefix` and go on at a word.
fn follow(words: &[Word], mut at: usize, mut prefix: Module, found: &mut Vec<Module>) {
    while words.get(at).is_some_and(is_name) {
        prefix.push(words[at].text.clone());
        if !is(words, at + 1, "::") {
            break;
        }
        at += 2;
    }
    if is(words, at, "{") {
        branches(words, at).into_iter().for_each(|branch| follow(words, branch, prefix.clone(), found));
    } else {
        found.push(prefix);
    }
}

/// Where the branches of a use tree begin, whose brace is at a word.
fn branches(words: &[Word], brace: usize) -> Vec<usize> {
    let (mut found, mut depth) = (Vec::new(), 0);
    for (at, word) in words.iter().enumerate().skip(brace) {
        match word.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && ["{", ","].contains(&word.text.as_str()) {
            found.push(at + 1);
        }
    }
    found
}

/// What a path in a module means, from the root.
fn absolute(module: &[String], path: &[String], modules: &BTreeMap<Module, Vec<Module>>) -> Option<Module> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    if ups > 0 {
        let base = &module[..module.len().checked_sub(ups)?];
        return Some([base, &path[ups..]].concat());
    }
    match path.first()?.as_str() {
        "crate" | "fanfare" => Some(path[1..].to_vec()),
        "self" => Some([module, &path[1..]].concat()),
        name => {
            let child = [module, &[name.to_owned()]].concat();
            modules.contains_key(&child).then(|| [module, path].concat())
        }
    }
}

/// Each module, and those that it needs. What it is a part of is none of them: that is what it completes.
fn needs(sources: &[(String, String)]) -> BTreeMap<Module, Vec<Module>> {
    let all = sources.iter().filter(|(path, _)| !is_test_file(path));
    let files: Vec<_> = all.map(|(path, source)| (module_of(path), source)).collect();
    let mut needs: BTreeMap<Module, Vec<Module>> =
        files.iter().map(|(module, _)| (module.clone(), Vec::new())).collect();
    for (module, source) in &files {
        let words = words(source.parse().unwrap_or_else(|error| panic!("{}: {error}", module.join("/"))));
        let meant = paths(&words).into_iter().filter_map(|path| absolute(module, &path, &needs));
        let file_of = |path: Module| {
            (1..=path.len()).rev().map(|length| path[..length].to_vec()).find(|path| needs.contains_key(path))
        };
        let mut others: Vec<_> =
            meant.filter_map(file_of).filter(|other| !module.starts_with(other)).collect();
        others.sort();
        others.dedup();
        needs.insert(module.clone(), others);
    }
    needs
}

/// A circle, if there is one: each of its modules needs the next one, and the last one the first.
fn circle(needs: &BTreeMap<Module, Vec<Module>>) -> Option<Vec<Module>> {
    let mut left = needs.clone();
    // What needs nobody who is left is in no circle.
    loop {
        let before = left.len();
        let names: Vec<_> = left.keys().cloned().collect();
        for name in names {
            if left[&name].iter().all(|other| !left.contains_key(other)) {
                left.remove(&name);
            }
        }
        if left.len() == before {
            break;
        }
    }
    let mut way = vec![left.keys().next()?.clone()];
    loop {
        let next = left[way.last()?].iter().find(|other| left.contains_key(*other))?;
        if let Some(at) = way.iter().position(|module| module == next) {
            return Some(way.split_off(at));
        }
        way.push(next.clone());
    }
}

fn circle_in(sources: &[(&str, &str)]) -> Option<String> {
    let sources: Vec<_> =
        sources.iter().map(|(path, source)| ((*path).to_owned(), (*source).to_owned())).collect();
    let modules = circle(&needs(&sources))?;
    Some(modules.iter().map(|module| module.join("/")).collect::<Vec<_>>().join(" -> "))
}

#[test]
fn no_file_needs_one_that_needs_it() {
    let needs = needs(&sources());
    assert!(needs[&vec!["shard".to_owned()]].len() > 10, "a room needs its files");
    let circle = circle(&needs).map(|modules| {
        let names: Vec<_> = modules.iter().map(|module| module.join("/")).collect();
        names.join(" -> ")
    });
    assert_eq!(
        circle, None,
        "these files of src need each other: move what both need into a file of its own"
    );
}

#[test]
fn circles_are_seen_however_they_are_written() {
    let room = ("a/mod.rs", "mod b; mod c; mod d; use b::B; pub struct A;");
    for (b, c, d, wanted) in [
        ("use super::c::C;", "use super::b::B;", "", Some("a/b -> a/c")),
        ("use crate::a::{c::C, A};", "", "fn f() { super::b::g() }", None),
        (
            "fn f() { super::c::g() }",
            "use crate::{a::{d::D, A}};",
            "impl crate::a::b::T for D {}",
            Some("a/b -> a/c -> a/d"),
        ),
        ("use super::A;", "use super::{self, b};", "use super::c;", None),
        ("use super::c;", "#[cfg(test)] mod tests { use super::super::b::B; }", "", None),
    ] {
        let sources = [("lib.rs", "mod a;"), room, ("a/b.rs", b), ("a/c.rs", c), ("a/d.rs", d)];
        assert_eq!(circle_in(&sources).as_deref(), wanted, "{b} | {c} | {d}");
    }
}
