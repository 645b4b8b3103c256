//! Which servers there are.

use std::time::Duration;

use countersign::{
    authority::{Clock as _, Database, restore},
    domain::Role,
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::{
    keys::write_keys,
    support::{TestApp, database, operator},
};

/// What is told of a node, by its name.
fn node(told: &Value, id: &str) -> Value {
    told["nodes"].as_array().unwrap().iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("no {id}: {told}")).clone()
}

#[tokio::test]
async fn who_answers_from_memory_and_how_far_each_has_followed() {
    let mut app = TestApp::new().await;
    let viewer = app.program("viewer", Role::Viewer, None).await;
    let first = app.v1_get("/nodes", &viewer).await.expect(200).json();
    let [alone] = first["nodes"].as_array().unwrap().as_slice() else { panic!("{first}") };
    let (last, id) = (app.place().await, alone["id"].as_str().unwrap().to_owned());
    assert_eq!(
        (&first["last"], &alone["here"], &alone["suspected"], &alone["staleMillis"]),
        (&json!(last), &json!(true), &json!(false), &json!(0))
    );
    // On PostgreSQL others wait for a fifth more than it believes its memory, and for clocks.
    assert_eq!(alone["leaseMillis"], if database::postgres().is_some() { 1210 } else { 1000 });
    assert!(alone["followed"].as_u64().unwrap() < last && alone["behind"].as_u64().unwrap() > 0, "{first}");
    assert_eq!(alone["followed"].as_u64().unwrap() + alone["behind"].as_u64().unwrap(), last);
    app.authority.follow().await.unwrap();
    let told = app.v1_get("/nodes", &viewer).await.expect(200).json();
    assert_eq!((&node(&told, &id)["followed"], &node(&told, &id)["behind"]), (&json!(last), &json!(0)));
    let server = json!({ "followed": last, "leaseHolds": true, "stale": false, "liveTokens": 2, "journalFailing": false, "integrityFailures": 0, "keysLacking": 0 });
    assert_eq!(told["server"], server);

    // Another process, which is asked from now on.
    let before = app.try_replace(|_| {}).await.unwrap();
    app.token("by-the-other", &["VIEW"]).await;
    app.authority.follow().await.unwrap();
    let told = app.v1_get("/nodes", &viewer).await.expect(200).json();
    let (place, other) = (app.place().await, node(&told, &id));
    assert_eq!((told["nodes"].as_array().unwrap().len(), &other["here"]), (2, &json!(false)));
    let names: Vec<_> = told["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && told["last"] == place, "{told}");
    let here = told["nodes"].as_array().unwrap().iter().find(|node| node["here"] == true).unwrap();
    assert_eq!((&here["behind"], &told["server"]["liveTokens"]), (&json!(0), &json!(3)));
    // On SQLite none says how far it has followed.
    let behind = if database::postgres().is_some() { json!(place - last) } else { Value::Null };
    assert_eq!(other["behind"], behind, "{told}");

    // It is seen when it was, by the clock of who looks; and its lease is over.
    app.clock.advance(std::time::Duration::from_secs(5));
    let told = app.v1_get("/nodes", &viewer).await.expect(200).json();
    assert_eq!(told["server"]["leaseHolds"], false);
    assert!(node(&told, &id)["seenAt"].as_str().unwrap() <= app.clock.wall().to_string().as_str(), "{told}");
    drop(before);
    if database::postgres().is_none() {
        // Its lock went with it.
        let told = app.v1_get("/nodes", &viewer).await.expect(200).json();
        assert_eq!(told["nodes"].as_array().unwrap().len(), 1, "{told}");
        return;
    }
    // Its row stays, until another one has taken it for gone.
    let silent = format!("UPDATE node SET seen_at = seen_at - 90000, suspect = 'somebody', stale = 300000 WHERE id = '{id}'");
    assert_eq!(database::edit(app.directory.path(), &silent), 1);
    let gone = node(&app.v1_get("/nodes", &viewer).await.expect(200).json(), &id);
    assert_eq!((&gone["suspected"], &gone["staleMillis"]), (&json!(true), &json!(300_000)));
    assert!(gone["seenAt"].as_str().unwrap() <= app.clock.wall().plus_millis(-90_000).to_string().as_str(), "{gone}");
}

#[tokio::test]
async fn keys_as_the_server_that_is_asked_goes_by_them() {
    let mut app = TestApp::new().await;
    app.token("ci", &["VIEW"]).await;
    let viewer = app.program("viewer", Role::Viewer, None).await;
    let key = |id: u32, state: &str, tokens: u64| json!({ "id": id, "state": state, "createdAt": null, "retiredAt": null, "liveTokens": tokens, "platforms": u64::from(tokens > 0), "operations": 0 });
    let first = app.v1_get("/keys", &viewer).await.expect(200).json();
    assert!(first["keys"][0]["createdAt"].is_string(), "{first}");
    // A server that has a second key, and the one that is asked, which has not.
    let file = app.directory.path().join("other.json");
    std::fs::copy(app.directory.path().join("keys.json"), &file).unwrap();
    write_keys(&file, &[(1, "verify-only")], 2);
    let before = app.try_replace(|options| options.keys = file.into()).await.unwrap();
    let told = app.v1_get("/keys", &viewer).await.expect(200).json();
    assert_eq!(told, json!({ "keys": [key(1, "verify-only", 3), key(2, "active", 0)] }));
    app.token("under-the-second", &["VIEW"]).await;
    let told = before.list_keys(&operator()).await.unwrap();
    let states: Vec<_> = told.iter().map(|key| (key.id, key.state, key.sealing.tokens)).collect();
    assert_eq!(states, [(1, "active", 3), (2, "missing", 1)]);

    let owner = app.program("owner", Role::Owner, None).await;
    app.v1_post("/keys/1/retire", &owner, &json!({ "expectedCount": 3, "seq": app.place().await })).await.expect(200);
    let told = app.v1_get("/keys", &viewer).await.expect(200).json();
    assert_eq!((&told["keys"][0]["state"], &told["keys"][0]["liveTokens"]), (&json!("retired"), &json!(0)));
    assert_eq!(told["keys"][0]["retiredAt"], app.clock.wall().to_string());
    assert_eq!((&told["keys"][1]["state"], &told["keys"][1]["liveTokens"]), (&json!("active"), &json!(1)));
}

/// What the server sends is a backup, of which the log says who has taken it before it is theirs; one at a time.
#[tokio::test]
async fn a_backup_is_taken_by_an_owner() {
    let app = TestApp::new().await;
    let owner = app.program("owner", Role::Owner, None).await;
    let ci = app.token("ci", &["VIEW"]).await;
    let last = app.place().await;
    let answer = app.v1("POST", "/backup", &owner).send_admin().await.expect(200);
    assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
    let summary: Value = serde_json::from_str(answer.header("countersign-backup").unwrap()).unwrap();
    assert_eq!((&summary["seq"], &summary["edited"], &summary["finished"]), (&json!(last), &json!(0), &json!(true)));
    let told = app.v1_get("/audit?action=backup", &owner).await.expect(200).json()["entries"][0].clone();
    assert_eq!((&told["actor"], &told["detail"]), (&json!("operator:owner"), &json!({ "rows": summary["rows"], "seq": last })));
    assert_eq!(app.place().await, last + 1);

    let directory = tempfile::tempdir().unwrap();
    let (file, data) = (directory.path().join("backup"), directory.path().join("data"));
    std::fs::write(&file, &answer.body).unwrap();
    std::fs::create_dir(&data).unwrap();
    let keys = app.directory.path().join("keys.json").into();
    let restored = restore(&file, &Database::Sqlite(data.clone()), &keys, |_, _| {}).await.unwrap();
    assert_eq!((json!(restored.rows()), restored.edited), (summary["rows"].clone(), 0));
    let connection = rusqlite::Connection::open(data.join("countersign.db")).unwrap();
    let names: u64 = connection.query_row("SELECT count(*) FROM token WHERE name = 'ci'", [], |row| row.get(0)).unwrap();
    assert_eq!(names, 1, "{}", ci.id);

    let held = app.authority.take_backup(&operator()).await.unwrap();
    app.v1("POST", "/backup", &owner).send_admin().await.refused(429, "RATE_LIMITED");
    drop(held);
    // Whatever is in it, what is told of it fits in a head: a name, say, that no operator can have.
    app.program("viewer", Role::Viewer, None).await;
    let ours = "é\n\"".repeat(500);
    database::edit(app.directory.path(), &format!("UPDATE account SET name = '{ours}' WHERE name = 'viewer'"));
    let taken = app.v1("POST", "/backup", &owner).send_admin().await.expect(200);
    let summary: Value = serde_json::from_str(taken.header("countersign-backup").unwrap()).unwrap();
    let named = summary["editedRows"][0].as_str().unwrap();
    assert!(named.starts_with("operator \\u{e9}\\n\\\"") && named.len() == 100, "{summary}");
}

/// Whoever takes it byte by byte does not keep others from theirs for ever.
#[tokio::test]
async fn a_backup_is_not_sent_for_ever() {
    let app = TestApp::new().await;
    let owner = app.program("owner", Role::Owner, None).await;
    for n in 0..300 {
        app.token(&format!("token-{n}"), &["VIEW"]).await;
    }
    let mut body = app.v1("POST", "/backup", &owner).stream_admin().await.into_body();
    body.frame().await.unwrap().unwrap();
    app.clock.advance(Duration::from_secs(3600) + Duration::from_millis(1));
    assert!(body.frame().await.unwrap().is_err());
    drop(body);
    app.v1("POST", "/backup", &owner).send_admin().await.expect(200);
}

/// Looked at, counted, done; and not by whoever counts otherwise.
#[tokio::test]
async fn a_key_is_retired_by_the_count_that_was_looked_at() {
    let app = TestApp::new().await;
    let owner = app.program("owner", Role::Owner, None).await;
    let ci = app.token("ci", &["VIEW"]).await;
    write_keys(&app.directory.path().join("keys.json"), &[(1, "verify-only")], 2);
    app.authority.reload_keys().await.unwrap();
    let new = app.token("new", &["VIEW"]).await;
    let old = [&app.sandbox, &app.production, &ci];
    let mut ids = old.map(|pair| pair.id.as_str());
    ids.sort_unstable();
    let told =
        |json: &Value| json["tokens"].as_array().unwrap().iter().map(|token| token["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();

    let before = app.place().await;
    let planned = app.v1_post("/keys/1/retire", &owner, &json!({ "dryRun": true })).await.expect(200).json();
    let platforms = json!([{ "id": app.platform.id.to_string(), "liveTokens": 3 }]);
    assert_eq!(
        (&planned["key"], &planned["count"], &planned["platforms"], &planned["retired"]),
        (&json!(1), &json!(3), &platforms, &Value::Null)
    );
    assert_eq!(told(&planned), ids, "oldest first");
    assert_eq!(planned["seq"], before);
    for (key, expected, status, reason) in
        [(1, 2, 409, json!("other_count")), (1, 0, 409, json!("other_count")), (2, 1, 409, json!("key_active")), (9, 0, 404, Value::Null)]
    {
        let asked = json!({ "expectedCount": expected, "seq": before });
        let refused = app.v1_post(&format!("/keys/{key}/retire"), &owner, &asked).await.expect(status).json();
        assert_eq!(refused["details"]["reason"], reason, "{refused}");
        assert_eq!(refused["details"]["count"], if reason == "other_count" { json!(3) } else { Value::Null }, "{refused}");
    }
    // A place that is not yet, and one behind which a token was made.
    let ahead = app.v1_post("/keys/1/retire", &owner, &json!({ "expectedCount": 3, "seq": before + 1 })).await;
    assert_eq!(ahead.expect(400).broken_fields(), ["seq"]);
    let used = app.v1_post("/keys/1/retire", &owner, &json!({ "expectedCount": 3, "seq": 0 })).await.expect(409).json();
    assert_eq!(used["details"]["reason"], "key_used");
    assert_eq!(app.place().await, before);
    for pair in old {
        app.get("/verify").auth(pair).send().await.expect(200);
    }
    // Those that were used move to the new key with the next flush; so they are used no more in this test.
    let retired = app.v1_post("/keys/1/retire", &owner, &json!({ "expectedCount": 3, "seq": before })).await.expect(200).json();
    assert_eq!(told(&retired), ids);
    assert!(retired["tokens"].as_array().unwrap().iter().all(|token| token["status"] == "REVOKED"), "{retired}");
    let done = &retired["retired"];
    assert_eq!((&done["endedCount"], &done["leftCount"], &done["receipt"]["boundMillis"]), (&json!(3), &json!(0), &json!(0)));
    for pair in old {
        app.get("/verify").auth(pair).send().await.refused(401, "UNAUTHORIZED");
    }
    app.get("/verify").auth(&new).send().await.expect(200);
    let entries = async |action: &str| {
        let listed = app.v1_get(&format!("/audit?action={action}&actor=operator:owner"), &owner).await.expect(200).json();
        listed["entries"].as_array().unwrap().clone()
    };
    let mut ended: Vec<_> = entries("token.revoke").await.iter().map(|entry| entry["token"].as_str().unwrap().to_owned()).collect();
    ended.sort();
    assert_eq!(ended, ids);
    let entry = &entries("keys.retire").await[0];
    assert_eq!((&entry["detail"], &entry["token"]), (&json!({ "key": 1 }), &Value::Null));
    // Said again, of what is dead already, whatever was counted.
    for expected in [0, 7] {
        let again = app.v1_post("/keys/1/retire", &owner, &json!({ "expectedCount": expected, "seq": 0 })).await.expect(200).json();
        assert_eq!((&again["count"], &again["retired"]["endedCount"]), (&json!(0), &json!(0)));
    }
    assert_eq!(entries("keys.retire").await.len(), 1);
}

#[tokio::test]
async fn settings_with_where_they_came_from_and_no_secret() {
    let app = TestApp::new().await;
    let viewer = app.program("viewer", Role::Viewer, None).await;
    let answer = app.v1_get("/settings", &viewer).await.expect(200);
    assert!(!String::from_utf8_lossy(&answer.body).contains("hunter2"), "{answer:?}");
    let told = answer.json();
    let names: Vec<_> = told["settings"].as_array().unwrap().iter().map(|setting| setting["name"].as_str().unwrap()).collect();
    assert_eq!(names, countersign::config::SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>());
    let of = |name: &str| {
        let setting = told["settings"].as_array().unwrap().iter().find(|setting| setting["name"] == name).unwrap();
        ["value", "default", "origin", "from"].map(|member| setting[member].clone())
    };
    let environment = |name: &str, value: &str| [json!(value), json!(""), json!("environment"), json!(name)];
    assert_eq!(of("database"), environment("COUNTERSIGN_DATABASE", "postgres://me:[REDACTED]@db.internal/tokens"));
    assert_eq!(of("audit_head"), environment("COUNTERSIGN_AUDIT_HEAD", "https://[REDACTED]@collector.internal/heads?[REDACTED]"));
    assert_eq!(of("key_command"), environment("COUNTERSIGN_KEY_COMMAND", "[REDACTED]"));
    assert_eq!(of("request_timeout"), [json!("20s"), json!("15s"), json!("flag"), json!("--request-timeout")]);
    assert_eq!(of("lease"), [json!("1s"), json!("1s"), json!("default"), Value::Null]);
}
