//! Platforms.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, StatusCode, Uri};
use maud::{Markup, html};

use super::{form, oops::Oops, page, visitor::Visitor};
use crate::{
    authority::{Error, Issued, OneTimeKey},
    domain::{Environment, Invalid, Platform, PlatformId, TokenName},
    http::{App, path, query::Query},
};

pub(super) async fn list(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    let done = Query::parse(uri.query(), &["done"]).understood()?;
    list_page(&app, &visitor, StatusCode::OK, "", None, done.text("done").as_deref()).await
}

async fn list_page(
    app: &App,
    visitor: &Visitor,
    status: StatusCode,
    name: &str,
    problem: Option<&str>,
    done: Option<&str>,
) -> Result<Response, Oops> {
    let platforms = app.authority.list_platforms(&visitor.operator).await?;
    let owns = visitor.owner().is_ok();
    let body = html! {
        h1 { "Platforms" }
        @match done {
            Some("disabled") => (page::notice("It is disabled. No server accepts any of its tokens.")),
            Some("enabled") => (page::notice("It is enabled. Its tokens that have not ended are accepted again.")),
            _ => {}
        }
        @if platforms.is_empty() {
            div .empty {
                h2 { "There is none yet" }
                p { "A platform is a customer whose programs call your API. It has a sandbox and a production half, each with tokens of its own." }
            }
        } @else { (table(visitor, &platforms, owns)) }
        @if owns {
            h2 { "Make a platform" }
            @if let Some(problem) = problem { (page::wrong(problem)) }
            form method="post" action="/console/platforms" {
                (page::key(visitor))
                (page::once(app)?)
                div .field {
                    label for="name" { "Name" }
                    input #name name="name" value=(name) required maxlength="255" autocomplete="off";
                    p .hint { "It gets two root tokens, one for each half, whose secrets are shown once." }
                }
                button { "Make it" }
            }
        }
    };
    Ok(page::page(visitor, status, "Platforms", &body))
}

fn table(visitor: &Visitor, platforms: &[Platform], owns: bool) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Platforms" {
            table {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "Id" } th scope="col" { "Tokens" } th scope="col" { "Made" } th scope="col" { "State" }
                    @if owns { th scope="col" { "Change" } }
                } }
                tbody {
                    @for platform in platforms {
                        tr {
                            td { (platform.name) }
                            td data-label="Id" { (page::copyable(&platform.id.to_string())) }
                            td data-label="Tokens" {
                                @for environment in Environment::ALL {
                                    a href=(format!("/console/tokens?scope={}.{environment}", platform.id)) { (environment) } " "
                                }
                            }
                            td data-label="Made" { (page::moment(visitor.now, platform.created_at)) }
                            td data-label="State" {
                                @match platform.disabled_at {
                                    None => { span .status.live { "Enabled" } }
                                    Some(at) => { span .status.ended { "Disabled" } " " (page::moment(visitor.now, at)) }
                                }
                            }
                            @if owns {
                                @let (what, path) = if platform.disabled_at.is_some() { ("Enable", "enable") } else { ("Disable", "disable") };
                                td data-label="Change" { a href=(format!("/console/platforms/{}/{path}", platform.id)) aria-label=(format!("{what} {}", platform.name)) { (what) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) async fn create(State(app): State<App>, visitor: Visitor, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    let form = form::read(&app, &visitor, &headers, body, &["name", "once"]).await?;
    let owner = visitor.owner()?;
    let (text, mut invalid) = (|name| form.text(name).unwrap_or_default(), Invalid::default());
    let name = invalid.take(TokenName::parse("name", &text("name")));
    let once = invalid.take(OneTimeKey::parse(&text("once")));
    let made = match (name, once) {
        (Some(name), Some(once)) => app.authority.create_platform(&owner, name, Some(once)).await,
        _ => Err(invalid.into()),
    };
    match made {
        Ok((platform, roots)) => Ok(page::page(&visitor, StatusCode::CREATED, "Platforms", &shown(&platform, &roots))),
        Err(Error::MadeBefore) => {
            let lost =
                "The secrets of its root tokens were shown then. If one is lost, end it and create another token with every permission.";
            let body = page::made_before(("/console/platforms", "Platforms"), &format!("{} is there", text("name").trim()), lost);
            Ok(page::page(&visitor, StatusCode::OK, "Platforms", &body))
        }
        Err(Error::Invalid(invalid)) => {
            list_page(&app, &visitor, StatusCode::BAD_REQUEST, &text("name"), Some(&page::problems(&invalid)), None).await
        }
        Err(other) => Err(other.into()),
    }
}

fn shown(platform: &Platform, roots: &[Issued]) -> Markup {
    html! {
        p .path { a href="/console/platforms" { "Platforms" } }
        h1 { (platform.name) " is there" }
        p { "Id: " (page::copyable(&platform.id.to_string())) }
        (page::notice("This is the only time that the secrets of its root tokens are shown. Whoever has one can do everything in that half."))
        @for root in roots {
            h2 { (root.token.scope.environment) }
            (page::secret("clientId", &root.token.client_id().to_string()))
            @if let Some(secret) = &root.secret { (page::secret("clientSecret", secret.expose())) }
        }
    }
}

fn id(uri: &Uri) -> Result<PlatformId, Oops> {
    path::behind(uri, "/platforms/").and_then(PlatformId::parse).ok_or_else(Oops::not_found)
}

pub(super) async fn ask_disable(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    ask(&app, &visitor, &uri, true).await
}

pub(super) async fn ask_enable(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    ask(&app, &visitor, &uri, false).await
}

async fn ask(app: &App, visitor: &Visitor, uri: &Uri, disable: bool) -> Result<Response, Oops> {
    visitor.owner()?;
    let platform = app.authority.get_platform(&visitor.operator, id(uri)?).await?;
    let (what, path, consequence) = match disable {
        true => ("Disable", "disable", "All its tokens are refused from then on, everywhere, until somebody enables it again."),
        false => ("Enable", "enable", "All its tokens that have not ended are accepted again, everywhere."),
    };
    let body = html! {
        p .path { a href="/console/platforms" { "Platforms" } }
        h1 { (what) " " (platform.name) "?" }
        p { (consequence) }
        form method="post" action=(format!("/console/platforms/{}/{path}", platform.id)) {
            (page::key(visitor))
            button .danger[disable] { (what) } " "
            a .button.plain href="/console/platforms" { "Leave it as it is" }
        }
    };
    Ok(page::page(visitor, StatusCode::OK, "Platforms", &body))
}

pub(super) async fn disable(State(app): State<App>, visitor: Visitor, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    set_disabled(app, visitor, uri, headers, body, true).await
}

pub(super) async fn enable(State(app): State<App>, visitor: Visitor, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    set_disabled(app, visitor, uri, headers, body, false).await
}

async fn set_disabled(app: App, visitor: Visitor, uri: Uri, headers: HeaderMap, body: Body, disabled: bool) -> Result<Response, Oops> {
    form::read(&app, &visitor, &headers, body, &[]).await?;
    app.authority.set_platform_disabled(&visitor.owner()?, id(&uri)?, disabled).await?;
    let done = if disabled { "disabled" } else { "enabled" };
    Ok(Redirect::to(&format!("/console/platforms?done={done}")).into_response())
}
