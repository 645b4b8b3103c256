//! How tokens were used: when last, and how often in each minute and on each day.
//!
//! Several processes count the same token, so every statement adds. Counters stop at their greatest value. The rows of a
//! token that is gone from the token table (removed by hand) are passed over, not an error of the batch.

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params};

use super::{Error, sql::prepare};
use crate::domain::{Timestamp, TokenId, TokenUse, Use};

const MINUTE: i64 = 60_000;
const QUARTER: i64 = QUARTER_MINUTES * MINUTE;
const DAY: i64 = DAY_MINUTES * MINUTE;

/// Counters in a row of `use_quarter`. A flush writes whole rows again and again, so rows of an hour made it write twice as
/// much; rows of a minute would be several times as many.
const COUNTERS: usize = 15;
const QUARTER_MINUTES: i64 = COUNTERS as i64;
const DAY_MINUTES: i64 = 24 * 60;

const FIND_QUARTER: &str = "SELECT minutes FROM use_quarter WHERE quarter = ?1 AND token_id = ?2";
/// A token's rows, by looking up every quarter or day of a span: the keys begin with the time, which is better for all else.
pub(super) const QUARTERS_OF: &str = "WITH RECURSIVE span (at) AS (VALUES (?2) UNION ALL SELECT at + 1 FROM span WHERE at < ?3) \
                                   SELECT quarter, minutes FROM span CROSS JOIN use_quarter ON quarter = at AND token_id = ?1";
pub(super) const DAYS_OF: &str = "WITH RECURSIVE span (at) AS (VALUES (?2) UNION ALL SELECT at + 1 FROM span WHERE at < ?3) \
                                  SELECT day, uses FROM span CROSS JOIN use_day ON day = at AND token_id = ?1";
pub(super) const FORGET_QUARTERS: &str =
    "DELETE FROM use_quarter WHERE (quarter, token_id) IN (SELECT quarter, token_id FROM use_quarter WHERE quarter < ?1 LIMIT ?2)";
pub(super) const FORGET_DAYS: &str =
    "DELETE FROM use_day WHERE (day, token_id) IN (SELECT day, token_id FROM use_day WHERE day < ?1 LIMIT ?2)";

/// Adds uses, in the order of ids, to what is stored.
pub(super) fn note(c: &Connection, uses: &[(TokenId, Use)]) -> Result<(), Error> {
    // Table by table, because rows that follow each other lie beside each other.
    let mut note = prepare(
        c,
        "INSERT INTO token_use (token_id, last_used_at) SELECT id, ?2 FROM token WHERE id = ?1 \
         ON CONFLICT DO UPDATE SET last_used_at = max(last_used_at, ?2)",
    )?;
    let mut known = Vec::with_capacity(uses.len());
    for (id, uses) in uses {
        if note.execute(params![id.0.as_bytes(), uses.last.map(Timestamp::millis)])? > 0 {
            known.push((*id, uses));
        }
    }
    let mut find = prepare(c, FIND_QUARTER)?;
    let mut put = prepare(
        c,
        "INSERT INTO use_quarter (quarter, token_id, minutes) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET minutes = excluded.minutes",
    )?;
    for (id, uses) in &known {
        for quarter in uses.minutes.chunk_by(|(a, _), (b, _)| a / QUARTER_MINUTES == b / QUARTER_MINUTES) {
            add_to_quarter(&mut find, &mut put, *id, quarter)?;
        }
    }
    let mut put = prepare(
        c,
        "INSERT INTO use_day (day, token_id, uses) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET uses = min(max(uses, 0), 9223372036854775807 - ?3) + ?3",
    )?;
    for (id, uses) in &known {
        for day in uses.minutes.chunk_by(|(a, _), (b, _)| a / DAY_MINUTES == b / DAY_MINUTES) {
            let uses: i64 = day.iter().map(|(_, uses)| i64::from(*uses)).sum();
            put.execute(params![day[0].0 / DAY_MINUTES, id.0.as_bytes(), uses])?;
        }
    }
    Ok(())
}

/// Adds minutes of one quarter of an hour to its row. Nobody else writes between reading and writing it: the transaction began with the
/// lock.
fn add_to_quarter(find: &mut CachedStatement<'_>, put: &mut CachedStatement<'_>, id: TokenId, minutes: &[(i64, u32)]) -> Result<(), Error> {
    let quarter = minutes[0].0 / QUARTER_MINUTES;
    let key = params![quarter, id.0.as_bytes()];
    let mut counts = find.query_row(key, |row| counts(row, 0)).optional()?.unwrap_or([0; COUNTERS]);
    for (minute, uses) in minutes {
        let count = &mut counts[(minute - quarter * QUARTER_MINUTES).unsigned_abs() as usize % COUNTERS];
        *count = count.saturating_add(*uses);
    }
    let mut bytes = [0; 4 * COUNTERS];
    bytes.as_chunks_mut().0.iter_mut().zip(counts).for_each(|(bytes, count)| *bytes = count.to_le_bytes());
    put.execute(params![quarter, id.0.as_bytes(), bytes])?;
    Ok(())
}

fn counts(row: &Row<'_>, column: usize) -> rusqlite::Result<[u32; COUNTERS]> {
    let mut counts = [0; COUNTERS];
    let (stored, _) = row.get_ref(column)?.as_blob()?.as_chunks();
    counts.iter_mut().zip(stored).for_each(|(count, bytes)| *count = u32::from_le_bytes(*bytes));
    Ok(counts)
}

/// How a token was used, as far as it was noted, as of a moment.
pub(super) fn find(c: &Connection, id: TokenId, at: Timestamp) -> Result<TokenUse, Error> {
    let mut told = TokenUse::as_of(at);
    let last = "SELECT last_used_at FROM token_use WHERE token_id = ?1";
    let last = prepare(c, last)?.query_row([id.0.as_bytes()], |row| row.get(0)).optional()?;
    told.last_used_at = last.map(Timestamp::from_millis);

    let mut statement = prepare(c, QUARTERS_OF)?;
    let mut rows = statement.query(params![id.0.as_bytes(), told.first_minute().millis() / QUARTER, at.millis() / QUARTER])?;
    while let Some(row) = rows.next()? {
        let first = row.get::<_, i64>(0)? * QUARTER_MINUTES;
        for (minute, uses) in (first..).zip(counts(row, 1)?) {
            told.add_minute(Timestamp::from_millis(minute * MINUTE), uses.into());
        }
    }
    let mut statement = prepare(c, DAYS_OF)?;
    let mut rows = statement.query(params![id.0.as_bytes(), told.first_day().millis() / DAY, at.millis() / DAY])?;
    while let Some(row) = rows.next()? {
        told.add_day(Timestamp::from_millis(row.get::<_, i64>(0)? * DAY), row.get::<_, i64>(1)?.max(0).unsigned_abs());
    }
    Ok(told)
}

/// Removes a few counts of minutes and of days that were over before these moments; whether there may be more.
pub(super) fn forget(c: &Connection, minutes: Timestamp, days: Timestamp, most: usize) -> Result<bool, Error> {
    let mut removed = prepare(c, FORGET_QUARTERS)?.execute(params![minutes.millis() / QUARTER, most])?;
    if removed < most {
        removed += prepare(c, FORGET_DAYS)?.execute(params![days.millis() / DAY, most - removed])?;
    }
    Ok(removed >= most)
}
