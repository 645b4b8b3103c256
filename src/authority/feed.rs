//! Following what other processes change: loading the index, keeping it believed, and waiting until everybody knows.

use std::{
    sync::{Arc, MutexGuard, PoisonError, RwLockWriteGuard, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Authority, Error, Lease, journal, keyring::Seen};
use crate::{
    defect::Defect,
    domain::{Action, PlatformId, TokenId},
    store::{self, Mark, PlatformRecord, Record, Settled},
};

/// Feed reads in a lease: a few, so that a single failed one costs nothing.
const READS_A_LEASE: u32 = 4;
/// Audit entries about tampered rows at the most in one go: an edited column must not fill the log.
const TAMPER_ENTRIES: usize = 100;

/// How far the index has followed the feed, and of which history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Followed {
    /// The last place that was followed. What is read from the database must be of a history that has it.
    pub(super) mark: Mark,
    /// The histories that were followed, counted: one more each time that everything is loaded anew.
    history: u64,
}

impl Followed {
    pub(super) const NOTHING: Self = Self { mark: Mark::START, history: 0 };
}

impl Authority {
    /// Begins to answer from memory, if this process does: with everything but the tokens, and following the feed from
    /// there. Right from here on, because what the index lacks is read from the database.
    ///
    /// With a journal, it follows from the last place that the journal has, or from the very first where that is of a history
    /// that was lost: what ended since is entered there too.
    pub(super) async fn load(&self, journaled: Option<Mark>) -> Result<(), store::Error> {
        let Some(lease) = &self.lease else { return Ok(()) };
        self.store.announce(lease.length(), lease.stale()).await?;
        self.store.refuse_hold().await?;
        let loaded = self.store.load().await?;
        self.forget(journaled.unwrap_or(loaded.mark));
        self.index.reserve(usize::try_from(loaded.live).unwrap_or(usize::MAX));
        self.put_keys(&loaded.keys);
        loaded.platforms.iter().for_each(|record| self.put_platform(record, 0));
        loaded.operations.iter().for_each(|record| self.put_operations(record, 0));
        // Only a read of the feed says that others know of this process: the index is believed from there.
        match self.follow_feed().await {
            Err(store::Error::Rewound { taken_in: true }) => {
                self.followed_place().mark = if self.journal.is_some() { Mark::START } else { loaded.mark };
                self.follow_feed().await?;
            }
            followed => followed?,
        }
        // Whatever is read from here on is at least as new as what was loaded, so nobody need wait for this process.
        self.acknowledge(lease).await;
        Ok(())
    }

    /// Reads all live tokens into the index, which takes seconds for millions; to be called once, beside serving.
    ///
    /// A token that ends meanwhile is followed by the feed, and stays ended, however late it is read here.
    ///
    /// # Errors
    /// The database could not be read: the rest is then read token by token, as it is asked for.
    pub async fn load_tokens(self: &Arc<Self>) -> Result<(), Error> {
        if self.lease.is_none() {
            return Ok(());
        }
        let _kept = self.index.keep_ends();
        let (authority, known) = (Arc::clone(self), self.followed());
        let put = move |record| authority.remember(&known, |read| authority.put_token(&record, read));
        self.store.visit_live_tokens(None, put).await?;
        self.record_tampering().await
    }

    /// Reads what others have changed and applies it. Called a few times a lease by a [`Follower`].
    ///
    /// If the database has gone back to an earlier state, or is on hold, nothing is believed and nobody proven any more, until
    /// an operator has taken in what was lost, which has everything loaded anew, or the hold is over.
    ///
    /// # Errors
    /// The database could not be read, or is not believed; the lease is not renewed then.
    pub async fn follow(self: &Arc<Self>) -> Result<(), Error> {
        let known = self.followed();
        let followed = self.follow_feed().await;
        match &followed {
            Ok(()) => {
                self.rewound.store(false, Ordering::SeqCst);
                if self.keys.take_retired() {
                    self.load_tokens_again();
                }
            }
            Err(e @ (store::Error::Held(_) | store::Error::Pruned)) => self.refuse_all(&known, e),
            Err(e @ store::Error::Rewound { taken_in }) => {
                self.refuse_all(&known, e);
                if *taken_in {
                    return Ok(self.begin_anew().await?);
                }
            }
            Err(_) => {}
        }
        Ok(followed?)
    }

    /// Believes nothing any more, and proves nobody: for what was found by a read that began at `known`. Where everything was
    /// loaded anew since, that was of the history before.
    pub(super) fn refuse_all(&self, known: &Followed, why: &store::Error) {
        let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        if followed.history != known.history {
            return;
        }
        if !self.rewound.swap(true, Ordering::SeqCst) {
            tracing::error!(followed = followed.mark.seq, %why, "everything is refused from now on");
        }
        if let Some(lease) = &self.lease {
            lease.end();
        }
        // So that whoever takes in what was lost knows how far this one had followed.
        self.journal.iter().for_each(journal::Writer::note_mark);
    }

    async fn begin_anew(self: &Arc<Self>) -> Result<(), store::Error> {
        let lost = self.followed().mark;
        if let Err(e) = self.load(self.journal.as_ref().map(|_| Mark::START)).await {
            // So that the next read finds it lost again, and all of this is done again.
            self.followed_place().mark = lost;
            return Err(e);
        }
        self.rewound.store(false, Ordering::SeqCst);
        tracing::info!("what was lost is taken in; going on from the database as it is");
        self.load_tokens_again();
        Ok(())
    }

    /// Beside following: it takes seconds for millions, and what is not in memory yet is read as it is asked for.
    pub(super) fn load_tokens_again(self: &Arc<Self>) {
        let authority = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(e) = authority.load_tokens().await {
                tracing::error!(cause = %e, "not all tokens are in memory; the others are read as they are asked for");
            }
        });
    }

    /// Empties the memory: from here on it follows the feed of the history that is in the database now, behind `mark`.
    fn forget(&self, mark: Mark) {
        let mut followed = self.followed_place();
        *followed = Followed { mark, history: followed.history + 1 };
        self.index.forget();
        self.operations.store(None);
    }

    /// Puts into memory what was read or committed since `known` was taken; or nothing, where everything was forgotten since:
    /// a token that is live there may have ended in the history that is followed now.
    /// What is put in is told the place that had been followed then.
    pub(super) fn remember(&self, known: &Followed, put: impl FnOnce(u64)) {
        let followed = self.followed.read().unwrap_or_else(PoisonError::into_inner);
        if followed.history == known.history {
            put(known.mark.seq);
        }
    }

    fn followed_place(&self) -> RwLockWriteGuard<'_, Followed> {
        self.followed.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far the index has followed: to be taken before a read of what is to be remembered.
    pub(super) fn followed(&self) -> Followed {
        *self.followed.read().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow_feed(&self) -> Result<(), store::Error> {
        let Some(lease) = &self.lease else { return Ok(()) };
        loop {
            let (began, at) = (self.clock.boot(), self.clock.wall());
            let mark = self.followed().mark;
            let changes = self.store.changes_after(mark, began).await;
            self.note_answer(&changes);
            let changes = changes?;
            changes.keys.iter().for_each(|keys| self.put_keys(keys));
            changes.platforms.iter().for_each(|(seq, record)| self.put_platform(record, *seq));
            if !Defect::Feed.is_seeded() {
                changes.tokens.iter().for_each(|record| self.put_token(record, mark.seq));
            }
            changes.operations.iter().for_each(|(seq, record)| self.put_operations(record, *seq));
            self.refuse_unreadable();
            self.followed_place().mark = changes.through;
            self.journal.iter().for_each(|journal| journal.note(&changes, began, at));
            if !changes.more && !changes.unconfirmed {
                lease.renew(began);
                self.index.followed(changes.through.seq);
            }
            if changes.through != mark || self.unacknowledged.load(Ordering::Relaxed) {
                self.acknowledge(lease).await;
            }
            if !changes.more {
                self.uses.collect_sometimes(&self.index, self.clock.wall(), began);
                return Ok(());
            }
        }
    }

    /// Says that this process has followed up to where it is, so that nobody waits for it: when its journal has that too. So
    /// what has ended, and everybody has acknowledged, is in every journal. One that takes its time is not waited for here,
    /// because the lease must be renewed: it is asked again at the next read, and whoever ended something waits so long, or for the
    /// lease.
    async fn acknowledge(&self, lease: &Lease) {
        let mark = self.followed().mark;
        let in_time = lease.length() / READS_A_LEASE / 2;
        let is_kept = match &self.journal {
            Some(journal) => journal.has(mark, in_time).await,
            None => true,
        };
        self.unacknowledged.store(!is_kept, Ordering::Relaxed);
        if is_kept {
            self.store.applied(mark.seq).await;
        }
    }

    pub(super) fn put_token(&self, record: &Record, read: u64) {
        match self.keyring.see_token(record) {
            Seen::Intact => self.put_new_token(record, read),
            Seen::Edited => self.refuse_edited(record),
            Seen::Unknown => {
                self.note_lacking(record.seal.key);
                if record.token.revoked_at.is_some() {
                    self.index.end(record, None);
                }
            }
            // Read before it was sealed anew, or dead: neither is news.
            Seen::Retired => {}
        }
    }

    /// The same with a record that was sealed here.
    pub(super) fn put_new_token(&self, record: &Record, read: u64) {
        if let Some(key) = self.keyring.place(record.seal.key) {
            self.index.insert(record, key, read);
        }
    }

    pub(super) fn put_platform(&self, record: &PlatformRecord, seq: u64) {
        match self.keyring.see_platform(record) {
            Seen::Intact => self.index.put_platform(record, seq),
            Seen::Edited => {
                self.note_tampered(record.platform.id.to_string());
                self.index.refuse_platform(record.platform.id);
            }
            Seen::Unknown => {
                self.note_lacking(record.seal.key);
                self.index.doubt_platform(record.platform.id, seq);
            }
            Seen::Retired => {}
        }
    }

    /// Whether a record is to be told: as it was sealed, and not of a key that is retired. Notes it if it was edited.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if nobody can say here.
    pub(super) fn is_intact(&self, record: &Record) -> Result<bool, Error> {
        let seen = self.keyring.see_token(record);
        match seen {
            Seen::Unknown => return Err(self.lacking(record.seal.key)),
            Seen::Edited => self.refuse_edited(record),
            Seen::Intact | Seen::Retired => {}
        }
        Ok(seen == Seen::Intact)
    }

    fn refuse_edited(&self, record: &Record) {
        self.note_tampered(record.token.id.to_string());
        // Whatever was edited, its digest even: what the index may still hold is no longer what the database says.
        self.index.end_id(record.token.id);
    }

    pub(super) fn tampered(&self) -> MutexGuard<'_, std::collections::HashSet<String>> {
        self.tampered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_tampered(&self, row: String) {
        let mut tampered = self.tampered();
        // A bound on memory where somebody edited a whole table; the count then says "at least".
        if tampered.len() < 100_000 && tampered.insert(row.clone()) {
            tracing::error!(row, "a row is not as it was sealed; it is refused");
        }
    }

    /// Refuses tokens whose rows came up and could not even be read.
    fn refuse_unreadable(&self) {
        for id in self.store.take_unreadable() {
            self.note_tampered(id.to_string());
            self.index.end_id(id);
        }
    }

    /// Writes audit entries for rows found to be edited, each once in the life of this process. Through them, other
    /// processes look at the rows too.
    pub(super) async fn record_tampering(&self) -> Result<(), Error> {
        self.refuse_unreadable();
        let rows: Vec<String> = {
            let recorded = self.tampering_recorded.lock().unwrap_or_else(PoisonError::into_inner);
            self.tampered().iter().filter(|row| !recorded.contains(*row)).take(TAMPER_ENTRIES).cloned().collect()
        };
        for row in rows {
            let detail = [("row".to_owned(), row.clone().into())].into_iter().collect();
            let mut entry = self.system_entry(Action::Tampered, TokenId::parse(&row), detail);
            entry.platform = PlatformId::parse(&row).filter(|_| entry.token.is_none());
            self.store.insert_audit_entry(entry).await?;
            self.tampering_recorded.lock().unwrap_or_else(PoisonError::into_inner).insert(row);
        }
        Ok(())
    }

    /// Returns when what ended at that place of the feed is believed by no process any more, and is in the journal.
    /// Without waiting for other processes, it says for how long they may still believe it.
    pub(super) async fn settle(&self, seq: Option<u64>, wait: bool) -> Result<Settled, Error> {
        self.ended.notify_one();
        let kept = async {
            if let (Some(journal), Some(seq)) = (&self.journal, seq) {
                journal.reached(seq).await;
            }
        };
        // Beside each other: whoever asked would else wait for a silent database twice.
        let (settled, ()) = tokio::join!(self.store.settle(seq, wait), kept);
        Ok(settled?)
    }

    /// Makes sure that an edited row that was just noted is refused everywhere when this returns.
    pub(super) async fn refuse_tampered(&self) -> Result<(), Error> {
        self.record_tampering().await?;
        self.settle(None, true).await.map(drop)
    }
}

/// The thread that keeps an index believed; it ends when this is dropped.
#[derive(Debug)]
pub struct Follower {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Starts following.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(authority: &Arc<Authority>) -> std::io::Result<Self> {
        let authority = Arc::clone(authority);
        let (stop, stopped) = oneshot::channel();
        // A thread and a runtime of their own: however busy the requests are, the lease is renewed.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let follow = move || runtime.block_on(authority.keep_following(stopped));
        let thread = std::thread::Builder::new().name("feed".to_owned()).spawn(follow)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Authority {
    /// Follows a few times a lease, and when somebody says that there is something new, until `stopped`.
    async fn keep_following(self: Arc<Self>, mut stopped: oneshot::Receiver<()>) {
        let pause = self.lease.as_ref().map_or(Duration::MAX, super::Lease::length) / READS_A_LEASE;
        let mut failing = false;
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                () = tokio::time::sleep(pause) => {}
                () = self.store.changed() => {}
                () = self.ended.notified() => {}
            }
            match self.follow().await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("following the feed again");
                }
                Err(e) if !failing => {
                    failing = true;
                    tracing::error!(cause = %e, "cannot follow the feed; memory is believed for a lease, and then as on_database_loss says");
                }
                _ => {}
            }
        }
        // Nobody needs to wait for a process that believes nothing.
        if let Some(lease) = &self.lease {
            lease.end();
            let _ = self.store.depart().await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
