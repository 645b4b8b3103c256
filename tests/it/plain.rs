//! Plain requests to `/verify` are answered without the HTTP library: whatever comes, both have to say the same.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use proptest::{
    prelude::*,
    sample::{select, subsequence},
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};

use crate::support::program::{Server, create_platform, exchange};

/// Sends all at once, and a last request that ends the connection.
fn answers(address: SocketAddr, requests: &str) -> String {
    let last = "GET /verify HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    String::from_utf8(exchange(address, format!("{requests}{last}").as_bytes())).unwrap()
}

/// The lines of all answers, without what differs each time.
fn lines(answers: &str) -> Vec<String> {
    let (mut all, mut head) = (Vec::new(), Vec::new());
    for line in answers.split("\r\n") {
        // Fields in any order, each answer for itself.
        if line.starts_with("HTTP/1.1 ") || line.is_empty() {
            head.sort();
            all.append(&mut head);
        }
        // The library leaves a length of nothing out where HEAD asks.
        if !(line == "content-length: 0" || line.starts_with("date: ") || line.starts_with("x-request-id: ") && line.len() == 14 + 17) {
            head.push(line.to_owned());
        }
    }
    all.append(&mut head);
    all
}

/// A request that is plain, and one that is not, with the same answer: the second gives the connection to the library.
const PLAIN: &str = "GET /verify HTTP/1.1\r\nHost: x\r\n\r\n";
const OTHER: &str = "GET /verify HTTP/1.1\r\nHost: x\r\nUpgrade: any\r\n\r\n";

/// Fields by which heads differ; `AUTH` stands for a credential.
const FIELDS: [&str; 34] = [
    "Host: example.com:8080",
    "host: x",
    "Host: a@b",
    "Host:",
    "Authorization: AUTH",
    "authorization:   AUTH  ",
    "AUTHORIZATION: Basic eDp5",
    "Authorization: AUTH,AUTH",
    "Authorization:\tAUTH",
    "X-Request-Id: theirs",
    "x-request-id: iksec_test_x",
    "X-Request-Id: two words",
    "X-Forwarded-For: 192.0.2.1",
    "X-Original-Method: GET",
    "X-Original-URI: /transactions?x=1",
    "X-Original-URI: /a/../b",
    "X-Original-URI: caf\u{e9}",
    "Connection: keep-alive",
    "Connection: Keep-Alive, Upgrade",
    "Connection: close",
    "Content-Length: 0",
    "Content-Length: 00",
    "Content-Length: +0",
    "Content-Length: 3",
    "Transfer-Encoding: identity",
    "Expect: 100-continue",
    "Upgrade: h2c",
    "Cookie: a=b; c=d",
    "User-Agent: curl/8",
    "Accept:",
    "X : y",
    "X: y\r\n folded",
    "X: a\u{b}b",
    "X",
];

const TARGETS: [&str; 22] = [
    "/verify",
    "/verify/",
    "/verify?",
    "/verify?require=VIEW",
    "/verify?require=MANAGE,VIEW&env=sandbox",
    "/verify?require=NOTHING",
    "/verify?require=VIEW?env=x",
    "/verify/nginx",
    "/verify/nginx?require=VIEW",
    "/verify/envoy/transactions?limit=5",
    "/verify/envoy/transactions/%2e%2e/x",
    "/verify/any/thing?at=all",
    "/verify#fragment",
    "/verify?x#fragment",
    "/verify/\"quoted\"",
    "/verify/{braces}",
    "/verify/caf\u{e9}",
    "/verifyx",
    "//verify",
    "/Verify",
    "http://x/verify",
    "*",
];

/// Mostly heads that are plain but for one thing or two.
fn requests() -> impl Strategy<Value = String> {
    let mostly = |first: &'static str, rest: &'static [&'static str]| prop_oneof![9 => Just(first), 1 => select(rest)];
    let methods = mostly("GET", &["POST", "HEAD", "OPTIONS", "ANYTHING", "CONNECT", "get", "G@T"]);
    let versions = mostly("HTTP/1.1", &["HTTP/1.0", "HTTP/2.0", "HTTP/1.2"]);
    let (ends, before) = (mostly("\r\n", &["\n"]), mostly("", &["\r\n", "\n", " "]));
    let targets = prop_oneof![1 => Just("/verify"), 1 => select(&TARGETS[..])];
    let fields = (subsequence(FIELDS.to_vec(), 0..3), any::<bool>(), 0..10).prop_map(|(mut fields, authorized, host)| {
        fields.extend(authorized.then_some("Authorization: AUTH"));
        fields.extend((host > 0).then_some("Host: x"));
        fields
    });
    let parts = (methods, targets, versions, fields.prop_shuffle(), ends, before);
    parts.prop_map(|(method, target, version, fields, end, before)| {
        let fields: String = fields.iter().map(|field| format!("{field}{end}")).collect();
        format!("{before}{method} {target} {version}{end}{fields}{end}")
    })
}

#[test]
fn a_34_the_library_and_the_plain_way_say_the_same() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let server = Server::start_with(data.path(), &["--header-timeout", "1s", "--idle-timeout", "1s", "--body-timeout", "1s"]);
    let mut runner = TestRunner::new_with_rng(Config { cases: 1500, failure_persistence: None, ..Config::default() }, rng());
    let mut plain = 0;
    let several = prop::collection::vec(requests(), 1..4);
    for _ in 0..1500 {
        let requests = several.new_tree(&mut runner).unwrap().current().concat().replace("AUTH", &root.basic());
        let ours = answers(server.api, &format!("{PLAIN}{requests}"));
        let theirs = answers(server.api, &format!("{OTHER}{requests}"));
        assert_eq!(lines(&ours), lines(&theirs), "{requests:?}\n\n{ours}\n{theirs}");
        plain += usize::from(ours.matches("HTTP/1.1 200 ").count() > 0);
    }
    assert!(plain > 300, "most were refused: {plain}");
}

fn rng() -> proptest::test_runner::TestRng {
    proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha)
}

/// However a head is cut into pieces, and with others behind it.
#[test]
fn a_head_in_pieces_is_the_same_head() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let server = Server::start_with(data.path(), &[]);
    let request = format!("GET /verify HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n", root.basic());
    let mut stream = TcpStream::connect(server.api).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for pieces in [1, 2, 3, 7, 20] {
        for piece in request.as_bytes().chunks(request.len().div_ceil(pieces)) {
            stream.write_all(piece).unwrap();
            std::thread::yield_now();
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut some = [0; 512];
            let count = stream.read(&mut some).unwrap();
            assert!(count > 0, "closed");
            answer.extend_from_slice(&some[..count]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{pieces}");
    }
    assert_eq!(answers(server.api, &request.repeat(300)).matches("HTTP/1.1 200 OK\r\n").count(), 300);
}
