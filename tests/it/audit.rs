//! Who did what: each change with its entry, and nothing in it that could forge another.

use countersign::domain::{Action, AuditQuery, PageLimit, RecordedEntry, TokenId};
use serde_json::{Value, json};

use crate::support::{BLIPS, GRID, TestApp, database, operator};

async fn entries(app: &TestApp, query: AuditQuery) -> Vec<RecordedEntry> {
    app.authority.list_audit(&operator(), query).await.unwrap().0
}

fn all() -> AuditQuery {
    AuditQuery { limit: PageLimit::new(100).unwrap(), ..AuditQuery::default() }
}

#[tokio::test]
async fn l_01_l_02_every_change_has_exactly_one_entry() {
    let app = TestApp::new().await;
    let created =
        app.post(GRID).header("x-request-id", "r-1").json(&json!({ "name": "a", "permissions": ["VIEW"] })).send().await.expect(201).pair();
    app.get(GRID).send().await.expect(200);
    app.post(GRID).json(&json!({})).send().await.expect(400);
    app.post(&format!("{BLIPS}/{}/revoke", created.id)).header("x-request-id", "r-2").send().await.expect(200);
    app.post(&format!("{BLIPS}/{}/revoke", created.id)).send().await.expect(200);
    app.authority.set_platform_disabled(&operator(), app.platform.id, true).await.unwrap();
    app.authority.set_platform_disabled(&operator(), app.platform.id, true).await.unwrap();
    app.authority.set_platform_disabled(&operator(), app.platform.id, false).await.unwrap();

    let entries = entries(&app, all()).await;
    let shown: Vec<_> =
        entries.iter().map(|e| (e.seq, e.entry.action.name(), e.entry.actor.to_string(), e.entry.request.id.as_str())).collect();
    let root = app.sandbox.id.clone();
    let by_operator = || "operator:test".to_owned();
    assert_eq!(
        shown,
        [
            (7, "platform.enable", by_operator(), "command-1"),
            (6, "platform.disable", by_operator(), "command-1"),
            (5, "token.revoke", root.clone(), "r-2"),
            (4, "token.create", root, "r-1"),
            (3, "token.create", by_operator(), "command-1"),
            (2, "token.create", by_operator(), "command-1"),
            (1, "platform.create", by_operator(), "command-1"),
        ]
    );
    let create = &entries[3];
    assert_eq!(create.entry.token, TokenId::parse(&created.id));
    assert_eq!((create.entry.platform, create.entry.request.source.as_str()), (Some(app.platform.id), "127.0.0.1"));
    assert_eq!(create.node.len(), 16);
    assert_eq!(create.entry.detail, r#"{"name":"a","permissions":["VIEW"]}"#);
}

#[tokio::test]
async fn filters_and_pages() {
    let app = TestApp::new().await;
    let (other, _) = app.another_platform("Other").await;
    let token = app.token("a", &["MANAGE"]).await;
    let id = TokenId::parse(&token.id).unwrap();
    app.clock.advance(std::time::Duration::from_secs(10));
    app.token_by(&token, "b", &["VIEW"]).await;
    let count = async |query: AuditQuery| entries(&app, AuditQuery { limit: PageLimit::new(100).unwrap(), ..query }).await.len();
    assert_eq!(count(AuditQuery::default()).await, 8);
    assert_eq!(count(AuditQuery { platform: Some(other.id), ..AuditQuery::default() }).await, 3);
    assert_eq!(count(AuditQuery { token: Some(id), ..AuditQuery::default() }).await, 1);
    assert_eq!(count(AuditQuery { actor: Some(countersign::domain::Actor::Token(id)), ..AuditQuery::default() }).await, 1);
    assert_eq!(count(AuditQuery { action: Some(Action::PlatformCreate), ..AuditQuery::default() }).await, 2);
    assert_eq!(
        count(AuditQuery { after: Some(countersign::domain::Timestamp::from_millis(crate::support::START + 1)), ..AuditQuery::default() })
            .await,
        1
    );
    assert_eq!(
        count(AuditQuery { before: Some(countersign::domain::Timestamp::from_millis(crate::support::START)), ..AuditQuery::default() })
            .await,
        7
    );

    let (mut seen, mut before_seq) = (Vec::new(), None);
    loop {
        let query = AuditQuery { before_seq, limit: PageLimit::new(3).unwrap(), ..AuditQuery::default() };
        let (page, more) = app.authority.list_audit(&operator(), query).await.unwrap();
        seen.extend(page.iter().map(|entry| entry.seq));
        before_seq = seen.last().copied();
        if !more {
            break;
        }
    }
    assert_eq!(seen, [8, 7, 6, 5, 4, 3, 2, 1]);
}

#[tokio::test]
async fn l_01_refusals_are_one_entry_with_counts() {
    let app = TestApp::new().await;
    let viewer = app.token("viewer", &["VIEW"]).await;
    for _ in 0..20 {
        app.get(GRID).anonymous().send().await.expect(401);
    }
    app.post(GRID).auth(&viewer).json(&json!({})).send().await.expect(403);
    app.authority.record_denials().await.unwrap();
    app.authority.record_denials().await.unwrap();
    let denied = entries(&app, AuditQuery { action: Some(Action::Denied), ..AuditQuery::default() }).await;
    assert_eq!(denied.len(), 1);
    let detail: Value = serde_json::from_str(&denied[0].entry.detail).unwrap();
    assert_eq!(detail, json!({ "malformed": 20, "forbidden": 1 }));
}

#[tokio::test]
async fn l_03_a_name_forges_nothing() {
    let app = TestApp::new().await;
    for name in ["\",\"action\":\"token.revoke", "a\u{2028}{}", "\u{202e}", "=1+1", "\\u0000\\n", "'; DROP TABLE audit;--"] {
        app.token(name, &["VIEW"]).await;
        let newest = entries(&app, AuditQuery::default()).await.remove(0);
        let detail: Value = serde_json::from_str(&newest.entry.detail).unwrap();
        assert_eq!(detail, json!({ "name": name, "permissions": ["VIEW"] }));
        assert!(!newest.entry.detail.contains(['\n', '\r']));
    }
}

/// The entry is in the transaction of the change: where it can't be written, the change is not made.
#[tokio::test]
async fn l_01_without_its_entry_nothing_is_changed() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    database::refuse_inserts(app.directory.path(), "audit");
    app.post(GRID).json(&json!({ "name": "b", "permissions": ["VIEW"] })).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    app.delete(&format!("{GRID}/{}", token.id)).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    database::allow_inserts(app.directory.path(), "audit");
    let list = app.get(GRID).send().await.expect(200).json();
    assert_eq!(list["totalCount"], 2);
    app.get(GRID).auth(&token).send().await.expect(200);
    app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
}
