//! How tokens are used: counted in memory, added up in the database, told to operators.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use countersign::{
    authority::Authority,
    domain::{NewToken, Permissions, Presented, TokenId, TokenName, TokenUse},
};

use http::Method;
use serde_json::{Value, json};

use crate::support::{GRID, Pair, TestApp, database, open, operator};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// 2025-07-21T23:58:50.000Z
const BEFORE_MIDNIGHT: i64 = 1_753_142_330_000;

pub(crate) async fn told_by(authority: &Arc<Authority>, token: &Pair) -> TokenUse {
    let id = TokenId::parse(&token.id).unwrap();
    let by = authority.locate_token(&operator(), id).await.unwrap().may_read().unwrap();
    authority.token_use(&by, id).await.unwrap()
}

async fn told(app: &TestApp, token: &Pair) -> TokenUse {
    told_by(&app.authority, token).await
}

/// Minutes and days with their counts.
fn counts(told: &TokenUse) -> Vec<(String, u64)> {
    let shown = |counts: &BTreeMap<_, _>| counts.iter().map(|(at, uses)| (format!("{at}"), *uses)).collect::<Vec<_>>();
    [shown(&told.minutes), shown(&told.days)].concat()
}

async fn use_by(authority: &Arc<Authority>, token: &Pair, times: usize) {
    // As the server does several times a second: what was counted is collected, and the index believed.
    authority.follow().await.unwrap();
    let presented = Presented::parse_basic(token.basic().as_bytes());
    for _ in 0..times {
        authority.prove_at_once(presented.as_ref(), None).unwrap().unwrap();
    }
}

fn sql(app: &TestApp, sql: &str) {
    database::edit_unchecked(app.directory.path(), sql);
}

fn number(app: &TestApp, sql: &str) -> i64 {
    database::number(app.directory.path(), sql)
}

#[tokio::test]
async fn uses_are_counted_by_minute_and_by_day_wherever_they_are() {
    // Each bit: whether what was counted until then was written.
    for written in 0..8 {
        let app = TestApp::new().await;
        let token = app.token("a", &["VIEW"]).await;
        app.clock.set_wall(BEFORE_MIDNIGHT);
        assert_eq!(counts(&told(&app, &token).await), []);
        for (n, times) in [2, 3, 5].into_iter().enumerate() {
            use_by(&app.authority, &token, times).await;
            told(&app, &token).await;
            if written & 1 << n != 0 {
                app.authority.flush().await.unwrap();
            }
            app.clock.advance(Duration::from_secs([20, 60, 1][n]));
        }
        let expected = [
            ("2025-07-21T23:58:00.000Z".to_owned(), 2),
            ("2025-07-21T23:59:00.000Z".to_owned(), 3),
            ("2025-07-22T00:00:00.000Z".to_owned(), 5),
            ("2025-07-21T00:00:00.000Z".to_owned(), 5),
            ("2025-07-22T00:00:00.000Z".to_owned(), 5),
        ];
        let before = told(&app, &token).await;
        assert_eq!(counts(&before), expected, "{written:03b}");
        assert_eq!(before.last_used_at.unwrap().to_string(), "2025-07-22T00:00:10.000Z");
        assert_eq!((before.last_hour(), before.last_24_hours(), before.last_30_days(), before.last_365_days()), (10, 10, 10, 10));
        let app = app.restart().await;
        assert_eq!(told(&app, &token).await, before, "{written:03b}");
        use_by(&app.authority, &token, 1).await;
        assert_eq!(told(&app, &token).await.last_hour(), 11, "{written:03b}");
    }
}

/// Nothing is collected for a while: the first use still stands where it was.
#[tokio::test]
async fn the_first_use_keeps_its_minute() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    use_by(&app.authority, &token, 1).await;
    app.clock.advance(Duration::from_millis(40_500));
    // Without following: whoever asks the database counts as well.
    app.get(GRID).auth(&token).send().await.expect(200);
    let minutes: Vec<_> = told(&app, &token).await.minutes.into_iter().map(|(at, uses)| (at.to_string(), uses)).collect();
    assert_eq!(minutes, [("2025-07-21T17:32:00.000Z".to_owned(), 1), ("2025-07-21T17:33:00.000Z".to_owned(), 1)]);
}

/// Whoever looks while uses are on their way to the disk sees each once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_written_is_told_once() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    for round in 1..=30 {
        use_by(&app.authority, &token, 10).await;
        let flush = {
            let authority = Arc::clone(&app.authority);
            tokio::spawn(async move { authority.flush().await.unwrap() })
        };
        while !flush.is_finished() {
            assert_eq!(told(&app, &token).await.last_365_days(), 10 * round);
        }
        flush.await.unwrap();
    }
}

#[tokio::test]
async fn several_processes_add_up() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    let other = open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    for round in 1..=3 {
        use_by(&app.authority, &token, 2).await;
        use_by(&other, &token, 5).await;
        app.authority.flush().await.unwrap();
        other.flush().await.unwrap();
        for authority in [&app.authority, &other] {
            let told = told_by(authority, &token).await;
            assert_eq!((told.last_hour(), told.last_365_days()), (7 * round, 7 * round));
        }
    }
    // What the other has not written is the other's.
    use_by(&other, &token, 5).await;
    assert_eq!((told(&app, &token).await.last_hour(), told_by(&other, &token).await.last_hour()), (21, 26));
}

#[tokio::test]
async fn old_counts_are_forgotten() {
    let app = TestApp::new().await;
    let token = app.production.clone();
    let shown = async || {
        let told = told(&app, &token).await;
        (
            told.minutes.len(),
            told.days.len(),
            number(&app, "SELECT count(*) FROM use_quarter"),
            number(&app, "SELECT count(*) FROM use_day"),
        )
    };
    use_by(&app.authority, &token, 1).await;
    app.authority.flush().await.unwrap();
    assert_eq!(shown().await, (1, 1, 1, 1));
    app.clock.advance(DAY + Duration::from_secs(59));
    assert_eq!(shown().await, (0, 1, 1, 1), "17:32:28 is more than 24 hours before 17:33:27");
    app.clock.advance(HOUR);
    app.authority.flush().await.unwrap();
    assert_eq!(shown().await, (0, 1, 1, 1), "not older than 25 hours, as quarters go");
    app.clock.advance(HOUR);
    app.authority.flush().await.unwrap();
    assert_eq!(shown().await, (0, 1, 0, 1));
    app.clock.advance(364 * DAY);
    app.authority.flush().await.unwrap();
    assert_eq!(shown().await, (0, 1, 0, 1));
    app.clock.advance(2 * DAY);
    app.authority.flush().await.unwrap();
    assert_eq!(shown().await, (0, 0, 0, 0));
    assert!(told(&app, &token).await.last_used_at.is_some());
}

/// More than one transaction's worth, in one go; then not again for an hour.
#[tokio::test]
async fn old_counts_are_forgotten_whole_and_once_an_hour() {
    let app = TestApp::new().await;
    let token = app.production.clone();
    use_by(&app.authority, &token, 1).await;
    app.authority.flush().await.unwrap();
    let stored = || (number(&app, "SELECT count(*) FROM use_quarter"), number(&app, "SELECT count(*) FROM use_day"));
    let old = "WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 1500)";
    let refill = || {
        sql(&app, &format!("{old} INSERT INTO use_quarter SELECT n, token_id, minutes FROM n, use_quarter WHERE quarter > 1500"));
        sql(&app, &format!("{old} INSERT INTO use_day SELECT n, token_id, uses FROM n, use_day WHERE day > 1500"));
    };
    refill();
    assert_eq!(stored(), (1501, 1501));
    app.authority.flush().await.unwrap();
    assert_eq!(stored(), (1501, 1501), "it was done at the start");
    app.clock.advance(HOUR);
    app.authority.flush().await.unwrap();
    assert_eq!(stored(), (1, 1));
    refill();
    app.authority.flush().await.unwrap();
    assert_eq!(stored(), (1501, 1501));
}

/// A row removed by hand must not keep the counts of others from being written.
#[tokio::test]
async fn a_token_that_vanished_is_passed_over() {
    let app = TestApp::new().await;
    let (gone, there) = (app.token("gone", &["VIEW"]).await, app.token("there", &["VIEW"]).await);
    for round in 1..=2 {
        use_by(&app.authority, &gone, 3).await;
        use_by(&app.authority, &there, 4).await;
        if round == 2 {
            sql(&app, "DELETE FROM token WHERE name = 'gone'");
        }
        app.authority.flush().await.unwrap();
        assert_eq!(told(&app, &there).await.last_hour(), 4 * round);
    }
    // And the two uses of the one that created them.
    assert_eq!(number(&app, "SELECT sum(uses) FROM use_day"), 3 + 8 + 2);
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later_and_once() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    use_by(&app.authority, &token, 2).await;
    // The last of the three tables: the first two must not keep what they got.
    database::refuse_inserts(app.directory.path(), "use_day");
    for round in 0..3 {
        assert!(app.authority.flush().await.is_err());
        assert_eq!(told(&app, &token).await.last_hour(), 2 + round);
        use_by(&app.authority, &token, 1).await;
    }
    assert_eq!(number(&app, "SELECT (SELECT count(*) FROM use_quarter) + (SELECT count(*) FROM token_use)"), 0);
    database::allow_inserts(app.directory.path(), "use_day");
    for _ in 0..2 {
        app.authority.flush().await.unwrap();
        let told = told(&app, &token).await;
        assert_eq!((told.last_hour(), told.last_365_days()), (5, 5));
    }
}

/// Where nobody knows whether they were written, they are not written again: a use too few is no lie.
#[tokio::test]
async fn what_may_have_been_written_is_not_written_twice() {
    if database::postgres().is_none() {
        return; // a file's commit is known
    }
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    use_by(&app.authority, &token, 5).await;
    // The commit takes longer than it is waited for.
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2.2); RETURN NULL; END $$; \
                CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON use_day DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()";
    database::edit(app.directory.path(), slow);
    app.authority.flush().await.unwrap();
    while number(&app, "SELECT coalesce(sum(uses), 0) FROM use_day") == 0 {}
    database::edit(app.directory.path(), "DROP FUNCTION slow CASCADE");
    app.authority.flush().await.unwrap();
    assert_eq!(told(&app, &token).await.last_hour(), 5);
}

/// A disk that is full for days must not fill the memory too; and what was counted on a day stays on it.
#[tokio::test]
async fn hours_without_a_write_are_kept_more_coarsely() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    app.clock.set_wall(BEFORE_MIDNIGHT - 3 * 3_600_000);
    database::refuse_inserts(app.directory.path(), "use_day");
    for _ in 0..300 {
        use_by(&app.authority, &token, 2).await;
        assert!(app.authority.flush().await.is_err());
        app.clock.advance(Duration::from_secs(60));
    }
    let expected = [("2025-07-21".to_owned(), 364), ("2025-07-22".to_owned(), 236)];
    let by_day = |told: &TokenUse| told.days.iter().map(|(at, uses)| (at.to_string()[..10].to_owned(), *uses)).collect::<Vec<_>>();
    let before = told(&app, &token).await;
    assert_eq!((before.minutes.len(), by_day(&before)), (120, expected.into()));
    database::allow_inserts(app.directory.path(), "use_day");
    let app = app.restart().await;
    let after = told(&app, &token).await;
    assert_eq!((&after.minutes, by_day(&after)), (&before.minutes, by_day(&before)));
}

/// Whoever flushes may be told to end in the middle of it.
#[tokio::test]
async fn a_flush_that_is_dropped_loses_nothing() {
    let app = TestApp::new().await;
    let root = app.authority.verify(Presented::parse_basic(app.sandbox.basic().as_bytes()), Default::default()).await.unwrap();
    let by = root.may_manage().unwrap();
    let mut made = Vec::new();
    // No more at once than may wait to be written, however slow the database is.
    for _ in 0..3 {
        let some = futures_util::future::join_all((0..500).map(|_| {
            let new = NewToken { name: TokenName::parse("name", "a").unwrap(), permissions: Permissions::ALL };
            app.authority.create_token(&by, new, None)
        }));
        made.extend(some.await);
    }
    for issued in made {
        let issued = issued.unwrap();
        let pair = format!("{}:{}", issued.token.client_id(), issued.secret.as_ref().unwrap().expose());
        app.authority.prove_at_once(Presented::parse_pair(pair.as_bytes()).as_ref(), None).unwrap().unwrap();
    }
    for _ in 0..3 {
        tokio::select! {
            biased;
            flushed = app.authority.flush() => flushed.unwrap(),
            () = std::future::ready(()) => {}
        }
    }
    app.authority.flush().await.unwrap();
    assert_eq!(number(&app, "SELECT sum(uses) FROM use_day"), 1501);
}

/// Counts are not sealed: who edits them makes them wrong, and breaks nothing.
#[tokio::test]
async fn z_11_edited_counts_block_nothing() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    use_by(&app.authority, &token, 1).await;
    app.authority.flush().await.unwrap();
    let full = format!("UPDATE use_quarter SET minutes = x'{}'", "7f".repeat(60));
    for edit in [
        "UPDATE use_day SET uses = 9223372036854775807",
        "UPDATE use_day SET uses = -5",
        "UPDATE use_quarter SET minutes = x'ffffffffff'",
        &full,
        "UPDATE use_quarter SET minutes = x''",
        "UPDATE token_use SET last_used_at = -1",
        "UPDATE token_use SET last_used_at = 9223372036854775807",
    ] {
        sql(&app, edit);
        told(&app, &token).await;
        use_by(&app.authority, &token, 1).await;
        app.authority.flush().await.unwrap();
        told(&app, &token).await;
        app.get(GRID).auth(&token).send().await.expect(200);
    }
}

#[tokio::test]
async fn operators_are_told_of_any_token() {
    let app = TestApp::new().await;
    let (_, [_, other]) = app.another_platform("Other").await;
    let token = app.token("a", &["VIEW"]).await;
    app.clock.set_wall(BEFORE_MIDNIGHT);
    use_by(&app.authority, &token, 2).await;
    app.authority.flush().await.unwrap();
    app.clock.advance(Duration::from_secs(80));
    use_by(&app.authority, &token, 1).await;
    let uuid = token.id.trim_start_matches("Token:");
    for form in [token.id.clone(), uuid.to_owned(), format!("Token%3A{uuid}"), format!("tok_{}", uuid.replace('-', ""))] {
        let told = app.get(&format!("/tokens/{form}/uses")).anonymous().send_admin().await.expect(200);
        assert_eq!(told.header("content-type"), Some("application/json"));
        let expected = json!({
            "id": token.id,
            "lastUsedAt": "2025-07-22T00:00:10.000Z",
            "total24h": 3,
            "total365d": 3,
            "minutes": [{ "at": "2025-07-21T23:58:00.000Z", "count": 2 }, { "at": "2025-07-22T00:00:00.000Z", "count": 1 }],
            "days": [{ "at": "2025-07-21", "count": 2 }, { "at": "2025-07-22", "count": 1 }],
        });
        assert_eq!(told.json(), expected, "{form}");
    }
    // One of another platform, never used; one that has ended.
    app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
    assert_eq!(app.get(&format!("/tokens/{}/uses", token.id)).send_admin().await.expect(200).json()["total24h"], 3);
    let told = app.get(&format!("/tokens/{}/uses", other.id)).send_admin().await.expect(200).json();
    let expected = json!({ "id": other.id, "lastUsedAt": Value::Null, "total24h": 0, "total365d": 0, "minutes": [], "days": [] });
    assert_eq!(told, expected);
    assert_eq!(app.request(Method::HEAD, &format!("/tokens/{}/uses", other.id)).send_admin().await.expect(200).body.len(), 0);
}

#[tokio::test]
async fn operators_are_told_of_tokens_that_are_there_and_only_told() {
    let app = TestApp::new().await;
    for id in ["Token:019542f5-b3e7-7d02-8000-000000000001", "x", "..", "%00", "Token:", "token:019542f5-b3e7-7d02-8000-000000000001"] {
        app.get(&format!("/tokens/{id}/uses")).send_admin().await.refused(404, "TOKEN_NOT_FOUND");
    }
    for path in [format!("/tokens/{}", app.sandbox.id), "/tokens".to_owned(), format!("/tokens/{}/uses/x", app.sandbox.id)] {
        app.get(&path).send_admin().await.refused(404, "REFERENCE_NOT_FOUND");
    }
    let path = format!("/tokens/{}/uses", app.sandbox.id);
    for method in [Method::POST, Method::DELETE, Method::PUT, Method::PATCH, Method::OPTIONS] {
        let refused = app.request(method, &path).send_admin().await.refused(405, "METHOD_NOT_ALLOWED");
        assert_eq!(refused.header("allow"), Some("GET,HEAD"));
    }
    // Not where the customers are.
    app.get(&path).send().await.refused(404, "REFERENCE_NOT_FOUND");
    database::edit(app.directory.path(), "DROP TABLE use_day");
    app.get(&path).expecting_5xx().send_admin().await.refused(503, "SERVICE_UNAVAILABLE");
}
