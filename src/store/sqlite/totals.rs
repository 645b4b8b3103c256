//! How many live tokens match a filter, in a time that does not grow with their number.
//!
//! Buckets of 64 ms to 12 days count the tokens created in them, kept by the transaction of each change. A span of time is
//! cut at the borders of ever wider buckets; only its outermost ends, at most 64 ms each, are counted row by row. The
//! same buckets are kept for a name once so many tokens have it that counting their rows takes too long.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Error, sql::prepare};
use crate::domain::{Environment, Scope, Timestamp, TokenFilter, TokenId, TokenName};

/// Widths of the buckets, as powers of two of milliseconds: 64 ms, 4 s, 4 min, 5 h, 12 days, everything.
const SHIFTS: [u32; 6] = [6, 12, 18, 24, 30, EVERYTHING];
const EVERYTHING: u32 = 63;
/// Rows of a name that are counted one by one at the most, before the name gets buckets.
const ROWS: u64 = 2000;
/// The `name_id` of the buckets of all tokens.
const ALL_NAMES: i64 = 0;

/// One bucket: (platform, environment, name_id, shift, bucket).
type Bucket = ([u8; 16], Environment, i64, u32, i64);

/// Changes of a transaction, gathered so that a bucket is written once.
#[derive(Default)]
pub(super) struct Pending {
    counts: HashMap<Bucket, i64>,
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
            self.note_in(scope, name_id, created_at, change);
        }
        Ok(())
    }

    fn note_in(&mut self, scope: Scope, name_id: i64, created_at: Timestamp, change: i64) {
        for shift in SHIFTS {
            let bucket = (*scope.platform.0.as_bytes(), scope.environment, name_id, shift, created_at.millis() >> shift);
            *self.counts.entry(bucket).or_default() += change;
        }
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
            self.note_in(scope, name_id, id.created_at(), 1);
        }
        Ok(())
    }

    /// Writes what was noted.
    pub(super) fn apply(&self, c: &Connection) -> Result<(), Error> {
        let raise = "INSERT INTO live_count (platform_id, environment, name_id, shift, bucket, live) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                     ON CONFLICT DO UPDATE SET live = live + ?6";
        // Never below zero: a count that somebody edited must not keep a token from being ended.
        let lower = "UPDATE live_count SET live = max(live + ?6, 0) \
                     WHERE platform_id = ?1 AND environment = ?2 AND name_id = ?3 AND shift = ?4 AND bucket = ?5";
        for ((platform, environment, name_id, shift, bucket), change) in &self.counts {
            if *change != 0 {
                let statement = if *change > 0 { raise } else { lower };
                prepare(c, statement)?.execute(params![platform, environment.name(), name_id, shift, bucket, change])?;
            }
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

/// What is counted: all live tokens of a scope, or those of a name, in buckets or not.
struct Counted<'c> {
    c: &'c Connection,
    scope: Scope,
    name: Option<&'c TokenName>,
    name_id: Option<i64>,
}

/// How many live tokens of the scope match.
pub(super) fn count(c: &Connection, scope: Scope, filter: &TokenFilter) -> Result<u64, Error> {
    let name = filter.name.as_ref();
    let name_id = match name {
        None => Some(ALL_NAMES),
        Some(name) => counted_name(c, scope, name)?,
    };
    let counted = Counted { c, scope, name, name_id };
    let (from, until) = (filter.from.millis(), filter.until.millis());
    if from > until {
        return Ok(0);
    }
    let Some(name_id) = counted.name_id else { return counted.rows(from, until + 1) };
    if filter.from == Timestamp::MIN && filter.until == Timestamp::MAX {
        return counted.buckets(name_id, EVERYTHING, 0, 1);
    }
    let (mut low, mut high) = (from, until + 1);
    let finest = SHIFTS[0];
    let (inner_low, inner_high) = (round_up(low, finest), high >> finest);
    if inner_low >= inner_high {
        return counted.rows(low, high);
    }
    let mut total = counted.rows(low, inner_low << finest)? + counted.rows(inner_high << finest, high)?;
    (low, high) = (inner_low, inner_high);
    for (shift, wider) in SHIFTS.into_iter().zip(SHIFTS.into_iter().skip(1)) {
        let step = wider - shift;
        let (inner_low, inner_high) = (round_up(low, step), high >> step);
        if wider == EVERYTHING || inner_low >= inner_high {
            return Ok(total + counted.buckets(name_id, shift, low, high)?);
        }
        total += counted.buckets(name_id, shift, low, inner_low << step)? + counted.buckets(name_id, shift, inner_high << step, high)?;
        (low, high) = (inner_low, inner_high);
    }
    Ok(total)
}

/// About how many live tokens all platforms have; no more than the file could hold, whatever somebody wrote into it.
pub(super) fn live(c: &Connection) -> Result<u64, Error> {
    let sql = "SELECT CAST(max(0, min((SELECT total(live) FROM live_count WHERE name_id = 0 AND shift = 63), \
               (SELECT page_count * page_size / 128 FROM pragma_page_count, pragma_page_size))) AS INTEGER)";
    Ok(prepare(c, sql)?.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs())
}

const fn round_up(value: i64, shift: u32) -> i64 {
    (value + (1 << shift) - 1) >> shift
}

impl Counted<'_> {
    /// Counts the rows created in `low..high`, in milliseconds.
    fn rows(&self, low: i64, high: i64) -> Result<u64, Error> {
        if low >= high {
            return Ok(0);
        }
        let (low, high) = (TokenId::first_of(Timestamp::from_millis(low)), TokenId::last_of(Timestamp::from_millis(high - 1)));
        let (platform, environment) = (self.scope.platform.0.as_bytes(), self.scope.environment.name());
        let sql = "SELECT count(*) FROM token WHERE platform_id = ?1 AND environment = ?2 AND id BETWEEN ?3 AND ?4 AND revoked_at IS NULL";
        let count = match self.name {
            None => {
                prepare(self.c, sql)?.query_row(params![platform, environment, low.0.as_bytes(), high.0.as_bytes()], |row| row.get(0))?
            }
            Some(name) => prepare(self.c, &format!("{sql} AND name = ?5"))?
                .query_row(params![platform, environment, low.0.as_bytes(), high.0.as_bytes(), name.as_str()], |row| row.get(0))?,
        };
        Ok(count)
    }

    /// Adds up the buckets `low..high` of a width.
    fn buckets(&self, name_id: i64, shift: u32, low: i64, high: i64) -> Result<u64, Error> {
        if low >= high {
            return Ok(0);
        }
        let sql = "SELECT coalesce(sum(live), 0) FROM live_count WHERE platform_id = ?1 AND environment = ?2 AND name_id = ?3 \
                   AND shift = ?4 AND bucket >= ?5 AND bucket < ?6";
        let (platform, environment) = (self.scope.platform.0.as_bytes(), self.scope.environment.name());
        Ok(prepare(self.c, sql)?.query_row(params![platform, environment, name_id, shift, low, high], |row| row.get(0))?)
    }
}
