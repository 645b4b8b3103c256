//! Ending many tokens by one form: looking at them first, typing how many they are, and watching how far it is.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, StatusCode, Uri};
use maud::{Markup, html};

use super::{
    form,
    oops::Oops,
    page,
    tokens::{self, Asked},
    visitor::Visitor,
};
use crate::{
    authority::{BulkPlan, Error, OneTimeKey},
    domain::{BulkId, BulkRevoke, BulkState, Invalid, LastUse, Platform, Timestamp, TokenSearch},
    http::{App, path},
};

fn id_in_path(uri: &Uri) -> Result<BulkId, Oops> {
    path::behind(uri, "/bulk-revokes/").and_then(BulkId::parse).ok_or_else(Oops::not_found)
}

/// Where somebody plans to end what a search finds.
pub(super) fn new_path(asked: &Asked) -> String {
    asked.path("/console/bulk-revokes/new", None)
}

pub(super) async fn new(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    visitor.operator.may_issue().map_err(Error::from)?;
    let asked = Asked::of(&uri)?.for_visitor(&visitor);
    plan_page(&app, &visitor, StatusCode::OK, asked.search(visitor.now)?, None).await
}

async fn plan_page(app: &App, visitor: &Visitor, status: StatusCode, search: TokenSearch, problem: Option<&str>) -> Result<Response, Oops> {
    let BulkPlan { search, count, first } = app.authority.plan_bulk_revoke(&visitor.operator, search).await?;
    let platforms = app.authority.list_platforms(&visitor.operator).await?;
    let body = html! {
        p .path { a href="/console/tokens" { "Tokens" } " / " a href="/console/bulk-revokes" { "Ended together" } }
        h1 { @match count { 1 => "End this one token?", _ => { "End these " (count) " tokens?" } } }
        @if let Some(problem) = problem { (page::wrong(problem)) }
        p { "All that is live, was created until now, and is " strong { (described(visitor.now, &search, &platforms)) } ". Root tokens are not among them: end those one at a time." }
        @if count == 0 {
            div .empty {
                h2 { "There is none" }
                p { "Nothing that is live is like that. " a href="/console/tokens" { "Look for others" } "." }
            }
        } @else {
            p { "Whoever uses one of them is refused from then on, everywhere, and none can be brought back." }
            form method="post" action="/console/bulk-revokes" {
                (page::key(visitor))
                (page::once(app)?)
                input type="hidden" name="search" value=(search.text());
                div .field {
                    label for="count" { "How many are they?" }
                    input #count name="count" required inputmode="numeric" pattern="[0-9]+" autocomplete="off";
                    p .hint { "Type " strong { (count) } ". If they are another number when you send this, nothing is ended." }
                }
                button .danger { "End them" } " "
                a .button.plain href="/console/tokens" { "Keep them" }
            }
            h2 { @if count > first.len() as u64 { "The first " (first.len()) } @else { "They are" } }
            (tokens::table(visitor, &platforms, &first))
        }
    };
    Ok(page::page(visitor, status, "Tokens, ended together", &body))
}

/// What a search finds, in words that follow "is".
fn described(now: Timestamp, search: &TokenSearch, platforms: &[Platform]) -> Markup {
    let platform = search.scope.and_then(|scope| Some((platforms.iter().find(|platform| platform.id == scope.platform)?, scope)));
    html! {
        @match platform {
            Some((platform, scope)) => { "in " (platform.name) " – " (scope.environment) }
            None => "of any platform",
        }
        @if let Some(part) = &search.name { ", called …" (part) "…" }
        @if let Some(permission) = search.permission { ", with " (permission.name()) }
        @match search.used {
            None => {}
            Some(LastUse::Never) => ", never used",
            Some(LastUse::Before(at)) => { ", not used since " (page::moment(now, at)) }
            Some(LastUse::Since(at)) => { ", used since " (page::moment(now, at)) }
        }
        @if search.from > Timestamp::MIN { ", created since " (page::moment(now, search.from)) }
    }
}

pub(super) async fn begin(State(app): State<App>, visitor: Visitor, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    let form = form::read(&app, &visitor, &headers, body, &["search", "count", "once"]).await?;
    // A browser ends the lines of a field in its own way.
    let search = form.text("search").and_then(|text| TokenSearch::parse_text(&text.replace("\r\n", "\n")));
    let search = search.ok_or_else(|| Invalid::one("search", "format", "must be as the form has it"))?;
    let Some(expected) = form.text("count").and_then(|text| text.trim().parse().ok()) else {
        return plan_page(&app, &visitor, StatusCode::BAD_REQUEST, search, Some("Type how many they are, in digits.")).await;
    };
    let once = OneTimeKey::parse(&form.text("once").unwrap_or_default())?;
    match app.authority.begin_bulk_revoke(&visitor.operator, search.clone(), expected, Some(once)).await {
        Ok(bulk) => Ok(Redirect::to(&format!("/console/bulk-revokes/{}", bulk.id)).into_response()),
        Err(Error::OtherCount(count)) => {
            let problem = format!("They are {count}, and you typed {expected}. Nothing was ended; look at them again.");
            plan_page(&app, &visitor, StatusCode::CONFLICT, search, Some(&problem)).await
        }
        Err(e) => Err(e.into()),
    }
}

pub(super) async fn list(State(app): State<App>, visitor: Visitor) -> Result<Response, Oops> {
    let all = app.authority.list_bulk_revokes(&visitor.operator).await?;
    let platforms = app.authority.list_platforms(&visitor.operator).await?;
    let body = html! {
        p .path { a href="/console/tokens" { "Tokens" } }
        h1 { "Tokens ended together" }
        @if all.is_empty() {
            div .empty {
                h2 { "Nobody has done that yet" }
                p { a href="/console/tokens" { "Look for tokens" } " that have to go, such as all that were never used. Below what is found you can end them together." }
            }
        } @else {
            div .scroll tabindex="0" role="region" aria-label="Tokens ended together" {
                table {
                    thead { tr { th scope="col" { "What" } th scope="col" { "Who" } th scope="col" { "When" } th scope="col" { "Ended" } th scope="col" { "State" } } }
                    tbody {
                        @for bulk in &all {
                            tr {
                                td { a href=(format!("/console/bulk-revokes/{}", bulk.id)) { (described(visitor.now, &bulk.search, &platforms)) } }
                                td data-label="Who" { (bulk.operator) }
                                td data-label="When" { (page::moment(visitor.now, bulk.created_at)) }
                                td .number data-label="Ended" { (bulk.ended) " of " (bulk.expected) }
                                td data-label="State" { (bulk.state.name()) }
                            }
                        }
                    }
                }
            }
        }
    };
    Ok(page::page(&visitor, StatusCode::OK, "Tokens ended together", &body))
}

pub(super) async fn one(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    let bulk = app.authority.get_bulk_revoke(&visitor.operator, id_in_path(&uri)?).await?;
    let platforms = app.authority.list_platforms(&visitor.operator).await?;
    let body = html! {
        p .path { a href="/console/tokens" { "Tokens" } " / " a href="/console/bulk-revokes" { "Ended together" } }
        h1 { @match bulk.expected { 1 => "One token", _ => { (bulk.expected) " tokens" } } " ended together" }
        div #progress data-renew=[(bulk.state == BulkState::Running).then_some("1")] { (progress(&visitor, &bulk)) }
        dl {
            dt { "What" } dd { (described(visitor.now, &bulk.search, &platforms)) ", created until " (page::moment(visitor.now, bulk.search.until)) }
            dt { "Who" } dd { (bulk.operator) @if !bulk.source.is_empty() { ", from " (bulk.source) } }
            dt { "When" } dd { (page::moment(visitor.now, bulk.created_at)) }
            dt { "In the audit log" } dd { "request " (page::copyable(&bulk.request().id)) }
        }
    };
    Ok(page::page(&visitor, StatusCode::OK, "Tokens ended together", &body))
}

fn progress(visitor: &Visitor, bulk: &BulkRevoke) -> Markup {
    let missing = bulk.expected.saturating_sub(bulk.ended);
    html! {
        progress max=(bulk.expected.max(1)) value=(if bulk.expected == 0 { 1 } else { bulk.ended }) aria-label="Tokens ended" {}
        p role=[bulk.state.over_at().is_some().then_some("status")] {
            strong { (bulk.ended) " of " (bulk.expected) } " have ended. "
            @match bulk.state {
                BulkState::Running => "A server is at it, and another one goes on if that stops.",
                BulkState::Finished(at) => {
                    "It is over since " (page::moment(visitor.now, at)) ": no server accepts any of them. "
                    @if missing > 0 { (missing) " had ended otherwise." }
                }
                BulkState::Stopped(at) => { "It was stopped " (page::moment(visitor.now, at)) ". What has ended stays so." }
            }
        }
        @if bulk.state == BulkState::Running && visitor.operator.may_issue().is_ok() {
            form .inline method="post" action=(format!("/console/bulk-revokes/{}/stop", bulk.id)) {
                (page::key(visitor))
                button .danger { "Stop" } " "
                a .button.plain href=(format!("/console/bulk-revokes/{}", bulk.id)) { "Look again" }
            }
        }
    }
}

pub(super) async fn stop(State(app): State<App>, visitor: Visitor, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    form::read(&app, &visitor, &headers, body, &[]).await?;
    let bulk = app.authority.stop_bulk_revoke(&visitor.operator, id_in_path(&uri)?).await?;
    Ok(Redirect::to(&format!("/console/bulk-revokes/{}", bulk.id)).into_response())
}
