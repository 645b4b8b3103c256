//! What people come for, without script.

use countersign::domain::{Environment, Role};
use http::header::AUTHORIZATION;
use serde_json::json;

use super::{Browser, CHOSEN, hidden, shown, text};
use crate::{
    operators::{PASSWORD, Person, code, name},
    support::{Answer, GRID, Pair, START, TestApp, operator},
    v1::good_body,
};

/// What the cookie of an answer is, for the next request.
fn in_with<'a>(app: &'a TestApp, answer: &Answer) -> Browser<'a> {
    let cookie = answer.header("set-cookie").unwrap().split(['=', ';']).nth(1).unwrap().to_owned();
    Browser { app, cookie: Some(cookie), key: String::new() }
}

impl Browser<'_> {
    /// With the key that a page of theirs has.
    async fn looks_around(mut self) -> Self {
        self.key = hidden(&self.reads("/tokens").await, "form_key");
        self
    }
}

#[tokio::test]
async fn from_an_invitation_to_signing_out() {
    let app = TestApp::new().await;
    let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
    let made = owner.makes("/operators", &[("name", "carol@example.com"), ("role", "manager"), ("platform", "")]).await.expect(201);
    let invitation = shown(&made, "Invitation").unwrap();

    let nobody = Browser::new(&app);
    assert_eq!(nobody.get("/").send_admin().await.expect(303).header("location"), Some("/console/tokens"));
    let sent = nobody.get("/tokens").send_admin().await.expect(303);
    assert_eq!(sent.header("location"), Some("/console/sign-in?to=/console/tokens"));
    assert!(nobody.reads("/sign-in?to=/console/tokens").await.contains("href=\"/console/invitation\""));
    let page = nobody.reads("/invitation").await;
    assert!(page.contains("<svg") && page.contains("autocomplete=\"new-password\"") && page.contains("autocomplete=\"one-time-code\""));
    let (enrolment, totp) = (hidden(&page, "enrolment"), page.split("data-copy=\"").nth(1).unwrap().split('"').next().unwrap().to_owned());
    let accept = async |invitation: &str, password: &str, again: &str, code: &str| {
        let form = [
            ("name", "carol@example.com"),
            ("invitation", invitation),
            ("password", password),
            ("again", again),
            ("enrolment", &enrolment),
            ("code", code),
        ];
        nobody.sends("/invitation", &form).await
    };
    let right = code(&totp, START + 30_000);
    for (answer, status) in [
        (accept(&invitation, PASSWORD, "another one than that", &right).await, 400),
        (accept(&invitation, "short", "short", &right).await, 400),
        (accept(&invitation, PASSWORD, PASSWORD, "000000").await, 400),
        (accept(&invitation.replace(&invitation[..2], "AB"), PASSWORD, PASSWORD, &right).await, 403),
    ] {
        // With the same picture: nobody scans twice; and what they chose is not sent back.
        let again = text(&answer.expect(status));
        assert!(again.contains(&totp) && again.contains("role=\"alert\"") && !again.contains(PASSWORD), "{again}");
        assert_eq!(hidden(&again, "enrolment"), enrolment);
    }
    let entered = accept(&invitation, PASSWORD, PASSWORD, &right).await.expect(303);
    assert_eq!(entered.header("location"), Some("/console/tokens"));
    let carol = in_with(&app, &entered).looks_around().await;
    assert!(carol.reads("/account").await.contains("carol@example.com"));
    accept(&invitation, PASSWORD, PASSWORD, &right).await.expect(403);

    let out = carol.sends("/sign-out", &[]).await.expect(303);
    assert_eq!(out.header("location"), Some("/console/sign-in"));
    assert!(out.header("set-cookie").unwrap().starts_with("__Host-countersign=;"));
    carol.get("/tokens").send_admin().await.expect(303);
}

#[tokio::test]
async fn signing_in_and_wrong_ones() {
    let app = TestApp::new().await;
    let (person, _) = Person::invited(&app, "alice", Role::Viewer, None).await;
    let nobody = Browser::new(&app);
    let page = nobody.reads("/sign-in").await;
    for autocomplete in ["username", "current-password", "one-time-code"] {
        assert!(page.contains(&format!("autocomplete=\"{autocomplete}\"")), "{page}");
    }
    let right = person.types(PASSWORD, &app);
    let enter = async |password: &str, code: &str, to: &str| {
        nobody.sends("/sign-in", &[("name", "alice"), ("password", password), ("code", code), ("to", to)]).await
    };
    for (password, code) in [("another password", right.code.as_str()), (PASSWORD, "000000"), ("", "")] {
        let refused = enter(password, code, "/console/keys").await.expect(403);
        assert_eq!(refused.header("set-cookie"), None);
        let page = text(&refused);
        // What they need not type again, and no more than that.
        assert!(
            page.contains("value=\"alice\"") && page.contains("value=\"/console/keys\"") && !page.contains("another password"),
            "{page}"
        );
    }
    let entered = enter(PASSWORD, &right.code, "/console/keys").await.expect(303);
    assert_eq!(entered.header("location"), Some("/console/keys"));
    let alice = in_with(&app, &entered).looks_around().await;
    let page = alice.reads("/keys").await;
    assert!(page.contains("<a href=\"/console/keys\" aria-current=\"page\">"), "{page}");
    enter(PASSWORD, &right.code, "").await.expect(403);
}

#[tokio::test]
async fn a_token_from_its_form_to_its_end() {
    let app = TestApp::new().await;
    let manager = Browser::invited(&app, "manager", Role::Manager, None).await;
    let scope = format!("{}.sandbox", app.platform.id);
    let page = manager.reads(&format!("/tokens/new?scope={scope}")).await;
    assert!(page.contains(&format!("value=\"{scope}\" selected")), "{page}");
    let once = hidden(&page, "once");
    assert_ne!(once, hidden(&manager.reads("/tokens/new").await, "once"));
    let form = [("scope", scope.as_str()), ("name", " Nightly payouts "), ("view", "yes"), ("manage", "yes"), ("once", &once)];
    let made = manager.sends("/tokens", &form).await.expect(201);
    let (client_id, secret) = (shown(&made, "clientId").unwrap(), shown(&made, "clientSecret").unwrap());
    let pair = Pair { id: String::new(), client_id: client_id.clone(), secret };
    let listed = app.get(GRID).auth(&pair).send().await.expect(200).json();
    let id =
        listed["data"].as_array().unwrap().iter().find(|token| token["clientId"] == client_id).unwrap()["id"].as_str().unwrap().to_owned();
    app.post(GRID).auth(&pair).json(&json!({ "name": "by it", "permissions": ["VIEW"] })).send().await.expect(201);

    // Sent again it makes none, and shows no secret; the support looks for it.
    let before = app.place().await;
    let again = manager.sends("/tokens", &form).await.expect(201);
    assert_eq!((shown(&again, "clientSecret"), app.place().await), (None, before));
    assert!(text(&again).contains(&client_id));
    let html = manager.reads("/tokens?q=nightly").await;
    assert_eq!(html.matches(">Nightly payouts<").count(), 1, "{html}");

    // What was wrong is said, and what was right stays.
    let wrong = text(&manager.sends("/tokens", &[("scope", &scope), ("name", "Kept"), ("once", &once)]).await.expect(400));
    assert!(wrong.contains("Permissions must be at least one.") && wrong.contains("value=\"Kept\""), "{wrong}");

    let page = manager.reads(&format!("/tokens/{id}")).await;
    assert!(page.contains(&client_id) && page.contains("operator:manager") && page.contains("token.create"), "{page}");
    // A link says nothing that is not so.
    assert!(!manager.reads(&format!("/tokens/{id}?done=ended&until=2035-01-01T00:00:00Z")).await.contains("It has ended"));
    let ask = manager.reads(&format!("/tokens/{id}/revoke")).await;
    assert!(ask.contains("End Nightly payouts?") && app.get("/verify").auth(&pair).send().await.status == 200);
    let done = manager.follows(&format!("/tokens/{id}/revoke"), &[]).await;
    app.get("/verify").auth(&pair).send().await.refused(401, "UNAUTHORIZED");
    assert!(done.contains("It has ended. No server accepts it any more."), "{done}");
    assert!(!done.contains(&format!("href=\"/console/tokens/{id}/revoke\"")), "{done}");
    let odd = manager.reads(&format!("/tokens/{id}?done=ended&until=call+0800-EVIL")).await;
    assert!(!odd.contains("EVIL"), "{odd}");
    // A second time changes nothing.
    let before = app.place().await;
    manager.get(&format!("/tokens/{id}/revoke")).send_admin().await.expect(303);
    manager.sends(&format!("/tokens/{id}/revoke"), &[]).await.expect(303);
    assert_eq!(app.place().await, before);
}

#[tokio::test]
async fn a_token_s_page_says_where_it_was_used_from() {
    let app = TestApp::new().await;
    let viewer = Browser::invited(&app, "viewer", Role::Viewer, None).await;
    let token = app.token("a", &["VIEW"]).await;
    let section = async || {
        let page = viewer.reads(&format!("/tokens/{}", token.id)).await;
        page.split_once("<h2>Used from</h2>").unwrap().1.split_once("<h2>").unwrap().0.to_owned()
    };
    assert!(section().await.contains("No address is recorded of the last 90 days."));
    app.get(GRID).auth(&token).from("192.0.2.1").send().await.expect(200);
    app.clock.advance(std::time::Duration::from_secs(600));
    // What a proxy says that is no address is none.
    let odd = app.get(GRID).auth(&token).from("10.0.0.1").header("x-forwarded-for", "<script>alert(1)</script>");
    odd.send().await.expect(200);
    app.get("/verify").auth(&token).from("10.0.0.1").header("x-forwarded-for", "2001:db8::7").send().await.expect(200);
    let section = section().await;
    let rows: Vec<_> = section.split("<tr>").skip(2).collect();
    assert_eq!(rows.len(), 3, "{section}");
    for address in ["10.0.0.1", "2001:db8::7"] {
        let row = rows[..2].iter().find(|row| row.contains(&format!("<code>{address}</code>"))).unwrap();
        assert_eq!(row.matches("2025-07-21T17:42:58.000Z").count(), row.matches("2025-07-21T").count(), "{row}");
    }
    assert!(rows[2].contains("<code>192.0.2.1</code>") && rows[2].contains("2025-07-21T17:32:58.000Z"), "{section}");
    assert!(!section.contains("script"), "{section}");
}

#[tokio::test]
async fn platforms_come_and_are_disabled_and_enabled() {
    let app = TestApp::new().await;
    let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
    let made = owner.makes("/platforms", &[("name", "Globex")]).await.expect(201);
    let html = text(&made);
    let platforms = app.authority.list_platforms(&operator()).await.unwrap();
    let id = platforms.iter().find(|platform| platform.name.as_str() == "Globex").unwrap().id;
    // Two roots, a half each.
    let shown = crate::support::page::shown_once(&made);
    assert_eq!(shown.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["clientId", "clientSecret", "clientId", "clientSecret"]);
    assert!(html.contains(&id.to_string()) && Environment::ALL.iter().all(|half| html.contains(half.to_string().as_str())));
    let root = Pair { id: String::new(), client_id: shown[0].1.clone(), secret: shown[1].1.clone() };
    app.get(GRID).auth(&root).send().await.expect(200);

    assert!(owner.reads(&format!("/platforms/{id}/disable")).await.contains("Disable Globex?"));
    let page = owner.follows(&format!("/platforms/{id}/disable"), &[]).await;
    assert!(page.contains("It is disabled.") && page.contains(&format!("/console/platforms/{id}/enable")), "{page}");
    app.get(GRID).auth(&root).send().await.refused(401, "UNAUTHORIZED");
    assert!(owner.follows(&format!("/platforms/{id}/enable"), &[]).await.contains("It is enabled."));
    app.get(GRID).auth(&root).send().await.expect(200);
    let wrong = text(&owner.makes("/platforms", &[("name", "  ")]).await.expect(400));
    assert!(wrong.contains("Name must not be empty."), "{wrong}");
    owner.get("/platforms/019542f5-b3e7-7d02-8000-000000000001/disable").send_admin().await.expect(404);
}

#[tokio::test]
async fn operators_are_invited_changed_and_reset() {
    let app = TestApp::new().await;
    let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
    let (_, signed_in) = Person::invited(&app, "bob", Role::Viewer, None).await;
    let bob = Browser::of(&app, &signed_in);
    owner.makes("/operators", &[("name", "bob"), ("role", "viewer"), ("platform", "")]).await.expect(409);
    let platform = app.platform.id.to_string();
    let wrong = text(&owner.makes("/operators", &[("name", "eve"), ("role", "owner"), ("platform", &platform)]).await.expect(400));
    assert!(wrong.contains("role=\"alert\"") && wrong.contains("value=\"eve\""), "{wrong}");
    owner.makes("/operators", &[("name", "eve"), ("role", "viewer"), ("platform", &platform)]).await.expect(201);
    let list = owner.reads("/operators").await;
    assert!(list.contains("Invited, ends") && list.contains(">Acme<"), "{list}");

    bob.get("/tokens/new").send_admin().await.expect(403);
    let page = owner.follows("/operators/bob", &[("do", "role"), ("role", "manager")]).await;
    assert!(page.contains("It is changed, everywhere.") && page.contains("<dd>manager</dd>"), "{page}");
    bob.reads("/tokens/new").await;
    assert!(owner.follows("/operators/bob", &[("do", "disable")]).await.contains(">Disabled<"));
    bob.get("/tokens").send_admin().await.expect(303);
    assert!(owner.follows("/operators/bob", &[("do", "enable")]).await.contains(">Active<"));
    let reset = owner.sends("/operators/bob", &[("do", "reset")]).await.expect(200);
    assert!(Person::accepts(&app, "bob", &shown(&reset, "Invitation").unwrap()).await.is_ok());
    // The last owner stays one, and is told why.
    let last = text(&owner.sends("/operators/owner", &[("do", "role"), ("role", "viewer")]).await.expect(409));
    assert!(last.contains("no owner left"), "{last}");
    owner.sends("/operators/nobody", &[("do", "disable")]).await.expect(404);
}

#[tokio::test]
async fn ones_own_password_is_changed() {
    let app = TestApp::new().await;
    let (person, signed_in) = Person::invited(&app, "alice", Role::Viewer, None).await;
    let alice = Browser::of(&app, &signed_in);
    let page = alice.reads("/account").await;
    assert!(page.contains("href=\"/console/account/password\"") && !page.contains("ask an owner"), "{page}");
    let page = alice.reads("/account/password").await;
    for autocomplete in ["username", "current-password", "one-time-code", "new-password"] {
        assert!(page.contains(&format!("autocomplete=\"{autocomplete}\"")), "{page}");
    }
    let right = person.types(PASSWORD, &app).code.clone();
    let change = async |old: &str, code: &str, password: &str, again: &str| {
        alice.sends("/account/password", &[("old", old), ("code", code), ("password", password), ("again", again)]).await
    };
    for (answer, status, said) in [
        (change("another password", &right, CHOSEN, CHOSEN).await, 403, "Nothing was changed."),
        (change(PASSWORD, "000000", CHOSEN, CHOSEN).await, 403, "Nothing was changed."),
        (change(PASSWORD, &right, CHOSEN, "another one than that").await, 400, "not the same"),
        (change(PASSWORD, &right, "short", "short").await, 400, "12 to 128 characters"),
    ] {
        // On the same page, without what they typed; and nobody is signed out by it.
        assert_eq!(answer.header("set-cookie"), None);
        let page = text(&answer.expect(status));
        assert!(page.contains(said) && page.contains("role=\"alert\"") && page.contains("name=\"again\""), "{page}");
        assert!(!page.contains(CHOSEN) && !page.contains(PASSWORD), "{page}");
        alice.reads("/account").await;
    }
    let changed = change(PASSWORD, &right, CHOSEN, CHOSEN).await.expect(303);
    assert_eq!(changed.header("location"), Some("/console/account?done=password"));
    alice.get("/account").send_admin().await.expect(303);
    // The forms of before are nobody's, whoever brings the new cookie.
    let key = alice.key.clone();
    let mut alice = in_with(&app, &changed);
    alice.key = key;
    alice.makes("/account", &[("name", "x"), ("lasts", "30")]).await.expect(403);
    let alice = alice.looks_around().await;
    assert!(alice.reads("/account?done=password").await.contains("Every other browser of yours is signed out."));
    alice.makes("/account", &[("name", "x"), ("lasts", "30")]).await.expect(201);
}

#[tokio::test]
async fn ones_own_second_factor_is_replaced() {
    let app = TestApp::new().await;
    let (person, signed_in) = Person::invited(&app, "alice", Role::Viewer, None).await;
    let alice = Browser::of(&app, &signed_in);
    let page = alice.reads("/account/second-factor").await;
    assert!(page.contains("autocomplete=\"current-password\"") && !page.contains("<svg"), "{page}");
    let given = person.types(PASSWORD, &app);
    let (path, confirm) = ("/account/second-factor", "/account/second-factor/confirm");
    let wrong = alice.sends(path, &[("password", "another password"), ("code", &given.code)]).await.expect(403);
    assert!(text(&wrong).contains("Nothing was changed.") && !text(&wrong).contains("<svg"), "{wrong:?}");
    let shown = text(&alice.sends(path, &[("password", PASSWORD), ("code", &given.code)]).await.expect(200));
    let totp = shown.split("data-copy=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let sealed = hidden(&shown, "enrolment");
    assert!(shown.contains("<svg") && totp != person.totp, "{shown}");
    // The same code shows no other one.
    alice.sends(path, &[("password", PASSWORD), ("code", &given.code)]).await.expect(403);
    let right = code(&totp, START + 30_000);
    let again = text(&alice.sends(confirm, &[("enrolment", &sealed), ("code", "000000")]).await.expect(400));
    assert!(again.contains(&totp) && hidden(&again, "enrolment") == sealed && again.contains("role=\"alert\""), "{again}");
    // What the page of an invitation shows to everybody is no way around it.
    let strange = hidden(&Browser::new(&app).reads("/invitation").await, "enrolment");
    let refused = text(&alice.sends(confirm, &[("enrolment", &strange), ("code", &right)]).await.expect(400));
    assert!(refused.contains("Begin again.") && !refused.contains("<svg"), "{refused}");
    let replaced = alice.sends(confirm, &[("enrolment", &sealed), ("code", &right)]).await.expect(303);
    assert_eq!(replaced.header("location"), Some("/console/account?done=second-factor"));
    alice.sends(confirm, &[("enrolment", &sealed), ("code", &right)]).await.expect(303);
    alice.get("/account").send_admin().await.expect(303);
    let alice = in_with(&app, &replaced).looks_around().await;
    assert!(alice.reads("/account?done=second-factor").await.contains("Your second factor is replaced."));
    alice.sends(confirm, &[("enrolment", &sealed), ("code", &right)]).await.expect(400);
}

#[tokio::test]
async fn ones_own_programs_have_tokens() {
    let app = TestApp::new().await;
    let alice = Browser::invited(&app, "alice", Role::Viewer, None).await;
    let made = alice.makes("/account", &[("name", "exporter"), ("lasts", "30")]).await.expect(201);
    let bearer = format!("Bearer {}", shown(&made, "Token").unwrap());
    app.v1_get("/platforms", &bearer).await.expect(200);
    let page = alice.reads("/account").await;
    assert!(page.contains("exporter") && page.contains("in 30 days"), "{page}");
    let revoke = page.split("action=\"/console").find(|part| part.starts_with("/account/tokens/")).unwrap().split('"').next().unwrap();
    assert!(alice.follows(revoke, &[]).await.contains("ended "));
    app.v1_get("/platforms", &bearer).await.refused(401, "UNAUTHORIZED");
    for lasts in ["31", "", "-1", "for good"] {
        alice.makes("/account", &[("name", "x"), ("lasts", lasts)]).await.expect(400);
    }
    // A cookie is nobody at the operator API, and a program's token nobody here.
    let cookie = format!("__Host-countersign={}", alice.cookie.clone().unwrap());
    app.get("/v1/platforms").anonymous().header("cookie", &cookie).send_admin().await.refused(401, "UNAUTHORIZED");
    let (_, bearer) = app.operator_token("alice", None).await;
    Browser::new(&app).get("/tokens").header(AUTHORIZATION.as_str(), &bearer).send_admin().await.expect(303);
}

#[tokio::test]
async fn the_log_is_searched_and_paged() {
    let app = TestApp::new().await;
    let viewer = Browser::invited(&app, "viewer", Role::Viewer, None).await;
    let token = app.token("a", &["VIEW"]).await;
    for n in 0..60 {
        app.token(&format!("n{n}"), &["VIEW"]).await;
    }
    let rows = |html: &str| html.matches("<td class=\"number\">").count();
    let all = viewer.reads("/audit").await;
    assert_eq!(rows(&all), 50);
    let before = hidden(&all, "beforeSeq");
    assert!(rows(&viewer.reads(&format!("/audit?beforeSeq={before}")).await) > 10);
    assert_eq!(rows(&viewer.reads("/audit?action=operator.create").await), 1);
    assert_eq!(rows(&viewer.reads(&format!("/audit?token={}", token.id)).await), 1);
    assert_eq!(rows(&viewer.reads("/audit?actor=operator:viewer").await), 1, "their signing in");
    assert_eq!(rows(&viewer.reads("/audit?actor=operator:nobody&action=&token=").await), 0);
    let older = viewer.reads("/audit?action=token.create&beforeSeq=1000").await;
    assert_eq!((hidden(&older, "action"), rows(&older)), ("token.create".to_owned(), 50));
}

#[tokio::test]
async fn operations_are_shown_and_explained() {
    let app = TestApp::new().await;
    let viewer = Browser::invited(&app, "viewer", Role::Viewer, None).await;
    assert!(viewer.reads("/operations").await.contains("None are loaded"));
    let bearer = app.program("loader", Role::Owner, None).await;
    let loaded = good_body("loadOperations", app.platform.id, 0).unwrap();
    app.v1("PUT", "/operations", &bearer).json(&loaded).send_admin().await.expect(200);
    assert!(viewer.reads("/operations").await.contains("/a/{b}"));
    let told = viewer.reads("/operations?method=GET&path=/a/1").await;
    assert!(told.contains("<strong>VIEW</strong>"), "{told}");
    assert!(viewer.reads("/operations?method=DELETE&path=/a/1").await.contains("<strong>nobody</strong>"));
    assert!(viewer.reads("/keys").await.contains("active"));
}

/// Somebody who is disabled while they look at a page is out with the next request; and who changes themselves too.
#[tokio::test]
async fn who_is_disabled_is_out_at_once() {
    let app = TestApp::new().await;
    let alice = Browser::invited(&app, "alice", Role::Owner, None).await;
    let bob = Browser::invited(&app, "bob", Role::Owner, None).await;
    app.authority.set_account_disabled(&operator(), name("alice"), true).await.unwrap();
    let before = app.place().await;
    alice.makes("/platforms", &[("name", "Late")]).await.expect(303);
    assert_eq!(app.place().await, before);
    app.authority.set_account_disabled(&operator(), name("alice"), false).await.unwrap();
    bob.sends("/operators/bob", &[("do", "disable")]).await.expect(303);
    bob.get("/tokens").send_admin().await.expect(303);
}

#[tokio::test]
async fn many_end_together_when_somebody_has_typed_how_many() {
    let app = TestApp::new().await;
    let manager = Browser::invited(&app, "manager", Role::Manager, None).await;
    let (doomed, kept) =
        ([app.token("old one", &["VIEW"]).await, app.token("old two", &["VIEW"]).await], app.token("new", &["VIEW"]).await);
    app.clock.advance(std::time::Duration::from_millis(1));
    assert!(manager.reads("/bulk-revokes").await.contains("Nobody has done that yet"));
    let found = manager.reads("/tokens?q=old").await;
    let plan = found.split("href=\"/console").find(|rest| rest.starts_with("/bulk-revokes/new?")).unwrap().split('"').next().unwrap();
    let plan = plan.replace("&amp;", "&");
    let page = manager.reads(&plan).await;
    assert!(
        page.contains("End these 2 tokens?") && page.contains("called …old…") && page.contains("old one") && !page.contains(">Root token<")
    );
    let (search, once) = (hidden(&page, "search"), hidden(&page, "once"));
    let send = async |count: &str| manager.sends("/bulk-revokes", &[("search", &search), ("count", count), ("once", &once)]).await;
    assert!(text(&send("").await.expect(400)).contains("Type how many they are"));
    let wrong = text(&send("3").await.expect(409));
    assert!(wrong.contains("They are 2, and you typed 3.") && hidden(&wrong, "search") == search, "{wrong}");
    app.get("/verify").auth(&doomed[0]).send().await.expect(200);

    // As browsers send the lines of a field.
    let lines = search.replace('\n', "\r\n");
    let again = [("search", lines.as_str()), ("count", " 2 "), ("once", &once)];
    let begun = manager.sends("/bulk-revokes", &again).await.expect(303);
    let path = begun.header("location").unwrap().strip_prefix("/console").unwrap().to_owned();
    let mut page = manager.reads(&path).await;
    assert!(page.contains("2 tokens ended together"));
    while page.contains("data-renew") {
        tokio::task::yield_now().await;
        page = manager.reads(&path).await;
    }
    assert!(page.contains("<strong>2 of 2</strong> have ended.") && page.contains("no server accepts any of them"), "{page}");
    for token in &doomed {
        app.get(GRID).auth(token).send().await.refused(401, "UNAUTHORIZED");
    }
    app.get(GRID).auth(&kept).send().await.expect(200);
    // Sent again it begins nothing, and leads to what it began.
    let place = app.place().await;
    assert_eq!(manager.sends("/bulk-revokes", &again).await.expect(303).header("location"), begun.header("location"));
    assert_eq!(app.place().await, place);
    assert!(manager.reads("/bulk-revokes").await.contains(&format!("href=\"/console{path}\"")));
    assert!(manager.reads(&plan).await.contains("There is none"));
    assert!(manager.follows(&format!("{path}/stop"), &[]).await.contains("no server accepts any of them"));

    // Whoever only looks is offered none of it.
    let viewer = Browser::invited(&app, "viewer", Role::Viewer, None).await;
    assert!(!viewer.reads("/tokens").await.contains("End all"));
    assert!(viewer.reads(&path).await.contains("2 of 2"));
}
