//! Space kept back, so that a token can still be ended on a full disk.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use rustix::fs::OFlags;

use crate::files::{AT_ONCE, open_plain};

/// Enough for thousands of endings: each writes a few pages to the write-ahead log, which begins anew behind it while the reserve
/// is gone, and leaves an entry in the database.
const SIZE: usize = 1 << 20;

/// A file of real blocks that is given up when an ending meets a full disk, and laid in again before the next change
/// of any other kind. All processes of a directory share it, so the file itself says whether it is there.
pub(super) struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// The reserve in the file at `path`, which [`Ballast::restore`] lays in.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Frees the space, if another process has not done so a moment ago.
    pub(super) fn release(&self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Whether the space is kept back.
    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|file| file.is_file() && file.len() == SIZE as u64)
    }

    /// Lays the space in again, if it is not there.
    ///
    /// # Errors
    /// Usually that the disk is full still; nothing is left behind then.
    pub(super) fn restore(&self) -> io::Result<()> {
        if self.is_there() {
            return Ok(());
        }
        // Written, not truncated to size: a sparse file would keep nothing back.
        // Never through a link: it would be somebody else's file.
        let opened =
            open_plain(OpenOptions::new().write(true).create(true).truncate(true).mode(0o600), AT_ONCE | OFlags::NOFOLLOW, &self.path);
        let written = opened.and_then(|mut file| {
            file.write_all(&vec![0xA5; SIZE])?;
            file.sync_all()
        });
        if written.is_err() {
            let _ = fs::remove_file(&self.path);
        }
        written
    }
}
