use std::time::Duration;

use serde_json::json;

use crate::support::{GRID, TestApp};

#[tokio::test]
async fn newest_first_with_total_and_no_cursor_at_the_end() {
    let app = TestApp::new().await;
    for name in ["a", "b", "c"] {
        app.clock.advance(Duration::from_millis(1));
        app.token(name, &["VIEW"]).await;
    }
    let list = app.get(GRID).send().await.expect(200).json();
    let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["c", "b", "a", "Root token"]);
    assert_eq!((&list["hasMore"], &list["totalCount"], list.get("nextCursor")), (&json!(false), &json!(4), None));
}

#[tokio::test]
async fn c_07_a_time_that_was_shown_finds_its_token() {
    let app = TestApp::new().await;
    app.clock.advance(Duration::from_millis(123));
    let token = app.token("a", &["VIEW"]).await;
    app.clock.advance(Duration::from_millis(1));
    app.token("b", &["VIEW"]).await;
    let at = app.get(&format!("{GRID}/{}", token.id)).send().await.json()["createdAt"].as_str().unwrap().to_owned();
    for filter in [
        format!("createdAfter={at}&createdBefore={at}"),
        format!("updatedAfter={at}&updatedBefore={at}"),
        format!("createdAfter={at}&updatedBefore={at}&name=a"),
        format!("createdAfter={}&createdBefore={}", at.replace('Z', "+00:00"), at.replace('Z', "%2B0000")),
    ] {
        let list = app.get(&format!("{GRID}?{filter}")).send().await.expect(200).json();
        assert_eq!((&list["data"][0]["id"], &list["totalCount"]), (&json!(token.id), &json!(1)), "{filter}");
    }
    let empty = app.get(&format!("{GRID}?createdAfter={at}&createdBefore=2020-01-01T00:00:00Z")).send().await.expect(200).json();
    assert_eq!((&empty["data"], &empty["totalCount"], &empty["hasMore"]), (&json!([]), &json!(0), &json!(false)));
}

#[tokio::test]
async fn every_broken_parameter_is_named_at_once() {
    let app = TestApp::new().await;
    let query = "?limit=0&name=&createdAfter=x&createdBefore=&updatedAfter=2025-07-21&updatedBefore=1&cursr=1&limit=5&cursor=%FF";
    let answer = app.get(&format!("{GRID}{query}")).send().await.refused(400, "INVALID_INPUT");
    let mut fields = answer.broken_fields();
    fields.sort();
    assert_eq!(fields, ["createdAfter", "createdBefore", "cursor", "cursr", "limit", "limit", "name", "updatedAfter", "updatedBefore"]);
}

#[tokio::test]
async fn i_03_a_name_is_found_by_its_own_bytes() {
    let app = TestApp::new().await;
    for name in ["é", "e\u{301}", "a+b c&d=e", "%", "'; DROP TABLE token;--", "\u{202e}x", "{\"$ne\":null}", "a_b", "aXb"] {
        let token = app.token(name, &["VIEW"]).await;
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let list = app.get(&format!("{GRID}?name={encoded}")).send().await.expect(200).json();
        assert_eq!((&list["totalCount"], &list["data"][0]["id"], &list["data"][0]["name"]), (&json!(1), &json!(token.id), &json!(name)));
    }
}

#[tokio::test]
async fn an_empty_cursor_is_the_first_page() {
    let app = TestApp::new().await;
    let first = app.get(GRID).send().await.expect(200).body;
    assert_eq!(app.get(&format!("{GRID}?cursor=")).send().await.expect(200).body, first);
}
