//! Writing what was only noted, again and again, off the way of requests.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle};

use super::{Authority, Error};

/// How often refusals become an audit entry.
const DENIALS_EVERY: Duration = Duration::from_secs(60);

/// The task that writes uses, refusals and expiries. It ends with this value; whoever wants to know that the last of
/// them are written says [`Upkeep::end`].
#[derive(Debug)]
pub struct Upkeep {
    end: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
    /// Ends with this.
    #[cfg(feature = "server")]
    _resuming: tokio::task::JoinSet<()>,
}

impl Upkeep {
    /// Starts writing every `every`, which is above zero.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(authority: &Arc<Authority>, every: Duration) -> Self {
        let (end, ending) = oneshot::channel();
        Self {
            end,
            task: tokio::spawn(keep_up(Arc::clone(authority), every, ending)),
            #[cfg(feature = "server")]
            _resuming: super::bulk::resuming(authority),
        }
    }

    /// Finishes what it is writing, writes a last time, and ends.
    ///
    /// # Errors
    /// The uses of the last seconds could not be written.
    pub async fn end(self) -> Result<(), Error> {
        drop(self.end);
        self.task.await.unwrap_or_else(|e| Err(Error::Unavailable(e.to_string())))
    }
}

async fn keep_up(authority: Arc<Authority>, every: Duration, mut ending: oneshot::Receiver<()>) -> Result<(), Error> {
    let mut flush = tokio::time::interval(every);
    let mut denials = tokio::time::interval(DENIALS_EVERY);
    loop {
        // Never cut short in the middle of writing: what it has taken would be lost.
        let written = tokio::select! {
            _ = &mut ending => break,
            _ = flush.tick() => authority.flush().await,
            _ = denials.tick() => authority.record_denials().await,
        };
        if let Err(e) = written {
            tracing::error!(cause = %e, "cannot write what was noted; trying again");
        }
    }
    let denials = authority.record_denials().await;
    authority.flush().await.and(denials)
}
