//! Inputs that want to break something. Every answer passes the standing checks, so none is a 5xx.

use std::time::Duration;

use countersign::{authority::Database, domain::AuditQuery};
use serde_json::{Value, json};

use crate::support::{BLIPS, GRID, Request, TestApp, database, operator};

/// H40 to H67: names that are none.
fn no_names() -> Vec<Value> {
    let long = "x".repeat(256);
    vec![
        json!(""),
        json!("   "),
        json!(null),
        json!(7),
        json!([]),
        json!({}),
        json!("a\u{0}b"),
        json!("a\nb"),
        json!("\u{1b}[2J"),
        json!(long),
    ]
}

/// H40 to H67: names that are odd.
fn odd_names() -> Vec<String> {
    let zalgo = format!("a{}", "\u{300}".repeat(254));
    let odd = [
        "\u{fffe}\u{ffff}",
        "é",
        "e\u{301}",
        "👨‍👩‍👧‍👦",
        "\u{202e}abc",
        "\u{200b}",
        "\u{feff}x",
        "a\u{2028}b",
        "=cmd|' /C calc'!A0",
        "<script>",
        "${jndi:ldap://x}",
        "'; DROP TABLE token;--",
        "%s%n%x",
        "{\"$ne\":null}",
        &zalgo,
        &"é".repeat(255),
    ];
    odd.map(str::to_owned).into()
}

/// H70 to H83: bodies that are refused.
fn bad_bodies() -> Vec<Vec<u8>> {
    let bad = [
        "".to_owned(),
        "{".to_owned(),
        "{}x".to_owned(),
        "{}{}".to_owned(),
        r#"{"name":"a","permissions":["VIEW"],"permissions":["MANAGE"]}"#.to_owned(),
        r#"{"name":"a","permissions":["VIEW"],"x":{"y":1,"y":2}}"#.to_owned(),
        "[".repeat(10_000),
        format!("{{\"name\":{}1{}}}", "[".repeat(20), "]".repeat(20)),
        r#"{"name":"a\ud800","permissions":["VIEW"]}"#.to_owned(),
        r#"{"name":"a","permissions":[1e999]}"#.to_owned(),
        r#"{'name':'a'}"#.to_owned(),
        "NaN".to_owned(),
        "null".to_owned(),
        format!("{{\"name\":\"a\",\"permissions\":[{}]}}", vec!["\"X\""; 9000].join(",")),
    ];
    let not_utf8 = b"{\"name\":\"\xff\",\"permissions\":[\"VIEW\"]}".to_vec();
    bad.map(String::into_bytes).into_iter().chain([not_utf8]).collect()
}

#[tokio::test]
async fn i_01_h40_to_h67_names() {
    let app = TestApp::new().await;
    for name in no_names() {
        app.post(GRID).json(&json!({ "name": name, "permissions": ["VIEW"] })).send().await.refused(400, "INVALID_INPUT");
    }
    for name in odd_names() {
        app.clock.advance(Duration::from_millis(1));
        let created = app.post(GRID).json(&json!({ "name": name, "permissions": ["VIEW"] })).send().await.expect(201);
        assert_eq!(created.json()["name"], name);
        // I-03: the same bytes everywhere.
        let id = created.pair().id;
        assert_eq!(app.get(&format!("{GRID}/{id}")).send().await.expect(200).json()["name"], name);
        assert_eq!(app.get(&format!("{BLIPS}/{id}")).send().await.expect(200).json()["name"], name);
        assert_eq!(app.get(&format!("{GRID}?limit=1")).send().await.expect(200).json()["data"][0]["name"], name);
    }
}

#[tokio::test]
async fn i_01_h70_to_h83_bodies() {
    let app = TestApp::new().await;
    let member = |n: usize| format!("\"m{n}\":0");
    let many = format!("{{{},\"name\":\"a\",\"permissions\":[\"VIEW\"]}}", (0..3000).map(member).collect::<Vec<_>>().join(","));
    let request = |body: Vec<u8>| app.post(GRID).header("content-type", "application/json").body(body);
    for body in bad_bodies() {
        request(body).send().await.refused(400, "INVALID_INPUT");
    }
    request(many.into_bytes()).send().await.expect(201);
    request(format!("{{\"name\":\"a\",\"permissions\":[{}]}}", vec!["\"VIEW\""; 7000].join(",")).into_bytes()).send().await.expect(201);
    request(vec![b' '; 64 * 1024 + 1]).send().await.refused(413, "INVALID_INPUT");
}

/// What both kinds of database are told is the same to the byte, so what they say must be.
#[tokio::test]
async fn i_02_both_databases_answer_alike() {
    if database::postgres().is_none() {
        return;
    }
    let postgres = TestApp::new().await;
    let sqlite = TestApp::on(|directory| Database::Sqlite(directory.to_owned())).await;
    let alike = async |request: &dyn for<'a> Fn(&'a TestApp) -> Request<'a>| {
        let [one, other] = [request(&postgres).send().await, request(&sqlite).send().await];
        assert_eq!((one.status, &one.headers, &one.body), (other.status, &other.headers, &other.body), "{}", one.what);
        one
    };
    let bodies = no_names().into_iter().chain(odd_names().into_iter().map(Value::from));
    let bodies = bodies.map(|name| json!({ "name": name, "permissions": ["VIEW"] }).to_string().into_bytes());
    let mut ids = vec!["Token:".to_owned(), "x".to_owned(), "%00".to_owned(), "a".repeat(4096)];
    for body in bodies.chain(bad_bodies()) {
        let created = alike(&|app| app.post(GRID).header("content-type", "application/json").body(body.clone())).await;
        if created.status == 201 {
            ids.push(created.pair().id);
        }
        for app in [&postgres, &sqlite] {
            app.clock.advance(Duration::from_millis(1));
        }
    }
    assert_eq!(ids.len(), 4 + odd_names().len());
    let ended = ids.len() - 2;
    alike(&|app| app.delete(&format!("{GRID}/{}", ids[ended]))).await.expect(204);
    for dialect in [GRID, BLIPS] {
        for id in &ids {
            alike(&|app| app.get(&format!("{dialect}/{id}"))).await;
        }
        for name in odd_names() {
            let name: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
            alike(&|app| app.get(&format!("{dialect}?name={name}"))).await;
        }
        // H90 to H93.
        for query in [
            "",
            "limit=3",
            "limit=0",
            "limit=-1",
            "limit=101",
            "limit=1e2",
            "limit=05",
            "limit=9223372036854775808",
            "limit=1&limit=2",
            "createdAfter=2025-07-21T17:32:28.005Z",
            "createdBefore=9999-12-31T23:59:59.999999999Z",
            "createdAfter=0000-01-01T00:00:00Z",
            "createdAfter=10000-01-01T00:00:00Z",
            "createdAfter=2025-02-30T00:00:00Z",
            "createdAfter=2016-12-31T23:59:60Z",
            "name=%00",
            "name=%FF",
            "name=%",
            "name=",
            "nmae=a",
            "cursor=x",
        ] {
            alike(&|app| app.get(&format!("{dialect}?{query}"))).await;
        }
    }
    // And what they keep: who did what, with every name.
    let kept = async |app: &TestApp| format!("{:?}", app.authority.list_audit(&operator(), AuditQuery::default()).await.unwrap());
    assert_eq!(kept(&postgres).await, kept(&sqlite).await);
}

#[tokio::test]
async fn no_refusal_repeats_what_was_sent() {
    let app = TestApp::new().await;
    let canary = "iksec_test_CANARYcanaryCANARYcanary";
    for body in [
        json!({ canary: canary, "name": { canary: canary }, "permissions": [canary] }),
        json!(canary),
        json!({ "name": format!("\u{0}{canary}"), "permissions": canary }),
    ] {
        let answer = app.post(GRID).json(&body).send().await.refused(400, "INVALID_INPUT");
        assert!(!String::from_utf8_lossy(&answer.body).contains("CANARY"), "{answer:?}");
    }
    for target in [
        format!("{GRID}?limit={canary}"),
        format!("{GRID}?cursor={canary}"),
        format!("{GRID}?createdAfter={canary}"),
        format!("{GRID}/{canary}"),
        format!("/{canary}"),
    ] {
        let answer = app.get(&target).send().await;
        assert!(answer.status.is_client_error() && !String::from_utf8_lossy(&answer.body).contains("CANARY"), "{answer:?}");
    }
    assert!(!crate::support::logged().contains("CANARY"));
}

#[tokio::test]
async fn i_05_media_types() {
    let app = TestApp::new().await;
    let body = json!({ "name": "a", "permissions": ["VIEW"] }).to_string();
    for media_type in [
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin1",
        "application/jsonx",
        "application/problem+json",
        "",
        "application",
    ] {
        app.post(GRID).header("content-type", media_type).body(body.clone()).send().await.refused(415, "INVALID_INPUT");
    }
    app.post(GRID).body(body.clone()).send().await.refused(415, "INVALID_INPUT");
    app.post(GRID)
        .header("content-type", "application/json")
        .header("content-type", "text/plain")
        .body(body.clone())
        .send()
        .await
        .refused(415, "INVALID_INPUT");
    for encoding in ["gzip", "br", "deflate", "zstd", "identity"] {
        let request = app.post(GRID).header("content-type", "application/json").header("content-encoding", encoding);
        request.body(body.clone()).send().await.refused(415, "INVALID_INPUT");
    }
    for media_type in
        ["application/json", "Application/JSON ; charset=\"UTF-8\"", "application/json;x=y", "application/json; charset=utf-8"]
    {
        app.post(GRID).header("content-type", media_type).body(body.clone()).send().await.expect(201);
    }
}

#[tokio::test]
async fn z_12_paths_that_are_nearly_one() {
    let app = TestApp::new().await;
    let id = &app.sandbox.id;
    for path in [
        format!("{GRID}/"),
        "/grid/2025-10-13//tokens".to_owned(),
        format!("{GRID}/./{id}"),
        format!("{GRID}/%2e%2e/tokens"),
        format!("{GRID}/{id}/"),
        "/grid/2025-10-13/TOKENS".to_owned(),
        "/grid/2025-10-13/tokens;x".to_owned(),
        "/grid/2025-10-13/tokens%00".to_owned(),
        "/grid/2025-10-13/%74okens".to_owned(),
        "/grid/2025-10-14/tokens".to_owned(),
        "/grid/tokens".to_owned(),
        "/GRID/2025-10-13/tokens".to_owned(),
        "//grid/2025-10-13/tokens".to_owned(),
        "/".to_owned(),
        "/blips".to_owned(),
        "/blips/tokens/x/revoke/".to_owned(),
        "/healthz".to_owned(),
        "/metrics".to_owned(),
        "/readyz".to_owned(),
    ] {
        let with = app.get(&path).send().await.refused(404, "REFERENCE_NOT_FOUND");
        let without = app.get(&path).anonymous().send().await;
        assert_eq!((with.status, with.body), (without.status, without.body), "{path}");
    }
    for path in
        [format!("{GRID}/..%2f{id}"), format!("{GRID}/%2e%2e"), format!("{GRID}/{id}%00"), format!("{GRID}/{id};x=1"), format!("{GRID}/..")]
    {
        app.get(&path).send().await.refused(404, "TOKEN_NOT_FOUND");
    }
}

#[tokio::test]
async fn methods_that_are_none_here() {
    let app = TestApp::new().await;
    for (path, allow) in [
        (GRID.to_owned(), "GET,HEAD,POST"),
        (format!("{GRID}/{}", app.sandbox.id), "DELETE,GET,HEAD"),
        (format!("{BLIPS}/{}/revoke", app.sandbox.id), "POST"),
        ("/reference".to_owned(), "GET,HEAD"),
    ] {
        for method in ["PUT", "PATCH", "TRACE", "OPTIONS", "CONNECT", "PROPFIND", "get"] {
            let answer = app.request(method.parse().unwrap(), &path).send().await.refused(405, "METHOD_NOT_ALLOWED");
            let mut allowed: Vec<_> = answer.header("allow").unwrap().split(',').collect();
            allowed.sort_unstable();
            assert_eq!(allowed.join(","), allow, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn request_ids_are_the_callers_if_they_are_well_formed() {
    let app = TestApp::new().await;
    let answer = app.get(GRID).header("x-request-id", "abc-123").send().await.expect(200);
    assert_eq!(answer.header("x-request-id"), Some("abc-123"));
    for id in ["", "a b", &"x".repeat(129), "é"] {
        let answer = app.get(GRID).header("x-request-id", id).send().await.expect(200);
        assert!(answer.header("x-request-id").unwrap().starts_with("00000000-"), "{answer:?}");
    }
    let twice = app.get(GRID).header("x-request-id", "a").header("x-request-id", "b").send().await.expect(200);
    assert!(twice.header("x-request-id").unwrap().starts_with("00000000-"));
}

#[tokio::test]
async fn i_01_limits_of_the_head() {
    let app = TestApp::new().await;
    app.get(&format!("{GRID}?name={}", "a".repeat(8200))).send().await.refused(414, "INVALID_INPUT");
    app.get(GRID).header("x-long", &"a".repeat(16 * 1024)).send().await.refused(431, "INVALID_INPUT");
}
