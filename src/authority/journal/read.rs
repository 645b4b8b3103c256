//! Reading journals, to take in what they say has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use super::line::{Line, Place, open_to_read};
use crate::{
    authority::{key_source, keyring::Keyring},
    domain::{KeySource, PlatformId, Timestamp, TokenId},
    store::Mark,
};

/// What a journal says, or a part of it, from its first line to its last.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Where it begins: what ended up to there is not in it.
    pub(in crate::authority) first: Mark,
    /// The places of its lines, in their order: whichever of them a database has, the journal knows everything behind it.
    pub(in crate::authority) marks: Vec<Mark>,
    /// How far it goes.
    pub(in crate::authority) last: Place,
    is_torn: bool,
    pub(in crate::authority) ended: BTreeSet<TokenId>,
    /// The last that it knows of a platform: the place, and whether it was disabled there.
    pub(in crate::authority) platforms: BTreeMap<PlatformId, (u64, bool)>,
    pub(in crate::authority) retired: BTreeSet<u32>,
}

/// From where to where a journal goes: of what ended elsewhere it knows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Its file.
    pub journal: PathBuf,
    /// The place of the feed behind which it begins.
    pub after: u64,
    /// The last place that is in it.
    pub through: u64,
    /// When that had been followed.
    pub at: Timestamp,
    /// Whether there was another line, which was not written to its end and is left out.
    pub is_torn: bool,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { journal, after, through, at, is_torn } = self;
        let torn = if *is_torn { "; its last line was not written to its end, and is left out" } else { "" };
        write!(f, "{} knows what ended behind place {after} and up to place {through}, written {at}{torn}", journal.display())
    }
}

impl Journal {
    /// Reads journals, also such that servers are writing, each of which may have several parts.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and where.
    pub async fn read_all(paths: &[PathBuf], keys: &KeySource) -> Result<Vec<Self>, String> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let file = key_source::read(keys)
            .await?
            .ok_or_else(|| format!("{keys} is missing, under which the journals are sealed; say where it is with --key-file"))?;
        let keyring = Keyring::new(&file).ok_or_else(|| format!("{keys} has no active key"))?;
        let parts = paths.iter().map(|path| Self::read(path, &keyring)).collect::<Result<Vec<_>, _>>()?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Reads the parts of a journal.
    pub(super) fn read(path: &Path, keyring: &Keyring) -> Result<Vec<Self>, String> {
        let file = open_to_read(path).map_err(|e| format!("cannot read the journal {}: {e}", path.display()))?;
        Self::read_from(BufReader::new(file), path, keyring)
    }

    /// The same of what was opened.
    pub(in crate::authority) fn read_from(mut reader: impl BufRead, path: &Path, keyring: &Keyring) -> Result<Vec<Self>, String> {
        let failed = |e: io::Error| format!("cannot read the journal {}: {e}", path.display());
        let (mut parts, mut before, mut number, mut text) = (Vec::<Self>::new(), None, 0_u64, Vec::new());
        let is_torn = loop {
            text.clear();
            reader.read_until(b'\n', &mut text).map_err(failed)?;
            number += 1;
            let refused = |what: &str| format!("line {number} of the journal {} {what}", path.display());
            let Some((line, place)) = Line::read(&text) else {
                // The last one may have been torn when the machine stopped, with or without its end on the disk: nobody was
                // told that it is there.
                match reader.fill_buf().map_err(failed)?.is_empty() {
                    true => break !text.is_empty(),
                    false => return Err(refused("is not one that countersign wrote")),
                }
            };
            if let Some(problem) = line.problem(keyring) {
                let or_foreign = if number == 1 { ", or the journal is of another database" } else { "" };
                return Err(refused(&format!("{problem}{or_foreign}")));
            }
            if line.after.is_some() && line.after != before {
                return Err(refused("does not go on behind the line before it: lines are missing there, or were moved"));
            }
            if line.after.is_none() {
                parts.push(Self::beginning(path, place));
            }
            let Some(part) = parts.last_mut() else { continue };
            part.last = place;
            part.marks.push(place.mark);
            let unknown = || refused("names what is no token and no platform");
            for id in &line.ended {
                part.ended.insert(TokenId::parse(id).ok_or_else(unknown)?);
            }
            let changed = line.enabled.iter().map(|id| (id, false)).chain(line.disabled.iter().map(|id| (id, true)));
            for (id, disabled) in changed {
                part.platforms.insert(PlatformId::parse(id).ok_or_else(unknown)?, (place.mark.seq, disabled));
            }
            part.retired.extend(&line.retired);
            before = Some(line.mac);
        };
        let last = parts.last_mut().ok_or_else(|| format!("the journal {} is empty", path.display()))?;
        last.is_torn = is_torn;
        Ok(parts)
    }

    fn beginning(path: &Path, place: Place) -> Self {
        let (ended, platforms, retired) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        Self { path: path.to_owned(), first: place.mark, marks: Vec::new(), last: place, is_torn: false, ended, platforms, retired }
    }

    /// From where to where it goes.
    pub fn reach(&self) -> Reach {
        let Self { path, first, last, is_torn, .. } = self;
        Reach { journal: path.clone(), after: first.seq, through: last.mark.seq, at: last.at, is_torn: *is_torn }
    }
}
