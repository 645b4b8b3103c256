//! Checkpoints of the audit log.

#[cfg(feature = "server")]
use tokio_postgres::types::ToSql;

use super::{Error, session::Session};
#[cfg(feature = "server")]
use super::{Postgres, batch::Batch};
#[cfg(feature = "server")]
use crate::{
    domain::AuditEntry,
    store::{Checkpoint, queue::Urgency},
};

/// One that says that entries are gone is never replaced by one that does not.
#[cfg(feature = "server")]
const INSERT: &str = "INSERT INTO audit_checkpoint (seq, entry_seal, peaks, pruned, key_id, seal) VALUES ($1, $2, $3, $4, $5, $6) \
                      ON CONFLICT (seq) DO UPDATE SET entry_seal = excluded.entry_seal, peaks = excluded.peaks, \
                      pruned = excluded.pruned, key_id = excluded.key_id, seal = excluded.seal WHERE excluded.pruned";

/// Entries alone that a checkpoint says are gone.
#[cfg(feature = "server")]
const REMOVE: &str = "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE seq <= $1 \
                      AND EXISTS (SELECT 1 FROM audit_checkpoint WHERE seq = $1 AND pruned) ORDER BY seq LIMIT $2)";

#[cfg(feature = "server")]
impl Postgres {
    pub(in crate::store) async fn insert_checkpoint(&self, checkpoint: Checkpoint, entry: Option<AuditEntry>) -> Result<(), Error> {
        let insert = async move |batch: &mut Batch<'_>| {
            let Checkpoint { mark, peaks, pruned, seal } = &checkpoint;
            let values: [&(dyn ToSql + Sync); 6] =
                [&mark.seq.cast_signed(), &mark.mac.as_slice(), peaks, pruned, &i64::from(seal.key), &seal.mac.as_slice()];
            batch.session.execute(INSERT, &values).await?;
            entry.iter().try_for_each(|entry| batch.note(entry.clone()).map(drop))
        };
        self.writer.change(Urgency::Normal, insert).await
    }

    pub(in crate::store) async fn remove_pruned(&self, through: u64, most: usize) -> Result<bool, Error> {
        let (through, most) = (through.cast_signed(), i64::try_from(most).unwrap_or(i64::MAX));
        let remove = async move |batch: &mut Batch<'_>| {
            let removed = batch.session.execute(REMOVE, &[&through, &most]).await?;
            batch.session.execute("DELETE FROM audit_checkpoint WHERE seq < $1", &[&through]).await?;
            Ok(i64::try_from(removed).is_ok_and(|removed| removed == most))
        };
        self.writer.change(Urgency::Normal, remove).await
    }
}

/// The place behind which the log begins, which is 0 or one up to which it was pruned.
pub(super) async fn pruned(s: &Session) -> Result<i64, Error> {
    let row = s.row("SELECT coalesce(max(seq), 0) FROM audit_checkpoint WHERE pruned", &[]).await?;
    row.map_or(Ok(0), |row| super::sql::value(&row, 0))
}

/// Whether the audit log was pruned up to that place, or beyond.
pub(super) async fn is_pruned(s: &Session, seq: u64) -> Result<bool, Error> {
    Ok(s.row("SELECT 1 FROM audit_checkpoint WHERE seq >= $1 AND pruned LIMIT 1", &[&seq.cast_signed()]).await?.is_some())
}
