//! One thread writes: it commits whatever has gathered while the last commit was on its way to the disk.
//!
//! All jobs of a batch share one transaction, so 64 waiting callers pay for one flush. If any of them fails, the batch
//! is rolled back and each runs again alone, so nobody suffers from a neighbour; jobs can therefore run twice, and only
//! what they did last counts.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::{
    Error,
    ballast::Ballast,
    files::{GONE, Identity},
    hold, keys, sql, totals,
};
use crate::{
    domain::{AuditEntry, TokenId},
    measure::Histogram,
    spans,
    store::{
        Measured,
        log::{Log, Mark},
        queue::{Queue, Urgency, Waiting},
    },
};

/// Jobs in one transaction at the most: keeps a commit short.
const BATCH: usize = 256;

/// The transaction that a job runs in.
pub(super) struct Batch<'c> {
    pub(super) connection: &'c Connection,
    pub(super) totals: totals::Pending,
    /// Tokens found live in this transaction: one that creates many is looked at once.
    live: HashSet<TokenId>,
    /// The key of those that seal new things that was last found not to be retired in this transaction.
    sealing: Option<u32>,
    log: &'c Log,
    /// The last place of the log, once it was asked for.
    last: Option<Mark>,
}

impl Batch<'_> {
    /// Whether a token is live, and so is its platform.
    pub(super) fn is_live(&mut self, id: TokenId) -> Result<bool, Error> {
        let live = self.live.contains(&id) || sql::is_live(self.connection, id)?;
        if live {
            self.live.insert(id);
        }
        Ok(live)
    }

    /// Refuses to seal anything new with a key that is retired.
    pub(super) fn refuse_retired(&mut self, key: u32) -> Result<(), Error> {
        if self.sealing != Some(key) {
            keys::refuse_retired(self.connection, key)?;
            self.sealing = Some(key);
        }
        Ok(())
    }

    /// Commits an entry with the rest; returns its place.
    pub(super) fn note(&mut self, entry: &AuditEntry) -> Result<u64, Error> {
        let first = || hold::refuse(self.connection).and_then(|()| sql::last_mark(self.connection));
        let mut last = self.last.map_or_else(first, Ok)?;
        let seal = self.log.append(&mut last, entry)?;
        sql::insert_audit_entry(self.connection, last.seq, &self.log.node, entry, &seal)?;
        self.last = Some(last);
        Ok(last.seq)
    }

    /// Forgets what was live: something is about to end.
    pub(super) fn something_ends(&mut self) {
        self.live.clear();
        self.sealing = None;
    }
}

trait Job: Send {
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), Error>;
    fn urgency(&self) -> Urgency;
    fn answer(self: Box<Self>, result: Result<(), Error>);
}

struct Work<F, R> {
    run: F,
    urgency: Urgency,
    done: Option<R>,
    reply: oneshot::Sender<Result<R, Error>>,
}

impl<F, R> Job for Work<F, R>
where
    F: FnMut(&mut Batch<'_>) -> Result<R, Error> + Send,
    R: Send,
{
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
        self.done = Some((self.run)(batch)?);
        Ok(())
    }

    fn urgency(&self) -> Urgency {
        self.urgency
    }

    fn answer(self: Box<Self>, result: Result<(), Error>) {
        let done = self.done.ok_or_else(|| Error::Unavailable("a write was not run".to_owned()));
        // A caller that has gone away does not want to know.
        let _ = self.reply.send(result.and(done));
    }
}

/// The way to the writing thread. Dropping it finishes what waits.
pub(super) struct Writer(Queue<Box<dyn Job>>);

impl Writer {
    /// Starts the thread on its own connection.
    pub(super) fn start(connection: Connection, file: PathBuf, ballast: Ballast, log: Log) -> Result<Self, Error> {
        let opened = Identity::of(&file).ok_or(Error::Held(GONE))?;
        let write = move |mut waiting: Waiting<Box<dyn Job>>| {
            loop {
                let jobs = waiting.blocking_next(BATCH);
                if jobs.is_empty() {
                    return;
                }
                // A file that was removed or replaced still takes what is written, and loses it.
                if Identity::of(&file) == Some(opened) {
                    commit(&connection, &ballast, &log, jobs);
                    if !ballast.is_there() {
                        reuse_log(&connection);
                    }
                } else {
                    jobs.into_iter().for_each(|job| job.answer(Err(Error::Unavailable(GONE.to_owned()))));
                }
            }
        };
        Queue::start("sqlite-writer", write).map(Self)
    }

    /// What is measured of it, with how long `reads` took.
    pub(super) fn measured(&self, reads: Histogram) -> Measured {
        self.0.measured(reads)
    }

    /// Runs a job in the next transaction and returns once it is durable.
    pub(super) async fn write<F, R>(&self, urgency: Urgency, run: F) -> Result<R, Error>
    where
        F: FnMut(&mut Batch<'_>) -> Result<R, Error> + Send + 'static,
        R: Send + 'static,
    {
        let asked = self.0.ask(urgency, |reply| Box::new(Work { run, urgency, done: None, reply }));
        asked.instrument(spans::of_database!("database change", "sqlite")).await
    }
}

fn commit(connection: &Connection, ballast: &Ballast, log: &Log, mut jobs: Vec<Box<dyn Job>>) {
    let normal = jobs.iter().any(|job| job.urgency() == Urgency::Normal);
    // While the reserve is gone the disk is as good as full: what is left is for endings.
    let reserve_missing = normal && ballast.restore().is_err();
    if !reserve_missing {
        match transaction(connection, log, &mut jobs) {
            Ok(()) => return jobs.into_iter().for_each(|job| job.answer(Ok(()))),
            // Nothing was run: another process holds the lock, and would keep each job waiting in turn.
            Err(Failed { begun: false, error }) => return jobs.into_iter().for_each(|job| job.answer(Err(error.copy()))),
            Err(_) => {}
        }
    }
    for job in jobs {
        let urgency = job.urgency();
        let mut alone = vec![job];
        let mut result = match urgency {
            Urgency::Normal if reserve_missing => Err(Error::Full),
            _ => transaction(connection, log, &mut alone).map_err(|failed| failed.error),
        };
        if urgency == Urgency::Ending && matches!(result, Err(Error::Full)) {
            ballast.release();
            result = transaction(connection, log, &mut alone).map_err(|failed| failed.error);
        }
        for job in alone {
            job.answer(result.as_ref().copied().map_err(Error::copy));
        }
    }
}

/// Brings what is in the log into the database's own file, so that the log begins anew and need not grow: else a few dozen
/// endings would use the reserve up. What can't be brought there now stays in the log.
fn reuse_log(connection: &Connection) {
    let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
}

/// Why a transaction was not committed, and whether it was begun.
struct Failed {
    begun: bool,
    error: Error,
}

fn transaction(connection: &Connection, log: &Log, jobs: &mut [Box<dyn Job>]) -> Result<(), Failed> {
    let begin = || -> Result<(), Error> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    };
    begin().map_err(|error| Failed { begun: false, error })?;
    let run = || -> Result<(), Error> {
        let mut batch = Batch { connection, totals: totals::Pending::default(), live: HashSet::new(), sealing: None, log, last: None };
        for job in jobs {
            catch_unwind(AssertUnwindSafe(|| job.run(&mut batch)))
                .unwrap_or_else(|_| Err(Error::Unavailable("a write panicked".to_owned())))?;
        }
        batch.totals.apply(connection)?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    };
    run().map_err(|error| {
        if !connection.is_autocommit() {
            // A failed rollback leaves the transaction open; the next BEGIN then fails, and nothing is acknowledged.
            let _ = connection.execute_batch("ROLLBACK");
        }
        Failed { begun: true, error }
    })
}
