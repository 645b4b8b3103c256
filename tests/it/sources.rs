//! Where tokens are used from: noted once an hour in memory, kept for a while, told to operators.

use std::{sync::Arc, time::Duration};

use countersign::{
    authority::{Authority, Clock as _},
    domain::{Presented, Role, UseSource},
};
use http::Method;
use serde_json::{Value, json};

use crate::{
    support::{GRID, Pair, TestApp, database, open},
    uses::told_by,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How far the clock by which tests begin is from its next hour.
const TO_NEXT_HOUR: Duration = Duration::from_secs(2600);

/// Address, first and last use, newest first.
async fn told_of(authority: &Arc<Authority>, token: &Pair) -> Vec<(String, String, String)> {
    let shown = |source: &UseSource| (source.address.to_string(), source.first_at.to_string(), source.last_at.to_string());
    told_by(authority, token).await.sources.iter().map(shown).collect()
}

async fn addresses(app: &TestApp, token: &Pair) -> Vec<String> {
    told_of(&app.authority, token).await.into_iter().map(|(address, ..)| address).collect()
}

fn used(address: &str, first: &str, last: &str) -> (String, String, String) {
    let at = |time: &str| format!("2025-07-21T{time}.000Z");
    (address.to_owned(), at(first), at(last))
}

async fn use_from(authority: &Arc<Authority>, token: &Pair, address: &str) {
    authority.follow().await.unwrap();
    let presented = Presented::parse_basic(token.basic().as_bytes());
    authority.prove_at_once(presented.as_ref(), Some(address.parse().unwrap())).unwrap().unwrap();
}

fn stored(app: &TestApp) -> i64 {
    database::number(app.directory.path(), "SELECT count(*) FROM use_source")
}

/// Behind proxies and not, by the APIs and by what gateways ask; whether it was written meanwhile or not.
#[tokio::test]
async fn addresses_are_told_newest_first_wherever_they_are() {
    for written in 0..4 {
        let app = TestApp::new().await;
        let token = app.token("a", &["VIEW"]).await;
        let flush = async |n: u32| {
            if written & 1 << n != 0 {
                app.authority.flush().await.unwrap();
            }
        };
        assert_eq!(told_of(&app.authority, &token).await, []);
        let get = |path: &str, peer: &str| app.get(path).auth(&token).from(peer);
        get(GRID, "10.0.0.1").header("x-forwarded-for", "203.0.113.66, 198.51.100.7").send().await.expect(200);
        app.clock.advance(SECOND);
        // Whoever is no proxy can write there what they like, and so can whoever is behind one.
        get("/verify", "192.0.2.1").header("x-forwarded-for", "203.0.113.9").send().await.expect(200);
        app.clock.advance(SECOND);
        get("/verify", "10.0.0.1").header("x-forwarded-for", "<b>203.0.113.9</b>").send().await.expect(200);
        flush(0).await;
        app.clock.advance(2 * HOUR);
        get("/verify?require=VIEW", "2001:db8::7").send().await.expect(200);
        app.clock.advance(SECOND);
        get(GRID, "::ffff:198.51.100.7").send().await.expect(200);
        let expected = [
            used("198.51.100.7", "17:32:28", "19:32:31"),
            used("2001:db8::7", "19:32:30", "19:32:30"),
            used("10.0.0.1", "17:32:30", "17:32:30"),
            used("192.0.2.1", "17:32:29", "17:32:29"),
        ];
        assert_eq!(told_of(&app.authority, &token).await, expected, "{written:02b}");
        flush(1).await;
        assert_eq!(told_of(&app.authority, &token).await, expected, "{written:02b}");
        let app = app.restart().await;
        assert_eq!((told_of(&app.authority, &token).await, stored(&app)), (expected.into(), 4 + 1), "{written:02b}");
        // The counts are what they were, and the root that made the token is another one.
        assert_eq!(
            (told_by(&app.authority, &token).await.last_365_days(), addresses(&app, &app.sandbox).await),
            (5, vec!["127.0.0.1".to_owned()])
        );
    }
}

#[tokio::test]
async fn a_source_is_noted_once_an_hour() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    let waits = [Duration::ZERO, TO_NEXT_HOUR - SECOND, SECOND, HOUR - SECOND, SECOND];
    for (wait, last) in waits.into_iter().zip(["17:32:28", "17:32:28", "18:15:48", "18:15:48", "19:15:48"]) {
        app.clock.advance(wait);
        use_from(&app.authority, &token, "192.0.2.1").await;
        assert_eq!(told_of(&app.authority, &token).await, [used("192.0.2.1", "17:32:28", last)], "{wait:?}");
        // The token itself is known to the second.
        assert_eq!(told_by(&app.authority, &token).await.last_used_at.unwrap().millis(), app.clock.wall().millis());
        app.authority.flush().await.unwrap();
    }
}

/// Whoever has to ask the database says as well where they come from.
#[tokio::test]
async fn what_memory_does_not_know_is_noted_too() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    app.clock.advance(Duration::from_secs(40));
    app.get(GRID).auth(&token).from("192.0.2.1").send().await.expect(200);
    assert_eq!(addresses(&app, &token).await, ["192.0.2.1"]);
}

#[tokio::test]
async fn the_twenty_newest_are_kept() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    app.authority.flush().await.unwrap();
    let before = stored(&app);
    let newest = |last: u8| (0..20).map(|n| format!("192.0.2.{}", last - n)).collect::<Vec<_>>();
    for n in 1..=50_u8 {
        use_from(&app.authority, &token, &format!("192.0.2.{n}")).await;
        app.clock.advance(Duration::from_millis(1));
        if n >= 20 {
            assert_eq!(addresses(&app, &token).await, newest(n));
        }
        if [15, 18, 45].contains(&n) {
            app.authority.flush().await.unwrap();
        }
    }
    assert_eq!(stored(&app) - before, 20);
    app.authority.flush().await.unwrap();
    assert_eq!((stored(&app) - before, addresses(&app, &token).await), (20, newest(50)));
    // One that comes back is as new as its last use.
    app.clock.advance(HOUR);
    use_from(&app.authority, &token, "192.0.2.40").await;
    app.authority.flush().await.unwrap();
    let back = [vec!["192.0.2.40".to_owned()], newest(50).into_iter().filter(|address| address != "192.0.2.40").collect()].concat();
    assert_eq!((stored(&app) - before, addresses(&app, &token).await), (20, back));
}

#[tokio::test]
async fn several_processes_add_up() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    app.authority.flush().await.unwrap();
    let before = stored(&app);
    let other = open(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    for n in 0..15 {
        for (authority, from) in [(&app.authority, format!("192.0.2.{n}")), (&other, format!("198.51.100.{n}"))] {
            use_from(authority, &token, "203.0.113.1").await;
            use_from(authority, &token, &from).await;
            app.clock.advance(Duration::from_millis(1));
        }
    }
    // What the other has not written is the other's.
    other.flush().await.unwrap();
    assert_eq!((told_of(&other, &token).await.len(), addresses(&app, &token).await.len()), (16, 20));
    // Whoever writes last, what is later counts.
    app.clock.advance(HOUR - SECOND);
    use_from(&other, &token, "203.0.113.1").await;
    app.clock.advance(SECOND);
    use_from(&app.authority, &token, "203.0.113.1").await;
    app.authority.flush().await.unwrap();
    other.flush().await.unwrap();
    for authority in [&app.authority, &other] {
        let told = told_of(authority, &token).await;
        assert_eq!(
            (told.len(), &told[0]),
            (20, &("203.0.113.1".to_owned(), "2025-07-21T17:32:28.000Z".to_owned(), "2025-07-21T18:32:28.030Z".to_owned()))
        );
        assert!(["192.0.2.14", "198.51.100.14"].iter().all(|address| told.iter().any(|(one, ..)| one == address)), "{told:?}");
    }
    assert_eq!(stored(&app) - before, 20);
}

#[tokio::test]
async fn sources_are_forgotten_after_ninety_days() {
    let app = TestApp::new().await;
    let token = app.production.clone();
    use_from(&app.authority, &token, "192.0.2.1").await;
    app.clock.advance(DAY);
    use_from(&app.authority, &token, "192.0.2.2").await;
    app.authority.flush().await.unwrap();
    let shown = async || (addresses(&app, &token).await, stored(&app));
    let both = ["192.0.2.2", "192.0.2.1"].map(str::to_owned);
    assert_eq!(shown().await, (both.to_vec(), 2));
    app.clock.advance(89 * DAY);
    app.authority.flush().await.unwrap();
    assert_eq!(shown().await, (both.to_vec(), 2));
    app.clock.advance(Duration::from_millis(1));
    assert_eq!(shown().await, (both[..1].to_vec(), 2), "it is not told any more, and removed within the hour");
    app.clock.advance(HOUR);
    app.authority.flush().await.unwrap();
    assert_eq!(shown().await, (both[..1].to_vec(), 1));
    app.clock.advance(DAY);
    app.authority.flush().await.unwrap();
    assert_eq!(shown().await, (vec![], 0));
    assert!(told_by(&app.authority, &token).await.last_used_at.is_some());
}

/// More than one transaction's worth, in one go.
#[tokio::test]
async fn old_sources_are_forgotten_whole() {
    let app = TestApp::new().await;
    use_from(&app.authority, &app.production, "192.0.2.1").await;
    app.authority.flush().await.unwrap();
    // All addresses of some bytes.
    for n in 0..1500 {
        let insert =
            format!("INSERT INTO use_source SELECT token_id, x'20010db8{n:024x}', 5, 5 FROM use_source WHERE length(address) = 4;");
        database::edit(app.directory.path(), &insert);
    }
    assert_eq!((stored(&app), addresses(&app, &app.production).await), (1501, vec!["192.0.2.1".to_owned()]));
    app.clock.advance(HOUR);
    app.authority.flush().await.unwrap();
    assert_eq!(stored(&app), 1);
}

/// Who looks into a leak looks behind its end.
#[tokio::test]
async fn an_end_changes_nothing() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    use_from(&app.authority, &token, "192.0.2.1").await;
    app.delete(&format!("{GRID}/{}", token.id)).send().await.expect(204);
    app.get(GRID).auth(&token).from("192.0.2.2").send().await.refused(401, "UNAUTHORIZED");
    app.authority.flush().await.unwrap();
    assert_eq!(addresses(&app, &token).await, ["192.0.2.1"]);
}

/// As uses: whoever has proven the token, whatever they may; and nobody else.
#[tokio::test]
async fn only_who_has_proven_a_token_leaves_an_address() {
    let app = TestApp::new().await;
    let (platform, [sandbox, _]) = app.another_platform("Other").await;
    let token = app.token("a", &["VIEW"]).await;
    let wrong = Pair { secret: app.sandbox.secret.clone(), ..token.clone() };
    app.get("/verify").auth(&wrong).from("192.0.2.1").send().await.refused(401, "UNAUTHORIZED");
    app.get(GRID).auth(&wrong).from("192.0.2.2").send().await.refused(401, "UNAUTHORIZED");
    app.authority.set_platform_disabled(&crate::support::operator(), platform.id, true).await.unwrap();
    app.get("/verify").auth(&sandbox).from("192.0.2.3").send().await.refused(401, "UNAUTHORIZED");
    app.get("/verify?require=MANAGE").auth(&token).from("192.0.2.4").send().await.refused(403, "FORBIDDEN");
    assert_eq!((addresses(&app, &token).await, addresses(&app, &sandbox).await), (vec!["192.0.2.4".to_owned()], vec![]));
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    use_from(&app.authority, &token, "192.0.2.1").await;
    database::refuse_inserts(app.directory.path(), "use_source");
    for n in 2..5 {
        assert!(app.authority.flush().await.is_err());
        app.clock.advance(SECOND);
        use_from(&app.authority, &token, &format!("192.0.2.{n}")).await;
        assert_eq!(addresses(&app, &token).await, (1..=n).rev().map(|n| format!("192.0.2.{n}")).collect::<Vec<_>>());
    }
    // Nor is anything else of the same transaction.
    assert_eq!(database::number(app.directory.path(), "SELECT count(*) FROM use_day"), 0);
    database::allow_inserts(app.directory.path(), "use_source");
    app.authority.flush().await.unwrap();
    let app = app.restart().await;
    assert_eq!((addresses(&app, &token).await.len(), told_by(&app.authority, &token).await.last_365_days()), (4, 4));
}

#[tokio::test]
async fn none_is_recorded_where_that_is_switched_off() {
    let mut app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    use_from(&app.authority, &token, "192.0.2.1").await;
    app.authority.flush().await.unwrap();
    let before = stored(&app);
    drop(app.try_replace(|options| options.use_sources = false).await.unwrap());
    app.get(GRID).auth(&token).from("192.0.2.2").send().await.expect(200);
    app.clock.advance(HOUR);
    app.get("/verify").auth(&token).from("192.0.2.1").send().await.expect(200);
    assert_eq!(told_of(&app.authority, &token).await, [used("192.0.2.1", "17:32:28", "17:32:28")], "what was recorded is told");
    app.authority.flush().await.unwrap();
    assert_eq!((stored(&app), told_by(&app.authority, &token).await.last_365_days()), (before, 3));
}

/// A row removed by hand must not keep those of others from being written.
#[tokio::test]
async fn a_token_that_vanished_is_passed_over() {
    let app = TestApp::new().await;
    let (gone, there) = (app.token("gone", &["VIEW"]).await, app.token("there", &["VIEW"]).await);
    use_from(&app.authority, &gone, "192.0.2.1").await;
    use_from(&app.authority, &there, "192.0.2.1").await;
    database::edit_unchecked(app.directory.path(), "DELETE FROM token WHERE name = 'gone'");
    app.authority.flush().await.unwrap();
    assert_eq!((addresses(&app, &there).await, stored(&app)), (vec!["192.0.2.1".to_owned()], 1 + 1));
}

/// They are not sealed: who edits them makes them wrong, and breaks nothing.
#[tokio::test]
async fn z_11_edited_sources_block_nothing() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    for edit in [
        "UPDATE use_source SET address = x'0102'",
        "UPDATE use_source SET last_at = -1",
        "UPDATE use_source SET first_at = 9223372036854775807, last_at = 9223372036854775807",
        "UPDATE use_source SET first_at = -9223372036854775807, last_at = -9223372036854775807",
        "UPDATE use_source SET address = x''",
    ] {
        app.get(GRID).auth(&token).from("192.0.2.1").send().await.expect(200);
        app.authority.flush().await.unwrap();
        database::edit_unchecked(app.directory.path(), edit);
        addresses(&app, &token).await;
        app.clock.advance(HOUR);
        app.authority.flush().await.unwrap();
        addresses(&app, &token).await;
        database::edit_unchecked(app.directory.path(), "DELETE FROM use_source");
    }
}

#[tokio::test]
async fn operators_are_told_and_nobody_else() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    let viewer = app.program("alice", Role::Viewer, None).await;
    let path = format!("/tokens/{}", token.id);
    assert_eq!(app.v1_get(&path, &viewer).await.expect(200).json()["sources"], json!([]));
    use_from(&app.authority, &token, "192.0.2.1").await;
    app.clock.advance(HOUR);
    use_from(&app.authority, &token, "2001:db8::7").await;
    let expected = json!([
        { "address": "2001:db8::7", "firstAt": "2025-07-21T18:32:28.000Z", "lastAt": "2025-07-21T18:32:28.000Z" },
        { "address": "192.0.2.1", "firstAt": "2025-07-21T17:32:28.000Z", "lastAt": "2025-07-21T17:32:28.000Z" },
    ]);
    assert_eq!(app.v1_get(&path, &viewer).await.expect(200).json()["sources"], expected);
    // Neither whoever reaches the listener, nor the platform's own programs.
    let counts = app.get(&format!("/tokens/{}/uses", token.id)).anonymous().send_admin().await.expect(200);
    let own = app.request(Method::GET, &format!("{GRID}/{}", token.id)).send().await.expect(200);
    for answer in [counts, own] {
        assert!(!String::from_utf8(answer.body.to_vec()).unwrap().contains("192.0.2.1"));
        assert_eq!(answer.json()["sources"], Value::Null);
    }
}
