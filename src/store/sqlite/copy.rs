//! Everything in this database, copied out of it and into it, as rows that any database takes.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{
    CachedStatement, Connection, OpenFlags, OptionalExtension as _, Row, TransactionBehavior,
    types::{ToSqlOutput, Value, ValueRef},
};
use rustix::fs::OFlags;
use tokio::sync::mpsc;

use super::{BUSY, Error, FILE, MIGRATIONS, connect, hold, keys, make, migrate, migrations_done, open_file, presence, sql};
use crate::store::{
    Canary, Hold, Mark,
    copy::Difference,
    tables::{Kind, Rows, Table, indexes, integer, values},
};

/// A connection, for one after the other, on threads that may wait.
#[derive(Clone)]
struct Held(Arc<Mutex<Connection>>);

impl Held {
    fn new(connection: Connection) -> Self {
        Self(Arc::new(Mutex::new(connection)))
    }

    async fn with<R: Send + 'static>(&self, run: impl FnOnce(&mut Connection) -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
        let held = Arc::clone(&self.0);
        let run = move || run(&mut held.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(run).await.map_err(|e| Error::Unavailable(e.to_string()))?
    }
}

/// Whether some process may answer from memory.
fn is_followed(running: &Path) -> Result<bool, Error> {
    let there = presence::elsewhere(running, None).map_err(|e| Error::Unavailable(e.to_string()))?;
    Ok(!there.is_empty())
}

/// What is copied: one state of it, from [`Source::begin`] on.
pub(crate) struct Source {
    held: Held,
    /// Where its processes announce themselves; none do on a backup.
    running: Option<PathBuf>,
}

impl Source {
    /// The database of a data directory.
    pub(in crate::store) fn of_directory(data: &Path) -> Result<Self, Error> {
        let file = data.join(FILE);
        if fs::metadata(&file).map_or(true, |file| file.len() == 0) {
            return Err(Error::Unfit(format!("there is no database in {}; say where it is (--data)", data.display())));
        }
        let mut connection = connect(&file)?;
        migrate(&mut connection, None)?;
        Ok(Self { held: Held::new(connection), running: Some(data.join("running")) })
    }

    /// A backup.
    pub(in crate::store) fn of_backup(file: &Path) -> Result<Self, Error> {
        let unfit = |what: &str| Error::Unfit(format!("{} {what}", file.display()));
        if !file.is_file() {
            return Err(unfit("is not there, or no plain file"));
        }
        let open = || -> Result<_, Error> {
            // Nothing is written to it, not even a log beside it.
            let connection = open_file(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            // What is no table of ours may be anything, an endless one too: whoever made the file is not known.
            let strange = "SELECT 1 FROM sqlite_schema WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'";
            if connection.prepare(strange)?.exists([])? {
                return Err(unfit("holds what no backup does, and is not read"));
            }
            Ok((migrations_done(&connection)?, connection))
        };
        match open() {
            Ok((done, connection)) if done == MIGRATIONS.len() => Ok(Self { held: Held::new(connection), running: None }),
            Ok(_) => Err(unfit("is a backup of an older countersign: restore it with that one, and start this one on what was restored")),
            Err(Error::Unfit(why)) => Err(Error::Unfit(why)),
            Err(_) => Err(unfit("is no backup made by countersign")),
        }
    }

    /// Refuses a file that is broken.
    pub(in crate::store) async fn check(&self) -> Result<(), Error> {
        let check = |c: &mut Connection| Ok(c.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?);
        match &*self.held.with(check).await? {
            "ok" => Ok(()),
            problem => Err(Error::Corrupt(problem.to_owned())),
        }
    }

    pub(in crate::store) async fn hold(&self) -> Result<Option<Hold>, Error> {
        self.held.with(|c| hold::find(c)).await
    }

    pub(in crate::store) async fn installation(&self) -> Result<Option<[u8; 16]>, Error> {
        self.held.with(|c| sql::installation(c)).await
    }

    pub(in crate::store) async fn canaries(&self) -> Result<Vec<Canary>, Error> {
        self.held.with(|c| keys::list_canaries(c)).await
    }

    pub(in crate::store) async fn last_mark(&self) -> Result<Mark, Error> {
        self.held.with(|c| sql::last_mark(c)).await
    }

    pub(in crate::store) fn is_followed(&self) -> Result<bool, Error> {
        self.running.as_deref().map_or(Ok(false), is_followed)
    }

    /// From here on what is read is of one state; if `still`, nobody can change anything either.
    pub(in crate::store) async fn begin(&self, still: bool) -> Result<(), Error> {
        let begin = if still { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.held.with(move |c| Ok(c.execute_batch(begin)?)).await?;
        // The first read chooses the state.
        self.last_mark().await.map(drop)
    }

    /// Notes that another database has its place, and lets go of it.
    pub(in crate::store) async fn end_as_moved(&self) -> Result<(), Error> {
        let end = |c: &mut Connection| {
            hold::put(c, Some(Hold::Moved))?;
            Ok(c.execute_batch("COMMIT")?)
        };
        self.held.with(end).await
    }

    /// How long a change may still come that was under way at [`Source::end_as_moved`].
    pub(in crate::store) const fn changes_may_come_for(&self) -> Duration {
        BUSY
    }

    pub(in crate::store) async fn count(&self, table: &'static Table) -> Result<u64, Error> {
        self.held.with(|c| count(c, table)).await
    }

    /// Entries of the audit log before its first place.
    pub(in crate::store) async fn count_before_first(&self) -> Result<u64, Error> {
        self.held.with(|c| count_before_first(c)).await
    }

    /// Sends all rows of a table, or those behind a number, in the order of their keys.
    pub(in crate::store) async fn send(&self, table: &'static Table, after: Option<u64>, to: mpsc::Sender<Rows>) -> Result<(), Error> {
        let read = move |c: &mut Connection| {
            let key = order(table, "");
            let behind = after.map_or_else(String::new, |after| format!(" WHERE {key} > {after}"));
            let mut statement = c.prepare_cached(&format!("{}{behind} ORDER BY {key}", select(table)))?;
            let mut found = statement.query([])?;
            let mut rows = Rows::default();
            while let Some(row) = found.next()? {
                push(&mut rows, table, row)?;
                if rows.is_full() && to.blocking_send(std::mem::take(&mut rows)).is_err() {
                    // Whoever wanted them has given up.
                    return Ok(());
                }
            }
            if !rows.is_empty() {
                let _ = to.blocking_send(rows);
            }
            Ok(())
        };
        self.held.with(read).await
    }
}

fn select(table: &Table) -> String {
    format!("SELECT {} FROM {}", table.column_list(), table.name)
}

fn order(table: &Table, direction: &str) -> String {
    table.key_columns().map(|name| format!("{name}{direction}")).collect::<Vec<_>>().join(", ")
}

fn count(c: &Connection, table: &Table) -> Result<u64, Error> {
    Ok(c.query_row(&format!("SELECT count(*) FROM {}", table.name), [], |row| row.get(0))?)
}

pub(super) fn count_before_first(c: &Connection) -> Result<u64, Error> {
    Ok(c.query_row("SELECT count(*) FROM audit WHERE seq < 1", [], |row| row.get(0))?)
}

/// The first rows of a table whose key is a number behind one, at most so many.
pub(super) fn rows_behind(c: &Connection, table: &Table, after: u64, most: usize) -> Result<Rows, Error> {
    let key = order(table, "");
    let mut statement = c.prepare_cached(&format!("{} WHERE {key} > ?1 ORDER BY {key} LIMIT ?2", select(table)))?;
    let mut found = statement.query((i64::try_from(after).unwrap_or(i64::MAX), most))?;
    let mut rows = Rows::default();
    while let Some(row) = found.next()? {
        push(&mut rows, table, row)?;
    }
    Ok(rows)
}

/// Adds a row as it is kept here.
fn push(rows: &mut Rows, table: &Table, row: &Row<'_>) -> Result<(), Error> {
    rows.begin(table.columns.len());
    for (at, (name, kind)) in table.columns.iter().enumerate() {
        match (kind, row.get_ref(at)?) {
            (_, ValueRef::Null) => rows.value(None),
            (Kind::Integer, ValueRef::Integer(value)) => rows.value(Some(&value.to_be_bytes())),
            (Kind::Boolean, ValueRef::Integer(value)) => rows.value(Some(&[u8::from(value != 0)])),
            (Kind::Text, ValueRef::Text(value)) | (Kind::Bytes | Kind::Id, ValueRef::Blob(value)) => rows.value(Some(value)),
            // The tables are strict: the file was broken from outside.
            _ => return Err(Error::Corrupt(format!("a value in the column {name} of {}", table.name))),
        }
    }
    rows.end();
    Ok(())
}

/// Binds values of a row, from a parameter on.
fn bind(statement: &mut CachedStatement<'_>, from: usize, columns: &[(&str, Kind)], row: &[u8]) -> Result<(), Error> {
    for ((at, (_, kind)), value) in (from..).zip(columns).zip(values(row)) {
        let value = match (kind, value) {
            (_, None) => ToSqlOutput::Owned(Value::Null),
            (Kind::Integer, Some(value)) => ToSqlOutput::Owned(integer(value).map_or(Value::Null, Value::Integer)),
            (Kind::Boolean, Some(value)) => ToSqlOutput::Owned(Value::Integer((value != [0]).into())),
            (Kind::Text, Some(value)) => ToSqlOutput::Borrowed(ValueRef::Text(value)),
            (Kind::Bytes | Kind::Id, Some(value)) => ToSqlOutput::Borrowed(ValueRef::Blob(value)),
        };
        statement.raw_bind_parameter(at, value)?;
    }
    Ok(())
}

/// Whether a file is a plain one, and belongs to who runs this.
fn is_ours(file: &fs::Metadata) -> bool {
    file.is_file() && file.uid() == rustix::process::geteuid().as_raw()
}

/// Opens a file, or makes it, that nobody else can read or has put there, and no link to another one.
fn open_ours(path: &Path) -> io::Result<File> {
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(no_link).open(path)?;
    if !is_ours(&file.metadata()?) {
        return Err(io::Error::other("it is there, and not yours"));
    }
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// What is copied into.
pub(crate) struct Target {
    held: Held,
    file: PathBuf,
    running: Option<PathBuf>,
    /// Dropped with the process: nobody else copies into it meanwhile.
    lock: Option<(PathBuf, File)>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.lock {
            let _ = fs::remove_file(path);
        }
    }
}

impl Target {
    /// The database of a data directory, made if need be.
    pub(in crate::store) fn of_directory(data: &Path) -> Result<Self, Error> {
        let (file, connection) = make(data, Some(Hold::Copying))?;
        Self::locked(file, connection, Some(data.join("running")))
    }

    /// A backup that becomes whole.
    pub(in crate::store) fn of_backup(file: &Path) -> Result<Self, Error> {
        let unfit = |what: &dyn fmt::Display| Error::Unfit(format!("cannot write {}: {what}", file.display()));
        // What SQLite would go on with: in a directory where others write, somebody else may have put it there.
        for beside in ["-wal", "-shm", "-journal"] {
            let mut name = file.as_os_str().to_owned();
            name.push(beside);
            if fs::symlink_metadata(&name).is_ok_and(|there| !is_ours(&there)) {
                return Err(unfit(&format_args!("{} is there, and not yours", Path::new(&name).display())));
            }
        }
        let opened = open_ours(file).map_err(|e| unfit(&e))?;
        if opened.metadata().map_err(|e| unfit(&e))?.nlink() > 1 {
            // It has its name already, and must not be changed under it.
            fs::remove_file(file).map_err(|e| unfit(&e))?;
            return Self::of_backup(file);
        }
        let begin = || {
            let mut connection = connect(file)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            migrate(&mut connection, Some(Hold::Copying)).map(|()| connection)
        };
        let connection = begin().map_err(|e| match e {
            Error::Corrupt(_) => unfit(&"it is not the beginning of a backup; remove it"),
            other => other,
        })?;
        Self::locked(file.to_owned(), connection, None)
    }

    fn locked(file: PathBuf, connection: Connection, running: Option<PathBuf>) -> Result<Self, Error> {
        let path = file.with_added_extension("copying");
        let io = |e: std::io::Error| Error::Unfit(format!("cannot write {}: {e}", path.display()));
        let lock = open_ours(&path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Unfit(format!("another process is copying into {}", file.display())));
            }
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
        // Until it is whole, a power cut may take back what was copied last: it is copied again then.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "cache_size", -131_072)?;
        Ok(Self { held: Held::new(connection), file, running, lock: Some((path, lock)) })
    }

    pub(in crate::store) fn is_followed(&self) -> Result<bool, Error> {
        self.running.as_deref().map_or(Ok(false), is_followed)
    }

    pub(in crate::store) async fn hold(&self) -> Result<Option<Hold>, Error> {
        self.held.with(|c| hold::find(c)).await
    }

    pub(in crate::store) async fn installation(&self) -> Result<Option<[u8; 16]>, Error> {
        self.held.with(|c| sql::installation(c)).await
    }

    pub(in crate::store) async fn last_mark(&self) -> Result<Mark, Error> {
        self.held.with(|c| sql::last_mark(c)).await
    }

    pub(in crate::store) async fn has(&self, mark: Mark) -> Result<bool, Error> {
        self.held.with(move |c| sql::is_of_this_history(c, &mark)).await
    }

    /// Puts it on hold, or, when everything that was written is on the disk, lets it go.
    pub(in crate::store) async fn set_hold(&self, hold: Option<Hold>) -> Result<(), Error> {
        let set = move |c: &mut Connection| {
            c.pragma_update(None, "synchronous", "FULL")?;
            c.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            hold::put(c, hold)?;
            Ok(c.pragma_update(None, "synchronous", "NORMAL")?)
        };
        self.held.with(set).await
    }

    /// Takes its indexes away: all at once they are made in a fraction of the time that they take row by row.
    pub(in crate::store) async fn drop_indexes(&self) -> Result<(), Error> {
        let statements: String = indexes(&MIGRATIONS).map(|(name, _)| format!("DROP INDEX IF EXISTS {name};")).collect();
        self.held.with(move |c| Ok(c.execute_batch(&statements)?)).await
    }

    /// Makes those that it lacks.
    pub(in crate::store) async fn make_indexes(&self) -> Result<(), Error> {
        let statements: String = indexes(&MIGRATIONS).map(|(_, statement)| statement).collect();
        self.held.with(move |c| Ok(c.execute_batch(&statements)?)).await
    }

    pub(in crate::store) async fn count(&self, table: &'static Table) -> Result<u64, Error> {
        self.held.with(|c| count(c, table)).await
    }

    /// The row with the greatest key, if there is any.
    pub(in crate::store) async fn last(&self, table: &'static Table) -> Result<Rows, Error> {
        let read = |c: &mut Connection| {
            let sql = format!("{} ORDER BY {} LIMIT 1", select(table), order(table, " DESC"));
            let mut rows = Rows::default();
            c.query_row(&sql, [], |row| Ok(push(&mut rows, table, row))).optional()?.transpose()?;
            Ok(rows)
        };
        self.held.with(read).await
    }

    /// The first rows behind one, up to another, at most so many.
    pub(in crate::store) async fn range(
        &self,
        table: &'static Table,
        after: Option<Vec<u8>>,
        through: Option<Vec<u8>>,
        most: usize,
    ) -> Result<Rows, Error> {
        let read = move |c: &mut Connection| {
            let (key, marks) = (order(table, ""), vec!["?"; table.key].join(", "));
            let bound = |given: bool, sign: &str| if given { format!("({key}) {sign} ({marks})") } else { "true".to_owned() };
            let sql = format!(
                "{} WHERE {} AND {} ORDER BY {key} LIMIT {most}",
                select(table),
                bound(after.is_some(), ">"),
                bound(through.is_some(), "<=")
            );
            let mut statement = c.prepare_cached(&sql)?;
            for (at, row) in [after, through].iter().flatten().enumerate() {
                bind(&mut statement, 1 + at * table.key, &table.columns[..table.key], row)?;
            }
            let (mut rows, mut found) = (Rows::default(), statement.raw_query());
            while let Some(row) = found.next()? {
                push(&mut rows, table, row)?;
            }
            Ok(rows)
        };
        self.held.with(read).await
    }

    /// Makes a difference away, all or nothing.
    pub(in crate::store) async fn write(&self, table: &'static Table, difference: Difference) -> Result<(), Error> {
        let write = move |c: &mut Connection| {
            let Difference { gone, new, changed } = &difference;
            let transaction = c.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let each = |sql: &str, columns: &[(&str, Kind)], rows: &Rows| -> Result<(), Error> {
                let mut statement = transaction.prepare_cached(sql)?;
                for row in rows.iter() {
                    bind(&mut statement, 1, columns, row)?;
                    statement.raw_execute().map_err(|e| refused(e, &table.describe(row)))?;
                }
                Ok(())
            };
            let key: Vec<_> = table.key_columns().map(|name| format!("{name} = ?")).collect();
            each(&format!("DELETE FROM {} WHERE {}", table.name, key.join(" AND ")), &table.columns[..table.key], gone)?;
            let marks = vec!["?"; table.columns.len()].join(", ");
            let insert = format!("INSERT INTO {} ({}) VALUES ({marks})", table.name, table.column_list());
            each(&insert, table.columns, new)?;
            let others: Vec<_> = table.other_columns().map(|name| format!("{name} = excluded.{name}")).collect();
            let replace = format!("{insert} ON CONFLICT ({}) DO UPDATE SET {}", order(table, ""), others.join(", "));
            each(&replace, table.columns, changed)?;
            Ok(transaction.commit()?)
        };
        self.held.with(write).await
    }

    /// Makes one file of it.
    pub(in crate::store) async fn finish_backup(&self) -> Result<(), Error> {
        let finish = |c: &mut Connection| {
            c.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            Ok(c.pragma_update(None, "journal_mode", "DELETE")?)
        };
        self.held.with(finish).await?;
        let io = |e: std::io::Error| Error::Unavailable(format!("{}: {e}", self.file.display()));
        File::open(&self.file).and_then(|file| file.sync_all()).map_err(io)
    }
}

/// Why a row was not taken.
fn refused(error: rusqlite::Error, row: &str) -> Error {
    match Error::from(error) {
        Error::Unavailable(cause) => Error::Corrupt(format!("{row}: {cause}")),
        other => other,
    }
}
