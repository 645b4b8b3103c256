//! Each operation as it is meant: what is done, what is answered, what the audit log says of it.

use std::time::Duration;

use countersign::domain::Role;
use serde_json::{Value, json};

use super::good_body;
use crate::support::{GRID, Pair, START, TestApp, database};

#[tokio::test]
async fn platforms() {
    let app = TestApp::new().await;
    let owner = app.program("alice", Role::Owner, None).await;
    let who = app.v1_get("/operator", &owner).await.expect(200).json();
    assert_eq!(who, json!({ "name": "alice", "actor": "operator:alice", "role": "owner", "platform": null }));
    app.clock.advance(Duration::from_millis(1));
    let made = app.v1_post("/platforms", &owner, &json!({ "name": " Other " })).await.expect(201).json();
    let id = made["platform"]["id"].as_str().unwrap();
    let [sandbox, production] = [0, 1].map(|at| {
        let mut root = made["tokens"][at].clone();
        root["name"] = json!("Root token");
        Pair::of(&root)
    });
    assert_eq!((&made["tokens"][0]["environment"], &made["tokens"][1]["environment"]), (&json!("sandbox"), &json!("production")));
    let shown = json!({ "id": id, "name": "Other", "createdAt": "2025-07-21T17:32:28.001Z", "disabledAt": null });
    assert_eq!(app.v1_get(&format!("/platforms/{id}"), &owner).await.expect(200).json(), json!({ "platform": shown }));
    let all = app.v1_get("/platforms", &owner).await.expect(200).json();
    assert_eq!((all["platforms"].as_array().unwrap().len(), &all["platforms"][1]), (2, &shown));
    for pair in [&sandbox, &production] {
        app.get(GRID).auth(pair).send().await.expect(200);
    }
    let change = async |what: &str| app.v1("POST", &format!("/platforms/{id}/{what}"), &owner).send_admin().await.expect(200).json();
    let disabled = change("disable").await;
    assert_eq!((&disabled["platform"]["disabledAt"], &disabled["receipt"]["boundMillis"]), (&shown["createdAt"], &json!(0)));
    app.get(GRID).auth(&sandbox).send().await.refused(401, "UNAUTHORIZED");
    let again = change("disable").await;
    assert_eq!((&again["platform"], &again["receipt"]["seq"]), (&disabled["platform"], &Value::Null));
    assert_eq!(change("enable").await["platform"], shown);
    app.get(GRID).auth(&sandbox).send().await.expect(200);

    let audit = app.v1_get(&format!("/audit?platform={id}&action=platform.disable"), &owner).await.expect(200).json();
    let entry = &audit["entries"][0];
    let told = [&entry["seq"], &entry["actor"], &entry["source"], &entry["token"], &entry["detail"]["name"]];
    assert_eq!(told, [&disabled["receipt"]["seq"], &json!("operator:alice"), &json!("127.0.0.1"), &Value::Null, &json!("Other")]);
    assert_eq!((&audit["more"], &audit["nextBeforeSeq"]), (&json!(false), &Value::Null));
}

#[tokio::test]
async fn tokens() {
    let app = TestApp::new().await;
    let manager = app.program("bob", Role::Manager, None).await;
    let new = json!({ "platform": app.platform.id.to_string(), "environment": "production", "name": "ci", "permissions": ["MANAGE", "VIEW", "VIEW"] });
    app.clock.advance(Duration::from_millis(1));
    let made = app.v1_post("/tokens", &manager, &new).await.expect(201);
    let pair = made.pair();
    assert_eq!(made.json()["permissions"], json!(["VIEW", "MANAGE"]));
    app.get(GRID).auth(&pair).send().await.expect(200);
    let shown = json!({
        "id": pair.id, "name": "ci", "platform": app.platform.id.to_string(), "environment": "production", "permissions": ["VIEW", "MANAGE"],
        "clientId": pair.client_id, "issuerType": "operator_issued", "revocable": true, "status": "ACTIVE",
        "createdAt": "2025-07-21T17:32:28.001Z", "updatedAt": "2025-07-21T17:32:28.001Z", "revokedAt": null,
    });
    let list = format!("/tokens?platform={}&environment=production", app.platform.id);
    let listed = app.v1_get(&list, &manager).await.expect(200).json();
    assert_eq!((&listed["tokens"][0], &listed["totalCount"], &listed["nextCursor"]), (&shown, &json!(2), &Value::Null));
    // Page by page.
    let first = app.v1_get(&format!("{list}&limit=1"), &manager).await.expect(200).json();
    let next = format!("{list}&limit=1&cursor={}", first["nextCursor"].as_str().unwrap());
    let second = app.v1_get(&next, &manager).await.expect(200).json();
    assert_eq!((&second["tokens"][0]["id"], &second["nextCursor"]), (&json!(app.production.id), &Value::Null));
    assert_eq!(app.v1_get(&format!("{list}&name=ci"), &manager).await.expect(200).json()["totalCount"], 1);

    let path = format!("/tokens/{}", pair.id);
    let mut used = shown.clone();
    used["lastUsedAt"] = json!("2025-07-21T17:32:28.001Z");
    used["uses"] = json!({
        "total24h": 1, "total365d": 1, "minutes": [{ "at": "2025-07-21T17:32:00.000Z", "count": 1 }], "days": [{ "at": "2025-07-21", "count": 1 }],
    });
    used["sources"] = json!([
        { "address": "127.0.0.1", "firstAt": "2025-07-21T17:32:28.001Z", "lastAt": "2025-07-21T17:32:28.001Z" },
    ]);
    assert_eq!(app.v1_get(&path, &manager).await.expect(200).json(), used);
    for same in [pair.id.replace(':', "%3A"), pair.id.replace("Token:", ""), pair.id.replace("Token:", "tok_").replace('-', "")] {
        assert_eq!(app.v1_get(&format!("/tokens/{same}"), &manager).await.expect(200).json()["id"], pair.id);
    }
    let revoke = async |id: &str| app.v1("POST", &format!("/tokens/{id}/revoke"), &manager).send_admin().await.expect(200).json();
    let ended = revoke(&pair.id).await;
    app.get(GRID).auth(&pair).send().await.refused(401, "UNAUTHORIZED");
    assert_eq!((&ended["status"], &ended["already"], &ended["revokedAt"]), (&json!("REVOKED"), &json!(false), &shown["createdAt"]));
    let again = revoke(&pair.id).await;
    assert_eq!((&again["already"], &again["receipt"]["seq"]), (&json!(true), &ended["receipt"]["seq"]));
    assert_eq!(app.v1_get(&list, &manager).await.expect(200).json()["totalCount"], 1);
    let all = app.v1_get(&format!("{list}&status=all"), &manager).await.expect(200).json();
    assert_eq!((all["tokens"].as_array().unwrap().len(), &all["totalCount"]), (2, &Value::Null), "ended ones are not counted");
    // A root token too.
    revoke(&app.production.id).await;
    app.get(GRID).auth(&app.production).send().await.refused(401, "UNAUTHORIZED");
    let audit = app.v1_get(&format!("/audit?token={}&limit=1", pair.id), &manager).await.expect(200).json();
    assert_eq!((&audit["entries"][0]["action"], &audit["more"]), (&json!("token.revoke"), &json!(true)));
    let rest = app.v1_get(&format!("/audit?token={}&beforeSeq={}", pair.id, audit["nextBeforeSeq"]), &manager).await.expect(200).json();
    assert_eq!((&rest["entries"][0]["action"], &rest["entries"][0]["environment"]), (&json!("token.create"), &json!("production")));
}

#[tokio::test]
async fn bulk_revokes() {
    let app = TestApp::new().await;
    let manager = app.program("bob", Role::Manager, None).await;
    let (doomed, kept) = (app.token("old", &["VIEW"]).await, app.token("new", &["VIEW"]).await);
    let ask = async |body: &Value| app.v1_post("/tokens:bulkRevoke", &manager, body).await;
    app.clock.advance(Duration::from_millis(1));
    let filter = json!({ "platform": app.platform.id.to_string(), "environment": "sandbox", "namePart": "OLD" });
    let planned = ask(&json!({ "filter": filter, "dryRun": true })).await.expect(200).json();
    let mut exact = filter.clone();
    exact["createdUntil"] = json!("2025-07-21T17:32:28.001Z");
    assert_eq!((&planned["count"], &planned["filter"], &planned["bulkRevoke"]), (&json!(1), &exact, &Value::Null));
    let shown = &planned["tokens"][0];
    assert_eq!((&shown["id"], &shown["lastUsedAt"], &shown["status"]), (&json!(doomed.id), &Value::Null, &json!("ACTIVE")));
    app.get("/verify").auth(&doomed).send().await.expect(200);

    let refused = ask(&json!({ "filter": exact, "expectedCount": 2 })).await.refused(409, "CONFLICT");
    assert_eq!(refused.json()["details"], json!({ "reason": "other_count", "count": 1 }));
    let begun = ask(&json!({ "filter": exact, "expectedCount": 1 })).await.expect(200).json();
    let mut bulk = begun["bulkRevoke"].clone();
    let told = json!({
        "id": bulk["id"], "operator": "bob", "filter": exact, "expectedCount": 1, "endedCount": 0, "status": "RUNNING",
        "createdAt": "2025-07-21T17:32:28.001Z", "overAt": null,
    });
    assert_eq!((&begun["count"], &begun["tokens"], &bulk), (&json!(1), &json!([]), &told));
    let path = format!("/bulk-revokes/{}", bulk["id"].as_str().unwrap());
    while bulk["status"] == "RUNNING" {
        bulk = app.v1_get(&path, &manager).await.expect(200).json();
        tokio::task::yield_now().await;
    }
    assert_eq!((&bulk["status"], &bulk["endedCount"], &bulk["overAt"]), (&json!("FINISHED"), &json!(1), &told["createdAt"]));
    app.get(GRID).auth(&doomed).send().await.refused(401, "UNAUTHORIZED");
    app.get(GRID).auth(&kept).send().await.expect(200);
    assert_eq!(app.v1_get("/bulk-revokes", &manager).await.expect(200).json(), json!({ "bulkRevokes": [bulk] }));
    assert_eq!(app.v1("POST", &format!("{path}/stop"), &manager).send_admin().await.expect(200).json(), bulk);
    let audit = app.v1_get(&format!("/audit?token={}&limit=1", doomed.id), &manager).await.expect(200).json();
    let entry = &audit["entries"][0];
    let id = format!("bulk-{}", bulk["id"].as_str().unwrap());
    assert_eq!((&entry["action"], &entry["actor"], &entry["requestId"]), (&json!("token.revoke"), &json!("operator:bob"), &json!(id)));
}

/// S-06, for operators: who say in the body where the token is to be.
#[tokio::test]
async fn s_06_creates_that_are_repeated() {
    let app = TestApp::new().await;
    let (other, _) = app.another_platform("Other").await;
    let (alice, bob) = (app.program("alice", Role::Manager, None).await, app.program("bob", Role::Manager, None).await);
    let body = good_body("createToken", app.platform.id, 0).unwrap();
    let create = async |by: &str, body: &Value| app.v1("POST", "/tokens", by).header("idempotency-key", "k").json(body).send_admin().await;
    let first = create(&alice, &body).await.expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = create(&alice, &body).await.expect(201);
    assert_eq!((again.header("idempotent-replayed"), again.json()), (Some("true"), first.json()));
    assert_ne!(create(&bob, &body).await.expect(201).json()["id"], first.json()["id"]);
    for (member, value) in [
        ("name", json!("b")),
        ("permissions", json!(["MANAGE"])),
        ("environment", json!("production")),
        ("platform", json!(other.id.to_string())),
    ] {
        let mut another = body.clone();
        another[member] = value;
        let refused = create(&alice, &another).await.refused(409, "CONFLICT");
        assert_eq!(refused.json()["details"]["reason"], "idempotency_key_reused", "{member}");
    }
    app.clock.advance(Duration::from_millis(600_001));
    let late = create(&alice, &body).await.expect(201).json();
    assert_eq!((&late["id"], &late["clientSecret"]), (&first.json()["id"], &Value::Null));
    for keys in [&["a b"][..], &[""], &["a", "a"]] {
        let request = keys.iter().fold(app.v1("POST", "/tokens", &alice), |request, key| request.header("idempotency-key", key));
        assert_eq!(request.json(&body).send_admin().await.expect(400).broken_fields(), ["Idempotency-Key"]);
    }
}

#[tokio::test]
async fn operations() {
    let app = TestApp::new().await;
    let owner = app.program("alice", Role::Owner, None).await;
    let viewer = app.program("viewer", Role::Viewer, Some(app.platform.id)).await;
    let load = async |body: &Value| app.v1("PUT", "/operations", &owner).json(body).send_admin().await.expect(200).json();
    let ask = json!({ "method": "GET", "path": "/a/1" });
    app.v1_get("/operations", &viewer).await.refused(404, "REFERENCE_NOT_FOUND");
    app.v1_post("/operations/explain", &viewer, &ask).await.refused(404, "REFERENCE_NOT_FOUND");
    let body = good_body("loadOperations", app.platform.id, 0).unwrap();
    let one = body["operations"][0].clone();
    let told = app.v1_post("/operations/diff", &viewer, &body).await.expect(200).json();
    assert_eq!(told, json!({ "loaded": false, "receipt": null, "operations": 1, "added": [one], "removed": [], "changed": [] }));
    let loaded = load(&body).await;
    assert_eq!((&loaded["loaded"], &loaded["added"]), (&json!(true), &json!([one])));
    // What is read can be loaded.
    let read = app.v1_get("/operations", &viewer).await.expect(200).json();
    assert_eq!(read, json!({ "loadedAt": "2025-07-21T17:32:28.000Z", "operations": [one] }));
    let same = load(&json!({ "operations": read["operations"] })).await;
    assert_eq!([&same["added"], &same["removed"], &same["changed"]], [&json!([]); 3]);
    assert_eq!(
        app.v1_post("/operations/explain", &viewer, &ask).await.expect(200).json(),
        json!({ "operation": one, "needs": ["VIEW"], "because": "said so" })
    );
    let closed =
        json!({ "operations": [{ "method": "GET", "path": "/a/{b}", "needs": null }, { "method": "PUT", "path": "/c", "needs": [] }] });
    let told = load(&closed).await;
    assert_eq!((&told["changed"][0]["after"]["needs"], &told["added"][0]["needs"]), (&Value::Null, &json!([])));
    let told = app.v1_post("/operations/explain", &viewer, &json!({ "method": "GET", "path": "/x" })).await.expect(200).json();
    assert_eq!(told, json!({ "operation": null, "needs": null, "because": "no operation has this path" }));
}

#[tokio::test]
async fn operators_and_their_tokens() {
    let app = TestApp::new().await;
    let owner = app.program("alice", Role::Owner, None).await;
    let new = json!({ "name": "bob@example.com", "role": "viewer" });
    let made = app.v1_post("/operators", &owner, &new).await.expect(201).json();
    let mut bob = json!({
        "id": made["operator"]["id"], "name": "bob@example.com", "role": "viewer", "platform": null, "status": "invited",
        "createdAt": "2025-07-21T17:32:28.000Z", "disabledAt": null, "invitedUntil": "2025-07-22T17:32:28.000Z",
    });
    assert_eq!(made["operator"], bob);
    let taken = app.v1_post("/operators", &owner, &new).await.refused(409, "CONFLICT");
    assert_eq!((&taken.json()["details"]["reason"], taken.header("x-should-retry")), (&json!("name_taken"), Some("false")));
    let of_one = json!({ "name": "carol", "role": "owner", "platform": app.platform.id.to_string() });
    assert_eq!(app.v1_post("/operators", &owner, &of_one).await.expect(400).broken_fields(), ["role"]);
    let nowhere = json!({ "name": "carol", "role": "viewer", "platform": "019542f5-b3e7-7d02-8000-000000000001" });
    app.v1_post("/operators", &owner, &nowhere).await.refused(404, "REFERENCE_NOT_FOUND");
    let all = app.v1_get("/operators", &owner).await.expect(200).json();
    assert_eq!((&all["operators"][0]["name"], &all["operators"][1]), (&json!("alice"), &bob));
    let role = app.v1_post("/operators/bob@example.com/role", &owner, &json!({ "role": "manager" })).await.expect(200).json();
    bob["role"] = json!("manager");
    assert_eq!(role, json!({ "operator": bob }));

    let tokens = "/operators/bob@example.com/tokens";
    let made = app.v1_post(tokens, &owner, &json!({ "name": "ci", "expiresAt": "2025-08-01T00:00:00+02:00" })).await.expect(201).json();
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let shown = json!({
        "id": made["id"], "name": "ci", "createdAt": "2025-07-21T17:32:28.000Z", "expiresAt": "2025-07-31T22:00:00.000Z", "revokedAt": null,
    });
    assert_eq!(app.v1_get(tokens, &bearer).await.expect(200).json(), json!({ "operatorTokens": [shown] }));
    assert_eq!(app.v1_get("/operator", &bearer).await.expect(200).json()["role"], "manager");
    // Programs make tokens of their own operator that end when theirs does, and end them, this one too.
    for until in [Value::Null, json!("2025-07-31T22:00:00.001Z")] {
        let longer = app.v1_post(tokens, &bearer, &json!({ "name": "own", "expiresAt": until })).await.expect(400);
        assert_eq!(longer.broken_fields(), ["expiresAt"]);
    }
    let own = app.v1_post(tokens, &bearer, &json!({ "name": "own", "expiresAt": "2025-07-31T22:00:00Z" })).await.expect(201).json();
    assert_eq!(own["expiresAt"], "2025-07-31T22:00:00.000Z");
    for id in [&own["id"], &own["id"], &made["id"]] {
        let ended = app.v1("POST", &format!("/operator-tokens/{}/revoke", id.as_str().unwrap()), &bearer).send_admin().await.expect(200);
        assert_eq!((&ended.json()["id"], &ended.json()["revokedAt"]), (id, &json!("2025-07-21T17:32:28.000Z")));
    }
    app.v1_get("/operator", &bearer).await.refused(401, "UNAUTHORIZED");

    let change =
        async |what: &str| app.v1("POST", &format!("/operators/bob@example.com/{what}"), &owner).send_admin().await.expect(200).json();
    assert_eq!(change("disable").await["operator"]["status"], "disabled");
    assert_eq!(change("enable").await["operator"], bob);
    app.clock.advance(Duration::from_secs(1));
    let reset = change("reset").await;
    bob["invitedUntil"] = json!("2025-07-22T17:32:29.000Z");
    assert_eq!(reset["operator"], bob);
    let audit = app.v1_get("/audit?actor=operator:alice&action=operator.change", &owner).await.expect(200).json();
    let details: Vec<_> = audit["entries"].as_array().unwrap().iter().map(|entry| entry["detail"].clone()).collect();
    let of = |name: &str, value: Value| json!({ "operator": "bob@example.com", name: value });
    assert_eq!(
        details,
        [of("reset", json!(true)), of("disabled", json!(false)), of("disabled", json!(true)), of("role", json!("manager"))]
    );
}

/// What stands in the way is no defect of the request: a 409 that says which it is, and that repeating it helps nobody.
#[tokio::test]
async fn what_cannot_be_changed_is_a_conflict() {
    let app = TestApp::new().await;
    let owner = app.program("alice", Role::Owner, None).await;
    let bob = app.program("bob", Role::Viewer, None).await;
    let conflict = async |path: &str, body: Value, reason: &str| {
        let refused = app.v1_post(path, &owner, &body).await.refused(409, "CONFLICT");
        assert_eq!(
            (refused.json()["details"]["reason"].as_str(), refused.header("x-should-retry")),
            (Some(reason), Some("false")),
            "{refused:?}"
        );
    };
    conflict("/operators/alice/disable", json!({}), "last_owner").await;
    conflict("/operators/alice/role", json!({ "role": "viewer" }), "last_owner").await;
    database::edit(app.directory.path(), "UPDATE account SET role = 'owner' WHERE name = 'bob'");
    app.v1_get("/operator", &bob).await.refused(401, "UNAUTHORIZED");
    conflict("/operators/bob/role", json!({ "role": "viewer" }), "edited").await;
    conflict("/operators/bob/tokens", json!({ "name": "n" }), "edited").await;
    let told = app.v1_get("/operators/bob", &owner).await.expect(200).json();
    assert_eq!((&told["operator"]["status"], &told["operator"]["invitedUntil"]), (&json!("broken"), &Value::Null));
    let reset = app.v1("POST", "/operators/bob/reset", &owner).send_admin().await.expect(200).json();
    assert_eq!((&reset["operator"]["role"], &reset["operator"]["status"]), (&json!("viewer"), &json!("invited")));
    app.v1_get("/operator", &bob).await.expect(200);
    assert_eq!(START, 1_753_119_148_000, "the moments above");
}
