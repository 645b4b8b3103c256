//! Where tokens were used from: each pair of token and address is noted once an hour, on the way of a request.
//!
//! Verifying asks a table of fixed size whether it has noted the pair in this hour, which costs one read. Whoever finds
//! another pair's fingerprint in its place notes its own, and leaves the address to the collector. So pairs that share a place are
//! noted again and again, but each is noted; and hours are told apart by the fingerprint, so that nothing has to be emptied.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crossbeam_queue::SegQueue;

use super::Clock;
use crate::domain::{Timestamp, TokenId};

/// Places of the table: half a megabyte.
const PLACES: usize = 1 << 16;
const PLACE_BITS: u32 = PLACES.trailing_zeros();
/// Notes that wait to be collected, at the most, about: 3 MB, where the collector comes every second.
const WAITING: usize = 1 << 16;
/// For how many seconds a pair is not noted again.
const HOUR: u64 = 60 * 60;

/// Uses whose addresses are not collected yet.
pub(super) struct Sources {
    /// Drawn at the start, so that nobody can look for an address whose fingerprint is that of somebody else's.
    keys: [u64; 3],
    /// What was noted last in each place: the fingerprint of token, address and hour; 0 is nothing.
    noted: Box<[AtomicU64]>,
    waiting: SegQueue<Noted>,
}

/// That a token was used.
pub(super) struct Noted {
    pub(super) id: TokenId,
    pub(super) address: IpAddr,
    pub(super) at: Timestamp,
}

impl Sources {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self {
            keys: [0, 1, 2].map(|n: u64| random.hash_one(n)),
            noted: std::iter::repeat_with(AtomicU64::default).take(PLACES).collect(),
            waiting: SegQueue::new(),
        }
    }

    /// Notes where a token was used from, unless that was done within the hour. `boot` is now, by that clock.
    #[inline]
    pub(super) fn note(&self, id: TokenId, address: IpAddr, boot: Duration, clock: &dyn Clock) {
        let fingerprint = self.fingerprint(id, address, boot.as_secs() / HOUR);
        // Whoever shares the place may write at once: then one of both is noted again.
        let place = &self.noted[(fingerprint >> (u64::BITS - PLACE_BITS)) as usize];
        if place.load(Ordering::Relaxed) != fingerprint {
            self.leave(Noted { id, address, at: clock.wall() }, place, fingerprint);
        }
    }

    #[cold]
    fn leave(&self, noted: Noted, place: &AtomicU64, fingerprint: u64) {
        // Where they come faster than they are collected, memory must not grow: this one's turn comes with a later use.
        if self.waiting.len() < WAITING {
            self.waiting.push(noted);
            place.store(fingerprint, Ordering::Relaxed);
        }
    }

    /// Two multiplications: as good as any hash with a key of which nobody sees an outcome.
    fn fingerprint(&self, id: TokenId, address: IpAddr, hour: u64) -> u64 {
        // No address of IPv6 that anybody has begins as those of IPv4 do here.
        let (high, low) = match address {
            IpAddr::V4(address) => (u64::MAX, address.to_bits().into()),
            IpAddr::V6(address) => ((address.to_bits() >> 64) as u64, address.to_bits() as u64),
        };
        let [a, b, c] = self.keys;
        folded(folded(id.0.as_u128() as u64 ^ a, high ^ b) ^ low, c.wrapping_add(hour)) | 1
    }

    /// Takes what was noted.
    pub(super) fn take(&self) -> impl Iterator<Item = Noted> {
        // No more than there can be: others go on noting.
        std::iter::from_fn(|| self.waiting.pop()).take(WAITING)
    }
}

fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use uuid::Uuid;

    use super::*;

    struct Still;

    impl Clock for Still {
        fn wall(&self) -> Timestamp {
            Timestamp::from_millis(7)
        }

        fn boot(&self) -> Duration {
            Duration::ZERO
        }
    }

    fn id(n: u128) -> TokenId {
        TokenId(Uuid::from_u128(1 << 63 | n))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn fingerprints_tell_tokens_addresses_and_hours_apart() {
        let sources = Sources::new();
        let addresses =
            ["1.2.3.4", "1.2.3.5", "::1.2.3.4", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::1", "127.0.0.1", "0.0.0.0", "::"];
        let mut seen = HashSet::new();
        for token in 0..50 {
            for address in addresses.map(address) {
                for hour in 0..50 {
                    assert!(seen.insert(sources.fingerprint(id(token), address, hour)), "{token} {address} {hour}");
                }
            }
        }
    }

    /// More pairs than there are places: each is noted, and those that share one are noted again.
    #[test]
    fn every_pair_is_noted_in_every_hour() {
        let sources = Sources::new();
        let pairs = 2 * PLACES as u128;
        let mut taken = HashSet::new();
        let mut note_all = |hour: u64| {
            for n in 0..pairs {
                sources.note(id(n), address("192.0.2.1"), Duration::from_secs(hour * HOUR), &Still);
                if n % 1000 == 0 {
                    taken.extend(sources.take().map(|noted| (noted.id, hour)));
                }
            }
            taken.extend(sources.take().map(|noted| (noted.id, hour)));
            taken.len()
        };
        assert_eq!(note_all(0) as u128, pairs);
        assert_eq!(note_all(1) as u128, 2 * pairs);
        // One that has its place to itself is noted once.
        let alone = Sources::new();
        (0..100).for_each(|second| alone.note(id(1), address("::1"), Duration::from_secs(second * 35), &Still));
        assert_eq!(alone.take().count(), 1);
    }

    #[test]
    fn what_nobody_collects_takes_no_more_memory_and_is_noted_later() {
        let sources = Sources::new();
        let pairs = WAITING as u128 + 500;
        let note_all = || (0..pairs).for_each(|n| sources.note(id(n), address("192.0.2.1"), Duration::ZERO, &Still));
        note_all();
        assert_eq!(sources.waiting.len(), WAITING);
        let mut taken: HashSet<_> = sources.take().map(|noted| noted.id).collect();
        assert_eq!(taken.len(), WAITING);
        note_all();
        taken.extend(sources.take().map(|noted| noted.id));
        assert_eq!(taken.len() as u128, pairs);
    }
}
