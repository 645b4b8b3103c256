//! Edited rows and wrong keys: refused and reported, never believed.

use std::{fs, os::unix::fs::PermissionsExt as _};

use countersign::domain::{Action, AuditQuery, TokenName};

use crate::support::{self, BLIPS, GRID, TestApp, database, operator};

fn edit(app: &TestApp, sql: &str) {
    assert_eq!(database::edit(app.directory.path(), sql), 1, "{sql}");
}

#[tokio::test]
async fn z_11_an_edited_row_is_refused_and_reported() {
    for edit_sql in [
        "UPDATE token SET permissions = 'VIEW,TRANSACT,MANAGE' WHERE name = 'target'",
        "UPDATE token SET environment = 'production' WHERE name = 'target'",
        "UPDATE token SET platform_id = (SELECT id FROM platform WHERE name = 'Other') WHERE name = 'target'",
        "UPDATE token SET name = 'target2' WHERE name = 'target'",
        "UPDATE token SET revocable = false WHERE name = 'target'",
        "UPDATE token SET issuer = 'operator_issued' WHERE name = 'target'",
        // The donor's whole proof, its digest, its seal; and another tag.
        "UPDATE token SET proof = (SELECT proof FROM token WHERE name = 'donor') WHERE name = 'target'",
        "UPDATE token SET proof = (SELECT CAST(substr(t.proof, 1, 4) || substr(d.proof, 5, 32) || substr(t.proof, 37) AS BLOB) FROM token t, token d WHERE t.name = 'target' AND d.name = 'donor') WHERE name = 'target'",
        "UPDATE token SET proof = (SELECT CAST(substr(t.proof, 1, 36) || substr(d.proof, 37) AS BLOB) FROM token t, token d WHERE t.name = 'target' AND d.name = 'donor') WHERE name = 'target'",
        "UPDATE token SET proof = CAST(x'00000000' || substr(proof, 5) AS BLOB) WHERE name = 'target'",
    ] {
        let app = TestApp::new().await;
        app.another_platform("Other").await;
        let (target, donor) = (app.token("target", &["VIEW"]).await, app.token("donor", &["MANAGE"]).await);
        edit(&app, edit_sql);
        let app = app.restart().await;
        app.get(GRID).auth(&target).send().await.refused(401, "UNAUTHORIZED");
        app.get(&format!("{GRID}/{}", target.id)).send().await.refused(404, "TOKEN_NOT_FOUND");
        let listed = app.get(GRID).send().await.expect(200).json();
        assert!(listed["data"].as_array().unwrap().iter().all(|token| token["id"] != target.id), "{edit_sql}");
        app.get(GRID).auth(&donor).send().await.expect(200);
        assert!(app.authority.figures().tampered > 0, "{edit_sql}");
        let query = AuditQuery { action: Some(Action::Tampered), ..AuditQuery::default() };
        let (entries, _) = app.authority.list_audit(&operator(), query).await.unwrap();
        assert_eq!(entries.len(), 1, "{edit_sql}");
    }
}

#[tokio::test]
async fn z_11_a_row_brought_back_to_life_is_refused() {
    let app = TestApp::new().await;
    let token = app.token("target", &["VIEW"]).await;
    app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
    edit(&app, "UPDATE token SET revoked_at = NULL WHERE name = 'target'");
    let app = app.restart().await;
    app.get(GRID).auth(&token).send().await.refused(401, "UNAUTHORIZED");
    assert_eq!(app.authority.figures().tampered, 1);
}

/// A limit, which docs/security.md states: an old row that is put back whole is as it was sealed. Servers that knew of the end
/// go on refusing it, and the log has the end; but who starts then believes the row.
#[tokio::test]
async fn z_11_an_old_row_put_back_whole_is_believed_by_who_starts_then() {
    let app = TestApp::new().await;
    let token = app.token("target", &["VIEW"]).await;
    database::remember(app.directory.path());
    app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
    edit(
        &app,
        "UPDATE token SET revoked_at = NULL, proof = (SELECT b.proof FROM before_token b WHERE b.id = token.id) WHERE name = 'target'",
    );
    app.get("/verify").auth(&token).send().await.refused(401, "UNAUTHORIZED");
    let app = app.restart().await;
    app.get("/verify").auth(&token).send().await.expect(200);
    assert_eq!(app.authority.figures().tampered, 0);
    let query = AuditQuery { action: Some(Action::TokenRevoke), ..AuditQuery::default() };
    let (entries, _) = app.authority.list_audit(&operator(), query).await.unwrap();
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn z_11_an_edited_platform_is_disabled() {
    let app = TestApp::new().await;
    app.authority.set_platform_disabled(&operator(), app.platform.id, true).await.unwrap();
    edit(&app, "UPDATE platform SET disabled_at = NULL");
    let app = app.restart().await;
    app.get(GRID).send().await.refused(401, "UNAUTHORIZED");
    assert_eq!(app.authority.figures().tampered, 1);
}

#[tokio::test]
async fn s_08_another_key_is_found_out_at_start() {
    let (app, other) = (TestApp::new().await, TestApp::new().await);
    other.entropy.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    let keys = app.directory.path().join("keys.json");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&keys).unwrap()).unwrap();
    text["keys"][0]["root"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into();
    fs::write(&keys, text.to_string()).unwrap();
    let refused = app.try_restart().await.err().unwrap();
    assert!(refused.contains("belongs to another database"), "{refused}");
}

#[tokio::test]
async fn s_08_a_missing_key_file_is_not_made_anew() {
    let app = TestApp::new().await;
    let keys = app.directory.path().join("keys.json");
    fs::remove_file(&keys).unwrap();
    let path = keys.clone();
    let refused = app.try_restart().await.err().unwrap();
    assert!(refused.contains("is missing") && !path.exists(), "{refused}");
}

#[tokio::test]
async fn s_08_a_key_file_that_others_can_read_is_refused() {
    let app = TestApp::new().await;
    let keys = app.directory.path().join("keys.json");
    assert_eq!(fs::metadata(&keys).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = app.try_restart().await.err().unwrap();
    assert!(refused.contains("chmod 600"), "{refused}");
}

#[tokio::test]
async fn a_second_key_may_join_and_old_tokens_still_verify() {
    let app = TestApp::new().await;
    let old = app.token("old", &["VIEW"]).await;
    let list = app.get(&format!("{GRID}?limit=1")).send().await.json();
    let cursor = list["nextCursor"].as_str().unwrap().to_owned();
    let keys = app.directory.path().join("keys.json");
    let mut text: serde_json::Value = serde_json::from_slice(&fs::read(&keys).unwrap()).unwrap();
    text["keys"][0]["state"] = "verify-only".into();
    let second = serde_json::json!({ "id": 2, "state": "active", "root": "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=" });
    text["keys"].as_array_mut().unwrap().push(second);
    fs::write(&keys, text.to_string()).unwrap();
    let app = app.restart().await;
    let new = app.token("new", &["VIEW"]).await;
    for token in [&old, &new] {
        app.get(GRID).auth(token).send().await.expect(200);
    }
    app.get(&format!("{GRID}?cursor={cursor}")).send().await.expect(200);
    app.post(&format!("{BLIPS}/{}/revoke", old.id)).send().await.expect(200);
    app.get(GRID).auth(&old).send().await.refused(401, "UNAUTHORIZED");
    let app = app.restart().await;
    app.get(GRID).auth(&old).send().await.refused(401, "UNAUTHORIZED");
    app.get(GRID).auth(&new).send().await.expect(200);
}

#[tokio::test]
async fn u_03_a_database_of_a_newer_version_is_refused() {
    let app = TestApp::new().await;
    edit(&app, "INSERT INTO migration (number, name, checksum) VALUES (99, '0099_tomorrow', 0)");
    let refused = app.try_restart().await.err().unwrap();
    assert!(refused.contains("newer countersign"), "{refused}");

    let app = TestApp::new().await;
    edit(&app, "UPDATE migration SET checksum = 1 WHERE number = 1");
    let refused = app.try_restart().await.err().unwrap();
    assert!(refused.contains("another, newer countersign"), "{refused}");
}

/// Ending an edited row must not make what was forged genuine.
#[tokio::test]
async fn z_11_an_edited_row_is_not_sealed_again() {
    let app = TestApp::new().await;
    let target = app.token("target", &["VIEW"]).await;
    edit(&app, "UPDATE token SET permissions = 'VIEW,TRANSACT,MANAGE', name = 'evil' WHERE name = 'target'");
    edit(&app, "UPDATE token SET revocable = true WHERE revocable = false AND environment = 'sandbox'");
    app.delete(&format!("{GRID}/{}", target.id)).send().await.refused(404, "TOKEN_NOT_FOUND");
    app.post(&format!("{BLIPS}/{}/revoke", app.sandbox.id)).send().await.refused(404, "TOKEN_NOT_FOUND");
    let id = countersign::domain::TokenId::parse(&target.id).unwrap();
    let by = app.authority.locate_token(&operator(), id).await.unwrap().may_manage().unwrap();
    let refused = app.authority.revoke_token(&by, id).await.unwrap_err();
    assert!(matches!(refused, countersign::authority::Error::Tampered), "{refused:?}");
    assert_eq!(app.authority.figures().tampered, 2);
    app.get(GRID).auth(&target).send().await.refused(401, "UNAUTHORIZED");
    let app = app.restart().await;
    app.get(GRID).auth(&target).send().await.refused(401, "UNAUTHORIZED");
    assert_eq!(app.authority.figures().tampered, 2);

    edit(&app, "UPDATE platform SET name = 'evil'");
    let refused = app.authority.set_platform_disabled(&operator(), app.platform.id, true).await.unwrap_err();
    assert!(matches!(refused, countersign::authority::Error::Tampered), "{refused:?}");
}

/// What is not sealed can be edited, but then only itself is wrong.
#[tokio::test]
async fn z_11_an_edited_count_or_replay_opens_and_blocks_nothing() {
    let app = TestApp::new().await;
    let (_, [other, _]) = app.another_platform("Other").await;
    let foreign = app.token_by(&other, "foreign", &["VIEW"]).await;
    let body = serde_json::json!({ "name": "mine", "permissions": ["VIEW"] });
    let mine = app.post(GRID).header("idempotency-key", "k").json(&body).send().await.expect(201).pair();
    edit(&app, "UPDATE replay SET token_id = (SELECT id FROM token WHERE name = 'foreign')");
    let answer = app.post(GRID).header("idempotency-key", "k").json(&body).send().await.refused(409, "CONFLICT");
    assert!(!String::from_utf8_lossy(&answer.body).contains(&foreign.id[6..]));
    database::edit(app.directory.path(), "UPDATE live_count SET live = 0");
    app.delete(&format!("{GRID}/{}", mine.id)).send().await.expect(204);
    app.get(GRID).auth(&mine).send().await.refused(401, "UNAUTHORIZED");
}

/// Refused where it runs, not only after a restart; whatever was edited.
#[tokio::test]
async fn z_11_ending_an_edited_row_refuses_it_at_once() {
    for edited in ["proof = zeroblob(68)", "name = 'evil'", "permissions = 'ADMIN'", "issuer = 'platform_self_service', revocable = false"]
    {
        let app = TestApp::new().await;
        let (target, other) = (app.token("target", &["VIEW"]).await, app.token("other", &["VIEW"]).await);
        edit(&app, &format!("UPDATE token SET {edited} WHERE name = 'target'"));
        app.delete(&format!("{GRID}/{}", target.id)).send().await.refused(404, "TOKEN_NOT_FOUND");
        app.get(GRID).auth(&target).send().await.refused(401, "UNAUTHORIZED");
        assert_eq!(app.authority.figures().tampered, 1, "{edited}");
        app.get(GRID).auth(&other).send().await.expect(200);
        let app = app.restart().await;
        app.get(GRID).auth(&target).send().await.refused(401, "UNAUTHORIZED");
        assert_eq!(app.get(GRID).auth(&other).send().await.expect(200).json()["data"].as_array().unwrap().len(), 2, "{edited}");
        assert_eq!(app.authority.figures().tampered, 1, "{edited}");
    }
}

#[tokio::test]
async fn z_11_disabling_an_edited_platform_refuses_it_at_once() {
    let app = TestApp::new().await;
    edit(&app, "UPDATE platform SET name = 'evil'");
    let refused = app.authority.set_platform_disabled(&operator(), app.platform.id, true).await.unwrap_err();
    assert!(matches!(refused, countersign::authority::Error::Tampered), "{refused:?}");
    app.get(GRID).send().await.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn r_15_what_was_followed_and_is_gone_ends_everything() {
    for overtaken in [false, true] {
        let app = TestApp::new().await;
        let (token, late) = (app.token("a", &["VIEW"]).await, app.token("late", &["VIEW"]).await);
        database::remember(app.directory.path());
        app.token("lost", &["VIEW"]).await;
        app.authority.follow().await.unwrap();
        let elsewhere = support::open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
        database::go_back(app.directory.path());
        if overtaken {
            // As many changes as were lost, and more: the place that was followed is there again, with another entry.
            elsewhere.create_platform(&operator(), TokenName::parse("name", "Other").unwrap(), None).await.unwrap();
        }
        app.get("/verify").auth(&token).send().await.expect(200);
        let refused = app.authority.follow().await.unwrap_err();
        assert!(refused.to_string().contains("earlier state"), "{refused}");
        for pair in [&token, &late, &app.sandbox] {
            app.get("/verify").auth(pair).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
        }
        app.get(GRID).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
        assert_eq!(app.authority.ready().await, Err("the database went back to an earlier state, or is on hold"));
        // However often it is asked.
        app.authority.follow().await.unwrap_err();
        app.get("/verify").auth(&token).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    }
}

/// The index lacks a token that had ended before it was loaded. In the older state it is live, and the feed was not read yet.
#[tokio::test]
async fn r_15_a_read_by_primary_key_notices_too() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    database::remember(app.directory.path());
    app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
    let app = app.restart().await;
    database::go_back(app.directory.path());
    app.get("/verify").auth(&token).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
}
