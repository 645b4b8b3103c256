//! The outermost layer: what every answer has, whatever happened inside.
//!
//! A request id, `Cache-Control: no-store`, the envelope even after a panic, one log line; and the connection ends where
//! a request's body was not read.

use std::{
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header, request::Parts, uri::Authority};
use http_body::Body as _;
use hyper::body::Incoming;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use super::{
    App,
    auth::RequestContext,
    connection::{Known, holding},
    console,
    envelope::{ClientCode, Refusal},
    source, v1,
};
use crate::{
    domain::{Invalid, RequestInfo},
    measure::Stopwatch,
    spans,
};

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The request line, without its method and version.
const TARGET_LIMIT: usize = 8 * 1024;
/// All header fields.
const HEADERS_LIMIT: usize = 16 * 1024;

/// Answers a request that came over a connection.
pub(super) async fn answer(app: App, router: axum::Router, request: Request<Incoming>, peer: SocketAddr) -> Response {
    let (mut parts, body) = request.into_parts();
    if let Some(refusal) = misframed(&parts) {
        parts.extensions.insert(refusal);
    }
    let unread = (!body.is_end_stream()).then(|| Arc::new(AtomicBool::new(true)));
    let body = match &unread {
        None => Body::empty(),
        Some(unread) => Body::new(Noting { body, unread: Arc::clone(unread) }),
    };
    let mut response = answer_routed(app, router, Request::from_parts(parts, body), peer).await;
    if unread.is_some_and(|unread| unread.load(Ordering::Relaxed)) {
        // What is left of the body would be taken for the next request, or would have to be swallowed first.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Answers a request in the process, as tests send it.
pub(super) async fn answer_routed(app: App, router: axum::Router, mut request: Request, peer: SocketAddr) -> Response {
    let began = Stopwatch::start();
    let forwarded = request.headers().get_all(source::FORWARDED_FOR).iter().map(HeaderValue::as_bytes);
    let source = app.source(forwarded, peer);
    let info = RequestInfo { id: request_id(&app, &request), source: source.to_string() };
    let context = RequestContext { info, source, caller: Arc::default(), receipt: Arc::default(), one_of_theirs: Arc::default() };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = spans::of_request(&method, request.headers(), Some(&context.info.id));
    request.extensions_mut().insert(context.clone());
    let route = Arc::new(std::sync::OnceLock::new());
    request.extensions_mut().insert(Route(Arc::clone(&route)));

    let refused = request
        .extensions_mut()
        .remove::<Misframed>()
        .map(|Misframed(field)| misframed_refusal(field))
        .or_else(|| too_large(request.uri(), request.headers()));
    let timeout = v1::patience(&path, app.limits.request_timeout);
    let answered = async {
        match refused {
            Some(refusal) => Ok(refusal.into_response()),
            None => {
                AssertUnwindSafe(tokio::time::timeout(timeout, router.oneshot(request))).catch_unwind().await.map(|answered| match answered
                {
                    Ok(Ok(response)) => response,
                    Ok(Err(never)) => match never {},
                    Err(_) => {
                        tracing::error!(request_id = context.info.id, "a request was not answered in time");
                        Refusal::unavailable().closing().into_response()
                    }
                })
            }
        }
    };
    let mut response = answered.instrument(span.clone()).await.unwrap_or_else(|_| {
        app.metrics.panics.inc();
        Refusal::internal().closing().into_response()
    });

    // Who is told to come back later gives up their place to others.
    if context.caller.get().is_some() && response.status() != StatusCode::TOO_MANY_REQUESTS {
        response.extensions_mut().insert(Known);
    }
    // What is made while it is sent is under way until it is.
    if context.one_of_theirs.get().is_some() && response.body().size_hint().exact().is_none() {
        response = response.map(|body| Body::new(holding(body, context.one_of_theirs)));
    }
    console::guard(&path, &mut response);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::DATE, app.date());
    if app.is_ending() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Ok(id) = HeaderValue::from_str(&context.info.id) {
        headers.insert(REQUEST_ID, id);
    }
    let took = began.took();
    let (route, caller) = (route.get().map(String::as_str), context.caller.get().map(String::as_str));
    app.metrics.requested(&method, route, response.status(), took);
    spans::answered(&span, &method, route, response.status().as_u16(), caller);
    let _entered = span.enter();
    let receipt = context.receipt.get();
    // The route, not the path: what a client puts into a path may be anything.
    tracing::info!(
        request_id = context.info.id,
        source = context.info.source,
        method = method.as_str(),
        route = route.unwrap_or("-"),
        path_bytes = path.len(),
        status = response.status().as_u16(),
        caller = caller.unwrap_or("-"),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        seq = receipt.and_then(|receipt| receipt.seq),
        effective_at = receipt.map(|receipt| tracing::field::display(receipt.effective_at)),
        unheard = receipt.filter(|receipt| !receipt.unheard.is_empty()).map(|receipt| receipt.unheard.join(",")),
        "request"
    );
    response
}

/// Where the router notes which of its routes it took.
#[derive(Clone)]
pub(super) struct Route(Arc<std::sync::OnceLock<String>>);

/// Notes the route.
pub(super) async fn note_route(request: Request, next: axum::middleware::Next) -> Response {
    if let (Some(Route(route)), Some(path)) = (request.extensions().get(), request.extensions().get::<MatchedPath>()) {
        let _ = route.set(path.as_str().to_owned());
    }
    next.run(request).await
}

/// The caller's id, if it sent one well-formed one that is not a secret sent by mistake; else a new one.
fn request_id(app: &App, request: &Request) -> String {
    let mut values = request.headers().get_all(REQUEST_ID).iter();
    let theirs = match (values.next(), values.next()) {
        (Some(value), None) if may_be_taken_over(value.as_bytes()) => value.to_str().ok(),
        _ => None,
    };
    theirs.map_or_else(|| app.request_id_text(), str::to_owned)
}

/// Whether a caller's own id is well-formed, and no secret sent by mistake.
pub(super) fn may_be_taken_over(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id.iter().all(u8::is_ascii_graphic)
        && ![&b"iksec_"[..], b"csop_"].iter().any(|mark| id.windows(mark.len()).any(|part| part == *mark))
}

/// Whether a head is as RFC 9112 has it, and no longer than allowed.
pub(super) fn is_well_formed(parts: &Parts) -> bool {
    misframed(parts).is_none() && too_large(&parts.uri, &parts.headers).is_none()
}

/// The part of a request's head that another program on the way could read differently.
#[derive(Clone)]
struct Misframed(&'static str);

/// Finds what the HTTP library lets through and RFC 9112 does not.
fn misframed(parts: &Parts) -> Option<Misframed> {
    let values = |name: HeaderName| parts.headers.get_all(name).iter().map(|value| value.to_str().unwrap_or(","));
    let (mut hosts, mut codings) = (values(header::HOST), values(header::TRANSFER_ENCODING));
    let host_ok = match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_plain_host(host) || host.is_empty() || (host.parse::<Authority>().is_ok() && !host.contains('@')),
        (None, _) => parts.version < Version::HTTP_11,
        _ => false,
    };
    let coding_ok = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.eq_ignore_ascii_case("chunked") && !parts.headers.contains_key(header::CONTENT_LENGTH),
        _ => false,
    };
    let scheme_ok = parts.uri.scheme_str().is_none_or(|scheme| scheme == "http" || scheme == "https");
    let field = [(host_ok, "Host"), (coding_ok, "Transfer-Encoding"), (scheme_ok, "path")].into_iter().find(|(ok, _)| !ok);
    field.map(|(_, field)| Misframed(field))
}

/// Whether a host is a name or an address as they all are: what else could be one is for a parser to say.
pub(super) fn is_plain_host(host: &str) -> bool {
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    !name.is_empty() && name.bytes().all(of_name) && (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn misframed_refusal(field: &str) -> Refusal {
    Refusal::invalid(&Invalid::one(field, "http", "is not as RFC 9112 has it")).closing()
}

fn too_large(uri: &Uri, headers: &HeaderMap) -> Option<Refusal> {
    let refusal = |status, field: &str, limit: usize| {
        let invalid = Invalid::one(field, "max_length", format!("must have at most {limit} bytes"));
        Some(Refusal::invalid_as(ClientCode::InvalidAs(status), &invalid).closing())
    };
    if uri.path_and_query().map_or(0, |target| target.as_str().len()) > TARGET_LIMIT {
        return refusal(StatusCode::URI_TOO_LONG, "path", TARGET_LIMIT);
    }
    let headers: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers > HEADERS_LIMIT {
        return refusal(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers", HEADERS_LIMIT);
    }
    None
}

/// The whole answer to a request whose head the HTTP library refused with the bare response `theirs`.
pub(super) fn refused_head(theirs: &[u8], id: &str) -> Vec<u8> {
    let status = std::str::from_utf8(theirs.get(9..12).unwrap_or_default()).ok().and_then(|status| status.parse::<StatusCode>().ok());
    let code = match status {
        Some(status @ (StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)) => ClientCode::InvalidAs(status),
        _ => ClientCode::InvalidInput,
    };
    let refusal = Refusal::invalid_as(code, &Invalid::one("request", "http", "is not valid HTTP, or its head is too large"));
    let line = match code {
        ClientCode::InvalidAs(StatusCode::URI_TOO_LONG) => "414 URI Too Long",
        ClientCode::InvalidAs(_) => "431 Request Header Fields Too Large",
        _ => "400 Bad Request",
    };
    let body = refusal.body();
    let length = body.len();
    format!(
        "HTTP/1.1 {line}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\ncache-control: no-store\r\n\
         x-request-id: {id}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A request's body that notes when it was read to its end.
struct Noting {
    body: Incoming,
    unread: Arc<AtomicBool>,
}

impl http_body::Body for Noting {
    type Data = bytes::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let frame = std::pin::Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.unread.store(false, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
