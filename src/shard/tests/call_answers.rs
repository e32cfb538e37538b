//! Answers of backends that come at the same moment, and what passes them.

use std::cell::Cell;

use super::calls::asking;
use super::*;
use crate::domain::call::{BackendAnswer, CallKind, Terms};
use crate::domain::mail::{Called, Lines, TopicSlot};
use crate::domain::reasons::UnsubscribeCode;

/// There is time for two answers in a tick.
fn world() -> World {
    asking(|config| config.budgets.read_time = Interval::from_millis(4))
}

impl World {
    /// So many clients, each of which has asked a backend, and the answers in the mailbox, each of so many bytes.
    fn answered(&mut self, count: usize, bytes: usize) -> Vec<Peer> {
        let asked = |_| {
            let peer = self.connect();
            self.say(&peer, r#"{"id":2,"rpc":{"method":"a"}}"#);
            (peer, self.call().reply_to.command)
        };
        let (peers, commands): (Vec<_>, Vec<_>) = (0..count).map(asked).unzip();
        for to in commands {
            let outcome = Ok(BackendAnswer::Granted(Terms::Rpc { data: vec![b'1'; bytes].into() }));
            let called = Box::new(Called { kind: CallKind::Rpc, topic: None, outcome });
            assert!(self.mail.send(Mail::Called { to, called }).is_ok());
        }
        peers
    }

    fn published(&self, topic: TopicSlot) {
        let bytes = b"published\n".to_vec().into();
        let lines = Lines { bytes, count: 1, plain_bytes: 10, offset: 0, keyed: None };
        assert!(self.mail.send(Mail::Batch { topic, lines }).is_ok());
    }

    /// A tick in which each look at the clock is a millisecond after the one before.
    fn slow_tick(&mut self) {
        let time = Cell::new(self.now.monotonic);
        self.shard.tick(self.now, || {
            time.set(time.get() + Duration::from_millis(1));
            time.get()
        });
    }
}

#[test]
fn deliveries_pass_answers_which_have_a_bounded_time_and_keep_their_order() {
    let mut world = world();
    let reader = world.connect();
    let topic = world.subscribe(&reader, "t");
    let peers = world.answered(6, 1);
    world.published(topic);
    let mut ticks = Vec::new();
    for _ in 0..3 {
        world.slow_tick();
        assert_eq!(reader.got().contains("published"), ticks.is_empty(), "it is delivered in the first tick");
        let answered = (0..6).filter(|&number| peers[number].got().contains(r#""rpc""#));
        ticks.push(answered.collect::<Vec<_>>());
        assert_eq!(world.shard.poll_timeout() == Some(Duration::ZERO), ticks.len() < 3, "others wait");
    }
    assert_eq!(ticks, [[0, 1], [2, 3], [4, 5]]);
}

#[test]
fn all_mail_waits_while_answers_take_too_much_memory() {
    let mut world = world();
    let reader = world.connect();
    let topic = world.subscribe(&reader, "t");
    let peers = world.answered(5, 400_000);
    world.published(topic);
    world.slow_tick();
    assert_eq!(world.shard.broker.mail.len(), 3, "more than a mebibyte waits");
    world.slow_tick();
    assert_eq!((world.shard.broker.mail.len(), reader.got().contains("published")), (1, false));
    world.slow_tick();
    assert!(reader.got().contains("published"));
    assert!(peers.iter().all(|peer| peer.got().len() > 400_000));
}

#[test]
fn what_an_operator_ends_is_not_granted_by_an_answer_that_came_before() {
    let mut world = world();
    let asked = |_| {
        let peer = world.connect();
        world.say(&peer, r#"{"id":2,"subscribe":{"channel":"asked:t"}}"#);
        (peer, world.call().reply_to.command)
    };
    let (peers, commands): (Vec<_>, Vec<_>) = (0..3).map(asked).unzip();
    for to in commands {
        let outcome = Ok(BackendAnswer::Granted(Terms::Subscribe(Box::default())));
        let topic = Some("asked:t".into());
        let called = Box::new(Called { kind: CallKind::Subscribe, topic, outcome });
        assert!(world.mail.send(Mail::Called { to, called }).is_ok());
    }
    for (client, topic) in
        [(Some(peers[2].key), "asked:u"), (Some(peers[1].key), "asked:t"), (None, "asked:t")]
    {
        let mail = Mail::Unsubscribe { client, topic: topic.into(), code: UnsubscribeCode::Server };
        assert!(world.mail.send(mail).is_ok());
    }
    world.tick();
    for peer in &peers {
        let got = peer.got();
        assert!(got.contains(r#"{"id":2,"error":{"code":103,"#) && !got.contains(r#""subscribe""#), "{got}");
    }
    assert_ne!(world.shard.poll_timeout(), Some(Duration::ZERO));
}
