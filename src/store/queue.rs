//! What waits for the thread that writes. What ends something goes first and is never refused; of anything else only so much
//! waits.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use tokio::sync::{mpsc, oneshot};

use super::Error;
use crate::measure::{Durations, Histogram, Stopwatch};

/// Jobs waiting at the most that end nothing; one more is refused, so that whoever is not waits for a few commits and no more.
const MOST: usize = 1024;

/// What a job is to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Ends something: goes first, is never refused, and may use the space kept back for it.
    Ending,
    /// Anything else.
    Normal,
}

/// What is measured of a store.
#[derive(Debug)]
pub(crate) struct Measured {
    /// How long the writer was at what it took at once, each time: a transaction, mostly.
    pub(crate) commits: Histogram,
    /// How long reads took, the wait for their turn included.
    pub(crate) reads: Histogram,
    /// Changes that wait for the writer, and end nothing.
    pub(crate) waiting: usize,
}

/// The way to the thread. Dropping it finishes what waits.
pub(super) struct Queue<J> {
    jobs: Option<mpsc::UnboundedSender<(Urgency, J)>>,
    normal: Arc<AtomicUsize>,
    /// How long the thread was at what it took at once, each time: a transaction mostly.
    taken: Arc<Durations>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Send + 'static> Queue<J> {
    /// Starts the thread, which is to work until there is nothing more.
    pub(super) fn start(name: &str, work: impl FnOnce(Waiting<J>) + Send + 'static) -> Result<Self, Error> {
        let (jobs, arriving) = mpsc::unbounded_channel();
        let (normal, taken) = (Arc::<AtomicUsize>::default(), Arc::<Durations>::default());
        let waiting = Waiting {
            arriving,
            ending: VecDeque::new(),
            normal: VecDeque::new(),
            count: Arc::clone(&normal),
            taken: Arc::clone(&taken),
            at_it: None,
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(waiting));
        let thread = thread.map_err(|e| Error::Unavailable(e.to_string()))?;
        Ok(Self { jobs: Some(jobs), normal, taken, thread: Some(thread) })
    }

    /// What is measured of it, with how long `reads` took.
    pub(super) fn measured(&self, reads: Histogram) -> Measured {
        Measured { commits: self.taken.read(), reads, waiting: self.normal.load(Ordering::Relaxed) }
    }

    /// Has a job done that answers whoever gave it.
    pub(super) async fn ask<R>(&self, urgency: Urgency, job: impl FnOnce(oneshot::Sender<Result<R, Error>>) -> J) -> Result<R, Error> {
        let (reply, answer) = oneshot::channel();
        if urgency == Urgency::Normal && self.normal.fetch_add(1, Ordering::Relaxed) >= MOST {
            self.normal.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::Unavailable("too many writes are waiting".to_owned()));
        }
        if let Some(jobs) = &self.jobs {
            // Where the thread has stopped, the job is dropped, and its reply with it.
            let _ = jobs.send((urgency, job(reply)));
        }
        answer.await.unwrap_or_else(|_| Err(Error::Unavailable("the writer has stopped".to_owned())))
    }
}

impl<J> Drop for Queue<J> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked: jobs are caught.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
pub(super) struct Waiting<J> {
    arriving: mpsc::UnboundedReceiver<(Urgency, J)>,
    ending: VecDeque<J>,
    normal: VecDeque<J>,
    count: Arc<AtomicUsize>,
    taken: Arc<Durations>,
    /// Since when the thread is at what it took last.
    at_it: Option<Stopwatch>,
}

impl<J> Waiting<J> {
    /// The next jobs, at most so many, as soon as there is one; none once the queue is dropped and empty.
    pub(super) async fn next(&mut self, most: usize) -> Vec<J> {
        self.done();
        let first = if self.is_empty() { self.arriving.recv().await } else { None };
        self.take(first, most)
    }

    /// The same on a thread that may block.
    pub(super) fn blocking_next(&mut self, most: usize) -> Vec<J> {
        self.done();
        let first = if self.is_empty() { self.arriving.blocking_recv() } else { None };
        self.take(first, most)
    }

    /// The thread asks again, so it is done with what it took.
    fn done(&mut self) {
        if let Some(at_it) = self.at_it.take() {
            self.taken.note(at_it.took());
        }
    }

    fn is_empty(&self) -> bool {
        self.ending.is_empty() && self.normal.is_empty()
    }

    fn take(&mut self, first: Option<(Urgency, J)>, most: usize) -> Vec<J> {
        let Self { arriving, ending, normal, count, at_it, .. } = self;
        for (urgency, job) in first.into_iter().chain(std::iter::from_fn(|| arriving.try_recv().ok())) {
            match urgency {
                Urgency::Ending => ending.push_back(job),
                Urgency::Normal => normal.push_back(job),
            }
        }
        let ends = ending.len().min(most);
        let others = normal.len().min(most - ends);
        count.fetch_sub(others, Ordering::Relaxed);
        *at_it = Some(Stopwatch::start());
        ending.drain(..ends).chain(normal.drain(..others)).collect()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    type Job = (usize, oneshot::Sender<Result<usize, Error>>);

    #[tokio::test]
    async fn ends_go_first_and_are_never_refused() {
        let (give, given) = std::sync::mpsc::channel();
        let queue = Queue::<Job>::start("test", move |waiting| give.send(waiting).unwrap()).unwrap();
        let mut waiting = given.recv().unwrap();
        let ask = |urgency, n| {
            let mut asked = Box::pin(queue.ask(urgency, move |reply| (n, reply)));
            assert!(asked.as_mut().now_or_never().is_none(), "{n}");
            asked
        };
        let _asked: Vec<_> = (0..MOST).map(|n| ask(Urgency::Normal, n)).collect();
        let refused = async || queue.ask(Urgency::Normal, |reply| (MOST, reply)).now_or_never().is_some_and(|answer| answer.is_err());
        assert!(refused().await && refused().await);
        let _ends = [ask(Urgency::Ending, MOST + 1), ask(Urgency::Ending, MOST + 2)];
        let numbers = |jobs: Vec<Job>| jobs.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(numbers(waiting.next(3).await), [MOST + 1, MOST + 2, 0]);
        // Room for one more.
        let _more = ask(Urgency::Normal, MOST + 3);
        assert!(refused().await);
        let _end = ask(Urgency::Ending, MOST + 4);
        assert_eq!(numbers(waiting.next(2).await), [MOST + 4, 1]);
        assert_eq!(waiting.next(MOST).await.len(), MOST - 1);
        drop((_asked, _ends, _more, _end));
        drop(queue);
        assert!(waiting.next(1).await.is_empty());
    }
}
