//! Accepting connections, and what a client may make us wait for.
//!
//! The framework's own `serve` waits forever for a head and for a reader. Here each connection is a stream that notes
//! what it is waiting for (its first byte, a head, a request's end, the next request, a reader), and a sweep a few times
//! a second ends those that wait too long: requests pay for a note, not for timers. The same stream puts the envelope
//! around the bare refusals with which the HTTP library answers what it could not parse.

use std::{
    convert::Infallible,
    future::{Future, ready},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::Request, response::Response};
use futures_util::future::Either;
use http_body::Body as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::AbortHandle,
};

use crate::authority::coarse_millis;

/// The head and a little more; sections are measured exactly once they are parsed.
const HEAD_BUFFER: usize = 32 * 1024;
/// Header fields at the most.
const FIELDS: usize = 64;
/// How often connections are looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// How long a place may be held without a request while others wait for one.
const CROWDED: Duration = Duration::from_millis(750);

/// How long to wait for a client, and for how many.
#[derive(Debug, Clone)]
pub(super) struct Waits {
    pub(super) header: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
    pub(super) max_connections: usize,
}

/// Makes the whole answer that stands for a bare refusal of the HTTP library.
pub(super) type Enveloped = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// What is served.
pub(super) trait Service: Clone + Send + Sync + 'static {
    /// The answer, where it takes no waiting; else the request again.
    #[expect(clippy::result_large_err, reason = "the request goes on its way: it is no error")]
    fn answer_at_once(&self, request: Request<Incoming>, peer: SocketAddr) -> Result<Response<Body>, Request<Incoming>>;

    /// The answer.
    fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Response<Body>> + Send + use<Self>;
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

/// Serves a connection that speaks HTTP/1.1.
pub(super) fn http1(
    stream: TcpStream,
    peer: SocketAddr,
    service: impl Service,
    enveloped: Enveloped,
) -> (Arc<Waiting>, impl Future<Output = ()> + Send + 'static) {
    let waiting = Arc::new(Waiting::new());
    (Arc::clone(&waiting), serve_http1(stream, peer, waiting, service, enveloped))
}

async fn serve_http1(stream: TcpStream, peer: SocketAddr, waiting: Arc<Waiting>, service: impl Service, enveloped: Enveloped) {
    let io = TokioIo::new(Patient { stream, waiting: Arc::clone(&waiting), enveloped, instead: Vec::new() });
    let answer = service_fn(move |request| {
        let request = match service.answer_at_once(request, peer) {
            Ok(response) => {
                waiting.set(Waiting::IDLE);
                return Either::Left(ready(Ok(response)));
            }
            Err(request) => request,
        };
        waiting.set(Waiting::BUSY);
        let (answer, waiting) = (service.answer(request, peer), Arc::clone(&waiting));
        // In a box, so that a connection that has nothing to wait for stays small.
        Either::Right(Box::pin(async move {
            let (parts, body) = answer.await.into_parts();
            let body = if body.size_hint().exact().is_some() {
                waiting.set(Waiting::IDLE);
                body
            } else {
                // Streamed: what the client sends meanwhile is no head yet.
                Body::new(Streamed { body, waiting })
            };
            Ok::<_, Infallible>(Response::from_parts(parts, body))
        }))
    });
    // How a connection ends is the client's business; whatever was wrong with a request was answered.
    let _ = hyper::server::conn::http1::Builder::new()
        // Ours is made from a clock that may show any time; theirs panics before 1970.
        .auto_date_header(false)
        .header_read_timeout(None)
        .max_buf_size(HEAD_BUFFER)
        .max_headers(FIELDS)
        .serve_connection(io, answer)
        .await;
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
        let crowded = if self.crowded.load(Ordering::SeqCst) { CROWDED } else { Duration::MAX };
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
    loop {
        let permit = match Arc::clone(room).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                crowded.store(true, Ordering::SeqCst);
                let Ok(permit) = Arc::clone(room).acquire_owned().await else { std::future::pending().await };
                crowded.store(false, Ordering::SeqCst);
                permit
            }
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                return (stream, peer, permit);
            }
            Err(e) => {
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                tracing::warn!(cause = %e, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// What a connection is waiting for, and since when.
#[derive(Default)]
pub(super) struct Waiting {
    phase: AtomicU8,
    since: AtomicU64,
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

    fn new() -> Self {
        Self { since: AtomicU64::new(coarse_millis()), ..Self::default() }
    }

    /// Of a connection that can be told to go: its side is to wait for [`Waiting::told_to_go`].
    pub(super) fn polite() -> Self {
        Self { go: Some(Notify::new()), ..Self::new() }
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

    /// Whether it has to go when the server ends.
    fn has_to_go(&self, now: u64) -> bool {
        self.is_for_a_request(now) || self.go.is_some() && self.going.load(Ordering::Relaxed) == 0
    }

    /// Notes that an answer waits to be read, or that none does any more.
    pub(super) fn stall(&self, stalled: bool) {
        self.stalled.store(if stalled { coarse_millis().max(1) } else { 0 }, Ordering::Relaxed);
    }

    pub(super) fn set(&self, phase: u8) {
        self.since.store(coarse_millis(), Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// Notes bytes that came.
    fn read(&self) {
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

    fn is_too_long(&self, waits: &Waits, crowded: Duration, now: u64) -> bool {
        let over = |since: u64, patience: Duration| u128::from(now.saturating_sub(since)) >= patience.as_millis();
        let (since, stalled) = (self.since.load(Ordering::Relaxed), self.stalled.load(Ordering::Relaxed));
        let going = self.going.load(Ordering::Relaxed);
        if going > 0 {
            return over(going, waits.write);
        }
        let waited = match self.phase.load(Ordering::Relaxed) {
            Self::NEW | Self::HEAD => over(since, waits.header.min(crowded)),
            Self::IDLE => stalled == 0 && over(since, waits.idle.min(crowded)),
            _ => false,
        };
        waited || stalled > 0 && over(stalled, waits.write)
    }
}

/// A body that is made while it is sent; the connection waits for the next request when it is over.
struct Streamed {
    body: Body,
    waiting: Arc<Waiting>,
}

impl http_body::Body for Streamed {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.waiting.set(Waiting::IDLE);
    }
}

/// A stream that notes what its connection is waiting for, and puts the envelope around bare refusals.
struct Patient {
    stream: TcpStream,
    waiting: Arc<Waiting>,
    enveloped: Enveloped,
    /// Bytes of ours that go out in place of the library's.
    instead: Vec<u8>,
}

impl Patient {
    /// Polls a write and notes whether it stands still.
    fn writing(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        let waiting = &self.waiting;
        if written.is_pending() {
            let _ = waiting.stalled.compare_exchange(0, coarse_millis(), Ordering::Relaxed, Ordering::Relaxed);
        } else if waiting.stalled.load(Ordering::Relaxed) > 0 {
            waiting.stalled.store(0, Ordering::Relaxed);
            // A client that reads a long answer is not idle.
            if waiting.phase.load(Ordering::Relaxed) == Waiting::IDLE {
                waiting.set(Waiting::IDLE);
            }
        }
        written
    }

    fn write_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let bytes = std::mem::take(&mut self.instead);
            let written = self.writing(context, &bytes);
            self.instead = bytes;
            match written {
                Poll::Ready(Ok(count)) => drop(self.instead.drain(..count)),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() && buffer.filled().len() > before {
            self.waiting.read();
        }
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_instead(context)?.is_pending() {
            return Poll::Pending;
        }
        if let Some(head) = bare_refusal(bytes) {
            let (ours, theirs) = bytes.split_at(head);
            self.instead = [ours, &(self.enveloped)(theirs)].concat();
            // All of `bytes` is dealt with; what goes out instead is pushed by the flush that follows.
            return Poll::Ready(Ok(bytes.len()));
        }
        self.writing(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_instead(context)?.is_pending() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_instead(context)?.is_pending() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Where, in bytes about to be written, a refusal of the HTTP library begins: a response without a body at the very end
/// that lacks the request id which every answer of ours has.
fn bare_refusal(bytes: &[u8]) -> Option<usize> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = memmem::rfind(bytes, b"HTTP/1.1 ")?;
    if !matches!(bytes.get(head + 9), Some(b'4' | b'5')) {
        return None;
    }
    let ours = bytes[head..].windows(14).any(|window| window.eq_ignore_ascii_case(b"\r\nx-request-id"));
    // A body may end like this, and hold anything but a line end: theirs is one head with no body at all.
    let tail = &bytes[head..];
    let bodyless = tail.windows(21).any(|window| window.eq_ignore_ascii_case(b"\r\ncontent-length: 0\r\n"));
    let only_a_head = tail.windows(4).position(|window| window == b"\r\n\r\n") == Some(tail.len() - 4);
    (!ours && bodyless && only_a_head).then_some(head)
}
