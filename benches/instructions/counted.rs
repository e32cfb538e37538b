//! The operations under valgrind. Each is done once before it is counted, so that its buffers have grown and
//! what it looks up once (what the CPU can do, say) is known; what it leaves is dropped after the count.

#![allow(unused_qualifications, reason = "gungraun's macros write paths from the root")]

use std::hint::black_box;

use fanfare::base::mailbox::{Receiver, Sender};
use fanfare::domain::mail::Lines;
use fanfare::shard::log::{Log, Span};
use fanfare::transport::upgrade::UpgradePolicy;
use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group};

use super::operations::encode::Publication;
use super::operations::mailbox::Mail;
use super::operations::token::{Case, Place};
use super::operations::{decode, handshake, log, mailbox, token};

/// Without the simulation of a cache: the CPU's own is another one.
fn instructions() -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::with_args(["--cache-sim=no"]);
    callgrind.format([EventKind::Ir]);
    LibraryBenchmarkConfig::default().tool(callgrind).clone()
}

/// Asks for the counts of all.
pub(crate) fn run() {
    main();
}

fn publication() -> Publication {
    let mut publication = Publication::new(1000);
    assert!(publication.check());
    publication.encode();
    publication
}

#[library_benchmark]
#[bench::of_1000_bytes(publication())]
fn check(mut publication: Publication) -> (bool, Publication) {
    (black_box(publication.check()), publication)
}

#[library_benchmark]
#[bench::of_1000_bytes(publication())]
fn line(mut publication: Publication) -> (usize, Publication) {
    (black_box(publication.encode()), publication)
}

fn frame_with(message: &str) -> Vec<u8> {
    let frame = decode::masked(message);
    assert!(decode::decode(&mut frame.clone()));
    frame
}

#[library_benchmark]
#[bench::with_pong(frame_with(decode::PONG))]
#[bench::with_publish_of_1000_bytes(frame_with(&decode::publish()))]
fn frame(mut frame: Vec<u8>) -> (bool, Vec<u8>) {
    (black_box(decode::decode(&mut frame)), frame)
}

fn command_of(message: &'static str) -> &'static str {
    assert!(decode::parse(message));
    message
}

#[library_benchmark]
#[bench::subscribe(command_of(decode::SUBSCRIBE))]
fn command(message: &'static str) -> bool {
    black_box(decode::parse(message))
}

fn mailbox_in_use() -> (Sender<Mail>, Receiver<Mail>) {
    let (sender, mut receiver) = mailbox::mailbox();
    mailbox::send(&sender);
    mailbox::receive(&mut receiver);
    (sender, receiver)
}

#[library_benchmark]
#[bench::in_and_out(mailbox_in_use())]
fn mails_64((sender, mut receiver): (Sender<Mail>, Receiver<Mail>)) -> (Sender<Mail>, Receiver<Mail>) {
    mailbox::send(&sender);
    mailbox::receive(&mut receiver);
    (sender, receiver)
}

#[library_benchmark]
#[bench::to_2000_batches(log::log_of(2000), log::batch())]
fn append(mut log: Log, batch: Lines) -> (Log, Lines) {
    log::append(&mut log, &batch);
    (log, batch)
}

#[library_benchmark]
#[bench::newest_of_2000_batches(log::log_of(2000))]
fn span(log: Log) -> (Span, Log) {
    (black_box(log::newest(&log)), log)
}

fn handshake_policy() -> UpgradePolicy {
    let policy = handshake::policy();
    assert!(handshake::accept(handshake::BROWSER, &policy));
    policy
}

#[library_benchmark]
#[bench::of_a_browser(handshake_policy())]
fn answer(policy: UpgradePolicy) -> (bool, UpgradePolicy) {
    (black_box(handshake::accept(handshake::BROWSER, &policy)), policy)
}

fn signed() -> Case {
    let case = token::hs256();
    assert!(case.verify().is_some());
    case
}

#[library_benchmark]
#[bench::by_hs256(signed())]
fn verify(case: Case) -> (bool, Case) {
    (black_box(case.verify().is_some()), case)
}

fn changed(place: Place) -> (Case, String) {
    let case = signed();
    let token = case.changed_at(place);
    assert!(case.refuses(&token));
    (case, token)
}

// Both have the same count: how long a refusal takes says nothing about the right signature.
#[library_benchmark]
#[bench::first_byte(changed(Place::First))]
#[bench::last_byte(changed(Place::Last))]
fn refuse((case, token): (Case, String)) -> (bool, Case, String) {
    (black_box(case.refuses(&token)), case, token)
}

library_benchmark_group!(name = encoding, benchmarks = [check, line]);
library_benchmark_group!(name = decoding, benchmarks = [frame, command]);
library_benchmark_group!(name = mail, benchmarks = [mails_64]);
library_benchmark_group!(name = logs, benchmarks = [append, span]);
library_benchmark_group!(name = connecting, benchmarks = [answer]);
library_benchmark_group!(name = tokens, benchmarks = [verify, refuse]);

gungraun::main!(config = instructions(); library_benchmark_groups = encoding, decoding, mail, logs, connecting, tokens);
