//! What somebody can bring about who has the database, or its files, and not the key.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Command,
};

use countersign::{
    authority::audit::{Export, Heads, Pruning, verify},
    domain::AuditQuery,
};
use serde_json::json;

use crate::{
    proven::{COLUMNS, keys},
    support::{
        self, GRID, TestApp, database, operator,
        program::{Server, create_platform, refusal, run, run_json, until},
    },
};

/// What lets servers go on behind a database that went back is an operator's word, and has a seal.
#[tokio::test]
async fn r_15_nobody_without_the_key_says_that_what_was_lost_is_taken_in() {
    for with_a_seal in [false, true] {
        let app = TestApp::new().await;
        let directory = app.directory.path();
        let token = app.token("a", &["VIEW"]).await;
        database::remember(directory);
        app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
        app.authority.follow().await.unwrap();
        let seal = match (with_a_seal, database::postgres()) {
            // One that is genuine, of something else.
            (true, _) => "seal",
            (false, None) => "zeroblob(32)",
            (false, Some(_)) => "decode(repeat('00', 32), 'hex')",
        };
        let forged = format!("INSERT INTO lost_mark (mac, seq, taken_in_at, key_id, seal) SELECT seal, seq, at, key_id, {seal} FROM audit");
        database::edit(directory, &forged);
        database::go_back(directory);
        assert!(app.authority.follow().await.unwrap_err().to_string().contains("earlier state"));
        for _ in 0..2 {
            // It remembers that this one has ended; of others it can't be known.
            app.get("/verify").auth(&token).send().await.refused(401, "UNAUTHORIZED");
            app.get("/verify").auth(&app.sandbox).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
            app.authority.follow().await.unwrap_err();
        }
    }
}

/// A trigger that makes an entry, or a row, disappear behind what is answered.
#[tokio::test]
async fn l_01_nothing_that_somebody_put_into_the_database_undoes_what_is_answered() {
    let sqlite = [
        ("audit", "BEFORE INSERT ON audit BEGIN SELECT raise(IGNORE); END"),
        ("audit", "AFTER INSERT ON audit BEGIN DELETE FROM audit WHERE seq = new.seq; END"),
        ("token", "AFTER UPDATE ON token BEGIN UPDATE token SET revoked_at = NULL, proof = old.proof WHERE id = new.id; END"),
        ("token", "BEFORE INSERT ON token BEGIN SELECT raise(IGNORE); END"),
        ("platform", "BEFORE UPDATE ON platform BEGIN SELECT raise(IGNORE); END"),
    ];
    let postgres = [
        ("audit", "BEFORE INSERT", "RETURN NULL"),
        ("audit", "AFTER INSERT", "DELETE FROM audit WHERE seq = new.seq; RETURN NULL"),
        ("token", "BEFORE UPDATE", "RETURN NULL"),
        ("token", "BEFORE INSERT", "RETURN NULL"),
        ("platform", "BEFORE UPDATE", "RETURN NULL"),
    ];
    for (at, (table, statement)) in sqlite.into_iter().enumerate() {
        let app = TestApp::new().await;
        let (directory, before) = (app.directory.path(), app.token("before", &["VIEW"]).await);
        let refused = database::postgres().is_some();
        let statements = match refused {
            false => format!("CREATE TRIGGER foreign_one {statement}"),
            true => {
                let (_, when, body) = postgres[at];
                format!(
                    "CREATE FUNCTION foreign_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; END $$; \
                     CREATE TRIGGER foreign_one {when} ON {table} FOR EACH ROW EXECUTE FUNCTION foreign_one()"
                )
            }
        };
        database::edit(directory, &statements);
        let body = json!({ "name": "behind", "permissions": ["VIEW"] });
        let created = app.post(GRID).json(&body).expecting_5xx().send().await;
        let ended = app.delete(&format!("{GRID}/{}", before.id)).expecting_5xx().send().await;
        let disabled = app.authority.set_platform_disabled(&operator(), app.platform.id, true).await;
        // Done, with its entry, as anybody else reads it; or refused, and not done.
        let entry = |action: &str| database::number(directory, &format!("SELECT count(*) FROM audit WHERE action = '{action}'"));
        let live =
            |name: &str| database::number(directory, &format!("SELECT count(*) FROM token WHERE name = '{name}' AND revoked_at IS NULL"));
        assert_eq!(created.status == 201, live("behind") == 1, "{statements}: {created:?}");
        assert_eq!(ended.status == 204, live("before") == 0 && entry("token.revoke") == 1, "{statements}: {ended:?}");
        let is_disabled = database::number(directory, "SELECT count(*) FROM platform WHERE disabled_at IS NOT NULL") == 1;
        assert_eq!(disabled.is_ok(), is_disabled && entry("platform.disable") == 1, "{statements}: {disabled:?}");
        // On SQLite no trigger runs at all.
        assert!(refused || created.status == 201 && ended.status == 204 && disabled.is_ok(), "{statements}");
        if refused {
            let refused = support::open(directory, &app.clock, &app.entropy).await.map(drop).unwrap_err();
            assert!(refused.contains(&format!("the table {table} has a trigger")), "{refused}");
            database::edit(directory, "DROP FUNCTION foreign_one CASCADE");
        }
    }
}

/// Entries where none can be are not shown, and are told.
#[tokio::test]
async fn l_04_entries_before_the_first_one_are_no_entries() {
    let app = TestApp::new().await;
    let directory = app.directory.path();
    for seq in [0, -5] {
        let forged = COLUMNS.replace("actor", "'operator:mallory'");
        database::edit(directory, &format!("INSERT INTO audit (seq, {COLUMNS}) SELECT {seq}, {forged} FROM audit WHERE seq = 1"));
    }
    let listed = app.authority.list_audit(&operator(), AuditQuery::default()).await.unwrap().0;
    assert!(listed.len() == 3 && listed.iter().all(|entry| entry.seq > 0), "{listed:?}");
    let at = database::of(directory);
    let verified = verify(&at, &keys(&app), &Heads::default(), |_, _| {}).await.unwrap();
    assert!(verified.problems[0].what.starts_with("2 audit entries stand before the first one"), "{:?}", verified.problems);

    // Nor are those before the place up to which the log was pruned.
    database::edit(directory, "DELETE FROM audit WHERE seq < 1");
    app.clock.advance(std::time::Duration::from_secs(40 * 24 * 60 * 60));
    app.token("later", &["VIEW"]).await;
    app.authority.follow().await.unwrap();
    let before = countersign::authority::Clock::wall(&*app.clock).plus_millis(-31 * 24 * 60 * 60 * 1000);
    let pruning = Pruning { before, recent: false, most: None };
    let pruned = app.authority.prune_audit(&operator(), Heads::default(), pruning).await.unwrap();
    assert_eq!(pruned.entries, 3);
    database::edit(directory, &format!("INSERT INTO audit (seq, {COLUMNS}) SELECT 2, {COLUMNS} FROM audit WHERE seq = 4"));
    let listed = app.authority.list_audit(&operator(), AuditQuery::default()).await.unwrap().0;
    assert!(listed.iter().all(|entry| entry.seq > 3), "{listed:?}");
    let mut exported = 0;
    let count = |_: countersign::authority::audit::Exported<'_>| {
        exported += 1;
        std::ops::ControlFlow::Continue(())
    };
    countersign::authority::audit::export(&at, &Export::default(), count).await.unwrap();
    assert_eq!(exported, listed.len());
    // Nor in what a server exports.
    let (mut exporting, mut served) = (app.authority.export_audit(&operator(), Export::default()).await.unwrap(), 0);
    while let Some((lines, more)) = app.authority.clone().export_more(exporting).await.unwrap() {
        (exporting, served) = (more, served + lines.lines().count());
    }
    assert_eq!(served, listed.len());
}

#[tokio::test]
async fn z_11_edited_counts_keep_nobody_from_anything() {
    for count in [i64::MIN, -1, i64::MAX] {
        let app = TestApp::new().await;
        let token = app.token("a", &["VIEW"]).await;
        database::edit(app.directory.path(), &format!("UPDATE live_count SET live = {count}"));
        app.get(GRID).send().await.expect(200);
        app.token("b", &["VIEW"]).await;
        app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
    }
}

/// Commands and servers share the log of the database: without it they would not see each other's changes.
#[test]
fn r_01_a_database_whose_log_is_removed_under_a_server_is_refused() {
    if database::postgres().is_some() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let (platform, [root, _]) = create_platform(data.path(), "Acme");
    let server = Server::start(data.path());
    let (_, created) = server.send("POST", GRID, &root, &json!({ "name": "a", "permissions": ["VIEW"] }));
    let token = support::Pair::of(&created);
    for beside in ["countersign.db-wal", "countersign.db-shm"] {
        fs::remove_file(data.path().join(beside)).unwrap();
    }
    // Whatever would be answered now, the server would not know of it.
    let refused = run(data.path(), &["token", "revoke", &token.id]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("was removed or replaced"), "{refused:?}");
    // Nor would anybody else of what the server answers.
    assert_eq!(server.send("POST", GRID, &root, &json!({ "name": "b", "permissions": ["VIEW"] })).0, 503);
    until("the server refuses everything", || server.get("/verify", &token).0 == 503);
    assert_eq!(server.admin("/readyz").0, 503);
    server.signal("-TERM");
    let (code, log) = server.wait();
    assert!(log.iter().any(|line| line.contains("was removed or replaced")), "{code:?} {log:?}");
    // What it had answered is there.
    let shown = run_json(data.path(), &["token", "list", "--platform", &platform, "--environment", "sandbox"]);
    assert!(shown["tokens"].as_array().unwrap().iter().any(|shown| shown["id"] == token.id.as_str()), "{shown}");
}

/// Two data directories with one database would not know of each other's servers.
#[test]
fn r_01_a_database_by_another_name_is_refused() {
    if database::postgres().is_some() {
        return;
    }
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    create_platform(data.path(), "Acme");
    let database = data.path().join("countersign.db");
    fs::copy(data.path().join("keys.json"), other.path().join("keys.json")).unwrap();
    symlink(&database, other.path().join("countersign.db")).unwrap();
    assert!(refusal(other.path(), &[]).contains("not a file of its own"));
    fs::remove_file(other.path().join("countersign.db")).unwrap();
    fs::hard_link(&database, other.path().join("countersign.db")).unwrap();
    assert!(refusal(other.path(), &[]).contains("has another name"));
    assert!(refusal(data.path(), &[]).contains("has another name"));
    fs::remove_file(other.path().join("countersign.db")).unwrap();
    fs::set_permissions(&database, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(refusal(data.path(), &[]).contains("everybody can write it"));
    fs::set_permissions(&database, fs::Permissions::from_mode(0o600)).unwrap();

    // And a lock file elsewhere is nobody's either.
    fs::create_dir(other.path().join("elsewhere")).unwrap();
    let _ = fs::remove_dir_all(data.path().join("running"));
    symlink(other.path().join("elsewhere"), data.path().join("running")).unwrap();
    assert!(refusal(data.path(), &[]).contains("it is a link"));
}

/// Nothing is written through a link that somebody put into the data directory.
#[test]
fn f_04_the_reserve_is_nobody_elses_file() {
    if database::postgres().is_some() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    let (ballast, precious) = (data.path().join("ballast"), data.path().join("precious"));
    fs::remove_file(&ballast).unwrap();
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, &ballast).unwrap();
    create_platform_again(data.path());
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    fs::remove_file(&ballast).ok();
    create_platform_again(data.path());
    assert_eq!(fs::metadata(&ballast).unwrap().permissions().mode() & 0o777, 0o600);
}

fn create_platform_again(data: &std::path::Path) {
    // Whether it may change anything without a reserve is not asked here.
    let _ = run(data, &["platform", "create", "--name", "Other"]);
}

/// A pipe in the place of the key file keeps nobody waiting.
#[test]
fn f_10_a_pipe_is_no_key_file() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let server = Server::start(data.path());
    let (keys, aside) = (data.path().join("keys.json"), data.path().join("aside"));
    fs::rename(&keys, &aside).unwrap();
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&keys).status().unwrap().success());
    server.signal("-HUP");
    until("the pipe is refused", || server.logged().iter().any(|line| line.contains("is no plain file")));
    fs::remove_file(&keys).unwrap();
    fs::rename(&aside, &keys).unwrap();
    server.signal("-HUP");
    until("the keys are read again", || server.logged().iter().any(|line| line.contains("is read again")));
    assert_eq!(server.get(GRID, &root).0, 200);
}
