//! Backups, restoring, and moving to another database: each a copy of everything, verified row by row.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    key_source,
    keyring::{Keyring, Seen, check_canaries},
};
use crate::{
    domain::KeySource,
    store::{self, Checkpoint, Database, Hold, Mark, Sealed, Source, Step, Target},
};

/// Rows that are not as they were sealed and are told by name; and how much of a name, which may be anything.
const NAMED: usize = 20;
const NAME: usize = 100;

/// What was copied.
#[derive(Debug, Clone, Default)]
pub struct Copied {
    /// The last place of the feed of changes that is in it.
    pub seq: u64,
    /// Each table with its rows, all of them compared, and how many of them had to be written; none where everything had been
    /// copied before.
    pub tables: Vec<(&'static str, u64, u64)>,
    /// How many rows are not as they were sealed: they were copied as they are, and are refused there too.
    pub edited: u64,
    /// The first of them, by name.
    pub named: Vec<String>,
    /// Whether there is something left to do, and nothing is served from the copy before.
    pub unfinished: Option<Unfinished>,
}

/// What is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// The copy is as the database was; it was not asked to take its place.
    Move,
    /// Something was changed at the very last moment, and is not in the copy yet.
    LateChange,
    /// The database was restored; what was revoked since the backup is revoked next.
    Revocations,
}

impl Copied {
    /// Rows in all.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|(_, rows, _)| rows).sum()
    }

    /// Rows that had to be written.
    pub fn written(&self) -> u64 {
        self.tables.iter().map(|(_, _, written)| written).sum()
    }
}

/// Copies a database, which may be in use, into one file, which must not be there yet. The key file is not in it.
///
/// `progress` is told how many rows are done, of about how many.
///
/// # Errors
/// A sentence that says what to do.
pub async fn back_up(database: &Database, keys: &KeySource, file: &Path, progress: impl FnMut(u64, u64)) -> Result<Copied, String> {
    refuse_there(file)?;
    let source = source_of_backup(database).await?;
    let keyring = keyring_of(&source, keys).await?;
    back_up_from(&source, &keyring, file, progress).await
}

/// Refuses the name of a backup that something has already.
///
/// # Errors
/// A sentence that says what to do.
pub fn refuse_there(file: &Path) -> Result<(), String> {
    if file.symlink_metadata().is_ok() {
        return Err(format!("{} is there already, and a backup replaces nothing; choose another name", file.display()));
    }
    Ok(())
}

/// Where a backup is until it is whole.
pub fn partial_backup(file: &Path) -> PathBuf {
    store::partial(file)
}

pub(super) async fn source_of_backup(database: &Database) -> Result<Source, String> {
    let source = Source::database(database).await.map_err(sentence)?;
    refuse(source.hold().await.map_err(sentence)?)?;
    source.begin(false).await.map_err(sentence)?;
    Ok(source)
}

pub(super) async fn back_up_from(
    source: &Source,
    keyring: &Keyring,
    file: &Path,
    progress: impl FnMut(u64, u64),
) -> Result<Copied, String> {
    let target = Target::backup(file).await.map_err(sentence)?;
    if target.hold().await.map_err(sentence)? == Some(Hold::Backup) {
        // It was whole, and interrupted before it had its name: now it is brought up to date.
        target.set_hold(Some(Hold::Copying)).await.map_err(sentence)?;
    }
    begin_target(&target, source, false).await?;
    let copied = copy(source, &target, keyring, progress).await?;
    target.set_hold(Some(Hold::Backup)).await.map_err(sentence)?;
    target.finish_backup(file).await.map_err(sentence)?;
    Ok(copied)
}

/// Opens a backup that is whole.
async fn backup_in(file: &Path) -> Result<Source, String> {
    let source = Source::backup(file).await.map_err(sentence)?;
    match source.hold().await.map_err(sentence)? {
        Some(Hold::Backup) => Ok(source),
        Some(Hold::Copying) => Err(format!("{} is a backup that is not whole; let countersign backup finish it", file.display())),
        _ => Err(format!("{} is no backup made by countersign backup", file.display())),
    }
}

/// Says how many rows are in a file that is a whole backup, as far as that can be told without keys: none of them is held
/// against its seal.
///
/// # Errors
/// A sentence that says what it is instead.
pub async fn check_backup(file: &Path) -> Result<u64, String> {
    let source = backup_in(file).await?;
    source.check().await.map_err(|e| format!("{} is broken: {e}", file.display()))?;
    source.rows().await.map_err(sentence)
}

/// Copies a backup into a database that is empty. Nothing is served from that until
/// [`Authority::after_restore`](super::Authority::after_restore) has done what is left.
///
/// # Errors
/// A sentence that says what to do.
pub async fn restore(file: &Path, database: &Database, keys: &KeySource, progress: impl FnMut(u64, u64)) -> Result<Copied, String> {
    let source = backup_in(file).await?;
    source.begin(false).await.map_err(sentence)?;
    let keyring = keyring_of(&source, keys).await?;
    let target = Target::database(database).await.map_err(sentence)?;
    let unfinished = Some(Unfinished::Revocations);
    if target.hold().await.map_err(sentence)? == Some(Hold::Restored) {
        // What was done since must not be undone.
        same_installation(&target, &source).await?;
        if !target.has(source.last_mark().await.map_err(sentence)?).await.map_err(sentence)? {
            return Err("that database was restored from another backup; finish it with that one, or empty it first".to_owned());
        }
        return Ok(Copied { seq: target.last_mark().await.map_err(sentence)?.seq, unfinished, ..Copied::default() });
    }
    begin_target(&target, &source, false).await?;
    let copied = copy(&source, &target, &keyring, progress).await?;
    target.set_hold(Some(Hold::Restored)).await.map_err(sentence)?;
    Ok(Copied { unfinished, ..copied })
}

/// Copies a database into another, which must be empty or an earlier copy that is not finished: only what has changed since
/// is written then. To `finish`, no process may answer from the old one; the new one has its place from then on, and nothing
/// starts on the old one any more.
///
/// # Errors
/// A sentence that says what to do.
pub async fn move_to(
    database: &Database,
    new: &Database,
    keys: &KeySource,
    finish: bool,
    progress: impl FnMut(u64, u64),
) -> Result<Copied, String> {
    let source = Source::database(database).await.map_err(sentence)?;
    let moved = match source.hold().await.map_err(sentence)? {
        Some(Hold::Moved) => true,
        hold => refuse(hold).map(|()| false)?,
    };
    if finish {
        refuse_followed(&source).await?;
    }
    source.begin(finish).await.map_err(sentence)?;
    let keyring = keyring_of(&source, keys).await?;
    let target = Target::database(new).await.map_err(sentence)?;
    begin_target(&target, &source, moved).await?;
    let copied = copy(&source, &target, &keyring, progress).await?;
    if !finish {
        return Ok(Copied { unfinished: Some(Unfinished::Move), ..copied });
    }
    // On the disk, before the old one is given up.
    target.set_hold(Some(Hold::Copying)).await.map_err(sentence)?;
    source.end_as_moved().await.map_err(sentence)?;
    // Nobody starts on it any more. Who has, has announced itself; and a command that was under way already is done or has
    // given up after a while.
    refuse_followed(&source).await?;
    tokio::time::sleep(source.changes_may_come_for() + Duration::from_millis(100)).await;
    refuse_followed(&source).await?;
    if source.last_mark().await.map_err(sentence)?.seq != copied.seq {
        return Ok(Copied { unfinished: Some(Unfinished::LateChange), ..copied });
    }
    target.set_hold(None).await.map_err(sentence)?;
    Ok(copied)
}

async fn refuse_followed(source: &Source) -> Result<(), String> {
    if source.is_followed().await.map_err(sentence)? {
        return Err("servers, or services with an embedded verifier, are running on this database; stop them and run this again (on PostgreSQL, up to a minute after one that was killed)".to_owned());
    }
    Ok(())
}

pub(super) fn sentence(error: store::Error) -> String {
    error.to_string()
}

pub(super) fn refuse(hold: Option<Hold>) -> Result<(), String> {
    hold.map_or(Ok(()), |hold| Err(hold.sentence().to_owned()))
}

/// The ring of the key file, if it is the one of what is copied.
pub(super) async fn keyring_of(source: &Source, keys: &KeySource) -> Result<Keyring, String> {
    let file = key_source::read(keys)
        .await?
        .ok_or_else(|| format!("{keys} is missing; its seals are checked on the way, so say where it is with --key-file"))?;
    let installation =
        source.installation().await.map_err(sentence)?.ok_or("the database holds no installation; there is nothing to copy")?;
    check_canaries(&file, &installation, &source.canaries().await.map_err(sentence)?, keys)?;
    Keyring::new(&file).ok_or_else(|| format!("{keys} has no active key"))
}

/// Puts a target on hold that is empty, or goes on with what is on hold.
async fn begin_target(target: &Target, source: &Source, unfinished_only: bool) -> Result<(), String> {
    let is_empty = target.is_empty().await.map_err(sentence)?;
    match target.hold().await.map_err(sentence)? {
        Some(Hold::Copying) if !is_empty => same_installation(target, source).await,
        Some(Hold::Copying) | None if unfinished_only => {
            Err("this database was moved already, so it is not what is true now; move the one that has its place instead".to_owned())
        }
        // Made just now, or interrupted before anything was in it.
        Some(Hold::Copying) => target.begin().await.map_err(sentence),
        None => {
            let (there, ours) = installations(target, source).await?;
            if there == ours {
                return Err(
                    "that is the same database, or a copy of it that was finished, and nothing in it is written over: name an empty \
                            one, or move away what is there; to take in a journal alone, run countersign restore without --from"
                        .to_owned(),
                );
            }
            if target.is_followed().await.map_err(sentence)? {
                return Err("a server is running on the database that is to be copied into; stop it first".to_owned());
            }
            if !is_empty {
                return Err("the database that is to be copied into is not empty, and nothing in it is written over; name another one, or remove what is there".to_owned());
            }
            target.begin().await.map_err(sentence)
        }
        hold => refuse(hold),
    }
}

/// What was begun with another installation's rows is not gone on with.
async fn same_installation(target: &Target, source: &Source) -> Result<(), String> {
    let (there, ours) = installations(target, source).await?;
    if there.is_some() && there != ours {
        return Err("what was begun there is the copy of another installation; name another place, or remove what is there".to_owned());
    }
    Ok(())
}

async fn installations(target: &Target, source: &Source) -> Result<(Option<[u8; 16]>, Option<[u8; 16]>), String> {
    Ok((target.installation().await.map_err(sentence)?, source.installation().await.map_err(sentence)?))
}

async fn copy(source: &Source, target: &Target, keyring: &Keyring, mut progress: impl FnMut(u64, u64)) -> Result<Copied, String> {
    let (mut done, mut of, mut edited, mut named) = (0, 0, 0, Vec::new());
    let mut last = Mark::START;
    let watch = |step: Step<'_>| {
        let odd = match step {
            Step::Rows(rows) => {
                of = rows;
                progress(0, of);
                return;
            }
            Step::Done(rows) => {
                done += rows;
                progress(done, of);
                return;
            }
            Step::Sealed(Ok(sealed)) => match sealed {
                Sealed::Token(record) if keyring.see_token(record) == Seen::Edited => record.token.id.to_string(),
                Sealed::Platform(record) if keyring.see_platform(record) == Seen::Edited => record.platform.id.to_string(),
                Sealed::Operations(record) if keyring.see_operations(record) == Seen::Edited => "the operations".to_owned(),
                Sealed::Account(record) if keyring.see_account(record) == Seen::Edited => {
                    format!("operator {}", record.account.name.as_str().escape_default())
                }
                Sealed::OperatorToken(record) if keyring.see_operator_token(record) == Seen::Edited => {
                    format!("the operator token {}", record.token.id.0)
                }
                Sealed::Bulk(record) if keyring.see_bulk(record) == Seen::Edited => format!("the bulk revoke {}", record.bulk.id),
                Sealed::Checkpoint(checkpoint) if !keyring.is_checkpoint_intact(checkpoint) => {
                    format!("the audit checkpoint at {}", checkpoint.mark.seq)
                }
                Sealed::Checkpoint(Checkpoint { mark, pruned: true, .. }) => {
                    last = *mark;
                    return;
                }
                // Left over from a prune that was interrupted.
                Sealed::Entry(entry, _) if entry.seq <= last.seq => return,
                Sealed::Entry(entry, seal) => {
                    let before = std::mem::replace(&mut last, Mark { seq: entry.seq, mac: seal.mac });
                    // The next one is held against this one as it stands here: one edited entry is told once.
                    if keyring.is_entry_intact(&before, entry, seal) {
                        return;
                    }
                    format!("the audit entry {}", entry.seq)
                }
                _ => return,
            },
            Step::Sealed(Err(name)) | Step::Odd(name) => name,
        };
        edited += 1;
        if named.len() < NAMED {
            named.push(odd.chars().take(NAME).collect());
        }
    };
    let copied = store::copy(source, target, watch).await.map_err(|e| match e {
        store::Error::Corrupt(what) => format!("cannot copy what is in the database: {what}"),
        other => format!("{other}; run the same again, it goes on where it was"),
    })?;
    let tables = copied.tables.iter().map(|table| (table.table, table.rows, table.written)).collect();
    Ok(Copied { seq: copied.seq, tables, edited, named, unfinished: None })
}
