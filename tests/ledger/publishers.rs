//! The publishers. Each repeats what it has no confirm for, with the same `message-id` or idempotency key,
//! until it has one: so what RabbitMQ confirmed is known to the last publication.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::json;

use crate::ledger::{Ledger, TopicIndex};
use crate::support::http;
use crate::support::wait::wait_until;

/// The exchange of the engine's default configuration.
const EXCHANGE: &str = "fanfare";
/// How long RabbitMQ may take to connect, or to confirm a batch, before a new connection is tried.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between a failed attempt and the next.
const RETRY: Duration = Duration::from_millis(200);
/// Between two looks at whether publishing may go on.
const LOOK: Duration = Duration::from_millis(10);
/// Longest time until what is unconfirmed gets its confirm, when everything is up again.
const CONFIRM_LIMIT: Duration = Duration::from_secs(90);

/// By which way a topic's publications come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// AMQP, with publisher confirms.
    Amqp,
    /// The engine's server API.
    Api,
}

/// Topics that are published to by one publisher, each with one batch at a time.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What its topics' names end with.
    pub name: &'static str,
    /// By which way.
    pub way: Way,
    /// How many topics it has.
    pub topics: usize,
    /// Publications in a batch.
    pub batch: u64,
    /// Between a batch and the next.
    pub pause: Duration,
}

/// All publishers of a world.
pub const PLANS: &[Plan] = &[
    Plan { name: "one", way: Way::Amqp, topics: 4, batch: 1, pause: Duration::from_millis(20) },
    Plan { name: "burst", way: Way::Amqp, topics: 1, batch: 50, pause: Duration::from_millis(500) },
    Plan { name: "api", way: Way::Api, topics: 2, batch: 1, pause: Duration::from_millis(50) },
];

/// What publishers and test tell each other.
#[derive(Debug, Default)]
struct Signs {
    runs: AtomicBool,
    ended: AtomicBool,
    at_work: AtomicUsize,
    refusals: AtomicU64,
}

/// One thread per plan. They end with the value.
#[derive(Debug)]
pub struct Publishers {
    signs: Arc<Signs>,
    ledger: Arc<Ledger>,
    threads: Vec<JoinHandle<()>>,
}

impl Publishers {
    /// Starts them, and they wait for [`Self::resume`]. `urls` are RabbitMQ's nodes, `desks` the engines'
    /// control ports: whoever fails there goes to the next.
    pub fn start(urls: &[String], desks: &[SocketAddr], ledger: &Arc<Ledger>) -> Self {
        let signs = Arc::new(Signs::default());
        let mut next = 0;
        let threads = PLANS.iter().map(|plan| {
            let topics = (next..next + plan.topics).map(|topic| (topic, ledger.names()[topic].clone()));
            next += plan.topics;
            let publisher = Publisher {
                topics: topics.collect(),
                pause: plan.pause,
                signs: Arc::clone(&signs),
                ledger: Arc::clone(ledger),
            };
            let (urls, desks) = (urls.to_vec(), desks.to_vec());
            thread::spawn(move || match plan.way {
                Way::Amqp => publisher.by_amqp(&urls),
                Way::Api => publisher.by_api(&desks),
            })
        });
        let threads = threads.collect();
        Self { signs, ledger: Arc::clone(ledger), threads }
    }

    /// On with it.
    pub fn resume(&self) {
        self.signs.runs.store(true, Ordering::SeqCst);
    }

    /// No further batches; returns when everything that was begun is confirmed.
    ///
    /// # Panics
    /// If something is never confirmed.
    #[track_caller]
    pub fn pause(&self) {
        self.signs.runs.store(false, Ordering::SeqCst);
        wait_until(CONFIRM_LIMIT, "everything begun to be confirmed", || {
            self.signs.at_work.load(Ordering::SeqCst) == 0 && self.ledger.is_confirmed()
        });
    }

    /// How often a publish by the API was answered with error 100 up to now.
    pub fn refusals(&self) -> u64 {
        self.signs.refusals.load(Ordering::SeqCst)
    }
}

impl Drop for Publishers {
    fn drop(&mut self) {
        self.signs.ended.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // Its panic was reported when it happened; a second one here would hide the first.
            let _ = thread.join();
        }
    }
}

/// One publication, to be repeated until it is confirmed.
#[derive(Clone, Debug)]
struct Publication {
    topic: TopicIndex,
    name: String,
    number: u64,
}

impl Publication {
    fn id(&self) -> String {
        format!("{}/{}", self.name, self.number)
    }
}

struct Publisher {
    topics: Vec<(TopicIndex, String)>,
    pause: Duration,
    signs: Arc<Signs>,
    ledger: Arc<Ledger>,
}

impl Publisher {
    /// The next batch of every topic of this publisher, when it may be begun; none at the end.
    fn next_batches(&self) -> Option<Vec<Publication>> {
        self.signs.at_work.fetch_add(1, Ordering::SeqCst);
        while !self.signs.runs.load(Ordering::SeqCst) {
            self.signs.at_work.fetch_sub(1, Ordering::SeqCst);
            if self.signs.ended.load(Ordering::SeqCst) {
                return None;
            }
            thread::sleep(LOOK);
            self.signs.at_work.fetch_add(1, Ordering::SeqCst);
        }
        let batches = self.topics.iter().flat_map(|&(topic, ref name)| {
            self.ledger.begin(topic).map(move |number| Publication { topic, name: name.clone(), number })
        });
        Some(batches.collect())
    }

    /// The batches are confirmed.
    fn rest(&self) {
        self.signs.at_work.fetch_sub(1, Ordering::SeqCst);
        thread::sleep(self.pause);
    }

    fn has_ended(&self) -> bool {
        self.signs.ended.load(Ordering::SeqCst)
    }

    fn by_amqp(&self, urls: &[String]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut urls = urls.iter().cycle();
        let mut link = None;
        while let Some(mut unconfirmed) = self.next_batches() {
            while !unconfirmed.is_empty() && !self.has_ended() {
                if link.is_none() {
                    link = runtime.block_on(Link::open(urls.next().expect("a cycle")));
                }
                if let Some(open) = &link {
                    unconfirmed = runtime.block_on(open.publish(unconfirmed, &self.ledger));
                }
                if !unconfirmed.is_empty() {
                    link = None;
                    thread::sleep(RETRY);
                }
            }
            self.rest();
        }
    }

    fn by_api(&self, desks: &[SocketAddr]) {
        let mut desks = desks.iter().cycle();
        let mut desk = *desks.next().expect("an engine");
        while let Some(batches) = self.next_batches() {
            for publication in batches {
                while !self.ask(desk, &publication) && !self.has_ended() {
                    desk = *desks.next().expect("a cycle");
                    thread::sleep(RETRY);
                }
            }
            self.rest();
        }
    }

    /// Publishes by the API, and says whether that was confirmed.
    fn ask(&self, desk: SocketAddr, publication: &Publication) -> bool {
        let body = json!({
            "channel": publication.name,
            "data": { "n": publication.number },
            "idempotency_key": publication.id(),
        });
        let Ok(answer) = http::post(desk, "/api/publish", &[], &body) else { return false };
        let Ok(answer) = serde_json::from_str::<serde_json::Value>(&answer.body) else { return false };
        match &answer["error"]["code"] {
            serde_json::Value::Null => {}
            code if code == 100 => drop(self.signs.refusals.fetch_add(1, Ordering::SeqCst)),
            // The engine stops, and has not done it: the next one is asked.
            code if code == 111 => {}
            _ => self.ledger.complain(publication.topic, &format!("publishing by the API: {answer}")),
        }
        let is_confirmed = answer.get("result").is_some();
        if is_confirmed {
            self.ledger.confirm(publication.topic);
        }
        is_confirmed
    }
}

/// A connection to RabbitMQ, for publishing.
struct Link {
    /// It closes with the value.
    _connection: Connection,
    channel: Channel,
}

impl Link {
    async fn open(url: &str) -> Option<Self> {
        let open = async {
            let connection = Connection::connect(url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, lapin::Error>(Self { _connection: connection, channel })
        };
        tokio::time::timeout(PATIENCE, open).await.ok()?.ok()
    }

    /// Publishes everything and returns what was not confirmed, in order.
    async fn publish(&self, publications: Vec<Publication>, ledger: &Ledger) -> Vec<Publication> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut confirms = Vec::new();
        for publication in &publications {
            let begun = tokio::time::timeout_at(deadline, self.begin(publication)).await;
            let Ok(Ok(confirm)) = begun else { break };
            confirms.push(confirm);
        }
        let mut confirms = confirms.into_iter();
        let mut unconfirmed = Vec::new();
        for publication in publications {
            let confirmation = match confirms.next() {
                Some(confirm) => tokio::time::timeout_at(deadline, confirm).await.ok(),
                None => None,
            };
            // What RabbitMQ could not route is confirmed too, and returned: nobody has it.
            if matches!(confirmation, Some(Ok(Confirmation::Ack(None)))) {
                ledger.confirm(publication.topic);
            } else {
                unconfirmed.push(publication);
            }
        }
        unconfirmed
    }

    async fn begin(&self, publication: &Publication) -> lapin::Result<lapin::PublisherConfirm> {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_message_id(publication.id().into());
        let data = json!({ "n": publication.number }).to_string();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let topic = publication.name.as_str().into();
        self.channel.basic_publish(EXCHANGE.into(), topic, options, data.as_bytes(), properties).await
    }
}
