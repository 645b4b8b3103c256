//! The durable side: the closed set of databases behind one type.
//!
//! A `Store` decides nothing: what a change means, and what a seal covers, is the authority's. It promises that a change
//! and its audit entry are committed together or not at all, that a method which returned `Ok` is durable, and that
//! entries are numbered in the order in which they become visible.

#[cfg(feature = "server")]
mod bulk;
#[cfg(feature = "server")]
mod checkpoint;
#[cfg(feature = "server")]
mod copy;
#[cfg(feature = "server")]
mod entries;
mod error;
#[cfg(feature = "server")]
mod examine;
mod hold;
mod log;
#[cfg(feature = "server")]
mod nodes;
#[cfg(feature = "server")]
mod operators;
mod postgres;
mod queue;
mod row;
#[cfg(feature = "server")]
mod sealed;
mod sqlite;
#[cfg(feature = "server")]
mod tables;
mod totals;
mod uses;
#[cfg(feature = "server")]
mod walk;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use crate::domain::{
    Action, AuditEntry, AuditQuery, PlatformId, RecordedEntry, Scope, Timestamp, Token, TokenId, TokenQuery, TokenUse, Use,
};

#[cfg(feature = "server")]
pub(crate) use bulk::BulkRecord;
#[cfg(feature = "server")]
pub(crate) use checkpoint::Checkpoint;
#[cfg(feature = "server")]
pub(crate) use copy::{Source, Step, Target, copy, partial};
pub(crate) use error::Error;
#[cfg(feature = "server")]
pub(crate) use examine::Examined;
pub(crate) use hold::Hold;
pub(crate) use log::{Mark, SealEntries};
#[cfg(feature = "server")]
pub(crate) use nodes::NodeRecord;
#[cfg(feature = "server")]
pub(crate) use operators::{AccountRecord, OperatorTokenRecord, Put, SessionRecord};
pub(crate) use postgres::Postgres;
pub(crate) use queue::Measured;
pub use row::Sealing;
pub(crate) use row::{Canary, OperationsRecord, PlatformRecord, Record, Seal, Unreadable, split_proof};
#[cfg(feature = "server")]
pub(crate) use sealed::Sealed;
pub(crate) use sqlite::Sqlite;
pub(crate) use uses::KeptSince;
#[cfg(feature = "server")]
pub(crate) use walk::{Walk, Walked};

/// Where the records are.
#[derive(Clone)]
pub enum Database {
    /// In an embedded SQLite database in this directory, with what else a process needs beside it.
    Sqlite(PathBuf),
    /// In the PostgreSQL database of this URL, whose manual is `docs/postgresql.md`.
    Postgres(String),
}

impl Database {
    /// Whether its URL is one.
    ///
    /// # Errors
    /// A sentence, without what may be a password.
    #[cfg(feature = "server")]
    pub(crate) fn check_url(url: &str) -> Result<(), Error> {
        Postgres::check_url(url)
    }

    /// The file that it is in, if it is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Sqlite(data) => Some(data.join(sqlite::FILE)),
            Self::Postgres(_) => None,
        }
    }
}

/// Without the URL: a password may be in it.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(directory) => f.debug_tuple("Sqlite").field(directory).finish(),
            Self::Postgres(_) => f.write_str("Postgres([REDACTED])"),
        }
    }
}

/// How to open a store.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// Where the records are.
    pub(crate) database: Database,
    /// Whether to make a database where there is none.
    pub(crate) create: bool,
    /// The name under which this process writes audit entries.
    pub(crate) node: String,
}

/// A create that may be repeated, as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Replay {
    /// Keyed digest of the caller and the `Idempotency-Key`.
    pub(crate) id: [u8; 32],
    /// Keyed digest of what was asked for.
    pub(crate) request: [u8; 32],
    /// The secret, sealed under the `Idempotency-Key`; gone after a while.
    pub(crate) secret: Option<Vec<u8>>,
    /// When the first request was answered.
    pub(crate) created_at: Timestamp,
}

/// A token to insert.
#[derive(Debug)]
pub(crate) struct Insert {
    /// The sealed record.
    pub(crate) record: Record,
    /// Its audit entry.
    pub(crate) entry: AuditEntry,
    /// The caller's own token, which must still be live at the commit.
    pub(crate) creator: Option<TokenId>,
    /// The record that lets the request be repeated.
    pub(crate) replay: Option<Replay>,
    /// Replays made before this are forgotten.
    pub(crate) replays_since: Timestamp,
    /// How many live tokens its scope may have with it, if there is a limit.
    pub(crate) most: Option<u32>,
}

/// What became of an insert.
#[derive(Debug)]
pub(crate) enum Inserted {
    /// It was committed.
    Created,
    /// The same request was committed before.
    Replayed(Replay, Box<Record>),
    /// The caller's token has ended, or its platform was disabled, since it was verified.
    CreatorEnded,
    /// There is no such platform.
    NoPlatform,
    /// Its scope has as many live tokens as it may.
    Full,
}

/// What to do with a record that was read inside the transaction.
#[derive(Debug)]
pub(crate) enum Decision<R> {
    /// Leave it.
    Keep,
    /// Put this in its place, with its audit entry.
    Write(R, AuditEntry),
}

/// A page of records.
#[derive(Debug)]
pub(crate) struct Records {
    /// The records.
    pub(crate) records: Vec<Record>,
    /// The last row of the page, if there are more behind it.
    pub(crate) next: Option<TokenId>,
    /// How many match in all, if it was asked.
    pub(crate) total: Option<u64>,
}

/// What others have changed, as it stands now.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Everything up to this place is in here, or was created by this process.
    pub(crate) through: Mark,
    /// Whether there is more behind it.
    pub(crate) more: bool,
    /// Whether it was not made sure that the database is the one in use: then no lease is renewed by this.
    pub(crate) unconfirmed: bool,
    /// Tokens that were created or ended.
    pub(crate) tokens: Vec<Record>,
    /// Platforms that were created, disabled or enabled, with the place of the change.
    pub(crate) platforms: Vec<(u64, PlatformRecord)>,
    /// The operations, if they were loaded anew, with the place of that change.
    pub(crate) operations: Option<(u64, OperationsRecord)>,
    /// All keys, if one was added, activated or retired.
    pub(crate) keys: Option<Vec<Canary>>,
}

impl Changes {
    /// None behind that place.
    fn none_after(mark: Mark) -> Self {
        Self { through: mark, more: false, unconfirmed: false, tokens: Vec::new(), platforms: Vec::new(), operations: None, keys: None }
    }
}

/// Whether whoever did this need not follow it: it knows what it creates. An end is followed by everybody: between a
/// commit and what its process does next there is no telling how long, and the feed must not be ahead of the index.
fn is_creation(action: &str) -> bool {
    [Action::TokenCreate, Action::PlatformCreate].iter().any(|creation| creation.name() == action)
}

/// Whether keys were changed.
fn is_of_keys(action: &str) -> bool {
    [Action::KeysAdd, Action::KeysActivate, Action::KeysRetire].iter().any(|of_keys| of_keys.name() == action)
}

/// Why nothing new is sealed with a key.
fn retired(key: u32) -> Error {
    Error::Unavailable(format!("key {key} is retired and still active here: put the newer key file in place and send SIGHUP"))
}

/// The databases.
#[derive(Debug)]
pub(crate) enum Store {
    /// Embedded, one machine.
    Sqlite(Sqlite),
    /// A server of its own, many machines.
    Postgres(Postgres),
}

/// Sends each method to the database.
macro_rules! on {
    ($store:expr, $s:ident => $call:expr) => {
        match $store {
            Store::Sqlite($s) => $call,
            Store::Postgres($s) => $call,
        }
    };
}

#[cfg(feature = "server")]
use on;

impl Store {
    /// Opens the database, creating or migrating it if need be.
    ///
    /// # Errors
    /// [`Error::Unfit`] if its settings or version do not allow what we promise, or if nothing may be served from it; else as
    /// any operation.
    pub(crate) async fn open(location: Location) -> Result<Self, Error> {
        let store = Self::open_held(location).await?;
        store.refuse_hold().await?;
        Ok(store)
    }

    /// What was measured of it since it was opened.
    pub(crate) fn measured(&self) -> Measured {
        on!(self, s => s.measured())
    }

    /// Refuses a database from which nothing may be served. To be asked again behind [`Store::announce`]: who moves a
    /// database says so in it, and then looks who has announced itself.
    pub(crate) async fn refuse_hold(&self) -> Result<(), Error> {
        match on!(self, s => s.hold().await)? {
            Some(hold) => Err(Error::Held(hold.sentence())),
            None => Ok(()),
        }
    }

    /// Lets processes start on it.
    #[cfg(feature = "server")]
    pub(crate) async fn release(&self) -> Result<(), Error> {
        on!(self, s => s.release().await)
    }

    /// As [`Store::open`], for whoever finishes what was begun with it.
    pub(crate) async fn open_held(location: Location) -> Result<Self, Error> {
        match location.database.clone() {
            Database::Sqlite(data) => {
                let open = move || Sqlite::open(&data, &location).map(Self::Sqlite);
                tokio::task::spawn_blocking(open).await.map_err(|e| Error::Unavailable(e.to_string()))?
            }
            Database::Postgres(url) => Postgres::open(&url, &location).await.map(Self::Postgres),
        }
    }

    /// The name of this process, as entries have it.
    #[cfg(feature = "server")]
    pub(crate) fn node(&self) -> &str {
        on!(self, s => &s.log().node)
    }

    /// From now on entries of the audit log can be written, sealed by these.
    pub(crate) fn seal_entries_with(&self, seals: Arc<dyn SealEntries>) {
        on!(self, s => s.log().seal_with(seals));
    }

    /// The installation's identity, made with the database.
    pub(crate) async fn installation(&self) -> Result<[u8; 16], Error> {
        on!(self, s => s.installation().await)
    }

    /// Makes the installation's row, unless there is one.
    pub(crate) async fn insert_installation(&self, id: [u8; 16], at: Timestamp) -> Result<(), Error> {
        on!(self, s => s.insert_installation(id, at).await)
    }

    /// All keys that the database knows, in the order of their ids.
    pub(crate) async fn list_canaries(&self) -> Result<Vec<Canary>, Error> {
        on!(self, s => s.list_canaries().await)
    }

    /// Adds the canary of a key, unless there is one.
    pub(crate) async fn insert_canary(&self, key: u32, mac: [u8; 32]) -> Result<(), Error> {
        on!(self, s => s.insert_canary(key, mac).await)
    }

    /// What lives by each key that anything lives by. Reads all tokens.
    #[cfg(feature = "server")]
    pub(crate) async fn count_sealed(&self) -> Result<Vec<(u32, Sealing)>, Error> {
        on!(self, s => s.count_sealed().await)
    }

    /// Lets `decide` put another record in place of tokens, sealed and digested under another key, and returns the records as
    /// they then are. Nothing but key and proof is written, only of a token that is live and as it was read, and only from
    /// and to keys that are not retired.
    pub(crate) async fn reseal_tokens<F>(&self, ids: Vec<TokenId>, decide: F) -> Result<Vec<Record>, Error>
    where
        F: FnMut(&Record) -> Option<Record> + Send + 'static,
    {
        on!(self, s => s.reseal_tokens(ids, decide).await)
    }

    /// Retires a key, with the audit entry, and seals platforms and operations anew that it has sealed, all or nothing;
    /// returns the place. `None`, and nothing, if a token that was made behind the place `since` lives by it.
    #[cfg(feature = "server")]
    pub(crate) async fn retire_key<P, O>(&self, key: u32, since: u64, entry: AuditEntry, reseal: (P, O)) -> Result<Option<u64>, Error>
    where
        P: FnMut(&PlatformRecord) -> Option<PlatformRecord> + Send + 'static,
        O: FnMut(&OperationsRecord) -> Option<OperationsRecord> + Send + 'static,
    {
        on!(self, s => s.retire_key(key, since, entry, reseal).await)
    }

    /// One record by primary key, for verification: the only read without a scope. From a history that has the place `known`.
    ///
    /// # Errors
    /// [`Error::Rewound`] if it is another history; else as any operation.
    pub(crate) async fn find_token(&self, id: TokenId, known: Mark) -> Result<Option<(Record, PlatformRecord)>, Error> {
        on!(self, s => s.find_token(id, known).await)
    }

    /// The same from a database that is surely the one in use: for whom no lease says so.
    pub(crate) async fn find_token_confirmed(&self, id: TokenId, known: Mark) -> Result<Option<(Record, PlatformRecord)>, Error> {
        match self {
            Self::Sqlite(s) => s.find_token(id, known).await,
            Self::Postgres(s) => s.find_token_confirmed(id, known).await,
        }
    }

    /// One record, if it is in the scope.
    pub(crate) async fn find_token_in(&self, scope: Scope, id: TokenId) -> Result<Option<Record>, Error> {
        on!(self, s => s.find_token_in(scope, id).await)
    }

    /// Whether a token is live, and so is its platform.
    pub(crate) async fn is_live(&self, id: TokenId) -> Result<bool, Error> {
        on!(self, s => s.is_live(id).await)
    }

    /// Tokens whose rows could not be read at all since this was last called; they were left out of every answer.
    pub(crate) fn take_unreadable(&self) -> Vec<TokenId> {
        on!(self, s => s.take_unreadable())
    }

    /// A page of records and, if asked, the total, from one snapshot.
    pub(crate) async fn list_tokens(&self, query: TokenQuery) -> Result<Records, Error> {
        on!(self, s => s.list_tokens(query).await)
    }

    /// Commits a new token with its audit entry.
    pub(crate) async fn insert_token(&self, insert: Insert) -> Result<Inserted, Error> {
        on!(self, s => s.insert_token(insert).await)
    }

    /// Reads a token of the scope, lets `decide` decide, and commits what it wrote, in one transaction that goes before
    /// all others. Returns the record as it then is, and the place of its change, if one was made.
    pub(crate) async fn change_token<F>(&self, scope: Scope, id: TokenId, decide: F) -> Result<Option<(Record, Option<u64>)>, Error>
    where
        F: FnMut(&Record) -> Decision<Record> + Send + 'static,
    {
        on!(self, s => s.change_token(scope, id, decide).await)
    }

    /// Commits a platform with its root tokens, each with its audit entry, and returns its place; `None`, and nothing, if there is
    /// one of that id.
    pub(crate) async fn insert_platform(
        &self,
        platform: PlatformRecord,
        entry: AuditEntry,
        roots: Vec<(Record, AuditEntry)>,
    ) -> Result<Option<u64>, Error> {
        on!(self, s => s.insert_platform(platform, entry, roots).await)
    }

    /// As [`Store::change_token`], for a platform.
    pub(crate) async fn change_platform<F>(&self, id: PlatformId, decide: F) -> Result<Option<(PlatformRecord, Option<u64>)>, Error>
    where
        F: FnMut(&PlatformRecord) -> Decision<PlatformRecord> + Send + 'static,
    {
        on!(self, s => s.change_platform(id, decide).await)
    }

    /// One platform.
    pub(crate) async fn find_platform(&self, id: PlatformId) -> Result<Option<PlatformRecord>, Error> {
        on!(self, s => s.find_platform(id).await)
    }

    /// All platforms, oldest first.
    pub(crate) async fn list_platforms(&self) -> Result<Vec<PlatformRecord>, Error> {
        on!(self, s => s.list_platforms().await)
    }

    /// Puts the operations in the place of those before, with the audit entry; returns the place of the change.
    pub(crate) async fn replace_operations(&self, operations: OperationsRecord, entry: AuditEntry) -> Result<u64, Error> {
        on!(self, s => s.replace_operations(operations, entry).await)
    }

    /// The operations in force.
    pub(crate) async fn find_operations(&self) -> Result<Option<OperationsRecord>, Error> {
        on!(self, s => s.find_operations().await)
    }

    /// Commits an entry that stands for itself.
    pub(crate) async fn insert_audit_entry(&self, entry: AuditEntry) -> Result<(), Error> {
        on!(self, s => s.insert_audit_entry(entry).await)
    }

    /// Commits that what was lost up to these places was taken in, with the audit entry.
    #[cfg(feature = "server")]
    pub(crate) async fn insert_lost_marks(&self, marks: Vec<(Mark, Seal)>, entry: AuditEntry) -> Result<(), Error> {
        on!(self, s => s.insert_lost_marks(marks, entry).await)
    }

    /// Commits a checkpoint of the audit log, with an entry if it is one behind which the log begins.
    #[cfg(feature = "server")]
    pub(crate) async fn insert_checkpoint(&self, checkpoint: Checkpoint, entry: Option<AuditEntry>) -> Result<(), Error> {
        on!(self, s => s.insert_checkpoint(checkpoint, entry).await)
    }

    /// Removes at most so many entries of the audit log up to a place at which there is a checkpoint that says that they are
    /// gone, and then the checkpoints before that. Says whether there may be more.
    #[cfg(feature = "server")]
    pub(crate) async fn remove_pruned(&self, through: u64, most: usize) -> Result<bool, Error> {
        on!(self, s => s.remove_pruned(through, most).await)
    }

    /// A page of the audit log, newest first, and whether there is more.
    pub(crate) async fn list_audit(&self, query: AuditQuery) -> Result<(Vec<RecordedEntry>, bool), Error> {
        on!(self, s => s.list_audit(query).await)
    }

    /// Everything that is answered from memory but the tokens, from one snapshot.
    pub(crate) async fn load(&self) -> Result<Loaded, Error> {
        on!(self, s => s.load().await)
    }

    /// Hands every live token to `visit`, or those of one key, from one snapshot.
    pub(crate) async fn visit_live_tokens(&self, key: Option<u32>, visit: impl FnMut(Record) + Send + 'static) -> Result<(), Error> {
        on!(self, s => s.visit_live_tokens(key, visit).await)
    }

    /// What other processes have changed behind a place, in order. `now` is by the clock of leases.
    ///
    /// # Errors
    /// [`Error::Rewound`] if the place is not in this history, [`Error::Pruned`] if nobody can tell; else as any operation.
    pub(crate) async fn changes_after(&self, mark: Mark, now: Duration) -> Result<Changes, Error> {
        match self {
            Self::Sqlite(s) => s.changes_after(mark),
            Self::Postgres(s) => s.changes_after(mark, now).await,
        }
    }

    /// Returns when another process may have changed something; a hint, which may never come. Whoever follows asks again
    /// after a while, whatever becomes of this.
    pub(crate) async fn changed(&self) {
        match self {
            Self::Sqlite(_) => std::future::pending().await,
            Self::Postgres(s) => s.changed().await,
        }
    }

    /// Tells them that it does no longer. To be called when nothing is believed any more; else its row or file goes later.
    pub(crate) async fn depart(&self) -> Result<(), Error> {
        match self {
            // Its lock goes with the process.
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(s) => s.depart().await,
        }
    }

    /// Tells other processes that this one will answer from memory, believing it for `lease` at a time, or for `stale`
    /// while it cannot reach the database. To be called before [`Store::load`].
    pub(crate) async fn announce(&self, lease: Duration, stale: Duration) -> Result<(), Error> {
        match self {
            // Everything on one machine loses its file together: nobody is left who could end a token meanwhile, or serve.
            Self::Sqlite(_) if !stale.is_zero() => Err(Error::Unfit(
                "on_database_loss = serve_stale is for PostgreSQL: embedded SQLite is a file of this machine, which is not lost for a while; say deny".to_owned(),
            )),
            Self::Sqlite(s) => s.announce(lease),
            Self::Postgres(s) => s.announce(lease, stale).await,
        }
    }

    /// Returns once no other process can still act on what was true before the change at `seq`, or before whatever is
    /// committed now; or, where that is not waited for, says by when none can.
    ///
    /// Whoever answers from memory began its last feed read either after the commit, and then knows; or before it, and
    /// then believes its index for less than its lease from now. A process that started since has loaded the change.
    pub(crate) async fn settle(&self, seq: Option<u64>, wait: bool) -> Result<Settled, Error> {
        match self {
            Self::Sqlite(s) => s.settle(wait).await,
            Self::Postgres(s) => s.settle(seq, wait).await,
        }
    }

    /// Tells other processes that this one has applied everything up to there, so that they need not wait for it.
    pub(crate) async fn applied(&self, seq: u64) {
        match self {
            Self::Sqlite(_) => {}
            Self::Postgres(s) => s.applied(seq).await,
        }
    }

    /// Adds uses of tokens, in the order of their ids, to those that are noted; what other processes note adds up with
    /// them. Tokens that are not there are passed over.
    pub(crate) async fn note_uses(&self, uses: Vec<(TokenId, Use)>) -> Result<(), Error> {
        on!(self, s => s.note_uses(uses).await)
    }

    /// How a token was used, as far as it was noted, as of `at`.
    pub(crate) async fn find_uses(&self, id: TokenId, at: Timestamp) -> Result<TokenUse, Error> {
        on!(self, s => s.find_uses(id, at).await)
    }

    /// Forgets at most so many rows of counts and addresses that are older than is kept. Says whether there may be more.
    pub(crate) async fn forget_uses(&self, since: KeptSince, most: usize) -> Result<bool, Error> {
        on!(self, s => s.forget_uses(since, most).await)
    }

    /// Forgets the secrets of replays made before the first moment, and replays made before the second.
    pub(crate) async fn expire_replays(&self, secrets: Timestamp, replays: Timestamp) -> Result<(), Error> {
        on!(self, s => s.expire_replays(secrets, replays).await)
    }

    /// Commits nothing, durably: whether a change could be made now.
    pub(crate) async fn probe(&self) -> Result<(), Error> {
        on!(self, s => s.probe().await)
    }
}

/// What [`Store::settle`] finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// The other processes that have not said that they know of it.
    pub(crate) unheard: Vec<String>,
    /// For how long from now any of them may still act on what was before; zero where none can.
    pub(crate) bound: Duration,
}

/// What [`Store::load`] finds.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The place of the feed that it reaches.
    pub(crate) mark: Mark,
    /// All platforms.
    pub(crate) platforms: Vec<PlatformRecord>,
    /// The operations in force.
    pub(crate) operations: Option<OperationsRecord>,
    /// All keys.
    pub(crate) keys: Vec<Canary>,
    /// About how many live tokens there are.
    pub(crate) live: u64,
}

/// A record without its secret parts.
impl From<Record> for Token {
    fn from(record: Record) -> Self {
        record.token
    }
}
