//! The server's keys as they are changed: opening the key file, going by another one, and what a database says of keys.
//!
//! The file says which keys there are and which one is active. The database knows each of them by a canary, and which are
//! retired: what is retired is so for every process that reads the database, whatever file it has.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{
    Authority, Error, Options,
    entropy::Entropy,
    key_file::KeyFile,
    key_source,
    keyring::{self, Keyring},
};
use crate::{
    domain::{KeySource, Timestamp},
    store::{self, Canary, Store},
};

#[cfg(feature = "server")]
use super::{Receipt, key_file::KeyState};
#[cfg(feature = "server")]
use crate::{
    domain::{Action, AuditEntry, Operator, Owner},
    store::Sealing,
};

/// Where the keys are from, and what is wrong with them.
pub(super) struct Keys {
    source: KeySource,
    /// Keys that the database knows and that are not on the ring.
    lacking: Mutex<BTreeSet<u32>>,
    /// Whether there are any, for whoever has no time to look.
    lacks: AtomicBool,
    /// Whether one was retired since this was last asked.
    retired: AtomicBool,
    failures: AtomicU64,
    /// Held while the file is read again.
    reloading: tokio::sync::Mutex<()>,
}

impl Keys {
    pub(super) fn new(source: KeySource) -> Self {
        Self {
            source,
            lacking: Mutex::default(),
            lacks: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            reloading: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn lacking(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a clientId that none of our keys made may be genuine all the same.
    pub(super) fn lacks_any(&self) -> bool {
        self.lacks.load(Ordering::SeqCst)
    }

    pub(super) fn take_retired(&self) -> bool {
        self.retired.swap(false, Ordering::SeqCst)
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// Opens the key file and holds it against the database, before anything is verified with it.
pub(super) async fn open(store: &Store, options: &Options, new: [u8; 16], at: Timestamp, entropy: &dyn Entropy) -> Result<Keyring, String> {
    let failed = |e: store::Error| e.to_string();
    let source = &options.keys;
    let is_new = store.list_canaries().await.map_err(failed)?.is_empty();
    if is_new {
        match (key_source::read(source).await?, source) {
            (None, KeySource::File(path)) if options.create => KeyFile::create(path, at, entropy)?,
            (None, _) => {}
            (Some(_), _) => tracing::warn!(%source, "the key was there, and the database is new: was there another database?"),
        }
    }
    let file = key_source::read(source).await?.ok_or_else(|| {
        format!("{source} is missing, and without it no token of this database verifies; put it back from your backup, or say where it is with --key-file")
    })?;
    if is_new {
        store.insert_installation(new, at).await.map_err(failed)?;
    }
    let known = hold_against(store, &file, source).await?;
    let keyring = Keyring::new(&file).ok_or_else(|| format!("{source} has no active key"))?;
    for canary in known.iter().filter(|canary| canary.retired_at.is_some()) {
        keyring.retire(canary.key);
    }
    Ok(keyring)
}

/// Refuses a key file that is another installation's, and makes known to the database which keys there are.
async fn hold_against(store: &Store, file: &KeyFile, source: &KeySource) -> Result<Vec<Canary>, String> {
    let failed = |e: store::Error| e.to_string();
    let installation = store.installation().await.map_err(failed)?;
    let known = store.list_canaries().await.map_err(failed)?;
    keyring::check_canaries(file, &installation, &known, source)?;
    for (key, mac) in keyring::canaries(file, &installation).unwrap_or_default() {
        if !known.iter().any(|known| known.key == key) {
            store.insert_canary(key, mac).await.map_err(failed)?;
        }
    }
    // Read again: two processes that start at once may have made a key file each, and one database.
    let known = store.list_canaries().await.map_err(failed)?;
    keyring::check_canaries(file, &installation, &known, source)?;
    Ok(known)
}

impl Authority {
    /// Reads the key file again and goes by it from now on. One that can't be read, is none or is another database's changes
    /// nothing.
    ///
    /// # Errors
    /// A sentence, which is logged too, and counted.
    pub async fn reload_keys(self: &Arc<Self>) -> Result<(), String> {
        let _one_at_a_time = self.keys.reloading.lock().await;
        let reloaded = self.try_reload_keys().await;
        match &reloaded {
            Ok(()) => tracing::info!(active = self.keyring.active().id(), "the key file is read again"),
            Err(cause) => {
                self.keys.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(cause, "the key file was not taken over: going on with the keys as they were");
            }
        }
        reloaded
    }

    async fn try_reload_keys(self: &Arc<Self>) -> Result<(), String> {
        let source = &self.keys.source;
        let file = key_source::read(source).await?.ok_or_else(|| format!("{source} is missing"))?;
        let known = hold_against(&self.store, &file, source).await?;
        if !self.keyring.take_over(&file) {
            return Err(format!("{source} has no active key"));
        }
        self.put_keys(&known);
        if self.lease.is_some() {
            // What came while its key was missing; and tokens whose digests were made anew.
            let known = self.followed();
            let loaded = self.store.load().await.map_err(|e| e.to_string())?;
            self.remember(&known, |_| {
                loaded.platforms.iter().for_each(|record| self.put_platform(record, loaded.mark.seq));
                loaded.operations.iter().for_each(|record| self.put_operations(record, loaded.mark.seq));
            });
            self.load_tokens_again();
        }
        Ok(())
    }

    /// Takes in what the database says of keys.
    pub(super) fn put_keys(&self, known: &[Canary]) {
        for canary in known.iter().filter(|canary| canary.retired_at.is_some()) {
            if self.keyring.retire(canary.key) {
                tracing::warn!(key = canary.key, "a key is retired: it proves nothing any more");
                self.keys.retired.store(true, Ordering::SeqCst);
            }
        }
        let missing = known.iter().map(|canary| canary.key).filter(|key| self.keyring.get(*key).is_none());
        missing.for_each(|key| self.note_lacking(key));
        let mut lacking = self.keys.lacking();
        lacking.retain(|key| self.keyring.get(*key).is_none());
        self.keys.lacks.store(!lacking.is_empty(), Ordering::SeqCst);
    }

    /// Notes that a key is missing here.
    pub(super) fn note_lacking(&self, key: u32) {
        if self.keys.lacking().insert(key) {
            tracing::error!(
                key,
                "a key is missing in this node's key file: what it has sealed is refused with 503 until the file has it, and SIGHUP was sent"
            );
        }
        self.keys.lacks.store(true, Ordering::SeqCst);
    }

    /// Why a row can't be told.
    pub(super) fn lacking(&self, key: u32) -> Error {
        self.note_lacking(key);
        Error::Unavailable(format!("key {key} is missing in this node's key file"))
    }
}

/// The state of a key that is not here.
#[cfg(feature = "server")]
const MISSING: &str = "missing";

/// A key, and what lives by it.
#[cfg(feature = "server")]
#[derive(Debug, Clone)]
pub struct KeyListed {
    /// Its id.
    pub id: u32,
    /// `active`, `verify-only`, `retired`, or `missing`: the database knows it, and this process lacks it.
    pub state: &'static str,
    /// When it was made, in RFC 3339, if the key file says so.
    pub created: Option<String>,
    /// When it was retired.
    pub retired_at: Option<Timestamp>,
    /// What lives by it.
    pub sealing: Sealing,
}

#[cfg(feature = "server")]
impl Authority {
    /// All keys that the database or this process knows, as this process goes by them, oldest first. Reads all tokens.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::RoleLacking`].
    pub async fn list_keys(&self, by: &Operator) -> Result<Vec<KeyListed>, Error> {
        by.may_oversee()?;
        let (known, sealed) = (self.store.list_canaries().await?, self.store.count_sealed().await?);
        let here = self.keyring.list();
        let ids: BTreeSet<_> = here.iter().map(|(id, ..)| *id).chain(known.iter().map(|canary| canary.key)).collect();
        let listed = ids.into_iter().map(|id| {
            let retired_at = known.iter().find(|canary| canary.key == id).and_then(|canary| canary.retired_at);
            let key = here.iter().find(|(key, ..)| *key == id);
            let (state, created) = key.map_or((MISSING, None), |(_, state, created)| (state.name(), created.clone()));
            let state = if retired_at.is_some() { KeyState::Retired.name() } else { state };
            let sealing = sealed.iter().find(|(key, _)| *key == id).map(|(_, sealing)| *sealing).unwrap_or_default();
            KeyListed { id, state, created, retired_at, sealing }
        });
        Ok(listed.collect())
    }

    /// Enters in the audit log that a key was added, which the key file here has. Other processes look whether theirs does.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn note_key_added(self: &Arc<Self>, by: &Owner, id: u32) -> Result<Receipt, Error> {
        self.reload_keys().await.map_err(Error::Unavailable)?;
        self.note_key(by, Action::KeysAdd, id).await
    }

    /// The same of one that is active.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn note_key_activated(self: &Arc<Self>, by: &Owner, id: u32) -> Result<Receipt, Error> {
        self.note_key(by, Action::KeysActivate, id).await
    }

    async fn note_key(&self, by: &Owner, action: Action, id: u32) -> Result<Receipt, Error> {
        self.store.insert_audit_entry(self.key_entry(by, action, id)).await?;
        self.receipt(None).await
    }

    /// The key that is active by the key file as it is now; none, if that can't be read.
    pub(super) async fn active_in_file(&self) -> Option<u32> {
        let file = key_source::read(&self.keys.source).await.ok()??;
        file.keys.iter().find(|key| key.state == KeyState::Active).map(|key| key.id)
    }

    pub(super) fn key_entry(&self, by: &Owner, action: Action, id: u32) -> AuditEntry {
        let detail = [("key".to_owned(), id.into())].into_iter().collect();
        AuditEntry { actor: by.actor(), request: by.request().clone(), ..self.system_entry(action, None, detail) }
    }
}
