//! The journal of what ended: a file beside the database, or better on another disk, so that a database that is put back to
//! an earlier state does not bring ended tokens back.
//!
//! It is written by whoever follows the feed, so one server's journal has what all of them ended, and it is caught up from the
//! feed at start. Each line says how far it has followed (a [`Mark`]) and what ended since the line before. A revoke is
//! answered when its line is on the disk; a journal that cannot be written does not hold a revoke up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
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
const PATIENCE: Duration = Duration::from_secs(2);

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
    fn mark(&self) -> Option<Mark> {
        Some(Mark { seq: self.seq, mac: parse_hex(&self.seal)? })
    }
}

/// What a journal says, from its first line to its last.
#[derive(Debug)]
pub struct Journal {
    pub(super) installation: [u8; 16],
    /// Where it begins.
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "whoever restores looks at it"))]
    pub(super) first: Mark,
    /// The places of its lines: whichever of them a database has, the journal knows everything behind it.
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
        let file = File::open(path).map_err(failed)?;
        read_lines(&file, path)?.0.ok_or_else(|| format!("the journal {} is empty", path.display()))
    }
}

/// What a journal says, if it says anything, and where its last whole line ends.
fn read_lines(file: &File, path: &Path) -> Result<(Option<Journal>, u64), String> {
    let mut reader = BufReader::new(file);
    let (mut journal, mut whole, mut number, mut text) = (None::<Journal>, 0, 0_u64, String::new());
    loop {
        text.clear();
        let length = reader.read_line(&mut text).map_err(|e| format!("cannot read the journal {}: {e}", path.display()))?;
        // A line without its end was being written when the machine stopped: nobody was told that it is there.
        if !text.ends_with('\n') {
            return Ok((journal, whole));
        }
        whole += length as u64;
        number += 1;
        let broken = || format!("line {number} of the journal {} is not one that countersign wrote", path.display());
        let line: Line = match serde_json::from_str(&text) {
            Ok(line) => line,
            // The last one may have been torn with its end on the disk.
            Err(_) if reader.fill_buf().is_ok_and(<[u8]>::is_empty) => return Ok((journal, whole - length as u64)),
            Err(_) => return Err(broken()),
        };
        let (mark, installation) = (line.mark().ok_or_else(broken)?, parse_hex(&line.installation).ok_or_else(broken)?);
        let journal = journal.get_or_insert_with(|| Journal {
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
}

/// Opens a journal to write it, as the only one who does.
fn open_locked(path: &Path) -> Result<File, TryLockError> {
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// What the writing thread is told.
enum Note {
    /// This was followed, at this moment by the clock of leases.
    Followed(Line, Duration),
    /// Write down how far it is, now.
    Mark,
}

/// How far the journal is, and whether it cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    seq: u64,
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
                let journal = read_lines(&file, &path)?.0.filter(|journal| journal.installation == installation);
                marks.extend(journal.map(|journal| journal.mark));
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
        let (journal, whole) = read_lines(&file, path)?;
        if journal.as_ref().is_some_and(|journal| journal.installation != installation) {
            return Err(format!(
                "the journal {} is of another database: move it away if this one is new, or say where this one's is with --journal",
                path.display()
            ));
        }
        file.set_len(whole).map_err(failed)?;
        let found = journal.map(|journal| journal.mark);
        let (tell, written) = watch::channel(Written { seq: found.map_or(0, |mark| mark.seq), failing: false });
        let (notes, noted) = mpsc::channel();
        let mut writing = Writing { file, whole, path: path.to_owned(), waiting: None, last: None };
        let write = move || {
            for note in noted {
                tell.send_if_modified(|written| writing.take(note, written));
            }
            let _ = writing.write();
        };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(write).map_err(failed)?;
        let installation = hex(&installation);
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
        self.tell(Note::Followed(
            Line {
                installation: self.installation.clone(),
                seq: changes.through.seq,
                seal: hex(&changes.through.mac),
                ended: ended.map(|record| record.token.id.to_string()).collect(),
                disabled: disabled.iter().map(|platform| platform.id.to_string()).collect(),
                enabled: enabled.iter().map(|platform| platform.id.to_string()).collect(),
            },
            now,
        ));
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
        let mut written = self.written.clone();
        let reached = written.wait_for(|written| written.seq >= seq || written.failing);
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            tracing::error!(journal = %self.path.display(), "the journal is behind: what was just ended is in the database alone");
        }
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
    /// What is to be written with the next line.
    waiting: Option<Line>,
    /// When the last line was written.
    last: Option<Duration>,
}

impl Writing {
    /// Says whether `written` has changed.
    fn take(&mut self, note: Note, written: &mut Written) -> bool {
        let due = match note {
            Note::Mark => true,
            Note::Followed(line, now) => {
                let ends = !(line.ended.is_empty() && line.disabled.is_empty() && line.enabled.is_empty());
                if !ends && line.seq == written.seq && self.whole > 0 {
                    return false;
                }
                let due = ends || self.last.is_none_or(|last| now.saturating_sub(last) >= MARK_EVERY);
                self.wait(line);
                if due {
                    self.last = Some(now);
                }
                due
            }
        };
        let seq = self.waiting.as_ref().map_or(written.seq, |line| line.seq);
        let before = *written;
        match if due || before.failing { self.write() } else { Ok(()) } {
            Ok(()) => *written = Written { seq, failing: false },
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

    /// Goes on in a new file where somebody has moved the one before, or where it is shorter than it was: what is written to
    /// a file that nobody finds again is lost.
    fn stay(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        let is_there = fs::metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        if !is_there {
            self.file = open_locked(&self.path)?;
            self.whole = self.file.metadata()?.len();
        }
        self.whole = self.whole.min(self.file.metadata()?.len());
        Ok(())
    }

    /// Writes what waits, to the disk.
    fn write(&mut self) -> io::Result<()> {
        let Some(line) = &self.waiting else { return Ok(()) };
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.stay()?;
        // What a write that failed has left goes first.
        self.file.set_len(self.whole)?;
        self.file.seek(SeekFrom::End(0))?;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()?;
        self.whole += text.len() as u64;
        self.waiting = None;
        Ok(())
    }
}
