//! Looking for tokens, as operators do: over all platforms, by parts of names and by use.
//!
//! No index answers all of that, and none is made for it: it would cost every create. Rows are walked over in the order of
//! their ids instead, and at most so many of them a page, so that a page takes as long however many tokens there are; whoever
//! looks for something rare goes on from where it stopped.

use super::{Authority, Error};
use crate::{
    domain::{Operator, Timestamp, Token, TokenId, TokenSearch},
    store::Walk,
};

/// Rows that are walked over for a page, at the most: some 30 ms.
const MOST: usize = 10_000;
/// Rows that are read at first; then twice as many each time.
const FIRST: usize = 256;

/// A token that was looked for.
#[derive(Debug)]
pub struct Found {
    /// The token.
    pub token: Token,
    /// When it was last used, as far as servers have written it.
    pub last_used_at: Option<Timestamp>,
}

/// A page of them.
#[derive(Debug)]
pub struct FoundPage {
    /// In the order that was asked for.
    pub found: Vec<Found>,
    /// Where to go on, if there may be more; it need not be one of those found.
    pub next: Option<TokenId>,
}

impl Authority {
    /// Looks for tokens. The staff of one platform look in one half of that.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the platform is not there for them, [`Error::RoleLacking`] if they name none,
    /// [`Error::Unavailable`].
    pub async fn search_tokens(&self, by: &Operator, search: &TokenSearch) -> Result<FoundPage, Error> {
        may_look(by, search)?;
        self.look(search, search.limit.get()).await
    }

    /// The next tokens of a search behind its place, at most so many, for whoever may look.
    pub(super) async fn look(&self, search: &TokenSearch, most: usize) -> Result<FoundPage, Error> {
        let (mut found, mut after, mut walked, mut rows) = (Vec::new(), search.after, 0, FIRST);
        loop {
            let walk = Walk { scope: search.scope, span: search.span(after), order: search.order, rows };
            let page = self.store.walk_tokens(walk).await?;
            for (record, last_used_at) in page.records {
                if !search.matches(&record.token, last_used_at) || !self.is_intact(&record)? {
                    continue;
                }
                if found.len() == most {
                    return Ok(FoundPage { next: found.last().map(|found: &Found| found.token.id), found });
                }
                found.push(Found { token: record.token, last_used_at });
            }
            walked += page.rows;
            if page.rows < rows {
                return Ok(FoundPage { found, next: None });
            }
            after = page.last;
            if walked >= MOST {
                return Ok(FoundPage { found, next: after });
            }
            rows = (rows * 2).min(MOST - walked);
        }
    }
}

/// The staff of one platform look in one half of that.
pub(super) fn may_look(by: &Operator, search: &TokenSearch) -> Result<(), Error> {
    match search.scope {
        None => Ok(by.may_oversee()?),
        Some(scope) if !by.sees(scope.platform) => Err(Error::NotFound),
        Some(_) => Ok(()),
    }
}
