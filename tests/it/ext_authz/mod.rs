//! Envoy's `ext_authz` over gRPC, asked over HTTP/2 as Envoy asks it.
//!
//! What asks shares no code with what answers, so the other side of the protocol stands here too.

mod client;
mod envoy;

mod calls;
mod decisions;
mod flood;
mod waits;

use crate::{
    support::{Listening, operator},
    verify::payments,
};

/// An app with operations to decide by.
async fn with_operations() -> Listening {
    let listening = Listening::new().await;
    listening.app.authority.load_operations(&operator(), &payments()).await.unwrap();
    listening
}
