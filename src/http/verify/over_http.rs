//! `/verify`: any method, any path suffix, no body. Only the query, which the gateway's own configuration writes, asks for
//! more; or, at `/verify/NAME`, the operation that the client's method and path are.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
};

use axum::{body::Body, response::Response};
use futures_util::FutureExt as _;
use http::{HeaderValue, header, request::Parts};

use super::{App, Passed, Question, Refused, Requirement, decide_asking, decide_at_once, gateway, identity, presented};

/// Where it is.
const PATH: &str = "/verify";

/// Whether a request is answered here.
pub(in crate::http) fn is_asked(parts: &Parts) -> bool {
    behind_mount(parts.uri.path()).is_some()
}

/// The path behind the mount.
fn behind_mount(path: &str) -> Option<&str> {
    path.strip_prefix(PATH).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a gateway, where memory alone knows. With `unread`, the request has a body that nobody will read.
pub(in crate::http) fn answer_at_once(app: &App, parts: &Parts, peer: SocketAddr, unread: bool) -> Option<Response> {
    let decided = catch_unwind(AssertUnwindSafe(|| decide_at_once(app, &question(app, parts, peer))));
    decided.unwrap_or_else(|_| Some(defect(app))).map(|decided| respond(app, parts, unread, decided))
}

/// Answers a gateway where the database has to be asked.
pub(in crate::http) async fn answer(app: App, parts: Parts, peer: SocketAddr, unread: bool) -> Response {
    let question = question(&app, &parts, peer);
    let decided = AssertUnwindSafe(decide_asking(&app, &question)).catch_unwind().await;
    respond(&app, &parts, unread, decided.unwrap_or_else(|_| defect(&app)))
}

fn defect<'q>(app: &App) -> Result<Passed<'q>, Refused> {
    app.metrics.panics.inc();
    Err(Refused::Unknown)
}

fn question<'q>(app: &App, parts: &'q Parts, peer: SocketAddr) -> Question<'q> {
    let behind = behind_mount(parts.uri.path()).unwrap_or_default();
    let gateway = gateway::named(&app.surroundings.gateways, behind);
    // Where the gateway appends the client's own query, nothing in it is for us.
    let query = if gateway.is_some_and(|(gateway, _)| gateway.headers.is_none()) { None } else { parts.uri.query() };
    Question {
        source: app.source(&parts.headers, peer),
        presented: presented(parts.headers.get_all(header::AUTHORIZATION)),
        required: Requirement::parse(query, behind.is_empty() || gateway.is_some()),
        asked: gateway.map(|(gateway, behind)| gateway::asked(gateway, behind, parts)),
    }
}

fn respond(app: &App, parts: &Parts, unread: bool, decided: Result<Passed<'_>, Refused>) -> Response {
    let mut response = match &decided {
        Ok(_) => Response::new(Body::empty()),
        Err(refused) => refused.response::<Body>(),
    };
    let headers = response.headers_mut();
    identity::insert(app, Some(&parts.headers), headers, decided.as_ref().ok());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::DATE, app.date());
    if unread || app.is_ending() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    app.metrics.answered(response.status());
    response
}
