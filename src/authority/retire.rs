//! Retiring a key: what lives by it ends.
//!
//! Accounts and tokens of operators, and bulk revokes, are sealed anew first. Then one transaction does so with what processes have in memory and
//! needs no secret for it (platforms, operations), and says that the key is retired. From
//! then on no process accepts or makes anything under it; so all its tokens are dead at one place of the feed, and none can
//! join or leave them. Then each is ended as any token is, so that lists, totals, journals and the audit log say so.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};

use super::{Authority, Error, Receipt, keyring::Seen};
use crate::{
    domain::{Action, Invalid, Owner, Token},
    store::{OperationsRecord, PlatformRecord, Record},
};

/// Tokens that are being ended at once: they share commits.
const AT_ONCE: usize = 256;

/// What retiring a key would end, as it was when it was asked.
#[derive(Debug)]
pub struct Retirement {
    /// The key.
    pub key: u32,
    /// The live tokens under it, oldest first.
    pub tokens: Vec<Token>,
    /// All that was made up to here is among them.
    since: u64,
}

/// What retiring a key has ended.
#[derive(Debug)]
pub struct Retired {
    /// These tokens.
    pub tokens: Vec<Token>,
    /// Since when that is so everywhere.
    pub receipt: Receipt,
}

impl Authority {
    /// What retiring a key would end. Reads all tokens.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is the active one or none, [`Error::Unavailable`].
    pub async fn plan_retirement(&self, _by: &Owner, key: u32) -> Result<Retirement, Error> {
        if self.keyring.get(key).is_none() {
            return Err(Invalid::one("the id", "key", "is no key of the key file; see countersign keys list").into());
        }
        if self.keyring.active().id() == key {
            return Err(
                Invalid::one("the key", "active", "is the active key; activate another one first (countersign keys activate)").into()
            );
        }
        // Before the tokens are read: one that is made meanwhile is on both sides.
        let since = self.store.load().await?.mark.seq;
        let mut tokens: Vec<_> = self.live_under(key).await?.into_iter().map(|record| record.token).collect();
        tokens.sort_by_key(|token| token.id);
        Ok(Retirement { key, tokens, since })
    }

    async fn live_under(&self, key: u32) -> Result<Vec<Record>, Error> {
        let found = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&found);
        let note = move |record| noted.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        self.store.visit_live_tokens(Some(key), note).await?;
        Ok(std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Retires a key as planned: when this returns, no process accepts anything under it, and its tokens have ended; none but
    /// those of the plan, and of these only those that live by it still. Interrupted, it can be done again.
    ///
    /// # Errors
    /// [`Error::Invalid`] if tokens live by it and it is not forced, or if some were made with it since it was planned;
    /// [`Error::Unavailable`].
    pub async fn retire_key(self: &Arc<Self>, by: &Owner, plan: &Retirement, force: bool) -> Result<Retired, Error> {
        let key = plan.key;
        if !force && !plan.tokens.is_empty() {
            let tokens = match plan.tokens.len() {
                1 => "one live token".to_owned(),
                tokens => format!("{tokens} live tokens"),
            };
            return Err(Invalid::one("the key", "in_use", format!("is in use: {tokens} would end; --force does it")).into());
        }
        let (for_platforms, for_operations) = (Arc::clone(&self.keyring), Arc::clone(&self.keyring));
        // An edited row is not sealed again: what was forged would become genuine.
        let platform = move |before: &PlatformRecord| {
            (for_platforms.see_platform(before) == Seen::Intact).then(|| for_platforms.seal_platform(before.platform.clone()))
        };
        let operations = move |before: &OperationsRecord| {
            let intact = for_operations.see_operations(before) == Seen::Intact;
            intact.then(|| for_operations.seal_operations(before.document.clone(), before.loaded_at))
        };
        self.reseal_operators(key).await?;
        self.reseal_bulk_revokes(key).await?;
        let entry = self.key_entry(by, Action::KeysRetire, key);
        let Some(seq) = self.store.retire_key(key, plan.since, entry, (platform, operations)).await? else {
            let problem = "was used for a new token just now: some server has it as its active key still; give all of them the key file, send SIGHUP, and run this again";
            return Err(Invalid::one("the key", "in_use", problem).into());
        };
        self.put_keys(&self.store.list_canaries().await?);
        self.settle(Some(seq), true).await?;
        let left: Vec<_> = self.live_under(key).await?.into_iter().map(|record| record.token).collect();
        let (mut last, mut tokens) = (seq, Vec::new());
        let mut ending = stream::iter(left).map(|token| self.end_dead(by, token)).buffer_unordered(AT_ONCE);
        while let Some(ended) = ending.next().await {
            if let Some((token, seq)) = ended? {
                last = last.max(seq);
                tokens.push(token);
            }
        }
        Ok(Retired { tokens, receipt: self.receipt(Some(last)).await? })
    }

    /// Ends a token that nobody accepts any more; returns it with the place of that, unless it had ended before.
    async fn end_dead(self: &Arc<Self>, by: &Owner, token: Token) -> Result<Option<(Token, u64)>, Error> {
        match self.end(&by.within(token.scope), token.id).await {
            Ok((record, seq)) => Ok(seq.map(|seq| (record.token, seq))),
            // Edited: refused in any case.
            Err(Error::NotFound | Error::Tampered) => Ok(None),
            Err(e) => Err(e),
        }
    }
}
