//! Who runs platforms: accounts, their tokens, and who is signed in.
//!
//! No place of the feed is followed for these: they are read whenever somebody asks as an operator, so a change is true
//! everywhere at once.

use super::{Error, Seal, Store, on};
use crate::domain::{Account, AccountId, AccountName, AuditEntry, OperatorToken, OperatorTokenId, Timestamp};

/// An account as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct AccountRecord {
    /// The account.
    pub(crate) account: Account,
    /// Grows with every change after which nobody is signed in any more.
    pub(crate) generation: u32,
    /// How its holder gets in, encrypted.
    pub(crate) access: Vec<u8>,
    /// The proof.
    pub(crate) seal: Seal,
}

/// An operator's token as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct OperatorTokenRecord {
    /// The token.
    pub(crate) token: OperatorToken,
    /// SHA-256 of its secret.
    pub(crate) digest: [u8; 32],
    /// The proof.
    pub(crate) seal: Seal,
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub(crate) struct SessionRecord {
    /// SHA-256 of what their browser has.
    pub(crate) id: [u8; 32],
    /// Whose it is.
    pub(crate) account: AccountId,
    /// That of the account when they signed in.
    pub(crate) generation: u32,
    /// When that was.
    pub(crate) created_at: Timestamp,
    /// When they last asked for something; the seal does not cover it.
    pub(crate) seen_at: Timestamp,
    /// The proof.
    pub(crate) seal: Seal,
}

/// What became of an account that was to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It was committed.
    Done,
    /// Another account has the name.
    NameTaken,
    /// It is not, or no more, as it was read.
    Changed,
}

impl Store {
    /// All accounts, by name.
    pub(crate) async fn list_accounts(&self) -> Result<Vec<AccountRecord>, Error> {
        on!(self, s => s.list_accounts().await)
    }

    /// One account.
    pub(crate) async fn find_account(&self, name: AccountName) -> Result<Option<AccountRecord>, Error> {
        on!(self, s => s.find_account(name).await)
    }

    /// Commits an account, with its audit entry if it has one: a new one, or in place of the one with that seal.
    pub(crate) async fn put_account(&self, before: Option<Seal>, record: AccountRecord, entry: Option<AuditEntry>) -> Result<Put, Error> {
        on!(self, s => s.put_account(before, record, entry).await)
    }

    /// All tokens of operators, newest first.
    pub(crate) async fn list_operator_tokens(&self) -> Result<Vec<OperatorTokenRecord>, Error> {
        on!(self, s => s.list_operator_tokens().await)
    }

    /// One of them, with its account.
    pub(crate) async fn find_operator_token(&self, id: OperatorTokenId) -> Result<Option<(OperatorTokenRecord, AccountRecord)>, Error> {
        on!(self, s => s.find_operator_token(id).await)
    }

    /// As [`Store::put_account`], for a token of an operator; says whether it was done.
    pub(crate) async fn put_operator_token(
        &self,
        before: Option<Seal>,
        record: OperatorTokenRecord,
        entry: Option<AuditEntry>,
    ) -> Result<bool, Error> {
        on!(self, s => s.put_operator_token(before, record, entry).await)
    }

    /// Commits that somebody is signed in, with the account as it is from then on in place of the one with that seal; says
    /// whether it was done.
    pub(crate) async fn insert_session(
        &self,
        before: Seal,
        account: AccountRecord,
        session: SessionRecord,
        entry: AuditEntry,
    ) -> Result<bool, Error> {
        on!(self, s => s.insert_session(before, account, session, entry).await)
    }

    /// Who is signed in with that, with their account.
    pub(crate) async fn find_session(&self, id: [u8; 32]) -> Result<Option<(SessionRecord, AccountRecord)>, Error> {
        on!(self, s => s.find_session(id).await)
    }

    /// Notes that they have asked for something.
    pub(crate) async fn touch_session(&self, id: [u8; 32], at: Timestamp) -> Result<(), Error> {
        on!(self, s => s.touch_session(id, at).await)
    }

    /// Signs them out, with the audit entry.
    pub(crate) async fn remove_session(&self, id: [u8; 32], entry: AuditEntry) -> Result<(), Error> {
        on!(self, s => s.remove_session(id, entry).await)
    }

    /// Forgets who signed in before the first moment, or last asked for something before the second.
    pub(crate) async fn forget_sessions(&self, created: Timestamp, seen: Timestamp) -> Result<(), Error> {
        on!(self, s => s.forget_sessions(created, seen).await)
    }
}
