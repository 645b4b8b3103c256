//! Many tokens ended by one command: all that were counted and no others, whoever is at it.

use std::time::Duration;

use countersign::{
    authority::{Authority, Error},
    domain::{
        Action, AuditQuery, BulkId, BulkRevoke, BulkState, Environment, LastUse, NewToken, Operator, PageLimit, Permissions, PlatformId,
        Role, Scope, TokenId, TokenSearch,
    },
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    keys::write_keys,
    operators::{Person, token_name},
    support::{GRID, TestApp, database, open, operator},
};

const LONG: Duration = Duration::from_secs(11);

async fn person(app: &TestApp, role: Role, of: Option<PlatformId>) -> Operator {
    Person::invited(app, "somebody", role, of).await.1.operator(Default::default())
}

fn named(part: &str) -> TokenSearch {
    TokenSearch { name: Some(part.to_owned()), ..TokenSearch::default() }
}

/// Waits until it is over.
async fn over(authority: &Authority, id: BulkId) -> BulkRevoke {
    loop {
        let bulk = authority.get_bulk_revoke(&operator(), id).await.unwrap();
        if bulk.state != BulkState::Running {
            return bulk;
        }
        tokio::task::yield_now().await;
    }
}

async fn many(app: &TestApp, name: &str, count: usize) -> Vec<TokenId> {
    let by = operator().within(Scope { platform: app.platform.id, environment: Environment::Production }).may_manage().unwrap();
    let created = (0..count).map(|_| {
        let new = NewToken { name: token_name(name), permissions: Permissions::parse("VIEW").unwrap() };
        let (by, authority) = (by.clone(), app.authority.clone());
        async move { authority.create_token(&by, new, None).await.unwrap().token.id }
    });
    join_all(created).await
}

/// The entries of a bulk revoke in the audit log: those of its tokens, and that of the whole.
async fn entries(app: &TestApp, bulk: &BulkRevoke) -> (Vec<TokenId>, Vec<Value>) {
    let (mut tokens, mut wholes, mut before) = (Vec::new(), Vec::new(), None);
    loop {
        let query = AuditQuery { before_seq: before, limit: PageLimit::new(100).unwrap(), ..AuditQuery::default() };
        let (page, more) = app.authority.list_audit(&operator(), query).await.unwrap();
        for recorded in &page {
            let entry = &recorded.entry;
            match entry.action {
                Action::TokenRevoke if entry.request.id == format!("bulk-{}", bulk.id) => {
                    assert_eq!(entry.actor, bulk.actor());
                    tokens.push(entry.token.unwrap());
                }
                Action::TokenBulkRevoke => wholes.push(serde_json::from_str(&entry.detail).unwrap()),
                _ => {}
            }
        }
        before = page.last().map(|recorded| recorded.seq);
        if !more {
            tokens.sort();
            return (tokens, wholes);
        }
    }
}

/// Begins one in a process of its own, which dies behind the first transactions of it.
fn begun_by_one_who_dies(app: &TestApp, search: TokenSearch, expected: u64) -> BulkRevoke {
    let (directory, clock, entropy) = (app.directory.path(), &app.clock, &app.entropy);
    std::thread::scope(|scope| {
        let dies = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let authority = runtime.block_on(open(directory, clock, entropy)).unwrap();
            let bulk = runtime.block_on(async {
                let bulk = authority.begin_bulk_revoke(&operator(), search, expected, None).await.unwrap();
                loop {
                    let bulk = authority.get_bulk_revoke(&operator(), bulk.id).await.unwrap();
                    if bulk.ended > 0 {
                        return bulk;
                    }
                    tokio::task::yield_now().await;
                }
            });
            // With all that it was at.
            drop(runtime);
            bulk
        });
        dies.join().unwrap()
    })
}

#[tokio::test]
async fn what_was_counted_ends_and_nothing_else() {
    let app = TestApp::new().await;
    let (_, pairs) = app.another_platform("Other").await;
    let one = app.token("old one", &["VIEW"]).await;
    app.clock.advance(Duration::from_millis(1));
    let doomed = [one, app.token_by(&pairs[1], "OLD two", &["MANAGE"]).await];
    let (new, ended) = (app.token("new", &["VIEW"]).await, app.token("old but ended", &["VIEW"]).await);
    app.delete(&format!("{GRID}/{}", ended.id)).send().await.expect(204);
    let by = person(&app, Role::Manager, None).await;
    app.clock.advance(Duration::from_millis(1));

    let plan = app.authority.plan_bulk_revoke(&by, named("old")).await.unwrap();
    let shown: Vec<_> = plan.first.iter().map(|found| found.token.id.to_string()).collect();
    assert_eq!((plan.count, shown), (2, doomed.iter().map(|token| token.id.clone()).collect()));
    app.clock.advance(Duration::from_millis(1));
    let late = app.token("old, but made later", &["VIEW"]).await;
    // Root tokens are among none: nobody is left without them.
    let all = app.authority.plan_bulk_revoke(&by, TokenSearch::default()).await.unwrap();
    assert_eq!(all.count, 4);

    for wrong in [0, 1, 3] {
        let begun = app.authority.begin_bulk_revoke(&by, plan.search.clone(), wrong, None).await;
        assert!(matches!(begun, Err(Error::OtherCount(2))), "{begun:?}");
    }
    assert!(app.authority.list_bulk_revokes(&by).await.unwrap().is_empty());
    let begun = app.authority.begin_bulk_revoke(&by, plan.search.clone(), 2, None).await.unwrap();
    assert_eq!((begun.state, begun.ended), (BulkState::Running, 0));
    let done = over(&app.authority, begun.id).await;
    assert!(matches!(done.state, BulkState::Finished(_)) && done.ended == 2, "{done:?}");
    for token in &doomed {
        app.get(GRID).auth(token).send().await.refused(401, "UNAUTHORIZED");
    }
    for token in [&new, &late, &app.sandbox, &app.production, &pairs[0], &pairs[1]] {
        app.get("/verify").auth(token).send().await.expect(200);
    }
    assert_eq!(app.authority.list_bulk_revokes(&by).await.unwrap(), std::slice::from_ref(&done));

    let (tokens, wholes) = entries(&app, &done).await;
    assert_eq!(tokens.iter().map(ToString::to_string).collect::<Vec<_>>(), doomed.map(|token| token.id));
    let until = plan.search.until.to_string();
    assert_eq!(
        wholes,
        [json!({ "bulkRevoke": done.id.to_string(), "expected": 2, "filter": { "namePart": "old", "createdUntil": until } })]
    );
    assert_eq!(app.authority.plan_bulk_revoke(&by, plan.search).await.unwrap().count, 0);
}

/// In chunks of 256: the last one that was committed is where the next process goes on.
#[tokio::test]
async fn who_dies_meanwhile_is_gone_on_for() {
    let app = TestApp::new().await;
    let mut doomed = many(&app, "doomed", 700).await;
    doomed.sort();
    app.clock.advance(Duration::from_millis(1));
    let kept = app.token("kept", &["VIEW"]).await;
    let begun = begun_by_one_who_dies(&app, named("doomed"), 700);
    assert!(begun.state == BulkState::Running && begun.ended < 700, "{begun:?}");
    let stand = async || app.authority.get_bulk_revoke(&operator(), begun.id).await.unwrap();

    // Not at once: whoever is at it may be slow.
    app.authority.resume_bulk_revokes().await.unwrap();
    app.clock.advance(LONG - Duration::from_secs(2));
    app.authority.resume_bulk_revokes().await.unwrap();
    assert_eq!(stand().await.state, BulkState::Running);
    app.clock.advance(LONG);
    app.authority.resume_bulk_revokes().await.unwrap();
    let done = stand().await;
    assert!(matches!(done.state, BulkState::Finished(_)) && done.ended == 700, "{done:?}");
    let (tokens, wholes) = entries(&app, &done).await;
    assert_eq!((tokens, wholes.len()), (doomed, 1));
    app.get("/verify").auth(&kept).send().await.expect(200);
    assert_eq!(app.authority.plan_bulk_revoke(&operator(), named("doomed")).await.unwrap().count, 0);
}

/// Two that are at it do not count, or enter, anything twice.
#[tokio::test]
async fn two_at_once_do_it_once() {
    let app = TestApp::new().await;
    let mut doomed = many(&app, "doomed", 600).await;
    doomed.sort();
    app.clock.advance(Duration::from_millis(1));
    let other = open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    let begun = begun_by_one_who_dies(&app, named("doomed"), 600);
    for authority in [&app.authority, &other] {
        authority.resume_bulk_revokes().await.unwrap();
    }
    app.clock.advance(LONG);
    let (a, b) = tokio::join!(app.authority.resume_bulk_revokes(), other.resume_bulk_revokes());
    a.and(b).unwrap();
    let done = over(&app.authority, begun.id).await;
    assert_eq!((done.ended, entries(&app, &done).await.0), (600, doomed));
}

/// What matches only since it was counted takes nothing away from the number that was said.
#[tokio::test]
async fn no_more_end_than_were_expected() {
    let app = TestApp::new().await;
    many(&app, "some", 600).await;
    let search = TokenSearch { used: Some(LastUse::Never), ..named("some") };
    app.clock.advance(Duration::from_millis(1));
    let begun = begun_by_one_who_dies(&app, search, 600);
    // As if they had been made before it was begun: nobody can know.
    let by = operator().within(Scope { platform: app.platform.id, environment: Environment::Production }).may_manage().unwrap();
    app.clock.set_wall(begun.created_at.millis() - 1);
    for _ in 0..3 {
        let new = NewToken { name: token_name("some too"), permissions: Permissions::parse("VIEW").unwrap() };
        app.authority.create_token(&by, new, None).await.unwrap();
    }
    app.authority.resume_bulk_revokes().await.unwrap();
    app.clock.advance(LONG);
    app.authority.resume_bulk_revokes().await.unwrap();
    assert_eq!(over(&app.authority, begun.id).await.ended, 600);
}

#[tokio::test]
async fn one_that_is_stopped_goes_no_further() {
    let app = TestApp::new().await;
    many(&app, "doomed", 600).await;
    app.clock.advance(Duration::from_millis(1));
    let begun = begun_by_one_who_dies(&app, named("doomed"), 600);
    let viewer = person(&app, Role::Viewer, None).await;
    assert!(matches!(app.authority.stop_bulk_revoke(&viewer, begun.id).await, Err(Error::RoleLacking(_))));
    let stopped = app.authority.stop_bulk_revoke(&operator(), begun.id).await.unwrap();
    assert!(matches!(stopped.state, BulkState::Stopped(_)));
    app.authority.resume_bulk_revokes().await.unwrap();
    app.clock.advance(LONG);
    app.authority.resume_bulk_revokes().await.unwrap();
    assert_eq!(app.authority.get_bulk_revoke(&operator(), begun.id).await.unwrap(), stopped);
    assert_eq!(app.authority.stop_bulk_revoke(&operator(), begun.id).await.unwrap(), stopped);
    assert_eq!(app.authority.plan_bulk_revoke(&operator(), named("doomed")).await.unwrap().count, 600 - stopped.ended);
    let stops = AuditQuery { action: Some(Action::TokenBulkRevokeStop), ..AuditQuery::default() };
    let (entries, _) = app.authority.list_audit(&operator(), stops).await.unwrap();
    let told: Vec<Value> = entries.iter().map(|recorded| serde_json::from_str(&recorded.entry.detail).unwrap()).collect();
    assert_eq!(told, [json!({ "bulkRevoke": begun.id.to_string(), "ended": stopped.ended })]);
}

#[tokio::test]
async fn the_staff_of_one_platform_end_its_own_alone() {
    let app = TestApp::new().await;
    let (other, pairs) = app.another_platform("Other").await;
    let (mine, theirs) = (app.token("same", &["VIEW"]).await, app.token_by(&pairs[0], "same", &["VIEW"]).await);
    let staff = person(&app, Role::Manager, Some(app.platform.id)).await;
    app.clock.advance(Duration::from_millis(1));
    let half = |platform| TokenSearch { scope: Some(Scope { platform, environment: Environment::Sandbox }), ..named("same") };
    assert!(matches!(app.authority.begin_bulk_revoke(&staff, named("same"), 2, None).await, Err(Error::RoleLacking(_))));
    assert!(matches!(app.authority.begin_bulk_revoke(&staff, half(other.id), 1, None).await, Err(Error::NotFound)));
    let begun = app.authority.begin_bulk_revoke(&staff, half(app.platform.id), 1, None).await.unwrap();
    over(&app.authority, begun.id).await;
    let of_others = app.authority.begin_bulk_revoke(&operator(), half(other.id), 1, None).await.unwrap();
    over(&app.authority, of_others.id).await;
    for token in [&mine, &theirs] {
        app.get(GRID).auth(token).send().await.refused(401, "UNAUTHORIZED");
    }
    let seen: Vec<_> = app.authority.list_bulk_revokes(&staff).await.unwrap().into_iter().map(|bulk| bulk.id).collect();
    assert_eq!(seen, [begun.id]);
    assert!(matches!(app.authority.get_bulk_revoke(&staff, of_others.id).await, Err(Error::NotFound)));
    assert!(matches!(app.authority.stop_bulk_revoke(&staff, of_others.id).await, Err(Error::NotFound)));
}

/// Whoever can write to the database and lacks the key gets nobody to end anything.
#[tokio::test]
async fn z_11_an_edited_one_ends_nothing() {
    let app = TestApp::new().await;
    many(&app, "doomed", 600).await;
    let kept = app.token("kept", &["VIEW"]).await;
    app.clock.advance(Duration::from_millis(1));
    for (edit, n) in [
        ("search = replace(search, 'doomed', 'kept')", 1),
        ("expected = expected + 1", 2),
        ("ended = 0", 3),
        ("place = NULL", 4),
        ("operator = 'mallory'", 5),
    ] {
        let count = app.authority.plan_bulk_revoke(&operator(), named("doomed")).await.unwrap().count;
        if count < 300 {
            many(&app, "doomed", 600).await;
            app.clock.advance(Duration::from_millis(1));
        }
        let count = app.authority.plan_bulk_revoke(&operator(), named("doomed")).await.unwrap().count;
        let begun = begun_by_one_who_dies(&app, named("doomed"), count);
        let left = app.authority.plan_bulk_revoke(&operator(), named("doomed")).await.unwrap().count;
        assert_eq!(database::edit(app.directory.path(), &format!("UPDATE bulk_revoke SET {edit} WHERE over_at IS NULL")), n);
        assert!(matches!(app.authority.get_bulk_revoke(&operator(), begun.id).await, Err(Error::Tampered)), "{edit}");
        let listed = app.authority.list_bulk_revokes(&operator()).await.unwrap();
        assert!(listed.iter().all(|bulk| bulk.id != begun.id), "{edit}");
        app.authority.resume_bulk_revokes().await.unwrap();
        app.clock.advance(LONG);
        app.authority.resume_bulk_revokes().await.unwrap();
        assert_eq!(app.authority.plan_bulk_revoke(&operator(), named("doomed")).await.unwrap().count, left, "{edit}");
    }
    app.get("/verify").auth(&kept).send().await.expect(200);
    assert!(app.metrics().await.contains("countersign_integrity_failures 5\n"));
}

#[tokio::test]
async fn s_08_they_outlive_the_key_that_sealed_them() {
    let app = TestApp::new().await;
    app.token("doomed", &["VIEW"]).await;
    app.clock.advance(Duration::from_millis(1));
    let begun = app.authority.begin_bulk_revoke(&operator(), named("doomed"), 1, None).await.unwrap();
    let done = over(&app.authority, begun.id).await;
    let running = BulkId::parse(&app.bulk_revoke().await).unwrap();
    write_keys(&app.directory.path().join("keys.json"), &[(1, "verify-only")], 2);
    app.authority.reload_keys().await.unwrap();
    let plan = app.authority.plan_retirement(&operator(), 1).await.unwrap();
    app.authority.retire_key(&operator(), 1, plan.count, plan.seq, usize::MAX).await.unwrap();
    assert_eq!(app.authority.get_bulk_revoke(&operator(), done.id).await.unwrap(), done);
    assert_eq!(app.authority.list_bulk_revokes(&operator()).await.unwrap().len(), 2);
    app.authority.resume_bulk_revokes().await.unwrap();
    app.clock.advance(LONG);
    app.authority.resume_bulk_revokes().await.unwrap();
    let over = app.authority.get_bulk_revoke(&operator(), running).await.unwrap();
    assert!(matches!(over.state, BulkState::Finished(_)), "{over:?}");
}

/// What a token's holder did a moment ago is not written yet, and counts.
#[tokio::test]
async fn a_token_that_was_used_just_now_was_not_never_used() {
    let app = TestApp::new().await;
    let (used, unused) = (app.token("used", &["VIEW"]).await, app.token("unused", &["VIEW"]).await);
    app.clock.advance(Duration::from_millis(1));
    app.get("/verify").auth(&used).send().await.expect(200);
    let never = TokenSearch { used: Some(LastUse::Never), ..named("used") };
    let plan = app.authority.plan_bulk_revoke(&operator(), never).await.unwrap();
    assert_eq!(plan.first.iter().map(|found| found.token.id.to_string()).collect::<Vec<_>>(), [unused.id]);
}

/// A row from before it was stopped passes its own seal, and the log knows better: whoever can write the database alone ends
/// nothing by it.
#[tokio::test]
async fn z_11_a_stopped_one_whose_old_row_was_put_back_is_not_gone_on_with() {
    let app = TestApp::new().await;
    many(&app, "doomed", 600).await;
    app.clock.advance(Duration::from_millis(1));
    let begun = begun_by_one_who_dies(&app, named("doomed"), 600);
    let directory = app.directory.path().to_owned();
    database::edit(&directory, "CREATE TABLE kept AS SELECT * FROM bulk_revoke");
    let stopped = app.authority.stop_bulk_revoke(&operator(), begun.id).await.unwrap();
    database::edit(&directory, "DELETE FROM bulk_revoke; INSERT INTO bulk_revoke SELECT * FROM kept");
    let left = app.authority.plan_bulk_revoke(&operator(), named("doomed")).await.unwrap().count;
    assert!(left > 0 && left == 600 - stopped.ended, "{left}, {stopped:?}");
    app.authority.resume_bulk_revokes().await.unwrap();
    app.clock.advance(LONG);
    app.authority.resume_bulk_revokes().await.unwrap();
    assert_eq!(app.authority.plan_bulk_revoke(&operator(), named("doomed")).await.unwrap().count, left);
    assert!(app.metrics().await.contains("countersign_integrity_failures 1\n"));
    let verified = app.authority.verify_audit(&operator(), 0, 200_000).await.unwrap().verified;
    let what = verified.problems.iter().map(|problem| problem.what.clone()).collect::<Vec<_>>();
    assert!(what.len() == 1 && what[0].starts_with(&format!("bulk revoke {} goes on, although audit entry ", begun.id)), "{what:?}");
}
