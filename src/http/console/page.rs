//! What all pages have: the head, the navigation, and small parts.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, html};

use super::{form, oops::Oops, visitor::Visitor};
use crate::{
    domain::{Environment, Invalid, Permission, Permissions, Platform, Scope, Timestamp, Token},
    http::App,
};

/// Pages in the navigation: path, name, whether one needs to see all platforms for it.
const PAGES: [(&str, &str, bool); 8] = [
    ("/console/tokens", "Tokens", false),
    ("/console/platforms", "Platforms", false),
    ("/console/operations", "Operations", false),
    ("/console/audit", "Audit log", false),
    ("/console/operators", "Operators", true),
    ("/console/keys", "Keys", true),
    ("/console/nodes", "Nodes", true),
    ("/console/settings", "Settings", true),
];

/// A page of somebody who is signed in.
pub(super) fn page(visitor: &Visitor, status: StatusCode, title: &str, body: &Markup) -> Response {
    let sees_all = visitor.operator.platform().is_none();
    let account = &visitor.signed_in.account;
    let frame = html! {
        a .skip href="#main" { "To the content" }
        header {
            p .brand { a href=(super::HOME) { img src="/console/icon.svg" alt="" width="24" height="24"; "Countersign" } }
            nav aria-label="Pages" {
                ul {
                    @for (path, name, everywhere) in PAGES {
                        @if sees_all || !everywhere {
                            li { a href=(path) aria-current=[(is_in(title, name)).then_some("page")] { (name) } }
                        }
                    }
                }
            }
            div .who {
                a href="/console/account" { (account.name) }
                " " span .role { (account.role) }
                form method="post" action="/console/sign-out" {
                    (key(visitor))
                    button .plain { "Sign out" }
                }
            }
        }
        main #main tabindex="-1" { (body) }
    };
    document(status, title, &frame)
}

/// Which entry of the navigation a page belongs to: its title begins with that, or it is of a single such thing.
fn is_in(title: &str, name: &str) -> bool {
    title.starts_with(name.trim_end_matches('s'))
}

/// A page of nobody in particular.
pub(super) fn bare(status: StatusCode, title: &str, body: &Markup) -> Response {
    let frame = html! {
        header { p .brand { a href=(super::HOME) { img src="/console/icon.svg" alt="" width="24" height="24"; "Countersign" } } }
        main #main .narrow tabindex="-1" { (body) }
    };
    document(status, title, &frame)
}

fn document(status: StatusCode, title: &str, frame: &Markup) -> Response {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – Countersign" }
                link rel="stylesheet" href="/console/console.css";
                link rel="icon" href="/console/icon.svg" type="image/svg+xml";
                script defer src="/console/console.js" {}
            }
            body { (frame) }
        }
    };
    let media_type = HeaderValue::from_static("text/html; charset=utf-8");
    (status, [(header::CONTENT_TYPE, media_type)], Body::from(document.into_string())).into_response()
}

/// What every form has, so that no other site can send it.
pub(super) fn key(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name=(form::KEY) value=(visitor.signed_in.form_key()); }
}

/// What a form has that makes something, so that it makes one however often it is sent.
pub(super) fn once(app: &App) -> Result<Markup, Oops> {
    let key = app.authority.one_time_key()?;
    Ok(html! { input type="hidden" name="once" value=(key); })
}

/// What a form is told that was sent before: what was shown then is not shown again.
pub(super) fn made_before(path: (&str, &str), title: &str, was: &str) -> Markup {
    html! {
        p .path { a href=(path.0) { (path.1) } }
        h1 { (title) }
        p { "It was made by the form that you sent before. " (was) }
    }
}

/// A moment as people say it; the exact one is shown when they point at it.
pub(super) fn moment(now: Timestamp, at: Timestamp) -> Markup {
    html! { time datetime=(at) title=(at) { (ago(now, at)) } }
}

/// The same where there may be none.
pub(super) fn optional_moment(now: Timestamp, at: Option<Timestamp>, none: &str) -> Markup {
    at.map_or_else(|| html! { span .none { (none) } }, |at| moment(now, at))
}

/// A length of time, in the largest unit that is whole.
pub(super) fn length(length: Duration) -> String {
    let millis = length.as_nanos().div_ceil(1_000_000);
    match millis {
        _ if millis == 0 || !millis.is_multiple_of(1000) => format!("{millis} ms"),
        _ if millis.is_multiple_of(3_600_000) => format!("{} h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{} min", millis / 60_000),
        _ => format!("{} s", millis / 1000),
    }
}

fn ago(now: Timestamp, at: Timestamp) -> String {
    let seconds = (now.millis() - at.millis()) / 1000;
    let (length, unit) = match seconds.abs() {
        ..60 => return if seconds < 0 { "in a moment".to_owned() } else { "just now".to_owned() },
        60..3600 => (60, "minute"),
        3600..86_400 => (3600, "hour"),
        86_400..5_184_000 => (86_400, "day"),
        5_184_000..63_072_000 => (2_628_000, "month"),
        _ => (31_536_000, "year"),
    };
    // What was made for a day a moment ago ends in 24 hours, not in 23.
    let amount = if seconds < 0 { (length / 2 - seconds) / length } else { seconds / length };
    let many = if amount == 1 { "" } else { "s" };
    if seconds < 0 { format!("in {amount} {unit}{many}") } else { format!("{amount} {unit}{many} ago") }
}

/// Something to copy as it stands.
pub(super) fn copyable(text: &str) -> Markup {
    html! { span .copyable { code { (text) } button .copy type="button" data-copy=(text) hidden { "Copy" } } }
}

/// Something to copy that is shown this once, by its name.
pub(super) fn secret(name: &str, text: &str) -> Markup {
    html! {
        div .secret {
            span .name { (name) }
            code { (text) }
            button .copy type="button" data-copy=(text) hidden { "Copy" }
        }
    }
}

pub(super) fn permissions(set: Permissions) -> Markup {
    html! { @for permission in set.iter() { span .permission { (permission.name()) } " " } }
}

pub(super) fn status(token: &Token) -> Markup {
    match token.revoked_at {
        None => html! { span .status.live { "Live" } },
        Some(_) => html! { span .status.ended { "Ended" } },
    }
}

/// A box of words: what was done, or what there is to know.
pub(super) fn notice(text: &str) -> Markup {
    html! { p .notice role="status" { (text) } }
}

/// What is wrong with what was sent.
pub(super) fn wrong(text: &str) -> Markup {
    html! { p .wrong role="alert" { (text) } }
}

/// All problems in a sentence each.
pub(super) fn problems(invalid: &Invalid) -> String {
    let sentence = |problem: &crate::domain::Problem| format!("{} {}.", named(&problem.field), problem.message);
    invalid.problems().iter().map(sentence).collect::<Vec<_>>().join(" ")
}

/// A member's name as people read it.
fn named(field: &str) -> String {
    let words = match field {
        "expiresAt" => "the end",
        "once" => "the form",
        other => other,
    };
    let mut characters = words.replace('_', " ").chars().collect::<Vec<_>>();
    if let Some(first) = characters.first_mut() {
        *first = first.to_ascii_uppercase();
    }
    characters.into_iter().collect()
}

/// What is wrong with a choice that the list has not.
pub(super) fn not_in_list(field: &str) -> Invalid {
    Invalid::one(field, "enum", "must be one of those in the list")
}

/// A choice of one half of one platform; its value is read by [`scope_of`].
pub(super) fn scopes(platforms: &[Platform], chosen: Option<Scope>, all: bool) -> Markup {
    html! {
        select name="scope" id="scope" {
            @if all { option value="" selected[chosen.is_none()] { "All platforms" } }
            @for platform in platforms {
                @for environment in Environment::ALL {
                    @let scope = Scope { platform: platform.id, environment };
                    option value=(format!("{}.{environment}", platform.id)) selected[chosen == Some(scope)] {
                        (platform.name) " – " (environment)
                    }
                }
            }
        }
    }
}

/// Reads a choice of [`scopes`].
pub(super) fn scope_of(text: &str) -> Result<Scope, Invalid> {
    let parsed = text.rsplit_once('.').and_then(|(platform, environment)| {
        Some(Scope { platform: crate::domain::PlatformId::parse(platform)?, environment: Environment::parse(environment)? })
    });
    parsed.ok_or_else(|| not_in_list("platform"))
}

/// What each permission lets somebody do.
pub(super) const fn explained(permission: Permission) -> &'static str {
    match permission {
        Permission::View => "read: customers, balances, payments, and the API tokens of its platform",
        Permission::Transact => "move money: create quotes, payments and transfers",
        Permission::Manage => "change what there is: customers, accounts, webhooks; create and end API tokens",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_as_people_say_them() {
        let said = [0, 1, 999, 1000, 1210, 60_000, 90_000, 3_600_000, 86_400_000].map(|millis| length(Duration::from_millis(millis)));
        assert_eq!(said, ["0 ms", "1 ms", "999 ms", "1 s", "1210 ms", "1 min", "90 s", "1 h", "24 h"]);
    }

    #[test]
    fn moments_as_people_say_them() {
        let now = Timestamp::from_millis(1_900_000_000_000);
        let said = |seconds: i64| ago(now, now.plus_millis(-seconds * 1000));
        let expected = [
            (0, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (7199, "1 hour ago"),
            (86_400 * 3, "3 days ago"),
            (86_400 * 90, "2 months ago"),
            (86_400 * 800, "2 years ago"),
            (-30, "in a moment"),
            (-7200, "in 2 hours"),
            (-86_399, "in 24 hours"),
            (-86_400 * 90 + 1, "in 3 months"),
        ];
        for (seconds, words) in expected {
            assert_eq!(said(seconds), words);
        }
    }
}
