//! The audit log: its entries, whether they are as they were written, and all of them to take away.

use axum::{extract::State, response::Response};
use http::{StatusCode, Uri};
use maud::{Markup, html};
use serde_json::Value;

use super::{oops::Oops, page, visitor::Visitor};
use crate::{
    authority::{Error, audit::Part},
    domain::{Action, Actor, AuditQuery, Invalid, PageLimit, PlatformId, RecordedEntry, Timestamp, TokenId},
    http::{App, query::Query, v1},
};

const ROWS: u16 = 50;

pub(super) async fn list(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    let mut query = Query::parse(uri.query(), &["action", "actor", "token", "platform", "beforeSeq"]);
    let given = |name: &str| query.text(name).filter(|text| !text.is_empty());
    let (action, actor) = (given("action").unwrap_or_default(), given("actor").unwrap_or_default());
    let (token, platform) = (given("token").unwrap_or_default(), given("platform").unwrap_or_default());
    let wrong = |field: &str, problem: &str| Invalid::one(field, "format", problem);
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let asked = AuditQuery {
        action: some(&action).map(|text| Action::parse(&text).ok_or_else(|| page::not_in_list("action"))).transpose()?,
        actor: some(&actor)
            .map(|text| Actor::parse(&text).ok_or_else(|| wrong("actor", "must be a token's id, operator:NAME or system")))
            .transpose()?,
        token: some(&token).map(|text| TokenId::parse(&text).ok_or_else(|| wrong("token", "must be a token's id"))).transpose()?,
        platform: some(&platform)
            .map(|text| PlatformId::parse(&text).ok_or_else(|| wrong("platform", "must be a platform's id")))
            .transpose()?,
        before_seq: query.parsed("beforeSeq", |text| text.parse().map_err(|_| wrong("place", "must be a number"))),
        limit: PageLimit::new(ROWS).unwrap_or_default(),
        ..AuditQuery::default()
    };
    query.finish()?;
    let (entries, more) = app.authority.list_audit(&visitor.operator, asked).await?;
    let last = entries.last().map(|entry| entry.seq).filter(|_| more);
    let body = html! {
        h1 { "Audit log" }
        p { "Every change, in the order of commits, each sealed behind the one before." }
        @if visitor.operator.may_oversee().is_ok() {
            p .actions {
                a .button.plain href="/console/audit/verify" { "Verify it" }
                a .button.plain href=(exporting(&platform)) { "Export " @if platform.is_empty() { "all of it" } @else { "what is of this platform" } }
            }
        }
        form .filters method="get" action="/console/audit" role="search" {
            div .field {
                label for="action" { "What" }
                select #action name="action" {
                    option value="" { "Anything" }
                    @for known in Action::ALL { option value=(known.name()) selected[known.name() == action] { (known.name()) } }
                }
            }
            div .field.grow { label for="actor" { "Who" } input #actor name="actor" value=(actor) placeholder="operator:alice" autocomplete="off" spellcheck="false"; }
            div .field.grow { label for="token" { "To which token" } input #token name="token" value=(token) autocomplete="off" spellcheck="false"; }
            @if !platform.is_empty() { input type="hidden" name="platform" value=(platform); }
            button { "Search" }
        }
        @if entries.is_empty() { p .empty { "There is no such entry." } } @else { (table(visitor.now, &entries)) }
        @if let Some(last) = last {
            form method="get" action="/console/audit" {
                @for (name, value) in [("action", &action), ("actor", &actor), ("token", &token), ("platform", &platform)] {
                    @if !value.is_empty() { input type="hidden" name=(name) value=(value); }
                }
                input type="hidden" name="beforeSeq" value=(last);
                button .plain { "Older" }
            }
        }
    };
    Ok(page::page(&visitor, StatusCode::OK, "Audit log", &body))
}

fn exporting(platform: &str) -> String {
    let of = if platform.is_empty() { String::new() } else { format!("?platform={platform}") };
    format!("/console/audit/export{of}")
}

/// A part of the log is verified, and leads to the next; with script, one behind the other.
pub(super) async fn verify(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    visitor.operator.may_oversee().map_err(Error::from)?;
    let (after, limit) = v1::part_of(uri.query())?;
    let part = app.authority.verify_audit(&visitor.operator, after, limit).await?;
    let body = html! {
        p .path { a href="/console/audit" { "Audit log" } }
        h1 { "Audit log, verified" }
        p {
            "Each entry is held against its seal and the entry before, and what lives against what the log says has ended. What was \
             signed and kept elsewhere is worth most where this server is not: " code { "countersign audit verify --heads FILE" } "."
        }
        div #parts { (verified(&part)) }
        p #on .actions {
            @if let Some(next) = part.next {
                a .button data-on="#parts" href=(format!("/console/audit/verify?after={next}&limit={limit}")) { "Go on behind " (next) }
            } @else {
                a .button.plain href="/console/audit/verify" { "From the beginning" }
            }
        }
    };
    Ok(page::page(&visitor, StatusCode::OK, "Audit log, verified", &body))
}

fn verified(part: &Part) -> Markup {
    let Part { verified, of, next } = part;
    let end = || if next.is_some() { format!(", of {of}") } else { ", the last one".to_owned() };
    html! {
        @if verified.found > 0 {
            div .wrong role="alert" {
                p { strong { "Entries " (verified.first) " to " (verified.last) (end()) ": " (verified.found) " things are not right." } }
                ul { @for problem in &verified.problems { li { (problem.what) } } }
                p { "Keep a copy of the database as it is, and hold it against a backup and the heads that were kept elsewhere." }
            }
        } @else if verified.entries == 0 {
            p .notice role="status" { "There is nothing behind entry " (verified.last) "." }
        } @else {
            p .notice role="status" { "Entries " (verified.first) " to " (verified.last) (end()) ": each is as it was sealed, behind the one before." }
        }
    }
}

/// Everything, or what is of one platform, as lines of JSON.
pub(super) async fn export(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    visitor.operator.may_oversee().map_err(Error::from)?;
    let exporting = app.authority.export_audit(&visitor.operator, v1::wanted_of(uri.query())?).await?;
    Ok(v1::exported(app, exporting).await?)
}

/// Entries as rows.
pub(super) fn table(now: Timestamp, entries: &[RecordedEntry]) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Entries of the audit log" {
            table {
                thead { tr {
                    th scope="col" { "Place" } th scope="col" { "When" } th scope="col" { "What" } th scope="col" { "Who" }
                    th scope="col" { "To" } th scope="col" { "From" } th scope="col" { "Detail" }
                } }
                tbody {
                    @for recorded in entries {
                        @let entry = &recorded.entry;
                        tr {
                            td .number { (recorded.seq) }
                            td data-label="When" { (page::moment(now, entry.at)) }
                            td data-label="What" { code { (entry.action.name()) } }
                            td data-label="Who" { (entry.actor) }
                            td .ids data-label="To" {
                                @if let Some(id) = entry.token { a href=(format!("/console/tokens/{id}")) { (id) } }
                                @else if let Some(id) = entry.platform { (id) }
                            }
                            td data-label="From" title=(entry.request.id) { (entry.request.source) }
                            td .detail data-label="Detail" { (detail(&entry.detail)) }
                        }
                    }
                }
            }
        }
    }
}

/// What an entry says besides: a line for each member.
fn detail(text: &str) -> Markup {
    let Ok(Value::Object(members)) = serde_json::from_str(text) else { return html! { (text) } };
    let said = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => {
            all.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    html! { div { @for (name, value) in &members { div { span .none { (name) ": " } (said(value)) } } } }
}
