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

use super::{
    Authority, Error, Receipt,
    keyring::{Key, Seen},
};
use crate::{
    domain::{Action, Owner, PlatformId, Token},
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
    /// How many live tokens are under it.
    pub count: u64,
    /// Whose they are.
    pub platforms: BTreeMap<PlatformId, u64>,
    /// The first hundred of them, oldest first.
    pub first: Vec<Token>,
    /// All that was made up to here is among them.
    since: u64,
}

/// What retiring a key has ended.
#[derive(Debug)]
pub struct Retired {
    /// So many tokens.
    pub ended: u64,
    /// The first hundred of them, oldest first.
    pub first: Vec<Token>,
    /// How many are dead, and not ended yet: retired again, the key ends them.
    pub left: u64,
    /// Since when that is so everywhere.
    pub receipt: Receipt,
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
        if self.keyring.get(key).is_none() {
            return Err(Error::NotFound);
        }
        if self.keyring.active().id() == key {
            return Err(Error::KeyActive);
        }
        // Before the tokens are read: one that is made meanwhile is on both sides.
        let since = self.store.load().await?.mark.seq;
        let start = (BTreeMap::<PlatformId, u64>::new(), Oldest::new(TOLD));
        let (platforms, oldest) = self
            .fold_under(key, start, |(platforms, oldest), token| {
                *platforms.entry(token.scope.platform).or_default() += 1;
                oldest.note(token);
            })
            .await?;
        Ok(Retirement { key, count: oldest.seen, platforms, first: oldest.into_tokens(), since })
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

    /// Retires a key as planned, if it would end as many tokens as are `expected`: when this returns, no process accepts
    /// anything under it, and the first `most` of its tokens have ended; none but those of the plan, and of these only those
    /// that live by it still. With some left, or interrupted, it is planned and done again.
    ///
    /// # Errors
    /// [`Error::OtherCount`]; [`Error::KeyUsed`] since it was planned; [`Error::Unavailable`].
    pub async fn retire_key(self: &Arc<Self>, by: &Owner, plan: &Retirement, expected: u64, most: usize) -> Result<Retired, Error> {
        let key = plan.key;
        // What lives under a retired key is dead already, however many they are.
        if plan.count != expected && !self.keyring.get(key).is_some_and(Key::is_retired) {
            return Err(Error::OtherCount(plan.count));
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
            return Err(Error::KeyUsed);
        };
        self.put_keys(&self.store.list_canaries().await?);
        self.settle(Some(seq), true).await?;
        let dead = self.fold_under(key, Oldest::new(most), Oldest::note).await?;
        let seen = dead.seen;
        let (mut last, mut gone, mut ended, mut first) = (seq, 0, 0, Oldest::new(TOLD));
        let mut ending = stream::iter(dead.into_tokens()).map(|token| self.end_dead(by, token)).buffer_unordered(AT_ONCE);
        while let Some(now) = ending.next().await {
            gone += 1;
            if let Some((token, seq)) = now? {
                last = last.max(seq);
                ended += 1;
                first.note(token);
            }
        }
        Ok(Retired { ended, first: first.into_tokens(), left: seen - gone, receipt: self.receipt(Some(last)).await? })
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
