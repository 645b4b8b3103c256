//! An end is an end: for every request that begins after it was answered, whatever was going on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign::{
    authority::{Authority, Clock as _, Denied},
    domain::{MayManage, NewToken, Permissions, Presented, RequestInfo, TokenId, TokenName},
};

use crate::support::{BLIPS, GRID, ManualClock, Pair, START, TestApp, database, open, operator};

fn presented(pair: &Pair) -> Option<Presented> {
    Presented::parse_basic(pair.basic().as_bytes())
}

async fn manager(app: &TestApp) -> MayManage {
    app.authority.verify(presented(&app.sandbox), RequestInfo::default()).await.unwrap().may_manage().unwrap()
}

async fn issue(app: &TestApp, by: &MayManage) -> Pair {
    issue_at(&app.authority, by).await
}

async fn issue_at(node: &Arc<Authority>, by: &MayManage) -> Pair {
    let new = NewToken { name: TokenName::parse("name", "a").unwrap(), permissions: Permissions::parse("VIEW").unwrap() };
    let issued = node.create_token(by, new, None).await.unwrap();
    Pair {
        id: issued.token.id.to_string(),
        client_id: issued.token.client_id().to_string(),
        secret: issued.secret.unwrap().expose().to_owned(),
    }
}

/// verifiers hammer the token that is being ended; an accept that began after the end's answer is an offence.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_01_no_accept_after_the_answer() {
    let app = Arc::new(TestApp::new().await);
    let by = manager(&app).await;
    let mut accepts = 0;
    for _ in 0..300 {
        let pair = Arc::new(issue(&app, &by).await);
        let (ended, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let offences = Arc::new(AtomicU64::new(0));
        let verifiers: Vec<_> = (0..3)
            .map(|_| {
                let (app, pair, ended, stop, offences) = (app.clone(), pair.clone(), ended.clone(), stop.clone(), offences.clone());
                tokio::spawn(async move {
                    let mut accepted = 0_u64;
                    while !stop.load(Ordering::SeqCst) {
                        let begun_after = ended.load(Ordering::SeqCst);
                        if app.authority.verify(presented(&pair), RequestInfo::default()).await.is_ok() {
                            accepted += 1;
                            offences.fetch_add(u64::from(begun_after), Ordering::SeqCst);
                        }
                        tokio::task::yield_now().await;
                    }
                    accepted
                })
            })
            .collect();
        while app.authority.verify(presented(&pair), RequestInfo::default()).await.is_err() {}
        let id = TokenId::parse(&pair.id).unwrap();
        app.authority.revoke_token(&by, id).await.unwrap();
        ended.store(true, Ordering::SeqCst);
        for _ in 0..20 {
            assert!(app.authority.verify(presented(&pair), RequestInfo::default()).await.is_err());
            tokio::task::yield_now().await;
        }
        stop.store(true, Ordering::SeqCst);
        for verifier in verifiers {
            accepts += verifier.await.unwrap();
        }
        assert_eq!(offences.load(Ordering::SeqCst), 0);
    }
    assert!(accepts > 0, "nothing was verified meanwhile: this proves nothing");
}

#[tokio::test]
async fn r_02_a_reader_that_was_overtaken_brings_nothing_back() {
    // The lease is over, so each verification reads the row and puts it into the index; an end comes in between.
    let app = TestApp::new().await;
    let by = manager(&app).await;
    for _ in 0..50 {
        let pair = issue(&app, &by).await;
        app.clock.advance(Duration::from_secs(60));
        let reads = (0..4).map(|_| app.authority.verify(presented(&pair), RequestInfo::default()));
        let id = TokenId::parse(&pair.id).unwrap();
        let (_, ended) = tokio::join!(futures_util::future::join_all(reads), app.authority.revoke_token(&by, id));
        ended.unwrap();
        assert!(app.authority.verify(presented(&pair), RequestInfo::default()).await.is_err());
        app.authority.follow().await.unwrap();
        assert!(app.authority.verify(presented(&pair), RequestInfo::default()).await.is_err());
    }
}

#[tokio::test]
async fn r_03_noting_a_use_brings_nothing_back() {
    let app = TestApp::new().await;
    let pair = app.token("a", &["VIEW"]).await;
    app.get(GRID).auth(&pair).send().await.expect(200);
    app.delete(&format!("{GRID}/{}", pair.id)).send().await.expect(204);
    app.authority.flush().await.unwrap();
    app.get(GRID).auth(&pair).send().await.refused(401, "UNAUTHORIZED");
    app.restart().await.get(GRID).auth(&pair).send().await.refused(401, "UNAUTHORIZED");
}

#[tokio::test(flavor = "multi_thread")]
async fn r_04_fifty_at_once_end_it_once() {
    let app = Arc::new(TestApp::new().await);
    let pair = app.token("a", &["VIEW"]).await;
    let path = format!("{BLIPS}/{}/revoke", pair.id);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (app, path) = (app.clone(), path.clone());
            tokio::spawn(async move { app.post(&path).send().await.expect(200).json()["revokedAt"].clone() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "2025-07-21T17:32:28.000Z");
    }
    let query = countersign::domain::AuditQuery { action: Some(countersign::domain::Action::TokenRevoke), ..Default::default() };
    let (entries, _) = app.authority.list_audit(&operator(), query).await.unwrap();
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn r_06_a_restart_forgets_nothing() {
    let app = TestApp::new().await;
    let (kept, ended) = (app.token("kept", &["VIEW"]).await, app.token("ended", &["VIEW"]).await);
    app.post(&format!("{BLIPS}/{}/revoke", ended.id)).send().await.expect(200);
    let app = app.restart().await;
    app.get(GRID).auth(&ended).send().await.refused(401, "UNAUTHORIZED");
    app.get(GRID).auth(&kept).send().await.expect(200);
}

#[tokio::test]
async fn r_07_asking_too_early_hides_nothing() {
    let app = TestApp::new().await;
    let pair = app.token("a", &["VIEW"]).await;
    let early = pair.basic();
    // The same process again, with an index that has never heard of the token, because it was made elsewhere.
    let elsewhere = open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    let by = manager(&app).await;
    let new = issue(&app, &by).await;
    for _ in 0..3 {
        let proven = elsewhere.verify(presented(&new), RequestInfo::default()).await;
        assert!(proven.is_ok(), "{proven:?}");
    }
    assert!(elsewhere.verify(Presented::parse_basic(early.as_bytes()), RequestInfo::default()).await.is_ok());
}

#[tokio::test]
async fn r_11_past_the_lease_the_database_is_asked() {
    // Another process ends the token behind this one's back; this one has not followed since.
    let app = TestApp::new().await;
    let elsewhere = open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    let pair = app.token("a", &["VIEW"]).await;
    elsewhere.follow().await.unwrap();
    assert!(elsewhere.verify(presented(&pair), RequestInfo::default()).await.is_ok());
    let id = TokenId::parse(&pair.id).unwrap();
    let by = manager(&app).await;
    app.authority.revoke_token(&by, id).await.unwrap();

    assert!(elsewhere.verify(presented(&pair), RequestInfo::default()).await.is_ok(), "within its lease, and not told");
    app.clock.advance(Duration::from_secs(1));
    assert!(elsewhere.verify(presented(&pair), RequestInfo::default()).await.is_err(), "believed past its lease");
}

/// A read that took its time says nothing of what came meanwhile: the lease runs from before it.
#[tokio::test]
async fn r_11_a_slow_read_is_believed_from_its_beginning() {
    let app = TestApp::new().await;
    let elsewhere = open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    let (by, pair) = (manager(&app).await, app.token("a", &["VIEW"]).await);
    let read = {
        let elsewhere = Arc::clone(&elsewhere);
        async move { elsewhere.follow().await }
    };
    app.clock.stop_at(1, read, async || app.clock.advance(Duration::from_secs(2))).await.unwrap();
    app.authority.revoke_token(&by, TokenId::parse(&pair.id).unwrap()).await.unwrap();
    assert!(elsewhere.verify(presented(&pair), RequestInfo::default()).await.is_err(), "believed from the end of the read");
}

/// Nor does one that failed, however often it is tried.
#[tokio::test]
async fn r_11_a_read_that_failed_renews_no_lease() {
    let app = TestApp::new().await;
    let elsewhere = open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    let pair = app.token("a", &["VIEW"]).await;
    elsewhere.follow().await.unwrap();
    database::edit(app.directory.path(), "ALTER TABLE audit RENAME TO elsewhere");
    for _ in 0..4 {
        app.clock.advance(Duration::from_millis(250));
        elsewhere.follow().await.unwrap_err();
    }
    assert_eq!(elsewhere.verify(presented(&pair), RequestInfo::default()).await.unwrap_err(), Denied::Unknown);
    database::edit(app.directory.path(), "ALTER TABLE elsewhere RENAME TO audit");
    elsewhere.follow().await.unwrap();
    assert!(elsewhere.verify(presented(&pair), RequestInfo::default()).await.is_ok());
}

/// the machine is suspended in the middle of a request, before any of its looks at the clock; a token that was ended
/// elsewhere meanwhile is not accepted when it goes on.
#[tokio::test]
async fn r_12_a_request_that_is_suspended_does_not_outlive_the_lease() {
    let app = TestApp::new().await;
    let by = manager(&app).await;
    let mut suspended = 0;
    for look in 1.. {
        let pair = issue(&app, &by).await;
        app.get("/verify").auth(&pair).send().await.expect(200);
        let elsewhere = open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
        let id = TokenId::parse(&pair.id).unwrap();
        let theirs = elsewhere.verify(presented(&app.sandbox), RequestInfo::default()).await.unwrap().may_manage().unwrap();
        elsewhere.revoke_token(&theirs, id).await.unwrap();

        // Somebody sets the wall clock back: leases do not go by it.
        app.clock.set_wall(START - 3_600_000);
        app.clock.looks_to_suspend.store(look, Ordering::SeqCst);
        let answer = app.get("/verify").auth(&pair).send().await;
        if app.clock.looks_to_suspend.swap(0, Ordering::SeqCst) > 0 {
            answer.expect(200); // within its lease, and not told
            break;
        }
        answer.refused(401, "UNAUTHORIZED");
        suspended += 1;
        app.authority.follow().await.unwrap();
    }
    assert!(suspended > 0, "no look at the clock: this proves nothing");
}

/// F-06: what the wall clock of a node shows decides nothing that another sees.
#[tokio::test]
async fn f_06_nodes_whose_wall_clocks_differ_agree() {
    let app = TestApp::new().await;
    let mut nodes = vec![app.authority.clone()];
    for wall in [START - 3_600_000, START + 3_600_000, -1000] {
        nodes.push(open(app.directory.path(), &Arc::new(ManualClock::showing(wall)), &app.entropy).await.unwrap());
    }
    let follow = async || {
        for node in &nodes {
            node.follow().await.unwrap();
        }
    };
    let mut by = Vec::new();
    for node in &nodes {
        by.push(node.verify(presented(&app.sandbox), RequestInfo::default()).await.unwrap().may_manage().unwrap());
    }
    // Each makes one, and ends one that was made by the next.
    let mut made = Vec::new();
    for (node, by) in nodes.iter().zip(&by) {
        let pair = issue_at(node, by).await;
        made.push((TokenId::parse(&pair.id).unwrap(), pair));
    }
    follow().await;
    for node in &nodes {
        for (_, pair) in &made {
            assert!(node.verify(presented(pair), RequestInfo::default()).await.is_ok());
        }
    }
    let ends = (0..nodes.len()).map(|at| nodes[at].revoke_token(&by[at], made[(at + 1) % nodes.len()].0));
    for ended in futures_util::future::join_all(ends).await {
        let token = ended.unwrap().token;
        assert!(token.revoked_at >= Some(token.created_at()), "{token:?}");
    }
    follow().await;
    for node in &nodes {
        for (_, pair) in &made {
            assert!(node.verify(presented(pair), RequestInfo::default()).await.is_err());
        }
    }
}

#[tokio::test]
async fn following_brings_what_others_changed() {
    let app = TestApp::new().await;
    let elsewhere = open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    let pair = app.token("a", &["VIEW"]).await;
    elsewhere.follow().await.unwrap();
    let id = TokenId::parse(&pair.id).unwrap();
    let by = manager(&app).await;
    app.authority.revoke_token(&by, id).await.unwrap();
    elsewhere.follow().await.unwrap();
    assert!(elsewhere.verify(presented(&pair), RequestInfo::default()).await.is_err());
    app.authority.set_platform_disabled(&operator(), app.platform.id, true).await.unwrap();
    elsewhere.follow().await.unwrap();
    assert!(elsewhere.verify(presented(&app.sandbox), RequestInfo::default()).await.is_err());
    app.authority.set_platform_disabled(&operator(), app.platform.id, false).await.unwrap();
    elsewhere.follow().await.unwrap();
    assert!(elsewhere.verify(presented(&app.sandbox), RequestInfo::default()).await.is_ok());
}

/// A process that has not said that it knows is waited for until it believes nothing, and named.
#[tokio::test]
async fn a_receipt_names_who_was_not_heard_of() {
    let app = TestApp::new().await;
    let elsewhere = crate::support::open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    let (by, pair) = (manager(&app).await, app.token("a", &["VIEW"]).await);
    let id = countersign::domain::TokenId::parse(&pair.id).unwrap();
    let first = app.authority.revoke_token(&by, id).await.unwrap().receipt;
    assert_eq!((first.unheard.len(), first.bound), (1, Duration::ZERO));
    // Now it knows; and on PostgreSQL it says so.
    elsewhere.follow().await.unwrap();
    let again = app.authority.revoke_token(&by, id).await.unwrap();
    assert!(again.already && again.receipt.seq == first.seq && first.seq.is_some());
    if database::postgres().is_some() {
        assert_eq!(again.receipt.unheard, [""; 0]);
        // A process that has just begun has read it too.
        let _another = crate::support::open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
        assert_eq!(app.authority.revoke_token(&by, id).await.unwrap().receipt.unheard, [""; 0]);
    }
}

/// Who does not want to wait is told by when it is true.
#[tokio::test]
async fn a_revoke_that_does_not_wait_says_by_when_it_is_true() {
    let mut app = TestApp::new().await;
    let elsewhere = app.try_replace(|options| options.revocation_wait = false).await.unwrap();
    let (by, pair) = (manager(&app).await, app.token("a", &["VIEW"]).await);
    elsewhere.follow().await.unwrap();
    let receipt = app.authority.revoke_token(&by, countersign::domain::TokenId::parse(&pair.id).unwrap()).await.unwrap().receipt;
    // On PostgreSQL a fifth longer and a little: the clocks are those of different machines.
    let bound = if database::postgres().is_some() { 1210 } else { 1000 };
    assert_eq!((receipt.bound, receipt.unheard.len()), (Duration::from_millis(bound), 1));
    assert_eq!(receipt.effective_at, app.clock.wall().plus_millis(bound as i64));
    // Here it is true at once; there when its lease is over, at the latest.
    assert!(app.authority.verify(presented(&pair), RequestInfo::default()).await.is_err());
    assert!(elsewhere.verify(presented(&pair), RequestInfo::default()).await.is_ok(), "it had heard of it: this proves nothing");
    app.clock.advance(receipt.bound);
    assert!(elsewhere.verify(presented(&pair), RequestInfo::default()).await.is_err());
}

/// The dialects have no place for a receipt; the log has.
#[tokio::test]
async fn the_log_has_the_receipt() {
    let app = TestApp::new().await;
    let ids = [("delete", app.token("a", &["VIEW"]).await.id), ("post", app.token("b", &["VIEW"]).await.id)];
    for (method, id) in ids {
        let request = match method {
            "delete" => app.delete(&format!("{GRID}/{id}")),
            _ => app.post(&format!("{BLIPS}/{id}/revoke")),
        };
        let request_id = format!("receipt-{id}");
        request.header("x-request-id", &request_id).send().await;
        let log = crate::support::logged();
        let line = log.lines().find(|line| line.contains(&request_id) && line.contains("\"request\"")).unwrap();
        assert!(line.contains("\"seq\":") && line.contains("\"effective_at\":\"2025-07-21T17:32:28.000Z\""), "{line}");
    }
}
