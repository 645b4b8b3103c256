//! Operators: who they are, inviting one, changing one.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, StatusCode, Uri};
use maud::{Markup, html};

use super::{form, oops::Oops, page, visitor::Visitor};
use crate::{
    authority::{AccountListed, Error, Invitation, OneTimeKey, Standing},
    domain::{AccountName, Invalid, Platform, PlatformId, Role, Timestamp},
    http::{App, path, query::Query},
};

pub(super) async fn list(State(app): State<App>, visitor: Visitor) -> Result<Response, Oops> {
    list_page(&app, &visitor, StatusCode::OK, "", None).await
}

async fn list_page(app: &App, visitor: &Visitor, status: StatusCode, name: &str, problem: Option<&str>) -> Result<Response, Oops> {
    let all = app.authority.list_accounts(&visitor.operator).await?;
    let platforms = app.authority.list_platforms(&visitor.operator).await?;
    let body = html! {
        h1 { "Operators" }
        p { "Viewers see everything, managers issue and end tokens too, owners may do everything. One of a platform sees that alone." }
        @if all.is_empty() {
            div .empty { h2 { "Nobody has an account but whoever runs commands" } p { "Invite somebody below." } }
        } @else { (table(visitor.now, &all, &platforms)) }
        @if visitor.owner().is_ok() {
            h2 { "Invite somebody" }
            @if let Some(problem) = problem { (page::wrong(problem)) }
            form method="post" action="/console/operators" {
                (page::key(visitor))
                (page::once(app)?)
                div .field {
                    label for="name" { "Name" }
                    input #name name="name" value=(name) required maxlength="64" autocomplete="off" autocapitalize="none" spellcheck="false";
                    p .hint { "Their e-mail address, in lower case, or another short name." }
                }
                div .field { label for="role" { "Role" } (roles(Role::Viewer)) }
                div .field {
                    label for="platform" { "Of" }
                    select #platform name="platform" {
                        option value="" { "All platforms" }
                        @for platform in &platforms { option value=(platform.id) { (platform.name) " alone" } }
                    }
                }
                button { "Invite" }
            }
        }
    };
    Ok(page::page(visitor, status, "Operators", &body))
}

fn roles(chosen: Role) -> Markup {
    html! { select #role name="role" { @for role in Role::ALL { option value=(role) selected[role == chosen] { (role) } } } }
}

fn of_platform(id: Option<PlatformId>, platforms: &[Platform]) -> String {
    let Some(id) = id else { return "all platforms".to_owned() };
    platforms.iter().find(|platform| platform.id == id).map_or_else(|| id.to_string(), |platform| platform.name.to_string())
}

fn standing(now: Timestamp, listed: &AccountListed) -> Markup {
    match listed.standing {
        Standing::Active => html! { span .status.live { "Active" } },
        Standing::Disabled => html! { span .status.ended { "Disabled" } },
        Standing::Broken => html! { span .status.ended { "Edited in the database; reset it" } },
        Standing::Invited(until) if until < now => html! { span .status.ended { "Invitation has run out" } },
        Standing::Invited(until) => html! { span .status { "Invited, ends " (page::moment(now, until)) } },
    }
}

fn table(now: Timestamp, all: &[AccountListed], platforms: &[Platform]) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Operators" {
            table {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "Role" } th scope="col" { "Of" } th scope="col" { "Since" } th scope="col" { "State" }
                } }
                tbody {
                    @for listed in all {
                        tr {
                            td { a href=(format!("/console/operators/{}", listed.account.name)) { (listed.account.name) } }
                            td data-label="Role" { (listed.account.role) }
                            td data-label="Of" { (of_platform(listed.account.platform, platforms)) }
                            td data-label="Since" { (page::moment(now, listed.account.created_at)) }
                            td data-label="State" { (standing(now, listed)) }
                        }
                    }
                }
            }
        }
    }
}

pub(super) async fn create(State(app): State<App>, visitor: Visitor, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    let form = form::read(&app, &visitor, &headers, body, &["name", "role", "platform", "once"]).await?;
    let owner = visitor.owner()?;
    let (text, mut invalid) = (|name| form.text(name).unwrap_or_default(), Invalid::default());
    let name = invalid.take(AccountName::parse("name", &text("name")));
    let role = invalid.take(Role::parse(&text("role")).ok_or_else(|| page::not_in_list("role")));
    let platform = Some(text("platform")).filter(|text| !text.is_empty());
    let platform = platform.map(|text| PlatformId::parse(&text).ok_or_else(|| page::not_in_list("platform"))).transpose();
    let platform = invalid.take(platform);
    let once = invalid.take(OneTimeKey::parse(&text("once")));
    let made = match (name, role, platform, once) {
        (Some(name), Some(role), Some(platform), Some(once)) => {
            app.authority.create_account(&owner, name, role, platform, Some(once)).await
        }
        _ => Err(invalid.into()),
    };
    match made {
        Ok((listed, invitation)) => Ok(page::page(&visitor, StatusCode::CREATED, "Operators", &invited(&listed, &invitation))),
        Err(Error::MadeBefore) => {
            let lost = "The invitation was shown then. If it is lost, reset them: that makes another one.";
            let name = text("name");
            let path = (&*format!("/console/operators/{name}"), &*name);
            Ok(page::page(&visitor, StatusCode::OK, "Operators", &page::made_before(path, &format!("{name} is invited"), lost)))
        }
        Err(Error::Invalid(invalid)) => {
            list_page(&app, &visitor, StatusCode::BAD_REQUEST, &text("name"), Some(&page::problems(&invalid))).await
        }
        Err(taken @ Error::NameTaken) => list_page(&app, &visitor, StatusCode::CONFLICT, &text("name"), Some(&format!("{taken}."))).await,
        Err(other) => Err(other.into()),
    }
}

fn invited(listed: &AccountListed, invitation: &Invitation) -> Markup {
    html! {
        p .path { a href="/console/operators" { "Operators" } }
        h1 { (listed.account.name) " is invited" }
        (page::notice("This is the only time that the invitation is shown. Give it to them in a way that nobody else reads; it is good for a day, and once."))
        (page::secret("Invitation", invitation.expose()))
        p { "They open this console, choose " strong { "I have an invitation" } ", and set up a password and a second factor." }
    }
}

fn name(uri: &Uri) -> Result<AccountName, Oops> {
    let text = path::behind(uri, "/operators/").map(|name| name.replacen("%40", "@", 1));
    text.and_then(|text| AccountName::parse("name", &text).ok()).ok_or_else(Oops::not_found)
}

pub(super) async fn one(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    let listed = app.authority.get_account(&visitor.operator, name(&uri)?).await?;
    let platforms = app.authority.list_platforms(&visitor.operator).await?;
    let done = Query::parse(uri.query(), &["done"]).understood()?.text("done").is_some();
    let account = &listed.account;
    let action = format!("/console/operators/{}", account.name);
    let change = |what: &str, button: Markup| {
        html! { form .inline method="post" action=(action) { (page::key(&visitor)) input type="hidden" name="do" value=(what); (button) } }
    };
    let body = html! {
        p .path { a href="/console/operators" { "Operators" } }
        h1 { (account.name) }
        @if done { (page::notice("It is changed, everywhere.")) }
        dl {
            dt { "Role" } dd { (account.role) }
            dt { "Of" } dd { (of_platform(account.platform, &platforms)) }
            dt { "Since" } dd { (page::moment(visitor.now, account.created_at)) }
            dt { "State" } dd { (standing(visitor.now, &listed)) }
        }
        p { a href=(format!("/console/audit?actor=operator:{}", account.name)) { "What they did" } }
        @if visitor.owner().is_ok() {
            h2 { "Change" }
            (change("role", html! { label for="role" { "Role " } (roles(account.role)) " " button { "Give" } }))
            @if account.disabled_at.is_some() {
                (change("enable", html! { button { "Enable" } " They can sign in again, and their tokens are theirs again." }))
            } @else {
                (change("disable", html! { button .danger { "Disable" } " They are signed out at once, and their tokens are nobody's." }))
            }
            (change("reset", html! { button .danger { "Reset" } " Their password and second factor are gone, they are signed out, and get a new invitation." }))
        }
    };
    Ok(page::page(&visitor, StatusCode::OK, &format!("Operator {}", account.name), &body))
}

pub(super) async fn change(State(app): State<App>, visitor: Visitor, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    let form = form::read(&app, &visitor, &headers, body, &["do", "role"]).await?;
    let (owner, name) = (visitor.owner()?, name(&uri)?);
    match form.text("do").as_deref() {
        Some("role") => {
            let role = form.text("role").and_then(|text| Role::parse(&text)).ok_or_else(|| page::not_in_list("role"))?;
            app.authority.set_account_role(&owner, name.clone(), role).await?;
        }
        Some("disable") => drop(app.authority.set_account_disabled(&owner, name.clone(), true).await?),
        Some("enable") => drop(app.authority.set_account_disabled(&owner, name.clone(), false).await?),
        Some("reset") => {
            let (listed, invitation) = app.authority.reset_account(&owner, name).await?;
            return Ok(page::page(&visitor, StatusCode::OK, "Operators", &invited(&listed, &invitation)));
        }
        _ => return Err(page::not_in_list("do").into()),
    }
    // Whoever has changed themselves may have signed themselves out: then they are asked to sign in.
    Ok(Redirect::to(&format!("/console/operators/{name}?done=yes")).into_response())
}
