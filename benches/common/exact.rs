//! Clients that only count throw away what they get. What they cannot see is seen in a second run, which nobody
//! measures: that each of them gets each publication once, and in order.

use std::io::Result;
use std::ops::RangeInclusive;

use super::LIMIT;
use super::publisher::{Publisher, numbered_data};
use super::support::engine::Engine;
use super::support::swarm::{ClientIndex, Line, Observer, Swarm};

/// Fan-outs of a second run. What comes twice shows when the next one comes.
const FAN_OUTS: u64 = 3;

/// An observer that expects publications numbered from 1 on: each of them once, and in order.
#[derive(Debug)]
pub(crate) struct Numbered {
    newest: Vec<u64>,
    publications: u64,
}

impl Numbered {
    pub(crate) fn new(clients: usize) -> Self {
        Self { newest: vec![0; clients], publications: 0 }
    }

    /// Whether every client has all up to this number, if no later one was published.
    pub(crate) fn have_come_up_to(&self, number: u64) -> bool {
        self.publications == number * self.newest.len() as u64
    }
}

impl Observer for Numbered {
    fn line(&mut self, client: ClientIndex, line: Line<'_>) {
        match line {
            Line::Publication(publication) => {
                let newest = &mut self.newest[client];
                assert_eq!(publication.number, *newest + 1, "client {client} has {newest}");
                *newest += 1;
                self.publications += 1;
            }
            Line::Ping => {}
            other => panic!("client {client} got {other:?}"),
        }
    }
}

/// Has clients that count read some fan-outs, each of `lines` publications and begun when everyone has the one
/// before; then they count again. `publish` publishes those of one fan-out, with these numbers, to each client.
pub(crate) fn check(
    swarm: &mut Swarm,
    lines: u64,
    mut publish: impl FnMut(RangeInclusive<u64>) -> Result<()>,
) -> Result<()> {
    let mut numbered = Numbered::new(swarm.len());
    swarm.read_again();
    for fan_out in 0..FAN_OUTS {
        let last = (fan_out + 1) * lines;
        publish(fan_out * lines + 1..=last)?;
        let all = |_: &Swarm, numbered: &mut Numbered| numbered.have_come_up_to(last);
        swarm.turn_until("a numbered fan-out reaches everyone", LIMIT, &mut numbered, all)?;
    }
    swarm.count_only();
    Ok(())
}

/// The same by the engine's API. Every client has all of the topics, which take turns.
pub(crate) fn check_broadcasts(
    engine: &Engine,
    swarm: &mut Swarm,
    topics: &[String],
    lines: u64,
    line_bytes: usize,
) -> Result<()> {
    let mut publisher = Publisher::connect(engine.control_address())?;
    let mut next = topics.iter().cycle();
    check(swarm, lines, |numbers| {
        let topic = next.next().expect("they repeat");
        let request = |number| publisher.request(topic, &numbered_data(topic, number, line_bytes));
        let (count, requests) = (numbers.clone().count(), numbers.flat_map(request).collect::<Vec<_>>());
        publisher.publish(&requests, count)
    })
}
