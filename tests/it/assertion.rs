//! The signed assertion: what it says, who it holds for and until when, and that nothing else passes for one.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use countersign::{
    authority::Assertions,
    config::Config,
    domain::{Need, Operation, Operations, Presented, Proven},
    http::{App, Limits, Surroundings},
};
use ed25519_compact::{PublicKey, Signature};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{GRID, Pair, START, TestApp, open, operator};

const DAY: i64 = 24 * 60 * 60 * 1000;

fn asserting(app: &mut TestApp, lifetime: u64, audience: Option<&str>) {
    let limits = Limits { body_timeout: Duration::from_secs(5), request_timeout: Duration::from_secs(20) };
    let gateways = Config::layered(&Default::default(), [], None).unwrap().gateways;
    let assertions = Some(app.authority.assertions(Duration::from_secs(lifetime), audience.map(str::to_owned)));
    let surroundings =
        Surroundings { gateways, trusted_proxies: Vec::new(), assertions, log_lines_lost: || 0, otlp_failures: || 0, settings: Vec::new() };
    app.app = App::new(app.authority.clone(), app.clock.clone() as _, limits, surroundings, 0);
}

async fn new() -> TestApp {
    let mut app = TestApp::new().await;
    asserting(&mut app, 30, None);
    app
}

/// What a gateway gets for somebody who may pass.
async fn assertion(app: &TestApp, pair: &Pair) -> String {
    app.get("/verify").auth(pair).send().await.expect(200).header("x-auth-assertion").unwrap().to_owned()
}

async fn key_set(app: &TestApp) -> Value {
    let answer = app.get("/jwks.json").anonymous().send().await.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/jwk-set+json"));
    answer.json()
}

fn text(part: &str) -> String {
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn decode(part: &str) -> Value {
    serde_json::from_str(&text(part)).unwrap()
}

fn parts(assertion: &str) -> [&str; 3] {
    assertion.split('.').collect::<Vec<_>>().try_into().unwrap()
}

fn claims(assertion: &str) -> Value {
    decode(parts(assertion)[1])
}

/// What an upstream does, with an implementation that is not the one that signed.
fn verifies(assertion: &str, keys: &Value) -> bool {
    let [head, claims, signature] = parts(assertion);
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    let kid = &decode(head)["kid"];
    let Some(key) = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == *kid) else { return false };
    let key = PublicKey::from_slice(&URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap()).unwrap();
    Signature::from_slice(&signature).is_ok_and(|signature| key.verify(format!("{head}.{claims}"), &signature).is_ok())
}

async fn proven(app: &TestApp, pair: &Pair) -> Proven {
    app.authority.prove(Presented::parse_basic(pair.basic().as_bytes()).as_ref(), None).await.unwrap()
}

/// An assertion by whoever has these assertions, about the same token.
fn signed(assertions: &Assertions, proven: &Proven) -> String {
    String::from_utf8(assertions.sign(proven, None).to_vec()).unwrap()
}

fn published(assertions: &Assertions) -> Value {
    serde_json::from_slice(&assertions.key_set()).unwrap()
}

/// The assertions of another installation, by its keys: (id, whether it is the active one). Their roots follow from their
/// ids.
async fn elsewhere(app: &TestApp, keys: &[(u8, bool)]) -> Assertions {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let entry = |(id, active): &(u8, bool)| json!({ "id": id, "state": if *active { "active" } else { "verify-only" }, "root": STANDARD.encode([*id; 32]) });
    std::fs::write(&path, json!({ "version": 1, "keys": keys.iter().map(entry).collect::<Vec<_>>() }).to_string()).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    open(directory.path(), &app.clock, &app.entropy).await.unwrap().assertions(Duration::from_secs(30), None)
}

#[tokio::test]
async fn what_it_says() {
    let app = new().await;
    let token = app.token("ci", &["VIEW", "TRANSACT"]).await;
    let assertion = assertion(&app, &token).await;
    assert!(assertion.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{assertion}");
    // Byte for byte, and nothing of the secret in it.
    insta::assert_snapshot!(text(parts(&assertion)[0]), @r#"{"typ":"countersign-assertion+jwt","alg":"EdDSA","kid":"OMTxel8PTUj3hsa0i6L9k3Ng9JSfmlSBcCtWpq40Z9s"}"#);
    insta::assert_snapshot!(text(parts(&assertion)[1]), @r#"{"iss":"countersign","sub":"Token:01982e0b-47e0-7f9d-a783-738930091c1c","iat":1753119148,"exp":1753119178,"client_id":"ik_test_01982e0b47e07f9da783738930091c1c3dafb219","platform":"Platform:01982e0b-47e0-7784-a90c-606b04fdc072","environment":"sandbox","permissions":["VIEW","TRANSACT"]}"#);
    let pieces: Vec<_> = token.secret.as_bytes()[11..].windows(8).collect();
    assert!(!text(parts(&assertion)[1]).as_bytes().windows(8).any(|piece| pieces.contains(&piece)));
}

#[tokio::test]
async fn the_request_and_the_audience_where_they_are_known() {
    let app = TestApp::new().await;
    let proven = proven(&app, &app.production).await;
    let assertions = app.authority.assertions(Duration::from_secs(5), Some("the \"ledger\"".to_owned()));
    // As it was received: not decoded, and whatever stands in it.
    let path = "/grid/2025-10-13/tok%65ns//a\"b\\c/../%00é";
    let assertion = String::from_utf8(assertions.sign(&proven, Some(("PATCH", path))).to_vec()).unwrap();
    let claims = claims(&assertion);
    assert_eq!((&claims["method"], &claims["path"], &claims["aud"]), (&json!("PATCH"), &json!(path), &json!("the \"ledger\"")));
    assert_eq!((&claims["environment"], &claims["exp"]), (&json!("production"), &json!(START / 1000 + 5)));
    assert_eq!(claims["permissions"], json!(["VIEW", "TRANSACT", "MANAGE"]));
    let keys = serde_json::from_slice(&assertions.key_set()).unwrap();
    assert!(verifies(&assertion, &keys));
}

/// What was decided by is what is signed, whichever way the gateway tells it.
#[tokio::test]
async fn a_request_that_is_an_operation() {
    let app = new().await;
    let customer = Operation {
        method: "GET".to_owned(),
        path: "/v1/customers/{id}".to_owned(),
        id: String::new(),
        need: Need::parse("VIEW").unwrap(),
        because: "a test".to_owned(),
    };
    app.authority.load_operations(&operator(), &Operations::new(vec![customer]).unwrap()).await.unwrap();
    let target = "/v1/customers/caf%C3%a9?limit=5&path=/v1/other";
    let nginx = app.get("/verify/nginx").header("x-original-method", "GET").header("x-original-uri", target);
    let envoy = app.get(&format!("/verify/envoy{target}"));
    // Not what else a client may have sent.
    for (method, request) in [("GET", nginx), ("GET", envoy), ("HEAD", app.request(http::Method::HEAD, &format!("/verify/envoy{target}")))]
    {
        let answer = request.header("x-forwarded-uri", "/v1/other").header("x-forwarded-method", "PUT").send().await.expect(200);
        let claims = claims(answer.header("x-auth-assertion").unwrap());
        assert_eq!((&claims["method"], &claims["path"]), (&json!(method), &json!("/v1/customers/caf%C3%a9")));
    }
    app.get("/verify/envoy/v1/other").send().await.refused(403, "FORBIDDEN");
    // A path behind /verify that no gateway names decided nothing.
    let answer = app.get("/verify/v1/customers/1").send().await.expect(200);
    let claims = claims(answer.header("x-auth-assertion").unwrap());
    assert!(claims.get("method").is_none() && claims.get("path").is_none());
}

#[tokio::test]
async fn never_longer_than_thirty_seconds() {
    let app = TestApp::new().await;
    let proven = proven(&app, &app.sandbox).await;
    for (asked, given) in [(Duration::ZERO, 1), (Duration::from_millis(2999), 2), (Duration::from_secs(30), 30), (Duration::MAX, 30)] {
        // From any millisecond on: a second that has begun counts as whole.
        app.clock.set_wall(START + 999);
        let assertion = app.authority.assertions(asked, None).sign(&proven, None);
        let claims = claims(std::str::from_utf8(&assertion).unwrap());
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(START / 1000), &json!(START / 1000 + given)));
    }
}

#[tokio::test]
async fn nothing_else_verifies() {
    let app = new().await;
    let keys = key_set(&app).await;
    let assertion = assertion(&app, &app.sandbox).await;
    assert!(verifies(&assertion, &keys));
    for at in (0..assertion.len()).filter(|at| assertion.as_bytes()[*at] != b'.') {
        let mut edited = assertion.clone().into_bytes();
        edited[at] = if edited[at] == b'A' { b'B' } else { b'A' };
        let edited = String::from_utf8(edited).unwrap();
        // A head that is no JSON any more is refused before there is a key to check with.
        let head = URL_SAFE_NO_PAD.decode(parts(&edited)[0]).unwrap();
        assert!(serde_json::from_slice::<Value>(&head).is_err() || !verifies(&edited, &keys), "digit {at} is not signed");
    }
    // A signature of another assertion, and none.
    let [head, claims, _] = parts(&assertion);
    let token = app.token("other", &["VIEW"]).await;
    let theirs = self::assertion(&app, &token).await;
    for signature in [parts(&theirs)[2], "", "A"] {
        assert!(!verifies(&format!("{head}.{claims}.{signature}"), &keys));
    }
}

#[tokio::test]
async fn only_who_may_pass_gets_one() {
    let app = new().await;
    let viewer = app.token("viewer", &["VIEW"]).await;
    for request in [
        app.get("/verify").anonymous(),
        app.get("/verify?require=MANAGE").auth(&viewer),
        app.get("/verify?env=production").auth(&viewer),
        app.get("/verify?nonsense").auth(&viewer).expecting_5xx(),
        app.get(GRID).auth(&viewer),
    ] {
        let answer = request.header("x-auth-assertion", "theirs").send().await;
        assert_eq!(answer.header("x-auth-assertion"), None, "{answer:?}");
    }
    let answer = app.get("/verify").auth(&viewer).header("x-auth-assertion", "theirs").send().await.expect(200);
    assert!(verifies(answer.header("x-auth-assertion").unwrap(), &key_set(&app).await));
}

#[tokio::test]
async fn off_unless_it_is_switched_on() {
    let app = TestApp::new().await;
    assert_eq!(app.get("/verify").send().await.expect(200).header("x-auth-assertion"), None);
    app.get("/jwks.json").anonymous().send().await.refused(404, "REFERENCE_NOT_FOUND");
}

#[tokio::test]
async fn the_key_set_is_for_anybody_and_read_only() {
    let app = new().await;
    let keys = key_set(&app).await;
    assert_eq!(keys["keys"].as_array().unwrap().len(), 3);
    insta::assert_snapshot!(keys["keys"][1], @r#"{"alg":"EdDSA","crv":"Ed25519","kid":"OMTxel8PTUj3hsa0i6L9k3Ng9JSfmlSBcCtWpq40Z9s","kty":"OKP","use":"sig","x":"4sEHplFCNb2u6hoR1via2yjBRpiG4IcCmDfRkj37TeE"}"#);
    for key in keys["keys"].as_array().unwrap() {
        // Nothing but public members; the name is the thumbprint of RFC 7638.
        let members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
        let thumbprint = Sha256::digest(format!("{{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":{}}}", key["x"]));
        assert_eq!(key["kid"], URL_SAFE_NO_PAD.encode(thumbprint));
    }
    let head = app.request(http::Method::HEAD, "/jwks.json").anonymous().send().await.expect(200);
    assert_eq!(head.header("content-type"), Some("application/jwk-set+json"));
    let refused = app.post("/jwks.json").anonymous().send().await.refused(405, "METHOD_NOT_ALLOWED");
    assert_eq!(refused.header("allow"), Some("GET,HEAD"));
}

#[tokio::test]
async fn each_day_has_a_key_that_was_published_a_day_before() {
    let app = new().await;
    let midnight = (START / DAY + 1) * DAY;
    app.clock.set_wall(midnight - 1);
    let (before, known_before) = (assertion(&app, &app.sandbox).await, key_set(&app).await);
    app.clock.set_wall(midnight);
    let (after, known_after) = (assertion(&app, &app.sandbox).await, key_set(&app).await);
    let key = |assertion: &str| decode(parts(assertion)[0])["kid"].clone();
    assert_ne!(key(&before), key(&after));
    assert_ne!(known_before, known_after);
    for assertion in [&before, &after] {
        assert!(verifies(assertion, &known_before) && verifies(assertion, &known_after));
    }
    // Whoever last looked yesterday knows the key until this day ends.
    app.clock.set_wall(midnight + DAY - 1);
    assert!(verifies(&assertion(&app, &app.sandbox).await, &known_before));
    app.clock.set_wall(midnight + DAY);
    let later = assertion(&app, &app.sandbox).await;
    assert!(!verifies(&later, &known_before) && verifies(&later, &known_after));
    assert!(!verifies(&before, &key_set(&app).await));
    // A clock that is set back signs as it did then: there is nothing to have been forgotten.
    app.clock.set_wall(midnight - 1);
    assert_eq!((assertion(&app, &app.sandbox).await, key_set(&app).await), (before, known_before));
}

#[tokio::test]
async fn every_process_with_the_key_file_signs_alike() {
    let mut app = new().await;
    let (made, keys) = (assertion(&app, &app.sandbox).await, key_set(&app).await);
    app = app.restart().await;
    asserting(&mut app, 30, None);
    assert_eq!((assertion(&app, &app.sandbox).await, key_set(&app).await), (made, keys));
}

/// A root key is changed in steps: known everywhere, then active, then gone; and its assertions come and go with it.
#[tokio::test]
async fn a_changed_root_key() {
    let app = new().await;
    let proven = proven(&app, &app.sandbox).await;
    let old = elsewhere(&app, &[(1, true)]).await;
    let announced = elsewhere(&app, &[(1, true), (2, false)]).await;
    let changed = elsewhere(&app, &[(1, false), (2, true)]).await;
    let gone = elsewhere(&app, &[(2, true)]).await;
    assert_eq!(published(&announced), published(&changed));
    for signer in [&old, &announced, &changed] {
        let assertion = signed(signer, &proven);
        assert!(verifies(&assertion, &published(&announced)) && verifies(&assertion, &published(&changed)));
        assert!(!verifies(&assertion, &key_set(&app).await), "another installation's");
    }
    assert!(!verifies(&signed(&old, &proven), &published(&gone)));
    assert!(!verifies(&signed(&changed, &proven), &published(&old)));
    assert_eq!(signed(&changed, &proven), signed(&gone, &proven));
}

#[tokio::test]
async fn keys_are_not_printed() {
    let app = TestApp::new().await;
    let assertions = app.authority.assertions(Duration::from_secs(30), Some("ledger".to_owned()));
    assert_eq!(format!("{assertions:?}"), r#"Assertions { lifetime: 30, audience: Some("ledger"), .. }"#);
}
