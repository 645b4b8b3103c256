//! Changing one's own password and second factor.

use axum::{Extension, body::Body, extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};

use super::{
    form,
    oops::Oops,
    page,
    sign_in::{CODE, code_field, entered, field, refused, set_up},
    visitor::Visitor,
};
use crate::{
    authority::{Enrolment, Refused, SignIn},
    http::{App, auth::RequestContext, query::Query},
};

const WRONG: &str = "That is not your password, or not the code that your app shows now; each code works once. Nothing was changed.";

const TOO_LONG_AGO: &str = "That was shown too long ago, and counts no more. Begin again.";

/// What proves that it is them: their password, under the name that it has in the form, and a code.
fn given(visitor: &Visitor, form: &Query, password: &str) -> SignIn {
    let text = |name| form.text(name).unwrap_or_default();
    SignIn { name: visitor.signed_in.account.name.to_string(), password: text(password), code: text("code") }
}

fn own_page(visitor: &Visitor, status: StatusCode, title: &str, problem: Option<&str>, body: &Markup) -> Response {
    let body = html! {
        p .path { a href="/console/account" { "Your account" } }
        h1 { (title) }
        @if let Some(problem) = problem { (page::wrong(problem)) }
        (body)
    };
    page::page(visitor, status, &format!("Account, {}", title.to_lowercase()), &body)
}

pub(super) async fn password(visitor: Visitor) -> Response {
    password_page(&visitor, StatusCode::OK, None)
}

fn password_page(visitor: &Visitor, status: StatusCode, problem: Option<&str>) -> Response {
    let name = &visitor.signed_in.account.name;
    let body = html! {
        p { "It signs you out of every other browser." }
        form method="post" action="/console/account/password" {
            (page::key(visitor))
            // For password managers: whose it is.
            input type="text" value=(name) autocomplete="username" readonly hidden;
            (field("old", "Your password as it is", html! { input #old type="password" name="old" autocomplete="current-password" required; }))
            (code_field(CODE))
            (field("password", "Another one, of 12 characters or more", html! { input #password type="password" name="password" autocomplete="new-password" minlength="12" maxlength="128" required; }))
            (field("again", "The other one again", html! { input #again type="password" name="again" autocomplete="new-password" required; }))
            button { "Change it" }
        }
    };
    own_page(visitor, status, "Change your password", problem, &body)
}

pub(super) async fn change_password(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Oops> {
    let form = form::read(&app, &visitor, &headers, body, &["old", "code", "password", "again"]).await?;
    let text = |name| form.text(name).unwrap_or_default();
    let again = |status, words: &str| Ok(password_page(&visitor, status, Some(words)));
    if text("password") != text("again") {
        return again(StatusCode::BAD_REQUEST, "The two passwords are not the same.");
    }
    let given = given(&visitor, &form, "old");
    match app.authority.change_password(&visitor.signed_in, given, text("password"), context.source, context.info).await {
        Ok(signed_in) => entered(&signed_in, "/console/account?done=password"),
        Err(Refused::Wrong) => again(StatusCode::FORBIDDEN, WRONG),
        Err(why) => refused(&why, again),
    }
}

pub(super) async fn second_factor(visitor: Visitor) -> Response {
    second_factor_page(&visitor, StatusCode::OK, None)
}

fn second_factor_page(visitor: &Visitor, status: StatusCode, problem: Option<&str>) -> Response {
    let body = html! {
        p { "For another phone, or another app. The one that you have stays good until the new one has shown its first code." }
        form method="post" action="/console/account/second-factor" {
            (page::key(visitor))
            (field("password", "Your password", html! { input #password type="password" name="password" autocomplete="current-password" required; }))
            (code_field(CODE))
            button { "Show me another one" }
        }
        p .hint { "You have no app that shows codes any more? Then an owner resets your account." }
    };
    own_page(visitor, status, "Replace your second factor", problem, &body)
}

pub(super) async fn show_second_factor(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Oops> {
    let form = form::read(&app, &visitor, &headers, body, &["password", "code"]).await?;
    let again = |status, words: &str| Ok(second_factor_page(&visitor, status, Some(words)));
    let given = given(&visitor, &form, "password");
    match app.authority.enrol_anew(&visitor.signed_in, given, context.source, context.info).await {
        Ok(enrolment) => Ok(shown_page(&visitor, StatusCode::OK, &enrolment, None)),
        Err(Refused::Wrong) => again(StatusCode::FORBIDDEN, WRONG),
        Err(why) => refused(&why, again),
    }
}

fn shown_page(visitor: &Visitor, status: StatusCode, enrolment: &Enrolment, problem: Option<&str>) -> Response {
    let body = html! {
        p { "When it has shown its first code, the one that you have is good for nothing any more, and you are signed out of every other browser." }
        form method="post" action="/console/account/second-factor/confirm" {
            (page::key(visitor))
            (set_up(enrolment, visitor.signed_in.account.name.as_str()))
            button { "Replace it" }
        }
    };
    own_page(visitor, status, "Your new second factor", problem, &body)
}

pub(super) async fn replace_second_factor(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Oops> {
    let form = form::read(&app, &visitor, &headers, body, &["enrolment", "code"]).await?;
    let text = |name| form.text(name).unwrap_or_default();
    let sealed = text("enrolment");
    // The same picture again; where there was none, from the beginning.
    let again = |status, words: &str| {
        Ok(match app.authority.enrolment_anew(&visitor.signed_in, &sealed) {
            Some(enrolment) => shown_page(&visitor, status, &enrolment, Some(words)),
            None => second_factor_page(&visitor, status, Some(TOO_LONG_AGO)),
        })
    };
    match app.authority.replace_second_factor(&visitor.signed_in, &sealed, &text("code"), context.info).await {
        Ok(signed_in) => entered(&signed_in, "/console/account?done=second-factor"),
        Err(Refused::Wrong) => again(StatusCode::FORBIDDEN, "Your account was changed meanwhile. Nothing was changed by this."),
        Err(why) => refused(&why, again),
    }
}
