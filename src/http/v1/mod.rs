//! The operator API, `/v1` on the admin listener: what the console and the commands do, for programs.
//!
//! | file | what |
//! |---|---|
//! | `platforms.rs`, `tokens.rs`, `operations.rs`, `audit.rs`, `operators.rs` | handlers |
//! | `wire.rs` | the JSON of all of them, which commands print too |
//! | `error.rs` | what the authority's refusals are here |

mod audit;
mod error;
mod operations;
mod operators;
mod platforms;
mod tokens;
pub(crate) mod wire;

use axum::{
    Router,
    extract::{FromRequestParts, State},
    response::Response,
    routing::{get, post},
};
use http::{StatusCode, header, request::Parts};
use serde_json::json;

use super::{App, auth::RequestContext, envelope, envelope::Refusal};
use crate::domain::{Operator, Owner, PresentedOperator};

/// Where it is mounted.
pub(crate) const MOUNT: &str = "/v1";

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
        .route("/operations", get(operations::read).put(operations::load))
        .route("/operations/diff", post(operations::diff))
        .route("/operations/explain", post(operations::explain))
        .route("/audit", get(audit::list))
        .route("/operators", get(operators::list).post(operators::create))
        .route("/operators/{name}", get(operators::read))
        .route("/operators/{name}/role", post(operators::set_role))
        .route("/operators/{name}/disable", post(operators::disable))
        .route("/operators/{name}/enable", post(operators::enable))
        .route("/operators/{name}/reset", post(operators::reset))
        .route("/operators/{name}/tokens", get(operators::list_tokens).post(operators::create_token))
        .route("/operator-tokens/{id}/revoke", post(operators::revoke_token))
}

/// Who asks: every handler's argument that is not [`Owns`], so that none runs for nobody.
pub(super) struct By(Operator);

/// An owner who asks.
pub(super) struct Owns(Owner);

impl FromRequestParts<App> for By {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let context = parts.extensions.get::<RequestContext>().ok_or_else(Refusal::internal)?;
        // A command in the same process has proven them, by the key file.
        if let Some(operator) = parts.extensions.get::<Operator>() {
            return Ok(Self(operator.clone()));
        }
        if let Some(wait) = app.authority.is_limited(context.source) {
            return Err(Refusal::rate_limited(wait));
        }
        let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
        let presented = match (values.next(), values.next()) {
            (Some(value), None) => PresentedOperator::parse_bearer(value.as_bytes()),
            _ => None,
        };
        let proven = match &presented {
            Some(presented) => app.authority.prove_operator(presented, context.info.clone()).await.map_err(error::refusal)?,
            None => None,
        };
        let Some(operator) = proven else {
            let wait = app.authority.note_failed(context.source, None);
            return Err(wait.map_or_else(error::unauthorized, Refusal::rate_limited));
        };
        let _ = context.caller.set(operator.actor().to_string());
        Ok(Self(operator))
    }
}

impl FromRequestParts<App> for Owns {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let By(operator) = By::from_request_parts(parts, app).await?;
        operator.may_own().map(Self).map_err(|lacking| error::refusal(lacking.into()))
    }
}

async fn who(State(_): State<App>, By(by): By) -> Response {
    let platform = by.platform().map(|id| id.to_string());
    envelope::json(StatusCode::OK, &json!({ "actor": by.actor().to_string(), "role": by.role().name(), "platform": platform }))
}
