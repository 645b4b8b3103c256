//! Ending many tokens by one command: how far it is, kept with what it has ended.

use super::{Decision, Error, Record, Seal, Store, on};
use crate::domain::{AuditEntry, BulkId, BulkRevoke, TokenId};

/// A bulk revoke as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct BulkRecord {
    /// The bulk revoke.
    pub(crate) bulk: BulkRevoke,
    /// The proof.
    pub(crate) seal: Seal,
}

/// What to do with tokens that were read inside the transaction, each in its place; and how far their bulk revoke then is.
pub(crate) type Step = (Vec<Decision<Record>>, BulkRecord);

/// Tokens as they then are, each with the place of its change, if there was one.
pub(crate) type Ended = Vec<(Record, Option<u64>)>;

impl Store {
    /// The newest bulk revokes, at most so many.
    pub(crate) async fn list_bulks(&self, most: u16) -> Result<Vec<BulkRecord>, Error> {
        on!(self, s => s.list_bulks(most).await)
    }

    /// Those that are not over, oldest first.
    pub(crate) async fn running_bulks(&self) -> Result<Vec<BulkRecord>, Error> {
        on!(self, s => s.running_bulks().await)
    }

    /// One of them.
    pub(crate) async fn find_bulk(&self, id: BulkId) -> Result<Option<BulkRecord>, Error> {
        on!(self, s => s.find_bulk(id).await)
    }

    /// Commits one, with its audit entry if it has one: a new one, or in place of the one with that seal; says whether it did.
    pub(crate) async fn put_bulk(&self, before: Option<Seal>, record: BulkRecord, entry: Option<AuditEntry>) -> Result<bool, Error> {
        on!(self, s => s.put_bulk(before, record, entry).await)
    }

    /// Lets `decide` change tokens, and puts how far their bulk revoke then is in place of the row with that seal, all or
    /// nothing. Returns the tokens as they then are; `None`, and nothing, if somebody else was at it.
    pub(crate) async fn end_tokens<F>(&self, before: Seal, ids: Vec<TokenId>, decide: F) -> Result<Option<Ended>, Error>
    where
        F: FnMut(&[Record]) -> Step + Send + 'static,
    {
        on!(self, s => s.end_tokens(before, ids, decide).await)
    }
}
