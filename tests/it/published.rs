//! The documents, the page that shows them, and the routes: three tellings of one thing.

use serde_json::Value;

use crate::support::TestApp;

#[tokio::test]
async fn the_documents_are_served_to_anybody() {
    let app = TestApp::new().await;
    let check = |document: Value, mount| {
        assert_eq!(document["servers"][0]["url"], mount);
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    };
    for (path, mount) in [("/openapi/grid.json", "/grid/2025-10-13"), ("/openapi/blips.json", "/blips")] {
        check(app.get(path).anonymous().send().await.expect(200).json(), mount);
    }
    // That of the operators is on their listener alone.
    check(app.get("/v1/openapi.json").anonymous().send_admin().await.expect(200).json(), "/v1");
    for path in ["/v1/openapi.json", "/openapi/operator.json", "/v1/tokens"] {
        app.get(path).anonymous().send().await.refused(404, "REFERENCE_NOT_FOUND");
    }
    app.get("/openapi/grid.json").anonymous().send_admin().await.refused(404, "REFERENCE_NOT_FOUND");
}

/// Every published operation answers something else than "no such path", and every other method of its path is a 405.
#[tokio::test]
async fn routes_and_documents_are_the_same_set() {
    let app = TestApp::new().await;
    for path in ["/openapi/grid.json", "/openapi/blips.json"] {
        let document: Value = app.get(path).send().await.json();
        let mount = document["servers"][0]["url"].as_str().unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            let target = format!("{mount}{path}").replace("{tokenId}", &app.sandbox.id);
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                let status = app.request(method.parse().unwrap(), &target).anonymous().send().await.status;
                let published = item.get(method.to_lowercase()).is_some();
                assert_eq!(status.as_u16(), if published { 401 } else { 405 }, "{method} {target}");
            }
        }
    }
}

#[tokio::test]
async fn the_reference_loads_nothing_from_elsewhere() {
    let app = TestApp::new().await;
    let page = app.get("/reference").anonymous().send().await.expect(200);
    let html = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(!html.contains("http://") && !html.contains("https://"), "{html}");
    let assets: Vec<_> = html.split(['"', '\'']).filter(|text| text.starts_with("/reference/")).collect();
    assert!(assets.len() >= 3, "{html}");
    for asset in assets {
        let answer = app.get(asset).anonymous().send().await.expect(200);
        assert!(answer.body.len() > 100, "{asset}");
    }
}
