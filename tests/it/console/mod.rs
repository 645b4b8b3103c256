//! The console, as a browser without script sees it. What holds for every answer of it is checked with each: `support/page.rs`.

mod attacks;
mod audit;
mod flows;
mod inputs;
mod loading;
mod matrix;
mod names;
mod once;
mod search;
mod servers;

use countersign::{
    authority::SignedIn,
    domain::{Environment, PlatformId, Role, Scope, TokenSearch},
};
use http::Method;

use crate::{
    operators::{Person, name},
    support::{Answer, Request, TestApp, operator, page},
    v1::{matrix::routed, nothing},
};

/// A browser with its cookie, and what its forms have.
pub(crate) struct Browser<'a> {
    app: &'a TestApp,
    cookie: Option<String>,
    key: String,
}

impl<'a> Browser<'a> {
    /// Of nobody.
    fn new(app: &'a TestApp) -> Self {
        Self { app, cookie: None, key: String::new() }
    }

    /// Of somebody who is signed in.
    fn of(app: &'a TestApp, signed_in: &SignedIn) -> Self {
        Self { app, cookie: Some(signed_in.cookie()), key: signed_in.form_key() }
    }

    /// Of somebody new.
    async fn invited(app: &'a TestApp, name: &'static str, role: Role, platform: Option<PlatformId>) -> Self {
        Self::of(app, &Person::invited(app, name, role, platform).await.1)
    }

    fn request(&self, method: Method, path: &str) -> Request<'a> {
        let request = self.app.request(method, &format!("/console{path}")).anonymous();
        match &self.cookie {
            Some(cookie) => request.header("cookie", &format!("__Host-countersign={cookie}")),
            None => request,
        }
    }

    fn get(&self, path: &str) -> Request<'a> {
        self.request(Method::GET, path)
    }

    /// What a page that is there says.
    async fn reads(&self, path: &str) -> String {
        text(&self.get(path).send_admin().await.expect(200))
    }

    /// A form without what proves that it is one of theirs.
    fn foreign_form(&self, path: &str, fields: &[(&str, &str)]) -> Request<'a> {
        self.request(Method::POST, path).header("content-type", "application/x-www-form-urlencoded").body(encoded(fields))
    }

    /// A form of theirs.
    fn form(&self, path: &str, fields: &[(&str, &str)]) -> Request<'a> {
        let key = [("form_key", self.key.as_str())];
        let fields = [fields, if self.cookie.is_some() { &key } else { &[] }].concat();
        self.foreign_form(path, &fields).header("sec-fetch-site", "same-origin")
    }

    async fn sends(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.form(path, fields).send_admin().await
    }

    /// Sends one of those that make something once, with a key of its own.
    async fn makes(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let once = self.app.authority.one_time_key().unwrap();
        self.sends(path, &[fields, &[("once", &once)]].concat()).await
    }

    /// Sends it, and reads the page that it leads to.
    async fn follows(&self, path: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.sends(path, fields).await.expect(303);
        self.reads(answer.header("location").unwrap().strip_prefix("/console").unwrap()).await
    }
}

/// As a browser encodes a form.
pub(crate) fn encoded(fields: &[(&str, &str)]) -> String {
    let one = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    fields.iter().map(|(name, value)| format!("{name}={}", one(value))).collect::<Vec<_>>().join("&")
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The value of a hidden field.
fn hidden(html: &str, name: &str) -> String {
    let rest = html.split(&format!("type=\"hidden\" name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no {name}: {html}"));
    rest.split('"').next().unwrap().to_owned()
}

/// What a page shows this once, by its name.
fn shown(answer: &Answer, name: &str) -> Option<String> {
    page::shown_once(answer).into_iter().find(|(shown, _)| shown == name).map(|(_, value)| value)
}

/// Paths and methods of all routes.
fn routes() -> Vec<(String, String)> {
    let routes = routed("console/mod.rs");
    assert!(routes.len() > 25);
    routes
}

/// The path of something that is there for the sake of one request alone: of their own platform or account, or of others'.
async fn target(app: &TestApp, path: &str, account: &str, own: bool, n: usize) -> String {
    let mut path = path.to_owned();
    if path.contains("{platform}") {
        let id = app.another_platform("Target").await.0.id;
        if path.ends_with("/enable") {
            app.authority.set_platform_disabled(&operator(), id, true).await.unwrap();
        }
        path = path.replace("{platform}", &id.to_string());
    }
    if path.contains("{token}") {
        let token = match own {
            true => app.token("target", &["VIEW"]).await,
            false => app.token_by(&app.another_platform("Other").await.1[0], "target", &["VIEW"]).await,
        };
        path = path.replace("{token}", &token.id);
    }
    if path.contains("{bulk}") {
        let of = if own { app.platform.id } else { app.another_platform("Other").await.0.id };
        path = path.replace("{bulk}", &app.bulk_revoke_of(of).await);
    }
    let another = format!("target-{n}");
    if path.contains("{name}") || (path.contains("{id}") && !own) {
        app.authority.create_account(&operator(), name(&another), Role::Viewer, None, None).await.unwrap();
    }
    if path.contains("{id}") {
        let of = if own { account } else { &another };
        path = path.replace("{id}", &app.operator_token(of, None).await.0.0.to_string());
    }
    path.replace("{name}", &another)
}

/// A password that is nobody's yet.
const CHOSEN: &str = "several other words in a row";

/// A form that each route takes of whoever may; `n` makes it another one. What signs in needs a person, and so does what changes
/// how one does.
fn good_form(app: &TestApp, path: &str, n: usize) -> Vec<(&'static str, String)> {
    let own = |fields: &[(&'static str, &str)]| fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let once = &*app.authority.one_time_key().unwrap();
    match path {
        "/tokens" => {
            let scope = format!("{}.sandbox", app.platform.id);
            own(&[("scope", &scope), ("name", "made"), ("view", "yes"), ("once", once)])
        }
        "/bulk-revokes" => {
            let search = TokenSearch { scope: Some(Scope { platform: app.platform.id, environment: Environment::Sandbox }), ..nothing() };
            own(&[("search", &search.text()), ("count", "0"), ("once", once)])
        }
        "/platforms" => own(&[("name", "Made"), ("once", once)]),
        "/operators" => own(&[("name", &format!("made-{n}")), ("role", "viewer"), ("platform", ""), ("once", once)]),
        "/operators/{name}" => own(&[("do", "role"), ("role", "manager")]),
        "/account" => own(&[("name", "made"), ("lasts", "30"), ("once", once)]),
        "/account/password" => own(&[("old", "not the old one"), ("code", "000000"), ("password", CHOSEN), ("again", CHOSEN)]),
        "/account/second-factor" => own(&[("password", "not the old one"), ("code", "000000")]),
        "/account/second-factor/confirm" => own(&[("enrolment", "AAAA"), ("code", "000000")]),
        "/operations/diff" => own(&[("document", &document(n)), ("base_path", ""), ("rules", "")]),
        // Without what was shown: see [`confirmed`].
        "/operations" => own(&[("document", &document(n)), ("base_path", ""), ("rules", ""), ("shown", "")]),
        _ => Vec::new(),
    }
}

/// A document with one operation.
fn document(n: usize) -> String {
    format!("paths: {{/made/{n}: {{get: {{x-required-permissions: [VIEW]}}}}}}")
}

/// A form of a route as its page has it by then: where something is shown first, with what was shown.
async fn confirmed(owner: &Browser<'_>, path: &str, mut form: Vec<(&'static str, String)>) -> Vec<(&'static str, String)> {
    if path == "/operations" {
        let answer = owner.sends("/operations/diff", &fields(&form[..3])).await.expect(200);
        form[3].1 = hidden(&text(&answer), "shown");
    }
    form
}

/// A form's fields as they are sent.
fn fields<'f>(form: &'f [(&'static str, String)]) -> Vec<(&'f str, &'f str)> {
    form.iter().map(|(name, value)| (*name, value.as_str())).collect()
}
