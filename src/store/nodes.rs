//! The processes that answer from memory.

use std::time::Duration;

use super::{Error, Store, on};

/// One of them, as it has announced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeRecord {
    /// The name under which it writes audit entries.
    pub(crate) id: String,
    /// For how long others wait for it, and for how long it goes on where it can't reach the database.
    pub(crate) lease: Duration,
    pub(crate) stale: Duration,
    /// Up to which place of the feed it has said that it has followed, where such a thing is said.
    pub(crate) followed: Option<u64>,
    /// How long ago it last said that it is there, by the clock of whoever it said it to.
    pub(crate) unseen: Duration,
    /// Whether another one takes it for gone, and is about to remove it.
    pub(crate) suspected: bool,
}

impl Store {
    /// All of them by name, and the last place of the feed, which none of them can have gone beyond.
    pub(crate) async fn list_nodes(&self) -> Result<(u64, Vec<NodeRecord>), Error> {
        on!(self, s => s.list_nodes().await)
    }
}
