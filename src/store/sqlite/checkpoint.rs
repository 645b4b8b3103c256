//! Checkpoints of the audit log.

use rusqlite::Connection;
#[cfg(feature = "server")]
use rusqlite::params;

use super::Error;
#[cfg(feature = "server")]
use super::Sqlite;
#[cfg(feature = "server")]
use crate::{domain::AuditEntry, store::Checkpoint};

/// One that says that entries are gone is never replaced by one that does not.
#[cfg(feature = "server")]
const INSERT: &str = "INSERT INTO audit_checkpoint (seq, entry_seal, peaks, pruned, key_id, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                      ON CONFLICT (seq) DO UPDATE SET entry_seal = excluded.entry_seal, peaks = excluded.peaks, \
                      pruned = excluded.pruned, key_id = excluded.key_id, seal = excluded.seal WHERE excluded.pruned = 1";

/// Entries alone that a checkpoint says are gone.
#[cfg(feature = "server")]
const REMOVE: &str = "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE seq <= ?1 \
                      AND EXISTS (SELECT 1 FROM audit_checkpoint WHERE seq = ?1 AND pruned = 1) ORDER BY seq LIMIT ?2)";

#[cfg(feature = "server")]
impl Sqlite {
    pub(in crate::store) async fn insert_checkpoint(&self, checkpoint: Checkpoint, entry: Option<AuditEntry>) -> Result<(), Error> {
        self.write(move |batch| {
            let Checkpoint { mark, peaks, pruned, seal } = &checkpoint;
            batch.connection.prepare_cached(INSERT)?.execute(params![mark.seq, mark.mac, peaks, pruned, seal.key, seal.mac])?;
            entry.iter().try_for_each(|entry| batch.note(entry).map(drop))
        })
        .await
    }

    pub(in crate::store) async fn remove_pruned(&self, through: u64, most: usize) -> Result<bool, Error> {
        self.write(move |batch| {
            let removed = batch.connection.prepare_cached(REMOVE)?.execute(params![through, most])?;
            batch.connection.prepare_cached("DELETE FROM audit_checkpoint WHERE seq < ?1")?.execute([through])?;
            Ok(removed == most)
        })
        .await
    }
}

/// The place behind which the log begins, which is 0 or one up to which it was pruned.
pub(super) fn pruned(c: &Connection) -> Result<i64, Error> {
    let sql = "SELECT coalesce(max(seq), 0) FROM audit_checkpoint WHERE pruned = 1";
    Ok(c.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Whether the audit log was pruned up to that place, or beyond.
pub(super) fn is_pruned(c: &Connection, seq: u64) -> Result<bool, Error> {
    Ok(c.prepare_cached("SELECT 1 FROM audit_checkpoint WHERE seq >= ?1 AND pruned = 1")?.exists([seq])?)
}
