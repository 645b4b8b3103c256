//! Proving one entry to somebody who sees no other.

use std::{ops::ControlFlow, sync::Arc};

use super::{
    Reading, apart,
    head::{Head, Heads},
    line,
    tree::{self, leaf, root_by_path},
};
use crate::{
    authority::{Authority, Clock, Error, copying::sentence, journal::hex, keyring::Seen},
    domain::{Invalid, KeySource, Operator, RecordedEntry},
    store::{Database, Seal},
};

/// That an entry is in the log: what somebody needs who has nothing but the public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The entry's line.
    pub entry: String,
    /// The hashes beside its way to the root, from the leaf upwards, in hexadecimal digits.
    pub path: Vec<String>,
    /// The line of the head.
    pub head: String,
}

/// Proves the entry at `seq`: by the newest of these heads that it is under, or by one that is signed now.
///
/// # Errors
/// A sentence: there is no such entry or head, the log does not fit, or it cannot be read.
pub async fn prove(database: &Database, keys: &KeySource, seq: u64, heads: Option<&Heads>, clock: &dyn Clock) -> Result<Proof, String> {
    let reading = Reading::begin(database, keys).await?;
    reading.prove(seq, heads, clock, "command").await.map_err(|e| e.to_string())
}

impl Authority {
    /// The same by the server's own keys, of a log with at most so many entries.
    ///
    /// # Errors
    /// [`Error::RoleLacking`]; [`Error::Invalid`] if there is no such entry, or none of the heads is of a log that has it;
    /// [`Error::LogEdited`], [`Error::LogTooLong`], [`Error::Busy`], [`Error::Unavailable`].
    pub async fn prove_entry(self: &Arc<Self>, by: &Operator, seq: u64, heads: Option<Heads>, most: u64) -> Result<Proof, Error> {
        by.may_oversee()?;
        let this = Arc::clone(self);
        apart(&self.log_turns, async move || {
            let reading = Reading::of(&this.database, Arc::clone(&this.keyring)).await.map_err(Error::Unavailable)?;
            reading.at_most(Some(most))?.prove(seq, heads.as_ref(), &*this.clock, this.store.node()).await
        })
        .await
    }
}

impl Reading {
    async fn prove(&self, seq: u64, heads: Option<&Heads>, clock: &dyn Clock, node: &str) -> Result<Proof, Error> {
        let (start, known) = self.start();
        if seq <= start.seq || seq > self.last.seq {
            let (first, last) = (start.seq + 1, self.last.seq);
            let problem = format!("must be the place of an audit entry: the log has those from {first} to {last}");
            return Err(Invalid::one("seq", "place", &problem).into());
        }
        let checked = heads.map(|heads| heads.check(&self.keyring, &self.installation).heads);
        let kept = match checked {
            None => None,
            Some(heads) => {
                let newest = heads.into_iter().rfind(|(size, _)| (seq..=self.last.seq).contains(size));
                let none = || Invalid::one("heads", "place", format!("must have one of a log that has entry {seq}"));
                let (_, mut heads) = newest.ok_or_else(none)?;
                heads.pop().map(|(head, line, _)| (head, line))
            }
        };
        let size = kept.as_ref().map_or(self.last.seq, |(head, _)| head.mark.seq);
        let (mut path, mut last, mut entry, mut lacking) = (tree::Path::new(seq - 1, size, &known), start, None, None);
        let each = |found: Result<(&RecordedEntry, &Seal), String>| {
            let Ok((recorded, seal)) = found else { return ControlFlow::Break(()) };
            if recorded.seq > size {
                return ControlFlow::Break(());
            }
            match self.keyring.see_entry(&last, recorded, seal) {
                Seen::Intact => {}
                Seen::Unknown => {
                    lacking = Some(seal.key);
                    return ControlFlow::Break(());
                }
                Seen::Edited | Seen::Retired => return ControlFlow::Break(()),
            }
            (last.seq, last.mac) = (recorded.seq, seal.mac);
            let line = line(recorded, seal);
            path.take(recorded.seq - 1, leaf(&line));
            entry = entry.take().or_else(|| (recorded.seq == seq).then_some(line));
            ControlFlow::Continue(())
        };
        self.source.visit_entries(start.seq, each).await.map_err(|e| Error::Unavailable(sentence(e)))?;
        if let Some(key) = lacking {
            return Err(Error::Unavailable(format!("key {key} is missing in this node's key file")));
        }
        let odd = || {
            let what = "the log is not as it was sealed and signed; ask countersign audit verify what is wrong with it";
            Error::LogEdited(what.to_owned())
        };
        let (entry, path) = entry.zip(path.finish()).ok_or_else(odd)?;
        let root = root_by_path(seq - 1, size, leaf(&entry), &path).ok_or_else(odd)?;
        let head = match kept {
            Some((head, line)) if (head.mark, head.root) == (last, root) => line,
            Some(_) => return Err(odd()),
            None => {
                let head = Head { installation: self.installation, mark: last, root, at: clock.wall(), node: node.to_owned() };
                head.sign(&self.keyring)
            }
        };
        Ok(Proof { entry, path: path.iter().map(|hash| hex(hash)).collect(), head })
    }
}
