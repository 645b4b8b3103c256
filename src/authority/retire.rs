//! Retiring a key: what lives by it ends.
//!
//! Accounts and tokens of operators, and bulk revokes, are sealed anew first. Then one transaction does so with what
//! processes have in memory and needs no secret for it (platforms, operations), and says that the key is retired. From then
//! on no process accepts or makes anything under it; so all its tokens are dead at one place of the feed, and none can join
//! or leave them. Then each is ended as any token is, so that lists, totals, journals and the audit log say so.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BinaryHeap},
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{StreamExt as _, stream};

use super::{Authority, Error, Receipt, keyring::Seen};
use crate::{
    domain::{Action, Invalid, Owner, PlatformId, Token},
    store::{OperationsRecord, PlatformRecord},
};

/// Tokens that are being ended at once: they share commits.
const AT_ONCE: usize = 256;
/// Tokens that are told one by one.
const TOLD: usize = 100;

/// What retiring a key would end, as it was when it was asked.
#[derive(Debug)]
pub struct Retirement {
    /// The key.
    pub key: u32,
    /// The place of the feed at which it was asked: nothing that was made up to there is missing.
    pub seq: u64,
    /// How many live tokens are under it.
    pub count: u64,
    /// Whose they are.
    pub platforms: BTreeMap<PlatformId, u64>,
    /// The first hundred of them, oldest first.
    pub first: Vec<Token>,
}

/// What retiring a key has ended.
#[derive(Debug)]
pub struct Retired {
    /// All that was left to end, of which the first hundred that have.
    pub of: Retirement,
    /// So many tokens.
    pub ended: u64,
    /// How many are dead, and not ended yet: retired again, the key ends them.
    pub left: u64,
    /// Since when that is so everywhere.
    pub receipt: Receipt,
}

/// All tokens that live by a key: whose, and the oldest of them.
struct Under {
    platforms: BTreeMap<PlatformId, u64>,
    oldest: Oldest,
}

/// The oldest of all tokens that come along.
struct Oldest {
    most: usize,
    seen: u64,
    tokens: BinaryHeap<ById>,
}

struct ById(Token);

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ById {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

impl Oldest {
    const fn new(most: usize) -> Self {
        Self { most, seen: 0, tokens: BinaryHeap::new() }
    }

    fn note(&mut self, token: Token) {
        self.seen += 1;
        self.tokens.push(ById(token));
        if self.tokens.len() > self.most {
            self.tokens.pop();
        }
    }

    fn into_tokens(self) -> Vec<Token> {
        self.tokens.into_sorted_vec().into_iter().map(|ById(token)| token).collect()
    }
}

impl Authority {
    /// What retiring a key would end. Reads all tokens.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such key here, [`Error::KeyActive`], [`Error::Unavailable`].
    pub async fn plan_retirement(&self, _by: &Owner, key: u32) -> Result<Retirement, Error> {
        self.refuse_active(key).await?;
        // Before the tokens are read: one that is made meanwhile is on both sides.
        let seq = self.last_place().await?;
        let Under { platforms, oldest } = self.under(key, TOLD).await?;
        Ok(Retirement { key, seq, count: oldest.seen, platforms, first: oldest.into_tokens() })
    }

    /// Refuses the key that is active here, or is to be from the next SIGHUP on: nothing would start by the key file any more.
    async fn refuse_active(&self, key: u32) -> Result<(), Error> {
        self.keyring.get(key).ok_or(Error::NotFound)?;
        if self.keyring.active().id() == key || self.active_in_file().await == Some(key) {
            return Err(Error::KeyActive);
        }
        Ok(())
    }

    async fn last_place(&self) -> Result<u64, Error> {
        Ok(self.store.load().await?.mark.seq)
    }

    /// All live tokens under a key, and so many of them.
    async fn under(&self, key: u32, most: usize) -> Result<Under, Error> {
        let start = Under { platforms: BTreeMap::new(), oldest: Oldest::new(most) };
        let note = |under: &mut Under, token: Token| {
            *under.platforms.entry(token.scope.platform).or_default() += 1;
            under.oldest.note(token);
        };
        self.fold_under(key, start, note).await
    }

    /// Tells all live tokens under a key but those whose rows were edited: these are refused in any case, and never end.
    async fn fold_under<T: Send + 'static>(&self, key: u32, start: T, note: fn(&mut T, Token)) -> Result<T, Error> {
        let state = Arc::new(Mutex::new(Some(start)));
        let (noted, keyring) = (Arc::clone(&state), Arc::clone(&self.keyring));
        let visit = move |record| {
            if keyring.see_token(&record) != Seen::Edited
                && let Some(state) = &mut *noted.lock().unwrap_or_else(PoisonError::into_inner)
            {
                note(state, record.token);
            }
        };
        self.store.visit_live_tokens(Some(key), visit).await?;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner).take();
        state.ok_or_else(|| Error::Unavailable("the tokens under the key were not read to their end".to_owned()))
    }

    /// Retires a key, if it ends no more tokens than are `expected`, of which none was made behind the place `since`: when
    /// this returns, no process accepts anything under it, and the first `most` of its tokens have ended. Tokens that have
    /// moved to another key go on. With some left, or interrupted, it is done again; then all of them are dead already, and
    /// it ends however many there are.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::KeyActive`], [`Error::OtherCount`], [`Error::KeyUsed`]; [`Error::Invalid`] if the feed
    /// has no such place yet; [`Error::Unavailable`].
    pub async fn retire_key(self: &Arc<Self>, by: &Owner, key: u32, expected: u64, since: u64, most: usize) -> Result<Retired, Error> {
        self.refuse_active(key).await?;
        // The database says which keys are retired: a key file may say so of one that lives elsewhere.
        let known = self.store.list_canaries().await?;
        let seq = match known.iter().any(|canary| canary.key == key && canary.retired_at.is_some()) {
            true => self.last_place().await?,
            false => self.say_retired(by, key, expected, since).await?,
        };
        self.put_keys(&self.store.list_canaries().await?);
        self.settle(Some(seq), true).await?;
        let Under { platforms, oldest } = self.under(key, most).await?;
        let count = oldest.seen;
        let (mut last, mut gone, mut ended, mut first) = (seq, 0, 0, Oldest::new(TOLD));
        let mut ending = stream::iter(oldest.into_tokens()).map(|token| self.end_dead(by, token)).buffer_unordered(AT_ONCE);
        while let Some(now) = ending.next().await {
            gone += 1;
            if let Some((token, seq)) = now? {
                last = last.max(seq);
                ended += 1;
                first.note(token);
            }
        }
        let of = Retirement { key, seq, count, platforms, first: first.into_tokens() };
        Ok(Retired { of, ended, left: count - gone, receipt: self.receipt(Some(last)).await? })
    }

    /// Says that a key is retired, which it was not; returns the place.
    async fn say_retired(&self, by: &Owner, key: u32, expected: u64, since: u64) -> Result<u64, Error> {
        if since > self.last_place().await? {
            return Err(Invalid::one("seq", "out_of_range", "is no place that a dry run has answered").into());
        }
        // Fewer is what was expected: tokens move to the active key as they are used. Before they are read nothing is done.
        let count = self.fold_under(key, 0, |count: &mut u64, _| *count += 1).await?;
        if count > expected {
            return Err(Error::OtherCount(count));
        }
        // Keys are activated one after the other: by one that is newer than ours, somebody else makes tokens.
        if count > 0 && key > self.keyring.active().id() {
            return Err(Error::KeyUsed);
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
        self.store.retire_key(key, since, entry, (platform, operations)).await?.ok_or(Error::KeyUsed)
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
