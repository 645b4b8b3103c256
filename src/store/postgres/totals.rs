//! The statements of totals, which `store/totals.rs` explains.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use uuid::Uuid;

use super::{Error, session::Session};
use crate::{
    domain::{Scope, Timestamp, TokenFilter, TokenId, TokenName},
    store::totals::{ALL_NAMES, EVERYTHING, Part, Pending, ROWS, parts},
};

/// The names of some tokens that have buckets, with their `name_id`.
pub(super) type CountedNames = HashMap<(Uuid, String, String), i64>;

/// Notes that one live token more, or less, has that name and was created at that moment.
pub(super) fn note(pending: &mut Pending, counted: &CountedNames, scope: Scope, name: &TokenName, created_at: Timestamp, change: i64) {
    // Mostly no name has buckets: then nothing is looked up.
    let key = || (scope.platform.0, scope.environment.name().to_owned(), name.as_str().to_owned());
    let name_id = if counted.is_empty() { None } else { counted.get(&key()).copied() };
    for name_id in [Some(ALL_NAMES), name_id].into_iter().flatten() {
        pending.note(scope, name_id, created_at, change);
    }
}

/// Which of these names of these platforms have buckets.
pub(super) async fn counted_names(s: &Session, platforms: &[Uuid], names: &[&str]) -> Result<CountedNames, Error> {
    let sql = "SELECT platform_id, environment, name, id FROM counted_name WHERE platform_id = ANY($1) AND name = ANY($2)";
    let rows = s.rows(sql, &[&platforms, &names]).await?;
    rows.iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?), row.try_get(3)?))).collect()
}

/// How many live tokens the scopes of some platforms have.
pub(super) async fn live_of(s: &Session, platforms: &[Uuid]) -> Result<HashMap<(Uuid, String), i64>, Error> {
    let sql = "SELECT platform_id, environment, live FROM live_count WHERE platform_id = ANY($1) AND name_id = $2 AND shift = $3";
    let rows = s.rows(sql, &[&platforms, &ALL_NAMES, &i64::from(EVERYTHING)]).await?;
    rows.iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?))).collect()
}

async fn counted_name(s: &Session, scope: Scope, name: &TokenName) -> Result<Option<i64>, Error> {
    let sql = "SELECT id FROM counted_name WHERE platform_id = $1 AND environment = $2 AND name = $3";
    let row = s.row(sql, &[&scope.platform.0, &scope.environment.name(), &name.as_str()]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Whether a name should get buckets: it has none, and too many rows.
pub(super) async fn wants_buckets(s: &Session, scope: Scope, name: &TokenName) -> Result<bool, Error> {
    let sql = "SELECT (SELECT count(*) FROM (SELECT 1 FROM token WHERE platform_id = $1 AND environment = $2 AND name = $3 \
               AND revoked_at IS NULL LIMIT $4) AS rows_of_name) >= $4 \
               AND NOT EXISTS (SELECT 1 FROM counted_name WHERE platform_id = $1 AND environment = $2 AND name = $3)";
    let most = i64::try_from(ROWS).unwrap_or(i64::MAX);
    let row = s.row(sql, &[&scope.platform.0, &scope.environment.name(), &name.as_str(), &most]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(false))
}

/// Gives a name buckets, if it still wants them. Under the lock of the feed: nobody adds a token meanwhile.
pub(super) async fn give_buckets(s: &Session, pending: &mut Pending, scope: Scope, name: &TokenName) -> Result<(), Error> {
    if !wants_buckets(s, scope, name).await? {
        return Ok(());
    }
    let (platform, environment, name) = (scope.platform.0, scope.environment.name(), name.as_str());
    let insert = "INSERT INTO counted_name (id, platform_id, environment, name) \
                  SELECT coalesce(max(id), 0) + 1, $1, $2, $3 FROM counted_name RETURNING id";
    let Some(row) = s.row(insert, &[&platform, &environment, &name]).await? else { return Ok(()) };
    let select = "SELECT id FROM token WHERE platform_id = $1 AND environment = $2 AND name = $3 AND revoked_at IS NULL";
    for token in s.rows(select, &[&platform, &environment, &name]).await? {
        pending.note(scope, row.try_get(0)?, TokenId(token.try_get(0)?).created_at(), 1);
    }
    Ok(())
}

/// Writes what was noted.
pub(super) async fn apply(s: &Session, pending: &mut Pending) -> Result<(), Error> {
    // Within what there can be, whatever somebody wrote: an edited count must not keep a token from being created or ended.
    let raise = "INSERT INTO live_count (platform_id, environment, name_id, shift, bucket, live) \
                 SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
                 ON CONFLICT (platform_id, environment, name_id, shift, bucket) DO UPDATE \
                 SET live = least(greatest(live_count.live, 0), 1000000000000) + excluded.live";
    let lower = "UPDATE live_count c SET live = greatest(least(greatest(c.live, 0), 1000000000000) + d.change, 0) \
                 FROM UNNEST($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
                 AS d (platform_id, environment, name_id, shift, bucket, change) \
                 WHERE c.platform_id = d.platform_id AND c.environment = d.environment AND c.name_id = d.name_id \
                 AND c.shift = d.shift AND c.bucket = d.bucket";
    let changes = pending.changes();
    for (sql, rising) in [(raise, true), (lower, false)] {
        let some: Vec<_> = changes.iter().filter(|(_, change)| (*change > 0) == rising).collect();
        if some.is_empty() {
            continue;
        }
        let platforms: Vec<_> = some.iter().map(|(at, _)| Uuid::from_bytes(at.platform)).collect();
        let environments: Vec<_> = some.iter().map(|(at, _)| at.environment.name()).collect();
        let names: Vec<_> = some.iter().map(|(at, _)| at.name_id).collect();
        let shifts: Vec<_> = some.iter().map(|(at, _)| i64::from(at.shift)).collect();
        let buckets: Vec<_> = some.iter().map(|(at, _)| at.bucket).collect();
        let counts: Vec<_> = some.iter().map(|(_, change)| *change).collect();
        s.execute(sql, &[&platforms, &environments, &names, &shifts, &buckets, &counts]).await?;
    }
    Ok(())
}

/// How many live tokens of the scope match.
pub(super) async fn count(s: &Session, scope: Scope, filter: &TokenFilter) -> Result<u64, Error> {
    if filter.from > filter.until {
        return Ok(0);
    }
    let name = filter.name.as_ref();
    let name_id = match name {
        None => Some(ALL_NAMES),
        Some(name) => counted_name(s, scope, name).await?,
    };
    let counts = parts(filter, name_id.is_some()).into_iter().map(|part| async move {
        match (part, name_id) {
            (Part::Buckets(shift, low, high), Some(name_id)) => buckets(s, scope, name_id, shift, low, high).await,
            (Part::Rows(low, high) | Part::Buckets(_, low, high), _) => rows(s, scope, name, low, high).await,
        }
    });
    // One behind the other, without waiting for each: they are answered in one go.
    let counts = try_join_all(counts).await?;
    Ok(counts.into_iter().sum::<i64>().max(0).unsigned_abs())
}

/// Counts the rows created in `low..high`, in milliseconds.
async fn rows(s: &Session, scope: Scope, name: Option<&TokenName>, low: i64, high: i64) -> Result<i64, Error> {
    let (low, high) = (TokenId::first_of(Timestamp::from_millis(low)), TokenId::last_of(Timestamp::from_millis(high - 1)));
    let (platform, environment) = (scope.platform.0, scope.environment.name());
    let sql = "SELECT count(*) FROM token WHERE platform_id = $1 AND environment = $2 AND id BETWEEN $3 AND $4 AND revoked_at IS NULL";
    let row = match name {
        None => s.row(sql, &[&platform, &environment, &low.0, &high.0]).await?,
        Some(name) => s.row(&format!("{sql} AND name = $5"), &[&platform, &environment, &low.0, &high.0, &name.as_str()]).await?,
    };
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
}

/// Adds up the buckets `low..high` of a width.
async fn buckets(s: &Session, scope: Scope, name_id: i64, shift: u32, low: i64, high: i64) -> Result<i64, Error> {
    let sql = "SELECT least(greatest(coalesce(sum(live), 0), 0), 1000000000000)::bigint FROM live_count WHERE platform_id = $1 AND environment = $2 AND name_id = $3 \
               AND shift = $4 AND bucket >= $5 AND bucket < $6";
    let (platform, environment) = (scope.platform.0, scope.environment.name());
    let row = s.row(sql, &[&platform, &environment, &name_id, &i64::from(shift), &low, &high]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
}

/// About how many live tokens all platforms have; no more than the table could hold, whatever somebody wrote.
pub(super) async fn live(s: &Session) -> Result<u64, Error> {
    let sql = "SELECT least(greatest(coalesce(sum(live), 0), 0), 1000000000)::bigint FROM live_count WHERE name_id = $1 AND shift = $2";
    let row = s.row(sql, &[&ALL_NAMES, &i64::from(EVERYTHING)]).await?;
    Ok(row.map(|row| row.try_get::<_, i64>(0)).transpose()?.unwrap_or(0).unsigned_abs())
}
