//! Bulk revokes, and the tokens that they end.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql};
use uuid::Uuid;

use super::{
    Error, Sqlite,
    operators::{put, seal},
    sql::{self, optional_time, parsed, prepare, time, uuid},
    writer::Batch,
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

fn bulk(row: &Row<'_>) -> rusqlite::Result<BulkRecord> {
    let over_at = optional_time(row, 9)?;
    let bulk = BulkRevoke {
        id: BulkId(uuid(row, 0)?),
        operator: row.get(1)?,
        source: row.get(2)?,
        search: parsed(row, 3, TokenSearch::parse_text)?,
        expected: row.get(4)?,
        created_at: time(row, 5)?,
        place: row.get::<_, Option<[u8; 16]>>(6)?.map(|id| TokenId(Uuid::from_bytes(id))),
        ended: row.get(7)?,
        state: parsed(row, 8, |name| BulkState::of(name, over_at))?,
    };
    Ok(BulkRecord { bulk, seal: seal(row, 10)? })
}

fn put_bulk(batch: &mut Batch<'_>, before: Option<Seal>, record: &BulkRecord) -> Result<bool, Error> {
    batch.refuse_retired(record.seal.key)?;
    let BulkRecord { bulk, seal } = record;
    let columns: Vec<_> = BULK.split(", ").collect();
    let (place, search, over_at) = (bulk.place.map(|id| *id.0.as_bytes()), bulk.search.text(), bulk.state.over_at().map(Timestamp::millis));
    let values: [&dyn ToSql; 12] = [
        bulk.id.0.as_bytes(),
        &bulk.operator,
        &bulk.source,
        &search,
        &bulk.expected,
        &bulk.created_at.millis(),
        &place,
        &bulk.ended,
        &bulk.state.name(),
        &over_at,
        &seal.key,
        &seal.mac,
    ];
    put(batch.connection, "bulk_revoke", &columns, &values, before)
}

fn list(c: &Connection, behind: &str) -> Result<Vec<BulkRecord>, Error> {
    let mut statement = prepare(c, &format!("SELECT {BULK} FROM bulk_revoke {behind}"))?;
    let rows = statement.query_map([], bulk)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

impl Sqlite {
    pub(in crate::store) async fn list_bulks(&self, most: u16) -> Result<Vec<BulkRecord>, Error> {
        self.read(move |c| list(c, &format!("ORDER BY id DESC LIMIT {most}"))).await
    }

    pub(in crate::store) async fn running_bulks(&self) -> Result<Vec<BulkRecord>, Error> {
        self.read(|c| list(c, "WHERE over_at IS NULL ORDER BY id")).await
    }

    pub(in crate::store) async fn find_bulk(&self, id: BulkId) -> Result<Option<BulkRecord>, Error> {
        let sql = format!("SELECT {BULK} FROM bulk_revoke WHERE id = ?1");
        self.read(move |c| Ok(prepare(c, &sql)?.query_row([id.0.as_bytes()], bulk).optional()?)).await
    }

    pub(in crate::store) async fn put_bulk(
        &self,
        before: Option<Seal>,
        record: BulkRecord,
        entry: Option<AuditEntry>,
    ) -> Result<bool, Error> {
        let change = move |batch: &mut Batch<'_>| {
            let done = put_bulk(batch, before, &record)?;
            if let Some(entry) = entry.as_ref().filter(|_| done) {
                batch.note(entry)?;
            }
            Ok(done)
        };
        self.writer.write(Urgency::Ending, change).await
    }

    pub(in crate::store) async fn end_tokens<F>(&self, before: Seal, ids: Vec<TokenId>, mut decide: F) -> Result<Option<Ended>, Error>
    where
        F: FnMut(&[Record]) -> Step + Send + 'static,
    {
        let unreadable = Arc::clone(&self.unreadable);
        let change = move |batch: &mut Batch<'_>| {
            let c = batch.connection;
            let mut stand = Vec::with_capacity(ids.len());
            for id in &ids {
                stand.extend(sql::find_token(c, *id, &unreadable)?.map(|(record, _)| record));
            }
            let (decisions, record) = decide(&stand);
            if !put_bulk(batch, Some(before), &record)? {
                return Ok(None);
            }
            batch.something_ends();
            let mut ended = Vec::with_capacity(stand.len());
            for (before, decision) in stand.into_iter().zip(decisions) {
                ended.push(match decision {
                    Decision::Keep => (before, None),
                    Decision::Write(after, entry) => {
                        let token = &after.token;
                        sql::update_token(c, &after)?;
                        batch.totals.note(c, token.scope, &token.name, token.id.created_at(), -1)?;
                        let place = batch.note(&entry)?;
                        (after, Some(place))
                    }
                });
            }
            Ok(Some(ended))
        };
        self.writer.write(Urgency::Ending, change).await
    }
}
