//! What whoever edits the database cannot hide: the eight attacks, an old row put back, a forged head.

use countersign::domain::Role;

use super::*;
use crate::operators::name;

/// Makes room behind the fifth entry.
const ROOM: &str = "UPDATE audit SET seq = -seq - 1 WHERE seq > 5; UPDATE audit SET seq = -seq WHERE seq < 0";

#[tokio::test]
async fn l_04_an_edit_is_found() {
    let (app, elsewhere) = log().await;
    for change in [
        "at = at + 1",
        "action = 'token.revoke'",
        "actor = 'system'",
        "environment = 'production'",
        "environment = NULL",
        "platform_id = NULL",
        "platform_id = token_id",
        "token_id = NULL",
        "token_id = platform_id",
        "request_id = 'another'",
        "source = '10.0.0.1'",
        "node = 'another'",
        "detail = '{}'",
        "seal = (SELECT seal FROM audit WHERE seq = 4)",
        "action = 'made.up'",
        "actor = 'nobody'",
    ] {
        let directory = app.directory.path();
        database::edit(directory, "CREATE TABLE kept AS SELECT * FROM audit WHERE seq = 5");
        attack(&app, &format!("UPDATE audit SET {change} WHERE seq = 5"));
        for heads in [Heads::default(), elsewhere.heads()] {
            let verified = verified(&app, &heads).await;
            assert_eq!(verified.problems.first().map(|problem| problem.seq), Some(5), "{change}: {:?}", verified.problems);
            assert!(verified.problems[0].what.starts_with("audit entry 5 is"), "{:?}", verified.problems);
            for most in [1, 3, 5, 200_000] {
                let (problems, entries) = in_parts(&app, most).await;
                assert_eq!((problems[0].0, problems[0].1.starts_with("audit entry 5 is"), entries), (5, true, 9), "{change}: {problems:?}");
            }
        }
        attack(&app, &format!("DELETE FROM audit WHERE seq = 5; INSERT INTO audit (seq, {COLUMNS}) SELECT seq, {COLUMNS} FROM kept"));
        database::edit(directory, "DROP TABLE kept");
    }
    assert_eq!(verified(&app, &elsewhere.heads()).await.found, 0);
    // Beside the runtime, which closes the connection that has read the log: checks are switched off when nobody reads.
    let directory = app.directory.path().to_owned();
    let edit = move || database::edit_unchecked(&directory, "UPDATE audit SET key_id = 99 WHERE seq = 5");
    tokio::task::spawn_blocking(edit).await.unwrap();
    let first = verified(&app, &Heads::default()).await.problems.remove(0);
    assert_eq!((first.seq, &first.what[..]), (5, "audit entry 5 is under key 99, which neither the key file nor the database knows"));
}

#[tokio::test]
async fn l_04_an_insert_is_found() {
    let copy = "INSERT INTO audit (seq, at, action, actor, request_id, source, node, detail, key_id, seal) \
                SELECT 6, at, 'denied', 'system', 'r', '', node, '{}', key_id, seal FROM audit WHERE seq = 5";
    let (seq, what) = found(&format!("{ROOM}; {copy}"), false).await;
    assert_eq!((seq, &what[..]), (6, "audit entry 6 is not as it was sealed, behind entry 5: it was edited, or put there"));
}

#[tokio::test]
async fn l_04_a_deletion_inside_is_found() {
    let (seq, what) = found("DELETE FROM audit WHERE seq = 5", false).await;
    assert_eq!((seq, &what[..]), (5, "audit entry 5 is missing: there is a gap"));
    let (seq, what) = found("DELETE FROM audit WHERE seq IN (1, 2)", false).await;
    assert_eq!((seq, &what[..]), (1, "audit entries 1 to 2 are missing: there is a gap"));
    // With the ones behind moved into its place.
    let close = "UPDATE audit SET seq = 1 - seq WHERE seq > 5; UPDATE audit SET seq = -seq WHERE seq < 0";
    assert_eq!(found(&format!("DELETE FROM audit WHERE seq = 5; {close}"), false).await.0, 5);
}

#[tokio::test]
async fn l_04_another_order_is_found() {
    let swap = "UPDATE audit SET seq = -5 WHERE seq = 6; UPDATE audit SET seq = 6 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = -5";
    assert_eq!(found(swap, false).await.0, 5);
}

#[tokio::test]
async fn l_04_a_duplicate_is_found() {
    let copy = |to: u64| format!("INSERT INTO audit (seq, {COLUMNS}) SELECT {to}, {COLUMNS} FROM audit WHERE seq = 5");
    assert_eq!(found(&format!("{ROOM}; {}", copy(6)), false).await.0, 6);
    assert_eq!(found(&copy(10), false).await.0, 10);
}

#[tokio::test]
async fn l_04_a_cut_end_is_found() {
    let (seq, what) = found("DELETE FROM audit WHERE seq > 7", true).await;
    assert!(seq == 8 && what.starts_with("audit entries 8 to 9 are missing: they were there when a head was signed at "), "{what}");
    assert_eq!(found("DELETE FROM audit WHERE seq = 9", true).await.0, 9);
}

#[tokio::test]
async fn l_04_a_log_that_is_gone_is_found() {
    let (seq, what) = found("DELETE FROM audit", false).await;
    assert!(seq == 1 && what.starts_with("audit entries 1 to 9 are missing"), "{what}");
}

/// A row from before its end passes its own seal, and the log knows better.
#[tokio::test]
async fn l_04_an_old_row_that_was_put_back_is_found() {
    let mut app = TestApp::new().await;
    let directory = app.directory.path().to_owned();
    let (token, other) = (app.token("a", &["VIEW"]).await, app.token("b", &["VIEW"]).await);
    database::edit(&directory, "CREATE TABLE kept AS SELECT * FROM token WHERE name = 'a'");
    database::edit(&directory, "CREATE TABLE kept_platform AS SELECT * FROM platform");
    for ended in [&token, &other] {
        app.delete(&format!("{GRID}/{}", ended.id)).send().await.expect(204);
    }
    let platform = app.platform.id;
    app.authority.set_platform_disabled(&operator(), platform, true).await.unwrap();
    assert_eq!(verified(&app, &Heads::default()).await.found, 0);
    for back in [
        "UPDATE token SET revoked_at = NULL, proof = (SELECT proof FROM kept) WHERE name = 'a'",
        "UPDATE platform SET disabled_at = NULL, seal = (SELECT seal FROM kept_platform)",
    ] {
        database::edit(&directory, back);
    }
    // Nothing else notices.
    app.try_replace(|_| {}).await.unwrap();
    app.get("/verify").auth(&token).send().await.expect(200);
    let found = verified(&app, &Heads::default()).await;
    let what = [
        format!("{} is live, although audit entry 6 ended it: an old row was put back", token.id),
        format!("{platform} is enabled, although audit entry 8 disabled it: an old row was put back"),
    ];
    assert_eq!(found.problems.iter().map(|problem| problem.what.clone()).collect::<Vec<_>>(), what);
    for most in [1, 3, 200_000] {
        let (problems, _) = in_parts(&app, most).await;
        assert_eq!(problems.into_iter().map(|(_, what)| what).collect::<Vec<_>>(), what, "{most}");
    }
    // Nor is it made to disappear.
    app.clock.advance(Duration::from_secs(40 * DAY));
    app.authority.follow().await.unwrap();
    assert!(pruned(&app, Heads::default(), 31).await.unwrap_err().contains(&token.id));
    // Ended again, and disabled and enabled again, all is right.
    app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
    for disabled in [true, false] {
        app.authority.set_platform_disabled(&operator(), platform, disabled).await.unwrap();
    }
    let found = verified(&app, &Heads::default()).await;
    assert_eq!(found.found, 0, "{:?}", found.problems);
    // Whichever part has the end, and whichever has what came after it.
    for most in [1, 2, 200_000] {
        assert_eq!(in_parts(&app, most).await.0, [], "{most}");
    }
}

/// The same of operators and of their programs: a row from before lets in who was disabled, has given back a role, or whose token
/// has ended. The log knows better.
#[tokio::test]
async fn l_04_an_operator_whose_old_row_was_put_back_is_found() {
    let app = TestApp::new().await;
    let (authority, directory) = (&app.authority, app.directory.path().to_owned());
    for of in ["ghost", "lesser", "program", "again"] {
        authority.create_account(&operator(), name(of), Role::Owner, None, None).await.unwrap();
    }
    let (token, _) = app.operator_token("program", None).await;
    database::edit(&directory, "CREATE TABLE kept AS SELECT * FROM account");
    database::edit(&directory, "CREATE TABLE kept_token AS SELECT * FROM operator_token");
    authority.set_account_disabled(&operator(), name("ghost"), true).await.unwrap();
    authority.set_account_role(&operator(), name("lesser"), Role::Viewer).await.unwrap();
    authority.revoke_operator_token(&operator(), token).await.unwrap();
    // What the log has taken back itself is none of it.
    for disabled in [true, false] {
        authority.set_account_disabled(&operator(), name("again"), disabled).await.unwrap();
    }
    assert_eq!(verified(&app, &Heads::default()).await.found, 0);
    let last = app.place().await;
    for table in ["account", "operator_token"] {
        let kept = if table == "account" { "kept" } else { "kept_token" };
        // In their places, as others name accounts.
        let columns =
            if table == "account" { &["role", "disabled_at", "generation", "access", "seal"][..] } else { &["revoked_at", "seal"] };
        let set: Vec<_> = columns.iter().map(|of| format!("{of} = (SELECT {of} FROM {kept} k WHERE k.id = {table}.id)")).collect();
        database::edit(&directory, &format!("UPDATE {table} SET {}", set.join(", ")));
    }
    let what = [
        format!("operator ghost is enabled, although audit entry {} disabled them: an old row was put back", last - 4),
        format!("operator lesser is owner, although audit entry {} made them viewer: an old row was put back", last - 3),
        format!("operator token {} is live, although audit entry {} ended it: an old row was put back", token.0, last - 2),
    ];
    let found = verified(&app, &Heads::default()).await;
    assert_eq!(found.problems.iter().map(|problem| problem.what.clone()).collect::<Vec<_>>(), what);
    for most in [1, 3, 200_000] {
        let (problems, _) = in_parts(&app, most).await;
        assert_eq!(problems.into_iter().map(|(_, what)| what).collect::<Vec<_>>(), what, "{most}");
    }
}

#[tokio::test]
async fn l_04_an_older_copy_is_found() {
    let (mut app, elsewhere) = (TestApp::new().await, Elsewhere::new());
    let mut writer = elsewhere.writer(&app);
    for (name, written) in [("a", true), ("b", true), ("c", false), ("d", true)] {
        app.token(name, &["VIEW"]).await;
        if written {
            writer.write().await;
        }
        if name == "b" {
            database::remember(app.directory.path());
        }
    }
    database::go_back(app.directory.path());
    let first = verified(&app, &elsewhere.heads()).await.problems.remove(0);
    assert!(first.seq == 6 && first.what.contains("or the database is an older one"), "{first:?}");
    // Others have gone on from there, with the right key: every seal fits.
    app.try_replace(|options| options.lease = None).await.unwrap();
    app.another_platform("Other").await;
    assert_eq!(verified(&app, &Heads::default()).await.found, 0);
    let first = verified(&app, &elsewhere.heads()).await.problems.remove(0);
    assert!(
        first.seq == 6 && first.what.starts_with("audit entry 6, or one behind it up to 7, is not the one that was signed"),
        "{first:?}"
    );
}

/// Somebody has kept an entry of a history that was lost. It was sealed with the right key for the very place that it is put in,
/// behind the very entry that stands before it; what comes behind it was not sealed behind it.
#[tokio::test]
async fn l_04_an_entry_of_another_history_is_found() {
    let mut app = TestApp::new().await;
    let directory = app.directory.path().to_owned();
    app.token("a", &["VIEW"]).await;
    database::remember(&directory);
    app.token("b", &["VIEW"]).await;
    database::edit(&directory, "CREATE TABLE kept AS SELECT * FROM audit WHERE seq = 5");
    database::go_back(&directory);
    app.try_replace(|options| options.lease = None).await.unwrap();
    for name in ["c", "d"] {
        app.token(name, &["VIEW"]).await;
    }
    assert_eq!(verified(&app, &Heads::default()).await.found, 0);
    attack(&app, &format!("DELETE FROM audit WHERE seq = 5; INSERT INTO audit (seq, {COLUMNS}) SELECT seq, {COLUMNS} FROM kept"));
    let first = verified(&app, &Heads::default()).await.problems.remove(0);
    assert_eq!((first.seq, &first.what[..]), (6, "audit entry 6 is not as it was sealed, behind entry 5: it was edited, or put there"));
}

/// Heads are as good as their signatures.
#[tokio::test]
async fn l_04_a_forged_head_is_found_and_that_of_others_is_passed_over() {
    let (app, elsewhere) = log().await;
    let text = elsewhere.text();
    assert_eq!(text.lines().count(), 3, "{text}");
    let forged = text.lines().next().unwrap().replace("\"size\":6", "\"size\":5");
    let problems = verified(&app, &heads(&forged)).await.problems;
    assert!(problems.len() == 1 && problems[0].what.contains("none of its keys has signed it"), "{problems:?}");

    // Anywhere in a line, twice, and torn.
    let syslog: String = text.lines().map(|line| format!("<86>1 2026 host countersign 1 audit-head - {line} and more\n")).collect();
    let torn = format!("{}{}", &text[..200], text);
    for found in [verified(&app, &heads(&format!("{syslog}{text}"))).await, verified(&app, &heads(&torn)).await] {
        assert_eq!((found.found, found.heads), (0, 3), "{:?}", found.problems);
    }
    assert_eq!(verified(&app, &heads(&torn)).await.heads_torn, 1);

    let installation = |text: &str| text.split("\"installation\":\"").nth(1).unwrap()[..32].to_owned();
    let foreign = text.replace(&installation(&text), &"0".repeat(32));
    let found = verified(&app, &heads(&foreign)).await;
    assert_eq!((found.found, found.heads_of_others), (0, 3), "{:?}", found.problems);
}
