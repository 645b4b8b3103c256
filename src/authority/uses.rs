//! How often and when tokens were used: counted in memory, written in batches, never on the way of a request.
//!
//! The index counts. Who counts the first use since the counts were last collected leaves the token's id here, so that
//! collecting looks at the tokens that were used and at no others. Nothing on the way of a request takes a lock.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_queue::SegQueue;

use super::index::Index;
use crate::domain::{Timestamp, TokenId, Use};

/// Uses that are not written yet.
#[derive(Default)]
pub(crate) struct Uses {
    touched: SegQueue<Touched>,
    collected: Mutex<HashMap<TokenId, Use>>,
    /// In which one it was collected last.
    second: AtomicU64,
}

struct Touched {
    id: TokenId,
    at: Timestamp,
    /// Uses that the index does not count.
    uses: u32,
}

impl Uses {
    /// Notes that the index counts uses of a token, of which the first was now.
    pub(crate) fn touch(&self, id: TokenId, at: Timestamp) {
        self.touched.push(Touched { id, at, uses: 0 });
    }

    /// Notes a use of a token that is not in the index.
    pub(crate) fn note(&self, id: TokenId, at: Timestamp) {
        self.touched.push(Touched { id, at, uses: 1 });
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
            // All were in between; of a single one the moment is known.
            let last = if uses > 1 { first.at.max(now) } else { first.at };
            if uses > 0 {
                collected.entry(id).or_default().add(last, uses);
            }
        });
    }

    fn collected(&self) -> MutexGuard<'_, HashMap<TokenId, Use>> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes everything collected, in the order of ids, in which rows lie on the disk.
    pub(crate) fn take(&self) -> Vec<(TokenId, Use)> {
        let mut uses: Vec<_> = self.collected().drain().collect();
        uses.sort_unstable_by_key(|(id, _)| *id);
        uses
    }

    /// Puts back what could not be written.
    pub(crate) fn put_back(&self, uses: Vec<(TokenId, Use)>) {
        let mut collected = self.collected();
        for (id, unwritten) in uses {
            collected.entry(id).or_default().merge(&unwritten);
        }
    }

    /// What was collected of a token and is not written yet.
    pub(crate) fn of(&self, id: TokenId) -> Option<Use> {
        self.collected().get(&id).cloned()
    }
}
