//! Plain requests to `/verify`: answered from a connection's bytes, one after another.
//!
//! The parser is the one that the HTTP library uses. What it finds is plain if there is nothing in it about which two
//! programs could disagree, or that takes more than memory and one write: no body, no coding, no wish about the connection,
//! one ordinary host, a target of ordinary characters. All else is the library's. (A line end without its CR is none of that:
//! both take it for what it is.)

use std::{mem::MaybeUninit, net::SocketAddr};

use http::StatusCode;
use httparse::{Header, ParserConfig, Request, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    super::{
        App, answer,
        connection::Waiting,
        http1::{FIELDS, Patient},
    },
    Decided,
    head::Head,
    over_http::{self, behind_mount},
    told::{self, Fields as _},
};
use crate::{measure::Stopwatch, spans};

/// How long a head and an answer are, mostly.
const ROOM: usize = 2048;
/// A head at the most.
const HEAD_LIMIT: usize = 8 * 1024;
/// In how many pieces a head may come: each is parsed from its beginning again.
const PIECES: usize = 8;

/// Answers requests as long as they are plain; gives back what was read and not answered, `None` where the connection is
/// over.
pub(in crate::http) async fn answer(app: &App, stream: &mut Patient, peer: SocketAddr) -> Option<Vec<u8>> {
    let (mut unread, mut answer, mut pieces) = (Vec::with_capacity(ROOM), Vec::with_capacity(ROOM), 0);
    loop {
        let began = Stopwatch::start();
        let (length, of_somebody) = match answer_at_once(app, &unread, peer, began, &mut answer) {
            Outcome::Answered(length, of_somebody) => (length, of_somebody),
            Outcome::Asking(length) => {
                stream.waiting().set(Waiting::BUSY);
                // In a box, so that a connection that has nothing to wait for stays small.
                (length, Box::pin(answer_asking(app, &unread[..length], peer, began, &mut answer)).await)
            }
            Outcome::Partial if pieces < PIECES && unread.len() < HEAD_LIMIT => {
                pieces += 1;
                unread.reserve(ROOM / 2);
                match stream.read_buf(&mut unread).await {
                    Ok(1..) => continue,
                    Ok(0) | Err(_) => return None,
                }
            }
            Outcome::Partial | Outcome::Other => return Some(unread),
        };
        if of_somebody {
            stream.waiting().know();
        }
        stream.waiting().set(Waiting::IDLE);
        stream.write_all(&answer).await.ok()?;
        answer.clear();
        unread.drain(..length);
        if !unread.is_empty() {
            stream.waiting().read();
        }
        pieces = 0;
    }
}

enum Outcome {
    /// The request, which has so many bytes, is answered; whether it is of somebody who has proven who they are.
    Answered(usize, bool),
    /// The database has to be asked about it.
    Asking(usize),
    /// Bytes are missing.
    Partial,
    /// It is not plain.
    Other,
}

fn answer_at_once(app: &App, bytes: &[u8], peer: SocketAddr, began: Stopwatch, answer: &mut Vec<u8>) -> Outcome {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    match parse(bytes, &mut fields) {
        Parsed::Plain(head, length) if !app.is_ending() && !is_traced(&head) => {
            match over_http::tell_at_once(app, &head, peer, |decided| write(app, &head, decided, began, answer)) {
                Some(of_somebody) => Outcome::Answered(length, of_somebody),
                None => Outcome::Asking(length),
            }
        }
        Parsed::Partial => Outcome::Partial,
        _ => Outcome::Other,
    }
}

/// Whether somebody wants to see what becomes of it. Most gateways that trace say of each request whether it is traced, and of most
/// that it is not: those stay plain.
fn is_traced(head: &Head<'_>) -> bool {
    spans::is_on() && head.all(spans::TRACEPARENT.as_str()).any(|parent| !parent.ends_with(b"-00"))
}

async fn answer_asking(app: &App, bytes: &[u8], peer: SocketAddr, began: Stopwatch, answer: &mut Vec<u8>) -> bool {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let Parsed::Plain(head, _) = parse(bytes, &mut fields) else { return false };
    over_http::tell_asking(app, &head, peer, |decided| write(app, &head, decided, began, answer)).await
}

/// Writes the answer; says whether it is to somebody who has proven who they are.
fn write(app: &App, head: &Head<'_>, decided: &Decided<'_>, began: Stopwatch, answer: &mut Vec<u8>) -> bool {
    // After a defect while another was written, some of that is there.
    answer.clear();
    let (status, body) = match decided {
        Ok(_) => (StatusCode::OK, &[][..]),
        Err(refused) => (refused.status(), &refused.body()[..]),
    };
    answer.extend_from_slice(b"HTTP/1.1 ");
    answer.extend_from_slice(status.as_str().as_bytes());
    answer.push(b' ');
    answer.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    answer.extend_from_slice(b"\r\n");
    told::put(app, decided, answer);
    over_http::put_common(app, head, answer);
    if body.is_empty() {
        answer.put("content-length", b"0");
    } else {
        answer.put("content-length", body.len().to_string().as_bytes());
    }
    answer.extend_from_slice(b"\r\n");
    if head.method != "HEAD" {
        answer.extend_from_slice(body);
    }
    app.metrics.verified(status, began);
    super::is_of_somebody(decided)
}

enum Parsed<'h> {
    /// A head of so many bytes, behind which nothing belongs to it.
    Plain(Head<'h>, usize),
    Partial,
    Other,
}

/// Reads the first head of `bytes`.
fn parse<'h>(bytes: &'h [u8], fields: &'h mut [MaybeUninit<Header<'h>>; FIELDS]) -> Parsed<'h> {
    if bytes.is_empty() {
        return Parsed::Partial;
    }
    let mut request = Request::new(&mut []);
    let length = match ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, fields) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Other,
    };
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version) else { return Parsed::Other };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let head = Head { method, path, query, fields: request.headers };
    if length <= HEAD_LIMIT && behind_mount(path).is_some() && is_plain(&head, target) {
        Parsed::Plain(head, length)
    } else {
        Parsed::Other
    }
}

/// The first head of `bytes` if it is plain, in lines with the names of fields in lower case, and how many bytes it has.
pub(in crate::http) fn first_plain(bytes: &[u8]) -> Option<(String, usize)> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let Parsed::Plain(head, length) = parse(bytes, &mut fields) else { return None };
    let fields = head.fields.iter().map(|field| format!("{}: {:?}\n", field.name.to_ascii_lowercase(), field.value));
    Some((format!("{} {}?{:?}\n{}", head.method, head.path, head.query, fields.collect::<String>()), length))
}

fn is_plain(head: &Head<'_>, target: &str) -> bool {
    let (mut hosts, mut lengths) = (0, 0);
    let of_framing = |field: &Header<'_>| match field.name.len() {
        4 if field.name.eq_ignore_ascii_case("host") => {
            hosts += 1;
            std::str::from_utf8(field.value).is_ok_and(answer::is_plain_host)
        }
        6 => !field.name.eq_ignore_ascii_case("expect"),
        7 => !field.name.eq_ignore_ascii_case("upgrade"),
        10 if field.name.eq_ignore_ascii_case("connection") => field.value.eq_ignore_ascii_case(b"keep-alive"),
        14 if field.name.eq_ignore_ascii_case("content-length") => {
            lengths += 1;
            field.value == b"0" && lengths == 1
        }
        17 => !field.name.eq_ignore_ascii_case("transfer-encoding"),
        _ => true,
    };
    head.fields.iter().all(of_framing) && hosts == 1 && head.method != "CONNECT" && target.bytes().all(|byte| ORDINARY[usize::from(byte)])
}

/// The characters that RFC 3986 has in a path and a query.
const ORDINARY: [bool; 256] = {
    let (mut table, mut at) = ([false; 256], 0);
    while at < 256 {
        table[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    let others = b"-._~!$&'()*+,;=:@/?%";
    at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn is_parsed_plain(head: &str) -> bool {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
        matches!(parse(head.as_bytes(), &mut fields), Parsed::Plain(_, length) if length == head.len())
    }

    #[test]
    fn what_gateways_send_is_plain() {
        for head in [
            "GET /verify HTTP/1.1\r\nHost: countersign:8080\r\nAuthorization: Basic eDp5\r\n\r\n",
            "POST /verify/nginx?require=VIEW HTTP/1.1\r\nhost: x\r\nX-Original-URI: /a?b\r\nCookie: c\r\nX-Request-Id: i\r\n\r\n",
            "PUT /verify/envoy/a/b%20c?d=e HTTP/1.1\r\nHost: x\r\ncontent-length: 0\r\nx-envoy-internal: true\r\n\r\n",
            "GET /verify HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nTE: trailers\r\n\r\n",
        ] {
            assert!(is_parsed_plain(head), "{head}");
        }
    }

    #[test]
    fn a_34_what_two_could_read_differently_is_not() {
        let plain = "GET /verify HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(is_parsed_plain(plain));
        for (from, to) in [
            ("HTTP/1.1", "HTTP/1.0"),
            ("GET", "CONNECT"),
            ("/verify", "/verifyx"),
            ("/verify", "http://x/verify"),
            ("/verify", "/verify#x"),
            ("/verify", "/verify/\u{e9}"),
            ("Host: x", "Host: a@b"),
            ("Host: x", "Host:"),
            ("Host: x", "Host: x\r\nHost: x"),
            ("Host: x", "X: y"),
            ("x\r\n\r\n", "x\r\nContent-Length: 1\r\n\r\n"),
            ("x\r\n\r\n", "x\r\nContent-Length: 00\r\n\r\n"),
            ("x\r\n\r\n", "x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"),
            ("x\r\n\r\n", "x\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("x\r\n\r\n", "x\r\nConnection: close\r\n\r\n"),
            ("x\r\n\r\n", "x\r\nConnection: keep-alive, te\r\n\r\n"),
            ("x\r\n\r\n", "x\r\nUpgrade: websocket\r\n\r\n"),
            ("x\r\n\r\n", "x\r\nExpect: 100-continue\r\n\r\n"),
            ("x\r\n\r\n", "x\r\nX : y\r\n\r\n"),
        ] {
            assert!(!is_parsed_plain(&plain.replacen(from, to, 1)), "{to:?}");
        }
    }
}
