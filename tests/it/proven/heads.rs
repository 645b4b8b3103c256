//! Heads, signed again and again and kept elsewhere: over restarts, on several nodes, under changing keys, to sinks that are down.

use super::*;

/// A server that is killed and starts again goes on from its last checkpoint, and signs the same log.
#[tokio::test]
async fn l_05_heads_go_on_behind_a_restart() {
    let (app, elsewhere) = log().await;
    elsewhere.writer(&app).with_checkpoints_every(4).write().await;
    assert_eq!(database::number(app.directory.path(), "SELECT count(*) FROM audit_checkpoint WHERE seq IN (4, 8)"), 2);
    let app = app.restart().await;
    app.token("g", &["VIEW"]).await;
    // What stands before the checkpoint is not read again: signing goes on in spite of this, and verifying does not.
    database::edit(app.directory.path(), "CREATE TABLE kept AS SELECT detail FROM audit WHERE seq = 2");
    database::edit(app.directory.path(), "UPDATE audit SET detail = '{}' WHERE seq = 2");
    elsewhere.writer(&app).write().await;
    assert!(elsewhere.text().lines().last().unwrap().contains("\"size\":10,"), "{}", elsewhere.text());
    assert_eq!(verified(&app, &elsewhere.heads()).await.problems[0].seq, 2);
    database::edit(app.directory.path(), "UPDATE audit SET detail = (SELECT detail FROM kept) WHERE seq = 2");
    let found = verified(&app, &elsewhere.heads()).await;
    assert_eq!((found.found, found.heads, found.checkpoints), (0, 4, 2), "{:?}", found.problems);

    // A checkpoint that was edited is told, and not gone on from.
    database::edit(app.directory.path(), "UPDATE audit_checkpoint SET seq = 7 WHERE seq = 8");
    let problems = verified(&app, &elsewhere.heads()).await.problems;
    assert!(problems.len() == 1 && problems[0].what == "the audit checkpoint at 7 is not as it was sealed", "{problems:?}");
    elsewhere.writer(&app).write().await;
    let (database, keys, file) = (database::of(app.directory.path()), keys(&app), app.directory.path().join("backup"));
    let copied = countersign::authority::back_up(&database, &keys, &file, |_, _| {});
    assert_eq!(copied.await.unwrap().named, ["the audit checkpoint at 7"]);
}

/// Nothing is signed that is not as it was sealed.
#[tokio::test]
async fn l_05_an_edited_log_is_not_signed() {
    let (app, elsewhere) = log().await;
    let mut writer = elsewhere.writer(&app);
    writer.write().await;
    let before = elsewhere.text();
    app.token("g", &["VIEW"]).await;
    database::edit(app.directory.path(), "UPDATE audit SET detail = '{}' WHERE seq = 10");
    writer.write().await;
    assert_eq!(elsewhere.text(), before);
    let figures = app.authority.figures();
    assert_eq!((figures.head_failures, figures.tampered), (1, 1));
    app.authority.flush().await.unwrap();
    let query = AuditQuery { action: Some(Action::Tampered), ..AuditQuery::default() };
    let (entries, _) = app.authority.list_audit(&operator(), query).await.unwrap();
    assert_eq!(entries[0].entry.detail, "{\"row\":\"audit entry 10\"}");
}

/// Two nodes write one log, each its own heads, and keys change: old heads and new ones fit.
#[tokio::test]
async fn l_05_two_nodes_and_another_key() {
    let (mut app, elsewhere) = log().await;
    let path = app.directory.path().join("keys.json");
    let mut with_states = async |states: [&str; 2]| {
        let mut text: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        text["keys"][0]["state"] = states[0].into();
        text["keys"].as_array_mut().unwrap().truncate(1);
        text["keys"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "id": 2, "state": states[1], "root": "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA=" }));
        fs::write(&path, text.to_string()).unwrap();
        app.try_replace(|_| {}).await.unwrap();
        Arc::clone(&app.authority)
    };
    // As keys are changed: the new one is known everywhere before it is used anywhere.
    let nodes = [with_states(["active", "verify-only"]).await, with_states(["verify-only", "active"]).await];
    let sinks = [HeadSink::File(elsewhere.file())];
    let mut writers = nodes.each_ref().map(|node| HeadWriter::new(node, &sinks).unwrap());
    for _ in 0..3 {
        for (node, writer) in nodes.iter().zip(&mut writers) {
            node.create_platform(&operator(), TokenName::parse("name", "Another").unwrap(), None).await.unwrap();
            writer.write().await;
        }
    }
    let found = verified(&app, &elsewhere.heads()).await;
    assert_eq!((found.found, found.entries, found.heads), (0, 27, 9), "{:?}", found.problems);
    let of_key = |key: u32| elsewhere.text().matches(&format!("\"keyId\":{key},\"signature\"")).count();
    assert_eq!((of_key(1), of_key(2)), (6, 3));
}

/// Keys change while heads are written: the active one signs from SIGHUP on, one that is missing here is no edit, and what a
/// retired one has signed and sealed stays proven.
#[tokio::test]
async fn l_05_heads_follow_the_keys() {
    let mut app = TestApp::new().await;
    let (elsewhere, files) = (Elsewhere::new(), ["keys.json", "other.json"].map(|name| app.directory.path().join(name)));
    fs::copy(&files[0], &files[1]).unwrap();
    let file = files[1].clone();
    let other = app.try_replace(|options| options.keys = file.into()).await.unwrap();
    let mut late = HeadWriter::new(&other, &[HeadSink::File(elsewhere.file())]).unwrap();
    let mut writer = elsewhere.writer(&app).with_checkpoints_every(4);
    let keys_of = |text: &str| {
        let key = |line: &str| line.split("\"keyId\":").nth(1).unwrap().split(',').next().unwrap().to_owned();
        text.lines().map(key).collect::<String>()
    };
    app.token("a", &["VIEW"]).await;
    late.write().await;
    writer.write().await;
    assert_eq!(keys_of(&elsewhere.text()), "11");

    write_keys(&files[1], &[(1, "verify-only")], 2);
    app.authority.reload_keys().await.unwrap();
    app.token("b", &["VIEW"]).await;
    writer.write().await;
    late.write().await;
    assert_eq!(keys_of(&elsewhere.text()), "112");
    let figures = other.figures();
    assert_eq!((figures.head_failures, figures.tampered, figures.keys_lacking), (1, 0, 1));
    write_keys(&files[0], &[(1, "verify-only")], 2);
    other.reload_keys().await.unwrap();
    late.write().await;
    assert_eq!((keys_of(&elsewhere.text()), other.figures().keys_lacking), ("1122".to_owned(), 0));

    let plan = app.authority.plan_retirement(&operator(), 1).await.unwrap();
    app.authority.retire_key(&operator(), 1, plan.count, plan.seq, usize::MAX).await.unwrap();
    for file in &files {
        write_keys(file, &[(1, "retired")], 2);
    }
    app.authority.reload_keys().await.unwrap();
    writer.write().await;
    let found = verified(&app, &elsewhere.heads()).await;
    assert_eq!((found.found, found.heads, found.checkpoints > 0), (0, 5, true), "{:?}", found.problems);
    let public: Vec<_> = head_keys(&keys(&app)).await.unwrap().iter().map(|key| key.id).collect();
    assert_eq!(public, [1, 2]);
    let (of, file) = (database::of(app.directory.path()), app.directory.path().join("backup"));
    let copied = countersign::authority::back_up(&of, &keys(&app), &file, |_, _| {}).await.unwrap();
    assert_eq!(copied.named, [""; 0]);
}

/// A sink that is down holds nothing up, is counted, and gets the head when it is there again.
#[tokio::test]
async fn l_07_a_sink_that_is_down() {
    let app = TestApp::new().await;
    let directory = tempfile::tempdir().unwrap();
    let (file, socket) = (directory.path().join("later/heads.jsonl"), directory.path().join("log"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://us%65r:pass@{}/heads?of=us", listener.local_addr().unwrap());
    let mut writer = writer_to(&app, &[HeadSink::File(file.clone()), HeadSink::Syslog(socket.clone()), HeadSink::Http(url)]);
    let collect = |answer: &'static str| {
        let listener = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut request, mut part) = (Vec::new(), [0; 4096]);
            while !request.ends_with(b"}") {
                let read = stream.read(&mut part).unwrap();
                request.extend_from_slice(&part[..read]);
            }
            stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        })
    };
    let collected = collect("302 Found\r\nLocation: http://127.0.0.1:1/");
    writer.write().await;
    collected.join().unwrap();
    assert_eq!((app.authority.figures().head_failures, app.authority.figures().head_size), (3, 0));
    app.token("a", &["VIEW"]).await;

    fs::create_dir(directory.path().join("later")).unwrap();
    let syslog = UnixDatagram::bind(&socket).unwrap();
    let collected = collect("204 No Content");
    writer.write().await;
    let (request, mut datagram) = (collected.join().unwrap(), [0; 4096]);
    let length = syslog.recv(&mut datagram).unwrap();
    let (text, message) = (fs::read_to_string(&file).unwrap(), std::str::from_utf8(&datagram[..length]).unwrap());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(text.starts_with("{\"countersign\":\"audit head 1\"") && text.lines().count() == 1, "{text}");
    assert!(message.starts_with("<86>1 ") && message.ends_with(text.trim_end()), "{message}");
    assert!(request.starts_with("POST /heads?of=us HTTP/1.1\r\n") && request.ends_with(text.trim_end()), "{request}");
    assert!(request.to_lowercase().contains("authorization: basic") && request.contains("application/json"), "{request}");
    for heads in [heads(&text), heads(message), heads(&request)] {
        assert_eq!(verified(&app, &heads).await.heads, 1);
    }
    assert_eq!((app.authority.figures().head_failures, app.authority.figures().head_size), (3, 4));
    assert!(app.metrics().await.contains("countersign_audit_head_failures_total 3\n"));

    // Moved away, as logs are; and torn by a power cut.
    app.token("b", &["VIEW"]).await;
    fs::rename(&file, directory.path().join("old")).unwrap();
    fs::write(&file, &text[..100]).unwrap();
    let collected = collect("200 OK");
    writer.write().await;
    collected.join().unwrap();
    let lines = fs::read_to_string(&file).unwrap();
    assert!(lines.lines().count() == 2 && verified(&app, &heads(&lines)).await.heads == 1, "{lines}");
}
