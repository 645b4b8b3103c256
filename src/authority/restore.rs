//! Going on behind a database that was put back to an earlier state: what ended since then ends again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt as _, stream};

use super::{Authority, Clock, Entropy, Error, Options, journal::Journal};
use crate::{
    domain::{Action, AuditEntry, Invalid, Owner, PlatformId, TokenId},
    store::{self, Mark, Store},
};

/// Tokens that are being ended at once: they share commits.
const AT_ONCE: usize = 256;
/// Tokens that are read at once to be ended with their key.
const PART: usize = 20_000;
/// So many that could not be ended are told by name; where there are more, it is the database that does not serve.
const TOLD: usize = 20;

/// What was taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TakenIn {
    /// Tokens that ended again.
    pub tokens: u64,
    /// Platforms that were disabled again.
    pub platforms: u64,
    /// Keys that were retired again, with all that lived by them.
    pub keys: u64,
    /// Journals whose last place is not in the database: the servers that wrote them go on now.
    pub journals: u64,
}

impl Authority {
    /// Opens a database that was restored, or any other, for [`Authority::after_restore`].
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub async fn open_restored(options: Options, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, String> {
        Self::open_by(Store::open_held, options, clock, entropy).await
    }

    /// Ends what these journals say has ended, or `all` tokens, each with its audit entry, and retires the keys that were; lets the servers that wrote the
    /// journals go on with the database as it is, and others start on it. Tokens and platforms that the database lacks are
    /// passed over. Interrupted, it can be done again.
    ///
    /// One that cannot be ended keeps no other from ending.
    ///
    /// # Errors
    /// [`Error::Invalid`]: no journal begins early enough, or there is a gap between them. [`Error::Unavailable`]: one is of
    /// another database, or something could not be ended, with its name. Nothing starts on a restored database then.
    pub async fn after_restore(self: &Arc<Self>, by: &Owner, journals: &[Journal], all: bool) -> Result<TakenIn, Error> {
        let installation = self.store.installation().await?;
        if journals.iter().any(|journal| journal.last.installation != installation) {
            return Err(Error::Unavailable("a journal is of another database".to_owned()));
        }
        let mut ended: BTreeSet<TokenId> = journals.iter().flat_map(|journal| &journal.ended).copied().collect();
        if all {
            ended.extend(self.live_tokens().await?);
        }
        if !all {
            self.refuse_gaps(journals).await?;
        }
        let mut lost = Vec::new();
        // What a journal says last of a platform counts, and of several journals the one that says it at the latest place;
        // but places of a history that was lost do not compare, and there the safe side is to disable.
        let (mut platforms, mut disabled) = (BTreeMap::<PlatformId, (u64, bool)>::new(), BTreeSet::new());
        for journal in journals {
            let is_lost = !self.is_of_this_history(journal.last.mark).await?;
            lost.extend(is_lost.then_some(journal.last.mark));
            for (id, change) in &journal.platforms {
                disabled.extend((is_lost && change.1).then_some(*id));
                platforms.entry(*id).and_modify(|known| *known = (*known).max(*change)).or_insert(*change);
            }
        }
        disabled.extend(platforms.into_iter().filter(|(_, (_, disabled))| *disabled).map(|(id, _)| id));

        let (mut taken_in, mut failed) = (TakenIn::default(), Vec::new());
        for key in journals.iter().flat_map(|journal| &journal.retired).collect::<BTreeSet<_>>() {
            match self.retire_again(by, *key).await {
                Ok(ended) => {
                    taken_in.keys += u64::from(ended.is_some());
                    taken_in.tokens += ended.unwrap_or_default();
                }
                Err(e) => failed.push(format!("what lives by key {key}: {e}")),
            }
        }
        for id in disabled {
            match self.disable_again(by, id).await {
                Ok(disabled) => taken_in.platforms += u64::from(disabled),
                Err(e) => failed.push(format!("{id}: {e}")),
            }
        }
        let mut ending = stream::iter(ended).map(async |id| (id, self.end_again(by, id).await)).buffer_unordered(AT_ONCE);
        while failed.len() < TOLD
            && let Some((id, ended)) = ending.next().await
        {
            match ended {
                Ok(ended) => taken_in.tokens += u64::from(ended),
                Err(e) => failed.push(format!("{id}: {e}")),
            }
        }
        if !failed.is_empty() {
            let more = if failed.len() < TOLD { "" } else { ", and perhaps others" };
            return Err(Error::Unavailable(format!("not everything could be ended again: {}{more}", failed.join("; "))));
        }
        taken_in.journals = lost.len() as u64;
        let counts =
            [("tokens", taken_in.tokens), ("platforms", taken_in.platforms), ("keys", taken_in.keys), ("journals", taken_in.journals)];
        let detail = counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
        let entry = AuditEntry { actor: by.actor(), request: by.request().clone(), ..self.system_entry(Action::Restore, None, detail) };
        // Last: only now nothing is missing any more.
        let sealed = lost.into_iter().map(|mark| (mark, self.keyring.seal_lost_mark(&mark))).collect();
        self.store.insert_lost_marks(sealed, entry).await?;
        self.settle(None, true).await?;
        self.store.release().await?;
        Ok(taken_in)
    }

    /// A journal knows what ended between any of its places and its last. So one must reach back to the state that the database
    /// is in, and every other one too, or begin not behind the last place of those before it.
    async fn refuse_gaps(&self, journals: &[Journal]) -> Result<(), Error> {
        let (mut reached, mut later) = (None, Vec::new());
        let end = self.store.load().await?.mark.seq;
        for journal in journals {
            match self.reaches_back(journal, end).await? {
                true => reached = reached.max(Some(journal.last.mark.seq)),
                false => later.push((journal.first.seq, journal.last.mark.seq)),
            }
        }
        later.sort_unstable();
        let refused = |must: &str, reached: u64, first: u64, give: &str| {
            let missing = match first.checked_sub(reached) {
                Some(1) => format!("in place {first}"),
                Some(2..) => format!("in places {} to {first}", reached + 1),
                // The database has gone on in another history.
                _ => format!("up to place {first} of what was lost"),
            };
            let given: Vec<_> = journals.iter().map(|journal| journal.reach().to_string()).collect();
            let problem =
                format!("{must}: of what ended {missing} none of these knows; give {give}, or say --invalidate-all ({})", given.join("; "));
            Err(Invalid::one("--journal", "coverage", problem).into())
        };
        let Some(mut reached) = reached else {
            let (here, first) = (self.store.load().await?.mark.seq, later.first().map_or(0, |(first, _)| *first));
            return refused("must begin before the state that the database is in", here, first, "an older one");
        };
        for (first, last) in later {
            if first > reached {
                return refused("must go on where another one ends", reached, first, "the one that lies between");
            }
            reached = reached.max(last);
        }
        Ok(())
    }

    async fn live_tokens(&self) -> Result<Vec<TokenId>, Error> {
        let live = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&live);
        let note = move |record: store::Record| found.lock().unwrap_or_else(PoisonError::into_inner).push(record.token.id);
        self.store.visit_live_tokens(None, note).await?;
        Ok(std::mem::take(&mut *live.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Says whether it had not ended.
    async fn end_again(self: &Arc<Self>, by: &Owner, id: TokenId) -> Result<bool, Error> {
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

    /// Says how many tokens ended with it, unless it was retired and nothing lived by it.
    async fn retire_again(self: &Arc<Self>, by: &Owner, key: u32) -> Result<Option<u64>, Error> {
        let known = self.store.list_canaries().await?;
        let Some(known) = known.iter().find(|canary| canary.key == key) else { return Ok(None) };
        let mut ended = 0;
        loop {
            let retired = self.retire_key(by, key, u64::MAX, self.store.load().await?.mark.seq, PART).await?;
            ended += retired.ended;
            if retired.left == 0 || retired.ended == 0 {
                return Ok((known.retired_at.is_none() || ended > 0).then_some(ended));
            }
        }
    }

    async fn disable_again(self: &Arc<Self>, by: &Owner, id: PlatformId) -> Result<bool, Error> {
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

    /// Whether a journal knows everything that ended behind the state that the database is in, whose feed goes to `end`. It goes
    /// on without a gap from any of its places, so one that is in this history will do: the first, mostly, or, where that is in
    /// a part of the log that was pruned, the last that is not behind the end.
    async fn reaches_back(&self, journal: &Journal, end: u64) -> Result<bool, Error> {
        if self.is_of_this_history(journal.first).await? {
            return Ok(true);
        }
        // Those of a history that was lost are passed over; they are as many as were changes since then.
        for mark in journal.marks.iter().rev().filter(|mark| mark.seq <= end) {
            match self.store.changes_after(*mark, self.clock.boot()).await {
                Err(store::Error::Rewound { taken_in: false }) => {}
                // Before this one even less can be told.
                Err(store::Error::Pruned) => return Ok(false),
                Ok(_) | Err(store::Error::Rewound { taken_in: true }) => return Ok(true),
                Err(e) => return Err(e.into()),
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
