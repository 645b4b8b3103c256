//! For how long the index may be believed.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use crate::{defect::Defect, domain::OnDatabaseLoss};

/// Until when the index is known to be complete, by the clock that counts suspend.
///
/// A change that was committed before a feed read began is in that read. So an index whose last read began at `t` misses
/// only what was committed after `t`, and whoever changed that waits until `t + lease` has surely passed before they say
/// that it is done.
#[derive(Debug)]
pub(crate) struct Lease {
    length: Duration,
    until: AtomicU64,
    on_loss: OnDatabaseLoss,
    /// Whether the database could not be reached when it was asked last. Never where that makes no difference.
    lost: AtomicBool,
    /// Whether somebody was accepted since it was lost.
    serving: AtomicBool,
    accepted: AtomicU64,
}

impl Lease {
    /// A lease that nothing backs yet.
    pub(crate) const fn new(length: Duration, on_loss: OnDatabaseLoss) -> Self {
        Self {
            length,
            until: AtomicU64::new(0),
            on_loss,
            lost: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
        }
    }

    /// Its length.
    pub(crate) const fn length(&self) -> Duration {
        self.length
    }

    /// For how long, at the longest, the index is believed where the database can't be reached; zero is no longer.
    pub(crate) const fn stale(&self) -> Duration {
        self.on_loss.stale()
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

    /// How old what is believed is: the time since the beginning of the last feed read that was applied. `None` if none was.
    pub(crate) fn age(&self, now: Duration) -> Option<Duration> {
        let until = Duration::from_nanos(self.until.load(Ordering::SeqCst));
        (!until.is_zero()).then(|| (now + self.length).saturating_sub(until))
    }

    /// Notes that the database can't be reached.
    pub(crate) fn lose(&self) {
        if self.on_loss != OnDatabaseLoss::Deny {
            self.lost.store(true, Ordering::SeqCst);
        }
    }

    /// Notes that it answers, whatever it says.
    pub(crate) fn find(&self) {
        self.lost.store(false, Ordering::SeqCst);
        if self.serving.swap(false, Ordering::SeqCst) {
            let accepted = self.accepted.load(Ordering::Relaxed);
            tracing::warn!(accepted, "the database can be reached again; nothing is answered from a stale index any more");
        }
    }

    /// Whether it is known that the database can't be reached, and whoever follows looks after it: asking would be in vain.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst) && self.until.load(Ordering::SeqCst) != 0
    }

    /// Whether the index may be believed for an answer given at `now` although the lease is over: only while the database
    /// can't be reached, and not for longer than was said to everybody.
    #[cold]
    pub(crate) fn serves_stale(&self, now: Duration) -> bool {
        let until = self.until.load(Ordering::SeqCst);
        if until == 0 || !self.lost.load(Ordering::SeqCst) {
            return false;
        }
        let serves = nanos(now) < until.saturating_add(nanos(self.stale().saturating_sub(self.length)));
        if !serves && self.serving.swap(false, Ordering::SeqCst) {
            tracing::error!(
                "the database could not be reached for as long as on_database_loss allows; what is in memory is believed no more"
            );
        }
        serves
    }

    /// Counts somebody who was accepted so.
    #[cold]
    pub(crate) fn accept_stale(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if !self.serving.swap(true, Ordering::SeqCst) {
            tracing::error!(at_most = ?self.stale(), "the database can't be reached; credentials are accepted from a stale index");
        }
    }

    /// How many were accepted so, since start.
    pub(crate) fn accepted_stale(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn it_runs_from_the_start_of_the_read_and_never_backwards() {
        let lease = Lease::new(SECOND(1), OnDatabaseLoss::Deny);
        assert!(!lease.holds(SECOND(0)), "nothing was read");
        assert_eq!(lease.age(SECOND(3)), None);
        lease.renew(SECOND(10));
        assert_eq!([lease.age(SECOND(10)), lease.age(SECOND(13))], [Some(SECOND(0)), Some(SECOND(3))]);
        assert!(lease.holds(SECOND(10)) && lease.holds(Duration::from_millis(10_999)));
        assert!(!lease.holds(SECOND(11)), "over at its end");
        lease.renew(SECOND(5));
        assert!(lease.holds(Duration::from_millis(10_500)), "a slow read of before shortens nothing");
        lease.lose();
        assert!(!lease.is_lost() && !lease.serves_stale(SECOND(11)), "nobody said so");
    }

    #[test]
    fn it_is_stretched_while_the_database_is_lost_and_no_longer() {
        let lease = Lease::new(SECOND(1), OnDatabaseLoss::ServeStale(SECOND(60)));
        lease.lose();
        assert!(!lease.serves_stale(SECOND(0)), "nothing was ever read");
        lease.renew(SECOND(10));
        let last = SECOND(70) - Duration::from_nanos(1);
        assert!(lease.serves_stale(SECOND(11)) && lease.serves_stale(last) && !lease.serves_stale(SECOND(70)));
        lease.find();
        assert!(!lease.serves_stale(SECOND(11)), "it answers");
        lease.lose();
        assert!(lease.is_lost() && lease.serves_stale(SECOND(11)));
        lease.end();
        assert!(!lease.is_lost() && !lease.serves_stale(SECOND(11)), "nobody follows, so nobody would notice that it is back");
    }
}
