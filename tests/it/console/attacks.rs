//! What other sites, and strangers with a browser, try.

use std::time::Duration;

use countersign::domain::Role;
use http::Method;

use super::{Browser, confirmed, fields, good_form, routes, target, text};
use crate::{
    operators::{PASSWORD, Person, code, name, source},
    support::{Request, TestApp, logged, operator},
};

/// What a browser says of a form that another site has sent; and what somebody says who is no browser.
const FOREIGN: [&[(&str, &str)]; 10] = [
    &[],
    &[("origin", "https://evil.example")],
    &[("origin", "null")],
    &[("origin", "http://console.example:8080")],
    &[("origin", "https://console.example.evil.example")],
    &[("sec-fetch-site", "cross-site")],
    &[("sec-fetch-site", "same-site"), ("origin", "https://console.example")],
    &[("sec-fetch-site", "none"), ("origin", "https://console.example")],
    &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
    &[("origin", "https://console.example"), ("origin", "https://console.example")],
];

fn with<'a>(request: Request<'a>, headers: &[(&str, &str)]) -> Request<'a> {
    headers.iter().fold(request.header("host", "console.example"), |request, (name, value)| request.header(name, value))
}

/// Somebody who changes how they sign in by that route, with a form that is right.
async fn whose_factors_change<'a>(app: &'a TestApp, route: &str, form: &mut Vec<(&'static str, String)>) -> Option<Browser<'a>> {
    let name = match route {
        "/account/password" => "by-password",
        "/account/second-factor" => "by-factor",
        "/account/second-factor/confirm" => "by-code",
        _ => return None,
    };
    let (person, signed_in) = Person::invited(app, name, Role::Viewer, None).await;
    let given = person.types(PASSWORD, app);
    if name == "by-code" {
        let enrolment = app.authority.enrol_anew(&signed_in, given, source(1), Default::default()).await.unwrap();
        let now = countersign::authority::Clock::wall(&*app.clock).millis();
        *form = vec![("enrolment", enrolment.sealed().to_owned()), ("code", code(&enrolment.text(), now))];
    } else {
        form[0].1 = PASSWORD.to_owned();
        form[1].1 = given.code.clone();
    }
    Some(Browser::of(app, &signed_in))
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let app = TestApp::new().await;
    let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
    let other = Browser::invited(&app, "other", Role::Owner, None).await;
    let (alice, _) = Person::invited(&app, "alice", Role::Viewer, None).await;
    let mut n = 0;
    let posts: Vec<_> =
        routes().into_iter().filter(|(path, method)| method == "POST" && path != "/sign-out").map(|(path, _)| path).collect();
    // Signing out is last.
    for route in posts.iter().map(String::as_str).chain(["/sign-out"]) {
        n += 1;
        let path = target(&app, route, "owner", true, n).await;
        let mut form = good_form(&app, route, n);
        let changed = whose_factors_change(&app, route, &mut form).await;
        let owner = changed.as_ref().unwrap_or(&owner);
        let mut form = confirmed(owner, route, form).await;
        let for_nobody = matches!(route, "/sign-in" | "/invitation");
        if route == "/sign-in" {
            let given = alice.types(PASSWORD, &app);
            form = vec![("name", "alice".to_owned()), ("password", PASSWORD.to_owned()), ("code", given.code.clone())];
        } else if route == "/invitation" {
            let (_, invitation) = app.authority.create_account(&operator(), name("invited"), Role::Owner, None, None).await.unwrap();
            let enrolment = app.authority.enrol(None).unwrap();
            let now = countersign::authority::Clock::wall(&*app.clock).millis();
            form = vec![
                ("name", "invited".to_owned()),
                ("invitation", invitation.expose().to_owned()),
                ("password", PASSWORD.to_owned()),
                ("again", PASSWORD.to_owned()),
                ("enrolment", enrolment.sealed().to_owned()),
                ("code", code(&enrolment.text(), now)),
            ];
        }
        let form = fields(&form);
        let before = app.place().await;
        let refuse = async |request: Request<'_>, what: &str| {
            let answer = request.send_admin().await;
            assert!(answer.status == 403 && answer.header("set-cookie").is_none(), "{what}: {answer:?}");
            assert!(text(&answer).contains("That form is too old") && app.place().await == before, "{what}: {answer:?}");
        };
        let keyed = [&form[..], &[("form_key", owner.key.as_str())]].concat();
        let right = if for_nobody { &form } else { &keyed };
        for headers in FOREIGN {
            refuse(with(owner.foreign_form(&path, right), headers), &format!("{headers:?}")).await;
        }
        if !for_nobody {
            let here = [("sec-fetch-site", "same-origin")];
            refuse(with(owner.foreign_form(&path, &form), &here), "no key").await;
            for key in [other.key.as_str(), "", "A", &owner.key[1..], owner.cookie.as_deref().unwrap()] {
                let fields = [&form[..], &[("form_key", key)]].concat();
                refuse(with(owner.foreign_form(&path, &fields), &here), key).await;
            }
            // Where the address has it.
            let path = format!("{path}?form_key={}", owner.key);
            refuse(with(owner.foreign_form(&path, &form), &here), "in the query").await;
        }
        // All else was right.
        let done = with(owner.foreign_form(&path, right), &[("origin", "https://console.example")]).send_admin().await;
        let changes = route != "/operations/diff";
        assert!(done.status.as_u16() < 400 && (app.place().await > before) == changes, "{done:?}");
    }
    assert!(n > 10);
}

#[tokio::test]
async fn a_cookie_that_a_visitor_brings_is_never_taken_over() {
    let app = TestApp::new().await;
    let (alice, first) = Person::invited(&app, "alice", Role::Viewer, None).await;
    let (_, evil) = Person::invited(&app, "evil", Role::Viewer, None).await;
    let mut known = vec![first.cookie(), evil.cookie(), "A".repeat(43)];
    for brought in known.clone() {
        let browser = Browser { app: &app, cookie: Some(brought), key: String::new() };
        let given = alice.types(PASSWORD, &app);
        let form = [("name", "alice"), ("password", PASSWORD), ("code", given.code.as_str())];
        let entered = browser.foreign_form("/sign-in", &form).header("sec-fetch-site", "same-origin").send_admin().await.expect(303);
        app.clock.advance(Duration::from_secs(30));
        let new = entered.header("set-cookie").unwrap().split(['=', ';']).nth(1).unwrap().to_owned();
        assert!(new.len() == 43 && !known.contains(&new));
        assert_eq!(app.authority.signed_in(&new).await.unwrap().unwrap().account.name.as_str(), "alice");
        known.push(new);
    }
    // What was brought is what it was: somebody else's, or nobody's.
    assert_eq!(app.authority.signed_in(&known[1]).await.unwrap().unwrap().account.name.as_str(), "evil");
    assert!(app.authority.signed_in(&known[2]).await.unwrap().is_none());
}

#[tokio::test]
async fn nobody_is_sent_to_another_site() {
    let app = TestApp::new().await;
    let (alice, _) = Person::invited(&app, "alice", Role::Viewer, None).await;
    let nobody = Browser::new(&app);
    for to in [
        "https://evil.example/console/",
        "//evil.example/console/",
        "/\\evil.example",
        "/console/\\evil.example",
        "/console//evil.example",
        "/console/../metrics",
        "/console/%2e%2e/metrics",
        "/metrics",
        "javascript:alert(1)",
        "/console/\r\nset-cookie: a=b",
        "/console/tokens?q=x",
        "/consolex/",
    ] {
        let query = super::encoded(&[("to", to)]);
        assert_eq!(super::hidden(&nobody.reads(&format!("/sign-in?{query}")).await, "to"), "", "{to}");
        let given = alice.types(PASSWORD, &app);
        let form = [("name", "alice"), ("password", PASSWORD), ("code", given.code.as_str()), ("to", to)];
        let entered = nobody.sends("/sign-in", &form).await.expect(303);
        assert_eq!(entered.header("location"), Some("/console/tokens"), "{to}");
        app.clock.advance(Duration::from_secs(30));
    }
    // Where routes would make one of two slashes, or of what is encoded.
    for path in ["//evil.example", "/tokens/%0d%0aset-cookie:a=b", "/tokens/..;/x"] {
        let answer = nobody.get(path).send_admin().await;
        assert!(answer.header("location").is_none_or(|to| to == "/console/sign-in"), "{answer:?}");
    }
}

#[tokio::test]
async fn who_guesses_waits_and_is_told_for_how_long() {
    let app = TestApp::new().await;
    let (alice, _) = Person::invited(&app, "alice", Role::Owner, None).await;
    let nobody = Browser::new(&app);
    let guess = async |path: &str, from: u8| {
        let name = if path == "/sign-in" { "alice" } else { "somebody" };
        let form = [("name", name), ("password", "another password"), ("again", "another password"), ("invitation", "x"), ("code", "1")];
        let form = if path == "/sign-in" { &[form[0], form[1], form[4]][..] } else { &form[..] };
        nobody.form(path, form).from(&format!("198.51.100.{from}")).send_admin().await
    };
    for path in ["/sign-in", "/invitation"] {
        let from = path.len() as u8;
        for _ in 0..10 {
            guess(path, from).await.expect(403);
        }
        let limited = guess(path, from).await.expect(429);
        let wait: u32 = limited.header("retry-after").unwrap().parse().unwrap();
        let html = text(&limited);
        assert!(html.contains(&format!("Wait for {wait} seconds")) && html.contains("<form"), "{html}");
    }
    for from in 20..30 {
        guess("/sign-in", from).await;
    }
    // Of one account from everywhere: the right password waits too, and then gets in.
    let enter = async || {
        let given = alice.types(PASSWORD, &app);
        nobody.form("/sign-in", &[("name", "alice"), ("password", PASSWORD), ("code", &given.code)]).from("203.0.113.1").send_admin().await
    };
    enter().await.expect(429);
    app.clock.advance(Duration::from_secs(60));
    enter().await.expect(303);
}

#[tokio::test]
async fn what_is_no_page_is_guarded_too() {
    let app = TestApp::new().await;
    let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
    let nobody = Browser::new(&app);
    // The support looks at what each answer has.
    for browser in [&owner, &nobody] {
        for path in ["/x", "/tokens/", "/tokens/a/b/c", "/tokens/../metrics", "/%", "/console.css/x", "/SIGN-IN"] {
            browser.get(path).send_admin().await.expect(404);
        }
        for path in ["", "/"] {
            browser.get(path).send_admin().await.expect(303);
        }
        let routes = routes();
        for path in routes.iter().map(|(path, _)| path) {
            let path_there = path.replace("{token}", "x").replace("{platform}", "x").replace("{name}", "x").replace("{id}", "x");
            for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "POST", "GET", "TRACE"] {
                if routes.contains(&(path.clone(), method.to_owned())) {
                    continue;
                }
                let answer = browser.request(Method::from_bytes(method.as_bytes()).unwrap(), &path_there).send_admin().await.expect(405);
                assert!(text(&answer).contains("<h1>"), "{answer:?}");
            }
            browser.request(Method::HEAD, &path_there).send_admin().await;
        }
    }
    app.entropy.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    owner.get("/tokens/new").expecting_5xx().send_admin().await.expect(503);
    nobody.get("/invitation").expecting_5xx().send_admin().await.expect(503);
    app.entropy.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    // What is refused or breaks around the console is a page of it too.
    let long = nobody.get(&format!("/tokens?q={}", "x".repeat(9000))).send_admin().await.expect(414);
    assert!(text(&long).contains("<h1>That address is too long</h1>"), "{long:?}");
    nobody.get("/sign-in").header("x-long", &"x".repeat(17 * 1024)).send_admin().await.expect(431);
    app.clock.panics.store(true, std::sync::atomic::Ordering::SeqCst);
    let broken = owner.get("/tokens").expecting_5xx().send_admin().await.expect(500);
    assert!(text(&broken).contains("<h1>That went wrong here</h1>"), "{broken:?}");
    app.assert_panics(1).await;
}

/// Beside what is checked with each answer and at the end of each test: that no secret that a page has shown is in another
/// answer, in a `Location` or in the log.
#[tokio::test]
async fn what_somebody_types_is_nowhere() {
    let app = TestApp::new().await;
    let (alice, signed_in) = Person::invited(&app, "alice", Role::Owner, None).await;
    let browser = Browser::of(&app, &signed_in);
    let password = "a password that nobody else has";
    let code = alice.types(PASSWORD, &app).code.clone();
    Browser::new(&app).sends("/sign-in", &[("name", "alice"), ("password", password), ("code", &code)]).await.expect(403);
    for path in ["/tokens", "/account", "/platforms"] {
        browser.foreign_form(path, &[("form_key", &browser.key)]).send_admin().await.expect(403);
    }
    let log = logged();
    for secret in [password, &browser.key, browser.cookie.as_deref().unwrap()] {
        assert!(!log.contains(secret));
    }
    // When the log was looked at, it was one.
    assert!(log.contains("/console/sign-in"));
}
