//! Proving one entry to somebody who sees no other.

use std::ops::ControlFlow;

use super::{
    Reading,
    head::{Head, Heads},
    line,
    tree::{self, leaf, root_by_path},
};
use crate::{
    authority::{Clock, copying::sentence, journal::hex},
    domain::{KeySource, RecordedEntry},
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
    let (start, known) = reading.start();
    if seq <= start.seq || seq > reading.last.seq {
        let (first, last) = (start.seq + 1, reading.last.seq);
        return Err(format!("there is no audit entry {seq}: the log has those from {first} to {last}"));
    }
    let checked = heads.map(|heads| heads.check(&reading.keyring, &reading.installation).heads);
    let kept = match checked {
        None => None,
        Some(heads) => {
            let newest = heads.into_iter().rfind(|(size, _)| (seq..=reading.last.seq).contains(size));
            let (_, mut heads) = newest.ok_or_else(|| format!("none of the heads is of a log that has entry {seq}"))?;
            heads.pop().map(|(head, line, _)| (head, line))
        }
    };
    let size = kept.as_ref().map_or(reading.last.seq, |(head, _)| head.mark.seq);
    let (mut path, mut last, mut entry) = (tree::Path::new(seq - 1, size, &known), start, None);
    let each = |found: Result<(&RecordedEntry, &Seal), String>| {
        let Ok((recorded, seal)) = found else { return ControlFlow::Break(()) };
        if recorded.seq > size || !reading.keyring.is_entry_intact(&last, recorded, seal) {
            return ControlFlow::Break(());
        }
        (last.seq, last.mac) = (recorded.seq, seal.mac);
        let line = line(recorded, seal);
        path.take(recorded.seq - 1, leaf(&line));
        entry = entry.take().or_else(|| (recorded.seq == seq).then_some(line));
        ControlFlow::Continue(())
    };
    reading.source.visit_entries(start.seq, each).await.map_err(sentence)?;
    let odd = || "the log is not as it was sealed and signed; ask countersign audit verify what is wrong with it".to_owned();
    let (entry, path) = entry.zip(path.finish()).ok_or_else(odd)?;
    let root = root_by_path(seq - 1, size, leaf(&entry), &path).ok_or_else(odd)?;
    let head = match kept {
        Some((head, line)) if (head.mark, head.root) == (last, root) => line,
        Some(_) => return Err(odd()),
        None => {
            let head = Head { installation: reading.installation, mark: last, root, at: clock.wall(), node: "command".to_owned() };
            head.sign(&reading.keyring)
        }
    };
    Ok(Proof { entry, path: path.iter().map(|hash| hex(hash)).collect(), head })
}
