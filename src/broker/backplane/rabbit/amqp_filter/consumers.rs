//! The consumers whose confirmations were passed to lapin.

/// Of one channel, so many of the latest consumers are known.
const KNOWN_MAX: usize = 32;

/// The consumers of a connection, by channel and tag. One that has ended stays known: nothing comes for it any more.
#[derive(Debug, Default)]
pub(super) struct Consumers(Vec<Consumer>);

#[derive(Debug)]
struct Consumer {
    channel: u16,
    tag: Box<[u8]>,
    /// RabbitMQ has not said yet that it has begun; the filter has.
    is_ahead: bool,
}

impl Consumers {
    /// Whether this one has begun, as far as lapin knows. The question of every message.
    pub(super) fn know(&self, channel: u16, tag: &[u8]) -> bool {
        self.0.iter().rev().any(|known| known.channel == channel && *known.tag == *tag)
    }

    /// It begins; `is_ahead` if RabbitMQ has not said so yet.
    pub(super) fn add(&mut self, channel: u16, tag: &[u8], is_ahead: bool) {
        let of_channel = |known: &Consumer| known.channel == channel;
        if self.0.iter().filter(|known| of_channel(known)).count() >= KNOWN_MAX
            && let Some(oldest) = self.0.iter().position(of_channel)
        {
            self.0.remove(oldest);
        }
        self.0.push(Consumer { channel, tag: tag.into(), is_ahead });
    }

    /// RabbitMQ says that it has begun: whether lapin has been told already.
    pub(super) fn was_told(&mut self, channel: u16, tag: &[u8]) -> bool {
        let mut ahead = self.0.iter_mut().rev().filter(|known| known.is_ahead);
        let found = ahead.find(|known| known.channel == channel && *known.tag == *tag);
        found.is_some_and(|known| std::mem::take(&mut known.is_ahead))
    }

    /// A channel with this number is new.
    pub(super) fn forget(&mut self, channel: u16) {
        self.0.retain(|known| known.channel != channel);
    }
}
