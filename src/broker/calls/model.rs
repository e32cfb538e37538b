//! Calls in random order, against what must hold whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use super::tests::{config, granted, rpc, subscribe};
use super::*;
use crate::config::Interval;

use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Begin {
        client: u32,
        /// A question about the client, and none of its requests.
        is_question: bool,
    },
    /// A client leaves, or only one of its commands is withdrawn.
    Withdraw {
        client: u32,
        command: Option<u32>,
    },
    Send,
    /// The answer to one of those under way, or to any number.
    Answer {
        which: usize,
        works: bool,
    },
    AnswerTo(u64),
    Pass(u64),
    Reload {
        concurrency: usize,
        queue: usize,
        is_there: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4_u32, any::<bool>()).prop_map(|(client, is_question)| Step::Begin { client, is_question }),
        2 => (0..4_u32, prop::option::of(0..60_u32))
            .prop_map(|(client, command)| Step::Withdraw { client, command }),
        6 => Just(Step::Send),
        5 => (0..8_usize, prop::bool::weighted(0.6)).prop_map(|(which, works)| Step::Answer { which, works }),
        1 => (0..60_u64).prop_map(Step::AnswerTo),
        2 => (0..3000_u64).prop_map(Step::Pass),
        1 => (1..4_usize, 0..9_usize, prop::bool::weighted(0.8))
            .prop_map(|(concurrency, queue, is_there)| Step::Reload { concurrency, queue, is_there }),
    ]
}

struct Open {
    client: u32,
    is_question: bool,
    weight: usize,
}

/// What is known from outside.
struct Model {
    calls: Calls,
    now: Instant,
    concurrency: usize,
    /// The calls that were admitted and have not ended, by the ids of their commands.
    open: BTreeMap<u32, Open>,
    /// Those that were sent, by number: the ids of their commands.
    sent: BTreeMap<u64, u32>,
    /// The newest id that was sent, by client.
    order: BTreeMap<u32, u32>,
    begun: u32,
    ended: BTreeSet<u32>,
    /// Calls that were withdrawn when they had been sent.
    disowned: BTreeSet<u32>,
}

const CALLS_MAX: usize = 8;

impl Model {
    fn new() -> Self {
        let calls = Calls::new(&settings(2, 4, true), BackendsStats::default());
        let (open, sent, order, ended) = Default::default();
        Self {
            calls,
            now: Instant::now(),
            concurrency: 2,
            open,
            sent,
            order,
            begun: 0,
            ended,
            disowned: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Begin { client, is_question } => self.begin(client, is_question),
            Step::Withdraw { client, command } => self.withdraw(client, command),
            Step::Send => self.send(),
            Step::Answer { which, works } => {
                if let Some(&number) = self.sent.keys().nth(which) {
                    self.answer(number, if works { granted() } else { Err(CallFault::Lost("cut".into())) });
                }
            }
            Step::AnswerTo(number) => self.answer(number, granted()),
            Step::Pass(milliseconds) => self.now += Duration::from_millis(milliseconds),
            Step::Reload { concurrency, queue, is_there } => {
                self.concurrency = concurrency;
                self.calls.adopt(&settings(concurrency, queue, is_there));
            }
        }
        while let Some(ended) = self.calls.next_ended(self.now) {
            assert!(ended.outcome.is_err());
            self.end(&ended);
        }
        assert!(self.calls.next_deadline().is_none_or(|next| next > self.now));
        assert_eq!(self.calls.under_way(), self.sent.len());
        assert!(self.open.len() <= CALLS_MAX);
        let weight: usize = self.open.values().map(|open| open.weight).sum();
        assert_eq!(self.calls.shares.taken(), (self.open.len(), weight));
    }

    fn begin(&mut self, client: u32, is_question: bool) {
        self.begun += 1;
        let mut call = if is_question { subscribe(client, 0) } else { rpc(client) };
        call.reply_to.command.id = self.begun;
        // The id of its command may be taken from it.
        call.caller.client = self.begun.to_string().into();
        let open = Open { client, is_question, weight: call.weight() };
        match self.calls.begin(Some("shop"), call, self.now) {
            Ok(()) => drop(self.open.insert(self.begun, open)),
            Err(ended) => assert_eq!(id_of(&ended.call), self.begun),
        }
    }

    /// Questions about the client end that have not been sent, and nothing else.
    fn withdraw(&mut self, client: u32, command: Option<u32>) {
        self.calls.withdraw(client_of(&rpc(client)), command, self.now);
        let sent: BTreeSet<u32> = self.sent.values().copied().collect();
        let ends = |id: u32, open: &Open| {
            let is_meant = command.is_none_or(|command| command == id);
            open.client == client && open.is_question && is_meant && !sent.contains(&id)
        };
        if let Some(command) = command
            && sent.contains(&command)
            && self.open.get(&command).is_some_and(|open| open.client == client && open.is_question)
        {
            self.disowned.insert(command);
        }
        let ended = &mut self.ended;
        self.open.retain(|&id, open| !ends(id, open) || !ended.insert(id));
    }

    fn send(&mut self) {
        let Some(Outgoing { number, call, .. }) = self.calls.next_to_send(self.now) else { return };
        let id = id_of(call);
        let client = self.open[&id].client;
        let last = self.order.insert(client, id);
        assert!(last.is_none_or(|last| last < id), "a client's calls stay in order");
        assert_eq!(self.sent.insert(number, id), None, "no number is used twice");
        assert!(self.sent.len() <= 4.max(self.concurrency));
    }

    fn answer(&mut self, number: u64, outcome: Result<BackendAnswer, CallFault>) {
        let ended = self.calls.answered(number, self.now, |_, _| outcome);
        assert_eq!(ended.is_some(), self.sent.contains_key(&number), "only what is under way is answered");
        if let Some(ended) = ended {
            self.end(&ended);
        }
    }

    fn end(&mut self, ended: &Ended) {
        let id = id_of(&ended.call);
        let is_disowned = self.disowned.remove(&id);
        assert_eq!(ended.call.reply_to.command.id, if is_disowned { 0 } else { id });
        assert!(self.open.remove(&id).is_some() && self.ended.insert(id), "call {id} ends once");
        self.sent.retain(|_, sent| *sent != id);
    }
}

fn id_of(call: &Call) -> u32 {
    call.caller.client.parse().expect("the id of its command")
}

fn settings(concurrency: usize, queue: usize, is_there: bool) -> Config {
    let mut config = config(|backend| {
        backend.concurrency = concurrency;
        backend.queue = queue;
        backend.queue_timeout = Interval::from_millis(1500);
    });
    config.limits.calls = CALLS_MAX;
    if !is_there {
        config.backends.clear();
    }
    config
}

proptest! {
    #[test]
    fn every_call_ends_once_and_no_bound_is_passed(steps in prop::collection::vec(step(), 1..200)) {
        let mut model = Model::new();
        steps.iter().for_each(|step| model.step(step));
        // In the end, all of them have ended.
        model.step(&Step::Pass(60_000));
        prop_assert!(model.open.is_empty() && model.sent.is_empty());
        prop_assert!(model.calls.backends.iter().all(|backend| backend.next_deadline().is_none()));
    }
}
