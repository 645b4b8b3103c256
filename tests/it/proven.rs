//! The audit log that proves itself: entries behind entries, heads elsewhere, and what whoever edits the database cannot hide.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use countersign::{
    authority::{
        Clock as _,
        audit::{Export, HeadWriter, Heads, Pruned, Verified, export, head_keys, prove, verify},
    },
    domain::{Action, AuditQuery, HeadSink, KeySource, Presented, TokenName},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    keys::write_keys,
    support::{
        GRID, Pair, TestApp, database, operator,
        program::{Server, create_platform, program_on, run},
    },
};

fn keys(app: &TestApp) -> KeySource {
    app.directory.path().join("keys.json").into()
}

fn writer_to(app: &TestApp, sinks: &[HeadSink]) -> HeadWriter {
    HeadWriter::new(&app.authority, database::of(app.directory.path()), sinks).unwrap()
}

/// Heads in a file that is not beside the database.
struct Elsewhere {
    directory: TempDir,
}

impl Elsewhere {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("heads.jsonl")
    }

    fn writer(&self, app: &TestApp) -> HeadWriter {
        writer_to(app, &[HeadSink::File(self.file())])
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    fn heads(&self) -> Heads {
        heads(&self.text())
    }
}

fn heads(text: &str) -> Heads {
    let mut heads = Heads::default();
    heads.take("heads.jsonl", text);
    heads
}

async fn verified(app: &TestApp, heads: &Heads) -> Verified {
    verify(&database::of(app.directory.path()), &keys(app), heads, |_, _| {}).await.unwrap()
}

async fn lines(app: &TestApp, wanted: Export) -> Vec<String> {
    let mut lines = Vec::new();
    let database = database::of(app.directory.path());
    let unreadable = export(&database, &wanted, |entry| {
        lines.push(entry.line());
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!(unreadable.await, Ok(None));
    lines
}

/// Edits the log as somebody does who knows how the feed is kept.
fn attack(app: &TestApp, statements: &str) {
    let feed = match database::postgres() {
        None => "",
        Some(_) => {
            "; UPDATE feed SET seq = coalesce((SELECT max(seq) FROM audit), 0), \
             seal = coalesce((SELECT seal FROM audit ORDER BY seq DESC LIMIT 1), decode(repeat('00', 32), 'hex'))"
        }
    };
    database::edit(app.directory.path(), &format!("{statements}{feed}"));
}

/// A log of nine entries, with heads of six, seven and nine.
async fn log() -> (TestApp, Elsewhere) {
    let (app, elsewhere) = (TestApp::new().await, Elsewhere::new());
    let mut writer = elsewhere.writer(&app);
    for name in ["a", "b", "c"] {
        app.token(name, &["VIEW"]).await;
    }
    writer.write().await;
    app.token("d", &["VIEW"]).await;
    writer.write().await;
    writer.write().await;
    for name in ["e", "f"] {
        app.token(name, &["MANAGE"]).await;
    }
    writer.write().await;
    let verified = verified(&app, &elsewhere.heads()).await;
    assert_eq!((verified.problems.as_slice(), verified.entries, verified.heads, verified.last), ([].as_slice(), 9, 3, 9));
    assert_eq!(verified.newest.map(|(size, _)| size), Some(9));
    (app, elsewhere)
}

/// What is found first where the log was edited so; it must be found without any head too, unless only heads tell.
async fn found(statements: &str, only_heads_tell: bool) -> (u64, String) {
    let (app, elsewhere) = log().await;
    attack(&app, statements);
    let alone = verified(&app, &Heads::default()).await;
    assert_eq!(alone.found == 0, only_heads_tell, "{statements}: {:?}", alone.problems);
    let with_heads = verified(&app, &elsewhere.heads()).await;
    let first = with_heads.problems.first().unwrap_or_else(|| panic!("nothing was found: {statements}")).clone();
    assert_eq!(alone.problems.first().map_or(first.seq, |alone| alone.seq), first.seq, "{statements}");
    (first.seq, first.what)
}

const COLUMNS: &str = "at, action, actor, platform_id, environment, token_id, request_id, source, node, detail, key_id, seal";
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
    // Nor is it made to disappear.
    app.clock.advance(Duration::from_secs(40 * DAY));
    app.authority.follow().await.unwrap();
    assert!(pruned(&app, &Heads::default(), 31).await.unwrap_err().contains(&token.id));
    // Ended again, and disabled and enabled again, all is right.
    app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
    for disabled in [true, false] {
        app.authority.set_platform_disabled(&operator(), platform, disabled).await.unwrap();
    }
    let found = verified(&app, &Heads::default()).await;
    assert_eq!(found.found, 0, "{:?}", found.problems);
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
    let mut writers = nodes.each_ref().map(|node| HeadWriter::new(node, database::of(app.directory.path()), &sinks).unwrap());
    for _ in 0..3 {
        for (node, writer) in nodes.iter().zip(&mut writers) {
            node.create_platform(&operator(), TokenName::parse("name", "Another").unwrap()).await.unwrap();
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
    let mut late = HeadWriter::new(&other, database::of(app.directory.path()), &[HeadSink::File(elsewhere.file())]).unwrap();
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
    app.authority.retire_key(&operator(), &plan, true).await.unwrap();
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

#[tokio::test]
async fn l_06_an_export_is_the_log_and_nothing_else() {
    let (app, elsewhere) = log().await;
    let (other, _) = app.another_platform("Other").await;
    app.token("\u{202e}=1\n", &["VIEW"]).await;
    let all = lines(&app, Export::default()).await;
    assert_eq!(all.len(), 13);
    let read: Vec<Value> = all.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(read.iter().zip(1..).all(|(entry, seq)| entry["seq"] == seq));
    assert_eq!(read[12]["detail"], "{\"name\":\"\u{202e}=1\",\"permissions\":[\"VIEW\"]}");
    assert!(all.iter().all(|line| line.bytes().all(|byte| (b' '..=b'~').contains(&byte))));

    // Page by page, and by platform: of another one there is nothing.
    assert_eq!(lines(&app, Export { after_seq: 9, ..Export::default() }).await, all[9..]);
    for (platform, count) in [(app.platform.id, 10), (other.id, 3)] {
        let own = lines(&app, Export { platform: Some(platform), ..Export::default() }).await;
        assert!(own.len() == count && own.iter().all(|line| line.contains(&platform.to_string())), "{own:?}");
    }
    let strange = countersign::domain::PlatformId::parse("Platform:00000000-0000-7000-8000-000000000000").unwrap();
    assert!(lines(&app, Export { platform: Some(strange), ..Export::default() }).await.is_empty());
    let moment = |millis: i64| countersign::domain::Timestamp::from_millis(crate::support::START + millis);
    assert_eq!(lines(&app, Export { before: Some(moment(-1)), ..Export::default() }).await.len(), 0);
    assert_eq!(lines(&app, Export { after: Some(moment(0)), before: Some(moment(0)), ..Export::default() }).await.len(), 13);
    drop(elsewhere);
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

#[tokio::test]
async fn l_04_every_entry_can_be_proven() {
    let (app, elsewhere) = log().await;
    let (database, keys) = (database::of(app.directory.path()), keys(&app));
    for seq in 1..=9 {
        let (fresh, kept) = (prove(&database, &keys, seq, None, &*app.clock).await.unwrap(), elsewhere.heads());
        let proof = prove(&database, &keys, seq, Some(&kept), &*app.clock).await.unwrap();
        assert_eq!((&proof.entry, &proof.path), (&fresh.entry, &fresh.path));
        assert!(proof.entry.starts_with(&format!("{{\"seq\":{seq},")) && elsewhere.text().contains(&proof.head));
    }
    for seq in [0, 10] {
        let refused = prove(&database, &keys, seq, None, &*app.clock).await.unwrap_err();
        assert_eq!(refused, format!("there is no audit entry {seq}: the log has those from 1 to 9"));
    }
    let early = heads(elsewhere.text().lines().next().unwrap());
    assert!(prove(&database, &keys, 7, Some(&early), &*app.clock).await.unwrap_err().contains("none of the heads"));
    attack(&app, "UPDATE audit SET detail = '{}' WHERE seq = 2");
    assert!(prove(&database, &keys, 5, None, &*app.clock).await.unwrap_err().contains("ask countersign audit verify"));
}

fn verify_py(arguments: &[&Path]) -> (Option<i32>, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/audit/verify.py");
    let output = Command::new("python3").arg(script).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// What an auditor does who has neither the server key nor the database.
#[test]
fn l_04_an_auditor_needs_nothing_but_the_public_key() {
    let data = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (data, at) = (data.path(), |name: &str| elsewhere.path().join(name));
    let (platform, [root, _]) = create_platform(data, "Acme");
    let sink = format!("file:{}", at("heads.jsonl").display());
    let server = Server::start_with(data, &["--audit-head", &sink]);
    for name in ["=1+1", "b", "c", "d"] {
        let body = json!({ "name": name, "permissions": ["VIEW"] });
        assert_eq!(server.send("POST", GRID, &root, &body).0, 201);
    }
    server.signal("-TERM");
    assert_eq!(server.wait().0, Some(0));
    let kept = fs::read_to_string(at("heads.jsonl")).unwrap();
    assert!(kept.lines().last().unwrap().contains("\"size\":7,"), "the last one is written at the end: {kept}");

    let stdout = |arguments: &[&str]| {
        let output = run(data, arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let heads = at("heads.jsonl");
    let heads_flag = ["--heads", heads.to_str().unwrap()];
    let whole = stdout(&[&["audit", "verify"], &heads_flag[..]].concat());
    assert!(whole.contains("read 7 audit entries") && whole.contains("the newest of 7 entries"), "{whole}");
    let none = stdout(&["audit", "verify"]);
    assert!(none.contains("no head was given that could be checked"), "{none}");
    let log = stdout(&["audit", "export"]);
    fs::write(at("log.jsonl"), &log).unwrap();
    fs::write(at("keys.pem"), stdout(&["audit", "key"])).unwrap();
    let (proof, export) = (Path::new("proof"), Path::new("export"));
    for seq in 1..=7 {
        fs::write(at("proof.json"), stdout(&["audit", "prove", &seq.to_string(), "--head", heads.to_str().unwrap()])).unwrap();
        let (code, said) = verify_py(&[proof, &at("keys.pem"), &at("proof.json")]);
        assert!(code == Some(0) && said.contains(log.lines().nth(seq - 1).unwrap()), "{said}");
    }
    let (code, said) = verify_py(&[export, &at("keys.pem"), &at("heads.jsonl"), &at("log.jsonl")]);
    assert!(code == Some(0) && said.starts_with("7 entries are those that were signed"), "{said}");

    // Anything else is refused.
    let mut document: Value = serde_json::from_slice(&fs::read(at("proof.json")).unwrap()).unwrap();
    document["entry"] = document["entry"].as_str().unwrap().replace("token.create", "token.revoke").into();
    fs::write(at("proof.json"), document.to_string()).unwrap();
    let (code, said) = verify_py(&[proof, &at("keys.pem"), &at("proof.json")]);
    assert!(code == Some(1) && said.contains("is not in the log"), "{said}");
    document["head"] = document["head"].as_str().unwrap().replace("\"size\":7", "\"size\":6").into();
    fs::write(at("proof.json"), document.to_string()).unwrap();
    assert!(verify_py(&[proof, &at("keys.pem"), &at("proof.json")]).1.contains("signed by none of these keys"));
    for (edited, says) in [
        (log.replacen("token.create", "token.revoke", 1), "is not the one that was signed"),
        (log.lines().take(6).map(|line| format!("{line}\n")).collect(), "entry 7 is missing"),
        (log.lines().skip(1).map(|line| format!("{line}\n")).collect(), "entry 1 is missing"),
    ] {
        fs::write(at("log.jsonl"), edited).unwrap();
        let (code, said) = verify_py(&[export, &at("keys.pem"), &at("heads.jsonl"), &at("log.jsonl")]);
        assert!(code == Some(1) && said.contains(says), "{said}");
    }

    // The other format, and one platform alone.
    let csv = stdout(&["audit", "export", "--format", "csv", "--platform", &platform]);
    assert!(csv.starts_with("seq,at,action,") && csv.split("\r\n").count() == 9, "{csv}");

    // A new database in the place of this one, with the same key file: whatever is in it is not what was signed.
    let new = tempfile::tempdir().unwrap();
    fs::copy(data.join("keys.json"), new.path().join("keys.json")).unwrap();
    create_platform(new.path(), "Acme");
    let refused = run(new.path(), &[&["audit", "verify"], &heads_flag[..]].concat());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(1) && said.contains("is of another database, which had this key file"), "{said}");

    // The configuration says where heads are.
    database::edit(data, "DELETE FROM audit WHERE seq = 3");
    let mut command = program_on(data);
    command.args(["audit", "verify", "--output", "json", "--data"]).arg(data).env("COUNTERSIGN_AUDIT_HEAD", &sink).stdin(Stdio::null());
    let output = command.output().unwrap();
    let (json, said): (Value, _) = (serde_json::from_slice(&output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), &json["intact"], &json["problems"][0]["seq"]), (Some(1), &json!(false), &json!(3)));
    assert_eq!(said, "countersign: audit entry 3 is missing: there is a gap\n");
}

const DAY: u64 = 24 * 60 * 60;

/// Prunes what is from before `days` ago, as the app's process.
async fn pruned(app: &TestApp, heads: &Heads, days: u64) -> Result<Pruned, String> {
    let before = app.clock.wall().plus_millis(-i64::try_from(days * DAY * 1000).unwrap());
    let (database, keys) = (database::of(app.directory.path()), keys(app));
    app.authority.prune_audit(&operator(), &database, &keys, heads, before, false).await.map_err(|e| e.to_string())
}

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
    assert!(pruned(&app, &elsewhere.heads(), 29).await.unwrap_err().contains("must be 30 days ago or more"));
    assert_eq!(pruned(&app, &elsewhere.heads(), 41).await.unwrap(), Pruned { through: 0, entries: 0 });
    // What is not as it was written is not made to disappear.
    database::edit(directory, "UPDATE audit SET detail = '{}' WHERE seq = 2");
    assert!(pruned(&app, &elsewhere.heads(), 31).await.unwrap_err().contains("nothing was pruned"));
    database::edit(directory, "UPDATE audit SET detail = (SELECT detail FROM kept WHERE kept.seq = 2) WHERE seq = 2");
    assert_eq!(pruned(&app, &elsewhere.heads(), 31).await.unwrap(), Pruned { through: 9, entries: 9 });
    assert_eq!(database::number(directory, "SELECT min(seq) FROM audit"), 10);

    let whole = async || {
        let found = verified(&app, &elsewhere.heads()).await;
        assert_eq!((found.found, found.first, found.heads_of_pruned), (0, 10, 2), "{:?}", found.problems);
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
    assert_eq!(pruned(&app, &elsewhere.heads(), 31).await.unwrap(), Pruned { through: 9, entries: 0 });
    assert_eq!(database::number(directory, "SELECT min(seq) FROM audit"), 10);

    // Nobody else makes entries disappear like this.
    database::edit(directory, "DELETE FROM audit WHERE seq = 10");
    assert_eq!(verified(&app, &Heads::default()).await.problems[0].seq, 10);
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
        let refused = pruned(&app, &Heads::default(), 31).await.unwrap_err();
        assert!(refused.contains("not all processes have followed"), "{refused}");
        database::edit(app.directory.path(), "DELETE FROM node");
    }
    assert_eq!(pruned(&app, &Heads::default(), 31).await.unwrap().through, 9);
    // One read by primary key is enough.
    reading.prove(Presented::parse_basic(token.basic().as_bytes()).as_ref()).await.unwrap_err();
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
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        Pair { id: text("id"), client_id: text("clientId"), secret: text("clientSecret") }
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
