//! Time, as the authority asks for it. The only file that reads the machine's clocks.

use std::time::Duration;

use crate::domain::Timestamp;

/// The two clocks. Tests bring their own.
pub trait Clock: Send + Sync {
    /// The wall clock: what is stored and shown. May jump either way.
    fn wall(&self) -> Timestamp;

    /// Time since the machine started, suspend included: what leases are measured by. Never goes back.
    fn boot(&self) -> Duration;
}

/// Milliseconds by a clock that never goes back, exact to a few of them and four times as cheap to read: for waits of
/// seconds that are noted several times a request.
#[cfg(feature = "server")]
pub(crate) fn coarse_millis() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        // A clock before 1970 counts as 1970: a wrong time is shown, nothing fails.
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn boot(&self) -> Duration {
        // CLOCK_MONOTONIC (std's Instant) stands still while the machine sleeps, and a lease would outlive it.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
    }
}
