//! Accepting connections, and what a client may make us wait for.
//!
//! The framework's own `serve` waits forever for a head and for a reader. Here each connection is wrapped in a stream
//! that notes what it is waiting for (a head, a request's end, the next request, a reader), and is dropped when that
//! takes too long. The same stream puts the envelope around the bare refusals with which the HTTP library answers what
//! it could not parse.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::Request, response::Response};
use http_body::Body as _;
use hyper::{body::Incoming, rt, service::service_fn};
use hyper_util::rt::TokioTimer;
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, watch},
    time::Instant,
};

/// The head and a little more; sections are measured exactly once they are parsed.
const HEAD_BUFFER: usize = 32 * 1024;
/// Header fields at the most.
const FIELDS: usize = 64;

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

/// Serves `listener` until `ending` says so, then lets requests under way finish for `drain`.
pub(super) async fn serve<S, F>(
    listener: TcpListener,
    waits: Waits,
    service: S,
    enveloped: Enveloped,
    mut ending: watch::Receiver<bool>,
    drain: Duration,
) where
    S: Fn(Request<Incoming>, std::net::SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(waits.max_connections));
    let crowd = Arc::new(Crowd::default());
    let ended = async |ending: &mut watch::Receiver<bool>| drop(ending.wait_for(|ending| *ending).await);
    loop {
        let accepted = tokio::select! {
            () = ended(&mut ending) => break,
            accepted = accept(&listener, &room, &crowd) => accepted,
        };
        let (stream, peer, permit) = accepted;
        let (service, waits, enveloped, mut ending) = (service.clone(), waits.clone(), Arc::clone(&enveloped), ending.clone());
        let crowd = Arc::clone(&crowd);
        tokio::spawn(async move {
            let _permit = permit;
            let waiting = Arc::new(Waiting::new());
            let answer = {
                let waiting = Arc::clone(&waiting);
                service_fn(move |request| {
                    waiting.set(Waiting::BUSY);
                    let (answer, waiting) = (service(request, peer), Arc::clone(&waiting));
                    async move {
                        let (parts, body) = answer.await.into_parts();
                        let body = if body.size_hint().exact().is_some() {
                            waiting.set(Waiting::IDLE);
                            body
                        } else {
                            // Streamed: what the client sends meanwhile is no head yet.
                            Body::new(Streamed { body, waiting })
                        };
                        Ok::<_, std::convert::Infallible>(Response::from_parts(parts, body))
                    }
                })
            };
            let io = Patient { stream, waiting: Arc::clone(&waiting), enveloped, instead: Vec::new() };
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                // Ours is made from a clock that may show any time; theirs panics before 1970.
                .auto_date_header(false)
                .header_read_timeout(None)
                .max_buf_size(HEAD_BUFFER)
                .max_headers(FIELDS)
                .serve_connection(io, answer);
            let mut connection = std::pin::pin!(connection);
            // How a connection ends is the client's business; whatever was wrong with a request was answered.
            let mut too_long = std::pin::pin!(waiting.too_long(&waits, &crowd));
            tokio::select! {
                _ = connection.as_mut() => return,
                () = too_long.as_mut() => return,
                () = ended(&mut ending) => connection.as_mut().graceful_shutdown(),
            }
            tokio::select! {
                _ = connection => {}
                () = too_long => {}
            }
        });
    }
    drop(listener);
    let everybody = u32::try_from(waits.max_connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(drain, room.acquire_many(everybody)).await;
}

/// Whether somebody waits to be accepted while all places are taken.
#[derive(Default)]
struct Crowd {
    waits: AtomicBool,
    changed: Notify,
}

/// How long a place may be held without a request while others wait for one.
const CROWDED: Duration = Duration::from_secs(1);

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    crowd: &Crowd,
) -> (TcpStream, std::net::SocketAddr, tokio::sync::OwnedSemaphorePermit) {
    loop {
        let permit = match Arc::clone(room).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                crowd.waits.store(true, Ordering::SeqCst);
                crowd.changed.notify_waiters();
                let Ok(permit) = Arc::clone(room).acquire_owned().await else { std::future::pending().await };
                crowd.waits.store(false, Ordering::SeqCst);
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
struct Waiting {
    began: Instant,
    phase: AtomicU8,
    since: AtomicU64,
    /// When a write began to stand still; 0 while none does.
    stalled: AtomicU64,
}

impl Waiting {
    /// The head of a request: the first one, or one that has begun.
    const HEAD: u8 = 0;
    /// The end of a request: its body, and its answer. Their own limits are elsewhere.
    const BUSY: u8 = 1;
    /// The next request.
    const IDLE: u8 = 2;

    fn new() -> Self {
        Self { began: now(), phase: AtomicU8::new(Self::HEAD), since: AtomicU64::new(0), stalled: AtomicU64::new(0) }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn set(&self, phase: u8) {
        self.since.store(self.millis(), Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn is(&self, phase: u8) -> bool {
        self.phase.load(Ordering::Relaxed) == phase
    }

    /// Returns when a wait has lasted too long.
    ///
    /// Beside the connection rather than inside its reads: the HTTP library does not read again only because what it
    /// waits for has changed.
    async fn too_long(&self, waits: &Waits, crowd: &Crowd) {
        loop {
            // Taken before looking, so that no change in between is missed.
            let changed = crowd.changed.notified();
            let crowded = if crowd.waits.load(Ordering::SeqCst) { CROWDED } else { Duration::MAX };
            let now = self.millis();
            let left = |since: &AtomicU64, patience: Duration| {
                let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
                (since.load(Ordering::Relaxed).saturating_add(patience)).saturating_sub(now)
            };
            // Whatever it turns to next, it can't have waited too long for that before this.
            let mut sleep = waits.header.min(waits.idle).min(waits.write);
            let deadlines = [
                self.is(Self::HEAD).then(|| left(&self.since, waits.header.min(crowded))),
                self.is(Self::IDLE).then(|| left(&self.since, waits.idle.min(crowded))),
                (self.stalled.load(Ordering::Relaxed) > 0).then(|| left(&self.stalled, waits.write)),
            ];
            for left in deadlines.into_iter().flatten() {
                if left == 0 {
                    return;
                }
                sleep = sleep.min(Duration::from_millis(left));
            }
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = changed => {}
            }
        }
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

#[expect(clippy::disallowed_methods, reason = "a wait for a client is measured by the runtime's own clock")]
fn now() -> Instant {
    Instant::now()
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
            let _ = waiting.stalled.compare_exchange(0, waiting.millis().max(1), Ordering::Relaxed, Ordering::Relaxed);
        } else {
            waiting.stalled.store(0, Ordering::Relaxed);
            // A client that reads a long answer is not idle.
            if waiting.is(Waiting::IDLE) {
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

impl rt::Read for Patient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, mut cursor: rt::ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; 8 * 1024];
        let most = cursor.remaining().min(chunk.len());
        let mut buffer = ReadBuf::new(&mut chunk[..most]);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
        if read.is_ready() && self.waiting.is(Waiting::IDLE) && !buffer.filled().is_empty() {
            self.waiting.set(Waiting::HEAD);
        }
        cursor.put_slice(buffer.filled());
        read
    }
}

impl rt::Write for Patient {
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
    let head = bytes.windows(9).rposition(|window| window == b"HTTP/1.1 ")?;
    let ours = bytes[head..].windows(14).any(|window| window.eq_ignore_ascii_case(b"\r\nx-request-id"));
    let refusal = matches!(bytes.get(head + 9), Some(b'4' | b'5'));
    // A body may end like this, and hold anything but a line end: theirs is one head with no body at all.
    let tail = &bytes[head..];
    let bodyless = tail.windows(21).any(|window| window.eq_ignore_ascii_case(b"\r\ncontent-length: 0\r\n"));
    let only_a_head = tail.windows(4).position(|window| window == b"\r\n\r\n") == Some(tail.len() - 4);
    (refusal && !ours && bodyless && only_a_head).then_some(head)
}
