//! H121: what HTTP/2 lets a client do without asking for anything. Frames by hand, against the built program: no flood stays
//! unanswered for long, takes memory, or keeps anybody else waiting.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use super::client::{CHECK, Check, Connection};
use crate::support::{
    Pair,
    program::{Server, create_platform},
};

/// What no flood may take: 20 MiB.
const MEMORY: u64 = 20 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The preface of a client, and its settings.
fn preface() -> Vec<u8> {
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat()
}

/// A field as HPACK writes one that is in no table.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let text = |text: &[u8]| [&[u8::try_from(text.len()).unwrap()][..], text].concat();
    [vec![0], text(name), text(value)].concat()
}

/// The head of a call, and more fields.
fn head(more: &[u8]) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", CHECK), (":authority", "x"), ("content-type", "application/grpc")];
    let fields = fields.map(|(name, value)| field(name.as_bytes(), value.as_bytes())).concat();
    [&fields, more].concat()
}

/// The frames that came: kind, stream, payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(([a, b, c, kind, _, stream @ ..], rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some((payload, behind)) = rest.split_at_checked(length) else { break };
        all.push((*kind, u32::from_be_bytes(*stream), payload.to_vec()));
        bytes = behind;
    }
    all
}

struct Flooded {
    server: Server,
    root: Pair,
    _data: tempfile::TempDir,
}

impl Flooded {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let (_, [root, _]) = create_platform(data.path(), "Acme");
        Self { server: Server::start_with(data.path(), &["--ext-authz-listen", "127.0.0.1:0"]), root, _data: data }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.ext_authz.unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// What comes back for these bytes, to the end of the connection. They are sent while what comes back is read.
    fn exchange(&self, bytes: Vec<u8>) -> Vec<(u8, u32, Vec<u8>)> {
        let mut stream = self.connect();
        let mut writing = stream.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            // The server may have had enough before all is sent.
            let _ = writing.write_all(&bytes);
            let _ = writing.shutdown(Shutdown::Write);
        });
        let mut answer = Vec::new();
        if let Err(e) = stream.read_to_end(&mut answer) {
            assert_eq!(e.kind(), ErrorKind::ConnectionReset, "it stays open");
        }
        sender.join().unwrap();
        frames(&answer)
    }

    /// What comes back for one call, up to the first frame that decides it; whoever calls stays there.
    fn call(&self, bytes: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let (mut answer, mut some) = (Vec::new(), [0; 4096]);
        loop {
            let count = stream.read(&mut some).unwrap_or(0);
            answer.extend_from_slice(&some[..count]);
            let came = frames(&answer);
            if count == 0 || came.iter().any(|(kind, stream, _)| *kind == GOAWAY || ([HEADERS, RESET].contains(kind) && *stream == 1)) {
                return came;
            }
        }
    }

    /// Somebody else asks, and is answered.
    async fn others_pass(&self) {
        let check = Check::of("GET", "/x", Some(&self.root)).route(&[("operations", "off")]);
        assert!(Connection::to(self.server.ext_authz.unwrap()).await.check(&check).await.passes());
    }

    fn peak(&self) -> u64 {
        let process = format!("/proc/{}", self.server.child.id());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        fs::write(format!("{process}/clear_refs"), "5").unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Each with whether the server has to end the connection by itself, with what reason.
fn floods() -> Vec<(&'static str, Vec<u8>, Option<u32>)> {
    let (head, whole) = (head(&[]), END_STREAM | END_HEADERS);
    let streams = |count: u32| (0..count).map(|n| 2 * n + 1);
    let reset = |stream: u32| [frame(HEADERS, END_HEADERS, stream, &head), frame(RESET, 0, stream, &[0, 0, 0, 8])].concat();
    let first = |flags: u8| frame(HEADERS, flags, 1, &head);
    vec![
        // ENHANCE_YOUR_CALM
        ("rapid reset", streams(20_000).flat_map(reset).collect(), Some(11)),
        ("continuations", [first(END_STREAM), frame(CONTINUATION, 0, 1, &field(b"x", &[b'a'; 100])).repeat(50_000)].concat(), Some(11)),
        ("empty continuations", [first(END_STREAM), frame(CONTINUATION, 0, 1, &[]).repeat(100_000)].concat(), Some(11)),
        ("empty data", [first(END_HEADERS), frame(DATA, 0, 1, &[]).repeat(200_000)].concat(), Some(11)),
        ("settings", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(10_000), None),
        ("pings", frame(PING, 0, 0, &[7; 8]).repeat(100_000), None),
        ("streams", streams(20_000).flat_map(|stream| frame(HEADERS, whole, stream, &head)).collect(), None),
        ("streams that wait", streams(20_000).flat_map(|stream| frame(HEADERS, END_HEADERS, stream, &head)).collect(), None),
        ("a long head", [first(END_STREAM), frame(CONTINUATION, END_HEADERS, 1, &field(b"x", &[b'a'; 100]).repeat(150))].concat(), None),
    ]
}

#[tokio::test]
async fn h121_floods_end_and_take_nothing() {
    let flooded = Flooded::new();
    flooded.others_pass().await;
    flooded.peak();
    let before = flooded.peak();
    for (what, flood, reason) in floods() {
        let came = flooded.exchange([preface(), flood].concat());
        let reasons: Vec<_> = came.iter().filter(|(kind, ..)| *kind == GOAWAY).map(|(.., payload)| payload[4..8].to_vec()).collect();
        if let Some(reason) = reason {
            assert!(reasons.contains(&reason.to_be_bytes().to_vec()), "{what}: {reasons:?}");
        }
        assert!(!passes(&came), "{what}");
        let peak = flooded.peak();
        assert!(peak < before + MEMORY, "{what}: {before} KiB became {peak} KiB");
        flooded.others_pass().await;
    }
}

/// Whoever reads nothing of what is sent back holds little of it, and nobody up.
#[tokio::test]
async fn h121_who_asks_and_never_reads_is_not_waited_for() {
    let flooded = Flooded::new();
    flooded.others_pass().await;
    flooded.peak();
    let before = flooded.peak();
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(4096);
    let deaf: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = flooded.connect();
            stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
            stream.write_all(&preface()).unwrap();
            // Until the server has stopped reading: it has to.
            let sent = (0..2000).take_while(|_| stream.write_all(&pings).is_ok()).count();
            assert!(sent < 2000, "it answers whoever does not read");
            stream
        })
        .collect();
    flooded.others_pass().await;
    let peak = flooded.peak();
    assert!(peak < before + MEMORY, "{before} KiB became {peak} KiB");
    drop(deaf);
}

/// A value of the client's that could be another line, or framing of HTTP/1.1, where there is none.
#[tokio::test]
async fn h121_fields_that_are_none() {
    let flooded = Flooded::new();
    let good = super::client::framed(&[]);
    let call = |more: &[u8]| [frame(HEADERS, END_HEADERS, 1, &head(more)), frame(DATA, END_STREAM, 1, &good)].concat();
    let answered = |came: &[(u8, u32, Vec<u8>)]| came.iter().any(|(kind, stream, _)| *kind == HEADERS && *stream == 1);
    assert!(answered(&flooded.call(&[preface(), call(&field(b"x-plain", b"a"))].concat())));
    for (name, value) in [
        (&b"transfer-encoding"[..], &b"chunked"[..]),
        (b"connection", b"close"),
        (b"x", b"a\r\nauthorization: Basic eDp5"),
        (b"x", b"a\nb"),
        (b"x", b"a\0b"),
        (b"x\r\ny", b"a"),
        (b"X-Upper", b"a"),
        (b"", b"a"),
        (b"te", b"gzip"),
        (b":path", b"/other"),
        (b":unknown", b"a"),
        (b"content-length", b"99"),
        (b"content-length", b"-1"),
    ] {
        let came = flooded.call(&[preface(), call(&field(name, value))].concat());
        assert!(!passes(&came), "{name:?}");
        // The stream is refused, or the connection; a length that is not that of the message breaks it off.
        let refused =
            came.iter().any(|(kind, stream, payload)| (*kind == RESET && *stream == 1) || (*kind == GOAWAY && payload[4..8] != [0; 4]));
        assert!(refused, "{}: {came:?}", name.escape_ascii());
    }
    flooded.others_pass().await;
}

/// Whether anything among it lets somebody pass.
fn passes(came: &[(u8, u32, Vec<u8>)]) -> bool {
    came.iter().any(|(_, _, payload)| payload.windows(15).any(|part| part == b"x-auth-token-id"))
}
