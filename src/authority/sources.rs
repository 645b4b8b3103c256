//! Where tokens were used from: each pair of token and address is noted once an hour, on the way of a request.
//!
//! Verifying asks a table of fixed size whether it has noted the pair in this hour: a look at one cache line. Who does not
//! find the pair there puts it in place of one of an earlier hour, or of any if there is none, and leaves the address to the
//! collector. So where there are more pairs than places some are noted again and again, but each is noted; and nothing has to
//! be emptied.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crossbeam_queue::SegQueue;

use super::Clock;
use crate::domain::{Timestamp, TokenId};

/// Lines of the table: one megabyte.
const LINES: usize = 1 << 14;
const LINE: usize = 8;
/// The part of what stands in a place that says in which hour; the line is chosen by the same bits of the hash.
const HOURS: u64 = 0xFFFF;
const _: () = assert!(LINES - 1 <= HOURS as usize);
/// Notes that wait to be collected, at the most, about: 3 MB, where the collector comes every second.
const WAITING: usize = 1 << 16;
/// For how many seconds a pair is not noted again.
const HOUR: u64 = 60 * 60;

/// Uses whose addresses are not collected yet.
pub(super) struct Sources {
    /// Drawn at the start, so that nobody can look for an address that is taken for somebody else's.
    keys: [u64; 3],
    lines: Box<[Line]>,
    waiting: SegQueue<Noted>,
}

/// What was noted last: the hash of token and address, with the number of the hour in its lowest bits; 0 is nothing.
#[derive(Default)]
#[repr(align(64))]
struct Line([AtomicU64; LINE]);

impl Line {
    /// Where a pair is put first.
    fn home(&self, pair: u64) -> &AtomicU64 {
        &self.0[(pair >> 16) as usize % LINE]
    }
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
            lines: std::iter::repeat_with(Line::default).take(LINES).collect(),
            waiting: SegQueue::new(),
        }
    }

    /// Notes where a token was used from, unless that was done within the hour. `boot` is now, by that clock.
    #[inline]
    pub(super) fn note(&self, id: TokenId, address: IpAddr, boot: Duration, clock: &dyn Clock) {
        let hash = self.hash(id, address);
        let (line, pair) = (&self.lines[hash as usize % LINES], hash & !HOURS | hour(boot));
        let is_at = |place: &AtomicU64| place.load(Ordering::Relaxed) == pair;
        // Mostly it stands where it is put first.
        if !is_at(line.home(pair)) && !line.0.iter().any(is_at) {
            self.leave(id, address, line, pair, clock);
        }
    }

    #[cold]
    fn leave(&self, id: TokenId, address: IpAddr, line: &Line, pair: u64, clock: &dyn Clock) {
        // Where they come faster than they are collected, memory must not grow: this one's turn comes with a later use.
        if self.waiting.len() >= WAITING {
            return;
        }
        self.waiting.push(Noted { id, address, at: clock.wall() });
        let is_old = |place: &&AtomicU64| (place.load(Ordering::Relaxed) ^ pair) & HOURS != 0;
        let home = line.home(pair);
        let place = [home].into_iter().chain(&line.0).find(is_old).unwrap_or(home);
        // Somebody else may do the same at once: then one of both is noted again.
        place.store(pair, Ordering::Relaxed);
    }

    /// A multiplication or two: as good as any hash with a key of which nobody sees an outcome.
    fn hash(&self, id: TokenId, address: IpAddr) -> u64 {
        let ([a, b, c], id) = (self.keys, id.0.as_u128() as u64);
        match address {
            IpAddr::V4(address) => folded(id ^ a, u64::from(address.to_bits()) ^ b),
            IpAddr::V6(address) => folded(folded(id ^ a, (address.to_bits() >> 64) as u64 ^ b) ^ address.to_bits() as u64, c),
        }
    }

    /// Takes what was noted.
    pub(super) fn take(&self) -> impl Iterator<Item = Noted> {
        // No more than there can be: others go on noting.
        std::iter::from_fn(|| self.waiting.pop()).take(WAITING)
    }
}

/// Above 0, and another one for nearly four years.
fn hour(boot: Duration) -> u64 {
    (boot.as_secs() / HOUR) & (HOURS >> 1) | (HOURS / 2 + 1)
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
    fn hashes_tell_tokens_and_addresses_apart() {
        let sources = Sources::new();
        let addresses =
            ["1.2.3.4", "1.2.3.5", "::1.2.3.4", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::1", "127.0.0.1", "0.0.0.0", "::"];
        let mut seen = HashSet::new();
        for token in 0..5000 {
            for address in addresses.map(address) {
                assert!(seen.insert(sources.hash(id(token), address)), "{token} {address}");
            }
        }
    }

    /// Notes so many pairs in an hour, and says of which tokens that left a note.
    fn note_all(sources: &Sources, pairs: u128, hour: u64) -> Vec<TokenId> {
        let mut taken = Vec::new();
        for n in 0..pairs {
            sources.note(id(n), address("192.0.2.1"), Duration::from_secs(hour * HOUR), &Still);
            if n % 1000 == 0 {
                taken.extend(sources.take().map(|noted| noted.id));
            }
        }
        taken.extend(sources.take().map(|noted| noted.id));
        taken
    }

    /// More pairs than there are places: each is noted, and those that find no place are noted again.
    #[test]
    fn every_pair_is_noted_in_every_hour() {
        let (sources, pairs) = (Sources::new(), 2 * (LINES * LINE) as u128);
        for hour in 0..3 {
            let taken = note_all(&sources, pairs, hour);
            assert_eq!((taken.len() as u128, taken.iter().collect::<HashSet<_>>().len() as u128), (pairs, pairs), "{hour}");
        }
    }

    #[test]
    fn pairs_that_find_a_place_are_noted_once_an_hour() {
        // As many as there are places for half of; places of an hour that is over are free.
        let (sources, pairs) = (Sources::new(), (LINES * LINE) as u128 / 2);
        for hour in 0..3 {
            assert_eq!(note_all(&sources, pairs, hour).len() as u128, pairs);
            let again = (0..5).map(|_| note_all(&sources, pairs, hour).len() as u128);
            assert!(again.clone().all(|again| again < pairs / 20), "{:?}", again.collect::<Vec<_>>());
        }
        let alone = Sources::new();
        (0..100).for_each(|second| alone.note(id(1), address("::1"), Duration::from_secs(second * 35), &Still));
        assert_eq!(alone.take().count(), 1);
    }

    #[test]
    fn what_nobody_collects_takes_no_more_memory_and_is_noted_later() {
        let sources = Sources::new();
        let pairs = WAITING as u128 + 500;
        let use_all = || (0..pairs).for_each(|n| sources.note(id(n), address("192.0.2.1"), Duration::ZERO, &Still));
        use_all();
        assert_eq!(sources.waiting.len(), WAITING);
        let mut taken: HashSet<_> = sources.take().map(|noted| noted.id).collect();
        assert_eq!(taken.len(), WAITING);
        use_all();
        taken.extend(sources.take().map(|noted| noted.id));
        assert_eq!(taken.len() as u128, pairs);
    }
}
