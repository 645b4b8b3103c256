//! Failed attempts, counted by where they come from and by the clientId that they name.
//!
//! Whoever has the right secret is never kept out, whoever else fails meanwhile: only who fails is told to wait, and is no
//! longer looked up in the database. So an attacker can neither lock a customer out by knowing a clientId nor use us to
//! load the database; guessing 256 bits needs no limit.
//!
//! A table of fixed size without locks: a flood of made-up ids or addresses takes no memory. Where more fail in one
//! minute than it holds, the smallest counts are forgotten.

use std::{
    hash::{BuildHasher as _, Hash, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const CELLS: usize = 1 << 16;
/// Cells in which a key may be.
const NEAR: usize = 4;
const MINUTE: u64 = 60;

/// How many attempts may fail in a minute; 0 is any number.
#[derive(Debug, Clone, Copy)]
pub struct AttemptLimits {
    /// From one address, or from one /64 of IPv6.
    pub per_source: u32,
    /// With one name: a clientId, or an account's.
    pub per_client: u32,
}

impl AttemptLimits {
    /// Any number.
    pub const NONE: Self = Self { per_source: 0, per_client: 0 };
}

/// The counts of this minute.
pub(crate) struct Attempts {
    limits: AttemptLimits,
    keys: RandomState,
    /// Fingerprint of the key (24 bits), minute (16), count (24).
    cells: Vec<AtomicU64>,
}

impl Attempts {
    pub(crate) fn new(limits: AttemptLimits) -> Self {
        Self { limits, keys: RandomState::new(), cells: std::iter::repeat_with(AtomicU64::default).take(CELLS).collect() }
    }

    /// Counts an attempt that failed; returns how long to wait if there were too many.
    pub(crate) fn failed(&self, source: IpAddr, named: Option<impl Hash>, now: Duration) -> Option<Duration> {
        let of_source = self.count(self.source_key(source), now) > self.limits.per_source && self.limits.per_source > 0;
        let of_client = named.is_some_and(|named| self.count(self.named_key(named), now) > self.limits.per_client);
        (of_source || of_client && self.limits.per_client > 0).then(|| rest_of_minute(now))
    }

    /// Whether too many from there have failed; how long to wait then.
    pub(crate) fn too_many(&self, source: IpAddr, now: Duration) -> Option<Duration> {
        self.is_over(self.source_key(source), self.limits.per_source, now)
    }

    /// The same of a name.
    #[cfg(feature = "server")]
    pub(crate) fn too_many_named(&self, name: impl Hash, now: Duration) -> Option<Duration> {
        self.is_over(self.named_key(name), self.limits.per_client, now)
    }

    fn is_over(&self, key: u64, limit: u32, now: Duration) -> Option<Duration> {
        let minute = minute(now);
        let count = self.near(key).map(|cell| cell.load(Ordering::Relaxed)).find(|cell| is(*cell, key, minute)).map_or(0, count_of);
        (limit > 0 && count > limit).then(|| rest_of_minute(now))
    }

    fn source_key(&self, source: IpAddr) -> u64 {
        match source.to_canonical() {
            IpAddr::V4(address) => self.keys.hash_one(address),
            // Whoever has one address of IPv6 has 2^64.
            IpAddr::V6(address) => self.keys.hash_one(&address.octets()[..8]),
        }
    }

    fn named_key(&self, name: impl Hash) -> u64 {
        self.keys.hash_one(name)
    }

    fn near(&self, key: u64) -> impl Iterator<Item = &AtomicU64> {
        (0..NEAR).map(move |at| &self.cells[(key as usize + at) % CELLS])
    }

    /// Counts one more, and returns the count.
    fn count(&self, key: u64, now: Duration) -> u32 {
        let minute = minute(now);
        let fresh = fingerprint(key) | minute << 24 | 1;
        for cell in self.near(key) {
            let counted = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                if is(old, key, minute) {
                    Some(if count_of(old) < 0xFF_FFFF { old + 1 } else { old })
                } else {
                    // Of another minute: nobody's any more.
                    (old >> 24 & 0xFFFF != minute || old == 0).then_some(fresh)
                }
            });
            if let Ok(old) = counted {
                return if is(old, key, minute) { count_of(old).saturating_add(1) } else { 1 };
            }
        }
        if let Some(least) = self.near(key).min_by_key(|cell| count_of(cell.load(Ordering::Relaxed))) {
            least.store(fresh, Ordering::Relaxed);
        }
        1
    }
}

fn fingerprint(key: u64) -> u64 {
    key & !((1 << 40) - 1)
}

fn is(cell: u64, key: u64, minute: u64) -> bool {
    cell >> 24 == (fingerprint(key) | minute << 24) >> 24 && cell != 0
}

const fn count_of(cell: u64) -> u32 {
    (cell & 0xFF_FFFF) as u32
}

const fn minute(now: Duration) -> u64 {
    (now.as_secs() / MINUTE) & 0xFFFF
}

/// Between 1 and 59 seconds: client libraries take no other pause.
fn rest_of_minute(now: Duration) -> Duration {
    Duration::from_secs((MINUTE - now.as_secs() % MINUTE).clamp(1, 59))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(per_source: u32, per_client: u32) -> Attempts {
        Attempts::new(AttemptLimits { per_source, per_client })
    }

    #[test]
    fn a_13_who_fails_too_often_waits_for_the_next_minute() {
        let (attempts, here, now) = (attempts(3, 0), IpAddr::from([192, 0, 2, 1]), Duration::from_secs(65));
        let failed = |source, now| attempts.failed(source, None::<u8>, now);
        assert!((0..3).all(|_| failed(here, now).is_none()) && attempts.too_many(here, now).is_none());
        assert_eq!(failed(here, now), Some(Duration::from_secs(55)));
        assert_eq!(attempts.too_many(here, now), Some(Duration::from_secs(55)));
        assert_eq!(failed(IpAddr::from([192, 0, 2, 2]), now), None, "others don't");
        assert_eq!(failed("::ffff:192.0.2.1".parse().unwrap(), now), Some(Duration::from_secs(55)), "the same address");
        assert_eq!(failed(here, Duration::from_secs(120)), None);
        assert_eq!(attempts.too_many(here, Duration::from_secs(180)), None);
        let (one, two, other) = ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1");
        assert!((0..3).all(|_| failed(one.parse().unwrap(), now).is_none()));
        assert!(failed(two.parse().unwrap(), now).is_some() && failed(other.parse().unwrap(), now).is_none());
    }

    #[test]
    fn a_name_is_counted_wherever_it_comes_from() {
        let (attempts, now) = (attempts(0, 2), Duration::from_secs(1));
        let failed = |n: u8, id: u128| attempts.failed(IpAddr::from([10, 0, 0, n]), Some(id), now).is_some();
        assert_eq!([failed(1, 7), failed(2, 7), failed(3, 7), failed(4, 8)], [false, false, true, false]);
    }

    /// Ten times as many sources as it holds: nothing grows, and who fails most is still known.
    #[test]
    fn o_06_a_flood_takes_no_memory_and_hides_nobody() {
        let (attempts, now, loud) = (attempts(100, 0), Duration::from_secs(1), IpAddr::from([192, 0, 2, 1]));
        let mut limited = 0;
        for n in 0..10 * CELLS as u32 {
            attempts.failed(IpAddr::from(n.to_be_bytes()), None::<u8>, now);
            if n % 1000 == 0 {
                limited += (0..10).filter(|_| attempts.failed(loud, None::<u8>, now).is_some()).count();
            }
        }
        assert!(limited > 6000, "{limited}");
    }
}
