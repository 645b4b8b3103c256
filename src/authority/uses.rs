//! How often, when and where from tokens were used: counted in memory, written in batches, never on the way of a request.
//!
//! The index counts. Who counts the first use since the counts were last collected leaves the token's id here, so that
//! collecting looks at the tokens that were used and at no others. Nothing on the way of a request takes a lock.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    ops::Bound,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_queue::SegQueue;

use super::{Authority, Clock, Error, index::Index, sources::Sources};
use crate::{
    domain::{MayRead, Timestamp, TokenId, TokenUse, Use},
    store::KeptSince,
};

/// Tokens whose uses are written, and rows of counts that are removed, in one transaction: a revoke must not wait for a
/// million of them.
const AT_ONCE: usize = 1000;
/// Minutes that are kept in memory of all tokens together, about; but of each token so many at the least and at the most.
const KEPT: usize = 1 << 20;
const KEPT_OF_ONE: (usize, usize) = (3, 120);

const HOUR: i64 = 60 * 60 * 1000;
/// For how long the counts of minutes are stored: an hour longer than they are told.
const MINUTES_STORED: i64 = 25 * HOUR;
/// For how long those of days are: a day longer.
const DAYS_STORED: i64 = 366 * 24 * HOUR;
/// For how long addresses are, behind the last use from there.
const SOURCES_STORED: i64 = 90 * 24 * HOUR;

/// Uses that are not written yet.
#[derive(Default)]
pub(crate) struct Uses {
    touched: SegQueue<Touched>,
    /// None where addresses are not recorded.
    sources: Option<Sources>,
    collected: Mutex<BTreeMap<TokenId, Use>>,
    /// In which one it was collected last.
    second: AtomicU64,
    /// Held while uses are on their way to the store: neither here nor there, or in both.
    writing: tokio::sync::Mutex<()>,
    /// In which one old counts were removed last.
    hour: AtomicI64,
}

struct Touched {
    id: TokenId,
    at: Timestamp,
    /// Uses that the index does not count.
    uses: u32,
}

impl Uses {
    /// With addresses or without.
    pub(crate) fn new(sources: bool) -> Self {
        Self { sources: sources.then(Sources::new), ..Self::default() }
    }

    /// Notes that the index counts uses of a token, of which the first was now.
    pub(crate) fn touch(&self, id: TokenId, at: Timestamp) {
        self.touched.push(Touched { id, at, uses: 0 });
    }

    /// Notes a use of a token that is not in the index.
    pub(crate) fn note(&self, id: TokenId, at: Timestamp) {
        self.touched.push(Touched { id, at, uses: 1 });
    }

    /// Notes where a use came from that is counted besides. `boot` is now, by that clock.
    #[inline]
    pub(crate) fn note_source(&self, id: TokenId, address: IpAddr, boot: Duration, clock: &dyn Clock) {
        if let Some(sources) = &self.sources {
            sources.note(id, address, boot, clock);
        }
    }

    /// Gathers what was counted, if that was not done within a second: the more often, the more exactly known are the
    /// times of uses, and the more of them are the first ones of their token.
    pub(crate) fn collect_sometimes(&self, index: &Index, now: Timestamp, boot: Duration) {
        let second = boot.as_secs();
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.collect(index, now);
        }
    }

    /// Gathers what was counted since the last time.
    pub(crate) fn collect(&self, index: &Index, now: Timestamp) {
        let mut collected = self.collected();
        let touched = || std::iter::from_fn(|| self.touched.pop()).map(|touched| (touched.id, touched)).collect();
        index.take_uses(touched, |id, first, counted| {
            let uses = counted.saturating_add(first.uses);
            if uses == 0 {
                return;
            }
            let room = room(collected.len());
            let of_token = collected.entry(id).or_default();
            // Of the first one the moment is known; all others were between then and now.
            of_token.add(first.at, 1);
            if uses > 1 {
                of_token.add(first.at.max(now), uses - 1);
            }
            of_token.fold(room);
        });
        for noted in self.sources.iter().flat_map(Sources::take) {
            let room = room(collected.len());
            let of_token = collected.entry(noted.id).or_default();
            of_token.add_source(noted.address, noted.at);
            of_token.fold(room);
        }
    }

    fn collected(&self) -> MutexGuard<'_, BTreeMap<TokenId, Use>> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what was collected of a few tokens behind `after`, in the order of ids, in which rows lie on the disk.
    fn take(&self, after: Option<TokenId>, most: usize) -> Vec<(TokenId, Use)> {
        let mut collected = self.collected();
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let ids: Vec<_> = collected.range(behind).take(most).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| collected.remove_entry(&id)).collect()
    }

    /// Puts back what could not be written.
    fn put_back(&self, unwritten: Vec<(TokenId, Use)>) {
        let mut collected = self.collected();
        for (id, uses) in unwritten {
            let room = room(collected.len());
            let of_token = collected.entry(id).or_default();
            of_token.merge(&uses);
            of_token.fold(room);
        }
    }

    /// What was collected of a token and is not written yet.
    fn of(&self, id: TokenId) -> Option<Use> {
        self.collected().get(&id).cloned()
    }
}

/// Minutes, and addresses, to be kept of each of so many tokens: uses that can't be written must not fill the memory.
fn room(tokens: usize) -> usize {
    let (least, most) = KEPT_OF_ONE;
    (KEPT / tokens.max(1)).clamp(least, most)
}

impl Authority {
    /// How a token was used: the uses in this process up to now, those in others as far as they have written them.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the caller's scope has no such token, [`Error::Unavailable`].
    pub async fn token_use(&self, by: &MayRead, id: TokenId) -> Result<TokenUse, Error> {
        self.get_token(by, id).await?;
        let _nothing_on_its_way = self.uses.writing.lock().await;
        let now = self.clock.wall();
        self.uses.collect(&self.index, now);
        let mut told = self.store.find_uses(id, now).await?;
        if let Some(unwritten) = self.uses.of(id) {
            told.merge(&unwritten);
        }
        Ok(told)
    }

    /// Writes the uses that were counted until now.
    pub(super) async fn write_uses(&self) -> Result<(), Error> {
        self.uses.collect(&self.index, self.clock.wall());
        let mut last = None;
        loop {
            // Taken a few at a time: if this is dropped, only those are gone, and they are in the hands of the store.
            let _on_their_way = self.uses.writing.lock().await;
            let uses = self.uses.take(last, AT_ONCE);
            let Some((id, _)) = uses.last() else { return Ok(()) };
            last = Some(*id);
            if let Err(e) = self.store.note_uses(uses.clone()).await {
                self.uses.put_back(uses);
                return Err(e.into());
            }
        }
    }

    /// Removes counts and addresses that are too old to be told; once an hour, because then there are some more.
    pub(super) async fn forget_uses(&self) -> Result<(), Error> {
        let now = self.clock.wall();
        let hour = now.millis() / HOUR;
        if self.uses.hour.load(Ordering::Relaxed) == hour {
            return Ok(());
        }
        let since = KeptSince {
            minutes: now.plus_millis(-MINUTES_STORED),
            days: now.plus_millis(-DAYS_STORED),
            sources: now.plus_millis(-SOURCES_STORED),
        };
        while self.store.forget_uses(since, AT_ONCE).await? {}
        self.uses.hour.store(hour, Ordering::Relaxed);
        Ok(())
    }
}
