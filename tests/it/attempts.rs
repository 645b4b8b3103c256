//! Attempts that fail too often: who makes them waits, and nobody else.

use std::time::Duration;

use crate::support::{Answer, GRID, Pair, TestApp};

/// As the app under test is set up: so many may fail in a minute.
const PER_SOURCE: usize = 1000;
const PER_CLIENT: usize = 300;

async fn fail(app: &TestApp, from: &str, by: &Pair) -> Answer {
    app.get(GRID).auth(by).from(from).send().await
}

fn wrong(pair: &Pair, other: &Pair) -> Pair {
    Pair { secret: other.secret.clone(), ..pair.clone() }
}

#[tokio::test]
async fn a_13_a_source_that_fails_too_often_waits_and_locks_nobody_out() {
    let app = TestApp::new().await;
    let (victim, other) = (app.token("victim", &["VIEW"]).await, app.token("other", &["VIEW"]).await);
    // Many clientIds, so that no single one is what is counted.
    let made_up = |n: usize| Pair { client_id: format!("ik_test_{n:032x}00000000"), ..victim.clone() };
    for n in 0..PER_SOURCE {
        fail(&app, "192.0.2.1", &made_up(n)).await.refused(401, "UNAUTHORIZED");
    }
    let limited = fail(&app, "192.0.2.1", &made_up(0)).await.refused(429, "RATE_LIMITED");
    assert!((1..60).contains(&limited.header("retry-after").unwrap().parse::<u32>().unwrap()));
    // From elsewhere it is as before, for those who fail and for those who don't.
    fail(&app, "192.0.2.2", &wrong(&victim, &other)).await.refused(401, "UNAUTHORIZED");
    app.get(GRID).auth(&victim).from("192.0.2.2").send().await.expect(200);
    // The right secret is let in even from there: others may share the address.
    app.get(GRID).auth(&victim).from("192.0.2.1").send().await.expect(200);
    app.get("/verify").auth(&victim).from("192.0.2.1").send().await.expect(200);
    // A header that no trusted proxy wrote changes nothing, neither way.
    let spoofed = app.get(GRID).auth(&made_up(0)).from("192.0.2.1").header("x-forwarded-for", "198.51.100.1");
    spoofed.send().await.refused(429, "RATE_LIMITED");
    let framed = app.get(GRID).auth(&made_up(0)).from("192.0.2.3").header("x-forwarded-for", "192.0.2.1");
    framed.send().await.refused(401, "UNAUTHORIZED");
    // Behind a trusted one, it is the client that is counted.
    let behind = |client: &'static str| app.get(GRID).auth(&made_up(0)).from("10.0.0.1").header("x-forwarded-for", client);
    behind("192.0.2.1").send().await.refused(429, "RATE_LIMITED");
    behind("198.51.100.1, 10.0.0.9").send().await.refused(401, "UNAUTHORIZED");
    // A gateway is told no other answer than 401.
    app.get("/verify").auth(&made_up(0)).from("192.0.2.1").send().await.refused(401, "UNAUTHORIZED");
    app.clock.advance(Duration::from_secs(60));
    app.authority.follow().await.unwrap();
    fail(&app, "192.0.2.1", &made_up(0)).await.refused(401, "UNAUTHORIZED");
}

#[tokio::test]
async fn a_13_a_client_id_that_is_tried_from_everywhere_still_works_for_its_owner() {
    let app = TestApp::new().await;
    let (victim, other) = (app.token("victim", &["VIEW"]).await, app.token("other", &["VIEW"]).await);
    for n in 0..PER_CLIENT {
        fail(&app, &format!("198.51.100.{}", n % 250), &wrong(&victim, &other)).await.refused(401, "UNAUTHORIZED");
    }
    fail(&app, "198.51.100.251", &wrong(&victim, &other)).await.refused(429, "RATE_LIMITED");
    app.get(GRID).auth(&victim).from("198.51.100.251").send().await.expect(200);
    app.get(GRID).auth(&victim).send().await.expect(200);
}

/// O-06: what only the database could tell is not asked for somebody who keeps failing.
#[tokio::test]
async fn o_06_a_flood_does_not_reach_the_database() {
    let app = TestApp::new().await;
    let (victim, target) = (app.token("victim", &["VIEW"]).await, app.token("target", &["VIEW"]).await);
    let made_up = |n: usize| Pair { client_id: format!("ik_test_{n:032x}00000000"), ..victim.clone() };
    for n in 0..=PER_SOURCE {
        fail(&app, "192.0.2.1", &made_up(n)).await;
    }
    // The lease is over: memory is not believed, the database has to be asked.
    app.clock.advance(Duration::from_secs(3));
    app.get(GRID).auth(&target).from("192.0.2.1").send().await.refused(429, "RATE_LIMITED");
    // what was not asked is not known, and nobody is told that their credential is nobody's.
    app.get("/verify").auth(&target).from("192.0.2.1").expecting_5xx().send().await.refused(503, "SERVICE_UNAVAILABLE");
    app.get(GRID).auth(&target).from("192.0.2.2").send().await.expect(200);
}
