//! Clients: connections that stay open, each with one request under way, and no library between them and the bytes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::memmem;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::server::Server;
use crate::authority::{Clock as _, SystemClock};

const GRID: &str = "/grid/2025-10-13/tokens";

/// Who may make and end tokens: what the `Authorization` says.
pub(super) struct Root(String);

/// A token that was made.
pub(super) struct Made {
    id: String,
    client_id: String,
    secret: String,
}

fn text(json: &Value, name: &str) -> Result<String, String> {
    json[name].as_str().map(str::to_owned).ok_or_else(|| format!("an answer without {name}"))
}

fn basic(client_id: &str, secret: &str) -> String {
    STANDARD.encode(format!("{client_id}:{secret}"))
}

impl Root {
    /// Of what `platform create` prints.
    pub(super) fn of(printed: &[u8]) -> Result<Self, String> {
        let json: Value = serde_json::from_slice(printed).map_err(|e| format!("platform create: {e}"))?;
        let root = &json["tokens"][0];
        Ok(Self(basic(&text(root, "clientId")?, &text(root, "clientSecret")?)))
    }
}

impl Made {
    /// Of the answer that made it.
    pub(super) fn of(answer: &[u8]) -> Result<Self, String> {
        let at = memmem::find(answer, b"\r\n\r\n").map_or(0, |end| end + 4);
        let json: Value = serde_json::from_slice(&answer[at..]).map_err(|e| format!("a token: {e}"))?;
        Ok(Self { id: text(&json, "id")?, client_id: text(&json, "clientId")?, secret: text(&json, "clientSecret")? })
    }
}

/// The bytes of a request.
pub(super) struct Request(Vec<u8>);

impl Request {
    fn new(method: &str, target: &str, basic: &str, body: &str) -> Self {
        let of_body = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        let of_body = if body.is_empty() { "" } else { &of_body };
        Self(format!("{method} {target} HTTP/1.1\r\nhost: bench\r\nauthorization: Basic {basic}\r\n{of_body}\r\n{body}").into_bytes())
    }

    pub(super) fn create(root: &Root) -> Self {
        Self::new("POST", GRID, &root.0, r#"{"name":"bench","permissions":["VIEW"]}"#)
    }

    pub(super) fn list(root: &Root) -> Self {
        Self::new("GET", &format!("{GRID}?limit=100"), &root.0, "")
    }

    pub(super) fn verify(token: &Made) -> Self {
        Self::new("GET", "/verify?require=VIEW", &basic(&token.client_id, &token.secret), "")
    }

    /// With the secret of another one, in which there is nothing wrong but that.
    pub(super) fn verify_wrongly(token: &Made, other: &Made) -> Self {
        Self::new("GET", "/verify?require=VIEW", &basic(&token.client_id, &other.secret), "")
    }

    fn revoke(root: &Root, token: &Made) -> Self {
        Self::new("DELETE", &format!("{GRID}/{}", token.id), &root.0, "")
    }
}

/// Requests that are sent in turn, and what must come back.
#[derive(Clone)]
pub(super) struct Load {
    requests: Arc<Vec<Request>>,
    end: End,
    status: &'static [u8],
    keep: usize,
}

#[derive(Clone, Copy)]
enum End {
    After(Duration),
    Count(usize),
}

impl Load {
    /// For so long.
    pub(super) fn timed(requests: Arc<Vec<Request>>, duration: Duration) -> Self {
        Self { requests, end: End::After(duration), status: b"2", keep: 0 }
    }

    /// So many.
    pub(super) fn counted(requests: Arc<Vec<Request>>, count: usize) -> Self {
        Self { requests, end: End::Count(count), status: b"2", keep: 0 }
    }

    /// How the status of every answer begins.
    pub(super) fn answered(mut self, status: &'static [u8]) -> Self {
        self.status = status;
        self
    }

    /// The first answers are kept, so many.
    pub(super) fn keeping(mut self, most: usize) -> Self {
        self.keep = most;
        self
    }
}

/// What came of a load.
#[derive(Default)]
pub(super) struct Measured {
    /// How long each waited.
    pub(super) waited: Vec<Duration>,
    /// From the first to the last.
    pub(super) took: Duration,
    /// The server's processor time.
    pub(super) cpu: Duration,
    /// The answers, where they are kept.
    pub(super) answers: Vec<Vec<u8>>,
}

/// Sends a load by so many clients.
pub(super) async fn run(server: &Server, load: Load, clients: u16) -> Result<Measured, String> {
    let (began, before, sent) = (SystemClock.boot(), server.cpu()?, Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..clients).map(|_| tokio::spawn(client(server.address, load.clone(), Arc::clone(&sent), began))).collect();
    let mut all = Measured::default();
    for client in clients {
        let Measured { waited, answers, .. } = client.await.map_err(|e| e.to_string())??;
        all.waited.extend(waited);
        all.answers.extend(answers);
    }
    all.took = SystemClock.boot().saturating_sub(began);
    all.cpu = server.cpu()?.saturating_sub(before);
    Ok(all)
}

async fn client(address: SocketAddr, load: Load, sent: Arc<AtomicUsize>, began: Duration) -> Result<Measured, String> {
    let mut connection = Connection::open(address).await?;
    let mut measured = Measured::default();
    loop {
        // All clients share one turn, so that no token is asked for twice before all have been.
        let at = sent.fetch_add(1, Ordering::Relaxed);
        let asked = SystemClock.boot();
        let is_over = match load.end {
            End::After(duration) => asked.saturating_sub(began) >= duration,
            End::Count(count) => at >= count,
        };
        if is_over {
            return Ok(measured);
        }
        let answer = connection.ask(&load.requests[at % load.requests.len()]).await?;
        if !answer.get(9..12).unwrap_or_default().starts_with(load.status) {
            return Err(format!("not the answer that it should be: {}", String::from_utf8_lossy(answer)));
        }
        if at < load.keep {
            measured.answers.push(answer.to_vec());
        }
        measured.waited.push(SystemClock.boot().saturating_sub(asked));
    }
}

/// Revokes tokens, one after the other, and asks behind each answer whether the token is still accepted; how many were.
pub(super) async fn revoke(server: &Server, root: &Root, tokens: &[Made]) -> Result<(Measured, usize), String> {
    let mut connection = Connection::open(server.address).await?;
    let (began, before) = (SystemClock.boot(), server.cpu()?);
    let (mut measured, mut accepted) = (Measured::default(), 0);
    for token in tokens {
        let asked = SystemClock.boot();
        let answer = connection.ask(&Request::revoke(root, token)).await?;
        if answer.get(9..12) != Some(b"204") {
            return Err(format!("a revoke was not made: {}", String::from_utf8_lossy(answer)));
        }
        measured.waited.push(SystemClock.boot().saturating_sub(asked));
        accepted += usize::from(connection.ask(&Request::verify(token)).await?.get(9..12) == Some(b"200"));
    }
    measured.took = SystemClock.boot().saturating_sub(began);
    measured.cpu = server.cpu()?.saturating_sub(before);
    Ok((measured, accepted))
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot connect to {address}: {e}");
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 << 10) })
    }

    /// Sends a request and waits for the whole answer.
    async fn ask(&mut self, request: &Request) -> Result<&[u8], String> {
        self.buffer.clear();
        self.stream.write_all(&request.0).await.map_err(|e| e.to_string())?;
        while !is_whole(&self.buffer)? {
            if self.stream.read_buf(&mut self.buffer).await.map_err(|e| e.to_string())? == 0 {
                return Err("the server closed a connection".to_owned());
            }
        }
        Ok(&self.buffer)
    }
}

/// Whether an answer has come whole.
fn is_whole(read: &[u8]) -> Result<bool, String> {
    let Some(end) = memmem::find(read, b"\r\n\r\n") else { return Ok(false) };
    let head = &read[..end];
    if head.get(9..12) == Some(b"204") {
        return Ok(true);
    }
    let length = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(15)?;
        if !name.eq_ignore_ascii_case(b"content-length:") {
            return None;
        }
        std::str::from_utf8(value.trim_ascii()).ok()?.parse::<usize>().ok()
    });
    Ok(read.len() >= end + 4 + length.ok_or("an answer without a length")?)
}
