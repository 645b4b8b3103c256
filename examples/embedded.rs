//! A service that takes payments, and asks each request for an API token by itself: two routes, two permissions.
//!
//! Beside `countersign quickstart`:
//!
//! ```sh
//! cargo run --example embedded -- --data ./countersign-data
//! ```

#![expect(clippy::print_stdout, reason = "an example says what it does")]

use std::{error::Error, path::PathBuf};

use axum::{Extension, Router, routing};
use countersign::{
    domain::{Environment, Permission, Proven},
    layer::RequirePermission,
    verifier::{Verifier, VerifierOptions},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data = data_directory().ok_or("usage: embedded --data DIRECTORY")?;
    let verifier = Verifier::open(VerifierOptions::new(data)).await?;

    let may_look = RequirePermission::new(verifier.clone(), Permission::View);
    let may_pay = RequirePermission::new(verifier.clone(), Permission::Transact).in_environment(Environment::Sandbox);
    let service =
        Router::new().route("/balance", routing::get(balance).layer(may_look)).route("/payments", routing::post(pay).layer(may_pay));

    // A service manager ends it by the one, a terminal by the other.
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told_to_end = async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    };

    let listener = TcpListener::bind("127.0.0.1:8430").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, service).with_graceful_shutdown(told_to_end).await?;
    // Writes the uses of the last seconds.
    verifier.close().await?;
    Ok(())
}

async fn balance(Extension(caller): Extension<Proven>) -> String {
    format!("{}, {}: 100.00\n", caller.scope.platform, caller.scope.environment)
}

async fn pay(Extension(caller): Extension<Proven>) -> String {
    format!("paid by {}\n", caller.client_id)
}

fn data_directory() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    let (name, value) = (arguments.next()?, arguments.next()?);
    (name == "--data" && arguments.next().is_none()).then(|| value.into())
}
