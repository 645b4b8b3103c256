//! In a Rust service: the verifier and the layer on the database that others use and change.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Extension, Router, routing};
use bytes::Bytes;
use countersign::{
    config::Config,
    domain::{Environment, Permission, Permissions, Presented, Proven, RequestInfo, TokenId},
    layer::{RequirePermission, Source},
    verifier::{Denied, Reason, Verifier, VerifierOptions},
};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use tower::{Layer as _, ServiceExt as _};

use crate::support::{
    Pair, TestApp, database,
    program::{Server, exchange, run},
};

fn options(data: &Path) -> VerifierOptions {
    VerifierOptions { database: database::url_of(data), ..VerifierOptions::new(data) }
}

async fn open(data: &Path) -> Verifier {
    let options = VerifierOptions { lease: Duration::from_millis(200), ..options(data) };
    Verifier::open(options).await.unwrap()
}

fn request(authorizations: &[&str]) -> Request<Full<Bytes>> {
    let mut request = Request::get("/");
    for value in authorizations {
        request = request.header("authorization", *value);
    }
    request.body(Full::default()).unwrap()
}

/// Says who came: a service without axum, whose body can't be made of anything.
async fn whoami(request: Request<Full<Bytes>>) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
    let proven = request.extensions().get::<Proven>().expect("nobody is let through without proof");
    Ok(Response::new(Full::from(proven.client_id.to_string()).boxed()))
}

/// What is answered behind the layer: status, headers and body.
async fn answer(layer: &RequirePermission, authorizations: &[&str]) -> Response<Bytes> {
    let response = layer.layer(tower::service_fn(whoami)).oneshot(request(authorizations)).await.unwrap();
    let (parts, body) = response.into_parts();
    let exact = http_body::Body::size_hint(&body).exact();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(exact, Some(body.len() as u64));
    Response::from_parts(parts, body)
}

async fn revoke(app: &TestApp, pair: &Pair) {
    let root = Presented::parse_basic(app.sandbox.basic().as_bytes());
    let by = app.authority.verify(root, RequestInfo::default()).await.unwrap().may_manage().unwrap();
    app.authority.revoke_token(&by, TokenId::parse(&pair.id).unwrap()).await.unwrap();
}

/// The layer and `/verify` are the same gate: whoever passes one passes the other, and whoever does not is told the same.
#[tokio::test]
async fn the_layer_lets_through_and_refuses_as_verify_does() {
    let app = TestApp::new().await;
    let (verifier, server) = (open(app.directory.path()).await, Server::start(app.directory.path()));
    let (view, manage) = (app.token("view", &["VIEW"]).await, app.token("manage", &["MANAGE"]).await);
    let wrong = Pair { secret: app.sandbox.secret.clone(), ..view.clone() };
    let (view, manage, root, other, wrong) = (view.basic(), manage.basic(), app.sandbox.basic(), app.production.basic(), wrong.basic());
    let bearer = view.replace("Basic", "Bearer");

    let needs = |permissions: &str, environment: Option<Environment>| {
        let layer = RequirePermission::new(verifier.clone(), Permissions::parse(permissions).unwrap_or_default());
        environment.map_or(layer.clone(), |environment| layer.in_environment(environment))
    };
    let (sandbox, anywhere) = (Some(Environment::Sandbox), None);
    let mut statuses = Vec::new();
    for (permissions, environment, authorizations, status) in [
        ("", anywhere, vec![&*view], 200),
        ("VIEW", anywhere, vec![&view], 200),
        ("VIEW", sandbox, vec![&view], 200),
        ("VIEW", anywhere, vec![&manage], 200),
        ("VIEW,TRANSACT", sandbox, vec![&root], 200),
        ("VIEW", anywhere, vec![&other], 200),
        ("TRANSACT", anywhere, vec![&view], 403),
        ("VIEW,TRANSACT,MANAGE", anywhere, vec![&manage], 403),
        ("VIEW", sandbox, vec![&other], 403),
        ("VIEW", anywhere, vec![], 401),
        ("VIEW", anywhere, vec![&wrong], 401),
        ("VIEW", anywhere, vec![&bearer], 401),
        ("VIEW", anywhere, vec![&view, &view], 401),
        ("VIEW", anywhere, vec![&view, ""], 401),
        ("", anywhere, vec![&root, "Bearer x"], 401),
    ] {
        let what = format!("{permissions} {environment:?} {authorizations:?}");
        let ours = answer(&needs(permissions, environment), &authorizations).await;
        let environment = environment.map_or(String::new(), |environment| format!("&env={environment}"));
        let query = if permissions.is_empty() { environment } else { format!("require={permissions}{environment}") };
        let values: String = authorizations.iter().map(|value| format!("Authorization: {value}\r\n")).collect();
        let asked = format!("GET /verify?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{values}\r\n");
        let theirs = String::from_utf8(exchange(server.api, asked.as_bytes())).unwrap();
        let (head, body) = theirs.split_once("\r\n\r\n").unwrap();
        let says = |name: &str, value: &[u8]| head.contains(&format!("\r\n{name}: {}", std::str::from_utf8(value).unwrap()));
        assert_eq!(ours.status(), status, "{what}");
        assert!(theirs.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {theirs}");
        if status == 200 {
            assert!(says("x-auth-client-id", ours.body()), "{what}: {theirs}");
        } else {
            assert_eq!(ours.body(), body, "{what}");
            assert!(ours.headers().iter().all(|(name, value)| says(name.as_str(), value.as_bytes())), "{what}: {theirs}");
            assert_eq!(ours.headers()["cache-control"], "no-store");
            assert_eq!(ours.headers().contains_key("www-authenticate"), status == 401, "{what}");
        }
        statuses.push(status);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 6);

    let lacking = answer(&needs("TRANSACT,VIEW", None), &[&view]).await;
    let body: Value = serde_json::from_slice(lacking.body()).unwrap();
    assert_eq!((&body["code"], &body["details"]["required"]), (&"FORBIDDEN".into(), &serde_json::json!(["TRANSACT"])));
}

/// In axum as it is used there: a layer on a method of a route, and on a router with what falls through it.
#[tokio::test]
async fn axum_takes_the_layer_as_any_other() {
    let app = TestApp::new().await;
    // It reads the feed once a second; the token is asked for before that, so the layer has to wait for the database.
    let options = VerifierOptions { lease: Duration::from_secs(4), ..options(app.directory.path()) };
    let verifier = Verifier::open(options).await.unwrap();
    let view = app.token("view", &["VIEW"]).await;
    let who = |Extension(proven): Extension<Proven>| async move { proven.client_id.to_string() };
    let router = Router::new()
        .route("/", routing::get(who).post(who).layer(RequirePermission::new(verifier.clone(), Permission::View)))
        .fallback(who)
        .layer(RequirePermission::new(verifier, Permissions::NONE));
    for (path, authorizations, status) in [("/", vec![view.basic()], 200), ("/", vec![], 401), ("/other", vec![view.basic()], 200)] {
        let mut request = Request::get(path);
        for value in authorizations {
            request = request.header("authorization", value);
        }
        let response = router.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body == view.client_id, status == 200);
    }
}

/// R-01 across the boundary of a library: another authority ends the token, while the verifier is hammered with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_01_a_revoke_elsewhere_is_true_here_when_it_returns() {
    let app = TestApp::new().await;
    let verifier = open(app.directory.path()).await;
    for _ in 0..5 {
        let pair = app.token("a", &["VIEW"]).await;
        let (ended, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let accepted = Arc::new(AtomicU64::new(0));
        let hammers: Vec<_> = (0..2)
            .map(|_| {
                let (verifier, ended, stop, accepted) = (verifier.clone(), ended.clone(), stop.clone(), accepted.clone());
                let value = pair.basic();
                tokio::spawn(async move {
                    let mut offences = 0;
                    while !stop.load(Ordering::SeqCst) {
                        let begun_after = ended.load(Ordering::SeqCst);
                        if verifier.verify(Some(value.as_bytes())).await.is_ok() {
                            accepted.fetch_add(1, Ordering::SeqCst);
                            offences += u32::from(begun_after);
                        }
                        tokio::task::yield_now().await;
                    }
                    offences
                })
            })
            .collect();
        while accepted.load(Ordering::SeqCst) < 100 {
            tokio::task::yield_now().await;
        }
        revoke(&app, &pair).await;
        ended.store(true, Ordering::SeqCst);
        for _ in 0..100 {
            assert_eq!(verifier.verify(Some(pair.basic().as_bytes())).await, Err(Denied::Refused(Reason::Revoked)));
        }
        stop.store(true, Ordering::SeqCst);
        for hammer in hammers {
            assert_eq!(hammer.await.unwrap(), 0, "accepted after the revoke had returned");
        }
    }
}

/// The same by a command, and of a verifier that was closed: it is waited for as long as it may still believe anything.
#[tokio::test(flavor = "multi_thread")]
async fn r_01_a_closed_verifier_keeps_the_promise() {
    let app = TestApp::new().await;
    let verifier = open(app.directory.path()).await;
    let pair = app.token("a", &["VIEW"]).await;
    let value = pair.basic();
    verifier.verify(Some(value.as_bytes())).await.unwrap();
    verifier.clone().close().await.unwrap();
    verifier.close().await.unwrap();
    verifier.verify(Some(value.as_bytes())).await.unwrap();
    let (data, id) = (app.directory.path().to_owned(), pair.id.clone());
    let output = tokio::task::spawn_blocking(move || run(&data, &["token", "revoke", &id])).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(verifier.verify_headers([&value]).await, Err(Denied::Refused(Reason::Revoked)));
}

#[tokio::test]
async fn where_it_cannot_be_known_nobody_passes() {
    let app = TestApp::new().await;
    let verifier = open(app.directory.path()).await;
    let layer = RequirePermission::new(verifier, Permission::View);
    assert_eq!(answer(&layer, &[&app.sandbox.basic()]).await.status(), 200);
    database::edit(app.directory.path(), "ALTER TABLE token RENAME TO gone; ALTER TABLE audit RENAME TO gone_too");
    // Believed to the end of the lease; then the database is asked, and can't say.
    let at_last_refused = async {
        loop {
            let answer = answer(&layer, &[&app.sandbox.basic()]).await;
            if answer.status() != 200 {
                break answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), at_last_refused).await.expect("believed for ever");
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    let body: Value = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!(body["code"], "SERVICE_UNAVAILABLE");
}

#[tokio::test]
async fn a_missing_database_is_an_error_and_stays_missing() {
    let data = tempfile::tempdir().unwrap();
    let refused = async |options: VerifierOptions| Verifier::open(options).await.unwrap_err();
    let error = refused(options(data.path())).await;
    if database::postgres().is_some() {
        assert!(error.starts_with("there are no tables of countersign in that database;"), "{error}");
        let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema()";
        assert_eq!(database::number(data.path(), tables), 0);
    } else {
        assert!(error.starts_with(&format!("there is no database in {};", data.path().display())), "{error}");
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
        // Nor does an empty file count as one.
        let file = data.path().join("countersign.db");
        std::fs::write(&file, "").unwrap();
        let error = refused(options(data.path())).await;
        assert!(error.starts_with("there is no database in"), "{error}");
        assert_eq!(std::fs::metadata(file).unwrap().len(), 0);
    }
    assert!(!data.path().join("keys.json").exists());

    let app = TestApp::new().await;
    let elsewhere = VerifierOptions { key_file: Some(data.path().join("other.json")), ..options(app.directory.path()) };
    let error = refused(elsewhere).await;
    assert!(error.contains("other.json is missing"), "{error}");
}

#[tokio::test]
async fn a_verifier_has_the_servers_defaults_and_nobody_waits_for_it_long() {
    let app = TestApp::new().await;
    let options = options(app.directory.path());
    let config = Config::layered(&BTreeMap::new(), [], None).unwrap();
    assert_eq!((options.lease, options.flush_interval), (config.lease, config.flush_interval));
    let journal = options.journal.as_ref().unwrap();
    assert_eq!((journal.parent(), journal.file_name()), (Some(app.directory.path()), config.journal.file_name()));
    for (lease, flush_interval) in [(0, 1), (4001, 1), (1000, 0)] {
        let (lease, flush_interval) = (Duration::from_millis(lease), Duration::from_millis(flush_interval));
        let error = Verifier::open(VerifierOptions { lease, flush_interval, ..options.clone() }).await.unwrap_err();
        assert!(error.contains("must be above zero"), "{error}");
    }
    // What others wait for is never less than what is believed here.
    let _verifier = Verifier::open(VerifierOptions { lease: Duration::from_micros(900_100), ..options }).await.unwrap();
    if database::postgres().is_some() {
        let leases = |which: &str| database::number(app.directory.path(), &format!("SELECT {which} FROM node"));
        assert_eq!(
            (leases("count(*)"), leases("min(lease)"), leases("max(lease)")),
            (2, 1091, 1210),
            "and a fifth more, for the clocks of machines"
        );
        return;
    }
    let running = std::fs::read_dir(app.directory.path().join("running")).unwrap();
    let mut leases: Vec<_> = running.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    leases.sort();
    assert_eq!(leases, ["1000", "901"]);
}

/// One that was not there when the database went back knows all the same how far it had followed.
#[tokio::test]
async fn r_15_a_verifier_does_not_start_on_an_earlier_state() {
    let app = TestApp::new().await;
    let data = app.directory.path();
    let ended = app.token("ended", &["VIEW"]).await;
    let journal = data.join("revocations.jsonl");
    let verifier = open(data).await;
    database::remember(data);
    revoke(&app, &ended).await;
    while !std::fs::read_to_string(&journal).unwrap().contains(&ended.id) {}
    verifier.close().await.unwrap();
    drop(verifier);
    database::go_back(data);

    let refused = Verifier::open(options(data)).await.unwrap_err();
    assert!(refused.contains("earlier state") && refused.contains("countersign restore --journal"), "{refused}");
    let restored = run(data, &["restore", "--journal", journal.to_str().unwrap()]);
    assert!(restored.status.success(), "{restored:?}");
    let verifier = open(data).await;
    assert_eq!(verifier.verify(Some(ended.basic().as_bytes())).await, Err(Denied::Refused(Reason::Revoked)));
    verifier.verify(Some(app.sandbox.basic().as_bytes())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_writes_the_last_uses() {
    let app = TestApp::new().await;
    let options = VerifierOptions { flush_interval: Duration::from_secs(3600), ..options(app.directory.path()) };
    let verifier = Verifier::open(options).await.unwrap();
    let pair = app.token("a", &["VIEW"]).await;
    let root = Presented::parse_basic(app.sandbox.basic().as_bytes());
    let by = app.authority.verify(root, RequestInfo::default()).await.unwrap().may_read().unwrap();
    let last_used = async || app.authority.token_use(&by, TokenId::parse(&pair.id).unwrap()).await.unwrap().last_used_at;
    for _ in 0..10 {
        verifier.verify(Some(pair.basic().as_bytes())).await.unwrap();
    }
    // And who is refused for a permission is counted.
    answer(&RequirePermission::new(verifier.clone(), Permission::Transact), &[&pair.basic()]).await;
    assert_eq!(last_used().await, None);
    verifier.close().await.unwrap();
    assert!(last_used().await.is_some());
    let query = countersign::domain::AuditQuery { action: Some(countersign::domain::Action::Denied), ..Default::default() };
    let (entries, _) = app.authority.list_audit(&crate::support::operator(), query).await.unwrap();
    assert_eq!(entries[0].entry.detail, r#"{"forbidden":1}"#);
}

/// Where tokens are used from is recorded if the service says it.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_says_where_a_request_comes_from() {
    let app = TestApp::new().await;
    let pair = app.token("a", &["VIEW"]).await;
    let used_by = async |options: VerifierOptions| {
        let verifier = Verifier::open(options).await.unwrap();
        verifier.verify_headers([pair.basic()]).await.unwrap();
        verifier.verify_headers_from([192, 0, 2, 1].into(), [pair.basic()]).await.unwrap();
        let layer = RequirePermission::new(verifier.clone(), Permission::View);
        for source in [None, Some("::ffff:192.0.2.2")] {
            let mut request = request(&[&pair.basic()]);
            source.map(|address| request.extensions_mut().insert(Source(address.parse().unwrap())));
            layer.layer(tower::service_fn(whoami)).oneshot(request).await.unwrap();
        }
        verifier.close().await.unwrap();
        let told = crate::uses::told_by(&app.authority, &pair).await;
        let mut addresses: Vec<_> = told.sources.iter().map(|source| source.address.to_string()).collect();
        addresses.sort();
        (addresses, told.last_used_at.is_some())
    };
    let off = VerifierOptions { use_sources: false, ..options(app.directory.path()) };
    assert_eq!(used_by(off).await, (vec![], true));
    assert_eq!(used_by(options(app.directory.path())).await, (["192.0.2.1", "192.0.2.2"].map(str::to_owned).into(), true));
}
