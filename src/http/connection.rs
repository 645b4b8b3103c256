//! Accepting connections, and what a client may make us wait for.
//!
//! The framework's own `serve` waits forever for a head and for a reader. Here each connection is wrapped in a stream
//! that knows what it is waiting for (a head, a request's end, the next request) and ends the wait; and that puts the
//! envelope around the bare refusals with which the HTTP library answers what it could not parse.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::Request, response::Response};
use hyper::{body::Incoming, rt, service::service_fn};
use hyper_util::rt::TokioTimer;
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{Instant, Sleep},
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
    let ended = async |ending: &mut watch::Receiver<bool>| drop(ending.wait_for(|ending| *ending).await);
    loop {
        let accepted = tokio::select! {
            () = ended(&mut ending) => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let (stream, peer, permit) = accepted;
        let (service, waits, enveloped, mut ending) = (service.clone(), waits.clone(), Arc::clone(&enveloped), ending.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let phase = Arc::new(Phase::default());
            let answer = {
                let phase = Arc::clone(&phase);
                service_fn(move |request| {
                    phase.set(Phase::BUSY);
                    let (answer, phase) = (service(request, peer), Arc::clone(&phase));
                    async move {
                        let response = answer.await;
                        phase.set(Phase::IDLE);
                        Ok::<_, std::convert::Infallible>(response)
                    }
                })
            };
            let io = Patient::new(stream, phase, waits, enveloped);
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(None)
                .max_buf_size(HEAD_BUFFER)
                .max_headers(FIELDS)
                .serve_connection(io, answer);
            let mut connection = std::pin::pin!(connection);
            // How a connection ends is the client's business; whatever was wrong with a request was answered.
            tokio::select! {
                _ = connection.as_mut() => return,
                () = ended(&mut ending) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    drop(listener);
    let everybody = u32::try_from(waits.max_connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(drain, room.acquire_many(everybody)).await;
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, std::net::SocketAddr, tokio::sync::OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = Arc::clone(room).acquire_owned().await else { std::future::pending().await };
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

/// What a connection is waiting for.
#[derive(Default)]
struct Phase(AtomicU8);

impl Phase {
    /// The head of a request: the first one, or one that has begun.
    const HEAD: u8 = 0;
    /// The end of a request: its body, and its answer. Their own limits are elsewhere.
    const BUSY: u8 = 1;
    /// The next request.
    const IDLE: u8 = 2;

    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream whose patience ends.
struct Patient {
    stream: TcpStream,
    phase: Arc<Phase>,
    waits: Waits,
    enveloped: Enveloped,
    /// What is waited for, and until when; none while there is nothing to wait for.
    waiting: Option<(u8, Instant)>,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    /// Bytes of ours that go out in place of the library's.
    instead: Vec<u8>,
}

impl Patient {
    #[expect(clippy::disallowed_methods, reason = "a wait for a client is measured by the runtime's own clock")]
    fn now() -> Instant {
        Instant::now()
    }

    fn new(stream: TcpStream, phase: Arc<Phase>, waits: Waits, enveloped: Enveloped) -> Self {
        let read_timer = Box::pin(tokio::time::sleep(waits.header));
        let waiting = Some((Phase::HEAD, Self::now() + waits.header));
        Self { stream, phase, waits, enveloped, waiting, read_timer, write_timer: None, instead: Vec::new() }
    }

    /// Whether the wait for the client's bytes has lasted too long.
    fn out_of_patience(&mut self, context: &mut Context<'_>) -> bool {
        let phase = self.phase.get();
        let patience = match phase {
            Phase::HEAD => self.waits.header,
            Phase::IDLE => self.waits.idle,
            _ => {
                self.waiting = None;
                return false;
            }
        };
        let deadline = match self.waiting {
            Some((waiting, deadline)) if waiting == phase => deadline,
            _ => {
                let deadline = Self::now() + patience;
                self.waiting = Some((phase, deadline));
                deadline
            }
        };
        // Deadlines mostly move on: the timer is left as it is, and set again when it goes off too early.
        if self.read_timer.deadline() > deadline {
            self.read_timer.as_mut().reset(deadline);
        }
        while self.read_timer.as_mut().poll(context).is_ready() {
            if Self::now() >= deadline {
                return true;
            }
            self.read_timer.as_mut().reset(deadline);
        }
        false
    }

    /// Polls a write and limits how long it may stand still.
    fn writing(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(result) => {
                self.write_timer = None;
                // A client that reads a long answer is not idle.
                self.waiting = None;
                Poll::Ready(result)
            }
            Poll::Pending => {
                let timer = self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.waits.write)));
                timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
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
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                if self.phase.get() == Phase::IDLE && !buffer.filled().is_empty() {
                    self.phase.set(Phase::HEAD);
                }
                cursor.put_slice(buffer.filled());
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending if self.out_of_patience(context) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
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
    (refusal && !ours).then_some(head)
}
