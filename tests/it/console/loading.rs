//! Loading operations from a document.

use countersign::domain::Role;

use super::{Browser, fields, hidden, text};
use crate::support::{TestApp, operator};

const DOCUMENT: &str = "
paths:
  /a/{b}: {get: {x-required-permissions: [VIEW]}, delete: {x-required-permissions: [MANAGE]}}
  /c: {post: {}}
";

/// The second form of a page that shows a difference.
fn confirmation(html: &str) -> Vec<(&'static str, String)> {
    ["document", "base_path", "rules", "shown"].map(|name| (name, unescaped(&hidden(html, name)))).to_vec()
}

fn unescaped(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[tokio::test]
async fn a_document_is_shown_and_then_loaded() {
    let app = TestApp::new().await;
    let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
    let viewer = Browser::invited(&app, "viewer", Role::Viewer, None).await;
    assert!(owner.reads("/operations").await.contains("href=\"/console/operations/load\""));
    assert!(!viewer.reads("/operations").await.contains("/operations/load"));
    let page = owner.reads("/operations/load").await;
    assert!(page.contains("<textarea") && page.contains("data-into=\"#document\""), "{page}");

    let before = app.place().await;
    let given = [("document", DOCUMENT), ("base_path", "/v1"), ("rules", "POST -> TRANSACT")];
    let shown = text(&owner.sends("/operations/diff", &given).await.expect(200));
    assert!(shown.contains("3 operations. Nothing is in force yet.") && shown.contains("Added: 3"), "{shown}");
    assert!(shown.contains("/v1/a/{b}") && shown.contains("rule 1: POST -&gt; TRANSACT"), "{shown}");
    assert!(viewer.reads("/operations").await.contains("None are loaded") && app.place().await == before);

    // Nobody else, and nothing else, by what was shown.
    let form = confirmation(&shown);
    viewer.sends("/operations", &fields(&form)).await.expect(403);
    viewer.sends("/operations/diff", &given).await.expect(403);
    let mut other = form.clone();
    other[0].1 = DOCUMENT.replace("VIEW", "");
    let refused = text(&owner.sends("/operations", &fields(&other)).await.expect(409));
    assert!(refused.contains("not what you were shown") && refused.contains("Added: 3"), "{refused}");
    owner.sends("/operations", &fields(&form[..3])).await.expect(409);
    assert_eq!(app.place().await, before);

    let done = owner.follows("/operations", &fields(&form)).await;
    assert!(done.contains("Every server goes by them.") && done.contains("/v1/a/{b}"), "{done}");
    assert_eq!(app.place().await, before + 1);
    assert!(owner.reads("/operations?method=POST&path=/v1/c").await.contains("<strong>TRANSACT</strong>"));

    // Sent once more: what is in force is not what it was.
    owner.sends("/operations", &fields(&form)).await.expect(409);
    let same = text(&owner.sends("/operations/diff", &given).await.expect(200));
    assert!(same.contains("Nothing changes") && !same.contains("name=\"shown\""), "{same}");

    // Less than before, gone, and nobody's.
    let less = "paths: {/a/{b}: {get: {x-required-permissions: []}}, /d: {put: {}}}".replace("/a/{b}", "'/a/{b}'");
    let shown =
        text(&owner.sends("/operations/diff", &[("document", less.as_str()), ("base_path", "/v1"), ("rules", "")]).await.expect(200));
    for said in ["Changed: 1", "less than before", "Added: 1", "Removed, and nobody", "1 of them nobody may do"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    // Somebody else loads in between.
    let (loaded, _) = app.authority.get_operations(&operator()).await.unwrap();
    app.clock.advance(std::time::Duration::from_secs(1));
    app.authority.load_operations(&operator(), &loaded).await.unwrap();
    let form = confirmation(&shown);
    let again = text(&owner.sends("/operations", &fields(&form)).await.expect(409));
    assert_ne!(hidden(&again, "shown"), form[3].1);
    owner.follows("/operations", &fields(&confirmation(&again))).await;
    assert!(owner.reads("/operations?method=PUT&path=/v1/d").await.contains("<strong>nobody</strong>"));
}

#[tokio::test]
async fn what_is_wrong_with_a_document_is_said_beside_it() {
    let app = TestApp::new().await;
    let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
    let before = app.place().await;
    for (document, base_path, rules, said) in [
        ("", "", "", "The document must be pasted"),
        ("a: [", "", "", "is neither YAML nor JSON"),
        ("{", "", "", "is neither YAML nor JSON"),
        ("paths: {/a: {get: {x-required-permissions: [view]}}}", "", "", "must be a list of VIEW, TRANSACT and MANAGE"),
        ("paths: {/a: {get: {}}}", "", "GET => VIEW", "Rules must be such as"),
        ("paths: {/a: {get: {}}}", "v1", "", "GET v1/a"),
        ("servers: [{url: 'https://a/{v}'}]\npaths: {/a: {get: {}}}", "", "", "say the real one as the base path"),
    ] {
        let form = [("document", document), ("base_path", base_path), ("rules", rules)];
        for path in ["/operations/diff", "/operations"] {
            let html = text(&owner.sends(path, &form).await.expect(400));
            assert!(unescaped(&html).contains(said), "{said}: {html}");
            // It is there still, to be mended.
            assert!(html.contains("<textarea") && unescaped(&html).contains(document), "{html}");
        }
    }
    assert_eq!(app.place().await, before);
    // A long one is read; one that is too long is not.
    let paths: String = (0..5000).map(|n| format!("  /a{n}: {{get: {{x-required-permissions: [VIEW]}}}}\n")).collect();
    let long = format!("paths:\n{paths}");
    let shown = text(&owner.sends("/operations/diff", &[("document", long.as_str()), ("base_path", ""), ("rules", "")]).await.expect(200));
    assert!(shown.contains("Added: 5000"));
    let longer = "x".repeat((8 << 20) + 1);
    owner.foreign_form("/operations/diff", &[]).header("sec-fetch-site", "same-origin").body(longer).send_admin().await.expect(413);
}
