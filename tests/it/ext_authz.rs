//! Envoy's `ext_authz` over gRPC, asked over HTTP/2 as Envoy asks it.
//!
//! Longer than others because the other side of the protocol stands here too: what asks must share no code with what answers.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::Bytes;
use countersign::{
    config::Config,
    http::{Listeners, serve},
};
use futures_util::future::join_all;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{body::Frame, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use prost::Message as _;
use tokio::{net::TcpListener, sync::watch};

use self::envoy::*;
use crate::{
    support::{
        Answer, Pair, TestApp, operator,
        program::{Server, create_platform},
    },
    verify::{IDENTITY, identity, payments},
};

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// The messages as Envoy's documents have them: maps, text, and fields that nobody reads.
mod envoy {
    use std::collections::HashMap;

    macro_rules! messages {
        ($($name:ident { $(#[$meta:meta] $field:ident: $kind:ty,)* })*) => {
            $(#[derive(Clone, PartialEq, prost::Message)]
            pub(super) struct $name { $(#[$meta] pub(super) $field: $kind,)* })*
        };
    }

    messages! {
        CheckRequest {
            #[prost(message, optional, tag = "1")] attributes: Option<Attributes>,
        }
        Attributes {
            #[prost(message, optional, tag = "1")] source: Option<Peer>,
            #[prost(message, optional, tag = "4")] request: Option<AttributeRequest>,
            #[prost(map = "string, string", tag = "10")] context_extensions: HashMap<String, String>,
        }
        Peer {
            #[prost(string, tag = "4")] principal: String,
        }
        AttributeRequest {
            #[prost(message, optional, tag = "2")] http: Option<HttpRequest>,
        }
        HttpRequest {
            #[prost(string, tag = "1")] id: String,
            #[prost(string, tag = "2")] method: String,
            #[prost(map = "string, string", tag = "3")] headers: HashMap<String, String>,
            #[prost(string, tag = "4")] path: String,
            #[prost(string, tag = "5")] host: String,
            #[prost(int64, tag = "9")] size: i64,
            #[prost(bytes = "vec", tag = "12")] raw_body: Vec<u8>,
            #[prost(message, optional, tag = "13")] header_map: Option<HeaderMap>,
        }
        HeaderMap {
            #[prost(message, repeated, tag = "1")] headers: Vec<HeaderValue>,
        }
        HeaderValue {
            #[prost(string, tag = "1")] key: String,
            #[prost(string, tag = "2")] value: String,
            #[prost(bytes = "vec", tag = "3")] raw_value: Vec<u8>,
        }
        CheckResponse {
            #[prost(message, optional, tag = "1")] status: Option<Status>,
            #[prost(message, optional, tag = "2")] denied: Option<Denied>,
            #[prost(message, optional, tag = "3")] allowed: Option<Allowed>,
        }
        Status {
            #[prost(int32, tag = "1")] code: i32,
        }
        Denied {
            #[prost(message, optional, tag = "1")] status: Option<HttpStatus>,
            #[prost(message, repeated, tag = "2")] headers: Vec<HeaderOption>,
            #[prost(string, tag = "3")] body: String,
        }
        HttpStatus {
            #[prost(int32, tag = "1")] code: i32,
        }
        Allowed {
            #[prost(message, repeated, tag = "2")] headers: Vec<HeaderOption>,
            #[prost(string, repeated, tag = "5")] headers_to_remove: Vec<String>,
        }
        HeaderOption {
            #[prost(message, optional, tag = "1")] header: Option<HeaderValue>,
            #[prost(bool, optional, tag = "2")] append: Option<bool>,
            #[prost(int32, tag = "3")] append_action: i32,
        }
    }
}

/// An app behind real listeners.
struct Listening {
    app: TestApp,
    address: SocketAddr,
    _end: watch::Sender<bool>,
}

impl Listening {
    async fn new() -> Self {
        let app = TestApp::new().await;
        let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners { api: bind().await, admin: bind().await, ext_authz: Some(bind().await) };
        let address = listeners.ext_authz.as_ref().unwrap().local_addr().unwrap();
        let (end, ending) = watch::channel(false);
        let serving = app.app.clone();
        tokio::spawn(async move {
            let config = Config::layered(&Default::default(), [], None).unwrap();
            serve(serving, listeners, &config, ending).await;
        });
        Self { app, address, _end: end }
    }

    /// With operations to decide by.
    async fn with_operations() -> Self {
        let listening = Self::new().await;
        listening.app.authority.load_operations(&operator(), &payments()).await.unwrap();
        listening
    }

    async fn connect(&self) -> Connection {
        Connection::to(self.address).await
    }

    async fn assert_no_panic(&self) {
        let request = Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
        let page = self.app.app.answer_admin(request, ([127, 0, 0, 1], 1).into()).await.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&page).contains("countersign_panics_total 0\n"));
    }
}

type Sent = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// A connection that is kept.
#[derive(Clone)]
struct Connection(SendRequest<Sent>);

/// What came back.
#[derive(Debug)]
struct Called {
    status: u16,
    headers: HeaderMap,
    /// Of the trailers, or of a head that is both.
    grpc: Option<i32>,
    body: Bytes,
}

impl Called {
    /// A message, and that all went well.
    #[track_caller]
    fn message(&self) -> CheckResponse {
        assert_eq!((self.status, self.grpc), (200, Some(0)), "{self:?}");
        assert_eq!(self.headers["content-type"], "application/grpc");
        assert_eq!(self.body[..5], [&[0][..], &u32::try_from(self.body.len() - 5).unwrap().to_be_bytes()].concat());
        CheckResponse::decode(&self.body[5..]).unwrap()
    }

    /// Envoy lets this pass.
    fn passes(&self) -> bool {
        self.grpc == Some(0) && CheckResponse::decode(&self.body[5..]).is_ok_and(|message| message.status.unwrap_or_default().code == 0)
    }

    /// No message, for this reason.
    #[track_caller]
    fn failed(&self, grpc: i32) {
        assert_eq!((self.status, self.grpc, self.body.len()), (200, Some(grpc), 0), "{self:?}");
    }
}

impl Connection {
    async fn to(address: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn try_send(&self, request: Request<Sent>) -> Option<Called> {
        let mut sender = self.0.clone();
        sender.ready().await.ok()?;
        let (parts, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?;
        let status = |headers: &HeaderMap| headers.get("grpc-status").map(|status| status.to_str().unwrap().parse().unwrap());
        let grpc = body.trailers().map_or_else(|| status(&parts.headers), status);
        Some(Called { status: parts.status.as_u16(), headers: parts.headers, grpc, body: body.to_bytes() })
    }

    async fn send(&self, request: Request<Sent>) -> Called {
        self.try_send(request).await.expect("an answer")
    }

    async fn check(&self, check: &Check) -> Called {
        self.send(call(framed(&check.message().encode_to_vec()))).await
    }
}

fn call(body: Vec<u8>) -> Request<Sent> {
    let request = Request::post(format!("http://countersign{CHECK}")).header("content-type", "application/grpc").header("te", "trailers");
    request.body(Full::new(Bytes::from(body)).map_err(std::io::Error::other).boxed_unsync()).unwrap()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// What Envoy says that a client asked.
#[derive(Debug, Clone, Default)]
struct Check {
    method: String,
    path: String,
    authorization: Vec<String>,
    raw: bool,
    extensions: HashMap<String, String>,
}

impl Check {
    fn of(method: &str, path: &str, by: Option<&Pair>) -> Self {
        let authorization = by.map(Pair::basic).into_iter().collect();
        Self { method: method.to_owned(), path: path.to_owned(), authorization, ..Self::default() }
    }

    fn authorization(mut self, values: &[&str]) -> Self {
        self.authorization = values.iter().map(|&value| value.to_owned()).collect();
        self
    }

    fn raw(mut self) -> Self {
        self.raw = true;
        self
    }

    fn route(mut self, extensions: &[(&str, &str)]) -> Self {
        self.extensions = extensions.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        self
    }

    fn message(&self) -> CheckRequest {
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
fn headers(options: &[HeaderOption]) -> HashMap<&str, &str> {
    let pair = |option: &'_ HeaderOption| {
        assert_eq!((option.append, option.append_action), (None, 2), "OVERWRITE_IF_EXISTS_OR_ADD");
    };
    options.iter().for_each(pair);
    let pairs: HashMap<_, _> = options.iter().map(|option| option.header.as_ref().unwrap()).map(|h| (&*h.key, &*h.value)).collect();
    assert_eq!(pairs.len(), options.len(), "one is there twice");
    pairs
}

/// What a message says is what the HTTP way says.
#[track_caller]
fn assert_same(message: &CheckResponse, http: &Answer) {
    let code = message.status.as_ref().unwrap().code;
    match http.status.as_u16() {
        200 => {
            assert_eq!((code, &message.denied), (0, &None));
            let allowed = message.allowed.as_ref().unwrap();
            let told = headers(&allowed.headers);
            assert_eq!(told.len(), IDENTITY.len());
            assert_eq!(IDENTITY.map(|name| told.get(name).copied()), identity(http));
            assert_eq!(allowed.headers_to_remove, ["authorization"]);
        }
        status => {
            assert_eq!((code, &message.allowed), (HashMap::from([(401, 16), (403, 7), (503, 14)])[&status], &None));
            let denied = message.denied.as_ref().unwrap();
            assert_eq!((denied.status.as_ref().unwrap().code, denied.body.as_bytes()), (i32::from(status), &*http.body));
            let told = headers(&denied.headers);
            for name in ["content-type", "cache-control", "www-authenticate", "retry-after"] {
                assert_eq!(told.get(name).copied(), http.header(name), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn it_decides_as_over_http() {
    let listening = Listening::new().await;
    let app = &listening.app;
    let connection = listening.connect().await;
    let (view, revoked) = (app.token("v", &["VIEW"]).await, app.token("r", &["VIEW"]).await);
    app.delete(&format!("{}/{}", crate::support::GRID, revoked.id)).send().await.expect(204);
    let wrong = Pair { secret: revoked.secret.clone(), ..view.clone() };
    let callers = [None, Some(&view), Some(&revoked), Some(&wrong), Some(&app.sandbox), Some(&app.production)];
    let mut statuses = HashMap::new();
    for loaded in [false, true] {
        if loaded {
            app.authority.load_operations(&operator(), &payments()).await.unwrap();
        }
        for by in callers {
            // By operation.
            for (method, path) in [
                ("GET", "/v1/customers?limit=5&require=BOGUS&env=production"),
                ("POST", "/v1/customers"),
                ("HEAD", "/v1/customers/42"),
                ("GET", "/v1/customers/export"),
                ("GET", "/v1/customers/%65xport"),
                ("GET", "/v1/customers/../me"),
                ("GET", "//v1/me"),
                ("GET", "/v1/me"),
                ("GET", "/v1/reports"),
                ("DELETE", "/v1/me"),
                ("get", "/v1/me"),
                ("POST", "/v1/batches/b/approve"),
                ("GET", "/"),
            ] {
                let request = app.request(Method::from_bytes(method.as_bytes()).unwrap(), &format!("/verify/envoy{path}"));
                // A HEAD over HTTP has the body of a refusal as well: nothing of ours cuts it off.
                let http = by.map_or_else(
                    || request.anonymous(),
                    |by| app.request(method.parse().unwrap(), &format!("/verify/envoy{path}")).auth(by),
                );
                let http = http.expecting_5xx().send().await;
                let check = Check::of(method, path, by);
                for check in [check.clone(), check.clone().raw(), check.route(&[("operations", "on")])] {
                    assert_same(&connection.check(&check).await.message(), &http);
                }
                *statuses.entry(http.status.as_u16()).or_insert(0) += 1;
            }
            // By what the route asks for, alone and besides.
            for pairs in [
                &[][..],
                &[("require", "VIEW")],
                &[("require", "MANAGE")],
                &[("require", "TRANSACT,VIEW"), ("env", "sandbox")],
                &[("env", "production")],
                &[("require", "")],
                &[("require", "ADMIN")],
                &[("require", "view")],
                &[("env", "live")],
                &[("env", "")],
                &[("requires", "VIEW")],
                &[("Require", "VIEW")],
            ] {
                let query = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
                let mark = if query.is_empty() { "" } else { "?" };
                let ask = |path: &str| by.map_or_else(|| app.get(path).anonymous(), |by| app.get(path).auth(by)).expecting_5xx();
                let http = ask(&format!("/verify{mark}{query}")).send().await;
                let off = Check::of("PROPFIND", "no/../path", by).route(&[pairs, &[("operations", "off")]].concat());
                assert_same(&connection.check(&off).await.message(), &http);
                let http = ask(&format!("/verify/nginx{mark}{query}"))
                    .header("x-original-method", "GET")
                    .header("x-original-uri", "/v1/customers")
                    .send()
                    .await;
                let on = Check::of("GET", "/v1/customers", by).route(pairs);
                assert_same(&connection.check(&on).await.message(), &http);
                *statuses.entry(http.status.as_u16()).or_insert(0) += 1;
            }
        }
    }
    assert!([200, 401, 403, 503].iter().all(|status| statuses[status] > 10), "{statuses:?}");
    listening.assert_no_panic().await;
}

#[tokio::test]
async fn a_routes_configuration_is_understood_whole_or_nobody_passes() {
    let listening = Listening::with_operations().await;
    let connection = listening.connect().await;
    let by = &listening.app.sandbox;
    for (extensions, passes) in [
        (vec![("operations", "off")], true),
        (vec![("operations", "on")], true),
        (vec![("operations", "off"), ("require", "MANAGE"), ("env", "sandbox")], true),
        (vec![("operations", "")], false),
        (vec![("operations", "OFF")], false),
        (vec![("operations", "no")], false),
        (vec![("operation", "off")], false),
        (vec![("operations", "off"), ("environment", "sandbox")], false),
        (vec![("", "")], false),
    ] {
        let message = connection.check(&Check::of("GET", "/v1/me", Some(by)).route(&extensions)).await.message();
        assert_eq!(message.status.unwrap().code, if passes { 0 } else { 14 }, "{extensions:?}");
        assert_eq!(message.denied.map(|denied| denied.status.unwrap().code), (!passes).then_some(503));
    }
    // On the wire a map can say a thing twice.
    for (first, second) in [("off", "on"), ("off", "off")] {
        let whole = |value| Check::of("GET", "/v1/me", Some(by)).route(&[("operations", value)]).message().encode_to_vec();
        let only = |value: &str| {
            let context_extensions = [("operations".to_owned(), value.to_owned())].into();
            CheckRequest { attributes: Some(Attributes { context_extensions, ..Attributes::default() }) }.encode_to_vec()
        };
        let message = connection.send(call(framed(&[whole(first), only(second)].concat()))).await.message();
        assert_eq!(message.status.unwrap().code, 14);
    }
}

/// A-06: two of them, even if each is right.
#[tokio::test]
async fn a_06_two_credentials_are_none() {
    let listening = Listening::with_operations().await;
    let connection = listening.connect().await;
    let basic = listening.app.sandbox.basic();
    let me = || Check::of("GET", "/v1/me", None);
    let code = async |check: Check| connection.check(&check).await.message().status.unwrap().code;
    assert_eq!(code(me().authorization(&[&basic])).await, 0);
    assert_eq!(code(me().authorization(&[&basic]).raw()).await, 0);
    for values in [&[&*basic, &*basic][..], &["", &basic], &[&basic, ""], &[&basic, "Basic x"], &[&format!(" {basic}")], &["Bearer x"]] {
        assert_eq!(code(me().authorization(values)).await, 16, "{values:?}");
        assert_eq!(code(me().authorization(values).raw()).await, 16, "{values:?}");
    }
    // In both forms at once, twice in the map, or in two cases.
    let one = me().authorization(&[&basic]).message();
    let mut both = one.clone();
    let http = |message: &mut CheckRequest| message.attributes.as_mut().unwrap().request.as_mut().unwrap().http.clone().unwrap();
    let mut request = http(&mut both);
    request.header_map = http(&mut me().authorization(&[&basic]).raw().message()).header_map;
    both.attributes.as_mut().unwrap().request.as_mut().unwrap().http = Some(request);
    let mut cases = one.clone();
    let mut request = http(&mut cases);
    request.headers.insert("Authorization".to_owned(), basic.clone());
    cases.attributes.as_mut().unwrap().request.as_mut().unwrap().http = Some(request);
    for bytes in [both.encode_to_vec(), cases.encode_to_vec(), one.encode_to_vec().repeat(2)] {
        assert_eq!(connection.send(call(framed(&bytes))).await.message().status.unwrap().code, 16);
    }
}

/// A-31: where it can't be known, nobody passes.
#[tokio::test]
async fn a_31_what_cannot_be_known_is_no_pass() {
    let listening = Listening::with_operations().await;
    let connection = listening.connect().await;
    let app = &listening.app;
    let fresh = app.token("fresh", &["VIEW"]).await;
    app.authority.follow().unwrap();
    let check = Check::of("GET", "/v1/me", Some(&fresh)).route(&[("operations", "off")]);
    // A defect in the middle.
    app.clock.panics.store(true, std::sync::atomic::Ordering::SeqCst);
    connection.check(&check).await.failed(13);
    assert!(connection.check(&check).await.passes(), "the connection lives on");
    // The lease is over: the database is asked, and then it is gone.
    app.clock.advance(Duration::from_secs(2));
    assert!(connection.check(&check).await.passes());
    let database = rusqlite::Connection::open(app.directory.path().join("countersign.db")).unwrap();
    database.execute_batch("PRAGMA foreign_keys = OFF; ALTER TABLE token RENAME TO hidden").unwrap();
    let message = connection.check(&check).await.message();
    let denied = message.denied.unwrap();
    assert_eq!((message.status.unwrap().code, denied.status.unwrap().code), (14, 503));
    assert_eq!(headers(&denied.headers)["retry-after"], "1");
    assert_eq!(connection.check(&check.clone().authorization(&[])).await.message().status.unwrap().code, 16);
    database.execute_batch("ALTER TABLE hidden RENAME TO token").unwrap();
    assert!(connection.check(&check).await.passes());
}

#[tokio::test]
async fn what_is_no_call_of_the_one_method() {
    let listening = Listening::with_operations().await;
    let connection = listening.connect().await;
    let good = Check::of("GET", "/v1/me", Some(&listening.app.sandbox)).message().encode_to_vec();
    let changed = async |change: &dyn Fn(&mut Request<Sent>)| {
        let mut request = call(framed(&good));
        change(&mut request);
        connection.send(request).await
    };
    assert!(changed(&|_| {}).await.passes());
    for path in ["/", "/envoy.service.auth.v3.Authorization/check", "/envoy.service.auth.v2.Authorization/Check", "/x/Check", "/verify"] {
        changed(&|request| *request.uri_mut() = format!("http://countersign{path}").parse().unwrap()).await.failed(12);
    }
    for content_type in ["", "application/json", "application/grpcx", "application/grpc-web", "application/grpc+json", "application/GRPC"] {
        let called = changed(&|request| drop(request.headers_mut().insert("content-type", content_type.parse().unwrap()))).await;
        assert_eq!((called.status, called.grpc, called.body.len()), (415, None, 0), "{content_type}");
    }
    assert_eq!(changed(&|request| drop(request.headers_mut().remove("content-type"))).await.status, 415);
    for content_type in ["application/grpc+proto", "application/grpc; charset=x", "application/grpc+proto;x"] {
        assert!(changed(&|request| drop(request.headers_mut().insert("content-type", content_type.parse().unwrap()))).await.passes());
    }
    for method in ["GET", "PUT", "HEAD", "OPTIONS", "post"] {
        let called = changed(&|request| *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap()).await;
        assert_eq!((called.status, called.grpc), (405, None), "{method}");
    }
    // A head that is too large ends its stream.
    let large = changed(&|request| drop(request.headers_mut().insert("x", "a".repeat(15_000).parse().unwrap()))).await;
    assert!(large.passes());
    let mut request = call(framed(&good));
    request.headers_mut().insert("x", "a".repeat(20_000).parse().unwrap());
    assert!(connection.try_send(request).await.is_none_or(|called| called.status == 431));
    assert!(listening.connect().await.send(call(framed(&good))).await.passes());
}

#[tokio::test]
async fn malformed_messages_let_nobody_pass() {
    let listening = Listening::with_operations().await;
    let connection = listening.connect().await;
    let good = Check::of("GET", "/v1/me", Some(&listening.app.sandbox)).message().encode_to_vec();
    let whole = framed(&good);
    let with = |flag: u8, length: usize| [&[flag][..], &u32::try_from(length).unwrap().to_be_bytes(), &good].concat();
    for (status, body) in [
        (3, vec![]),
        (3, vec![0]),
        (3, whole[..4].to_vec()),
        (3, whole[..whole.len() - 1].to_vec()),
        (3, [&whole[..], &[0]].concat()),
        (3, whole.repeat(2)),
        (3, with(0, good.len() - 1)),
        (3, with(0, good.len() + 1)),
        (8, with(0, u32::MAX as usize)),
        (3, with(2, good.len())),
        (3, with(255, good.len())),
        (12, with(1, good.len())),
        (3, framed(&good[..good.len() - 1])),
        (3, framed(&[0xff; 20])),
        (3, framed(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])),
        // A group, wound up deeper than anything is.
        (3, framed(&[0x0b; 60_000])),
        (8, framed(&[0; 65_537])),
        (8, framed(&[0; 1_000_000])),
    ] {
        let called = connection.send(call(body.clone())).await;
        called.failed(status);
        assert!(called.headers.contains_key("grpc-message"), "{called:?}");
    }
    assert_eq!(connection.send(call(with(1, good.len()))).await.headers["grpc-accept-encoding"], "identity");
    // Just as large as it may be.
    let mut padded = Check::of("GET", "/v1/me", Some(&listening.app.sandbox)).message();
    let http = padded.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.raw_body = vec![7; 60_000];
    let short = 65_536 - padded.encoded_len();
    padded.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap().raw_body = vec![7; 60_000 + short];
    assert_eq!(padded.encoded_len(), 65_536);
    assert!(connection.send(call(framed(&padded.encode_to_vec()))).await.passes());
    // A message without anything in it is understood, and proves nobody.
    assert_eq!(connection.send(call(framed(&[]))).await.message().status.unwrap().code, 16);
    listening.assert_no_panic().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ask_on_one_connection() {
    let listening = Listening::with_operations().await;
    let connection = listening.connect().await;
    let view = listening.app.token("v", &["VIEW"]).await;
    let may = Check::of("GET", "/v1/customers", Some(&view));
    let (may_not, nobody) = (Check::of("POST", "/v1/customers", Some(&view)), Check::of("GET", "/v1/customers", None));
    // One behind the other, and no answer is another's.
    for _ in 0..3 {
        for (check, code) in [(&may, 0), (&may_not, 7), (&nobody, 16)] {
            assert_eq!(connection.check(check).await.message().status.unwrap().code, code);
        }
    }
    // More than may be open at once: the rest waits in the client.
    let calls = (0..600).map(|n| {
        let (connection, check, code) = (connection.clone(), [&may, &may_not, &nobody][n % 3].clone(), [0, 7, 16][n % 3]);
        async move { assert_eq!(connection.check(&check).await.message().status.unwrap().code, code) }
    });
    join_all(calls).await;
    // In pieces, each as small as can be, while another is asked and answered.
    let bytes = framed(&may.message().encode_to_vec());
    let pieces = bytes.into_iter().map(|byte| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![byte]))));
    let slow = call(vec![]).map(|_| StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync());
    let (slow, quick) = tokio::join!(connection.send(slow), connection.check(&may_not));
    assert!(slow.passes() && !quick.passes());
    // Calls that are given up leave nothing behind.
    for _ in 0..200 {
        let given_up = connection.0.clone().send_request(call(framed(&may.message().encode_to_vec())));
        let _ = tokio::time::timeout(Duration::from_micros(50), given_up).await;
    }
    assert!(listening.connect().await.check(&may).await.passes());
    listening.assert_no_panic().await;
}

#[tokio::test]
async fn r_01_a_revoke_is_true_when_it_returns() {
    let listening = Listening::with_operations().await;
    let connection = listening.connect().await;
    for _ in 0..20 {
        let token = listening.app.token("a", &["VIEW"]).await;
        let check = Check::of("GET", "/v1/me", Some(&token));
        assert!(connection.check(&check).await.passes());
        listening.app.delete(&format!("{}/{}", crate::support::GRID, token.id)).send().await.expect(204);
        assert!(!connection.check(&check).await.passes());
    }
}

/// Whatever is sent: no panic, and nobody passes who has no credential.
#[test]
fn nothing_that_is_malformed_passes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (listening, connection) = runtime.block_on(async {
        let listening = Listening::with_operations().await;
        let connection = listening.connect().await;
        (listening, connection)
    });
    let good = Check::of("GET", "/v1/me", Some(&listening.app.sandbox)).message().encode_to_vec();
    let nobody = Check::of("GET", "/v1/me", None).route(&[("operations", "off")]).message().encode_to_vec();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) };
    let refused = |called: Called| {
        prop_assert!(!called.passes(), "{:?}", called);
        prop_assert!(matches!(called.grpc, Some(0 | 3 | 8 | 12)), "{:?}", called);
        Ok(())
    };
    // Bytes, with and without a frame around them; one without a credential, changed in places.
    proptest!(config.clone(), |(bytes in proptest::collection::vec(any::<u8>(), 0..300), frame: bool)| {
        refused(runtime.block_on(connection.send(call(if frame { framed(&bytes) } else { bytes }))))?;
    });
    proptest!(config.clone(), |(places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index)| {
        let mut bytes = nobody.clone();
        for (place, byte) in &places {
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
        bytes.truncate(bytes.len() - cut.index(3));
        refused(runtime.block_on(connection.send(call(framed(&bytes)))))?;
    });
    // A good one, cut off anywhere, with a frame that says so or not.
    proptest!(config.clone(), |(cut in 0..good.len(), honest: bool)| {
        let bytes = if honest { framed(&good[..cut]) } else { framed(&good)[..cut].to_vec() };
        let called = runtime.block_on(connection.send(call(bytes)));
        prop_assert!(matches!(called.grpc, Some(0 | 3)), "{:?}", called);
    });
    // No HTTP/2 at all, or not for long.
    proptest!(ProptestConfig { cases: 60, ..config }, |(bytes in proptest::collection::vec(any::<u8>(), 0..200), preface: bool, settings: bool)| {
        let mut all = if preface { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() } else { vec![] };
        if settings {
            all.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        }
        all.extend(bytes);
        let mut stream = TcpStream::connect(listening.address).unwrap();
        let _ = stream.write_all(&all);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        prop_assert!(!answer.windows(16).any(|part| part == b"x-auth-token-id:"));
    });
    runtime.block_on(async {
        assert!(listening.connect().await.send(call(framed(&good))).await.passes());
        listening.assert_no_panic().await;
    });
}

/// The built program, listening for Envoy.
struct Program {
    server: Server,
    root: Pair,
    _data: tempfile::TempDir,
}

impl Program {
    fn new(more: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (_, [root, _]) = create_platform(data.path(), "Acme");
        let server = Server::start_with(data.path(), &[&["--ext-authz-listen", "127.0.0.1:0"], more].concat());
        Self { server, root, _data: data }
    }

    fn address(&self) -> SocketAddr {
        self.server.ext_authz.expect("it is announced")
    }

    fn check(&self) -> Check {
        Check::of("GET", "/x", Some(&self.root)).route(&[("operations", "off")])
    }
}

#[tokio::test]
async fn it_is_off_unless_it_is_switched_on() {
    let data = tempfile::tempdir().unwrap();
    assert_eq!(Server::start(data.path()).ext_authz, None);
    let program = Program::new(&[]);
    assert!(Connection::to(program.address()).await.check(&program.check()).await.passes());
    // Nothing else is answered there, and it is not answered elsewhere.
    let answer = crate::support::program::exchange(program.address(), b"GET /verify HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(!answer.windows(5).any(|part| part == b"HTTP/"), "{answer:?}");
    let (status, _) = program.server.send("POST", CHECK, &program.root, &serde_json::Value::Null);
    assert_eq!(status, 404);
}

/// O-01, O-02: each wait for a client ends.
#[tokio::test]
async fn o_01_o_02_nobody_waits_forever() {
    let program =
        Program::new(&["--header-timeout", "300ms", "--body-timeout", "300ms", "--idle-timeout", "300ms", "--write-timeout", "300ms"]);
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    for (what, bytes) in [
        ("nothing is sent", vec![]),
        ("half a preface", PREFACE[..12].to_vec()),
        ("no request", PREFACE.to_vec()),
        ("half a frame", [PREFACE, b"\x00\x00\x20\x01\x04"].concat()),
        ("half a head", [PREFACE, b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x83"].concat()),
    ] {
        let mut stream = TcpStream::connect(program.address()).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "{what}: it stays open");
    }
    // Half a message.
    let connection = Connection::to(program.address()).await;
    let half = futures_util::StreamExt::chain(
        futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(&[0, 0, 0])))]),
        futures_util::stream::pending(),
    );
    connection.send(call(vec![]).map(|_| StreamBody::new(half).boxed_unsync())).await.failed(4);
    // No next request: it is told to go, and what it then asks goes elsewhere.
    assert!(connection.check(&program.check()).await.passes());
    let mut sender = connection.0.clone();
    tokio::time::timeout(Duration::from_secs(20), async {
        while !sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sender.ready().await.unwrap_err()
    })
    .await
    .expect("it stays open");
    assert!(Connection::to(program.address()).await.check(&program.check()).await.passes());
}

#[tokio::test]
async fn the_end_waits_for_what_is_under_way() {
    let program = Program::new(&["--drain-timeout", "15s"]);
    let (connection, idle) = (Connection::to(program.address()).await, Connection::to(program.address()).await);
    assert!(idle.check(&program.check()).await.passes());
    let bytes = framed(&program.check().message().encode_to_vec());
    let (send, receive) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let pieces = futures_util::stream::unfold(receive, async |mut receive| {
        receive.recv().await.map(|bytes| (Ok::<_, std::io::Error>(Frame::data(bytes)), receive))
    });
    let calling = {
        let connection = connection.clone();
        tokio::spawn(async move { connection.send(call(vec![]).map(|_| StreamBody::new(pieces).boxed_unsync())).await })
    };
    send.send(Bytes::copy_from_slice(&bytes[..7])).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    program.server.signal("-TERM");
    // Nobody new.
    let address = program.address();
    for _ in 0..200 {
        if TcpStream::connect(address).is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(TcpStream::connect(address).is_err());
    // Long enough for all that look whether somebody should go.
    tokio::time::sleep(Duration::from_millis(700)).await;
    send.send(Bytes::copy_from_slice(&bytes[7..])).unwrap();
    drop(send);
    assert!(calling.await.unwrap().passes());
    let (code, _) = tokio::task::spawn_blocking(move || program.server.wait()).await.unwrap();
    assert_eq!(code, Some(0));
}

/// Who does not answer when asked whether it is there is gone; who does may stay, and say nothing else.
#[tokio::test]
async fn who_is_gone_is_noticed() {
    let program = Program::new(&["--header-timeout", "1s"]);
    // SETTINGS, and GET / in one frame: answered with 405, and then nothing more is said.
    let gone = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".as_slice(),
        b"\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x01x",
    ]
    .concat();
    let mut stream = TcpStream::connect(program.address()).unwrap();
    stream.write_all(&gone).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let stays = Connection::to(program.address()).await;
    assert!(stays.check(&program.check()).await.passes());
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map(|_| answer)
    });
    // A HEADERS frame in stream 1, before it ends.
    let answer = answer.await.unwrap().expect("it stays open");
    assert!(answer.windows(6).any(|part| part == b"\x01\x05\x00\x00\x00\x01"), "{answer:?}");
    assert!(stays.check(&program.check()).await.passes());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(stays.check(&program.check()).await.passes());
}
