//! What a process counts and measures of itself.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Authority, denials::Reason, journal, lease::Lease};
use crate::{measure::Histogram, store::Measured};

/// What an [`Authority`] counts.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Live tokens in the index.
    pub live_tokens: usize,
    /// The place of the feed that the index has followed.
    pub followed: u64,
    /// Rows that were found not to be as they were sealed.
    pub tampered: usize,
    /// Whether the index may be believed now; none of a process that does not answer from memory.
    pub lease_holds: Option<bool>,
    /// Whether credentials are accepted although the lease is over, because the database can't be reached.
    pub stale: bool,
    /// Credentials that were accepted so since start.
    pub stale_accepts: u64,
    /// Whether the journal could not be written when that was tried last: what ends is in the database alone.
    pub journal_failing: bool,
    /// How old what the index says is at the most: the time since the beginning of the last feed read that was applied. `None` if
    /// there was none.
    pub lease_age: Option<Duration>,
    /// How many bytes the index's table has.
    pub index_bytes: usize,
    /// How long transactions of changes took.
    pub commits: Histogram,
    /// How long reads of the database took, the wait for their turn included.
    pub reads: Histogram,
    /// Changes that wait for the database's writer, and end nothing.
    pub writes_waiting: usize,
    /// Refusals since start.
    pub denials: Vec<(Reason, u64)>,
    /// Tokens that were ended since start.
    pub ends: u64,
    /// How long those took in all from being asked for to their commit.
    pub ends_took: Duration,
    /// Keys that the database knows and the key file here lacks.
    pub keys_lacking: usize,
    /// Key files since start that were not taken over.
    pub key_reload_failures: u64,
    /// How many entries of the audit log the last head is of that was signed and written elsewhere.
    #[cfg(feature = "server")]
    pub head_size: u64,
    /// How often a head could not be signed, or not be written to one of its sinks.
    #[cfg(feature = "server")]
    pub head_failures: u64,
    /// For how long there may have been entries of the audit log that no head elsewhere is of. `None` if none was written.
    #[cfg(feature = "server")]
    pub head_age: Option<Duration>,
}

impl Authority {
    /// The figures of the metrics page.
    pub fn figures(&self) -> Figures {
        let (now, Measured { commits, reads, waiting }) = (self.clock.boot(), self.store.measured());
        Figures {
            lease_age: self.lease.as_ref().and_then(|lease| lease.age(now)),
            index_bytes: self.index.bytes(),
            commits,
            reads,
            writes_waiting: waiting,
            live_tokens: self.index.len(),
            followed: self.followed().mark.seq,
            tampered: self.tampered().len(),
            stale: self.is_stale(),
            lease_holds: self.lease.as_ref().map(|lease| lease.holds(now)),
            journal_failing: self.journal.as_ref().is_some_and(journal::Writer::is_failing),
            stale_accepts: self.lease.as_ref().map_or(0, Lease::accepted_stale),
            denials: self.denials.totals().collect(),
            ends: self.ends.count.load(Ordering::Relaxed),
            ends_took: Duration::from_micros(self.ends.micros.load(Ordering::Relaxed)),
            keys_lacking: self.keys.lacking().len(),
            key_reload_failures: self.keys.failures(),
            #[cfg(feature = "server")]
            head_size: self.heads.size.load(Ordering::Relaxed),
            #[cfg(feature = "server")]
            head_failures: self.heads.failures.load(Ordering::Relaxed),
            #[cfg(feature = "server")]
            head_age: self.heads.age(now),
        }
    }
}
