//! The embedded store: one file, many processes, one writer at a time.
//!
//! WAL with `synchronous=FULL`: a commit is on the disk before anybody hears of it. Reads run on a small pool beside the
//! writer; every process of the same data directory sees the others' commits through the file.

mod ballast;
#[cfg(feature = "server")]
mod bulk;
mod checkpoint;
#[cfg(feature = "server")]
pub(super) mod copy;
#[cfg(feature = "server")]
mod entries;
#[cfg(feature = "server")]
mod examine;
mod files;
mod hold;
mod keys;
#[cfg(feature = "server")]
mod operators;
mod presence;
mod readers;
mod sql;
mod totals;
mod uses;
mod writer;

use std::{
    fmt, fs,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig};

use self::{
    ballast::Ballast,
    files::{GONE, Identity},
    presence::Presence,
    readers::Readers,
    writer::{Batch, Writer},
};
#[cfg(feature = "server")]
use super::NodeRecord;
use super::{
    Changes, Decision, Error, Hold, Insert, Inserted, KeptSince, Loaded, Location, Mark, Measured, OperationsRecord, PlatformRecord,
    Record, Records, Settled, Unreadable, is_creation, is_of_keys, log::Log, queue::Urgency,
};
use crate::{
    defect::Defect,
    domain::{Action, AuditEntry, AuditQuery, PlatformId, RecordedEntry, Scope, Timestamp, TokenId, TokenName, TokenQuery, TokenUse, Use},
};

/// The database's file in the data directory.
pub(super) const FILE: &str = "countersign.db";
/// Reading threads at the most; as many as there are cores, but two.
const READERS: usize = 4;
/// How long to wait for another process's transaction.
const BUSY: Duration = Duration::from_secs(2);
/// Places of the feed read at once.
const FEED_PAGE: usize = 1000;
/// The first version without the bug that could corrupt a database with concurrent checkpoints.
const LEAST_SQLITE: i32 = 3_051_003;

/// Forward only, in order: (name, statements). A name never changes once it was released.
const MIGRATIONS: [(&str, &str); 5] = [
    ("0001_authority", include_str!("../../../migrations/sqlite/0001_authority.sql")),
    ("0002_lost_marks", include_str!("../../../migrations/sqlite/0002_lost_marks.sql")),
    ("0003_operators", include_str!("../../../migrations/sqlite/0003_operators.sql")),
    ("0004_bulk_revokes", include_str!("../../../migrations/sqlite/0004_bulk_revokes.sql")),
    ("0005_use_sources", include_str!("../../../migrations/sqlite/0005_use_sources.sql")),
];

/// The store in a data directory.
pub(crate) struct Sqlite {
    file: PathBuf,
    /// Which files those were when they were opened.
    identity: Identity,
    directory: PathBuf,
    log: Log,
    writer: Writer,
    readers: Readers,
    /// The feed's own connection: following must not wait for anybody's page.
    feed: Mutex<Connection>,
    presence: Mutex<Option<(Presence, Duration)>>,
    unreadable: Arc<Unreadable>,
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("file", &self.file).finish_non_exhaustive()
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match &error {
            E::SqliteFailure(cause, _) if cause.code == ErrorCode::DiskFull => Self::Full,
            E::SqliteFailure(cause, _) if matches!(cause.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt(error.to_string())
            }
            E::FromSqlConversionFailure(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..) => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// Opens a file, whatever its name: to SQLite some mean no file, or another one.
fn open_file(file: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(Path::new(".").join(file), access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

fn connect(file: &Path) -> Result<Connection, Error> {
    let connection = open_file(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "synchronous", if Defect::Sync.is_seeded() { "NORMAL" } else { "FULL" })?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    // Plans that do not depend on bound values: else every execution with new ones is planned anew.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // Nothing of what somebody else put into the file runs: a trigger could undo what is answered as done.
    for foreign in
        [DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA]
    {
        connection.set_db_config(foreign, false)?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Refuses settings under which an acknowledged change could be lost.
fn check_settings(connection: &Connection) -> Result<(), Error> {
    let version = rusqlite::version_number();
    let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    let foreign_keys: bool = connection.pragma_query_value(None, "foreign_keys", |row| row.get(0))?;
    let unfit = |what: String| Err(Error::Unfit(format!("refusing to start: {what}")));
    if version < LEAST_SQLITE {
        return unfit(format!("SQLite {} can corrupt a database (its WAL-reset bug); 3.51.3 or newer is needed", rusqlite::version()));
    }
    if journal != "wal" {
        return unfit(format!("the database's journal mode is {journal}, not wal: is the data directory on a network file system?"));
    }
    if synchronous < 2 && !Defect::Sync.is_seeded() {
        return unfit(format!(
            "the database's synchronous setting is {synchronous}; below 2 (FULL) a power cut loses acknowledged changes"
        ));
    }
    if !foreign_keys {
        return unfit("the database does not enforce foreign keys".to_owned());
    }
    Ok(())
}

/// Number, name and checksum of each migration.
fn known_migrations() -> impl Iterator<Item = (usize, String, u32)> {
    MIGRATIONS.iter().enumerate().map(|(i, (name, statements))| (i + 1, (*name).to_owned(), crc32fast::hash(statements.as_bytes())))
}

/// How many migrations were done, if they are ours.
fn migrations_done(connection: &Connection) -> Result<usize, Error> {
    let done: Vec<(usize, String, u32)> = connection
        .prepare("SELECT number, name, checksum FROM migration ORDER BY number")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    if done.len() > MIGRATIONS.len() || !known_migrations().zip(&done).all(|(known, done)| known == *done) {
        let last = done.last().map_or("", |(_, name, _)| name.as_str());
        return Err(Error::Unfit(format!(
            "the database was written by another, newer countersign (its last migration is {last}): run that version, or restore a backup made by this one"
        )));
    }
    Ok(done.len())
}

/// Brings the tables up to date. Where there are none, they are made with that hold on them: nobody finds them without it.
fn migrate(connection: &mut Connection, new: Option<Hold>) -> Result<(), Error> {
    // Looked at first without the lock: where there is nothing to do, nobody has to wait for a writer.
    if connection.table_exists(None, "migration")? && migrations_done(connection)? == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum INTEGER NOT NULL) STRICT",
    )?;
    let done = migrations_done(&transaction)?;
    for ((number, name, checksum), (_, statements)) in known_migrations().zip(&MIGRATIONS).skip(done) {
        transaction.execute_batch(statements)?;
        transaction.execute("INSERT INTO migration (number, name, checksum) VALUES (?1, ?2, ?3)", (number, name, checksum))?;
    }
    if done == 0 {
        hold::put(&transaction, new)?;
    }
    Ok(transaction.commit()?)
}

/// Sees to it that there is a database in a data directory, up to date, or `new` with that hold; and its file.
fn make(data: &Path, new: Option<Hold>) -> Result<(PathBuf, Connection), Error> {
    let io = |e: std::io::Error| Error::Unfit(format!("cannot use the data directory {}: {e}", data.display()));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(io)?;
    let file = data.join(FILE);
    // Made by us, so that nobody else can read it even where the directory was there before.
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&file).map_err(io)?;

    let mut connection = connect(&file)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    check_settings(&connection)?;
    migrate(&mut connection, new)?;
    Ok((file, connection))
}

impl Sqlite {
    pub(super) fn open(data: &Path, location: &Location) -> Result<Self, Error> {
        // An empty file is none either: SQLite would fill it.
        if !location.create && fs::metadata(data.join(FILE)).map_or(true, |file| file.len() == 0) {
            let data = data.display();
            return Err(Error::Unfit(format!(
                "there is no database in {data}; say where it is (--data), or make one with countersign platform create"
            )));
        }
        let running = data.join("running");
        files::refuse_odd(&data.join(FILE))?;
        files::refuse_without_log(data, &running)?;
        let (file, connection) = make(data, None)?;
        let log = Log::new(location.node.clone());
        let ballast = Ballast::new(data.join("ballast"));
        // The one before may have died with it given up; the disk may fill before anything is changed. Where it is full
        // already, we serve all the same.
        let _ = ballast.restore();
        let writer = Writer::start(connection, file.clone(), ballast, log.clone())?;
        let threads = std::thread::available_parallelism().map_or(READERS, |cores| cores.get().clamp(2, READERS));
        let readers = Readers::start(&file, threads)?;
        let feed = Mutex::new(connect(&file)?);
        let identity = Identity::of(&file).ok_or(Error::Held(GONE))?;
        Ok(Self { file, identity, directory: running, log, writer, readers, feed, presence: Mutex::default(), unreadable: Arc::default() })
    }

    pub(super) const fn log(&self) -> &Log {
        &self.log
    }

    async fn write<R: Send + 'static>(&self, run: impl FnMut(&mut Batch<'_>) -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
        self.writer.write(Urgency::Normal, run).await
    }

    async fn read<R: Send + 'static>(&self, run: impl FnOnce(&Connection) -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
        self.readers.read(run).await
    }

    pub(super) fn measured(&self) -> Measured {
        self.writer.measured(self.readers.took())
    }

    pub(super) async fn installation(&self) -> Result<[u8; 16], Error> {
        self.read(|c| sql::installation(c)?.ok_or_else(|| Error::Corrupt("the installation's row is missing".to_owned()))).await
    }

    pub(super) async fn insert_installation(&self, id: [u8; 16], at: Timestamp) -> Result<(), Error> {
        if self.read(sql::installation).await?.is_some() {
            return Ok(());
        }
        self.write(move |batch| sql::insert_installation(batch.connection, id, at)).await
    }

    pub(super) async fn find_token(&self, id: TokenId, known: Mark) -> Result<Option<(Record, PlatformRecord)>, Error> {
        let (unreadable, log) = (Arc::clone(&self.unreadable), self.log.clone());
        let find = move |c: &Connection| match hold::refuse(c).and_then(|()| sql::is_of_this_history(c, &known))? {
            true => sql::find_token(c, id, &unreadable),
            false => Err(sql::rewound(c, &known, &log)),
        };
        self.read(move |c| snapshot(c, || find(c))).await
    }

    pub(super) async fn find_token_in(&self, scope: Scope, id: TokenId) -> Result<Option<Record>, Error> {
        let unreadable = Arc::clone(&self.unreadable);
        self.read(move |c| sql::find_token_in(c, scope, id, &unreadable)).await
    }

    pub(super) async fn is_live(&self, id: TokenId) -> Result<bool, Error> {
        self.read(move |c| sql::is_live(c, id)).await
    }

    pub(super) async fn list_tokens(&self, query: TokenQuery) -> Result<Records, Error> {
        if let (true, Some(name)) = (query.count, &query.filter.name) {
            self.count_name(query.scope, name).await?;
        }
        let unreadable = Arc::clone(&self.unreadable);
        self.read(move |c| snapshot(c, || sql::list_tokens(c, &query, &unreadable))).await
    }

    #[cfg(feature = "server")]
    pub(super) async fn walk_tokens(&self, walk: super::Walk) -> Result<super::Walked, Error> {
        let unreadable = Arc::clone(&self.unreadable);
        self.read(move |c| sql::walk_tokens(c, &walk, &unreadable)).await
    }

    /// Sees to it that the tokens of a name can be counted quickly.
    async fn count_name(&self, scope: Scope, name: &TokenName) -> Result<(), Error> {
        let (asked, given) = (name.clone(), name.clone());
        if self.read(move |c| totals::wants_buckets(c, scope, &asked)).await? {
            // Where this can't be written now, they are counted row by row.
            let _ = self.write(move |batch| batch.totals.give_buckets(batch.connection, scope, &given)).await;
        }
        Ok(())
    }

    pub(super) async fn insert_token(&self, insert: Insert) -> Result<Inserted, Error> {
        let Insert { record, entry, creator, replay, replays_since, most } = insert;
        self.write(move |batch| {
            let c = batch.connection;
            if let Some(creator) = creator
                && !batch.is_live(creator)?
            {
                return Ok(Inserted::CreatorEnded);
            }
            if let Some(replay) = &replay
                && let Some((before, token)) = sql::find_replay(c, &replay.id, replays_since)?
            {
                return Ok(Inserted::Replayed(before, Box::new(token)));
            }
            if creator.is_none() && sql::find_platform(c, record.token.scope.platform)?.is_none() {
                return Ok(Inserted::NoPlatform);
            }
            if let Some(most) = most
                && batch.totals.live_in(c, record.token.scope)? >= most.into()
            {
                return Ok(Inserted::Full);
            }
            insert_token(batch, &record, &entry)?;
            if let Some(replay) = &replay {
                sql::insert_replay(c, replay, record.token.id)?;
            }
            Ok(Inserted::Created)
        })
        .await
    }

    pub(super) async fn change_token<F>(&self, scope: Scope, id: TokenId, mut decide: F) -> Result<Option<(Record, Option<u64>)>, Error>
    where
        F: FnMut(&Record) -> Decision<Record> + Send + 'static,
    {
        let unreadable = Arc::clone(&self.unreadable);
        let change = move |batch: &mut Batch<'_>| {
            let c = batch.connection;
            let Some(before) = sql::find_token_in(c, scope, id, &unreadable)? else { return Ok(None) };
            match decide(&before) {
                Decision::Keep => Ok(Some((before, None))),
                Decision::Write(after, entry) => {
                    batch.something_ends();
                    sql::update_token(c, &after)?;
                    if before.token.revoked_at.is_none() && after.token.revoked_at.is_some() {
                        batch.totals.note(c, scope, &after.token.name, after.token.id.created_at(), -1)?;
                    }
                    Ok(Some((after, Some(batch.note(&entry)?))))
                }
            }
        };
        self.writer.write(Urgency::Ending, change).await
    }

    pub(super) async fn insert_platform(
        &self,
        platform: PlatformRecord,
        entry: AuditEntry,
        roots: Vec<(Record, AuditEntry)>,
    ) -> Result<Option<u64>, Error> {
        self.write(move |batch| {
            batch.refuse_retired(platform.seal.key)?;
            if !sql::insert_platform(batch.connection, &platform)? {
                return Ok(None);
            }
            let seq = batch.note(&entry)?;
            for (record, entry) in &roots {
                insert_token(batch, record, entry)?;
            }
            Ok(Some(seq))
        })
        .await
    }

    pub(super) async fn change_platform<F>(&self, id: PlatformId, mut decide: F) -> Result<Option<(PlatformRecord, Option<u64>)>, Error>
    where
        F: FnMut(&PlatformRecord) -> Decision<PlatformRecord> + Send + 'static,
    {
        let change = move |batch: &mut Batch<'_>| {
            let c = batch.connection;
            let Some(before) = sql::find_platform(c, id)? else { return Ok(None) };
            match decide(&before) {
                Decision::Keep => Ok(Some((before, None))),
                Decision::Write(after, entry) => {
                    batch.something_ends();
                    batch.refuse_retired(after.seal.key)?;
                    sql::update_platform(c, &after)?;
                    Ok(Some((after, Some(batch.note(&entry)?))))
                }
            }
        };
        self.writer.write(Urgency::Ending, change).await
    }

    pub(super) async fn find_platform(&self, id: PlatformId) -> Result<Option<PlatformRecord>, Error> {
        self.read(move |c| sql::find_platform(c, id)).await
    }

    pub(super) async fn list_platforms(&self) -> Result<Vec<PlatformRecord>, Error> {
        self.read(sql::list_platforms).await
    }

    pub(super) async fn replace_operations(&self, operations: OperationsRecord, entry: AuditEntry) -> Result<u64, Error> {
        let replace = move |batch: &mut Batch<'_>| {
            batch.refuse_retired(operations.seal.key)?;
            sql::replace_operations(batch.connection, &operations)?;
            batch.note(&entry)
        };
        self.write(replace).await
    }

    pub(super) async fn find_operations(&self) -> Result<Option<OperationsRecord>, Error> {
        self.read(sql::find_operations).await
    }

    pub(super) async fn insert_audit_entry(&self, entry: AuditEntry) -> Result<(), Error> {
        self.write(move |batch| batch.note(&entry).map(drop)).await
    }

    #[cfg(feature = "server")]
    pub(super) async fn insert_lost_marks(&self, marks: Vec<(Mark, super::Seal)>, entry: AuditEntry) -> Result<(), Error> {
        self.write(move |batch| {
            marks.iter().try_for_each(|(mark, seal)| sql::insert_lost_mark(batch.connection, mark, seal, entry.at))?;
            batch.note(&entry).map(drop)
        })
        .await
    }

    pub(super) async fn list_audit(&self, query: AuditQuery) -> Result<(Vec<RecordedEntry>, bool), Error> {
        self.read(move |c| sql::list_audit(c, &query)).await
    }

    pub(super) async fn load(&self) -> Result<Loaded, Error> {
        self.read(|c| {
            snapshot(c, || {
                let (mark, platforms) = (sql::last_mark(c)?, sql::list_platforms(c)?);
                Ok(Loaded { mark, platforms, operations: sql::find_operations(c)?, keys: keys::list_canaries(c)?, live: totals::live(c)? })
            })
        })
        .await
    }

    pub(super) async fn visit_live_tokens(&self, key: Option<u32>, visit: impl FnMut(Record) + Send + 'static) -> Result<(), Error> {
        let (file, unreadable) = (self.file.clone(), Arc::clone(&self.unreadable));
        // On a connection and a thread made for it: it takes seconds, and the readers have others to serve.
        let read = move || sql::visit_live_tokens(&connect(&file)?, key, visit, &unreadable);
        tokio::task::spawn_blocking(read).await.map_err(|e| Error::Unavailable(e.to_string()))?
    }

    pub(super) fn changes_after(&self, mark: Mark) -> Result<Changes, Error> {
        self.stay_announced()?;
        if Identity::of(&self.file) != Some(self.identity) {
            // What it says still is not what others change.
            return Err(Error::Held(GONE));
        }
        let feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot(&feed, || {
            hold::refuse(&feed)?;
            let mut places = sql::places_from(&feed, mark.seq, FEED_PAGE + 1)?.into_iter();
            let mut changes = Changes { more: places.len() > FEED_PAGE, ..Changes::none_after(mark) };
            if mark != Mark::START && places.next().is_none_or(|place| place.mark != mark) {
                return Err(sql::rewound(&feed, &mark, &self.log));
            }
            for place in places {
                changes.through = place.mark;
                let seq = place.mark.seq;
                if place.node == self.log.node && is_creation(&place.action) {
                    continue;
                }
                // What stands in the row now, not what the entry said: following twice does no harm.
                if let Some(id) = place.token {
                    let found = sql::find_token(&feed, id, &self.unreadable)?;
                    changes.tokens.extend(found.map(|(record, _)| record));
                } else if let Some(id) = place.platform {
                    let found = sql::find_platform(&feed, id)?;
                    changes.platforms.extend(found.map(|record| (seq, record)));
                } else if place.action == Action::OperationsLoad.name() {
                    changes.operations = sql::find_operations(&feed)?.map(|operations| (seq, operations));
                } else if is_of_keys(&place.action) {
                    changes.keys = Some(keys::list_canaries(&feed)?);
                }
            }
            Ok(changes)
        })
    }

    pub(super) fn take_unreadable(&self) -> Vec<TokenId> {
        self.unreadable.take()
    }

    pub(super) fn announce(&self, lease: Duration) -> Result<(), Error> {
        let presence = Presence::announce(&self.directory, &self.log.node, lease)
            .map_err(|e| Error::Unfit(format!("cannot write to {}: {e}", self.directory.display())))?;
        *self.presence.lock().unwrap_or_else(PoisonError::into_inner) = Some((presence, lease));
        // Looking removes what processes that were killed have left.
        self.elsewhere().map(drop)
    }

    /// Announces this process again if somebody has removed its file: others would not wait for it.
    fn stay_announced(&self) -> Result<(), Error> {
        let gone = {
            let presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
            presence.as_ref().and_then(|(presence, lease)| (!presence.is_there()).then_some(*lease))
        };
        gone.map_or(Ok(()), |lease| {
            tracing::error!(directory = %self.directory.display(), "somebody removed this server's lock file; it is made again");
            self.announce(lease)
        })
    }

    /// Waits until no other process can believe what it has not followed. None says how far it has.
    pub(super) async fn settle(&self, wait: bool) -> Result<Settled, Error> {
        let (mut unheard, leases): (Vec<_>, Vec<_>) = self.elsewhere()?.into_iter().unzip();
        unheard.sort();
        let bound = leases.into_iter().max().unwrap_or_default();
        if !wait {
            return Ok(Settled { unheard, bound });
        }
        if !bound.is_zero() {
            tokio::time::sleep(bound).await;
        }
        Ok(Settled { unheard, bound: Duration::ZERO })
    }

    fn elsewhere(&self) -> Result<Vec<(String, Duration)>, Error> {
        let own = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence::elsewhere(&self.directory, own.as_ref().map(|(presence, _)| presence)).map_err(|e| Error::Unavailable(e.to_string()))
    }

    /// This process and the others whose files are locked: they are there now, and none says how far it has followed.
    #[cfg(feature = "server")]
    pub(super) async fn list_nodes(&self) -> Result<(u64, Vec<NodeRecord>), Error> {
        let own = self.presence.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, lease)| (self.log.node.clone(), *lease));
        let node = |(id, lease)| NodeRecord { id, lease, stale: Duration::ZERO, followed: None, unseen: Duration::ZERO, suspected: false };
        let mut nodes: Vec<_> = self.elsewhere()?.into_iter().chain(own).map(node).collect();
        nodes.sort_by(|one, other| one.id.cmp(&other.id));
        Ok((self.read(sql::last_mark).await?.seq, nodes))
    }

    pub(super) async fn note_uses(&self, uses: Vec<(TokenId, Use)>) -> Result<(), Error> {
        self.write(move |batch| uses::note(batch.connection, &uses)).await
    }

    pub(super) async fn find_uses(&self, id: TokenId, at: Timestamp) -> Result<TokenUse, Error> {
        self.read(move |c| snapshot(c, || uses::find(c, id, at))).await
    }

    pub(super) async fn forget_uses(&self, since: KeptSince, most: usize) -> Result<bool, Error> {
        self.write(move |batch| uses::forget(batch.connection, since, most)).await
    }

    pub(super) async fn expire_replays(&self, secrets: Timestamp, replays: Timestamp) -> Result<(), Error> {
        self.write(move |batch| sql::expire_replays(batch.connection, secrets, replays)).await
    }

    pub(super) async fn probe(&self) -> Result<(), Error> {
        self.write(|batch| sql::probe(batch.connection)).await
    }
}

fn insert_token(batch: &mut Batch<'_>, record: &Record, entry: &AuditEntry) -> Result<(), Error> {
    batch.refuse_retired(record.seal.key)?;
    sql::insert_token(batch.connection, record)?;
    batch.note(entry)?;
    let token = &record.token;
    batch.totals.note(batch.connection, token.scope, &token.name, token.id.created_at(), 1)
}

/// Runs several reads on one state of the database.
fn snapshot<R>(connection: &Connection, read: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let result = read();
    // Always ended, whatever became of the reads.
    connection.prepare_cached("COMMIT")?.execute([])?;
    result
}

#[cfg(test)]
mod tests;
