//! Following what other processes change: loading the index, keeping it believed, and waiting until everybody knows.

use std::{
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Authority, Error, defect::Defect};
use crate::{
    domain::{Action, PlatformId, TokenId},
    store::{self, PlatformRecord, Record},
};

/// Feed reads in a lease: a few, so that a single failed one costs nothing.
const READS_A_LEASE: u32 = 4;
/// Audit entries about tampered rows at the most in one go: an edited column must not fill the log.
const TAMPER_ENTRIES: usize = 100;

impl Authority {
    /// Begins to answer from memory, if this process does: with everything but the tokens, and following the feed from
    /// there. Right from here on, because what the index lacks is read from the database.
    pub(super) async fn load(&self) -> Result<(), store::Error> {
        let Some(lease) = &self.lease else { return Ok(()) };
        self.store.announce(lease.length()).await?;
        let loaded = self.store.load().await?;
        self.index.reserve(usize::try_from(loaded.live).unwrap_or(usize::MAX));
        loaded.platforms.iter().for_each(|record| self.put_platform(record, 0));
        loaded.operations.iter().for_each(|record| self.put_operations(record, 0));
        self.followed.store(loaded.seq, Ordering::SeqCst);
        // Only a read of the feed says that others know of this process: the index is believed from there.
        self.follow_feed().await
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
        let authority = Arc::clone(self);
        self.store.visit_live_tokens(move |record| authority.put_token(&record)).await?;
        self.record_tampering().await
    }

    /// Reads what others have changed and applies it. Called a few times a lease by a [`Follower`].
    ///
    /// # Errors
    /// The database could not be read; the lease is not renewed then.
    pub async fn follow(&self) -> Result<(), Error> {
        Ok(self.follow_feed().await?)
    }

    async fn follow_feed(&self) -> Result<(), store::Error> {
        let Some(lease) = &self.lease else { return Ok(()) };
        loop {
            let began = self.clock.boot();
            let changes = self.store.changes_after(self.followed.load(Ordering::SeqCst), began).await?;
            changes.platforms.iter().for_each(|(seq, record)| self.put_platform(record, *seq));
            if !Defect::Feed.is_seeded() {
                changes.tokens.iter().for_each(|record| self.put_token(record));
            }
            changes.operations.iter().for_each(|(seq, record)| self.put_operations(record, *seq));
            self.refuse_unreadable();
            let before = self.followed.swap(changes.through, Ordering::SeqCst);
            if !changes.more && !changes.unconfirmed {
                lease.renew(began);
            }
            if changes.through > before {
                self.store.applied(changes.through).await;
            }
            if !changes.more {
                self.uses.collect_sometimes(&self.index, self.clock.wall(), began);
                return Ok(());
            }
        }
    }

    pub(super) fn put_token(&self, record: &Record) {
        if self.is_intact(record) {
            self.put_new_token(record);
        }
    }

    /// The same with a record that was sealed here.
    pub(super) fn put_new_token(&self, record: &Record) {
        if let Some(key) = self.keyring.place(record.seal.key) {
            self.index.insert(record, key);
        }
    }

    pub(super) fn put_platform(&self, record: &PlatformRecord, seq: u64) {
        if self.keyring.is_platform_intact(record) {
            self.index.put_platform(record, seq);
        } else {
            self.note_tampered(record.platform.id.to_string());
            self.index.refuse_platform(record.platform.id);
        }
    }

    /// Whether a record is as it was sealed; notes it if not.
    pub(super) fn is_intact(&self, record: &Record) -> bool {
        let intact = self.keyring.is_intact(record);
        if !intact {
            self.note_tampered(record.token.id.to_string());
            // Whatever was edited, its digest even: what the index may still hold is no longer what the database says.
            self.index.end_id(record.token.id);
        }
        intact
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

    /// Makes sure that an edited row that was just noted is refused everywhere when this returns.
    pub(super) async fn refuse_tampered(&self) -> Result<(), Error> {
        self.record_tampering().await?;
        Ok(self.store.settle().await?)
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
    async fn keep_following(&self, mut stopped: oneshot::Receiver<()>) {
        let pause = self.lease.as_ref().map_or(Duration::MAX, super::Lease::length) / READS_A_LEASE;
        let mut failing = false;
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                () = tokio::time::sleep(pause) => {}
                () = self.store.changed() => {}
            }
            match self.follow().await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::info!("following the feed again");
                }
                Err(e) if !failing => {
                    failing = true;
                    tracing::error!(cause = %e, "cannot follow the feed; every credential is read from the database meanwhile");
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
