//! Looking for tokens by the form.

use std::time::Duration;

use countersign::domain::Role;

use super::Browser;
use crate::support::{GRID, TestApp};

/// The names in the results, in order.
fn names(html: &str) -> Vec<&str> {
    let rows = html.split("<tr><td><a href=\"/console/tokens/").skip(1);
    rows.map(|row| row.split_once("\">").unwrap().1.split('<').next().unwrap()).collect()
}

#[tokio::test]
async fn tokens_are_found_by_what_is_known_of_them() {
    let app = TestApp::new().await;
    let viewer = Browser::invited(&app, "viewer", Role::Viewer, None).await;
    let payouts = app.token("Nightly payouts", &["VIEW", "TRANSACT"]).await;
    app.clock.advance(Duration::from_millis(5));
    let report = app.token("Reports, weekly", &["VIEW"]).await;
    app.clock.advance(Duration::from_millis(5));
    let old = app.token("Old payouts", &["VIEW"]).await;
    app.delete(&format!("{GRID}/{}", old.id)).send().await.expect(204);
    app.get("/verify").auth(&report).send().await.expect(200);
    app.authority.flush().await.unwrap();

    let find = async |query: &str| {
        let html = viewer.reads(&format!("/tokens?{query}")).await;
        names(&html).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(find("q=PAYOUTS").await, ["Nightly payouts"]);
    assert_eq!(find("q=payouts&status=all").await, ["Old payouts", "Nightly payouts"]);
    assert_eq!(find("q=payouts&status=all&order=oldest").await, ["Nightly payouts", "Old payouts"]);
    assert_eq!(find("status=ended").await, ["Old payouts"]);
    assert_eq!(find("permission=TRANSACT&q=p").await, ["Nightly payouts"]);
    assert_eq!(find("used=day&q=ly").await, ["Reports, weekly"]);
    assert_eq!(find("used=never&q=ly").await, ["Nightly payouts"]);
    assert_eq!(find(&format!("q=ly&scope={}.production", app.platform.id)).await, [""; 0]);
    assert_eq!(find(&format!("q=ly&scope={}.sandbox", app.platform.id)).await, ["Reports, weekly", "Nightly payouts"]);
    assert!(viewer.reads("/tokens?q=nobody+has+this").await.contains("No token is like that"));
    // By its whole id or clientId one goes to it, whatever else is asked.
    for q in [&payouts.id, &payouts.client_id] {
        let answer = viewer.get(&format!("/tokens?q={q}&status=ended")).send_admin().await.expect(303);
        assert_eq!(answer.header("location").unwrap(), format!("/console/tokens/{}", payouts.id));
    }
    app.clock.advance(Duration::from_secs(29 * 60));
    viewer.reads("/tokens").await;
}

/// What a page asks by itself is answered, and keeps nobody signed in who has left.
#[tokio::test]
async fn a_page_that_renews_itself_is_no_sign_of_anybody() {
    let app = TestApp::new().await;
    let left = Browser::invited(&app, "left", Role::Viewer, None).await;
    let there = Browser::invited(&app, "there", Role::Viewer, None).await;
    let token = app.token("used", &["VIEW"]).await;
    let path = format!("/tokens/{}", token.id);
    let parts = |html: &str| {
        let part = |id: &str| html.split(&format!(" id=\"{id}\" data-renew>")).nth(1).unwrap().split("</d").next().unwrap().to_owned();
        [part("last-used"), part("use")]
    };
    let before = parts(&left.reads(&path).await);
    assert!(before[0].contains("never") && before[1].contains("It was never used"), "{before:?}");
    app.get("/verify").auth(&token).send().await.expect(200);
    app.authority.flush().await.unwrap();
    for minutes in [10, 10, 9] {
        app.clock.advance(Duration::from_secs(minutes * 60));
        let renewed = left.get(&path).header("x-renews", "yes").send_admin().await.expect(200);
        let renewed = parts(&super::text(&renewed));
        assert!(renewed[0].contains("minutes ago") && renewed[1].contains("<strong>1</strong> uses"), "{renewed:?}");
        there.reads(&path).await;
    }
    app.clock.advance(Duration::from_secs(2 * 60));
    let over = left.get(&path).header("x-renews", "yes").send_admin().await.expect(303);
    assert_eq!(over.header("location").unwrap(), format!("/console/sign-in?to=/console{path}"));
    there.reads(&path).await;
}

#[tokio::test]
async fn a_page_leads_to_the_next_with_the_same_search() {
    let app = TestApp::new().await;
    let viewer = Browser::invited(&app, "viewer", Role::Viewer, None).await;
    for n in 0..120 {
        app.token(&format!("paged & {n}"), &["VIEW"]).await;
        app.token("of another name", &["VIEW"]).await;
    }
    let (mut path, mut found) = ("/tokens?q=%26+&permission=VIEW&order=oldest".to_owned(), Vec::new());
    let mut pages = 0;
    loop {
        let html = viewer.reads(&path).await;
        found.extend(names(&html).into_iter().map(str::to_owned));
        pages += 1;
        let Some(more) = html.split("<p class=\"more\">").nth(1) else { break };
        path = more.split("href=\"/console").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    }
    assert_eq!((pages, found.len()), (3, 120));
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 120);
}
