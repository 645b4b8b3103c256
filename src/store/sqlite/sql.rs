//! The statements of the SQLite store, one function each, over a connection that somebody else chose. (Those of totals are
//! in `totals.rs`, those of uses in `uses.rs`.)

use rusqlite::{
    CachedStatement, Connection, OptionalExtension as _, Row, named_params, params, params_from_iter,
    types::{Type, Value},
};
use uuid::Uuid;

use super::{Error, checkpoint, totals};
#[cfg(feature = "server")]
use crate::store::{Walk, Walked};
use crate::{
    domain::{
        Action, Actor, AuditEntry, AuditQuery, Environment, Issuer, Liveness, Order, Permissions, Platform, PlatformId, RecordedEntry,
        RequestInfo, Scope, Timestamp, Token, TokenId, TokenName, TokenQuery,
    },
    store::{Mark, OperationsRecord, PlatformRecord, Record, Records, Replay, Seal, Unreadable, log::Log, split_proof},
};

/// A token's values, where its scope is known.
const SCOPED_TOKEN: &str = "t.id, t.name, t.permissions, t.issuer, t.revocable, t.revoked_at, t.key_id, t.proof";
const SCOPE: &str = "t.platform_id, t.environment";
const PLATFORM: &str = "p.id, p.name, p.created_at, p.disabled_at, p.key_id, p.seal";
const PLATFORM_COLUMNS: usize = 6;
const SCOPE_COLUMNS: usize = 2;
#[cfg(feature = "server")]
const SCOPED_TOKEN_COLUMNS: usize = 8;

pub(super) fn prepare<'c>(connection: &'c Connection, sql: &str) -> Result<CachedStatement<'c>, Error> {
    Ok(connection.prepare_cached(sql)?)
}

// ---- rows ----------------------------------------------------------------------------------------------------------

/// The value in `column` as what it must be, or the error that names the column.
pub(super) fn parsed<T>(row: &Row<'_>, column: usize, parse: impl FnOnce(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    parse(text).ok_or_else(|| {
        let name = row.as_ref().column_name(column).unwrap_or("?").to_owned();
        rusqlite::Error::InvalidColumnType(column, name, Type::Text)
    })
}

pub(super) fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

pub(super) fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

fn name(row: &Row<'_>, column: usize) -> rusqlite::Result<TokenName> {
    Ok(TokenName::stored(row.get_ref(column)?.as_str()?))
}

fn scope(row: &Row<'_>, at: usize) -> rusqlite::Result<Scope> {
    Ok(Scope { platform: PlatformId(uuid(row, at)?), environment: parsed(row, at + 1, Environment::parse)? })
}

fn scoped_record(row: &Row<'_>, at: usize, scope: Scope) -> rusqlite::Result<Record> {
    let (tag, digest, mac) = split_proof(&row.get(at + 7)?);
    let token = Token {
        id: TokenId(uuid(row, at)?),
        scope,
        name: name(row, at + 1)?,
        permissions: parsed(row, at + 2, Permissions::parse)?,
        tag,
        issuer: parsed(row, at + 3, Issuer::parse)?,
        revocable: row.get(at + 4)?,
        revoked_at: optional_time(row, at + 5)?,
    };
    Ok(Record { token, digest, seal: Seal { key: row.get(at + 6)?, mac } })
}

/// Behind its scope.
fn record(row: &Row<'_>, at: usize) -> rusqlite::Result<Record> {
    scoped_record(row, at + SCOPE_COLUMNS, scope(row, at)?)
}

/// What `read` makes of the row; if that is no record, notes the id in the column `id`.
fn readable(
    unreadable: &Unreadable,
    row: &Row<'_>,
    id: usize,
    read: impl FnOnce() -> rusqlite::Result<Record>,
) -> rusqlite::Result<Option<Record>> {
    use rusqlite::Error as E;
    match read() {
        Ok(record) => Ok(Some(record)),
        Err(E::InvalidColumnType(..) | E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..)) => {
            if let Ok(id) = uuid(row, id) {
                unreadable.note(TokenId(id));
            }
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

fn readable_record(unreadable: &Unreadable, row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Record>> {
    readable(unreadable, row, at + SCOPE_COLUMNS, || record(row, at))
}

fn readable_scoped_record(unreadable: &Unreadable, row: &Row<'_>, scope: Scope) -> rusqlite::Result<Option<Record>> {
    readable(unreadable, row, 0, || scoped_record(row, 0, scope))
}

fn platform(row: &Row<'_>) -> rusqlite::Result<PlatformRecord> {
    let platform =
        Platform { id: PlatformId(uuid(row, 0)?), name: name(row, 1)?, created_at: time(row, 2)?, disabled_at: optional_time(row, 3)? };
    Ok(PlatformRecord { platform, seal: Seal { key: row.get(4)?, mac: row.get(5)? } })
}

fn recorded_entry(row: &Row<'_>) -> rusqlite::Result<RecordedEntry> {
    let platform = row.get::<_, Option<[u8; 16]>>(4)?.map(|id| PlatformId(Uuid::from_bytes(id)));
    let environment = row.get::<_, Option<String>>(5)?.as_deref().and_then(Environment::parse);
    let entry = AuditEntry {
        at: time(row, 1)?,
        action: parsed(row, 2, Action::parse)?,
        actor: parsed(row, 3, Actor::parse)?,
        platform,
        scope: platform.zip(environment).map(|(platform, environment)| Scope { platform, environment }),
        token: row.get::<_, Option<[u8; 16]>>(6)?.map(|id| TokenId(Uuid::from_bytes(id))),
        request: RequestInfo { id: row.get(7)?, source: row.get(8)? },
        detail: row.get(10)?,
    };
    Ok(RecordedEntry { seq: row.get(0)?, node: row.get(9)?, entry })
}

// ---- installation --------------------------------------------------------------------------------------------------

pub(super) fn installation(c: &Connection) -> Result<Option<[u8; 16]>, Error> {
    Ok(prepare(c, "SELECT id FROM installation")?.query_row([], |row| row.get(0)).optional()?)
}

pub(super) fn insert_installation(c: &Connection, id: [u8; 16], at: Timestamp) -> Result<(), Error> {
    prepare(c, "INSERT INTO installation (one, id, created_at) VALUES (1, ?1, ?2) ON CONFLICT DO NOTHING")?
        .execute(params![id, at.millis()])?;
    Ok(())
}

// ---- tokens --------------------------------------------------------------------------------------------------------

pub(super) fn find_token(c: &Connection, id: TokenId, unreadable: &Unreadable) -> Result<Option<(Record, PlatformRecord)>, Error> {
    let sql = format!("SELECT {PLATFORM}, {SCOPE}, {SCOPED_TOKEN} FROM token t JOIN platform p ON p.id = t.platform_id WHERE t.id = ?1");
    let both = |row: &Row<'_>| readable_record(unreadable, row, PLATFORM_COLUMNS)?.map(|record| Ok((record, platform(row)?))).transpose();
    Ok(prepare(c, &sql)?.query_row([id.0.as_bytes()], both).optional()?.flatten())
}

pub(super) fn find_token_in(c: &Connection, scope: Scope, id: TokenId, unreadable: &Unreadable) -> Result<Option<Record>, Error> {
    let sql = format!("SELECT {SCOPED_TOKEN} FROM token t WHERE t.id = ?1 AND t.platform_id = ?2 AND t.environment = ?3");
    let scoped = params![id.0.as_bytes(), scope.platform.0.as_bytes(), scope.environment.name()];
    Ok(prepare(c, &sql)?.query_row(scoped, |row| readable_scoped_record(unreadable, row, scope)).optional()?.flatten())
}

/// Whether a token is live, and so is its platform.
pub(super) fn is_live(c: &Connection, id: TokenId) -> Result<bool, Error> {
    let sql =
        "SELECT 1 FROM token t JOIN platform p ON p.id = t.platform_id WHERE t.id = ?1 AND t.revoked_at IS NULL AND p.disabled_at IS NULL";
    Ok(prepare(c, sql)?.exists([id.0.as_bytes()])?)
}

pub(super) fn insert_token(c: &Connection, r: &Record) -> Result<(), Error> {
    let sql = "INSERT INTO token (id, platform_id, environment, name, permissions, issuer, revocable, revoked_at, key_id, proof) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let t = &r.token;
    prepare(c, sql)?.execute(params![
        t.id.0.as_bytes(),
        t.scope.platform.0.as_bytes(),
        t.scope.environment.name(),
        t.name.as_str(),
        t.permissions.text(),
        t.issuer.name(),
        t.revocable,
        t.revoked_at.map(Timestamp::millis),
        r.seal.key,
        r.proof(),
    ])?;
    Ok(())
}

/// Replaces what can change of a live token; one that has ended stays as it is.
pub(super) fn update_token(c: &Connection, r: &Record) -> Result<(), Error> {
    let sql = "UPDATE token SET revoked_at = ?2, key_id = ?3, proof = ?4 WHERE id = ?1 AND revoked_at IS NULL";
    let t = &r.token;
    let values = params![t.id.0.as_bytes(), t.revoked_at.map(Timestamp::millis), r.seal.key, r.proof()];
    let changed = prepare(c, sql)?.execute(values)?;
    if changed == 1 { Ok(()) } else { Err(Error::Unavailable(format!("{} was changed meanwhile", t.id))) }
}

/// The statement behind a page. Bounds and the place in the list are one span of ids, so there are few of them.
pub(super) fn list_statement(liveness: Liveness, order: Order, named: bool) -> String {
    let name = if named { " AND t.name = :name" } else { "" };
    let live = match liveness {
        Liveness::Live => " AND t.revoked_at IS NULL",
        Liveness::All => "",
    };
    let order = match order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
    };
    format!(
        "SELECT {SCOPED_TOKEN} FROM token t WHERE t.platform_id = :platform AND t.environment = :environment{name} \
         AND t.id BETWEEN :low AND :high{live} ORDER BY t.id {order} LIMIT :limit"
    )
}

pub(super) fn list_tokens(c: &Connection, query: &TokenQuery, unreadable: &Unreadable) -> Result<Records, Error> {
    let (low, high) = query.span();
    let named = query.filter.name.as_ref().map(TokenName::as_str);
    let mut statement = prepare(c, &list_statement(query.liveness, query.order, named.is_some()))?;
    let mut records = Vec::with_capacity(query.limit);
    let (platform, environment) = (query.scope.platform.0.as_bytes(), query.scope.environment.name());
    let (low, high, limit) = (low.0.as_bytes(), high.0.as_bytes(), query.limit + 1);
    let mut rows = match named {
        Some(name) => statement.query(named_params! {
            ":platform": platform, ":environment": environment, ":name": name, ":low": low, ":high": high, ":limit": limit,
        })?,
        None => statement.query(named_params! {
            ":platform": platform, ":environment": environment, ":low": low, ":high": high, ":limit": limit,
        })?,
    };
    // Counted by rows, not by records: what can't be read is left out of the page, but does not end the list.
    let (mut read, mut last) = (0, None);
    while let Some(row) = rows.next()? {
        read += 1;
        if read <= query.limit {
            last = Some(TokenId(uuid(row, 0)?));
            records.extend(readable_scoped_record(unreadable, row, query.scope)?);
        }
    }
    let next = last.filter(|_| read > query.limit);
    let total = query.count.then(|| totals::count(c, query.scope, &query.filter)).transpose()?;
    Ok(Records { records, next, total })
}

/// Rows in the order of their ids, with when each was last used.
#[cfg(feature = "server")]
pub(super) fn walk_tokens(c: &Connection, walk: &Walk, unreadable: &Unreadable) -> Result<Walked, Error> {
    let in_scope = if walk.scope.is_some() { "t.platform_id = ?4 AND t.environment = ?5 AND " } else { "" };
    let order = match walk.order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
    };
    let sql = format!(
        "SELECT {SCOPE}, {SCOPED_TOKEN}, u.last_used_at FROM token t LEFT JOIN token_use u ON u.token_id = t.id \
         WHERE {in_scope}t.id BETWEEN ?1 AND ?2 ORDER BY t.id {order} LIMIT ?3"
    );
    let (low, high) = walk.span;
    let mut statement = prepare(c, &sql)?;
    let mut rows = match walk.scope {
        None => statement.query(params![low.0.as_bytes(), high.0.as_bytes(), walk.rows])?,
        Some(scope) => {
            let (platform, environment) = (scope.platform.0.as_bytes(), scope.environment.name());
            statement.query(params![low.0.as_bytes(), high.0.as_bytes(), walk.rows, platform, environment])?
        }
    };
    let mut walked = Walked::default();
    while let Some(row) = rows.next()? {
        walked.rows += 1;
        walked.last = Some(TokenId(uuid(row, SCOPE_COLUMNS)?));
        if let Some(record) = readable_record(unreadable, row, 0)? {
            walked.records.push((record, optional_time(row, SCOPE_COLUMNS + SCOPED_TOKEN_COLUMNS)?));
        }
    }
    Ok(walked)
}

// ---- platforms -----------------------------------------------------------------------------------------------------

/// Says whether it did: not, if there is one of that id.
pub(super) fn insert_platform(c: &Connection, r: &PlatformRecord) -> Result<bool, Error> {
    let sql = "INSERT INTO platform (id, name, created_at, disabled_at, key_id, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
               ON CONFLICT (id) DO NOTHING";
    let p = &r.platform;
    let inserted = prepare(c, sql)?.execute(params![
        p.id.0.as_bytes(),
        p.name.as_str(),
        p.created_at.millis(),
        p.disabled_at.map(Timestamp::millis),
        r.seal.key,
        r.seal.mac,
    ])?;
    Ok(inserted == 1)
}

pub(super) fn update_platform(c: &Connection, r: &PlatformRecord) -> Result<(), Error> {
    let sql = "UPDATE platform SET disabled_at = ?2, key_id = ?3, seal = ?4 WHERE id = ?1";
    let p = &r.platform;
    let values = params![p.id.0.as_bytes(), p.disabled_at.map(Timestamp::millis), r.seal.key, r.seal.mac];
    prepare(c, sql)?.execute(values)?;
    Ok(())
}

pub(super) fn find_platform(c: &Connection, id: PlatformId) -> Result<Option<PlatformRecord>, Error> {
    let sql = format!("SELECT {PLATFORM} FROM platform p WHERE p.id = ?1");
    Ok(prepare(c, &sql)?.query_row([id.0.as_bytes()], platform).optional()?)
}

pub(super) fn list_platforms(c: &Connection) -> Result<Vec<PlatformRecord>, Error> {
    let mut statement = prepare(c, &format!("SELECT {PLATFORM} FROM platform p ORDER BY p.id"))?;
    let rows = statement.query_map([], platform)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

// ---- audit and feed ------------------------------------------------------------------------------------------------

pub(super) fn insert_audit_entry(c: &Connection, seq: u64, node: &str, e: &AuditEntry, seal: &Seal) -> Result<(), Error> {
    let sql = "INSERT INTO audit (seq, at, action, actor, platform_id, environment, token_id, request_id, source, node, detail, \
               key_id, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    prepare(c, sql)?.execute(params![
        seq,
        e.at.millis(),
        e.action.name(),
        e.actor.to_string(),
        e.platform.map(|id| *id.0.as_bytes()),
        e.scope.map(|scope| scope.environment.name()),
        e.token.map(|id| *id.0.as_bytes()),
        e.request.id,
        e.request.source,
        node,
        e.detail,
        seal.key,
        seal.mac,
    ])?;
    Ok(())
}

pub(super) fn list_audit(c: &Connection, query: &AuditQuery) -> Result<(Vec<RecordedEntry>, bool), Error> {
    let blob = |id: Uuid| Value::from(id.as_bytes().to_vec());
    let filters = [
        // What an interrupted prune has left, and what somebody put there, is not of the log.
        ("seq > ", Some(Value::from(checkpoint::pruned(c)?))),
        ("seq < ", query.before_seq.map(|seq| Value::from(i64::try_from(seq).unwrap_or(i64::MAX)))),
        ("at >= ", query.after.map(|at| at.millis().into())),
        ("at <= ", query.before.map(|at| at.millis().into())),
        ("platform_id = ", query.platform.map(|id| blob(id.0))),
        ("token_id = ", query.token.map(|id| blob(id.0))),
        ("action = ", query.action.map(|action| action.name().to_owned().into())),
        ("actor = ", query.actor.as_ref().map(|actor| actor.to_string().into())),
    ];
    let (conditions, values): (Vec<_>, Vec<_>) =
        filters.into_iter().filter_map(|(condition, value)| Some((format!("{condition}?"), value?))).unzip();
    let clause = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let sql = format!(
        "SELECT seq, at, action, actor, platform_id, environment, token_id, request_id, source, node, detail FROM audit{clause} \
         ORDER BY seq DESC LIMIT {}",
        query.limit.get() + 1
    );
    let mut statement = prepare(c, &sql)?;
    let mut entries = statement.query_map(params_from_iter(values), recorded_entry)?.collect::<Result<Vec<_>, _>>()?;
    let has_more = entries.len() > query.limit.get();
    entries.truncate(query.limit.get());
    Ok((entries, has_more))
}

pub(super) fn last_mark(c: &Connection) -> Result<Mark, Error> {
    let last = prepare(c, "SELECT seq, seal FROM audit ORDER BY seq DESC LIMIT 1")?.query_row([], |row| mark(row, 0)).optional()?;
    Ok(last.unwrap_or(Mark::START))
}

fn mark(row: &Row<'_>, at: usize) -> rusqlite::Result<Mark> {
    Ok(Mark { seq: row.get(at)?, mac: row.get(at + 1)? })
}

/// Whether that place is here as it was when it was followed.
pub(super) fn is_of_this_history(c: &Connection, known: &Mark) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM audit WHERE seq = ?1 AND seal = ?2";
    Ok(*known == Mark::START || prepare(c, sql)?.exists(params![known.seq, known.mac])?)
}

/// An older database was put in place of this one: what it says is new is not what we have missed. Or nobody can tell.
pub(super) fn rewound(c: &Connection, lost: &Mark, log: &Log) -> Error {
    let why = || {
        let taken_in = lost_mark(c, lost)?.is_some_and(|seal| log.is_taken_in(lost, &seal));
        let pruned = !taken_in && checkpoint::is_pruned(c, lost.seq)?;
        Ok(if pruned { Error::Pruned } else { Error::Rewound { taken_in } })
    };
    why().unwrap_or_else(|e: Error| e)
}

/// What says that an operator has taken in what was lost up to there.
fn lost_mark(c: &Connection, lost: &Mark) -> Result<Option<Seal>, Error> {
    let seal = |row: &Row<'_>| Ok(Seal { key: row.get(0)?, mac: row.get(1)? });
    let sql = "SELECT key_id, seal FROM lost_mark WHERE mac = ?1 AND seq = ?2";
    Ok(prepare(c, sql)?.query_row(params![lost.mac, lost.seq], seal).optional()?)
}

#[cfg(feature = "server")]
pub(super) fn insert_lost_mark(c: &Connection, lost: &Mark, seal: &Seal, at: Timestamp) -> Result<(), Error> {
    let sql = "INSERT INTO lost_mark (mac, seq, taken_in_at, key_id, seal) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT DO UPDATE SET taken_in_at = excluded.taken_in_at, key_id = excluded.key_id, seal = excluded.seal";
    prepare(c, sql)?.execute(params![lost.mac, lost.seq, at.millis(), seal.key, seal.mac])?;
    Ok(())
}

/// A place of the feed.
pub(super) struct Place {
    pub(super) mark: Mark,
    pub(super) node: String,
    pub(super) token: Option<TokenId>,
    pub(super) platform: Option<PlatformId>,
    pub(super) action: String,
}

/// The places from `seq` on.
pub(super) fn places_from(c: &Connection, seq: u64, limit: usize) -> Result<Vec<Place>, Error> {
    let sql = "SELECT seq, seal, token_id, platform_id, node, action FROM audit WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
    let mut statement = prepare(c, sql)?;
    let rows = statement.query_map(params![i64::try_from(seq).unwrap_or(i64::MAX), limit], |row| {
        let (token, platform): (Option<[u8; 16]>, Option<[u8; 16]>) = (row.get(2)?, row.get(3)?);
        Ok(Place {
            mark: mark(row, 0)?,
            node: row.get(4)?,
            token: token.map(|id| TokenId(Uuid::from_bytes(id))),
            platform: platform.map(|id| PlatformId(Uuid::from_bytes(id))),
            action: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn visit_live_tokens(
    c: &Connection,
    key: Option<u32>,
    mut visit: impl FnMut(Record),
    unreadable: &Unreadable,
) -> Result<(), Error> {
    let sql = format!("SELECT {SCOPE}, {SCOPED_TOKEN} FROM token t WHERE t.revoked_at IS NULL AND (?1 IS NULL OR t.key_id = ?1)");
    let mut statement = prepare(c, &sql)?;
    let mut rows = statement.query([key])?;
    while let Some(row) = rows.next()? {
        readable_record(unreadable, row, 0)?.into_iter().for_each(&mut visit);
    }
    Ok(())
}

// ---- operations ----------------------------------------------------------------------------------------------------

pub(super) fn replace_operations(c: &Connection, r: &OperationsRecord) -> Result<(), Error> {
    let sql = "INSERT INTO operations (one, document, loaded_at, key_id, seal) VALUES (1, ?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE \
               SET document = excluded.document, loaded_at = excluded.loaded_at, key_id = excluded.key_id, seal = excluded.seal";
    prepare(c, sql)?.execute(params![r.document, r.loaded_at.millis(), r.seal.key, r.seal.mac])?;
    Ok(())
}

pub(super) fn find_operations(c: &Connection) -> Result<Option<OperationsRecord>, Error> {
    let read = |row: &Row<'_>| {
        let seal = Seal { key: row.get(2)?, mac: row.get(3)? };
        Ok(OperationsRecord { document: row.get(0)?, loaded_at: time(row, 1)?, seal })
    };
    Ok(prepare(c, "SELECT document, loaded_at, key_id, seal FROM operations")?.query_row([], read).optional()?)
}

// ---- replays -------------------------------------------------------------------------------------------------------

pub(super) fn find_replay(c: &Connection, id: &[u8; 32], since: Timestamp) -> Result<Option<(Replay, Record)>, Error> {
    let sql = format!(
        "SELECT r.id, r.request, r.secret, r.created_at, {SCOPE}, {SCOPED_TOKEN} FROM replay r JOIN token t ON t.id = r.token_id \
         WHERE r.id = ?1 AND r.created_at >= ?2"
    );
    let both = |row: &Row<'_>| {
        let replay = Replay { id: row.get(0)?, request: row.get(1)?, secret: row.get(2)?, created_at: time(row, 3)? };
        Ok((replay, record(row, 4)?))
    };
    Ok(prepare(c, &sql)?.query_row(params![id, since.millis()], both).optional()?)
}

pub(super) fn insert_replay(c: &Connection, replay: &Replay, token: TokenId) -> Result<(), Error> {
    // One that has expired but was not yet swept away gives place.
    let sql = "INSERT OR REPLACE INTO replay (id, request, token_id, secret, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    prepare(c, sql)?.execute(params![replay.id, replay.request, token.0.as_bytes(), replay.secret, replay.created_at.millis()])?;
    Ok(())
}

pub(super) fn expire_replays(c: &Connection, secrets: Timestamp, replays: Timestamp) -> Result<(), Error> {
    prepare(c, "DELETE FROM replay WHERE created_at < ?1")?.execute([replays.millis()])?;
    prepare(c, "UPDATE replay SET secret = NULL WHERE created_at < ?1 AND secret IS NOT NULL")?.execute([secrets.millis()])?;
    Ok(())
}

pub(super) fn probe(c: &Connection) -> Result<(), Error> {
    // Changes nothing, but takes the lock and has a page written and flushed: a full, failing or read-only disk shows. Twice,
    // because a value that stays as it was writes nothing.
    for there_and_back in ["UPDATE installation SET created_at = created_at + 1", "UPDATE installation SET created_at = created_at - 1"] {
        prepare(c, there_and_back)?.execute([])?;
    }
    Ok(())
}
