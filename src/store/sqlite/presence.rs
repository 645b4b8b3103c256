//! Which other processes may answer from memory: one locked file each, beside the database.
//!
//! The kernel drops a lock with its process, so there is nothing to time out. A process takes its file *before* it loads
//! its index; whoever looks *after* its commit therefore either sees the file or knows that the load will see the commit.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// This process's file; removed, and its lock dropped, with it.
#[derive(Debug)]
pub(super) struct Presence {
    path: PathBuf,
    lock: File,
}

impl Presence {
    /// Takes a file named `node` in `directory` that says for how long its process believes its index.
    pub(super) fn announce(directory: &Path, node: &str, lease: Duration) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        if !fs::symlink_metadata(directory)?.is_dir() {
            return Err(io::Error::other("it is a link, and others would look elsewhere"));
        }
        let (aside, path) = (directory.join(format!("{node}.new")), directory.join(format!("{node}.lock")));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        // Rounded up: whoever waits for us must not wait too short a time.
        write!(file, "{}", lease.as_nanos().div_ceil(1_000_000))?;
        file.lock()?;
        // It appears with everything in it, and locked: nobody can take it for a dead process's.
        fs::rename(&aside, &path)?;
        Ok(Self { path, lock: file })
    }
}

impl Presence {
    /// Whether others can still see it.
    pub(super) fn is_there(&self) -> bool {
        self.lock.metadata().is_ok_and(|file| file.nlink() > 0)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // Not if it was removed: its successor has the same name.
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The other living processes, each with its lease; files of dead ones are removed.
pub(super) fn elsewhere(directory: &Path, own: Option<&Presence>) -> io::Result<Vec<(String, Duration)>> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut others = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if own.is_some_and(|own| own.path == path) || path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        match file.try_lock() {
            // A dead process's; and if it is gone already, whatever has its place is not ours to remove.
            Ok(()) if file.metadata()?.nlink() > 0 => drop(fs::remove_file(&path)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                let node = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                others.extend(text.parse().ok().map(|millis| (node, Duration::from_millis(millis))));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Ok(others)
}
