//! HTTP/2 on the listener that speaks it: many requests share a connection, each in a stream.
//!
//! Of what a client may make us wait for, a stream's answerer limits the body, [`Waiting`] the rest as over HTTP/1.1, and
//! pings notice whoever sends half a frame, reads nothing, or is gone.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{extract::Request, response::Response};
use bytes::Bytes;
use http_body::Body;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::connection::{Waiting, holding};

/// Streams of a connection at once, at the most.
const STREAMS: u32 = 100;
/// What a connection may have sent of bodies that nobody has read yet; of one of them, as much as the protocol's least.
const WINDOW: u32 = 1024 * 1024;
const STREAM_WINDOW: u32 = 64 * 1024;
/// A request's head.
const HEAD: u32 = 16 * 1024;
/// What may wait to be sent in one stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Serves a connection that speaks HTTP/2, and asks it every `patience` whether it is there.
pub(super) fn http2<B, F>(
    stream: TcpStream,
    patience: Duration,
    answer: impl Fn(Request<Incoming>) -> F + Send + 'static,
) -> (Arc<Waiting>, impl Future<Output = ()> + Send + 'static)
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
{
    let waiting = Arc::new(Waiting::polite());
    let streams = Arc::new(Streams { waiting: Arc::clone(&waiting), open: Mutex::default() });
    let answer = service_fn(move |request| {
        let mut open = Open::new(&streams);
        let answer = answer(request);
        async move {
            let (parts, body) = answer.await.into_parts();
            open.answered();
            Ok::<_, Infallible>(Response::from_parts(parts, holding(body, open)))
        }
    });
    let mut protocol = http2::Builder::new(TokioExecutor::new());
    protocol
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_header_list_size(HEAD)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(patience)
        .keep_alive_timeout(patience);
    let serving = Arc::clone(&waiting);
    (waiting, async move {
        let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), answer));
        // How a connection ends is the client's business.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = serving.told_to_go() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    })
}

/// The streams of a connection that are not over.
struct Streams {
    waiting: Arc<Waiting>,
    open: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    open: u32,
    /// Of those: answered, and the answer is not sent whole.
    unsent: u32,
}

impl Streams {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that is not over.
struct Open {
    streams: Arc<Streams>,
    answered: bool,
}

impl Open {
    fn new(streams: &Arc<Streams>) -> Self {
        let mut counts = streams.counts();
        counts.open += 1;
        if counts.open == 1 {
            streams.waiting.set(Waiting::BUSY);
        }
        drop(counts);
        Self { streams: Arc::clone(streams), answered: false }
    }

    fn answered(&mut self) {
        let mut counts = self.streams.counts();
        counts.unsent += 1;
        if counts.unsent == 1 {
            self.streams.waiting.stall(true);
        }
        self.answered = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut counts = self.streams.counts();
        counts.open -= 1;
        if self.answered {
            counts.unsent -= 1;
            // One that was sent is progress for all.
            self.streams.waiting.stall(counts.unsent > 0);
        }
        if counts.open == 0 {
            self.streams.waiting.set(Waiting::IDLE);
        }
    }
}
