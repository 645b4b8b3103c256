//! The database can't be reached: what is believed meanwhile, for how long, and what is said of it.

use std::{sync::Arc, time::Duration};

use countersign::{
    authority::{Authority, Clock as _, Ready},
    domain::{MayManage, OnDatabaseLoss, Presented, RequestInfo, TokenId},
    verifier::{Verifier, VerifierOptions},
};

use crate::support::{GRID, Pair, TestApp, database, logged, operator, passage::Passage};

const MOST: Duration = Duration::from_secs(300);
/// As others reckon with it: a fifth longer and a little.
const BOUND: Duration = Duration::from_millis(360_010);

/// An app that reaches its database by a passage, and another process that reaches it otherwise. None on SQLite, whose
/// file is not lost for a while.
async fn cut_off(on_loss: OnDatabaseLoss) -> Option<(TestApp, Passage, Arc<Authority>)> {
    let mut app = TestApp::new().await;
    let passage = Passage::to(&database::url_of(app.directory.path())?);
    let elsewhere = app.try_replace(|options| {
        options.database = passage.database();
        options.on_database_loss = on_loss;
    });
    let elsewhere = elsewhere.await.unwrap();
    Some((app, passage, elsewhere))
}

fn presented(pair: &Pair) -> Option<Presented> {
    Presented::parse_basic(pair.basic().as_bytes())
}

async fn manager(authority: &Authority, root: &Pair) -> MayManage {
    authority.verify(presented(root), RequestInfo::default()).await.unwrap().may_manage().unwrap()
}

async fn status(app: &TestApp, pair: &Pair) -> u16 {
    app.get("/verify").auth(pair).expecting_5xx().send().await.status.as_u16()
}

async fn metric(app: &TestApp, name: &str) -> String {
    let metrics = app.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("countersign_{name} ")));
    line.unwrap_or_else(|| panic!("no {name}: {metrics}")).to_owned()
}

#[tokio::test]
async fn r_11_by_default_nobody_passes_without_the_database() {
    let Some((app, passage, _)) = cut_off(OnDatabaseLoss::Deny).await else { return };
    passage.cut();
    assert_eq!(status(&app, &app.sandbox).await, 200, "within the lease");
    app.clock.advance(Duration::from_secs(1));
    for _ in 0..2 {
        assert_eq!(status(&app, &app.sandbox).await, 503);
        app.authority.follow().await.unwrap_err();
    }
    app.authority.ready().await.unwrap_err();
    passage.open();
    assert_eq!(status(&app, &app.sandbox).await, 200, "it is asked each time, so nobody need follow first");
    assert_eq!(metric(&app, "stale_accepts_total").await, "0");
}

#[tokio::test]
async fn what_is_in_memory_passes_for_as_long_as_was_said() {
    let Some((app, passage, elsewhere)) = cut_off(OnDatabaseLoss::ServeStale(MOST)).await else { return };
    let (live, ended) = (app.token("live", &["VIEW"]).await, app.token("ended", &["VIEW"]).await);
    app.delete(&format!("{GRID}/{}", ended.id)).send().await.expect(204);
    app.authority.follow().await.unwrap();
    passage.cut();
    app.clock.advance(Duration::from_secs(1));
    let began = logged().len();

    // Whoever comes first notices; nobody waits behind them.
    assert_eq!(status(&app, &live).await, 200);
    assert!(
        app.authority.prove_at_once(presented(&live).as_ref(), None).is_some_and(|proven| proven.is_ok()),
        "it is asked again and again"
    );
    app.authority.follow().await.unwrap_err();
    assert_eq!(status(&app, &live).await, 200);
    assert_eq!(metric(&app, "stale_accepts_total").await, "3");
    assert_eq!(metric(&app, "stale").await, "1");
    assert!(logged()[began..].contains("credentials are accepted from a stale index"));
    let ready = app.get("/readyz").send_admin().await.expect(200).json();
    assert_eq!((&ready["status"], app.authority.ready().await), (&"stale".into(), Ok(Ready::Stale)));
    assert_eq!(app.get("/healthz").send_admin().await.expect(200).json()["stale"], true);

    // An end is an end, and another secret is another one.
    assert_eq!(status(&app, &ended).await, 401);
    assert_eq!(status(&app, &Pair { secret: ended.secret.clone(), ..live.clone() }).await, 401);
    // What memory never had can't be known.
    let by = manager(&elsewhere, &app.sandbox).await;
    let new = countersign::domain::NewToken {
        name: countersign::domain::TokenName::parse("name", "new").unwrap(),
        permissions: countersign::domain::Permissions::ALL,
    };
    let issued = elsewhere.create_token(&by, new, None).await.unwrap();
    let secret = issued.secret.as_ref().unwrap().expose().to_owned();
    let new = Pair { id: issued.token.id.to_string(), client_id: issued.token.client_id().to_string(), secret };
    assert_eq!(status(&app, &new).await, 503);
    // And nothing else is answered from memory.
    app.get(GRID).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    app.get(&format!("{GRID}/{}", live.id)).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    app.delete(&format!("{GRID}/{}", live.id)).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    let body = serde_json::json!({ "name": "a", "permissions": ["VIEW"] });
    app.post(GRID).json(&body).expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");

    // To the end, and not longer; from when it was last brought up to date, which is a second ago.
    app.clock.advance(MOST - Duration::from_secs(1) - Duration::from_nanos(1));
    assert_eq!(status(&app, &live).await, 200);
    app.clock.advance(Duration::from_nanos(1));
    assert_eq!(status(&app, &live).await, 503);
    app.authority.ready().await.unwrap_err();
    assert_eq!(metric(&app, "stale").await, "0");
    assert!(logged()[began..].contains("believed no more"));
    assert_eq!(status(&app, &ended).await, 401);

    passage.open();
    app.authority.follow().await.unwrap();
    assert_eq!((status(&app, &live).await, status(&app, &new).await), (200, 200));
    assert_eq!(app.get("/readyz").send_admin().await.expect(200).json()["status"], "ready");
}

/// A node that may go by what was before is named, with for how long; and it does, until it can be told.
#[tokio::test]
async fn a_revoke_that_a_stale_node_has_not_heard_of_says_so() {
    let Some((app, passage, elsewhere)) = cut_off(OnDatabaseLoss::ServeStale(MOST)).await else { return };
    let pair = app.token("a", &["VIEW"]).await;
    let (by, id) = (manager(&elsewhere, &app.sandbox).await, TokenId::parse(&pair.id).unwrap());
    app.authority.follow().await.unwrap();
    // As long as it can be heard of, all is as it was.
    elsewhere.follow().await.unwrap();
    let heard = async {
        loop {
            app.authority.follow().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let operator = operator();
    let (_, receipt) = tokio::select! {
        changed = elsewhere.set_platform_disabled(&operator, app.platform.id, true) => changed.unwrap(),
        () = heard => unreachable!("it goes on for ever"),
    };
    assert_eq!((receipt.bound, receipt.unheard.len()), (Duration::ZERO, 0));
    assert_eq!(status(&app, &pair).await, 401);
    elsewhere.set_platform_disabled(&operator, app.platform.id, false).await.unwrap();
    app.authority.follow().await.unwrap();

    passage.cut();
    app.clock.advance(Duration::from_secs(1));
    let receipt = elsewhere.revoke_token(&by, id).await.unwrap().receipt;
    assert_eq!((receipt.bound, receipt.unheard.len()), (BOUND, 1));
    assert_eq!(receipt.effective_at, app.clock.wall().plus_millis(360_010));
    assert!(logged().contains("a change may not be known to a node"));
    assert_eq!(status(&app, &pair).await, 200, "it had heard of it: this proves nothing");
    passage.open();
    app.authority.follow().await.unwrap();
    assert_eq!(status(&app, &pair).await, 401);
    let receipt = elsewhere.revoke_token(&by, id).await.unwrap().receipt;
    assert_eq!((receipt.bound, receipt.unheard.len()), (Duration::ZERO, 0));
}

/// Nothing is stale while the database answers, be it that it can't do what it is asked.
#[tokio::test]
async fn a_database_that_answers_is_believed() {
    let Some((app, _passage, elsewhere)) = cut_off(OnDatabaseLoss::ServeStale(MOST)).await else { return };
    let pair = app.token("a", &["VIEW"]).await;
    let by = manager(&elsewhere, &app.sandbox).await;
    elsewhere.revoke_token(&by, TokenId::parse(&pair.id).unwrap()).await.unwrap();
    assert_eq!(status(&app, &pair).await, 200, "it has not followed, and its lease is not over");
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(status(&app, &pair).await, 401, "it was not asked");
    assert_eq!(status(&app, &app.sandbox).await, 200);
    database::set_gone(app.directory.path(), true);
    for _ in 0..2 {
        assert_eq!(status(&app, &app.sandbox).await, 503);
        app.authority.follow().await.unwrap_err();
    }
    app.authority.ready().await.unwrap_err();
    database::set_gone(app.directory.path(), false);
    assert_eq!(status(&app, &app.sandbox).await, 200);
    assert_eq!(metric(&app, "stale_accepts_total").await, "0");
}

/// A database that hangs is not waited for, by whoever comes first for long, by all others at all.
#[tokio::test]
async fn a_database_that_hangs_keeps_nobody_waiting() {
    let Some((app, _passage, _)) = cut_off(OnDatabaseLoss::ServeStale(MOST)).await else { return };
    let directory = app.directory.path().to_owned();
    let lock = "BEGIN; LOCK TABLE token IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(1.5); COMMIT";
    let hanging = std::thread::spawn(move || database::edit(&directory, lock));
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 'token'::regclass";
    while database::number(app.directory.path(), locked) == 0 {}
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(status(&app, &app.sandbox).await, 200);
    assert_eq!(metric(&app, "stale_accepts_total").await, "1", "it was waited for");
    assert!(app.authority.prove_at_once(presented(&app.sandbox).as_ref(), None).is_some_and(|proven| proven.is_ok()));
    hanging.join().unwrap();
}

/// The row of a node that seems to be gone stays for as long as that may go on without the database.
#[tokio::test]
async fn a_stale_node_is_reckoned_with_to_the_end() {
    let Some((app, passage, elsewhere)) = cut_off(OnDatabaseLoss::ServeStale(MOST)).await else { return };
    let rows = |which: &str| database::number(app.directory.path(), &format!("SELECT count(*) FROM node WHERE {which}"));
    let after = async |time: Duration| {
        app.clock.advance(time);
        elsewhere.follow().await.unwrap();
    };
    passage.cut();
    database::edit(app.directory.path(), "UPDATE node SET seen_at = 0 WHERE stale > 0");
    after(Duration::from_secs(16)).await;
    assert_eq!(rows("suspect IS NOT NULL"), 1);
    after(Duration::from_secs(60)).await;
    assert_eq!(rows("stale > 0"), 1, "it may answer for minutes");
    // Another that is gone is not waited for as long.
    database::edit(app.directory.path(), "INSERT INTO node (id, lease, stale, followed, seen_at) VALUES ('killed', 1210, 0, 0, 0)");
    after(Duration::from_secs(16)).await;
    assert_eq!(rows("suspect IS NOT NULL"), 2);
    after(Duration::from_secs(16)).await;
    assert_eq!((rows("id = 'killed'"), rows("stale > 0")), (0, 1));
    after(BOUND).await;
    assert_eq!(rows("stale > 0"), 0);
}

/// A row that was edited is put right with the next read of whom it stands for; until then, what can't be is not believed.
#[tokio::test]
async fn an_edited_row_of_a_node_is_put_right() {
    let Some((app, passage, elsewhere)) = cut_off(OnDatabaseLoss::ServeStale(MOST)).await else { return };
    let edit = |edit: &str| assert_eq!(database::edit(app.directory.path(), &format!("UPDATE node SET {edit} WHERE stale > 0")), 1);
    for what in ["lease = 1", "stale = 1", "followed = 1000000", "suspect = 'nobody'"] {
        edit(what);
        app.authority.follow().await.unwrap();
        let right = "SELECT count(*) FROM node WHERE lease = 1210 AND stale = 360010 AND followed < 1000000 AND suspect IS NULL";
        assert_eq!(database::number(app.directory.path(), right), 1, "{what}");
    }
    passage.cut();
    edit("followed = 1000000");
    let (_, receipt) = elsewhere.set_platform_disabled(&operator(), app.platform.id, true).await.unwrap();
    assert_eq!((receipt.bound, receipt.unheard.len()), (BOUND, 1));
}

#[tokio::test]
async fn a_verifier_serves_stale_too() {
    let app = TestApp::new().await;
    let mut options = VerifierOptions::new(app.directory.path());
    options.on_database_loss = OnDatabaseLoss::ServeStale(MOST);
    let Some(url) = database::url_of(app.directory.path()) else {
        let error = Verifier::open(options).await.unwrap_err();
        assert!(error.contains("is for PostgreSQL"), "{error}");
        let mut app = app;
        let error = app.try_replace(|options| options.on_database_loss = OnDatabaseLoss::ServeStale(MOST)).await.err().unwrap();
        assert!(error.contains("is for PostgreSQL"), "{error}");
        return;
    };
    for most in [options.lease, Duration::from_secs(86_401)] {
        let on_database_loss = OnDatabaseLoss::ServeStale(most);
        let error = Verifier::open(VerifierOptions { on_database_loss, ..options.clone() }).await.unwrap_err();
        assert!(error.contains("longer than its lease"), "{error}");
    }
    let passage = Passage::to(&url);
    let countersign::authority::Database::Postgres(url) = passage.database() else { unreachable!("it is made so") };
    let lease = Duration::from_millis(100);
    let verifier = Verifier::open(VerifierOptions { database: Some(url), lease, ..options }).await.unwrap();
    passage.cut();
    let value = app.sandbox.basic();
    let proving = async {
        loop {
            verifier.verify(Some(value.as_bytes())).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(lease * 5, proving).await.map(|never: ()| never).unwrap_err();
}
