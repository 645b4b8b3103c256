use crate::support::{BLIPS, GRID, TestApp};

#[tokio::test]
async fn every_form_of_the_id_reads_the_same_token() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    let uuid = token.id.strip_prefix("Token:").unwrap();
    let simple = uuid.replace('-', "");
    let expected = app.get(&format!("{GRID}/{}", token.id)).send().await.expect(200).json();
    assert_eq!(expected["id"], token.id);
    assert!(expected.get("clientSecret").is_none());
    for form in
        [uuid.to_owned(), format!("Token%3A{uuid}"), format!("Token%3a{uuid}"), format!("Token:tok_{simple}"), format!("tok_{simple}")]
    {
        assert_eq!(app.get(&format!("{GRID}/{form}")).send().await.expect(200).json(), expected, "{form}");
    }
}

#[tokio::test]
async fn i_01_h100_what_is_no_id_is_no_token() {
    let app = TestApp::new().await;
    let missing = app.get(&format!("{GRID}/Token:01981d2a-0000-7000-8000-000000000000")).send().await.refused(404, "TOKEN_NOT_FOUND");
    for id in [
        "Token:",
        "x",
        "Token:019542F5-B3E7-7D02-8000-000000000001",
        "Agent:019542f5-b3e7-7d02-8000-000000000001",
        "%00",
        &"a".repeat(4096),
    ] {
        let answer = app.get(&format!("{GRID}/{id}")).send().await.refused(404, "TOKEN_NOT_FOUND");
        assert_eq!(answer.body, missing.body);
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let app = TestApp::new().await;
    for path in [format!("{GRID}/{}", app.sandbox.id), GRID.to_owned(), format!("{BLIPS}/{}", app.sandbox.id), format!("{GRID}/x")] {
        let get = app.get(&path).send().await;
        let head = app.request(http::Method::HEAD, &path).send().await.expect(get.status.as_u16());
        assert!(head.body.is_empty());
        assert_eq!(head.header("content-type"), get.header("content-type"));
        assert_eq!(head.header("content-length").unwrap_or("-"), get.body.len().to_string());
    }
}
