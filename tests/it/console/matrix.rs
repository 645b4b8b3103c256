//! Every route by everybody.

use countersign::domain::Role;
use http::Method;

use super::{Browser, confirmed, fields, good_form, routes, target};
use crate::{
    operators::{Person, name},
    support::{Answer, TestApp, operator},
};

/// Who may.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    Everybody,
    SignedIn,
    /// Who sees the token that it is about.
    Sees,
    /// Who sees it, and ends tokens.
    Ends,
    /// Managers and owners.
    Issues,
    /// Operators of all platforms.
    Oversees,
    Owns,
    /// Whose the program's token is; and owners.
    Has,
}
use Who::{Ends, Everybody, Has, Issues, Oversees, Owns, Sees, SignedIn};

/// Each route: its path and method, who may, and how it is answered to them.
const ROWS: [(&str, &str, Who, u16); 48] = [
    ("/", "GET", Everybody, 303),
    ("/console.css", "GET", Everybody, 200),
    ("/console.js", "GET", Everybody, 200),
    ("/icon.svg", "GET", Everybody, 200),
    ("/sign-in", "GET", Everybody, 200),
    // With nothing in it.
    ("/sign-in", "POST", Everybody, 403),
    ("/invitation", "GET", Everybody, 200),
    ("/invitation", "POST", Everybody, 403),
    ("/tokens", "GET", SignedIn, 200),
    ("/tokens", "POST", Issues, 201),
    ("/tokens/new", "GET", Issues, 200),
    ("/tokens/{token}", "GET", Sees, 200),
    ("/tokens/{token}/revoke", "GET", Ends, 200),
    ("/tokens/{token}/revoke", "POST", Ends, 303),
    ("/bulk-revokes", "GET", SignedIn, 200),
    ("/bulk-revokes", "POST", Issues, 303),
    ("/bulk-revokes/new", "GET", Issues, 200),
    ("/bulk-revokes/{bulk}", "GET", Sees, 200),
    ("/bulk-revokes/{bulk}/stop", "POST", Ends, 303),
    ("/platforms", "GET", SignedIn, 200),
    ("/platforms", "POST", Owns, 201),
    ("/platforms/{platform}/disable", "GET", Owns, 200),
    ("/platforms/{platform}/disable", "POST", Owns, 303),
    ("/platforms/{platform}/enable", "GET", Owns, 200),
    ("/platforms/{platform}/enable", "POST", Owns, 303),
    ("/operations", "GET", SignedIn, 200),
    ("/operations", "POST", Owns, 303),
    ("/operations/load", "GET", Owns, 200),
    ("/operations/diff", "POST", Owns, 200),
    ("/audit", "GET", SignedIn, 200),
    ("/audit/verify", "GET", Oversees, 200),
    ("/audit/export", "GET", Oversees, 200),
    ("/operators", "GET", Oversees, 200),
    ("/operators", "POST", Owns, 201),
    ("/operators/{name}", "GET", Oversees, 200),
    ("/operators/{name}", "POST", Owns, 303),
    ("/keys", "GET", Oversees, 200),
    ("/nodes", "GET", Oversees, 200),
    ("/settings", "GET", Oversees, 200),
    ("/account", "GET", SignedIn, 200),
    ("/account", "POST", SignedIn, 201),
    // With what is not theirs.
    ("/account/password", "GET", SignedIn, 200),
    ("/account/password", "POST", SignedIn, 403),
    ("/account/second-factor", "GET", SignedIn, 200),
    ("/account/second-factor", "POST", SignedIn, 403),
    ("/account/second-factor/confirm", "POST", SignedIn, 400),
    ("/account/tokens/{id}/revoke", "POST", Has, 303),
    // Last: who has sent it is nobody.
    ("/sign-out", "POST", SignedIn, 303),
];

/// A caller with their role, and whether it is of all platforms.
struct Caller<'a> {
    account: &'static str,
    browser: Browser<'a>,
    may: Option<(Role, bool)>,
}

async fn callers(app: &TestApp) -> Vec<Caller<'_>> {
    let own = Some(app.platform.id);
    let mut callers = Vec::new();
    for (account, role, platform) in [
        ("viewer", Role::Viewer, None),
        ("manager", Role::Manager, None),
        ("owner", Role::Owner, None),
        ("viewer-of-one", Role::Viewer, own),
        ("manager-of-one", Role::Manager, own),
    ] {
        let browser = Browser::invited(app, account, role, platform).await;
        callers.push(Caller { account, browser, may: Some((role, platform.is_none())) });
    }
    let disabled = Browser::invited(app, "disabled", Role::Owner, None).await;
    app.authority.set_account_disabled(&operator(), name("disabled"), true).await.unwrap();
    let (_, out) = Person::invited(app, "out", Role::Owner, None).await;
    app.authority.sign_out(&out, Default::default()).await.unwrap();
    let twice =
        Browser { app, cookie: callers[2].browser.cookie.clone().map(|c| format!("{c}; __Host-countersign={c}")), key: String::new() };
    let garbage = Browser { app, cookie: Some("A".repeat(43)), key: String::new() };
    for browser in [Browser::new(app), disabled, Browser::of(app, &out), twice, garbage] {
        callers.push(Caller { account: "nobody", browser, may: None });
    }
    callers
}

/// Whether they may, and whether what it is about is there for them.
fn allowed(who: Who, (role, everywhere): (Role, bool), own: bool) -> (bool, bool) {
    let theirs = own || everywhere;
    match who {
        Everybody | SignedIn => (true, true),
        Sees => (true, theirs),
        Ends => (role >= Role::Manager, theirs),
        Issues => (role >= Role::Manager, true),
        Oversees => (everywhere, true),
        Owns => (role == Role::Owner && everywhere, true),
        Has => (true, own || (role == Role::Owner && everywhere)),
    }
}

async fn ask(app: &TestApp, owner: &Browser<'_>, caller: &Caller<'_>, (path, method): (&str, &str), own: bool, n: usize) -> (Answer, bool) {
    let account = if caller.may.is_some() { caller.account } else { "owner" };
    let target = target(app, path, account, own, n).await;
    let form = if method == "POST" { confirmed(owner, path, good_form(app, path, n)).await } else { Vec::new() };
    let before = app.place().await;
    let request = match method {
        "POST" if matches!(path, "/sign-in" | "/invitation") => {
            caller.browser.foreign_form(path, &[]).header("sec-fetch-site", "same-origin")
        }
        "POST" => caller.browser.form(&target, &fields(&form)),
        _ => caller.browser.request(Method::from_bytes(method.as_bytes()).unwrap(), &target),
    };
    let answer = request.from(&format!("198.51.{}.{}", n / 250, n % 250)).send_admin().await;
    let changed = app.place().await != before;
    (answer, changed)
}

#[tokio::test]
async fn every_page_by_everybody() {
    let app = TestApp::new().await;
    let callers = callers(&app).await;
    let shown = Browser::invited(&app, "shown", Role::Owner, None).await;
    let mut n = 0;
    for (path, method, who, ok) in ROWS {
        for caller in &callers {
            for own in [true, false].into_iter().skip(usize::from(!["{token}", "{bulk}", "{id}"].iter().any(|part| path.contains(part)))) {
                let own = own || !path.contains('{');
                n += 1;
                let (answer, changed) = ask(&app, &shown, caller, (path, method), own, n).await;
                let status = answer.status.as_u16();
                let told = || format!("{} at {method} {path}, own: {own}", caller.account);
                assert!(!changed || (method == "POST" && status < 400), "{}: {answer:?}", told());
                let Some(may) = caller.may.or((who == Everybody).then_some((Role::Viewer, false))) else {
                    assert!(status == 303 && !changed, "{}", told());
                    let location = answer.header("location").unwrap();
                    let expected = if method == "GET" {
                        format!("/console/sign-in?to={}", answer.what.split(' ').nth(1).unwrap())
                    } else {
                        "/console/sign-in".to_owned()
                    };
                    assert_eq!(location, expected);
                    continue;
                };
                match allowed(who, may, own) {
                    (true, true) => assert_eq!(status, ok, "{}: {answer:?}", told()),
                    (true, false) => assert_eq!(status, 404, "{}: {answer:?}", told()),
                    (false, true) => assert_eq!(status, 403, "{}: {answer:?}", told()),
                    (false, false) => assert!([403, 404].contains(&status), "{}: {answer:?}", told()),
                }
                assert!(status != 303 || method != "GET" || path == "/", "{}: {answer:?}", told());
            }
        }
    }
}

#[test]
fn the_matrix_has_a_row_for_every_route() {
    let mut rows: Vec<_> = ROWS.iter().map(|(path, method, ..)| ((*path).to_owned(), (*method).to_owned())).collect();
    rows.sort();
    assert_eq!(routes(), rows);
}

/// What is of no platform of theirs is nowhere for the staff of one: not in lists, filters or choices.
#[tokio::test]
async fn the_staff_of_one_platform_see_that_alone() {
    let app = TestApp::new().await;
    let (other, pairs) = app.another_platform("Elsewhere").await;
    let token = app.token_by(&pairs[0], "of-elsewhere", &["VIEW"]).await;
    let browser = Browser::invited(&app, "manager-of-one", Role::Manager, Some(app.platform.id)).await;
    for path in [
        "/tokens",
        "/tokens?status=all",
        "/tokens?q=of-elsewhere&status=all",
        &format!("/tokens?q={}", token.id),
        &format!("/tokens?q={}", token.client_id),
        "/tokens/new",
        "/platforms",
        "/audit",
        &format!("/audit?token={}", token.id),
    ] {
        let html = browser.reads(path).await;
        // What they typed themselves stands in the field.
        let html = html.replace(&format!("value=\"{}\"", token.id), "").replace(&format!("value=\"{}\"", token.client_id), "");
        let html = html.replace("value=\"of-elsewhere\"", "");
        assert!(!html.contains("Elsewhere") && !html.contains(&token.id) && !html.contains("of-elsewhere"), "{path}: {html}");
        assert!(!html.contains(&other.id.to_string()), "{path}");
    }
    for path in [format!("/tokens?scope={}.sandbox", other.id), format!("/audit?platform={}", other.id), format!("/tokens/{}", token.id)] {
        browser.get(&path).send_admin().await.expect(404);
    }
    let scope = format!("{}.sandbox", other.id);
    let form = [("scope", scope.as_str()), ("name", "x"), ("view", "yes"), ("once", "0123456789abcdef0123456789abcdef")];
    browser.sends("/tokens", &form).await.expect(404);
    // Roots are ended by operators of all platforms alone.
    let root = format!("/tokens/{}/revoke", app.sandbox.id);
    browser.get(&root).send_admin().await.expect(303);
    assert!((400..500).contains(&browser.sends(&root, &[]).await.status.as_u16()));
    app.get("/verify").auth(&app.sandbox).send().await.expect(200);
}
