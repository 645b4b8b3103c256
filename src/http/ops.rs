//! For operators, on the admin listener: is it alive, can it work, what does it count, how was a token used.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::{App, envelope, metrics, uses};
use crate::authority::Ready;

/// All pages.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/tokens/{token_id}/uses", get(uses::read))
}

/// The process lives. What it found wrong with stored rows is told, but makes it no less alive.
async fn healthz(State(app): State<App>) -> Response {
    let figures = app.authority.figures();
    envelope::json(StatusCode::OK, &json!({ "status": "ok", "integrityFailures": figures.tampered, "stale": figures.stale }))
}

/// It can prove credentials and commit changes, and is not about to end; or, where it is told to, it goes on proving alone.
async fn readyz(State(app): State<App>) -> Response {
    let ready = if app.is_ending() { Err("ending") } else { app.authority.ready().await };
    match ready {
        Ok(Ready::Wholly) => envelope::json(StatusCode::OK, &json!({ "status": "ready" })),
        Ok(Ready::Stale) => {
            envelope::json(StatusCode::OK, &json!({ "status": "stale", "reason": "the database can't be reached; changes are refused" }))
        }
        Err(reason) => envelope::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready", "reason": reason })),
    }
}

async fn metrics(State(app): State<App>) -> Response {
    let Ok(page) = metrics::page(&app) else { return envelope::Refusal::internal().into_response() };
    let media_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, media_type)], page).into_response()
}
