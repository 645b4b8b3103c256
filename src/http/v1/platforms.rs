//! Platforms.

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{By, Owns, error, wire};
use crate::{
    domain::{Invalid, Owner, PlatformId, TokenName},
    http::{App, body, envelope, envelope::Refusal, path},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
}

fn id_in_path(uri: &Uri) -> Result<PlatformId, Refusal> {
    path::behind(uri, "/platforms/").and_then(PlatformId::parse).ok_or_else(error::not_found)
}

/// Reads an id that stands in a member or a parameter.
pub(super) fn id_in(field: &str, text: &str) -> Result<PlatformId, Invalid> {
    PlatformId::parse(text).ok_or_else(|| Invalid::one(field, "format", "must be the id of a platform"))
}

pub(super) async fn list(State(app): State<App>, By(by): By) -> Result<Response, Refusal> {
    let all = app.authority.list_platforms(&by).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &json!({ "platforms": all.iter().map(wire::platform).collect::<Vec<Value>>() })))
}

pub(super) async fn create(State(app): State<App>, Owns(by): Owns, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let New { name } = body::read_as(&headers, body, app.limits.body_timeout).await?;
    let name = TokenName::parse("name", &name).map_err(|invalid| Refusal::invalid(&invalid))?;
    let (platform, roots) = app.authority.create_platform(&by, name, None).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::CREATED, &wire::made(&platform, &roots)))
}

pub(super) async fn read(State(app): State<App>, By(by): By, uri: Uri) -> Result<Response, Refusal> {
    let platform = app.authority.get_platform(&by, id_in_path(&uri)?).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &json!({ "platform": wire::platform(&platform) })))
}

pub(super) async fn disable(State(app): State<App>, Owns(by): Owns, uri: Uri) -> Result<Response, Refusal> {
    set_disabled(app, by, &uri, true).await
}

pub(super) async fn enable(State(app): State<App>, Owns(by): Owns, uri: Uri) -> Result<Response, Refusal> {
    set_disabled(app, by, &uri, false).await
}

async fn set_disabled(app: App, by: Owner, uri: &Uri, disabled: bool) -> Result<Response, Refusal> {
    let changed = app.authority.set_platform_disabled(&by, id_in_path(uri)?, disabled).await;
    let (platform, receipt) = changed.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &json!({ "platform": wire::platform(&platform), "receipt": wire::receipt(&receipt) })))
}
