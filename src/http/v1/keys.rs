//! The keys that the server seals with. They are changed by commands, where the key file is.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::json;

use super::{Oversees, error, wire};
use crate::http::{App, envelope, envelope::Refusal};

pub(super) async fn list(State(app): State<App>, Oversees(by): Oversees) -> Result<Response, Refusal> {
    let keys = app.authority.list_keys(&by).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &json!({ "keys": keys.iter().map(wire::key).collect::<Vec<_>>() })))
}
