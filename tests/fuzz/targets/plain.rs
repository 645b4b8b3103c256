//! Heads of requests, which two parsers may see: the one of the hot path, and the HTTP library.

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use countersign::http::fuzzed;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection on which all has come, and which forgets what it is told. It ends when it has been asked for more often
/// enough: at an end, the library leaves what it has not looked at.
struct Came<'b>(&'b [u8], u32);

impl AsyncRead for Came<'_> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.0.is_empty() && self.1 > 0 {
            self.1 -= 1;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (now, later) = self.0.split_at(self.0.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Came<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A head in lines: its fields in any order.
fn sorted(head: &str) -> Vec<String> {
    let mut lines: Vec<_> = head.lines().map(str::to_owned).collect();
    lines[1..].sort();
    lines
}

/// All requests that the library finds, with what it takes for their bodies.
fn by_library(bytes: &[u8]) -> Vec<(Vec<String>, Bytes)> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    }
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let fields = parts.headers.iter().map(|(name, value)| format!("{name}: {:?}\n", value.as_bytes()));
            let head = format!("{} {}?{:?}\n{}", parts.method, parts.uri.path(), parts.uri.query(), fields.collect::<String>());
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_else(|_| Bytes::from("broken"));
            seen.borrow_mut().push((sorted(&head), body));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = http1::Builder::new();
    builder.auto_date_header(false).header_read_timeout(None).max_buf_size(32 * 1024).max_headers(64);
    let _ = RUNTIME.with(|runtime| runtime.block_on(builder.serve_connection(TokioIo::new(Came(bytes, 8)), service)));
    seen.take()
}

pub(super) fn head(input: &[u8]) {
    let Some((head, length)) = fuzzed::plain(input) else { return };
    // With a piece missing it is not there yet, and whatever comes behind it, it is the same.
    assert_eq!(fuzzed::plain(&input[..length - 1]), None);
    assert_eq!(fuzzed::plain(&input[..length]), Some((head.clone(), length)));
    let next = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n";
    let found = by_library(&[&input[..length], next].concat());
    let expected = [sorted(&head), sorted(&format!("GET /next?None\nhost: {:?}\n", b"x"))];
    assert_eq!(found, expected.map(|head| (head, Bytes::new())));
}
