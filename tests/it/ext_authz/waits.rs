//! Nobody is waited for longer than is allowed: the built program, over real sockets.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use prost::Message as _;

use super::client::{CHECK, Check, Connection, call, call_in_pieces, framed};
use crate::support::{
    Pair,
    program::{Server, create_platform, exchange, until_closed},
};

/// The built program, listening for Envoy.
struct Program {
    server: Server,
    root: Pair,
    _data: tempfile::TempDir,
}

impl Program {
    fn new(more: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let (_, [root, _]) = create_platform(data.path(), "Acme");
        let server = Server::start_with(data.path(), &[&["--ext-authz-listen", "127.0.0.1:0"], more].concat());
        Self { server, root, _data: data }
    }

    fn address(&self) -> SocketAddr {
        self.server.ext_authz.expect("it is announced")
    }

    fn check(&self) -> Check {
        Check::of("GET", "/x", Some(&self.root)).route(&[("operations", "off")])
    }
}

#[tokio::test]
async fn it_is_off_unless_it_is_switched_on() {
    let data = tempfile::tempdir().unwrap();
    assert_eq!(Server::start(data.path()).ext_authz, None);
    let program = Program::new(&[]);
    assert!(Connection::to(program.address()).await.check(&program.check()).await.passes());
    // Nothing else is answered there, and it is not answered elsewhere.
    let answer = exchange(program.address(), b"GET /verify HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(!answer.windows(5).any(|part| part == b"HTTP/"), "{answer:?}");
    let (status, _) = program.server.send("POST", CHECK, &program.root, &serde_json::Value::Null);
    assert_eq!(status, 404);
}

/// O-01, O-02: each wait for a client ends.
#[tokio::test]
async fn o_01_o_02_nobody_waits_forever() {
    let program =
        Program::new(&["--header-timeout", "300ms", "--body-timeout", "300ms", "--idle-timeout", "300ms", "--write-timeout", "300ms"]);
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    for (what, bytes) in [
        ("nothing is sent", vec![]),
        ("half a preface", PREFACE[..12].to_vec()),
        ("no request", PREFACE.to_vec()),
        ("half a frame", [PREFACE, b"\x00\x00\x20\x01\x04"].concat()),
        ("half a head", [PREFACE, b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x83"].concat()),
    ] {
        let mut stream = TcpStream::connect(program.address()).unwrap();
        stream.write_all(&bytes).unwrap();
        until_closed(what, stream);
    }
    // Half a message.
    let connection = Connection::to(program.address()).await;
    let half = stream::iter([Ok(Bytes::from_static(&[0, 0, 0]))]).chain(stream::pending());
    connection.send(call_in_pieces(half)).await.failed(4);
    // No next request: it is told to go, and what it then asks goes elsewhere.
    assert!(connection.check(&program.check()).await.passes());
    connection.ended().await;
    assert!(Connection::to(program.address()).await.check(&program.check()).await.passes());
}

/// O-02: what is answered and not read is not kept. All other waits are longer than this may take.
#[tokio::test]
async fn o_02_who_does_not_read_is_let_go() {
    let program = Program::new(&["--write-timeout", "300ms", "--header-timeout", "60s"]);
    let connection = Connection::with_window(program.address(), Some(0)).await;
    let answer = connection.begin(call(framed(&program.check().message().encode_to_vec())));
    assert!(answer.await.is_none());
    connection.ended().await;
}

/// Connects until nobody is let in any more. Whoever is has a first frame from the server.
fn last_let_in(address: SocketAddr) -> TcpStream {
    let let_in = || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.read_exact(&mut [0; 9]).ok().map(|()| stream)
    };
    std::iter::from_fn(let_in).take(100_000).last().expect("nobody is let in")
}

#[tokio::test]
async fn the_end_waits_for_what_is_under_way() {
    let program = Program::new(&["--drain-delay", "1s", "--drain-timeout", "15s"]);
    let address = program.address();
    let (connection, idle) = (Connection::to(address).await, Connection::to(address).await);
    assert!(idle.check(&program.check()).await.passes());
    let bytes = framed(&program.check().message().encode_to_vec());
    let (send, receive) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let pieces = stream::unfold(receive, async |mut receive| receive.recv().await.map(|bytes| (Ok(bytes), receive)));
    let calling = connection.begin(call_in_pieces(pieces));
    send.send(Bytes::copy_from_slice(&bytes[..7])).unwrap();
    // What comes behind it is answered: it is under way.
    assert!(connection.check(&program.check()).await.passes());
    program.server.signal("-TERM");
    let last = tokio::task::spawn_blocking(move || last_let_in(address)).await.unwrap();
    idle.ended().await;
    // Of all others it is the newest, and is let go one look later than they: who is under way is looked at twice, and stays.
    tokio::task::spawn_blocking(move || until_closed("who came last", last)).await.unwrap();
    assert!(TcpStream::connect(address).is_err(), "whoever comes is let in");
    send.send(Bytes::copy_from_slice(&bytes[7..])).unwrap();
    drop(send);
    assert!(calling.await.expect("an answer").passes());
    let (code, _) = tokio::task::spawn_blocking(move || program.server.wait()).await.unwrap();
    assert_eq!(code, Some(0));
}

/// Who does not answer when asked whether it is there is gone; who does may stay, and say nothing else.
#[tokio::test]
async fn who_is_gone_is_noticed() {
    let program = Program::new(&["--header-timeout", "1s"]);
    // Silent for longer than the other: were it not for its answers, it would be gone first.
    let stays = Connection::to(program.address()).await;
    assert!(stays.check(&program.check()).await.passes());
    // SETTINGS, and GET / in one frame: answered with 405, and then nothing more is said.
    let gone = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".as_slice(),
        b"\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x01x",
    ]
    .concat();
    let mut stream = TcpStream::connect(program.address()).unwrap();
    stream.write_all(&gone).unwrap();
    let answer = tokio::task::spawn_blocking(move || until_closed("who is gone", stream)).await.unwrap();
    // A HEADERS frame in stream 1, before it ends.
    assert!(answer.windows(6).any(|part| part == b"\x01\x05\x00\x00\x00\x01"), "{answer:?}");
    assert!(stays.check(&program.check()).await.passes());
}
