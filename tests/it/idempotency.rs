//! S-06: creates that are repeated.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::support::{Answer, BLIPS, GRID, Pair, TestApp};

async fn create(app: &TestApp, by: &Pair, key: &str, name: &str) -> Answer {
    app.post(GRID).auth(by).header("idempotency-key", key).json(&json!({ "name": name, "permissions": ["VIEW"] })).send().await
}

async fn total(app: &TestApp) -> Value {
    app.get(GRID).send().await.expect(200).json()["totalCount"].clone()
}

#[tokio::test]
async fn s_06_the_same_key_and_body_is_the_same_token_with_its_secret_for_ten_minutes() {
    let app = TestApp::new().await;
    let first = create(&app, &app.sandbox, "k", "a").await.expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    app.clock.advance(Duration::from_secs(600));
    let second = create(&app, &app.sandbox, "k", "a").await.expect(201);
    assert_eq!((second.header("idempotent-replayed"), second.json()), (Some("true"), first.json()));

    app.clock.advance(Duration::from_millis(1));
    let late = create(&app, &app.sandbox, "k", "a").await.expect(201).json();
    assert_eq!((&late["id"], late.get("clientSecret")), (&first.json()["id"], None));
    app.authority.flush().await.unwrap();
    create(&app, &app.sandbox, "k", "a").await.expect(201);
    assert_eq!(total(&app).await, 2);

    app.clock.advance(Duration::from_secs(24 * 60 * 60));
    let next_day = create(&app, &app.sandbox, "k", "a").await.expect(201);
    assert_ne!(next_day.pair().id, first.pair().id);
    assert_eq!(total(&app).await, 3);
}

#[tokio::test]
async fn s_06_another_body_is_a_conflict_and_another_caller_somebody_else() {
    let app = TestApp::new().await;
    let manager = app.token("manager", &["MANAGE"]).await;
    let first = create(&app, &app.sandbox, "k", "a").await.expect(201).pair();
    let answer = create(&app, &app.sandbox, "k", "b").await.refused(409, "CONFLICT");
    assert_eq!((&answer.json()["details"]["reason"], answer.header("x-should-retry")), (&json!("idempotency_key_reused"), Some("false")));
    let theirs = create(&app, &manager, "k", "a").await.expect(201).pair();
    assert_ne!(first.id, theirs.id);
    // The other dialect is the same caller with the same request.
    let blips =
        app.post(BLIPS).header("idempotency-key", "k").json(&json!({ "name": "a", "permissions": ["view"] })).send().await.expect(201);
    assert_eq!(blips.pair().secret, first.secret);
}

#[tokio::test]
async fn s_06_keys_that_are_none() {
    let app = TestApp::new().await;
    for key in ["", "a b", "é", &"x".repeat(256), "a\tb"] {
        let answer = create(&app, &app.sandbox, key, "a").await.refused(400, "INVALID_INPUT");
        assert_eq!(answer.broken_fields(), ["Idempotency-Key"]);
    }
    let twice = app.post(GRID).header("idempotency-key", "a").header("idempotency-key", "a").json(&json!({})).send().await;
    twice.refused(400, "INVALID_INPUT");
    create(&app, &app.sandbox, &"x".repeat(255), "a").await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn s_06_sixty_four_at_once_make_one_token() {
    let app = Arc::new(TestApp::new().await);
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let app = Arc::clone(&app);
            tokio::spawn(async move { create(&app, &app.sandbox, "k", "a").await })
        })
        .collect();
    let (mut ids, mut originals) = (HashSet::new(), 0);
    for task in tasks {
        let answer = task.await.unwrap();
        if answer.status == 409 {
            assert_eq!((&answer.json()["details"]["reason"], answer.header("x-should-retry")), (&json!("in_progress"), None));
            assert_eq!(answer.header("retry-after"), Some("1"));
        } else {
            originals += u32::from(answer.header("idempotent-replayed").is_none());
            ids.insert(answer.expect(201).pair().id);
        }
    }
    assert_eq!((ids.len(), originals), (1, 1));
    assert_eq!(total(&app).await, 2);
}

#[tokio::test]
async fn s_06_a_refused_create_leaves_the_key_free() {
    let app = TestApp::new().await;
    let manager = app.token("manager", &["MANAGE"]).await;
    let request = |permission: &str| {
        app.post(GRID).auth(&manager).header("idempotency-key", "k").json(&json!({ "name": "a", "permissions": [permission] }))
    };
    request("TRANSACT").send().await.refused(403, "FORBIDDEN");
    request("VIEW").send().await.expect(201);
}

#[tokio::test]
async fn s_06_a_replay_of_an_ended_token_has_no_secret() {
    let app = TestApp::new().await;
    let token = create(&app, &app.sandbox, "k", "a").await.expect(201).pair();
    app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
    let replay = create(&app, &app.sandbox, "k", "a").await.expect(201).json();
    assert_eq!((&replay["id"], replay.get("clientSecret")), (&json!(token.id), None));
}

#[tokio::test]
async fn a_replay_survives_a_restart() {
    let app = TestApp::new().await;
    let first = create(&app, &app.sandbox, "k", "a").await.expect(201).pair();
    let app = app.restart().await;
    let second = create(&app, &app.sandbox, "k", "a").await.expect(201).pair();
    assert_eq!(first.secret, second.secret);
}
