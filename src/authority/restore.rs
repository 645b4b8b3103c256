//! Going on behind a database that was put back to an earlier state: what ended since then ends again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt as _, stream};

use super::{Authority, Clock, Entropy, Error, Options, journal::Journal};
use crate::{
    domain::{Action, AuditEntry, Invalid, Operator, PlatformId, TokenId},
    store::{self, Mark, Store},
};

/// Tokens that are being ended at once: they share commits.
const AT_ONCE: usize = 256;

/// What was taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakenIn {
    /// Tokens that ended again.
    pub tokens: u64,
    /// Platforms that were disabled again.
    pub platforms: u64,
    /// Servers whose last place is not in the database: they go on now.
    pub servers: u64,
}

impl Authority {
    /// Opens a database that was restored, or any other, for [`Authority::after_restore`].
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub async fn open_restored(options: Options, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, String> {
        Self::open_by(Store::open_held, options, clock, entropy).await
    }

    /// Ends what these journals say has ended, or `all` tokens, each with its audit entry; lets the servers that wrote the
    /// journals go on with the database as it is, and others start on it. Tokens and platforms that the database lacks are
    /// passed over. Interrupted, it can be done again.
    ///
    /// # Errors
    /// [`Error::Invalid`]: no journal begins early enough. [`Error::Unavailable`]: one is of another database, or the
    /// database cannot be written. Nothing starts on a restored database then.
    pub async fn after_restore(self: &Arc<Self>, by: &Operator, journals: &[Journal], all: bool) -> Result<TakenIn, Error> {
        let installation = self.store.installation().await?;
        if journals.iter().any(|journal| journal.installation != installation) {
            return Err(Error::Unavailable("a journal is of another database".to_owned()));
        }
        let mut ended: BTreeSet<TokenId> = journals.iter().flat_map(|journal| &journal.ended).copied().collect();
        if all {
            ended.extend(self.live_tokens().await?);
        }
        let (mut lost, mut covered) = (Vec::new(), all);
        // What a journal says last of a platform counts, and of several journals the one that says it at the latest place;
        // but places of a history that was lost do not compare, and there the safe side is to disable.
        let (mut platforms, mut disabled) = (BTreeMap::<PlatformId, (u64, bool)>::new(), BTreeSet::new());
        for journal in journals {
            let is_lost = !self.is_of_this_history(journal.mark).await?;
            lost.extend(is_lost.then_some(journal.mark));
            covered |= self.is_covered_by(journal).await?;
            for (id, change) in &journal.platforms {
                disabled.extend((is_lost && change.1).then_some(*id));
                platforms.entry(*id).and_modify(|known| *known = (*known).max(*change)).or_insert(*change);
            }
        }
        if !covered {
            let problem = "must begin before the state that the database is in: of what ended in between none of these knows; \
                           give an older one, or say --invalidate-all";
            return Err(Invalid::one("--journal", "coverage", problem).into());
        }
        disabled.extend(platforms.into_iter().filter(|(_, (_, disabled))| *disabled).map(|(id, _)| id));

        let mut taken_in = TakenIn::default();
        for id in disabled {
            taken_in.platforms += u64::from(self.disable_again(by, id).await?);
        }
        let mut ending = stream::iter(ended).map(|id| self.end_again(by, id)).buffer_unordered(AT_ONCE);
        while let Some(ended) = ending.next().await {
            taken_in.tokens += u64::from(ended?);
        }
        taken_in.servers = lost.len() as u64;
        let counts = [("tokens", taken_in.tokens), ("platforms", taken_in.platforms), ("servers", taken_in.servers)];
        let detail = counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
        let entry = AuditEntry { actor: by.actor(), request: by.request.clone(), ..self.system_entry(Action::Restore, None, detail) };
        // Last: only now nothing is missing any more.
        self.store.insert_lost_marks(lost, entry).await?;
        self.settle(None, true).await?;
        self.store.release().await?;
        Ok(taken_in)
    }

    async fn live_tokens(&self) -> Result<Vec<TokenId>, Error> {
        let live = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&live);
        let note = move |record: store::Record| found.lock().unwrap_or_else(PoisonError::into_inner).push(record.token.id);
        self.store.visit_live_tokens(note).await?;
        Ok(std::mem::take(&mut *live.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Says whether it had not ended.
    async fn end_again(self: &Arc<Self>, by: &Operator, id: TokenId) -> Result<bool, Error> {
        match self.locate_token(by, id).await {
            // Created since, or edited: either way nobody accepts it.
            Err(Error::NotFound) => Ok(false),
            Err(e) => Err(e),
            Ok(caller) => match self.end(&caller, id).await {
                Ok((_, seq)) => Ok(seq.is_some()),
                Err(Error::NotFound | Error::Tampered) => Ok(false),
                Err(e) => Err(e),
            },
        }
    }

    async fn disable_again(self: &Arc<Self>, by: &Operator, id: PlatformId) -> Result<bool, Error> {
        match self.get_platform(by, id).await {
            Ok(platform) if platform.disabled_at.is_none() => match self.set_platform_disabled(by, id, true).await {
                Ok(_) => Ok(true),
                Err(Error::Tampered) => Ok(false),
                Err(e) => Err(e),
            },
            Ok(_) | Err(Error::NotFound) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether a journal knows everything that ended behind the state that the database is in: it goes on without a gap from
    /// any of its places, so one that is in this history will do. Its first is mostly in a part of the log that was pruned.
    async fn is_covered_by(&self, journal: &Journal) -> Result<bool, Error> {
        let end = self.store.load().await?.mark.seq;
        let latest = journal.marks.iter().rfind(|mark| mark.seq <= end).copied();
        for mark in [Some(journal.first), latest].into_iter().flatten() {
            if self.is_of_this_history(mark).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn is_of_this_history(&self, mark: Mark) -> Result<bool, Error> {
        match self.store.changes_after(mark, self.clock.boot()).await {
            Ok(_) => Ok(true),
            Err(store::Error::Rewound { taken_in }) => Ok(taken_in),
            // Nobody can tell: as if it were not.
            Err(store::Error::Pruned) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}
