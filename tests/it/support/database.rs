//! Which database the tests run on: SQLite in each test's directory, or, if `TEST_POSTGRES` has the URL of a PostgreSQL
//! database, a schema there for each directory.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
    sync::Mutex,
};

use countersign::authority::Database;

/// The URL of the PostgreSQL database, if that is what these tests run on.
pub(crate) fn postgres() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "how a test is run is said from outside")]
    std::env::var("TEST_POSTGRES").ok()
}

/// The database of a data directory.
pub(crate) fn of(directory: &Path) -> Database {
    url_of(directory).map_or_else(|| Database::Sqlite(directory.to_owned()), Database::Postgres)
}

/// Its URL, if it is one of PostgreSQL.
pub(crate) fn url_of(directory: &Path) -> Option<String> {
    static MADE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let url = postgres()?;
    let mut hasher = DefaultHasher::new();
    directory.hash(&mut hasher);
    let schema = format!("t{:016x}", hasher.finish());
    if MADE.lock().unwrap().insert(schema.clone()) {
        run(&url, &format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}"));
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    Some(format!("{url}{separator}options=-csearch_path%3D{schema}"))
}

/// Statements of somebody who edits the database by hand. Those of SQLite and PostgreSQL differ where values of bytes are
/// written down: `x'00'` is made what PostgreSQL reads.
pub(crate) fn edit(directory: &Path, statements: &str) {
    match url_of(directory) {
        None => rusqlite::Connection::open(directory.join("countersign.db")).unwrap().execute_batch(statements).unwrap(),
        Some(url) => run(&url, &statements.replace("x'", "'\\x")),
    }
}

/// A number that somebody asks of the database.
pub(crate) fn number(directory: &Path, query: &str) -> i64 {
    match url_of(directory) {
        None => rusqlite::Connection::open(directory.join("countersign.db")).unwrap().query_row(query, [], |row| row.get(0)).unwrap(),
        Some(url) => with(&url, async |client| client.query_one(&query.replace("x'", "'\\x"), &[]).await.unwrap().get(0)),
    }
}

fn run(url: &str, statements: &str) {
    with(url, async |client| client.batch_execute(statements).await.unwrap());
}

fn with<R: Send>(url: &str, work: impl AsyncFnOnce(&tokio_postgres::Client) -> R + Send) -> R {
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
