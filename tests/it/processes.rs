//! Several processes on one data directory: what one changes, the others know.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};

use crate::support::{
    BLIPS, GRID, Pair, database,
    program::{Server, create_platform, run, run_json, until},
};

#[test]
fn f_08_what_a_command_makes_a_running_server_knows_at_once() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let (platform, [root, _]) = create_platform(data.path(), "Acme");
    assert_eq!(server.get(GRID, &root).0, 200);
    let token = run_json(
        data.path(),
        &["token", "create", "--platform", &platform, "--environment", "sandbox", "--name", "a", "--permissions", "VIEW"],
    );
    let token = Pair::of(&token);
    assert_eq!(server.get(GRID, &token).0, 200);
    assert_eq!(server.admin("/healthz"), (200, json!({ "status": "ok", "integrityFailures": 0, "stale": false })));
}

/// When the command returns, the server refuses: while it was hammered with the token all the time.
#[test]
fn r_01_a_revoke_by_command_is_true_when_it_returns() {
    let data = tempfile::tempdir().unwrap();
    let (platform, [root, _]) = create_platform(data.path(), "Acme");
    let server = Server::start(data.path());
    let api = server.api;
    for _ in 0..3 {
        let (_, created) = server.send("POST", GRID, &root, &json!({ "name": "a", "permissions": ["VIEW"] }));
        let token = Pair::of(&created);
        let (ended, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let verifier = {
            let (ended, stop, token) = (ended.clone(), stop.clone(), token.clone());
            std::thread::spawn(move || {
                let request = format!("GET {GRID} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n\r\n", token.basic());
                let (mut accepted, mut offences) = (0, 0);
                while !stop.load(Ordering::SeqCst) {
                    let begun_after = ended.load(Ordering::SeqCst);
                    if crate::support::program::request(api, &request).0 == 200 {
                        accepted += 1;
                        offences += u32::from(begun_after);
                    }
                }
                (accepted, offences)
            })
        };
        run_json(data.path(), &["token", "revoke", &token.id]);
        ended.store(true, Ordering::SeqCst);
        // Having tried so often, it may be told to wait.
        assert!([401, 429].contains(&server.get(GRID, &token).0));
        stop.store(true, Ordering::SeqCst);
        let (accepted, offences) = verifier.join().unwrap();
        assert_eq!(offences, 0);
        assert!(accepted > 0, "nothing was verified meanwhile: this proves nothing");
    }
    run_json(data.path(), &["platform", "disable", &platform]);
    assert!([401, 429].contains(&server.get(GRID, &root).0));
}

#[test]
fn two_servers_agree() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let (one, two) = (Server::start(data.path()), Server::start(data.path()));
    let mut kept = Vec::new();
    for n in 0..4 {
        let (a, b) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let (status, created) = a.send("POST", GRID, &root, &json!({ "name": "a", "permissions": ["VIEW"] }));
        assert_eq!(status, 201);
        let token = Pair::of(&created);
        assert_eq!(b.get(GRID, &token).0, 200, "made on the other server a moment ago");
        let (status, _) = a.send("POST", &format!("{BLIPS}/{}/revoke", token.id), &root, &Value::Null);
        assert_eq!((status, a.get(GRID, &token).0, b.get(GRID, &token).0), (200, 401, 401));
        kept.push(token);
    }
    // Alone again, a revoke need not wait for anybody.
    drop(two);
    let (_, created) = one.send("POST", GRID, &root, &json!({ "name": "a", "permissions": ["VIEW"] }));
    assert_eq!(one.send("DELETE", &format!("{GRID}/{}", Pair::of(&created).id), &root, &Value::Null).0, 204);
    assert!(kept.iter().all(|token| one.get(GRID, token).0 == 401));
}

/// A tampered row that one process comes across is refused by the others too.
#[test]
fn z_11_what_one_finds_edited_all_refuse() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let server = Server::start(data.path());
    let (_, created) = server.send("POST", GRID, &root, &json!({ "name": "target", "permissions": ["VIEW"] }));
    let token = Pair::of(&created);
    database::edit(data.path(), "UPDATE token SET proof = zeroblob(68) WHERE name = 'target'");
    assert_eq!(server.get(GRID, &token).0, 200, "it was not looked at yet");
    let output = run(data.path(), &["token", "revoke", &token.id]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(server.get(GRID, &token).0, 401, "the command said that it is refused everywhere");
    assert_eq!(server.admin("/healthz").1["integrityFailures"], 1);
}

#[test]
fn u_01_eight_at_once_on_an_empty_directory() {
    let data = tempfile::tempdir().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let path = data.path().to_owned();
            std::thread::spawn(move || run(&path, &["platform", "create", "--name", &format!("p{n}"), "--output", "json"]))
        })
        .collect();
    for thread in threads {
        let output = thread.join().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let platforms = run_json(data.path(), &["platform", "list"]);
    assert_eq!(platforms["platforms"].as_array().unwrap().len(), 8);
}

/// D-01 in short: whatever was acknowledged before a kill is there after it.
#[test]
fn r_06_a_kill_forgets_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let (mut live, mut ended) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let server = Server::start(data.path());
        for n in 0..20 {
            let (status, created) = server.send("POST", GRID, &root, &json!({ "name": format!("{round}-{n}"), "permissions": ["VIEW"] }));
            assert_eq!(status, 201);
            let token = Pair::of(&created);
            if n % 2 == 0 {
                assert_eq!(server.send("DELETE", &format!("{GRID}/{}", token.id), &root, &Value::Null).0, 204);
                ended.push(token);
            } else {
                live.push(token);
            }
        }
        server.signal("-KILL");
        drop(server);
        let server = Server::start(data.path());
        assert!(live.iter().all(|token| server.get(GRID, token).0 == 200));
        assert!(ended.iter().all(|token| server.get(GRID, token).0 == 401));
        let entries = run_json(data.path(), &["audit", "list", "--action", "token.revoke", "--limit", "100"]);
        assert_eq!(entries["entries"].as_array().unwrap().len(), ended.len());
    }
}

/// A tidy hand that removes lock files, or rows of processes, must not make others believe that nobody is there.
#[test]
fn a_removed_lock_file_is_made_again() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let server = Server::start(data.path());
    let there = || match database::postgres() {
        None => std::fs::read_dir(data.path().join("running")).is_ok_and(|files| files.count() == 1),
        Some(_) => database::number(data.path(), "SELECT count(*) FROM node") == 1,
    };
    assert!(there());
    match database::postgres() {
        None => std::fs::remove_dir_all(data.path().join("running")).unwrap(),
        Some(_) => assert_eq!(database::edit(data.path(), "DELETE FROM node"), 1),
    }
    until("it is announced again", || {
        assert_eq!(server.get(GRID, &root).0, 200);
        there()
    });
    let (_, created) = server.send("POST", GRID, &root, &json!({ "name": "a", "permissions": ["VIEW"] }));
    let token = Pair::of(&created);
    run_json(data.path(), &["token", "revoke", &token.id]);
    assert_eq!(server.get(GRID, &token).0, 401);
}
