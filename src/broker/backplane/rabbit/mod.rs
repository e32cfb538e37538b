//! RabbitMQ: the only place that knows lapin.
//!
//! A [`Link`] is two connections, one that consumes and one that publishes. RabbitMQ blocks connections that publish
//! when it is short of memory, and a blocked connection would not send acknowledgements either. Both are built together
//! and given up together, so that there are two states only: away, and linked. lapin's own recovery is not used: it
//! cannot restore queues with server-generated names, and does not report what was missed.
//!
//! Publishes do not depend on a link: [`outgoing`] keeps each until it is confirmed or its time is over, and
//! sends it over the next link if this one is lost. Dead letters have a channel of their own.
//!
//! [`connect`] opens a connection, [`link`] is two of them, and [`loss`] why a link ended. [`topology`] declares,
//! [`message`] translates messages and their [`headers`], [`dead_letter`] keeps what cannot be delivered, [`publisher`] waits for confirms, [`dialer`] makes the next link ([`address`] chooses the node to
//! try, and [`backoff`] how long to wait), [`reply`] reads RabbitMQ's reply codes, and [`fault`] describes errors for operators.
//!
//! [`consumer`] receives messages, [`prefetch`] decides how many RabbitMQ may send ahead, and [`message_cost`] knows how
//! much memory a message takes.
//!
//! Where the bindings follow the subscribers, [`bindings`] decides which there should be, [`binder`] makes them, and
//! [`following`] connects both with the broker. [`overflow`] notices what the node's own queue drops.
//!
//! [`calls`] sends calls to backends and receives their answers, and [`calling`] connects them with the broker.
//!
//! A stream is read, not emptied. [`attach`] finds the place to continue, [`reader`] says what each delivery is, and
//! [`lineage`] recognises the stream. Nodes write [`markers`] into it for each other. [`coverage`] makes sure that none of
//! its dead letters is missed: what may be missing is [read again](reread). No message that was taken comes again, and
//! none is missed, whatever happens to the link. An acknowledgement only asks for more. Publishes wait until the stream
//! has been read back: what is in it before that is history, and is not pushed.

mod address;
pub mod amqp_filter;
mod attach;
mod attempts;
mod backoff;
mod binder;
mod bindings;
mod calling;
mod calls;
mod connect;
mod consumer;
mod coverage;
mod dead_letter;
mod dialer;
pub(in crate::broker) mod envelope;
mod fault;
mod following;
mod headers;
mod ids;
mod inspect;
mod leaving;
mod lineage;
mod link;
mod loss;
mod markers;
mod message;
mod message_cost;
mod outgoing;
mod overflow;
mod pending_publish;
mod prefetch;
mod publish_once;
mod publisher;
mod publishes;
mod reader;
mod reading;
mod reply;
mod reread;
mod topology;
mod transport;
mod turns;
mod unconfirmed;
mod window;
mod wrong_peer;

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::select;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::config::{Amqp, Config};

use super::event::Event;

use dialer::Dialer;
use fault::FaultKind;
use following::Following;
use link::Link;
use loss::Loss;
use publishes::PendingPublishes;
use reading::StreamReading;

pub use fault::RabbitMqFault;
pub use inspect::{Inspection, check_url, inspect};
pub use publish_once::{NotTaken, PublishError, publish_once};

/// How long the start tries further nodes before the engine begins without RabbitMQ.
const START_ROUND: Duration = Duration::from_secs(10);

/// The connection to RabbitMQ, with what it takes to make a new one.
#[derive(Debug)]
pub(in crate::broker) struct Rabbit {
    config: Arc<Config>,
    state: LinkState,
    dialer: Dialer,
    reading: StreamReading,
    following: Following,
    /// What was published and is not known to be safe.
    pending: PendingPublishes,
    /// Events for the broker, which come before anything else.
    events: VecDeque<Event>,
    /// When messages may be taken from the queue: see `amqp.queue_delay`.
    taking_from: tokio::time::Instant,
    /// The queue was deleted since the last link was made: a new one lacks what the old one had.
    queue_was_gone: bool,
    winding_down: bool,
}

#[derive(Debug)]
enum LinkState {
    /// The next link is being built, after a pause.
    Away(JoinHandle<Result<Link, RabbitMqFault>>),
    Linked {
        link: Box<Link>,
        since: Instant,
    },
    /// There will be no other link.
    Over,
}

/// What comes of waiting.
#[expect(clippy::large_enum_variant, reason = "see `link::Next`")]
enum Happening {
    Attempted(Box<Result<Link, RabbitMqFault>>),
    Link(link::Next),
    /// Messages may be taken from now on.
    TimeToTake,
}

impl LinkState {
    /// Waits for what happens next. Can be dropped at any time without loss.
    async fn next(&mut self, take: bool, taking_from: tokio::time::Instant) -> Happening {
        match self {
            Self::Away(attempt) => {
                let ended = |error| Err(FaultKind::AttemptEnded(error).into());
                Happening::Attempted(Box::new(attempt.await.unwrap_or_else(ended)))
            }
            Self::Linked { link, .. } => {
                let is_early = take && tokio::time::Instant::now() < taking_from;
                select! {
                    next = link.next(take && !is_early) => Happening::Link(next),
                    () = sleep_until(taking_from), if is_early => Happening::TimeToTake,
                }
            }
            Self::Over => pending().await,
        }
    }
}

/// A queue of this node's own holds nothing from before the start.
fn taking_from(amqp: &Amqp) -> tokio::time::Instant {
    let delay = if amqp.queue.is_empty() { Duration::ZERO } else { amqp.queue_delay.0 };
    tokio::time::Instant::now() + delay
}

/// Waits for a moment, or for ever if there is none.
async fn until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

impl Rabbit {
    /// Connects to the first node that takes us. If none can be reached, one may be there later: that is no
    /// error.
    ///
    /// # Errors
    /// What all nodes refuse, or what is wrong with a URL, in words for the operator.
    pub(in crate::broker) async fn start(config: &Arc<Config>) -> Result<Self, Vec<RabbitMqFault>> {
        let amqp = &config.amqp;
        let mut rabbit = Self {
            config: Arc::clone(config),
            state: LinkState::Over,
            dialer: Dialer::new(amqp).map_err(|fault| vec![fault])?,
            reading: StreamReading::new(config, Instant::now()),
            following: Following::new(amqp),
            pending: PendingPublishes::new(config),
            events: VecDeque::new(),
            taking_from: taking_from(amqp),
            queue_was_gone: false,
            winding_down: false,
        };
        rabbit.first_round().await?;
        // Clients come from now on, however long RabbitMQ took.
        rabbit.taking_from = taking_from(amqp);
        Ok(rabbit)
    }

    /// Tries one node after the other, and goes on in the background if none can be reached.
    async fn first_round(&mut self) -> Result<(), Vec<RabbitMqFault>> {
        let begun = Instant::now();
        let mut refusals = Vec::new();
        for _ in 0..self.dialer.nodes() {
            match self.dialer.open(&self.config, self.resume_point()).await {
                Ok(link) => {
                    self.linked(link);
                    return Ok(());
                }
                Err(fault) if fault.is_final() => {
                    refusals.push(fault);
                    if refusals.len() == self.dialer.nodes() {
                        return Err(refusals);
                    }
                }
                Err(fault) => self.attempt_failed(fault),
            }
            self.dialer.next_node();
            if begun.elapsed() > START_ROUND {
                break;
            }
        }
        for refusal in &refusals {
            tracing::warn!(reason = %refusal, "a RabbitMQ does not take us");
        }
        self.try_again(true);
        Ok(())
    }

    /// Waits for the next event. Can be dropped at any time without loss.
    pub(in crate::broker) async fn next(&mut self, take: bool) -> Event {
        loop {
            self.pass_time();
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            self.read_again();
            self.send_pending();
            self.send_orders();
            let change = self.next_change().map(tokio::time::Instant::from_std);
            let take = take && self.is_bound() && self.has_room_for_dead_letters();
            select! {
                biased;
                happening = self.state.next(take, self.taking_from) => self.happened(happening),
                () = until(change) => {}
            }
        }
    }

    fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Attempted(attempt) => match *attempt {
                Ok(link) => self.linked(link),
                Err(fault) => {
                    self.attempt_failed(fault);
                    let all_had_their_turn = self.dialer.next_node();
                    self.try_again(all_had_their_turn);
                }
            },
            Happening::Link(link::Next::Delivered(delivery)) => self.delivered(delivery),
            Happening::Link(link::Next::Known(tag)) => {
                self.events.push_back(Event::Passed { tag, offset: None, time: None });
            }
            Happening::Link(link::Next::Report(traffic, report)) => self.hear(traffic, [report]),
            Happening::Link(link::Next::Closed(traffic, left)) => {
                self.hear(traffic, left.reports);
                self.channel_is_gone(traffic, left.refused.as_deref());
            }
            Happening::Link(link::Next::Again(delivery)) => self.came_again(delivery),
            Happening::Link(link::Next::Bindings(event)) => self.hear_of_bindings(event),
            Happening::Link(link::Next::Calls(event)) => self.hear_of_calls([event]),
            Happening::Link(link::Next::Overflowed) => self.overflowed(),
            Happening::Link(link::Next::Lost(loss)) => self.lost(&loss),
            Happening::Link(link::Next::Blocked { is_blocked }) => {
                self.events.push_back(Event::Blocked { is_blocked });
            }
            Happening::Link(link::Next::Opened) | Happening::TimeToTake => {}
        }
    }

    fn linked(&mut self, mut link: Link) {
        let (source, unconfirmed) = (link.source(), self.pending.len());
        self.dialer.worked();
        self.reading.attempted();
        let rabbitmq = self.dialer.node();
        tracing::info!(%rabbitmq, %source, unconfirmed, "connected to RabbitMQ");
        if self.winding_down {
            link.wind_down();
        } else if !self.reading.linked(link.start(), &mut self.events) {
            let has_missed = !self.has_named_queue() || std::mem::take(&mut self.queue_was_gone);
            self.begin_to_bind(Event::Connected { has_missed });
        }
        self.state = LinkState::Linked { link: Box::new(link), since: Instant::now() };
    }

    /// A queue of this node's own ends with the connection; a named one keeps what is sent meanwhile unless somebody
    /// deletes it, and sends again what was not acknowledged. A stream keeps everything, and sends nothing again.
    fn has_named_queue(&self) -> bool {
        !self.config.amqp.queue.is_empty()
    }

    fn lost(&mut self, loss: &Loss) {
        let LinkState::Linked { mut link, since } = std::mem::replace(&mut self.state, LinkState::Over)
        else {
            return;
        };
        let rabbitmq = self.dialer.node();
        tracing::warn!(%rabbitmq, reason = %loss, "lost RabbitMQ; clients stay, publishes wait");
        self.hear_of_calls(link.abandon_calls(loss));
        self.connections_are_gone(link.abandon());
        self.queue_was_gone |= loss.queue_is_gone();
        self.reading.drop_marker();
        self.stop_binding();
        self.events.push_back(Event::Lost);
        self.dialer.lost(*link, since.elapsed(), loss);
        self.try_again(true);
    }

    /// Begins the next attempt, after a pause if all nodes have had their turn. A node that winds down needs a link
    /// only while publishes are left.
    fn try_again(&mut self, all_had_their_turn: bool) {
        if self.winding_down && self.pending.is_empty() {
            self.state = LinkState::Over;
            return;
        }
        let resume_point = self.resume_point();
        self.state = LinkState::Away(self.dialer.dial(all_had_their_turn, &self.config, resume_point));
    }

    fn attempt_failed(&mut self, fault: RabbitMqFault) {
        self.reading.attempted();
        self.queue_was_gone |= fault.queue_is_gone();
        self.events.push_back(Event::NotConnected { refusal: self.dialer.failed(fault) });
    }

    /// When [`Self::pass_time`] has something to do next.
    fn next_change(&self) -> Option<Instant> {
        let changes = [self.pending.next_change(), self.reader_is_due(), self.following.next_change()];
        changes.into_iter().flatten().min()
    }

    fn pass_time(&mut self) {
        let now = Instant::now();
        if self.next_change().is_none_or(|change| change > now) {
            return;
        }
        self.following.pass(now);
        let settled = self.pending.pass(now);
        settled.into_iter().for_each(|settled| self.settle(settled));
        if self.reader_is_due().is_some_and(|due| due <= now) {
            self.reading.on_time(now);
        }
    }

    pub(in crate::broker) fn acknowledge(&mut self, tag: u64) {
        if let LinkState::Linked { link, .. } = &mut self.state {
            link.acknowledge(tag);
        }
    }

    /// Consumes no more and takes no more publishes. What is under way goes on, over another link if need be.
    pub(in crate::broker) fn wind_down(&mut self) {
        self.winding_down = true;
        match &mut self.state {
            LinkState::Linked { link, .. } => {
                self.reading.drop_marker();
                link.wind_down();
            }
            LinkState::Away(attempt) if self.pending.is_empty() => {
                attempt.abort();
                self.state = LinkState::Over;
            }
            LinkState::Away(_) | LinkState::Over => {}
        }
    }

    pub(in crate::broker) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// How many messages RabbitMQ sends before some are acknowledged: less than `amqp.prefetch` after large ones.
    pub(in crate::broker) fn prefetch(&self) -> u64 {
        let of_link = if let LinkState::Linked { link, .. } = &self.state { link.prefetch() } else { None };
        of_link.unwrap_or(self.config.amqp.prefetch).into()
    }

    /// Closes the link, within the time that closing connections may take.
    pub(in crate::broker) async fn close(mut self) {
        self.pending.close();
        if let LinkState::Linked { link, .. } = self.state {
            link.close(self.reading.last_marker()).await;
        }
    }
}
