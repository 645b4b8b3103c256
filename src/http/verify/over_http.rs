//! `/verify`: any method, any path suffix, no body. Only the query, which the gateway's own configuration writes, asks for
//! more; or, at `/verify/NAME`, the operation that the client's method and path are.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
};

use axum::{body::Body, response::Response};
use futures_util::FutureExt as _;
use http::{HeaderValue, StatusCode, header, request::Parts};
use tracing::Instrument as _;

use super::{
    super::{answer, connection::Known, source},
    App, Decided, Question, Refused, Requirement, gateway,
    head::{Head, fields_of},
    told::{self, Fields},
};
use crate::{domain::Presented, measure::Stopwatch, spans};

/// Where it is.
const PATH: &str = "/verify";

/// Whether a request is answered here.
pub(in crate::http) fn is_asked(parts: &Parts) -> bool {
    behind_mount(parts.uri.path()).is_some()
}

/// The path behind the mount.
pub(super) fn behind_mount(path: &str) -> Option<&str> {
    path.strip_prefix(PATH).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a gateway whose request is not plain. With `unread`, it has a body that nobody will read.
pub(in crate::http) async fn answer(app: App, parts: Parts, peer: SocketAddr, unread: bool) -> Response {
    let began = Stopwatch::start();
    let fields = fields_of(&parts);
    let head = Head::of(&parts, &fields);
    let span = spans::asked(&parts.method, &parts.headers);
    let mut response = tell_asking(&app, &head, peer, |decided| response(&app, &head, decided)).instrument(span.clone()).await;
    spans::answered(&span, &parts.method, Some(PATH), response.status().as_u16(), None);
    if unread || app.is_ending() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    app.metrics.verified(response.status(), began);
    response
}

fn response(app: &App, head: &Head<'_>, decided: &Decided<'_>) -> Response {
    let mut response = match decided {
        Ok(_) => Response::new(Body::empty()),
        Err(refused) => Response::new(Body::from(refused.body().clone())),
    };
    *response.status_mut() = decided.as_ref().map_or_else(|refused| refused.status(), |_| StatusCode::OK);
    if super::is_of_somebody(decided) {
        response.extensions_mut().insert(Known);
    }
    let headers = response.headers_mut();
    told::put(app, decided, headers);
    put_common(app, head, headers);
    response
}

/// What every answer has.
pub(super) fn put_common(app: &App, head: &Head<'_>, fields: &mut impl Fields) {
    match head.only(answer::REQUEST_ID.as_str()).filter(|id| answer::may_be_taken_over(id)) {
        Some(theirs) => fields.put("x-request-id", theirs),
        None => fields.put("x-request-id", &app.new_request_id()),
    }
    fields.put("cache-control", b"no-store");
    fields.put("date", app.date().as_bytes());
}

/// Tells what becomes of a request, where memory alone knows. After a defect, also one in telling, that is told instead.
pub(super) fn tell_at_once<T>(app: &App, head: &Head<'_>, peer: SocketAddr, mut tell: impl FnMut(&Decided<'_>) -> T) -> Option<T> {
    let told = catch_unwind(AssertUnwindSafe(|| super::decide_at_once(app, &question(app, head, peer)).map(|decided| tell(&decided))));
    told.unwrap_or_else(|_| Some(tell(&defect(app))))
}

/// The same where the database may have to be asked.
pub(super) async fn tell_asking<T>(app: &App, head: &Head<'_>, peer: SocketAddr, mut tell: impl FnMut(&Decided<'_>) -> T) -> T {
    let told = AssertUnwindSafe(async { tell(&super::decide_asking(app, &question(app, head, peer)).await) }).catch_unwind().await;
    told.unwrap_or_else(|_| tell(&defect(app)))
}

fn defect(app: &App) -> Decided<'static> {
    app.metrics.panics.inc();
    Err(Refused::Unknown)
}

fn question<'h>(app: &App, head: &Head<'h>, peer: SocketAddr) -> Question<'h> {
    let behind = behind_mount(head.path).unwrap_or_default();
    let gateway = gateway::named(&app.surroundings.gateways, behind);
    // Where the gateway appends the client's own query, nothing in it is for us.
    let query = if gateway.is_some_and(|(gateway, _)| gateway.headers.is_none()) { None } else { head.query };
    Question {
        source: app.source(head.all(source::FORWARDED_FOR), peer),
        presented: Presented::parse_only(head.all("authorization")),
        required: Requirement::parse(query, behind.is_empty() || gateway.is_some()),
        asked: gateway.map(|(gateway, behind)| gateway::asked(gateway, behind, head)),
    }
}
