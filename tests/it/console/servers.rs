//! The pages about servers.

use countersign::domain::Role;

use super::Browser;
use crate::support::{TestApp, database};

#[tokio::test]
async fn nodes_and_what_is_wrong_with_them() {
    let mut app = TestApp::new().await;
    let place = app.place().await;
    let before = app.try_replace(|_| {}).await.unwrap();
    let viewer = Browser::invited(&app, "viewer", Role::Viewer, None).await;
    let html = viewer.reads("/nodes").await;
    assert!(html.contains("<a href=\"/console/nodes\" aria-current=\"page\">Nodes</a>"), "{html}");
    assert!(html.matches(" this one").count() == 1 && html.matches("data-label=\"State\"").count() == 2, "{html}");
    assert!(html.contains("changes behind"), "{html}");
    app.authority.follow().await.unwrap();
    let html = viewer.reads("/nodes").await;
    assert!(html.contains("Knows everything") && html.contains("Is believed"), "{html}");
    assert!(html.contains(if database::postgres().is_some() { "changes behind" } else { "it does not say" }), "{html}");

    // The lease is over, and nobody follows.
    app.clock.advance(std::time::Duration::from_secs(2));
    assert!(viewer.reads("/nodes").await.contains("Is too old"));
    if database::postgres().is_some() {
        let path = app.directory.path();
        database::edit(path, &format!("UPDATE node SET suspect = 'x', stale = 300000 WHERE followed <= {place}"));
        let html = viewer.reads("/nodes").await;
        assert!(html.contains("Not seen; about to be removed") && html.contains("goes on for 5 min"), "{html}");
        database::edit(path, "DELETE FROM node");
        assert!(viewer.reads("/nodes").await.contains("Nobody answers from memory"));
    }
    drop(before);
}

#[tokio::test]
async fn settings_are_shown_without_what_is_secret() {
    let app = TestApp::new().await;
    let viewer = Browser::invited(&app, "viewer", Role::Viewer, None).await;
    let html = viewer.reads("/settings").await;
    assert!(html.contains("<a href=\"/console/settings\" aria-current=\"page\">Settings</a>"), "{html}");
    assert!(!html.contains("hunter2") && html.contains("postgres://me:[REDACTED]@db.internal/tokens"), "{html}");
    let (told, untold) = html.split_once("Left as they are").unwrap();
    for (name, from) in
        [("database", "environment <code>COUNTERSIGN_DATABASE</code>"), ("request_timeout", "flag <code>--request-timeout</code>")]
    {
        assert!(told.contains(&format!("<code>{name}</code>")) && told.contains(from) && !untold.contains(from), "{html}");
    }
    assert_eq!(html.matches("data-label=\"Value\"").count(), countersign::config::SETTINGS.len());
}
