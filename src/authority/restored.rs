//! What is left to do on a database that was restored: a token that was revoked since the backup is live in it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Authority, Clock, Entropy, Error, Options};
use crate::{
    domain::{Operator, Scope, TokenId},
    store::{self, Store},
};

/// Tokens that are being revoked at once: they share commits.
const AT_ONCE: usize = 256;

/// What to do about tokens that were revoked since a backup.
#[derive(Debug, Clone)]
pub enum Revocations {
    /// All tokens are revoked.
    All,
    /// Those that these journals name are revoked.
    Journals(Vec<PathBuf>),
}

impl Revocations {
    /// Whether they can be applied: to be asked before anything is copied.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::All => Ok(()),
            Self::Journals(_) => Err("journals of revocations cannot be read yet; use --invalidate-all".to_owned()),
        }
    }
}

impl Authority {
    /// Opens a database that was restored, or any other, for [`Authority::after_restore`].
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub async fn open_restored(options: Options, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, String> {
        Self::open_by(Store::open_held, options, clock, entropy).await
    }

    /// Revokes what must not be live any more, each with its audit entry, and then lets processes start on the database.
    /// Returns how many tokens were revoked. Interrupted, it can be done again.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; nothing starts on the database then.
    pub async fn after_restore(self: &Arc<Self>, by: &Operator, revocations: &Revocations) -> Result<u64, Error> {
        let revoked = match revocations {
            Revocations::All => self.revoke_all(by).await?,
            Revocations::Journals(_) => return Err(Error::Unavailable(revocations.check().err().unwrap_or_default())),
        };
        self.store.release().await?;
        Ok(revoked)
    }

    /// Revokes all tokens that are live, as an operator does. Edited rows are passed over: they are refused anyway.
    async fn revoke_all(self: &Arc<Self>, by: &Operator) -> Result<u64, Error> {
        let live = Arc::new(Mutex::new(Vec::<(Scope, TokenId)>::new()));
        let found = Arc::clone(&live);
        let keyring = Arc::clone(&self.keyring);
        let note = move |record: store::Record| {
            if keyring.is_intact(&record) {
                found.lock().unwrap_or_else(PoisonError::into_inner).push((record.token.scope, record.token.id));
            }
        };
        self.store.visit_live_tokens(note).await?;
        let live = std::mem::take(&mut *live.lock().unwrap_or_else(PoisonError::into_inner));
        let mut revoked = 0;
        for part in live.chunks(AT_ONCE) {
            let revoke = |(scope, id): &(Scope, TokenId)| self.revoke(by.within(*scope), *id);
            for ended in futures_util::future::join_all(part.iter().map(revoke)).await {
                revoked += u64::from(!ended?.already);
            }
        }
        Ok(revoked)
    }
}
