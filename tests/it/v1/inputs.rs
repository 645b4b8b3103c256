//! Inputs that are wrong: 4xx in the envelope, and nothing is done.

use countersign::domain::Role;
use serde_json::{Value, json};

use super::{Documented, documented, good_body};
use crate::support::{Answer, TestApp};

/// The path with something of each kind that is there.
async fn real_path(app: &TestApp, operation: &Documented) -> String {
    let path = operation.path.replace("{platform}", &app.platform.id.to_string()).replace("{token}", &app.sandbox.id);
    let id = if path.contains("{id}") { app.operator_token("viewer", None).await.0.0.to_string() } else { String::new() };
    let bulk = if path.contains("{bulk}") { app.bulk_revoke().await } else { String::new() };
    let key = if path.contains("{key}") { app.key().await.to_string() } else { String::new() };
    path.replace("{name}", "viewer").replace("{id}", &id).replace("{bulk}", &bulk).replace("{key}", &key)
}

#[track_caller]
fn refused_as(answer: &Answer, status: u16, field: &str) {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(answer.broken_fields(), [field], "{answer:?}");
}

/// Values of other types than this one.
fn wrong(value: &Value) -> Vec<Value> {
    let all = [json!(7), json!(true), json!("?"), json!([7]), json!([null]), json!({}), json!(["?", "?"]), json!(1e300)];
    let same = |other: &Value| match other {
        Value::String(_) => value.is_string(),
        Value::Bool(_) => value.is_boolean(),
        Value::Object(_) => value.is_object(),
        other => *other == 7 && value.is_number(),
    };
    all.into_iter().filter(|other| !same(other)).collect()
}

/// The text of an object with one member twice.
fn twice(body: &Value, member: &str) -> String {
    format!("{{{}:{},{}", json!(member), body[member], &body.to_string()[1..])
}

#[tokio::test]
async fn bodies_are_as_the_document_has_them_or_refused() {
    let app = TestApp::new().await;
    let owner = app.program("owner", Role::Owner, None).await;
    app.program("viewer", Role::Viewer, None).await;
    let mut checked = 0;
    for (n, operation) in (0..).zip(documented()) {
        let Some(good) = good_body(operation.id, app.platform.id, n) else {
            assert!(operation.members.is_empty(), "{operation:?}");
            continue;
        };
        let path = real_path(&app, &operation).await;
        let before = app.place().await;
        let send = async |body: Vec<u8>| {
            let request = app.v1(&operation.method, &path, &owner).header("content-type", "application/json");
            request.body(body).send_admin().await
        };
        let members = good.as_object().unwrap();
        let names: Vec<_> = operation.members.iter().map(|(name, _)| *name).collect();
        assert!(members.keys().all(|name| names.contains(&name.as_str())) && members.len() == names.len(), "{operation:?}");
        for (name, required) in &operation.members {
            for value in wrong(&members[*name]) {
                let mut body = good.clone();
                body[*name] = value;
                let answer = send(body.to_string().into()).await.refused(400, "INVALID_INPUT");
                assert!(!answer.broken_fields().is_empty(), "{answer:?}");
                checked += 1;
            }
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(*name);
            if *required {
                refused_as(&send(body.to_string().into()).await, 400, "body");
                body[*name] = Value::Null;
                refused_as(&send(body.to_string().into()).await, 400, "body");
            }
            refused_as(&send(twice(&good, name).into()).await, 400, "body");
        }
        let mut more = good.clone();
        more["more"] = json!(1);
        // What a program that takes structs by position would read as the same.
        let values = Value::Array(members.values().cloned().collect());
        let (text, deep) = (good.to_string(), "[".repeat(10_000));
        let bodies = [more.to_string(), values.to_string(), format!("{text}x"), format!("{text}{text}"), text[1..].to_owned(), deep];
        let odd = ["", "null", "[]", "\"x\"", "7", "{", "{\"\u{fffd}\":1}", "{\"a\":NaN}"].map(str::to_owned);
        for body in bodies.into_iter().chain(odd) {
            refused_as(&send(body.into()).await, 400, "body");
        }
        // What may be left out may not all be left out.
        let missing = if operation.members.iter().any(|(_, required)| *required) { "body" } else { "expectedCount" };
        refused_as(&send(b"{}".to_vec()).await, 400, missing);
        refused_as(&send(b"{\"name\":\"\xff\"}".to_vec()).await, 400, "body");
        let most = if operation.path.starts_with("/operations") && operation.id != "explainOperation" { 8 << 20 } else { 64 << 10 };
        refused_as(&send(vec![b' '; most + 1]).await, 413, "body");
        for (name, value) in [("content-type", "text/plain"), ("content-type", "application/json; charset=utf-16"), ("x-none", "")] {
            let answer = app.v1(&operation.method, &path, &owner).header(name, value).body(text.clone()).send_admin().await;
            refused_as(&answer, 415, "Content-Type");
        }
        let packed = app.v1(&operation.method, &path, &owner).header("content-encoding", "gzip").json(&good).send_admin().await;
        refused_as(&packed, 415, "Content-Encoding");
        assert_eq!(app.place().await, before, "{operation:?}");
        // It was the change alone.
        send(text.into()).await.expect(operation.ok);
    }
    assert!(checked > 80, "{checked}");
}

#[tokio::test]
async fn values_are_what_they_can_be_or_refused() {
    let app = TestApp::new().await;
    let owner = app.program("owner", Role::Owner, None).await;
    let viewer = app.program("viewer", Role::Viewer, Some(app.platform.id)).await;
    let before = app.place().await;
    let platform = app.platform.id;
    let long = "x".repeat(256);
    for (path, id, member, values) in [
        ("/platforms", "createPlatform", "name", vec![json!(""), json!(" "), json!("a\nb"), json!(long)]),
        ("/tokens", "createToken", "name", vec![json!(""), json!("a\u{0}b"), json!(long)]),
        ("/tokens", "createToken", "platform", vec![json!(""), json!("x"), json!(platform.to_string().to_uppercase())]),
        ("/tokens", "createToken", "environment", vec![json!(""), json!("Sandbox"), json!("sandbox ")]),
        // One name is one permission, whatever else reads lists of them.
        (
            "/tokens",
            "createToken",
            "permissions",
            vec![json!([]), json!(["view"]), json!(["VIEW,MANAGE"]), json!(["VIEW", ""]), json!([""])],
        ),
        ("/tokens:bulkRevoke", "bulkRevokeTokens", "expectedCount", vec![Value::Null]),
        ("/keys/1/retire", "retireKey", "expectedCount", vec![Value::Null]),
        ("/keys/1/retire", "retireKey", "seq", vec![Value::Null]),
        ("/audit/prove", "proveAuditEntry", "seq", vec![json!(0), json!(1_000_000), json!(u64::MAX)]),
        ("/audit/prove", "proveAuditEntry", "heads", vec![json!([]), json!(vec![""; 101])]),
        ("/audit/prune", "pruneAudit", "heads", vec![json!(vec![""; 101])]),
        ("/audit/prune", "pruneAudit", "before", vec![json!(""), json!("2026-01-01"), json!("2035-01-01T00:00:00Z")]),
        ("/operators", "createOperator", "name", vec![json!(""), json!("A"), json!("uid-0"), json!("a b"), json!("a".repeat(65))]),
        ("/operators", "createOperator", "role", vec![json!(""), json!("Owner"), json!("root"), json!("owner")]),
        ("/operators", "createOperator", "platform", vec![json!(""), json!("x")]),
        ("/operators/owner/role", "setOperatorRole", "role", vec![json!(""), json!("OWNER")]),
        ("/operators/owner/tokens", "createOperatorToken", "name", vec![json!(""), json!(long)]),
        (
            "/operators/owner/tokens",
            "createOperatorToken",
            "expiresAt",
            vec![json!(""), json!("tomorrow"), json!("2020-01-01T00:00:00Z"), json!("2025-07-21T17:32:28Z"), json!("2035-13-01T00:00:00Z")],
        ),
    ] {
        for value in values {
            let mut body = good_body(id, platform, 0).unwrap();
            body[member] = value;
            refused_as(&app.v1_post(path, &owner, &body).await, 400, member);
        }
    }
    for (member, value) in [
        ("platform", json!("x")),
        ("platform", Value::Null),
        ("environment", json!("Sandbox")),
        ("environment", Value::Null),
        ("namePart", json!("a\nb")),
        ("permission", json!("view")),
        ("usedBefore", json!("2025-01-01T00:00:00Z")),
        ("usedSince", json!("yesterday")),
        ("createdSince", json!("")),
        ("createdUntil", json!("2025-13-01T00:00:00Z")),
    ] {
        let mut body = good_body("bulkRevokeTokens", platform, 0).unwrap();
        body["filter"][member] = value;
        // Null is not the same as leaving it out: who sends it means something, and would end more.
        let field = if body["filter"][member].is_null() { "body".to_owned() } else { format!("filter.{member}") };
        let answer = app.v1_post("/tokens:bulkRevoke", &owner, &body).await;
        assert_eq!(answer.status.as_u16(), 400, "{answer:?}");
        assert!(answer.broken_fields().contains(&field), "{member}: {answer:?}");
    }
    let mut both = good_body("bulkRevokeTokens", platform, 0).unwrap();
    both["dryRun"] = json!(true);
    refused_as(&app.v1_post("/tokens:bulkRevoke", &owner, &both).await, 400, "expectedCount");
    let both = json!({ "dryRun": true, "expectedCount": 0 });
    refused_as(&app.v1_post("/keys/1/retire", &owner, &both).await, 400, "expectedCount");
    let both = json!({ "dryRun": true, "seq": 0 });
    refused_as(&app.v1_post("/keys/1/retire", &owner, &both).await, 400, "seq");
    // Whoever may look may ask what loading would change: no more than could be loaded.
    let many = |count: usize| json!({ "operations": (0..count).map(|n| json!({ "method": "GET", "path": format!("/p{n}"), "needs": [] })).collect::<Vec<_>>() });
    app.v1_post("/operations/diff", &viewer, &many(20_000)).await.expect(200);
    refused_as(&app.v1_post("/operations/diff", &viewer, &many(20_001)).await, 400, "operations");
    let operation = |member: &str, value: Value| {
        let mut body = good_body("loadOperations", platform, 0).unwrap();
        body["operations"][0][member] = value;
        body
    };
    for (member, value) in [
        ("method", json!("get")),
        ("method", json!("")),
        ("method", json!("GET ")),
        ("needs", json!(["view"])),
        ("needs", json!(["any"])),
        ("needs", json!(["nobody"])),
        ("needs", json!([""])),
        ("needs", json!(["VIEW,MANAGE"])),
    ] {
        let body = operation(member, value);
        refused_as(&app.v1("PUT", "/operations", &owner).json(&body).send_admin().await, 400, &format!("operations[0].{member}"));
        refused_as(&app.v1_post("/operations/diff", &owner, &body).await, 400, &format!("operations[0].{member}"));
    }
    for path in ["", "a", "//", "/a/../b", "/a?b", "/%61", "/{", "/{}", "/{a}{b}"] {
        refused_as(&app.v1_post("/operations/diff", &owner, &operation("path", json!(path))).await, 400, &format!("GET {path}"));
    }
    let one = operation("path", json!("/a"))["operations"][0].clone();
    refused_as(&app.v1_post("/operations/diff", &owner, &json!({ "operations": [one, one] })).await, 400, "GET /a");
    // An operation that says nothing of what it needs was forgotten; null says that it is nobody's.
    let mut silent = operation("needs", Value::Null);
    app.v1_post("/operations/diff", &owner, &silent).await.expect(200);
    silent["operations"][0].as_object_mut().unwrap().remove("needs");
    refused_as(&app.v1_post("/operations/diff", &owner, &silent).await, 400, "body");
    let by_position = json!({ "operations": [["GET", "/a", "", null, ""]] });
    refused_as(&app.v1_post("/operations/diff", &owner, &by_position).await, 400, "body");
    assert_eq!(app.place().await, before);
    // What is asked about is no path at all: that is an answer.
    app.v1("PUT", "/operations", &owner).json(&good_body("loadOperations", platform, 0).unwrap()).send_admin().await.expect(200);
    for path in ["", "é", "*", "a", "/a/../b", "/%", "/\u{0}"] {
        let told = app.v1_post("/operations/explain", &owner, &json!({ "method": "GET", "path": path })).await.expect(200).json();
        assert_eq!((&told["operation"], &told["needs"]), (&Value::Null, &Value::Null), "{path}");
    }
}

#[tokio::test]
async fn queries_are_understood_whole_or_refused() {
    let app = TestApp::new().await;
    let owner = app.program("owner", Role::Owner, None).await;
    app.program("viewer", Role::Viewer, None).await;
    let before = app.place().await;
    for operation in documented() {
        let path = real_path(&app, &operation).await;
        let before = app.place().await;
        let mut request = app.v1(&operation.method, &format!("{path}?limt=1"), &owner);
        if let Some(body) = good_body(operation.id, app.platform.id, 1) {
            request = request.json(&body);
        }
        let answer = request.send_admin().await.refused(400, "INVALID_INPUT");
        assert!(answer.broken_fields().contains(&"limt".to_owned()), "{answer:?}");
        assert_eq!(app.place().await, before, "{operation:?}");
    }
    let tokens = format!("/tokens?environment=sandbox&platform={}", app.platform.id);
    let (tokens, audit, verify, export) = (tokens.as_str(), "/audit?", "/audit/verify?", "/audit/export?");
    for (path, more, field) in [
        ("/tokens?", "environment=sandbox", "platform"),
        ("/tokens?", &tokens["/tokens?environment=sandbox&".len()..], "environment"),
        (tokens, "&environment=sandbox", "environment"),
        (tokens, "&status=REVOKED", "status"),
        (tokens, "&status=", "status"),
        (tokens, "&limit=0", "limit"),
        (tokens, "&limit=101", "limit"),
        (tokens, "&name=", "name"),
        (tokens, "&name=%FF", "name"),
        (tokens, "&cursor=x", "cursor"),
        (tokens, "&order=oldest&cursor=x", "cursor"),
        (tokens, "&order=name", "order"),
        (tokens, "&order=newest&name=a", "name"),
        (tokens, "&status=revoked&name=a", "name"),
        ("/tokens?", "name=a", "name"),
        ("/tokens?", "namePart=", "namePart"),
        ("/tokens?", "namePart=%00", "namePart"),
        ("/tokens?", "permission=view", "permission"),
        ("/tokens?", "permission=VIEW,MANAGE", "permission"),
        ("/tokens?", "neverUsed=false", "neverUsed"),
        ("/tokens?", "neverUsed=", "neverUsed"),
        ("/tokens?", "usedBefore=90d", "usedBefore"),
        ("/tokens?", "usedSince=2025-07-21", "usedSince"),
        ("/tokens?", "neverUsed=true&usedSince=2025-07-21T17:32:28Z", "usedSince"),
        ("/tokens?", "usedBefore=2025-07-21T17:32:28Z&neverUsed=true", "usedBefore"),
        ("/tokens?", "createdSince=x", "createdSince"),
        ("/tokens?", "createdUntil=2025-13-01T00:00:00Z", "createdUntil"),
        ("/tokens?", "cursor=x", "cursor"),
        ("/tokens?", "limit=0", "limit"),
        (audit, "platform=x", "platform"),
        (audit, "token=x", "token"),
        (audit, "action=x", "action"),
        (audit, "actor=alice", "actor"),
        (audit, "after=x", "after"),
        (audit, "before=yesterday", "before"),
        (audit, "beforeSeq=x", "beforeSeq"),
        (audit, "beforeSeq=%2B5", "beforeSeq"),
        (audit, "beforeSeq=-1", "beforeSeq"),
        (audit, "beforeSeq=18446744073709551616", "beforeSeq"),
        (audit, "limit=x", "limit"),
        (verify, "after=x", "after"),
        (verify, "after=-1", "after"),
        (verify, "after=18446744073709551616", "after"),
        (verify, "after=18446744073709551615", "after"),
        (verify, "limit=0", "limit"),
        (verify, "limit=200001", "limit"),
        (export, "platform=x", "platform"),
        (export, "afterSeq=-1", "afterSeq"),
        (export, "after=x", "after"),
        (export, "before=yesterday", "before"),
    ] {
        refused_as(&app.v1_get(&format!("{path}{more}"), &owner).await, 400, field);
    }
    for seq in ["0", "18446744073709551615"] {
        app.v1_get(&format!("/audit?beforeSeq={seq}"), &owner).await.expect(200);
    }
    assert!(app.place().await > before);
}

/// What could be nobody's id is answered as what is nobody's.
#[tokio::test]
async fn paths_with_what_is_no_id_are_not_there() {
    let app = TestApp::new().await;
    let owner = app.program("owner", Role::Owner, None).await;
    app.program("viewer", Role::Viewer, None).await;
    let uuid = "019542f5-b3e7-7d02-8000-000000000001";
    let (long, simple, upper) = ("x".repeat(3000), uuid.replace('-', ""), "019542F5-B3E7-7D02-8000-000000000001");
    for operation in documented().into_iter().filter(|operation| operation.path.contains('{')) {
        let segment = operation.path.split('/').find(|segment| segment.starts_with('{')).unwrap();
        let missing = match segment {
            "{name}" => "nobody",
            "{key}" => "9",
            _ => uuid,
        };
        let body = good_body(operation.id, app.platform.id, 1);
        let ask = async |segment_value: &str| {
            let request = app.v1(&operation.method, &operation.path.replace(segment, segment_value), &owner);
            let request = if let Some(body) = &body { request.json(body) } else { request };
            request.send_admin().await
        };
        let not_there = ask(missing).await.expect(404);
        // Ids of one kind are no ids of another, and each has the texts that the document names.
        let real = [app.sandbox.id.clone(), app.platform.id.to_string(), "viewer".to_owned()];
        let of_this = |id: &&String| match segment {
            "{token}" => id.starts_with("Token:"),
            "{platform}" => id.starts_with("Platform:"),
            _ => **id == "viewer",
        };
        let others = real.iter().filter(|id| !of_this(id)).map(String::as_str);
        let odd = [
            "+1",
            "01",
            "%31",
            "1.0",
            "4294967297",
            "%00",
            "..",
            "%2e%2e",
            "..%2Fx",
            "%",
            "%zz",
            "%F0%9F%98%80",
            "'%20OR%201=1",
            "*",
            "-",
            "VIEWER",
            "%76iewer",
            &long,
            upper,
        ];
        let forms = [format!("urn:uuid:{uuid}"), format!("%7B{uuid}%7D"), format!("{uuid}%20"), format!("Platform%3A{uuid}")];
        for bad in others.chain(odd).chain(forms.iter().map(String::as_str)).chain(if segment == "{token}" { None } else { Some(&*simple) })
        {
            let answer = ask(bad).await;
            assert_eq!((answer.status, &answer.body), (not_there.status, &not_there.body), "{bad}: {answer:?}");
        }
    }
}

/// Names of operators may be words that paths are made of: each path is about the operator that it names.
#[tokio::test]
async fn an_operator_may_be_called_as_a_part_of_a_path() {
    let app = TestApp::new().await;
    let owner = app.program("owner", Role::Owner, None).await;
    let names = ["operators", "disable", "tokens", "a@b.example"];
    for name in names {
        app.program(name, Role::Viewer, None).await;
    }
    app.v1("POST", "/operators/operators/disable", &owner).send_admin().await.expect(200);
    let status = async |name: &str| app.v1_get(&format!("/operators/{name}"), &owner).await.expect(200).json()["operator"].clone();
    for name in names {
        let told = status(name).await;
        assert_eq!(told["name"], name);
        assert_eq!(told["disabledAt"].is_null(), name != "operators", "{told}");
    }
    assert_eq!(status("a%40b.example").await["name"], "a@b.example");
    let made = app.v1_post("/operators/operators/tokens", &owner, &json!({ "name": "n" })).await.expect(201).json();
    let listed = app.v1_get("/operators/operators/tokens", &owner).await.expect(200).json();
    assert!(listed["operatorTokens"].as_array().unwrap().iter().any(|token| token["id"] == made["id"]), "{listed}");
}
