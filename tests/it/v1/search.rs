//! Looking for tokens, over the operator API: by what is known of them, wherever they are.

use std::time::Duration;

use countersign::domain::Role;
use serde_json::{Value, json};

use crate::support::{GRID, TestApp};

fn names(page: &Value) -> Vec<&str> {
    page["tokens"].as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn tokens_are_found_by_what_is_known_of_them() {
    let app = TestApp::new().await;
    let (other, roots) = app.another_platform("Other").await;
    let viewer = app.program("viewer", Role::Viewer, None).await;
    let a_minute = async || app.clock.advance(Duration::from_secs(60));
    a_minute().await;
    let used = app.token("Nightly payouts", &["VIEW", "TRANSACT"]).await;
    a_minute().await;
    app.token_by(&roots[1], "PAYOUTS", &["VIEW"]).await;
    a_minute().await;
    let ended = app.token("Old payouts", &["VIEW"]).await;
    app.delete(&format!("{GRID}/{}", ended.id)).send().await.expect(204);
    app.get("/verify").auth(&used).send().await.expect(200);
    app.authority.flush().await.unwrap();

    let find = async |query: &str| app.v1_get(&format!("/tokens?{query}"), &viewer).await.expect(200).json();
    let (here, there) = (app.platform.id, other.id);
    let both = ["PAYOUTS", "Nightly payouts"];
    let page = find("namePart=payouts").await;
    assert_eq!((names(&page), &page["nextCursor"], &page["totalCount"]), (both.to_vec(), &Value::Null, &Value::Null));
    let told: Vec<_> = page["tokens"].as_array().unwrap().iter().map(|token| &token["lastUsedAt"]).collect();
    assert_eq!(told, [&Value::Null, &json!("2025-07-21T17:35:28.000Z")]);
    for (query, expected) in [
        ("namePart=+pAyOuTs+".to_owned(), &both[..]),
        ("namePart=payouts&order=oldest".to_owned(), &[both[1], both[0]]),
        ("namePart=payouts&order=newest&status=active".to_owned(), &both),
        ("namePart=payouts&status=all".to_owned(), &["Old payouts", both[0], both[1]]),
        ("status=revoked".to_owned(), &["Old payouts"]),
        ("namePart=payouts&permission=TRANSACT".to_owned(), &both[1..]),
        ("namePart=payouts&neverUsed=true".to_owned(), &both[..1]),
        ("namePart=payouts&usedSince=2025-07-21T17:35:28Z".to_owned(), &both[1..]),
        ("namePart=payouts&usedSince=2025-07-21T17:35:28.0001Z".to_owned(), &[]),
        ("namePart=payouts&usedBefore=2025-07-21T17:35:00Z".to_owned(), &both[..1]),
        ("namePart=payouts&usedBefore=2025-07-21T17:37:00%2B00:00".to_owned(), &both),
        // Both ends are in it; between two milliseconds none is.
        ("createdSince=2025-07-21T17:33:28Z&createdUntil=2025-07-21T17:34:28Z".to_owned(), &both),
        ("createdSince=2025-07-21T17:33:28.0001Z&createdUntil=2025-07-21T17:34:28Z".to_owned(), &both[..1]),
        ("createdSince=2025-07-21T17:33:28Z&createdUntil=2025-07-21T17:34:27.9999Z".to_owned(), &both[1..]),
        ("createdSince=2025-07-21T17:35:28Z&createdUntil=2025-07-21T17:34:28Z".to_owned(), &[]),
        (format!("platform={here}&environment=sandbox&namePart=payouts"), &both[1..]),
        (format!("platform={there}&environment=production&namePart=payouts"), &both[..1]),
        (format!("platform={there}&environment=sandbox&namePart=payouts"), &[]),
        (format!("platform={here}&environment=sandbox&status=revoked"), &["Old payouts"]),
    ] {
        assert_eq!(names(&find(&query).await), expected, "{query}");
    }
    // All of them: without a platform, with nothing else.
    assert_eq!(find("").await["tokens"].as_array().unwrap().len(), 6);
    // Where no more is asked for than before, no more is answered.
    let list = format!("platform={here}&environment=sandbox");
    let page = find(&list).await;
    assert_eq!((&page["totalCount"], page["tokens"][0].get("lastUsedAt")), (&json!(2), None));

    // Page by page it is the same.
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    for _ in 0..2 {
        let page = find(&format!("namePart=payouts&limit=1&cursor={cursor}")).await;
        paged.push(names(&page)[0].to_owned());
        cursor = page["nextCursor"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!((paged.as_slice(), cursor.as_str()), (&both.map(str::to_owned)[..], ""));
    // A place in one is none in the other.
    let of_list = find(&format!("{list}&limit=1")).await["nextCursor"].as_str().unwrap().to_owned();
    let of_search = find("limit=1").await["nextCursor"].as_str().unwrap().to_owned();
    for query in [format!("limit=1&cursor={of_list}"), format!("{list}&limit=1&cursor={of_search}")] {
        assert_eq!(app.v1_get(&format!("/tokens?{query}"), &viewer).await.expect(400).broken_fields(), ["cursor"], "{query}");
    }
}

#[tokio::test]
async fn the_staff_of_one_platform_have_to_name_it() {
    let app = TestApp::new().await;
    let (other, _) = app.another_platform("Other").await;
    app.token("mine", &["VIEW"]).await;
    let staff = app.program("staff", Role::Manager, Some(app.platform.id)).await;
    let ask = async |query: &str| app.v1_get(&format!("/tokens?{query}"), &staff).await;
    for query in ["", "namePart=mine", "neverUsed=true"] {
        let refused = ask(query).await.refused(403, "FORBIDDEN").json();
        assert_eq!((&refused["details"]["role"], &refused["details"]["everywhere"]), (&json!("viewer"), &json!(true)));
    }
    let found = ask(&format!("platform={}&environment=sandbox&namePart=mine", app.platform.id)).await.expect(200).json();
    assert_eq!(names(&found), ["mine"]);
    // Another's is as one that there is not.
    let none = "019542f5-b3e7-7d02-8000-000000000001";
    let foreign = ask(&format!("platform={}&environment=sandbox&neverUsed=true", other.id)).await.refused(404, "REFERENCE_NOT_FOUND");
    assert_eq!(foreign.body, ask(&format!("platform={none}&environment=sandbox&neverUsed=true")).await.expect(404).body);
}
