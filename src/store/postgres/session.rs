//! One session of the database: its client, and the statements that it has prepared.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

#[cfg(feature = "server")]
use futures_util::SinkExt as _;
#[cfg(feature = "server")]
use tokio_postgres::CopyOutStream;
use tokio_postgres::{
    Client, Row, RowStream, Statement,
    error::SqlState,
    types::{BorrowToSql, ToSql},
};

use super::Error;

/// Something to commit that is in no table. A commit that waits for a standby is not ended by its client's going, so a
/// lock keeps them few: who waits for the lock gives up by itself.
const CONFIRM: &str = "BEGIN; SELECT pg_advisory_xact_lock(hashtext('countersign confirm'), pg_backend_pid() % 16); \
                       SELECT pg_logical_emit_message(true, 'countersign', '')";

/// What statements are given.
pub(super) type Values<'v> = &'v [&'v (dyn ToSql + Sync)];

/// What is said of a commit of which nobody knows whether it was done, or everywhere.
pub(super) fn unknown_commit() -> Error {
    Error::Unavailable("nobody knows whether that was committed: the connection broke, or a standby did not answer".to_owned())
}

/// Whether a statement has changed as many rows as it should: what somebody put into the database, a trigger or a rule, must not
/// keep what is answered from being there.
pub(super) fn expect(rows: usize, changed: u64) -> Result<(), Error> {
    if usize::try_from(changed) == Ok(rows) {
        return Ok(());
    }
    Err(Error::Unavailable(format!("the database wrote {changed} rows instead of {rows}: is there a trigger or a rule on its tables?")))
}

/// A session.
pub(super) struct Session {
    client: Client,
    prepared: Mutex<HashMap<String, Statement>>,
    warned: Arc<AtomicBool>,
    timeline: u32,
    newest: Arc<AtomicU32>,
}

impl Session {
    /// `warned` is set when the database warns of something, `newest` when a session comes to a newer timeline.
    pub(super) fn new(client: Client, warned: Arc<AtomicBool>, timeline: u32, newest: Arc<AtomicU32>) -> Self {
        Self { client, prepared: Mutex::default(), warned, timeline, newest }
    }

    /// Whether it has ended, or should.
    pub(super) fn is_over(&self) -> bool {
        self.client.is_closed() || self.is_replaced()
    }

    /// Whether another server is known to have taken the place of this one.
    pub(super) fn is_replaced(&self) -> bool {
        self.timeline < self.newest.load(Ordering::SeqCst)
    }

    /// Statements without values and rows.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Error> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Rolls back what was begun, if anything was: PostgreSQL only warns where it was not, CockroachDB says an error.
    pub(super) async fn rollback(&self) -> Result<(), Error> {
        match self.client.batch_execute("ROLLBACK").await {
            Err(error) if error.code() == Some(&SqlState::NO_ACTIVE_SQL_TRANSACTION) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Runs statements that notify others. Says whether the database has notifications: one that has none may not even
    /// understand the statement.
    pub(super) async fn notify(&self, sql: &str) -> Result<bool, Error> {
        let Err(error) = self.client.batch_execute(sql).await else { return Ok(true) };
        let has_none = error.code().is_some_and(|code| [SqlState::SYNTAX_ERROR, SqlState::FEATURE_NOT_SUPPORTED].contains(code));
        if has_none { self.rollback().await.map(|()| false) } else { Err(error.into()) }
    }

    /// Has a statement prepared, so that those sent one behind the other need not wait for that.
    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, Error> {
        let known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(super) async fn rows(&self, sql: &str, values: Values<'_>) -> Result<Vec<Row>, Error> {
        Ok(self.client.query(&self.prepare(sql).await?, values).await?)
    }

    /// At most one.
    pub(super) async fn row(&self, sql: &str, values: Values<'_>) -> Result<Option<Row>, Error> {
        Ok(self.client.query_opt(&self.prepare(sql).await?, values).await?)
    }

    /// How many rows were changed.
    pub(super) async fn execute(&self, sql: &str, values: Values<'_>) -> Result<u64, Error> {
        Ok(self.client.execute(&self.prepare(sql).await?, values).await?)
    }

    /// At most one, of a statement that is prepared: it is sent at once.
    pub(super) async fn row_of(&self, statement: &Statement, values: Values<'_>) -> Result<Option<Row>, Error> {
        Ok(self.client.query_opt(statement, values).await?)
    }

    /// Runs a statement that is prepared: it is sent at once.
    ///
    /// # Errors
    /// Also if it changes another number of `rows`.
    pub(super) async fn change(&self, statement: &Statement, values: Values<'_>, rows: usize) -> Result<(), Error> {
        expect(rows, self.client.execute(statement, values).await?)
    }

    /// Commits. `Err(None)` where nobody knows whether it did.
    pub(super) async fn commit(&self) -> Result<(), Option<Error>> {
        self.warned.store(false, Ordering::SeqCst);
        self.client.batch_execute("COMMIT").await.map_err(|error| {
            // Only these say that nothing was: whatever else ended it may have come behind the commit.
            error.code().is_some_and(super::is_undone).then(|| error.into())
        })?;
        // The database's way of saying that it is committed there, but perhaps nowhere else.
        if self.warned.load(Ordering::SeqCst) { Err(None) } else { Ok(()) }
    }

    /// What a COPY gives, as it comes.
    #[cfg(feature = "server")]
    pub(super) async fn copy_out(&self, sql: &str) -> Result<CopyOutStream, Error> {
        Ok(self.client.copy_out(sql).await?)
    }

    /// Gives a COPY all that it gets.
    #[cfg(feature = "server")]
    pub(super) async fn copy_in(&self, sql: &str, bytes: Vec<u8>) -> Result<u64, tokio_postgres::Error> {
        let mut sink = std::pin::pin!(self.client.copy_in(sql).await?);
        sink.send(std::io::Cursor::new(bytes)).await?;
        sink.finish().await
    }

    /// Makes sure that no standby had taken this server's place when this began.
    ///
    /// A primary that was cut off goes on answering reads, and knows nothing of what its successor has committed. What it
    /// cannot do is commit with the word of a standby: the one that was promoted gives none. So where commits wait for a
    /// standby, something is committed; only a standby that is asked for its word may be promoted (`synchronous_mode`).
    /// Where none is waited for, there is nothing to find out.
    pub(super) async fn confirm(&self) -> Result<(), Error> {
        let waits = self.row("SELECT coalesce(current_setting('synchronous_standby_names', true), '') <> ''", &[]).await?;
        if waits.map(|row| row.try_get(0)).transpose()?.unwrap_or(true) { self.commit_confirmed().await } else { Ok(()) }
    }

    /// The same where it is known that commits wait for a standby.
    pub(super) async fn commit_confirmed(&self) -> Result<(), Error> {
        self.run(CONFIRM).await?;
        self.commit().await.map_err(|_| Error::Unavailable("no standby says that this database is the one to ask".to_owned()))
    }

    /// The rows as they come.
    pub(super) async fn stream<V>(&self, sql: &str, values: impl ExactSizeIterator<Item = V>) -> Result<RowStream, Error>
    where
        V: BorrowToSql,
    {
        Ok(self.client.query_raw(&self.prepare(sql).await?, values).await?)
    }
}
