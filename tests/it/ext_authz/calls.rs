//! What is a call, and what is none.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use http::{Method, Request};
use proptest::prelude::*;
use prost::Message as _;

use super::{
    client::{Called, Check, Connection, Sent, call, call_in_pieces, framed},
    with_operations,
};

#[tokio::test]
async fn what_is_no_call_of_the_one_method() {
    let listening = with_operations().await;
    let connection = Connection::to(listening.ext_authz).await;
    let good = Check::of("GET", "/v1/me", Some(&listening.app.sandbox)).message().encode_to_vec();
    let changed = async |change: &dyn Fn(&mut Request<Sent>)| {
        let mut request = call(framed(&good));
        change(&mut request);
        connection.send(request).await
    };
    assert!(changed(&|_| {}).await.passes());
    for path in ["/", "/envoy.service.auth.v3.Authorization/check", "/envoy.service.auth.v2.Authorization/Check", "/x/Check", "/verify"] {
        changed(&|request| *request.uri_mut() = format!("http://countersign{path}").parse().unwrap()).await.failed(12);
    }
    for content_type in ["", "application/json", "application/grpcx", "application/grpc-web", "application/grpc+json", "application/GRPC"] {
        let called = changed(&|request| drop(request.headers_mut().insert("content-type", content_type.parse().unwrap()))).await;
        assert_eq!((called.status, called.grpc, called.body.len()), (415, None, 0), "{content_type}");
    }
    assert_eq!(changed(&|request| drop(request.headers_mut().remove("content-type"))).await.status, 415);
    for content_type in ["application/grpc+proto", "application/grpc; charset=x", "application/grpc+proto;x"] {
        assert!(changed(&|request| drop(request.headers_mut().insert("content-type", content_type.parse().unwrap()))).await.passes());
    }
    for method in ["GET", "PUT", "HEAD", "OPTIONS", "post"] {
        let called = changed(&|request| *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap()).await;
        assert_eq!((called.status, called.grpc), (405, None), "{method}");
    }
    // A head that is too large ends its stream.
    let large = changed(&|request| drop(request.headers_mut().insert("x", "a".repeat(15_000).parse().unwrap()))).await;
    assert!(large.passes());
    let mut request = call(framed(&good));
    request.headers_mut().insert("x", "a".repeat(20_000).parse().unwrap());
    assert!(connection.begin(request).await.is_none_or(|called| called.status == 431));
    assert!(Connection::to(listening.ext_authz).await.send(call(framed(&good))).await.passes());
}

#[tokio::test]
async fn malformed_messages_let_nobody_pass() {
    let listening = with_operations().await;
    let connection = Connection::to(listening.ext_authz).await;
    let good = Check::of("GET", "/v1/me", Some(&listening.app.sandbox)).message().encode_to_vec();
    let whole = framed(&good);
    let with = |flag: u8, length: usize| [&[flag][..], &u32::try_from(length).unwrap().to_be_bytes(), &good].concat();
    for (status, body) in [
        (3, vec![]),
        (3, vec![0]),
        (3, whole[..4].to_vec()),
        (3, whole[..whole.len() - 1].to_vec()),
        (3, [&whole[..], &[0]].concat()),
        (3, whole.repeat(2)),
        (3, with(0, good.len() - 1)),
        (3, with(0, good.len() + 1)),
        (8, with(0, u32::MAX as usize)),
        (3, with(2, good.len())),
        (3, with(255, good.len())),
        (12, with(1, good.len())),
        (3, framed(&good[..good.len() - 1])),
        (3, framed(&[0xff; 20])),
        (3, framed(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])),
        // A group, wound up deeper than anything is.
        (3, framed(&[0x0b; 60_000])),
        (8, framed(&[0; 65_537])),
        (8, framed(&[0; 1_000_000])),
    ] {
        let called = connection.send(call(body.clone())).await;
        called.failed(status);
        assert!(called.headers.contains_key("grpc-message"), "{called:?}");
    }
    assert_eq!(connection.send(call(with(1, good.len()))).await.headers["grpc-accept-encoding"], "identity");
    // Just as large as it may be.
    let mut padded = Check::of("GET", "/v1/me", Some(&listening.app.sandbox)).message();
    let http = padded.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap();
    http.raw_body = vec![7; 60_000];
    let short = 65_536 - padded.encoded_len();
    padded.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap().raw_body = vec![7; 60_000 + short];
    assert_eq!(padded.encoded_len(), 65_536);
    assert!(connection.send(call(framed(&padded.encode_to_vec()))).await.passes());
    // A message without anything in it is understood, and proves nobody.
    assert_eq!(connection.send(call(framed(&[]))).await.message().status.unwrap().code, 16);
    listening.app.assert_panics(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_ask_on_one_connection() {
    let listening = with_operations().await;
    let connection = Connection::to(listening.ext_authz).await;
    let view = listening.app.token("v", &["VIEW"]).await;
    let may = Check::of("GET", "/v1/customers", Some(&view));
    let (may_not, nobody) = (Check::of("POST", "/v1/customers", Some(&view)), Check::of("GET", "/v1/customers", None));
    // One behind the other, and no answer is another's.
    for _ in 0..3 {
        for (check, code) in [(&may, 0), (&may_not, 7), (&nobody, 16)] {
            assert_eq!(connection.check(check).await.message().status.unwrap().code, code);
        }
    }
    // More than may be open at once: the rest waits in the client.
    let calls = (0..600).map(|n| {
        let (connection, check, code) = (connection.clone(), [&may, &may_not, &nobody][n % 3].clone(), [0, 7, 16][n % 3]);
        async move { assert_eq!(connection.check(&check).await.message().status.unwrap().code, code) }
    });
    join_all(calls).await;
    // In pieces, each as small as can be, while another is asked and answered.
    let bytes = framed(&may.message().encode_to_vec());
    let slow = call_in_pieces(stream::iter(bytes.into_iter().map(|byte| Ok(Bytes::from(vec![byte])))));
    let (slow, quick) = tokio::join!(connection.send(slow), connection.check(&may_not));
    assert!(slow.passes() && !quick.passes());
    // Calls that are given up leave nothing behind: all of them are more than may be open at once.
    for _ in 0..3 {
        let (give_up, given_up) = tokio::sync::watch::channel(());
        let breaking_off = |mut given_up: tokio::sync::watch::Receiver<()>| async move {
            let _ = given_up.changed().await;
            Err(std::io::Error::other("given up"))
        };
        let calls: Vec<_> = (0..50).map(|_| connection.begin(call_in_pieces(stream::once(breaking_off(given_up.clone()))))).collect();
        // What comes behind them is answered: they are under way.
        assert!(connection.check(&may).await.passes());
        drop(give_up);
        assert!(join_all(calls).await.iter().all(Option::is_none));
    }
    assert!(connection.check(&may).await.passes());
    assert!(Connection::to(listening.ext_authz).await.check(&may).await.passes());
    listening.app.assert_panics(0).await;
}

/// Whatever is sent: no panic, and nobody passes who has no credential.
#[test]
fn nothing_that_is_malformed_passes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (listening, connection) = runtime.block_on(async {
        let listening = with_operations().await;
        let connection = Connection::to(listening.ext_authz).await;
        (listening, connection)
    });
    let good = Check::of("GET", "/v1/me", Some(&listening.app.sandbox)).message().encode_to_vec();
    let nobody = Check::of("GET", "/v1/me", None).route(&[("operations", "off")]).message().encode_to_vec();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) };
    let refused = |called: Called| {
        prop_assert!(!called.passes(), "{:?}", called);
        prop_assert!(matches!(called.grpc, Some(0 | 3 | 8 | 12)), "{:?}", called);
        Ok(())
    };
    // Bytes, with and without a frame around them; one without a credential, changed in places.
    proptest!(config.clone(), |(bytes in proptest::collection::vec(any::<u8>(), 0..300), frame: bool)| {
        refused(runtime.block_on(connection.send(call(if frame { framed(&bytes) } else { bytes }))))?;
    });
    proptest!(config.clone(), |(places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index)| {
        let mut bytes = nobody.clone();
        for (place, byte) in &places {
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
        bytes.truncate(bytes.len() - cut.index(3));
        refused(runtime.block_on(connection.send(call(framed(&bytes)))))?;
    });
    // A good one, cut off anywhere, with a frame that says so or not.
    proptest!(config.clone(), |(cut in 0..good.len(), honest: bool)| {
        let bytes = if honest { framed(&good[..cut]) } else { framed(&good)[..cut].to_vec() };
        let called = runtime.block_on(connection.send(call(bytes)));
        prop_assert!(matches!(called.grpc, Some(0 | 3)), "{:?}", called);
    });
    // No HTTP/2 at all, or not for long.
    proptest!(ProptestConfig { cases: 60, ..config }, |(bytes in proptest::collection::vec(any::<u8>(), 0..200), preface: bool, settings: bool)| {
        let mut all = if preface { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() } else { vec![] };
        if settings {
            all.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        }
        all.extend(bytes);
        let mut stream = TcpStream::connect(listening.ext_authz).unwrap();
        let _ = stream.write_all(&all);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        prop_assert!(!answer.windows(16).any(|part| part == b"x-auth-token-id:"));
    });
    runtime.block_on(async {
        assert!(Connection::to(listening.ext_authz).await.send(call(framed(&good))).await.passes());
        listening.app.assert_panics(0).await;
    });
}
