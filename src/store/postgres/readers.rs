//! The sessions that reads share.

use std::{sync::Arc, time::Duration};

use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult},
};
use tracing::Instrument as _;

use super::{
    Error,
    connect::Connector,
    session::{Session, unknown_commit},
};
use crate::{
    measure::{Durations, Histogram, Stopwatch},
    spans,
};

/// How long a read may take, waiting for a session included.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long of that it may wait for a session: one that got it with no time left would only be cut off in the middle, and the
/// session with it, so that under load nobody would be served at all.
const WAITING: Duration = Duration::from_millis(500);
/// Reads waiting at the most; one more is refused.
const QUEUE: usize = 1024;
/// Begins a transaction that sees one state of the database.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The sessions.
#[derive(Clone)]
pub(super) struct Readers {
    pool: Pool<Sessions>,
    took: Arc<Durations>,
}

/// Makes sessions.
struct Sessions(Arc<Connector>);

impl Manager for Sessions {
    type Type = Session;
    type Error = Error;

    async fn create(&self) -> Result<Session, Error> {
        self.0.connect(None).await
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Error> {
        if session.is_over() { Err(RecycleError::message("the session has ended")) } else { Ok(()) }
    }
}

/// A session in the middle of something. Dropped there, it is ended: whoever got it next would wait for what nobody waits
/// for any more, or read what was true when a transaction began.
struct Begun(Option<Object<Sessions>>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.take().map(Object::take);
    }
}

impl Readers {
    /// Shares so many sessions at the most.
    pub(super) fn new(connector: Arc<Connector>, sessions: usize) -> Result<Self, Error> {
        let pool = Pool::builder(Sessions(connector)).max_size(sessions).wait_timeout(Some(WAITING)).runtime(Runtime::Tokio1).build();
        pool.map(|pool| Self { pool, took: Arc::default() }).map_err(|e| Error::Unavailable(e.to_string()))
    }

    async fn session(&self) -> Result<Object<Sessions>, Error> {
        if self.pool.status().waiting >= QUEUE {
            return Err(Error::Unavailable("too many reads are waiting".to_owned()));
        }
        self.pool.get().await.map_err(|e| match e {
            PoolError::Backend(error) => error,
            PoolError::Timeout(_) => late(),
            other => Error::Unavailable(other.to_string()),
        })
    }

    /// Runs statements that each stand for themselves.
    pub(super) async fn read<R>(&self, read: impl AsyncFnOnce(&Session) -> Result<R, Error>) -> Result<R, Error> {
        let finish = async {
            let mut begun = Begun(Some(self.session().await?));
            let Some(session) = &begun.0 else { unreachable!("it was just put there") };
            let result = read(session).await;
            if session.is_replaced() {
                return Err(replaced());
            }
            drop(begun.0.take());
            result
        };
        self.in_time(finish).await
    }

    /// The same, of a server that no other one had replaced when this began.
    pub(super) async fn read_confirmed<R>(&self, read: impl AsyncFnOnce(&Session) -> Result<R, Error>) -> Result<R, Error> {
        self.read(async |session| {
            session.confirm().await?;
            read(session).await
        })
        .await
    }

    /// Reads several things of one state of the database.
    pub(super) async fn snapshot<R>(&self, read: impl AsyncFnOnce(&Session) -> Result<R, Error>) -> Result<R, Error> {
        self.within(SNAPSHOT, read, &mut None).await
    }

    /// Changes what is no place of the feed, all or nothing; what can be lost but must not be done twice.
    ///
    /// Where nobody knows what became of the commit, it counts as done: a use too few says less than there was, a use too
    /// many something that was not.
    pub(super) async fn change<R>(&self, change: impl AsyncFnOnce(&Session) -> Result<R, Error>) -> Result<R, Error> {
        let mut committing = None;
        match (self.within("BEGIN", change, &mut committing).await, committing) {
            (Err(error), Some(result)) => {
                tracing::warn!(cause = %error, "nobody knows whether counts were written; they are not written again");
                Ok(result)
            }
            (done, _) => done,
        }
    }

    /// `committing` holds the result where the commit was sent, and neither it nor a refusal of it came back.
    async fn within<R>(
        &self,
        begin: &str,
        run: impl AsyncFnOnce(&Session) -> Result<R, Error>,
        committing: &mut Option<R>,
    ) -> Result<R, Error> {
        let transaction = async {
            let mut begun = Begun(Some(self.session().await?));
            let Some(session) = &begun.0 else { unreachable!("it was just put there") };
            session.run(begin).await?;
            *committing = Some(run(session).await?);
            if let Err(refused) = session.commit().await {
                return Err(refused.map_or_else(unknown_commit, |error| {
                    *committing = None;
                    error
                }));
            }
            if session.is_replaced() {
                return Err(replaced());
            }
            // Over: the session is for the next one.
            drop(begun.0.take());
            committing.take().ok_or_else(|| Error::Unavailable("a transaction had no result".to_owned()))
        };
        self.in_time(transaction).await
    }

    async fn in_time<R>(&self, work: impl Future<Output = Result<R, Error>>) -> Result<R, Error> {
        let began = Stopwatch::start();
        // Boxed: whoever asks would else carry all that connecting and transactions need.
        let done = tokio::time::timeout(DEADLINE, Box::pin(work)).instrument(spans::of_database!("database read", "postgresql")).await;
        let done = done.unwrap_or_else(|_| Err(late()));
        self.took.note(began.took());
        done
    }

    /// How long what was asked took, the wait for a session included.
    pub(super) fn took(&self) -> Histogram {
        self.took.read()
    }
}

fn replaced() -> Error {
    Error::Unavailable("another server has taken the place of the one that was asked".to_owned())
}

fn late() -> Error {
    Error::Unreachable("the database did not answer in time".to_owned())
}
