//! Everything that speaks HTTP: the whole route table, the order of layers, and serving.
//!
//! ```text
//! connection.rs  accepts, waits no longer than it must
//!   answer.rs    request id, envelope after a panic, log line
//!     routes     here
//!       auth.rs  who asks: a handler's first argument
//!         grid/ blips/     wire.rs: shapes · error.rs: statuses
//! ```

mod answer;
mod auth;
mod blips;
mod body;
mod connection;
mod create;
mod envelope;
mod grid;
mod json;
mod ops;
mod path;
mod query;
mod reference;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request, response::Response};
use tokio::{net::TcpListener, sync::watch};

use self::{
    connection::Waits,
    envelope::{ClientCode, Refusal},
};
use crate::{
    authority::{Authority, Clock},
    config::Config,
};

pub(crate) use blips::MOUNT as BLIPS;
pub(crate) use grid::MOUNT as GRID;

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To send its body.
    pub body_timeout: Duration,
    /// To be answered.
    pub request_timeout: Duration,
}

/// What handlers work with.
#[derive(Clone)]
pub struct App {
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    metrics: Arc<ops::Metrics>,
    ending: Arc<AtomicBool>,
    /// The start of all request ids of this process, and how many there were.
    ids: Arc<(String, AtomicU64)>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl App {
    /// An app over an authority. `run` begins all request ids of this process: eight hex digits that differ at each start.
    pub fn new(authority: Arc<Authority>, clock: Arc<dyn Clock>, limits: Limits, run: String) -> Self {
        let (metrics, ending) = (Arc::default(), Arc::default());
        Self { authority, clock, limits, metrics, ending, ids: Arc::new((run, AtomicU64::new(1))) }
    }

    fn new_request_id(&self) -> String {
        let (run, count) = &*self.ids;
        format!("{run}-{:08x}", count.fetch_add(1, Ordering::Relaxed))
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
        self.finish(Router::new().nest(grid::MOUNT, grid::routes()).nest(blips::MOUNT, blips::routes()).merge(reference::routes()))
    }

    /// All routes of the admin listener.
    fn admin(&self) -> Router {
        self.finish(ops::routes())
    }

    fn finish(&self, routes: Router<Self>) -> Router {
        routes
            .route_layer(axum::middleware::from_fn(answer::note_route))
            .method_not_allowed_fallback(async || {
                Refusal::client(ClientCode::MethodNotAllowed, "This path exists, but not with this method; see Allow.")
            })
            .fallback(async || Refusal::client(ClientCode::ReferenceNotFound, "There is no such path."))
            .with_state(self.clone())
    }

    /// Answers one request of the API listener in the process, without a connection: for tests and embedding.
    pub async fn answer(&self, request: Request, peer: SocketAddr) -> Response {
        answer::answer_routed(self.clone(), self.api(), request, peer).await
    }

    /// Answers one request of the admin listener in the process.
    pub async fn answer_admin(&self, request: Request, peer: SocketAddr) -> Response {
        answer::answer_routed(self.clone(), self.admin(), request, peer).await
    }
}

/// The two listeners, bound.
#[derive(Debug)]
pub struct Listeners {
    /// For the APIs.
    pub api: TcpListener,
    /// For operators.
    pub admin: TcpListener,
}

/// Connections of the admin listener at the most.
const ADMIN_CONNECTIONS: usize = 16;

/// Serves both listeners until `ending` says so, then lets requests under way finish; the admin listener answers until
/// they have.
pub async fn serve(app: App, listeners: Listeners, config: &Config, ending: watch::Receiver<bool>) {
    let waits = Waits {
        header: config.header_timeout,
        idle: config.idle_timeout,
        write: config.write_timeout,
        max_connections: config.max_connections,
    };
    let listen = |listener, router: Router, max_connections, ending| {
        let app = app.clone();
        let ids = app.clone();
        let enveloped = Arc::new(move |theirs: &[u8]| answer::refused_head(theirs, &ids.new_request_id()));
        let service = move |request, peer| answer::answer(app.clone(), router.clone(), request, peer);
        connection::serve(listener, Waits { max_connections, ..waits.clone() }, service, enveloped, ending, config.drain_timeout)
    };
    let (drained, admin_ending) = watch::channel(false);
    let api = async {
        listen(listeners.api, app.api(), config.max_connections, ending).await;
        let _ = drained.send(true);
    };
    tokio::join!(api, listen(listeners.admin, app.admin(), ADMIN_CONNECTIONS, admin_ending));
}
