//! `/blips/tokens`

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{BLIPS, GRID, TestApp};

#[tokio::test]
async fn the_whole_answers() {
    let app = TestApp::new().await;
    let created = app.post(BLIPS).json(&json!({ "name": "a", "permissions": ["manage", "view"] })).send().await.expect(201);
    insta::assert_snapshot!(String::from_utf8_lossy(&created.body), @r#"{"id":"Token:tok_01982e0b47e07f9da783738930091c1c","name":"a","permissions":["view","manage"],"accessLevel":"management","issuerType":"platform_self_service","status":"ACTIVE","revocable":true,"clientId":"ik_test_01982e0b47e07f9da783738930091c1c3dafb219","createdAt":"2025-07-21T17:32:28.000Z","updatedAt":"2025-07-21T17:32:28.000Z","revokedAt":null,"clientSecret":"iksec_test_EngEH3Ot85h3AbeBbw5hPOle0L8Tbnu4hdXgoMFdOM22GEPiE"}"#);
    let id = created.json()["id"].as_str().unwrap().to_owned();
    app.clock.advance(Duration::from_secs(1));
    let revoked = app.post(&format!("{BLIPS}/{id}/revoke")).send().await.expect(200);
    insta::assert_snapshot!(String::from_utf8_lossy(&revoked.body), @r#"{"id":"Token:tok_01982e0b47e07f9da783738930091c1c","name":"a","permissions":["view","manage"],"accessLevel":"management","issuerType":"platform_self_service","status":"REVOKED","revocable":true,"clientId":"ik_test_01982e0b47e07f9da783738930091c1c3dafb219","createdAt":"2025-07-21T17:32:28.000Z","updatedAt":"2025-07-21T17:32:29.000Z","revokedAt":"2025-07-21T17:32:29.000Z"}"#);
}

#[tokio::test]
async fn permissions_are_projected() {
    let app = TestApp::new().await;
    for (permissions, shown, level) in [
        (vec!["VIEW"], json!(["view"]), "view_only"),
        (vec!["TRANSACT"], json!([]), "view_only"),
        (vec!["VIEW", "TRANSACT"], json!(["view"]), "view_only"),
        (vec!["MANAGE", "TRANSACT"], json!(["manage"]), "management"),
        (vec!["VIEW", "TRANSACT", "MANAGE"], json!(["view", "manage"]), "management"),
    ] {
        let token = app.token("a", &permissions).await;
        let blips = app.get(&format!("{BLIPS}/{}", token.id)).send().await.expect(200).json();
        assert_eq!((&blips["permissions"], &blips["accessLevel"]), (&shown, &json!(level)), "{permissions:?}");
    }
    for permissions in [json!([]), json!(["transact"]), json!(["VIEW"]), json!(["view", "x"]), json!({})] {
        app.post(BLIPS).json(&json!({ "name": "a", "permissions": permissions })).send().await.refused(400, "INVALID_INPUT");
    }
}

#[tokio::test]
async fn the_root_is_listed_but_not_revocable() {
    let app = TestApp::new().await;
    let list = app.get(BLIPS).send().await.expect(200).json();
    let root = &list["data"][0];
    assert_eq!((&root["issuerType"], &root["revocable"]), (&json!("operator_issued"), &json!(false)));
    let answer = app.post(&format!("{BLIPS}/{}/revoke", root["id"].as_str().unwrap())).send().await.refused(409, "CONFLICT");
    assert_eq!(answer.json()["details"]["reason"], "not_revocable");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn r_04_revoking_again_changes_nothing() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    let path = format!("{BLIPS}/{}/revoke", token.id);
    let first = app.post(&path).send().await.expect(200).body;
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(app.post(&path).body("ignored").send().await.expect(200).body, first);
    app.delete(&format!("{GRID}/{}", token.id)).send().await.refused(404, "TOKEN_NOT_FOUND");
}

#[tokio::test]
async fn the_whole_list_is_streamed_and_equals_the_pages() {
    let app = TestApp::new().await;
    for n in 0..1201 {
        app.clock.advance(Duration::from_millis(1));
        let token = app.token(&format!("t{n}"), &["VIEW"]).await;
        if n % 3 == 0 {
            app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
        }
    }
    let whole = app.get(BLIPS).send().await.expect(200).json();
    assert_eq!(whole.as_object().unwrap().keys().collect::<Vec<_>>(), ["data"]);
    let whole = whole["data"].as_array().unwrap().clone();
    assert_eq!(whole.len(), 1202);
    assert_eq!(whole.iter().filter(|token| token["status"] == "REVOKED").count(), 401);
    assert!(whole.is_sorted_by_key(|token| token["createdAt"].as_str().unwrap().to_owned()));

    let (mut pages, mut query) = (Vec::new(), "?limit=100".to_owned());
    loop {
        let page = app.get(&format!("{BLIPS}{query}")).send().await.expect(200).json();
        pages.extend(page["data"].as_array().unwrap().clone());
        assert_eq!(page["hasMore"], Value::Bool(page.get("nextCursor").is_some()));
        let Some(cursor) = page.get("nextCursor") else { break };
        query = format!("?limit=100&cursor={}", cursor.as_str().unwrap());
    }
    assert_eq!(pages, whole);
}

#[tokio::test]
async fn a_cursor_of_the_other_dialect_is_none() {
    let app = TestApp::new().await;
    app.token("a", &["VIEW"]).await;
    let cursor = |list: Value| list["nextCursor"].as_str().unwrap().to_owned();
    let grid = cursor(app.get(&format!("{GRID}?limit=1")).send().await.expect(200).json());
    let blips = cursor(app.get(&format!("{BLIPS}?limit=1")).send().await.expect(200).json());
    app.get(&format!("{BLIPS}?cursor={grid}")).send().await.refused(400, "INVALID_INPUT");
    app.get(&format!("{GRID}?cursor={blips}")).send().await.refused(400, "INVALID_INPUT");
    app.get(&format!("{BLIPS}?cursor={blips}")).send().await.expect(200);
    app.get(&format!("{BLIPS}?name=a")).send().await.refused(400, "INVALID_INPUT");
}

/// The answer is made while it is sent; whoever's token has ended meanwhile gets no more of it.
#[tokio::test]
async fn a_list_that_is_read_slowly_ends_with_its_token() {
    use http_body_util::BodyExt as _;
    let app = TestApp::new().await;
    let viewer = app.token("viewer", &["VIEW"]).await;
    for _ in 0..520 {
        app.token("a", &["VIEW"]).await;
    }
    let request = || {
        let request = http::Request::get(BLIPS).header("authorization", viewer.basic()).body(axum::body::Body::empty()).unwrap();
        app.app.answer(request, ([127, 0, 0, 1], 1).into())
    };
    let mut whole = request().await.into_body();
    assert!(whole.frame().await.unwrap().is_ok() && whole.frame().await.unwrap().is_ok() && whole.frame().await.is_none());
    let mut cut = request().await.into_body();
    assert!(cut.frame().await.unwrap().is_ok());
    app.delete(&format!("{GRID}/{}", viewer.id)).send().await.expect(204);
    assert!(cut.frame().await.unwrap().is_err(), "an ended token was given more");
}
