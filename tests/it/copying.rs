//! Backup, restore, and moving to another database: whatever is copied is the same there.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use countersign::{
    authority::{self, Database},
    domain::{AuditQuery, TokenId},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Answer, BLIPS, GRID, Pair, TestApp, database, operator,
    program::{Server, create_platform, program_on, run, run_json, send},
};

/// How `--to` names the database of a directory.
fn named(directory: &Path) -> String {
    database::url_of(directory).unwrap_or_else(|| format!("sqlite://{}", directory.display()))
}

fn keys(directory: &Path) -> String {
    directory.join("keys.json").display().to_string()
}

/// A command that was refused, or could not run: what it said.
#[track_caller]
fn refused(directory: &Path, arguments: &[&str], code: i32) -> String {
    let output = run(directory, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(code), 1), "{arguments:?}: {said}");
    said
}

/// Everything that somebody can see of an app.
async fn seen(app: &TestApp, tokens: &[&Pair]) -> Vec<String> {
    let mut seen = Vec::new();
    for pair in [&app.sandbox, &app.production] {
        for path in [GRID, &format!("{GRID}?name=ci"), &format!("{GRID}?limit=3"), BLIPS] {
            seen.push(app.get(path).auth(pair).send().await.expect(200).json().to_string());
        }
    }
    for token in tokens {
        let id = TokenId::parse(&token.id).unwrap();
        let by = app.authority.locate_token(&operator(), id).await.unwrap();
        let by = by.may_read().unwrap();
        seen.push(format!("{:?} {:?}", app.authority.get_token(&by, id).await.unwrap(), app.authority.token_use(&by, id).await.unwrap()));
    }
    seen.push(format!("{:?}", app.authority.list_platforms(&operator()).await.unwrap()));
    seen.push(format!("{:?}", app.authority.list_audit(&operator(), AuditQuery::default()).await.unwrap()));
    seen
}

async fn repeated(app: &TestApp) -> Answer {
    app.post(GRID).header("idempotency-key", "k").json(&json!({ "name": "again", "permissions": ["VIEW"] })).send().await
}

/// From either kind of database to either, and on from there, with what was changed after a first copy.
#[tokio::test]
async fn everything_is_the_same_in_another_database() {
    let app = TestApp::new().await;
    let mut pairs = Vec::new();
    for n in 0..7 {
        let name = if n % 2 == 0 { "ci".to_owned() } else { format!("it's \\ {n} {{}} é \u{1f511}") };
        pairs.push(app.token(&name, &["VIEW"]).await);
        app.clock.advance(Duration::from_secs(7 * 3600));
    }
    let again = repeated(&app).await.expect(201).pair();
    let (other, [elsewhere, _]) = app.another_platform("Other").await;
    for pair in &pairs {
        app.get(GRID).auth(pair).send().await.expect(200);
        app.clock.advance(Duration::from_secs(61));
    }
    app.delete(&format!("{GRID}/{}", pairs.remove(0).id)).send().await.expect(204);
    app.authority.flush().await.unwrap();

    // From this kind to each, and back.
    let mut at = database::of(app.directory.path());
    let directories: Vec<TempDir> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut ways = vec![Database::Sqlite(directories[0].path().to_owned())];
    if database::postgres().is_some() {
        ways.extend([1, 2].map(|n| database::of(directories[n].path())));
        ways.push(Database::Sqlite(directories[1].path().to_owned()));
    }
    let (mut app, mut backups) = (app, Vec::new());
    for to in ways {
        // While it runs; nothing happens to what is running, and nothing starts on the copy.
        let keys = app.directory.path().join("keys.json").into();
        let first = authority::move_to(&at, &to, &keys, false, |_, _| {}).await.unwrap();
        assert!(first.unfinished.is_some() && first.written() == first.rows() && first.edited == 0, "{first:?}");
        let refused = authority::move_to(&at, &to, &keys, true, |_, _| {}).await.unwrap_err();
        assert!(refused.contains("are running on this database"), "{refused}");
        let backup = app.directory.path().join(format!("backup of {}", backups.len()));
        assert_eq!(authority::back_up(&at, &keys, &backup, |_, _| {}).await.unwrap().rows(), first.rows());
        backups.push(backup);

        // It goes on: created, ended, used, disabled, forgotten.
        let late = app.token("late", &["VIEW"]).await;
        let ended = pairs.pop().unwrap();
        app.post(&format!("{BLIPS}/{}/revoke", ended.id)).send().await.expect(200);
        let platform = app.authority.get_platform(&operator(), other.id).await.unwrap();
        app.authority.set_platform_disabled(&operator(), other.id, platform.disabled_at.is_none()).await.unwrap();
        app.clock.advance(Duration::from_secs(120));
        app.get(GRID).auth(&late).send().await.expect(200);
        repeated(&app).await.expect(201);
        app.authority.flush().await.unwrap();
        database::edit_of(&at, "DELETE FROM use_day WHERE day = (SELECT min(day) FROM use_day)", false);

        let all: Vec<_> = pairs.iter().chain([&late, &ended, &again]).collect();
        let before = seen(&app, &all).await;
        let disabled = app.authority.get_platform(&operator(), other.id).await.unwrap().disabled_at.is_some();
        let (moved, copied) = app.move_to(&at, &to).await;
        assert!(copied.unfinished.is_none() && (6..first.rows() / 2).contains(&copied.written()), "{copied:?}");
        app = moved;
        let after = seen(&app, &all).await;
        // One by one: a difference is to be read.
        before.iter().zip(&after).for_each(|(before, after)| assert_eq!(before, after));
        for pair in pairs.iter().chain([&late, &again]) {
            app.get(GRID).auth(pair).send().await.expect(200);
        }
        app.get(GRID).auth(&ended).send().await.refused(401, "UNAUTHORIZED");
        let status = app.get(GRID).auth(&elsewhere).send().await.status.as_u16();
        assert_eq!(status == 401, disabled);
        let replay = repeated(&app).await.expect(201);
        assert_eq!(replay.header("idempotent-replayed"), Some("true"));

        // What comes next has the next place.
        let seq = app.authority.list_audit(&operator(), AuditQuery::default()).await.unwrap().0[0].seq;
        app.token("next", &["VIEW"]).await;
        assert_eq!(app.authority.list_audit(&operator(), AuditQuery::default()).await.unwrap().0[0].seq, seq + 1);
        // Nothing is written any more to what was moved.
        let stale = authority::move_to(&at, &Database::Sqlite(directories[2].path().join("new")), &keys, false, |_, _| {}).await;
        assert!(stale.unwrap_err().contains("was moved already"));
        at = to;
    }
}

/// Entries of a log that is long enough to be interrupted in.
fn fill_audit(directory: &Path, rows: u32) {
    let numbers = match database::postgres() {
        None => format!("(WITH RECURSIVE n(n) AS (SELECT 4 UNION ALL SELECT n + 1 FROM n WHERE n < {rows}) SELECT n FROM n)"),
        Some(_) => format!("(SELECT generate_series(4, {rows}) AS n) AS numbers"),
    };
    database::edit(
        directory,
        &format!(
            "INSERT INTO audit (seq, at, action, actor, request_id, source, node, detail, key_id, seal) \
             SELECT n, 1, 'denied', 'system', 'r', '', 'n', '{{}}', 1, (SELECT seal FROM audit WHERE seq = 1) FROM {numbers}"
        ),
    );
    if database::postgres().is_some() {
        database::edit(directory, "UPDATE feed SET seq = (SELECT max(seq) FROM audit)");
    }
}

/// Killed at several points: nothing starts on the copy, and the next run goes on.
#[test]
fn a_copy_that_was_killed_goes_on() {
    const ENTRIES: u32 = 60_000;
    let (data, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    fill_audit(data.path(), ENTRIES);
    let (to, keys) = (named(new.path()), keys(data.path()));
    let mut written = Vec::new();
    for least in [1, 20_000, 40_000] {
        let mut command = program_on(data.path());
        command.args(["migrate-store", "--to", &to, "--finish", "--data"]).arg(data.path());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while database::rows(new.path(), "audit").unwrap_or(0) < least {
            assert_eq!(child.try_wait().unwrap(), None, "it was over before it had {least} entries");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let there = database::rows(new.path(), "audit").unwrap();
        assert!(there < u64::from(ENTRIES), "it was not interrupted");
        written.push(there);
        for arguments in [vec!["serve"], vec!["token", "list"], vec!["quickstart"]] {
            let said = refused(new.path(), &[&arguments[..], &["--key-file", &keys]].concat(), 2);
            assert!(said.contains("is a copy that is not whole yet"), "{said}");
        }
        // The old one is as it was.
        run_json(data.path(), &["audit", "list"]);
    }
    assert!(written.is_sorted() && written[0] < written[2], "{written:?}");
    let log = run(data.path(), &["audit", "list", "--limit", "100", "--output", "json"]).stdout;
    // Most entries are not as they would be sealed; it says so, and carries them over.
    let done = run(data.path(), &["migrate-store", "--to", &to, "--finish", "--output", "json"]);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let copied: Value = serde_json::from_slice(&done.stdout).unwrap();
    let audit = copied["tables"].as_array().unwrap().iter().find(|table| table["table"] == "audit").unwrap();
    assert_eq!((&copied["finished"], &audit["rows"]), (&json!(true), &json!(ENTRIES)));
    assert_eq!((&copied["edited"], &copied["editedRows"][0]), (&json!(ENTRIES - 3), &json!("the audit entry 4")));
    assert_eq!(audit["written"].as_u64().unwrap(), u64::from(ENTRIES) - written[2], "{copied}");
    assert_eq!(run(new.path(), &["audit", "list", "--limit", "100", "--output", "json", "--key-file", &keys]).stdout, log);
    let indexes = match database::postgres() {
        None => "SELECT count(*) FROM sqlite_master WHERE type = 'index'",
        Some(_) => "SELECT count(*) FROM pg_indexes WHERE schemaname = current_schema()",
    };
    assert_eq!(database::number(new.path(), indexes), database::number(data.path(), indexes));
    let server = Server::start_with(new.path(), &["--key-file", &keys]);
    assert_eq!(server.get(GRID, &root).0, 200);
    assert!(refused(data.path(), &["serve"], 2).contains("was moved"));
}

#[test]
fn nothing_is_written_over() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    create_platform(data.path(), "Acme");
    let (platform, _) = create_platform(other.path(), "Other");
    let to = named(other.path());
    let said = refused(data.path(), &["migrate-store", "--to", &to], 2);
    assert!(said.contains("is not empty"), "{said}");
    let said = refused(data.path(), &["migrate-store", "--to", &named(data.path())], 2);
    assert!(said.contains("the same database"), "{said}");

    let file = data.path().join("backup");
    let file = file.to_str().unwrap();
    std::fs::write(file, "mine").unwrap();
    let said = refused(data.path(), &["backup", "--to", file], 2);
    assert!(said.contains("is there already") && std::fs::read(file).unwrap() == b"mine", "{said}");
    let said = refused(other.path(), &["restore", "--from", file, "--invalidate-all"], 2);
    assert!(said.contains("is no backup made by countersign"), "{said}");
    std::fs::remove_file(file).unwrap();
    run_json(data.path(), &["backup", "--to", file]);
    let key_file = keys(data.path());
    let said = refused(other.path(), &["restore", "--from", file, "--invalidate-all", "--key-file", &key_file], 2);
    assert!(said.contains("is not empty"), "{said}");
    let said = refused(other.path(), &["restore", "--from", file, "--invalidate-all"], 2);
    assert!(said.contains("belongs to another database"), "{said}");
    assert_eq!(run_json(other.path(), &["platform", "list"])["platforms"][0]["id"], platform);

    // A copy that was begun from one installation is not gone on with from another.
    let third = tempfile::tempdir().unwrap();
    run_json(data.path(), &["migrate-store", "--to", &named(third.path())]);
    let said = refused(other.path(), &["migrate-store", "--to", &named(third.path())], 2);
    assert!(said.contains("of another installation"), "{said}");
    // A backup that is put in the place of a database does not serve.
    if database::postgres().is_none() {
        let fourth = tempfile::tempdir().unwrap();
        std::fs::copy(file, fourth.path().join("countersign.db")).unwrap();
        assert!(refused(fourth.path(), &["serve", "--key-file", &key_file], 2).contains("this is a backup"));
    }
}

/// In a directory where others write, somebody may have been there first.
#[test]
fn a_backup_is_begun_in_a_file_of_ones_own() {
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    let path = |name: &str| data.path().join(name);
    let back_up = || refused(data.path(), &["backup", "--to", path("backup").to_str().unwrap()], 2);
    let elsewhere = path("elsewhere");
    for name in ["backup.partial", "backup.partial.copying", "backup.partial-wal", "backup.partial-journal"] {
        std::os::unix::fs::symlink(&elsewhere, path(name)).unwrap();
        for there in [false, true] {
            let said = back_up();
            assert!(said.contains("backup.partial"), "{said}");
            assert_eq!(std::fs::read(&elsewhere).ok(), there.then(|| b"mine".to_vec()), "{name}");
            std::fs::write(&elsewhere, "mine").unwrap();
        }
        std::fs::remove_file(path(name)).unwrap();
        std::fs::remove_file(&elsewhere).unwrap();
    }
    // What is of somebody else is theirs.
    let partial = path("backup.partial");
    std::fs::write(&partial, "").unwrap();
    if std::os::unix::fs::chown(&partial, Some(1), None).is_ok() {
        assert!(back_up().contains("not yours"));
        std::os::unix::fs::chown(&partial, Some(0), None).unwrap();
    }
    std::fs::write(&partial, "x".repeat(5000)).unwrap();
    let said = back_up();
    assert!(said.contains("backup.partial") && said.contains("remove it"), "{said}");
    // Whoever could read it cannot any more, before anything is in it.
    std::fs::write(&partial, "").unwrap();
    std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o666)).unwrap();
    run_json(data.path(), &["backup", "--to", path("backup").to_str().unwrap()]);
    assert_eq!(std::fs::metadata(path("backup")).unwrap().permissions().mode() & 0o777, 0o600);
}

/// Names that SQLite takes for something else are those of files.
#[test]
fn a_name_is_the_name_of_a_file() {
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    let keys = keys(data.path());
    for name in ["file:x?mode=memory", ":memory:"] {
        let here = |arguments: &[&str]| program_on(data.path()).current_dir(data.path()).args(arguments).output().unwrap();
        let done = here(&["backup", "--to", name, "--data", data.path().to_str().unwrap()]);
        assert!(done.status.success() && data.path().join(name).is_file(), "{done:?}");
        if database::postgres().is_none() {
            let new = format!("{name}.d");
            let done = here(&["restore", "--from", name, "--invalidate-all", "--key-file", &keys, "--data", &new]);
            assert!(done.status.success() && data.path().join(&new).join("countersign.db").is_file(), "{done:?}");
        }
    }
}

/// Tables that are made for a copy are on hold from the first moment on, before it is known whether there will be one.
#[test]
fn nothing_starts_on_tables_made_for_a_copy() {
    let [data, new, third] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    create_platform(data.path(), "Acme");
    run_json(data.path(), &["migrate-store", "--finish", "--to", &named(new.path())]);
    let said = refused(data.path(), &["migrate-store", "--to", &named(third.path())], 2);
    assert!(said.contains("was moved already"), "{said}");
    let said = refused(third.path(), &["token", "list", "--key-file", &keys(data.path())], 2);
    assert!(said.contains("is a copy that is not whole yet"), "{said}");
    // Nothing is in it yet: whoever begins a copy there begins it.
    run_json(new.path(), &["migrate-store", "--finish", "--to", &named(third.path()), "--key-file", &keys(data.path())]);
}

#[test]
fn an_edited_row_is_copied_as_it_is_and_named() {
    let (data, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (platform, [root, production]) = create_platform(data.path(), "Acme");
    database::edit(data.path(), "UPDATE token SET permissions = 'VIEW' WHERE environment = 'sandbox'");
    database::edit(data.path(), "UPDATE platform SET name = 'Evil'");
    let file = data.path().join("backup");
    let said = refused(data.path(), &["backup", "--output", "json", "--to", file.to_str().unwrap()], 1);
    assert!(said.contains(&root.id) && said.contains(&platform) && !said.contains(&production.id), "{said}");
    let said = refused(data.path(), &["migrate-store", "--finish", "--to", &named(new.path())], 1);
    assert!(said.contains("2 rows are not as they were sealed") && said.contains(&root.id), "{said}");
    assert_eq!(database::number(new.path(), "SELECT count(*) FROM token WHERE permissions = 'VIEW'"), 1);
    let server = Server::start_with(new.path(), &["--key-file", &keys(data.path())]);
    assert_eq!(server.get(GRID, &root).0, 401);
}

/// The end of the log was taken away: PostgreSQL still knows how far it went.
#[test]
fn a_log_that_was_cut_off_is_noticed() {
    if database::postgres().is_none() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    database::edit(data.path(), "DELETE FROM audit WHERE seq = 3");
    let file = data.path().join("backup");
    let said = refused(data.path(), &["backup", "--to", file.to_str().unwrap()], 1);
    assert!(said.contains("audit entries 3 to 3, which are missing"), "{said}");
}

/// U-04: made while servers work; what was acknowledged before it is in it.
#[tokio::test(flavor = "multi_thread")]
async fn u_04_a_backup_under_load_is_one_state_of_the_database() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    // Between tokens and their entries there is a table that takes a while.
    let numbers = match database::postgres() {
        None => "(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 40000) SELECT n FROM n)",
        Some(_) => "(SELECT generate_series(1, 40000) AS n) AS numbers",
    };
    let counts = "INSERT INTO live_count (platform_id, environment, name_id, shift, bucket, live) \
                  SELECT (SELECT id FROM platform), 'sandbox', 9, 6, n, 0 FROM";
    database::edit(data.path(), &format!("{counts} {numbers}"));
    let server = Server::start(data.path());
    let api = server.api;
    let file = data.path().join("backup");
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let (before, sent) = std::sync::mpsc::channel();
    let work = |n: usize, before: std::sync::mpsc::Sender<()>| {
        // Each token with whether it is live, as it was acknowledged when the backup had not begun.
        let mut tokens = BTreeMap::new();
        let mut rounds = 0;
        while !stop.load(Ordering::SeqCst) || !done.load(Ordering::SeqCst) {
            let (status, created) = send(api, "POST", GRID, &root, &json!({ "name": format!("n{n}"), "permissions": ["VIEW"] }));
            assert_eq!(status, 201);
            let pair = Pair::of(&created);
            let ends = rounds % 3 == 0;
            if ends {
                assert_eq!(send(api, "DELETE", &format!("{GRID}/{}", pair.id), &root, &Value::Null).0, 204);
            }
            rounds += 1;
            if !stop.load(Ordering::SeqCst) {
                tokens.insert(pair.id.clone(), (pair, !ends));
                if rounds == 20 {
                    before.send(()).unwrap();
                }
            }
        }
        (tokens, rounds)
    };
    let workers = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..4).map(|n| (n, &work, before.clone())).map(|(n, work, before)| scope.spawn(move || work(n, before))).collect();
        let ready = (0..4).all(|_| sent.recv_timeout(Duration::from_secs(60)).is_ok());
        stop.store(true, Ordering::SeqCst);
        // One that has failed says why when it is joined; nobody waits for it for ever.
        let copied = ready.then(|| run(data.path(), &["backup", "--output", "json", "--to", file.to_str().unwrap()]));
        done.store(true, Ordering::SeqCst);
        if let Some(copied) = copied {
            let copied: Value = serde_json::from_slice(&copied.stdout).unwrap_or_else(|e| panic!("{e}: {copied:?}"));
            assert_eq!((&copied["finished"], &copied["edited"]), (&json!(true), &json!(0)));
        }
        workers.into_iter().map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(workers.iter().any(|(tokens, rounds)| *rounds > tokens.len() + 1), "nothing happened meanwhile");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let left: Vec<_> = std::fs::read_dir(data.path()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.starts_with("backup") && name != "backup"), "{left:?}");
    let root_key: Value = serde_json::from_slice(&std::fs::read(data.path().join("keys.json")).unwrap()).unwrap();
    let contents = std::fs::read(&file).unwrap();
    let key = root_key["keys"][0]["root"].as_str().unwrap().as_bytes().to_vec();
    assert!(!contents.windows(key.len()).any(|piece| piece == key), "the key is in the backup");
    drop(server);

    // Restored, and let go without revoking anything, to see that all that verified does so again.
    let restored = tempfile::tempdir().unwrap();
    let key_file = data.path().join("keys.json");
    let copied = authority::restore(&file, &database::of(restored.path()), &key_file.clone().into(), |_, _| {}).await.unwrap();
    assert!(copied.unfinished.is_some() && copied.edited == 0, "{copied:?}");
    let key_file = key_file.to_str().unwrap();
    let said = refused(restored.path(), &["serve", "--key-file", key_file], 2);
    assert!(said.contains("which tokens were revoked since the backup"), "{said}");
    database::edit(restored.path(), "DELETE FROM hold");
    for pairs in [("token.create", "SELECT count(*) FROM token"), ("token.revoke", "SELECT count(*) FROM token WHERE revoked_at >= 0")] {
        let entries = database::number(restored.path(), &format!("SELECT count(*) FROM audit WHERE action = '{}'", pairs.0));
        assert_eq!(entries, database::number(restored.path(), pairs.1), "a change without its entry");
    }
    let server = Server::start_with(restored.path(), &["--key-file", key_file]);
    let (mut live, mut ended) = (0, 0);
    for (pair, is_live) in workers.iter().flat_map(|(tokens, _)| tokens.values()) {
        assert_eq!(server.get(GRID, pair).0, if *is_live { 200 } else { 401 });
        *(if *is_live { &mut live } else { &mut ended }) += 1;
    }
    assert!(live >= 40 && ended >= 20, "{live} {ended}");
}

/// U-05, R-20: a token that was revoked after the backup is not live after a restore.
#[tokio::test(flavor = "multi_thread")]
async fn r_20_a_restore_brings_no_token_back_to_life() {
    let (data, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (platform, [root, _]) = create_platform(data.path(), "Acme");
    let create = ["token", "create", "--platform", &platform, "--environment", "sandbox", "--name", "a", "--permissions", "VIEW"];
    let tokens: Vec<_> = (0..5).map(|_| Pair::of(&run_json(data.path(), &create))).collect();
    let [older, file, newer] = ["older", "backup", "newer"].map(|name| data.path().join(name).to_str().unwrap().to_owned());
    let (file, key_file) = (file.as_str(), keys(data.path()));
    run_json(data.path(), &["backup", "--to", &older]);
    run_json(data.path(), &["token", "revoke", &tokens[0].id]);
    run_json(data.path(), &["backup", "--to", file]);
    run_json(data.path(), &["token", "revoke", &tokens[1].id]);
    run_json(data.path(), &["backup", "--to", &newer]);

    let said = refused(new.path(), &["restore", "--from", file, "--key-file", &key_file], 2);
    assert!(said.contains("--invalidate-all") && said.contains("--journal"), "{said}");
    // Interrupted when it was whole, and nothing was revoked yet.
    let restored = async |file: &str| {
        authority::restore(Path::new(file), &database::of(new.path()), &Path::new(&key_file).to_owned().into(), |_, _| {}).await
    };
    restored(file).await.unwrap();
    // Gone on with from another file: it is not said to be what that one is.
    assert!(restored(&newer).await.unwrap_err().contains("from another backup"));
    for same in [file, &older] {
        let there = u64::try_from(database::number(new.path(), "SELECT max(seq) FROM audit")).unwrap();
        assert_eq!(restored(same).await.unwrap().seq, there, "{same}");
    }
    let restore = ["restore", "--from", file, "--invalidate-all", "--key-file", &key_file];
    let said = refused(new.path(), &["token", "list", "--key-file", &key_file], 2);
    assert!(said.contains("was restored"), "{said}");
    let revoked = run_json(new.path(), &restore);
    assert_eq!((&revoked["finished"], &revoked["tokens"]), (&json!(true), &json!(6)));
    let server = Server::start_with(new.path(), &["--key-file", &key_file]);
    for pair in tokens.iter().chain([&root]) {
        assert_eq!(server.get(GRID, pair).0, 401);
    }
    let entries = run_json(new.path(), &["audit", "list", "--action", "token.revoke", "--key-file", &key_file]);
    assert_eq!(entries["entries"].as_array().unwrap().len(), 7);
    let again = Pair::of(&run_json(new.path(), &[&create[..], &["--key-file", &key_file]].concat()));
    assert_eq!(server.get(GRID, &again).0, 200);
}

/// with the journal of a server, what had ended since the backup ends again, and nothing else.
#[test]
fn r_20_a_journal_is_taken_in_behind_a_backup() {
    let (data, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let server = Server::start(data.path());
    let create = || Pair::of(&server.send("POST", GRID, &root, &json!({ "name": "a", "permissions": ["VIEW"] })).1);
    let (kept, before, after) = (create(), create(), create());
    let end = |token: &Pair| assert_eq!(server.send("DELETE", &format!("{GRID}/{}", token.id), &root, &Value::Null).0, 204);
    end(&before);
    let file = data.path().join("backup");
    let file = file.to_str().unwrap();
    run_json(data.path(), &["backup", "--to", file]);
    end(&after);
    let late = create();
    drop(server);

    let journal = data.path().join("revocations.jsonl");
    let (key_file, journal) = (keys(data.path()), journal.to_str().unwrap());
    let restored = run_json(new.path(), &["restore", "--from", file, "--journal", journal, "--key-file", &key_file]);
    assert_eq!((&restored["finished"], &restored["tokens"], &restored["journals"]), (&json!(true), &json!(1), &json!(1)));
    // The server comes back with its journal, on the database that was restored.
    let server = Server::start_with(new.path(), &["--key-file", &key_file, "--journal", journal]);
    let verified = [&root, &kept, &before, &after, &late].map(|token| server.get("/verify", token).0);
    assert_eq!(verified, [200, 200, 401, 401, 401]);
}
