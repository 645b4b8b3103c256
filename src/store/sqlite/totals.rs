//! The statements of totals, which `store/totals.rs` explains.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Error, sql::prepare};
use crate::{
    domain::{Scope, Timestamp, TokenFilter, TokenId, TokenName},
    store::totals::{self, ALL_NAMES, EVERYTHING, Part, ROWS},
};

/// Changes of a transaction.
#[derive(Default)]
pub(super) struct Pending {
    counts: totals::Pending,
    /// Whether any name of a scope has buckets: mostly none has, and then no name needs to be looked up.
    any_counted: HashMap<Scope, bool>,
}

impl Pending {
    /// Notes that one live token more, or less, has that name and was created at that moment.
    pub(super) fn note(&mut self, c: &Connection, scope: Scope, name: &TokenName, created_at: Timestamp, change: i64) -> Result<(), Error> {
        let any_counted = match self.any_counted.get(&scope) {
            Some(any) => *any,
            None => *self.any_counted.entry(scope).or_insert(any_counted_name(c, scope)?),
        };
        let name_id = if any_counted { counted_name(c, scope, name)? } else { None };
        for name_id in [Some(ALL_NAMES), name_id].into_iter().flatten() {
            self.counts.note(scope, name_id, created_at, change);
        }
        Ok(())
    }

    /// How many live tokens a scope has, with what this transaction has changed.
    pub(super) fn live_in(&mut self, c: &Connection, scope: Scope) -> Result<i64, Error> {
        let stored = buckets(c, scope, ALL_NAMES, EVERYTHING, 0, 1)?;
        Ok(i64::try_from(stored).unwrap_or(i64::MAX).saturating_add(self.counts.of(scope)))
    }

    /// Gives a name buckets, if it still wants them.
    pub(super) fn give_buckets(&mut self, c: &Connection, scope: Scope, name: &TokenName) -> Result<(), Error> {
        if !wants_buckets(c, scope, name)? {
            return Ok(());
        }
        let (platform, environment) = (scope.platform.0.as_bytes(), scope.environment.name());
        let insert = "INSERT INTO counted_name (platform_id, environment, name) VALUES (?1, ?2, ?3)";
        prepare(c, insert)?.execute(params![platform, environment, name.as_str()])?;
        let name_id = c.last_insert_rowid();
        self.any_counted.insert(scope, true);
        let select = "SELECT id FROM token WHERE platform_id = ?1 AND environment = ?2 AND name = ?3 AND revoked_at IS NULL";
        let mut statement = prepare(c, select)?;
        let mut rows = statement.query(params![platform, environment, name.as_str()])?;
        while let Some(row) = rows.next()? {
            let id = TokenId(uuid::Uuid::from_bytes(row.get(0)?));
            self.counts.note(scope, name_id, id.created_at(), 1);
        }
        Ok(())
    }

    /// Writes what was noted.
    pub(super) fn apply(&mut self, c: &Connection) -> Result<(), Error> {
        // Within what there can be, whatever somebody wrote: an edited count must not keep a token from being created or ended.
        let raise = "INSERT INTO live_count (platform_id, environment, name_id, shift, bucket, live) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                     ON CONFLICT DO UPDATE SET live = max(min(live, 1000000000000), 0) + ?6";
        let lower = "UPDATE live_count SET live = max(max(min(live, 1000000000000), 0) + ?6, 0) \
                     WHERE platform_id = ?1 AND environment = ?2 AND name_id = ?3 AND shift = ?4 AND bucket = ?5";
        for (at, change) in self.counts.changes() {
            let statement = if change > 0 { raise } else { lower };
            prepare(c, statement)?.execute(params![at.platform, at.environment.name(), at.name_id, at.shift, at.bucket, change])?;
        }
        Ok(())
    }
}

fn any_counted_name(c: &Connection, scope: Scope) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM counted_name WHERE platform_id = ?1 AND environment = ?2 LIMIT 1";
    Ok(prepare(c, sql)?.exists(params![scope.platform.0.as_bytes(), scope.environment.name()])?)
}

fn counted_name(c: &Connection, scope: Scope, name: &TokenName) -> Result<Option<i64>, Error> {
    let sql = "SELECT id FROM counted_name WHERE platform_id = ?1 AND environment = ?2 AND name = ?3";
    let named = params![scope.platform.0.as_bytes(), scope.environment.name(), name.as_str()];
    Ok(prepare(c, sql)?.query_row(named, |row| row.get(0)).optional()?)
}

/// Whether a name should get buckets: it has none, and too many rows.
pub(super) fn wants_buckets(c: &Connection, scope: Scope, name: &TokenName) -> Result<bool, Error> {
    if counted_name(c, scope, name)?.is_some() {
        return Ok(false);
    }
    let sql = "SELECT count(*) FROM (SELECT 1 FROM token WHERE platform_id = ?1 AND environment = ?2 AND name = ?3 AND revoked_at IS NULL LIMIT ?4)";
    let named = params![scope.platform.0.as_bytes(), scope.environment.name(), name.as_str(), ROWS];
    Ok(prepare(c, sql)?.query_row(named, |row| row.get::<_, u64>(0))? >= ROWS)
}

/// How many live tokens of the scope match.
pub(super) fn count(c: &Connection, scope: Scope, filter: &TokenFilter) -> Result<u64, Error> {
    let name = filter.name.as_ref();
    let name_id = match name {
        None => Some(ALL_NAMES),
        Some(name) => counted_name(c, scope, name)?,
    };
    let mut total = 0;
    for part in totals::parts(filter, name_id.is_some()) {
        total += match (part, name_id) {
            (Part::Buckets(shift, low, high), Some(name_id)) => buckets(c, scope, name_id, shift, low, high)?,
            (Part::Rows(low, high) | Part::Buckets(_, low, high), _) => rows(c, scope, name, low, high)?,
        };
    }
    Ok(total)
}

/// About how many live tokens all platforms have; no more than the file could hold, whatever somebody wrote into it.
pub(super) fn live(c: &Connection) -> Result<u64, Error> {
    let sql = "SELECT CAST(max(0, min((SELECT total(live) FROM live_count WHERE name_id = 0 AND shift = 63), \
               (SELECT page_count * page_size / 128 FROM pragma_page_count, pragma_page_size))) AS INTEGER)";
    Ok(prepare(c, sql)?.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

/// Counts the rows created in `low..high`, in milliseconds.
fn rows(c: &Connection, scope: Scope, name: Option<&TokenName>, low: i64, high: i64) -> Result<u64, Error> {
    let (low, high) = (TokenId::first_of(Timestamp::from_millis(low)), TokenId::last_of(Timestamp::from_millis(high - 1)));
    let (platform, environment) = (scope.platform.0.as_bytes(), scope.environment.name());
    let sql = "SELECT count(*) FROM token WHERE platform_id = ?1 AND environment = ?2 AND id BETWEEN ?3 AND ?4 AND revoked_at IS NULL";
    let count = match name {
        None => prepare(c, sql)?.query_row(params![platform, environment, low.0.as_bytes(), high.0.as_bytes()], |row| row.get(0))?,
        Some(name) => prepare(c, &format!("{sql} AND name = ?5"))?
            .query_row(params![platform, environment, low.0.as_bytes(), high.0.as_bytes(), name.as_str()], |row| row.get(0))?,
    };
    Ok(count)
}

/// Adds up the buckets `low..high` of a width.
fn buckets(c: &Connection, scope: Scope, name_id: i64, shift: u32, low: i64, high: i64) -> Result<u64, Error> {
    let sql = "SELECT CAST(max(0, min(total(live), 1000000000000)) AS INTEGER) FROM live_count WHERE platform_id = ?1 AND environment = ?2 AND name_id = ?3 \
               AND shift = ?4 AND bucket >= ?5 AND bucket < ?6";
    let (platform, environment) = (scope.platform.0.as_bytes(), scope.environment.name());
    Ok(prepare(c, sql)?.query_row(params![platform, environment, name_id, shift, low, high], |row| row.get(0))?)
}
