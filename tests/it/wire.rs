//! Raw sockets against the real listener: what the HTTP library refuses has the envelope too, and nobody waits forever.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use crate::support::{
    GRID, Pair,
    program::{Server, create_platform, exchange, parse},
};

struct Fixture {
    server: Server,
    root: Pair,
    _data: tempfile::TempDir,
}

impl Fixture {
    fn new(more: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (_, [root, _]) = create_platform(data.path(), "Acme");
        Self { server: Server::start_with(data.path(), more), root, _data: data }
    }

    fn alive(&self) {
        assert_eq!(self.server.get(GRID, &self.root).0, 200);
    }

    /// Every response in what came back: status and head; each has a request id, and no status is a 5xx.
    fn answers(&self, bytes: &[u8]) -> Vec<u16> {
        let raw = exchange(self.server.api, bytes);
        let text = String::from_utf8_lossy(&raw).into_owned();
        let heads: Vec<_> = text.split("HTTP/1.1 ").skip(1).collect();
        for head in &heads {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            assert!(head.to_lowercase().contains("x-request-id: "), "{shown:?} -> {text}");
            assert!(head.contains("cache-control: no-store"), "{shown:?} -> {text}");
            assert!(!head.starts_with('5'), "{shown:?} -> {text}");
            if head.starts_with('4') {
                let (_, body) = parse(format!("HTTP/1.1 {head}").as_bytes()).unwrap();
                assert_eq!(body["status"].to_string(), head[..3], "{shown:?} -> {text}");
            }
        }
        heads.iter().map(|head| head[..3].parse().unwrap()).collect()
    }
}

#[test]
fn i_01_h110_to_h120_framing() {
    let fixture = Fixture::new(&["--header-timeout", "1s", "--body-timeout", "1s", "--idle-timeout", "1s"]);
    let auth = format!("Host: x\r\nAuthorization: {}\r\nContent-Type: application/json\r\n", fixture.root.basic());
    let body = r#"{"name":"a","permissions":["VIEW"]}"#;
    let length = body.len();
    let post = |headers: &str, body: &str| format!("POST {GRID} HTTP/1.1\r\n{auth}{headers}\r\n\r\n{body}").into_bytes();
    let get = |head: &str| format!("{head}\r\nConnection: close\r\n\r\n").into_bytes();
    let smuggled = format!("GET {GRID} HTTP/1.1\r\nHost: x\r\n\r\n");
    let refused: Vec<Vec<u8>> = vec![
        post(&format!("Content-Length: {length}\r\nContent-Length: {}", length + 1), body),
        post(&format!("Content-Length: +{length}"), body),
        post(&format!("Content-Length: {length},{}", length + 1), body),
        post("Content-Length: 0x5", body),
        post("Content-Length: 9223372036854775808", body),
        post("Content-Length: 18446744073709551616", body),
        post("Transfer-Encoding: xchunked", &format!("0\r\n\r\n{smuggled}")),
        post("Transfer-Encoding: chunked, identity", &format!("0\r\n\r\n{smuggled}")),
        post("Transfer-Encoding : chunked", &format!("0\r\n\r\n{smuggled}")),
        post("Transfer-Encoding: chunked", "FFFFFFFFFFFFFFFF0\r\nx"),
        post("Transfer-Encoding: chunked", "-1\r\nx"),
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\n X: folded\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GARBAGE\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS, more or less\r\n\r\n".to_vec(),
        get(&format!("GET {GRID} HTTP/1.1\r\n{}", "X-Y: z\r\n".repeat(200).trim_end())),
        get(&format!("GET {GRID} HTTP/1.1\r\nHost: x\r\nX: {}", "a".repeat(64 * 1024))),
        get(&format!("GET {GRID}?name={} HTTP/1.1\r\nHost: x", "a".repeat(10_000))),
        get(&format!("GET {GRID}?name={} HTTP/1.1\r\nHost: x", "a".repeat(100_000))),
        get(&format!("{} {GRID} HTTP/1.1\r\nHost: x", "M".repeat(100_000))),
    ];
    for bytes in refused {
        let answers = fixture.answers(&bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        assert!(answers.len() == 1 && (400..500).contains(&answers[0]), "{answers:?} for {shown:?}");
        fixture.alive();
    }
    // Framed both ways: one request is executed at the most, and what is behind it is never taken for another.
    let both = post("Content-Length: 5\r\nTransfer-Encoding: chunked", &format!("0\r\n\r\n{smuggled}"));
    assert!(fixture.answers(&both).len() <= 2);
    // Nothing that is not HTTP/1.1 or 1.0 is served.
    let preface = exchange(fixture.server.api, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(!preface.starts_with(b"HTTP/1.1 2"));
    fixture.alive();
}

#[test]
fn requests_behind_each_other_are_each_answered() {
    let fixture = Fixture::new(&[]);
    let one = format!("GET {GRID} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n", fixture.root.basic());
    let last = format!("GET {GRID} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(fixture.answers(format!("{}{last}", one.repeat(50)).as_bytes()), [vec![200; 50], vec![401]].concat());
    // The last of them is not HTTP: those before are answered first.
    assert_eq!(fixture.answers(format!("{one}{one}GARBAGE\r\n\r\n").as_bytes()), [200, 200, 400]);
    // A refusal after which the body was read leaves the connection usable.
    let refused = format!(
        "POST {GRID} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}",
        fixture.root.basic()
    );
    assert_eq!(fixture.answers(format!("{refused}{last}").as_bytes()), [400, 401]);
}

#[test]
fn a_14_who_is_nobody_is_told_before_the_body() {
    let fixture = Fixture::new(&[]);
    let head = format!(
        "POST {GRID} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n"
    );
    let answer = String::from_utf8(exchange(fixture.server.api, head.as_bytes())).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401") && answer.to_lowercase().contains("connection: close"), "{answer}");
    // Who is somebody is asked to go on.
    let body = r#"{"name":"a","permissions":["VIEW"]}"#;
    let head = format!(
        "POST {GRID} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        fixture.root.basic(),
        body.len()
    );
    let mut stream = TcpStream::connect(fixture.server.api).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut buffer = [0; 25];
    stream.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body.as_bytes()).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.starts_with("HTTP/1.1 201"), "{rest}");
}

/// O-01, O-02: each wait for a client ends. What the waits are is set short here; that they end is what is tested.
#[test]
fn o_01_o_02_nobody_waits_forever() {
    let fixture =
        Fixture::new(&["--header-timeout", "300ms", "--body-timeout", "300ms", "--idle-timeout", "300ms", "--write-timeout", "300ms"]);
    let auth = fixture.root.basic();
    let partial_body = format!(
        "POST {GRID} HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{{"
    );
    let whole = format!("GET {GRID} HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\n\r\n");
    for (what, bytes, answers) in [
        ("nothing is sent", String::new(), vec![]),
        ("half a head", "GET / HTTP/1.1\r\nHo".to_owned(), vec![]),
        ("half a body", partial_body, vec![400]),
        ("no second request", whole.clone(), vec![200]),
        ("half a second head", format!("{whole}GET / HTT"), vec![200]),
    ] {
        assert_eq!(fixture.answers(bytes.as_bytes()), answers, "{what}");
    }
    // A byte now and then is no head either.
    let mut stream = TcpStream::connect(fixture.server.api).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (mut sent, mut byte) = (0, [0]);
    loop {
        match stream.write_all(b"G").and_then(|()| stream.read(&mut byte)) {
            Ok(0) => break,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => sent += 1,
            Err(_) => break,
            Ok(_) => panic!("answered"),
        }
        assert!(sent < 200, "a head may take forever");
    }
    fixture.alive();
}

#[test]
fn o_02_who_does_not_read_is_let_go() {
    let fixture = Fixture::new(&["--write-timeout", "300ms"]);
    for _ in 0..40 {
        fixture.server.send("POST", GRID, &fixture.root, &serde_json::json!({ "name": "x".repeat(255), "permissions": ["VIEW"] }));
    }
    let request = format!("GET {GRID}?limit=100 HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n", fixture.root.basic());
    let mut stream = TcpStream::connect(fixture.server.api).unwrap();
    // Asks for far more than any buffer holds, and reads nothing, until the server has had enough.
    stream.set_write_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let refused = (0..20_000).find_map(|_| stream.write_all(request.as_bytes()).err()).expect("it buffered everything");
    assert!(!matches!(refused.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "it is waited for: {refused}");
    fixture.alive();
}

#[test]
fn one_log_line_a_request_with_its_id_and_no_path() {
    let fixture = Fixture::new(&[]);
    let secret = fixture.root.secret.clone();
    let request = format!(
        "GET {GRID}/{secret} HTTP/1.1\r\nHost: x\r\nX-Request-Id: me-1\r\nAuthorization: {}\r\nConnection: close\r\n\r\n",
        fixture.root.basic()
    );
    exchange(fixture.server.api, request.as_bytes());
    fixture.server.signal("-TERM");
    let Fixture { server, root, _data } = fixture;
    let (_, log) = server.wait();
    let lines: Vec<serde_json::Value> =
        log.iter().filter(|line| line.contains("me-1")).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{log:?}");
    assert_eq!((&lines[0]["status"], &lines[0]["route"]), (&404.into(), &format!("{GRID}/{{token_id}}").into()));
    assert_eq!(lines[0]["caller"], root.id);
    assert!(!log.iter().any(|line| line.contains(&secret[11..])));
}

/// Each of many: what a connection waits for changes while nothing is read from it.
#[test]
fn o_02_idle_connections_are_closed_and_make_room() {
    let fixture = Fixture::new(&["--header-timeout", "300ms", "--idle-timeout", "300ms", "--max-connections", "20"]);
    let idle: Vec<_> = (0..20)
        .map(|n| {
            let path = if n % 2 == 0 { GRID } else { "/nowhere" };
            let mut stream = TcpStream::connect(fixture.server.api).unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
            stream
        })
        .collect();
    // There is no room for this one until some of those are gone.
    fixture.alive();
    for mut stream in idle {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an idle connection stays open");
        assert!(answer.starts_with(b"HTTP/1.1 4"));
    }
}

#[test]
fn i_01_h113_h116_heads_that_could_be_read_in_two_ways() {
    let fixture = Fixture::new(&[]);
    let auth = format!("Authorization: {}\r\nContent-Type: application/json\r\n", fixture.root.basic());
    let chunked = "23\r\n{\"name\":\"a\",\"permissions\":[\"VIEW\"]}\r\n0\r\n\r\n";
    for codings in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: ,chunked",
    ] {
        let bytes = format!("POST {GRID} HTTP/1.1\r\nHost: x\r\n{auth}{codings}\r\n\r\n{chunked}");
        assert_eq!(fixture.answers(bytes.as_bytes()), [400], "{codings}");
    }
    let good = format!("POST {GRID} HTTP/1.1\r\nHost: x\r\n{auth}Transfer-Encoding: Chunked\r\nConnection: close\r\n\r\n{chunked}");
    assert_eq!(fixture.answers(good.as_bytes()), [201]);
    for (head, status) in [
        (format!("GET {GRID} HTTP/1.1"), 400),
        (format!("GET {GRID} HTTP/1.1\r\nHost: x\r\nHost: y"), 400),
        (format!("GET {GRID} HTTP/1.1\r\nHost: a b"), 400),
        (format!("GET {GRID} HTTP/1.1\r\nHost: a/b?c"), 400),
        (format!("GET ftp://y{GRID} HTTP/1.1\r\nHost: y"), 400),
        (format!("GET http://y{GRID} HTTP/1.1\r\nHost: y:80"), 200),
    ] {
        assert_eq!(fixture.answers(format!("{head}\r\n{auth}Connection: close\r\n\r\n").as_bytes()), [status], "{head}");
    }
    let old = exchange(fixture.server.api, format!("GET {GRID} HTTP/1.0\r\n{auth}\r\n").as_bytes());
    assert!(old.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&old));
}

#[test]
fn a_body_that_is_too_long_is_refused_before_it_is_sent() {
    let fixture = Fixture::new(&[]);
    for length in ["65537", "1099511627776", "9223372036854775807"] {
        let head = format!(
            "POST {GRID} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n",
            fixture.root.basic()
        );
        let answer = String::from_utf8(exchange(fixture.server.api, head.as_bytes())).unwrap();
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
}

/// A name is in the answer, and may look like an answer itself.
#[test]
fn a_name_forges_no_refusal() {
    let fixture = Fixture::new(&[]);
    for name in ["HTTP/1.1 404 x", "HTTP/1.1 503 content-length: 0", "a\u{2028}HTTP/1.1 400"] {
        let (status, _) = fixture.server.send("POST", GRID, &fixture.root, &serde_json::json!({ "name": name, "permissions": ["VIEW"] }));
        assert_eq!(status, 201);
        for path in ["/blips/tokens", "/blips/tokens?limit=100", GRID] {
            let (status, list) = fixture.server.get(path, &fixture.root);
            assert_eq!(status, 200);
            assert!(list["data"].as_array().unwrap().iter().any(|token| token["name"] == name), "{path}: {list}");
        }
    }
}

/// O-03: silent connections hold no place for long once somebody else wants one.
#[test]
fn o_03_silent_connections_make_room() {
    let fixture = Fixture::new(&["--max-connections", "5", "--header-timeout", "60s"]);
    let silent: Vec<_> = (0..10).map(|_| TcpStream::connect(fixture.server.api).unwrap()).collect();
    // The waits for a head and for a next request are 10 s and 60 s: with those this would take far longer than a test may.
    fixture.alive();
    drop(silent);
}

/// Ends what goes on beside a test, also where that fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// O-03, O-06: refusals hold no place either, however many are asked for, read or not; and who proves something keeps theirs.
#[test]
fn o_03_connections_of_nobody_make_room() {
    let fixture = Fixture::new(&["--max-connections", "5", "--log", "error"]);
    let (over, api) = (AtomicBool::new(false), fixture.server.api);
    let connect = || {
        let stream = TcpStream::connect(api).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        stream
    };
    // Asks again and again, without a pause in which it could be taken for idle, until it is let go; and reads, or never does.
    let flood = |ask: &str, reads: bool| {
        let is_dead = |e: std::io::Error| e.kind() != std::io::ErrorKind::WouldBlock;
        while !over.load(SeqCst) {
            let mut stream = connect();
            let mut gone = || {
                stream.write_all(ask.as_bytes()).is_err_and(is_dead)
                    || reads && stream.read(&mut [0; 4096]).map_or_else(is_dead, |count| count == 0)
            };
            while !over.load(SeqCst) && !gone() {
                std::hint::spin_loop()
            }
        }
    };
    let mut known = connect();
    known.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ask = format!("GET /verify HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n", fixture.root.basic());
    std::thread::scope(|scope| {
        let _over = Over(&over);
        for n in 0..8 {
            let path = if n % 2 == 0 { "/verify" } else { GRID };
            scope.spawn(move || flood(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"), n < 4));
        }
        let stays = scope.spawn(|| {
            let mut answered = 0;
            #[expect(clippy::disallowed_methods, reason = "real connections, real time")]
            let now = std::time::Instant::now;
            let mut last = now();
            while !over.load(SeqCst) {
                let (mut answer, sent) = ([0; 4096], known.write_all(ask.as_bytes()));
                let count = sent.and_then(|()| known.read(&mut answer)).unwrap_or(0);
                if answer[..count].starts_with(b"HTTP/1.1 200 ") {
                    answered += 1;
                } else {
                    // A machine on which we waited for our turn so long let it look idle.
                    assert!(now() - last > Duration::from_millis(600), "{:?}", String::from_utf8_lossy(&answer[..count]));
                    known = connect();
                    known.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                }
                last = now();
            }
            answered
        });
        (0..3).for_each(|_| fixture.alive());
        drop(_over);
        assert!(stays.join().unwrap() > 0);
    });
}

/// The hot path takes nothing that the ordinary way would refuse: another program on the way could read it differently.
#[test]
fn a_34_what_gateways_ask_is_held_to_the_same_framing() {
    let fixture = Fixture::new(&["--header-timeout", "1s", "--body-timeout", "1s", "--idle-timeout", "1s"]);
    let auth = format!("Authorization: {}\r\n", fixture.root.basic());
    let smuggled = format!("GET /verify HTTP/1.1\r\nHost: x\r\n{auth}\r\n");
    let ask = |headers: &str, body: &str| format!("POST /verify/a HTTP/1.1\r\n{auth}{headers}\r\n\r\n{body}").into_bytes();
    for (request, statuses) in [
        (ask("Host: x\r\nConnection: close", ""), vec![200]),
        // A body is not read, and what is left of it is no request.
        (ask(&format!("Host: x\r\nContent-Length: {}", smuggled.len()), &smuggled), vec![200]),
        (ask("Host: x\r\nContent-Length: 10", ""), vec![200]),
        (ask("Host: x\r\nTransfer-Encoding: chunked", &smuggled), vec![200]),
        // Of both, the HTTP library takes the coding and drops the length: one answer, as everywhere (RFC 9112, 6.3).
        (ask("Host: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked", &format!("0\r\n\r\n{smuggled}")), vec![200]),
        (ask("Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4", &format!("0\r\n\r\n{smuggled}")), vec![200]),
        (ask("Host: x\r\nHost: y", ""), vec![400]),
        (ask("Host: a@b", ""), vec![400]),
        (ask("X: y", ""), vec![400]),
        (ask(&format!("Host: x\r\nX: {}", "a".repeat(20_000)), ""), vec![431]),
        (ask(&format!("Host: x\r\n{auth}Connection: close"), ""), vec![401]),
        ([smuggled.as_bytes(), ask("Host: x\r\nHost: y", "").as_slice()].concat(), vec![200, 400]),
    ] {
        assert_eq!(fixture.answers(&request), statuses, "{}", String::from_utf8_lossy(&request[..request.len().min(300)]));
    }
    fixture.alive();
}

/// Half a head that came with a request is timed as a head, not as a pause between requests.
#[test]
fn a_14_half_a_head_behind_a_request_is_a_head() {
    let fixture = Fixture::new(&["--header-timeout", "1s", "--idle-timeout", "60s"]);
    let request = "GET /verify HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut stream = TcpStream::connect(fixture.server.api).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("{request}{}", &request[..20]).as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("closed long before the idle time-out");
    assert!(answer.starts_with(b"HTTP/1.1 401 "));
}

/// Places that are all taken while nobody waits for one are kept: a gateway's connections may fill them exactly.
#[test]
fn o_01_nobody_has_to_go_for_nobody() {
    let fixture = Fixture::new(&["--max-connections", "4", "--idle-timeout", "60s"]);
    let mut streams: Vec<_> = (0..4).map(|_| TcpStream::connect(fixture.server.api).unwrap()).collect();
    let mut ask = |patience| {
        for stream in &mut streams {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(b"GET /verify HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"}") {
                let mut some = [0; 512];
                let count = stream.read(&mut some).unwrap();
                assert!(count > 0, "closed");
                answer.extend_from_slice(&some[..count]);
            }
        }
        // As long as connections are kept where others wait.
        streams[0].set_read_timeout(Some(patience)).unwrap();
        assert!(streams[0].read(&mut [0]).is_err(), "closed");
    };
    ask(Duration::from_millis(1500));
    ask(Duration::from_millis(10));
}
