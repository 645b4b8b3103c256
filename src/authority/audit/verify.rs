//! Verifying the whole log: every entry behind the one before, and the tree over them against what was signed.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::{
    Outline, Reading, Tree,
    ended::Ended,
    head::{Checked, Heads},
    line, of_checkpoint, tree,
};
use crate::{
    authority::{copying::sentence, keyring::Seen},
    domain::{KeySource, RecordedEntry, Timestamp},
    store::{Database, Mark, Seal},
};

/// Problems that are told one by one.
const TOLD: usize = 20;
/// Entries between two words of progress.
const TELL_EVERY: u64 = 4096;

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The first place of the log that it is about.
    pub seq: u64,
    /// What it is, in a sentence.
    pub what: String,
}

/// What was verified.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// Entries that were read.
    pub entries: u64,
    /// The place of the first; beyond 1 where the log was pruned.
    pub first: u64,
    /// The place of the last one.
    pub last: u64,
    /// Checkpoints that fit.
    pub checkpoints: u64,
    /// Heads that fit.
    pub heads: u64,
    /// The newest of them: its size, and when it was signed.
    pub newest: Option<(u64, Timestamp)>,
    /// Heads of a part that was pruned, which nobody can check any more.
    pub heads_of_pruned: u64,
    /// Heads of other installations, which say nothing of this one.
    pub heads_of_others: u64,
    /// What begins as a head does, and is none.
    pub heads_torn: u64,
    /// The first problems, by their places.
    pub problems: Vec<Problem>,
    /// How many there are.
    pub found: u64,
}

impl Verified {
    pub(super) fn note(&mut self, seq: u64, what: String) {
        self.found += 1;
        if self.problems.len() < TOLD {
            self.problems.push(Problem { seq, what });
        }
    }
}

/// Verifies the log of a database, which may be in use: one state of it, from its first entry to its last, and against heads.
/// And what lives against the log: an old row that was put back whole is as it was sealed, and the log says that it ended.
///
/// `progress` is told how many entries are done, of how many.
///
/// # Errors
/// A sentence that says what to do, where it could not be read. What is wrong with the log is no error.
pub async fn verify(database: &Database, keys: &KeySource, heads: &Heads, progress: impl FnMut(u64, u64)) -> Result<Verified, String> {
    Reading::begin(database, keys).await?.verify(heads, progress).await
}

impl Reading {
    /// The same of what is read.
    pub(super) async fn verify(&self, heads: &Heads, progress: impl FnMut(u64, u64)) -> Result<Verified, String> {
        let checked = heads.check(&self.keyring, &self.installation);
        let (start, tree) = self.start();
        let mut walk = Walk::new(self, &checked, (start, Some(tree)), progress);
        let each = |found: Result<(&RecordedEntry, &Seal), String>| {
            match found {
                Ok((entry, seal)) => walk.entry(entry, seal),
                Err(name) => walk.unreadable(&name),
            }
            ControlFlow::Continue(())
        };
        self.source.visit_entries(start.seq, each).await.map_err(sentence)?;
        let ended = std::mem::take(&mut walk.ended);
        if ended.is_any() {
            self.source.visit_subjects(|sealed| walk.note(ended.held_against(&sealed))).await.map_err(sentence)?;
        }
        let before_first = self.source.count_before_first().await.map_err(sentence)?;
        walk.before_first(before_first);
        let is_new = !self.source.has_records().await.map_err(sentence)?;
        Ok(walk.finish(is_new))
    }
}

/// Where the verification is.
pub(super) struct Walk<'r, P> {
    outline: &'r Outline,
    checked: &'r Checked,
    progress: P,
    /// The entry before, as it stands there: one that was edited is told once.
    pub(super) last: Mark,
    /// The tree up to there; not known behind a place where no checkpoint stands, until one does.
    tree: Option<Tree>,
    /// Checkpoints that are still ahead.
    checkpoints: BTreeMap<u64, (Mark, Tree)>,
    /// Up to where a head or a checkpoint fits.
    fits: u64,
    /// Whether an entry was not as it was written: behind it no head fits.
    pub(super) broken: bool,
    pub(super) ended: Ended,
    pub(super) verified: Verified,
}

impl<'r, P: FnMut(u64, u64)> Walk<'r, P> {
    /// From a place on, with the tree up to there.
    pub(super) fn new(outline: &'r Outline, checked: &'r Checked, (last, tree): (Mark, Option<Tree>), progress: P) -> Self {
        let mut verified = Verified {
            first: last.seq + 1,
            heads_of_others: checked.foreign,
            heads_torn: checked.torn,
            heads_of_pruned: checked.heads.range(..last.seq).map(|(_, heads)| heads.len() as u64).sum(),
            ..Verified::default()
        };
        for place in &checked.replaced {
            verified.note(
                1,
                format!("audit entry 1 is not the one that was signed: a head ({place}) is of another database, which had this key file"),
            );
        }
        for (size, place) in &checked.forged {
            verified.note(*size, format!("a head of {size} entries ({place}) names this installation, and none of its keys has signed it"));
        }
        for (seq, name) in &outline.odd_checkpoints {
            verified.note(*seq, format!("{name} is not as it was sealed"));
        }
        let ahead = outline.checkpoints.iter().filter(|checkpoint| checkpoint.mark.seq > last.seq);
        let checkpoints = ahead.filter_map(|checkpoint| Some((checkpoint.mark.seq, of_checkpoint(checkpoint)?))).collect();
        let (fits, ended) = (last.seq, Ended::default());
        let mut walk = Self { outline, checked, progress, fits, last, tree, checkpoints, broken: false, ended, verified };
        walk.signed();
        walk
    }

    pub(super) fn entry(&mut self, entry: &RecordedEntry, seal: &Seal) {
        let before = std::mem::replace(&mut self.last, Mark { seq: entry.seq, mac: seal.mac });
        self.count();
        let seq = entry.seq;
        match self.outline.keyring.see_entry(&before, entry, seal) {
            _ if seq != before.seq + 1 => self.missing(before.seq + 1, seq - 1, "there is a gap"),
            Seen::Intact | Seen::Retired => self.ended.note(entry),
            // Whoever reads has all keys that the database knows of.
            Seen::Unknown => {
                self.bad(seq, format!("audit entry {seq} is under key {}, which neither the key file nor the database knows", seal.key))
            }
            Seen::Edited if before.seq == 0 => {
                self.bad(seq, format!("audit entry {seq} is not as it was sealed, as the first one: it was edited, or put there"));
            }
            Seen::Edited => {
                let before = before.seq;
                self.bad(seq, format!("audit entry {seq} is not as it was sealed, behind entry {before}: it was edited, or put there"));
            }
        }
        if let Some(tree) = &mut self.tree {
            tree.append(tree::leaf(&line(entry, seal)));
        }
        self.signed();
    }

    pub(super) fn unreadable(&mut self, name: &str) {
        let seq = self.last.seq + 1;
        self.count();
        self.bad(seq, format!("audit entry {seq} is nothing that countersign writes ({name})"));
        // The next one is told too: what it was sealed behind is not known.
        self.last = Mark { seq, mac: [0; 32] };
        if let Some(tree) = &mut self.tree {
            tree.append(tree::leaf(name));
        }
    }

    /// Notes how many entries stand before the first one.
    pub(super) fn before_first(&mut self, entries: u64) {
        if entries > 0 {
            let what = format!("{entries} audit entries stand before the first one: none is written there, so somebody put them there");
            self.verified.note(0, what);
        }
    }

    fn count(&mut self) {
        self.verified.entries += 1;
        if self.verified.entries.is_multiple_of(TELL_EVERY) {
            (self.progress)(self.verified.entries, self.outline.last.seq - self.verified.first.min(self.outline.last.seq) + 1);
        }
    }

    fn bad(&mut self, seq: u64, what: String) {
        self.broken = true;
        self.verified.note(seq, what);
    }

    pub(super) fn missing(&mut self, first: u64, last: u64, why: &str) {
        let what =
            if first == last { format!("audit entry {first} is missing") } else { format!("audit entries {first} to {last} are missing") };
        self.bad(first, format!("{what}: {why}"));
    }

    /// Notes problems.
    pub(super) fn note(&mut self, problems: impl IntoIterator<Item = (u64, String)>) {
        problems.into_iter().for_each(|(seq, what)| self.verified.note(seq, what));
    }

    /// Holds what was read so far against what was signed and sealed of it.
    fn signed(&mut self) {
        let seq = self.last.seq;
        let checkpoint = self.checkpoints.remove(&seq);
        if self.broken {
            return;
        }
        if let Some((mark, tree)) = checkpoint {
            if mark != self.last || self.tree.as_ref().is_some_and(|known| *known != tree) {
                self.other(seq, "there when a checkpoint was made");
                return;
            }
            self.tree.get_or_insert(tree);
            self.verified.checkpoints += 1;
            self.fits = seq;
        }
        let (Some(heads), Some(tree)) = (self.checked.heads.get(&seq), &self.tree) else { return };
        let root = tree.root();
        for (head, _, place) in heads {
            if (head.mark, head.root) != (self.last, root) {
                self.other(seq, &format!("signed at {} ({place})", head.at));
                return;
            }
            self.verified.heads += 1;
            self.verified.newest = self.verified.newest.max(Some((seq, head.at)));
        }
        self.fits = seq;
    }

    /// Behind the last place that fits, up to this one.
    fn other(&mut self, seq: u64, which: &str) {
        let from = self.fits + 1;
        let what = if from == seq { format!("audit entry {seq}") } else { format!("audit entry {from}, or one behind it up to {seq},") };
        self.bad(from, format!("{what} is not the one that was {which}"));
    }

    /// Looks at the end. A database that `is_new` never had an entry.
    pub(super) fn finish(mut self, is_new: bool) -> Verified {
        let (last, feed) = (self.last, self.outline.last);
        let signed = self.checked.heads.range(last.seq + 1..).next_back().and_then(|(size, heads)| Some((*size, heads.first()?)));
        let sealed = self.checkpoints.keys().next_back().copied().filter(|seq| *seq > last.seq);
        // The first that tells; what is outside of the database tells most.
        if let Some((size, (head, _, place))) = signed {
            let why = format!(
                "they were there when a head was signed at {} ({place}), so the end was cut off, or the database is an older one",
                head.at
            );
            self.missing(last.seq + 1, size, &why);
        } else if feed.seq > last.seq {
            self.missing(last.seq + 1, feed.seq, "the feed of changes has gone further");
        } else if feed != last {
            self.bad(feed.seq + 1, format!("audit entry {} is not the last one that the feed of changes knows", last.seq));
        } else if let Some(seq) = sealed {
            self.missing(last.seq + 1, seq, "there is a checkpoint behind them");
        } else if last == Mark::START && !is_new {
            self.missing(1, 1, "there are platforms, and each was entered");
        }
        self.so_far()
    }

    /// What was verified so far, where there is more.
    pub(super) fn so_far(mut self) -> Verified {
        self.verified.last = self.last.seq;
        self.verified.problems.sort_by_key(|problem| problem.seq);
        self.verified
    }
}
