//! When tokens were last used: noted in memory, written in batches, never on the way of a request.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::domain::{Timestamp, TokenId};

const SHARDS: usize = 64;

/// Uses since the last flush. At most one entry for each live token.
pub(crate) struct Uses {
    shards: [Shard; SHARDS],
}

#[derive(Default)]
struct Shard(Mutex<HashMap<TokenId, Timestamp>>);

impl Shard {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TokenId, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Uses {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Shard::default()) }
    }
}

impl Uses {
    /// Notes a use.
    pub(crate) fn note(&self, id: TokenId, at: Timestamp) {
        // The last byte is random in every id.
        let shard = usize::from(id.0.as_bytes()[15]) % SHARDS;
        let mut uses = self.shards[shard].lock();
        let last = uses.entry(id).or_insert(at);
        *last = at.max(*last);
    }

    /// Takes everything noted, in the order of ids, in which rows lie on the disk.
    pub(crate) fn take(&self) -> Vec<(TokenId, Timestamp)> {
        let mut uses: Vec<_> = self.shards.iter().flat_map(|shard| std::mem::take(&mut *shard.lock())).collect();
        uses.sort_unstable();
        uses
    }

    /// The last use noted and not yet written.
    pub(crate) fn last(&self, id: TokenId) -> Option<Timestamp> {
        self.shards[usize::from(id.0.as_bytes()[15]) % SHARDS].lock().get(&id).copied()
    }
}
