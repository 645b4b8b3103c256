//! A database that was put back to an earlier state: the journal knows what had ended.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::support::{
    GRID, Pair, TestApp, database, operator,
    program::{Server, create_platform, refusal, run, run_json, until},
};

fn create(server: &Server, root: &Pair, name: &str) -> Pair {
    let (status, body) = server.send("POST", GRID, root, &json!({ "name": name, "permissions": ["VIEW"] }));
    assert_eq!(status, 201, "{body}");
    Pair::of(&body)
}

fn revoke(server: &Server, root: &Pair, token: &Pair) {
    assert_eq!(server.send("DELETE", &format!("{GRID}/{}", token.id), root, &Value::Null).0, 204);
}

fn verify(server: &Server, token: &Pair) -> u16 {
    server.get("/verify", token).0
}

fn journal(data: &Path) -> String {
    fs::read_to_string(data.join("revocations.jsonl")).unwrap()
}

fn restore(data: &Path) -> Value {
    run_json(data, &["restore", "--journal", data.join("revocations.jsonl").to_str().unwrap()])
}

/// What was taken in.
fn counts(restored: &Value) -> [u64; 3] {
    assert_eq!(restored["finished"], true, "{restored}");
    ["tokens", "platforms", "journals"].map(|name| restored[name].as_u64().unwrap())
}

/// A restore that is refused: what it says, in one line.
fn refused(data: &Path, arguments: &[&str]) -> String {
    let output = run(data, &[&["restore"], arguments].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    said
}

#[test]
fn r_20_what_ended_since_a_backup_stays_ended() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (platform, [root, _]) = create_platform(data, "Acme");
    let (other, [other_root, _]) = create_platform(data, "Other");
    let server = Server::start(data);
    let (kept, first, second) = (create(&server, &root, "kept"), create(&server, &root, "first"), create(&server, &root, "second"));
    for n in 0..20 {
        let token = create(&server, &root, "quick");
        revoke(&server, &root, &token);
        assert!(journal(data).contains(&token.id), "it was not there with the answer ({n})");
    }
    let created = database::number(data, "SELECT max(seq) FROM audit");
    database::remember(data);
    revoke(&server, &root, &first);
    let late = create(&server, &root, "late");
    drop(server);

    // Nobody writes a journal while no server runs; the next one catches up.
    assert!(run(data, &["token", "revoke", &second.id]).status.success());
    assert!(run(data, &["platform", "disable", &other]).status.success());
    assert!(!journal(data).contains(&second.id));
    let server = Server::start(data);
    assert!(journal(data).contains(&second.id) && journal(data).contains(&other));
    assert_eq!((verify(&server, &kept), verify(&server, &late), verify(&server, &other_root)), (200, 200, 401));
    assert!(!journal(data).contains(&kept.id));
    drop(server);

    database::go_back(data);
    assert_eq!(database::number(data, "SELECT max(seq) FROM audit"), created);
    let refused = refusal(data, &[]);
    assert!(refused.contains("earlier state") && refused.contains("countersign restore --journal"), "{refused}");
    assert_eq!(counts(&restore(data)), [2, 1, 1]);
    assert_eq!(counts(&restore(data)), [0, 0, 0], "once more changes nothing");
    let server = Server::start(data);
    let verified = [&kept, &first, &second, &late, &root, &other_root].map(|token| verify(&server, token));
    assert_eq!(verified, [200, 401, 401, 401, 200, 401]);
    let audit = run_json(data, &["audit", "list", "--action", "restore"]);
    assert_eq!(audit["entries"].as_array().unwrap().len(), 2, "{audit}");
    // The journal goes on in the history as it is now.
    revoke(&server, &root, &kept);
    assert!(journal(data).contains(&kept.id));
    drop(server);
    drop(Server::start(data));
    assert!(run(data, &["platform", "enable", &platform]).status.success());
}

/// A server that runs refuses everything, and goes on by itself once what was lost is taken in.
#[test]
fn r_15_a_running_server_waits_for_the_operator() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, _]) = create_platform(data, "Acme");
    let server = Server::start(data);
    let (kept, ended) = (create(&server, &root, "kept"), create(&server, &root, "ended"));
    database::remember(data);
    revoke(&server, &root, &ended);
    let late = create(&server, &root, "late");
    let tokens = [&kept, &ended, &late];
    assert_eq!(tokens.map(|token| verify(&server, token)), [200, 401, 200]);
    database::go_back(data);
    while verify(&server, &kept) != 503 {}
    for _ in 0..20 {
        // What is known to have ended is refused as ever; nothing else is known.
        let statuses = tokens.map(|token| verify(&server, token));
        assert_eq!((statuses[0], statuses[2]), (503, 503));
        assert_ne!(statuses[1], 200);
    }
    assert_eq!(server.send("POST", GRID, &root, &json!({ "name": "a", "permissions": ["VIEW"] })).0, 503);
    assert_eq!(server.admin("/readyz").1["reason"], "the database went back to an earlier state, or is on hold");
    assert_eq!(counts(&restore(data)), [1, 0, 1]);
    while verify(&server, &kept) == 503 {}
    assert_eq!(tokens.map(|token| verify(&server, token)), [200, 401, 401]);
    create(&server, &root, "after");
    assert_eq!(server.admin("/readyz").0, 200);
}

#[test]
fn a_journal_of_another_database_or_with_a_broken_line_is_refused() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, other) = (data.path(), other.path());
    create_platform(data, "Acme");
    create_platform(other, "Other");
    drop(Server::start(data));
    let path = data.join("revocations.jsonl");
    let foreign = run(other, &["restore", "--journal", path.to_str().unwrap()]);
    assert!(!foreign.status.success() && String::from_utf8_lossy(&foreign.stderr).contains("of another database"), "{foreign:?}");
    fs::copy(&path, other.join("revocations.jsonl")).unwrap();
    assert!(refusal(other, &[]).contains("of another database"));

    // Its directory is made where it is not there.
    let elsewhere = data.join("new/here.jsonl");
    drop(Server::start_with(data, &["--journal", elsewhere.to_str().unwrap()]));
    assert!(elsewhere.exists());

    let whole = journal(data);
    // Cut off in the middle of a line, as a power cut does: nobody was told that the line is there.
    let torn = format!("{whole}{{\"installation\":");
    fs::write(&path, &torn).unwrap();
    let restored = restore(data);
    assert_eq!((&restored["reach"][0]["torn"], journal(data)), (&json!(true), torn));
    drop(Server::start(data));
    assert!(journal(data).starts_with(&whole));
    assert_eq!(restore(data)["reach"][0]["torn"], false);
    fs::write(&path, format!("{whole}nonsense\nnonsense\n")).unwrap();
    assert!(refusal(data, &[]).contains("does not end with lines that countersign wrote"));
    // A server reads the end alone; who restores reads all of it.
    fs::write(&path, format!("{whole}nonsense\n{whole}")).unwrap();
    drop(Server::start(data));
    let said = refused(data, &["--journal", path.to_str().unwrap()]);
    assert!(said.contains(&format!("line {} of the journal", whole.lines().count() + 1)), "{said}");
}

/// Whoever edits it can neither take an end out nor move one: the line is named.
#[test]
fn r_20_a_journal_that_was_edited_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, _]) = create_platform(data, "Acme");
    let server = Server::start(data);
    let [first, second] = ["first", "second"].map(|name| create(&server, &root, name));
    database::remember(data);
    for token in [&first, &second] {
        revoke(&server, &root, token);
    }
    drop(server);
    database::go_back(data);
    let (path, whole) = (data.join("revocations.jsonl"), journal(data));
    let lines: Vec<_> = whole.lines().collect();
    let at = lines.iter().position(|line| line.contains(&first.id)).unwrap();
    assert!(at > 0 && at + 1 < lines.len(), "{whole}");
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
        change(&mut lines);
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        refused(data, &["--journal", path.to_str().unwrap()])
    };
    let is_line = |number: usize, why: &str| format!("line {number} of the journal {} {why}", path.display());
    let removed = changed(&|lines| drop(lines.remove(at)));
    assert!(removed.contains(&is_line(at + 1, "does not go on behind the line before it")), "{removed}");
    let swapped = changed(&|lines| lines.swap(at, at + 1));
    assert!(swapped.contains(&is_line(at + 1, "does not go on behind")), "{swapped}");
    let begins_late = changed(&|lines| drop(lines.remove(0)));
    assert!(begins_late.contains(&is_line(1, "does not go on behind")), "{begins_late}");
    let other = changed(&|lines| lines[at] = lines[at].replace(&first.id, &second.id));
    assert!(other.contains(&is_line(at + 1, "is not as it was written")), "{other}");
    let none = changed(&|lines| lines[at] = lines[at].replace(&format!(",\"ended\":[\"{}\"]", first.id), ""));
    assert!(none.contains(&is_line(at + 1, "is not as it was written")), "{none}");
    // A server looks at the last one.
    let last = changed(&|lines| *lines.last_mut().unwrap() = lines.last().unwrap().replace("\"seq\":", "\"seq\":9"));
    assert!(last.contains("is not as it was written"), "{last}");
    assert!(refusal(data, &[]).contains("the last line of the journal"));
    fs::write(&path, &whole).unwrap();
    let restored = restore(data);
    assert_eq!(counts(&restored), [2, 0, 1]);
    let reach = &restored["reach"][0];
    let of = |line: &str, name: &str| serde_json::from_str::<Value>(line).unwrap()[name].clone();
    assert_eq!(reach["after"], of(lines[0], "seq"));
    assert_eq!((&reach["through"], &reach["at"]), (&of(lines[lines.len() - 1], "seq"), &of(lines[lines.len() - 1], "at")));
}

/// What is no journal is not taken for the beginnings of one, and nothing waits for a pipe.
#[test]
fn a_file_that_is_no_journal_is_not_touched() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    create_platform(data, "Acme");
    let mine = data.join("mine");
    let named = mine.to_str().unwrap();
    let (keys, link) = (data.join("keys.json"), data.join("link"));
    std::os::unix::fs::symlink(&mine, &link).unwrap();
    for text in ["secret", "secret\n", "{\"installed\":1}", "one\ntwo"] {
        fs::write(&mine, text).unwrap();
        for path in [&mine, &link] {
            let said = refusal(data, &["--journal", path.to_str().unwrap()]);
            assert!(said.contains("is no journal") && said.contains("--journal"), "{said}");
            assert_eq!(fs::read_to_string(&mine).unwrap(), text);
        }
    }
    let before = fs::read(&keys).unwrap();
    let mut others = vec![keys.clone()];
    others.extend(database::postgres().is_none().then(|| data.join("countersign.db")));
    for other in others {
        assert!(refusal(data, &["--journal", other.to_str().unwrap()]).contains("which is something else"));
    }
    assert_eq!(fs::read(&keys).unwrap(), before);
    fs::remove_file(&mine).unwrap();
    assert!(Command::new("mkfifo").arg(&mine).status().unwrap().success());
    assert!(refusal(data, &["--journal", named]).contains("no plain file"));
    let said = refused(data, &["--journal", named]);
    assert!(said.contains("no plain file"), "{said}");
    assert!(refusal(data, &["--journal", data.to_str().unwrap()]).contains("cannot write the journal"));
    // Torn in its very first line, it is one.
    fs::remove_file(&mine).unwrap();
    fs::write(&mine, "{\"installation\":\"00").unwrap();
    drop(Server::start_with(data, &["--journal", named]));
    assert!(fs::read_to_string(&mine).unwrap().ends_with("\"}\n"));
}

/// A database that was moved, or is not whole, is not served by those either who were there before.
#[test]
fn a_running_server_obeys_a_hold() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, _]) = create_platform(data, "Acme");
    let server = Server::start(data);
    let token = create(&server, &root, "a");
    database::edit(data, "INSERT INTO hold (one, reason) VALUES (1, 'moved')");
    while verify(&server, &token) != 503 {}
    assert_eq!(server.admin("/readyz").0, 503);
    let command = run(data, &["token", "revoke", &token.id]);
    assert!(String::from_utf8_lossy(&command.stderr).contains("was moved"), "{command:?}");
    database::edit(data, "DELETE FROM hold");
    while verify(&server, &token) == 503 {}
    assert_eq!(verify(&server, &token), 200);
}

/// A journal that began later knows nothing of what had ended before.
#[test]
fn r_20_a_journal_must_reach_back_to_the_backup() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, _]) = create_platform(data, "Acme");
    let server = Server::start(data);
    let ended = create(&server, &root, "ended");
    database::remember(data);
    revoke(&server, &root, &ended);
    // Another server beside it has a journal of its own, which begins here.
    let second = Server::start(data);
    let late = data.join("revocations.jsonl.2");
    revoke(&second, &root, &create(&second, &root, "later"));
    drop((server, second));
    database::go_back(data);
    let refused = run(data, &["restore", "--journal", late.to_str().unwrap()]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("must begin before"), "{refused:?}");
    assert!(refusal(data, &[]).contains("earlier state"));
    run_json(data, &["restore", "--journal", data.join("revocations.jsonl").to_str().unwrap(), "--journal", late.to_str().unwrap()]);
    let server = Server::start(data);
    assert_eq!([&root, &ended].map(|token| verify(&server, token)), [200, 401]);
}

/// What ended while no server ran is in the database alone: neither the journal of one that had ended nor that of one that
/// began afterwards knows it, whichever way the database is brought back.
#[test]
fn r_20_what_ended_between_two_servers_is_missed() {
    let (first, second, fresh) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, journals) = (first.path(), [&first, &second].map(|data| data.path().join("revocations.jsonl")));
    let (_, [root, _]) = create_platform(data, "Acme");
    let server = Server::start(data);
    let [ended, later] = ["ended", "later"].map(|name| create(&server, &root, name));
    // By now its journal has all of this.
    revoke(&server, &root, &create(&server, &root, "gone"));
    drop(server);
    let backup = data.join("backup");
    run_json(data, &["backup", "--to", backup.to_str().unwrap()]);
    database::remember(data);
    let there = database::number(data, "SELECT max(seq) FROM audit");
    for token in [&ended, &later] {
        assert!(run(data, &["token", "revoke", &token.id]).status.success());
    }
    let [a, b] = journals.each_ref().map(|journal| journal.to_str().unwrap());
    drop(Server::start_with(data, &["--journal", b]));
    assert!(!fs::read_to_string(b).unwrap().contains("ended"));
    database::go_back(data);

    let both = ["--journal", a, "--journal", b];
    let said = refused(data, &both);
    assert!(said.contains(&format!("of what ended in places {} to {} none", there + 1, there + 2)), "{said}");
    assert!(
        said.contains(&format!("{a} knows what ended behind place")) && said.contains(&format!("up to place {there}, written 2")),
        "{said}"
    );
    assert!(refused(data, &["--journal", b]).contains(&format!("in places {} to {} none", there + 1, there + 2)));
    assert!(refusal(data, &["--journal", b]).contains("earlier state"));
    let keys = data.join("keys.json");
    let from = ["--from", backup.to_str().unwrap(), "--key-file", keys.to_str().unwrap()];
    let said = refused(fresh.path(), &[&both[..], &from].concat());
    assert!(said.contains(&format!("in places {} to {} none", there + 1, there + 2)), "{said}");
    assert!(refusal(fresh.path(), &from[2..]).contains("was restored"));
    let restored = run_json(fresh.path(), &[&["restore", "--invalidate-all"], &both[..], &from].concat());
    assert_eq!(restored["finished"], true);
    let server = Server::start_with(fresh.path(), &from[2..]);
    assert_eq!([&ended, &later].map(|token| verify(&server, token)), [401; 2]);
}

/// Whoever had opened the database before it was moved changes nothing in it any more, however late they come.
#[tokio::test]
async fn a_change_that_comes_late_obeys_a_hold() {
    let app = TestApp::new().await;
    let audit = "SELECT count(*) FROM audit";
    let before = database::number(app.directory.path(), audit);
    database::edit(app.directory.path(), "INSERT INTO hold (one, reason) VALUES (1, 'moved')");
    let disabled = app.authority.set_platform_disabled(&operator(), app.platform.id, true).await.unwrap_err();
    assert!(disabled.to_string().contains("was moved"), "{disabled}");
    app.post(GRID).json(&json!({ "name": "a", "permissions": ["VIEW"] })).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    assert_eq!(database::number(app.directory.path(), audit), before);
}

/// A journal that somebody moves away, removes or cuts off goes on under its name: the end that comes next is in it, and whoever
/// reads the log knows what happened.
#[test]
fn a_journal_that_was_moved_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, _]) = create_platform(data, "Acme");
    let server = Server::start(data);
    let path = data.join("revocations.jsonl");
    let cut = |len: u64| fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
    let ways: [(&dyn Fn(), &str); 4] = [
        (&|| fs::rename(&path, data.join("old.jsonl")).unwrap(), "was moved away"),
        (&|| fs::remove_file(&path).unwrap(), "was removed"),
        (&|| cut(0), "was cut off"),
        (&|| cut(fs::metadata(&path).unwrap().len() - 3), "was cut off"),
    ];
    for (n, (away, said)) in ways.into_iter().enumerate() {
        away();
        let token = create(&server, &root, "a");
        revoke(&server, &root, &token);
        let there = journal(data);
        assert!(there.starts_with("{\"installation\"") && there.contains(&token.id), "{n}: {there:?}");
        let told = loop {
            if let Some(told) = server.logged().into_iter().find(|line| line.contains("the journal was")) {
                break told;
            }
        };
        assert!(told.contains(said), "{told}");
    }
    // What is behind the cut is a part of its own.
    assert_eq!(restore(data)["reach"].as_array().unwrap().len(), 2);
    assert_eq!(server.metric("journal_failing"), "0");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    revoke(&server, &root, &create(&server, &root, "a"));
    assert_eq!(server.metric("journal_failing"), "1");
    fs::remove_dir(&path).unwrap();
    revoke(&server, &root, &create(&server, &root, "a"));
    // While it fails a revoke does not wait for it.
    until("the journal is written again", || server.metric("journal_failing") == "0");
    drop(server);
    assert_eq!(Server::start(data).admin("/readyz").0, 200);
}

/// Whoever moves it away while a server runs has parts of it, one beginning where the other ends, and restores with all.
#[test]
fn r_20_parts_of_a_journal_are_one_if_none_is_missing() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, _]) = create_platform(data, "Acme");
    let server = Server::start(data);
    let tokens = [(); 3].map(|()| create(&server, &root, "a"));
    database::remember(data);
    let path = data.join("revocations.jsonl");
    let parts = ["first.jsonl", "second.jsonl", "revocations.jsonl"].map(|part| data.join(part));
    for (token, part) in tokens.iter().zip(&parts) {
        revoke(&server, &root, token);
        if *part != path {
            fs::rename(&path, part).unwrap();
            // At once, not with the next end.
            while !path.exists() || journal(data).is_empty() {}
        }
    }
    drop(server);
    database::go_back(data);
    let restore = |given: &[&Path]| {
        let journals = given.iter().flat_map(|part| ["--journal", part.to_str().unwrap()]);
        run(data, &["restore", "--output", "json"].into_iter().chain(journals).collect::<Vec<_>>())
    };
    let [first, second, last] = &parts;
    for (given, why) in [([first, last], "go on where another one ends"), ([second, last], "begin before")] {
        let refused = restore(&given.map(PathBuf::as_path));
        assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains(why), "{why}: {refused:?}");
    }
    assert!(refusal(data, &[]).contains("earlier state"));
    let restored = restore(&[last, first, second]);
    assert!(restored.status.success(), "{restored:?}");
    assert_eq!(serde_json::from_slice::<Value>(&restored.stdout).unwrap()["tokens"], 3);
    let server = Server::start(data);
    assert_eq!(tokens.each_ref().map(|token| verify(&server, token)), [401; 3]);
}

/// What cannot be ended keeps nothing else from ending, and is told by name; nothing is served before it has.
#[test]
fn r_20_one_end_that_fails_does_not_keep_others() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, _]) = create_platform(data, "Acme");
    let server = Server::start(data);
    let [stuck, other, stuck_too] = ["stuck", "other", "stuck"].map(|name| create(&server, &root, name));
    database::remember(data);
    for token in [&stuck, &other, &stuck_too] {
        revoke(&server, &root, token);
    }
    drop(server);
    database::go_back(data);
    database::refuse_changes(data, "stuck");
    let failed = run(data, &["restore", "--journal", data.join("revocations.jsonl").to_str().unwrap()]);
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(!failed.status.success() && said.contains(&stuck.id) && said.contains(&stuck_too.id), "{said}");
    assert!(!said.contains(&other.id), "{said}");
    assert_eq!(database::number(data, "SELECT count(*) FROM token WHERE revoked_at IS NOT NULL"), 1);
    assert!(refusal(data, &[]).contains("earlier state"));
    database::allow_changes(data);
    assert_eq!(restore(data)["tokens"], 2);
    assert_eq!(verify(&Server::start(data), &stuck), 401);
}
