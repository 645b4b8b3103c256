//! Exporting: entries as they are, oldest first.

use std::{ops::ControlFlow, sync::Arc};

use super::{MEMBERS, Member, begin, members, object};
use crate::{
    authority::{Authority, Error, copying::sentence},
    domain::{Operator, PlatformId, RecordedEntry, Timestamp},
    store::{Database, Seal},
};

/// Which entries to export: all that match everything given.
#[derive(Debug, Clone, Default)]
pub struct Export {
    /// On this platform.
    pub platform: Option<PlatformId>,
    /// Behind this place: where the export before ended.
    pub after_seq: u64,
    /// At or after.
    pub after: Option<Timestamp>,
    /// At or before.
    pub before: Option<Timestamp>,
}

impl Export {
    fn includes(&self, recorded: &RecordedEntry) -> bool {
        let entry = &recorded.entry;
        self.platform.is_none_or(|platform| entry.platform == Some(platform))
            && self.after.is_none_or(|after| entry.at >= after)
            && self.before.is_none_or(|before| entry.at <= before)
    }
}

/// An entry on its way out.
#[derive(Debug)]
pub struct Exported<'e>([Member<'e>; 13]);

impl<'e> Exported<'e> {
    fn of(entry: &'e RecordedEntry, seal: &Seal) -> Self {
        Self(members(entry, seal))
    }

    /// What it holds, in the order of [`MEMBERS`].
    pub fn members(&self) -> &[Member<'e>] {
        &self.0
    }

    /// Its line, without an end.
    pub fn line(self) -> String {
        object(MEMBERS.into_iter().zip(self.0))
    }
}

/// Hands the entries of a database, which may be in use, to `visit`, of one state and oldest first, until it has seen enough.
/// Returns how many cannot be read, and the first of those: they are not what was written.
///
/// # Errors
/// A sentence that says what to do.
pub async fn export(
    database: &Database,
    wanted: &Export,
    mut visit: impl FnMut(Exported<'_>) -> ControlFlow<()>,
) -> Result<Option<(u64, String)>, String> {
    let source = begin(database).await?;
    let mut unreadable: Option<(u64, String)> = None;
    let each = |found: Result<(&RecordedEntry, &Seal), String>| match found {
        Ok((entry, seal)) if wanted.includes(entry) => visit(Exported::of(entry, seal)),
        Ok(_) => ControlFlow::Continue(()),
        Err(name) => {
            unreadable.get_or_insert((0, name)).0 += 1;
            ControlFlow::Continue(())
        }
    };
    // What stands before the beginning of the log is not of it: an interrupted prune has left it, or somebody put it there.
    let checkpoints = source.checkpoints().await.map_err(sentence)?.into_iter().flatten();
    let begins = checkpoints.filter(|checkpoint| checkpoint.pruned).map(|checkpoint| checkpoint.mark.seq).max().unwrap_or(0);
    source.visit_entries(wanted.after_seq.max(begins), each).await.map_err(sentence)?;
    Ok(unreadable)
}

/// Entries that are read at once while they are served.
const AT_ONCE: usize = 500;

/// An export on its way out of a server.
#[derive(Debug)]
pub struct Exporting {
    wanted: Export,
    /// The last place of the log when it began: it ends there, however many entries are written meanwhile.
    last: u64,
    unreadable: u64,
}

impl Authority {
    /// Begins to export entries, which [`Authority::export_more`] then brings.
    ///
    /// # Errors
    /// [`Error::RoleLacking`], [`Error::Unavailable`].
    pub async fn export_audit(&self, by: &Operator, mut wanted: Export) -> Result<Exporting, Error> {
        by.may_oversee()?;
        let checkpoints = self.store.list_checkpoints().await?.into_iter().flatten();
        let begins = checkpoints.filter(|checkpoint| checkpoint.pruned).map(|checkpoint| checkpoint.mark.seq).max().unwrap_or(0);
        wanted.after_seq = wanted.after_seq.max(begins);
        Ok(Exporting { wanted, last: self.store.last_mark().await?.seq, unreadable: 0 })
    }

    /// The next lines, each with its end, and what is behind them; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the database could not be read, or, at the end, entries were left out that cannot be read.
    pub async fn export_more(self: Arc<Self>, exporting: Exporting) -> Result<Option<(String, Exporting)>, Error> {
        let Exporting { mut wanted, last, mut unreadable } = exporting;
        while wanted.after_seq < last {
            let page = self.store.entries_behind(wanted.after_seq, AT_ONCE).await?;
            wanted.after_seq = page.last().map_or(last, |(seq, _)| *seq);
            let mut lines = String::new();
            for (seq, kept) in page.iter().filter(|(seq, _)| *seq <= last) {
                match kept {
                    Ok((entry, seal)) if wanted.includes(entry) => {
                        lines.push_str(&Exported::of(entry, seal).line());
                        lines.push('\n');
                    }
                    Ok(_) => {}
                    Err(_) => {
                        unreadable += 1;
                        self.note_tampered(format!("audit entry {seq}"));
                    }
                }
            }
            if !lines.is_empty() {
                return Ok(Some((lines, Exporting { wanted, last, unreadable })));
            }
        }
        match unreadable {
            0 => Ok(None),
            // Whoever has all lines but these must not take them for all.
            count => Err(Error::Unavailable(format!("{count} audit entries are nothing that countersign writes, and were left out"))),
        }
    }
}
