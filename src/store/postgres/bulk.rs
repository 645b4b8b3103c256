//! Bulk revokes, and the tokens that they end.

use std::sync::Arc;

use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    Error, Postgres,
    batch::Batch,
    keys,
    operators::{put, seal},
    sql::{self, optional_time, parsed, time, unsigned, value},
};
use crate::{
    domain::{AuditEntry, BulkId, BulkRevoke, BulkState, Timestamp, TokenId, TokenSearch},
    store::{
        BulkRecord, Decision, Record, Seal,
        bulk::{Ended, Step},
        queue::Urgency,
    },
};

const BULK: &str = "id, operator, source, search, expected, created_at, place, ended, state, over_at, key_id, seal";

fn bulk(row: &Row) -> Result<BulkRecord, Error> {
    let over_at = optional_time(row, 9)?;
    let bulk = BulkRevoke {
        id: BulkId(value(row, 0)?),
        operator: value(row, 1)?,
        source: value(row, 2)?,
        search: parsed(row, 3, TokenSearch::parse_text)?,
        expected: unsigned(row, 4)?,
        created_at: time(row, 5)?,
        place: value::<Option<Uuid>>(row, 6)?.map(TokenId),
        ended: unsigned(row, 7)?,
        state: parsed(row, 8, |name| BulkState::of(name, over_at))?,
    };
    Ok(BulkRecord { bulk, seal: seal(row, 10)? })
}

async fn put_bulk(batch: &Batch<'_>, before: Option<Seal>, record: &BulkRecord) -> Result<bool, Error> {
    keys::refuse_retired(batch.session, &[record.seal.key]).await?;
    let BulkRecord { bulk, seal } = record;
    let columns: Vec<_> = BULK.split(", ").collect();
    let (place, search, over_at) = (bulk.place.map(|id| id.0), bulk.search.text(), bulk.state.over_at().map(Timestamp::millis));
    let values: [&(dyn ToSql + Sync); 12] = [
        &bulk.id.0,
        &bulk.operator,
        &bulk.source,
        &search,
        &bulk.expected.cast_signed(),
        &bulk.created_at.millis(),
        &place,
        &bulk.ended.cast_signed(),
        &bulk.state.name(),
        &over_at,
        &i64::from(seal.key),
        &seal.mac.as_slice(),
    ];
    put(batch.session, "bulk_revoke", &columns, &values, before).await
}

impl Postgres {
    async fn bulks(&self, behind: &str) -> Result<Vec<BulkRecord>, Error> {
        let sql = format!("SELECT {BULK} FROM bulk_revoke {behind}");
        self.kept.read(async |s| s.rows(&sql, &[]).await?.iter().map(bulk).collect()).await
    }

    pub(in crate::store) async fn list_bulks(&self, most: u16) -> Result<Vec<BulkRecord>, Error> {
        self.bulks(&format!("ORDER BY id DESC LIMIT {most}")).await
    }

    pub(in crate::store) async fn running_bulks(&self) -> Result<Vec<BulkRecord>, Error> {
        self.bulks("WHERE over_at IS NULL ORDER BY id").await
    }

    pub(in crate::store) async fn find_bulk(&self, id: BulkId) -> Result<Option<BulkRecord>, Error> {
        let sql = format!("SELECT {BULK} FROM bulk_revoke WHERE id = $1");
        self.kept.read(async |s| s.row(&sql, &[&id.0]).await?.map(|row| bulk(&row)).transpose()).await
    }

    pub(in crate::store) async fn put_bulk(
        &self,
        before: Option<Seal>,
        record: BulkRecord,
        entry: Option<AuditEntry>,
    ) -> Result<bool, Error> {
        let change = async move |batch: &mut Batch<'_>| {
            let done = put_bulk(batch, before, &record).await?;
            if let Some(entry) = entry.as_ref().filter(|_| done) {
                batch.note(entry.clone())?;
            }
            Ok(done)
        };
        self.writer.change(Urgency::Ending, change).await
    }

    pub(in crate::store) async fn end_tokens<F>(&self, before: Seal, ids: Vec<TokenId>, mut decide: F) -> Result<Option<Ended>, Error>
    where
        F: FnMut(&[Record]) -> Step + Send + 'static,
    {
        let unreadable = Arc::clone(&self.unreadable);
        let ids: Vec<_> = ids.into_iter().map(|id| id.0).collect();
        let change = async move |batch: &mut Batch<'_>| {
            let stand = sql::find_tokens(batch.session, &ids, &unreadable).await?;
            let (decisions, record) = decide(&stand);
            if !put_bulk(batch, Some(before), &record).await? {
                return Ok(None);
            }
            let mut ended = Vec::with_capacity(stand.len());
            for (before, decision) in stand.into_iter().zip(decisions) {
                ended.push(match decision {
                    Decision::Keep => (before, None),
                    Decision::Write(after, entry) => {
                        batch.update_token(&before, &after).await?;
                        let place = batch.note(entry)?;
                        (after, Some(place))
                    }
                });
            }
            Ok(Some(ended))
        };
        self.writer.change(Urgency::Ending, change).await
    }
}
