//! A few threads read, each on a connection of its own.
//!
//! Threads of our own rather than the runtime's pool: under load they find the next read waiting and do not sleep in
//! between, and there are never more of them than help.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
};

use rusqlite::Connection;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::{Error, connect};
use crate::{
    measure::{Durations, Histogram, Stopwatch},
    spans,
};

/// Reads waiting at the most; one more is refused.
const QUEUE: usize = 4096;

type Job = Box<dyn FnOnce(&Connection) + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl Shared {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, as soon as there is one; none once the queue is closed.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The way to the reading threads. Dropping it ends them.
pub(super) struct Readers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    took: Durations,
}

impl Readers {
    /// Starts the threads.
    pub(super) fn start(file: &Path, threads: usize) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let spawn = |n: usize| {
            let (theirs, connection) = (Arc::clone(&shared), connect(file)?);
            let read = move || {
                while let Some(job) = theirs.next() {
                    job(&connection);
                }
            };
            let thread = std::thread::Builder::new().name(format!("sqlite-reader-{n}")).spawn(read);
            thread.map_err(|e| Error::Unavailable(e.to_string()))
        };
        let threads = (0..threads).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { shared, threads, took: Durations::default() })
    }

    /// How long reads took, the wait for a thread included.
    pub(super) fn took(&self) -> Histogram {
        self.took.read()
    }

    /// Runs a read on one of the threads.
    pub(super) async fn read<R: Send + 'static>(
        &self,
        run: impl FnOnce(&Connection) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        let (began, (reply, answer)) = (Stopwatch::start(), oneshot::channel());
        let job = Box::new(move |connection: &Connection| {
            // A caller that has gone away needs no answer, and no work.
            if !reply.is_closed() {
                let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(connection)));
                let _ = reply.send(read.unwrap_or_else(|_| Err(Error::Unavailable("a read panicked".to_owned()))));
                if !connection.is_autocommit() {
                    // What failed in the middle of a snapshot must not leave it to the next one.
                    let _ = connection.execute_batch("ROLLBACK");
                }
            }
        });
        {
            let mut queue = self.shared.queue();
            if queue.jobs.len() >= QUEUE {
                return Err(Error::Unavailable("too many reads are waiting".to_owned()));
            }
            queue.jobs.push_back(job);
        }
        self.shared.filled.notify_one();
        let read = answer
            .instrument(spans::of_database!("database read", "sqlite"))
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the readers have stopped".to_owned())));
        self.took.note(began.took());
        read
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.filled.notify_all();
        for thread in self.threads.drain(..) {
            // It cannot have panicked: jobs are caught.
            let _ = thread.join();
        }
    }
}
