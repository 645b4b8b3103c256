//! How often, and how long: what many threads note at once, and somebody reads now and then. Nothing is decided by it.

use std::{
    array,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// So many threads note without waiting for each other's cache lines; of more, some share.
const SHARDS: usize = 16;

/// A value for each thread that notes, all of which together are what was noted.
pub(crate) struct Sharded<T>(Box<[Line<T>]>);

/// On cache lines of its own; processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Line::default()).collect())
    }
}

impl<T> Sharded<T> {
    /// The one of this thread.
    pub(crate) fn mine(&self) -> &T {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
        }
        &self.0[SHARD.with(|shard| *shard)].0
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|line| &line.0)
    }
}

/// The bounds of durations, in nanoseconds: from a look into memory to what nobody waits for.
const BOUNDS: [u64; 22] = {
    let (mut bounds, mut at, mut decade) = ([0; 22], 0, 1_000);
    while at < 22 {
        bounds[at] = match at % 3 {
            0 => decade,
            1 => decade * 5 / 2,
            _ => decade * 5,
        };
        if at % 3 == 2 {
            decade *= 10;
        }
        at += 1;
    }
    bounds
};

/// How long something took, each time.
#[derive(Default)]
pub(crate) struct Durations(Sharded<Noted>);

#[derive(Default)]
struct Noted {
    /// How often it took longer than the bound before and no longer than this one; the last is beyond all.
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Durations {
    /// Notes one.
    #[inline]
    pub(crate) fn note(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let noted = self.0.mine();
        noted.counts[BOUNDS.partition_point(|bound| *bound < nanos)].fetch_add(1, Ordering::Relaxed);
        noted.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// All that were noted.
    pub(crate) fn read(&self) -> Histogram {
        let of = |at: usize| self.0.all().map(|noted| noted.counts[at].load(Ordering::Relaxed)).sum();
        let nanos = self.0.all().map(|noted| noted.nanos.load(Ordering::Relaxed)).fold(0, u64::wrapping_add);
        Histogram { counts: array::from_fn(of), took: Duration::from_nanos(nanos) }
    }
}

impl std::fmt::Debug for Durations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.read().fmt(f)
    }
}

/// Durations as they were noted up to a moment.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    /// How long all of them took together.
    pub took: Duration,
}

impl Histogram {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many there were up to each bound and beyond the one before; the last bound is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.iter().map(|bound| Duration::from_nanos(*bound).as_secs_f64());
        bounds.chain([f64::INFINITY]).zip(self.counts)
    }
}

/// Measures how long something takes, by a clock that only this uses: it stands still where the machine is suspended, which is
/// nobody's latency, and tests that own the time do not turn it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "what is measured is shown, and nothing else")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn took(self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_once_at_the_least_bound_that_it_does_not_exceed() {
        let durations = Durations::default();
        let millis = Duration::from_millis;
        for took in [Duration::ZERO, Duration::from_micros(1), Duration::from_nanos(1001), millis(5), millis(10_000), millis(10_001)] {
            durations.note(took);
        }
        let noted = durations.read();
        let found: Vec<_> = noted.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(found, [(1e-6, 2), (2.5e-6, 1), (0.005, 1), (10.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((noted.count(), noted.took), (6, millis(20_006) + Duration::from_nanos(2001)));
    }

    #[test]
    fn what_threads_note_at_once_is_all_there() {
        let durations = Durations::default();
        std::thread::scope(|scope| {
            for _ in 0..SHARDS + 3 {
                scope.spawn(|| (0..1000).for_each(|_| durations.note(Duration::from_micros(7))));
            }
        });
        let noted = durations.read();
        let all = (SHARDS as u64 + 3) * 1000;
        assert_eq!((noted.count(), noted.took), (all, Duration::from_micros(7 * all)));
    }
}
