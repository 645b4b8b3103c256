//! The use cases: everything that Countersign does, as the methods of [`Authority`]. The only door to the store.
//!
//! | file | what |
//! |---|---|
//! | `tokens.rs` | create, list, get, revoke |
//! | `platforms.rs` | platforms, their root tokens, the audit log |
//! | `operations.rs` | what each operation of the platform's API needs |
//! | `verify.rs` | proving a credential: the hot path |
//! | `index.rs`, `lease.rs`, `feed.rs` | the resident index, and for how long it may be believed |
//! | `assertion.rs` | what was proven, signed for upstreams |
//! | `uses.rs` | how tokens were used |
//! | `copying.rs`, `restored.rs` | backups, restoring, moving to another database |
//! | `keyring.rs`, `key_file.rs` | what the server key makes, and where it is kept |

#[cfg(feature = "server")]
mod assertion;
mod attempts;
mod clock;
#[cfg(feature = "server")]
mod copying;
mod cursor;
mod defect;
mod denials;
mod digester;
mod entropy;
mod error;
mod feed;
mod index;
mod key_file;
mod keyring;
mod lease;
mod operations;
mod platforms;
#[cfg(feature = "server")]
mod restored;
mod tokens;
mod upkeep;
mod uses;
mod verify;

use std::{
    collections::HashSet,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

use self::{attempts::Attempts, denials::Denials, index::Index, keyring::Keyring, lease::Lease, uses::Uses};
use crate::{
    domain::{Action, Actor, AuditEntry, RequestInfo, Timestamp, TokenId},
    store::{self, Location, Store},
};

#[cfg(feature = "server")]
pub use assertion::Assertions;
pub use attempts::AttemptLimits;
#[cfg(feature = "server")]
pub(crate) use clock::coarse_millis;
pub use clock::{Clock, SystemClock};
#[cfg(feature = "server")]
pub use copying::{Copied, Unfinished, back_up, move_to, restore};
pub use denials::Reason;
pub use entropy::{Entropy, NoEntropy, SystemEntropy};
pub use error::Error;
pub use feed::Follower;
pub use operations::Difference;
#[cfg(feature = "server")]
pub use restored::Revocations;
pub use tokens::{Ended, IdempotencyKey, Issued, ListTokens, TokenPage};
pub use upkeep::Upkeep;
pub use verify::Denied;

pub use crate::store::Database;

/// For how long a repeated create brings the secret again.
const REPLAY_SECRET: i64 = 10 * 60 * 1000;
/// For how long a create can be repeated.
const REPLAY: i64 = 24 * 60 * 60 * 1000;

/// How to open an [`Authority`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the records are.
    pub database: Database,
    /// The key file.
    pub key_file: PathBuf,
    /// Whether to make both where there is no database.
    pub create: bool,
    /// Whether to answer from memory, and for how long to believe it: `None` for a command, which reads what it needs.
    pub lease: Option<Duration>,
    /// How many attempts may fail.
    pub attempts: AttemptLimits,
}

/// The token authority.
pub struct Authority {
    store: Store,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    index: Index,
    /// The place of the feed up to which the index has followed.
    followed: AtomicU64,
    lease: Option<Lease>,
    operations: ArcSwapOption<operations::InForce>,
    uses: Uses,
    attempts: Attempts,
    denials: Denials,
    /// Rows that were found not to be as they were sealed.
    tampered: Mutex<HashSet<String>>,
    /// Those of them that are in the audit log.
    tampering_recorded: Mutex<HashSet<String>>,
    /// Repeatable creates that are not answered yet.
    creating: Mutex<HashSet<[u8; 32]>>,
    /// The latest moment given to anything.
    latest: AtomicI64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the store and the key file, making both on first use; with a lease, loads the index.
    ///
    /// # Errors
    /// A sentence that says what to do: settings under which our promises would not hold, a key file that is missing,
    /// readable by others or not this database's.
    pub async fn open(options: Options, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, String> {
        Self::open_by(Store::open, options, clock, entropy).await
    }

    async fn open_by(
        open: impl AsyncFnOnce(Location) -> Result<Store, store::Error>,
        options: Options,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, String> {
        let mut random = [0; 24];
        entropy.fill(&mut random).map_err(|e| format!("no random bytes: {}", e.0))?;
        let (node, installation) = random.split_at(8);
        let node = node.iter().map(|byte| format!("{byte:02x}")).collect();
        let location = Location { database: options.database.clone(), create: options.create, node };
        let store = open(location).await.map_err(|e| e.to_string())?;
        let at = clock.wall();
        let installation = <[u8; 16]>::try_from(installation).unwrap_or_default();
        let keyring = open_keyring(&store, &options, installation, at, &*entropy).await?;

        let authority = Self {
            store,
            keyring: Arc::new(keyring),
            clock,
            entropy,
            index: Index::new(),
            followed: AtomicU64::new(0),
            lease: options.lease.map(Lease::new),
            operations: ArcSwapOption::empty(),
            uses: Uses::default(),
            attempts: Attempts::new(options.attempts),
            denials: Denials::default(),
            tampered: Mutex::default(),
            tampering_recorded: Mutex::default(),
            creating: Mutex::default(),
            latest: AtomicI64::new(at.millis()),
        };
        authority.load().await.map_err(|e| e.to_string())?;
        if let Err(e) = authority.record_tampering().await {
            // On a full disk, say: the rows are refused all the same, and the next flush tries again.
            tracing::error!(cause = %e, "edited rows could not be entered in the audit log");
        }
        Ok(authority)
    }

    /// The moment of a change: the wall clock, but never earlier than the change before it.
    fn now(&self) -> Timestamp {
        let wall = self.clock.wall().millis();
        Timestamp::from_millis(self.latest.fetch_max(wall, Ordering::Relaxed).max(wall))
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], NoEntropy> {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes what was only noted so far: uses, edited rows, and the expiry of repeatable creates and of counts. To be
    /// called every few seconds, and before the end. If it is dropped on its way, the store finishes what it was given of
    /// the uses, and the rest stays noted.
    ///
    /// # Errors
    /// What could not be written of the uses is noted again.
    pub async fn flush(&self) -> Result<(), Error> {
        self.write_uses().await?;
        self.record_tampering().await?;
        let now = self.now();
        self.store.expire_replays(now.plus_millis(-REPLAY_SECRET), now.plus_millis(-REPLAY)).await?;
        self.forget_uses().await
    }

    /// Writes an audit entry for the refusals since the last one, if there were any. To be called every minute.
    ///
    /// # Errors
    /// The entry could not be written; the refusals stay in the metrics.
    pub async fn record_denials(&self) -> Result<(), Error> {
        let since = self.denials.take();
        if since.is_empty() {
            return Ok(());
        }
        let counts: serde_json::Map<_, _> = since.into_iter().map(|(reason, count)| (reason.name().to_owned(), count.into())).collect();
        Ok(self.store.insert_audit_entry(self.system_entry(Action::Denied, None, counts)).await?)
    }

    fn system_entry(&self, action: Action, token: Option<TokenId>, detail: serde_json::Map<String, serde_json::Value>) -> AuditEntry {
        AuditEntry {
            at: self.now(),
            action,
            actor: Actor::System,
            platform: None,
            scope: None,
            token,
            request: RequestInfo::default(),
            detail: serde_json::Value::Object(detail).to_string(),
        }
    }

    /// Whether a credential could be proven and a change committed now.
    ///
    /// # Errors
    /// A word for what is missing.
    pub async fn ready(&self) -> Result<(), &'static str> {
        self.store.probe().await.map_err(|_| "the database takes no changes")?;
        match &self.lease {
            Some(lease) if !lease.holds(self.clock.boot()) => Err("the index is older than its lease"),
            _ => Ok(()),
        }
    }

    /// The figures of the metrics page.
    pub fn figures(&self) -> Figures {
        Figures {
            live_tokens: self.index.len(),
            followed: self.followed.load(Ordering::Relaxed),
            tampered: self.tampered().len(),
            denials: self.denials.totals().collect(),
        }
    }
}

/// What an [`Authority`] counts.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Live tokens in the index.
    pub live_tokens: usize,
    /// The place of the feed that the index has followed.
    pub followed: u64,
    /// Rows that were found not to be as they were sealed.
    pub tampered: usize,
    /// Refusals since start.
    pub denials: Vec<(Reason, u64)>,
}

/// Opens the key file and holds it against the database, before anything is verified with it.
async fn open_keyring(store: &Store, options: &Options, new: [u8; 16], at: Timestamp, entropy: &dyn Entropy) -> Result<Keyring, String> {
    let failed = |e: store::Error| e.to_string();
    let path = &options.key_file;
    let known = store.list_canaries().await.map_err(failed)?;
    if known.is_empty() {
        match key_file::KeyFile::read(path)? {
            None if options.create => key_file::KeyFile::create(path, entropy)?,
            None => {}
            Some(_) => {
                tracing::warn!(key_file = %path.display(), "the key file was there, and the database is new: was there another database?")
            }
        }
    }
    let file = key_file::KeyFile::read(path)?.ok_or_else(|| {
        format!("the key file {} is missing, and without it no token of this database verifies; put it back from your backup, or say where it is with --key-file", path.display())
    })?;
    let keyring = Keyring::new(&file).ok_or_else(|| format!("the key file {} has no active key", path.display()))?;

    store.insert_installation(new, at).await.map_err(failed)?;
    let installation = store.installation().await.map_err(failed)?;
    let ours: Vec<_> = keyring.canaries(&installation).collect();
    for (id, mac) in &ours {
        if !known.iter().any(|(known, _)| known == id) {
            store.insert_canary(*id, *mac).await.map_err(failed)?;
        }
    }
    // Read again: two processes that start at once may have made a key file each, and one database.
    keyring::check_canaries(&ours, store.list_canaries().await.map_err(failed)?, path)?;
    Ok(keyring)
}
