//! Accounts of operators, their tokens, and who is signed in.

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};
use uuid::Uuid;

use super::{
    Error, Sqlite,
    sql::{optional_time, parsed, prepare, time, uuid},
    writer::Batch,
};
use crate::{
    domain::{Account, AccountId, AccountName, AuditEntry, OperatorToken, OperatorTokenId, PlatformId, Role, Timestamp, TokenName},
    store::{AccountRecord, OperatorTokenRecord, Put, Seal, SessionRecord},
};

const ACCOUNT: &str = "a.id, a.name, a.role, a.platform_id, a.created_at, a.disabled_at, a.generation, a.access, a.key_id, a.seal";
const ACCOUNT_COLUMNS: usize = 10;
const TOKEN: &str = "t.id, t.account_id, t.name, t.created_at, t.expires_at, t.revoked_at, t.digest, t.key_id, t.seal";
const SESSION: &str = "s.id, s.account_id, s.generation, s.created_at, s.seen_at, s.key_id, s.seal";

pub(super) fn seal(row: &Row<'_>, at: usize) -> rusqlite::Result<Seal> {
    Ok(Seal { key: row.get(at)?, mac: row.get(at + 1)? })
}

fn account(row: &Row<'_>) -> rusqlite::Result<AccountRecord> {
    let account = Account {
        id: AccountId(uuid(row, 0)?),
        name: AccountName::stored(row.get_ref(1)?.as_str()?),
        role: parsed(row, 2, Role::parse)?,
        platform: row.get::<_, Option<[u8; 16]>>(3)?.map(|id| PlatformId(Uuid::from_bytes(id))),
        created_at: time(row, 4)?,
        disabled_at: optional_time(row, 5)?,
    };
    Ok(AccountRecord { account, generation: row.get(6)?, access: row.get(7)?, seal: seal(row, 8)? })
}

fn token(row: &Row<'_>, at: usize) -> rusqlite::Result<OperatorTokenRecord> {
    let token = OperatorToken {
        id: OperatorTokenId(uuid(row, at)?),
        account: AccountId(uuid(row, at + 1)?),
        name: TokenName::stored(row.get_ref(at + 2)?.as_str()?),
        created_at: time(row, at + 3)?,
        expires_at: optional_time(row, at + 4)?,
        revoked_at: optional_time(row, at + 5)?,
    };
    Ok(OperatorTokenRecord { token, digest: row.get(at + 6)?, seal: seal(row, at + 7)? })
}

fn session(row: &Row<'_>, at: usize) -> rusqlite::Result<SessionRecord> {
    Ok(SessionRecord {
        id: row.get(at)?,
        account: AccountId(uuid(row, at + 1)?),
        generation: row.get(at + 2)?,
        created_at: time(row, at + 3)?,
        seen_at: time(row, at + 4)?,
        seal: seal(row, at + 5)?,
    })
}

/// Puts a row, in place of the one with that seal if there is to be one; says whether it did: a new one not, if there is one of
/// that id.
pub(super) fn put(c: &Connection, table: &str, columns: &[&str], values: &[&dyn ToSql], before: Option<Seal>) -> Result<bool, Error> {
    let Some(before) = before else {
        let places: Vec<_> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
        let sql = format!("INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT (id) DO NOTHING", columns.join(", "), places.join(", "));
        return Ok(prepare(c, &sql)?.execute(values)? == 1);
    };
    let sets: Vec<_> = columns.iter().zip(1..).skip(1).map(|(name, n)| format!("{name} = ?{n}")).collect();
    let sql = format!("UPDATE {table} SET {} WHERE id = ?1 AND seal = ?{}", sets.join(", "), columns.len() + 1);
    let values: Vec<_> = values.iter().copied().chain([&before.mac as &dyn ToSql]).collect();
    Ok(prepare(c, &sql)?.execute(&values[..])? == 1)
}

fn put_account(batch: &mut Batch<'_>, before: Option<Seal>, record: &AccountRecord) -> Result<Put, Error> {
    batch.refuse_retired(record.seal.key)?;
    let AccountRecord { account, generation, access, seal } = record;
    let taken = "SELECT 1 FROM account WHERE name = ?1 AND id <> ?2";
    if prepare(batch.connection, taken)?.exists(params![account.name.as_str(), account.id.0.as_bytes()])? {
        return Ok(Put::NameTaken);
    }
    let columns = ["id", "name", "role", "platform_id", "created_at", "disabled_at", "generation", "access", "key_id", "seal"];
    let (platform, disabled) = (account.platform.map(|id| *id.0.as_bytes()), account.disabled_at.map(Timestamp::millis));
    let values: [&dyn ToSql; 10] = [
        account.id.0.as_bytes(),
        &account.name.as_str(),
        &account.role.name(),
        &platform,
        &account.created_at.millis(),
        &disabled,
        generation,
        access,
        &seal.key,
        &seal.mac,
    ];
    Ok(if put(batch.connection, "account", &columns, &values, before)? { Put::Done } else { Put::Changed })
}

fn note(batch: &mut Batch<'_>, entry: Option<&AuditEntry>) -> Result<(), Error> {
    entry.map_or(Ok(()), |entry| batch.note(entry).map(drop))
}

impl Sqlite {
    pub(in crate::store) async fn list_accounts(&self) -> Result<Vec<AccountRecord>, Error> {
        let list = |c: &Connection| {
            let mut statement = prepare(c, &format!("SELECT {ACCOUNT} FROM account a ORDER BY a.name"))?;
            let rows = statement.query_map([], account)?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.read(list).await
    }

    pub(in crate::store) async fn find_account(&self, name: AccountName) -> Result<Option<AccountRecord>, Error> {
        let sql = format!("SELECT {ACCOUNT} FROM account a WHERE a.name = ?1");
        self.read(move |c| Ok(prepare(c, &sql)?.query_row([name.as_str()], account).optional()?)).await
    }

    pub(in crate::store) async fn put_account(
        &self,
        before: Option<Seal>,
        record: AccountRecord,
        entry: Option<AuditEntry>,
    ) -> Result<Put, Error> {
        self.write(move |batch| {
            let put = put_account(batch, before, &record)?;
            if put == Put::Done {
                note(batch, entry.as_ref())?;
            }
            Ok(put)
        })
        .await
    }

    pub(in crate::store) async fn list_operator_tokens(&self) -> Result<Vec<OperatorTokenRecord>, Error> {
        let list = |c: &Connection| {
            let mut statement = prepare(c, &format!("SELECT {TOKEN} FROM operator_token t ORDER BY t.id DESC"))?;
            let rows = statement.query_map([], |row| token(row, 0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.read(list).await
    }

    pub(in crate::store) async fn find_operator_token(
        &self,
        id: OperatorTokenId,
    ) -> Result<Option<(OperatorTokenRecord, AccountRecord)>, Error> {
        let sql = format!("SELECT {ACCOUNT}, {TOKEN} FROM operator_token t JOIN account a ON a.id = t.account_id WHERE t.id = ?1");
        let read = |row: &Row<'_>| Ok((token(row, ACCOUNT_COLUMNS)?, account(row)?));
        self.read(move |c| Ok(prepare(c, &sql)?.query_row([id.0.as_bytes()], read).optional()?)).await
    }

    pub(in crate::store) async fn put_operator_token(
        &self,
        before: Option<Seal>,
        record: OperatorTokenRecord,
        entry: Option<AuditEntry>,
    ) -> Result<bool, Error> {
        self.write(move |batch| {
            batch.refuse_retired(record.seal.key)?;
            let OperatorTokenRecord { token, digest, seal } = &record;
            let columns = ["id", "account_id", "name", "created_at", "expires_at", "revoked_at", "digest", "key_id", "seal"];
            let (expires, revoked) = (token.expires_at.map(Timestamp::millis), token.revoked_at.map(Timestamp::millis));
            let values: [&dyn ToSql; 9] = [
                token.id.0.as_bytes(),
                token.account.0.as_bytes(),
                &token.name.as_str(),
                &token.created_at.millis(),
                &expires,
                &revoked,
                digest,
                &seal.key,
                &seal.mac,
            ];
            let done = put(batch.connection, "operator_token", &columns, &values, before)?;
            if done {
                note(batch, entry.as_ref())?;
            }
            Ok(done)
        })
        .await
    }

    pub(in crate::store) async fn insert_session(
        &self,
        before: Seal,
        account: AccountRecord,
        session: SessionRecord,
        entry: AuditEntry,
    ) -> Result<bool, Error> {
        self.write(move |batch| {
            if put_account(batch, Some(before), &account)? != Put::Done {
                return Ok(false);
            }
            batch.refuse_retired(session.seal.key)?;
            let SessionRecord { id, account, generation, created_at, seen_at, seal } = &session;
            let columns = ["id", "account_id", "generation", "created_at", "seen_at", "key_id", "seal"];
            let values: [&dyn ToSql; 7] =
                [id, account.0.as_bytes(), generation, &created_at.millis(), &seen_at.millis(), &seal.key, &seal.mac];
            put(batch.connection, "operator_session", &columns, &values, None)?;
            batch.note(&entry)?;
            Ok(true)
        })
        .await
    }

    pub(in crate::store) async fn find_session(&self, id: [u8; 32]) -> Result<Option<(SessionRecord, AccountRecord)>, Error> {
        let sql = format!("SELECT {ACCOUNT}, {SESSION} FROM operator_session s JOIN account a ON a.id = s.account_id WHERE s.id = ?1");
        let read = |row: &Row<'_>| Ok((session(row, ACCOUNT_COLUMNS)?, account(row)?));
        self.read(move |c| Ok(prepare(c, &sql)?.query_row([id], read).optional()?)).await
    }

    pub(in crate::store) async fn touch_session(&self, id: [u8; 32], at: Timestamp) -> Result<(), Error> {
        let sql = "UPDATE operator_session SET seen_at = max(seen_at, ?2) WHERE id = ?1";
        self.write(move |batch| prepare(batch.connection, sql)?.execute(params![id, at.millis()]).map(drop).map_err(Into::into)).await
    }

    pub(in crate::store) async fn remove_session(&self, id: [u8; 32], entry: AuditEntry) -> Result<(), Error> {
        self.write(move |batch| {
            let removed = prepare(batch.connection, "DELETE FROM operator_session WHERE id = ?1")?.execute([id])?;
            note(batch, (removed > 0).then_some(&entry))
        })
        .await
    }

    pub(in crate::store) async fn forget_sessions(&self, created: Timestamp, seen: Timestamp) -> Result<(), Error> {
        let sql = "DELETE FROM operator_session WHERE created_at < ?1 OR seen_at < ?2";
        self.write(move |batch| prepare(batch.connection, sql)?.execute([created.millis(), seen.millis()]).map(drop).map_err(Into::into))
            .await
    }
}
