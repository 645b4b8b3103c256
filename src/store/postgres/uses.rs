//! How tokens were used: when last, how often in each minute and on each day, and where from.
//!
//! Several processes count the same token, so every statement adds. The rows of a token that is gone from the token table
//! (removed by hand) are passed over, not an error of the batch. Rows are locked in the order of their keys, so that no two
//! flushes wait for each other.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Error, session::Session};
use crate::{
    domain::{Timestamp, TokenId, TokenUse, Use, UseSources},
    store::uses::{self, KeptSince, QUARTER_LEN, Quarter},
};

/// Adds uses, in the order of ids, to what is stored. Within a transaction.
pub(super) async fn note(s: &Session, noted: &[(TokenId, Use)]) -> Result<(), Error> {
    let last = "INSERT INTO token_use (token_id, last_used_at) \
                SELECT u.id, u.at FROM UNNEST($1::uuid[], $2::bigint[]) AS u (id, at) JOIN token t ON t.id = u.id ORDER BY u.id \
                ON CONFLICT (token_id) DO UPDATE SET last_used_at = greatest(token_use.last_used_at, excluded.last_used_at) \
                RETURNING token_id";
    let ids: Vec<_> = noted.iter().map(|(id, _)| id.0).collect();
    let lasts: Vec<_> = noted.iter().map(|(_, uses)| uses.last.map_or(0, Timestamp::millis)).collect();
    let rows = s.rows(last, &[&ids, &lasts]).await?;
    let known = rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<Uuid>, _>>()?;
    let known = || noted.iter().filter(|(id, _)| known.contains(&id.0));

    let mut quarters: BTreeMap<(i64, Uuid), Quarter> = BTreeMap::new();
    let mut days: BTreeMap<(i64, Uuid), i64> = BTreeMap::new();
    for (id, used) in known() {
        uses::quarters(used).for_each(|(quarter, minutes)| quarters.entry((quarter, id.0)).or_default().add(minutes));
        uses::days(used).for_each(|(day, count)| *days.entry((day, id.0)).or_default() += count);
    }
    add_quarters(s, quarters).await?;

    let (keys, counts): (Vec<_>, Vec<_>) = days.into_iter().unzip();
    let (days, ids): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let put = "INSERT INTO use_day (day, token_id, uses) SELECT * FROM UNNEST($1::bigint[], $2::uuid[], $3::bigint[]) \
               ON CONFLICT (day, token_id) DO UPDATE \
               SET uses = least(greatest(use_day.uses, 0), 9223372036854775807 - excluded.uses) + excluded.uses";
    s.execute(put, &[&days, &ids, &counts]).await?;
    add_sources(s, known()).await
}

/// Adds addresses, and leaves the newest of each token. Whoever does that to a token has the row of its last use, written before.
async fn add_sources<'n>(s: &Session, noted: impl Iterator<Item = &'n (TokenId, Use)>) -> Result<(), Error> {
    let (mut ids, mut addresses, mut firsts, mut lasts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (id, source) in noted.flat_map(|(id, used)| used.sources.iter().map(|source| (id.0, source))) {
        ids.push(id);
        addresses.push(uses::address_bytes(source.address));
        firsts.push(source.first_at.millis());
        lasts.push(source.last_at.millis());
    }
    if ids.is_empty() {
        return Ok(());
    }
    let put = "INSERT INTO use_source AS s (token_id, address, first_at, last_at) \
               SELECT * FROM UNNEST($1::uuid[], $2::bytea[], $3::bigint[], $4::bigint[]) \
               ON CONFLICT (token_id, address) DO UPDATE \
               SET first_at = least(s.first_at, excluded.first_at), last_at = greatest(s.last_at, excluded.last_at)";
    s.execute(put, &[&ids, &addresses, &firsts, &lasts]).await?;
    ids.dedup();
    let trim = "DELETE FROM use_source s USING UNNEST($1::uuid[]) AS u (id) WHERE s.token_id = u.id AND s.address IN \
                (SELECT o.address FROM use_source o WHERE o.token_id = u.id ORDER BY o.last_at DESC, o.address OFFSET $2)";
    let most = i64::try_from(UseSources::MOST).unwrap_or(i64::MAX);
    s.execute(trim, &[&ids, &most]).await.map(drop)
}

/// Adds to rows of counters: makes those that are missing, locks all, and writes their sums.
async fn add_quarters(s: &Session, added: BTreeMap<(i64, Uuid), Quarter>) -> Result<(), Error> {
    let (quarters, ids): (Vec<_>, Vec<_>) = added.keys().copied().unzip();
    let empty = [0_u8; QUARTER_LEN].as_slice();
    let make = "INSERT INTO use_quarter (quarter, token_id, minutes) \
                SELECT u.quarter, u.id, $3 FROM UNNEST($1::bigint[], $2::uuid[]) AS u (quarter, id) ON CONFLICT DO NOTHING";
    s.execute(make, &[&quarters, &ids, &empty]).await?;
    let lock = "SELECT q.quarter, q.token_id, q.minutes FROM use_quarter q \
                JOIN UNNEST($1::bigint[], $2::uuid[]) AS u (quarter, id) ON q.quarter = u.quarter AND q.token_id = u.id \
                ORDER BY q.quarter, q.token_id FOR UPDATE OF q";
    let mut sums = Vec::with_capacity(added.len());
    for row in s.rows(lock, &[&quarters, &ids]).await? {
        let (mut sum, key) = (Quarter::stored(row.try_get(2)?), (row.try_get(0)?, row.try_get(1)?));
        if let Some(more) = added.get(&key) {
            sum.add_all(more);
        }
        sums.push((key, sum.bytes().to_vec()));
    }
    let (keys, sums): (Vec<_>, Vec<_>) = sums.into_iter().unzip();
    let (quarters, ids): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let put = "UPDATE use_quarter q SET minutes = u.minutes FROM UNNEST($1::bigint[], $2::uuid[], $3::bytea[]) AS u (quarter, id, minutes) \
               WHERE q.quarter = u.quarter AND q.token_id = u.id";
    s.execute(put, &[&quarters, &ids, &sums]).await.map(drop)
}

/// How a token was used, as far as it was noted, as of a moment.
pub(super) async fn find(s: &Session, id: TokenId, at: Timestamp) -> Result<TokenUse, Error> {
    let mut told = TokenUse::as_of(at);
    let last = s.row("SELECT last_used_at FROM token_use WHERE token_id = $1", &[&id.0]).await?;
    told.last_used_at = last.map(|row| row.try_get(0)).transpose()?.map(Timestamp::from_millis);
    // By looking up every quarter or day of a span: the keys begin with the time, which is better for all else.
    let quarters = "SELECT q.quarter, q.minutes FROM generate_series($2::bigint, $3::bigint) AS span (at) \
                    JOIN use_quarter q ON q.quarter = span.at AND q.token_id = $1";
    for row in s.rows(quarters, &[&id.0, &uses::quarter(told.first_minute()), &uses::quarter(at)]).await? {
        Quarter::stored(row.try_get(1)?).tell(row.try_get(0)?, &mut told);
    }
    let days = "SELECT d.day, d.uses FROM generate_series($2::bigint, $3::bigint) AS span (at) \
                JOIN use_day d ON d.day = span.at AND d.token_id = $1";
    for row in s.rows(days, &[&id.0, &uses::day(told.first_day()), &uses::day(at)]).await? {
        uses::tell_day(row.try_get(0)?, row.try_get(1)?, &mut told);
    }
    let most = i64::try_from(UseSources::MOST).unwrap_or(i64::MAX);
    let sources = "SELECT address, first_at, last_at FROM use_source WHERE token_id = $1 ORDER BY last_at DESC, address LIMIT $2";
    for row in s.rows(sources, &[&id.0, &most]).await? {
        uses::tell_source(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, &mut told);
    }
    Ok(told)
}

/// Removes a few counts of minutes and of days that were over before they are kept, and addresses; whether there may be more.
pub(super) async fn forget(s: &Session, since: KeptSince, most: usize) -> Result<bool, Error> {
    let forget = |table: &str, time: &str| {
        format!(
            "DELETE FROM {table} WHERE ({time}, token_id) IN (SELECT {time}, token_id FROM {table} WHERE {time} < $1 ORDER BY 1, 2 LIMIT $2)"
        )
    };
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut removed = s.execute(&forget("use_quarter", "quarter"), &[&uses::quarter(since.minutes), &most]).await?.cast_signed();
    if removed < most {
        removed += s.execute(&forget("use_day", "day"), &[&uses::day(since.days), &(most - removed)]).await?.cast_signed();
    }
    if removed < most {
        // Whose row is being written is used again: it may stay.
        let sources = "DELETE FROM use_source WHERE (token_id, address) IN \
                       (SELECT token_id, address FROM use_source WHERE last_at < $1 ORDER BY last_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
        removed += s.execute(sources, &[&since.sources.millis(), &(most - removed)]).await?.cast_signed();
    }
    Ok(removed >= most)
}
