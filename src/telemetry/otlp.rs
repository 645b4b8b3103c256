//! Traces and log lines to a collector, by OTLP over HTTP.
//!
//! The library gathers them, on threads of its own, and drops what nobody takes in time; ours is what sends them.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use opentelemetry::{
    Key, KeyValue,
    trace::{SpanId, TraceId, TracerProvider as _},
};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{LogExporter, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    trace::{IdGenerator, Sampler, SdkTracerProvider},
};
use tokio::runtime::Handle;
use tracing::{Level, Subscriber};
use tracing_subscriber::{EnvFilter, Layer, filter::Targets, registry::LookupSpan};

use crate::{
    authority::{Entropy as _, SystemEntropy},
    client::Peer,
    spans::{self, SPANS},
};

/// To connect, send and be answered.
const ANSWER: Duration = Duration::from_secs(10);
/// Of an answer.
const LONGEST: usize = 1 << 20;
/// What is gathered goes out when the process ends; a collector that does not take it holds up nothing longer.
const LAST: Duration = Duration::from_secs(3);

/// How often something could not be sent.
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// How often something could not be sent since start.
pub(crate) fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// Ids from the one source of random bytes: the library's own needs files that an empty root has not got.
#[derive(Debug)]
struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        let mut bytes = [0; 16];
        // Without random bytes it is the id that counts as none.
        let _ = SystemEntropy.fill(&mut bytes);
        TraceId::from_bytes(bytes)
    }

    fn new_span_id(&self) -> SpanId {
        let mut bytes = [0; 8];
        let _ = SystemEntropy.fill(&mut bytes);
        SpanId::from_bytes(bytes)
    }
}

/// Gathers and sends; what is gathered goes out when this is dropped.
pub(super) struct Otlp {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
}

impl Otlp {
    /// Starts sending to a collector, on the runtime that is at hand.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn start(collector: &Uri, ratio: f64) -> Result<Self, String> {
        let client = Collector { peer: Arc::new(Peer::of(collector)?), runtime: Handle::current() };
        let at = |signal: &str| format!("{}/v1/{signal}", collector.to_string().trim_end_matches('/'));
        let resource = resource();
        let spans = SpanExporter::builder().with_http().with_http_client(client.clone()).with_endpoint(at("traces"));
        let records = LogExporter::builder().with_http().with_http_client(client).with_endpoint(at("logs"));
        let traces = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_id_generator(Ids)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
            .with_batch_exporter(spans.with_timeout(ANSWER).build().map_err(|e| e.to_string())?)
            .build();
        let logs = SdkLoggerProvider::builder()
            .with_resource(resource)
            .with_batch_exporter(records.with_timeout(ANSWER).build().map_err(|e| e.to_string())?)
            .build();
        spans::switch_on();
        Ok(Self { traces, logs })
    }

    /// What takes spans, and what takes those lines that the filter lets through.
    pub(super) fn layers<S: Subscriber + for<'s> LookupSpan<'s>>(&self, filter: EnvFilter) -> impl Layer<S> + use<S> {
        let traces = tracing_opentelemetry::layer()
            .with_tracer(self.traces.tracer("countersign"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(SPANS, Level::INFO));
        traces.and_then(OpenTelemetryTracingBridge::new(&self.logs).with_filter(filter))
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        // Nobody is left to be told what went wrong.
        let _ = self.traces.shutdown_with_timeout(LAST);
        let _ = self.logs.shutdown_with_timeout(LAST);
    }
}

/// Who we are: what `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say, which the library reads, or else our name.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let given = Resource::builder().with_attribute(version.clone()).build();
    match given.get(&Key::new("service.name")) {
        Some(name) if !name.as_str().starts_with("unknown_service") => given,
        _ => Resource::builder().with_attribute(version).with_service_name("countersign").build(),
    }
}

/// Sends requests to one collector, whatever thread they come from.
#[derive(Clone)]
struct Collector {
    peer: Arc<Peer>,
    runtime: Handle,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Collector").field(&self.peer.name()).finish()
    }
}

impl HttpClient for Collector {
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        let peer = Arc::clone(&self.peer);
        // The threads that gather have no runtime.
        let sent = self.runtime.spawn(async move { tokio::time::timeout(ANSWER, send(&peer, request)).await });
        Box::pin(async move {
            let answer = match sent.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err("it does not answer".to_owned()),
                Err(e) => Err(e.to_string()),
            };
            let refused = !answer.as_ref().is_ok_and(|answer| answer.status().is_success());
            FAILURES.fetch_add(u64::from(refused), Ordering::Relaxed);
            answer.map_err(HttpError::from)
        })
    }
}

async fn send(peer: &Peer, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let (mut parts, body) = request.into_parts();
    parts.uri = parts.uri.path_and_query().map_or("/", |target| target.as_str()).parse().map_err(|_| "it has no path".to_owned())?;
    let mut connection = peer.connect(|_| true).await?;
    let (parts, body) = connection.send(Request::from_parts(parts, Full::new(body))).await?.into_parts();
    let body = Limited::new(body, LONGEST).collect().await.map_err(|e| e.to_string())?.to_bytes();
    Ok(Response::from_parts(parts, body))
}
