//! What whoever changes something is told of when that is true everywhere.

use std::time::Duration;

use super::{Authority, Error, defect::Defect};
use crate::domain::Timestamp;

/// Where a change stands in the feed, and since when, or by when, everybody goes by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The place of the change. Of a token that had ended before, the place of its end; none of a platform that was so
    /// already.
    pub seq: Option<u64>,
    /// A moment at which it is true everywhere, by this machine's clock: it has passed if `bound` is zero.
    pub effective_at: Timestamp,
    /// For how long from this receipt on some node may still go by what was before: zero where none can.
    pub bound: Duration,
    /// The nodes that have not said that they know of the change. With a bound of zero, they can believe nothing any more
    /// that they knew before it.
    pub unheard: Vec<String>,
}

impl Authority {
    /// Sees to it that the change at `seq` is true everywhere, or says by when it is, where that is not waited for; without
    /// a place, everything until now.
    pub(super) async fn receipt(&self, seq: Option<u64>) -> Result<Receipt, Error> {
        let mut settled = self.settle(seq, self.revocation_wait).await?;
        if Defect::Bound.is_seeded() {
            settled.bound /= 8;
        }
        if self.revocation_wait && !settled.bound.is_zero() {
            // Whoever asked over HTTP is not told.
            tracing::warn!(
                seq,
                bound = ?settled.bound,
                unheard = settled.unheard.join(","),
                "a change may not be known to a node that can't reach the database and serves stale"
            );
        }
        let millis = i64::try_from(settled.bound.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        Ok(Receipt { seq, effective_at: self.clock.wall().plus_millis(millis), bound: settled.bound, unheard: settled.unheard })
    }
}
