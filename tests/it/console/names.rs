//! Names and parameters that want to be markup. That no page runs anything is checked with every answer; here it is given
//! something that would.

use countersign::domain::Role;

use super::{Browser, encoded, fields, good_form, routes, text};
use crate::support::{TestApp, page};

const MARKUP: [&str; 5] = [
    "<script>alert(1)</script>",
    "\" onmouseover=\"alert(1)\" x=\"",
    "javascript:alert(1)",
    "</title><img src=x onerror=alert(1)>",
    "'><svg/onload=alert(1)>{{7*7}}",
];

/// Nothing of it stands there as it is, but as text: the angle brackets and quotes are not.
fn assert_escaped(html: &str, what: &str) {
    for markup in MARKUP.iter().filter(|markup| markup.contains(['<', '"'])) {
        assert!(!html.contains(markup), "{markup} in {what}: {html}");
    }
    for tag in page::tags(html) {
        // The one that each page has.
        assert!(!tag.starts_with("img") || tag.starts_with("img src=\"/console/icon.svg\" alt=\"\""), "{tag} in {what}");
        for (attribute, value) in page::attributes(tag) {
            assert!(
                !value.starts_with("javascript:") || ["value", "data-copy", "aria-label", "title"].contains(&attribute),
                "{tag} in {what}"
            );
        }
    }
}

#[tokio::test]
async fn no_name_is_markup() {
    let app = TestApp::new().await;
    let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
    let mut pages = [
        "/tokens?status=all",
        "/tokens/new",
        "/platforms",
        "/operators",
        "/operators/owner",
        "/audit",
        "/account",
        "/keys",
        "/nodes",
        "/settings",
    ]
    .map(str::to_owned)
    .to_vec();
    let (mut seen, mut n) = (String::new(), 0);
    for markup in MARKUP {
        n += 1;
        let (platform, _) = app.another_platform(markup).await;
        let token = app.token(markup, &["VIEW"]).await;
        pages.extend([
            format!("/tokens/{}", token.id),
            format!("/tokens/{}/revoke", token.id),
            format!("/platforms/{}/disable", platform.id),
            format!("/tokens?scope={}.sandbox", platform.id),
            format!("/audit?token={}", token.id),
        ]);
        // What is said of them at once.
        let account = [("name", markup), ("lasts", "0")];
        let mut made = good_form(&app, "/tokens", n);
        made[1].1 = markup.to_owned();
        for answer in [
            owner.makes("/account", &account).await.expect(201),
            owner.sends("/tokens", &fields(&made)).await.expect(201),
            owner.makes("/platforms", &[("name", markup)]).await.expect(201),
            owner.makes("/operators", &[("name", markup), ("role", "viewer"), ("platform", "")]).await.expect(400),
            owner.sends("/tokens", &[("name", markup), ("scope", markup), ("once", markup), ("view", markup)]).await.expect(400),
            Browser::new(&app)
                .form("/sign-in", &[("name", markup), ("password", markup), ("code", markup), ("to", markup)])
                .from(&format!("198.51.100.{n}"))
                .send_admin()
                .await
                .expect(403),
            Browser::new(&app)
                .form(
                    "/invitation",
                    &[
                        ("name", markup),
                        ("invitation", markup),
                        ("password", markup),
                        ("again", markup),
                        ("enrolment", markup),
                        ("code", markup),
                    ],
                )
                .from(&format!("198.51.101.{n}"))
                .send_admin()
                .await
                .expect(403),
        ] {
            assert_escaped(&text(&answer), &answer.what);
        }
    }
    for path in pages {
        let html = owner.reads(&path).await;
        assert_escaped(&html, &path);
        seen += &html;
    }
    // They were there.
    assert!(seen.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && seen.contains("&quot; onmouseover=&quot;"));
}

#[tokio::test]
async fn no_parameter_is_markup() {
    let app = TestApp::new().await;
    let owner = Browser::invited(&app, "owner", Role::Owner, None).await;
    let nobody = Browser::new(&app);
    let parameters = [
        "q",
        "scope",
        "permission",
        "status",
        "used",
        "order",
        "after",
        "to",
        "done",
        "until",
        "method",
        "path",
        "action",
        "actor",
        "token",
    ];
    let parameters = [&parameters[..], &["platform", "beforeSeq", "<script>alert(1)</script>"]].concat();
    for (path, _) in routes().into_iter().filter(|(_, method)| method == "GET") {
        let path = path.replace("{token}", &app.sandbox.id).replace("{platform}", &app.platform.id.to_string()).replace("{name}", "owner");
        for (parameter, markup) in parameters.iter().flat_map(|parameter| MARKUP.map(|markup| (*parameter, markup))) {
            let query = encoded(&[(parameter, markup)]).replace("<", "%3C").replace(">", "%3E");
            for browser in [&owner, &nobody] {
                let answer = browser.get(&format!("{path}?{query}")).send_admin().await;
                assert!(answer.status.as_u16() < 500, "{answer:?}");
                if !path.contains("console.") {
                    assert_escaped(&text(&answer), &answer.what);
                }
            }
        }
    }
    // In the path of a page that there is not.
    for path in [
        "/tokens/%3Cscript%3Ealert(1)%3C/script%3E",
        "/operators/%3Cimg%20src=x%3E",
        "/%22onmouseover=alert(1)",
        "/platforms/javascript:x/disable",
    ] {
        let answer = owner.get(path).send_admin().await.expect(404);
        assert_escaped(&text(&answer), path);
    }
}
