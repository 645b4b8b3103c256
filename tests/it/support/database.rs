//! Which database the tests run on: SQLite in each test's directory, or, if `TEST_POSTGRES` has the URL of a PostgreSQL
//! database, a schema there for each directory. Its user must be a superuser: some tests switch checks off. Schemas stay when
//! a test is over, so make a database for a run and drop it afterwards.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
    sync::Mutex,
};

use countersign::authority::Database;
use tokio_postgres::{Client, SimpleQueryMessage};

/// The URL of the PostgreSQL database, if that is what these tests run on.
pub(crate) fn postgres() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "how a test is run is said from outside")]
    std::env::var("TEST_POSTGRES").ok()
}

/// The database of a data directory.
pub(crate) fn of(directory: &Path) -> Database {
    url_of(directory).map_or_else(|| Database::Sqlite(directory.to_owned()), Database::Postgres)
}

fn schema_of(directory: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    directory.hash(&mut hasher);
    format!("t{:016x}", hasher.finish())
}

/// Its URL, if it is one of PostgreSQL.
pub(crate) fn url_of(directory: &Path) -> Option<String> {
    static MADE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let url = postgres()?;
    let schema = schema_of(directory);
    // Held until it is there: others who ask at the same time use it at once.
    let mut made = MADE.lock().unwrap();
    if made.insert(schema.clone()) {
        with(&url, async |client| {
            client.batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}")).await.unwrap();
        });
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    Some(format!("{url}{separator}options=-csearch_path%3D{schema}"))
}

/// What PostgreSQL writes in another way than SQLite.
const TRANSLATIONS: [(&str, &str); 4] =
    [(" x'", r" '\x"), ("(x'", r"('\x"), ("AS BLOB", "AS bytea"), ("zeroblob(68)", "decode(repeat('00', 68), 'hex')")];

fn translated(statements: &str) -> String {
    TRANSLATIONS.iter().fold(statements.to_owned(), |text, (sqlite, postgres)| text.replace(sqlite, postgres))
}

/// Statements of somebody who edits the database by hand, as SQLite writes them; how many rows the last one changed.
pub(crate) fn edit(directory: &Path, statements: &str) -> u64 {
    try_edit(directory, statements).unwrap_or_else(|refused| panic!("{statements}: {refused}"))
}

/// The same where they may be refused: by SQLite in words, by PostgreSQL with a code.
pub(crate) fn try_edit(directory: &Path, statements: &str) -> Result<u64, String> {
    match url_of(directory) {
        None => in_sqlite(directory, statements).map_err(|e| e.to_string()),
        Some(url) => in_postgres(&url, &translated(statements)),
    }
}

/// The same in a database that is no directory's own; where it is of PostgreSQL, if `only_there`.
pub(crate) fn edit_of(database: &Database, statements: &str, only_there: bool) {
    match database {
        Database::Sqlite(_) if only_there => {}
        Database::Sqlite(directory) => drop(in_sqlite(directory, statements).unwrap()),
        Database::Postgres(url) => drop(in_postgres(url, &translated(statements)).unwrap()),
    }
}

/// The same with checks and references off while they run, and only then.
pub(crate) fn edit_unchecked(directory: &Path, statements: &str) {
    let Some(url) = url_of(directory) else {
        edit(directory, &format!("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; {statements}"));
        return;
    };
    // References are triggers, which are off in this mode. The checks hold again for whatever is written afterwards.
    let of_each_check = |change: &str| {
        format!(
            "DO $$ DECLARE c record; BEGIN FOR c IN TABLE checks LOOP \
             EXECUTE format('ALTER TABLE %s {change}', c.of, c.name, c.what); END LOOP; END $$"
        )
    };
    let checks = "CREATE TEMPORARY TABLE checks AS \
                  SELECT conrelid::regclass AS of, conname AS name, replace(pg_get_constraintdef(oid), ' NOT VALID', '') AS what \
                  FROM pg_constraint WHERE contype = 'c' AND connamespace = current_schema()::regnamespace";
    let (off, on) = (of_each_check("DROP CONSTRAINT %I"), of_each_check("ADD CONSTRAINT %I %s NOT VALID"));
    let statements = translated(statements);
    in_postgres(&url, &format!("SET session_replication_role = replica; {checks}; {off}; {statements}; {on}")).unwrap();
}

fn in_sqlite(directory: &Path, statements: &str) -> rusqlite::Result<u64> {
    let database = rusqlite::Connection::open(directory.join("countersign.db"))?;
    database.execute_batch(statements)?;
    Ok(database.changes())
}

fn in_postgres(url: &str, statements: &str) -> Result<u64, String> {
    let run = async |client: &Client| {
        let refused = |e: tokio_postgres::Error| e.as_db_error().map_or(e.to_string(), |e| format!("{} {e}", e.code().code()));
        match client.simple_query(statements).await.map_err(refused)?.last() {
            Some(SimpleQueryMessage::CommandComplete(rows)) => Ok(*rows),
            _ => Ok(0),
        }
    };
    with(url, run)
}

/// A number that somebody asks of the database.
pub(crate) fn number(directory: &Path, query: &str) -> i64 {
    match url_of(directory) {
        None => rusqlite::Connection::open(directory.join("countersign.db")).unwrap().query_row(query, [], |row| row.get(0)).unwrap(),
        // Sums are numbers of another kind there.
        Some(url) => with(&url, async |client| client.query_one(&format!("SELECT ({query})::bigint"), &[]).await.unwrap().get(0)),
    }
}

/// Remembers the state of the database, for [`go_back`].
pub(crate) fn remember(directory: &Path) {
    let copies = ["token", "platform", "audit"].map(|table| format!("CREATE TABLE before_{table} AS SELECT * FROM {table};"));
    edit(directory, &copies.concat());
}

/// Puts what was remembered in place of what has changed since, as somebody does who restores a backup.
pub(crate) fn go_back(directory: &Path) {
    let feed = match postgres() {
        None => "",
        Some(_) => "UPDATE feed SET (seq, seal) = (SELECT seq, seal FROM audit ORDER BY seq DESC LIMIT 1);",
    };
    let made_since = "NOT IN (SELECT id FROM before_token)";
    edit(
        directory,
        &format!(
            "BEGIN; DELETE FROM token_use WHERE token_id {made_since}; DELETE FROM use_quarter WHERE token_id {made_since}; \
             DELETE FROM use_day WHERE token_id {made_since}; DELETE FROM use_source WHERE token_id {made_since}; DELETE FROM token WHERE id {made_since}; \
             UPDATE token SET revoked_at = (SELECT b.revoked_at FROM before_token b WHERE b.id = token.id), \
             proof = (SELECT b.proof FROM before_token b WHERE b.id = token.id); \
             UPDATE platform SET disabled_at = (SELECT b.disabled_at FROM before_platform b WHERE b.id = platform.id), \
             seal = (SELECT b.seal FROM before_platform b WHERE b.id = platform.id); \
             DELETE FROM audit WHERE seq > (SELECT max(seq) FROM before_audit); {feed} COMMIT"
        ),
    );
}

/// How many rows a table has, if there is that table.
pub(crate) fn rows(directory: &Path, table: &str) -> Option<u64> {
    match url_of(directory) {
        None => {
            let database =
                rusqlite::Connection::open_with_flags(directory.join("countersign.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE);
            database.ok()?.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).ok()
        }
        Some(url) => in_postgres(&url, &format!("SELECT 1 FROM {table}")).ok(),
    }
}

/// From now on nothing can be inserted into a table. By no trigger: a server runs none, or does not start where there is one.
pub(crate) fn refuse_inserts(directory: &Path, table: &str) {
    let statements = match postgres() {
        // An index over what can't be worked out.
        None if table == "audit" => {
            let last = number(directory, "SELECT max(seq) FROM audit");
            format!("CREATE INDEX refuse_audit ON audit (json('told to fail' || seq)) WHERE seq > {last}")
        }
        None => format!("CREATE INDEX refuse_{table} ON {table} (json('told to fail' || token_id))"),
        Some(_) => format!("ALTER TABLE {table} ADD CONSTRAINT refuse_{table} CHECK (false) NOT VALID"),
    };
    edit(directory, &statements);
}

/// It can be again.
pub(crate) fn allow_inserts(directory: &Path, table: &str) {
    match postgres() {
        None => edit(directory, &format!("DROP INDEX refuse_{table}")),
        Some(_) => edit(directory, &format!("ALTER TABLE {table} DROP CONSTRAINT refuse_{table}")),
    };
}

/// From now on no token with that name can be ended.
pub(crate) fn refuse_changes(directory: &Path, name: &str) {
    let statements = match postgres() {
        None => format!("CREATE INDEX refuse_changes ON token (json('told to fail')) WHERE name = '{name}' AND revoked_at IS NOT NULL"),
        Some(_) => format!("ALTER TABLE token ADD CONSTRAINT refuse_changes CHECK (name <> '{name}' OR revoked_at IS NULL) NOT VALID"),
    };
    edit(directory, &statements);
}

/// They can be again.
pub(crate) fn allow_changes(directory: &Path) {
    match postgres() {
        None => edit(directory, "DROP INDEX refuse_changes"),
        Some(_) => edit(directory, "ALTER TABLE token DROP CONSTRAINT refuse_changes"),
    };
}

/// Takes all tables of a PostgreSQL database away, or puts them back.
pub(crate) fn set_gone(directory: &Path, gone: bool) {
    let schema = schema_of(directory);
    let (there, elsewhere) = (schema.clone(), format!("{schema}_gone"));
    let (from, to) = if gone { (there, elsewhere) } else { (elsewhere, there) };
    edit(directory, &format!("ALTER SCHEMA {from} RENAME TO {to}"));
}

/// All that the tables of a PostgreSQL database hold. Bytes that are letters stand there as letters.
pub(crate) fn contents(directory: &Path) -> String {
    let read = async |client: &Client| {
        client.batch_execute("SET bytea_output = escape").await.unwrap();
        let mut contents = String::new();
        let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema()";
        for table in client.query(tables, &[]).await.unwrap() {
            let rows = format!("SELECT coalesce(string_agg(r::text, ' '), '') FROM {} r", table.get::<_, &str>(0));
            contents += client.query_one(&rows, &[]).await.unwrap().get(0);
        }
        contents
    };
    with(&url_of(directory).unwrap(), read)
}

fn with<R: Send>(url: &str, work: impl AsyncFnOnce(&Client) -> R + Send) -> R {
    let connect = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            work(&client).await
        })
    };
    // On a thread of its own: the tests that ask have a runtime, which must not be blocked on itself.
    std::thread::scope(|scope| scope.spawn(connect).join().unwrap())
}
