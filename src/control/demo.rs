//! `--demo` publishes moving prices and the states of orders, so that the live page has something to show at
//! once. It publishes as operators do, one publication after the other, and waits for each confirm, so it can
//! never be ahead of the backplane.

use std::time::{Duration, Instant};

use rand::distr::OpenClosed01;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;

use crate::base::mailbox::Sender;
use crate::domain::mail::{Publish, ReplyTo, Request};
use crate::domain::reasons::ErrorCode;

/// The topics on which the demo publishes.
pub const TOPICS: &[&str] =
    &["prices.BTC", "prices.ETH", "prices.EURUSD", "prices.GOLD", "orders.new", "order.42"];

/// Each instrument's topic, first price and decimals.
const INSTRUMENTS: [(&str, f64, usize); 4] = [
    ("prices.BTC", 97_250.0, 2),
    ("prices.ETH", 3_410.0, 2),
    ("prices.EURUSD", 1.0832, 5),
    ("prices.GOLD", 2_655.0, 2),
];

/// The states of order 42, over and over.
const STATUSES: [&str; 5] = ["received", "paid", "packed", "shipped", "delivered"];
/// What is ordered.
const ITEMS: [&str; 6] = ["kettle", "bicycle bell", "notebook", "trumpet", "garden chair", "lamp"];

/// The pause between two states of order 42.
const STATUS_EVERY: Duration = Duration::from_millis(2500);
/// The pause after a publish that failed: RabbitMQ is away, or the engine is behind.
const PAUSE: Duration = Duration::from_secs(1);
/// The mean pause between two publications in the middle of a wave.
const MEAN_PAUSE: f64 = 0.06;
/// Seconds from one wave of trading to the next.
const SWELL: f64 = 40.0;

/// Publishes until its task is dropped.
pub async fn run(requests: Sender<Request>) {
    let mut scene = Scene::new(rand::random());
    let started = Instant::now();
    loop {
        let (topic, data) = scene.next(started.elapsed());
        let pause = match publish(&requests, topic, data).await {
            Ok(()) => scene.pause(started.elapsed()),
            Err(_) => PAUSE,
        };
        sleep(pause).await;
    }
}

async fn publish(requests: &Sender<Request>, topic: &str, data: String) -> Result<(), ErrorCode> {
    let (reply_to, answer) = ReplyTo::control();
    let data = data.into_bytes().into_boxed_slice();
    let publish = Publish {
        reply_to,
        topics: [topic.into()].into(),
        data,
        id: None,
        key: None,
        info: None,
        skips_history: false,
    };
    requests.send(Request::Publish(Box::new(publish))).map_err(|_| ErrorCode::TooManyRequests)?;
    answer.await.map_or(Err(ErrorCode::Internal), |outcome| outcome.map(drop).map_err(|fault| fault.code))
}

/// The state of everything that the demo publishes about.
#[derive(Debug)]
struct Scene {
    random: SmallRng,
    prices: [f64; INSTRUMENTS.len()],
    orders: u64,
    statuses: usize,
    next_status: Duration,
}

impl Scene {
    fn new(seed: u64) -> Self {
        Self {
            random: SmallRng::seed_from_u64(seed),
            prices: INSTRUMENTS.map(|(_, price, _)| price),
            orders: 1000,
            statuses: 0,
            next_status: Duration::ZERO,
        }
    }

    /// The next event, `now` after the beginning: the topic and the JSON.
    fn next(&mut self, now: Duration) -> (&'static str, String) {
        if now >= self.next_status {
            self.next_status = now + STATUS_EVERY;
            return self.status();
        }
        if self.random.random_bool(0.08) { self.order() } else { self.price() }
    }

    fn price(&mut self) -> (&'static str, String) {
        let which = self.random.random_range(0..INSTRUMENTS.len());
        let (topic, first, decimals) = INSTRUMENTS[which];
        let price = &mut self.prices[which];
        // Between -1 and 1, mostly near 0.
        let around_zero = self.random.random::<f64>() + self.random.random::<f64>() - 1.0;
        // A random walk that is drawn back to where it began, so that it can go on for weeks.
        let change = *price * 0.0012 * around_zero + (first - *price) * 0.004;
        *price += change;
        let percent = (*price / first - 1.0) * 100.0;
        (topic, format!(r#"{{"price":{:.decimals$},"change":{percent:.2}}}"#, *price))
    }

    fn order(&mut self) -> (&'static str, String) {
        self.orders += 1;
        let item = ITEMS[self.random.random_range(0..ITEMS.len())];
        let quantity = self.random.random_range(1..=3);
        ("orders.new", format!(r#"{{"order":{},"item":"{item}","quantity":{quantity}}}"#, self.orders))
    }

    fn status(&mut self) -> (&'static str, String) {
        let status = STATUSES[self.statuses % STATUSES.len()];
        self.statuses += 1;
        ("order.42", format!(r#"{{"order":42,"status":"{status}"}}"#))
    }

    /// The pause until the next event: random, shorter and longer in slow waves.
    fn pause(&mut self, now: Duration) -> Duration {
        let wave = (now.as_secs_f64() * std::f64::consts::TAU / SWELL).sin();
        let mean = MEAN_PAUSE * (1.6 - wave);
        // Exponentially distributed, as arrivals are; bounded, so that it never seems to have stopped.
        let above_zero: f64 = self.random.sample(OpenClosed01);
        Duration::from_secs_f64((-above_zero.ln() * mean).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn everything_it_says_is_json_on_the_topics_it_names() {
        let mut scene = Scene::new(7);
        let mut now = Duration::ZERO;
        let mut seen = BTreeSet::new();
        for _ in 0..2000 {
            let (topic, data) = scene.next(now);
            assert!(serde_json::from_str::<serde_json::Value>(&data).is_ok(), "{data}");
            seen.insert(topic);
            now += scene.pause(now);
        }
        assert_eq!(seen, TOPICS.iter().copied().collect());
        // 2,000 events in between 80 and 400 seconds: a few times per second, and never overwhelming.
        assert!((80..400).contains(&now.as_secs()), "{now:?}");
    }

    #[test]
    fn prices_stay_near_where_they_began() {
        let mut scene = Scene::new(0);
        for _ in 0..100_000 {
            scene.price();
        }
        for (price, (topic, first, _)) in scene.prices.iter().zip(INSTRUMENTS) {
            assert!((0.8..1.2).contains(&(price / first)), "{topic}: {price}");
        }
    }
}
