//! What forms and addresses should not have: a page says so, and nothing is done.

use countersign::domain::Role;
use http::Method;

use super::{Browser, fields, good_form, routes, target, text};
use crate::support::TestApp;

const ODD: [&str; 14] = [
    "",
    " ",
    "0",
    "-1",
    "99999999999999999999",
    "x",
    "\0",
    "a\r\nb",
    "ä",
    "😀",
    "../..",
    "019542f5-b3e7-7d02-8000-000000000001",
    "019542f5-b3e7-7d02-8000-000000000001.sandbox",
    "'; DROP TABLE token; --",
];

#[tokio::test]
async fn every_form_with_what_it_should_not_have() {
    let app = TestApp::new().await;
    let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
    let posts: Vec<_> =
        routes().into_iter().filter(|(path, method)| method == "POST" && path != "/sign-out").map(|(path, _)| path).collect();
    let mut n = 0;
    let long = "x".repeat(5000);
    for route in posts.iter().map(String::as_str).chain(["/sign-out"]) {
        let path = target(&app, route, "owner", true, n).await;
        let for_nobody = matches!(route, "/sign-in" | "/invitation");
        let mut send = async |form: &[(&str, &str)]| {
            n += 1;
            let form = if for_nobody { form.to_vec() } else { [form, &[("form_key", owner.key.as_str())]].concat() };
            let request = owner.foreign_form(&path, &form).header("sec-fetch-site", "same-origin");
            request.from(&format!("198.51.{}.{}", n / 250, n % 250)).send_admin().await
        };
        let names: &[&str] = match route {
            "/sign-in" => &["name", "password", "code", "to"],
            "/invitation" => &["name", "invitation", "password", "again", "enrolment", "code"],
            _ => &[],
        };
        let good = match names {
            [] => good_form(&app, route, 900_000),
            names => names.iter().map(|name| (Box::leak((*name).to_owned().into_boxed_str()) as &'static str, String::new())).collect(),
        };
        let good = fields(&good);
        let before = app.place().await;
        // Not a field of it; one of it twice.
        let unknown = send(&[&good[..], &[("x", "1")]].concat()).await.expect(400);
        assert!(text(&unknown).contains("X is not a parameter here"), "{unknown:?}");
        for field in &good {
            send(&[&good[..], &[*field]].concat()).await.expect(400);
        }
        assert_eq!(app.place().await, before, "{route}");
        for at in 0..good.len() {
            for odd in ODD.iter().copied().chain([long.as_str()]) {
                let mut form = good.clone();
                form[at].1 = odd;
                // What is optional may be odd, and a name may be many things; none of it is a defect, as is checked with every answer.
                send(&form).await;
            }
            let mut form = good.clone();
            form.remove(at);
            send(&form).await;
        }
        // What is no form.
        let here = |body: &'static str| owner.request(Method::POST, &path).header("sec-fetch-site", "same-origin").body(body);
        let before = app.place().await;
        let form = "application/x-www-form-urlencoded";
        for media_type in
            ["application/json", "multipart/form-data; boundary=x", "text/plain", "", "application/x-www-form-urlencoded, a/b"]
        {
            here("name=x").header("content-type", media_type).send_admin().await.expect(415);
        }
        here("name=x").send_admin().await.expect(415);
        here("name=x").header("content-type", form).header("content-type", form).send_admin().await.expect(415);
        let most = if route.starts_with("/operations") { 8 << 20 } else { 64 * 1024 };
        here("").header("content-type", form).body("x".repeat(most + 1)).send_admin().await.expect(413);
        for body in ["name=%FF", "%", "name=%u0041", "&&&===", "\0"] {
            let status = here(body).header("content-type", form).send_admin().await.status.as_u16();
            assert!([400, 403].contains(&status), "{route} {body}: {status}");
        }
        let invalid = owner.request(Method::POST, &path).header("sec-fetch-site", "same-origin").header("content-type", form);
        invalid.body(&b"name=\xFF"[..]).send_admin().await.expect(400);
        assert_eq!(app.place().await, before, "{route}");
    }
    assert!(n > 300);
}

#[tokio::test]
async fn every_address_with_what_it_should_not_have() {
    let app = TestApp::new().await;
    let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
    let known: [(&str, &[&str]); 12] = [
        ("/tokens", &["scope", "q", "permission", "status", "used", "order", "after"]),
        ("/bulk-revokes/new", &["scope", "q", "permission", "status", "used", "order", "after"]),
        ("/tokens/new", &["scope"]),
        ("/tokens/{token}", &["done", "until"]),
        ("/platforms", &["done"]),
        ("/operations", &["method", "path", "done", "until"]),
        ("/audit", &["action", "actor", "token", "platform", "beforeSeq"]),
        ("/audit/verify", &["after", "limit"]),
        ("/audit/export", &["platform", "afterSeq", "after", "before"]),
        ("/operators/{name}", &["done"]),
        ("/account", &["done"]),
        ("/sign-in", &["to"]),
    ];
    let before = app.place().await;
    for (path, parameters) in known {
        let path = path.replace("{token}", &app.sandbox.id).replace("{name}", "owner");
        let refuse = async |query: &str| {
            let refused = owner.get(&format!("{path}?{query}")).send_admin().await.expect(400);
            assert!(text(&refused).contains("<h1>That is not valid</h1>"), "{refused:?}");
        };
        refuse("x=1").await;
        refuse("%FF=1").await;
        for parameter in parameters {
            refuse(&format!("{parameter}=%FF")).await;
            refuse(&format!("{parameter}=&{parameter}=")).await;
            for odd in ODD {
                let answer = owner.get(&format!("{path}?{}", super::encoded(&[(parameter, odd)]))).send_admin().await;
                assert!(matches!(answer.status.as_u16(), 200 | 400 | 404), "{answer:?}");
            }
            owner.get(&format!("{path}?{parameter}={}", "x".repeat(5000))).send_admin().await;
        }
    }
    for choice in ["permission=view", "status=dead", "used=often", "order=name", "scope=x", "after=x"] {
        owner.get(&format!("/tokens?{choice}")).send_admin().await.expect(400);
    }
    for choice in ["action=x", "actor=x", "token=x", "platform=x", "beforeSeq=x"] {
        owner.get(&format!("/audit?{choice}")).send_admin().await.expect(400);
    }
    assert_eq!(app.place().await, before);
}
