//! Accounts of operators, their tokens, and who is signed in.

use tokio_postgres::{Row, types::ToSql};

use super::{
    Error, Postgres,
    batch::Batch,
    keys,
    session::Session,
    sql::{bytes, optional_time, parsed, time, unsigned, value},
};
use crate::{
    domain::{Account, AccountId, AccountName, AuditEntry, OperatorToken, OperatorTokenId, PlatformId, Role, Timestamp, TokenName},
    store::{AccountRecord, OperatorTokenRecord, Put, Seal, SessionRecord, queue::Urgency},
};

const ACCOUNT: &str = "a.id, a.name, a.role, a.platform_id, a.created_at, a.disabled_at, a.generation, a.access, a.key_id, a.seal";
const ACCOUNT_COLUMNS: usize = 10;
const TOKEN: &str = "t.id, t.account_id, t.name, t.created_at, t.expires_at, t.revoked_at, t.digest, t.key_id, t.seal";
const SESSION: &str = "s.id, s.account_id, s.generation, s.created_at, s.seen_at, s.key_id, s.seal";

pub(super) fn seal(row: &Row, at: usize) -> Result<Seal, Error> {
    Ok(Seal { key: unsigned(row, at)?, mac: bytes(row, at + 1)? })
}

fn account(row: &Row) -> Result<AccountRecord, Error> {
    let account = Account {
        id: AccountId(value(row, 0)?),
        name: AccountName::stored(value(row, 1)?),
        role: parsed(row, 2, Role::parse)?,
        platform: value::<Option<uuid::Uuid>>(row, 3)?.map(PlatformId),
        created_at: time(row, 4)?,
        disabled_at: optional_time(row, 5)?,
    };
    Ok(AccountRecord { account, generation: unsigned(row, 6)?, access: value(row, 7)?, seal: seal(row, 8)? })
}

fn token(row: &Row, at: usize) -> Result<OperatorTokenRecord, Error> {
    let token = OperatorToken {
        id: OperatorTokenId(value(row, at)?),
        account: AccountId(value(row, at + 1)?),
        name: TokenName::stored(value(row, at + 2)?),
        created_at: time(row, at + 3)?,
        expires_at: optional_time(row, at + 4)?,
        revoked_at: optional_time(row, at + 5)?,
    };
    Ok(OperatorTokenRecord { token, digest: bytes(row, at + 6)?, seal: seal(row, at + 7)? })
}

fn session(row: &Row, at: usize) -> Result<SessionRecord, Error> {
    Ok(SessionRecord {
        id: bytes(row, at)?,
        account: AccountId(value(row, at + 1)?),
        generation: unsigned(row, at + 2)?,
        created_at: time(row, at + 3)?,
        seen_at: time(row, at + 4)?,
        seal: seal(row, at + 5)?,
    })
}

/// Puts a row, in place of the one with that seal if there is to be one; says whether it did: a new one not, if there is one of
/// that id.
pub(super) async fn put(
    s: &Session,
    table: &str,
    columns: &[&str],
    values: &[&(dyn ToSql + Sync)],
    before: Option<Seal>,
) -> Result<bool, Error> {
    let Some(before) = before else {
        let places: Vec<_> = (1..=columns.len()).map(|n| format!("${n}")).collect();
        let sql = format!("INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT (id) DO NOTHING", columns.join(", "), places.join(", "));
        return Ok(s.execute(&sql, values).await? == 1);
    };
    let sets: Vec<_> = columns.iter().zip(1..).skip(1).map(|(name, n)| format!("{name} = ${n}")).collect();
    let sql = format!("UPDATE {table} SET {} WHERE id = $1 AND seal = ${}", sets.join(", "), columns.len() + 1);
    let mac = before.mac.as_slice();
    let values: Vec<_> = values.iter().copied().chain([&mac as &(dyn ToSql + Sync)]).collect();
    Ok(s.execute(&sql, &values).await? == 1)
}

async fn put_account(s: &Session, before: Option<Seal>, record: &AccountRecord) -> Result<Put, Error> {
    keys::refuse_retired(s, &[record.seal.key]).await?;
    let AccountRecord { account, generation, access, seal } = record;
    // The feed's row is locked: nobody else takes the name meanwhile.
    let taken = "SELECT 1 FROM account WHERE name = $1 AND id <> $2";
    if s.row(taken, &[&account.name.as_str(), &account.id.0]).await?.is_some() {
        return Ok(Put::NameTaken);
    }
    let columns = ["id", "name", "role", "platform_id", "created_at", "disabled_at", "generation", "access", "key_id", "seal"];
    let (platform, disabled) = (account.platform.map(|id| id.0), account.disabled_at.map(Timestamp::millis));
    let values: [&(dyn ToSql + Sync); 10] = [
        &account.id.0,
        &account.name.as_str(),
        &account.role.name(),
        &platform,
        &account.created_at.millis(),
        &disabled,
        &i64::from(*generation),
        access,
        &i64::from(seal.key),
        &seal.mac.as_slice(),
    ];
    Ok(if put(s, "account", &columns, &values, before).await? { Put::Done } else { Put::Changed })
}

fn note(batch: &mut Batch<'_>, entry: Option<&AuditEntry>) -> Result<(), Error> {
    entry.map_or(Ok(()), |entry| batch.note(entry.clone()).map(drop))
}

impl Postgres {
    pub(in crate::store) async fn list_accounts(&self) -> Result<Vec<AccountRecord>, Error> {
        let sql = format!("SELECT {ACCOUNT} FROM account a ORDER BY a.name COLLATE \"C\"");
        self.kept.read(async |s| s.rows(&sql, &[]).await?.iter().map(account).collect()).await
    }

    pub(in crate::store) async fn find_account(&self, name: AccountName) -> Result<Option<AccountRecord>, Error> {
        let sql = format!("SELECT {ACCOUNT} FROM account a WHERE a.name = $1");
        self.kept.read(async |s| s.row(&sql, &[&name.as_str()]).await?.map(|row| account(&row)).transpose()).await
    }

    pub(in crate::store) async fn put_account(
        &self,
        before: Option<Seal>,
        record: AccountRecord,
        entry: Option<AuditEntry>,
    ) -> Result<Put, Error> {
        let change = async move |batch: &mut Batch<'_>| {
            let put = put_account(batch.session, before, &record).await?;
            if put == Put::Done {
                note(batch, entry.as_ref())?;
            }
            Ok(put)
        };
        self.writer.change(Urgency::Normal, change).await
    }

    pub(in crate::store) async fn list_operator_tokens(&self) -> Result<Vec<OperatorTokenRecord>, Error> {
        let sql = format!("SELECT {TOKEN} FROM operator_token t ORDER BY t.id DESC");
        self.kept.read(async |s| s.rows(&sql, &[]).await?.iter().map(|row| token(row, 0)).collect()).await
    }

    pub(in crate::store) async fn find_operator_token(
        &self,
        id: OperatorTokenId,
    ) -> Result<Option<(OperatorTokenRecord, AccountRecord)>, Error> {
        let sql = format!("SELECT {ACCOUNT}, {TOKEN} FROM operator_token t JOIN account a ON a.id = t.account_id WHERE t.id = $1");
        let read = |row: Row| Ok((token(&row, ACCOUNT_COLUMNS)?, account(&row)?));
        self.kept.read(async |s| s.row(&sql, &[&id.0]).await?.map(read).transpose()).await
    }

    pub(in crate::store) async fn put_operator_token(
        &self,
        before: Option<Seal>,
        record: OperatorTokenRecord,
        entry: Option<AuditEntry>,
    ) -> Result<bool, Error> {
        let change = async move |batch: &mut Batch<'_>| {
            keys::refuse_retired(batch.session, &[record.seal.key]).await?;
            let OperatorTokenRecord { token, digest, seal } = &record;
            let columns = ["id", "account_id", "name", "created_at", "expires_at", "revoked_at", "digest", "key_id", "seal"];
            let (expires, revoked) = (token.expires_at.map(Timestamp::millis), token.revoked_at.map(Timestamp::millis));
            let values: [&(dyn ToSql + Sync); 9] = [
                &token.id.0,
                &token.account.0,
                &token.name.as_str(),
                &token.created_at.millis(),
                &expires,
                &revoked,
                &digest.as_slice(),
                &i64::from(seal.key),
                &seal.mac.as_slice(),
            ];
            let done = put(batch.session, "operator_token", &columns, &values, before).await?;
            if done {
                note(batch, entry.as_ref())?;
            }
            Ok(done)
        };
        self.writer.change(Urgency::Normal, change).await
    }

    pub(in crate::store) async fn insert_session(
        &self,
        before: Seal,
        account: AccountRecord,
        session: SessionRecord,
        entry: AuditEntry,
    ) -> Result<bool, Error> {
        let change = async move |batch: &mut Batch<'_>| {
            if put_account(batch.session, Some(before), &account).await? != Put::Done {
                return Ok(false);
            }
            keys::refuse_retired(batch.session, &[session.seal.key]).await?;
            let SessionRecord { id, account, generation, created_at, seen_at, seal } = &session;
            let columns = ["id", "account_id", "generation", "created_at", "seen_at", "key_id", "seal"];
            let values: [&(dyn ToSql + Sync); 7] = [
                &id.as_slice(),
                &account.0,
                &i64::from(*generation),
                &created_at.millis(),
                &seen_at.millis(),
                &i64::from(seal.key),
                &seal.mac.as_slice(),
            ];
            put(batch.session, "operator_session", &columns, &values, None).await?;
            batch.note(entry.clone())?;
            Ok(true)
        };
        self.writer.change(Urgency::Normal, change).await
    }

    pub(in crate::store) async fn find_session(&self, id: [u8; 32]) -> Result<Option<(SessionRecord, AccountRecord)>, Error> {
        let sql = format!("SELECT {ACCOUNT}, {SESSION} FROM operator_session s JOIN account a ON a.id = s.account_id WHERE s.id = $1");
        let read = |row: Row| Ok((session(&row, ACCOUNT_COLUMNS)?, account(&row)?));
        self.kept.read(async |s| s.row(&sql, &[&id.as_slice()]).await?.map(read).transpose()).await
    }

    pub(in crate::store) async fn touch_session(&self, id: [u8; 32], at: Timestamp) -> Result<(), Error> {
        let sql = "UPDATE operator_session SET seen_at = greatest(seen_at, $2) WHERE id = $1";
        self.kept.read(async |s| s.execute(sql, &[&id.as_slice(), &at.millis()]).await.map(drop)).await
    }

    pub(in crate::store) async fn remove_session(&self, id: [u8; 32], entry: AuditEntry) -> Result<(), Error> {
        let change = async move |batch: &mut Batch<'_>| {
            let removed = batch.session.execute("DELETE FROM operator_session WHERE id = $1", &[&id.as_slice()]).await?;
            note(batch, (removed > 0).then_some(&entry))
        };
        self.writer.change(Urgency::Normal, change).await
    }

    pub(in crate::store) async fn forget_sessions(&self, created: Timestamp, seen: Timestamp) -> Result<(), Error> {
        let sql = "DELETE FROM operator_session WHERE created_at < $1 OR seen_at < $2";
        self.kept.read(async |s| s.execute(sql, &[&created.millis(), &seen.millis()]).await.map(drop)).await
    }
}
