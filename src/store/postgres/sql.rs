//! The statements that read, one function each, over a session that somebody else chose. (Those of changes are in
//! `batch.rs`, of totals in `totals.rs`, of uses in `uses.rs`, of the feed in `feed.rs`.)

use futures_util::{TryStreamExt as _, future::try_join};
use tokio_postgres::{
    Row,
    types::{FromSql, ToSql},
};
use uuid::Uuid;

use super::{Error, checkpoint, hold, session::Session, totals};
#[cfg(feature = "server")]
use crate::store::{Walk, Walked};
use crate::{
    domain::{
        Action, Actor, AuditEntry, AuditQuery, Environment, Issuer, Liveness, Order, Permissions, Platform, PlatformId, RecordedEntry,
        RequestInfo, Scope, Timestamp, Token, TokenId, TokenName, TokenQuery,
    },
    store::{Mark, OperationsRecord, PlatformRecord, Record, Records, Replay, Seal, Unreadable, log::Log, split_proof},
};

/// A token's values, its scope first.
const TOKEN: &str = "t.platform_id, t.environment, t.id, t.name, t.permissions, t.issuer, t.revocable, t.revoked_at, t.key_id, t.proof";
const PLATFORM: &str = "p.id, p.name, p.created_at, p.disabled_at, p.key_id, p.seal";
const PLATFORM_COLUMNS: usize = 6;
#[cfg(feature = "server")]
const TOKEN_COLUMNS: usize = 10;

// ---- rows ----------------------------------------------------------------------------------------------------------

/// The value in a column as what it must be.
pub(super) fn value<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T, Error> {
    row.try_get(column).map_err(|_| corrupt(row, column))
}

fn corrupt(row: &Row, column: usize) -> Error {
    Error::Corrupt(format!("a value in the column {}", row.columns().get(column).map_or("?", |column| column.name())))
}

pub(super) fn parsed<T>(row: &Row, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Error> {
    parse(value(row, column)?).ok_or_else(|| corrupt(row, column))
}

pub(super) fn bytes<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], Error> {
    value::<&[u8]>(row, column)?.try_into().map_err(|_| corrupt(row, column))
}

pub(super) fn unsigned<T: TryFrom<i64>>(row: &Row, column: usize) -> Result<T, Error> {
    value::<i64>(row, column)?.try_into().map_err(|_| corrupt(row, column))
}

pub(super) fn time(row: &Row, column: usize) -> Result<Timestamp, Error> {
    value(row, column).map(Timestamp::from_millis)
}

pub(super) fn optional_time(row: &Row, column: usize) -> Result<Option<Timestamp>, Error> {
    Ok(value::<Option<i64>>(row, column)?.map(Timestamp::from_millis))
}

fn record(row: &Row, at: usize) -> Result<Record, Error> {
    let (tag, digest, mac) = split_proof(&bytes(row, at + 9)?);
    let token = Token {
        id: TokenId(value(row, at + 2)?),
        scope: Scope { platform: PlatformId(value(row, at)?), environment: parsed(row, at + 1, Environment::parse)? },
        name: TokenName::stored(value(row, at + 3)?),
        permissions: parsed(row, at + 4, Permissions::parse)?,
        tag,
        issuer: parsed(row, at + 5, Issuer::parse)?,
        revocable: value(row, at + 6)?,
        revoked_at: optional_time(row, at + 7)?,
    };
    Ok(Record { token, digest, seal: Seal { key: unsigned(row, at + 8)?, mac } })
}

/// The record in a row; notes the token if that can't be read.
fn readable(unreadable: &Unreadable, row: &Row, at: usize) -> Result<Option<Record>, Error> {
    match record(row, at) {
        Ok(record) => Ok(Some(record)),
        Err(Error::Corrupt(_)) => {
            unreadable.note(TokenId(value(row, at + 2)?));
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

fn platform(row: &Row) -> Result<PlatformRecord, Error> {
    let platform = Platform {
        id: PlatformId(value(row, 0)?),
        name: TokenName::stored(value(row, 1)?),
        created_at: time(row, 2)?,
        disabled_at: optional_time(row, 3)?,
    };
    Ok(PlatformRecord { platform, seal: Seal { key: unsigned(row, 4)?, mac: bytes(row, 5)? } })
}

fn recorded_entry(row: &Row) -> Result<RecordedEntry, Error> {
    let platform = value::<Option<Uuid>>(row, 4)?.map(PlatformId);
    let environment = value::<Option<&str>>(row, 5)?.and_then(Environment::parse);
    let entry = AuditEntry {
        at: time(row, 1)?,
        action: parsed(row, 2, Action::parse)?,
        actor: parsed(row, 3, Actor::parse)?,
        platform,
        scope: platform.zip(environment).map(|(platform, environment)| Scope { platform, environment }),
        token: value::<Option<Uuid>>(row, 6)?.map(TokenId),
        request: RequestInfo { id: value(row, 7)?, source: value(row, 8)? },
        detail: value(row, 10)?,
    };
    Ok(RecordedEntry { seq: unsigned(row, 0)?, node: value(row, 9)?, entry })
}

// ---- installation --------------------------------------------------------------------------------------------------

pub(super) async fn installation(s: &Session) -> Result<Option<[u8; 16]>, Error> {
    s.row("SELECT id FROM installation", &[]).await?.map(|row| bytes(&row, 0)).transpose()
}

pub(super) async fn insert_installation(s: &Session, id: [u8; 16], at: Timestamp) -> Result<(), Error> {
    let sql = "INSERT INTO installation (one, id, created_at) VALUES (1, $1, $2) ON CONFLICT DO NOTHING";
    s.execute(sql, &[&id.as_slice(), &at.millis()]).await.map(drop)
}

// ---- tokens --------------------------------------------------------------------------------------------------------

/// A token, with whether the place `known` is here as it was when it was followed.
pub(super) async fn find_token(
    s: &Session,
    id: TokenId,
    known: &Mark,
    log: &Log,
    unreadable: &Unreadable,
) -> Result<Option<(Record, PlatformRecord)>, Error> {
    let sql = format!(
        "SELECT {PLATFORM}, {TOKEN}, $2::bigint = 0 OR EXISTS (SELECT 1 FROM audit WHERE seq = $2 AND seal = $3), (SELECT reason FROM hold) \
         FROM (VALUES (1)) one LEFT JOIN (token t JOIN platform p ON p.id = t.platform_id) ON t.id = $1"
    );
    // There is a row even if there is no such token: that too must be said by the history that was followed.
    let row = s.row(&sql, &[&id.0, &known.seq.cast_signed(), &known.mac.as_slice()]).await?;
    let row = row.ok_or_else(|| Error::Unavailable("no row where there always is one".to_owned()))?;
    hold::refuse(value(&row, row.len() - 1)?)?;
    if !value(&row, row.len() - 2)? {
        return Err(rewound(s, known, log).await);
    }
    if value::<Option<Uuid>>(&row, 0)?.is_none() {
        return Ok(None);
    }
    readable(unreadable, &row, PLATFORM_COLUMNS)?.map(|record| Ok((record, platform(&row)?))).transpose()
}

/// Those of these tokens that there are.
pub(super) async fn find_tokens(s: &Session, ids: &[Uuid], unreadable: &Unreadable) -> Result<Vec<Record>, Error> {
    let rows = s.rows(&format!("SELECT {TOKEN} FROM token t WHERE t.id = ANY($1)"), &[&ids]).await?;
    rows.iter().filter_map(|row| readable(unreadable, row, 0).transpose()).collect()
}

pub(super) async fn find_token_in(s: &Session, scope: Scope, id: TokenId, unreadable: &Unreadable) -> Result<Option<Record>, Error> {
    let sql = format!("SELECT {TOKEN} FROM token t WHERE t.id = $1 AND t.platform_id = $2 AND t.environment = $3");
    let row = s.row(&sql, &[&id.0, &scope.platform.0, &scope.environment.name()]).await?;
    Ok(row.map(|row| readable(unreadable, &row, 0)).transpose()?.flatten())
}

/// Those of these tokens that are live, and whose platform is.
pub(super) async fn live_among(s: &Session, ids: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    // Whether they are live is asked of the rows: as a condition it would be an invitation to walk an index of all that are.
    let sql = "SELECT t.id, t.revoked_at IS NULL AND p.disabled_at IS NULL FROM token t JOIN platform p ON p.id = t.platform_id \
               WHERE t.id = ANY($1)";
    let rows = s.rows(sql, &[&ids]).await?;
    let live = |row: &Row| value::<bool>(row, 1)?.then(|| value(row, 0)).transpose();
    rows.iter().filter_map(|row| live(row).transpose()).collect()
}

/// The statement behind a page. Bounds and the place in the list are one span of ids, so there are few of them.
pub(super) fn list_statement(liveness: Liveness, order: Order, named: bool) -> String {
    let name = if named { " AND t.name = $6" } else { "" };
    let live = match liveness {
        Liveness::Live => " AND t.revoked_at IS NULL",
        Liveness::All => "",
    };
    let order = match order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
    };
    format!(
        "SELECT {TOKEN} FROM token t WHERE t.platform_id = $1 AND t.environment = $2 AND t.id BETWEEN $3 AND $4{live}{name} \
         ORDER BY t.id {order} LIMIT $5"
    )
}

pub(super) async fn list_tokens(s: &Session, query: &TokenQuery, unreadable: &Unreadable) -> Result<Records, Error> {
    let (low, high) = query.span();
    let named = query.filter.name.as_ref().map(TokenName::as_str);
    let (environment, limit) = (query.scope.environment.name(), i64::try_from(query.limit + 1).unwrap_or(i64::MAX));
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&query.scope.platform.0, &environment, &low.0, &high.0, &limit];
    values.extend(named.as_ref().map(|name| name as &(dyn ToSql + Sync)));
    let sql = list_statement(query.liveness, query.order, named.is_some());
    let count = async {
        match query.count {
            true => totals::count(s, query.scope, &query.filter).await.map(Some),
            false => Ok(None),
        }
    };
    let (rows, total) = try_join(s.rows(&sql, &values), count).await?;
    // Counted by rows, not by records: what can't be read is left out of the page, but does not end the list.
    let page = &rows[..rows.len().min(query.limit)];
    let records = page.iter().filter_map(|row| readable(unreadable, row, 0).transpose()).collect::<Result<_, _>>()?;
    let last = page.last().filter(|_| rows.len() > query.limit);
    let next = last.map(|row| value(row, 2).map(TokenId)).transpose()?;
    Ok(Records { records, next, total })
}

/// Rows in the order of their ids, with when each was last used.
#[cfg(feature = "server")]
pub(super) async fn walk_tokens(s: &Session, walk: &Walk, unreadable: &Unreadable) -> Result<Walked, Error> {
    let in_scope = if walk.scope.is_some() { "t.platform_id = $4 AND t.environment = $5 AND " } else { "" };
    let order = match walk.order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
    };
    let sql = format!(
        "SELECT {TOKEN}, u.last_used_at FROM token t LEFT JOIN token_use u ON u.token_id = t.id \
         WHERE {in_scope}t.id BETWEEN $1 AND $2 ORDER BY t.id {order} LIMIT $3"
    );
    let ((low, high), most) = (walk.span, i64::try_from(walk.rows).unwrap_or(i64::MAX));
    let scope = walk.scope.map(|scope| (scope.platform.0, scope.environment.name()));
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&low.0, &high.0, &most];
    if let Some((platform, environment)) = &scope {
        values.extend([platform as &(dyn ToSql + Sync), environment]);
    }
    let rows = s.rows(&sql, &values).await?;
    let last = rows.last().map(|row| value(row, 2).map(TokenId)).transpose()?;
    let mut walked = Walked { records: Vec::with_capacity(rows.len()), last, rows: rows.len() };
    for row in &rows {
        if let Some(record) = readable(unreadable, row, 0)? {
            walked.records.push((record, optional_time(row, TOKEN_COLUMNS)?));
        }
    }
    Ok(walked)
}

pub(super) async fn visit_live_tokens(
    s: &Session,
    key: Option<u32>,
    mut visit: impl FnMut(Record),
    unreadable: &Unreadable,
) -> Result<(), Error> {
    let of_key = if key.is_some() { " AND t.key_id = $1" } else { "" };
    let sql = format!("SELECT {TOKEN} FROM token t WHERE t.revoked_at IS NULL{of_key}");
    let mut rows = std::pin::pin!(s.stream(&sql, key.map(i64::from).into_iter()).await?);
    while let Some(row) = rows.try_next().await? {
        readable(unreadable, &row, 0)?.into_iter().for_each(&mut visit);
    }
    Ok(())
}

// ---- platforms -----------------------------------------------------------------------------------------------------

pub(super) async fn find_platform(s: &Session, id: PlatformId) -> Result<Option<PlatformRecord>, Error> {
    let row = s.row(&format!("SELECT {PLATFORM} FROM platform p WHERE p.id = $1"), &[&id.0]).await?;
    row.map(|row| platform(&row)).transpose()
}

/// Those of these platforms that there are.
pub(super) async fn find_platforms(s: &Session, ids: &[Uuid]) -> Result<Vec<PlatformRecord>, Error> {
    s.rows(&format!("SELECT {PLATFORM} FROM platform p WHERE p.id = ANY($1)"), &[&ids]).await?.iter().map(platform).collect()
}

pub(super) async fn list_platforms(s: &Session) -> Result<Vec<PlatformRecord>, Error> {
    s.rows(&format!("SELECT {PLATFORM} FROM platform p ORDER BY p.id"), &[]).await?.iter().map(platform).collect()
}

// ---- audit ---------------------------------------------------------------------------------------------------------

pub(super) async fn list_audit(s: &Session, query: &AuditQuery) -> Result<(Vec<RecordedEntry>, bool), Error> {
    let before_seq = query.before_seq.map(|seq| i64::try_from(seq).unwrap_or(i64::MAX));
    let (after, before) = (query.after.map(Timestamp::millis), query.before.map(Timestamp::millis));
    let (platform, token) = (query.platform.map(|id| id.0), query.token.map(|id| id.0));
    let (action, actor) = (query.action.map(Action::name), query.actor.as_ref().map(ToString::to_string));
    // What an interrupted prune has left, and what somebody put there, is not of the log.
    let pruned = checkpoint::pruned(s).await?;
    let filters: [(&str, Option<&(dyn ToSql + Sync)>); 8] = [
        ("seq > ", Some(&pruned)),
        ("seq < ", before_seq.as_ref().map(|value| value as _)),
        ("at >= ", after.as_ref().map(|value| value as _)),
        ("at <= ", before.as_ref().map(|value| value as _)),
        ("platform_id = ", platform.as_ref().map(|value| value as _)),
        ("token_id = ", token.as_ref().map(|value| value as _)),
        ("action = ", action.as_ref().map(|value| value as _)),
        ("actor = ", actor.as_ref().map(|value| value as _)),
    ];
    let given = filters.into_iter().filter_map(|(condition, value)| Some((condition, value?)));
    let (conditions, values): (Vec<_>, Vec<_>) = given.zip(1..).map(|((condition, value), n)| (format!("{condition}${n}"), value)).unzip();
    let clause = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let sql = format!(
        "SELECT seq, at, action, actor, platform_id, environment, token_id, request_id, source, node, detail FROM audit{clause} \
         ORDER BY seq DESC LIMIT {}",
        query.limit.get() + 1
    );
    let mut entries = s.rows(&sql, &values).await?.iter().map(recorded_entry).collect::<Result<Vec<_>, _>>()?;
    let has_more = entries.len() > query.limit.get();
    entries.truncate(query.limit.get());
    Ok((entries, has_more))
}

pub(super) async fn last_mark(s: &Session) -> Result<Mark, Error> {
    let row = s.row("SELECT seq, seal FROM feed", &[]).await?;
    mark(&row.ok_or_else(|| Error::Corrupt("the feed's row is missing".to_owned()))?, 0)
}

pub(super) fn mark(row: &Row, at: usize) -> Result<Mark, Error> {
    Ok(Mark { seq: unsigned(row, at)?, mac: bytes(row, at + 1)? })
}

/// Whether that place is here as it was when it was followed.
#[cfg(feature = "server")]
pub(super) async fn is_of_this_history(s: &Session, known: &Mark) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM audit WHERE seq = $1 AND seal = $2";
    Ok(*known == Mark::START || s.row(sql, &[&known.seq.cast_signed(), &known.mac.as_slice()]).await?.is_some())
}

/// An older database was put in place of this one: what it says is new is not what we have missed. Or nobody can tell.
pub(super) async fn rewound(s: &Session, lost: &Mark, log: &Log) -> Error {
    let why = async {
        let taken_in = lost_mark(s, lost).await?.is_some_and(|seal| log.is_taken_in(lost, &seal));
        let pruned = !taken_in && checkpoint::is_pruned(s, lost.seq).await?;
        Ok(if pruned { Error::Pruned } else { Error::Rewound { taken_in } })
    };
    why.await.unwrap_or_else(|e: Error| e)
}

/// What says that an operator has taken in what was lost up to there.
async fn lost_mark(s: &Session, lost: &Mark) -> Result<Option<Seal>, Error> {
    let sql = "SELECT key_id, seal FROM lost_mark WHERE mac = $1 AND seq = $2";
    let row = s.row(sql, &[&lost.mac.as_slice(), &lost.seq.cast_signed()]).await?;
    row.map(|row| Ok(Seal { key: unsigned(&row, 0)?, mac: bytes(&row, 1)? })).transpose()
}

// ---- operations ----------------------------------------------------------------------------------------------------

pub(super) async fn find_operations(s: &Session) -> Result<Option<OperationsRecord>, Error> {
    let read = |row: Row| {
        let seal = Seal { key: unsigned(&row, 2)?, mac: bytes(&row, 3)? };
        Ok(OperationsRecord { document: value(&row, 0)?, loaded_at: time(&row, 1)?, seal })
    };
    s.row("SELECT document, loaded_at, key_id, seal FROM operations", &[]).await?.map(read).transpose()
}

// ---- replays -------------------------------------------------------------------------------------------------------

/// Those of these creates that were committed since, with their tokens.
pub(super) async fn find_replays(s: &Session, ids: &[&[u8]], since: Timestamp) -> Result<Vec<(Replay, Record)>, Error> {
    let sql = format!(
        "SELECT {TOKEN}, r.id, r.request, r.secret, r.created_at FROM replay r JOIN token t ON t.id = r.token_id \
         WHERE r.id = ANY($1) AND r.created_at >= $2"
    );
    let read = |row: &Row| {
        let replay = Replay { id: bytes(row, 10)?, request: bytes(row, 11)?, secret: value(row, 12)?, created_at: time(row, 13)? };
        Ok((replay, record(row, 0)?))
    };
    s.rows(&sql, &[&ids, &since.millis()]).await?.iter().map(read).collect()
}

pub(super) async fn expire_replays(s: &Session, secrets: Timestamp, replays: Timestamp) -> Result<(), Error> {
    s.execute("DELETE FROM replay WHERE created_at < $1", &[&replays.millis()]).await?;
    s.execute("UPDATE replay SET secret = NULL WHERE created_at < $1 AND secret IS NOT NULL", &[&secrets.millis()]).await.map(drop)
}

/// Whether a change could be made now.
pub(super) async fn probe(s: &Session) -> Result<(), Error> {
    let row = s.row("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' FROM feed", &[]).await?;
    match row.map(|row| value(&row, 0)).transpose()? {
        Some(false) => Ok(()),
        _ => Err(Error::Unavailable("the database takes no changes".to_owned())),
    }
}
