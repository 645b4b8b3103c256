//! Accepting connections, and what a client may make us wait for.
//!
//! The framework's own `serve` waits forever for a head and for a reader. Here each connection notes what it is waiting
//! for (its first byte, a head, a request's end, the next request, a reader), and a sweep ten times a second ends those
//! that wait too long: requests pay for a note, not for timers.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::AbortHandle,
};

use crate::authority::coarse_millis;

/// How often connections are looked at.
const SWEEP: Duration = Duration::from_millis(100);
/// How long a place may be held without a request while others wait for one; and with requests of nobody's, whatever they are.
const CROWDED: Duration = Duration::from_millis(400);

/// How long to wait for a client, and for how many.
#[derive(Debug, Clone)]
pub(super) struct Waits {
    pub(super) header: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
    pub(super) max_connections: usize,
    /// For how long whoever has proven who they are keeps a place that others wait for, but for a request under way.
    pub(super) known: Duration,
}

/// Serves `listener` until `ending` says so, then lets requests under way finish for `drain`. How a connection is served
/// is what `begin` says, with what it waits for.
pub(super) async fn serve<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    waits: Waits,
    begin: impl Fn(TcpStream, SocketAddr) -> (Arc<Waiting>, F),
    mut ending: watch::Receiver<bool>,
    drain: Duration,
) {
    let room = Arc::new(Semaphore::new(waits.max_connections));
    let connections = Arc::new(Connections::default());
    let sweeping = tokio::spawn({
        let (connections, waits, ending) = (Arc::clone(&connections), waits.clone(), ending.clone());
        async move {
            let mut every = tokio::time::interval(SWEEP);
            loop {
                every.tick().await;
                connections.sweep(&waits, *ending.borrow());
            }
        }
    });
    loop {
        let (stream, peer, place) = tokio::select! {
            _ = ending.wait_for(|ending| *ending) => break,
            accepted = accept(&listener, &room, &connections.crowded) => accepted,
        };
        let (waiting, serving) = begin(stream, peer);
        let serving = async move {
            let _place = place;
            serving.await;
        };
        connections.add(waiting, tokio::spawn(serving).abort_handle());
    }
    drop(listener);
    let everybody = u32::try_from(waits.max_connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(drain, room.acquire_many(everybody)).await;
    sweeping.abort();
}

/// The open connections of a listener.
#[derive(Default)]
struct Connections {
    open: Mutex<Vec<(Arc<Waiting>, AbortHandle)>>,
    /// Whether somebody waits to be accepted while all places are taken.
    crowded: AtomicBool,
}

impl Connections {
    fn add(&self, waiting: Arc<Waiting>, task: AbortHandle) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push((waiting, task));
    }

    /// Ends those that wait too long; when `ending`, all that have waited for a request since the last sweep, so that one
    /// that is on its way is still answered. Who can be told to go is told first.
    fn sweep(&self, waits: &Waits, ending: bool) {
        let now = coarse_millis();
        let is_crowded = self.crowded.load(Ordering::SeqCst);
        let crowded = |patience| if is_crowded { patience } else { Duration::MAX };
        let crowded = (crowded(CROWDED), crowded(waits.known));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(waiting, task)| {
            let too_long = waiting.is_too_long(waits, crowded, now) || ending && waiting.has_to_go(now);
            let ended = too_long && !waiting.tell_to_go(now);
            if ended {
                task.abort();
            }
            !ended && !task.is_finished()
        });
    }
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>, crowded: &AtomicBool) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let (stream, peer) = loop {
        match listener.accept().await {
            Ok(accepted) => break accepted,
            Err(e) => {
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                tracing::warn!(cause = %e, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let _ = stream.set_nodelay(true);
    let place = match Arc::clone(room).try_acquire_owned() {
        Ok(place) => place,
        Err(_) => {
            crowded.store(true, Ordering::SeqCst);
            let Ok(place) = Arc::clone(room).acquire_owned().await else { std::future::pending().await };
            crowded.store(false, Ordering::SeqCst);
            place
        }
    };
    (stream, peer, place)
}

/// In an answer's extensions: it is to somebody who has proven who they are.
#[derive(Clone)]
pub(super) struct Known;

/// An answer's body that keeps `held` until it is sent, or given up.
pub(super) fn holding<B: Body>(body: B, held: impl Send + 'static) -> impl Body<Data = B::Data, Error = B::Error> {
    body.map_frame(move |frame| {
        let _held = &held;
        frame
    })
}

/// What a connection is waiting for, and since when.
#[derive(Default)]
pub(super) struct Waiting {
    phase: AtomicU8,
    since: AtomicU64,
    began: u64,
    /// Whether anybody has proven who they are on it.
    known: AtomicBool,
    /// When a write began to stand still; 0 while none does.
    stalled: AtomicU64,
    /// Tells the other side to go, where its protocol has a word for that.
    go: Option<Notify>,
    /// Since when it has been told; 0 before.
    going: AtomicU64,
}

impl Waiting {
    /// The first byte of all, or the first request where several share a connection.
    const NEW: u8 = 0;
    /// The rest of a request's head.
    const HEAD: u8 = 1;
    /// The end of a request: its body, and its answer. Their own limits are elsewhere.
    pub(super) const BUSY: u8 = 2;
    /// The next request.
    pub(super) const IDLE: u8 = 3;

    pub(super) fn new() -> Self {
        let began = coarse_millis();
        Self { since: AtomicU64::new(began), began, ..Self::default() }
    }

    /// Of a connection that can be told to go: its side is to wait for [`Waiting::told_to_go`]. Only gateways have such ones.
    pub(super) fn polite() -> Self {
        Self { go: Some(Notify::new()), known: AtomicBool::new(true), ..Self::new() }
    }

    /// Notes that somebody has proven who they are.
    pub(super) fn know(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    /// Waits until the other side is to be told to go.
    pub(super) async fn told_to_go(&self) {
        match &self.go {
            Some(go) => go.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Tells it to go, if that is still to be done and can be.
    fn tell_to_go(&self, now: u64) -> bool {
        let Some(go) = &self.go else { return false };
        let told = self.phase.load(Ordering::Relaxed) != Self::NEW
            && self.going.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if told {
            go.notify_one();
        }
        told
    }

    /// Whether it has to go when the server ends. Who can be told need not have waited: what is under way is still answered.
    fn has_to_go(&self, now: u64) -> bool {
        let can_be_told = self.go.is_some() && self.phase.load(Ordering::Relaxed) != Self::NEW;
        self.is_for_a_request(now) || can_be_told && self.going.load(Ordering::Relaxed) == 0
    }

    /// Notes that an answer waits to be read, or that none does any more.
    pub(super) fn stall(&self, stalled: bool) {
        self.stalled.store(if stalled { coarse_millis().max(1) } else { 0 }, Ordering::Relaxed);
    }

    pub(super) fn set(&self, phase: u8) {
        self.since.store(coarse_millis(), Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// Notes that some of an answer was written, or that nothing of it can be.
    pub(super) fn wrote(&self, stands_still: bool) {
        if stands_still {
            let _ = self.stalled.compare_exchange(0, coarse_millis(), Ordering::Relaxed, Ordering::Relaxed);
        } else if self.stalled.load(Ordering::Relaxed) > 0 {
            self.stalled.store(0, Ordering::Relaxed);
            // A client that reads a long answer is not idle.
            if self.phase.load(Ordering::Relaxed) == Self::IDLE {
                self.set(Self::IDLE);
            }
        }
    }

    /// Notes bytes that came.
    pub(super) fn read(&self) {
        match self.phase.load(Ordering::Relaxed) {
            // The first head is timed from the connection's beginning.
            Self::NEW => self.phase.store(Self::HEAD, Ordering::Relaxed),
            Self::IDLE => self.set(Self::HEAD),
            _ => {}
        }
    }

    fn is_for_a_request(&self, now: u64) -> bool {
        let waited = u128::from(now.saturating_sub(self.since.load(Ordering::Relaxed))) >= SWEEP.as_millis();
        let stalled = self.stalled.load(Ordering::Relaxed) > 0 || self.going.load(Ordering::Relaxed) > 0;
        matches!(self.phase.load(Ordering::Relaxed), Self::NEW | Self::IDLE) && waited && !stalled
    }

    /// `crowded` is for how long a place is kept that others wait for, by anybody and by whoever is known.
    fn is_too_long(&self, waits: &Waits, (crowded, known): (Duration, Duration), now: u64) -> bool {
        let over = |since: u64, patience: Duration| u128::from(now.saturating_sub(since)) >= patience.as_millis();
        let (since, stalled) = (self.since.load(Ordering::Relaxed), self.stalled.load(Ordering::Relaxed));
        let going = self.going.load(Ordering::Relaxed);
        if going > 0 {
            return over(going, waits.write);
        }
        let phase = self.phase.load(Ordering::Relaxed);
        let waited = match phase {
            Self::NEW | Self::HEAD => over(since, waits.header.min(crowded)),
            Self::IDLE => stalled == 0 && over(since, waits.idle.min(crowded)),
            _ => false,
        };
        // Refusals, one after another or never read, must not keep out whoever has a token.
        let patience = if self.known.load(Ordering::Relaxed) { known } else { crowded };
        let others_turn = phase != Self::BUSY && over(self.began, patience);
        waited || others_turn || stalled > 0 && over(stalled, waits.write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_holds_what_it_is_given_until_it_is_over() {
        let held = Arc::new(());
        let mut body = holding(http_body_util::Full::new(bytes::Bytes::from("a")), Arc::clone(&held));
        assert!(!body.is_end_stream());
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok_and(|frame| frame.is_data())));
        assert!(body.is_end_stream());
        assert_eq!(Arc::strong_count(&held), 2);
        drop(body);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    /// Where many know who they are, and are answered again and again, others have their turn all the same.
    #[test]
    fn who_is_known_keeps_a_place_in_a_crowd_for_as_long_as_is_said() {
        let minute = Duration::from_secs(60);
        let waits = Waits { header: minute, idle: minute, write: minute, max_connections: 1, known: Duration::from_secs(2) };
        let waiting = Waiting::new();
        waiting.know();
        let is_too_long = |phase, crowded, after: u64| {
            waiting.set(phase);
            waiting.since.store(waiting.began + after, Ordering::Relaxed);
            waiting.is_too_long(&waits, crowded, waiting.began + after)
        };
        let (crowded, alone) = ((CROWDED, waits.known), (Duration::MAX, Duration::MAX));
        assert!(!is_too_long(Waiting::IDLE, crowded, 1999) && is_too_long(Waiting::IDLE, crowded, 2000));
        assert!(!is_too_long(Waiting::BUSY, crowded, 2000) && !is_too_long(Waiting::IDLE, alone, 50_000));
        // Of gateways nobody asks for theirs.
        assert!(!is_too_long(Waiting::IDLE, (CROWDED, Duration::MAX), 50_000));
    }

    /// Its first request may be on its way.
    #[test]
    fn who_just_came_is_not_let_go_at_once() {
        let sweep = u64::try_from(SWEEP.as_millis()).unwrap();
        for waiting in [Waiting::new(), Waiting::polite()] {
            let came = waiting.since.load(Ordering::Relaxed);
            assert!(!waiting.has_to_go(came + sweep - 1));
            assert!(waiting.has_to_go(came + sweep));
            // Nothing has been agreed on by which it could be told.
            assert!(!waiting.tell_to_go(came + sweep));
        }
    }

    /// Whatever is under way on it; and once.
    #[test]
    fn who_can_be_told_is_told_at_once() {
        for phase in [Waiting::BUSY, Waiting::IDLE] {
            let waiting = Waiting::polite();
            waiting.set(phase);
            let now = waiting.since.load(Ordering::Relaxed);
            assert!(waiting.has_to_go(now) && waiting.tell_to_go(now));
            assert!(!waiting.has_to_go(now + 60_000) && !waiting.tell_to_go(now + 60_000));
        }
    }
}
