//! Getting in and out.

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use maud::{Markup, PreEscaped, html};
use qrcodegen::{QrCode, QrCodeEcc};

use super::{
    HOME, form,
    oops::Oops,
    page,
    visitor::{self, Visitor},
};
use crate::{
    authority::{Enrolment, Refused, SignIn, SignedIn},
    http::{App, auth::RequestContext, query::Query},
};

/// Signs a browser in, and sends it on.
pub(super) fn entered(signed_in: &SignedIn, to: &str) -> Result<Response, Oops> {
    let cookie = visitor::cookie(&signed_in.cookie()).ok_or_else(Oops::not_found)?;
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response())
}

/// A refusal on the page that they are on, which is made of a status and words.
pub(super) fn refused(refused: &Refused, page: impl FnOnce(StatusCode, &str) -> Result<Response, Oops>) -> Result<Response, Oops> {
    let mut wait = None;
    let (status, words) = match refused {
        Refused::Wrong => (
            StatusCode::FORBIDDEN,
            "That does not let anybody in. Look at the name, the password and whether the code is the current one; each code works once."
                .to_owned(),
        ),
        Refused::Limited(time) => {
            let seconds = *wait.insert(time.as_secs().max(1));
            (StatusCode::TOO_MANY_REQUESTS, format!("Too many attempts have failed. Wait for {seconds} seconds and try again."))
        }
        Refused::Invalid(invalid) => (StatusCode::BAD_REQUEST, page::problems(invalid)),
        Refused::Unavailable(cause) => {
            tracing::error!(cause, "nobody could sign in");
            wait = Some(1);
            (StatusCode::SERVICE_UNAVAILABLE, "That could not be looked at now. Try again in a moment.".to_owned())
        }
    };
    let mut response = page(status, &words)?;
    if let Some(seconds) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

pub(super) async fn page(uri: Uri) -> Result<Response, Oops> {
    let query = Query::parse(uri.query(), &["to"]).understood()?;
    let to = query.text("to").filter(|to| visitor::is_ours(to)).unwrap_or_default();
    Ok(sign_in_page(StatusCode::OK, "", &to, None))
}

fn sign_in_page(status: StatusCode, name: &str, to: &str, problem: Option<&str>) -> Response {
    let body = html! {
        h1 { "Sign in" }
        @if let Some(problem) = problem { (page::wrong(problem)) }
        form method="post" action="/console/sign-in" {
            input type="hidden" name="to" value=(to);
            (field("name", "Name", html! { input #name name="name" value=(name) autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus; }))
            (field("password", "Password", html! { input #password type="password" name="password" autocomplete="current-password" required; }))
            (code_field(CODE))
            button { "Sign in" }
        }
        p { a href="/console/invitation" { "I have an invitation" } }
        p .hint { "No account? Whoever runs this server makes one: " code { "countersign operator create NAME --role owner" } }
    };
    page::bare(status, "Sign in", &body)
}

pub(super) fn field(id: &str, label: &str, input: Markup) -> Markup {
    html! { div .field { label for=(id) { (label) } (input) } }
}

/// The label of a code of the second factor that somebody has.
pub(super) const CODE: &str = "Code that your app shows";

pub(super) fn code_field(label: &str) -> Markup {
    field("code", label, html! { input #code name="code" inputmode="numeric" autocomplete="one-time-code" required; })
}

pub(super) async fn sign_in(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Oops> {
    let form = form::read_of_anybody(&app, &headers, body, &["name", "password", "code", "to"]).await?;
    let text = |name| form.text(name).unwrap_or_default();
    let (name, to) = (text("name"), form.text("to").filter(|to| visitor::is_ours(to)).unwrap_or_default());
    let given = SignIn { name: name.clone(), password: text("password"), code: text("code") };
    match app.authority.sign_in(given, context.source, context.info).await {
        Ok(signed_in) => entered(&signed_in, if to.is_empty() { HOME } else { &to }),
        Err(why) => refused(&why, |status, words| Ok(sign_in_page(status, &name, &to, Some(words)))),
    }
}

pub(super) async fn invitation(State(app): State<App>) -> Result<Response, Oops> {
    Ok(invitation_page(StatusCode::OK, "", &app.authority.enrol(None)?, None))
}

fn invitation_page(status: StatusCode, name: &str, enrolment: &Enrolment, problem: Option<&str>) -> Response {
    let body = html! {
        h1 { "Accept an invitation" }
        @if let Some(problem) = problem { (page::wrong(problem)) }
        form method="post" action="/console/invitation" {
            (field("name", "Name", html! { input #name name="name" value=(name) autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus; }))
            (field("invitation", "Invitation", html! { input #invitation name="invitation" autocomplete="off" autocapitalize="characters" spellcheck="false" required; }))
            (field("password", "A password, of 12 characters or more", html! { input #password type="password" name="password" autocomplete="new-password" minlength="12" maxlength="128" required; }))
            (field("again", "The password again", html! { input #again type="password" name="again" autocomplete="new-password" required; }))
            h2 { "A second factor" }
            (set_up(enrolment, if name.is_empty() { "operator" } else { name }))
            button { "Accept and sign in" }
        }
        p { a href="/console/sign-in" { "I have an account" } }
    };
    page::bare(status, "Accept an invitation", &body)
}

/// What a form has for a second factor that is set up: the picture, the text, and the first code.
pub(super) fn set_up(enrolment: &Enrolment, account: &str) -> Markup {
    html! {
        input type="hidden" name="enrolment" value=(enrolment.sealed());
        p { "Scan this with an app that shows codes, such as the one in your password manager." }
        div .qr { (picture(&enrolment.uri(account))) }
        p { "Or type it into the app: " (page::copyable(&enrolment.text())) }
        (code_field("The code that the app shows now"))
    }
}

/// A picture that apps read: one path of squares, so that no style is needed.
fn picture(text: &str) -> Markup {
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Medium) else { return html! {} };
    let (size, mut path) = (code.size(), String::new());
    for y in 0..size {
        for x in (0..size).filter(|x| code.get_module(*x, y)) {
            path.push_str(&format!("M{} {}h1v1h-1z", x + 4, y + 4));
        }
    }
    let side = size + 8;
    html! {
        svg viewBox=(format!("0 0 {side} {side}")) width="232" height="232" role="img" aria-label="The second factor, for an app to scan" {
            rect width=(side) height=(side) fill="#fff" {}
            (PreEscaped(format!("<path d=\"{path}\" fill=\"#000\"/>")))
        }
    }
}

pub(super) async fn accept(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Oops> {
    let known = ["name", "invitation", "password", "again", "enrolment", "code"];
    let form = form::read_of_anybody(&app, &headers, body, &known).await?;
    let text = |name| form.text(name).unwrap_or_default();
    let (name, sealed) = (text("name"), text("enrolment"));
    let again = |status, words: &str| Ok(invitation_page(status, &name, &app.authority.enrol(Some(&sealed))?, Some(words)));
    if text("password") != text("again") {
        return again(StatusCode::BAD_REQUEST, "The two passwords are not the same.");
    }
    let chosen = SignIn { name: name.clone(), password: text("password"), code: text("code") };
    match app.authority.accept_invitation(chosen, &text("invitation"), &sealed, context.source, context.info).await {
        Ok(signed_in) => entered(&signed_in, HOME),
        Err(Refused::Wrong) => again(
            StatusCode::FORBIDDEN,
            "That invitation is not one of this name, was accepted before, or is older than a day. Ask an owner for a new one.",
        ),
        Err(why) => refused(&why, again),
    }
}

pub(super) async fn sign_out(
    State(app): State<App>,
    Extension(context): Extension<RequestContext>,
    visitor: Visitor,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Oops> {
    form::read(&app, &visitor, &headers, body, &[]).await?;
    app.authority.sign_out(&visitor.signed_in, context.info).await?;
    Ok(([(header::SET_COOKIE, visitor::NO_COOKIE)], Redirect::to("/console/sign-in")).into_response())
}
