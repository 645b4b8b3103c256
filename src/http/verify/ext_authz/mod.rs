//! Envoy's `ext_authz` over gRPC: `envoy.service.auth.v3.Authorization/Check`.
//!
//! By operation, as at `/verify/envoy`: method and path are members of the message. A route's `context_extensions` can ask
//! for more: `require` and `env` as in the query of `/verify`; and with `operations: "off"` the operation decides nothing.

mod message;
mod unary;

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, Response, StatusCode, header};
use hyper::body::Incoming;

use self::{
    message::{
        Allowed, AppendAction, AttributeContext, CheckRequest, CheckResponse, Denied, HeaderOption, HeaderValue, HttpRequest, HttpStatus,
        Status, Told,
    },
    unary::{Failed, Reply},
};
use super::{App, Asked, Question, Refused, Requirement, decide_asking, identity, presented};
use crate::domain::Proven;

/// The one method.
const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Answers a call. Whatever goes wrong, the answer is a status and no message, so that nobody passes.
pub(in crate::http) async fn answer(app: App, request: Request<Incoming>) -> Response<Reply> {
    let answered = AssertUnwindSafe(check(&app, request)).catch_unwind().await.unwrap_or_else(|_| {
        app.metrics.panics.inc();
        Err(Failed::Internal)
    });
    unary::reply(answered.as_ref().map_err(|failed| *failed))
}

async fn check(app: &App, request: Request<Incoming>) -> Result<CheckResponse, Failed> {
    unary::check_head(&request, PATH)?;
    let CheckRequest { attributes } = unary::read(request.into_body(), app.limits.body_timeout).await?;
    let AttributeContext { request, context_extensions } = attributes.unwrap_or_default();
    let http = request.and_then(|request| request.http).unwrap_or_default();
    let extensions = context_extensions.iter().map(|pair| Some((text(&pair.key)?, text(&pair.value)?)));
    let decided = decide_asking(app, &question(&http, extensions.collect::<Option<Vec<_>>>())).await;
    Ok(told(app, decided))
}

fn question<'q>(http: &'q HttpRequest, extensions: Option<Vec<(&str, &str)>>) -> Question<'q> {
    let (required, by_operation) = extensions.and_then(|extensions| required(&extensions)).unzip();
    let asked = by_operation.unwrap_or(true).then(|| Some(Asked { method: text(&http.method)?, target: text(&http.path)? }));
    Question { presented: presented(authorization(http)), required, asked }
}

/// All that came as `Authorization`, in whichever form Envoy was told to send it. It sends one form; of both, either could
/// be somebody else's.
fn authorization(http: &HttpRequest) -> impl Iterator<Item = &Bytes> {
    let raw = http.header_map.iter().flat_map(|map| &map.headers);
    let raw = raw.map(|header| (&header.key, if header.raw_value.is_empty() { &header.value } else { &header.raw_value }));
    let headers = http.headers.iter().map(|header| (&header.key, &header.value)).chain(raw);
    headers.filter(|(name, _)| name.eq_ignore_ascii_case(header::AUTHORIZATION.as_str().as_bytes())).map(|(_, value)| value)
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

fn told(app: &App, decided: Result<Proven, Refused>) -> CheckResponse {
    let (status, code, told) = match decided {
        Ok(proven) => {
            let mut headers = HeaderMap::new();
            identity::insert(app, None, &mut headers, Some(&proven));
            // The secret ends at the gateway, also where its configuration does not say so.
            let headers_to_remove = vec![header::AUTHORIZATION.as_str().to_owned()];
            (StatusCode::OK, 0, Told::Allowed(Allowed { headers: options(&headers), headers_to_remove }))
        }
        Err(refused) => {
            let (parts, body) = refused.response::<Bytes>().into_parts();
            let status = Some(HttpStatus { code: parts.status.as_u16().into() });
            (parts.status, code(refused), Told::Denied(Denied { status, headers: options(&parts.headers), body }))
        }
    };
    app.metrics.answered(status);
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
fn options(headers: &HeaderMap) -> Vec<HeaderOption> {
    let option = |(name, value): (&http::HeaderName, &http::HeaderValue)| HeaderOption {
        header: Some(HeaderValue {
            key: Bytes::copy_from_slice(name.as_str().as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            raw_value: Bytes::new(),
        }),
        append_action: AppendAction::OverwriteIfExistsOrAdd.into(),
    };
    headers.iter().map(option).collect()
}
