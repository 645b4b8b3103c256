//! `/verify`: may this request of the platform's API pass? Asked by gateways, for each one; the hot path of everything.
//!
//! Any method, any path suffix, no body; the credential alone proves, and only the query, which the gateway's own
//! configuration writes, asks for more. The answer is 200 with who it is in headers, 401, 403, or 503 where it can't be
//! known. It runs before the router and its layers, takes no lock, runs no SQL for a token that the index holds, and
//! allocates what its answer consists of.

mod identity;
mod requirement;

use std::panic::{AssertUnwindSafe, catch_unwind};

use axum::{body::Body, response::Response};
use futures_util::FutureExt as _;
use http::{HeaderValue, header, request::Parts};

use self::requirement::Requirement;
use super::{App, answer};
use crate::{
    authority::Denied,
    domain::{Presented, Proven},
    refusal::Refused,
};

/// Where it is.
const PATH: &str = "/verify";

/// Whether a request is answered here.
pub(super) fn is_asked(parts: &Parts) -> bool {
    // What is not HTTP as it should be takes the way of all other requests, and is refused there.
    behind_mount(parts.uri.path()).is_some() && answer::is_well_formed(parts)
}

/// The path behind the mount.
fn behind_mount(path: &str) -> Option<&str> {
    path.strip_prefix(PATH).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a gateway, where memory alone knows. With `unread`, the request has a body that nobody will read.
pub(super) fn answer_at_once(app: &App, parts: &Parts, unread: bool) -> Option<Response> {
    let decided = catch_unwind(AssertUnwindSafe(|| decide(app, parts, |presented| app.authority.prove_at_once(presented))));
    let decided = decided.unwrap_or_else(|_| {
        app.metrics.panics.inc();
        Some(Err(Refused::Unknown))
    });
    decided.map(|decided| respond(app, parts, unread, decided))
}

/// Answers a gateway where the database has to be asked.
pub(super) async fn answer(app: App, parts: Parts, unread: bool) -> Response {
    let presented = presented(&parts);
    let asking = tokio::time::timeout(app.limits.request_timeout, app.authority.prove(presented.as_ref()));
    let proven = AssertUnwindSafe(asking).catch_unwind().await.unwrap_or_else(|_| {
        app.metrics.panics.inc();
        Ok(Err(Denied::Unknown))
    });
    let proven = proven.unwrap_or(Err(Denied::Unknown));
    let decided = decide(&app, &parts, |_| Some(proven)).unwrap_or(Err(Refused::Unknown));
    respond(&app, &parts, unread, decided)
}

fn respond(app: &App, parts: &Parts, unread: bool, decided: Result<Proven, Refused>) -> Response {
    let mut response = match &decided {
        Ok(_) => Response::new(Body::empty()),
        Err(refused) => refused.response::<Body>(),
    };
    let headers = response.headers_mut();
    identity::insert(app, parts, headers, decided.as_ref().ok());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::DATE, app.date());
    if unread || app.is_ending() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    app.metrics.answered(response.status());
    response
}

/// What becomes of a request; `None` where `prove` can't say.
fn decide(
    app: &App,
    parts: &Parts,
    prove: impl FnOnce(Option<&Presented>) -> Option<Result<Proven, Denied>>,
) -> Option<Result<Proven, Refused>> {
    let behind = behind_mount(parts.uri.path()).unwrap_or_default();
    let Some(required) = Requirement::parse(parts.uri.query(), behind.is_empty()) else {
        app.report_misconfigured("the query of /verify takes require=VIEW,TRANSACT,MANAGE and env=sandbox or production, each once");
        return Some(Err(Refused::Unknown));
    };
    let proven = match prove(presented(parts).as_ref())? {
        Ok(proven) => proven,
        Err(denied) => return Some(Err(denied.into())),
    };
    let refused = Refused::of(&proven, required.permissions, required.environment);
    if refused.is_some() {
        app.authority.note_forbidden();
    }
    Some(refused.map_or(Ok(proven), Err))
}

fn presented(parts: &Parts) -> Option<Presented> {
    Presented::parse_only(parts.headers.get_all(header::AUTHORIZATION))
}
