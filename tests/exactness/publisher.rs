//! Publishes numbered publications over AMQP, from a thread of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm};

/// The exchange of the engine's default configuration.
const EXCHANGE: &str = "fanfare";
/// Publications that wait for their confirm at once.
const UNCONFIRMED_MAX: usize = 256;
/// Between two looks at whether more may be published.
const PAUSE: Duration = Duration::from_millis(1);

/// What publisher and test tell each other while it runs.
#[derive(Debug)]
pub struct Progress {
    /// How many publications may be begun: the test's brake.
    allowed: AtomicU64,
    /// By topic: the number of the latest publication that was begun.
    begun: Vec<AtomicU64>,
    /// How many publications are confirmed, all topics together.
    confirmed: AtomicU64,
}

impl Progress {
    /// Nothing is published yet, and nothing may be.
    pub fn new(topics: usize) -> Arc<Self> {
        Arc::new(Self {
            allowed: AtomicU64::new(0),
            begun: (0..topics).map(|_| AtomicU64::new(0)).collect(),
            confirmed: AtomicU64::new(0),
        })
    }

    /// Lets the publisher begin `total` publications since the start. Never takes anything back.
    pub fn allow(&self, total: u64) {
        self.allowed.fetch_max(total, Ordering::SeqCst);
    }

    /// The number of a topic's latest publication that was begun: a later one was begun after this call.
    pub fn begun(&self, topic: usize) -> u64 {
        self.begun[topic].load(Ordering::SeqCst)
    }

    /// Publications begun, all topics together.
    pub fn begun_total(&self) -> u64 {
        (0..self.begun.len()).map(|topic| self.begun(topic)).sum()
    }

    /// Publications confirmed, all topics together.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::SeqCst)
    }
}

/// What fills publications.
static FILL: [u8; 4096] = {
    const LETTERS: [u8; 23] = *b"abcdefghijklmnopqrstuvw";
    let mut fill = [0; 4096];
    let mut index = 0;
    while index < fill.len() {
        fill[index] = LETTERS[index % LETTERS.len()];
        index += 1;
    }
    fill
};

/// The filling of publication `number`: at least `least` bytes, and another length than its neighbours', so
/// that a line that was cut, or begun again, cannot look like another.
fn filling(number: u64, least: usize) -> &'static [u8] {
    &FILL[..least + usize::try_from(number % 61).expect("below 61")]
}

/// Data of a topic's publication `number`.
fn data(number: u64, fill: usize) -> String {
    let fill = str::from_utf8(filling(number, fill)).expect("ASCII");
    format!(r#"{{"n":{number},"fill":"{fill}"}}"#)
}

/// Whether `data`, which begins with its number, is what was published under it, to the last byte.
pub fn is_whole(data: &[u8], number: u64, fill: usize) -> bool {
    let digits = number.checked_ilog10().map_or(1, |power| power as usize + 1);
    data[r#"{"n":"#.len() + digits..]
        .strip_prefix(br#","fill":""#)
        .and_then(|rest| rest.strip_suffix(br#""}"#))
        .is_some_and(|rest| rest == filling(number, fill))
}

/// Starts to publish `total` publications to `topics` in turns, each with about `fill` bytes to fill it.
/// The thread ends when all are confirmed.
pub fn publish(
    url: String,
    topics: Vec<String>,
    total: u64,
    fill: usize,
    progress: Arc<Progress>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let work = publish_all(&url, &topics, total, fill, &progress);
        runtime.block_on(work).unwrap_or_else(|error| panic!("publishing to {url}: {error}"));
    })
}

async fn publish_all(
    url: &str,
    topics: &[String],
    total: u64,
    fill: usize,
    progress: &Progress,
) -> lapin::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut unconfirmed = VecDeque::new();
    for (index, topic) in (0..total).zip((0..topics.len()).cycle()) {
        while index >= progress.allowed.load(Ordering::SeqCst) {
            settle(&mut unconfirmed, 0, progress).await?;
            tokio::time::sleep(PAUSE).await;
        }
        let number = progress.begun[topic].fetch_add(1, Ordering::SeqCst) + 1;
        unconfirmed.push_back(begin(&channel, &topics[topic], &data(number, fill)).await?);
        settle(&mut unconfirmed, UNCONFIRMED_MAX, progress).await?;
    }
    settle(&mut unconfirmed, 0, progress).await
}

async fn begin(channel: &Channel, topic: &str, data: &str) -> lapin::Result<PublisherConfirm> {
    let properties = BasicProperties::default().with_content_type("application/json".into());
    let options = BasicPublishOptions::default();
    channel.basic_publish(EXCHANGE.into(), topic.into(), options, data.as_bytes(), properties).await
}

/// Waits for the oldest confirms until at most `rest` are missing.
async fn settle(
    unconfirmed: &mut VecDeque<PublisherConfirm>,
    rest: usize,
    progress: &Progress,
) -> lapin::Result<()> {
    while unconfirmed.len() > rest
        && let Some(confirm) = unconfirmed.pop_front()
    {
        let confirmation = confirm.await?;
        assert!(matches!(confirmation, Confirmation::Ack(None)), "RabbitMQ answered {confirmation:?}");
        progress.confirmed.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}
