//! The operator API, `/v1` on the admin listener: what the console and the commands do, for programs.
//!
//! | file | what |
//! |---|---|
//! | `platforms.rs`, `tokens.rs`, `bulk.rs`, `operations.rs`, `audit.rs`, `operators.rs`, `keys.rs`, `nodes.rs`, `settings.rs`, `backup.rs` | handlers |
//! | `search.rs` | what a list of tokens is asked for |
//! | `wire.rs` | the JSON of all of them, which commands print too |
//! | `error.rs` | what the authority's refusals are here |

mod audit;
pub(crate) mod backup;
mod bulk;
mod error;
mod keys;
mod nodes;
mod operations;
mod operators;
mod platforms;
mod search;
mod settings;
mod tokens;
pub(crate) mod wire;

use std::time::Duration;

use axum::{
    Router,
    extract::FromRequestParts,
    response::Response,
    routing::{get, post},
};
use http::{StatusCode, header, request::Parts};
use serde_json::json;

pub(in crate::http) use self::{
    audit::{exported, part_of, wanted_of},
    operations::explained,
};
use super::{App, auth::RequestContext, envelope, envelope::Refusal, query::Query, under_way::Way};
use crate::domain::{Operator, Owner, PresentedOperator, RoleLacking};

/// Where it is mounted.
pub(crate) const MOUNT: &str = "/v1";
/// How long it may take to read or copy the whole database: a hundred million tokens and more.
pub(crate) const WHOLE: Duration = Duration::from_secs(60 * 60);

/// All operations.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/operator", get(who))
        .route("/platforms", get(platforms::list).post(platforms::create))
        .route("/platforms/{platform}", get(platforms::read))
        .route("/platforms/{platform}/disable", post(platforms::disable))
        .route("/platforms/{platform}/enable", post(platforms::enable))
        .route("/tokens", get(tokens::list).post(tokens::create))
        .route("/tokens/{token}", get(tokens::read))
        .route("/tokens/{token}/revoke", post(tokens::revoke))
        .route("/tokens:bulkRevoke", post(bulk::revoke))
        .route("/tokens:check", post(tokens::check))
        .route("/bulk-revokes", get(bulk::list))
        .route("/bulk-revokes/{bulk}", get(bulk::read))
        .route("/bulk-revokes/{bulk}/stop", post(bulk::stop))
        .route("/operations", get(operations::read).put(operations::load))
        .route("/operations/diff", post(operations::diff))
        .route("/operations/explain", post(operations::explain))
        .route("/audit", get(audit::list))
        .route("/audit/verify", get(audit::verify))
        .route("/audit/export", get(audit::export))
        .route("/audit/keys", get(audit::keys))
        .route("/audit/prove", post(audit::prove))
        .route("/audit/prune", post(audit::prune))
        .route("/operators", get(operators::list).post(operators::create))
        .route("/operators/{name}", get(operators::read))
        .route("/operators/{name}/role", post(operators::set_role))
        .route("/operators/{name}/disable", post(operators::disable))
        .route("/operators/{name}/enable", post(operators::enable))
        .route("/operators/{name}/reset", post(operators::reset))
        .route("/operators/{name}/tokens", get(operators::list_tokens).post(operators::create_token))
        .route("/operator-tokens/{id}/revoke", post(operators::revoke_token))
        .route("/keys", get(keys::list))
        .route("/keys/{key}/retire", post(keys::retire))
        .route("/nodes", get(nodes::list))
        .route("/settings", get(settings::list))
        .route("/backup", post(backup::take))
}

/// For how long an answer to a path is waited for, where others are waited for so long.
pub(crate) fn patience(path: &str, others: Duration) -> Duration {
    let whole = path.strip_prefix(MOUNT).is_some_and(|path| path == "/backup" || path.starts_with("/keys/") && path.ends_with("/retire"));
    if whole { others.max(WHOLE) } else { others }
}

/// Who asks, and names what they ask for in the query.
pub(super) struct Asks(Operator);

/// Who asks, where there is no more to ask for than the path says.
pub(super) struct By(Operator);

/// One of all platforms, who may look at what is of none.
pub(super) struct Oversees(Operator);

/// One who may issue and end tokens.
pub(super) struct Manages(Operator);

/// One who may do everything.
pub(super) struct Owns(Owner);

/// Each handler takes one of the five, so that none runs for nobody, and the role is looked at before the input.
async fn operator(parts: &Parts, app: &App) -> Result<Operator, Refusal> {
    let context = parts.extensions.get::<RequestContext>().ok_or_else(Refusal::internal)?;
    // A command in the same process has proven them, by the key file.
    if let Some(operator) = parts.extensions.get::<Operator>() {
        return Ok(operator.clone());
    }
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let presented = match (values.next(), values.next()) {
        (Some(value), None) => PresentedOperator::parse_bearer(value.as_bytes()),
        _ => None,
    };
    if let Some(wait) = app.authority.is_operator_limited(context.source, presented.as_ref()) {
        return Err(Refusal::rate_limited(wait));
    }
    let proven = match &presented {
        Some(presented) => app.authority.prove_operator(presented, context.info.clone()).await.map_err(error::refusal)?,
        None => None,
    };
    let Some(operator) = proven else {
        let wait = app.authority.note_operator_failed(context.source);
        return Err(wait.map_or_else(error::unauthorized, Refusal::rate_limited));
    };
    context.admit(app, &operator, Way::Program)?;
    Ok(operator)
}

fn refused(app: &App, lacking: RoleLacking) -> Refusal {
    app.authority.note_forbidden();
    error::refusal(lacking.into())
}

fn oversees(app: &App, operator: &Operator) -> Result<(), Refusal> {
    operator.may_oversee().map_err(|lacking| refused(app, lacking))
}

/// What would be ignored is refused by name, as in the dialects: whoever sends it means something by it.
fn without_query(parts: &Parts) -> Result<(), Refusal> {
    Query::parse(parts.uri.query(), &[]).finish().map_err(|invalid| Refusal::invalid(&invalid))
}

impl FromRequestParts<App> for Asks {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        operator(parts, app).await.map(Self)
    }
}

impl FromRequestParts<App> for By {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let operator = operator(parts, app).await?;
        without_query(parts).map(|()| Self(operator))
    }
}

impl FromRequestParts<App> for Oversees {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let operator = operator(parts, app).await?;
        oversees(app, &operator)?;
        without_query(parts).map(|()| Self(operator))
    }
}

impl FromRequestParts<App> for Manages {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let operator = operator(parts, app).await?;
        operator.may_issue().map_err(|lacking| refused(app, lacking))?;
        without_query(parts).map(|()| Self(operator))
    }
}

impl FromRequestParts<App> for Owns {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let owner = operator(parts, app).await?.may_own().map_err(|lacking| refused(app, lacking))?;
        without_query(parts).map(|()| Self(owner))
    }
}

async fn who(By(by): By) -> Response {
    let platform = by.platform().map(|id| id.to_string());
    let json = json!({ "name": by.name(), "actor": by.actor().to_string(), "role": by.role().name(), "platform": platform });
    envelope::json(StatusCode::OK, &json)
}
