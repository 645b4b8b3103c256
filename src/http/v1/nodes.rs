//! The processes that answer from memory.

use axum::{extract::State, response::Response};
use http::StatusCode;

use super::{Oversees, error, wire};
use crate::http::{App, envelope, envelope::Refusal};

pub(super) async fn list(State(app): State<App>, Oversees(by): Oversees) -> Result<Response, Refusal> {
    let (last, nodes) = app.authority.list_nodes(&by).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &wire::nodes(last, &nodes, &app.authority.figures())))
}
