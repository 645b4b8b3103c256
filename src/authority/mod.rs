//! The use cases: everything that Countersign does, as the methods of [`Authority`]. The only door to the store.
//!
//! | file | what |
//! |---|---|
//! | `tokens.rs` | create, list, get, revoke |
//! | `platforms.rs` | platforms, their root tokens, the audit log |
//! | `once.rs` | forms that make one thing however often they are sent |
//! | `operations.rs` | what each operation of the platform's API needs |
//! | `verify.rs` | proving a credential: the hot path |
//! | `index.rs`, `lease.rs`, `feed.rs` | the resident index, and for how long it may be believed |
//! | `journal.rs` | what ended, kept beside the database |
//! | `receipt.rs` | when a change is true everywhere |
//! | `assertion.rs` | what was proven, signed for upstreams |
//! | `uses.rs`, `sources.rs` | how tokens were used, and where from |
//! | `search.rs` | looking for tokens, as operators do |
//! | `bulk.rs` | ending many of them by one command |
//! | `nodes.rs` | which processes answer from memory |
//! | `operators/` | who may act as an operator |
//! | `audit/` | the audit log, proven to whoever must not have to believe us |
//! | `copying.rs`, `restore.rs` | backups, moving to another database; what is to be done behind a restore |
//! | `backup.rs` | a backup for somebody elsewhere |
//! | `keyring.rs`, `key_file.rs` | what the server key makes, and where it is kept |
//! | `keys.rs`, `reseal.rs`, `retire.rs` | changing the server key |

#[cfg(feature = "server")]
mod assertion;
mod attempts;
#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
mod backup;
#[cfg(feature = "server")]
mod bulk;
mod clock;
#[cfg(feature = "server")]
mod copying;
mod cursor;
mod denials;
mod digester;
mod entropy;
mod error;
mod feed;
mod figures;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod fuzzed;
mod index;
mod journal;
#[cfg(feature = "server")]
mod key_command;
#[cfg(feature = "server")]
mod key_edit;
mod key_file;
mod key_source;
mod keyring;
mod keys;
mod lease;
#[cfg(feature = "server")]
mod nodes;
mod once;
mod operations;
#[cfg(feature = "server")]
mod operators;
mod platforms;
mod receipt;
mod reseal;
#[cfg(feature = "server")]
mod restore;
#[cfg(feature = "server")]
mod retire;
#[cfg(feature = "server")]
mod search;
mod sources;
mod tokens;
mod upkeep;
mod uses;
mod verify;

use std::{
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use self::{
    attempts::Attempts, denials::Denials, feed::Followed, index::Index, keyring::Keyring, keys::Keys, lease::Lease, reseal::Reseals,
    uses::Uses,
};
pub use crate::measure::Histogram;
use crate::{
    domain::{Action, Actor, AuditEntry, KeySource, OnDatabaseLoss, RequestInfo, Timestamp, TokenId},
    store::{self, Location, Mark, Store},
};

#[cfg(feature = "server")]
pub use assertion::Assertions;
pub use attempts::AttemptLimits;
#[cfg(feature = "server")]
pub use backup::TakenBackup;
#[cfg(feature = "server")]
pub use bulk::BulkPlan;
#[cfg(feature = "server")]
pub(crate) use bulk::filter;
#[cfg(feature = "server")]
pub(crate) use clock::coarse_millis;
pub use clock::{Clock, SystemClock};
#[cfg(feature = "server")]
pub use copying::{Copied, Unfinished, back_up, check_backup, move_to, partial_backup, refuse_there, restore};
pub use denials::Reason;
pub use entropy::{Entropy, NoEntropy, SystemEntropy};
pub use error::Error;
pub use feed::Follower;
pub use figures::Figures;
#[cfg(feature = "server")]
pub use journal::{Journal, Reach};
#[cfg(feature = "server")]
pub use key_edit::KeyFileEdit;
#[cfg(feature = "server")]
pub use keys::KeyListed;
#[cfg(feature = "server")]
pub use nodes::{DatabaseHealth, Node};
pub use once::OneTimeKey;
pub use operations::Difference;
#[cfg(feature = "server")]
pub use operators::{AccountListed, Enrolment, Invitation, OperatorIssued, Refused, SignIn, SignedIn, Standing};
pub use receipt::Receipt;
#[cfg(feature = "server")]
pub use restore::TakenIn;
#[cfg(feature = "server")]
pub use retire::{Retired, Retirement};
#[cfg(feature = "server")]
pub use search::{Found, FoundPage};
pub use tokens::{Ended, IdempotencyKey, Issued, ListTokens, TokenPage};
pub use upkeep::Upkeep;
pub use verify::Denied;

pub use crate::store::{Database, Sealing};

/// For how long a repeated create brings the secret again.
const REPLAY_SECRET: i64 = 10 * 60 * 1000;
/// For how long a create can be repeated.
const REPLAY: i64 = 24 * 60 * 60 * 1000;

/// How to open an [`Authority`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the records are.
    pub database: Database,
    /// Where the server key is.
    pub keys: KeySource,
    /// Whether to make both where there is no database.
    pub create: bool,
    /// Whether to answer from memory, and for how long to believe it: `None` for a command, which reads what it needs.
    pub lease: Option<Duration>,
    /// What to answer from memory when the lease is over and the database can't be reached.
    pub on_database_loss: OnDatabaseLoss,
    /// Whether to wait, after a change, until no other process goes by what was before.
    pub revocation_wait: bool,
    /// Where to keep the journal of what ended, if this process answers from memory and shall keep one.
    pub journal: Option<PathBuf>,
    /// How many attempts may fail.
    pub attempts: AttemptLimits,
    /// Whether to record the addresses that tokens are used from.
    pub use_sources: bool,
    /// How many live tokens an environment of a platform may have when one is created by another, if there is a limit.
    pub max_tokens: Option<u32>,
}

/// The token authority.
pub struct Authority {
    store: Store,
    keyring: Arc<Keyring>,
    keys: Keys,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    index: Index,
    /// How far the index has followed the feed. Whoever puts something into memory that was read before holds this.
    followed: RwLock<Followed>,
    /// Whether the database went back to an earlier state than was followed: nothing is believed then.
    rewound: AtomicBool,
    /// Whether others wait for this process's word, because its journal took its time.
    unacknowledged: AtomicBool,
    lease: Option<Lease>,
    revocation_wait: bool,
    journal: Option<journal::Writer>,
    /// Something was ended here, which the feed has now.
    ended: Notify,
    operations: ArcSwapOption<operations::InForce>,
    uses: Uses,
    reseals: Reseals,
    attempts: Attempts,
    max_tokens: Option<u32>,
    denials: Denials,
    ends: Ends,
    #[cfg(feature = "server")]
    operators: operators::Operators,
    #[cfg(feature = "server")]
    bulks: bulk::Seals,
    /// Where the store is, for whoever reads all of it by a connection of their own.
    #[cfg(feature = "server")]
    database: Database,
    #[cfg(feature = "server")]
    heads: audit::HeadCounts,
    #[cfg(feature = "server")]
    log_turns: audit::Turns,
    /// Whose turn it is to take a backup.
    #[cfg(feature = "server")]
    backup_turn: Arc<tokio::sync::Mutex<()>>,
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
        let keyring = Arc::new(keys::open(&store, &options, installation, at, &*entropy).await?);
        store.seal_entries_with(Arc::clone(&keyring) as _);

        let journal = match &options.journal {
            Some(path) => {
                journal::refuse_other_file(path, &options)?;
                Some(journal::Writer::open(path, store.installation().await.map_err(|e| e.to_string())?, &keyring)?)
            }
            None => None,
        };
        let (journal, marks) = journal.map_or((None, Vec::new()), |(journal, marks)| (Some(journal), marks));
        let journaled = journal.as_ref().and_then(journal::Writer::found);

        let authority = Self {
            store,
            keyring,
            keys: Keys::new(options.keys),
            clock,
            entropy,
            index: Index::new(),
            followed: RwLock::new(Followed::NOTHING),
            rewound: AtomicBool::new(false),
            unacknowledged: AtomicBool::new(false),
            lease: options.lease.map(|length| Lease::new(length, options.on_database_loss)),
            revocation_wait: options.revocation_wait,
            journal,
            ended: Notify::new(),
            operations: ArcSwapOption::empty(),
            uses: Uses::new(options.use_sources),
            reseals: Reseals::default(),
            attempts: Attempts::new(options.attempts),
            max_tokens: options.max_tokens,
            denials: Denials::default(),
            ends: Ends::default(),
            #[cfg(feature = "server")]
            operators: operators::Operators::new(options.attempts),
            #[cfg(feature = "server")]
            bulks: bulk::Seals::default(),
            #[cfg(feature = "server")]
            database: options.database,
            #[cfg(feature = "server")]
            heads: audit::HeadCounts::default(),
            #[cfg(feature = "server")]
            log_turns: audit::Turns::default(),
            #[cfg(feature = "server")]
            backup_turn: Arc::default(),
            tampered: Mutex::default(),
            tampering_recorded: Mutex::default(),
            creating: Mutex::default(),
            latest: AtomicI64::new(at.millis()),
        };
        authority.check_marks(marks).await?;
        authority.load(journaled).await.map_err(|e| cannot_load(&e, authority.journal.as_ref().map(journal::Writer::path)))?;
        if let Some(journal) = &authority.journal {
            journal.has(authority.followed().mark, journal::PATIENCE).await;
        }
        if let Err(e) = authority.record_tampering().await {
            // On a full disk, say: the rows are refused all the same, and the next flush tries again.
            tracing::error!(cause = %e, "edited rows could not be entered in the audit log");
        }
        Ok(authority)
    }

    /// Refuses a database that lacks a place that this server, or another one in its place, had followed.
    async fn check_marks(&self, marks: Vec<(PathBuf, Mark)>) -> Result<(), String> {
        for (journal, mark) in marks {
            match self.store.changes_after(mark, self.clock.boot()).await {
                Ok(_) | Err(store::Error::Rewound { taken_in: true }) => {}
                Err(e) => return Err(cannot_load(&e, Some(&journal))),
            }
        }
        Ok(())
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

    /// Writes what was only noted so far: uses, digests under a new key, edited rows, and the expiry of repeatable creates and of counts. To be
    /// called every few seconds, and before the end. If it is dropped on its way, the store finishes what it was given of
    /// the uses, and the rest stays noted.
    ///
    /// # Errors
    /// What could not be written of the uses is noted again.
    pub async fn flush(&self) -> Result<(), Error> {
        self.write_uses().await?;
        self.reseal().await?;
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

    /// Whether a credential could be proven and a change committed now. Where the database can't be reached and credentials
    /// are proven all the same, that alone counts: who says that this process is not ready stops what it is there for.
    ///
    /// # Errors
    /// A word for what is missing.
    pub async fn ready(&self) -> Result<Ready, &'static str> {
        if self.rewound.load(Ordering::SeqCst) {
            return Err("the database went back to an earlier state, or is on hold");
        }
        let lost = || self.lease.as_ref().is_some_and(Lease::is_lost);
        if !lost()
            && let Err(e) = self.store.probe().await
        {
            self.note_answer(&Err::<(), _>(e));
            if !lost() {
                return Err("the database takes no changes");
            }
        }
        let now = self.clock.boot();
        match &self.lease {
            Some(lease) if lost() => {
                let serves = lease.holds(now) || lease.serves_stale(now);
                serves.then_some(Ready::Stale).ok_or("the database can't be reached, and the index is too old")
            }
            Some(lease) if !lease.holds(now) => Err("the index is older than its lease"),
            _ => Ok(Ready::Wholly),
        }
    }

    /// Notes whether the database can be reached, as far as that makes a difference.
    fn note_answer<T>(&self, answer: &Result<T, store::Error>) {
        match (&self.lease, answer) {
            (Some(lease), Err(e)) if e.is_unreachable() => lease.lose(),
            (Some(lease), _) => lease.find(),
            (None, _) => {}
        }
    }

    /// Whether credentials are proven from an index that is older than its lease.
    pub fn is_stale(&self) -> bool {
        let now = self.clock.boot();
        self.lease.as_ref().is_some_and(|lease| !lease.holds(now) && lease.serves_stale(now))
    }
}

/// Why it does not start, and what to do: about the journal that knows of it, which may be another one than its own.
fn cannot_load(error: &store::Error, journal: Option<&Path>) -> String {
    match (error, journal.map(Path::display)) {
        (store::Error::Rewound { .. }, Some(journal)) => format!(
            "{error}, which the journal {journal} knows; tokens that were ended may be live in it. Take in what was lost: \
             countersign restore --journal {journal}, with the journal of every other server behind it"
        ),
        (store::Error::Pruned, Some(journal)) => format!(
            "{error}: the journal {journal} goes no further. If you know that it did not, move that journal away, and keep it for as \
             long as your backups"
        ),
        _ => error.to_string(),
    }
}

/// Ends that were committed here, and how long they took from being asked for: the wait behind others, and the flush.
#[derive(Debug, Default)]
struct Ends {
    count: AtomicU64,
    micros: AtomicU64,
}

/// What an [`Authority`] can do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Everything.
    Wholly,
    /// Prove credentials from memory; the database can't be reached.
    Stale,
}
