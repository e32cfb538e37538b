//! Makes the links: which node is tried next, and after which pause.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::config::{Amqp, Config};

use super::address::{Address, Addresses};
use super::attempts::Attempts;
use super::backoff::Backoff;
use super::fault::RabbitMqFault;
use super::leaving::Leaving;
use super::link::Link;
use super::loss::Loss;
use super::reader::ResumePoint;

/// What it takes to make the next link.
#[derive(Debug)]
pub(super) struct Dialer {
    addresses: Addresses,
    backoff: Backoff,
    /// Why the latest attempts failed.
    attempts: Attempts,
    /// Closes the link that was lost, before the next one is made.
    leaving: Option<Leaving>,
    /// Whether lapin has failed to read something: see [`amqp_filter`](super::amqp_filter).
    is_careful: bool,
}

impl Dialer {
    /// Nothing was tried yet.
    ///
    /// # Errors
    /// What is wrong with a URL.
    pub(super) fn new(amqp: &Amqp) -> Result<Self, RabbitMqFault> {
        let addresses = Addresses::parse(&amqp.url)?;
        Ok(Self {
            attempts: Attempts::new(addresses.len()),
            addresses,
            backoff: Backoff::new(amqp.reconnect_min.0, amqp.reconnect_max.0),
            leaving: None,
            is_careful: false,
        })
    }

    /// How many nodes there are.
    pub(super) fn nodes(&self) -> usize {
        self.addresses.len()
    }

    /// The node that has its turn.
    pub(super) fn node(&self) -> &Arc<Address> {
        self.addresses.current()
    }

    /// The next node has its turn. Whether all have had theirs.
    pub(super) fn next_node(&mut self) -> bool {
        self.addresses.failed()
    }

    /// Makes a link now.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn open(
        &self,
        config: &Arc<Config>,
        resume_point: Option<ResumePoint>,
    ) -> Result<Link, RabbitMqFault> {
        Link::open(self.node(), config, resume_point, self.is_careful).await
    }

    /// Makes a link in the background, after a pause if `pauses`, and after the link that was lost is closed.
    pub(super) fn dial(
        &mut self,
        pauses: bool,
        config: &Arc<Config>,
        resume_point: Option<ResumePoint>,
    ) -> JoinHandle<Result<Link, RabbitMqFault>> {
        let pause = if pauses { self.backoff.pause(rand::random()) } else { Duration::ZERO };
        let (address, config) = (Arc::clone(self.node()), Arc::clone(config));
        let (is_careful, leaving) = (self.is_careful, self.leaving.take());
        tokio::spawn(async move {
            let begins = tokio::time::Instant::now() + pause;
            if let Some(leaving) = leaving {
                leaving.end().await;
            }
            sleep_until(begins).await;
            Link::open(&address, &config, resume_point, is_careful).await
        })
    }

    /// There is a link.
    pub(super) fn worked(&mut self) {
        self.addresses.worked();
        self.attempts.succeeded();
    }

    /// There is none. Logs why when the reason changes, and now and then as a reminder. Returns why RabbitMQ refuses us, if
    /// one does.
    pub(super) fn failed(&mut self, fault: RabbitMqFault) -> Option<Box<str>> {
        let is_unreadable = fault.is_unreadable();
        if let Some(reason) = self.attempts.failed(self.addresses.number(), fault, Instant::now()) {
            tracing::warn!(%reason, "no connection to RabbitMQ; trying again");
        }
        self.beware(is_unreadable);
        self.attempts.refusal().map(|refusal| refusal.to_string().into())
    }

    /// A link was lost that lasted so long.
    pub(super) fn lost(&mut self, link: Link, long: Duration, loss: &Loss) {
        self.backoff.lived(long);
        self.leaving = Some(link.leave());
        self.beware(loss.is_unreadable());
    }

    /// A message that lapin could not read failed once, and must not fail again.
    fn beware(&mut self, is_unreadable: bool) {
        if is_unreadable && !self.is_careful {
            tracing::error!(
                "RabbitMQ sent what cannot be read; the message is read with care when it comes again, and \
                 dead-lettered if need be"
            );
            self.is_careful = true;
        }
    }
}
