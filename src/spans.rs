//! What a trace shows of a request: spans, which go to a collector and never into the log. While there is no collector, none is
//! made.

use std::sync::atomic::{AtomicBool, Ordering};

/// The target of all spans, by which the log leaves them out.
pub(crate) const SPANS: &str = "countersign::spans";

static ON: AtomicBool = AtomicBool::new(false);

/// From now on somebody looks at them.
#[cfg(feature = "server")]
pub(crate) fn switch_on() {
    ON.store(true, Ordering::Relaxed);
}

/// Whether somebody looks at them.
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// What a database is asked for the sake of a request; what it is asked besides is of no trace.
macro_rules! of_database {
    ($what:literal, $system:literal) => {
        if crate::spans::is_on() && !tracing::Span::current().is_none() {
            tracing::info_span!(target: crate::spans::SPANS, $what, otel.kind = "client", db.system.name = $system)
        } else {
            tracing::Span::none()
        }
    };
}
pub(crate) use of_database;

#[cfg(feature = "server")]
pub(crate) use of_requests::{TRACEPARENT, answered, asked, of_request};

#[cfg(feature = "server")]
mod of_requests {
    use http::{HeaderMap, HeaderName, Method};
    use opentelemetry::{propagation::TextMapPropagator as _, trace::TraceContextExt as _};
    use opentelemetry_http::HeaderExtractor;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing::{Span, field::Empty};
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    use super::{SPANS, is_on};

    /// The header by which a caller says what trace a request belongs to, and whether it is traced.
    pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

    /// A request that is being answered, in the trace that its headers say.
    pub(crate) fn of_request(method: &Method, headers: &HeaderMap, request_id: Option<&str>) -> Span {
        if !is_on() {
            return Span::none();
        }
        let span = tracing::info_span!(
            target: SPANS,
            "request",
            otel.name = method.as_str(),
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = method.as_str(),
            http.route = Empty,
            http.response.status_code = Empty,
            countersign.request_id = request_id,
            countersign.caller = Empty,
        );
        // A span that is not taken has no parent either.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&HeaderExtractor(headers)));
        span
    }

    /// The same where nobody is traced who has not asked for it.
    pub(crate) fn asked(method: &Method, headers: &HeaderMap) -> Span {
        if headers.contains_key(TRACEPARENT) { of_request(method, headers, None) } else { Span::none() }
    }

    /// Says what became of it; `route` is none where there was no such path.
    pub(crate) fn answered(span: &Span, method: &Method, route: Option<&str>, status: u16, caller: Option<&str>) {
        if span.is_disabled() {
            return;
        }
        if let Some(route) = route {
            span.context().span().update_name(format!("{method} {route}"));
            span.record("http.route", route);
        }
        span.record("http.response.status_code", i64::from(status));
        if status >= 500 {
            span.record("otel.status_code", "ERROR");
        }
        if let Some(caller) = caller {
            span.record("countersign.caller", caller);
        }
    }
}
