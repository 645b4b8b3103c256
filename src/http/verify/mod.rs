//! May this request of the platform's API pass? Asked by gateways, for each one; the hot path of everything.
//!
//! The one decision, and the two ways in which it is asked for and told: [`over_http`] at `/verify`, and [`ext_authz`] over
//! gRPC. The credential alone proves; only the gateway's own configuration asks for more, or the operation that the
//! client's method and path are. The answer is yes with who it is in headers, 401, 403, or 503 where it can't be known. It
//! runs before the router and its layers, takes no lock, runs no SQL for a token that the index holds, and allocates what
//! its answer consists of.

pub(super) mod ext_authz;
mod gateway;
mod head;
mod over_http;
mod plain;
mod requirement;
mod told;

use std::net::IpAddr;

use self::{gateway::Asked, requirement::Requirement};
pub(super) use self::{
    over_http::{answer, is_asked},
    plain::{answer as answer_plain, first_plain},
};
use super::App;
use crate::{
    authority::Denied,
    domain::{Environment, Need, Permissions, Presented, Proven, Target},
    refusal::Refused,
};

/// What a gateway asks, in whichever way.
struct Question<'q> {
    /// Where the request comes from.
    source: IpAddr,
    /// The credential, where there is one that could be.
    presented: Option<Presented>,
    /// What the route needs; `None` is a mistake in the gateway's configuration.
    required: Option<Requirement>,
    /// What the client asked of the platform, where that decides too; `None` in it is what the gateway did not say once.
    asked: Option<Option<Asked<'q>>>,
}

/// A request that may pass.
struct Passed<'q> {
    proven: Proven,
    /// The client's method and path, where those were decided by.
    request: Option<(&'q str, &'q str)>,
}

/// What becomes of a request.
type Decided<'q> = Result<Passed<'q>, Refused>;

/// Whether somebody has proven who they are, whatever they may.
const fn is_of_somebody(decided: &Decided<'_>) -> bool {
    !matches!(decided, Err(Refused::Unauthorized | Refused::Unknown))
}

/// Decides a request; `None` where `prove` can't say.
fn decide<'q>(
    app: &App,
    question: &Question<'q>,
    prove: impl FnOnce(Option<&Presented>) -> Option<Result<Proven, Denied>>,
) -> Option<Decided<'q>> {
    let Some(required) = &question.required else {
        app.report_misconfigured(
            "a gateway may ask for require=VIEW,TRANSACT,MANAGE and env=sandbox or production, each once: in the query of /verify, or \
             in context_extensions, which also take operations=on or off",
        );
        return Some(Err(Refused::Unknown));
    };
    let proven = match prove(question.presented.as_ref())? {
        Ok(proven) => proven,
        Err(denied) => {
            if let Denied::Refused(_) = denied {
                // A gateway is told nothing of it: it knows no other answer than 401.
                let _ = app.authority.note_failed(question.source, question.presented.as_ref());
            }
            return Some(Err(denied.into()));
        }
    };
    let may = allowed(&proven, required.permissions, required.environment).and_then(|()| match question.asked {
        Some(asked) => may_do(app, &proven, asked).map(Some),
        None => Ok(None),
    });
    if may.is_err_and(|refused| refused != Refused::Unknown) {
        app.authority.note_forbidden();
    }
    Some(may.map(|request| Passed { proven, request }))
}

/// The same where memory alone knows.
fn decide_at_once<'q>(app: &App, question: &Question<'q>) -> Option<Decided<'q>> {
    // The database is not asked for a source that keeps failing; so it is not known, and not said to be nobody's.
    let limited = || app.authority.is_limited(question.source).map(|_| Err(Denied::Unknown));
    decide(app, question, |presented| app.authority.prove_at_once(presented, Some(question.source)).or_else(limited))
}

/// The same where the database may have to be asked.
async fn decide_asking<'q>(app: &App, question: &Question<'q>) -> Decided<'q> {
    if let Some(decided) = decide_at_once(app, question) {
        return decided;
    }
    let proving = app.authority.prove(question.presented.as_ref(), Some(question.source));
    let proven = tokio::time::timeout(app.limits.request_timeout, proving).await.unwrap_or(Err(Denied::Unknown));
    decide(app, question, |_| Some(proven)).unwrap_or(Err(Refused::Unknown))
}

/// Whether a token may do what was asked of the platform; which is this method at this path.
fn may_do<'q>(app: &App, proven: &Proven, asked: Option<Asked<'q>>) -> Result<(&'q str, &'q str), Refused> {
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

/// Exactly one: of two, whoever is in front of us may have looked at the other.
fn only<V>(values: impl IntoIterator<Item = V>) -> Option<V> {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}
