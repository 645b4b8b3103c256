//! What the database knows of the server's keys, and sealing anew under another one.

use std::sync::Arc;

use super::{
    Error, Postgres,
    batch::Batch,
    session::Session,
    sql::{self, bytes, optional_time, unsigned},
};
use crate::{
    domain::TokenId,
    store::{Canary, Record, queue::Urgency, retired},
};

#[cfg(feature = "server")]
use crate::{
    domain::AuditEntry,
    store::{OperationsRecord, PlatformRecord, Sealing},
};

pub(super) async fn list_canaries(s: &Session) -> Result<Vec<Canary>, Error> {
    let rows = s.rows("SELECT key_id, mac, retired_at FROM canary ORDER BY key_id", &[]).await?;
    rows.iter().map(|row| Ok(Canary { key: unsigned(row, 0)?, mac: bytes(row, 1)?, retired_at: optional_time(row, 2)? })).collect()
}

/// Refuses to seal anything new with one of these keys if it is retired.
pub(super) async fn refuse_retired(s: &Session, keys: &[u32]) -> Result<(), Error> {
    let keys: Vec<_> = keys.iter().copied().map(i64::from).collect();
    let found = s.row("SELECT key_id FROM canary WHERE key_id = ANY($1) AND retired_at IS NOT NULL LIMIT 1", &[&keys]).await?;
    found.map_or(Ok(()), |row| Err(retired(unsigned(&row, 0)?)))
}

impl Postgres {
    pub(in crate::store) async fn list_canaries(&self) -> Result<Vec<Canary>, Error> {
        self.readers.read(async |s| list_canaries(s).await).await
    }

    pub(in crate::store) async fn insert_canary(&self, key: u32, mac: [u8; 32]) -> Result<(), Error> {
        let sql = "INSERT INTO canary (key_id, mac) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        self.readers.read(async |s| s.execute(sql, &[&i64::from(key), &mac.as_slice()]).await.map(drop)).await
    }

    #[cfg(feature = "server")]
    pub(in crate::store) async fn count_sealed(&self) -> Result<Vec<(u32, Sealing)>, Error> {
        // On a session made for it, without a deadline: it reads all tokens.
        let session = self.connector.connect(None).await?;
        session.run("SET statement_timeout = 0").await?;
        let sql = "SELECT c.key_id, coalesce(t.n, 0), (SELECT count(*) FROM platform p WHERE p.key_id = c.key_id), \
                   (SELECT count(*) FROM operations o WHERE o.key_id = c.key_id) FROM canary c LEFT JOIN \
                   (SELECT key_id, count(*) AS n FROM token WHERE revoked_at IS NULL GROUP BY key_id) t ON t.key_id = c.key_id";
        let rows = session.rows(sql, &[]).await?;
        let sealing = |row: &tokio_postgres::Row| {
            Ok::<_, Error>(Sealing { tokens: unsigned(row, 1)?, platforms: unsigned(row, 2)?, operations: unsigned(row, 3)? })
        };
        rows.iter().map(|row| Ok((unsigned(row, 0)?, sealing(row)?))).collect()
    }

    pub(in crate::store) async fn reseal_tokens<F>(&self, ids: Vec<TokenId>, mut decide: F) -> Result<Vec<Record>, Error>
    where
        F: FnMut(&Record) -> Option<Record> + Send + 'static,
    {
        let unreadable = Arc::clone(&self.unreadable);
        let ids: Vec<_> = ids.into_iter().map(|id| id.0).collect();
        let reseal = async move |batch: &mut Batch<'_>| {
            let mut stand = sql::find_tokens(batch.session, &ids, &unreadable).await?;
            let anew: Vec<_> = stand.iter().map(&mut decide).collect();
            let (mut ids, mut before, mut after, mut proofs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for (old, new) in stand.iter().zip(&anew).filter_map(|(old, new)| Some((old, new.as_ref()?))) {
                ids.push(old.token.id.0);
                before.push(i64::from(old.seal.key));
                after.push(i64::from(new.seal.key));
                proofs.push(new.proof().to_vec());
            }
            let sql = "UPDATE token t SET key_id = n.after, proof = n.proof \
                       FROM UNNEST($1::uuid[], $2::bigint[], $3::bigint[], $4::bytea[]) AS n(id, before, after, proof) \
                       WHERE t.id = n.id AND t.key_id = n.before AND t.revoked_at IS NULL AND NOT EXISTS \
                       (SELECT 1 FROM canary c WHERE c.key_id IN (n.before, n.after) AND c.retired_at IS NOT NULL) RETURNING t.id";
            let written = batch.session.rows(sql, &[&ids, &before, &after, &proofs]).await?;
            let written = written.iter().map(|row| sql::value(row, 0)).collect::<Result<std::collections::HashSet<uuid::Uuid>, _>>()?;
            for (record, anew) in stand.iter_mut().zip(anew) {
                if let Some(anew) = anew.filter(|anew| written.contains(&anew.token.id.0)) {
                    *record = anew;
                }
            }
            Ok(stand)
        };
        self.writer.change(Urgency::Normal, reseal).await
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
        let retire = async move |batch: &mut Batch<'_>| {
            let (s, id) = (batch.session, i64::from(key));
            let made = "SELECT 1 FROM audit a JOIN token t ON t.id = a.token_id \
                        WHERE a.seq > $1 AND a.action = 'token.create' AND t.key_id = $2 AND t.revoked_at IS NULL LIMIT 1";
            if s.row(made, &[&since.cast_signed(), &id]).await?.is_some() {
                return Ok(None);
            }
            let old = sql::list_platforms(s).await?.into_iter().filter(|record| record.seal.key == key);
            let anew: Vec<_> = old.filter_map(|record| platform(&record)).collect();
            let ids: Vec<_> = anew.iter().map(|record| record.platform.id.0).collect();
            let keys: Vec<_> = anew.iter().map(|record| i64::from(record.seal.key)).collect();
            let seals: Vec<_> = anew.iter().map(|record| record.seal.mac.as_slice()).collect();
            let sql = "UPDATE platform p SET key_id = n.key_id, seal = n.seal \
                       FROM UNNEST($1::uuid[], $2::bigint[], $3::bytea[]) AS n(id, key_id, seal) WHERE p.id = n.id";
            s.execute(sql, &[&ids, &keys, &seals]).await?;
            let old = sql::find_operations(s).await?.filter(|record| record.seal.key == key);
            if let Some(anew) = old.and_then(|record| operations(&record)) {
                batch.replace_operations(&anew).await?;
            }
            let sql = "UPDATE canary SET retired_at = coalesce(retired_at, $2) WHERE key_id = $1";
            s.execute(sql, &[&id, &entry.at.millis()]).await?;
            batch.note(entry.clone()).map(Some)
        };
        self.writer.change(Urgency::Ending, retire).await
    }
}
