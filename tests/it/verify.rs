//! `/verify`: what gateways ask, and what they are told.

use std::time::Duration;

use countersign::domain::{Need, Operation, Operations, Presented, TokenId};
use http::Method;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use crate::support::{Answer, GRID, Pair, TestApp, database, open_cold, operator};

pub(crate) const IDENTITY: [&str; 5] =
    ["x-auth-token-id", "x-auth-client-id", "x-auth-platform", "x-auth-environment", "x-auth-permissions"];

pub(crate) fn identity(answer: &Answer) -> [Option<&str>; 5] {
    IDENTITY.map(|name| answer.header(name))
}

#[tokio::test]
async fn a_30_a_live_token_is_told_with_all_that_is_known() {
    let app = TestApp::new().await;
    let token = app.token("a\u{e9} b", &["TRANSACT", "VIEW"]).await;
    let answer = app.get("/verify").auth(&token).send().await.expect(200);
    assert!(answer.body.is_empty());
    let platform = app.platform.id.to_string();
    let known = [&*token.id, &token.client_id, &platform, "sandbox", "VIEW,TRANSACT"];
    assert_eq!(identity(&answer), known.map(Some));
    // nothing that a client chose, and nothing that a header could be ended with.
    for value in identity(&answer).into_iter().flatten() {
        assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:,-".contains(&byte)), "{value}");
    }
    // nobody keeps the answer.
    assert_eq!((answer.header("cache-control"), answer.header("etag")), (Some("no-store"), None));
    let production = app.get("/verify").auth(&app.production).send().await.expect(200);
    assert_eq!(production.header("x-auth-environment"), Some("production"));
}

#[tokio::test]
async fn a_34_any_method_and_any_path_suffix() {
    let app = TestApp::new().await;
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for path in ["/verify", "/verify/", "/verify/v1/customers/7", "/verify/grid/2025-10-13/tokens", "/verify//a/../b"] {
            let answer =
                app.request(method.clone(), path).header("if-none-match", "*").header("range", "bytes=0-1").send().await.expect(200);
            assert!(answer.body.is_empty());
            app.request(method.clone(), path).anonymous().send().await.refused(401, "UNAUTHORIZED");
        }
    }
    // What is beside it is not it.
    for path in ["/verifyx", "/VERIFY", "/x/verify", "//verify"] {
        app.get(path).send().await.refused(404, "REFERENCE_NOT_FOUND");
    }
    let unread = app.post("/verify").body("ten bytes!").send().await.expect(200);
    assert_eq!(unread.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_02_whoever_is_not_proven_is_told_the_same() {
    let app = TestApp::new().await;
    let (live, revoked) = (app.token("live", &["VIEW"]).await, app.token("revoked", &["VIEW"]).await);
    app.delete(&format!("{GRID}/{}", revoked.id)).send().await.expect(204);
    let (other, [disabled, _]) = app.another_platform("Other").await;
    app.authority.set_platform_disabled(&operator(), other.id, true).await.unwrap();
    let wrong = Pair { secret: revoked.secret.clone(), ..live.clone() };
    let unknown = Pair { client_id: live.client_id[..40].to_owned() + "00000000", ..live.clone() };
    let none = app.get("/verify").anonymous().header("x-request-id", "same").send().await.expect(401);
    let attempts = [wrong, unknown, revoked, disabled].map(|pair| pair.basic());
    for value in attempts.iter().map(String::as_str).chain([
        "Basic",
        "Basic =",
        "Bearer x",
        "Digest x",
        &format!("{}, {}", live.basic(), live.basic()),
    ]) {
        let answer = app.get("/verify").authorization(value).header("x-request-id", "same").send().await.expect(401);
        assert_eq!((&answer.body, &answer.headers), (&none.body, &none.headers), "{value}");
    }
    // two of them, even if each is right.
    app.get("/verify").header("authorization", &app.sandbox.basic()).send().await.refused(401, "UNAUTHORIZED");
    app.get("/verify?require=MANAGE").anonymous().send().await.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_39_what_the_route_needs() {
    let app = TestApp::new().await;
    let (view, manage) = (app.token("v", &["VIEW"]).await, app.token("m", &["MANAGE"]).await);
    let verify = async |query: &str, by: &Pair| app.get(&format!("/verify{query}")).auth(by).send().await.status.as_u16();
    // First proven for less, then asked for more.
    assert_eq!(verify("", &view).await, 200);
    let refused = app.get("/verify?require=MANAGE").auth(&view).send().await.refused(403, "FORBIDDEN");
    assert_eq!((refused.json()["details"]["required"][0].as_str(), identity(&refused)), (Some("MANAGE"), [None; 5]));
    assert_eq!(verify("?require=TRANSACT,VIEW", &view).await, 403);
    assert_eq!(verify("?require=VIEW&env=sandbox", &view).await, 200);
    assert_eq!(verify("?env=production", &view).await, 403);
    assert_eq!(verify("?env=production&require=MANAGE", &app.production).await, 200);
    // As everywhere, MANAGE carries VIEW, and nothing else carries anything.
    assert_eq!(verify("?require=VIEW", &manage).await, 200);
    assert_eq!(verify("?require=TRANSACT", &manage).await, 403);
    // A mistake in the configuration lets nobody pass.
    for query in ["?require=", "?require=ADMIN", "?require=VIEW&require=MANAGE", "?env=live", "?requires=VIEW", "?env=sandbox&env=sandbox"]
    {
        app.get(&format!("/verify{query}")).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
        app.get(&format!("/verify{query}")).anonymous().expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    }
    // Behind a suffix it may be the client's own query, which can ask for more and never for less.
    assert_eq!(verify("/v1/x?limit=5&require=MANAGE", &view).await, 403);
    assert_eq!(verify("/v1/x?limit=5", &view).await, 200);
}

/// the decision hangs on the credential and on nothing else that comes with it.
#[tokio::test]
async fn a_32_no_other_header_decides() {
    let app = TestApp::new().await;
    let (live, mut random) = (app.token("live", &["VIEW"]).await, ChaCha8Rng::from_seed([9; 32]));
    let names = [
        "x-forwarded-for",
        "x-forwarded-uri",
        "x-forwarded-method",
        "x-forwarded-prefix",
        "x-original-uri",
        "x-original-method",
        "forwarded",
        "user-agent",
        "host",
        "x-http-method-override",
        "x-rewrite-url",
        "x-auth-token-id",
        "x-auth-permissions",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "accept",
        "if-none-match",
        "x_forwarded_uri",
        "x.auth.platform",
        "upgrade",
        "te",
        "x-envoy-original-path",
    ];
    let values =
        ["", "/", "/admin", "GET", "127.0.0.1", "MANAGE", "evil", "ELB-HealthChecker/2.0", "kube-probe/1.0", "Basic x", "*", "close"];
    for _ in 0..2500 {
        let headers: Vec<_> = (0..random.next_u32() % 6)
            .map(|_| (names[random.next_u32() as usize % names.len()], values[random.next_u32() as usize % values.len()]))
            .filter(|(name, value)| *name != "host" || !value.is_empty())
            .collect();
        let send = async |by: Option<&Pair>| {
            let request = by.map_or_else(|| app.get("/verify?require=VIEW").anonymous(), |by| app.get("/verify?require=VIEW").auth(by));
            let hosts = headers.iter().filter(|(name, _)| *name == "host").count();
            let request =
                headers.iter().fold(request, |request, (name, value)| if *name == "host" { request } else { request.header(name, value) });
            assert!(hosts <= headers.len());
            request.send().await
        };
        assert_eq!(send(Some(&live)).await.status, 200, "{headers:?}");
        assert_eq!(send(None).await.status, 401, "{headers:?}");
    }
}

/// where it can't be known, nobody passes.
#[tokio::test]
async fn a_31_what_cannot_be_known_is_503() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    app.get("/verify").auth(&token).send().await.expect(200);
    // The lease is over, and the database is gone.
    app.clock.advance(Duration::from_secs(2));
    app.get("/verify").auth(&token).send().await.expect(200);
    database::edit(app.directory.path(), "ALTER TABLE token RENAME TO hidden");
    let answer = app.get("/verify").auth(&token).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    assert_eq!(identity(&answer), [None; 5]);
    // Who would be refused in any case is.
    app.get("/verify").anonymous().send().await.refused(401, "UNAUTHORIZED");
    database::edit(app.directory.path(), "ALTER TABLE hidden RENAME TO token");
    app.get("/verify").auth(&token).send().await.expect(200);
    // A defect is no pass.
    let fresh = app.token("fresh", &["VIEW"]).await;
    app.authority.follow().await.unwrap();
    app.clock.panics.store(true, std::sync::atomic::Ordering::SeqCst);
    app.get("/verify").auth(&fresh).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    app.get("/verify").auth(&fresh).send().await.expect(200);
}

#[tokio::test]
async fn r_01_a_revoke_is_true_when_it_returns() {
    let app = TestApp::new().await;
    for _ in 0..50 {
        let token = app.token("a", &["VIEW"]).await;
        app.get("/verify").auth(&token).send().await.expect(200);
        app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
        app.get("/verify").auth(&token).send().await.refused(401, "UNAUTHORIZED");
    }
}

fn operations(list: &[(&str, &str, &str)]) -> Operations {
    let operation = |(method, path, need): &(&str, &str, &str)| Operation {
        method: (*method).to_owned(),
        path: (*path).to_owned(),
        id: String::new(),
        need: Need::parse(need).unwrap(),
        because: "x-required-permissions".to_owned(),
    };
    Operations::new(list.iter().map(operation).collect()).unwrap()
}

pub(crate) fn payments() -> Operations {
    operations(&[
        ("GET", "/v1/customers", "VIEW"),
        ("POST", "/v1/customers", "MANAGE"),
        ("GET", "/v1/customers/{id}", "VIEW"),
        ("GET", "/v1/customers/export", "MANAGE"),
        ("POST", "/v1/quotes/{id}/execute", "TRANSACT"),
        ("POST", "/v1/batches/{id}/approve", "TRANSACT,MANAGE"),
        ("GET", "/v1/me", "any"),
        ("GET", "/v1/reports", "nobody"),
    ])
}

#[tokio::test]
async fn a_gateway_asks_by_operation() {
    let app = TestApp::new().await;
    let view = app.token("v", &["VIEW"]).await;
    let ask = async |method: &str, uri: &str, by: &Pair| {
        let nginx = app
            .get("/verify/nginx")
            .auth(by)
            .header("x-original-method", method)
            .header("x-original-uri", uri)
            .expecting_5xx()
            .send()
            .await;
        let caddy = app
            .get("/verify/caddy")
            .auth(by)
            .header("x-forwarded-method", method)
            .header("x-forwarded-uri", uri)
            .expecting_5xx()
            .send()
            .await;
        assert_eq!((nginx.status, &nginx.body), (caddy.status, &caddy.body));
        if uri.starts_with('/') && uri.is_ascii() && !uri.contains([' ', '#', '\\']) {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let envoy = app.request(method, &format!("/verify/envoy{uri}")).auth(by).expecting_5xx().send().await;
            assert_eq!(nginx.status, envoy.status, "{uri}");
        }
        nginx.status.as_u16()
    };
    // Nothing loaded, nothing known.
    assert_eq!(ask("GET", "/v1/customers", &app.sandbox).await, 503);
    app.authority.load_operations(&operator(), &payments()).await.unwrap();
    for (method, uri, of_view, of_root) in [
        ("GET", "/v1/customers?limit=5", 200, 200),
        ("HEAD", "/v1/customers", 200, 200),
        ("POST", "/v1/customers", 403, 200),
        ("GET", "/v1/customers/42", 200, 200),
        ("GET", "/v1/customers/42?require=BOGUS&env=production", 200, 200),
        ("GET", "/v1/customers/export", 403, 200),
        ("GET", "/v1/customers/%65xport", 403, 403),
        ("GET", "/v1/customers/../customers", 403, 403),
        ("GET", "/v1/customers/x%2f..%2fexport", 403, 403),
        ("GET", "//v1/customers", 403, 403),
        ("GET", "/v1/customers/", 403, 403),
        ("GET", "/v1/customers;x", 403, 403),
        ("OPTIONS", "/v1/customers", 403, 403),
        ("DELETE", "/v1/customers/42", 403, 403),
        ("get", "/v1/customers", 403, 403),
        ("POST", "/v1/quotes/q/execute", 403, 200),
        ("POST", "/v1/batches/b/approve", 403, 200),
        ("GET", "/v1/me", 200, 200),
        ("GET", "/v1/reports", 403, 403),
        ("GET", "/v2/customers", 403, 403),
        ("GET", "http://host/v1/customers", 403, 403),
        ("GET", "v1/customers", 403, 403),
        ("GET", "?a", 403, 403),
        ("GET", "", 403, 403),
        ("", "/v1/customers", 403, 403),
    ] {
        if !method.is_empty() {
            assert_eq!((ask(method, uri, &view).await, ask(method, uri, &app.sandbox).await), (of_view, of_root), "{method} {uri}");
        }
    }
    // Missing, doubled, or the headers of another gateway: nobody.
    for headers in [
        vec![],
        vec![("x-original-method", "GET")],
        vec![("x-original-uri", "/v1/me")],
        vec![("x-original-method", "GET"), ("x-original-uri", "/v1/me"), ("x-original-uri", "/v1/me")],
        vec![("x-original-method", "GET"), ("x-original-method", "GET"), ("x-original-uri", "/v1/me")],
        vec![("x-forwarded-method", "GET"), ("x-forwarded-uri", "/v1/me")],
        vec![("x_original_method", "GET"), ("x_original_uri", "/v1/me")],
    ] {
        let request = headers.iter().fold(app.get("/verify/nginx"), |request, (name, value)| request.header(name, value));
        request.send().await.refused(403, "FORBIDDEN");
    }
    // With a requirement of the route's own besides.
    let both = app.get("/verify/nginx?env=production").header("x-original-method", "GET").header("x-original-uri", "/v1/me");
    both.send().await.refused(403, "FORBIDDEN");
    // What a gateway says that was asked does not matter to one that is asked otherwise.
    app.get("/verify").header("x-original-uri", "/v1/reports").send().await.expect(200);
}

/// A gateway that appends what the client sent appends also what begins with no slash (`OPTIONS *`).
#[tokio::test]
async fn a_39_a_target_without_a_slash_is_no_way_around_operations() {
    let app = TestApp::new().await;
    app.authority.load_operations(&operator(), &payments()).await.unwrap();
    app.get("/verify/envoy/v1/me").send().await.expect(200);
    for appended in ["*", "v1/me", "-"] {
        app.request(http::Method::OPTIONS, &format!("/verify/envoy{appended}")).send().await.refused(403, "FORBIDDEN");
    }
}

#[tokio::test]
async fn operations_are_replaced_whole_and_survive_a_restart() {
    let app = TestApp::new().await;
    let ask = async |app: &TestApp, uri: &str| app.get(&format!("/verify/envoy{uri}")).expecting_5xx().send().await.status.as_u16();
    let (difference, _) = app.authority.load_operations(&operator(), &payments()).await.unwrap();
    assert_eq!((difference.added.len(), difference.removed.len(), difference.changed.len()), (8, 0, 0));
    assert_eq!(ask(&app, "/v1/reports").await, 403);
    let next = operations(&[("GET", "/v1/reports", "VIEW"), ("GET", "/v1/me", "any"), ("GET", "/v1/new", "VIEW")]);
    let planned = app.authority.diff_operations(&operator(), &next).await.unwrap();
    assert_eq!(ask(&app, "/v1/reports").await, 403, "looking changes nothing");
    let (difference, _) = app.authority.load_operations(&operator(), &next).await.unwrap();
    assert_eq!(planned, difference);
    assert_eq!((difference.added.len(), difference.removed.len(), difference.changed.len()), (1, 6, 1));
    assert_eq!((ask(&app, "/v1/reports").await, ask(&app, "/v1/customers").await), (200, 403));
    let app = app.restart().await;
    assert_eq!((ask(&app, "/v1/reports").await, ask(&app, "/v1/customers").await), (200, 403));
    // An index that may not be believed any more says nothing of operations either.
    app.clock.advance(Duration::from_secs(5));
    assert_eq!(ask(&app, "/v1/reports").await, 503);
    app.authority.follow().await.unwrap();
    assert_eq!(ask(&app, "/v1/reports").await, 200);
}

#[tokio::test]
async fn z_11_edited_operations_let_nobody_pass() {
    let app = TestApp::new().await;
    app.authority.load_operations(&operator(), &payments()).await.unwrap();
    database::edit(app.directory.path(), "UPDATE operations SET document = replace(document, 'nobody', 'any')");
    let app = app.restart().await;
    app.get("/verify/envoy/v1/reports").expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    assert_eq!(app.authority.figures().tampered, 1);
    app.get("/verify").send().await.expect(200);
    // Loaded again, all is well.
    app.authority.load_operations(&operator(), &payments()).await.unwrap();
    app.get("/verify/envoy/v1/me").send().await.expect(200);
}

/// A server that just began answers rightly, reading what it lacks; and what ended meanwhile stays ended, however late its
/// row is read.
#[tokio::test]
async fn answers_are_right_before_all_tokens_are_in_memory() {
    let app = TestApp::new().await;
    let (live, ended) = (app.token("live", &["VIEW"]).await, app.token("ended", &["VIEW"]).await);
    let cold = open_cold(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    assert_eq!(cold.figures().live_tokens, 0);
    let proves = async |pair: &Pair| cold.prove(Presented::parse_basic(pair.basic().as_bytes()).as_ref(), None).await.is_ok();
    assert!(proves(&live).await && cold.figures().live_tokens == 1);
    let id = TokenId::parse(&ended.id).unwrap();
    let by = cold.locate_token(&operator(), id).await.unwrap().may_manage().unwrap();
    cold.revoke_token(&by, id).await.unwrap();
    cold.load_tokens().await.unwrap();
    assert!(proves(&live).await && !proves(&ended).await && proves(&app.sandbox).await);
    // The two roots and the one that lives.
    assert_eq!(cold.figures().live_tokens, 3);
}
