//! The files that a database is: which they are, and which are refused.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::{BUSY, Error, FILE, presence};

/// What is said where its files are others than those that were opened.
pub(super) const GONE: &str =
    "one of the database's files was removed or replaced; stop all servers on it, put back what is missing, and start again";

/// Which files they are: the database's, its log's and the index of that. While anybody has the database open, none of them is
/// made anew, so another one is somebody's doing, and what is written here then may be seen by nobody else, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity([(u64, u64); 3]);

impl Identity {
    /// Those of a database that is open; `None` if one is missing.
    pub(super) fn of(file: &Path) -> Option<Self> {
        let of = |beside: &str| {
            let mut path = file.as_os_str().to_owned();
            path.push(beside);
            fs::metadata(path).map(|file| (file.dev(), file.ino())).ok()
        };
        Some(Self([of("")?, of("-wal")?, of("-shm")?]))
    }
}

/// Refuses to open a database whose log somebody has removed while others have it open: what they have answered is in that.
pub(super) fn refuse_without_log(data: &Path, running: &Path) -> Result<(), Error> {
    let io = |e: std::io::Error| Error::Unfit(format!("cannot use the data directory {}: {e}", data.display()));
    let lost = || Ok::<_, Error>(Identity::of(&data.join(FILE)).is_none() && !presence::elsewhere(running, None).map_err(io)?.is_empty());
    // One that ends removes them a moment before it says so.
    for _ in 0..100 {
        if !lost()? {
            return Ok(());
        }
        std::thread::sleep(BUSY / 100);
    }
    Err(Error::Unfit(GONE.to_owned()))
}

/// Refuses files that others could write, or that are links: two directories with one database would not know of each other.
pub(super) fn refuse_odd(file: &Path) -> Result<(), Error> {
    let Ok(found) = fs::symlink_metadata(file) else { return Ok(()) };
    let refused = |what: String| Err(Error::Unfit(format!("refusing to use {}: {what}", file.display())));
    match found {
        _ if !found.is_file() => refused("it is not a file of its own; say where the database itself is (--data)".to_owned()),
        _ if found.nlink() > 1 => {
            refused("it has another name (a hard link), under which it could be changed unnoticed; remove that".to_owned())
        }
        _ if found.mode() & 0o002 != 0 => refused(format!("everybody can write it; run: chmod 600 {}", file.display())),
        _ => Ok(()),
    }
}
