//! The audit log.

use std::{ops::RangeInclusive, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::Deserialize;
use serde_json::json;

use super::{Asks, Oversees, Owns, error, oversees, platforms, wire};
use crate::{
    authority::{
        Error,
        audit::{Export, Exporting, Heads, Pruning},
    },
    domain::{Action, Actor, AuditQuery, Invalid, Timestamp, TokenId},
    http::{App, body, envelope, envelope::Refusal, query::Query},
};

/// Entries that one request verifies at the most: about a second of work.
const PART: u64 = 200_000;
/// Entries of a log that is read as a whole while a request waits, at the most: a few seconds of work.
const LONGEST: u64 = 500_000;
/// Heads that a request may bring.
const HEADS: usize = 100;

pub(super) async fn list(State(app): State<App>, Asks(by): Asks, uri: Uri) -> Result<Response, Refusal> {
    let query = query_of(uri.query()).map_err(|invalid| Refusal::invalid(&invalid))?;
    let (entries, more) = app.authority.list_audit(&by, query).await.map_err(error::refusal)?;
    let last = entries.last().map(|entry| entry.seq).filter(|_| more);
    let entries: Vec<_> = entries.iter().map(wire::entry).collect();
    Ok(envelope::json(StatusCode::OK, &json!({ "entries": entries, "more": more, "nextBeforeSeq": last })))
}

fn wrong(field: &str, problem: &str) -> Invalid {
    Invalid::one(field, "format", problem)
}

/// A whole number, in plain decimal digits.
fn number(query: &mut Query, name: &str, within: RangeInclusive<u64>) -> Option<u64> {
    query.parsed(name, |text| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| plain && within.contains(number));
        number.ok_or_else(|| match within.end() {
            &u64::MAX => wrong(name, "must be a place: a whole number"),
            most => wrong(name, &format!("must be a whole number from {} to {most}", within.start())),
        })
    })
}

fn query_of(raw: Option<&str>) -> Result<AuditQuery, Invalid> {
    let mut query = Query::parse(raw, &["platform", "token", "action", "actor", "after", "before", "beforeSeq", "limit"]);
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
        before_seq: number(&mut query, "beforeSeq", 0..=u64::MAX),
        limit: query.limit("limit").unwrap_or_default(),
    };
    query.finish()?;
    Ok(found)
}

pub(super) async fn verify(State(app): State<App>, Asks(by): Asks, uri: Uri) -> Result<Response, Refusal> {
    oversees(&app, &by)?;
    let (after, limit) = part_of(uri.query()).map_err(|invalid| Refusal::invalid(&invalid))?;
    let part = app.authority.verify_audit(&by, after, limit).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &wire::part(&part)))
}

/// Which part of the log to verify: behind which place, and how many entries at the most.
pub(in crate::http) fn part_of(raw: Option<&str>) -> Result<(u64, u64), Invalid> {
    let mut query = Query::parse(raw, &["after", "limit"]);
    let (after, limit) = (number(&mut query, "after", 0..=u64::MAX), number(&mut query, "limit", 1..=PART));
    query.finish()?;
    Ok((after.unwrap_or(0), limit.unwrap_or(PART)))
}

pub(super) async fn export(State(app): State<App>, Asks(by): Asks, uri: Uri) -> Result<Response, Refusal> {
    oversees(&app, &by)?;
    let wanted = wanted_of(uri.query()).map_err(|invalid| Refusal::invalid(&invalid))?;
    let exporting = app.authority.export_audit(&by, wanted).await.map_err(error::refusal)?;
    exported(app, exporting).await.map_err(error::refusal)
}

/// Which entries to export.
pub(in crate::http) fn wanted_of(raw: Option<&str>) -> Result<Export, Invalid> {
    let mut query = Query::parse(raw, &["platform", "afterSeq", "after", "before"]);
    let wanted = Export {
        platform: query.parsed("platform", |text| platforms::id_in("platform", text)),
        after_seq: number(&mut query, "afterSeq", 0..=u64::MAX).unwrap_or(0),
        after: query.time("after", true),
        before: query.time("before", false),
    };
    query.finish()?;
    Ok(wanted)
}

pub(super) async fn keys(State(app): State<App>, Oversees(by): Oversees) -> Result<Response, Refusal> {
    let keys = app.authority.head_keys(&by).map_err(|lacking| error::refusal(lacking.into()))?;
    Ok(envelope::json(StatusCode::OK, &wire::head_keys(&keys)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proving {
    seq: u64,
    heads: Option<Vec<String>>,
}

pub(super) async fn prove(State(app): State<App>, Oversees(by): Oversees, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let asked: Proving = body::read_as(&headers, body, app.limits.body_timeout).await?;
    let heads = asked.heads.map(taken).transpose().map_err(|invalid| Refusal::invalid(&invalid))?;
    let proof = app.authority.prove_entry(&by, asked.seq, heads, LONGEST).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &wire::proof(&proof)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    before: String,
    #[serde(default)]
    recent: bool,
    heads: Option<Vec<String>>,
}

pub(super) async fn prune(State(app): State<App>, Owns(by): Owns, headers: HeaderMap, body: Body) -> Result<Response, Refusal> {
    let asked: Asked = body::read_as(&headers, body, app.limits.body_timeout).await?;
    let mut invalid = Invalid::default();
    let wrong = || Invalid::one("before", "date_time", "must be an RFC 3339 date-time such as 2025-07-21T17:32:28Z");
    let before = invalid.take(Timestamp::parse_rfc3339(&asked.before, true).ok_or_else(wrong));
    let heads = invalid.take(taken(asked.heads.unwrap_or_default()));
    let (Some(before), Some(heads)) = (before, heads) else { return Err(Refusal::invalid(&invalid)) };
    let pruning = Pruning { before, recent: asked.recent, most: Some(LONGEST) };
    let pruned = app.authority.prune_audit(&by, heads, pruning).await.map_err(error::refusal)?;
    Ok(envelope::json(StatusCode::OK, &wire::pruned(&pruned)))
}

/// Heads that a request brings. What is none would say nothing, so it is refused.
fn taken(lines: Vec<String>) -> Result<Heads, Invalid> {
    if lines.len() > HEADS {
        return Err(Invalid::one("heads", "max_items", format!("must have at most {HEADS} items")));
    }
    let mut heads = Heads::default();
    for (n, line) in lines.iter().enumerate() {
        if heads.take("heads", line) != 1 {
            return Err(Invalid::one(&format!("heads[{n}]"), "format", "must be a head of an audit log, as its line is"));
        }
    }
    Ok(heads)
}

/// Streams an export in bounded memory. What cannot be read on the way ends it as what is broken off, so that nobody takes it
/// for all that there is.
pub(in crate::http) async fn exported(app: App, exporting: Exporting) -> Result<Response, Error> {
    // The first lines before the status: a database that can't be read is still a 503.
    let first = Arc::clone(&app.authority).export_more(exporting).await?;
    let (lines, more) = first.map_or_else(|| (String::new(), None), |(lines, more)| (lines, Some(more)));
    let rest = stream::try_unfold((app, more), |(app, more)| async move {
        let Some(exporting) = more else { return Ok(None) };
        let lines = Arc::clone(&app.authority).export_more(exporting).await;
        let lines = lines.inspect_err(|cause| tracing::error!(%cause, "an export of the audit log is broken off"))?;
        Ok::<_, Error>(lines.map(|(lines, more)| (lines, (app, Some(more)))))
    });
    let lines = stream::iter([Ok(lines)]).chain(rest);
    let fields = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/jsonl")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"audit.jsonl\"")),
    ];
    Ok((fields, Body::from_stream(lines)).into_response())
}
