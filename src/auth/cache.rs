//! Remembers what tokens said, so that a client that comes back with the same token costs no signature.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use foldhash::fast::RandomState;

use super::claims::{ConnectionClaims, SubscriptionClaims};
use super::error::TokenError;

/// Bytes that an entry may use on average, itself included.
const ENTRY_BYTES: usize = 1 << 10;
/// One refused token is remembered for so many accepted ones. They are kept apart: strangers can make up as many bad
/// tokens as they like, and none of them pushes a good one out.
const ACCEPTED_PER_REFUSED: usize = 8;

/// The SHA-256 of a token. The token itself is not kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

impl fmt::Debug for TokenDigest {
    /// Without its bytes: whoever has a token could find it in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

/// Claims that a cache can keep.
pub trait Cached {
    /// How much memory they use, roughly.
    fn bytes(&self) -> usize;
}

impl Cached for ConnectionClaims {
    fn bytes(&self) -> usize {
        self.bytes()
    }
}

impl Cached for SubscriptionClaims {
    fn bytes(&self) -> usize {
        self.bytes()
    }
}

/// What tokens of one kind said, by their digests. The least recently used are forgotten first. Entries hold for the keys
/// that made them: it is cleared when keys change.
pub struct TokenCache<T> {
    accepted: Recent<Arc<T>>,
    refused: Recent<TokenError>,
}

impl<T: Cached> TokenCache<T> {
    /// Remembers so many accepted tokens, with 1 KiB for each on average, and an eighth as many refused ones. 0: none.
    #[must_use]
    pub fn new(tokens: usize) -> Self {
        Self { accepted: Recent::new(tokens), refused: Recent::new(tokens.div_ceil(ACCEPTED_PER_REFUSED)) }
    }

    /// What the token of this digest said, if that is remembered.
    pub fn get(&mut self, digest: &TokenDigest) -> Option<Result<Arc<T>, TokenError>> {
        let accepted = self.accepted.get(digest).map(|claims| Ok(Arc::clone(claims)));
        accepted.or_else(|| self.refused.get(digest).map(|error| Err(error.clone())))
    }

    /// Remembers what a token said, and returns it in the form in which it is kept.
    ///
    /// # Errors
    /// The error that `said` is.
    pub fn insert(&mut self, digest: TokenDigest, said: Result<T, TokenError>) -> Result<Arc<T>, TokenError> {
        match said {
            Ok(claims) => {
                let bytes = claims.bytes();
                let claims = Arc::new(claims);
                self.accepted.insert(digest, Arc::clone(&claims), bytes);
                Ok(claims)
            }
            Err(error) => {
                self.refused.insert(digest, error.clone(), size_of::<TokenError>());
                Err(error)
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.accepted.clear();
        self.refused.clear();
    }
}

impl<T> fmt::Debug for TokenCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (accepted, refused) = (self.accepted.entries.len(), self.refused.entries.len());
        write!(f, "TokenCache({accepted} accepted, {refused} refused)")
    }
}

/// Values by digest, bounded in number and in bytes.
struct Recent<V> {
    entries: HashMap<TokenDigest, Entry<V>, RandomState>,
    /// The digests by when they were last used.
    order: BTreeMap<u64, TokenDigest>,
    /// Counts uses.
    uses: u64,
    bytes: usize,
    entries_max: usize,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    last_use: u64,
}

impl<V> Recent<V> {
    fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::default(), order: BTreeMap::new(), uses: 0, bytes: 0, entries_max }
    }

    fn get(&mut self, digest: &TokenDigest) -> Option<&V> {
        let entry = self.entries.get_mut(digest)?;
        self.uses += 1;
        self.order.remove(&entry.last_use);
        self.order.insert(self.uses, *digest);
        entry.last_use = self.uses;
        Some(&entry.value)
    }

    /// A value that is larger than all may be together is not kept.
    fn insert(&mut self, digest: TokenDigest, value: V, bytes: usize) {
        let bytes =
            bytes.saturating_add(size_of::<(TokenDigest, Entry<V>)>() + size_of::<(u64, TokenDigest)>());
        self.remove(&digest);
        if bytes > self.bytes_max() || self.entries_max == 0 {
            return;
        }
        while self.entries.len() >= self.entries_max || self.bytes + bytes > self.bytes_max() {
            let Some((_, oldest)) = self.order.first_key_value() else { break };
            self.remove(&{ *oldest });
        }
        self.uses += 1;
        self.bytes += bytes;
        self.order.insert(self.uses, digest);
        self.entries.insert(digest, Entry { value, bytes, last_use: self.uses });
    }

    fn remove(&mut self, digest: &TokenDigest) {
        if let Some(entry) = self.entries.remove(digest) {
            self.order.remove(&entry.last_use);
            self.bytes -= entry.bytes;
        }
    }

    fn bytes_max(&self) -> usize {
        self.entries_max.saturating_mul(ENTRY_BYTES)
    }

    fn clear(&mut self) {
        *self = Self::new(self.entries_max);
    }
}
