//! Rows that have a seal, read back from what is copied.

use uuid::Uuid;

use super::{
    AccountRecord, BulkRecord, Checkpoint, Mark, OperationsRecord, OperatorTokenRecord, PlatformRecord, Record, Seal, split_proof,
    tables::{ACCOUNT, AUDIT, BULK_REVOKE, CHECKPOINT, OPERATIONS, OPERATOR_TOKEN, PLATFORM, TOKEN, Table, integer, values},
};
use crate::domain::{
    Account, AccountId, AccountName, Action, Actor, AuditEntry, BulkId, BulkRevoke, BulkState, Environment, Issuer, OperatorToken,
    OperatorTokenId, Permissions, Platform, PlatformId, RecordedEntry, RequestInfo, Role, Scope, Timestamp, Token, TokenId, TokenName,
    TokenSearch,
};

/// One of them.
pub(crate) enum Sealed {
    Token(Record),
    Platform(PlatformRecord),
    Operations(OperationsRecord),
    Account(AccountRecord),
    OperatorToken(OperatorTokenRecord),
    Bulk(Box<BulkRecord>),
    /// In the order of their places, as entries are.
    Checkpoint(Checkpoint),
    Entry(Box<RecordedEntry>, Seal),
}

/// The sealed record in a row, or, where it holds something that we never write, the row's name. `None` for rows that have no
/// seal.
pub(super) fn read(table: &Table, row: &[u8]) -> Option<Result<Sealed, String>> {
    let values = Values(values(row).collect());
    let read = match table.name {
        name if name == TOKEN.name => token(&values).map(Sealed::Token),
        name if name == PLATFORM.name => platform(&values).map(Sealed::Platform),
        name if name == OPERATIONS.name => operations(&values).map(Sealed::Operations),
        name if name == ACCOUNT.name => account(&values).map(Sealed::Account),
        name if name == OPERATOR_TOKEN.name => operator_token(&values).map(Sealed::OperatorToken),
        name if name == BULK_REVOKE.name => bulk(&values).map(|record| Sealed::Bulk(Box::new(record))),
        name if name == CHECKPOINT.name => checkpoint(&values).map(Sealed::Checkpoint),
        name if name == AUDIT.name => entry(&values).map(|(entry, seal)| Sealed::Entry(Box::new(entry), seal)),
        _ => return None,
    };
    Some(read.ok_or_else(|| {
        let id = values.id(0);
        match table.name {
            name if name == TOKEN.name => id.map(|id| TokenId(id).to_string()),
            name if name == PLATFORM.name => id.map(|id| PlatformId(id).to_string()),
            _ => None,
        }
        .unwrap_or_else(|| table.describe(row))
    }))
}

/// The values of a row, by column.
struct Values<'r>(Vec<Option<&'r [u8]>>);

impl Values<'_> {
    fn bytes(&self, at: usize) -> Option<&[u8]> {
        *self.0.get(at)?
    }

    fn id(&self, at: usize) -> Option<Uuid> {
        Uuid::from_slice(self.bytes(at)?).ok()
    }

    fn optional_id(&self, at: usize) -> Option<Option<Uuid>> {
        if self.0.get(at)?.is_some() { self.id(at).map(Some) } else { Some(None) }
    }

    fn text(&self, at: usize) -> Option<&str> {
        std::str::from_utf8(self.bytes(at)?).ok()
    }

    fn time(&self, at: usize) -> Option<Timestamp> {
        integer(self.bytes(at)?).map(Timestamp::from_millis)
    }

    fn optional_time(&self, at: usize) -> Option<Option<Timestamp>> {
        self.0.get(at)?.map_or(Some(None), |value| Some(Some(Timestamp::from_millis(integer(value)?))))
    }

    fn key(&self, at: usize) -> Option<u32> {
        integer(self.bytes(at)?)?.try_into().ok()
    }

    fn seal(&self, at: usize) -> Option<Seal> {
        Some(Seal { key: self.key(at)?, mac: self.bytes(at + 1)?.try_into().ok()? })
    }
}

fn token(v: &Values<'_>) -> Option<Record> {
    let (tag, digest, mac) = split_proof(v.bytes(9)?.try_into().ok()?);
    let token = Token {
        id: TokenId(v.id(0)?),
        scope: Scope { platform: PlatformId(v.id(1)?), environment: Environment::parse(v.text(2)?)? },
        name: TokenName::stored(v.text(3)?),
        permissions: Permissions::parse(v.text(4)?)?,
        tag,
        issuer: Issuer::parse(v.text(5)?)?,
        revocable: v.bytes(6)? == [1],
        revoked_at: v.optional_time(7)?,
    };
    Some(Record { token, digest, seal: Seal { key: v.key(8)?, mac } })
}

fn platform(v: &Values<'_>) -> Option<PlatformRecord> {
    let platform = Platform {
        id: PlatformId(v.id(0)?),
        name: TokenName::stored(v.text(1)?),
        created_at: v.time(2)?,
        disabled_at: v.optional_time(3)?,
    };
    Some(PlatformRecord { platform, seal: v.seal(4)? })
}

fn operations(v: &Values<'_>) -> Option<OperationsRecord> {
    Some(OperationsRecord { document: v.text(1)?.to_owned(), loaded_at: v.time(2)?, seal: v.seal(3)? })
}

fn account(v: &Values<'_>) -> Option<AccountRecord> {
    let account = Account {
        id: AccountId(v.id(0)?),
        name: AccountName::stored(v.text(1)?),
        role: Role::parse(v.text(2)?)?,
        platform: v.optional_id(3)?.map(PlatformId),
        created_at: v.time(4)?,
        disabled_at: v.optional_time(5)?,
    };
    Some(AccountRecord { account, generation: v.key(6)?, access: v.bytes(7)?.to_vec(), seal: v.seal(8)? })
}

fn operator_token(v: &Values<'_>) -> Option<OperatorTokenRecord> {
    let token = OperatorToken {
        id: OperatorTokenId(v.id(0)?),
        account: AccountId(v.id(1)?),
        name: TokenName::stored(v.text(2)?),
        created_at: v.time(3)?,
        expires_at: v.optional_time(4)?,
        revoked_at: v.optional_time(5)?,
    };
    Some(OperatorTokenRecord { token, digest: v.bytes(6)?.try_into().ok()?, seal: v.seal(7)? })
}

fn bulk(v: &Values<'_>) -> Option<BulkRecord> {
    let over_at = v.optional_time(9)?;
    let number = |at| integer(v.bytes(at)?)?.try_into().ok();
    let bulk = BulkRevoke {
        id: BulkId(v.id(0)?),
        operator: v.text(1)?.to_owned(),
        source: v.text(2)?.to_owned(),
        search: TokenSearch::parse_text(v.text(3)?)?,
        expected: number(4)?,
        created_at: v.time(5)?,
        place: v.optional_id(6)?.map(TokenId),
        ended: number(7)?,
        state: BulkState::of(v.text(8)?, over_at)?,
    };
    Some(BulkRecord { bulk, seal: v.seal(10)? })
}

fn checkpoint(v: &Values<'_>) -> Option<Checkpoint> {
    let mark = Mark { seq: integer(v.bytes(0)?)?.try_into().ok()?, mac: v.bytes(1)?.try_into().ok()? };
    Some(Checkpoint { mark, peaks: v.bytes(2)?.to_vec(), pruned: v.bytes(3)? == [1], seal: v.seal(4)? })
}

fn entry(v: &Values<'_>) -> Option<(RecordedEntry, Seal)> {
    let platform = v.optional_id(4)?.map(PlatformId);
    let environment = if v.0.get(5)?.is_some() { Some(Environment::parse(v.text(5)?)?) } else { None };
    let scope = match (platform, environment) {
        (Some(platform), Some(environment)) => Some(Scope { platform, environment }),
        (_, None) => None,
        (None, Some(_)) => return None,
    };
    let entry = AuditEntry {
        at: v.time(1)?,
        action: Action::parse(v.text(2)?)?,
        actor: Actor::parse(v.text(3)?)?,
        platform,
        scope,
        token: v.optional_id(6)?.map(TokenId),
        request: RequestInfo { id: v.text(7)?.to_owned(), source: v.text(8)?.to_owned() },
        detail: v.text(10)?.to_owned(),
    };
    Some((RecordedEntry { seq: integer(v.bytes(0)?)?.try_into().ok()?, node: v.text(9)?.to_owned(), entry }, v.seal(11)?))
}
