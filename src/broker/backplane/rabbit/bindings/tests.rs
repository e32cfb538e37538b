//! Tables for single rules, and any course of events against a RabbitMQ of a few lines.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LINGER: Duration = Duration::from_secs(10);
const SMALL: BindingLimits = BindingLimits { topics: 4, buckets: 2 };

/// Bindings, a clock that is moved by hand, and the other end: a queue that does what it is told when asked.
struct Harness {
    bindings: Bindings,
    now: Instant,
    /// What was sent and is not done.
    sent: VecDeque<Order>,
    bound: BTreeSet<String>,
    /// Topics whose subscribers were answered, and have not left.
    subscribed: BTreeSet<String>,
    /// Those who are still to be answered.
    waiting: BTreeSet<String>,
}

impl Harness {
    fn new(limits: BindingLimits) -> Self {
        Self {
            bindings: Bindings::new(LINGER, limits),
            now: Instant::now(),
            sent: VecDeque::new(),
            bound: BTreeSet::new(),
            subscribed: BTreeSet::new(),
            waiting: BTreeSet::new(),
        }
    }

    fn linked(limits: BindingLimits) -> Self {
        let mut harness = Self::new(limits);
        harness.bindings.linked();
        harness
    }

    fn want(&mut self, topic: &str) -> Coming {
        let coming = self.bindings.want(&topic.into());
        let whom = if coming.is_awaited { &mut self.waiting } else { &mut self.subscribed };
        whom.insert(topic.to_owned());
        coming
    }

    fn leave(&mut self, topic: &str) {
        assert!(self.subscribed.remove(topic), "{topic} was subscribed to");
        self.bindings.leave(&topic.into(), self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.bindings.pass(self.now);
    }

    /// The other end does the next thing it is told, if anything.
    fn obey(&mut self) -> bool {
        self.sent.extend(std::iter::from_fn(|| self.bindings.next_order()));
        let Some(order) = self.sent.pop_front() else { return false };
        match order {
            Order::Bind(key) => self.bound.insert(key.to_string()),
            Order::Unbind(key) => self.bound.remove(&*key),
        };
        for topic in self.bindings.done() {
            if self.waiting.remove(&*topic) {
                self.subscribed.insert(topic.to_string());
            }
        }
        true
    }

    fn obey_all(&mut self) {
        while self.obey() {}
    }

    fn lose(&mut self) {
        self.bindings.lost();
        self.sent.clear();
        self.bound.clear();
        self.subscribed.append(&mut self.waiting);
    }

    fn bound(&self) -> Vec<&str> {
        self.bound.iter().map(String::as_str).collect()
    }

    /// Whether a message of this topic would come, for keys as they are made here.
    fn is_heard(&self, topic: &str) -> bool {
        self.bound.iter().any(|key| {
            let word = key.strip_suffix(".#");
            key == "#" || key == topic || word.is_some_and(|word| topic.split('.').next() == Some(word))
        })
    }
}

const NEW: Coming = Coming { is_new: true, is_awaited: true };
const KNOWN: Coming = Coming { is_new: false, is_awaited: false };

#[test]
fn a_topic_is_bound_from_its_first_subscriber_until_a_while_after_its_last() {
    let mut harness = Harness::linked(SMALL);
    assert_eq!(harness.want("a"), NEW);
    assert_eq!(harness.want("a"), Coming { is_new: false, is_awaited: true }, "another shard waits too");
    assert!(harness.subscribed.is_empty());
    harness.obey_all();
    assert_eq!((harness.bound(), harness.subscribed.len()), (vec!["a"], 1));
    assert_eq!(harness.want("a"), KNOWN);
    harness.leave("a");
    assert_eq!(harness.bindings.next_change(), Some(harness.now + LINGER));
    harness.wait(LINGER - Duration::from_millis(1));
    harness.obey_all();
    assert_eq!(harness.bound(), ["a"]);
    assert_eq!(harness.want("a"), KNOWN, "who comes back in time finds it bound");
    harness.wait(LINGER);
    harness.leave("a");
    harness.wait(LINGER);
    assert!(!harness.bindings.is_wanted("a"));
    assert_eq!(harness.want("a"), NEW, "it may be unbound before it is bound again");
    harness.obey_all();
    assert_eq!((harness.bound(), harness.bindings.next_change()), (vec!["a"], None));
    harness.leave("a");
    harness.wait(LINGER);
    harness.obey_all();
    assert_eq!(harness.bound(), [""; 0]);
}

#[test]
fn beyond_the_room_topics_share_buckets_and_leave_them_when_there_is_room_again() {
    let mut harness = Harness::linked(SMALL);
    let cases: [(&str, &[&str]); 9] = [
        ("x.1", &["x.1"]),
        ("x.2", &["x.1", "x.2"]),
        ("x.3", &["x.1", "x.2", "x.3"]),
        ("x.4", &["x.1", "x.2", "x.3", "x.4"]),
        ("x.5", &["x.#", "x.1", "x.2", "x.3", "x.4"]),
        ("x.6.y", &["x.#", "x.1", "x.2", "x.3", "x.4"]),
        ("y.1", &["x.#", "x.1", "x.2", "x.3", "x.4", "y.#"]),
        ("z.1", &["#", "x.#", "x.1", "x.2", "x.3", "x.4", "y.#"]),
        ("plain", &["#", "x.#", "x.1", "x.2", "x.3", "x.4", "y.#"]),
    ];
    for (topic, bound) in cases {
        harness.want(topic);
        harness.obey_all();
        assert_eq!(harness.bound(), bound, "after {topic}");
        assert!(harness.subscribed.contains(topic), "{topic}");
    }
    for topic in ["x.1", "x.2", "x.3", "x.4", "x.6.y", "y.1", "z.1"] {
        harness.leave(topic);
    }
    harness.wait(LINGER);
    while harness.obey() {
        assert!(harness.is_heard("x.5") && harness.is_heard("plain"), "{:?}", harness.bound());
    }
    assert_eq!((harness.bound(), harness.bindings.have_buckets()), (vec!["plain", "x.5"], false));
}

#[test]
fn a_topic_named_like_a_bucket_shares_its_binding() {
    let mut harness = Harness::linked(BindingLimits { topics: 2, buckets: 2 });
    for topic in ["x.#", "a", "x.1", "#", "plain"] {
        harness.want(topic);
        harness.obey_all();
    }
    assert_eq!(harness.bound(), ["#", "a", "x.#"]);
    harness.leave("x.#");
    harness.leave("a");
    harness.wait(LINGER);
    harness.obey_all();
    assert!(harness.is_heard("x.1"), "the bucket is still needed");
    harness.leave("plain");
    harness.leave("x.1");
    harness.wait(LINGER);
    harness.obey_all();
    assert_eq!((harness.bound(), harness.bindings.buckets), (vec!["#"], 0), "now it is the topic's own");
}

#[test]
fn buckets_are_by_first_words() {
    let long = "w".repeat(254) + ".";
    for (topic, bucket) in [
        ("order.42", Some("order.#")),
        ("order.42.line", Some("order.#")),
        ("order.", Some("order.#")),
        (".42", Some(".#")),
        ("chat:42", None),
        ("", None),
        (&long, None),
    ] {
        assert_eq!(bucket_of(topic).as_deref(), bucket, "{topic}");
    }
}

#[test]
fn a_new_link_begins_with_what_is_wanted_and_nobody_waits_for_a_lost_one() {
    let mut harness = Harness::new(SMALL);
    assert_eq!(harness.want("a"), Coming { is_new: true, is_awaited: false });
    assert!(!harness.bindings.are_restored(), "there is no link");
    harness.bindings.linked();
    assert!(!harness.bindings.are_restored());
    assert_eq!(harness.want("b"), NEW);
    assert!(harness.obey());
    assert!(harness.bindings.are_restored(), "b is not from before");
    harness.lose();
    assert!(!harness.bindings.are_restored());
    harness.leave("b");
    assert!(!harness.bindings.is_wanted("b"), "without a link there is nothing to linger for");
    harness.bindings.linked();
    harness.obey_all();
    assert_eq!(harness.bound(), ["a"]);
    harness.leave("a");
    harness.lose();
    harness.bindings.linked();
    assert!(harness.bindings.are_restored(), "nothing was wanted any more");
    assert_eq!(harness.bindings.next_order(), None);
}

#[test]
fn what_is_refused_is_not_wanted_and_what_was_sent_with_it_is_sent_again() {
    let mut harness = Harness::linked(BindingLimits { topics: 2, buckets: 1 });
    for topic in ["a", "b", "x.1", "x.2"] {
        harness.want(topic);
    }
    assert!(harness.obey());
    let key = |key: &str| Key::from(key);
    harness.sent.clear();
    assert_eq!(harness.bindings.refused(), Some((key("b"), vec![key("b")])));
    assert_eq!(harness.bindings.next_order(), Some(Order::Bind(key("x.#"))));
    let (bucket, mut topics) = harness.bindings.refused().expect("it is needed");
    topics.sort();
    assert_eq!((bucket, topics), (key("x.#"), vec![key("x.1"), key("x.2")]));
    assert!(harness.bindings.orders.is_empty() && harness.bindings.buckets == 0);
    harness.waiting.clear();
    harness.leave("a");
    harness.wait(LINGER);
    assert_eq!(harness.want("a"), NEW);
    assert_eq!(harness.bindings.next_order(), Some(Order::Unbind(key("a"))));
    assert_eq!(harness.bindings.refused(), None, "what cannot be unbound stays, and does no harm");
    assert_eq!(harness.bindings.next_order(), Some(Order::Bind(key("a"))));
}

#[test]
fn orders_under_way_and_topics_without_subscribers_are_bounded() {
    let mut harness = Harness::linked(BindingLimits { topics: 3 * WINDOW, buckets: 1 });
    let topics: Vec<_> = (0..2 * WINDOW).map(|n| n.to_string()).collect();
    for topic in &topics {
        harness.want(topic);
    }
    let sent = std::iter::from_fn(|| harness.bindings.next_order()).count();
    assert_eq!(sent, WINDOW);
    harness.bindings.done();
    assert!(harness.bindings.next_order().is_some() && harness.bindings.next_order().is_none());

    let mut harness = Harness::linked(SMALL);
    for n in 0..20 {
        let topic = format!("x.{n}");
        harness.want(&topic);
        harness.obey_all();
        harness.leave(&topic);
    }
    assert_eq!((harness.bindings.lingering.len(), harness.bindings.wanted.len()), (4, 4));
    assert!(harness.bindings.is_wanted("x.16") && !harness.bindings.is_wanted("x.15"), "the latest stay");
    let mut harness = Harness::linked(SMALL);
    for n in 0..20 {
        // RabbitMQ answers nothing.
        harness.want(&format!("x.{n}"));
    }
    assert_eq!(harness.bindings.orders.len(), 5, "four topics and a bucket");
}

#[derive(Clone, Debug)]
enum Step {
    Want(usize),
    Leave(usize),
    Wait(u64),
    Obey(usize),
    Lose,
    Link,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let topic = 0..TOPICS.len();
    let step = prop_oneof![
        6 => topic.clone().prop_map(Step::Want),
        4 => topic.prop_map(Step::Leave),
        2 => (0..15_u64).prop_map(Step::Wait),
        4 => (0..4_usize).prop_map(Step::Obey),
        1 => Just(Step::Lose),
        2 => Just(Step::Link),
    ];
    prop::collection::vec(step, 0..120)
}

const TOPICS: [&str; 11] = ["x.1", "x.2", "x.3", "x.#", "y.1", "y.2", "z.1", "plain", "other", "#", "x"];

proptest! {
    /// Whatever happens in whatever order: whoever was answered over a link that is restored is heard until it
    /// leaves; the bindings keep within the limits; and in the end nothing remains that nobody needs.
    #[test]
    fn whoever_was_answered_is_heard(steps in steps()) {
        let mut harness = Harness::linked(SMALL);
        for step in steps {
            match step {
                Step::Want(n) if !harness.subscribed.contains(TOPICS[n]) => {
                    harness.want(TOPICS[n]);
                }
                Step::Leave(n) if harness.subscribed.contains(TOPICS[n]) => harness.leave(TOPICS[n]),
                Step::Wait(seconds) => harness.wait(Duration::from_secs(seconds)),
                Step::Obey(times) => {
                    for _ in 0..times {
                        harness.obey();
                    }
                }
                Step::Lose if harness.bindings.is_linked => harness.lose(),
                Step::Link if !harness.bindings.is_linked => harness.bindings.linked(),
                _ => {}
            }
            if harness.bindings.are_restored() {
                for topic in &harness.subscribed {
                    prop_assert!(harness.is_heard(topic), "{} is not bound: {:?}", topic, harness.bound);
                }
            }
            let buckets = harness.bindings.bindings.values().filter(|binding| binding.is_bucket).count();
            prop_assert_eq!(buckets, harness.bindings.buckets);
            prop_assert!(buckets <= SMALL.buckets + 1, "and `#`");
        }
        if !harness.bindings.is_linked {
            harness.bindings.linked();
        }
        harness.obey_all();
        prop_assert!(harness.waiting.is_empty() && harness.bindings.awaited.is_empty());
        for topic in harness.subscribed.clone() {
            harness.leave(&topic);
        }
        harness.wait(LINGER);
        harness.obey_all();
        prop_assert_eq!(harness.bound(), vec![""; 0]);
        let Bindings { wanted, bindings, buckets, orders, .. } = &harness.bindings;
        prop_assert!(wanted.is_empty() && bindings.is_empty() && *buckets == 0 && orders.is_empty());
    }
}
