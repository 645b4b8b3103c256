//! Ending many tokens by one command.

use std::fmt;

use uuid::Uuid;

use super::{Actor, Operator, RequestInfo, Timestamp, Token, TokenId, TokenSearch};

/// The identity of a bulk revoke: a UUIDv7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BulkId(pub Uuid);

impl BulkId {
    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(Uuid::try_parse(text).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for BulkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How far one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkState {
    /// Some server is at it, or will be.
    Running,
    /// All are ended, and no server accepts any of them since then.
    Finished(Timestamp),
    /// An operator has stopped it then; what was ended by it stays so.
    Stopped(Timestamp),
}

impl BulkState {
    /// The state of that name, which is over since then.
    pub fn of(name: &str, over_at: Option<Timestamp>) -> Option<Self> {
        let all = [Some(Self::Running).filter(|_| over_at.is_none()), over_at.map(Self::Finished), over_at.map(Self::Stopped)];
        all.into_iter().flatten().find(|state| state.name() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished(_) => "finished",
            Self::Stopped(_) => "stopped",
        }
    }

    /// Since when it is over.
    pub const fn over_at(self) -> Option<Timestamp> {
        match self {
            Self::Running => None,
            Self::Finished(at) | Self::Stopped(at) => Some(at),
        }
    }
}

/// Many tokens that an operator has ended, or is ending: all that a search finds, and no more than were counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkRevoke {
    /// Which.
    pub id: BulkId,
    /// The name of the operator.
    pub operator: String,
    /// The address that they asked from; empty for a command.
    pub source: String,
    /// What is ended: live tokens that are created up to a moment that had passed when they were counted; oldest first.
    pub search: TokenSearch,
    /// How many the operator has said that it is; none is ended beyond that.
    pub expected: u64,
    /// When they asked.
    pub created_at: Timestamp,
    /// The last token that was looked at.
    pub place: Option<TokenId>,
    /// How many were ended.
    pub ended: u64,
    /// How far it is.
    pub state: BulkState,
}

impl BulkRevoke {
    /// Who ends the tokens, for the audit log.
    pub fn actor(&self) -> Actor {
        Actor::Operator(self.operator.clone())
    }

    /// What its entries of the audit log have in common.
    pub fn request(&self) -> RequestInfo {
        RequestInfo { id: format!("bulk-{}", self.id), source: self.source.clone() }
    }

    /// Whether a token may be among those that are ended. A platform's root tokens are not: without them nobody but an operator
    /// could issue tokens in its place, so they are ended one at a time.
    pub const fn may_end(token: &Token) -> bool {
        token.revoked_at.is_none() && token.revocable
    }

    /// Whether it is there for an operator.
    pub fn is_seen_by(&self, operator: &Operator) -> bool {
        operator.platform().is_none_or(|own| self.search.scope.is_some_and(|scope| scope.platform == own))
    }
}
