//! Hostile bytes over a raw socket, row by row: what each is told, what the next request on its connection is told, and what
//! they take of memory. Rows that need no socket are in `hostile.rs` and `credential.rs`; heads and framing also in `wire.rs`.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::support::{
    GRID, Pair,
    program::{Server, create_platform, exchange, parse, until_closed},
};

/// More than this no row may take: 20 MiB.
const MEMORY: u64 = 20 * 1024;

struct Fixture {
    server: Server,
    root: Pair,
    _data: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let (_, [root, _]) = create_platform(data.path(), "Acme");
        let server = Server::start_with(data.path(), &["--header-timeout", "2s", "--body-timeout", "2s", "--idle-timeout", "2s"]);
        Self { server, root, _data: data }
    }

    fn create(&self, fields: &str, body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head =
            format!("POST {GRID} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n{fields}Content-Length: {length}\r\n\r\n", self.root.basic());
        [head.as_bytes(), body].concat()
    }

    fn json(&self, body: &[u8]) -> Vec<u8> {
        self.create("Content-Type: application/json\r\n", body)
    }

    /// The statuses of all answers; each refusal has the envelope, and none is a 5xx.
    fn statuses(&self, what: &str, bytes: &[u8]) -> Vec<u16> {
        let raw = exchange(self.server.api, bytes);
        let text = String::from_utf8_lossy(&raw).into_owned();
        let status = |answer: &str| {
            let (status, body) = parse(format!("HTTP/1.1 {answer}").as_bytes()).unwrap_or_else(|| panic!("{what}: {text}"));
            assert!(status < 500 && answer.to_lowercase().contains("x-request-id: "), "{what}: {text}");
            assert!(status < 400 || body["status"] == status, "{what}: {text}");
            status
        };
        text.split("HTTP/1.1 ").skip(1).map(status).collect()
    }

    /// One request, and one behind it on the same connection: `then` says whether that is answered.
    fn row(&self, what: &str, request: &[u8], status: u16, then: bool) {
        let last = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let expected = if then { vec![status, 404] } else { vec![status] };
        assert_eq!(self.statuses(what, &[request, last].concat()), expected, "{what}");
    }

    /// The most memory that the server has held since this was asked last, in KiB.
    fn peak(&self) -> u64 {
        let process = format!("/proc/{}", self.server.child.id());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak = line.trim().trim_end_matches(" kB").parse().unwrap();
        fs::write(format!("{process}/clear_refs"), "5").unwrap();
        peak
    }
}

#[test]
fn i_01_h01_to_h36_credentials_that_are_none() {
    let fixture = Fixture::new();
    let ask = |value: &[u8]| [format!("GET {GRID} HTTP/1.1\r\nHost: x\r\nAuthorization: ").as_bytes(), value, b"\r\n\r\n"].concat();
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair)).into_bytes();
    let Pair { client_id, secret, .. } = &fixture.root;
    let good = fixture.root.basic();
    let encoded = &good["Basic ".len()..];
    let with = |digit: &str| format!("Basic {}{digit}{}", &encoded[..8], &encoded[9..]).into_bytes();
    let mut rows: Vec<(&str, Vec<u8>)> = vec![
        ("H16", with("-")),
        ("H16", with("_")),
        ("H19", format!("Basic {}\t{}", &encoded[..8], &encoded[8..]).into_bytes()),
        ("H21", format!("Basic {}", STANDARD.encode(format!("{client_id}:{secret}").repeat(53))).into_bytes()),
        ("H25", [&b"Basic\xc2\xa0"[..], encoded.as_bytes()].concat()),
        ("H25", [&b"Basic\xa0"[..], encoded.as_bytes()].concat()),
    ];
    for name in ["*", "%", "_", "' OR 1=1--", "$1", "../", "{{7*7}}"] {
        rows.push(("H36", basic(&format!("{name}:{secret}"))));
        rows.push(("H36", basic(&format!("{name}{}:{secret}", &client_id[name.len()..]))));
    }
    // Nobody's body is read, but there is none: the connection goes on.
    rows.iter().for_each(|(row, value)| fixture.row(row, &ask(value), 401, true));
    fixture.row("a good one", &ask(good.as_bytes()), 200, true);
    fixture.row("spaces around it", &ask(format!("  {good}\t ").as_bytes()), 200, true);
    fixture.row("H20", &ask(format!("Basic {}", "A".repeat(1024 * 1024)).as_bytes()), 431, false);
}

#[test]
fn i_01_h40_to_h83_bodies_that_were_read_whole_end_no_connection() {
    let fixture = Fixture::new();
    let named = |name: &str| format!("{{\"name\":{},\"permissions\":[\"VIEW\"]}}", serde_json::json!(name)).into_bytes();
    let with = |member: &str| format!("{{\"name\":\"a\",\"permissions\":[\"VIEW\"],\"x\":{member}}}").into_bytes();
    let granting = |permissions: &str| format!("{{\"name\":\"a\",\"permissions\":{permissions}}}").into_bytes();
    for (row, body, status) in [
        ("H47", named(&"é".repeat(255)), 201),
        ("H48", named(&"é".repeat(256)), 400),
        ("H58", named("a\rb"), 400),
        ("H59", named("\u{1b}]8;;http://x\u{7}a"), 400),
        ("H59", named("a\u{9b}2J"), 400),
        ("H60", named("+1"), 201),
        ("H60", named("-1"), 201),
        ("H60", named("@x"), 201),
        ("H66", named(&format!("a{}", "\u{300}".repeat(2000))), 400),
        ("H67", named("+1"), 201),
        ("H70", vec![], 400),
        ("H73", b"{} {}".to_vec(), 400),
        ("H75", [&b"{\"name\":"[..], &b"[".repeat(10_000), &b"]".repeat(10_000), b"}"].concat(), 400),
        ("H76", format!("{{{}}}", (0..5000).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",")).into_bytes(), 400),
        ("H77", with("-0"), 201),
        ("H77", with("9223372036854775808"), 201),
        ("H77", with("1E400"), 400),
        ("H79", b"\xff\xfe{\0}\0".to_vec(), 400),
        ("H80", with("1/**/"), 400),
        ("H80", with("NaN"), 400),
        ("H81", with("{\"unknown\":[]}"), 201),
        ("H82", granting("[]"), 400),
        ("H82", granting("[\"VIEW\",\"VIEW\"]"), 201),
        ("H82", granting("[\"view\"]"), 400),
        ("H82", granting("[\"VIEW \"]"), 400),
        ("H82", granting("[\"ADMIN\"]"), 400),
        ("H82", granting("\"VIEW\""), 400),
        ("H82", granting("[null]"), 400),
        ("H83", b"{\"__proto__\":{\"name\":\"a\"},\"permissions\":[\"VIEW\"]}".to_vec(), 400),
    ] {
        fixture.row(row, &fixture.json(&body), status, true);
    }
    // Too long to be read at all.
    fixture.row("H49", &fixture.json(&named(&"x".repeat(1024 * 1024))), 413, false);
    fixture.row("H82", &fixture.json(&granting(&format!("[{}]", ["\"VIEW\""; 10_000].join(",")))), 413, false);
}

#[test]
fn i_01_h90_to_h108_targets() {
    let fixture = Fixture::new();
    let id = fixture.root.id.trim_start_matches("Token:").to_owned();
    let ask = |target: &[u8]| {
        let rest = format!(" HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n", fixture.root.basic());
        [b"GET ", target, rest.as_bytes()].concat()
    };
    for (row, query, status) in [
        ("H90", "limit=%2B5", 400),
        ("H90", "limit=%205", 400),
        ("H90", "limit=%D9%A5", 400),
        ("H90", "limit=99999999999999999999", 400),
        ("H90", "limit=0x10", 400),
        ("H90", "limit=", 400),
        ("H90", "limit[]=1", 400),
        ("H91", "createdAfter=2025-07-21T17:32:28+02:00", 200),
        ("H91", "createdAfter=2025-07-21T17:32:28", 400),
        ("H91", "createdAfter=2025-07-21T17:32:28%2B25:00", 400),
        ("H91", "createdAfter=2016-12-31T23:59:60Z", 200),
        ("H91", &format!("createdAfter=2025-07-21T17:32:28.{}Z", "1".repeat(40)), 200),
        ("H91", "createdAfter=2026-01-01T00:00:00Z&createdBefore=2025-01-01T00:00:00Z", 200),
        ("H91", "createdAfter=Mon,%2021%20Jul%202025%2017:32:28%20%2B0000", 400),
        ("H91", &format!("createdAfter={}", "(".repeat(5000)), 400),
        ("H92", "name=%u0041", 400),
        ("H92", "name=%2", 400),
        ("H92", &format!("name={}", "a".repeat(8000)), 400),
        ("H94", "limit=1;name=x", 400),
    ] {
        fixture.row(row, &ask(format!("{GRID}?{query}").as_bytes()), status, true);
    }
    for (row, segment, status) in [
        ("H100", "", 404),
        ("H101", "Token:", 404),
        ("H102", &*id, 200),
        ("H103", &id.to_uppercase(), 404),
        ("H104", &format!("{id}%00"), 404),
        ("H105", &"a".repeat(4096), 404),
        ("H106", &format!("Token:{id}/../{id}"), 404),
        ("H107", &format!("Agent:{id}"), 404),
        ("H108", "%D9%A1%D9%A2", 404),
    ] {
        fixture.row(row, &ask(format!("{GRID}/{segment}").as_bytes()), status, true);
    }
    fixture.row("H108", &ask(format!("{GRID}/٠١٢").as_bytes()), 404, true);
    fixture.row("H104", &ask(format!("{GRID}/{id}\0").as_bytes()), 400, false);
}

#[test]
fn i_01_h112_to_h120_framing() {
    let fixture = Fixture::new();
    let auth = format!("Authorization: {}\r\n", fixture.root.basic());
    let body = r#"{"name":"a","permissions":["VIEW"]}"#;
    let post = |fields: &str, body: &str| {
        format!("POST {GRID} HTTP/1.1\r\nHost: x\r\n{auth}Content-Type: application/json\r\n{fields}\r\n\r\n{body}").into_bytes()
    };
    let chunked = |end: &str| format!("{:x}\r\n{body}\r\n0\r\n{end}\r\n", body.len());
    let length = body.len();
    for (row, request, status, then) in [
        ("H112", post(&format!("Content-Length:  {length} "), body), 201, true),
        ("H112", post(&format!("Content-Length: {length},{length}"), body), 400, false),
        ("H112", post(&format!("Content-Length: -{length}"), body), 400, false),
        ("H113", post("Transfer-Encoding:\tchunked", &chunked("")), 201, true),
        ("H113", post("Transfer-Encoding: \u{b}chunked", &chunked("")), 400, false),
        // Trailers are not read: nobody is somebody by one.
        ("H114", post("Transfer-Encoding: chunked", &chunked("Authorization: Basic eDp5\r\nHost: y\r\n")), 201, true),
        ("H116", format!("GET http://x@y/ HTTP/1.1\r\nHost: y\r\n{auth}\r\n").into_bytes(), 404, true),
        ("H118", format!("GET {GRID} HTTP/1.1\r\nHost: x\r\n{auth}X_Y: a\r\nX.Y: b\r\n\r\n").into_bytes(), 200, true),
        ("H118", format!("GET {GRID} HTTP/1.1\r\nHost: x\r\n{auth}{}: a\r\n\r\n", "n".repeat(8192)).into_bytes(), 200, true),
        ("H118", format!("GET {GRID} HTTP/1.1\r\nHost: x\r\n{auth}a:b: c\r\n\r\n").into_bytes(), 200, true),
        ("H118", format!("GET {GRID} HTTP/1.1\r\nHost: x\r\n{auth}a b: c\r\n\r\n").into_bytes(), 400, false),
        ("H120", format!("get {GRID} HTTP/1.1\r\nHost: x\r\n{auth}\r\n").into_bytes(), 405, true),
        ("H120", format!("TRACE {GRID} HTTP/1.1\r\nHost: x\r\n{auth}\r\n").into_bytes(), 405, true),
        ("H120", format!("{} {GRID} HTTP/1.1\r\nHost: x\r\n\r\n", "M".repeat(1024 * 1024)).into_bytes(), 431, false),
    ] {
        fixture.row(row, &request, status, then);
    }
    // Somebody by a trailer alone is nobody.
    let by_trailer = format!("POST {GRID} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunked(&auth));
    assert_eq!(fixture.statuses("H114", by_trailer.as_bytes())[0], 401);
    // A line end without its CR is one to everybody that we know: what matters is that nothing else is read in it.
    let bare = format!("GET {GRID} HTTP/1.1\nHost: x\n{auth}\n");
    assert_eq!(fixture.statuses("H115", format!("{bare}GET /nowhere HTTP/1.1\nHost: x\nConnection: close\n\n").as_bytes()), [200, 404]);
    for (row, bytes) in [
        ("H114", post("Transfer-Encoding: chunked", &format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(1024 * 1024)))),
        ("H115", format!("GET {GRID} HTTP/1.1\r\nHost: x\r\nX: a\r\n folded\r\n\r\n").into_bytes()),
        ("H117", format!("GET {GRID}\r\n\r\n").into_bytes()),
    ] {
        assert_eq!(fixture.statuses(row, &bytes), [400], "{row}");
    }
    let kept = format!("GET {GRID} HTTP/1.0\r\nConnection: keep-alive\r\n{auth}\r\nGET /nowhere HTTP/1.0\r\n\r\n");
    let answers = String::from_utf8(exchange(fixture.server.api, kept.as_bytes())).unwrap();
    assert_eq!((answers.matches("HTTP/1.0 200").count(), answers.matches("HTTP/1.0 404").count()), (1, 1), "{answers}");
    // H119: in one write, by both ways.
    for (target, status) in [("/nowhere", 404), ("/verify", 401)] {
        let all = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(1000);
        fixture.row("H119", all.as_bytes().split_at(all.len() / 1000).0, status, true);
        let last = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(fixture.statuses("H119", format!("{all}{last}").as_bytes()), vec![status; 1001]);
    }
}

/// Large as they are, they are neither read whole nor unpacked.
#[test]
fn i_01_i_05_what_hostile_bytes_take_of_memory() {
    let fixture = Fixture::new();
    let gzip = std::process::Command::new("sh").args(["-c", "head -c 10485760 /dev/zero | gzip -9"]).output().unwrap().stdout;
    assert!((8_000..16_000).contains(&gzip.len()));
    let compressed = |encoding: &str| fixture.create(&format!("Content-Type: application/json\r\nContent-Encoding: {encoding}\r\n"), &gzip);
    let many = format!("{{{}}}", (0..100_000).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",")).into_bytes();
    let deep = [b"[".repeat(32 * 1024), b"]".repeat(32 * 1024)].concat();
    // What fits is the worst that is read: each member a name and a value.
    let fits = format!("{{{}}}", (0..7000).map(|n| format!("\"{n:x}\":0")).collect::<Vec<_>>().join(",")).into_bytes();
    assert!(fits.len() <= 64 * 1024);
    let heads = format!("GET {GRID} HTTP/1.1\r\nHost: x\r\n{}", "X: y\r\n".repeat(200_000)).into_bytes();
    let rows: [(&str, u16, bool, Vec<u8>); 9] = [
        ("H75", 400, true, fixture.json(&deep)),
        ("H76", 413, false, fixture.json(&many)),
        ("H76", 400, true, fixture.json(&fits)),
        ("H49", 413, false, fixture.json(&vec![b'a'; 16 * 1024 * 1024])),
        ("H118", 431, false, heads),
        ("I-05", 415, false, compressed("gzip")),
        ("I-05", 415, false, compressed("br")),
        ("I-05", 415, false, compressed("deflate")),
        ("I-05", 415, false, compressed("zstd")),
    ];
    // Once, for what is there from then on anyway.
    rows.iter().for_each(|(row, status, then, request)| fixture.row(row, request, *status, *then));
    fixture.peak();
    let before = fixture.peak();
    for (row, status, then, request) in &rows {
        for _ in 0..10 {
            fixture.row(row, request, *status, *then);
        }
        let peak = fixture.peak();
        assert!(peak < before + MEMORY, "{row}: {before} KiB became {peak} KiB");
    }
    fixture.row("alive", format!("GET {GRID} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(), 401, true);
}

/// I-07: however a head is cut into pieces, it is as long as it is.
#[test]
fn i_07_a_head_that_is_too_long_is_so_in_pieces() {
    let fixture = Fixture::new();
    for target in [GRID, "/verify"] {
        for (length, status) in [(12 * 1024, 401), (20 * 1024, 431), (60 * 1024, 431)] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
            let fields = (0..20).map(|n| format!("X-{n}: {}\r\n", "a".repeat(length / 20 - 8))).collect::<String>();
            let mut stream = TcpStream::connect(fixture.server.api).unwrap();
            stream.set_nodelay(true).unwrap();
            // Long enough for the server to have read what has come: nothing is answered before the head is whole, or too long.
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let mut answer = Vec::new();
            for piece in format!("{head}{fields}\r\n").as_bytes().chunks(7000) {
                let mut some = [0; 512];
                match stream.write_all(piece).and_then(|()| stream.read(&mut some)) {
                    Ok(count) => answer.extend_from_slice(&some[..count]),
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
            answer.extend(until_closed("a long head", stream));
            assert_eq!(parse(&answer).map(|(status, _)| status), Some(status), "{target} with {length} bytes");
        }
    }
}
