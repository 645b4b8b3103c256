//! What the server was told, and by whom.

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::json;

use super::{Oversees, wire};
use crate::http::{App, envelope};

pub(super) async fn list(State(app): State<App>, Oversees(_by): Oversees) -> Response {
    let settings: Vec<_> = app.surroundings.settings.iter().map(wire::setting).collect();
    envelope::json(StatusCode::OK, &json!({ "settings": settings }))
}
