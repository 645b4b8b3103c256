//! The journal of what ended: a file beside the database, or better on another disk, so that a database that is put back to
//! an earlier state does not bring ended tokens back.
//!
//! It is written by whoever follows the feed, so one server's journal has what all of them ended, and it is caught up from the
//! feed at start. Each line says how far it has followed (a [`Mark`]) and what ended since the line before. A revoke is
//! answered when its line is on the disk; a journal that cannot be written does not hold a revoke up.
//!
//! A server reads the end of its journal only, so a long one costs it nothing. Whoever wants a shorter one moves it away: the
//! next one begins where that ended, with a line that says so, and who restores is given both.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    domain::{PlatformId, TokenId},
    store::{Changes, Mark},
};

/// How often a line is written if nothing ends: from there on an earlier state of the database is noticed at a start.
const MARK_EVERY: Duration = Duration::from_secs(10);
/// Servers that may write journals side by side.
const MOST: u32 = 9;
/// How long a revoke waits for its line.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How much of a journal is looked at first, to find its last line.
const END: u64 = 1 << 16;

/// One line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    installation: String,
    seq: u64,
    seal: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ended: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    disabled: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    enabled: Vec<String>,
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let digits = text.as_bytes().chunks_exact(2);
    (text.len() == 2 * N).then_some(())?;
    for (byte, pair) in bytes.iter_mut().zip(digits) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl Line {
    /// That everything up to there was followed.
    fn at(installation: String, mark: &Mark) -> Self {
        Self { installation, seq: mark.seq, seal: hex(&mark.mac), ended: Vec::new(), disabled: Vec::new(), enabled: Vec::new() }
    }

    fn read(text: &[u8]) -> Option<(Self, [u8; 16], Mark)> {
        let line: Self = serde_json::from_slice(text).ok()?;
        let (installation, mac) = (parse_hex(&line.installation)?, parse_hex(&line.seal)?);
        let mark = Mark { seq: line.seq, mac };
        Some((line, installation, mark))
    }
}

/// What a journal says, from its first line to its last.
#[derive(Debug)]
pub struct Journal {
    pub(super) installation: [u8; 16],
    /// Where it begins.
    #[cfg_attr(not(any(feature = "server", test)), expect(dead_code, reason = "whoever restores looks at it"))]
    pub(super) first: Mark,
    /// The places of its lines, in their order: whichever of them a database has, the journal knows everything behind it.
    pub(super) marks: Vec<Mark>,
    /// How far it goes.
    pub(super) mark: Mark,
    pub(super) ended: BTreeSet<TokenId>,
    /// The last that it knows of a platform: the place, and whether it was disabled there.
    pub(super) platforms: BTreeMap<PlatformId, (u64, bool)>,
}

impl Journal {
    /// Reads a journal, also one that a server is writing.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let failed = |e: io::Error| format!("cannot read the journal {}: {e}", path.display());
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let (mut journal, mut number, mut text) = (None::<Self>, 0_u64, Vec::new());
        loop {
            text.clear();
            reader.read_until(b'\n', &mut text).map_err(failed)?;
            number += 1;
            // A line without its end was being written when the machine stopped: nobody was told that it is there.
            if !text.ends_with(b"\n") {
                break;
            }
            let broken = || format!("line {number} of the journal {} is not one that countersign wrote", path.display());
            let Some((line, installation, mark)) = Line::read(&text) else {
                // The last one may have been torn with its end on the disk.
                if reader.fill_buf().is_ok_and(<[u8]>::is_empty) {
                    break;
                }
                return Err(broken());
            };
            let journal = journal.get_or_insert_with(|| Self {
                installation,
                first: mark,
                marks: Vec::new(),
                mark,
                ended: BTreeSet::new(),
                platforms: BTreeMap::new(),
            });
            if journal.installation != installation {
                return Err(broken());
            }
            journal.mark = mark;
            journal.marks.push(mark);
            for id in &line.ended {
                journal.ended.insert(TokenId::parse(id).ok_or_else(broken)?);
            }
            let changed = line.enabled.iter().map(|id| (id, false)).chain(line.disabled.iter().map(|id| (id, true)));
            for (id, disabled) in changed {
                journal.platforms.insert(PlatformId::parse(id).ok_or_else(broken)?, (mark.seq, disabled));
            }
        }
        journal.ok_or_else(|| format!("the journal {} is empty", path.display()))
    }
}

/// Of which installation a journal is, and how far it goes.
type Last = ([u8; 16], Mark);

/// What the last whole line of a journal says, if there is one, and where it ends: all that a server needs to go on, however
/// long the journal is.
fn read_end(mut file: &File, path: &Path) -> Result<(Option<Last>, u64), String> {
    let failed = |e: io::Error| format!("cannot read the journal {}: {e}", path.display());
    let behind_last_end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut size = END;
    loop {
        let from = file.metadata().map_err(failed)?.len().saturating_sub(size);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut bytes)).map_err(failed)?;
        let mut end = behind_last_end(&bytes);
        // The last one may have been torn with its end on the disk; not the one before.
        for may_be_torn in [true, false] {
            let begin = behind_last_end(&bytes[..end.saturating_sub(1)]);
            if begin == 0 && from > 0 {
                break;
            }
            match Line::read(&bytes[begin..end]) {
                Some((_, installation, mark)) => return Ok((Some((installation, mark)), from + end as u64)),
                None if end == 0 => return Ok((None, 0)),
                None if may_be_torn => end = begin,
                None => return Err(format!("the journal {} does not end with lines that countersign wrote", path.display())),
            }
        }
        size *= 4;
    }
}

/// Opens a journal to write it, as the only one who does.
fn open_locked(path: &Path) -> Result<File, TryLockError> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// What the writing thread is told.
enum Note {
    /// This was followed up to there, at this moment by the clock of leases.
    Followed(Line, Mark, Duration),
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
    installation: String,
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
    pub(super) fn open(path: &Path, installation: [u8; 16]) -> Result<(Self, Vec<Mark>), String> {
        let (mut opened, mut marks) = (None, Vec::new());
        for number in 1..=MOST {
            let path = if number == 1 { path.to_owned() } else { path.with_added_extension(number.to_string()) };
            if opened.is_none() {
                opened = Self::try_open(&path, installation)?;
            }
            if let Ok(file) = File::open(&path) {
                marks.extend(read_end(&file, &path)?.0.filter(|(of, _)| *of == installation).map(|(_, mark)| mark));
            }
        }
        let opened = opened.ok_or_else(|| format!("{MOST} servers write journals beside {} already", path.display()))?;
        Ok((opened, marks))
    }

    /// None if another process writes it.
    fn try_open(path: &Path, installation: [u8; 16]) -> Result<Option<Self>, String> {
        let failed = |e: io::Error| format!("cannot write the journal {}: {e}; say where it can be written with --journal", path.display());
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            // On PostgreSQL nothing else may have been kept in the data directory yet.
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        }
        let file = match open_locked(path) {
            Ok(file) => file,
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        };
        let (found, whole) = read_end(&file, path)?;
        if found.is_some_and(|(of, _)| of != installation) {
            return Err(format!(
                "the journal {} is of another database: move it away if this one is new, or say where this one's is with --journal",
                path.display()
            ));
        }
        file.set_len(whole).map_err(failed)?;
        let (found, installation) = (found.map(|(_, mark)| mark), hex(&installation));
        let mark = found.unwrap_or(Mark::START);
        let (tell, written) = watch::channel(Written { mark, failing: false });
        let (notes, noted) = mpsc::channel();
        let goes_on = found.map(|mark| Line::at(installation.clone(), &mark));
        let mut writing = Writing { file, whole, path: path.to_owned(), goes_on, waiting: None, followed: mark, last: None };
        let write = move || {
            for note in noted {
                tell.send_if_modified(|written| writing.take(note, written));
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

    /// Notes what was followed at the moment `now`, by the clock of leases.
    pub(super) fn note(&self, changes: &Changes, now: Duration) {
        let ended = changes.tokens.iter().filter(|record| record.token.revoked_at.is_some());
        let (disabled, enabled): (Vec<_>, Vec<_>) =
            changes.platforms.iter().map(|(_, record)| &record.platform).partition(|platform| platform.disabled_at.is_some());
        let line = Line {
            ended: ended.map(|record| record.token.id.to_string()).collect(),
            disabled: disabled.iter().map(|platform| platform.id.to_string()).collect(),
            enabled: enabled.iter().map(|platform| platform.id.to_string()).collect(),
            ..Line::at(self.installation.clone(), &changes.through)
        };
        self.tell(Note::Followed(line, changes.through, now));
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
    /// Where the last whole line ends.
    whole: u64,
    path: PathBuf,
    /// How far the last line goes: a new file begins with it.
    goes_on: Option<Line>,
    /// What is to be written with the next line.
    waiting: Option<Line>,
    /// How far that goes.
    followed: Mark,
    /// When the last line was written.
    last: Option<Duration>,
}

impl Writing {
    /// Says whether `written` has changed.
    fn take(&mut self, note: Note, written: &mut Written) -> bool {
        let due = match note {
            Note::Mark => true,
            Note::Followed(line, mark, now) => {
                // A new file is not begun with the next end only, which may come when no server runs.
                let ends = !(line.ended.is_empty() && line.disabled.is_empty() && line.enabled.is_empty());
                let pressing = ends || !self.is_whole().unwrap_or(false);
                if !pressing && mark == written.mark && self.whole > 0 {
                    return false;
                }
                let due = pressing || self.last.is_none_or(|last| now.saturating_sub(last) >= MARK_EVERY);
                self.wait(line);
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

    /// Adds to what waits.
    fn wait(&mut self, line: Line) {
        let Some(waiting) = &mut self.waiting else {
            self.waiting = Some(line);
            return;
        };
        let Line { seq, seal, ended, disabled, enabled, .. } = line;
        waiting.ended.extend(ended);
        waiting.disabled.retain(|id| !enabled.contains(id));
        waiting.enabled.retain(|id| !disabled.contains(id));
        waiting.disabled.extend(disabled);
        waiting.enabled.extend(enabled);
        (waiting.seq, waiting.seal) = (seq, seal);
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

    /// Writes what waits, to the disk.
    fn write(&mut self) -> io::Result<()> {
        let Some(line) = &self.waiting else { return Ok(()) };
        if !self.is_there()? {
            // What is written to a file that nobody finds again is lost.
            (self.file, self.whole) = (open_locked(&self.path)?, u64::MAX);
        }
        let len = self.file.metadata()?.len();
        self.whole = self.whole.min(len);
        if len > self.whole {
            // What a write that failed has left.
            self.file.set_len(self.whole)?;
        }
        let mut text = Vec::new();
        for line in self.goes_on.iter().filter(|_| self.whole == 0).chain([line]) {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        self.file.write_all(&text)?;
        self.file.sync_data()?;
        self.whole += text.len() as u64;
        self.goes_on = self.waiting.take().map(|line| Line { ended: Vec::new(), disabled: Vec::new(), enabled: Vec::new(), ..line });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    /// However long its lines are, and wherever a power cut has left it.
    #[test]
    fn the_end_of_a_journal_is_found() {
        let line = |seq: u64, ended: usize| {
            let ended = vec!["0198c9a5-0000-7000-8000-000000000000".to_owned(); ended];
            let line = Line { ended, ..Line::at(hex(&[7; 16]), &Mark { seq, mac: [9; 32] }) };
            serde_json::to_string(&line).unwrap() + "\n"
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let end = |text: &str| {
            fs::write(&path, text).unwrap();
            let (found, whole) = read_end(&File::open(&path).unwrap(), &path)?;
            Ok::<_, String>((found.map_or(0, |(_, mark)| mark.seq), whole))
        };
        let lines = [line(1, 0), line(2, 5000), line(3, 1), line(4, 20_000)];
        let (mut text, mut before) = (String::new(), (0, 0));
        for (seq, line) in (1..).zip(&lines) {
            for torn in ["", &line[..1], &line[..line.len() - 1], "torn\n", &format!("{}\n", "x".repeat(300_000))] {
                assert_eq!(end(&format!("{text}{torn}")), Ok(before), "{seq}");
            }
            text += line;
            before = (seq, text.len() as u64);
        }
        assert_eq!(end(&text), Ok((4, text.len() as u64)));
        assert!(end(&format!("{text}torn\ntorn\n")).is_err());
        assert!(end("torn\ntorn\n").is_err());
    }

    /// Whatever somebody does to its file: the end that comes next is there, behind a place that is known.
    #[test]
    fn a_part_begins_where_the_one_before_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let (file, mark) = (open_locked(&path).unwrap(), |seq| Mark { seq, mac: [9; 32] });
        let (goes_on, waiting, followed) = (None, None, Mark::START);
        let mut writing = Writing { file, whole: 0, path: path.clone(), goes_on, waiting, followed, last: None };
        let mut written = Written { mark: Mark::START, failing: false };
        let mut end = |seq: u64| {
            let line = Line {
                ended: vec![TokenId::first_of(Timestamp::from_millis(seq.cast_signed())).to_string()],
                ..Line::at(hex(&[7; 16]), &mark(seq))
            };
            writing.take(Note::Followed(line, mark(seq), Duration::ZERO), &mut written);
            assert_eq!(written, Written { mark: mark(seq), failing: false });
            let journal = Journal::read(&path).unwrap();
            (journal.first.seq, journal.mark.seq, journal.ended.len())
        };
        assert_eq!(end(1), (1, 1, 1));
        fs::rename(&path, directory.path().join("away")).unwrap();
        assert_eq!(end(5), (1, 5, 1));
        fs::write(&path, "").unwrap();
        assert_eq!(end(7), (5, 7, 1));
        // What a write that failed has left is no part of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"install").unwrap();
        assert_eq!(end(9), (5, 9, 2));
    }
}
