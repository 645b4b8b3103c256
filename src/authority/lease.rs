//! For how long the index may be believed.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::defect::Defect;

/// Until when the index is known to be complete, by the clock that counts suspend.
///
/// A change that was committed before a feed read began is in that read. So an index whose last read began at `t` misses
/// only what was committed after `t`, and whoever changed that waits until `t + lease` has surely passed before they say
/// that it is done.
#[derive(Debug)]
pub(crate) struct Lease {
    length: Duration,
    until: AtomicU64,
}

impl Lease {
    /// A lease that nothing backs yet.
    pub(crate) const fn new(length: Duration) -> Self {
        Self { length, until: AtomicU64::new(0) }
    }

    /// Its length.
    pub(crate) const fn length(&self) -> Duration {
        self.length
    }

    /// Notes that a feed read that began at `began` was applied.
    pub(crate) fn renew(&self, began: Duration) {
        self.until.fetch_max(nanos(began + self.length), Ordering::SeqCst);
    }

    /// Ends it, whatever is still renewed.
    pub(crate) fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    /// Whether the index may be believed for an answer given at `now`.
    pub(crate) fn holds(&self, now: Duration) -> bool {
        nanos(now) < self.until.load(Ordering::SeqCst) || Defect::Clock.is_seeded()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_from_the_start_of_the_read_and_never_backwards() {
        let (lease, second) = (Lease::new(Duration::from_secs(1)), Duration::from_secs);
        assert!(!lease.holds(second(0)), "nothing was read");
        lease.renew(second(10));
        assert!(lease.holds(second(10)) && lease.holds(Duration::from_millis(10_999)));
        assert!(!lease.holds(second(11)), "over at its end");
        lease.renew(second(5));
        assert!(lease.holds(Duration::from_millis(10_500)), "a slow read of before shortens nothing");
    }
}
