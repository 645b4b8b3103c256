//! For operators, on the admin listener: is it alive, can it work, what does it count, how was a token used.

use std::sync::atomic::{AtomicU64, Ordering};

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

use super::{App, envelope, uses};
use crate::authority::Ready;

/// All pages.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/tokens/{token_id}/uses", get(uses::read))
}

/// What is counted about answers.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) panics: Counter,
    /// By status.
    answers: [AtomicU64; 600],
}

impl Default for Metrics {
    fn default() -> Self {
        Self { panics: Counter::default(), answers: [const { AtomicU64::new(0) }; 600] }
    }
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
        if let Some(count) = self.answers.get(usize::from(status.as_u16())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
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
    let figures = app.authority.figures();
    let mut registry = Registry::with_prefix("countersign");
    let answers = Family::<Status, Counter>::default();
    for (status, count) in (0..).zip(&app.metrics.answers).map(|(status, count)| (status, count.load(Ordering::Relaxed))) {
        if count > 0 {
            answers.get_or_create(&Status { status }).inc_by(count);
        }
    }
    registry.register("http_responses", "Answers by status", answers);
    registry.register("panics", "Requests that ended in a defect", app.metrics.panics.clone());
    let refusals = Family::<Refused, Counter>::default();
    for (reason, count) in figures.denials {
        refusals.get_or_create(&Refused { reason: reason.name() }).inc_by(count);
    }
    registry.register("refusals", "Refused credentials and calls by reason", refusals);
    let gauge = |value: usize| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register("live_tokens", "Live tokens in the resident index", gauge(figures.live_tokens));
    registry.register("integrity_failures", "Stored rows that are not as they were sealed", gauge(figures.tampered));
    registry.register("stale", "Whether credentials are accepted from an index older than its lease", gauge(usize::from(figures.stale)));
    registry.register("keys_lacking", "Keys that the database knows and the key file here lacks", gauge(figures.keys_lacking));
    registry.register("ends", "Tokens that were ended here", ConstCounter::new(figures.ends));
    registry.register(
        "ends_took_seconds",
        "How long those took in all from being asked for to their commit: the wait behind others, and the flush",
        ConstCounter::new(figures.ends_took.as_secs_f64()),
    );
    let failures = ConstCounter::new(figures.key_reload_failures);
    registry.register("key_reload_failures", "Key files that were not taken over: the keys stayed what they were", failures);
    let accepts = ConstCounter::new(figures.stale_accepts);
    registry.register(
        "stale_accepts",
        "Credentials accepted from an index older than its lease: the database could not be reached",
        accepts,
    );
    let failing = gauge(usize::from(figures.journal_failing));
    registry.register("journal_failing", "Whether the journal cannot be written: what ends is in the database alone", failing);
    let lost = ConstCounter::new((app.surroundings.log_lines_lost)());
    registry.register("log_lines_lost", "Lines of the log that nobody took in time, or that could not be written", lost);
    registry.register("feed_seq", "The place of the change feed that the index has followed", ConstCounter::new(figures.followed));
    registry.register(
        "audit_head_seq",
        "The last place of the audit log of which a signed head was written",
        ConstCounter::new(figures.head_size),
    );
    registry.register(
        "audit_head_failures",
        "Heads of the audit log that could not be signed, or not be written to one of their sinks",
        ConstCounter::new(figures.head_failures),
    );
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => {
            let media_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
            ([(header::CONTENT_TYPE, media_type)], text).into_response()
        }
        Err(_) => envelope::Refusal::internal().into_response(),
    }
}
