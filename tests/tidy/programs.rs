//! What `tests/run` relies on: it reads from the sources what it runs, and how.

use std::fs;

use super::{Finding, paths_from_root, report, room_of, root, sources_below, words};

/// `tests/run` runs the test programs that start a RabbitMQ with each version, and finds them by the names of what starts
/// one. No other file of tests/support may start one for them.
#[test]
fn a_test_program_that_starts_a_rabbitmq_names_what_does() {
    let harness = &["harness.rs"][..];
    let starters = [
        ("RabbitNode", &["harness.rs", "rabbitmq.rs"][..]),
        ("Harness", harness),
        ("ProxiedVhost", harness),
        ("start_two_nodes", harness),
    ];
    for (name, users) in starters {
        let mut naming: Vec<String> = sources_below("tests/support")
            .into_iter()
            .filter(|(_, source)| source.contains(name))
            .map(|(path, _)| path)
            .collect();
        naming.sort();
        assert_eq!(naming, users, "what starts a RabbitMQ for a test program hides that from `tests/run`");
    }
}

/// `tests/run` runs the program `it` by files and folders beside its `main.rs`: those that share a RabbitMQ in one
/// process, each other one in a process of its own. It says which tests to run by a text that is in their names.
#[test]
fn each_module_of_it_is_there_and_is_run_alone() {
    let mut modules: Vec<String> =
        sources_below("tests/it").iter().map(|(path, _)| room_of(path).into()).collect();
    modules.sort();
    modules.dedup();
    modules.retain(|name| name != "main");
    let main = fs::read_to_string(root().join("tests/it/main.rs")).expect("source is text");
    let main = syn::parse_file(&main).expect("source is Rust");
    let named = main.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) => Some(module.ident.to_string()),
        _ => None,
    });
    let mut named: Vec<String> = named.filter(|name| name != "support").collect();
    named.sort();
    assert_eq!(named, modules, "tests/it/main.rs names all that is beside it");
    for name in &modules {
        // One without would not be missed among those that share a process.
        let of_it = |(path, source): &(String, String)| room_of(path) == name && source.contains("#[test]");
        assert!(sources_below("tests/it").iter().any(of_it), "tests/it/{name} has no test");
        let twice = modules.iter().find(|other| *other != name && other.ends_with(name));
        assert_eq!(twice, None, "`{name}::` is in the names of its tests too");
    }
    for (path, _) in sources_below("tests/it") {
        let parts = path.trim_end_matches(".rs").split('/').skip(1);
        for part in parts.filter(|part| *part != "mod") {
            let other = modules.iter().find(|name| part.ends_with(name.as_str()));
            assert_eq!(other, None, "tests/it/{path} would be run with that module too");
        }
    }
}

/// cargo-fuzz runs what the manifest names.
#[test]
fn each_fuzz_target_is_in_the_manifest() {
    let folder = root().join("tests/fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("it is text");
    for entry in fs::read_dir(folder.join("fuzz_targets")).expect("it is a folder") {
        let name = entry.expect("it can be read").file_name();
        let path = format!("path = \"fuzz_targets/{}\"", name.to_string_lossy());
        assert!(manifest.contains(&path), "{path} is not in tests/fuzz/Cargo.toml");
    }
}

/// What a module of `it` did for another would be hidden from `tests/run`, which runs those with both versions that
/// name the type.
fn foreign_modules(path: &str, source: &str) -> Vec<Finding> {
    let words = words(source.parse().unwrap_or_else(|error| panic!("tests/it/{path}: {error}")));
    let known = [room_of(path), "support"];
    paths_from_root(&["crate"], path, &words)
        .into_iter()
        .filter(|(place, _)| !known.contains(&place.split("::").next().unwrap_or_default()))
        .map(|(place, line)| Finding {
            file: format!("tests/it/{path}"),
            line,
            rule: format!("a module of `it` may not know another, as `{place}`"),
            instead: "put what two of them need into tests/support".to_owned(),
        })
        .collect()
}

#[test]
fn modules_of_it_do_not_know_each_other() {
    report(
        &sources_below("tests/it")
            .iter()
            .flat_map(|(path, source)| foreign_modules(path, source))
            .collect::<Vec<_>>(),
    );
    for source in ["use crate::rabbit::x;", "use super::rabbit::x;", "fn f() { crate::rabbit::x() }"] {
        assert_eq!(foreign_modules("rabbit_stream.rs", source).len(), 1, "{source}");
        assert_eq!(foreign_modules("rabbit.rs", source).len(), 0, "{source}");
    }
    let known = "use crate::support::{engine::Engine, wait::SOON}; use super::proxy::Proxy; use fanfare::config::Config;";
    assert_eq!(foreign_modules("proxies/mod.rs", &known.replace("super", "self")).len(), 0);
    assert_eq!(foreign_modules("proxies/proxy.rs", known).len(), 0);
}
