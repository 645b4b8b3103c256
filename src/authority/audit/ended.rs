//! What the log says has ended, or may no more: held against rows that live. An old row that was put back whole is as it was
//! sealed, and only the log knows better.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use crate::{
    domain::{Action, BulkId, BulkState, OperatorTokenId, PlatformId, RecordedEntry, Role, TokenId},
    store::{AccountRecord, OperatorTokenRecord, PlatformRecord, Record, Sealed},
};

const PUT_BACK: &str = "an old row was put back";

/// What is so since a place of the log.
pub(super) type Since<T> = (u64, T);

/// What the log says, as far as it was read.
#[derive(Default)]
pub(super) struct Ended {
    /// Tokens, and where each ended.
    pub(super) tokens: HashMap<TokenId, u64>,
    /// Platforms that are disabled, and since which place.
    pub(super) platforms: HashMap<PlatformId, u64>,
    /// Accounts by their names.
    pub(super) accounts: HashMap<String, AccountSays>,
    /// Tokens of operators, and where each ended.
    pub(super) operator_tokens: HashMap<OperatorTokenId, u64>,
    /// Bulk revokes, and where each was stopped.
    pub(super) bulks: HashMap<BulkId, u64>,
}

/// What the log says of an account last.
#[derive(Default, Clone, Copy)]
pub(super) struct AccountSays {
    pub(super) disabled: Option<Since<bool>>,
    pub(super) role: Option<Since<Role>>,
}

impl AccountSays {
    /// Takes in an entry, which is behind those before.
    pub(super) fn note(&mut self, seq: u64, detail: &Value) {
        if let Some(disabled) = detail["disabled"].as_bool() {
            self.disabled = Some((seq, disabled));
        }
        if let Some(role) = detail["role"].as_str().and_then(Role::parse) {
            self.role = Some((seq, role));
        }
        // Of a row that was edited, resetting it leaves the least role, and does not say so.
        if detail["reset"] == true {
            self.role = None;
        }
    }

    /// Up to which place of the log it is known at least.
    pub(super) fn since(&self) -> u64 {
        self.disabled.map_or(0, |(seq, _)| seq).max(self.role.map_or(0, |(seq, _)| seq))
    }

    /// In what a row differs from that, which is more than it may.
    pub(super) fn differs(&self, record: &AccountRecord) -> Option<(u64, String)> {
        let account = &record.account;
        let name = account.name.as_str();
        match (self.disabled, self.role) {
            (Some((seq, true)), _) if account.disabled_at.is_none() => {
                Some((seq, format!("operator {name} is enabled, although audit entry {seq} disabled them: {PUT_BACK}")))
            }
            (_, Some((seq, role))) if account.role > role => Some((
                seq,
                format!("operator {name} is {}, although audit entry {seq} made them {}: {PUT_BACK}", account.role.name(), role.name()),
            )),
            _ => None,
        }
    }
}

fn detail(recorded: &RecordedEntry) -> Value {
    serde_json::from_str(&recorded.entry.detail).unwrap_or_default()
}

impl Ended {
    pub(super) fn note(&mut self, recorded: &RecordedEntry) {
        let (entry, seq) = (&recorded.entry, recorded.seq);
        match (entry.action, entry.token, entry.platform) {
            (Action::TokenRevoke, Some(token), _) => drop(self.tokens.insert(token, seq)),
            (Action::PlatformDisable, _, Some(platform)) => drop(self.platforms.insert(platform, seq)),
            (Action::PlatformEnable, _, Some(platform)) => drop(self.platforms.remove(&platform)),
            (Action::OperatorCreate | Action::OperatorChange, ..) => {
                if let (Some(name), detail) = named(recorded) {
                    self.accounts.entry(name).or_default().note(seq, &detail);
                }
            }
            (Action::OperatorTokenRevoke, ..) => {
                let id = detail(recorded)["operatorToken"].as_str().and_then(|text| Uuid::try_parse(text).ok());
                id.map(|id| self.operator_tokens.insert(OperatorTokenId(id), seq));
            }
            (Action::TokenBulkRevokeStop, ..) => drop(stopped(recorded).map(|id| self.bulks.insert(id, seq))),
            _ => {}
        }
    }

    pub(super) fn is_any(&self) -> bool {
        !(self.tokens.is_empty()
            && self.platforms.is_empty()
            && self.accounts.is_empty()
            && self.operator_tokens.is_empty()
            && self.bulks.is_empty())
    }

    /// What a row says that the log knows better: since which place, and in a sentence.
    pub(super) fn held_against(&self, sealed: &Sealed) -> Option<(u64, String)> {
        match sealed {
            Sealed::Token(Record { token, .. }) if token.revoked_at.is_none() => self.live_token(token.id),
            Sealed::Platform(PlatformRecord { platform, .. }) if platform.disabled_at.is_none() => self.enabled_platform(platform.id),
            Sealed::Account(record) => self.accounts.get(record.account.name.as_str())?.differs(record),
            Sealed::OperatorToken(OperatorTokenRecord { token, .. }) if token.revoked_at.is_none() => {
                let seq = *self.operator_tokens.get(&token.id)?;
                Some((seq, format!("operator token {} is live, although audit entry {seq} ended it: {PUT_BACK}", token.id.0)))
            }
            Sealed::Bulk(record) if !matches!(record.bulk.state, BulkState::Stopped(_)) => {
                let seq = *self.bulks.get(&record.bulk.id)?;
                Some((seq, format!("bulk revoke {} goes on, although audit entry {seq} stopped it: {PUT_BACK}", record.bulk.id)))
            }
            _ => None,
        }
    }

    /// The same of a token that has not ended by its row.
    pub(super) fn live_token(&self, id: TokenId) -> Option<(u64, String)> {
        let seq = *self.tokens.get(&id)?;
        Some((seq, format!("{id} is live, although audit entry {seq} ended it: {PUT_BACK}")))
    }

    /// The same of a platform that is enabled by its row.
    pub(super) fn enabled_platform(&self, id: PlatformId) -> Option<(u64, String)> {
        let seq = *self.platforms.get(&id)?;
        Some((seq, format!("{id} is enabled, although audit entry {seq} disabled it: {PUT_BACK}")))
    }
}

/// Whom an entry about an operator names, and all that it says.
pub(super) fn named(recorded: &RecordedEntry) -> (Option<String>, Value) {
    let detail = detail(recorded);
    (detail["operator"].as_str().map(str::to_owned), detail)
}

/// Which bulk revoke an entry stops.
pub(in crate::authority) fn stopped(recorded: &RecordedEntry) -> Option<BulkId> {
    let entry = (recorded.entry.action == Action::TokenBulkRevokeStop).then(|| detail(recorded))?;
    BulkId::parse(entry["bulkRevoke"].as_str()?)
}
