//! The keys that the server seals with. They are added and activated by commands, where the key file is; retired from anywhere,
//! because it is the database that says so.

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use super::{Oversees, Owns, error, wire};
use crate::{
    domain::Invalid,
    http::{App, body, envelope, envelope::Refusal, path},
};

/// Tokens that one request ends at the most: a few seconds of work.
const PART: usize = 20_000;

pub(super) async fn list(State(app): State<App>, Oversees(by): Oversees) -> Result<Response, Refusal> {
    let keys = app.authority.list_keys(&by).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &json!({ "keys": keys.iter().map(wire::key).collect::<Vec<_>>() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    dry_run: bool,
    expected_count: Option<u64>,
    seq: Option<u64>,
}

pub(super) async fn retire(State(app): State<App>, Owns(by): Owns, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let Asked { dry_run, expected_count, seq } = body::read_as(&headers, body, app.limits.body_timeout).await?;
    let counted = [("expectedCount", expected_count), ("seq", seq)];
    let invalid = counted.iter().find_map(|(field, given)| match (dry_run, given) {
        (false, None) => Some(Invalid::one(field, "required", "is required, as a dry run has answered it, or dryRun: true in its place")),
        (true, Some(_)) => Some(Invalid::one(field, "exclusive", "goes without dryRun, which says it")),
        _ => None,
    });
    if let Some(invalid) = invalid {
        return Err(Refusal::invalid(&invalid));
    }
    let key = id_in_path(&uri)?;
    let (Some(expected), Some(since)) = (expected_count, seq) else {
        let plan = app.authority.plan_retirement(&by, key).await.map_err(error::refusal)?;
        return Ok(envelope::json(StatusCode::OK, &wire::retirement(&plan, None)));
    };
    let retired = app.authority.retire_key(&by, key, expected, since, PART).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &wire::retirement(&retired.of, Some(&retired))))
}

/// One key has one path: no sign, no zero before it.
fn id_in_path(uri: &Uri) -> Result<u32, Refusal> {
    let id = path::behind(uri, "/keys/").and_then(|text| Some((text, text.parse::<u32>().ok()?)));
    id.filter(|(text, id)| id.to_string() == *text).map(|(_, id)| id).ok_or_else(error::not_found)
}
