//! Everything in this database, copied out of it and into it: by COPY, in its binary form, which is that of [`Rows`]. What
//! was there before and is another now is written by statements, with the values in them: there is little of it.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_postgres::types::{FromSql, Type};

use super::{
    Error,
    connect::Connector,
    feed::{GONE, NOW},
    hold, keys,
    migrate::{self, MIGRATIONS},
    session::{Session, unknown_commit},
    sql,
};
use crate::store::{
    Canary, Hold, Mark,
    copy::Difference,
    tables::{Kind, Rows, TABLES, Table, indexes, integer, values},
};

/// What a session is told that copies: nothing of it has a deadline but waiting for others.
const SESSION: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '10s'; \
                       SET enable_seqscan = on; SET maintenance_work_mem = '256MB'; SET standard_conforming_strings = on";
/// What begins COPY's binary form: a signature, no flags, no more header.
const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What ends it, in the place of a row.
const END: [u8; 2] = [0xff, 0xff];
/// How long a change may still come that was under way: whoever made it has given it up before.
const UNDER_WAY: Duration = Duration::from_secs(4);
/// Rows in a statement with their values in it.
const ROWS: usize = 500;

/// Where it may `create` them, the tables are made on hold.
async fn connect(url: &str, create: bool) -> Result<Session, Error> {
    let session = Connector::parse(url)?.connect(None).await?;
    migrate::check(&session).await?;
    migrate::migrate(&session, create, create.then_some(Hold::Copying)).await?;
    session.run(SESSION).await?;
    Ok(session)
}

/// Commits, everywhere where the database commits: what was not may be gone when a standby takes over.
async fn commit(s: &Session) -> Result<(), Error> {
    s.commit().await.map_err(|error| error.unwrap_or_else(unknown_commit))
}

/// Whether some process may answer from memory. One that was not seen for so long, or for as long as it goes on without the
/// database, has ended without a word.
async fn is_followed(s: &Session) -> Result<bool, Error> {
    let gone = i64::try_from(GONE.as_millis()).unwrap_or(i64::MAX);
    Ok(s.row(&format!("SELECT 1 FROM node WHERE seen_at >= {NOW} - greatest($1, stale) LIMIT 1"), &[&gone]).await?.is_some())
}

/// What is copied: one state of it, from [`Source::begin`] on.
pub(crate) struct Source {
    session: Session,
}

impl Source {
    pub(in crate::store) async fn open(url: &str) -> Result<Self, Error> {
        Ok(Self { session: connect(url, false).await? })
    }

    pub(in crate::store) async fn hold(&self) -> Result<Option<Hold>, Error> {
        hold::find(&self.session).await
    }

    pub(in crate::store) async fn installation(&self) -> Result<Option<[u8; 16]>, Error> {
        sql::installation(&self.session).await
    }

    pub(in crate::store) async fn canaries(&self) -> Result<Vec<Canary>, Error> {
        keys::list_canaries(&self.session).await
    }

    pub(in crate::store) async fn last_mark(&self) -> Result<Mark, Error> {
        sql::last_mark(&self.session).await
    }

    pub(in crate::store) async fn is_followed(&self) -> Result<bool, Error> {
        is_followed(&self.session).await
    }

    /// From here on what is read is of one state; if `still`, nobody can change anything either.
    pub(in crate::store) async fn begin(&self, still: bool) -> Result<(), Error> {
        let begin = if still {
            let tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
            // Nor can a process announce itself.
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE {}, feed, node IN SHARE MODE", tables.join(", "))
        } else {
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned()
        };
        self.session.run(&begin).await?;
        // The first read chooses the state, when the locks are there.
        self.last_mark().await.map(drop)
    }

    /// Notes that another database has its place, and lets go of it.
    pub(in crate::store) async fn end_as_moved(&self) -> Result<(), Error> {
        hold::put(&self.session, Some(Hold::Moved)).await?;
        commit(&self.session).await
    }

    /// How long a change may still come that was under way at [`Source::end_as_moved`].
    pub(in crate::store) const fn changes_may_come_for(&self) -> Duration {
        UNDER_WAY
    }

    pub(in crate::store) async fn count(&self, table: &Table) -> Result<u64, Error> {
        count(&self.session, table).await
    }

    /// Entries of the audit log before its first place.
    pub(in crate::store) async fn count_before_first(&self) -> Result<u64, Error> {
        count_before_first(&self.session).await
    }

    /// Sends all rows of a table, or those behind a number, in the order of their keys.
    pub(in crate::store) async fn send(&self, table: &Table, after: Option<u64>, to: mpsc::Sender<Rows>) -> Result<(), Error> {
        let send = async |rows: &mut Rows| to.send(std::mem::take(rows)).await.is_ok();
        let key = order(table, "");
        let behind = after.map_or_else(String::new, |after| format!(" WHERE {key} > {after}"));
        let all = format!("{}{behind} ORDER BY {key}", select(table));
        let mut rows = Rows::default();
        copy_out(&self.session, &all, async |row| {
            rows.push(row);
            // Whoever wanted them may have given up.
            !rows.is_full() || send(&mut rows).await
        })
        .await?;
        if !rows.is_empty() {
            send(&mut rows).await;
        }
        Ok(())
    }
}

fn select(table: &Table) -> String {
    format!("SELECT {} FROM {}", table.column_list(), table.name)
}

fn order(table: &Table, direction: &str) -> String {
    table.key_columns().map(|name| format!("{name}{direction}")).collect::<Vec<_>>().join(", ")
}

async fn count(s: &Session, table: &Table) -> Result<u64, Error> {
    let row = s.row(&format!("SELECT count(*) FROM {}", table.name), &[]).await?;
    Ok(row.map(|row| row.try_get::<_, i64>(0)).transpose()?.unwrap_or(0).unsigned_abs())
}

pub(super) async fn count_before_first(s: &Session) -> Result<u64, Error> {
    let row = s.row("SELECT count(*) FROM audit WHERE seq < 1", &[]).await?;
    Ok(row.map(|row| row.try_get::<_, i64>(0)).transpose()?.unwrap_or(0).unsigned_abs())
}

/// A value as the database sends it, which is the same in a row of a query and of a COPY.
struct Raw<'r>(&'r [u8]);

impl<'r> FromSql<'r> for Raw<'r> {
    fn from_sql(_: &Type, raw: &'r [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// The first rows of a table whose key is a number behind one, at most so many.
pub(super) async fn rows_behind(s: &Session, table: &Table, after: u64, most: usize) -> Result<Rows, Error> {
    let (key, after) = (order(table, ""), i64::try_from(after).unwrap_or(i64::MAX));
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let found = s.rows(&format!("{} WHERE {key} > $1 ORDER BY {key} LIMIT $2", select(table)), &[&after, &most]).await?;
    let mut rows = Rows::default();
    for row in &found {
        rows.begin(table.columns.len());
        for column in 0..table.columns.len() {
            rows.value(row.try_get::<_, Option<Raw<'_>>>(column)?.map(|value| value.0));
        }
        rows.end();
    }
    Ok(rows)
}

/// How long the row is that these bytes begin with, if it is all there.
fn row_len(bytes: &[u8]) -> Option<usize> {
    let (columns, mut rest) = bytes.split_first_chunk::<2>().filter(|(columns, _)| **columns != END)?;
    for _ in 0..u16::from_be_bytes(*columns) {
        let (len, behind) = rest.split_first_chunk::<4>()?;
        rest = behind.get(usize::try_from(i32::from_be_bytes(*len)).unwrap_or(0)..)?;
    }
    Some(bytes.len() - rest.len())
}

/// Hands each row of a query to `visit`, until it has seen enough.
async fn copy_out(s: &Session, query: &str, mut visit: impl AsyncFnMut(&[u8]) -> bool) -> Result<(), Error> {
    let odd = || Error::Corrupt("what COPY gave".to_owned());
    let stream = s.copy_out(&format!("COPY ({query}) TO STDOUT (FORMAT binary)")).await?;
    let mut stream = std::pin::pin!(stream);
    let (mut bytes, mut begun) = (Vec::new(), false);
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
        let mut done = 0;
        if !begun && bytes.len() >= HEADER.len() {
            if !bytes.starts_with(HEADER) {
                return Err(odd());
            }
            (begun, done) = (true, HEADER.len());
        }
        while let Some(len) = row_len(bytes.get(done..).filter(|_| begun).unwrap_or_default()) {
            if !visit(&bytes[done..done + len]).await {
                return Ok(());
            }
            done += len;
        }
        bytes.drain(..done);
    }
    if begun && bytes == END { Ok(()) } else { Err(odd()) }
}

/// A value as it stands in a statement.
fn literal(kind: Kind, value: Option<&[u8]>) -> String {
    let hex = |value: &[u8]| value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match (kind, value) {
        (_, None) => "NULL".to_owned(),
        (Kind::Integer, Some(value)) => integer(value).map_or_else(|| "NULL".to_owned(), |value| format!("'{value}'::bigint")),
        (Kind::Boolean, Some(value)) => if value == [0] { "false" } else { "true" }.to_owned(),
        (Kind::Text, Some(value)) => format!("'{}'::text", String::from_utf8_lossy(value).replace('\'', "''")),
        (Kind::Bytes, Some(value)) => format!("'\\x{}'::bytea", hex(value)),
        (Kind::Id, Some(value)) => format!("'{}'::uuid", hex(value)),
    }
}

/// A row's first values as they stand in a statement.
fn literals(columns: &[(&str, Kind)], row: &[u8]) -> String {
    let all: Vec<_> = columns.iter().zip(values(row)).map(|((_, kind), value)| literal(*kind, value)).collect();
    format!("({})", all.join(", "))
}

/// What is copied into.
pub(crate) struct Target {
    session: Session,
}

impl Target {
    /// Its tables are made if need be.
    pub(in crate::store) async fn open(url: &str) -> Result<Self, Error> {
        let session = connect(url, true).await?;
        // The session's lock: it goes with it, however this process ends.
        let lock = "SELECT pg_advisory_lock(hashtext('countersign copy'), hashtext(current_schema()))";
        match session.run(lock).await {
            Err(Error::Contended(_)) => return Err(Error::Unfit("another process is copying into that database".to_owned())),
            locked => locked?,
        }
        Ok(Self { session })
    }

    pub(in crate::store) async fn is_followed(&self) -> Result<bool, Error> {
        is_followed(&self.session).await
    }

    pub(in crate::store) async fn hold(&self) -> Result<Option<Hold>, Error> {
        hold::find(&self.session).await
    }

    pub(in crate::store) async fn installation(&self) -> Result<Option<[u8; 16]>, Error> {
        sql::installation(&self.session).await
    }

    pub(in crate::store) async fn last_mark(&self) -> Result<Mark, Error> {
        sql::last_mark(&self.session).await
    }

    pub(in crate::store) async fn has(&self, mark: Mark) -> Result<bool, Error> {
        sql::is_of_this_history(&self.session, &mark).await
    }

    /// Puts it on hold, or lets it go.
    pub(in crate::store) async fn set_hold(&self, hold: Option<Hold>) -> Result<(), Error> {
        self.session.run("BEGIN").await?;
        hold::put(&self.session, hold).await?;
        commit(&self.session).await
    }

    /// Takes its indexes away: all at once they are made in a fraction of the time that they take row by row.
    pub(in crate::store) async fn drop_indexes(&self) -> Result<(), Error> {
        for (name, _) in indexes(&MIGRATIONS) {
            self.session.run(&format!("DROP INDEX IF EXISTS {name}")).await?;
        }
        Ok(())
    }

    /// Makes those that it lacks; and its plans must not be those of empty tables.
    pub(in crate::store) async fn make_indexes(&self) -> Result<(), Error> {
        for (_, statement) in indexes(&MIGRATIONS) {
            self.session.run(&statement).await?;
        }
        let tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        self.session.run(&format!("ANALYZE {}", tables.join(", "))).await
    }

    pub(in crate::store) async fn count(&self, table: &Table) -> Result<u64, Error> {
        count(&self.session, table).await
    }

    /// The row with the greatest key, if there is any.
    pub(in crate::store) async fn last(&self, table: &Table) -> Result<Rows, Error> {
        self.rows(&format!("{} ORDER BY {} LIMIT 1", select(table), order(table, " DESC"))).await
    }

    async fn rows(&self, query: &str) -> Result<Rows, Error> {
        let mut rows = Rows::default();
        copy_out(&self.session, query, async |row| {
            rows.push(row);
            true
        })
        .await?;
        Ok(rows)
    }

    /// The first rows behind one, up to another, at most so many.
    pub(in crate::store) async fn range(
        &self,
        table: &Table,
        after: Option<Vec<u8>>,
        through: Option<Vec<u8>>,
        most: usize,
    ) -> Result<Rows, Error> {
        let key = &table.columns[..table.key];
        // What both bounds begin with is said apart: where the first columns are equal, the database would not see the end.
        let same = match (&after, &through) {
            (Some(after), Some(through)) => values(after).zip(values(through)).take(table.key - 1).take_while(|(a, b)| a == b).count(),
            _ => 0,
        };
        let names = |columns: &[(&str, Kind)]| columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let compared = |columns: std::ops::Range<usize>, sign: &str, row: &[u8]| {
            let literals: Vec<_> = key.iter().zip(values(row)).map(|((_, kind), value)| literal(*kind, value)).collect();
            format!("({}) {sign} ({})", names(&key[columns.clone()]), literals[columns].join(", "))
        };
        let mut conditions = vec!["true".to_owned()];
        conditions.extend(after.iter().filter(|_| same > 0).map(|row| compared(0..same, "=", row)));
        conditions.extend(after.iter().map(|row| compared(same..table.key, ">", row)));
        conditions.extend(through.iter().map(|row| compared(same..table.key, "<=", row)));
        let conditions = conditions.join(" AND ");
        self.rows(&format!("{} WHERE {conditions} ORDER BY {} LIMIT {most}", select(table), names(key))).await
    }

    /// Makes a difference away, all or nothing.
    pub(in crate::store) async fn write(&self, table: &Table, difference: Difference) -> Result<(), Error> {
        let Difference { gone, new, changed } = &difference;
        let (s, names) = (&self.session, table.column_list());
        s.run("BEGIN").await?;
        let key = table.key_columns().collect::<Vec<_>>().join(", ");
        for rows in in_parts(gone, &table.columns[..table.key]) {
            s.run(&format!("DELETE FROM {} WHERE ({key}) IN ({rows})", table.name)).await?;
        }
        if !new.is_empty() {
            let copy = format!("COPY {} ({names}) FROM STDIN (FORMAT binary)", table.name);
            let bytes = [HEADER, new.bytes(), &END].concat();
            s.copy_in(&copy, bytes).await.map_err(|e| refused(e, table, new))?;
        }
        let others: Vec<_> = table.other_columns().map(|name| format!("{name} = excluded.{name}")).collect();
        for rows in in_parts(changed, table.columns) {
            let replace =
                format!("INSERT INTO {} ({names}) VALUES {rows} ON CONFLICT ({key}) DO UPDATE SET {}", table.name, others.join(", "));
            s.run(&replace).await?;
        }
        commit(s).await
    }

    /// The next change gets the place behind this one.
    pub(in crate::store) async fn set_last_place(&self, seq: u64) -> Result<(), Error> {
        let sql = "UPDATE feed SET seq = $1, seal = coalesce((SELECT seal FROM audit WHERE seq = $1), decode(repeat('00', 32), 'hex'))";
        self.session.execute(sql, &[&seq.cast_signed()]).await.map(drop)
    }
}

/// Rows as they stand in statements.
fn in_parts<'r>(rows: &'r Rows, columns: &'r [(&'r str, Kind)]) -> impl Iterator<Item = String> + 'r {
    let all: Vec<_> = rows.iter().map(|row| literals(columns, row)).collect();
    all.chunks(ROWS).map(|part| part.join(", ")).collect::<Vec<_>>().into_iter()
}

/// Why rows were not taken, with the name of the first that was not.
fn refused(error: tokio_postgres::Error, table: &Table, rows: &Rows) -> Error {
    let line = error.as_db_error().and_then(|e| {
        let (_, line) = e.where_()?.split_once(", line ")?;
        line.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
    });
    let row = line.and_then(|line| rows.get(line.checked_sub(1)?)).map_or_else(|| table.name.to_owned(), |row| table.describe(row));
    let refused = error.as_db_error().is_some();
    match Error::from(error) {
        Error::Unavailable(cause) if refused => Error::Corrupt(format!("{row}: {cause}")),
        other => other,
    }
}
