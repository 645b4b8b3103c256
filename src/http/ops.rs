//! For operators, on the admin listener: is it alive, can it work, what does it count.

use axum::{
    Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::ConstCounter, counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};
use serde_json::json;

use super::{App, envelope};

/// All pages.
pub(super) fn routes() -> Router<App> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// What is counted about answers.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) panics: Counter,
    answers: Family<Status, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

impl Metrics {
    pub(super) fn answered(&self, status: StatusCode) {
        self.answers.get_or_create(&Status { status: u32::from(status.as_u16()) }).inc();
    }
}

/// The process lives. What it found wrong with stored rows is told, but makes it no less alive.
async fn healthz(State(app): State<App>) -> Response {
    envelope::json(StatusCode::OK, &json!({ "status": "ok", "integrityFailures": app.authority.figures().tampered }))
}

/// It can prove credentials and commit changes, and is not about to end.
async fn readyz(State(app): State<App>) -> Response {
    let ready = if app.is_ending() { Err("ending") } else { app.authority.ready().await };
    match ready {
        Ok(()) => envelope::json(StatusCode::OK, &json!({ "status": "ready" })),
        Err(reason) => envelope::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready", "reason": reason })),
    }
}

async fn metrics(State(app): State<App>) -> Response {
    let figures = app.authority.figures();
    let mut registry = Registry::with_prefix("countersign");
    registry.register("http_responses", "Answers by status", app.metrics.answers.clone());
    registry.register("panics", "Requests that ended in a defect", app.metrics.panics.clone());
    let refusals = Family::<Refused, Counter>::default();
    for (reason, count) in figures.denials {
        refusals.get_or_create(&Refused { reason: reason.name() }).inc_by(count);
    }
    registry.register("refusals", "Refused credentials and calls by reason", refusals);
    let gauge = |value: usize| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register("live_tokens", "Live tokens in the resident index", gauge(figures.live_tokens));
    registry.register("integrity_failures", "Stored rows that are not as they were sealed", gauge(figures.tampered));
    registry.register("feed_seq", "The place of the change feed that the index has followed", ConstCounter::new(figures.followed));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => {
            let media_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            ([(header::CONTENT_TYPE, media_type)], text).into_response()
        }
        Err(_) => envelope::Refusal::internal().into_response(),
    }
}
