//! The audit log as a store keeps it: entries are numbered in the order of their commits, and each is sealed together with
//! the seal of the one before. So no two histories have the same seal at any place, and whoever remembers one place with
//! its seal knows whether what they read now goes on from there.

use std::sync::{Arc, OnceLock};

use super::{Error, Seal};
use crate::domain::AuditEntry;

/// A place of the feed, and the seal of the entry there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The place.
    pub(crate) seq: u64,
    /// The seal.
    pub(crate) mac: [u8; 32],
}

impl Mark {
    /// Before the first entry.
    pub(crate) const START: Self = Self { seq: 0, mac: [0; 32] };
}

/// Makes the seals. What they cover is the authority's.
pub(crate) trait SealEntries: Send + Sync {
    /// The seal of the entry that follows `before`, written by `node`.
    fn seal_entry(&self, before: &Mark, node: &str, entry: &AuditEntry) -> Seal;

    /// Whether the seal beside a place that was lost says that an operator has taken in what was lost up to there.
    fn is_taken_in(&self, lost: &Mark, seal: &Seal) -> bool;
}

/// Numbers and seals the entries of a process.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) node: String,
    seals: Arc<OnceLock<Arc<dyn SealEntries>>>,
}

impl Log {
    pub(super) fn new(node: String) -> Self {
        Self { node, seals: Arc::default() }
    }

    /// From now on entries can be written.
    pub(super) fn seal_with(&self, seals: Arc<dyn SealEntries>) {
        // Once: an authority has one keyring.
        let _ = self.seals.set(seals);
    }

    /// As [`SealEntries::is_taken_in`]; not before there are keys.
    pub(super) fn is_taken_in(&self, lost: &Mark, seal: &Seal) -> bool {
        self.seals.get().is_some_and(|seals| seals.is_taken_in(lost, seal))
    }

    /// Gives an entry the place behind `last`, which then is there; returns its seal.
    pub(super) fn append(&self, last: &mut Mark, entry: &AuditEntry) -> Result<Seal, Error> {
        let seals = self.seals.get().ok_or_else(|| Error::Unavailable("the key file is not open yet".to_owned()))?;
        let seal = seals.seal_entry(last, &self.node, entry);
        *last = Mark { seq: last.seq + 1, mac: seal.mac };
        Ok(seal)
    }
}
