//! The log, verified and taken away.

use countersign::domain::Role;

use super::{Browser, text};
use crate::support::{TestApp, database, operator};

#[tokio::test]
async fn the_log_is_verified_part_by_part_and_exported() {
    let app = TestApp::new().await;
    let viewer = Browser::invited(&app, "viewer", Role::Viewer, None).await;
    let page = viewer.reads("/audit").await;
    assert!(page.contains("href=\"/console/audit/verify\"") && page.contains("href=\"/console/audit/export\""), "{page}");
    let last = app.place().await;
    let html = viewer.reads("/audit/verify").await;
    assert!(html.contains(&format!("Entries 1 to {last}, the last one: each is as it was sealed")), "{html}");
    assert!(html.contains("aria-current=\"page\">Audit log</a>") && html.contains("From the beginning"), "{html}");
    // Without script, link by link.
    let (mut path, mut parts) = ("/audit/verify?limit=2".to_owned(), 0);
    loop {
        let html = viewer.reads(&path).await;
        parts += 1;
        assert!(html.contains(&format!("Entries {} to ", parts * 2 - 1)) && !html.contains("role=\"alert\""), "{html}");
        let Some((_, rest)) = html.split_once("data-on=\"#parts\" href=\"/console") else { break };
        path = rest.split('"').next().unwrap().replace("&amp;", "&");
    }
    assert_eq!(parts, last.div_ceil(2));

    let export = viewer.get("/audit/export").send_admin().await.expect(200);
    assert_eq!(export.header("content-disposition"), Some("attachment; filename=\"audit.jsonl\""));
    assert_eq!(text(&export).lines().count() as u64, last);
    let of_one = viewer.get(&format!("/audit/export?platform={}", app.platform.id)).send_admin().await.expect(200);
    assert_eq!(text(&of_one).lines().count(), 3);
    let page = viewer.reads(&format!("/audit?platform={}", app.platform.id)).await;
    assert!(page.contains(&format!("href=\"/console/audit/export?platform={}\"", app.platform.id)), "{page}");

    // What is not right is said, and is no markup.
    database::edit(app.directory.path(), "UPDATE audit SET action = '<b>' WHERE seq = 2");
    let html = viewer.reads("/audit/verify").await;
    assert!(html.contains("class=\"wrong\" role=\"alert\"") && html.contains("audit entry 2 is nothing that countersign writes"), "{html}");
    assert!(!html.contains("<b>"), "{html}");
}

#[tokio::test]
async fn the_staff_of_one_platform_have_no_way_to_it() {
    let app = TestApp::new().await;
    let staff = Browser::invited(&app, "staff", Role::Manager, Some(app.platform.id)).await;
    let page = staff.reads("/audit").await;
    assert!(!page.contains("/audit/verify") && !page.contains("/audit/export"), "{page}");
    for path in ["/audit/verify", "/audit/export", "/nodes", "/settings"] {
        assert!(!page.contains(&format!("href=\"/console{path}\"")), "{page}");
        let refused = staff.get(path).send_admin().await.expect(403);
        assert!(text(&refused).contains("this takes an operator of all platforms"), "{refused:?}");
    }
    app.authority.set_platform_disabled(&operator(), app.platform.id, true).await.unwrap();
}
