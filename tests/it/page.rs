//! The live page in headless Chromium. What each story does and expects is in `tests/sdk/page.mjs`, in a
//! browser's own language; nothing may be fetched from elsewhere.

use crate::support::engine::{Engine, serve};
use crate::support::script::Script;
use crate::support::wait::SOON;

fn tell(story: &str, engine: &Engine) {
    tell_of(story, &engine.page_url(), &engine.ws_url());
}

fn tell_of(story: &str, page: &str, clients: &str) {
    let mut browser = Script::node("page.mjs", &[story, page, clients]);
    let done = browser.next_within(SOON * 5, story, |event| event["event"] == "done");
    assert!(done["requests"].as_u64() > Some(3), "too few requests to have been counted: {done}");
}

#[test]
fn with_the_demo_the_page_lives_at_once() {
    tell("live_at_once", &Engine::start(&["--demo"]));
}

#[test]
fn where_the_key_guards_everything_the_page_asks_for_it() {
    tell("key", &Engine::with_config("[control]\napi_key = \"secret\"\nguard_metrics = true\n"));
}

/// A page that was opened by this machine's address reaches the listener on all addresses by the same.
#[test]
fn by_the_address_of_the_machine_the_page_lives_as_well() {
    let mut command = serve();
    command.args(["--listen", "0.0.0.0:0", "--control", "0.0.0.0:0"]);
    command.envs([("FANFARE_SERVER_INSECURE", "true"), ("FANFARE_CONTROL_API_KEY", "secret")]);
    let engine = Engine::launch(command, None);
    // Another address than the one that is always let in.
    let elsewhere = |url: String| url.replace("0.0.0.0", "127.0.0.2");
    let (page, clients) = (elsewhere(engine.page_url()), elsewhere(engine.ws_url()));
    tell_of("connected", &page, &clients);
}

#[test]
fn when_the_engine_is_gone_no_figure_stays() {
    tell("gone", &Engine::start(&[]));
}

#[test]
fn nothing_wraps_or_overlaps_on_a_telephone() {
    tell("narrow", &Engine::start(&[]));
}

#[test]
fn topics_a_b_c_in_two_tabs() {
    tell("topics_a_b_c", &Engine::start(&[]));
}

#[test]
fn mistakes_are_pointed_out_and_markup_stays_text() {
    tell("mistakes", &Engine::start(&[]));
}

/// A page of a sandboxed frame has the origin `null`, which any web page can have.
#[test]
fn a_sandboxed_frame_is_refused() {
    tell("sandboxed_frame", &Engine::start(&[]));
}
