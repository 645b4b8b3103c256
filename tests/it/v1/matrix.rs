//! Every operation of the document by everybody who could ask.

use std::{fs, path::Path};

use countersign::domain::{PlatformId, Role};
use serde_json::Value;

use super::{Documented, documented, find, good_body};
use crate::{
    operators::name,
    support::{Answer, TestApp, operator},
};

/// Somebody who asks.
struct Caller {
    account: &'static str,
    authorization: Option<String>,
    /// Their role, and whether it is of all platforms; none of who is nobody.
    may: Option<(Role, bool)>,
}

async fn callers(app: &TestApp) -> Vec<Caller> {
    let own = Some(app.platform.id);
    let mut callers = Vec::new();
    for (account, role, platform) in [
        ("viewer", Role::Viewer, None),
        ("manager", Role::Manager, None),
        ("owner", Role::Owner, None),
        ("viewer-of-one", Role::Viewer, own),
        ("manager-of-one", Role::Manager, own),
    ] {
        let bearer = app.program(account, role, platform).await;
        callers.push(Caller { account, authorization: Some(bearer), may: Some((role, platform.is_none())) });
    }
    let owner = callers[2].authorization.clone().unwrap();
    let in_a_minute = countersign::authority::Clock::wall(&*app.clock).plus_millis(60_000);
    let (_, expired) = app.operator_token("owner", Some(in_a_minute)).await;
    app.clock.advance(std::time::Duration::from_secs(60));
    let (id, revoked) = app.operator_token("owner", None).await;
    app.authority.revoke_operator_token(&operator(), id).await.unwrap();
    let disabled = app.program("disabled", Role::Owner, None).await;
    app.authority.set_account_disabled(&operator(), name("disabled"), true).await.unwrap();
    let nobodies = [
        None,
        Some("Bearer garbage".to_owned()),
        Some(format!("Bearer csop_{}", "A".repeat(70))),
        Some(expired),
        Some(revoked),
        Some(disabled),
        Some(app.sandbox.basic()),
        Some(app.sandbox.basic().replace("Basic", "Bearer")),
        Some(owner.replace("Bearer", "Basic")),
        Some(format!("{owner}A")),
    ];
    callers.extend(nobodies.map(|authorization| Caller { account: "nobody", authorization, may: None }));
    callers
}

/// Asks for what is there for the sake of this alone: the caller's own, where such things are somebody's, or another's.
async fn ask(app: &TestApp, operation: &Documented, caller: &Caller, own: bool, n: usize) -> Answer {
    let mut path = operation.path.to_owned();
    if path.contains("{platform}") {
        let changes = operation.method != "GET";
        let id = if changes { app.another_platform("Target").await.0.id } else { app.platform.id };
        path = path.replace("{platform}", &id.to_string());
    }
    if path.contains("{token}") {
        path = path.replace("{token}", &app.token("target", &["VIEW"]).await.id);
    }
    if path.contains("{bulk}") {
        path = path.replace("{bulk}", &app.bulk_revoke().await);
    }
    if path.contains("{key}") {
        path = path.replace("{key}", &app.key().await.to_string());
    }
    let another = format!("target-{n}");
    let account = if own && caller.may.is_some() { caller.account } else { &another };
    if account == another && (path.contains("{name}") || path.contains("{id}")) {
        app.authority.create_account(&operator(), name(account), Role::Viewer, Some(app.platform.id), None).await.unwrap();
    }
    if path.contains("{id}") {
        path = path.replace("{id}", &app.operator_token(account, None).await.0.0.to_string());
    }
    path = path.replace("{name}", account);
    if operation.id == "listTokens" {
        path += &format!("?environment=sandbox&platform={}", app.platform.id);
    }
    let before = app.place().await;
    let mut request = app.v1(&operation.method, &path, "");
    request = match &caller.authorization {
        Some(authorization) => request.authorization(authorization),
        None => request.anonymous(),
    };
    if let Some(body) = good_body(operation.id, app.platform.id, n) {
        request = request.json(&body);
    }
    let answer = request.send_admin().await;
    if answer.status.as_u16() >= 400 {
        assert_eq!(app.place().await, before, "refused, and done: {answer:?}");
    }
    answer
}

#[tokio::test]
async fn every_operation_by_everybody() {
    let app = TestApp::new().await;
    let callers = callers(&app).await;
    let owner = callers[2].authorization.clone().unwrap();
    let loaded = good_body("loadOperations", app.platform.id, 0).unwrap();
    app.v1("PUT", "/operations", &owner).json(&loaded).send_admin().await.expect(200);
    let mut n = 0;
    for operation in documented() {
        for caller in &callers {
            for own in [true, false].into_iter().skip(usize::from(operation.others.is_none())) {
                n += 1;
                let answer = ask(&app, &operation, caller, own, n).await;
                let Some((role, everywhere)) = caller.may else {
                    answer.refused(401, "UNAUTHORIZED");
                    continue;
                };
                let may = role >= operation.role && (everywhere || !operation.everywhere);
                let is_theirs = own || operation.others.is_none_or(|others| role >= others && everywhere);
                match (may, is_theirs) {
                    (true, true) => drop(answer.expect(operation.ok)),
                    // Of what they may not see they learn nothing.
                    (true, false) if operation.path.contains("{id}") => drop(answer.refused(404, "REFERENCE_NOT_FOUND")),
                    _ => {
                        let required = if may { operation.others.unwrap() } else { operation.role };
                        let told = answer.refused(403, "FORBIDDEN").json()["details"].clone();
                        assert_eq!(told["role"], required.name(), "{operation:?}");
                        let all = (operation.everywhere || operation.others.is_some()) && !everywhere;
                        assert_eq!(told["everywhere"], all, "{operation:?}");
                    }
                }
            }
        }
    }
    assert!(app.metrics().await.contains("countersign_refusals_total{reason=\"operator_token\"}"));
}

/// Paths and methods of a route table, as its source has them.
pub(crate) fn routed(of: &str) -> Vec<(String, String)> {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http").join(of)).unwrap();
    let table = source.split("fn routes()").nth(1).unwrap().split("\n}").next().unwrap();
    let mut routed = Vec::new();
    for route in table.split(".route(").skip(1) {
        let (path, methods) = route.trim_start().strip_prefix('"').unwrap().split_once('"').unwrap();
        let of_path = ["get", "put", "post", "patch", "delete"].into_iter().filter(|method| methods.contains(&format!("{method}(")));
        routed.extend(of_path.map(|method| (path.to_owned(), method.to_uppercase())));
    }
    routed.sort();
    routed
}

#[tokio::test]
async fn routes_and_document_are_the_same_set() {
    let mut documented: Vec<_> = documented().into_iter().map(|operation| (operation.path.to_owned(), operation.method)).collect();
    documented.sort();
    assert_eq!(routed("v1/mod.rs"), documented);
    // Every other method is none.
    let app = TestApp::new().await;
    for (path, _) in &documented {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let status = app.v1(method, path.replace(['{', '}'], "").as_str(), "").anonymous().send_admin().await.status.as_u16();
            let known = documented.contains(&(path.clone(), method.to_owned()));
            assert_eq!(status, if known { 401 } else { 405 }, "{method} {path}");
        }
    }
    for path in ["", "/", "/x", "/platforms/", "/tokens/x/"] {
        app.v1("GET", path, "").anonymous().send_admin().await.refused(404, "REFERENCE_NOT_FOUND");
    }
}

/// The role is looked at before the body: whoever may not is not told what is wrong with it.
#[tokio::test]
async fn who_may_not_is_told_so_first() {
    let app = TestApp::new().await;
    let viewer = app.program("viewer", Role::Viewer, None).await;
    for id in ["createToken", "bulkRevokeTokens", "createPlatform", "loadOperations", "createOperator"] {
        let Documented { method, path, .. } = find(id);
        app.v1(&method, path, &viewer).json(&Value::Null).send_admin().await.refused(403, "FORBIDDEN");
        app.v1(&method, &format!("{path}?x=1"), &viewer).send_admin().await.refused(403, "FORBIDDEN");
    }
    let nowhere = PlatformId::parse("019542f5-b3e7-7d02-8000-000000000001").unwrap();
    app.v1("POST", &format!("/platforms/{nowhere}/disable"), &viewer).send_admin().await.refused(403, "FORBIDDEN");
    app.v1("POST", "/tokens/none/revoke", &viewer).send_admin().await.refused(403, "FORBIDDEN");
}
