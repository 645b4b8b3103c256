//! Who passes, and what is told of it: as over HTTP.

use std::{collections::HashMap, time::Duration};

use http::Method;
use prost::Message as _;

use super::{
    client::{Check, Connection, call, framed, headers},
    envoy::{Attributes, CheckRequest, CheckResponse},
    with_operations,
};
use crate::{
    support::{Answer, GRID, Listening, Pair, database, operator},
    verify::{IDENTITY, identity, payments},
};

/// What a message says is what the HTTP way says.
#[track_caller]
fn assert_same(message: &CheckResponse, http: &Answer) {
    let code = message.status.as_ref().unwrap().code;
    match http.status.as_u16() {
        200 => {
            assert_eq!((code, &message.denied), (0, &None));
            let allowed = message.allowed.as_ref().unwrap();
            let told = headers(&allowed.headers);
            assert_eq!(told.len(), IDENTITY.len());
            assert_eq!(IDENTITY.map(|name| told.get(name).copied()), identity(http));
            assert_eq!(allowed.headers_to_remove, ["authorization"]);
        }
        status => {
            assert_eq!((code, &message.allowed), (HashMap::from([(401, 16), (403, 7), (503, 14)])[&status], &None));
            let denied = message.denied.as_ref().unwrap();
            assert_eq!((denied.status.as_ref().unwrap().code, denied.body.as_bytes()), (i32::from(status), &*http.body));
            let told = headers(&denied.headers);
            for name in ["content-type", "cache-control", "www-authenticate", "retry-after"] {
                assert_eq!(told.get(name).copied(), http.header(name), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn it_decides_as_over_http() {
    let listening = Listening::new().await;
    let app = &listening.app;
    let connection = Connection::to(listening.ext_authz).await;
    let (view, revoked) = (app.token("v", &["VIEW"]).await, app.token("r", &["VIEW"]).await);
    app.delete(&format!("{}/{}", GRID, revoked.id)).send().await.expect(204);
    let wrong = Pair { secret: revoked.secret.clone(), ..view.clone() };
    let callers = [None, Some(&view), Some(&revoked), Some(&wrong), Some(&app.sandbox), Some(&app.production)];
    let mut statuses = HashMap::new();
    for loaded in [false, true] {
        if loaded {
            app.authority.load_operations(&operator(), &payments()).await.unwrap();
        }
        for by in callers {
            // By operation.
            for (method, path) in [
                ("GET", "/v1/customers?limit=5&require=BOGUS&env=production"),
                ("POST", "/v1/customers"),
                ("HEAD", "/v1/customers/42"),
                ("GET", "/v1/customers/export"),
                ("GET", "/v1/customers/%65xport"),
                ("GET", "/v1/customers/../me"),
                ("GET", "//v1/me"),
                ("GET", "/v1/me"),
                ("GET", "/v1/reports"),
                ("DELETE", "/v1/me"),
                ("get", "/v1/me"),
                ("POST", "/v1/batches/b/approve"),
                ("GET", "/"),
            ] {
                let request = app.request(Method::from_bytes(method.as_bytes()).unwrap(), &format!("/verify/envoy{path}"));
                // A HEAD over HTTP has the body of a refusal as well: nothing of ours cuts it off.
                let http = by.map_or_else(
                    || request.anonymous(),
                    |by| app.request(method.parse().unwrap(), &format!("/verify/envoy{path}")).auth(by),
                );
                let http = http.expecting_5xx().send().await;
                let check = Check::of(method, path, by);
                for check in [check.clone(), check.clone().raw(), check.route(&[("operations", "on")])] {
                    assert_same(&connection.check(&check).await.message(), &http);
                }
                *statuses.entry(http.status.as_u16()).or_insert(0) += 1;
            }
            // By what the route asks for, alone and besides.
            for pairs in [
                &[][..],
                &[("require", "VIEW")],
                &[("require", "MANAGE")],
                &[("require", "TRANSACT,VIEW"), ("env", "sandbox")],
                &[("env", "production")],
                &[("require", "")],
                &[("require", "ADMIN")],
                &[("require", "view")],
                &[("env", "live")],
                &[("env", "")],
                &[("requires", "VIEW")],
                &[("Require", "VIEW")],
            ] {
                let query = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
                let mark = if query.is_empty() { "" } else { "?" };
                let ask = |path: &str| by.map_or_else(|| app.get(path).anonymous(), |by| app.get(path).auth(by)).expecting_5xx();
                let http = ask(&format!("/verify{mark}{query}")).send().await;
                let off = Check::of("PROPFIND", "no/../path", by).route(&[pairs, &[("operations", "off")]].concat());
                assert_same(&connection.check(&off).await.message(), &http);
                let http = ask(&format!("/verify/nginx{mark}{query}"))
                    .header("x-original-method", "GET")
                    .header("x-original-uri", "/v1/customers")
                    .send()
                    .await;
                let on = Check::of("GET", "/v1/customers", by).route(pairs);
                assert_same(&connection.check(&on).await.message(), &http);
                *statuses.entry(http.status.as_u16()).or_insert(0) += 1;
            }
        }
    }
    assert!([200, 401, 403, 503].iter().all(|status| statuses[status] > 10), "{statuses:?}");
    listening.app.assert_panics(0).await;
}

#[tokio::test]
async fn a_routes_configuration_is_understood_whole_or_nobody_passes() {
    let listening = with_operations().await;
    let connection = Connection::to(listening.ext_authz).await;
    let by = &listening.app.sandbox;
    for (extensions, passes) in [
        (vec![("operations", "off")], true),
        (vec![("operations", "on")], true),
        (vec![("operations", "off"), ("require", "MANAGE"), ("env", "sandbox")], true),
        (vec![("operations", "")], false),
        (vec![("operations", "OFF")], false),
        (vec![("operations", "no")], false),
        (vec![("operation", "off")], false),
        (vec![("operations", "off"), ("environment", "sandbox")], false),
        (vec![("", "")], false),
    ] {
        let message = connection.check(&Check::of("GET", "/v1/me", Some(by)).route(&extensions)).await.message();
        assert_eq!(message.status.unwrap().code, if passes { 0 } else { 14 }, "{extensions:?}");
        assert_eq!(message.denied.map(|denied| denied.status.unwrap().code), (!passes).then_some(503));
    }
    // On the wire a map can say a thing twice.
    for (first, second) in [("off", "on"), ("off", "off")] {
        let whole = |value| Check::of("GET", "/v1/me", Some(by)).route(&[("operations", value)]).message().encode_to_vec();
        let only = |value: &str| {
            let context_extensions = [("operations".to_owned(), value.to_owned())].into();
            CheckRequest { attributes: Some(Attributes { context_extensions, ..Attributes::default() }) }.encode_to_vec()
        };
        let message = connection.send(call(framed(&[whole(first), only(second)].concat()))).await.message();
        assert_eq!(message.status.unwrap().code, 14);
    }
}

/// A-06: two of them, even if each is right.
#[tokio::test]
async fn a_06_two_credentials_are_none() {
    let listening = with_operations().await;
    let connection = Connection::to(listening.ext_authz).await;
    let basic = listening.app.sandbox.basic();
    let me = || Check::of("GET", "/v1/me", None);
    let code = async |check: Check| connection.check(&check).await.message().status.unwrap().code;
    assert_eq!(code(me().authorization(&[&basic])).await, 0);
    assert_eq!(code(me().authorization(&[&basic]).raw()).await, 0);
    for values in [&[&*basic, &*basic][..], &["", &basic], &[&basic, ""], &[&basic, "Basic x"], &[&format!(" {basic}")], &["Bearer x"]] {
        assert_eq!(code(me().authorization(values)).await, 16, "{values:?}");
        assert_eq!(code(me().authorization(values).raw()).await, 16, "{values:?}");
    }
    // In both forms at once, twice in the map, or in two cases.
    let one = me().authorization(&[&basic]).message();
    let mut both = one.clone();
    let http = |message: &mut CheckRequest| message.attributes.as_mut().unwrap().request.as_mut().unwrap().http.clone().unwrap();
    let mut request = http(&mut both);
    request.header_map = http(&mut me().authorization(&[&basic]).raw().message()).header_map;
    both.attributes.as_mut().unwrap().request.as_mut().unwrap().http = Some(request);
    let mut cases = one.clone();
    let mut request = http(&mut cases);
    request.headers.insert("Authorization".to_owned(), basic.clone());
    cases.attributes.as_mut().unwrap().request.as_mut().unwrap().http = Some(request);
    for bytes in [both.encode_to_vec(), cases.encode_to_vec(), one.encode_to_vec().repeat(2)] {
        assert_eq!(connection.send(call(framed(&bytes))).await.message().status.unwrap().code, 16);
    }
}

/// A-31: where it can't be known, nobody passes.
#[tokio::test]
async fn a_31_what_cannot_be_known_is_no_pass() {
    let listening = with_operations().await;
    let connection = Connection::to(listening.ext_authz).await;
    let app = &listening.app;
    let fresh = app.token("fresh", &["VIEW"]).await;
    app.authority.follow().await.unwrap();
    let check = Check::of("GET", "/v1/me", Some(&fresh)).route(&[("operations", "off")]);
    // A defect in the middle.
    app.clock.panics.store(true, std::sync::atomic::Ordering::SeqCst);
    connection.check(&check).await.failed(13);
    assert!(connection.check(&check).await.passes(), "the connection lives on");
    // The lease is over: the database is asked, and then it is gone.
    app.clock.advance(Duration::from_secs(2));
    assert!(connection.check(&check).await.passes());
    database::edit(app.directory.path(), "ALTER TABLE token RENAME TO hidden");
    let message = connection.check(&check).await.message();
    let denied = message.denied.unwrap();
    assert_eq!((message.status.unwrap().code, denied.status.unwrap().code), (14, 503));
    assert_eq!(headers(&denied.headers)["retry-after"], "1");
    assert_eq!(connection.check(&check.clone().authorization(&[])).await.message().status.unwrap().code, 16);
    database::edit(app.directory.path(), "ALTER TABLE hidden RENAME TO token");
    assert!(connection.check(&check).await.passes());
}

#[tokio::test]
async fn r_01_a_revoke_is_true_when_it_returns() {
    let listening = with_operations().await;
    let connection = Connection::to(listening.ext_authz).await;
    for _ in 0..20 {
        let token = listening.app.token("a", &["VIEW"]).await;
        let check = Check::of("GET", "/v1/me", Some(&token));
        assert!(connection.check(&check).await.passes());
        listening.app.delete(&format!("{}/{}", GRID, token.id)).send().await.expect(204);
        assert!(!connection.check(&check).await.passes());
    }
}
