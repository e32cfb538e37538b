//! RabbitMQ: the only place that knows lapin.
//!
//! A [`Link`] is two connections, one that consumes and one that publishes: RabbitMQ blocks connections
//! that publish when it is short of memory, and a blocked one would not send acknowledgements either. They
//! are built together and given up together, so that there are two states only: away, and linked. lapin's
//! own recovery is not used: it cannot bring back queues with names of the server's making, and does not
//! tell of the gap.
//!
//! [`link`] builds, [`topology`] declares, [`message`] translates, [`publisher`] waits for confirms,
//! [`fault`] says what is wrong in words for operators, [`backoff`] how long to wait before the next attempt.
//!
//! A stream is read, not emptied: [`attach`] finds the place to go on, [`reader`] says what each delivery is,
//! and [`trail`] knows what came before; [`markers`] are what nodes write into the stream for each other. What
//! was taken from it does not come again, and nothing is missed, whatever becomes of the link. Acknowledging
//! is nothing but asking for more.

mod address;
mod attach;
mod backoff;
mod fault;
mod link;
mod markers;
mod message;
mod once;
mod publisher;
mod reader;
mod topology;
mod trail;

use std::collections::VecDeque;
use std::future::pending;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::message::Delivery;
use tokio::select;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::config::{Amqp, Config, Source};
use crate::mail::Publish;
use crate::protocol::codes::ErrorCode;
use crate::ratelimit::RateLimit;

use super::backplane::{Event, Message};
use super::payload::Undeliverable;

use address::Address;
use backoff::Backoff;
use fault::Fault;
use link::Link;
use reader::{Entrance, Reader};
use trail::Marker;

pub(super) use message::Envelope;
pub use once::{PublishError, publish_once};

/// Between two log lines about attempts that fail for the same reason.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The connection to RabbitMQ, with what it takes to make a new one.
#[derive(Debug)]
pub(super) struct Rabbit {
    config: Arc<Config>,
    address: Arc<Address>,
    state: State,
    /// If the source is a stream.
    reader: Option<Reader>,
    /// What has to be told before anything else.
    events: VecDeque<Event>,
    backoff: Backoff,
    /// Before that, nothing is taken from the queue: see `amqp.queue_delay`.
    taking_from: tokio::time::Instant,
    /// Whether there was a link before.
    was_linked: bool,
    attempts_log: RateLimit,
    last_fault: String,
    burials_log: RateLimit,
}

#[derive(Debug)]
enum State {
    /// The next link is being built, after a pause.
    Away(JoinHandle<Result<Link, Fault>>),
    Linked {
        link: Box<Link>,
        since: Instant,
    },
    /// There will be no other link.
    Over,
}

/// A queue of this node's own holds nothing from before the start.
fn taking_from(amqp: &Amqp) -> tokio::time::Instant {
    let delay = if amqp.queue.is_empty() { Duration::ZERO } else { amqp.queue_delay.0 };
    tokio::time::Instant::now() + delay
}

impl Rabbit {
    /// Connects. A RabbitMQ that cannot be reached may be there later: that is no error.
    ///
    /// # Errors
    /// What RabbitMQ refuses, or what is wrong with the URL, in words for the operator.
    pub(super) async fn start(config: &Arc<Config>) -> Result<Self, String> {
        let address = Arc::new(Address::parse(&config.amqp.url).map_err(|fault| fault.text)?);
        let amqp = &config.amqp;
        let is_stream = amqp.source == Source::Stream;
        let mut rabbit = Self {
            reader: is_stream.then(|| Reader::new(amqp, Instant::now())),
            config: Arc::clone(config),
            backoff: Backoff::new(amqp.reconnect_min.0, amqp.reconnect_max.0),
            taking_from: taking_from(amqp),
            address,
            state: State::Over,
            events: VecDeque::new(),
            was_linked: false,
            attempts_log: RateLimit::new(LOG_EVERY),
            last_fault: String::new(),
            burials_log: RateLimit::new(LOG_EVERY),
        };
        match Link::open(&rabbit.address, &rabbit.config, rabbit.entrance()).await {
            Ok(link) => rabbit.linked(link),
            Err(fault) if fault.is_final => return Err(fault.text),
            Err(fault) => {
                rabbit.attempt_failed(&fault);
                rabbit.try_again();
            }
        }
        Ok(rabbit)
    }

    /// Waits for the next event. Can be dropped at any time without loss.
    pub(super) async fn next(&mut self, take: bool) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            match &mut self.state {
                State::Away(attempt) => match attempt.await {
                    Ok(Ok(link)) => self.linked(link),
                    Ok(Err(fault)) => {
                        self.attempt_failed(&fault);
                        self.try_again();
                    }
                    Err(error) => {
                        self.attempt_failed(&Fault::passing(format!("the attempt ended: {error}")));
                        self.try_again();
                    }
                },
                State::Linked { link, .. } => {
                    let is_early = take && tokio::time::Instant::now() < self.taking_from;
                    let due = self.reader.as_ref().map(Reader::due);
                    let next = select! {
                        next = link.next(take && !is_early) => next,
                        () = sleep_until(self.taking_from), if is_early => continue,
                        () = ring_at(due) => {
                            self.on_time();
                            continue;
                        }
                    };
                    match next {
                        link::Next::Event(event) => return event,
                        link::Next::Delivered(delivery) => self.delivered(delivery),
                        link::Next::BurialFailed { tag, error } => return self.burial_failed(tag, &error),
                        link::Next::Lost(reason) => self.lost(&reason),
                    }
                }
                State::Over => pending().await,
            }
        }
    }

    fn linked(&mut self, link: Link) {
        let source = link.source();
        tracing::info!(rabbitmq = %self.address, %source, "connected to RabbitMQ");
        let now = Instant::now();
        let mut link = Box::new(link);
        if let (Some(reader), Some(start)) = (&mut self.reader, link.start()) {
            if let Some(marker) = reader.linked(start, &mut self.events, now) {
                link.mark(&marker);
            }
        } else {
            let gap = self.was_linked && !self.has_named_queue();
            self.events.push_back(Event::Connected { gap });
        }
        self.was_linked = true;
        self.last_fault.clear();
        self.state = State::Linked { link, since: now };
    }

    fn entrance(&self) -> Option<Entrance> {
        self.reader.as_ref().map(Reader::entrance)
    }

    fn delivered(&mut self, delivery: Delivery) {
        let Some(reader) = &mut self.reader else {
            self.events.push_back(Event::Message(message::receive(delivery, None)));
            return;
        };
        let marker = reader.take(delivery, &mut self.events, Instant::now());
        self.mark(marker);
    }

    /// The stream's reader has something to look after.
    fn on_time(&mut self) {
        let marker = self.reader.as_mut().and_then(|reader| reader.on_time(Instant::now()));
        self.mark(marker);
    }

    fn mark(&mut self, marker: Option<Marker>) {
        if let (State::Linked { link, .. }, Some(marker)) = (&mut self.state, marker) {
            link.mark(&marker);
        }
    }

    /// Whether a stream is being read back at this moment.
    pub(super) fn is_loading(&self) -> bool {
        let is_linked = matches!(self.state, State::Linked { .. });
        is_linked && self.reader.as_ref().is_some_and(|reader| !reader.is_live())
    }

    /// A queue of this node's own ends with the connection; a named one keeps what is sent meanwhile, and
    /// sends again what was not acknowledged. A stream keeps everything, and sends nothing again.
    fn has_named_queue(&self) -> bool {
        !self.config.amqp.queue.is_empty()
    }

    fn lost(&mut self, reason: &str) {
        let State::Linked { mut link, since } = std::mem::replace(&mut self.state, State::Over) else {
            return;
        };
        tracing::warn!(rabbitmq = %self.address, %reason, "lost RabbitMQ; clients stay, publishes fail");
        let outcome = Err(ErrorCode::Internal);
        let unanswered = link.abandon().into_iter();
        self.events.extend(unanswered.map(|asker| Event::Published { asker, outcome }));
        self.events.push_back(Event::Lost { comes_again: self.has_named_queue() });
        self.backoff.lived(since.elapsed());
        self.try_again();
    }

    fn try_again(&mut self) {
        let pause = self.backoff.pause(RandomState::new().hash_one("pause"));
        let (address, config) = (Arc::clone(&self.address), Arc::clone(&self.config));
        let entrance = self.entrance();
        self.state = State::Away(tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            Link::open(&address, &config, entrance).await
        }));
    }

    /// One line when the reason changes, and now and then as a reminder; not one per attempt.
    fn attempt_failed(&mut self, fault: &Fault) {
        let is_news = fault.text != self.last_fault;
        if self.attempts_log.allow(Instant::now()).is_some() || is_news {
            tracing::warn!(reason = %fault.text, "no connection to RabbitMQ; trying again");
        }
        self.last_fault.clone_from(&fault.text);
    }

    fn burial_failed(&mut self, tag: u64, error: &str) -> Event {
        if let Some(unsaid) = self.burials_log.allow(Instant::now()) {
            let exchange = &self.config.amqp.dead_letter_exchange;
            tracing::error!(
                exchange,
                error,
                unsaid,
                "an undeliverable message is lost: the dead-letter exchange did not take it"
            );
        }
        Event::Buried { tag }
    }

    /// Begins to publish.
    pub(super) fn publish(&mut self, publish: Publish) -> Result<(), (Publish, ErrorCode)> {
        match &mut self.state {
            State::Linked { link, .. } => link.publish(publish),
            State::Away(_) | State::Over => Err((publish, ErrorCode::Internal)),
        }
    }

    /// Sends a message to the dead-letter exchange.
    pub(super) fn bury(&mut self, message: Message, reason: &Undeliverable) {
        if let State::Linked { link, .. } = &mut self.state {
            link.bury(message, reason);
        }
    }

    pub(super) fn acknowledge(&mut self, tag: u64) {
        if let State::Linked { link, .. } = &mut self.state {
            link.acknowledge(tag);
        }
    }

    /// Consumes no more and publishes no more. If there is no link, there will be none.
    pub(super) fn wind_down(&mut self) {
        match &mut self.state {
            State::Linked { link, .. } => link.wind_down(),
            State::Away(attempt) => {
                attempt.abort();
                self.state = State::Over;
            }
            State::Over => {}
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        match &self.state {
            State::Linked { link, .. } => link.in_flight(),
            State::Away(_) | State::Over => 0,
        }
    }

    pub(super) fn prefetch(&self) -> u64 {
        self.config.amqp.prefetch.into()
    }

    pub(super) async fn close(self) {
        if let State::Linked { link, .. } = self.state {
            link.close().await;
        }
    }
}

async fn ring_at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}
