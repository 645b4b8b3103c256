//! Operators of one platform, and operators at several servers.

use countersign::domain::Role;
use serde_json::{Value, json};

use super::good_body;
use crate::{
    operators::name,
    support::{Answer, GRID, TestApp, operator},
};

/// What is another platform's is as what does not exist, to the byte.
#[tokio::test]
async fn an_operator_of_one_platform_sees_and_changes_nothing_else() {
    let app = TestApp::new().await;
    let (other, [root, _]) = app.another_platform("Other").await;
    let theirs = app.token_by(&root, "theirs", &["VIEW"]).await;
    let nobody = app.program("manager-of-other", Role::Manager, Some(other.id)).await;
    let (foreign_operator_token, _) = app.operator_token("manager-of-other", None).await;
    let own = Some(app.platform.id);
    let manager = app.program("manager", Role::Manager, own).await;
    let viewer = app.program("viewer", Role::Viewer, own).await;
    let none = "019542f5-b3e7-7d02-8000-000000000001";
    let same = |foreign: Answer, missing: Answer| {
        assert_eq!(foreign.status.as_u16(), 404, "{foreign:?}");
        assert_eq!((foreign.status, &foreign.body), (missing.status, &missing.body), "{foreign:?}");
    };
    let before = app.place().await;
    for by in [&manager, &viewer] {
        let told = app.v1_get("/platforms", by).await.expect(200).json();
        let ids: Vec<_> = told["platforms"].as_array().unwrap().iter().map(|platform| platform["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [app.platform.id.to_string()]);
        assert_eq!(app.v1_get("/operator", by).await.expect(200).json()["platform"], app.platform.id.to_string());
        let other = other.id.to_string();
        for path in ["/platforms/ID", "/tokens?environment=sandbox&platform=ID", "/audit?platform=ID"] {
            same(app.v1_get(&path.replace("ID", &other), by).await, app.v1_get(&path.replace("ID", none), by).await);
        }
        for id in [&theirs.id, &root.id] {
            same(app.v1_get(&format!("/tokens/{id}"), by).await, app.v1_get(&format!("/tokens/{none}"), by).await);
        }
        let end = async |id: &str| app.v1("POST", &format!("/operator-tokens/{id}/revoke"), by).send_admin().await;
        same(end(&foreign_operator_token.0.to_string()).await, end(none).await);
        // The log is of their platform, whatever they ask for.
        for filter in ["", "&actor=operator:manager-of-other", "&action=platform.create", &format!("&token={}", theirs.id)] {
            let told = app.v1_get(&format!("/audit?limit=100{filter}"), by).await.expect(200).json();
            let entries = told["entries"].as_array().unwrap();
            assert!(entries.iter().all(|entry| entry["platform"] == app.platform.id.to_string()), "{filter}: {told}");
            assert_eq!(entries.is_empty(), filter.contains("operator:") || filter.contains("token="), "{filter}: {told}");
        }
    }
    let revoke = async |id: &str| app.v1("POST", &format!("/tokens/{id}/revoke"), &manager).send_admin().await;
    for id in [&theirs.id, &root.id] {
        same(revoke(id).await, revoke(none).await);
    }
    let create = async |platform: &str| {
        let mut body = good_body("createToken", app.platform.id, 0).unwrap();
        body["platform"] = json!(platform);
        app.v1_post("/tokens", &manager, &body).await
    };
    same(create(&other.id.to_string()).await, create(none).await);
    assert_eq!(app.place().await, before, "nothing was done");
    app.get(GRID).auth(&theirs).send().await.expect(200);
    app.v1_get("/operator", &nobody).await.expect(200);

    // In their own they issue as the platform does, and end what it can.
    let made = create(&app.platform.id.to_string()).await.expect(201).pair();
    let told = app.v1_get(&format!("/tokens/{}", made.id), &viewer).await.expect(200).json();
    assert_eq!((&told["issuerType"], &told["revocable"]), (&json!("platform_self_service"), &json!(true)));
    let refused = revoke(&app.sandbox.id).await.refused(409, "CONFLICT");
    assert_eq!((&refused.json()["details"]["reason"], refused.header("x-should-retry")), (&json!("not_revocable"), Some("false")));
    app.get(GRID).send().await.expect(200);
    revoke(&made.id).await.expect(200);
    app.get(GRID).auth(&made).send().await.refused(401, "UNAUTHORIZED");
}

/// No server goes by what it knew: each request as an operator reads who they are.
#[tokio::test]
async fn who_is_changed_at_one_server_is_so_at_once_at_the_other() {
    let mut app = TestApp::new().await;
    let owner = app.program("alice", Role::Owner, None).await;
    let bob = app.program("bob", Role::Manager, None).await;
    let (token, second) = app.operator_token("bob", None).await;
    app.v1_get("/operator", &bob).await.expect(200);
    let elsewhere = app.try_replace(|_| {}).await.unwrap();
    let role = async || app.v1_get("/operator", &bob).await.expect(200).json()["role"].clone();
    assert_eq!(role().await, "manager");
    elsewhere.set_account_role(&operator(), name("bob"), Role::Viewer).await.unwrap();
    assert_eq!(role().await, "viewer");
    let body = good_body("createToken", app.platform.id, 0).unwrap();
    app.v1_post("/tokens", &bob, &body).await.refused(403, "FORBIDDEN");
    elsewhere.revoke_operator_token(&operator(), token).await.unwrap();
    app.v1_get("/operator", &second).await.refused(401, "UNAUTHORIZED");
    elsewhere.set_account_disabled(&operator(), name("bob"), true).await.unwrap();
    app.v1_get("/operator", &bob).await.refused(401, "UNAUTHORIZED");
    elsewhere.set_account_disabled(&operator(), name("bob"), false).await.unwrap();
    assert_eq!(role().await, "viewer");
    app.v1_get("/operator", &second).await.refused(401, "UNAUTHORIZED");
    // And the other way round.
    app.v1("POST", "/operators/bob/disable", &owner).send_admin().await.expect(200);
    let presented = countersign::domain::PresentedOperator::parse_bearer(bob.as_bytes()).unwrap();
    assert!(elsewhere.prove_operator(&presented, Default::default()).await.unwrap().is_none());
    assert_ne!(app.v1_get("/operators/bob", &owner).await.expect(200).json()["operator"]["disabledAt"], Value::Null);
}
