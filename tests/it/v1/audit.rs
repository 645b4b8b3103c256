//! Verifying and exporting the audit log where it is served. That edits are found is tried with the attacks: `proven/`.

use std::ops::ControlFlow;

use countersign::{
    authority::{
        Error,
        audit::{Export, Heads, Pruning, export},
    },
    domain::Role,
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::{
    operators::Person,
    support::{GRID, TestApp, database, open, operator},
};

/// What a command exports.
async fn exported(app: &TestApp, wanted: Export) -> String {
    let mut lines = String::new();
    let database = database::of(app.directory.path());
    let each = |entry: countersign::authority::audit::Exported<'_>| {
        lines += &format!("{}\n", entry.line());
        ControlFlow::Continue(())
    };
    export(&database, &wanted, each).await.unwrap();
    lines
}

#[tokio::test]
async fn the_log_is_verified_part_by_part() {
    let app = TestApp::new().await;
    let viewer = app.program("viewer", Role::Viewer, None).await;
    let last = app.place().await;
    let whole = app.v1_get("/audit/verify", &viewer).await.expect(200).json();
    let expected = json!({
        "intact": true, "entries": last, "first": 1, "last": last, "of": last, "more": false, "nextAfter": null,
        "checkpoints": 0, "problems": [], "found": 0,
    });
    assert_eq!(whole, expected);
    let (mut after, mut parts) = (json!(0), 0);
    while !after.is_null() {
        let part = app.v1_get(&format!("/audit/verify?limit=2&after={after}"), &viewer).await.expect(200).json();
        assert_eq!((&part["intact"], part["first"].as_u64()), (&json!(true), Some(after.as_u64().unwrap() + 1)));
        assert!(part["entries"].as_u64().unwrap() <= 2 && part["more"] == !part["nextAfter"].is_null(), "{part}");
        (after, parts) = (part["nextAfter"].clone(), parts + 1);
    }
    assert_eq!(parts, last.div_ceil(2));
    // Behind the end there is nothing, and beyond it no place.
    let nothing = app.v1_get(&format!("/audit/verify?after={last}"), &viewer).await.expect(200).json();
    assert_eq!((&nothing["entries"], &nothing["last"], &nothing["more"]), (&json!(0), &json!(last), &json!(false)));
    let beyond = app.v1_get(&format!("/audit/verify?after={}", last + 1), &viewer).await.refused(400, "INVALID_INPUT");
    assert_eq!(beyond.broken_fields(), ["after"]);

    database::edit(app.directory.path(), "UPDATE audit SET actor = 'operator:mallory' WHERE seq = 2");
    let told = app.v1_get("/audit/verify", &viewer).await.expect(200).json();
    assert_eq!((&told["intact"], &told["found"], &told["problems"][0]["seq"]), (&json!(false), &json!(1), &json!(2)));
    // Only the part that it is in tells of it, and the next one begins behind its seal.
    let part = async |after: u64| app.v1_get(&format!("/audit/verify?limit=2&after={after}"), &viewer).await.expect(200).json();
    assert_eq!([part(0).await["found"].clone(), part(2).await["found"].clone()], [1, 0]);
}

#[tokio::test]
async fn an_export_is_what_a_command_exports() {
    let app = TestApp::new().await;
    let viewer = app.program("viewer", Role::Viewer, None).await;
    for n in 0..3 {
        app.token(&format!("t{n}"), &["VIEW"]).await;
        app.clock.advance(std::time::Duration::from_secs(60));
    }
    app.another_platform("Elsewhere").await;
    let ask = async |query: &str| {
        let answer = app.v1_get(&format!("/audit/export{query}"), &viewer).await.expect(200);
        assert_eq!(answer.header("content-type"), Some("application/jsonl"));
        assert_eq!(answer.header("content-disposition"), Some("attachment; filename=\"audit.jsonl\""));
        String::from_utf8(answer.body.to_vec()).unwrap()
    };
    let all = ask("").await;
    assert_eq!(all, exported(&app, Export::default()).await);
    assert_eq!(all.lines().count() as u64, app.place().await);
    let platform = Export { platform: Some(app.platform.id), after_seq: 2, ..Export::default() };
    let of_one = ask(&format!("?platform={}&afterSeq=2", app.platform.id)).await;
    assert_eq!(of_one, exported(&app, platform).await);
    assert!(of_one.lines().count() > 3 && !of_one.contains("Elsewhere"), "{of_one}");
    let at = |text: &str| countersign::domain::Timestamp::parse_rfc3339(text, true);
    let between = Export { after: at("2025-07-21T17:33:00Z"), before: at("2025-07-21T17:34:00Z"), ..Export::default() };
    let moment = ask("?after=2025-07-21T17:33:00Z&before=2025-07-21T17:34:00Z").await;
    assert_eq!(moment, exported(&app, between).await);
    assert_eq!(moment.lines().count(), 1, "{moment}");
    assert_eq!(ask("?afterSeq=99999").await, "");
}

/// Whoever has all lines but one must not take them for all.
#[tokio::test]
async fn an_export_that_lacks_an_entry_is_broken_off() {
    let app = TestApp::new().await;
    let viewer = app.program("viewer", Role::Viewer, None).await;
    database::edit(app.directory.path(), "UPDATE audit SET action = 'made.up' WHERE seq = 2");
    let request = http::Request::builder().uri("/v1/audit/export").header("authorization", &viewer).body(axum::body::Body::empty());
    let response = app.app.answer_admin(request.unwrap(), ([127, 0, 0, 1], 1).into()).await;
    assert_eq!(response.status(), 200);
    let (mut body, mut lines) = (response.into_body(), Vec::new());
    let broken = loop {
        match body.frame().await {
            Some(Ok(frame)) => lines.extend(frame.into_data().unwrap_or_default()),
            end => break end,
        }
    };
    assert!(matches!(broken, Some(Err(_))), "it looks whole");
    let seqs: Vec<u64> = lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice::<Value>(line).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs.len() as u64, app_place(&app).await - 1);
    assert!(!seqs.contains(&2) && seqs.contains(&1) && seqs.contains(&3), "{seqs:?}");
}

/// The last place, where a list of all entries cannot be read any more.
async fn app_place(app: &TestApp) -> u64 {
    database::number(app.directory.path(), "SELECT max(seq) FROM audit").unsigned_abs()
}

/// Of another history every entry is as it was sealed; but a server knows which one it has followed.
#[tokio::test]
async fn l_04_an_entry_in_the_place_of_the_one_that_was_followed_is_found() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    database::remember(app.directory.path());
    app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
    app.authority.follow().await.unwrap();
    let followed = app.place().await;
    database::go_back(app.directory.path());
    // Whoever did not know the first history makes another one, as long as that.
    let other = open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    other.set_platform_disabled(&operator(), app.platform.id, true).await.unwrap();
    let verified = app.authority.verify_audit(&operator(), 0, 1000).await.unwrap().verified;
    assert_eq!((verified.last, verified.found), (followed, 1), "{:?}", verified.problems);
    assert_eq!(verified.problems[0].what, format!("audit entry {followed} is not the one that this server has followed"));
    assert_eq!(other.verify_audit(&operator(), 0, 1000).await.unwrap().verified.found, 0);
}

/// Whoever asks, by whatever way: the log is of all platforms.
#[tokio::test]
async fn the_staff_of_one_platform_neither_verify_nor_export() {
    let app = TestApp::new().await;
    let staff = Person::invited(&app, "staff", Role::Manager, Some(app.platform.id)).await.1.operator(Default::default());
    assert!(matches!(app.authority.verify_audit(&staff, 0, 1000).await, Err(Error::RoleLacking(_))));
    assert!(matches!(app.authority.export_audit(&staff, Export::default()).await, Err(Error::RoleLacking(_))));
}

/// The same proof, keys and pruning as by commands: tried with those in `proven/`.
#[tokio::test]
async fn an_entry_is_proven_where_it_is_served() {
    let app = TestApp::new().await;
    let viewer = app.program("viewer", Role::Viewer, None).await;
    let last = app.place().await;
    let keys = app.v1_get("/audit/keys", &viewer).await.expect(200).json();
    assert!(keys["keys"][0]["pem"].as_str().unwrap().starts_with("-----BEGIN PUBLIC KEY-----\n"), "{keys}");
    let prove = async |body: Value| app.v1_post("/audit/prove", &viewer, &body).await;
    let proof = prove(json!({ "seq": 2 })).await.expect(200).json();
    let line: Value = serde_json::from_str(proof["entry"].as_str().unwrap()).unwrap();
    let head: Value = serde_json::from_str(proof["head"].as_str().unwrap()).unwrap();
    assert_eq!((&line["seq"], &head["size"]), (&json!(2), &json!(last)));
    // By a head that was kept, although the log has gone on.
    let kept = proof["head"].clone();
    app.token("later", &["VIEW"]).await;
    let by_kept = prove(json!({ "seq": 2, "heads": [kept] })).await.expect(200).json();
    assert_eq!(by_kept, proof);
    assert_ne!(prove(json!({ "seq": 2 })).await.expect(200).json()["head"], kept);
    for (body, field) in [
        (json!({ "seq": last + 1, "heads": [kept] }), "heads"),
        (json!({ "seq": 2, "heads": ["{}"] }), "heads[0]"),
        (json!({ "seq": last + 2 }), "seq"),
        (json!({ "seq": 0 }), "seq"),
    ] {
        assert_eq!(prove(body).await.refused(400, "INVALID_INPUT").broken_fields(), [field]);
    }
    // Of a log that was edited, nothing is signed and nothing removed.
    database::edit(app.directory.path(), "UPDATE audit SET actor = 'operator:mallory' WHERE seq = 1");
    let told = prove(json!({ "seq": 2 })).await.refused(409, "CONFLICT").json();
    assert_eq!(told["details"]["reason"], "log_edited", "{told}");
    let owner = app.program("owner", Role::Owner, None).await;
    let all = json!({ "before": "2035-01-01T00:00:00Z", "recent": true });
    let told = app.v1_post("/audit/prune", &owner, &all).await.refused(409, "CONFLICT").json();
    assert!(told["details"]["problem"].as_str().unwrap().contains("audit entry 1"), "{told}");
}

/// Of a log that is too long for whoever waits, nothing is read, proven or removed.
#[tokio::test]
async fn a_log_may_be_too_long_for_who_waits() {
    let app = TestApp::new().await;
    let (by, last) = (operator(), app.place().await);
    app.clock.advance(std::time::Duration::from_secs(60));
    let before = countersign::authority::Clock::wall(&*app.clock);
    app.token("later", &["VIEW"]).await;
    let prune = |most| app.authority.prune_audit(&by, Heads::default(), Pruning { before, recent: true, most: Some(most) });
    assert!(matches!(app.authority.prove_entry(&by, 1, None, last).await, Err(Error::LogTooLong)));
    assert!(matches!(prune(last).await, Err(Error::LogTooLong)));
    app.authority.prove_entry(&by, 1, None, last + 1).await.unwrap();
    assert_eq!(prune(last + 1).await.unwrap().through, last);
    // What is left is short enough again.
    app.authority.prove_entry(&by, last + 1, None, 2).await.unwrap();
}

#[tokio::test]
async fn old_entries_are_removed_by_a_request() {
    let app = TestApp::new().await;
    let owner = app.program("owner", Role::Owner, None).await;
    app.clock.advance(std::time::Duration::from_secs(60));
    let before = countersign::authority::Clock::wall(&*app.clock).to_string();
    app.clock.advance(std::time::Duration::from_secs(60));
    let last = app.place().await;
    app.token("later", &["VIEW"]).await;
    let prune = async |recent: bool| app.v1_post("/audit/prune", &owner, &json!({ "before": before, "recent": recent })).await;
    assert_eq!(prune(false).await.refused(400, "INVALID_INPUT").broken_fields(), ["before"]);
    assert_eq!(prune(true).await.expect(200).json(), json!({ "entries": last, "through": last }));
    assert_eq!(prune(true).await.expect(200).json(), json!({ "entries": 0, "through": last }));
    let whole = app.v1_get("/audit/verify", &owner).await.expect(200).json();
    assert_eq!((&whole["intact"], &whole["first"]), (&json!(true), &json!(last + 1)));
    let gone = app.v1_post("/audit/prove", &owner, &json!({ "seq": last })).await.refused(400, "INVALID_INPUT");
    assert_eq!(gone.broken_fields(), ["seq"]);
}
