//! Signing heads, again and again, and writing them where the database is not.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{
    Reading,
    head::Head,
    line, of_checkpoint,
    sinks::Sink,
    tree::{Tree, leaf},
};
use crate::{
    authority::{Authority, copying::sentence, keyring::Seen},
    domain::{HeadSink, RecordedEntry, Timestamp},
    store::{Mark, Seal},
};

/// How often a head is signed, where there is something new.
const EVERY: Duration = Duration::from_secs(60);
/// Entries between two checkpoints: who begins anew reads no more than these.
const CHECKPOINT_EVERY: u64 = 65_536;

/// What is counted about heads.
#[derive(Debug, Default)]
pub(in crate::authority) struct HeadCounts {
    /// How many entries the last head is of that a sink has.
    pub(in crate::authority) size: AtomicU64,
    /// How often one could not be signed, or not be written to a sink.
    pub(in crate::authority) failures: AtomicU64,
    /// When all sinks were last found to have a head of all that there was, in milliseconds of the clock that counts suspend, and
    /// one; 0 is never.
    whole: AtomicU64,
}

impl HeadCounts {
    fn note_whole(&self, now: Duration) {
        self.whole.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
    }

    /// For how long there may have been entries that no head elsewhere is of. `None` if none was ever written.
    pub(in crate::authority) fn age(&self, now: Duration) -> Option<Duration> {
        let whole = self.whole.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_sub(Duration::from_millis(whole)))
    }
}

/// Signs heads of the log of a process that answers.
pub struct HeadWriter {
    authority: Arc<Authority>,
    /// How far the log was read, and found right.
    mark: Mark,
    tree: Tree,
    checkpoint_every: u64,
    /// The last head: how many entries it is of, when it was signed, and its line.
    head: Option<(u64, Timestamp, String)>,
    sinks: Vec<Kept>,
    /// Whether somebody was told that none can be signed.
    failing: bool,
}

/// A sink, and of how many entries the head is that it has.
struct Kept {
    sink: Sink,
    size: u64,
    failing: bool,
}

/// Where reading ended.
enum Read {
    /// At the end of the log.
    Whole,
    /// At once: the log does not have the place where it was to begin.
    Elsewhere,
    /// At an entry that is not as it was sealed.
    Edited(u64),
    /// At one that was sealed with a key that is missing here.
    Lacking(u32),
}

impl HeadWriter {
    /// Of this process's database, to these sinks.
    ///
    /// # Errors
    /// A sentence that says what is wrong with a sink.
    pub fn new(authority: &Arc<Authority>, sinks: &[HeadSink]) -> Result<Self, String> {
        let kept = |sink: &HeadSink| Ok(Kept { sink: Sink::open(sink)?, size: 0, failing: false });
        Ok(Self {
            authority: Arc::clone(authority),
            mark: Mark::START,
            tree: Tree::default(),
            checkpoint_every: CHECKPOINT_EVERY,
            head: None,
            sinks: sinks.iter().map(kept).collect::<Result<_, String>>()?,
            failing: false,
        })
    }

    /// The same with another distance of checkpoints.
    #[must_use]
    pub fn with_checkpoints_every(self, entries: u64) -> Self {
        Self { checkpoint_every: entries.max(1), ..self }
    }

    /// Signs a head if there is something new, and writes it to the sinks that do not have it. What fails is told once,
    /// counted, and tried again with the next call.
    pub async fn write(&mut self) {
        let authority = Arc::clone(&self.authority);
        let (counts, began) = (&authority.heads, authority.clock.boot());
        let signed = self.sign().await;
        match &signed {
            Ok(()) => self.failing = false,
            Err(cause) => {
                counts.failures.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(cause, "no head of the audit log can be signed");
                }
            }
        }
        let Some((size, at, line)) = &self.head else { return };
        let late = self.sinks.iter_mut().filter(|kept| kept.size < *size);
        join_all(late.map(async |kept| match kept.sink.write(*at, line).await {
            Ok(()) => {
                (kept.size, kept.failing) = (*size, false);
                counts.size.fetch_max(*size, Ordering::Relaxed);
            }
            Err(cause) => {
                counts.failures.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut kept.failing, true) {
                    tracing::error!(sink = %kept.sink, cause, "a head of the audit log cannot be written there");
                }
            }
        }))
        .await;
        if signed.is_ok() && self.sinks.iter().all(|kept| kept.size == *size) {
            counts.note_whole(began);
        }
    }

    /// Reads what is new of the log, and signs it where all of it is as it was sealed: never over an edited one.
    async fn sign(&mut self) -> Result<(), String> {
        let reading = Reading::of(&self.authority.database, Arc::clone(&self.authority.keyring)).await?;
        let checkpoints = reading.checkpoints.iter().rev().filter_map(of_checkpoint);
        let known = (self.mark.seq > 0).then(|| (self.mark, self.tree.clone()));
        let places: Vec<_> = known.into_iter().chain(checkpoints).chain([(Mark::START, Tree::default())]).collect();
        for (mark, tree) in places {
            (self.mark, self.tree) = (mark, tree);
            match self.read(&reading).await? {
                Read::Elsewhere => {}
                Read::Whole if self.mark == reading.last => {
                    self.sign_here(&reading);
                    return Ok(());
                }
                Read::Whole => return Err("the feed of changes goes further than the audit log".to_owned()),
                Read::Edited(seq) => {
                    self.authority.note_tampered(format!("audit entry {seq}"));
                    return Err(format!("audit entry {seq} is not as it was sealed; countersign audit verify says more"));
                }
                Read::Lacking(key) => {
                    self.authority.note_lacking(key);
                    return Err(format!(
                        "key {key} is missing in this node's key file, and audit entry {} is sealed with it",
                        self.mark.seq + 1
                    ));
                }
            }
        }
        Err("the audit log does not begin with its first entry".to_owned())
    }

    /// Goes on from where it is to the end of the log, as far as that is right.
    async fn read(&mut self, reading: &Reading) -> Result<Read, String> {
        let start = reading.start().0;
        if self.mark.seq < start.seq {
            return Ok(Read::Elsewhere);
        }
        let noted = reading.checkpoints.last().map_or(0, |checkpoint| checkpoint.mark.seq);
        let (mut read, mut crossed) = (Read::Whole, Vec::new());
        // From the last entry that was read on, so that it is seen whether that is there still.
        let mut held = (self.mark != start).then_some(self.mark);
        let behind = held.map_or(start.seq, |mark| mark.seq - 1);
        let each = |found: Result<(&RecordedEntry, &Seal), String>| {
            read = match (found, held.take()) {
                (Ok((entry, seal)), Some(mark)) if mark == (Mark { seq: entry.seq, mac: seal.mac }) => Read::Whole,
                (_, Some(_)) => Read::Elsewhere,
                (Ok((entry, seal)), None) => match self.authority.keyring.see_entry(&self.mark, entry, seal) {
                    Seen::Unknown => Read::Lacking(seal.key),
                    Seen::Edited => Read::Edited(self.mark.seq + 1),
                    Seen::Intact | Seen::Retired => {
                        self.mark = Mark { seq: entry.seq, mac: seal.mac };
                        self.tree.append(leaf(&line(entry, seal)));
                        if entry.seq.is_multiple_of(self.checkpoint_every) && entry.seq > noted {
                            crossed.push((self.mark, self.tree.peaks()));
                        }
                        Read::Whole
                    }
                },
                (Err(_), None) => Read::Edited(self.mark.seq + 1),
            };
            if matches!(read, Read::Whole) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        reading.source.visit_entries(behind, each).await.map_err(sentence)?;
        if held.is_some() {
            return Ok(Read::Elsewhere);
        }
        for (mark, peaks) in crossed {
            let checkpoint = self.authority.keyring.seal_checkpoint(mark, peaks, false);
            self.authority.store.insert_checkpoint(checkpoint, None).await.map_err(sentence)?;
        }
        Ok(read)
    }

    fn sign_here(&mut self, reading: &Reading) {
        if self.mark == Mark::START || self.head.as_ref().is_some_and(|(size, ..)| *size == self.mark.seq) {
            return;
        }
        let (at, node) = (self.authority.clock.wall(), self.authority.store.node().to_owned());
        let head = Head { installation: reading.installation, mark: self.mark, root: self.tree.root(), at, node };
        self.head = Some((self.mark.seq, at, head.sign(&self.authority.keyring)));
    }

    /// Begins to write every minute, on a thread of its own: reading a long log is work, and nothing waits for it.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(mut self) -> std::io::Result<HeadWriting> {
        let (end, ending) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("heads".to_owned()).spawn(move || {
            runtime.block_on(self.keep_writing(ending));
            // A disk that does not answer must not hold up the end.
            runtime.shutdown_background();
        })?;
        Ok(HeadWriting { end, thread })
    }

    async fn keep_writing(&mut self, mut ending: oneshot::Receiver<()>) {
        let mut minutes = tokio::time::interval(EVERY);
        loop {
            let ends = tokio::select! {
                _ = minutes.tick() => false,
                _ = &mut ending => true,
            };
            self.write().await;
            if ends {
                return;
            }
        }
    }
}

/// The thread that writes heads.
#[derive(Debug)]
pub struct HeadWriting {
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl HeadWriting {
    /// Writes a last one, if there is something new, and ends.
    pub async fn end(self) {
        drop(self.end);
        let _ = tokio::task::spawn_blocking(move || self.thread.join()).await;
    }
}
