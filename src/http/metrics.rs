//! What is counted and measured, as Prometheus and its like read it: `docs/metrics.md` has every name. Names and labels stay what
//! they are; new ones come beside them.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::{Method, StatusCode};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet, text::encode},
    metrics::{
        MetricType, TypedMetric,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        info::Info,
    },
    registry::{Registry, Unit},
};

use super::{App, process};
use crate::{
    authority::{Figures, Histogram},
    measure::{Durations, Sharded, Stopwatch},
};

/// What is counted about answers.
#[derive(Default)]
pub(super) struct Metrics {
    pub(super) panics: Counter,
    statuses: Sharded<Statuses>,
    /// By [`OUTCOMES`].
    verifications: [Durations; OUTCOMES.len()],
    /// Requests that are no verifications, and how long they took.
    requests: Family<Request, Counter>,
    took: Family<Route, Took>,
}

/// How many answers there were of each status.
struct Statuses([AtomicU64; 600]);

impl Default for Statuses {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; 600])
    }
}

/// What becomes of a verification, and the status that says so; anything else is the last one, which has no status.
const OUTCOMES: [(u16, &str); 6] =
    [(200, "accepted"), (401, "refused"), (403, "forbidden"), (429, "limited"), (503, "unavailable"), (0, "invalid")];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

/// A route as it is written in the table of routes, never a path: what a client puts into one may be anything, and secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    method: &'static str,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: String,
    status: u32,
}

impl Metrics {
    fn answered(&self, status: StatusCode) {
        if let Some(count) = self.statuses.mine().0.get(usize::from(status.as_u16())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes what became of a verification, since the request was there.
    pub(super) fn verified(&self, status: StatusCode, began: Stopwatch) {
        self.answered(status);
        let outcome = OUTCOMES.iter().position(|(of, _)| *of == status.as_u16()).unwrap_or(OUTCOMES.len() - 1);
        self.verifications[outcome].note(began.took());
    }

    /// Notes an answer to any other request; `route` is none where there was no such path.
    pub(super) fn requested(&self, method: &Method, route: Option<&str>, status: StatusCode, took: Duration) {
        self.answered(status);
        let (method, route) = (named(method), route.unwrap_or("-").to_owned());
        self.took.get_or_create(&Route { method, route: route.clone() }).0.note(took);
        self.requests.get_or_create(&Request { method, route, status: status.as_u16().into() }).inc();
    }
}

/// Its name, if it is one that everybody knows: of others there are as many as clients think of.
fn named(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

/// Durations as they are noted.
#[derive(Debug, Default)]
struct Took(Durations);

impl EncodeMetric for Took {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        Noted(self.0.read()).encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Took {
    const TYPE: MetricType = MetricType::Histogram;
}

/// Durations as they were noted.
#[derive(Debug)]
struct Noted(Histogram);

impl EncodeMetric for Noted {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let buckets: Vec<_> = self.0.buckets().collect();
        encoder.encode_histogram::<NoLabelSet>(self.0.took.as_secs_f64(), self.0.count(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[derive(Debug)]
struct ByOutcome(Vec<(Outcome, Noted)>);

impl EncodeMetric for ByOutcome {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(outcome, took)| took.encode(encoder.encode_family(outcome)?))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The page.
///
/// # Errors
/// None that can happen: it is written into memory.
pub(super) fn page(app: &App) -> Result<String, fmt::Error> {
    let figures = app.authority.figures();
    let mut all = Registry::default();
    process::register(&mut all);
    let registry = all.sub_registry_with_prefix("countersign");
    registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    of_requests(registry, app, &figures);
    of_authority(registry, figures);
    let lost = ConstCounter::new((app.surroundings.log_lines_lost)());
    registry.register("log_lines_lost", "Lines of the log that nobody took in time, or that could not be written", lost);
    let failures = ConstCounter::new((app.surroundings.otlp_failures)());
    registry.register("otlp_failures", "Traces or lines of the log that could not be sent to the collector, by request", failures);
    let mut text = String::new();
    encode(&mut text, &all).map(|()| text)
}

fn of_requests(registry: &mut Registry, app: &App, figures: &Figures) {
    let metrics = &app.metrics;
    let answers = Family::<Status, Counter>::default();
    for status in 0..600 {
        let count = metrics.statuses.all().map(|statuses| statuses.0[status].load(Ordering::Relaxed)).sum();
        if count > 0 {
            answers.get_or_create(&Status { status: status as u32 }).inc_by(count);
        }
    }
    registry.register("http_responses", "Answers by status", answers);
    registry.register("panics", "Requests that ended in a defect", metrics.panics.clone());
    let refusals = Family::<Refused, Counter>::default();
    for (reason, count) in &figures.denials {
        refusals.get_or_create(&Refused { reason: reason.name() }).inc_by(*count);
    }
    registry.register("refusals", "Refused credentials and calls by reason", refusals);
    let took = OUTCOMES.iter().zip(&metrics.verifications).map(|((_, outcome), took)| (Outcome { outcome }, Noted(took.read())));
    let took = ByOutcome(took.collect());
    let verifications = Family::<Outcome, Counter>::default();
    for (outcome, took) in &took.0 {
        verifications.get_or_create(outcome).inc_by(took.0.count());
    }
    registry.register("verifications", "Requests of gateways by what became of them", verifications);
    let help = "How long those took, from their last byte in the process to the answer's first";
    registry.register_with_unit("verification_duration", help, Unit::Seconds, took);
    registry.register("requests", "Requests that are no verifications", metrics.requests.clone());
    registry.register_with_unit("request_duration", "How long those took", Unit::Seconds, metrics.took.clone());
}

fn of_authority(registry: &mut Registry, figures: Figures) {
    let seconds = |time: Duration| ConstGauge::new(time.as_secs_f64());
    let gauge = |value: usize| ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register("live_tokens", "Live tokens in the resident index", gauge(figures.live_tokens));
    registry.register_with_unit("index", "The resident index", Unit::Bytes, gauge(figures.index_bytes));
    if let Some(holds) = figures.lease_holds {
        registry.register("lease_holds", "Whether the index is believed", gauge(usize::from(holds)));
    }
    if let Some(age) = figures.lease_age {
        let help = "How old what the index says is at the most: since the beginning of the last read of the feed";
        registry.register_with_unit("lease_age", help, Unit::Seconds, seconds(age));
    }
    registry.register("feed_seq", "The place of the change feed that the index has followed", ConstCounter::new(figures.followed));
    registry.register("stale", "Whether credentials are accepted from an index older than its lease", gauge(usize::from(figures.stale)));
    registry.register(
        "stale_accepts",
        "Credentials accepted from an index older than its lease: the database could not be reached",
        ConstCounter::new(figures.stale_accepts),
    );
    registry.register("integrity_failures", "Stored rows that are not as they were sealed", gauge(figures.tampered));
    registry.register("keys_lacking", "Keys that the database knows and the key file here lacks", gauge(figures.keys_lacking));
    let failures = ConstCounter::new(figures.key_reload_failures);
    registry.register("key_reload_failures", "Key files that were not taken over: the keys stayed what they were", failures);
    registry.register("ends", "Tokens that were ended here", ConstCounter::new(figures.ends));
    registry.register(
        "ends_took_seconds",
        "How long those took in all from being asked for to their commit: the wait behind others, and the flush",
        ConstCounter::new(figures.ends_took.as_secs_f64()),
    );
    let failing = gauge(usize::from(figures.journal_failing));
    registry.register("journal_failing", "Whether the journal cannot be written: what ends is in the database alone", failing);
    registry.register_with_unit("store_commit_duration", "How long transactions of changes took", Unit::Seconds, Noted(figures.commits));
    let help = "How long reads of the database took, the wait for their turn included";
    registry.register_with_unit("store_read_duration", help, Unit::Seconds, Noted(figures.reads));
    registry.register("store_writes_waiting", "Changes that wait for the writer, and end nothing", gauge(figures.writes_waiting));
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
    if let Some(age) = figures.head_age {
        let help = "For how long there may have been entries of the audit log that no head elsewhere is of";
        registry.register_with_unit("audit_head_age", help, Unit::Seconds, seconds(age));
    }
}
