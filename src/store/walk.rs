//! Walking over tokens, for whoever looks for what no index answers.

use super::{Error, Record, Store, on};
use crate::domain::{Order, Scope, Timestamp, TokenId};

/// Rows to walk over, in the order of their ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    /// In this half of a platform; in all of them.
    pub(crate) scope: Option<Scope>,
    /// Both ends included.
    pub(crate) span: (TokenId, TokenId),
    /// From which end.
    pub(crate) order: Order,
    /// At most so many.
    pub(crate) rows: usize,
}

/// What was walked over.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Each with when it was last used.
    pub(crate) records: Vec<(Record, Option<Timestamp>)>,
    /// The last row; rows that can't be read count.
    pub(crate) last: Option<TokenId>,
    /// How many rows there were.
    pub(crate) rows: usize,
}

impl Store {
    /// Walks over rows, whatever is in them.
    pub(crate) async fn walk_tokens(&self, walk: Walk) -> Result<Walked, Error> {
        on!(self, s => s.walk_tokens(walk).await)
    }
}
