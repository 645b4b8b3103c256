use serde_json::json;

use crate::support::{BLIPS, GRID, TestApp, operator};

#[tokio::test]
async fn an_ended_token_is_gone_here_and_revoked_there() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    app.clock.advance(std::time::Duration::from_secs(5));
    let path = format!("{GRID}/{}", token.id);
    app.delete(&path).send().await.expect(204);
    app.get(&path).send().await.refused(404, "TOKEN_NOT_FOUND");
    app.delete(&path).send().await.refused(404, "TOKEN_NOT_FOUND");
    let list = app.get(GRID).send().await.json();
    assert_eq!((list["data"].as_array().unwrap().len(), &list["totalCount"]), (1, &json!(1)));
    let blips = app.get(&format!("{BLIPS}/{}", token.id)).send().await.expect(200).json();
    assert_eq!((&blips["status"], &blips["revokedAt"]), (&json!("REVOKED"), &json!("2025-07-21T17:32:33.000Z")));
    assert_eq!(blips["updatedAt"], blips["revokedAt"]);
}

#[tokio::test]
async fn only_an_operator_ends_the_root() {
    let app = TestApp::new().await;
    let answer = app.delete(&format!("{GRID}/{}", app.sandbox.id)).send().await.refused(400, "INVALID_INPUT");
    assert_eq!(answer.json()["details"]["reason"], "not_revocable");

    let id = countersign::domain::TokenId::parse(&app.sandbox.id).unwrap();
    let by = app.authority.locate_token(&operator(), id).await.unwrap().may_manage().unwrap();
    assert!(!app.authority.revoke_token(&by, id).await.unwrap().already);
    app.get(GRID).send().await.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn z_10_a_token_may_end_itself() {
    let app = TestApp::new().await;
    let token = app.token("a", &["MANAGE"]).await;
    app.delete(&format!("{GRID}/{}", token.id)).auth(&token).send().await.expect(204);
    app.get(GRID).auth(&token).send().await.refused(401, "UNAUTHORIZED");
}
