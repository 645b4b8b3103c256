use serde_json::json;

use crate::support::{BLIPS, GRID, TestApp, operator};

#[tokio::test]
async fn the_whole_answer() {
    let app = TestApp::new().await;
    let answer = app.post(GRID).json(&json!({ "name": "Sandbox read-only token", "permissions": ["VIEW"] })).send().await.expect(201);
    insta::assert_snapshot!(String::from_utf8_lossy(&answer.body), @r#"{"id":"Token:01982e0b-47e0-7f9d-a783-738930091c1c","name":"Sandbox read-only token","permissions":["VIEW"],"clientId":"ik_test_01982e0b47e07f9da783738930091c1c3dafb219","createdAt":"2025-07-21T17:32:28.000Z","updatedAt":"2025-07-21T17:32:28.000Z","clientSecret":"iksec_test_EngEH3Ot85h3AbeBbw5hPOle0L8Tbnu4hdXgoMFdOM22GEPiE"}"#);
    insta::assert_debug_snapshot!(answer.headers, @r#"
    {
        "content-type": "application/json",
        "content-length": "325",
        "cache-control": "no-store",
        "date": "Mon, 21 Jul 2025 17:32:28 GMT",
        "x-request-id": "00000000-00000001",
    }
    "#);
}

#[tokio::test]
async fn permissions_fold_and_come_in_one_order_and_names_are_trimmed() {
    let app = TestApp::new().await;
    let body = json!({ "name": "  a\u{301} 👨‍👩‍👧‍👦 ", "permissions": ["MANAGE", "VIEW", "MANAGE", "TRANSACT"], "unknown": { "member": 1 } });
    let token = app.post(GRID).json(&body).send().await.expect(201).json();
    assert_eq!((&token["name"], &token["permissions"]), (&json!("a\u{301} 👨‍👩‍👧‍👦"), &json!(["VIEW", "TRANSACT", "MANAGE"])));
    assert_eq!(token["createdAt"], token["updatedAt"]);
}

#[tokio::test]
async fn every_broken_field_is_named_at_once() {
    let app = TestApp::new().await;
    for (body, fields) in [
        (json!({}), vec!["name", "permissions"]),
        (json!({ "name": "", "permissions": [] }), vec!["name", "permissions"]),
        (json!({ "name": 1, "permissions": "VIEW" }), vec!["name", "permissions"]),
        (json!({ "name": null, "permissions": null }), vec!["name", "permissions"]),
        (json!({ "name": "a", "permissions": ["VIEW", "view", null] }), vec!["permissions[1]", "permissions[2]"]),
        (json!({ "name": "a\u{0}b", "permissions": ["ADMIN"] }), vec!["name", "permissions[0]"]),
        (json!({ "name": "x".repeat(256), "permissions": ["VIEW "] }), vec!["name", "permissions[0]"]),
        (json!([]), vec!["body"]),
        (json!("x"), vec!["body"]),
    ] {
        let answer = app.post(GRID).json(&body).send().await.refused(400, "INVALID_INPUT");
        assert_eq!(answer.broken_fields(), fields, "{answer:?}");
    }
    let total = app.get(GRID).send().await.expect(200).json()["totalCount"].clone();
    assert_eq!(total, 1, "a refused create left something behind");
}

#[tokio::test]
async fn z_05_a_token_grants_nothing_that_it_lacks() {
    let app = TestApp::new().await;
    let manager = app.token("manager", &["MANAGE"]).await;
    app.token_by(&manager, "viewer", &["VIEW", "MANAGE"]).await;
    let body = json!({ "name": "payer", "permissions": ["VIEW", "TRANSACT"] });
    let answer = app.post(GRID).auth(&manager).json(&body).send().await.refused(403, "FORBIDDEN");
    assert_eq!(answer.json()["details"]["required"], json!(["TRANSACT"]));
    assert_eq!(app.get(GRID).send().await.json()["totalCount"], 3);
}

#[tokio::test]
async fn z_06_members_of_the_record_in_the_body_change_nothing() {
    let app = TestApp::new().await;
    let (other, _) = app.another_platform("Other").await;
    let body = json!({
        "name": "a", "permissions": ["VIEW"], "id": "Token:019542f5-b3e7-7d02-8000-000000000001", "clientId": "ik_test_1", "clientSecret": "mine",
        "platformId": other.id.to_string(), "userId": 1, "environment": "production", "createdAt": "1999-01-01T00:00:00Z", "status": "REVOKED",
        "revokedAt": "1999-01-01T00:00:00Z", "digest": "00", "role": "admin", "isAdmin": true, "__proto__": { "a": 1 }, "permissions[0]": "MANAGE",
    });
    let answer = app.post(&format!("{GRID}?platformId={}", other.id)).json(&body).send().await.expect(201);
    let pair = answer.pair();
    assert!(pair.client_id.starts_with("ik_test_0") && pair.secret.starts_with("iksec_test_"));
    assert_eq!(answer.json()["createdAt"], "2025-07-21T17:32:28.000Z");
    let shown = app.get(&format!("{BLIPS}/{}", pair.id)).send().await.expect(200).json();
    assert_eq!(
        (&shown["status"], &shown["permissions"], &shown["issuerType"]),
        (&json!("ACTIVE"), &json!(["view"]), &json!("platform_self_service"))
    );
}

#[tokio::test]
async fn s_02_the_secret_is_in_no_header() {
    let app = TestApp::new().await;
    let answer = app.post(GRID).json(&json!({ "name": "a", "permissions": ["VIEW"] })).send().await.expect(201);
    let secret = answer.pair().secret;
    assert!(answer.headers.values().all(|value| !value.to_str().unwrap().contains(&secret[11..])));
}

#[tokio::test]
async fn s_03_without_entropy_nothing_is_made() {
    let app = TestApp::new().await;
    app.entropy.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let body = json!({ "name": "a", "permissions": ["VIEW"] });
    app.post(GRID).json(&body).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    app.entropy.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(app.get(GRID).send().await.json()["totalCount"], 1);
}

#[tokio::test]
async fn f_06_the_clock_may_jump() {
    let app = TestApp::new().await;
    let mut created = Vec::new();
    for millis in [0, 4_000_000_000_000, 1_753_119_148_000, -5_000_000_000] {
        app.clock.set_wall(millis);
        let token = app.post(GRID).json(&json!({ "name": millis.to_string(), "permissions": ["VIEW"] })).send().await.expect(201).json();
        created.push(token["createdAt"].as_str().unwrap().to_owned());
    }
    assert!(created.is_sorted(), "{created:?}");
    let names: Vec<_> = app.get(GRID).send().await.json()["data"].as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
    assert_eq!(names.len(), 5);
}

/// Exactly as many as there may be, however many ask at once and wherever; who has the last one again, or is an operator, is
/// not refused.
#[tokio::test]
async fn o_08_there_are_never_more_tokens_than_there_may_be() {
    let mut app = TestApp::new().await;
    drop(app.try_replace(|options| options.max_tokens = Some(10)).await.unwrap());
    // The root is one of them.
    for n in 0..7 {
        app.token(&format!("token {n}"), &["VIEW"]).await;
    }
    let ask = |n: usize| {
        let (path, permission) = if n.is_multiple_of(2) { (GRID, "VIEW") } else { (BLIPS, "view") };
        app.post(path).header("idempotency-key", &format!("key-{n}")).json(&json!({ "name": "edge", "permissions": [permission] })).send()
    };
    let answers = futures_util::future::join_all((0..64).map(ask)).await;
    let (created, refused): (Vec<_>, Vec<_>) = answers.into_iter().enumerate().partition(|(_, answer)| answer.status == 201);
    assert_eq!((created.len(), refused.len()), (2, 62));
    for (_, answer) in refused {
        let answer = answer.refused(409, "CONFLICT");
        assert_eq!((&answer.json()["details"]["reason"], answer.header("x-should-retry")), (&json!("token_limit"), Some("false")));
    }
    assert_eq!(app.get(GRID).send().await.expect(200).json()["totalCount"], 10);
    let again = ask(created[0].0).await.expect(201);
    assert_eq!((again.header("idempotent-replayed"), &again.json()["id"]), (Some("true"), &created[0].1.json()["id"]));
    // The other half has its own.
    app.token_by(&app.production, "elsewhere", &["VIEW"]).await;
    let by = app
        .authority
        .locate_token(&operator(), countersign::domain::TokenId::parse(&app.sandbox.id).unwrap())
        .await
        .unwrap()
        .may_manage()
        .unwrap();
    let name = countersign::domain::TokenName::parse("name", "beyond").unwrap();
    let new = countersign::domain::NewToken {
        name,
        permissions: countersign::domain::Permissions::NONE.with(countersign::domain::Permission::View),
    };
    app.authority.create_token(&by, new, None).await.unwrap();
    // One that ends makes no room for as long as there are too many.
    for (n, status) in [(0, 409), (1, 201), (2, 409)] {
        if n < 2 {
            app.delete(&format!("{GRID}/{}", created[n].1.pair().id)).send().await.expect(204);
        }
        app.post(GRID).json(&json!({ "name": "later", "permissions": ["VIEW"] })).send().await.expect(status);
    }
}
