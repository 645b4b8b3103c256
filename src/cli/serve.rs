//! `countersign serve`

use std::sync::Arc;

use clap::Args;
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use super::{Failure, Outcome, bench, output, settings::AllSettings};
use crate::{
    authority::{AttemptLimits, Authority, Entropy as _, Follower, Options, SystemClock, SystemEntropy, Upkeep, audit::HeadWriter},
    config::Config,
    http::{self, App, Limits, Listeners, Surroundings},
    telemetry,
};

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Ends when the process of this number does, which has started it
    #[arg(long, hide = true, value_name = "PID")]
    with_parent: Option<i32>,
    #[command(flatten)]
    settings: AllSettings,
}

impl Serve {
    pub(super) async fn run(self) -> Outcome {
        if let Some(parent) = self.with_parent {
            bench::end_with_parent(parent).map_err(|e| Failure::CouldNotRun(e.to_string()))?;
        }
        let config = self.settings.to_serve()?;
        let server = Server::start(config).await?;
        server.run().await
    }
}

/// A server that is open and bound, and not serving yet.
pub(super) struct Server {
    pub(super) authority: Arc<Authority>,
    pub(super) listeners: Listeners,
    config: Config,
    app: App,
    heads: Option<HeadWriter>,
    signals: watch::Receiver<u32>,
    hangup: Signal,
    log: telemetry::Log,
}

impl Server {
    pub(super) async fn start(mut config: Config) -> Result<Self, Failure> {
        let log = telemetry::start(&config).map_err(Failure::CouldNotRun)?;
        raise_descriptors(&mut config);
        // First of all: a signal that comes while the index is loading must not be lost.
        let (signals, hangup) = (signals()?, watched(SignalKind::hangup())?);
        let attempts = AttemptLimits { per_source: config.failed_attempts_per_source, per_client: config.failed_attempts_per_client };
        let options = Options {
            database: super::database(&config),
            keys: config.keys.clone(),
            create: true,
            lease: Some(config.lease),
            on_database_loss: config.on_database_loss,
            revocation_wait: config.revocation_wait,
            journal: Some(config.journal.clone()),
            attempts,
            use_sources: config.use_sources,
            max_tokens: (config.max_tokens > 0).then_some(config.max_tokens),
        };
        let authority = Authority::open(options, Arc::new(SystemClock), Arc::new(SystemEntropy)).await.map_err(Failure::CouldNotRun)?;
        let authority = Arc::new(authority);
        let listeners = Listeners {
            api: bind("listen", config.listen)?,
            admin: bind("admin-listen", config.admin_listen)?,
            ext_authz: config.ext_authz_listen.map(|address| bind("ext-authz-listen", address)).transpose()?,
        };
        let mut run = [0; 4];
        SystemEntropy.fill(&mut run).map_err(|e| Failure::CouldNotRun(format!("no random bytes: {}", e.0)))?;
        let limits = Limits { body_timeout: config.body_timeout, request_timeout: config.request_timeout };
        let surroundings = Surroundings {
            gateways: config.gateways.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            assertions: config.assertion.then(|| authority.assertions(config.assertion_lifetime, config.assertion_audience.clone())),
            log_lines_lost: telemetry::lines_lost,
            otlp_failures: telemetry::otlp_failures,
            settings: config.shown().to_vec(),
        };
        let app = App::new(Arc::clone(&authority), Arc::new(SystemClock), limits, surroundings, u32::from_be_bytes(run));
        let sinks = (!config.audit_head.is_empty()).then_some(&config.audit_head);
        let heads = sinks.map(|sinks| HeadWriter::new(&authority, sinks)).transpose();
        let heads = heads.map_err(Failure::CouldNotRun)?;
        Ok(Self { authority, listeners, config, app, heads, signals, hangup, log })
    }

    /// Serves until a signal; then, after the drain delay, accepts nothing more, finishes what is under way, and writes
    /// what was only noted.
    pub(super) async fn run(self) -> Outcome {
        let Self { authority, listeners, config, app, heads, mut signals, mut hangup, log: _log } = self;
        let failed = |e: std::io::Error| Failure::CouldNotRun(e.to_string());
        let follower = Follower::start(&authority).map_err(failed)?;
        let (admin, api) = (listeners.admin.local_addr().map_err(failed)?, listeners.api.local_addr().map_err(failed)?);
        output::error(&format!("admin on http://{admin}"));
        if let Some(ext_authz) = &listeners.ext_authz {
            output::error(&format!("ext_authz on http://{}", ext_authz.local_addr().map_err(failed)?));
        }
        output::error(&format!("listening on http://{api}"));

        let (end, ending) = watch::channel(false);
        let upkeep = Upkeep::start(&authority, config.flush_interval);
        let heads = heads.map(HeadWriter::start).transpose().map_err(failed)?;
        let loading = tokio::spawn({
            let authority = Arc::clone(&authority);
            async move {
                match authority.load_tokens().await {
                    Ok(()) => tracing::info!(live_tokens = authority.figures().live_tokens, "all tokens are in memory"),
                    Err(e) => tracing::error!(cause = %e, "not all tokens are in memory; the others are read as they are asked for"),
                }
            }
        });
        let reloading = tokio::spawn({
            let authority = Arc::clone(&authority);
            async move {
                while hangup.recv().await.is_some() {
                    // Logged and counted there; a bad file changes nothing.
                    let _ = authority.reload_keys().await;
                }
            }
        });
        let serving = http::serve(app.clone(), listeners, &config, ending);
        let signalled = async {
            let _ = signals.wait_for(|count| *count >= 1).await;
            tracing::info!("ending: finishing what is under way");
            app.begin_ending();
            let drained = async {
                tokio::time::sleep(config.drain_delay).await;
                let _ = end.send(true);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = drained => {}
                _ = signals.wait_for(|count| *count >= 2) => {}
            }
        };
        let impatient = tokio::select! {
            () = serving => false,
            () = signalled => true,
        };
        loading.abort();
        reloading.abort();
        drop(follower);
        if impatient {
            return Err(Failure::CouldNotRun("told to end twice: ended at once".to_owned()));
        }
        if let Err(e) = upkeep.end().await {
            tracing::error!(cause = %e, "uses of the last seconds are lost");
        }
        // Behind the last entry that this process writes.
        if let Some(heads) = heads {
            heads.end().await;
        }
        Ok(())
    }
}

/// Descriptors for everything that is not a client's connection: databases, locks, the log; operators, and Envoys.
pub(super) fn descriptors_kept(config: &Config) -> u64 {
    40 + http::ADMIN_CONNECTIONS as u64 + config.ext_authz_listen.map_or(0, |_| http::EXT_AUTHZ_CONNECTIONS as u64)
}

/// Allows this process as many files as it may have, and no more connections than that leaves room for.
fn raise_descriptors(config: &mut Config) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let kept = descriptors_kept(config);
    let rest = |files: u64| usize::try_from(files.saturating_sub(kept)).unwrap_or(usize::MAX);
    let room = files.map_or(usize::MAX, rest).max(8);
    if config.max_connections > room {
        tracing::warn!(
            files,
            connections = room,
            "the limit on open files allows fewer connections than max_connections; raise it (ulimit -n)"
        );
        config.limit_connections(room);
    }
}

fn bind(setting: &str, address: std::net::SocketAddr) -> Result<TcpListener, Failure> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        // A flood of connections must not push out the few that count.
        socket.listen(4096)
    };
    bound().map_err(|e| Failure::CouldNotRun(format!("cannot listen on {address}: {e}; choose another with --{setting}")))
}

fn watched(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::CouldNotRun(format!("cannot watch for signals: {e}")))
}

/// Counts the signals that ask for the end.
fn signals() -> Result<watch::Receiver<u32>, Failure> {
    let (mut terminate, mut interrupt) = (watched(SignalKind::terminate())?, watched(SignalKind::interrupt())?);
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            count.send_modify(|count| *count += 1);
        }
    });
    Ok(counted)
}
