//! Ending many tokens by one request: looked at first, then begun with how many they are, and followed to the end.

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{By, Manages, error, platforms, wire};
use crate::{
    authority::{BulkPlan, filter},
    domain::{BulkId, BulkRevoke, Environment, Invalid, LastUse, Permission, Scope, Timestamp, TokenSearch, name_part},
    http::{
        App,
        body::{self, Members},
        envelope,
        envelope::Refusal,
        path,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Asked {
    filter: Members<Filter>,
    #[serde(default)]
    dry_run: bool,
    expected_count: Option<u64>,
}

/// A member that is there: null is not the same as leaving it out, which finds more.
fn given<'de, D: Deserializer<'de>>(member: D) -> Result<Option<String>, D::Error> {
    String::deserialize(member).map(Some)
}

/// As [`wire::bulk`] shows it: what a dry run answers can be sent as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Filter {
    #[serde(default, deserialize_with = "given")]
    platform: Option<String>,
    #[serde(default, deserialize_with = "given")]
    environment: Option<String>,
    #[serde(default, deserialize_with = "given")]
    name_part: Option<String>,
    #[serde(default, deserialize_with = "given")]
    permission: Option<String>,
    #[serde(default)]
    never_used: bool,
    #[serde(default, deserialize_with = "given")]
    used_before: Option<String>,
    #[serde(default, deserialize_with = "given")]
    used_since: Option<String>,
    #[serde(default, deserialize_with = "given")]
    created_since: Option<String>,
    #[serde(default, deserialize_with = "given")]
    created_until: Option<String>,
}

impl Filter {
    fn search(self) -> Result<TokenSearch, Invalid> {
        let mut invalid = Invalid::default();
        let moment = |field: &str, text: &str| {
            let wrong = || Invalid::one(field, "date_time", "must be an RFC 3339 date-time such as 2025-07-21T17:32:28Z");
            Timestamp::parse_rfc3339(text, field.ends_with("Since")).ok_or_else(wrong)
        };
        let mut time = |field: &str, text: Option<String>| text.and_then(|text| invalid.take(moment(field, &text)));
        let (before, since) = (time("filter.usedBefore", self.used_before), time("filter.usedSince", self.used_since));
        let (from, until) = (time("filter.createdSince", self.created_since), time("filter.createdUntil", self.created_until));
        let used = match (self.never_used, before, since) {
            (true, None, None) => Some(LastUse::Never),
            (false, Some(at), None) => Some(LastUse::Before(at)),
            (false, None, Some(at)) => Some(LastUse::Since(at)),
            (false, None, None) => None,
            _ => {
                invalid.add("filter.usedBefore", "exclusive", "goes with neither filter.usedSince nor filter.neverUsed");
                None
            }
        };
        let platform = self.platform.and_then(|text| invalid.take(platforms::id_in("filter.platform", &text)));
        let environment = self.environment.and_then(|text| {
            let wrong = || Invalid::one("filter.environment", "enum", "must be sandbox or production");
            invalid.take(Environment::parse(&text).ok_or_else(wrong))
        });
        let scope = match (platform, environment) {
            (Some(platform), Some(environment)) => Some(Scope { platform, environment }),
            (None, None) => None,
            _ => {
                invalid.add("filter.environment", "required", "and filter.platform are given together");
                None
            }
        };
        let permission = self.permission.and_then(|name| {
            let wrong = || Invalid::one("filter.permission", "enum", "must be VIEW, TRANSACT or MANAGE");
            invalid.take(Permission::parse(&name).ok_or_else(wrong))
        });
        let name = self.name_part.and_then(|text| invalid.take(name_part("filter.namePart", &text))).flatten();
        invalid.into_result()?;
        let (from, until) = (from.unwrap_or(Timestamp::MIN), until.unwrap_or(Timestamp::MAX));
        Ok(TokenSearch { scope, name, permission, used, from, until, ..TokenSearch::default() })
    }
}

pub(super) async fn revoke(State(app): State<App>, Manages(by): Manages, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let Asked { filter: Members(wanted), dry_run, expected_count } = body::read_as(&headers, body, app.limits.body_timeout).await?;
    let mut invalid = Invalid::default();
    let search = invalid.take(wanted.search());
    match (dry_run, expected_count) {
        (false, None) => invalid.add("expectedCount", "required", "is required, or dryRun: true in its place, which says it"),
        (true, Some(_)) => invalid.add("expectedCount", "exclusive", "goes without dryRun, which says it"),
        _ => {}
    }
    let (Some(search), Ok(())) = (search, invalid.clone().into_result()) else { return Err(Refusal::invalid(&invalid)) };
    if let Some(expected) = expected_count {
        let bulk = app.authority.begin_bulk_revoke(&by, search, expected, None).await.map_err(error::refusal)?;
        return Ok(answer(expected, &bulk.search, Vec::new(), Some(&bulk)));
    }
    let BulkPlan { search, count, first } = app.authority.plan_bulk_revoke(&by, search).await.map_err(error::refusal)?;
    Ok(answer(count, &search, first.iter().map(wire::found).collect(), None))
}

fn answer(count: u64, search: &TokenSearch, tokens: Vec<Value>, begun: Option<&BulkRevoke>) -> Response {
    let json = json!({ "count": count, "filter": filter(search), "tokens": tokens, "bulkRevoke": begun.map(wire::bulk) });
    envelope::json(StatusCode::OK, &json)
}

pub(super) async fn list(State(app): State<App>, By(by): By) -> Result<Response, Refusal> {
    let all = app.authority.list_bulk_revokes(&by).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &json!({ "bulkRevokes": all.iter().map(wire::bulk).collect::<Vec<_>>() })))
}

fn id_in_path(uri: &Uri) -> Result<BulkId, Refusal> {
    path::behind(uri, "/bulk-revokes/").and_then(BulkId::parse).ok_or_else(error::not_found)
}

pub(super) async fn read(State(app): State<App>, By(by): By, uri: Uri) -> Result<Response, Refusal> {
    let bulk = app.authority.get_bulk_revoke(&by, id_in_path(&uri)?).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &wire::bulk(&bulk)))
}

pub(super) async fn stop(State(app): State<App>, Manages(by): Manages, uri: Uri) -> Result<Response, Refusal> {
    let bulk = app.authority.stop_bulk_revoke(&by, id_in_path(&uri)?).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &wire::bulk(&bulk)))
}
