//! What the database must be before it is used, and bringing its tables up to date.

use std::borrow::Cow;

use super::{Error, hold, session::Session};
use crate::store::Hold;

/// Forward only, in order: (name, statements). A name never changes once it was released; the same as SQLite's.
pub(super) const MIGRATIONS: [(&str, &str); 5] = [
    ("0001_authority", include_str!("../../../migrations/postgres/0001_authority.sql")),
    ("0002_lost_marks", include_str!("../../../migrations/postgres/0002_lost_marks.sql")),
    ("0003_operators", include_str!("../../../migrations/postgres/0003_operators.sql")),
    ("0004_bulk_revokes", include_str!("../../../migrations/postgres/0004_bulk_revokes.sql")),
    ("0005_use_sources", include_str!("../../../migrations/postgres/0005_use_sources.sql")),
];

/// The oldest PostgreSQL that this is tested with.
const LEAST_VERSION: i64 = 140_000;

/// Refuses what it cannot work with. (What could be changed while it runs is looked at in every session.)
pub(super) async fn check(s: &Session) -> Result<(), Error> {
    let unfit = |what: String| Err(Error::Unfit(format!("refusing to start: {what}")));
    // What speaks PostgreSQL's language and is another database has a number of its own choice.
    let sql = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = 'server_encoding' OR name = 'server_version_num' \
               AND version() LIKE 'PostgreSQL %' AND version() NOT LIKE '%-YB-%'";
    for row in s.rows(sql, &[]).await? {
        let (name, setting): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        match name {
            "server_version_num" if setting.parse::<i64>().is_ok_and(|version| version < LEAST_VERSION) => {
                return unfit(format!("the database is PostgreSQL {setting}; 14 or newer is needed"));
            }
            "server_encoding" if setting != "UTF8" => {
                return unfit(format!("the database's encoding is {setting}, not UTF8: names could not be stored as they are"));
            }
            _ => {}
        }
    }
    // Those of foreign keys are the database's own.
    let foreign = "SELECT c.relname::text FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
                   JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND n.nspname = current_schema() \
                   UNION ALL SELECT tablename::text FROM pg_catalog.pg_rules WHERE schemaname = current_schema() LIMIT 1";
    match s.row(foreign, &[]).await? {
        Some(row) => unfit(format!(
            "the table {} has a trigger or a rule, which could undo what is answered as done; drop it",
            row.try_get::<_, &str>(0)?
        )),
        None => Ok(()),
    }
}

/// Brings the tables up to date, or, unless it may `create` them, says that there are none. Where there are none, they are made
/// with that hold on them: nobody finds them without it.
pub(super) async fn migrate(s: &Session, create: bool, new: Option<Hold>) -> Result<(), Error> {
    // Not in the standard's own schema, which shows nobody what they have no rights to.
    let exists = s.row("SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = 'migration'", &[]);
    if exists.await?.is_some() {
        // Looked at first without the lock: where there is nothing to do, nobody has to wait.
        if done(s).await? == MIGRATIONS.len() {
            return Ok(());
        }
    } else if !create {
        return Err(Error::Unfit(
            "there are no tables of countersign in that database; say which it is (--database), or make them with countersign platform create".to_owned(),
        ));
    }
    // Two processes that start at once may both find it missing; one of them then fails here, and finds it.
    let table = "CREATE TABLE IF NOT EXISTS migration (number bigint PRIMARY KEY, name text NOT NULL, checksum bigint NOT NULL)";
    if s.run(table).await.is_err() {
        s.run(table).await?;
    }
    // Number 0 is the row that whoever migrates locks: a lock that every database has.
    s.run("INSERT INTO migration (number, name, checksum) VALUES (0, '', 0) ON CONFLICT DO NOTHING").await?;
    // CockroachDB would end the transaction before each table that it makes; and it orders texts by their bytes in any case, but
    // takes no column that says so.
    s.run("SELECT set_config(name, 'off', false) FROM pg_catalog.pg_settings WHERE name = 'autocommit_before_ddl'").await?;
    let orders_by_bytes = s.row("SELECT 1 WHERE version() LIKE 'CockroachDB %'", &[]).await?.is_some();
    s.run("SET lock_timeout = '60s'; SET statement_timeout = '60s'; BEGIN; SELECT 1 FROM migration WHERE number = 0 FOR UPDATE").await?;
    let done = done(s).await?;
    for (number, (name, statements)) in (1_i64..).zip(MIGRATIONS).skip(done) {
        let spoken = if orders_by_bytes { statements.replace(" COLLATE \"C\"", "").into() } else { Cow::Borrowed(statements) };
        s.run(&spoken).await?;
        let insert = "INSERT INTO migration (number, name, checksum) VALUES ($1, $2, $3)";
        s.execute(insert, &[&number, &name, &checksum(statements)]).await?;
    }
    if done == 0 {
        hold::put(s, new).await?;
    }
    s.run("COMMIT").await
}

/// How many migrations were done, if they are ours.
async fn done(s: &Session) -> Result<usize, Error> {
    let rows = s.rows("SELECT number, name, checksum FROM migration WHERE number > 0 ORDER BY number", &[]).await?;
    let mut known = (1_i64..).zip(MIGRATIONS).map(|(number, (name, statements))| (number, name, checksum(statements)));
    for row in &rows {
        let (number, name, checksum): (i64, &str, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if known.next() != Some((number, name, checksum)) {
            return Err(Error::Unfit(format!(
                "the database was written by another, newer countersign (it has the migration {name}): run that version, or restore a backup made by this one"
            )));
        }
    }
    Ok(rows.len())
}

fn checksum(statements: &str) -> i64 {
    crc32fast::hash(statements.as_bytes()).into()
}
