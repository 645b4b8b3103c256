//! What the database knows of the server's keys, and sealing anew under another one.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use super::{
    Error, Sqlite,
    sql::{self, prepare},
    writer::Batch,
};
use crate::{
    domain::{Timestamp, TokenId},
    store::{Canary, Record, retired},
};

#[cfg(feature = "server")]
use crate::{
    domain::AuditEntry,
    store::{OperationsRecord, PlatformRecord, Sealing, queue::Urgency},
};

pub(super) fn list_canaries(c: &Connection) -> Result<Vec<Canary>, Error> {
    let mut statement = prepare(c, "SELECT key_id, mac, retired_at FROM canary ORDER BY key_id")?;
    let canary = |row: &Row<'_>| {
        let retired_at = row.get::<_, Option<i64>>(2)?.map(Timestamp::from_millis);
        Ok(Canary { key: row.get(0)?, mac: row.get(1)?, retired_at })
    };
    let rows = statement.query_map([], canary)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Refuses to seal anything new with a key that is retired.
pub(super) fn refuse_retired(c: &Connection, key: u32) -> Result<(), Error> {
    match prepare(c, "SELECT 1 FROM canary WHERE key_id = ?1 AND retired_at IS NOT NULL")?.exists([key])? {
        true => Err(retired(key)),
        false => Ok(()),
    }
}

impl Sqlite {
    pub(in crate::store) async fn list_canaries(&self) -> Result<Vec<Canary>, Error> {
        self.read(list_canaries).await
    }

    pub(in crate::store) async fn insert_canary(&self, key: u32, mac: [u8; 32]) -> Result<(), Error> {
        let insert = move |batch: &mut Batch<'_>| {
            let sql = "INSERT INTO canary (key_id, mac) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            prepare(batch.connection, sql)?.execute(params![key, mac])?;
            Ok(())
        };
        self.write(insert).await
    }

    #[cfg(feature = "server")]
    pub(in crate::store) async fn count_sealed(&self) -> Result<Vec<(u32, Sealing)>, Error> {
        let count = |c: &Connection| {
            let sql = "SELECT key_id, (SELECT count(*) FROM token t WHERE t.key_id = c.key_id AND t.revoked_at IS NULL), \
                       (SELECT count(*) FROM platform p WHERE p.key_id = c.key_id), \
                       (SELECT count(*) FROM operations o WHERE o.key_id = c.key_id) FROM canary c";
            let mut statement = prepare(c, sql)?;
            let sealing =
                |row: &Row<'_>| Ok((row.get(0)?, Sealing { tokens: row.get(1)?, platforms: row.get(2)?, operations: row.get(3)? }));
            let rows = statement.query_map([], sealing)?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.read(count).await
    }

    pub(in crate::store) async fn reseal_tokens<F>(&self, ids: Vec<TokenId>, mut decide: F) -> Result<Vec<Record>, Error>
    where
        F: FnMut(&Record) -> Option<Record> + Send + 'static,
    {
        let unreadable = Arc::clone(&self.unreadable);
        let reseal = move |batch: &mut Batch<'_>| {
            let (c, mut stand) = (batch.connection, Vec::with_capacity(ids.len()));
            let sql = "UPDATE token SET key_id = ?3, proof = ?4 WHERE id = ?1 AND key_id = ?2 AND revoked_at IS NULL \
                       AND NOT EXISTS (SELECT 1 FROM canary WHERE key_id IN (?2, ?3) AND retired_at IS NOT NULL)";
            for id in &ids {
                let Some((before, _)) = sql::find_token(c, *id, &unreadable)? else { continue };
                stand.push(match decide(&before) {
                    Some(after)
                        if prepare(c, sql)?.execute(params![id.0.as_bytes(), before.seal.key, after.seal.key, after.proof()])? == 1 =>
                    {
                        after
                    }
                    _ => before,
                });
            }
            Ok(stand)
        };
        self.write(reseal).await
    }

    #[cfg(feature = "server")]
    pub(in crate::store) async fn retire_key<P, O>(
        &self,
        key: u32,
        since: u64,
        entry: AuditEntry,
        (mut platform, mut operations): (P, O),
    ) -> Result<Option<u64>, Error>
    where
        P: FnMut(&PlatformRecord) -> Option<PlatformRecord> + Send + 'static,
        O: FnMut(&OperationsRecord) -> Option<OperationsRecord> + Send + 'static,
    {
        let retire = move |batch: &mut Batch<'_>| {
            let c = batch.connection;
            // What else is entered of a token (that its row was edited, say) makes none.
            let made = "SELECT 1 FROM audit a JOIN token t ON t.id = a.token_id \
                        WHERE a.seq > ?1 AND a.action = 'token.create' AND t.key_id = ?2 AND t.revoked_at IS NULL";
            if prepare(c, made)?.exists(params![since, key])? {
                return Ok(None);
            }
            for record in sql::list_platforms(c)?.iter().filter(|record| record.seal.key == key) {
                platform(record).map_or(Ok(()), |anew| sql::update_platform(c, &anew))?;
            }
            if let Some(anew) = sql::find_operations(c)?.filter(|record| record.seal.key == key).and_then(|record| operations(&record)) {
                sql::replace_operations(c, &anew)?;
            }
            let sql = "UPDATE canary SET retired_at = coalesce(retired_at, ?2) WHERE key_id = ?1";
            prepare(c, sql)?.execute(params![key, entry.at.millis()])?;
            batch.something_ends();
            batch.note(&entry).map(Some)
        };
        self.writer.write(Urgency::Ending, retire).await
    }
}
