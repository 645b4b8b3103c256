//! Secrets are where they are made and nowhere else; who guesses them waits.

use std::time::Duration;

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::{authority::AttemptLimits, domain::Role};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use serde_json::{Value, json};

use super::good_body;
use crate::support::{GRID, TestApp, logged};

/// What every answer is checked for, and the log at the end of each test, from the first answer that has a secret on.
#[tokio::test]
async fn s_05_secrets_are_in_the_answer_that_made_them_alone() {
    let app = TestApp::new().await;
    let owner = app.program("alice", Role::Owner, None).await;
    let mut secrets = Vec::new();
    let text = |made: &Value, pointer: &str| made.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let made = app.v1_post("/platforms", &owner, &json!({ "name": "Other" })).await.expect(201).json();
    secrets.extend([text(&made, "/tokens/0/clientSecret"), text(&made, "/tokens/1/clientSecret")]);
    let token = app.v1_post("/tokens", &owner, &good_body("createToken", app.platform.id, 0).unwrap()).await.expect(201).json();
    secrets.push(text(&token, "/clientSecret"));
    let bob = app.v1_post("/operators", &owner, &json!({ "name": "bob", "role": "viewer", "platform": null })).await.expect(201).json();
    secrets.push(text(&bob, "/invitation"));
    let reset = app.v1("POST", "/operators/bob/reset", &owner).send_admin().await.expect(200).json();
    secrets.push(text(&reset, "/invitation"));
    let program = app.v1_post("/operators/bob/tokens", &owner, &json!({ "name": "n" })).await.expect(201).json();
    secrets.push(text(&program, "/token"));
    secrets.push(owner.replace("Bearer ", ""));

    let path = format!("/tokens/{}", token["id"].as_str().unwrap());
    let tokens = format!("/tokens?environment=sandbox&platform={}", app.platform.id);
    let mut answers = Vec::new();
    for get in ["/platforms", &path, &tokens, "/audit?limit=100", "/operators", "/operators/bob", "/operators/bob/tokens", "/operator"] {
        answers.push(app.v1_get(get, &owner).await.expect(200));
    }
    let end = format!("/operator-tokens/{}/revoke", program["id"].as_str().unwrap());
    for post in [format!("{path}/revoke"), "/operators/bob/disable".to_owned(), "/operators/bob/enable".to_owned(), end] {
        answers.push(app.v1("POST", &post, &owner).send_admin().await.expect(200));
    }
    // Sent where they do not belong.
    let secret = secrets.last().unwrap().clone();
    let misplaced = app.v1("GET", "/operator", &owner).header("x-request-id", &secret).send_admin().await.expect(200);
    assert_ne!(misplaced.header("x-request-id"), Some(&*secret));
    answers.push(misplaced);
    answers.push(app.v1_get(&format!("/operator?{secret}=1"), &owner).await.expect(400));
    answers.push(app.v1_get(&format!("/operators/{secret}"), &owner).await.expect(404));
    answers.push(
        app.v1("POST", "/platforms", &owner)
            .header("content-type", "application/json")
            .body(format!("{{\"{secret}\":1}}"))
            .send_admin()
            .await,
    );
    answers.push(app.v1_get("/operator", &format!("Bearer {secret}x")).await.expect(401));
    let log = logged();
    for secret in &secrets {
        assert!(!log.contains(&secret[6..]), "in the log");
        for answer in &answers {
            assert!(!String::from_utf8_lossy(&answer.body).contains(&secret[6..]), "{answer:?}");
        }
    }
    assert!(log.contains("/v1/operators/{name}/tokens") && !log.contains("csop_"));
}

/// As for the tokens of customers, apart from those: whoever guesses at one keeps nobody out at the other.
#[tokio::test]
async fn who_fails_too_often_waits() {
    let mut app = TestApp::new().await;
    app.try_replace(|options| options.attempts = AttemptLimits { per_source: 3, per_client: 300 }).await.unwrap();
    let owner = app.program("alice", Role::Owner, None).await;
    let forged = forged(&owner);
    let ask = async |from: &str, bearer: &str| app.v1("GET", "/operator", bearer).from(from).send_admin().await;
    for bearer in [&forged, "Bearer x", &forged] {
        ask("192.0.2.1", bearer).await.refused(401, "UNAUTHORIZED");
    }
    for bearer in [&forged, &owner] {
        let limited = ask("192.0.2.1", bearer).await.refused(429, "RATE_LIMITED");
        assert!(limited.header("retry-after").is_some());
    }
    ask("192.0.2.2", &owner).await.expect(200);
    app.get(GRID).from("192.0.2.1").send().await.expect(200);
    app.clock.advance(Duration::from_secs(60));
    ask("192.0.2.1", &owner).await.expect(200);
    // Strangers at the API.
    for _ in 0..5 {
        app.get(GRID).anonymous().from("192.0.2.1").send().await;
    }
    app.get(GRID).anonymous().from("192.0.2.1").send().await.refused(429, "RATE_LIMITED");
    ask("192.0.2.1", &owner).await.expect(200);
    let metrics = app.metrics().await;
    assert!(metrics.contains("countersign_refusals_total{reason=\"operator_token\"} 4"), "{metrics}");
    // Whoever was let in before still is, from where others fail: they may have to revoke something.
    for _ in 0..4 {
        ask("192.0.2.1", "Bearer x").await;
    }
    for bearer in ["Bearer x", &forged] {
        ask("192.0.2.1", bearer).await.refused(429, "RATE_LIMITED");
    }
    ask("192.0.2.1", &owner).await.expect(200);
    // Nor is anybody looked up for an id, which many see.
    let metrics = app.metrics().await;
    assert!(metrics.contains("countersign_refusals_total{reason=\"operator_token\"} 8"), "{metrics}");
    // Of a token that has ended that is found out once.
    let other = app.program("other", Role::Owner, None).await;
    let tokens = app.v1_get("/operators/alice/tokens", &other).await.expect(200).json();
    let end = format!("/operator-tokens/{}/revoke", tokens["operatorTokens"][0]["id"].as_str().unwrap());
    app.v1("POST", &end, &other).send_admin().await.expect(200);
    for _ in 0..2 {
        ask("192.0.2.1", &owner).await.refused(429, "RATE_LIMITED");
    }
    let metrics = app.metrics().await;
    assert!(metrics.contains("countersign_refusals_total{reason=\"operator_token\"} 9"), "{metrics}");
}

/// A token that says that it is this one, whole but for what proves it.
fn forged(bearer: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(bearer.strip_prefix("Bearer csop_").unwrap()).unwrap();
    let end = bytes.len() - 4;
    bytes[end - 1] ^= 1;
    let sum = crc32fast::hash(&bytes[..end]).to_be_bytes();
    bytes[end..].copy_from_slice(&sum);
    format!("Bearer csop_{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Bodies that never come keep a part of the places and no more, whoever has the token.
#[tokio::test]
async fn who_has_too_much_under_way_is_told_so() {
    let app = TestApp::new().await;
    let (slow, other) = (app.program("slow", Role::Viewer, None).await, app.program("other", Role::Viewer, None).await);
    let ask = |_| {
        let never = futures_util::stream::pending::<Result<bytes::Bytes, std::convert::Infallible>>();
        let request = http::Request::post("/v1/operations/explain").header("authorization", &slow);
        let request = request.header("content-type", "application/json").body(Body::from_stream(never)).unwrap();
        app.app.answer_admin(request, ([192, 0, 2, 1], 1).into())
    };
    let mut all: FuturesUnordered<_> = (0..17).map(ask).collect();
    let told = all.next().await.unwrap();
    assert_eq!((told.status().as_u16(), told.headers()["retry-after"].to_str().unwrap()), (429, "2"));
    app.v1_get("/operator", &slow).await.refused(429, "RATE_LIMITED");
    app.v1_get("/operator", &other).await.expect(200);
    drop(all);
    app.v1_get("/operator", &slow).await.expect(200);
}

/// Operators are told why; a credential that was sent is nowhere afterwards.
#[tokio::test]
async fn a_credential_is_checked_for_an_operator() {
    let app = TestApp::new().await;
    let viewer = app.program("viewer", Role::Viewer, None).await;
    let token = app.token("t", &["VIEW", "TRANSACT"]).await;
    let check = async |client_id: &str, secret: &str| {
        app.v1_post("/tokens:check", &viewer, &json!({ "clientId": client_id, "clientSecret": secret })).await.expect(200).json()
    };
    let proven = check(&token.client_id, &token.secret).await;
    let expected = json!({
        "verified": true, "reason": null, "token": token.id, "platform": app.platform.id.to_string(), "environment": "sandbox",
        "permissions": ["VIEW", "TRANSACT"],
    });
    assert_eq!(proven, expected);
    let refused = |reason: &str| json!({ "verified": false, "reason": reason, "token": null, "platform": null, "environment": null, "permissions": null });
    assert_eq!(check(&token.client_id, &app.sandbox.secret).await, refused("wrong_secret"));
    assert_eq!(check(&token.client_id, "").await, refused("malformed"));
    app.delete(&format!("{GRID}/{}", token.id)).auth(&app.sandbox).send().await;
    assert_eq!(check(&token.client_id, &token.secret).await, refused("revoked"));
    assert!(!logged().contains(&token.secret[12..]));
    // Of one platform: they would learn of another's tokens.
    let staff = app.program("staff", Role::Manager, Some(app.platform.id)).await;
    app.v1_post("/tokens:check", &staff, &json!({ "clientId": "", "clientSecret": "" })).await.refused(403, "FORBIDDEN");
}
