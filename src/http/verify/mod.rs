//! `/verify`: may this request of the platform's API pass? Asked by gateways, for each one; the hot path of everything.
//!
//! Any method, any path suffix, no body; the credential alone proves. Only the query, which the gateway's own configuration
//! writes, asks for more; or, at `/verify/NAME`, the operation that the client's method and path are. The answer is 200
//! with who it is in headers, 401, 403, or 503 where it can't be known. It runs before the router and its layers, takes no
//! lock, runs no SQL for a token that the index holds, and allocates what its answer consists of.

mod gateway;
mod identity;
mod requirement;

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
};

use axum::{body::Body, response::Response};
use futures_util::FutureExt as _;
use http::{HeaderValue, header, request::Parts};

use self::{gateway::Asked, requirement::Requirement};
use super::App;
use crate::{
    authority::Denied,
    domain::{Environment, Need, Permissions, Presented, Proven, Target},
    refusal::Refused,
};

/// Where it is.
const PATH: &str = "/verify";

/// Whether a request is answered here.
pub(super) fn is_asked(parts: &Parts) -> bool {
    behind_mount(parts.uri.path()).is_some()
}

/// The path behind the mount.
fn behind_mount(path: &str) -> Option<&str> {
    path.strip_prefix(PATH).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a gateway, where memory alone knows. With `unread`, the request has a body that nobody will read.
pub(super) fn answer_at_once(app: &App, parts: &Parts, peer: SocketAddr, unread: bool) -> Option<Response> {
    let prove = |presented: Option<&Presented>| match app.authority.prove_at_once(presented) {
        Some(proven) => {
            note_failed(app, parts, peer, presented, &proven);
            Some(proven)
        }
        // The database is not asked for a source that keeps failing; so it is not known, and not said to be nobody's.
        None => app.authority.is_limited(app.source(&parts.headers, peer)).map(|_| Err(Denied::Unknown)),
    };
    let decided = catch_unwind(AssertUnwindSafe(|| decide(app, parts, prove)));
    let decided = decided.unwrap_or_else(|_| {
        app.metrics.panics.inc();
        Some(Err(Refused::Unknown))
    });
    decided.map(|decided| respond(app, parts, unread, decided))
}

/// Answers a gateway where the database has to be asked.
pub(super) async fn answer(app: App, parts: Parts, peer: SocketAddr, unread: bool) -> Response {
    let presented = presented(&parts);
    let asking = tokio::time::timeout(app.limits.request_timeout, app.authority.prove(presented.as_ref()));
    let proven = AssertUnwindSafe(asking).catch_unwind().await.unwrap_or_else(|_| {
        app.metrics.panics.inc();
        Ok(Err(Denied::Unknown))
    });
    let proven = proven.unwrap_or(Err(Denied::Unknown));
    note_failed(&app, &parts, peer, presented.as_ref(), &proven);
    let decided = decide(&app, &parts, |_| Some(proven)).unwrap_or(Err(Refused::Unknown));
    respond(&app, &parts, unread, decided)
}

/// Counts who was refused. A gateway is told nothing of it: it knows no other answer than 401.
fn note_failed(app: &App, parts: &Parts, peer: SocketAddr, presented: Option<&Presented>, proven: &Result<Proven, Denied>) {
    if let Err(Denied::Refused(_)) = proven {
        let _ = app.authority.note_failed(app.source(&parts.headers, peer), presented);
    }
}

fn respond(app: &App, parts: &Parts, unread: bool, decided: Result<Passed<'_>, Refused>) -> Response {
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

/// A request that may pass.
struct Passed<'p> {
    proven: Proven,
    /// The client's method and path, where those were decided by.
    request: Option<(&'p str, &'p str)>,
}

/// What becomes of a request; `None` where `prove` can't say.
fn decide<'p>(
    app: &App,
    parts: &'p Parts,
    prove: impl FnOnce(Option<&Presented>) -> Option<Result<Proven, Denied>>,
) -> Option<Result<Passed<'p>, Refused>> {
    let behind = behind_mount(parts.uri.path()).unwrap_or_default();
    let gateway = gateway::named(&app.surroundings.gateways, behind);
    // Where the gateway appends the client's own query, nothing in it is for us.
    let query = if gateway.is_some_and(|(gateway, _)| gateway.headers.is_none()) { None } else { parts.uri.query() };
    let Some(required) = Requirement::parse(query, behind.is_empty() || gateway.is_some()) else {
        app.report_misconfigured("the query of /verify takes require=VIEW,TRANSACT,MANAGE and env=sandbox or production, each once");
        return Some(Err(Refused::Unknown));
    };
    let proven = match prove(presented(parts).as_ref())? {
        Ok(proven) => proven,
        Err(denied) => return Some(Err(denied.into())),
    };
    let may = allowed(&proven, required.permissions, required.environment).and_then(|()| match gateway {
        Some((gateway, behind)) => may_do(app, &proven, gateway::asked(gateway, behind, parts)).map(Some),
        None => Ok(None),
    });
    if may.is_err_and(|refused| refused != Refused::Unknown) {
        app.authority.note_forbidden();
    }
    Some(may.map(|request| Passed { proven, request }))
}

/// Whether a token may do what was asked of the platform; which is this method at this path.
fn may_do<'p>(app: &App, proven: &Proven, asked: Option<Asked<'p>>) -> Result<(&'p str, &'p str), Refused> {
    let asked = asked.ok_or(Refused::NoOperation)?;
    let target = Target::parse(asked.target).map_err(|_| Refused::NoOperation)?;
    match app.authority.need_of(asked.method, &target) {
        Some(Ok(Need::Permissions(needed))) => allowed(proven, needed, None).map(|()| (asked.method, target.raw())),
        Some(Ok(Need::Unknown) | Err(_)) => Err(Refused::NoOperation),
        None => {
            app.report_misconfigured("a gateway asks by operation, and none are loaded; see countersign operations load --help");
            Err(Refused::Unknown)
        }
    }
}

fn allowed(proven: &Proven, permissions: Permissions, environment: Option<Environment>) -> Result<(), Refused> {
    Refused::of(proven, permissions, environment).map_or(Ok(()), Err)
}

fn presented(parts: &Parts) -> Option<Presented> {
    Presented::parse_only(parts.headers.get_all(header::AUTHORIZATION))
}
