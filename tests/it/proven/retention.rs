//! Retention: old entries go, and what is left is as proven as before, for whoever verifies, follows and restores.

use super::*;

/// Retention: old entries go, and what is left is proven as before.
#[tokio::test]
async fn l_05_a_pruned_log_is_proven_as_before() {
    let (app, elsewhere) = log().await;
    let directory = app.directory.path();
    database::edit(directory, "CREATE TABLE kept AS SELECT * FROM audit");
    app.clock.advance(Duration::from_secs(40 * DAY));
    app.authority.follow().await.unwrap();
    let mut writer = elsewhere.writer(&app);
    for name in ["g", "h"] {
        app.token(name, &["VIEW"]).await;
        writer.write().await;
    }
    app.authority.follow().await.unwrap();
    assert!(pruned(&app, elsewhere.heads(), 29).await.unwrap_err().contains("must be 30 days ago or more"));
    assert_eq!(pruned(&app, elsewhere.heads(), 41).await.unwrap(), Pruned { through: 0, entries: 0 });
    // What is not as it was written is not made to disappear.
    database::edit(directory, "UPDATE audit SET detail = '{}' WHERE seq = 2");
    assert!(pruned(&app, elsewhere.heads(), 31).await.unwrap_err().contains("nothing was pruned"));
    database::edit(directory, "UPDATE audit SET detail = (SELECT detail FROM kept WHERE kept.seq = 2) WHERE seq = 2");
    assert_eq!(pruned(&app, elsewhere.heads(), 31).await.unwrap(), Pruned { through: 9, entries: 9 });
    assert_eq!(database::number(directory, "SELECT min(seq) FROM audit"), 10);

    let whole = async || {
        let found = verified(&app, &elsewhere.heads()).await;
        assert_eq!((found.found, found.first, found.heads_of_pruned), (0, 10, 2), "{:?}", found.problems);
        for most in [1, 2, 200_000] {
            assert_eq!(in_parts(&app, most).await, (Vec::new(), found.entries), "{most}");
        }
        found
    };
    let found = whole().await;
    assert_eq!((found.entries, found.last, found.heads), (3, 12, 3));
    // The writer that was there goes on, and so does one that begins anew; every entry that is left can be proven.
    app.authority.follow().await.unwrap();
    writer.write().await;
    app.token("i", &["VIEW"]).await;
    elsewhere.writer(&app).write().await;
    assert_eq!(whole().await.heads, 5);
    for seq in 10..=13 {
        let (database, keys, kept) = (database::of(directory), keys(&app), elsewhere.heads());
        prove(&database, &keys, seq, Some(&kept), &*app.clock).await.unwrap();
    }
    // What an interrupted run has left is in nobody's way, and goes with the next run.
    database::edit(directory, &format!("INSERT INTO audit (seq, {COLUMNS}) SELECT seq, {COLUMNS} FROM kept WHERE seq > 4"));
    whole().await;
    let (database, file) = (database::of(directory), directory.join("backup"));
    let copied = countersign::authority::back_up(&database, &keys(&app), &file, |_, _| {}).await.unwrap();
    assert_eq!((copied.edited, copied.named.len()), (0, 0), "{copied:?}");
    app.authority.follow().await.unwrap();
    assert_eq!(pruned(&app, elsewhere.heads(), 31).await.unwrap(), Pruned { through: 9, entries: 0 });
    assert_eq!(database::number(directory, "SELECT min(seq) FROM audit"), 10);

    // Nobody else makes entries disappear like this.
    database::edit(directory, "DELETE FROM audit WHERE seq = 10");
    assert_eq!(verified(&app, &Heads::default()).await.problems[0].seq, 10);
    assert_eq!(in_parts(&app, 2).await.0[0].0, 10);
    database::edit(directory, "UPDATE audit_checkpoint SET pruned = NOT pruned");
    let problems = verified(&app, &Heads::default()).await.problems;
    assert!(problems.iter().any(|problem| problem.what.starts_with("audit entries 1 to 10 are missing")), "{problems:?}");
}

/// A process that has not followed what is removed is told apart from one that has followed another history.
#[tokio::test]
async fn l_05_nobody_goes_on_from_a_place_that_was_pruned() {
    let (mut app, _elsewhere) = log().await;
    app.try_replace(|_| {}).await.unwrap();
    app.clock.advance(Duration::from_secs(40 * DAY));
    // These have followed to the ninth entry, and now stand still.
    let stale = app.try_replace(|_| {}).await.unwrap();
    let reading = app.try_replace(|_| {}).await.unwrap();
    let token = app.token("g", &["VIEW"]).await;
    app.token("h", &["VIEW"]).await;
    app.authority.follow().await.unwrap();
    if database::postgres().is_some() {
        let refused = pruned(&app, Heads::default(), 31).await.unwrap_err();
        assert!(refused.contains("not all processes have followed"), "{refused}");
        database::edit(app.directory.path(), "DELETE FROM node");
    }
    assert_eq!(pruned(&app, Heads::default(), 31).await.unwrap().through, 9);
    // One read by primary key is enough.
    reading.prove(Presented::parse_basic(token.basic().as_bytes()).as_ref(), None).await.unwrap_err();
    assert_eq!(reading.ready().await.unwrap_err(), "the database went back to an earlier state, or is on hold");
    let refused = stale.follow().await.unwrap_err().to_string();
    assert!(refused.contains("a part of the audit log that was pruned"), "{refused}");
    assert_eq!(stale.ready().await.unwrap_err(), "the database went back to an earlier state, or is on hold");
}

/// A journal that began before what was pruned still knows what ended behind a backup.
#[test]
fn l_05_a_journal_serves_behind_a_prune() {
    let data = tempfile::tempdir().unwrap();
    let new = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, _]) = create_platform(data, "Acme");
    let server = Server::start(data);
    let create = |server: &Server, name: &str| {
        let (status, body) = server.send("POST", GRID, &root, &json!({ "name": name, "permissions": ["VIEW"] }));
        assert_eq!(status, 201, "{body}");
        Pair::of(&body)
    };
    let revoke = |server: &Server, token: &Pair| {
        assert_eq!(server.send("DELETE", &format!("{GRID}/{}", token.id), &root, &Value::Null).0, 204);
    };
    let (first, second) = (create(&server, "first"), create(&server, "second"));
    revoke(&server, &first);
    // So that the journal has a place that is not pruned.
    let third = create(&server, "third");
    revoke(&server, &third);
    let prune = run(data, &["audit", "prune", "--recent", "--before", "9999-01-01T00:00:00Z", "--output", "json"]);
    assert!(prune.status.success(), "{prune:?}");
    let pruned: Value = serde_json::from_slice(&prune.stdout).unwrap();
    assert_eq!(pruned, json!({ "entries": 7, "through": 7 }));
    let fourth = create(&server, "fourth");
    revoke(&server, &fourth);
    let file = data.join("backup");
    assert!(run(data, &["backup", "--to", file.to_str().unwrap()]).status.success());
    revoke(&server, &second);
    server.signal("-TERM");
    assert_eq!(server.wait().0, Some(0));

    let (keys, journal, part) = (data.join("keys.json"), data.join("revocations.jsonl"), data.join("part.jsonl"));
    let text = fs::read_to_string(&journal).unwrap();
    let behind = |line: &&str| serde_json::from_str::<Value>(line).unwrap()["ended"][0] == second.id;
    let [before, after]: [Vec<_>; 2] = {
        let place = text.lines().position(|line| behind(&line)).unwrap();
        let not_pruned = text.lines().position(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64() > Some(7)).unwrap();
        [text.lines().take(not_pruned).collect(), text.lines().skip(place).collect()]
    };
    let [file, keys, journal, part] = [&file, &keys, &journal, &part].map(|path| path.to_str().unwrap());
    // Without a place that is in the backup, nobody can tell that nothing is missing.
    for (lines, why) in [([before.clone(), after].concat(), "lines are missing there"), (before, "must begin before")] {
        fs::write(part, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let refused = run(new.path(), &["restore", "--from", file, "--journal", part, "--key-file", keys]);
        assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains(why), "{refused:?}");
    }
    let restored = run(new.path(), &["restore", "--from", file, "--journal", journal, "--key-file", keys]);
    assert!(restored.status.success(), "{restored:?}");
    let server = Server::start_with(new.path(), &["--key-file", keys]);
    assert_eq!([&root, &first, &second, &fourth].map(|token| server.get("/verify", token).0), [200, 401, 401, 401]);
    let verified = run(new.path(), &["audit", "verify", "--key-file", keys]);
    assert!(
        verified.status.success() && String::from_utf8_lossy(&verified.stdout).contains("entries before 8 were pruned"),
        "{verified:?}"
    );
}

/// A process that ran once has left a journal beside that of the server, and what it had followed was pruned. The server names that
/// journal, and starts when it is moved away.
#[test]
fn l_05_a_journal_that_was_left_behind_is_named() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, _]) = create_platform(data, "Acme");
    let change = |server: &Server, name: &str| {
        let (status, body) = server.send("POST", GRID, &root, &json!({ "name": name, "permissions": ["VIEW"] }));
        assert_eq!(status, 201, "{body}");
        let ended = server.send("DELETE", &format!("{GRID}/{}", Pair::of(&body).id), &root, &Value::Null);
        assert_eq!(ended.0, 204);
    };
    let end = |server: Server| {
        server.signal("-TERM");
        assert_eq!(server.wait().0, Some(0));
    };
    let (server, beside) = (Server::start(data), Server::start(data));
    change(&server, "a");
    end(beside);
    change(&server, "b");
    assert!(run(data, &["audit", "prune", "--recent", "--before", "9999-01-01T00:00:00Z"]).status.success());
    change(&server, "c");
    end(server);

    let (own, other) = (data.join("revocations.jsonl"), data.join("revocations.jsonl.2"));
    let said = refusal(data, &[]);
    assert!(said.contains("a part of the audit log that was pruned"), "{said}");
    assert!(said.contains(&format!("the journal {} goes no further", other.display())), "{said}");
    assert!(said.contains("move that journal away"), "{said}");
    fs::rename(&other, data.join("kept")).unwrap();
    assert!(own.exists());
    end(Server::start(data));
}
