//! Which processes answer from memory, and how far each has followed; and how their database is.

use std::time::Duration;

use super::{Authority, Database, Error};
use crate::{
    domain::{Operator, Timestamp},
    store::{Examined, NodeRecord},
};

/// A process that answers from memory.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name, which audit entries and receipts have too.
    pub id: String,
    /// For how long at the longest others wait for it when something ends.
    pub lease: Duration,
    /// For how long it goes on where it can't reach the database; zero is no longer than its lease.
    pub stale: Duration,
    /// The place of the feed up to which it is known to have followed; on SQLite only of this process.
    pub followed: Option<u64>,
    /// When it was last seen: on SQLite, where a process holds a lock, now; on PostgreSQL it says so every 15 seconds.
    pub seen_at: Timestamp,
    /// Whether it was not seen for so long that another process is about to remove it.
    pub suspected: bool,
    /// Whether it is this process.
    pub is_here: bool,
}

/// How a database is, for whoever runs it.
#[derive(Debug, Default)]
pub struct DatabaseHealth {
    /// What it is, in a line.
    pub found: String,
    /// What may become a trouble, and what to do about it.
    pub doubts: Vec<(String, &'static str)>,
}

impl Authority {
    /// Looks at the database, which is this one.
    ///
    /// # Errors
    /// [`Error::RoleLacking`], [`Error::Unavailable`].
    pub async fn examine(&self, by: &Operator, database: &Database) -> Result<DatabaseHealth, Error> {
        by.may_oversee()?;
        let Examined { found, doubts } = self.store.examine(database, self.clock.wall()).await?;
        Ok(DatabaseHealth { found, doubts })
    }

    /// All processes of the database that answer from memory, by name; and the last place of the feed.
    ///
    /// # Errors
    /// [`Error::RoleLacking`], [`Error::Unavailable`].
    pub async fn list_nodes(&self, by: &Operator) -> Result<(u64, Vec<Node>), Error> {
        by.may_oversee()?;
        let (last, records) = self.store.list_nodes().await?;
        let now = self.clock.wall();
        let node = |record: NodeRecord| {
            let is_here = record.id == self.store.node();
            Node {
                followed: record.followed.or_else(|| is_here.then(|| self.followed().mark.seq.min(last))),
                seen_at: now.plus_millis(-i64::try_from(record.unseen.as_millis()).unwrap_or(i64::MAX)),
                id: record.id,
                lease: record.lease,
                stale: record.stale,
                suspected: record.suspected,
                is_here,
            }
        };
        Ok((last, records.into_iter().map(node).collect()))
    }
}
