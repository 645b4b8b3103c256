//! A connection that speaks HTTP/1.1.
//!
//! ```text
//! bytes ── plain: one request to /verify after another ── answered from the bytes, without the HTTP library
//!   └───── anything else ── the library has the connection from there on, with all that was not answered
//! ```
//! Plain ones are nearly all that a platform asks, and the library costs them more than verifying does. It never gives a
//! connection back, so there is no question which of the two reads what.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{body::Body, extract::Request, response::Response};
use http_body::Body as _;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::connection::{Known, Waiting, holding};

/// The head and a little more; sections are measured exactly once they are parsed.
const HEAD_BUFFER: usize = 32 * 1024;
/// Header fields at the most.
pub(super) const FIELDS: usize = 64;

/// Makes the whole answer that stands for a bare refusal of the HTTP library.
pub(super) type Enveloped = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// What is served.
pub(super) trait Service: Clone + Send + Sync + 'static {
    /// Answers plain requests, as long as none other comes; gives back what was read and not answered, `None` where the
    /// connection is over.
    fn answer_plain(&self, stream: &mut Patient, peer: SocketAddr) -> impl Future<Output = Option<Vec<u8>>> + Send;

    /// The answer.
    fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Response<Body>> + Send + use<Self>;
}

/// Serves a connection.
pub(super) fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    service: impl Service,
    enveloped: Enveloped,
) -> (Arc<Waiting>, impl Future<Output = ()> + Send + 'static) {
    let waiting = Arc::new(Waiting::new());
    let mut stream = Patient { stream, waiting: Arc::clone(&waiting) };
    (waiting, async move {
        if let Some(unread) = service.answer_plain(&mut stream, peer).await {
            let stream = Enveloping { unread, stream, enveloped, instead: Vec::new() };
            // In a box, so that a connection that never needs it stays small.
            Box::pin(serve_any(stream, peer, service)).await;
        }
    })
}

async fn serve_any(stream: Enveloping, peer: SocketAddr, service: impl Service) {
    let waiting = Arc::clone(&stream.stream.waiting);
    let answer = service_fn(move |request| {
        waiting.set(Waiting::BUSY);
        let (answer, waiting) = (service.answer(request, peer), Arc::clone(&waiting));
        async move {
            let (parts, body) = answer.await.into_parts();
            if parts.extensions.get::<Known>().is_some() {
                waiting.know();
            }
            let body = if body.size_hint().exact().is_some() {
                waiting.set(Waiting::IDLE);
                body
            } else {
                // Streamed: what the client sends meanwhile is no head yet.
                Body::new(holding(body, Streamed(waiting)))
            };
            Ok::<_, Infallible>(Response::from_parts(parts, body))
        }
    });
    // How a connection ends is the client's business; whatever was wrong with a request was answered.
    let _ = hyper::server::conn::http1::Builder::new()
        // Ours is made from a clock that may show any time; theirs panics before 1970.
        .auto_date_header(false)
        .header_read_timeout(None)
        .max_buf_size(HEAD_BUFFER)
        .max_headers(FIELDS)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

/// An answer that is made while it is sent; the connection waits for the next request when it is over.
struct Streamed(Arc<Waiting>);

impl Drop for Streamed {
    fn drop(&mut self) {
        self.0.set(Waiting::IDLE);
    }
}

/// A stream that notes what its connection is waiting for.
pub(super) struct Patient {
    stream: TcpStream,
    waiting: Arc<Waiting>,
}

impl Patient {
    /// What its connection is waiting for.
    pub(super) fn waiting(&self) -> &Waiting {
        &self.waiting
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
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.waiting.wrote(written.is_pending());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The stream of the HTTP library: gives it what was read before, and puts the envelope around the bare refusals with
/// which it answers what it could not parse.
struct Enveloping {
    unread: Vec<u8>,
    stream: Patient,
    enveloped: Enveloped,
    /// Bytes of ours that go out in place of the library's.
    instead: Vec<u8>,
}

impl Enveloping {
    fn write_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.instead) {
                Poll::Ready(Ok(count)) => drop(self.instead.drain(..count)),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Enveloping {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..count]);
        self.unread.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Enveloping {
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
        Pin::new(&mut self.stream).poll_write(context, bytes)
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
