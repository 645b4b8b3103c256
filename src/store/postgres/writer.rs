//! One thread writes: it commits whatever has gathered while the last commit was on its way to the disk, as the writer of
//! SQLite does. Tokens that were waiting to be inserted go in by a few statements for all.
//!
//! If any job of a batch fails, the batch is rolled back and each runs again alone, so nobody suffers from a neighbour.
//! Where it is not known whether a transaction was committed, nothing runs again, and nobody is told that it was done.

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::{
    Error,
    batch::Batch,
    connect::Connector,
    session::{Session, unknown_commit},
};
use crate::{
    measure::Histogram,
    spans,
    store::{
        Insert, Inserted, Measured,
        log::Log,
        queue::{Queue, Urgency, Waiting},
    },
};

/// Jobs in one transaction at the most: keeps a commit short.
const BATCH: usize = 512;
/// How long a transaction may take, from here; and how long whoever asked for a change waits, for their turn too.
const DEADLINE: Duration = Duration::from_millis(2500);
/// How often a transaction is tried that the database gave up for the sake of another.
const TRIES: usize = 3;

type Done<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;

/// A job that has a transaction to itself, as far as it can see.
trait Change: Send {
    fn run<'a>(&'a mut self, batch: &'a mut Batch<'_>) -> Done<'a>;
    fn answer(self: Box<Self>, result: Result<(), Error>);
}

struct Work<F, R> {
    run: F,
    done: Option<R>,
    reply: oneshot::Sender<Result<R, Error>>,
}

impl<F, R> Change for Work<F, R>
where
    F: AsyncFnMut(&mut Batch<'_>) -> Result<R, Error> + Send,
    R: Send,
{
    fn run<'a>(&'a mut self, batch: &'a mut Batch<'_>) -> Done<'a> {
        Box::pin(async move {
            self.done = Some((self.run)(batch).await?);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, result: Result<(), Error>) {
        let done = self.done.ok_or_else(|| Error::Unavailable("a write was not run".to_owned()));
        // A caller that has gone away does not want to know.
        let _ = self.reply.send(result.and(done));
    }
}

enum Job {
    Insert(Box<Insert>, oneshot::Sender<Result<Inserted, Error>>),
    Change(Box<dyn Change>),
}

impl Job {
    /// Whether somebody waits for it still. What ends something is done all the same.
    fn is_awaited(&self) -> bool {
        !matches!(self, Self::Insert(_, reply) if reply.is_closed())
    }

    fn fail(self, error: Error) {
        match self {
            Self::Insert(_, reply) => drop(reply.send(Err(error))),
            Self::Change(change) => change.answer(Err(error)),
        }
    }
}

/// The way to the writing thread. Dropping it finishes what waits.
pub(super) struct Writer(Queue<Job>);

impl Writer {
    /// Starts the thread, with a connection of its own.
    pub(super) fn start(connector: Arc<Connector>, log: Log) -> Result<Self, Error> {
        // A runtime of its own: however busy the requests are, a change goes on.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::Unavailable(e.to_string()))?;
        // Made where it runs: what its jobs do need not travel between threads.
        let write = move |mut waiting: Waiting<Job>| {
            runtime.block_on(async {
                let mut writing = Writing { connector, log, session: None, noted: false, is_mute: false };
                loop {
                    let jobs = waiting.next(BATCH).await;
                    if jobs.is_empty() {
                        return;
                    }
                    writing.commit(jobs).await;
                }
            })
        };
        Queue::start("postgres-writer", write).map(Self)
    }

    /// What is measured of it, with how long `reads` took.
    pub(super) fn measured(&self, reads: Histogram) -> Measured {
        self.0.measured(reads)
    }

    /// Inserts a token, with whatever else is waiting, and returns once that is durable.
    pub(super) async fn insert(&self, insert: Insert) -> Result<Inserted, Error> {
        in_time(self.0.ask(Urgency::Normal, |reply| Job::Insert(Box::new(insert), reply))).await
    }

    /// Runs a change in the next transaction and returns once it is durable.
    pub(super) async fn change<F, R>(&self, urgency: Urgency, run: F) -> Result<R, Error>
    where
        F: AsyncFnMut(&mut Batch<'_>) -> Result<R, Error> + Send + 'static,
        R: Send + 'static,
    {
        in_time(self.0.ask(urgency, |reply| Job::Change(Box::new(Work { run, done: None, reply })))).await
    }
}

/// Whoever waits behind transactions that a silent database keeps would wait for each of them.
async fn in_time<R>(asked: impl Future<Output = Result<R, Error>>) -> Result<R, Error> {
    let done = tokio::time::timeout(DEADLINE, asked).instrument(spans::of_database!("database change", "postgresql")).await;
    done.unwrap_or_else(|_| Err(late()))
}

/// What became of a transaction that was not committed.
enum Failed {
    /// It was not even begun: the database can't be reached, or somebody else holds the feed.
    NotBegun(Error),
    /// Nothing of it was.
    RolledBack(Error),
    /// Nothing of it was either: it waited for somebody's lock, while everybody else waited for it. Once more would make
    /// them wait again.
    Stalled(Error),
    /// Perhaps it was after all.
    Unknown(Error),
}

/// The thread's side.
struct Writing {
    connector: Arc<Connector>,
    log: Log,
    session: Option<Session>,
    /// Whether there is something that others have not been told of.
    noted: bool,
    /// Whether the database has said that it has no notifications.
    is_mute: bool,
}

impl Writing {
    async fn commit(&mut self, mut jobs: Vec<Job>) {
        jobs.retain(Job::is_awaited);
        if jobs.is_empty() {
            return;
        }
        match self.transaction(&mut jobs).await {
            Ok(inserted) => answer(jobs, inserted),
            Err(Failed::RolledBack(_)) if jobs.len() > 1 => {
                let mut jobs = jobs.into_iter();
                while let Some(job) = jobs.next() {
                    let mut alone = vec![job];
                    match self.transaction(&mut alone).await {
                        Ok(inserted) => answer(alone, inserted),
                        Err(Failed::RolledBack(error)) => fail(alone, &error),
                        // The others would wait for the same, one after the other.
                        Err(Failed::NotBegun(error) | Failed::Stalled(error) | Failed::Unknown(error)) => {
                            fail(alone.into_iter().chain(jobs.by_ref()), &error);
                        }
                    }
                }
            }
            Err(Failed::NotBegun(error) | Failed::RolledBack(error) | Failed::Stalled(error) | Failed::Unknown(error)) => {
                fail(jobs, &error)
            }
        }
        self.hurry_others().await;
    }

    /// Tells other processes that there is something new, if there is. Nobody waits for it: they find it in any case. Nor is
    /// it worth a flush of its own, which is why it is not simply said.
    async fn hurry_others(&mut self) {
        if !std::mem::take(&mut self.noted) || self.is_mute {
            return;
        }
        if let Some(session) = &self.session {
            let notify = format!("BEGIN; SET LOCAL synchronous_commit = off; NOTIFY countersign, '{}'; COMMIT", self.log.node);
            let told = async {
                match session.notify(&notify).await {
                    Err(_) => session.rollback().await.map(|()| true),
                    // A database that has no notifications says so once, and that is all.
                    told => told,
                }
            };
            match tokio::time::timeout(DEADLINE, told).await {
                Ok(Ok(told)) => self.is_mute = !told,
                _ => self.session = None,
            }
        }
    }

    /// Runs jobs in one transaction, once more if the database gave it up for the sake of another.
    async fn transaction(&mut self, jobs: &mut [Job]) -> Result<Vec<Inserted>, Failed> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_transaction(jobs).await {
                Err(Failed::NotBegun(Error::Contended(_) | Error::Locked(_)) | Failed::RolledBack(Error::Contended(_)))
                    if tries < TRIES => {}
                result => return result,
            }
        }
    }

    async fn try_transaction(&mut self, jobs: &mut [Job]) -> Result<Vec<Inserted>, Failed> {
        let session = match self.session.take().filter(|session| !session.is_over()) {
            Some(session) => session,
            None => self.connector.connect(None).await.map_err(Failed::NotBegun)?,
        };
        let run = AssertUnwindSafe(run(&session, &self.log, jobs)).catch_unwind();
        let result = match tokio::time::timeout(DEADLINE, run).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Failed::RolledBack(Error::Unavailable("a write panicked".to_owned()))),
            // The session goes, and with it the transaction, unless it was at its very end.
            Err(_) => return Err(Failed::Unknown(late())),
        };
        match result {
            Ok((inserted, noted)) => {
                self.noted |= noted;
                self.session = Some(session);
                Ok(inserted)
            }
            Err(Failed::Unknown(error)) => Err(Failed::Unknown(error)),
            Err(failed) => {
                // What can't be rolled back ends with its session.
                if tokio::time::timeout(DEADLINE, session.rollback()).await.is_ok_and(|done| done.is_ok()) {
                    self.session = Some(session);
                }
                Err(failed)
            }
        }
    }
}

fn late() -> Error {
    Error::Unavailable("the database did not answer in time".to_owned())
}

async fn run(session: &Session, log: &Log, jobs: &mut [Job]) -> Result<(Vec<Inserted>, bool), Failed> {
    let mut batch = Batch::begin(session, log).await.map_err(Failed::NotBegun)?;
    let mut inserts = Vec::new();
    for job in jobs {
        match job {
            Job::Insert(insert, _) => inserts.push(&**insert),
            Job::Change(change) => change.run(&mut batch).await.map_err(undone)?,
        }
    }
    let (inserted, admitted) = match inserts.is_empty() {
        true => Default::default(),
        false => batch.admit_tokens(&inserts).await.map_err(undone)?,
    };
    let noted = batch.finish(&admitted).await.map_err(undone)?;
    session.commit().await.map_err(|error| match error {
        Some(error) => Failed::RolledBack(error),
        None => Failed::Unknown(unknown_commit()),
    })?;
    Ok((inserted, noted))
}

fn undone(error: Error) -> Failed {
    if matches!(error, Error::Locked(_)) { Failed::Stalled(error) } else { Failed::RolledBack(error) }
}

fn fail(jobs: impl IntoIterator<Item = Job>, error: &Error) {
    jobs.into_iter().for_each(|job| job.fail(error.copy()));
}

fn answer(jobs: Vec<Job>, inserted: Vec<Inserted>) {
    let mut inserted = inserted.into_iter();
    for job in jobs {
        match job {
            Job::Insert(_, reply) => {
                let answer = inserted.next().ok_or_else(|| Error::Unavailable("a write was not run".to_owned()));
                let _ = reply.send(answer);
            }
            Job::Change(change) => change.answer(Ok(())),
        }
    }
}
