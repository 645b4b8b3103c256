//! May this request of the platform's API pass? Asked by gateways, for each one; the hot path of everything.
//!
//! The one decision, and the two ways in which it is asked for and told: [`over_http`] at `/verify`, and [`ext_authz`] over
//! gRPC. The credential alone proves; only the gateway's own configuration asks for more, or the operation that the
//! client's method and path are. The answer is yes with who it is in headers, 401, 403, or 503 where it can't be known. It
//! runs before the router and its layers, takes no lock, runs no SQL for a token that the index holds, and allocates what
//! its answer consists of.

pub(super) mod ext_authz;
mod gateway;
mod identity;
mod over_http;
mod requirement;

use std::sync::LazyLock;

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};

pub(super) use self::over_http::{answer, answer_at_once, is_asked};
use self::{gateway::Asked, requirement::Requirement};
use super::{App, envelope::Refusal};
use crate::{
    authority::Denied,
    domain::{Need, Permissions, Presented, Proven, Target},
};

/// What a gateway asks, in whichever way.
struct Question<'q> {
    /// The credential, where there is one that could be.
    presented: Option<Presented>,
    /// What the route needs; `None` is a mistake in the gateway's configuration.
    required: Option<Requirement>,
    /// What the client asked of the platform, where that decides too; `None` in it is what the gateway did not say once.
    asked: Option<Option<Asked<'q>>>,
}

/// Why a request may not pass.
#[derive(Debug, Clone, Copy)]
enum Refused {
    /// Nobody's credential.
    Unauthorized,
    /// Somebody's, and it lacks these permissions.
    Lacking(Permissions),
    /// Somebody's of the other environment.
    Elsewhere,
    /// No operation, or none that anybody may do.
    NoOperation,
    /// It can't be known, or the gateway asks for what does not exist.
    Unknown,
}

/// What becomes of a request; `None` where `prove` can't say.
fn decide(
    app: &App,
    question: &Question<'_>,
    prove: impl FnOnce(Option<&Presented>) -> Option<Result<Proven, Denied>>,
) -> Option<Result<Proven, Refused>> {
    let Some(required) = &question.required else {
        app.report_misconfigured(
            "a gateway may ask for require=VIEW,TRANSACT,MANAGE and env=sandbox or production, each once: in the query of /verify, or \
             in context_extensions, which also take operations=on or off",
        );
        return Some(Err(Refused::Unknown));
    };
    let proven = match prove(question.presented.as_ref())? {
        Ok(proven) => proven,
        Err(Denied::Refused(_)) => return Some(Err(Refused::Unauthorized)),
        Err(Denied::Unknown) => return Some(Err(Refused::Unknown)),
    };
    let may = required.allows(&proven).and_then(|()| match question.asked {
        Some(asked) => may_do(app, &proven, asked),
        None => Ok(()),
    });
    if may.is_err_and(|refused| !matches!(refused, Refused::Unknown)) {
        app.authority.note_forbidden();
    }
    Some(may.map(|()| proven))
}

/// The same where the database may have to be asked.
async fn decide_asking(app: &App, question: &Question<'_>) -> Result<Proven, Refused> {
    let proving = tokio::time::timeout(app.limits.request_timeout, app.authority.prove(question.presented.as_ref()));
    let proven = proving.await.unwrap_or(Err(Denied::Unknown));
    decide(app, question, |_| Some(proven)).unwrap_or(Err(Refused::Unknown))
}

/// Whether a token may do what was asked of the platform.
fn may_do(app: &App, proven: &Proven, asked: Option<Asked<'_>>) -> Result<(), Refused> {
    let asked = asked.ok_or(Refused::NoOperation)?;
    let target = Target::parse(asked.target).map_err(|_| Refused::NoOperation)?;
    match app.authority.need_of(asked.method, &target) {
        Some(Ok(Need::Permissions(needed))) => lacking(proven, needed),
        Some(Ok(Need::Unknown) | Err(_)) => Err(Refused::NoOperation),
        None => {
            app.report_misconfigured("a gateway asks by operation, and none are loaded; see countersign operations load --help");
            Err(Refused::Unknown)
        }
    }
}

fn lacking(proven: &Proven, needed: Permissions) -> Result<(), Refused> {
    let lacking = proven.permissions.lacking(needed);
    if lacking.is_empty() { Ok(()) } else { Err(Refused::Lacking(lacking)) }
}

impl Requirement {
    fn allows(&self, proven: &Proven) -> Result<(), Refused> {
        match self.environment {
            Some(environment) if environment != proven.scope.environment => Err(Refused::Elsewhere),
            _ => lacking(proven, self.permissions),
        }
    }
}

/// The credential of all that came as `Authorization`.
fn presented<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Option<Presented> {
    only(values).and_then(|value| Presented::parse_basic(value.as_ref()))
}

/// Exactly one: of two, whoever is in front of us may have looked at the other.
fn only<V>(values: impl IntoIterator<Item = V>) -> Option<V> {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

static UNAUTHORIZED: LazyLock<Bytes> = LazyLock::new(|| Refusal::unauthorized().body().into());
static LACKING: LazyLock<[Bytes; 8]> =
    LazyLock::new(|| std::array::from_fn(|bits| Refusal::forbidden(Permissions::from_bits(bits as u8)).body().into()));
static ELSEWHERE: LazyLock<Bytes> = LazyLock::new(|| Refusal::elsewhere().body().into());
static NO_OPERATION: LazyLock<Bytes> = LazyLock::new(|| Refusal::no_operation().body().into());
static UNAVAILABLE: LazyLock<Bytes> = LazyLock::new(|| Refusal::unavailable().body().into());

impl Refused {
    /// The envelope, made once for each case: a flood of refusals must cost no more than what it would pass for.
    fn response<B: From<Bytes>>(self) -> Response<B> {
        let (status, body) = match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, &*UNAUTHORIZED),
            Self::Lacking(permissions) => (StatusCode::FORBIDDEN, &LACKING[usize::from(permissions.bits())]),
            Self::Elsewhere => (StatusCode::FORBIDDEN, &*ELSEWHERE),
            Self::NoOperation => (StatusCode::FORBIDDEN, &*NO_OPERATION),
            Self::Unknown => (StatusCode::SERVICE_UNAVAILABLE, &*UNAVAILABLE),
        };
        let mut response = Response::new(B::from(body.clone()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Unauthorized => drop(headers.insert(header::WWW_AUTHENTICATE, Refusal::CHALLENGE)),
            Self::Unknown => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"))),
            Self::Lacking(_) | Self::Elsewhere | Self::NoOperation => {}
        }
        response
    }
}
