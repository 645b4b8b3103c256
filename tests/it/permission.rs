//! The matrix: every set of permissions, every operation, own and foreign tokens.

use serde_json::json;

use crate::support::{BLIPS, GRID, Pair, TestApp};

const SETS: [&[&str]; 7] = [
    &["VIEW"],
    &["TRANSACT"],
    &["VIEW", "TRANSACT"],
    &["MANAGE"],
    &["VIEW", "MANAGE"],
    &["TRANSACT", "MANAGE"],
    &["VIEW", "TRANSACT", "MANAGE"],
];

/// Every operation: method, path with `ID`, whether it changes something, its status when it is allowed.
const OPERATIONS: [(&str, &str, bool, u16); 8] = [
    ("GET", "/grid/2025-10-13/tokens", false, 200),
    ("POST", "/grid/2025-10-13/tokens", true, 201),
    ("GET", "/grid/2025-10-13/tokens/ID", false, 200),
    ("DELETE", "/grid/2025-10-13/tokens/ID", true, 204),
    ("GET", "/blips/tokens", false, 200),
    ("POST", "/blips/tokens", true, 201),
    ("GET", "/blips/tokens/ID", false, 200),
    ("POST", "/blips/tokens/ID/revoke", true, 200),
];

async fn send(app: &TestApp, by: &Pair, (method, path, _, _): (&str, &str, bool, u16), id: &str) -> crate::support::Answer {
    let request = app.request(method.parse().unwrap(), &path.replace("ID", id)).auth(by);
    let permission = if path.starts_with("/grid") { "VIEW" } else { "view" };
    let request = if path.ends_with("tokens") && method == "POST" {
        request.json(&json!({ "name": "a", "permissions": [permission] }))
    } else {
        request
    };
    request.send().await
}

#[test]
fn z_01_the_matrix_has_a_row_for_every_published_operation() {
    let mut published: Vec<(String, String)> = Vec::new();
    for (mount, text) in [
        ("/grid/2025-10-13", include_str!(concat!(env!("OUT_DIR"), "/grid.openapi.json"))),
        ("/blips", include_str!(concat!(env!("OUT_DIR"), "/blips.openapi.json"))),
    ] {
        let document: serde_json::Value = serde_json::from_str(text).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            let operations =
                item.as_object().unwrap().keys().filter(|key| ["get", "post", "put", "patch", "delete"].contains(&key.as_str()));
            published.extend(operations.map(|method| (method.to_uppercase(), format!("{mount}{path}").replace("{tokenId}", "ID"))));
        }
    }
    let mut rows: Vec<_> = OPERATIONS.iter().map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned())).collect();
    published.sort();
    rows.sort();
    assert_eq!(published, rows);
}

#[tokio::test]
async fn z_01_z_02_z_04_every_set_on_every_operation_own_and_foreign() {
    let app = TestApp::new().await;
    let (_, [other_sandbox, other_production]) = app.another_platform("Other").await;
    for set in SETS {
        let by = app.token("caller", set).await;
        for operation in OPERATIONS {
            let (_, path, changes, allowed) = operation;
            let may = set.contains(&"MANAGE") || (!changes && set.contains(&"VIEW"));
            let own = app.token("own", &["VIEW"]).await;
            let answer = send(&app, &by, operation, &own.id).await;
            assert_eq!(answer.status.as_u16(), if may { allowed } else { 403 }, "{set:?} {answer:?}");

            if path.contains("ID") {
                // Somebody else's token, one of our other half, and none at all: the same answer, and nothing done.
                let production = app.token_by(&app.production, "ours", &["VIEW"]).await;
                let foreign = [
                    app.token_by(&other_sandbox, "theirs", &["VIEW"]).await,
                    app.token_by(&other_production, "theirs", &["VIEW"]).await,
                    production.clone(),
                ];
                let missing = send(&app, &by, operation, "Token:01981d2a-0000-7000-8000-000000000000").await;
                assert_eq!(missing.status.as_u16(), if may { 404 } else { 403 });
                for token in foreign {
                    let answer = send(&app, &by, operation, &token.id).await;
                    assert_eq!((answer.status, &answer.body), (missing.status, &missing.body), "{answer:?}");
                    app.get(GRID).auth(&token).send().await.expect(200);
                }
            }
        }
    }
}

#[tokio::test]
async fn z_03_lists_and_totals_are_of_ones_own_scope() {
    let app = TestApp::new().await;
    let (_, [other, _]) = app.another_platform("Other").await;
    for n in 0..30 {
        app.clock.advance(std::time::Duration::from_millis(n % 2));
        for by in [&app.sandbox, &other, &app.production] {
            app.token_by(by, "same", &["VIEW"]).await;
        }
    }
    for by in [&app.sandbox, &other, &app.production] {
        let list = app.get(&format!("{GRID}?name=same&limit=100")).auth(by).send().await.expect(200).json();
        assert_eq!((list["data"].as_array().unwrap().len(), &list["totalCount"]), (30, &json!(30)));
        let prefix = by.client_id[..8].to_owned();
        assert!(list["data"].as_array().unwrap().iter().all(|token| token["clientId"].as_str().unwrap().starts_with(&prefix)));
        assert_eq!(app.get(BLIPS).auth(by).send().await.json()["data"].as_array().unwrap().len(), 31);
    }
}

#[tokio::test]
async fn z_09_a_disabled_platform_is_nobody_until_it_is_enabled() {
    let app = TestApp::new().await;
    let (platform, [root, production]) = app.another_platform("Other").await;
    let ended = app.token_by(&root, "ended", &["VIEW"]).await;
    app.delete(&format!("{GRID}/{}", ended.id)).auth(&root).send().await.expect(204);
    let operator = crate::support::operator();
    app.authority.set_platform_disabled(&operator, platform.id, true).await.unwrap();
    for pair in [&root, &production, &ended] {
        app.get(GRID).auth(pair).send().await.refused(401, "UNAUTHORIZED");
    }
    app.get(GRID).send().await.expect(200);
    let app = app.restart().await;
    app.get(GRID).auth(&root).send().await.refused(401, "UNAUTHORIZED");
    app.authority.set_platform_disabled(&operator, platform.id, false).await.unwrap();
    app.get(GRID).auth(&root).send().await.expect(200);
    app.get(GRID).auth(&ended).send().await.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_caller_that_ends_while_it_sends_its_body_creates_nothing() {
    let app = TestApp::new().await;
    let manager = app.token("manager", &["MANAGE"]).await;
    let by = {
        use countersign::domain::{Presented, RequestInfo};
        let presented = Presented::parse_basic(manager.basic().as_bytes());
        app.authority.verify(presented, RequestInfo::default()).await.unwrap().may_manage().unwrap()
    };
    app.delete(&format!("{GRID}/{}", manager.id)).send().await.expect(204);
    let new = countersign::domain::NewToken {
        name: countersign::domain::TokenName::parse("name", "late").unwrap(),
        permissions: countersign::domain::Permissions::parse("VIEW").unwrap(),
    };
    let refused = app.authority.create_token(&by, new, None).await.unwrap_err();
    assert!(matches!(refused, countersign::authority::Error::CallerEnded), "{refused:?}");
    assert_eq!(app.get(GRID).send().await.json()["totalCount"], 1);
}

/// Slots of the index know half of an id: an invented id that shares it with somebody's token must not touch that.
#[tokio::test]
async fn z_02_an_invented_id_ends_nobodys_token() {
    let app = TestApp::new().await;
    let (_, [other, _]) = app.another_platform("Other").await;
    let victim = app.token_by(&other, "theirs", &["VIEW"]).await;
    let invented = format!("Token:01980000-0000-7000-{}", &victim.id[25..]);
    assert_eq!(invented.len(), victim.id.len());
    app.delete(&format!("{GRID}/{invented}")).send().await.refused(404, "TOKEN_NOT_FOUND");
    app.post(&format!("{BLIPS}/{invented}/revoke")).send().await.refused(404, "TOKEN_NOT_FOUND");
    app.get(&format!("{GRID}/{invented}")).send().await.refused(404, "TOKEN_NOT_FOUND");
    app.get(GRID).auth(&victim).send().await.expect(200);
}
