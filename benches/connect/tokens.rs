//! Clients that show tokens: what the engine spends on them, against clients that need none. Each client has a token of its
//! own. They are new to the engine, whose signatures it then has to check, or it remembers them from the round before.

use std::io::Result;
use std::ops::RangeFrom;

use super::{CONFIGURATION, Cost, connect_all, wait_until_empty};
use crate::common::measure::{Summary, Watched};
use crate::common::report::{Report, Target};
use crate::common::support::engine::Engine;
use crate::common::token::Issuer;
use crate::common::{on_client_cpu, start_engine};

/// Clients of one kind, and their engine.
struct Kind {
    name: &'static str,
    engine: Engine,
    shard: Watched,
    tokens: Vec<String>,
    /// Signatures that the engine checks in a round.
    checks: usize,
    costs: Vec<Cost>,
}

impl Kind {
    fn new(name: &'static str, configuration: &str, tokens: Vec<String>, checks: usize) -> Result<Self> {
        let engine = start_engine(&format!("{CONFIGURATION}{configuration}"));
        let shard = Watched::new(engine.pid(), Some("shard-0"))?;
        Ok(Self { name, engine, shard, tokens, checks, costs: Vec::new() })
    }

    fn round(&self, network: u8, clients: usize) -> Result<Cost> {
        let checked = || self.engine.metric("fanfare_tokens_verified_total", &[]);
        let before = checked();
        let cost = connect_all(self.engine.client_address(), network, clients, &self.tokens, &self.shard)?;
        wait_until_empty(&self.engine);
        assert_eq!(checked() - before, self.checks as f64, "signatures checked: {}", self.name);
        Ok(cost)
    }
}

/// All kinds in turns.
pub(super) fn run(
    clients: usize,
    rounds: usize,
    networks: &mut RangeFrom<u8>,
    report: &mut Report,
) -> Result<()> {
    report.part("tokens", "each client has a token of its own; RS256 with 2,048 bits");
    let mut kinds = kinds(clients)?;
    on_client_cpu(|| {
        let mut round =
            |kind: &Kind| kind.round(networks.next().expect("there are enough for all rounds"), clients);
        if let Some(remembered) = kinds.last_mut() {
            remembered.checks = clients;
            round(remembered)?;
            remembered.checks = 0;
        }
        for _ in 0..rounds {
            for kind in &mut kinds {
                let cost = round(kind)?;
                kind.costs.push(cost);
            }
        }
        Ok::<_, std::io::Error>(())
    })?;
    show(&kinds, clients, report);
    Ok(())
}

/// Those without tokens come first, and those whose tokens are remembered last.
fn kinds(clients: usize) -> Result<Vec<Kind>> {
    let (hs256, rs256) = (Issuer::with_secret("a secret of thirty-two bytes, or more"), Issuer::rs256());
    let tokens = |issuer: &Issuer| (0..clients).map(|client| issuer.token(client)).collect::<Vec<_>>();
    // Fewer than there are, in the order in which they come: each is forgotten before it comes again.
    let forgetful = format!("[limits]\ntokens = {}\n", clients / 2);
    let of_rs256 = tokens(&rs256);
    Ok(vec![
        Kind::new("none", "", Vec::new(), 0)?,
        Kind::new("HS256", &(forgetful.clone() + &hs256.configuration), tokens(&hs256), clients)?,
        Kind::new("RS256", &(forgetful + &rs256.configuration), of_rs256.clone(), clients)?,
        Kind::new(
            "RS256, remembered",
            &format!("[limits]\ntokens = {}\n{}", 2 * clients, rs256.configuration),
            of_rs256,
            0,
        )?,
    ])
}

fn show(kinds: &[Kind], clients: usize, report: &mut Report) {
    let each = |cost: &Cost| cost.thread.microseconds_each(clients as f64);
    let none = &kinds[0];
    for kind in kinds {
        let ratios = kind.costs.iter().zip(&none.costs).map(|(with, without)| each(with) / each(without));
        let ratio = Summary::of(ratios);
        report.row(&format!("{}: CPU of shard / without", kind.name), ratio, "", Target::None);
        let own = Summary::of(kind.costs.iter().map(each));
        report.row(&format!("{}: CPU of shard", kind.name), own, "us per client", Target::None);
        let rates = kind.costs.iter().map(|cost| clients as f64 / cost.wall.as_secs_f64());
        report.row(&format!("{}: connections", kind.name), Summary::of(rates), "per second", Target::None);
    }
}
