//! Envoy's `ext_authz` over gRPC: `envoy.service.auth.v3.Authorization/Check`.
//!
//! By operation, as at `/verify/envoy`: method and path are members of the message. A route's `context_extensions` can ask
//! for more: `require` and `env` as in the query of `/verify`; and with `operations: "off"` the operation decides nothing.

mod message;
mod unary;

use std::{net::SocketAddr, panic::AssertUnwindSafe};

use axum::extract::Request;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Method, Response, StatusCode, header};
use hyper::body::Incoming;
use prost::Message as _;
use tracing::Instrument as _;

use self::{
    message::{
        Allowed, AppendAction, AttributeContext, CheckRequest, CheckResponse, Denied, HeaderOption, HeaderValue, HttpRequest, HttpStatus,
        Status, Told,
    },
    unary::{Failed, Reply},
};
use super::{
    super::source,
    App, Asked, Decided, Question, Refused, Requirement, decide_asking,
    told::{self, Fields},
};
use crate::{domain::Presented, measure::Stopwatch, spans};

/// The one method.
const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Answers a call. Whatever goes wrong, the answer is a status and no message, so that nobody passes.
pub(in crate::http) async fn answer(app: App, request: Request<Incoming>, peer: SocketAddr) -> Response<Reply> {
    let answered = AssertUnwindSafe(check(&app, request, peer)).catch_unwind().await.unwrap_or_else(|_| {
        app.metrics.panics.inc();
        Err(Failed::Internal)
    });
    unary::reply(answered.as_ref().map_err(|failed| *failed))
}

async fn check(app: &App, request: Request<Incoming>, peer: SocketAddr) -> Result<CheckResponse, Failed> {
    unary::check_head(&request, PATH)?;
    let span = spans::asked(&Method::POST, request.headers());
    let CheckRequest { attributes } = unary::read(request.into_body(), app.limits.body_timeout).await?;
    let AttributeContext { request, context_extensions } = attributes.unwrap_or_default();
    let http = request.and_then(|request| request.http).unwrap_or_default();
    let extensions = context_extensions.iter().map(|pair| Some((text(&pair.key)?, text(&pair.value)?)));
    let began = Stopwatch::start();
    let question = question(app, &http, peer, extensions.collect::<Option<Vec<_>>>());
    let decided = decide_asking(app, &question).instrument(span.clone()).await;
    let status = decided.as_ref().map_or_else(|refused| refused.status(), |_| StatusCode::OK);
    spans::answered(&span, &Method::POST, Some(PATH), status.as_u16(), None);
    Ok(told(app, decided, began))
}

/// What of a framed message decides: method, path, credentials, forwarded addresses, and the route's own pairs.
pub(in crate::http) fn read_framed(bytes: Bytes) -> Option<[Vec<Bytes>; 5]> {
    let CheckRequest { attributes } = CheckRequest::decode(unary::unframe(bytes).ok()?).ok()?;
    let AttributeContext { request, context_extensions } = attributes.unwrap_or_default();
    let http = request.and_then(|request| request.http).unwrap_or_default();
    let all = |name| named(&http, name).cloned().collect();
    let (authorization, forwarded) = (all(header::AUTHORIZATION.as_str()), all(source::FORWARDED_FOR));
    let pairs = context_extensions.into_iter().flat_map(|pair| [pair.key, pair.value]).collect();
    Some([vec![http.method], vec![http.path], authorization, forwarded, pairs])
}

fn question<'q>(app: &App, http: &'q HttpRequest, peer: SocketAddr, extensions: Option<Vec<(&str, &str)>>) -> Question<'q> {
    let (required, by_operation) = extensions.and_then(|extensions| required(&extensions)).unzip();
    let asked = by_operation.unwrap_or(true).then(|| Some(Asked { method: text(&http.method)?, target: text(&http.path)? }));
    // As over HTTP: Envoy is the peer, and what it wrote of the client counts where it is trusted.
    let source = app.source(named(http, source::FORWARDED_FOR).map(|value| &value[..]), peer);
    Question { source, presented: Presented::parse_only(named(http, header::AUTHORIZATION.as_str())), required, asked }
}

/// All values of a header, in whichever form Envoy was told to send it. It sends one form; of both, either could be somebody
/// else's.
fn named<'q>(http: &'q HttpRequest, wanted: &'static str) -> impl DoubleEndedIterator<Item = &'q Bytes> {
    let raw = http.header_map.iter().flat_map(|map| &map.headers);
    let raw = raw.map(|header| (&header.key, if header.raw_value.is_empty() { &header.value } else { &header.raw_value }));
    let headers = http.headers.iter().map(|header| (&header.key, &header.value)).chain(raw);
    headers.filter(move |(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes())).map(|(_, value)| value)
}

/// What a route's configuration asks for, and whether the operation decides too; `None` is a mistake in it. Every name is
/// ours: of one that we don't know, somebody expects something.
fn required(extensions: &[(&str, &str)]) -> Option<(Requirement, bool)> {
    const OPERATIONS: &str = "operations";
    let mut of_operations = extensions.iter().filter(|(name, _)| *name == OPERATIONS);
    let by_operation = match (of_operations.next(), of_operations.next()) {
        (None, _) | (Some((_, "on")), None) => true,
        (Some((_, "off")), None) => false,
        _ => return None,
    };
    let rest = extensions.iter().copied().filter(|(name, _)| *name != OPERATIONS);
    Requirement::of(rest, true).map(|required| (required, by_operation))
}

fn text(bytes: &Bytes) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn told(app: &App, decided: Decided<'_>, began: Stopwatch) -> CheckResponse {
    let mut headers = Vec::new();
    told::put(app, &decided, &mut headers);
    let (status, code, told) = match decided {
        Ok(_) => {
            // The secret ends at the gateway, also where its configuration does not say so.
            let headers_to_remove = vec![header::AUTHORIZATION.as_str().to_owned()];
            (StatusCode::OK, 0, Told::Allowed(Allowed { headers, headers_to_remove }))
        }
        Err(refused) => {
            headers.put("cache-control", b"no-store");
            let status = Some(HttpStatus { code: refused.status().as_u16().into() });
            (refused.status(), code(refused), Told::Denied(Denied { status, headers, body: refused.body().clone() }))
        }
    };
    app.metrics.verified(status, began);
    // Without a status, Envoy would take it for a yes.
    CheckResponse { status: Some(Status { code }), told: Some(told) }
}

/// The status that gRPC has for it.
const fn code(refused: Refused) -> i32 {
    match refused {
        Refused::Unauthorized => 16,
        Refused::Lacking(_) | Refused::Elsewhere | Refused::NoOperation => 7,
        Refused::Unknown => 14,
    }
}

/// Each in place of what the client may have sent.
impl Fields for Vec<HeaderOption> {
    fn put(&mut self, name: &'static str, value: &[u8]) {
        let (key, value) = (Bytes::from_static(name.as_bytes()), Bytes::copy_from_slice(value));
        let header = Some(HeaderValue { key, value, raw_value: Bytes::new() });
        self.push(HeaderOption { header, append_action: AppendAction::OverwriteIfExistsOrAdd.into() });
    }
}
