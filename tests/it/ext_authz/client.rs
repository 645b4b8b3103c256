//! What Envoy does: a connection over HTTP/2, calls on it, and what a call says of a request.

use std::{collections::HashMap, future::Future, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::sync::watch;

use super::envoy::{self, *};
use crate::support::Pair;

pub(super) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// More than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Sent = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// A connection that is kept.
#[derive(Clone)]
pub(super) struct Connection {
    sender: http2::SendRequest<Sent>,
    ended: watch::Receiver<bool>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Of the trailers, or of a head that is both.
    pub(super) grpc: Option<i32>,
    pub(super) body: Bytes,
}

impl Called {
    /// A message, and that all went well.
    #[track_caller]
    pub(super) fn message(&self) -> CheckResponse {
        assert_eq!((self.status, self.grpc), (200, Some(0)), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/grpc");
        assert_eq!(self.body[..5], [&[0][..], &u32::try_from(self.body.len() - 5).unwrap().to_be_bytes()].concat());
        CheckResponse::decode(&self.body[5..]).unwrap()
    }

    /// Envoy lets this pass.
    pub(super) fn passes(&self) -> bool {
        self.grpc == Some(0) && CheckResponse::decode(&self.body[5..]).is_ok_and(|message| message.status.unwrap_or_default().code == 0)
    }

    /// No message, for this reason.
    #[track_caller]
    pub(super) fn failed(&self, grpc: i32) {
        assert_eq!((self.status, self.grpc, self.body.len()), (200, Some(grpc), 0), "{self:?}");
    }
}

impl Connection {
    pub(super) async fn to(address: SocketAddr) -> Self {
        Self::with_window(address, None).await
    }

    /// One on which the server may send so many bytes of an answer unasked.
    pub(super) async fn with_window(address: SocketAddr, window: Option<u32>) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) =
            http2::Builder::new(TokioExecutor::new()).initial_stream_window_size(window).handshake(TokioIo::new(stream)).await.unwrap();
        let (end, ended) = watch::channel(false);
        tokio::spawn(async move {
            let _ = connection.await;
            end.send(true)
        });
        Self { sender, ended }
    }

    /// Waits until the server has ended it.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        tokio::time::timeout(PATIENCE, ended.wait_for(|ended| *ended)).await.expect("it stays open").unwrap();
    }

    /// Begins a call: whatever is begun after it comes to the server after it. Where the call breaks off, there is no answer.
    pub(super) fn begin(&self, request: Request<Sent>) -> impl Future<Output = Option<Called>> + Send + use<> {
        let answer = self.sender.clone().send_request(request);
        let whole = async move {
            let (parts, body) = answer.await.ok()?.into_parts();
            let body = body.collect().await.ok()?;
            let status = |headers: &HeaderMap| headers.get("grpc-status").map(|status| status.to_str().unwrap().parse().unwrap());
            let grpc = body.trailers().map_or_else(|| status(&parts.headers), status);
            Some(Called { status: parts.status.as_u16(), headers: parts.headers, grpc, body: body.to_bytes() })
        };
        async { tokio::time::timeout(PATIENCE, whole).await.expect("the answer neither comes nor breaks off") }
    }

    pub(super) async fn send(&self, request: Request<Sent>) -> Called {
        self.begin(request).await.expect("an answer")
    }

    pub(super) async fn check(&self, check: &Check) -> Called {
        self.send(call(framed(&check.message().encode_to_vec()))).await
    }
}

pub(super) fn call(body: Vec<u8>) -> Request<Sent> {
    let request = Request::post(format!("http://countersign{CHECK}")).header("content-type", "application/grpc").header("te", "trailers");
    request.body(Full::new(Bytes::from(body)).map_err(io::Error::other).boxed_unsync()).unwrap()
}

/// A call whose message comes in pieces.
pub(super) fn call_in_pieces(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Request<Sent> {
    call(vec![]).map(|_| StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync())
}

pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// What Envoy says that a client asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Check {
    method: String,
    path: String,
    authorization: Vec<String>,
    raw: bool,
    extensions: HashMap<String, String>,
}

impl Check {
    pub(super) fn of(method: &str, path: &str, by: Option<&Pair>) -> Self {
        let authorization = by.map(Pair::basic).into_iter().collect();
        Self { method: method.to_owned(), path: path.to_owned(), authorization, ..Self::default() }
    }

    pub(super) fn authorization(mut self, values: &[&str]) -> Self {
        self.authorization = values.iter().map(|&value| value.to_owned()).collect();
        self
    }

    pub(super) fn raw(mut self) -> Self {
        self.raw = true;
        self
    }

    pub(super) fn route(mut self, extensions: &[(&str, &str)]) -> Self {
        self.extensions = extensions.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        self
    }

    pub(super) fn message(&self) -> CheckRequest {
        let mut headers: HashMap<_, _> = [(":path", &*self.path), ("user-agent", "x"), ("x-auth-platform", "evil")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let mut http =
            HttpRequest { id: "7".to_owned(), method: self.method.clone(), path: self.path.clone(), size: -1, ..HttpRequest::default() };
        if !self.authorization.is_empty() {
            headers.insert("authorization".to_owned(), self.authorization.join(","));
        }
        if self.raw {
            let value = |name: &str, value: &str| HeaderValue { key: name.to_owned(), raw_value: value.into(), ..HeaderValue::default() };
            headers.remove("authorization");
            let others = headers.iter().map(|(name, text)| value(name, text));
            let authorization = self.authorization.iter().map(|text| value("authorization", text));
            http.header_map = Some(envoy::HeaderMap { headers: others.chain(authorization).collect() });
        } else {
            http.headers = headers;
        }
        CheckRequest {
            attributes: Some(Attributes {
                source: Some(Peer { principal: "spiffe://x".to_owned() }),
                request: Some(AttributeRequest { http: Some(http) }),
                context_extensions: self.extensions.clone(),
            }),
        }
    }
}

/// Name and value of each, which must replace the client's.
pub(super) fn headers(options: &[HeaderOption]) -> HashMap<&str, &str> {
    let pair = |option: &'_ HeaderOption| {
        assert_eq!((option.append, option.append_action), (None, 2), "OVERWRITE_IF_EXISTS_OR_ADD");
    };
    options.iter().for_each(pair);
    let pairs: HashMap<_, _> = options.iter().map(|option| option.header.as_ref().unwrap()).map(|h| (&*h.key, &*h.value)).collect();
    assert_eq!(pairs.len(), options.len(), "one is there twice");
    pairs
}
