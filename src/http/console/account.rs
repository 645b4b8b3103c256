//! One's own account, and the tokens of one's own programs.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, StatusCode, Uri};
use maud::{Markup, html};

use super::{form, oops::Oops, page, visitor::Visitor};
use crate::{
    authority::{Error, OneTimeKey},
    domain::{Invalid, OperatorToken, OperatorTokenId, TokenName},
    http::{App, path, query::Query},
};

const DAY: i64 = 24 * 60 * 60 * 1000;
/// For how many days a token may be made; 0 is for good.
const LASTS: [(&str, i64); 4] = [("30 days", 30), ("90 days", 90), ("a year", 365), ("for good", 0)];

pub(super) async fn page(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    let done = Query::parse(uri.query(), &["done"]).understood()?;
    own_page(&app, &visitor, StatusCode::OK, None, done.text("done").as_deref()).await
}

async fn own_page(app: &App, visitor: &Visitor, status: StatusCode, problem: Option<&str>, done: Option<&str>) -> Result<Response, Oops> {
    let account = &visitor.signed_in.account;
    let tokens = app.authority.list_operator_tokens(&visitor.operator, account.name.clone()).await?;
    let body = html! {
        h1 { (account.name) }
        @match done {
            Some("password") => (page::notice("Your password is changed. Every other browser of yours is signed out.")),
            Some("second-factor") => (page::notice("Your second factor is replaced. Every other browser of yours is signed out.")),
            _ => {}
        }
        dl {
            dt { "Role" } dd { (account.role) }
            dt { "Since" } dd { (page::moment(visitor.now, account.created_at)) }
        }
        p {
            a href="/console/account/password" { "Change your password" } " "
            a href="/console/account/second-factor" { "Replace your second factor" }
        }
        h2 { "Tokens of your programs" }
        p { "A program that has one may do through the operator API what you may: " code { "Authorization: Bearer csop_…" } "." }
        @if tokens.is_empty() { p .empty { "You have none." } } @else { (table(visitor, &tokens)) }
        h2 { "Create one" }
        @if let Some(problem) = problem { (page::wrong(problem)) }
        form method="post" action="/console/account" {
            (page::key(visitor))
            (page::once(app)?)
            div .field { label for="name" { "What for" } input #name name="name" required maxlength="255" autocomplete="off"; }
            div .field {
                label for="lasts" { "For" }
                select #lasts name="lasts" { @for (label, days) in LASTS { option value=(days) { (label) } } }
            }
            button { "Create" }
        }
    };
    Ok(page::page(visitor, status, "Account", &body))
}

fn table(visitor: &Visitor, tokens: &[OperatorToken]) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Tokens of your programs" {
            table {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "Created" } th scope="col" { "Ends" } th scope="col" { "State" }
                } }
                tbody {
                    @for token in tokens {
                        tr {
                            td { (token.name) }
                            td data-label="Created" { (page::moment(visitor.now, token.created_at)) }
                            td data-label="Ends" { (page::optional_moment(visitor.now, token.expires_at, "never")) }
                            td data-label="State" {
                                @if let Some(at) = token.revoked_at { "ended " (page::moment(visitor.now, at)) }
                                @else if token.expires_at.is_some_and(|at| at <= visitor.now) { "over" }
                                @else {
                                    form .inline method="post" action=(format!("/console/account/tokens/{}/revoke", token.id.0)) {
                                        (page::key(visitor))
                                        button .danger aria-label=(format!("End {}", token.name)) { "End" }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) async fn create_token(State(app): State<App>, visitor: Visitor, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    let form = form::read(&app, &visitor, &headers, body, &["name", "lasts", "once"]).await?;
    let (text, mut invalid) = (|name| form.text(name).unwrap_or_default(), Invalid::default());
    let name = invalid.take(TokenName::parse("name", &text("name")));
    let once = invalid.take(OneTimeKey::parse(&text("once")));
    let lasts = text("lasts").parse().ok();
    let days = LASTS.iter().map(|(_, days)| *days).find(|days| Some(*days) == lasts);
    let days = invalid.take(days.ok_or_else(|| page::not_in_list("lasts")));
    let made = match (name, days, once) {
        (Some(name), Some(days), Some(once)) => {
            let expires_at = (days > 0).then(|| visitor.now.plus_millis(days * DAY));
            let account = visitor.signed_in.account.name.clone();
            app.authority.create_operator_token(&visitor.operator, account, name, expires_at, Some(once)).await
        }
        _ => Err(invalid.into()),
    };
    let issued = match made {
        Ok(issued) => issued,
        Err(Error::MadeBefore) => {
            let lost = "The token was shown then. If it is lost, end it and create another.";
            let body = page::made_before(("/console/account", "Your account"), &format!("{} is there", text("name").trim()), lost);
            return Ok(page::page(&visitor, StatusCode::OK, "Account", &body));
        }
        Err(Error::Invalid(invalid)) => {
            return own_page(&app, &visitor, StatusCode::BAD_REQUEST, Some(&page::problems(&invalid)), None).await;
        }
        Err(other) => return Err(other.into()),
    };
    let body = html! {
        p .path { a href="/console/account" { "Your account" } }
        h1 { (issued.token.name) " is there" }
        (page::notice("This is the only time that the token is shown. Copy it to where it will be used."))
        (page::secret("Token", issued.secret.expose()))
    };
    Ok(page::page(&visitor, StatusCode::CREATED, "Account", &body))
}

pub(super) async fn revoke_token(
    State(app): State<App>,
    visitor: Visitor,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Oops> {
    form::read(&app, &visitor, &headers, body, &[]).await?;
    let id = path::behind(&uri, "/account/tokens/").and_then(OperatorTokenId::parse);
    app.authority.revoke_operator_token(&visitor.operator, id.ok_or_else(Oops::not_found)?).await?;
    Ok(Redirect::to("/console/account").into_response())
}
