//! The journal of what ended: a file beside the database, or better on another disk, so that a database that is put back to
//! an earlier state does not bring ended tokens back.
//!
//! It is written by whoever follows the feed, so one server's journal has what all of them ended, and it is caught up from the
//! feed at start. Each line says how far it has followed (a [`Mark`]) and what ended since the line before. A revoke is
//! answered when its line is on the disk; a journal that cannot be written does not hold a revoke up.
//!
//! A server reads the end of its journal only, so a long one costs it nothing. Whoever wants a shorter one moves it away: the
//! next one begins where that ended, with a line that says so, and who restores is given both.

mod line;
#[cfg(feature = "server")]
mod read;

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::sync::watch;

use self::line::{End, Line, open_to_read};
use super::{Options, keyring::Keyring};
use crate::{
    domain::{KeySource, Timestamp},
    files::open_plain,
    store::{Changes, Mark},
};

#[cfg(feature = "server")]
pub(super) use self::line::{hex, parse_hex};
#[cfg(feature = "server")]
pub use self::read::{Journal, Reach};

/// A journal as it is written, for `fuzzed`: a line for each place of the feed, with what ended up to there.
#[cfg(feature = "server")]
pub(super) fn written(lines: &[(u64, Vec<String>)], installation: &[u8; 16], keyring: &Keyring) -> io::Result<Vec<u8>> {
    let (mut text, mut after) = (Vec::new(), None);
    for (seq, ended) in lines {
        let mut line = Line::at(installation, &Mark { seq: *seq, mac: [7; 32] }, Timestamp::MIN);
        line.ended.clone_from(ended);
        after = Some(line.write(after, keyring, &mut text)?);
    }
    Ok(text)
}

/// How often a line is written if nothing ends: from there on an earlier state of the database is noticed at a start.
const MARK_EVERY: Duration = Duration::from_secs(10);
/// Servers that may write journals side by side.
const MOST: u32 = 9;
/// How long a revoke waits for its line.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Refuses to keep the journal in the key file or the database's file, by whatever name.
pub(super) fn refuse_other_file(path: &Path, options: &Options) -> Result<(), String> {
    let same = |other: &Path| match (fs::metadata(path), fs::metadata(other)) {
        (Ok(this), Ok(other)) => (this.dev(), this.ino()) == (other.dev(), other.ino()),
        _ => false,
    };
    let key_file = match &options.keys {
        KeySource::File(path) => Some(path.clone()),
        _ => None,
    };
    let others = [key_file, options.database.file()];
    match others.into_iter().flatten().find(|other| same(other)) {
        Some(other) => {
            Err(format!("the journal cannot be {}, which is something else; say where it is to be kept with --journal", other.display()))
        }
        None => Ok(()),
    }
}

/// Opens a journal to write it, as the only one who does, with how it ends: what a power cut has left behind that is cut off.
/// `None` if another process writes it.
fn open_to_write(path: &Path, installation: &[u8; 16], keyring: &Keyring) -> Result<Option<(File, End)>, String> {
    let failed = |e: io::Error| format!("cannot write the journal {}: {e}; say where it can be written with --journal", path.display());
    let file = open_plain(OpenOptions::new().read(true).append(true).create(true).mode(0o600), OFlags::empty(), path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    let end = End::find(&file, path)?;
    if let Some((line, place)) = &end.last {
        if place.installation != *installation {
            return Err(format!(
                "the journal {} is of another database: move it away if this one is new, or say where this one's is with --journal",
                path.display()
            ));
        }
        if let Some(problem) = line.problem(keyring) {
            return Err(format!("the last line of the journal {} {problem}; keep it, and move it away", path.display()));
        }
    }
    let len = file.metadata().map_err(failed)?.len();
    if len > end.whole {
        tracing::warn!(journal = %path.display(), bytes = len - end.whole, "the last line of the journal was not written to its end, and is cut off");
        file.set_len(end.whole).map_err(failed)?;
    }
    Ok(Some((file, end)))
}

/// What the writing thread is told.
enum Note {
    /// This was followed up to there, at this moment by the clock of leases.
    Followed(Box<Line>, Mark, Duration),
    /// Write down how far it is, now.
    Mark,
}

/// How far the journal is, and whether it cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    mark: Mark,
    failing: bool,
}

/// The journal that this process writes. Dropping it writes down how far it is.
#[derive(Debug)]
pub(super) struct Writer {
    installation: [u8; 16],
    /// How far it was when it was opened.
    found: Option<Mark>,
    path: PathBuf,
    notes: Option<mpsc::Sender<Note>>,
    written: watch::Receiver<Written>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Opens the journal at `path`, or makes it; the one beside it (`.2`, `.3`) if another process writes that. Returns it
    /// with how far all of them are: whichever process wrote it, this one must go on from there too.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub(super) fn open(path: &Path, installation: [u8; 16], keyring: &Arc<Keyring>) -> Result<(Self, Vec<(PathBuf, Mark)>), String> {
        let (mut opened, mut marks) = (None, Vec::new());
        for number in 1..=MOST {
            let path = if number == 1 { path.to_owned() } else { path.with_added_extension(number.to_string()) };
            if opened.is_none() {
                opened = Self::try_open(&path, installation, keyring)?;
            }
            if let Ok(file) = open_to_read(&path) {
                let last = End::find(&file, &path)?.last.filter(|(_, of)| of.installation == installation);
                marks.extend(last.map(|(_, of)| (path, of.mark)));
            }
        }
        let opened = opened.ok_or_else(|| format!("{MOST} servers write journals beside {} already", path.display()))?;
        Ok((opened, marks))
    }

    /// None if another process writes it.
    fn try_open(path: &Path, installation: [u8; 16], keyring: &Arc<Keyring>) -> Result<Option<Self>, String> {
        let failed = |e: io::Error| format!("cannot write the journal {}: {e}; say where it can be written with --journal", path.display());
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            // On PostgreSQL nothing else may have been kept in the data directory yet.
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        }
        let Some((file, end)) = open_to_write(path, &installation, keyring)? else { return Ok(None) };
        let found = end.last.as_ref().map(|(_, place)| place.mark);
        let mark = found.unwrap_or(Mark::START);
        let (tell, written) = watch::channel(Written { mark, failing: false });
        let (notes, noted) = mpsc::channel();
        let mut writing = Writing::new(file, end, path, installation, keyring);
        let write = move || {
            let mut written = *tell.borrow();
            for note in noted {
                // Not while others may look: they would wait for the disk, and their threads with them.
                if writing.take(note, &mut written) {
                    tell.send_replace(written);
                }
            }
            let _ = writing.write();
        };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(write).map_err(failed)?;
        Ok(Some(Self { installation, found, path: path.to_owned(), notes: Some(notes), written, thread: Some(thread) }))
    }

    /// Where it goes on, if it was there before.
    pub(super) const fn found(&self) -> Option<Mark> {
        self.found
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it could not be written when that was tried last.
    pub(super) fn is_failing(&self) -> bool {
        self.written.borrow().failing
    }

    /// Notes what was followed at the moment `now`, by the clock of leases, which is `at` by that on the wall.
    pub(super) fn note(&self, changes: &Changes, now: Duration, at: Timestamp) {
        let ended = changes.tokens.iter().filter(|record| record.token.revoked_at.is_some());
        let (disabled, enabled): (Vec<_>, Vec<_>) =
            changes.platforms.iter().map(|(_, record)| &record.platform).partition(|platform| platform.disabled_at.is_some());
        let mut line = Line::at(&self.installation, &changes.through, at);
        line.ended = ended.map(|record| record.token.id.to_string()).collect();
        line.disabled = disabled.iter().map(|platform| platform.id.to_string()).collect();
        let keys = changes.keys.iter().flatten().filter(|key| key.retired_at.is_some());
        line.retired = keys.map(|key| key.key).collect();
        line.enabled = enabled.iter().map(|platform| platform.id.to_string()).collect();
        self.tell(Note::Followed(Box::new(line), changes.through, now));
    }

    /// Writes down how far it is.
    pub(super) fn note_mark(&self) {
        self.tell(Note::Mark);
    }

    fn tell(&self, note: Note) {
        if let Some(notes) = &self.notes {
            // Its thread ends after this value only.
            let _ = notes.send(note);
        }
    }

    /// Returns when everything up to there is in the journal, or cannot be written there.
    pub(super) async fn reached(&self, seq: u64) {
        if !self.within(PATIENCE, |mark| mark.seq >= seq).await {
            tracing::error!(journal = %self.path.display(), "the journal is behind: what was just ended is in the database alone");
        }
    }

    /// Whether what this process has followed, to the very place, comes to be in the journal in time, or cannot be written there.
    pub(super) async fn has(&self, followed: Mark, in_time: Duration) -> bool {
        self.within(in_time, |mark| mark == followed).await
    }

    async fn within(&self, time: Duration, is_so: impl Fn(Mark) -> bool) -> bool {
        let mut written = self.written.clone();
        tokio::time::timeout(time, written.wait_for(|written| written.failing || is_so(written.mark))).await.is_ok()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.notes.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Writing {
    file: File,
    path: PathBuf,
    installation: [u8; 16],
    keyring: Arc<Keyring>,
    /// Where the last whole line ends.
    whole: u64,
    /// The seal of the last line, if the next one goes on behind it; else that begins a part.
    after: Option<String>,
    /// How far the last line goes: a part begins with it.
    goes_on: Option<Line>,
    /// What is to be written with the next line.
    waiting: Option<Line>,
    /// How far that goes.
    followed: Mark,
    /// When the last line was written.
    last: Option<Duration>,
}

impl Writing {
    fn new(file: File, end: End, path: &Path, installation: [u8; 16], keyring: &Arc<Keyring>) -> Self {
        let End { last, whole } = end;
        Self {
            file,
            path: path.to_owned(),
            installation,
            keyring: Arc::clone(keyring),
            whole,
            after: last.as_ref().map(|(line, _)| line.mac.clone()),
            followed: last.as_ref().map_or(Mark::START, |(_, place)| place.mark),
            goes_on: last.map(|(line, _)| line.mark_alone()),
            waiting: None,
            last: None,
        }
    }

    /// Says whether `written` has changed.
    fn take(&mut self, note: Note, written: &mut Written) -> bool {
        let due = match note {
            Note::Mark => true,
            Note::Followed(line, mark, now) => {
                // A new file is not begun with the next end only, which may come when no server runs.
                let pressing = line.is_news() || !self.is_whole().unwrap_or(false);
                if !pressing && mark == written.mark && self.whole > 0 {
                    return false;
                }
                let due = pressing || self.last.is_none_or(|last| now.saturating_sub(last) >= MARK_EVERY);
                match &mut self.waiting {
                    Some(waiting) => waiting.take_in(*line),
                    None => self.waiting = Some(*line),
                }
                self.followed = mark;
                if due {
                    self.last = Some(now);
                }
                due
            }
        };
        let before = *written;
        match if due || before.failing { self.write() } else { Ok(()) } {
            Ok(()) => *written = Written { mark: self.followed, failing: false },
            Err(cause) => {
                if !before.failing {
                    tracing::error!(journal = %self.path.display(), %cause, "the journal cannot be written: what ends is in the database alone");
                }
                written.failing = true;
            }
        }
        *written != before
    }

    /// Whether the file is found under its name.
    fn is_there(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        Ok(fs::metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
    }

    /// Whether it also is as long as it was.
    fn is_whole(&self) -> io::Result<bool> {
        Ok(self.is_there()? && self.file.metadata()?.len() >= self.whole)
    }

    /// Sees to it that what is written is found again, behind a line that is whole: whatever somebody did to the file.
    fn mend(&mut self) -> io::Result<()> {
        let journal = self.path.display();
        if !self.is_there()? {
            let was_removed = self.file.metadata()?.nlink() == 0;
            let opened = open_to_write(&self.path, &self.installation, &self.keyring).map_err(io::Error::other)?;
            let (file, end) = opened.ok_or_else(|| io::Error::other("another process writes it"))?;
            (self.file, self.whole, self.after) = (file, end.whole, None);
            match was_removed {
                true => tracing::warn!(%journal, "the journal was removed: a new one begins, and what was in it is not in that"),
                false => tracing::info!(%journal, "the journal was moved away: a new one goes on where it ends"),
            }
        }
        let len = self.file.metadata()?.len();
        if len < self.whole {
            (self.whole, self.after) = (End::find(&self.file, &self.path).map_err(io::Error::other)?.whole, None);
            tracing::warn!(%journal, bytes = self.whole, "the journal was cut off: a new one begins behind what is left of it");
        }
        if len > self.whole {
            // What a write that failed has left.
            self.file.set_len(self.whole)?;
        }
        Ok(())
    }

    /// Writes what waits, to the disk.
    fn write(&mut self) -> io::Result<()> {
        if self.waiting.is_none() {
            return Ok(());
        }
        self.mend()?;
        let (mut text, mut after) = (Vec::new(), self.after.clone());
        for line in self.goes_on.iter().filter(|_| self.after.is_none()).chain(&self.waiting) {
            after = Some(line.clone().write(after, &self.keyring, &mut text)?);
        }
        self.file.write_all(&text)?;
        self.file.sync_data()?;
        self.whole += text.len() as u64;
        (self.after, self.goes_on) = (after, self.waiting.take().map(Line::mark_alone));
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::authority::key_file::KeyFile;

    /// Always the same.
    pub(in crate::authority) fn ring() -> Keyring {
        let root = "A".repeat(43);
        let text = format!(r#"{{"version":1,"keys":[{{"id":1,"state":"active","root":"{root}="}}]}}"#);
        Keyring::new(&KeyFile::parse(&text).unwrap()).unwrap()
    }

    /// Whatever somebody does to its file: the end that comes next is there, behind a place that is known.
    #[test]
    #[cfg(feature = "server")]
    fn a_part_begins_where_the_one_before_ended() {
        use crate::domain::TokenId;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let (ring, mark) = (Arc::new(ring()), |seq| Mark { seq, mac: [9; 32] });
        let (file, end) = open_to_write(&path, &[7; 16], &ring).unwrap().unwrap();
        let mut writing = Writing::new(file, end, &path, [7; 16], &ring);
        let mut written = Written { mark: Mark::START, failing: false };
        let mut end = |seq: u64| {
            let at = Timestamp::from_millis(seq.cast_signed());
            let mut line = Line::at(&[7; 16], &mark(seq), at);
            line.ended.push(TokenId::first_of(at).to_string());
            writing.take(Note::Followed(Box::new(line), mark(seq), Duration::ZERO), &mut written);
            let parts = Journal::read(&path, &ring).unwrap();
            assert_eq!(written, Written { mark: mark(seq), failing: false });
            parts.iter().map(|part| (part.first.seq, part.last.mark.seq, part.ended.len())).collect::<Vec<_>>()
        };
        let cut = |len: u64| OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
        let len = || fs::metadata(&path).unwrap().len();
        assert_eq!(end(1), [(1, 1, 1)]);
        fs::rename(&path, directory.path().join("away")).unwrap();
        assert_eq!(end(5), [(1, 5, 1)]);
        cut(0);
        assert_eq!(end(7), [(5, 7, 1)]);
        // What a write that failed has left is no part of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"install").unwrap();
        assert_eq!(end(9), [(5, 9, 2)]);
        // What is left when somebody cuts its end off is a part that ends there.
        cut(len() - 1);
        assert_eq!(end(11), [(5, 7, 1), (9, 11, 1)]);
        assert_eq!(end(13), [(5, 7, 1), (9, 13, 2)]);
        // Put back, or another one in its place: nothing of it is lost, and nothing is said to be in it that is not.
        fs::rename(directory.path().join("away"), &path).unwrap();
        assert_eq!(end(15), [(1, 1, 1), (13, 15, 1)]);
    }
}
