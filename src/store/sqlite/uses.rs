//! How tokens were used: when last, how often in each minute and on each day, and where from.
//!
//! Several processes count the same token, so every statement adds. The rows of a token that is gone from the token table (removed by hand) are passed over, not an error of the batch.

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params};

use super::{Error, sql::prepare};
use crate::{
    domain::{Timestamp, TokenId, TokenUse, Use, UseSources},
    store::uses::{self, KeptSince, Quarter},
};

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
pub(super) const SOURCES_OF: &str =
    "SELECT address, first_at, last_at FROM use_source WHERE token_id = ?1 ORDER BY last_at DESC, address LIMIT ?2";
/// Leaves the newest of a token's rows.
pub(super) const TRIM_SOURCES: &str = "DELETE FROM use_source WHERE token_id = ?1 AND address IN \
     (SELECT address FROM use_source WHERE token_id = ?1 ORDER BY last_at DESC, address LIMIT -1 OFFSET ?2)";
pub(super) const FORGET_SOURCES: &str = "DELETE FROM use_source WHERE (token_id, address) IN \
                                         (SELECT token_id, address FROM use_source WHERE last_at < ?1 ORDER BY last_at LIMIT ?2)";

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
        for (quarter, minutes) in uses::quarters(uses) {
            add_to_quarter(&mut find, &mut put, *id, quarter, minutes)?;
        }
    }
    let mut put = prepare(
        c,
        "INSERT INTO use_day (day, token_id, uses) VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET uses = min(max(uses, 0), 9223372036854775807 - ?3) + ?3",
    )?;
    for (id, uses) in &known {
        for (day, uses) in uses::days(uses) {
            put.execute(params![day, id.0.as_bytes(), uses])?;
        }
    }
    let mut put = prepare(
        c,
        "INSERT INTO use_source (token_id, address, first_at, last_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT DO UPDATE SET first_at = min(first_at, ?3), last_at = max(last_at, ?4)",
    )?;
    let mut trim = prepare(c, TRIM_SOURCES)?;
    for (id, uses) in known.iter().filter(|(_, uses)| !uses.sources.is_empty()) {
        for source in uses.sources.iter() {
            put.execute(params![id.0.as_bytes(), uses::address_bytes(source.address), source.first_at.millis(), source.last_at.millis()])?;
        }
        trim.execute(params![id.0.as_bytes(), UseSources::MOST])?;
    }
    Ok(())
}

/// Adds minutes of one quarter of an hour to its row. Nobody else writes between reading and writing it: the transaction
/// began with the lock.
fn add_to_quarter(
    find: &mut CachedStatement<'_>,
    put: &mut CachedStatement<'_>,
    id: TokenId,
    quarter: i64,
    minutes: &[(i64, u32)],
) -> Result<(), Error> {
    let mut counters = find.query_row(params![quarter, id.0.as_bytes()], |row| counters(row, 0)).optional()?.unwrap_or_default();
    counters.add(minutes);
    put.execute(params![quarter, id.0.as_bytes(), counters.bytes()])?;
    Ok(())
}

fn counters(row: &Row<'_>, column: usize) -> rusqlite::Result<Quarter> {
    Ok(Quarter::stored(row.get_ref(column)?.as_blob()?))
}

/// How a token was used, as far as it was noted, as of a moment.
pub(super) fn find(c: &Connection, id: TokenId, at: Timestamp) -> Result<TokenUse, Error> {
    let mut told = TokenUse::as_of(at);
    let last = "SELECT last_used_at FROM token_use WHERE token_id = ?1";
    let last = prepare(c, last)?.query_row([id.0.as_bytes()], |row| row.get(0)).optional()?;
    told.last_used_at = last.map(Timestamp::from_millis);

    let mut statement = prepare(c, QUARTERS_OF)?;
    let mut rows = statement.query(params![id.0.as_bytes(), uses::quarter(told.first_minute()), uses::quarter(at)])?;
    while let Some(row) = rows.next()? {
        counters(row, 1)?.tell(row.get(0)?, &mut told);
    }
    let mut statement = prepare(c, DAYS_OF)?;
    let mut rows = statement.query(params![id.0.as_bytes(), uses::day(told.first_day()), uses::day(at)])?;
    while let Some(row) = rows.next()? {
        uses::tell_day(row.get(0)?, row.get(1)?, &mut told);
    }
    let mut statement = prepare(c, SOURCES_OF)?;
    let mut rows = statement.query(params![id.0.as_bytes(), UseSources::MOST])?;
    while let Some(row) = rows.next()? {
        let address: Vec<u8> = row.get(0)?;
        uses::tell_source(&address, row.get(1)?, row.get(2)?, &mut told);
    }
    Ok(told)
}

/// Removes a few counts of minutes and of days that were over before they are kept, and addresses; whether there may be more.
pub(super) fn forget(c: &Connection, since: KeptSince, most: usize) -> Result<bool, Error> {
    let mut removed = prepare(c, FORGET_QUARTERS)?.execute(params![uses::quarter(since.minutes), most])?;
    if removed < most {
        removed += prepare(c, FORGET_DAYS)?.execute(params![uses::day(since.days), most - removed])?;
    }
    if removed < most {
        removed += prepare(c, FORGET_SOURCES)?.execute(params![since.sources.millis(), most - removed])?;
    }
    Ok(removed >= most)
}
