//! The audit log for whoever must not have to believe us: its lines, the tree of hashes over them, the heads that are signed
//! and kept elsewhere, and what checks all of it. `docs/audit.md` is the manual, and says what each proves against whom.
//!
//! ```text
//! entry ── line ── leaf ─┐
//! entry ── line ── leaf ─┴─ root ── head, signed (Ed25519) ── a file elsewhere, syslog, HTTP
//! ```
//! A line has the seal of its entry in it, which nobody can guess without the server key: so a hash of a line that somebody
//! may not see tells nothing about it.

pub(super) mod ended;
mod export;
mod head;
mod heads;
mod part;
mod proof;
mod prune;
mod sinks;
mod tree;
mod verify;

use std::{borrow::Cow, ops::Deref, sync::Arc};

use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard, Semaphore},
};

use self::tree::Tree;
use super::{
    Error,
    copying::{keyring_of, refuse, sentence},
    journal::hex,
    keyring::Keyring,
};
use crate::{
    domain::{KeySource, RecordedEntry},
    store::{Checkpoint, Database, Mark, Seal, Source},
};

pub use export::{Export, Exported, Exporting, export};
pub(super) use head::Head;
pub use head::{HeadKey, Heads, head_keys};
pub(super) use heads::HeadCounts;
pub use heads::{HeadWriter, HeadWriting};
pub use part::Part;
pub use proof::{Proof, prove};
pub use prune::{Pruned, Pruning};
pub use verify::{Problem, Verified, verify};

/// The members of a line, in their order. Frozen: the hashes of all lines that there are rest on it.
pub const MEMBERS: [&str; 13] =
    ["seq", "at", "action", "actor", "platform", "environment", "token", "requestId", "source", "node", "detail", "keyId", "seal"];

/// What a member of a line holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member<'e> {
    /// A whole number.
    Number(u64),
    /// A text.
    Text(Cow<'e, str>),
    /// Nothing.
    None,
}

/// The members of an entry's line: every value that its seal covers, but for the seal of the entry before; and its seal.
fn members<'e>(recorded: &'e RecordedEntry, seal: &Seal) -> [Member<'e>; 13] {
    let entry = &recorded.entry;
    let text = |text: String| Member::Text(text.into());
    let given = |text: &'e str| Member::Text(text.into());
    [
        Member::Number(recorded.seq),
        text(entry.at.to_string()),
        given(entry.action.name()),
        text(entry.actor.to_string()),
        entry.platform.map_or(Member::None, |id| text(id.to_string())),
        entry.scope.map_or(Member::None, |scope| given(scope.environment.name())),
        entry.token.map_or(Member::None, |id| text(id.to_string())),
        given(&entry.request.id),
        given(&entry.request.source),
        given(&recorded.node),
        given(&entry.detail),
        Member::Number(seal.key.into()),
        text(hex(&seal.mac)),
    ]
}

/// The line of an entry.
pub(super) fn line(entry: &RecordedEntry, seal: &Seal) -> String {
    object(MEMBERS.into_iter().zip(members(entry, seal)))
}

/// A JSON object in one way only: no spaces, the members in the order given, and ASCII alone, which is also what Python's
/// `json.dumps(…, separators=(",", ":"))` writes. So nothing in it ends a line or moves a terminal's cursor, whoever reads it.
fn object<'m>(members: impl IntoIterator<Item = (&'m str, Member<'m>)>) -> String {
    let mut text = String::with_capacity(512);
    for (name, member) in members {
        text.push(if text.is_empty() { '{' } else { ',' });
        push_text(&mut text, name);
        text.push(':');
        match member {
            Member::Number(number) => text.push_str(&number.to_string()),
            Member::Text(value) => push_text(&mut text, &value),
            Member::None => text.push_str("null"),
        }
    }
    text.push('}');
    text
}

fn push_text(to: &mut String, text: &str) {
    to.push('"');
    for c in text.chars() {
        match c {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            '\u{8}' => to.push_str("\\b"),
            '\u{c}' => to.push_str("\\f"),
            ' '..='~' => to.push(c),
            _ => to.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
        }
    }
    to.push('"');
}

/// What is known of a log before its entries are read.
struct Outline {
    keyring: Arc<Keyring>,
    /// How far the log goes, as the feed says.
    last: Mark,
    checkpoints: Vec<Checkpoint>,
    /// Checkpoints that are not as they were sealed, by their places, as far as those can be read.
    odd_checkpoints: Vec<(u64, String)>,
}

impl Outline {
    fn new(keyring: Arc<Keyring>, last: Mark, found: Vec<Result<Checkpoint, String>>) -> Self {
        let (mut checkpoints, mut odd_checkpoints) = (Vec::new(), Vec::new());
        for found in found {
            match found {
                Ok(checkpoint) if keyring.is_checkpoint_intact(&checkpoint) => checkpoints.push(checkpoint),
                Ok(Checkpoint { mark, .. }) => odd_checkpoints.push((mark.seq, format!("the audit checkpoint at {}", mark.seq))),
                Err(name) => odd_checkpoints.push((0, name)),
            }
        }
        Self { keyring, last, checkpoints, odd_checkpoints }
    }

    /// How many entries there are.
    fn entries(&self) -> u64 {
        self.last.seq.saturating_sub(self.start().0.seq)
    }

    /// Where the log begins: behind the entries that were pruned, if any were.
    fn start(&self) -> (Mark, Tree) {
        let pruned = self.checkpoints.iter().rfind(|checkpoint| checkpoint.pruned);
        pruned.and_then(of_checkpoint).unwrap_or((Mark::START, Tree::default()))
    }
}

/// A database whose audit log is read: one state of it, and the ring of its key file.
struct Reading {
    source: Source,
    installation: [u8; 16],
    outline: Outline,
}

impl Deref for Reading {
    type Target = Outline;

    fn deref(&self) -> &Outline {
        &self.outline
    }
}

impl Reading {
    async fn begin(database: &Database, keys: &KeySource) -> Result<Self, String> {
        let source = begin(database).await?;
        let keyring = keyring_of(&source, keys).await?;
        Self::with(source, Arc::new(keyring)).await
    }

    /// The same for whoever has the ring already.
    async fn of(database: &Database, keyring: Arc<Keyring>) -> Result<Self, String> {
        Self::with(begin(database).await?, keyring).await
    }

    /// Refuses a log with more entries than whoever waits has the time for.
    fn at_most(self, entries: Option<u64>) -> Result<Self, Error> {
        if entries.is_some_and(|most| self.entries() > most) { Err(Error::LogTooLong) } else { Ok(self) }
    }

    async fn with(source: Source, keyring: Arc<Keyring>) -> Result<Self, String> {
        let installation = source.installation().await.map_err(sentence)?.ok_or("the database holds no installation")?;
        let last = source.last_mark().await.map_err(sentence)?;
        let outline = Outline::new(keyring, last, source.checkpoints().await.map_err(sentence)?);
        Ok(Self { source, installation, outline })
    }
}

/// A place, and the tree over the lines up to it.
fn of_checkpoint(checkpoint: &Checkpoint) -> Option<(Mark, Tree)> {
    Some((checkpoint.mark, Tree::of_peaks(checkpoint.mark.seq, &checkpoint.peaks)?))
}

/// Whose turn it is to have the log read: that is work, and nobody else is to wait for more than one of them.
pub(super) struct Turns {
    turn: Arc<Mutex<()>>,
    waiting: Semaphore,
}

/// How many wait for their turn, at the most; whoever comes then is told so at once, and keeps no place that others need.
const WAITING: usize = 2;

impl Default for Turns {
    fn default() -> Self {
        Self { turn: Arc::default(), waiting: Semaphore::new(WAITING) }
    }
}

impl Turns {
    /// Waits for one's turn, which lasts for as long as the answer lives.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many wait already.
    async fn take(&self) -> Result<OwnedMutexGuard<()>, Error> {
        let _place = self.waiting.try_acquire().map_err(|_| Error::Busy)?;
        Ok(Arc::clone(&self.turn).lock_owned().await)
    }
}

/// Does what reads all of the log, once it is the only one that does: apart from the threads that answer, and to its end,
/// whoever has stopped waiting. Who stops waiting for their turn leaves nothing to do.
async fn apart<R: Send + 'static>(turns: &Turns, work: impl AsyncFnOnce() -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
    let turn = turns.take().await?;
    let here = Handle::current();
    let done = tokio::task::spawn_blocking(move || {
        let done = here.block_on(work());
        drop(turn);
        done
    })
    .await;
    done.unwrap_or_else(|_| Err(Error::Unavailable("the log could not be read".to_owned())))
}

/// A database in use, of which one state is read from here on.
async fn begin(database: &Database) -> Result<Source, String> {
    let source = Source::database(database).await.map_err(sentence)?;
    refuse(source.hold().await.map_err(sentence)?)?;
    source.begin(false).await.map_err(sentence)?;
    Ok(source)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::domain::{Action, Actor, AuditEntry, RequestInfo, Timestamp};

    #[tokio::test]
    async fn who_stops_waiting_for_their_turn_leaves_nothing_to_do() {
        let (turns, is_done) = (Turns::default(), Arc::new(AtomicBool::new(false)));
        let mark = |is_done: &Arc<AtomicBool>| {
            let is_done = Arc::clone(is_done);
            async move || {
                is_done.store(true, Ordering::SeqCst);
                Ok(())
            }
        };
        let turn = turns.take().await.unwrap();
        // Asked once, and given up.
        tokio::time::timeout(Duration::ZERO, apart(&turns, mark(&is_done))).await.unwrap_err();
        drop(turn);
        // Whoever comes next comes behind whatever was left.
        let next = Arc::new(AtomicBool::new(false));
        apart(&turns, mark(&next)).await.unwrap();
        assert!(next.load(Ordering::SeqCst) && !is_done.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_few_wait_for_their_turn_and_others_are_told_so() {
        let turns = Turns::default();
        let turn = turns.take().await.unwrap();
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(turns.take())).collect();
        for one in &mut waiting {
            tokio::time::timeout(Duration::ZERO, one).await.unwrap_err();
        }
        assert!(matches!(turns.take().await, Err(Error::Busy)));
        drop(turn);
        drop(waiting.remove(0).await.unwrap());
        // One has left the others.
        tokio::time::timeout(Duration::ZERO, turns.take()).await.unwrap_err();
        drop(waiting);
        drop(turns.take().await.unwrap());
    }

    /// Frozen: a line that was hashed once is written like this for ever.
    #[test]
    fn l_04_a_line_is_written_in_one_way() {
        let entry = AuditEntry {
            at: Timestamp::from_millis(1_763_856_000_123),
            action: Action::Denied,
            actor: Actor::System,
            platform: None,
            scope: None,
            token: None,
            request: RequestInfo { id: "r-\"1\"\\".to_owned(), source: String::new() },
            detail: "{\"name\":\"é\u{1f511}\u{2028}\u{7f}\u{9b}\n\t\"}".to_owned(),
        };
        let recorded = RecordedEntry { seq: 7, node: "0011223344556677".to_owned(), entry };
        let expected = concat!(
            r#"{"seq":7,"at":"2025-11-23T00:00:00.123Z","action":"denied","actor":"system","platform":null,"environment":null,"#,
            r#""token":null,"requestId":"r-\"1\"\\","source":"","node":"0011223344556677","#,
            r#""detail":"{\"name\":\"\u00e9\ud83d\udd11\u2028\u007f\u009b\n\t\"}","keyId":1,"seal":""#,
        );
        let line = line(&recorded, &Seal { key: 1, mac: [0xab; 32] });
        assert_eq!(line, format!("{expected}{}\"}}", "ab".repeat(32)));
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["detail"], recorded.entry.detail);
    }
}
