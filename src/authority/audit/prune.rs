//! Retention: removing old entries, in a way that leaves what is there as proven as it was.

use std::{ops::ControlFlow, sync::Arc};

use super::{
    Heads, Reading, apart, line,
    tree::{Tree, leaf},
};
use crate::{
    authority::{Authority, Error, copying::sentence},
    domain::{Action, AuditEntry, Owner, RecordedEntry, Timestamp},
    store::{Database, Mark, Seal},
};

/// How old what is removed must be, unless somebody says that it need not: a server that was down for so long, and a backup,
/// still find the place that they know.
const KEPT: i64 = 30 * 24 * 60 * 60 * 1000;
/// Entries in a transaction that removes them.
const AT_ONCE: usize = 1000;

/// What is to be pruned.
#[derive(Debug, Clone, Copy)]
pub struct Pruning {
    /// Entries from before this moment.
    pub before: Timestamp,
    /// Also those that are not [30 days](KEPT) old.
    pub recent: bool,
    /// How many entries the log may have; any number where whoever waits has the time for it.
    pub most: Option<u64>,
}

/// What was pruned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// The last place that is gone; 0 if nothing is.
    pub through: u64,
    /// Entries that were removed.
    pub entries: u64,
}

impl Authority {
    /// Removes the entries from before a moment, up to the first that is not, when the whole log was verified; the checkpoint
    /// that stands for them, and an entry, are committed first. What an interrupted run has left is removed by the next.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the moment is too near; [`Error::LogEdited`]; [`Error::LogTooLong`]; [`Error::Busy`]; [`Error::Unavailable`] if a
    /// process has not followed what is to be removed.
    pub async fn prune_audit(
        self: &Arc<Self>,
        by: &Owner,
        heads: Heads,
        Pruning { before, recent, most }: Pruning,
    ) -> Result<Pruned, Error> {
        let now = self.now();
        if !recent && before > now.plus_millis(-KEPT) {
            let problem = "must be 30 days ago or more: servers that were down, and backups, would lose the place that they know";
            return Err(crate::domain::Invalid::one("before", "recent", problem).into());
        }
        let this = Arc::clone(self);
        let (start, through, tree) = apart(&self.log_turns, async move || this.find_old(&heads, before, most).await).await?;
        if through != start {
            // Whoever has not followed would take the place that it knows for one of another history.
            let settled = self.store.settle(Some(through.seq + 1), true).await?;
            if !settled.bound.is_zero() || matches!(self.database, Database::Postgres(_)) && !settled.unheard.is_empty() {
                let nodes = settled.unheard.join(", ");
                return Err(Error::Unavailable(format!("nothing was pruned, because not all processes have followed: {nodes}")));
            }
            let checkpoint = self.keyring.seal_checkpoint(through, tree.peaks(), true);
            let detail = [("through", through.seq.into()), ("before", before.to_string().into())];
            let detail = detail.into_iter().map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), value)).collect();
            let entry =
                AuditEntry { actor: by.actor(), request: by.request().clone(), ..self.system_entry(Action::AuditPrune, None, detail) };
            self.store.insert_checkpoint(checkpoint, Some(entry)).await?;
        }
        while through.seq > 0 && self.store.remove_pruned(through.seq, AT_ONCE).await? {}
        Ok(Pruned { through: through.seq, entries: through.seq - start.seq })
    }
}

impl Authority {
    /// Where the log begins, the last entry that is to go, and the tree up to it; when the whole log was verified.
    async fn find_old(&self, heads: &Heads, before: Timestamp, most: Option<u64>) -> Result<(Mark, Mark, Tree), Error> {
        let reading = Reading::of(&self.database, Arc::clone(&self.keyring)).await.map_err(Error::Unavailable)?.at_most(most)?;
        let verified = reading.verify(heads, |_, _| {}).await.map_err(Error::Unavailable)?;
        if let Some(first) = verified.problems.first() {
            let lacking = self.keys.lacking().first().copied();
            return Err(match lacking {
                Some(key) => self.lacking(key),
                None => Error::LogEdited(format!("nothing was pruned, because the log is not as it was written: {}", first.what)),
            });
        }
        let start = reading.start();
        let (through, tree) = old(&reading, start.clone(), before).await.map_err(Error::Unavailable)?;
        Ok((start.0, through, tree))
    }
}

/// The last entry from before a moment that has another behind it, from where the log begins on; and the tree up to it.
async fn old(reading: &Reading, (start, tree): (Mark, Tree), before: Timestamp) -> Result<(Mark, Tree), String> {
    let (mut through, mut ahead) = ((start, tree), None);
    let each = |found: Result<(&RecordedEntry, &Seal), String>| {
        let Ok((entry, seal)) = found else { return ControlFlow::Break(()) };
        // The last one stays, whatever its age: the log must not be empty.
        if let Some((mark, hash)) = ahead.take() {
            through.0 = mark;
            through.1.append(hash);
        }
        if entry.entry.at >= before || !reading.keyring.is_entry_intact(&through.0, entry, seal) {
            return ControlFlow::Break(());
        }
        ahead = Some((Mark { seq: entry.seq, mac: seal.mac }, leaf(&line(entry, seal))));
        ControlFlow::Continue(())
    };
    reading.source.visit_entries(start.seq, each).await.map_err(sentence)?;
    Ok(through)
}
