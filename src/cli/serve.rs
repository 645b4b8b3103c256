//! `countersign serve`

use std::{sync::Arc, time::Duration};

use clap::Args;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{Failure, Outcome, output, settings::AllSettings};
use crate::{
    authority::{Authority, Entropy as _, Follower, Options, SystemClock, SystemEntropy},
    config::Config,
    http::{self, App, Limits, Listeners},
    telemetry,
};

/// How often refusals become an audit entry.
const DENIALS_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: AllSettings,
}

impl Serve {
    pub(super) async fn run(self) -> Outcome {
        let config = self.settings.0.config()?;
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
    signals: watch::Receiver<u32>,
}

impl Server {
    pub(super) async fn start(config: Config) -> Result<Self, Failure> {
        telemetry::start(&config);
        // First of all: a signal that comes while the index is loading must not be lost.
        let signals = signals()?;
        let options = Options { data: config.data.clone(), key_file: config.key_file.clone(), lease: Some(config.lease) };
        let authority = Authority::open(options, Arc::new(SystemClock), Arc::new(SystemEntropy)).await.map_err(Failure::CouldNotRun)?;
        let authority = Arc::new(authority);
        let listeners = Listeners { api: bind("listen", config.listen).await?, admin: bind("admin-listen", config.admin_listen).await? };
        let mut run = [0; 4];
        SystemEntropy.fill(&mut run).map_err(|e| Failure::CouldNotRun(format!("no random bytes: {}", e.0)))?;
        let limits = Limits { body_timeout: config.body_timeout, request_timeout: config.request_timeout };
        let app = App::new(Arc::clone(&authority), Arc::new(SystemClock), limits, format!("{:08x}", u32::from_be_bytes(run)));
        Ok(Self { authority, listeners, config, app, signals })
    }

    /// Serves until a signal; then, after the drain delay, accepts nothing more, finishes what is under way, and writes
    /// what was only noted.
    pub(super) async fn run(self) -> Outcome {
        let Self { authority, listeners, config, app, mut signals } = self;
        let failed = |e: std::io::Error| Failure::CouldNotRun(e.to_string());
        let follower = Follower::start(&authority).map_err(failed)?;
        let (admin, api) = (listeners.admin.local_addr().map_err(failed)?, listeners.api.local_addr().map_err(failed)?);
        output::error(&format!("admin on http://{admin}"));
        output::error(&format!("listening on http://{api}"));

        let (end, ending) = watch::channel(false);
        let upkeep = tokio::spawn(keep_up(Arc::clone(&authority), config.flush_interval));
        let serving = http::serve(app.clone(), listeners, &config, ending);
        let signalled = async {
            let _ = signals.wait_for(|count| *count >= 1).await;
            tracing::info!("ending: finishing what is under way");
            app.begin_ending();
            tokio::time::sleep(config.drain_delay).await;
            let _ = end.send(true);
            let _ = signals.wait_for(|count| *count >= 2).await;
        };
        let impatient = tokio::select! {
            ((), ()) = async { tokio::join!(serving, async {}) } => false,
            () = signalled => true,
        };
        upkeep.abort();
        drop(follower);
        if impatient {
            return Err(Failure::CouldNotRun("told to end twice: ended at once".to_owned()));
        }
        let flushed = async {
            authority.record_denials().await?;
            authority.flush().await
        };
        if let Err(e) = flushed.await {
            tracing::error!(cause = %e, "use times of the last seconds are lost");
        }
        Ok(())
    }
}

async fn bind(setting: &str, address: std::net::SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|e| Failure::CouldNotRun(format!("cannot listen on {address}: {e}; choose another with --{setting}")))
}

/// Counts the signals that ask for the end.
fn signals() -> Result<watch::Receiver<u32>, Failure> {
    let failed = |e: std::io::Error| Failure::CouldNotRun(format!("cannot watch for signals: {e}"));
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?);
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

/// Writes what was noted, again and again.
async fn keep_up(authority: Arc<Authority>, every: Duration) {
    let mut flush = tokio::time::interval(every);
    let mut denials = tokio::time::interval(DENIALS_EVERY);
    loop {
        let written = tokio::select! {
            _ = flush.tick() => authority.flush().await,
            _ = denials.tick() => authority.record_denials().await,
        };
        if let Err(e) = written {
            tracing::error!(cause = %e, "cannot write what was noted; trying again");
        }
    }
}
