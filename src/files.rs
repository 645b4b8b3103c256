//! Files that others may have put there: where it is to be a file, no pipe is waited for; and what may be a pipe is read no further
//! than it may be long.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;

/// Without which opening a pipe waits, unless it is opened to be read and written.
pub(crate) const AT_ONCE: OFlags = OFlags::NONBLOCK;

/// Opens a file, and no pipe or device: what it would wait for may never come. `flags` are further ones of `open`.
pub(crate) fn open_plain(options: &mut OpenOptions, flags: OFlags, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no plain file")) }
}

/// The text of what somebody named, which may be a pipe; refused behind so many bytes, because memory has an end.
#[cfg(feature = "server")]
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

/// Gives what is whole, on the disk, its name; what has that name already is never replaced.
#[cfg(feature = "server")]
pub(crate) fn name_new(whole: &Path, name: &Path) -> io::Result<()> {
    let directory = name.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::hard_link(whole, name)?;
    std::fs::remove_file(whole)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_and_devices_are_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let [pipe, link, file] = ["pipe", "link", "file"].map(|name| directory.path().join(name));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        std::fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let read = || OpenOptions::new().read(true).to_owned();
        for odd in [pipe.as_path(), Path::new("/dev/zero"), directory.path()] {
            assert!(open_plain(&mut read(), AT_ONCE, odd).is_err(), "{}", odd.display());
        }
        open_plain(OpenOptions::new().append(true), AT_ONCE, &pipe).unwrap_err();
        open_plain(&mut read(), AT_ONCE, &link).unwrap();
        open_plain(&mut read(), AT_ONCE | OFlags::NOFOLLOW, &link).unwrap_err();
    }

    #[cfg(feature = "server")]
    #[test]
    fn what_never_ends_is_read_to_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "text").unwrap();
        assert_eq!(read_text(&file, 4).unwrap(), "text");
        assert_eq!(read_text(&file, 3).unwrap_err().to_string(), "it has more than 3 bytes");
        assert_eq!(read_text(Path::new("/dev/zero"), 1000).unwrap_err().to_string(), "it has more than 1000 bytes");
    }
}
