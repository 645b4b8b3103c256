//! Everything that speaks HTTP: the whole route table, the order of layers, and serving.
//!
//! ```text
//! connection.rs  accepts, waits no longer than it must
//!   streams.rs   many requests on one connection: HTTP/2, where it is spoken
//!   verify/      the hot path: gateways ask whether a request may pass
//!   answer.rs    all else: request id, envelope after a panic, log line
//!     routes     here
//!       auth.rs  who asks: a handler's first argument
//!         grid/ blips/ v1/ wire.rs: shapes · error.rs: statuses
//! ```

mod answer;
mod assertion;
mod auth;
mod blips;
mod body;
mod connection;
mod console;
mod create;
mod date;
mod envelope;
#[doc(hidden)]
pub mod fuzzed;
mod grid;
mod http1;
mod json;
mod metrics;
mod ops;
mod path;
mod process;
mod query;
mod reference;
mod source;
mod streams;
mod under_way;
mod uses;
pub(crate) mod v1;
mod verify;

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    response::{Redirect, Response},
    routing::get,
};
use http::HeaderValue;
use http_body::Body as _;
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::{net::TcpListener, sync::watch};

use self::{
    connection::Waits,
    envelope::{ClientCode, Refusal},
    http1::{Enveloped, Patient},
};
use crate::{
    authority::{Assertions, Authority, Clock},
    config::{Config, Gateway, Shown},
    domain::Operator,
};

pub(crate) use blips::MOUNT as BLIPS;
pub(crate) use envelope::Cause;
pub(crate) use grid::MOUNT as GRID;

/// What a client is told who asks for what is on no listener, or on the other one.
pub(crate) const NO_SUCH_PATH: &str = "There is no such path.";

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To send its body.
    pub body_timeout: Duration,
    /// To be answered.
    pub request_timeout: Duration,
}

/// What stands around us.
#[derive(Debug)]
pub struct Surroundings {
    /// The kinds of gateways, and where each writes what the client sent.
    pub gateways: Vec<Gateway>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What signs what gateways are told, for the upstreams behind them.
    pub assertions: Option<Assertions>,
    /// How many lines of the log were lost since start.
    pub log_lines_lost: fn() -> u64,
    /// How often traces or lines could not be sent to a collector since start.
    pub otlp_failures: fn() -> u64,
    /// What this process was told, and by whom.
    pub settings: Vec<Shown>,
}

/// What handlers work with. One reference to clone.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// What all handlers share.
pub struct Shared {
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    surroundings: Surroundings,
    metrics: metrics::Metrics,
    ending: AtomicBool,
    /// The start of all request ids of this process, and how many there were.
    ids: (u32, AtomicU64),
    date: date::Shown,
    under_way: under_way::UnderWay,
    long_ones: body::LongOnes,
    /// In which minute a gateway's mistaken configuration was last reported.
    misconfigured: AtomicU64,
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl App {
    /// An app over an authority. `run` begins all request ids of this process, and is to differ at each start.
    pub fn new(authority: Arc<Authority>, clock: Arc<dyn Clock>, limits: Limits, surroundings: Surroundings, run: u32) -> Self {
        Self(Arc::new(Shared {
            authority,
            clock,
            limits,
            surroundings,
            metrics: metrics::Metrics::default(),
            ending: AtomicBool::new(false),
            ids: (run, AtomicU64::new(1)),
            date: date::Shown::default(),
            under_way: under_way::UnderWay::default(),
            long_ones: body::LongOnes::default(),
            misconfigured: AtomicU64::new(0),
        }))
    }

    /// A new request id, which is ASCII: what all of this process begin with, and eight hex digits.
    fn new_request_id(&self) -> [u8; 17] {
        let (run, count) = &self.ids;
        let count = count.fetch_add(1, Ordering::Relaxed) as u32;
        let mut id = [b'-'; 17];
        id[..8].copy_from_slice(&hex(*run));
        id[9..].copy_from_slice(&hex(count));
        id
    }

    fn request_id_text(&self) -> String {
        self.new_request_id().into_iter().map(char::from).collect()
    }

    /// Where a request comes from, with the values of its `X-Forwarded-For`.
    fn source<'f>(&self, forwarded: impl DoubleEndedIterator<Item = &'f [u8]>, peer: SocketAddr) -> IpAddr {
        source::of(&self.surroundings.trusted_proxies, forwarded, peer)
    }

    /// Now, as the `Date` header has it.
    fn date(&self) -> HeaderValue {
        self.date.at(self.clock.wall())
    }

    /// Says, at most once a minute, that a gateway asks for what does not exist.
    fn report_misconfigured(&self, what: &str) {
        let minute = self.clock.boot().as_secs() / 60 + 1;
        if self.misconfigured.swap(minute, Ordering::Relaxed) != minute {
            tracing::error!(what, "a gateway is not configured as it should be; its requests are answered 503");
        }
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// From now on not ready.
    pub fn begin_ending(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// All routes of the API listener.
    fn api(&self) -> Router {
        let published = Router::new().nest(grid::MOUNT, grid::routes()).nest(blips::MOUNT, blips::routes()).merge(reference::routes());
        self.finish(if self.surroundings.assertions.is_some() { published.merge(assertion::routes()) } else { published })
    }

    /// All routes of the admin listener.
    fn admin(&self) -> Router {
        // With and without the slash: what is nested has only the one without.
        let home = Router::new().route("/", get(async || Redirect::to(console::HOME)));
        let machines = ops::routes().merge(reference::admin_routes()).nest(v1::MOUNT, v1::routes());
        self.finish(machines.merge(home).merge(console::mounted()))
    }

    fn finish(&self, routes: Router<Self>) -> Router {
        routes
            .route_layer(axum::middleware::from_fn(answer::note_route))
            .method_not_allowed_fallback(async || {
                Refusal::client(ClientCode::MethodNotAllowed, "This path exists, but not with this method; see Allow.")
            })
            .fallback(async || Refusal::client(ClientCode::ReferenceNotFound, NO_SUCH_PATH))
            .with_state(self.clone())
    }

    /// Answers one request of the API listener in the process, without a connection: for tests and embedding.
    pub async fn answer(&self, request: Request, peer: SocketAddr) -> Response {
        let (parts, body) = request.into_parts();
        if verify::is_asked(&parts) {
            return verify::answer(self.clone(), parts, peer, !body.is_end_stream()).await;
        }
        let request = Request::from_parts(parts, body);
        answer::answer_routed(self.clone(), self.api(), request, peer).await
    }

    /// Answers one request of the admin listener in the process.
    pub async fn answer_admin(&self, request: Request, peer: SocketAddr) -> Response {
        answer::answer_routed(self.clone(), self.admin(), request, peer).await
    }

    /// Answers one request of the admin listener in the process, as somebody who was proven already: whoever runs a command. No
    /// request from outside can say this of itself, as extensions are nothing that is sent.
    pub(crate) async fn answer_as(&self, operator: Operator, mut request: Request) -> Response {
        request.extensions_mut().insert(operator);
        self.answer_admin(request, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }
}

/// The listeners, bound.
#[derive(Debug)]
pub struct Listeners {
    /// For the APIs.
    pub api: TcpListener,
    /// For operators.
    pub admin: TcpListener,
    /// For Envoy's `ext_authz`, where it is switched on.
    pub ext_authz: Option<TcpListener>,
}

fn hex(value: u32) -> [u8; 8] {
    std::array::from_fn(|at| b"0123456789abcdef"[(value >> (28 - 4 * at)) as usize & 15])
}

/// What a listener answers.
#[derive(Clone)]
struct Routed {
    app: App,
    router: Router,
    /// Whether gateways may ask here.
    verifies: bool,
}

impl http1::Service for Routed {
    async fn answer_plain(&self, stream: &mut Patient, peer: SocketAddr) -> Option<Vec<u8>> {
        if self.verifies { verify::answer_plain(&self.app, stream, peer).await } else { Some(Vec::new()) }
    }

    fn answer(&self, request: http::Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Response> + Send + use<> {
        let Self { app, router, verifies } = self.clone();
        async move {
            let (parts, body) = request.into_parts();
            if verifies && verify::is_asked(&parts) && answer::is_well_formed(&parts) {
                return verify::answer(app, parts, peer, !body.is_end_stream()).await;
            }
            answer::answer(app, router, http::Request::from_parts(parts, body), peer).await
        }
    }
}

/// Connections of the admin listener at the most: whoever keeps some busy there must not keep out who looks after us. Strangers
/// have two seconds for a form, and an operator has a part of the places.
pub(crate) const ADMIN_CONNECTIONS: usize = 256;
/// For how long an operator keeps a place there that others wait for.
const ADMIN_TURN: Duration = Duration::from_secs(2);
/// Connections of the `ext_authz` listener at the most: each thread of an Envoy has one.
pub(crate) const EXT_AUTHZ_CONNECTIONS: usize = 256;

/// Serves all listeners until `ending` says so, then lets requests under way finish; the admin listener answers until
/// they have.
pub async fn serve(app: App, listeners: Listeners, config: &Config, ending: watch::Receiver<bool>) {
    let waits = Waits {
        header: config.header_timeout,
        idle: config.idle_timeout,
        write: config.write_timeout,
        max_connections: config.max_connections,
        known: Duration::MAX,
    };
    let listen = |listener, router: Router, verifies: bool, max_connections, ending| {
        let known = if verifies { Duration::MAX } else { ADMIN_TURN };
        let app = app.clone();
        let ids = app.clone();
        let enveloped: Enveloped = Arc::new(move |theirs| answer::refused_head(theirs, &ids.request_id_text()));
        let service = Routed { app: app.clone(), router, verifies };
        let begin = move |stream, peer| http1::serve(stream, peer, service.clone(), Arc::clone(&enveloped));
        connection::serve(listener, Waits { max_connections, known, ..waits.clone() }, begin, ending, config.drain_timeout)
    };
    let ext_authz = async |listener, ending| {
        let waits = Waits { max_connections: EXT_AUTHZ_CONNECTIONS, ..waits.clone() };
        let (app, patience) = (app.clone(), waits.header);
        let begin = move |stream, peer| {
            let app = app.clone();
            streams::http2(stream, patience, move |request| verify::ext_authz::answer(app.clone(), request, peer))
        };
        connection::serve(listener, waits, begin, ending, config.drain_timeout).await;
    };
    let (drained, admin_ending) = watch::channel(false);
    let gateways = async {
        let api = listen(listeners.api, app.api(), true, config.max_connections, ending.clone());
        match listeners.ext_authz {
            Some(listener) => drop(tokio::join!(api, ext_authz(listener, ending))),
            None => api.await,
        }
        let _ = drained.send(true);
    };
    tokio::join!(gateways, listen(listeners.admin, app.admin(), false, ADMIN_CONNECTIONS, admin_ending));
}
