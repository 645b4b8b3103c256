//! Tokens: looking for them, one of them, a new one, ending one.

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, StatusCode, Uri};
use maud::{Markup, html};

use super::{chart, form, oops::Oops, page, visitor::Visitor};
use crate::{
    authority::{Error, Found, FoundPage, IdempotencyKey, Issued},
    domain::{
        AuditQuery, ClientId, Environment, Invalid, LastUse, NewToken, Order, PageLimit, Permission, Permissions, Platform, Scope,
        Timestamp, Token, TokenId, TokenName, TokenSearch, TokenUse, UseSources,
    },
    http::{App, GRID, path, query::Query},
};

/// Rows of a page.
const ROWS: u16 = 50;
/// Entries of the audit log on a token's page.
const TRAIL: u16 = 20;
const DAY: i64 = 24 * 60 * 60 * 1000;

/// What somebody has put into the form of the search.
pub(super) struct Asked {
    scope: Option<Scope>,
    q: String,
    permission: Option<Permission>,
    live: Option<bool>,
    used: String,
    order: Order,
    after: Option<TokenId>,
}

impl Asked {
    pub(super) fn of(uri: &Uri) -> Result<Self, Invalid> {
        let known = ["scope", "q", "permission", "status", "used", "order", "after"];
        let mut query = Query::parse(uri.query(), &known);
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let scope = given(query.text("scope")).map(|text| page::scope_of(&text)).transpose()?;
        let permission = given(query.text("permission"));
        let permission = permission.map(|name| Permission::parse(&name).ok_or_else(|| page::not_in_list("permission"))).transpose()?;
        let live = match query.text("status").as_deref() {
            None | Some("live") => Some(true),
            Some("ended") => Some(false),
            Some("all") => None,
            Some(_) => return Err(page::not_in_list("status")),
        };
        let order = match query.text("order").as_deref() {
            None | Some("newest") => Order::NewestFirst,
            Some("oldest") => Order::OldestFirst,
            Some(_) => return Err(page::not_in_list("order")),
        };
        let place = |text: &str| TokenId::parse(text).ok_or_else(|| Invalid::one("after", "format", "must be the id of a token"));
        let after = query.parsed("after", place);
        let (q, used) = (query.text("q").unwrap_or_default().trim().to_owned(), query.text("used").unwrap_or_default());
        query.finish()?;
        Ok(Self { scope, q, permission, live, used, order, after })
    }

    pub(super) fn search(&self, now: Timestamp) -> Result<TokenSearch, Invalid> {
        let used = match self.used.as_str() {
            "" => None,
            "never" => Some(LastUse::Never),
            "day" => Some(LastUse::Since(now.plus_millis(-DAY))),
            "not30" => Some(LastUse::Before(now.plus_millis(-30 * DAY))),
            "not90" => Some(LastUse::Before(now.plus_millis(-90 * DAY))),
            _ => return Err(page::not_in_list("used")),
        };
        Ok(TokenSearch {
            scope: self.scope,
            name: Some(self.q.clone()).filter(|q| !q.is_empty()),
            permission: self.permission,
            live: self.live,
            used,
            from: Timestamp::MIN,
            until: Timestamp::MAX,
            order: self.order,
            after: self.after,
            limit: PageLimit::new(ROWS).unwrap_or_default(),
        })
    }

    /// The staff of one platform look in one half of it.
    pub(super) fn for_visitor(mut self, visitor: &Visitor) -> Self {
        let own = visitor.operator.platform().map(|platform| Scope { platform, environment: Environment::Production });
        self.scope = self.scope.or(own);
        self
    }

    /// The same on a page, from another place on.
    pub(super) fn path(&self, page: &str, after: Option<TokenId>) -> String {
        let mut path = format!("{page}?");
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                path.push_str(&format!("{name}={}&", encoded(value)));
            }
        };
        add("scope", &self.scope.map(|scope| format!("{}.{}", scope.platform, scope.environment)).unwrap_or_default());
        add("q", &self.q);
        add("permission", self.permission.map(Permission::name).unwrap_or_default());
        add("status", status_name(self.live));
        add("used", &self.used);
        add("order", if self.order == Order::OldestFirst { "oldest" } else { "" });
        add("after", &after.map(|id| id.to_string()).unwrap_or_default());
        path.trim_end_matches(['&', '?']).to_owned()
    }
}

const fn status_name(live: Option<bool>) -> &'static str {
    match live {
        Some(true) => "live",
        Some(false) => "ended",
        None => "all",
    }
}

/// A value of a query: what is not plain is percent-encoded.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The token that somebody has typed in whole: its id in either form, or its clientId.
fn named(q: &str) -> Option<TokenId> {
    TokenId::parse(q).or_else(|| ClientId::parse(q.as_bytes()).map(|client_id| client_id.token))
}

pub(super) async fn list(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    let asked = Asked::of(&uri)?.for_visitor(&visitor);
    let platforms = app.authority.list_platforms(&visitor.operator).await?;
    if let Some(id) = named(&asked.q)
        && app.authority.locate_token(&visitor.operator, id).await.is_ok()
    {
        return Ok(Redirect::to(&format!("/console/tokens/{id}")).into_response());
    }
    let found = app.authority.search_tokens(&visitor.operator, &asked.search(visitor.now)?).await?;
    let body = html! {
        div .title {
            h1 { "Tokens" }
            @if visitor.operator.may_issue().is_ok() && !platforms.is_empty() {
                a .button href=(new_path(asked.scope)) { "Create a token" }
            }
        }
        (filters(&visitor, &asked, &platforms))
        div #results aria-live="polite" { (results(&visitor, &asked, &platforms, &found)) }
    };
    Ok(page::page(&visitor, StatusCode::OK, "Tokens", &body))
}

fn new_path(scope: Option<Scope>) -> String {
    scope.map_or_else(
        || "/console/tokens/new".to_owned(),
        |scope| format!("/console/tokens/new?scope={}.{}", scope.platform, scope.environment),
    )
}

fn options(name: &str, chosen: &str, all: &[(&str, &str)]) -> Markup {
    html! { select name=(name) id=(name) { @for (value, label) in all { option value=(value) selected[*value == chosen] { (label) } } } }
}

fn filters(visitor: &Visitor, asked: &Asked, platforms: &[Platform]) -> Markup {
    let everywhere = visitor.operator.platform().is_none();
    html! {
        form .filters method="get" action="/console/tokens" role="search" data-live="#results" {
            div .field.grow {
                label for="q" { "Name, id or clientId" }
                input #q type="search" name="q" value=(asked.q) autocomplete="off" spellcheck="false" data-focus="/";
            }
            div .field { label for="scope" { "Where" } (page::scopes(platforms, asked.scope, everywhere)) }
            div .field {
                label for="permission" { "Permission" }
                (options("permission", asked.permission.map(Permission::name).unwrap_or_default(),
                    &[("", "Any"), ("VIEW", "VIEW"), ("TRANSACT", "TRANSACT"), ("MANAGE", "MANAGE")]))
            }
            div .field {
                label for="status" { "Status" }
                (options("status", status_name(asked.live), &[("live", "Live"), ("ended", "Ended"), ("all", "All")]))
            }
            div .field {
                label for="used" { "Last used" }
                (options("used", &asked.used,
                    &[("", "Any time"), ("never", "Never"), ("day", "In the last day"), ("not30", "Not for 30 days"), ("not90", "Not for 90 days")]))
            }
            div .field {
                label for="order" { "Order" }
                (options("order", if asked.order == Order::OldestFirst { "oldest" } else { "newest" }, &[("newest", "Newest first"), ("oldest", "Oldest first")]))
            }
            button { "Search" }
        }
    }
}

fn results(visitor: &Visitor, asked: &Asked, platforms: &[Platform], found: &FoundPage) -> Markup {
    html! {
        @if found.found.is_empty() { (nothing(visitor.now, asked, platforms, found)) } @else {
            (table(visitor, platforms, &found.found))
            p {
                @if asked.live != Some(false) && visitor.operator.may_issue().is_ok() {
                    a href=(super::bulk::new_path(asked)) { "End all of these together…" } " · "
                }
                a href="/console/bulk-revokes" { "What was ended together" }
            }
        }
        @if let Some(next) = found.next {
            p .more { a .button.plain href=(asked.path("/console/tokens", Some(next))) { @if found.found.is_empty() { "Look further" } @else { "More" } } }
        }
    }
}

/// Tokens as rows.
pub(super) fn table(visitor: &Visitor, platforms: &[Platform], all: &[Found]) -> Markup {
    let platform_of = |token: &Token| platforms.iter().find(|platform| platform.id == token.scope.platform);
    html! {
        div .scroll tabindex="0" role="region" aria-label="Tokens" {
            table {
                thead { tr {
                    th scope="col" { "Name" } th scope="col" { "Where" } th scope="col" { "Permissions" }
                    th scope="col" { "Last used" } th scope="col" { "Created" } th scope="col" { "Status" }
                } }
                tbody {
                    @for found in all {
                        @let token = &found.token;
                        tr {
                            td { a href=(format!("/console/tokens/{}", token.id)) { (token.name) } }
                            td data-label="Where" { @if let Some(platform) = platform_of(token) { (platform.name) " – " } (token.scope.environment) }
                            td data-label="Permissions" { (page::permissions(token.permissions)) }
                            td data-label="Last used" { (page::optional_moment(visitor.now, found.last_used_at, "never")) }
                            td data-label="Created" { (page::moment(visitor.now, token.created_at())) }
                            td data-label="Status" { (page::status(token)) }
                        }
                    }
                }
            }
        }
    }
}

fn nothing(now: Timestamp, asked: &Asked, platforms: &[Platform], found: &FoundPage) -> Markup {
    html! {
        div .empty {
            @if platforms.is_empty() {
                h2 { "There is no platform yet" }
                p { "Tokens belong to platforms. " a href="/console/platforms" { "Make the first one" } ", and it has two root tokens." }
            } @else if let Some(place) = found.next {
                h2 { "Nothing found so far" }
                p { "Ten thousand tokens were looked at, as far as those created " (page::moment(now, place.created_at())) "." }
            } @else if asked.after.is_some() {
                h2 { "That was all" }
            } @else {
                h2 { "No token is like that" }
                p { "Take something out of the search, or look among those that have ended too." }
            }
        }
    }
}

/// A token that the visitor sees, with how it was used.
async fn read(app: &App, visitor: &Visitor, uri: &Uri) -> Result<(Token, TokenUse), Oops> {
    let id = path::token_id(uri).ok_or_else(Oops::not_found)?;
    let by = app.authority.locate_token(&visitor.operator, id).await?.may_read().map_err(Error::from)?;
    Ok((app.authority.get_token(&by, id).await?, app.authority.token_use(&by, id).await?))
}

fn may_end(visitor: &Visitor, token: &Token) -> bool {
    token.revoked_at.is_none() && visitor.operator.may_issue().is_ok() && (token.revocable || visitor.operator.platform().is_none())
}

pub(super) async fn one(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    let (token, used) = read(&app, &visitor, &uri).await?;
    let platform = app.authority.get_platform(&visitor.operator, token.scope.platform).await?;
    let trail = AuditQuery { token: Some(token.id), limit: PageLimit::new(TRAIL).unwrap_or_default(), ..AuditQuery::default() };
    let (entries, more) = app.authority.list_audit(&visitor.operator, trail).await?;
    let done = Query::parse(uri.query(), &["done", "until"]).understood()?;
    let now = visitor.now;
    let body = html! {
        p .path { a href="/console/tokens" { "Tokens" } }
        div .title {
            h1 { (token.name) } (page::status(&token))
            @if may_end(&visitor, &token) { a .button.danger href=(format!("/console/tokens/{}/revoke", token.id)) { "End this token" } }
        }
        // Whatever a link says, only of one that has ended.
        @if done.text("done").as_deref() == Some("ended") && token.revoked_at.is_some() {
            @match done.text("until").and_then(|text| Timestamp::parse_rfc3339(&text, false)) {
                Some(until) => (page::notice(&format!("It has ended. Every server refuses it by {until}; some could not be reached."))),
                None => (page::notice("It has ended. No server accepts it any more.")),
            }
        }
        dl {
            dt { "Id" } dd { (page::copyable(&token.id.to_string())) }
            dt { "clientId" } dd { (page::copyable(&token.client_id().to_string())) }
            dt { "Platform" } dd { (platform.name) " – " (token.scope.environment) @if platform.disabled_at.is_some() { " (disabled)" } }
            dt { "Permissions" } dd { (page::permissions(token.permissions)) }
            dt { "Issued by" } dd { (issuer(&token)) }
            dt { "Created" } dd { (page::moment(now, token.created_at())) }
            @if let Some(at) = token.revoked_at { dt { "Ended" } dd { (page::moment(now, at)) } }
            dt { "Last used" } dd #last-used data-renew { (page::optional_moment(now, used.last_used_at, "never")) }
        }
        h2 { "Use" }
        div #use data-renew { (chart::of(&used, now)) }
        h2 { "Used from" }
        (sources(&used, now))
        h2 { "Audit log" }
        (super::audit::table(now, &entries))
        @if more { p { a href=(format!("/console/audit?token={}", token.id)) { "All entries about it" } } }
    };
    Ok(page::page(&visitor, StatusCode::OK, &format!("Token {}", token.name), &body))
}

fn sources(used: &TokenUse, now: Timestamp) -> Markup {
    html! {
        @if used.sources.is_empty() { p .empty { "No address is recorded of the last 90 days." } } @else {
            div .scroll tabindex="0" role="region" aria-label="Used from" {
                table {
                    thead { tr { th scope="col" { "Address" } th scope="col" { "First used" } th scope="col" { "Last used" } } }
                    tbody {
                        @for source in used.sources.iter() {
                            tr {
                                td { code { (source.address) } }
                                td data-label="First used" { (page::moment(now, source.first_at)) }
                                td data-label="Last used" { (page::moment(now, source.last_at)) }
                            }
                        }
                    }
                }
            }
            p .hint { "The newest addresses, at most " (UseSources::MOST) ". Each is noted once an hour, so the last use may have been up to an hour later." }
        }
    }
}

fn issuer(token: &Token) -> Markup {
    let who = match token.issuer {
        crate::domain::Issuer::Operator => "an operator",
        crate::domain::Issuer::Platform => "the platform itself",
    };
    html! { (who) " (" code { (token.issuer.name()) } ")" @if !token.revocable { ", and only an operator ends it" } }
}

pub(super) async fn ask_revoke(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    visitor.operator.may_issue().map_err(Error::from)?;
    let (token, used) = read(&app, &visitor, &uri).await?;
    if !may_end(&visitor, &token) {
        return Ok(Redirect::to(&format!("/console/tokens/{}", token.id)).into_response());
    }
    let body = html! {
        p .path { a href="/console/tokens" { "Tokens" } " / " a href=(format!("/console/tokens/{}", token.id)) { (token.name) } }
        h1 { "End " (token.name) "?" }
        p { "Whoever uses it is refused from then on, everywhere. It can't be brought back; a new one has another clientId and secret." }
        p { "Last used: " (page::optional_moment(visitor.now, used.last_used_at, "never")) ". In the last day: " (used.last_24_hours()) " times." }
        form method="post" action=(format!("/console/tokens/{}/revoke", token.id)) {
            (page::key(&visitor))
            button .danger { "End this token" } " "
            a .button.plain href=(format!("/console/tokens/{}", token.id)) { "Keep it" }
        }
    };
    Ok(page::page(&visitor, StatusCode::OK, &format!("Token {}", token.name), &body))
}

pub(super) async fn revoke(State(app): State<App>, visitor: Visitor, uri: Uri, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    form::read(&app, &visitor, &headers, body, &[]).await?;
    let id = path::token_id(&uri).ok_or_else(Oops::not_found)?;
    let by = app.authority.locate_token(&visitor.operator, id).await?.may_manage().map_err(Error::from)?;
    let ended = app.authority.revoke_token(&by, id).await?;
    let until =
        if ended.receipt.bound.is_zero() { String::new() } else { format!("&until={}", encoded(&ended.receipt.effective_at.to_string())) };
    Ok(Redirect::to(&format!("/console/tokens/{id}?done=ended{until}")).into_response())
}

pub(super) async fn new(State(app): State<App>, visitor: Visitor, uri: Uri) -> Result<Response, Oops> {
    visitor.operator.may_issue().map_err(Error::from)?;
    let platforms = app.authority.list_platforms(&visitor.operator).await?;
    let query = Query::parse(uri.query(), &["scope"]).understood()?;
    let scope = query.text("scope").map(|text| page::scope_of(&text)).transpose()?;
    new_page(&app, &visitor, StatusCode::OK, &platforms, (scope, "", Permissions::NONE), None)
}

fn new_page(
    app: &App,
    visitor: &Visitor,
    status: StatusCode,
    platforms: &[Platform],
    (scope, name, permissions): (Option<Scope>, &str, Permissions),
    problem: Option<&str>,
) -> Result<Response, Oops> {
    let body = html! {
        p .path { a href="/console/tokens" { "Tokens" } }
        h1 { "Create a token" }
        @if let Some(problem) = problem { (page::wrong(problem)) }
        form method="post" action="/console/tokens" {
            (page::key(visitor))
            (page::once(app)?)
            div .field { label for="scope" { "Where" } (page::scopes(platforms, scope, false)) }
            div .field {
                label for="name" { "Name" }
                input #name name="name" value=(name) required maxlength="255" autocomplete="off" autofocus;
                p .hint { "What it is for, so that somebody knows later whether it can go: " q { "Nightly payouts, billing team" } "." }
            }
            fieldset {
                legend { "Permissions" }
                @for permission in Permission::ALL {
                    @let id = permission.name().to_lowercase();
                    div .check {
                        input type="checkbox" id=(id) name=(id) value="yes" checked[permissions.contains(permission)];
                        label for=(id) { strong { (permission.name()) } " – " (page::explained(permission)) }
                    }
                }
            }
            button { "Create" }
        }
    };
    Ok(page::page(visitor, status, "Token, new", &body))
}

pub(super) async fn create(State(app): State<App>, visitor: Visitor, headers: HeaderMap, body: Body) -> Result<Response, Oops> {
    let known = ["scope", "name", "view", "transact", "manage", "once"];
    let form = form::read(&app, &visitor, &headers, body, &known).await?;
    let platforms = app.authority.list_platforms(&visitor.operator).await?;
    let (text, mut invalid) = (|name| form.text(name).unwrap_or_default(), Invalid::default());
    let scope = invalid.take(page::scope_of(&text("scope")));
    let name = invalid.take(TokenName::parse("name", &text("name")));
    let checked = Permission::ALL.into_iter().filter(|permission| form.text(&permission.name().to_lowercase()).is_some());
    let permissions = checked.fold(Permissions::NONE, Permissions::with);
    if permissions.is_empty() {
        invalid.add("permissions", "min_items", "must be at least one");
    }
    let once = invalid.take(IdempotencyKey::parse(text("once").as_bytes()));
    let (Some(scope), Some(name), Some(once), false) = (scope, name, once, permissions.is_empty()) else {
        let problem = page::problems(&invalid);
        return new_page(&app, &visitor, StatusCode::BAD_REQUEST, &platforms, (scope, &text("name"), permissions), Some(&problem));
    };
    let caller = app.authority.locate_platform(&visitor.operator, scope.platform, scope.environment).await?;
    let by = caller.may_manage().map_err(Error::from)?;
    let issued = app.authority.create_token(&by, NewToken { name, permissions }, Some(once)).await?;
    Ok(page::page(&visitor, StatusCode::CREATED, "Token, new", &created(&issued)))
}

/// Its secret, this once: a page that is loaded again shows none.
fn created(issued: &Issued) -> Markup {
    let token = &issued.token;
    let client_id = token.client_id().to_string();
    let secret = issued.secret.as_ref().filter(|_| !issued.replayed);
    html! {
        p .path { a href="/console/tokens" { "Tokens" } }
        h1 { (token.name) " is there" }
        @match secret {
            Some(secret) => {
                (page::notice("This is the only time that the secret is shown. Copy it to where it will be used."))
                (page::secret("clientId", &client_id))
                (page::secret("clientSecret", secret.expose()))
                h2 { "Try it" }
                pre tabindex="0" { code { "export CLIENT_ID=" (client_id) "\nexport CLIENT_SECRET=" (secret.expose()) "\ncurl -u \"$CLIENT_ID:$CLIENT_SECRET\" \"$API" (GRID) "/tokens\"" } }
                p .hint { code { "$API" } " is where your customers reach the API, such as " code { "https://api.example.com" } "." }
            }
            None => {
                p { "It was made by the form that you sent a while ago, and its secret was shown then. If that is lost, end this one and create another." }
                p { "clientId: " (page::copyable(&client_id)) }
            }
        }
        p { a .button href=(format!("/console/tokens/{}", token.id)) { "To the token" } }
    }
}
