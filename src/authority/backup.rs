//! A backup for somebody elsewhere: made aside, and gone when it is sent.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::OFlags;
use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedMutexGuard, oneshot},
};

use super::{
    Authority, Copied, Error,
    copying::{back_up_from, source_of_backup},
    journal::hex,
};
use crate::{
    domain::{Action, AuditEntry, Owner},
    files,
};

/// A backup that waits to be sent. Nobody else takes one while it lives.
#[derive(Debug)]
pub struct TakenBackup {
    /// Its file, which has no name any more and ends with this.
    pub file: Arc<File>,
    /// Its length in bytes.
    pub length: u64,
    /// What is in it.
    pub copied: Copied,
    _turn: OwnedMutexGuard<()>,
}

/// A directory that nobody else reads, and that ends with this.
struct Aside {
    path: PathBuf,
    /// Which says that somebody is at it, for as long as that is so.
    _lock: File,
}

const PREFIX: &str = "countersign-backup-";
const LOCK: &str = "lock";

impl Aside {
    fn new(within: &Path, random: [u8; 16]) -> io::Result<Self> {
        let path = within.join(format!("{PREFIX}{}", hex(&random)));
        DirBuilder::new().mode(0o700).create(&path)?;
        let lock = File::create_new(path.join(LOCK)).and_then(|lock| Ok((lock.try_lock()?, lock).1));
        match lock {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(e) => {
                remove(&path);
                Err(e)
            }
        }
    }

    /// Removes what servers have left that were killed while they made one; in an image without a shell nobody else can.
    fn remove_left(within: &Path) {
        for entry in within.read_dir().into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
                continue;
            }
            let path = entry.path();
            // A directory of another user is theirs, and what it holds is not opened.
            let ours = path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw());
            let lock = files::open_plain(OpenOptions::new().read(true), files::AT_ONCE | OFlags::NOFOLLOW, &path.join(LOCK));
            if ours && lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
                tracing::warn!(path = %path.display(), "a backup that was never sent is removed");
                remove(&path);
            }
        }
    }

    /// Whether there is less than a twentieth of its disk left, which others may need: the database, say.
    fn is_nearly_full(&self) -> bool {
        rustix::fs::statvfs(&self.path).is_ok_and(|disk| disk.f_bavail < disk.f_blocks / 20)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    if let Err(e) = std::fs::remove_dir_all(path) {
        tracing::error!(path = %path.display(), cause = %e, "what was left of a backup cannot be removed");
    }
}

impl Authority {
    /// Copies the database, as [`back_up`](super::back_up) does, for somebody elsewhere, and no longer than they wait for it.
    /// The copy is made in the directory for temporary files, which has to have room for it.
    ///
    /// # Errors
    /// [`Error::Busy`] if somebody else is at it; [`Error::Unavailable`].
    pub async fn take_backup(self: &Arc<Self>, by: &Owner) -> Result<TakenBackup, Error> {
        let turn = Arc::clone(&self.backup_turn).try_lock_owned().map_err(|_| Error::Busy)?;
        let (authority, random, here) = (Arc::clone(self), self.random()?, Handle::current());
        let (_waits, gone) = oneshot::channel::<()>();
        // Apart from the threads that answer.
        let copying = tokio::task::spawn_blocking(move || {
            let failed = |what: String| Error::Unavailable(format!("no backup could be made: {what}"));
            let within = std::env::temp_dir();
            let unmade = |e: io::Error| failed(format!("{}: {e}", within.display()));
            Aside::remove_left(&within);
            let aside = Aside::new(&within, random).map_err(unmade)?;
            let path = aside.path.join("backup");
            let full = Notify::new();
            let watch = |_, _| {
                if aside.is_nearly_full() {
                    full.notify_one()
                }
            };
            let copied = here.block_on(async {
                let source = source_of_backup(&authority.database).await?;
                tokio::select! {
                    biased;
                    _ = gone => Err("whoever asked for it is gone".to_owned()),
                    () = full.notified() => Err(format!("the disk of {} is nearly full", within.display())),
                    copied = back_up_from(&source, &authority.keyring, &path, watch) => copied,
                }
            });
            let copied = copied.map_err(failed)?;
            let file = File::open(&path).map_err(unmade)?;
            let length = file.metadata().map_err(unmade)?.len();
            Ok(TakenBackup { file: Arc::new(file), length, copied, _turn: turn })
        });
        let taken = copying.await.unwrap_or_else(|_| Err(Error::Unavailable("no backup could be made".to_owned())))?;
        // Before anything of it is anybody's.
        let detail = [("rows".to_owned(), taken.copied.rows().into()), ("seq".to_owned(), taken.copied.seq.into())];
        let entry = self.system_entry(Action::Backup, None, detail.into_iter().collect());
        self.store.insert_audit_entry(AuditEntry { actor: by.actor(), request: by.request().clone(), ..entry }).await?;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_is_at_is_removed() {
        let within = tempfile::tempdir().unwrap();
        let within = within.path();
        let there = |name: &str| within.join(format!("{PREFIX}{name}")).symlink_metadata().is_ok();
        let at_it = Aside::new(within, [1; 16]).unwrap();
        // One whose process is gone; one that is not begun; what others put there.
        for name in ["left", "begun"] {
            std::fs::create_dir(within.join(format!("{PREFIX}{name}"))).unwrap();
        }
        std::fs::write(within.join(format!("{PREFIX}left/{LOCK}")), "").unwrap();
        std::fs::write(within.join(format!("{PREFIX}left/backup")), "rows").unwrap();
        std::fs::create_dir(within.join("theirs")).unwrap();
        std::fs::write(within.join("theirs").join(LOCK), "").unwrap();
        std::os::unix::fs::symlink(within.join("theirs"), within.join(format!("{PREFIX}link"))).unwrap();
        Aside::remove_left(within);
        assert!(!there("left") && there("begun") && there("link") && within.join("theirs").join(LOCK).is_file());
        assert!(at_it.path.is_dir());
        let path = at_it.path.clone();
        drop(at_it);
        assert!(!path.exists());
    }
}
