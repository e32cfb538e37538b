//! Clients that come and go beside others.

use std::io::Result;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::swarm::{ClientIndex, Goodbye, Swarm};
use super::{LIMIT, Nobody};

/// Clients that, while they are told to, live for a second each: one leaves and comes again, then the next.
pub(crate) struct Guests<F> {
    swarm: Swarm,
    topics_of: F,
}

/// Tells guests when to come and go, from another thread. At first they stay.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    changing: AtomicBool,
    over: AtomicBool,
}

impl Orders {
    /// From here on guests come and go, or stay.
    pub(crate) fn change(&self, is_changing: bool) {
        self.changing.store(is_changing, Ordering::Relaxed);
    }
}

/// Sends the guests home when it is dropped, also by a panic: nobody would wait for them in vain.
struct Home<'a>(&'a Orders);

impl Drop for Home<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl<F: Fn(ClientIndex) -> Vec<String> + Send> Guests<F> {
    /// Connects so many, each subscribed to the topics that `topics_of` names.
    pub(crate) fn connect(server: SocketAddr, guests: usize, topics_of: F) -> Result<Self> {
        let mut swarm = Swarm::new(server, guests)?;
        // Addresses of their own: each leaves a port behind that is not free for a minute.
        swarm.come_from(1);
        swarm.connect_all(&mut Nobody, LIMIT, |_, guest| topics_of(guest))?;
        Ok(Self { swarm, topics_of })
    }

    /// Runs `work` beside the guests, who have a thread of their own until it ends.
    pub(crate) fn beside<T>(self, work: impl FnOnce(&Orders) -> Result<T>) -> Result<T> {
        let orders = Orders::default();
        std::thread::scope(|scope| {
            let guests = scope.spawn(|| self.come_and_go(&orders));
            let home = Home(&orders);
            let result = work(&orders);
            drop(home);
            guests.join().expect("it does not panic")?;
            result
        })
    }

    fn come_and_go(mut self, orders: &Orders) -> Result<()> {
        let guests = self.swarm.len();
        let each = Duration::from_secs(1) / u32::try_from(guests).expect("few");
        let (mut next, mut due) = (0, Instant::now());
        while !orders.over.load(Ordering::Relaxed) {
            self.swarm.turn(each, &mut Nobody)?;
            let now = Instant::now();
            if !orders.changing.load(Ordering::Relaxed) {
                due = now;
            }
            while due < now {
                self.swarm.disconnect(next, Goodbye::Abrupt);
                self.swarm.connect(next, &(self.topics_of)(next))?;
                next = (next + 1) % guests;
                due += each;
            }
        }
        Ok(())
    }
}
