//! The audit log.

use axum::{extract::State, response::Response};
use http::{StatusCode, Uri};
use serde_json::json;

use super::{Asks, error, platforms, wire};
use crate::{
    domain::{Action, Actor, AuditQuery, Invalid, TokenId},
    http::{App, envelope, envelope::Refusal, query::Query},
};

pub(super) async fn list(State(app): State<App>, Asks(by): Asks, uri: Uri) -> Result<Response, Refusal> {
    let query = query_of(uri.query()).map_err(|invalid| Refusal::invalid(&invalid))?;
    let (entries, more) = app.authority.list_audit(&by, query).await.map_err(error::refusal)?;
    let last = entries.last().map(|entry| entry.seq).filter(|_| more);
    let entries: Vec<_> = entries.iter().map(wire::entry).collect();
    Ok(envelope::json(StatusCode::OK, &json!({ "entries": entries, "more": more, "nextBeforeSeq": last })))
}

fn query_of(raw: Option<&str>) -> Result<AuditQuery, Invalid> {
    let mut query = Query::parse(raw, &["platform", "token", "action", "actor", "after", "before", "beforeSeq", "limit"]);
    let wrong = |field: &str, problem: &str| Invalid::one(field, "format", problem);
    let found = AuditQuery {
        platform: query.parsed("platform", |text| platforms::id_in("platform", text)),
        token: query.parsed("token", |text| TokenId::parse(text).ok_or_else(|| wrong("token", "must be the id of a token"))),
        action: query.parsed("action", |text| {
            Action::parse(text).ok_or_else(|| wrong("action", &format!("must be one of {}", Action::ALL.map(Action::name).join(", "))))
        }),
        actor: query
            .parsed("actor", |text| Actor::parse(text).ok_or_else(|| wrong("actor", "must be a token's id, operator:NAME or system"))),
        after: query.time("after", true),
        before: query.time("before", false),
        before_seq: query.parsed("beforeSeq", |text| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| plain).ok_or_else(|| wrong("beforeSeq", "must be a place: a whole number"))
        }),
        limit: query.limit("limit").unwrap_or_default(),
    };
    query.finish()?;
    Ok(found)
}
