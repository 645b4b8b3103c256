//! The audit log as it stands in its rows, read by whoever verifies it while it is served.

use super::{
    Checkpoint, Error, Mark, Seal, Store, on, sealed,
    sealed::Sealed,
    tables::{AUDIT, CHECKPOINT, integer, values},
};
use crate::domain::{RecordedEntry, TokenId};

/// An entry and its seal; or, where its row holds something that we never write, the row's name.
pub(crate) type Kept = Result<(RecordedEntry, Seal), String>;

/// Checkpoints at the most: there is one for tens of thousands of entries.
pub(super) const CHECKPOINTS: usize = 1 << 20;

impl Store {
    /// The entries behind a place, in order, each with its own place: the first of them, at most so many.
    pub(crate) async fn entries_behind(&self, after: u64, most: usize) -> Result<Vec<(u64, Kept)>, Error> {
        let rows = on!(self, s => s.entries_behind(after, most).await)?;
        let place = |row: &[u8]| values(row).next().flatten().and_then(integer).unwrap_or_default().unsigned_abs();
        let kept = |row| match sealed::read(&AUDIT, row)? {
            Ok(Sealed::Entry(entry, seal)) => Some((entry.seq, Ok((*entry, seal)))),
            Ok(_) => None,
            Err(name) => Some((place(row), Err(name))),
        };
        Ok(rows.iter().filter_map(kept).collect())
    }

    /// The checkpoints of the log, in order; one that cannot be read by its name alone.
    pub(crate) async fn list_checkpoints(&self) -> Result<Vec<Result<Checkpoint, String>>, Error> {
        let rows = on!(self, s => s.checkpoints().await)?;
        let checkpoint = |row| match sealed::read(&CHECKPOINT, row)? {
            Ok(Sealed::Checkpoint(checkpoint)) => Some(Ok(checkpoint)),
            Ok(_) => None,
            Err(name) => Some(Err(name)),
        };
        Ok(rows.iter().filter_map(checkpoint).collect())
    }

    /// The last place of the feed, as the feed says.
    pub(crate) async fn last_mark(&self) -> Result<Mark, Error> {
        on!(self, s => s.last_mark().await)
    }

    /// Entries before the first place: none is written there.
    pub(crate) async fn count_before_first(&self) -> Result<u64, Error> {
        on!(self, s => s.count_before_first().await)
    }

    /// Those of these tokens that are there and, by their rows, have not ended.
    pub(crate) async fn unended_among(&self, ids: Vec<TokenId>) -> Result<Vec<TokenId>, Error> {
        on!(self, s => s.unended_among(ids).await)
    }
}
