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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::Algorithm;

    /// Claims of a size, with a number by which they are known.
    #[derive(Debug, PartialEq, Eq)]
    struct Sized {
        number: usize,
        bytes: usize,
    }

    impl Cached for Sized {
        fn bytes(&self) -> usize {
            self.bytes
        }
    }

    const ERROR: TokenError = TokenError::Signature(Algorithm::Ed25519);

    fn digest(token: usize) -> TokenDigest {
        TokenDigest::of(&token.to_string())
    }

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first() {
        let mut cache = TokenCache::new(2);
        let insert = |cache: &mut TokenCache<Sized>, number| {
            cache.insert(digest(number), Ok(Sized { number, bytes: 10 })).unwrap();
        };
        insert(&mut cache, 1);
        insert(&mut cache, 2);
        assert!(cache.get(&digest(1)).is_some());
        insert(&mut cache, 3);
        let known = [1, 2, 3].map(|number| cache.get(&digest(number)).is_some());
        assert_eq!(known, [true, false, true]);
        cache.clear();
        assert!(cache.get(&digest(1)).is_none());
        assert_eq!(format!("{cache:?}"), "TokenCache(0 accepted, 0 refused)");
    }

    #[test]
    fn bad_tokens_push_no_good_one_out() {
        let mut cache = TokenCache::new(16);
        for number in 0..16 {
            cache.insert(digest(number), Ok(Sized { number, bytes: 10 })).unwrap();
        }
        for number in 1000..101_000 {
            assert_eq!(cache.insert(digest(number), Err(ERROR)), Err(ERROR));
        }
        assert!((0..16).all(|number| cache.get(&digest(number)).is_some()));
        assert_eq!(cache.get(&digest(100_999)), Some(Err(ERROR)));
        assert_eq!(cache.get(&digest(100_000)), None);
        assert_eq!(format!("{cache:?}"), "TokenCache(16 accepted, 2 refused)");
    }

    #[test]
    fn memory_is_bounded_whatever_the_claims_are() {
        let mut cache = TokenCache::new(100);
        for number in 0..1000 {
            cache.insert(digest(number), Ok(Sized { number, bytes: 10_000 })).unwrap();
        }
        assert!(cache.accepted.bytes <= 100 * ENTRY_BYTES && cache.accepted.entries.len() == 10, "{cache:?}");
        cache.insert(digest(0), Ok(Sized { number: 0, bytes: 200_000 })).unwrap();
        assert_eq!(cache.get(&digest(0)), None, "larger than all may be together");
        assert_eq!(cache.accepted.entries.len(), 10, "and nothing else was forgotten for it");
        let mut none = TokenCache::new(0);
        none.insert(digest(0), Ok(Sized { number: 0, bytes: 1 })).unwrap();
        assert_eq!(none.get(&digest(0)), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Get(usize),
        Insert { token: usize, bytes: usize },
        Refuse(usize),
        Clear,
    }

    fn step() -> impl Strategy<Value = Step> {
        let token = 0..12_usize;
        prop_oneof![
            8 => token.clone().prop_map(Step::Get),
            8 => (token.clone(), 0..3000_usize).prop_map(|(token, bytes)| Step::Insert { token, bytes }),
            2 => token.prop_map(Step::Refuse),
            1 => Just(Step::Clear),
        ]
    }

    /// What a plain list would remember, the newest last.
    #[derive(Default)]
    struct Model(Vec<(usize, usize)>);

    impl Model {
        fn get(&mut self, token: usize) -> bool {
            let Some(at) = self.0.iter().position(|(known, _)| *known == token) else { return false };
            let entry = self.0.remove(at);
            self.0.push(entry);
            true
        }

        fn insert(&mut self, token: usize, bytes: usize, entries_max: usize) {
            let bytes_max = entries_max * ENTRY_BYTES;
            self.0.retain(|(known, _)| *known != token);
            if bytes > bytes_max {
                return;
            }
            self.0.push((token, bytes));
            while self.0.len() > entries_max
                || self.0.iter().map(|(_, bytes)| bytes).sum::<usize>() > bytes_max
            {
                self.0.remove(0);
            }
        }
    }

    proptest! {
        #[test]
        fn it_remembers_what_a_plain_list_would(
            entries_max in 0..6_usize,
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let overhead = size_of::<(TokenDigest, Entry<Arc<Sized>>)>() + size_of::<(u64, TokenDigest)>();
            let mut cache = TokenCache::<Sized>::new(entries_max);
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Get(token) => {
                        let known = cache.get(&digest(token)).and_then(Result::ok);
                        let known = known.map(|claims| claims.number);
                        prop_assert_eq!(known, model.get(token).then_some(token));
                    }
                    Step::Insert { token, bytes } => {
                        let claims = Sized { number: token, bytes };
                        prop_assert_eq!(cache.insert(digest(token), Ok(claims)).map(|claims| claims.number), Ok(token));
                        model.insert(token, bytes + overhead, entries_max);
                    }
                    // Refused tokens are others: none is accepted later with the same keys.
                    Step::Refuse(token) => {
                        prop_assert_eq!(cache.insert(digest(token + 1000), Err(ERROR)), Err(ERROR));
                    }
                    Step::Clear => {
                        cache.clear();
                        model.0.clear();
                    }
                }
                let accepted = &cache.accepted;
                prop_assert_eq!(accepted.entries.len(), model.0.len());
                prop_assert_eq!(accepted.order.len(), model.0.len());
                prop_assert_eq!(accepted.bytes, model.0.iter().map(|(_, bytes)| bytes).sum::<usize>());
            }
        }
    }
}
