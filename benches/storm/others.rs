//! What others notice of a storm: 500 clients that receive 50 publications a second while 15,000, which were cut, connect
//! again at once. One round is without a storm, one beside clients without tokens, and one beside clients each of which
//! shows a token of its own.

use std::io::Result;
use std::time::Duration;

use super::reconnecting::Reconnecting;
use crate::common::broadcasts::{Broadcasts, Spaced};
use crate::common::measure::Summary;
use crate::common::report::{Report, Target};
use crate::common::support::process::TempDir;
use crate::common::support::wait::wait_until;
use crate::common::token::Issuer;
use crate::common::{LIMIT, LINE_BYTES, on_client_cpu, start_engine};

const TOPIC: &str = "storm:others";
const CLIENTS: usize = 500;
const EACH: Duration = Duration::from_millis(20);
/// As long as a storm.
const LENGTH: Duration = Duration::from_secs(2);

/// What the others saw in one round of each kind, and how long both storms took, in milliseconds.
struct Round {
    quiet: Spaced,
    storms: [(Spaced, f64); 2],
}

/// The rows of this part. `storming` clients reconnect.
pub(crate) fn measure(storming: usize, rounds: usize, report: &mut Report) -> Result<()> {
    let issuer = Issuer::rs256();
    // Fewer tokens are remembered than there are, in the order in which they come: each signature is checked each time.
    let configuration = issuer.configuration.replace("[tokens]\n", "[tokens]\nanonymous = 'allow'\n");
    let engine = start_engine(&format!(
        "[timeouts]\nping = \"1h\"\n[namespaces.storm]\n[limits]\ntokens = {}\n{configuration}",
        storming / 2
    ));
    let files = TempDir::new("storm");
    let tokens: Vec<_> = (0..storming).map(|client| issuer.token(client)).collect();
    let tokens = files.write("tokens", &tokens.join("\n"));
    let rounds = on_client_cpu(|| {
        let mut reconnecting = Reconnecting::start(engine.client_address(), &tokens)?;
        reconnecting.begin(false)?;
        reconnecting.end()?;
        let mut others = Broadcasts::connect(&engine, CLIENTS, TOPIC, LINE_BYTES)?;
        others.round(EACH, LENGTH)?;
        let open = || engine.metric("fanfare_clients", &[("state", "open")]);
        let mut storm = |others: &mut Broadcasts<'_>, with_tokens| {
            // The engine has no room for those that come as long as it has not noticed who went.
            reconnecting.cut()?;
            wait_until(LIMIT, "the connections that were cut to be gone", || open() <= CLIENTS as f64);
            reconnecting.begin(with_tokens)?;
            let seen = others.round(EACH, LENGTH)?;
            Ok::<_, std::io::Error>((seen, reconnecting.end()?))
        };
        let round = |_| {
            let quiet = others.round(EACH, LENGTH)?;
            let without = storm(&mut others, false)?;
            Ok(Round { quiet, storms: [without, storm(&mut others, true)?] })
        };
        (0..rounds).map(round).collect::<Result<Vec<_>>>()
    })?;
    let checked = engine.metric("fanfare_tokens_verified_total", &[]);
    assert_eq!(checked, (storming * rounds.len()) as f64, "signatures that were checked");
    show(&rounds, storming, report);
    Ok(())
}

fn show(rounds: &[Round], storming: usize, report: &mut Report) {
    let about = format!("{CLIENTS} receive, while {storming} connect again at once (RS256, 2,048 bit)");
    report.part("others", &about);
    let summary = |of: &dyn Fn(&Round) -> f64| Summary::of(rounds.iter().map(of));
    let [anonymous, tokens] = [0, 1];
    let ratio = |kind: usize| summary(&|round| round.storms[kind].0.p99 / round.quiet.p99);
    report.row("p99 beside tokens / without a storm", ratio(tokens), "", Target::AtMost(1.5));
    report.row("p99 beside no tokens / without a storm", ratio(anonymous), "", Target::None);
    let ratio = summary(&|round| round.storms[tokens].0.p99 / round.storms[anonymous].0.p99);
    report.row("p99 beside tokens / beside no tokens", ratio, "", Target::None);
    report.row("p99 without a storm", summary(&|round| round.quiet.p99), "ms", Target::None);
    for (kind, name) in [(anonymous, "no tokens"), (tokens, "tokens")] {
        let of = |value: fn(&Spaced) -> f64| summary(&|round| value(&round.storms[kind].0));
        report.row(&format!("p50 beside {name}"), of(|seen| seen.p50), "ms", Target::None);
        report.row(&format!("p99 beside {name}"), of(|seen| seen.p99), "ms", Target::None);
        report.row(&format!("longest beside {name}"), of(|seen| seen.longest), "ms", Target::None);
        let back = summary(&|round| round.storms[kind].1);
        report.row(&format!("all with {name} have come"), back, "ms after the first", Target::None);
    }
}
