//! What a scrape shows.

use super::*;
use crate::domain::call::{CallFault, CallKind};
use crate::domain::reasons::CloseReason;
use crate::stats::CallOutcome;
use std::collections::BTreeMap;
use std::time::Duration;

/// Every sample by name and labels. Fails on what is no OpenMetrics text.
fn parse(page: &str) -> BTreeMap<String, f64> {
    let body = page.strip_suffix("# EOF\n").expect("closed by an EOF line");
    let samples = body.lines().filter(|line| !line.starts_with("# "));
    let parse = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    let parsed: BTreeMap<String, f64> = samples.clone().map(parse).collect();
    assert_eq!(parsed.len(), samples.count(), "every sample once");
    parsed
}

fn page(stats: &Stats) -> String {
    let mut page = String::new();
    text::encode(&mut page, &registry(stats, Mode::Embedded)).unwrap();
    page
}

#[test]
fn numbers_arrive_under_their_names() {
    let stats = Stats::new(2, vec!["default".to_owned(), "chat".to_owned()]);
    stats.shards[1].deliveries.add(7);
    stats.shards[1].open.set(3);
    stats.shards[0].policy_skip.add(2);
    stats.shards[0].closes[CloseReason::Slow as usize].add(4);
    stats.broker.publications.add(9);
    stats.broker.namespace_publications.at(1).add(5);
    stats.shards[0].namespace_subscriptions.at(1).add(2);
    stats.shards[1].namespace_subscriptions.at(1).add(3);
    stats.broker.backplane.set(1);
    let samples = parse(&page(&stats));
    for (name, value) in [
        (r#"fanfare_deliveries_total{shard="0"}"#, 0.0),
        (r#"fanfare_deliveries_total{shard="1"}"#, 7.0),
        (r#"fanfare_clients{shard="1",state="open"}"#, 3.0),
        (r#"fanfare_slow_outcomes_total{shard="0",policy="skip"}"#, 2.0),
        (r#"fanfare_closes_total{shard="0",reason="slow"}"#, 4.0),
        ("fanfare_publications_total", 9.0),
        (r#"fanfare_namespace_publications_total{namespace="default"}"#, 0.0),
        (r#"fanfare_namespace_publications_total{namespace="chat"}"#, 5.0),
        (r#"fanfare_namespace_subscriptions{namespace="default"}"#, 0.0),
        (r#"fanfare_namespace_subscriptions{namespace="chat"}"#, 5.0),
        ("fanfare_rabbitmq_ready", 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
    let build = format!(r#"fanfare_build_info{{version="{}",mode="embedded"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(samples.get(&build), Some(&1.0));
    assert!(samples["process_resident_memory_bytes"] > 1e6);
}

#[test]
fn calls_are_shown_by_backend_kind_and_outcome() {
    let stats = Stats::new(1, vec![]);
    let shop = stats.broker.backends.of("shop");
    shop.count(CallKind::Subscribe, CallOutcome::of(&Err(CallFault::Late)));
    shop.took(Duration::from_millis(200));
    shop.waiting.set(3);
    let samples = parse(&page(&stats));
    for (name, value) in [
        (r#"fanfare_calls_total{backend="shop",call="subscribe",outcome="late"}"#, Some(1.0)),
        (r#"fanfare_calls_total{backend="shop",call="subscribe",outcome="answered"}"#, Some(0.0)),
        (r#"fanfare_calls_total{backend="shop",call="rpc",outcome="answered"}"#, None),
        (r#"fanfare_calls_waiting{backend="shop"}"#, Some(3.0)),
        (r#"fanfare_calls_in_flight{backend="shop"}"#, Some(0.0)),
        (r#"fanfare_backend_suspended{backend="shop"}"#, Some(0.0)),
        (r#"fanfare_call_seconds_bucket{le="0.25",backend="shop"}"#, Some(1.0)),
        (r#"fanfare_call_seconds_sum{backend="shop"}"#, Some(0.2)),
        ("fanfare_call_answers_unexpected_total", Some(0.0)),
    ] {
        assert_eq!(samples.get(name).copied(), value, "{name}");
    }
}

#[test]
fn histograms_are_cumulative_and_in_their_units() {
    let stats = Stats::new(1, Vec::new());
    stats.shards[0].lines_per_frame.observe(3, 5);
    stats.shards[0].lines_per_frame.observe(5000, 1);
    stats.broker.handover.observe(400, 2);
    let samples = parse(&page(&stats));
    for (name, value) in [
        (r#"fanfare_lines_per_frame_bucket{le="2.0",shard="0"}"#, 0.0),
        (r#"fanfare_lines_per_frame_bucket{le="4.0",shard="0"}"#, 5.0),
        (r#"fanfare_lines_per_frame_bucket{le="+Inf",shard="0"}"#, 6.0),
        (r#"fanfare_lines_per_frame_count{shard="0"}"#, 6.0),
        (r#"fanfare_lines_per_frame_sum{shard="0"}"#, 5015.0),
        (r#"fanfare_handover_seconds_bucket{le="0.0005"}"#, 2.0),
        ("fanfare_handover_seconds_sum", 0.0008),
    ] {
        let found = samples.get(name).copied();
        assert!(
            found.is_some_and(|found| (found - value).abs() < 1e-9),
            "{name}: {found:?}\n{}",
            page(&stats)
        );
    }
}

#[test]
fn every_name_is_explained_once() {
    let page = page(&Stats::new(1, Vec::new()));
    let explained: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# HELP ")).collect();
    let names: BTreeMap<_, _> = explained.iter().filter_map(|line| line.split_once(' ')).collect();
    assert_eq!(names.len(), explained.len());
    assert!(names.values().all(|help| help.ends_with('.')), "{names:?}");
}
