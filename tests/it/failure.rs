//! What happens when something below fails: nothing is acknowledged that is not so, and it passes.

use std::{process::Command, sync::atomic::Ordering};

use serde_json::{Value, json};

use crate::support::{
    BLIPS, GRID, Listening, Pair, TestApp, database,
    program::{Server, create_platform, exchange, parse},
};

#[tokio::test]
async fn o_10_a_panic_is_one_requests_own() {
    let app = TestApp::new().await;
    // The time is asked for inside the handler at a token's first use.
    let fresh = app.token("fresh", &["VIEW"]).await;
    let before = app.get(GRID).send().await.expect(200).body;
    app.clock.panics.store(true, Ordering::SeqCst);
    let answer = app.get(GRID).auth(&fresh).expecting_5xx().send().await.refused(500, "INTERNAL_ERROR");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(!String::from_utf8_lossy(&answer.body).contains("told to"), "{answer:?}");
    assert_eq!(app.get(GRID).send().await.expect(200).body, before);
    app.assert_panics(1).await;
    let metrics = app.metrics().await;
    assert!(metrics.contains("countersign_http_responses_total{status=\"500\"} 1\n"), "{metrics}");
}

/// Where a gateway is told, whoever parsed what it asked: the connection lives on.
#[tokio::test]
async fn o_10_a_panic_while_an_answer_is_written_is_one_requests_own() {
    let listening = Listening::new().await;
    let app = &listening.app;
    let auth = format!("Host: x\r\nAuthorization: {}\r\n", app.sandbox.basic());
    app.get("/verify").send().await.expect(200);
    for (panics, field) in [(1, ""), (2, "Upgrade: any\r\n")] {
        // Of a token that was used before, the time is asked for only where the date is written, behind who it is.
        app.clock.panics.store(true, Ordering::SeqCst);
        let requests = format!("GET /verify HTTP/1.1\r\n{auth}{field}\r\nGET /verify HTTP/1.1\r\n{auth}Connection: close\r\n\r\n");
        let api = listening.api;
        let answers = tokio::task::spawn_blocking(move || exchange(api, requests.as_bytes())).await.unwrap();
        let answers = String::from_utf8(answers).unwrap();
        let [refused, passed] = answers.split("HTTP/1.1 ").skip(1).collect::<Vec<_>>()[..] else { panic!("{answers}") };
        assert!(refused.starts_with("503 ") && !refused.contains("x-auth-"), "{answers}");
        assert_eq!(parse(format!("HTTP/1.1 {refused}").as_bytes()).unwrap().1["code"], "SERVICE_UNAVAILABLE");
        assert!(passed.starts_with("200 "), "{answers}");
        app.assert_panics(panics).await;
    }
}

/// A small file system that is unmounted when dropped; none where mounting is not allowed.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(directory.path()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// F-04: on a full disk nothing is half-made, reads go on, tokens can be ended; with space again, all goes on.
#[test]
fn f_04_a_full_disk_keeps_nobody_from_ending_tokens() {
    if database::postgres().is_some() {
        return; // its disk is elsewhere, and the reserve is the file's
    }
    let Some(disk) = SmallDisk::mount() else {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"f_04 may not mount a small file system here: skipped\n");
        return;
    };
    let data = disk.0.path().join("data");
    let (_, [root, _]) = create_platform(&data, "Acme");
    let server = Server::start(&data);
    let create = |server: &Server| server.send("POST", GRID, &root, &json!({ "name": "x".repeat(255), "permissions": ["VIEW"] }));
    let mut tokens: Vec<_> = (0..100).map(|_| Pair::of(&create(&server).1)).collect();
    // Whoever leaves last takes the database's log away: the next one's has no room in it yet.
    server.signal("-TERM");
    server.wait();
    assert!(!data.join("countersign.db-wal").exists());
    // It had given the reserve up: the next one lays it in again before anything is changed.
    std::fs::remove_file(data.join("ballast")).unwrap();
    let server = Server::start(&data);
    let create = || create(&server);
    // Somebody else fills the disk, to the last byte.
    let filler = disk.0.path().join("filler");
    for block in [65536_usize, 4096, 1] {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &vec![0; block]).is_ok() {}
    }
    let refused = (0..2000).find_map(|_| {
        let (status, body) = create();
        if status == 201 {
            tokens.push(Pair::of(&body));
            return None;
        }
        Some((status, body["code"].clone()))
    });
    assert_eq!(refused, Some((503, json!("SERVICE_UNAVAILABLE"))));
    let total = || server.get(&format!("{GRID}?limit=1"), &root).1["totalCount"].clone();
    assert_eq!(total(), json!(tokens.len() + 1), "a refused create left something, or an acknowledged one is gone");
    for (n, token) in tokens.iter().enumerate() {
        assert_eq!(server.send("POST", &format!("{BLIPS}/{}/revoke", token.id), &root, &Value::Null).0, 200, "{n}");
        assert_eq!(server.get(GRID, token).0, 401);
    }
    assert!(!data.join("ballast").exists(), "the reserve was not needed: this proves nothing");
    assert_eq!(server.admin("/readyz").0, 503);
    assert_eq!(create().0, 503, "what was kept for endings was given to a create");
    std::fs::remove_file(filler).unwrap();
    assert_eq!((create().0, total(), server.admin("/readyz").0), (201, json!(2), 200));
}

/// What is written into a file that nobody will find again is not acknowledged; nor is what has no tables.
#[test]
fn a_database_that_was_removed_takes_no_changes() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let server = Server::start(data.path());
    let body = json!({ "name": "a", "permissions": ["VIEW"] });
    assert_eq!(server.send("POST", GRID, &root, &body).0, 201);
    let assert_ready = |status: u16| {
        // It may be the lease that runs out, or the next look at the feed.
        while server.admin("/readyz").0 != status {}
        assert_eq!(server.admin("/readyz").0, status);
    };
    let rename = |from: &str, to: &str| std::fs::rename(data.path().join(from), data.path().join(to)).unwrap();
    match database::postgres() {
        None => rename("countersign.db", "elsewhere"),
        Some(_) => database::set_gone(data.path(), true),
    }
    assert_eq!(server.send("POST", GRID, &root, &body).0, 503);
    assert_ready(503);
    match database::postgres() {
        None => rename("elsewhere", "countersign.db"),
        Some(_) => database::set_gone(data.path(), false),
    }
    assert_eq!(server.send("POST", GRID, &root, &body).0, 201);
    assert_ready(200);
}
