//! The origins of clients' pages, for the log. An origin is stored once, however many clients have it. A
//! client stores its number in one byte.

use std::num::NonZeroU8;

/// Bytes of an origin that are stored: more than a log shows.
const ORIGIN_MAX: usize = 256;

/// The number of an origin, valid while a client has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginId(NonZeroU8);

/// All origins of a shard's clients, or the first 255 different ones. Those of further clients are not
/// stored.
#[derive(Debug, Default)]
pub(super) struct Origins(Vec<Shared>);

#[derive(Debug)]
struct Shared {
    origin: Box<[u8]>,
    /// How many clients have it. With none, the place is free.
    clients: u32,
}

impl Origins {
    /// Adds a client with a page of this origin. `None` if there is no place.
    pub(super) fn enter(&mut self, origin: &[u8]) -> Option<OriginId> {
        let origin = &origin[..origin.len().min(ORIGIN_MAX)];
        let has_clients = |one: &Shared| one.clients > 0;
        let known = self.0.iter().position(|one| has_clients(one) && *one.origin == *origin);
        let place = known.or_else(|| self.0.iter().position(|one| !has_clients(one))).unwrap_or(self.0.len());
        let number = u8::try_from(place + 1).ok().and_then(NonZeroU8::new)?;
        if known.is_none() {
            let new = Shared { origin: origin.into(), clients: 0 };
            match self.0.get_mut(place) {
                Some(free) => *free = new,
                None => self.0.push(new),
            }
        }
        self.0[place].clients += 1;
        Some(OriginId(number))
    }

    /// Removes a client.
    pub(super) fn leave(&mut self, origin: OriginId) {
        self.0[origin.place()].clients -= 1;
    }

    /// The origin as the client sent it, or its beginning.
    pub(super) fn get(&self, origin: OriginId) -> &[u8] {
        &self.0[origin.place()].origin
    }
}

impl OriginId {
    fn place(self) -> usize {
        usize::from(self.0.get()) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_kept_once_for_as_long_as_somebody_has_it() {
        let mut origins = Origins::default();
        let [first, same, other] =
            [b"https://a", b"https://a", b"https://b"].map(|one| origins.enter(one).unwrap());
        assert!(first == same && first != other && origins.0.len() == 2);
        origins.leave(first);
        assert_eq!(origins.get(same), b"https://a");
        origins.leave(same);
        let next = origins.enter(b"https://c").unwrap();
        assert_eq!(
            (next, origins.get(next), origins.get(other)),
            (first, &b"https://c"[..], &b"https://b"[..])
        );
    }

    #[test]
    fn there_are_as_many_as_a_byte_can_number_and_each_is_short() {
        let mut origins = Origins::default();
        let long = |number: u32| format!("https://{number:0>1000}.example").into_bytes();
        let kept: Vec<_> = (0..1000).map(|number| format!("https://{number}").into_bytes()).collect();
        let ids: Vec<_> = kept.iter().filter_map(|origin| origins.enter(origin)).collect();
        assert_eq!((ids.len(), origins.0.len()), (255, 255));
        assert_eq!(origins.enter(&kept[254]), ids.last().copied(), "who has one of them is numbered");
        origins.leave(ids[7]);
        assert_eq!(origins.enter(&long(1)), Some(ids[7]));
        assert_eq!(origins.get(ids[7]).len(), ORIGIN_MAX);
    }
}
