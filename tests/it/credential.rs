//! What proves somebody, and what does not: one refusal, alike for every cause.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use countersign::{
    authority::{Denied, Reason},
    domain::{Presented, RequestInfo, TokenId},
};

use crate::support::{Answer, BLIPS, GRID, Pair, TestApp, database, open_cold, operator};

fn basic(pair: &str) -> String {
    format!("Basic {}", STANDARD.encode(pair))
}

/// The same secret text with one character changed and its checksum made right again.
fn forged(secret: &str, position: usize, prefix: &str) -> String {
    let mut text = secret.replacen("iksec_test_", prefix, 1).into_bytes();
    text[position] = if text[position] == b'x' { b'y' } else { b'x' };
    whole(&String::from_utf8(text).unwrap())
}

/// A secret's text with the checksum that it should have.
fn whole(secret: &str) -> String {
    let text = &secret[..54];
    format!("{text}{}", checksum(text))
}

/// The last six digits of a secret.
pub(crate) fn checksum(text: &str) -> String {
    let mut sum = crc32fast::hash(text.as_bytes());
    let mut digits = ['0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = char::from(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[(sum % 62) as usize]);
        sum /= 62;
    }
    digits.iter().collect()
}

#[tokio::test]
async fn a_02_every_cause_has_the_same_answer() {
    let app = TestApp::new().await;
    let live = app.token("live", &["VIEW"]).await;
    let revoked = app.token("revoked", &["VIEW"]).await;
    app.delete(&format!("{GRID}/{}", revoked.id)).send().await.expect(204);
    let (disabled, [other, _]) = app.another_platform("Disabled").await;
    let foreign = app.another_platform("Foreign").await.1[0].clone();
    app.authority.set_platform_disabled(&operator(), disabled.id, true).await.unwrap();
    let Pair { client_id, secret, .. } = live.clone();
    let pair = format!("{client_id}:{secret}");
    let encoded = STANDARD.encode(&pair);

    let mut values = vec![
        String::new(),
        "Basic".to_owned(),
        "Basic ".to_owned(),
        "Basic =".to_owned(),
        "Basic ====".to_owned(),
        basic(""),
        basic(":"),
        basic(&client_id),
        basic(&format!("{client_id}:")),
        basic(&format!(":{secret}")),
        basic(&format!("{pair}:x")),
        basic(&format!("{client_id}\0:{secret}")),
        basic(&format!("{pair}\0")),
        basic(&format!("{pair}\n")),
        format!("Basic {}", STANDARD.encode(b"\xff\xfe:\xc3")),
        format!("Basic {}", encoded.trim_end_matches('=')),
        format!("Basic {encoded}="),
        format!("Basic {} {}", &encoded[..10], &encoded[10..]),
        format!("Basic {}", "A".repeat(8000)),
        format!("Basic\t{encoded}"),
        format!("Bearer {encoded}"),
        format!("Bearer {secret}"),
        format!("Digest {encoded}"),
        encoded.clone(),
        format!("Basic {encoded}, Basic {encoded}"),
        basic(&format!("{client_id}:{}y", &secret[..secret.len() - 1])),
        basic(&format!("{client_id}:{}", forged(&secret, 53, "iksec_test_"))),
        basic(&format!("{client_id}:{}", forged(&secret, 11, "iksec_live_"))),
        basic(&format!("{}:{secret}", client_id.replace("test", "live"))),
        basic(&format!("{}:{secret}", client_id.to_uppercase())),
        // Both halves of the other environment, which no digest covers.
        basic(&format!("{}:{}", client_id.replace("test", "live"), whole(&secret.replace("test", "live")))),
        basic(&format!("{client_id} :{secret}")),
        basic(&format!("{}:{secret}", foreign.client_id)),
        basic(&format!("{}:{}", foreign.client_id, foreign.secret.replace("test", "live"))),
        basic(&format!("*:{secret}")),
        basic(&format!("' OR 1=1--:{secret}")),
        revoked.basic(),
        other.basic(),
    ];
    // A clientId with a tag that is not ours, and one of an id that nobody has.
    let last = client_id.chars().last().unwrap();
    values.push(basic(&format!("{}{}:{secret}", &client_id[..47], if last == '0' { '1' } else { '0' })));

    let expected = app.get(GRID).anonymous().send().await.refused(401, "UNAUTHORIZED");
    let headers = |answer: &Answer| {
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        headers
    };
    for value in values {
        for path in [GRID, BLIPS] {
            let answer = app.get(path).authorization(&value).send().await.expect(401);
            assert_eq!((&answer.body, headers(&answer)), (&expected.body, headers(&expected)), "{value}");
        }
    }
    insta::assert_snapshot!(String::from_utf8_lossy(&expected.body), @r#"{"status":401,"code":"UNAUTHORIZED","message":"The request needs the clientId and clientSecret of a live API token, as HTTP Basic."}"#);
    app.get(GRID).auth(&live).send().await.expect(200);
}

#[tokio::test]
async fn a_06_two_headers_prove_nobody() {
    let app = TestApp::new().await;
    let valid = app.sandbox.basic();
    for second in [valid.as_str(), "Basic x", ""] {
        app.get(GRID).header("authorization", second).send().await.refused(401, "UNAUTHORIZED");
        app.get(GRID).authorization(second).header("authorization", &valid).send().await.refused(401, "UNAUTHORIZED");
    }
    app.get(GRID).header("proxy-authorization", &valid).send().await.expect(200);
}

#[tokio::test]
async fn a_03_the_scheme_in_any_case() {
    let app = TestApp::new().await;
    let encoded = app.sandbox.basic().split_off(6);
    for scheme in ["basic ", "BASIC ", "bAsIc   "] {
        app.get(GRID).authorization(&format!("{scheme}{encoded}")).send().await.expect(200);
    }
}

#[tokio::test]
async fn a_07_credentials_elsewhere_are_not_seen() {
    let app = TestApp::new().await;
    let Pair { client_id, secret, .. } = app.sandbox.clone();
    let query = format!("{GRID}?access_token={secret}&client_id={client_id}");
    for request in [
        app.get(&query).anonymous(),
        app.get(GRID).anonymous().header("x-api-key", &secret),
        app.get(GRID).anonymous().header("cookie", &format!("authorization={}", app.sandbox.basic())),
        app.get(GRID).anonymous().header("x-authorization", &app.sandbox.basic()),
        app.post(GRID).anonymous().json(&serde_json::json!({ "clientId": client_id, "clientSecret": secret })),
    ] {
        request.send().await.refused(401, "UNAUTHORIZED");
    }
}

#[tokio::test]
async fn z_07_order_of_checks() {
    let app = TestApp::new().await;
    let viewer = app.token("viewer", &["VIEW"]).await;
    let payer = app.token("payer", &["TRANSACT"]).await;
    app.post(GRID).anonymous().body("{").send().await.refused(401, "UNAUTHORIZED");
    app.get(&format!("{GRID}?limit=0")).anonymous().send().await.refused(401, "UNAUTHORIZED");
    app.delete(&format!("{GRID}/x")).auth(&viewer).send().await.refused(403, "FORBIDDEN");
    app.get(&format!("{GRID}/x")).auth(&payer).send().await.refused(403, "FORBIDDEN");
    app.post(GRID).auth(&viewer).body("{").send().await.refused(403, "FORBIDDEN");
    app.post(&format!("{BLIPS}/x/revoke")).auth(&viewer).send().await.refused(403, "FORBIDDEN");
    app.delete(&format!("{GRID}/x")).send().await.refused(404, "TOKEN_NOT_FOUND");
    // Path and method first of all.
    app.get("/grid/2025-10-13/tokenz").anonymous().send().await.refused(404, "REFERENCE_NOT_FOUND");
    let answer = app.request(http::Method::PUT, GRID).anonymous().send().await.refused(405, "METHOD_NOT_ALLOWED");
    assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"));
}

/// A-10 without a stopwatch: what a refusal costs is counted in reads of the database, and there is none for any cause.
#[tokio::test]
async fn a_10_no_refusal_reads_the_database() {
    let app = TestApp::new().await;
    let live = app.token("live", &["VIEW"]).await;
    let revoked = app.token("revoked", &["VIEW"]).await;
    app.delete(&format!("{GRID}/{}", revoked.id)).send().await.expect(204);
    let unknown = live.client_id[..40].to_owned() + "00000000";
    let made_up = format!("{}{:020}", &live.client_id[..live.client_id.len() - 20], 0);
    // With the tokens gone, a read could only fail, and a failed read is a 503.
    database::edit(app.directory.path(), "ALTER TABLE token RENAME TO elsewhere");
    for pair in [
        format!("{unknown}:{}", live.secret),
        format!("{made_up}:{}", live.secret),
        format!("{}:{}", live.client_id, forged(&live.secret, 20, "iksec_test_")),
        format!("{}:{}", revoked.client_id, revoked.secret),
        format!("{}:{}", revoked.client_id, live.secret),
    ] {
        let presented = Presented::parse_pair(pair.as_bytes());
        assert!(presented.is_some());
        let denied = app.authority.verify(presented, RequestInfo::default()).await.unwrap_err();
        assert!(matches!(denied, countersign::authority::Denied::Refused(_)), "{denied:?}");
    }
    let proven = app.authority.verify(Presented::parse_basic(live.basic().as_bytes()), RequestInfo::default()).await.unwrap();
    assert_eq!(proven.actor, countersign::domain::Actor::Token(TokenId::parse(&live.id).unwrap()));
}

/// A-10 where memory is empty: whoever has a clientId that is genuine, by whatever cause they will be refused, has one read made for
/// them and is told nothing if that fails. Only one that we never made needs none.
#[tokio::test]
async fn a_10_where_memory_is_empty_every_cause_reads_the_database() {
    let app = TestApp::new().await;
    let (live, revoked) = (app.token("live", &["VIEW"]).await, app.token("revoked", &["VIEW"]).await);
    app.delete(&format!("{GRID}/{}", revoked.id)).send().await.expect(204);
    let (platform, [disabled, _]) = app.another_platform("Other").await;
    app.authority.set_platform_disabled(&operator(), platform.id, true).await.unwrap();
    let wrong = Pair { secret: revoked.secret.clone(), ..live.clone() };
    let cold = open_cold(app.directory.path(), &app.clock, &app.entropy).await.unwrap();
    let prove = async |pair: &Pair| cold.verify(Presented::parse_basic(pair.basic().as_bytes()), RequestInfo::default()).await;
    let genuine = [&live, &wrong, &revoked, &disabled];
    database::edit(app.directory.path(), "ALTER TABLE token RENAME TO elsewhere");
    for pair in genuine {
        assert_eq!(prove(pair).await.unwrap_err(), Denied::Unknown);
    }
    let made_up = Pair { client_id: format!("{}{:020}", &live.client_id[..live.client_id.len() - 20], 0), ..live.clone() };
    assert_eq!(prove(&made_up).await.unwrap_err(), Denied::Refused(Reason::UnknownClient));
    database::edit(app.directory.path(), "ALTER TABLE elsewhere RENAME TO token");
    let mut refused = Vec::new();
    for pair in genuine {
        refused.push(prove(pair).await.err());
    }
    let causes = [Reason::WrongSecret, Reason::Revoked, Reason::PlatformDisabled].map(|reason| Some(Denied::Refused(reason)));
    assert_eq!(refused, [&[None][..], &causes].concat());
}

#[tokio::test]
async fn last_use_is_noted_and_written_in_batches() {
    let app = TestApp::new().await;
    let token = app.token("a", &["VIEW"]).await;
    let id = TokenId::parse(&token.id).unwrap();
    let by = app.authority.locate_token(&operator(), id).await.unwrap().may_read().unwrap();
    assert_eq!(app.authority.token_use(&by, id).await.unwrap().last_used_at, None);
    app.clock.advance(std::time::Duration::from_secs(3));
    app.get(GRID).auth(&token).send().await.expect(200);
    let used = app.authority.token_use(&by, id).await.unwrap().last_used_at.unwrap();
    assert_eq!(used.to_string(), "2025-07-21T17:32:31.000Z");
    let app = app.restart().await;
    let by = app.authority.locate_token(&operator(), id).await.unwrap().may_read().unwrap();
    assert_eq!(app.authority.token_use(&by, id).await.unwrap().last_used_at, Some(used));
}
