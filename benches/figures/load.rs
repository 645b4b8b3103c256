//! The load generator: raw sockets on one core, each with one request under way, no client library that could become
//! what is measured.

use std::{
    error::Error,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::LazyLock,
    time::Duration,
};

use memchr::memmem::{self, Finder};
use rustix::{
    buffer::spare_capacity,
    event::epoll,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::Timespec,
};

use crate::{Outcome, report::now};

/// Connections of every benchmark with many clients.
const CONNECTIONS: usize = 64;

/// The two cores: the load's and the servers'.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Core {
    Load,
    Server,
}

/// Runs `work` with this thread, and what it starts, on one core.
pub(crate) fn on_core<R>(core: Core, work: impl FnOnce() -> R) -> Outcome<R> {
    let all = sched_getaffinity(None)?;
    let mut free = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
    let (Some(load), Some(server)) = (free.next(), free.next()) else { return Err("two processor cores are needed".into()) };
    let mut one = CpuSet::new();
    one.set(match core {
        Core::Load => load,
        Core::Server => server,
    });
    sched_setaffinity(None, &one)?;
    let result = work();
    sched_setaffinity(None, &all)?;
    Ok(result)
}

/// One HTTP/1.1 request.
pub(crate) fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
    headers.iter().for_each(|(name, value)| text.extend([name, ": ", value, "\r\n"]));
    if !body.is_empty() {
        text.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    (text + "\r\n" + body).into_bytes()
}

/// Requests that are sent in turn, and what must come back.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    requests: Vec<Vec<u8>>,
    status: &'static [u8],
    proofs: Vec<Vec<u8>>,
}

impl Load {
    /// Any success will do.
    pub(crate) const fn new(requests: Vec<Vec<u8>>) -> Self {
        Self { requests, status: b"2", proofs: Vec::new() }
    }

    /// The status of every answer.
    pub(crate) const fn answered(mut self, status: &'static [u8]) -> Self {
        self.status = status;
        self
    }

    /// What the answer to each request must contain, looked for in some of them.
    pub(crate) fn proven(mut self, proofs: Vec<Vec<u8>>) -> Self {
        self.proofs = proofs;
        self
    }

    /// The requests alone: for a server that answers each alike.
    pub(crate) fn unproven(&self) -> Self {
        Self::new(self.requests.clone())
    }

    /// One after the other, from the first again after the last.
    pub(crate) fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.requests.iter().map(Vec::as_slice).cycle()
    }

    fn check(&self, at: usize, answer: &[u8]) -> Outcome {
        let proof = self.proofs.get(at).filter(|_| at.is_multiple_of(PROVEN));
        let is_right = status(answer).starts_with(self.status) && proof.is_none_or(|proof| memmem::find(answer, proof).is_some());
        if is_right { Ok(()) } else { Err(unexpected(answer)) }
    }
}

fn status(answer: &[u8]) -> &[u8] {
    answer.get(9..12).unwrap_or_default()
}

/// Whether an answer is a success.
pub(crate) fn is_accepted(answer: &[u8]) -> bool {
    status(answer).starts_with(b"2")
}

fn unexpected(answer: &[u8]) -> Box<dyn Error + Send + Sync> {
    format!("not the answer that it should be: {}", String::from_utf8_lossy(answer)).into()
}

/// Of which of the requests the answer is looked into: the generator must stay cheaper than what it measures.
const PROVEN: usize = 64;

/// What tells where an answer ends, made ready once.
struct Marks {
    /// Of a head.
    end: Finder<'static>,
    /// Nothing follows the head.
    empty: Finder<'static>,
    /// As most servers write it.
    length: Finder<'static>,
}

static MARKS: LazyLock<Marks> = LazyLock::new(|| Marks {
    end: Finder::new(b"\r\n\r\n"),
    empty: Finder::new(b"\r\ncontent-length: 0\r\n"),
    length: Finder::new(b"\r\ncontent-length: "),
});

/// Whether an answer has come whole.
fn is_whole(read: &[u8]) -> Outcome<bool> {
    if read.ends_with(b"\r\n\r\n") && MARKS.empty.find(read).is_some() {
        return Ok(true);
    }
    let Some(end) = MARKS.end.find(read) else { return Ok(false) };
    let head = &read[..end];
    if status(head) == b"204" {
        return Ok(read.len() >= end + 4);
    }
    let length = match MARKS.length.find(head) {
        Some(at) => head[at + 18..].split(|byte| *byte == b'\r').next(),
        None => head.split(|byte| *byte == b'\n').find_map(|line| {
            let (name, value) = line.split_at_checked(15)?;
            name.eq_ignore_ascii_case(b"content-length:").then(|| value.trim_ascii())
        }),
    };
    let length: usize = std::str::from_utf8(length.ok_or("an answer without a length")?)?.parse()?;
    Ok(read.len() >= end + 4 + length)
}

/// A connection that stays open.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    /// Which request is under way.
    asked: usize,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 256 * 1024], filled: 0, asked: 0 })
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Outcome<&[u8]> {
        self.stream.write_all(request)?;
        loop {
            if let Some(length) = self.read()? {
                return Ok(&self.buffer[..length]);
            }
        }
    }

    /// The same with an answer that must be a success.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Outcome<&[u8]> {
        let answer = self.ask(request)?;
        if is_accepted(answer) { Ok(answer) } else { Err(unexpected(answer)) }
    }

    /// Reads once; the length of the answer when it has come whole.
    fn read(&mut self) -> Outcome<Option<usize>> {
        let count = self.stream.read(&mut self.buffer[self.filled..])?;
        if count == 0 {
            return Err("the server closed a connection".into());
        }
        self.filled += count;
        let whole = is_whole(&self.buffer[..self.filled])?.then_some(self.filled);
        if whole.is_some() {
            self.filled = 0;
        }
        Ok(whole)
    }
}

/// Sends a load over 64 connections for a while; returns how many requests were answered.
pub(crate) fn run(address: SocketAddr, load: &Load, duration: Duration) -> Outcome<u64> {
    on_core(Core::Load, || run_here(address, load, duration))?
}

fn run_here(address: SocketAddr, load: &Load, duration: Duration) -> Outcome<u64> {
    let mut connections = (0..CONNECTIONS).map(|_| Connection::open(address)).collect::<io::Result<Vec<_>>>()?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut requests = load.requests.iter().enumerate().cycle();
    let mut ask = |connection: &mut Connection| {
        let (at, request) = requests.next().ok_or("there are no requests")?;
        connection.asked = at;
        // One small request at a time fits every socket's buffer: this never blocks.
        Outcome::Ok(connection.stream.write_all(request)?)
    };
    let end = now() + duration;
    for (at, connection) in connections.iter_mut().enumerate() {
        connection.stream.set_nonblocking(true)?;
        epoll::add(&poll, &connection.stream, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)?;
        ask(connection)?;
    }
    let (mut answered, mut waiting) = (0, CONNECTIONS);
    let mut events = Vec::with_capacity(CONNECTIONS);
    while waiting > 0 {
        // Without ever sleeping: whoever answers somebody asleep pays for waking them, and the slower server more often.
        epoll::wait(&poll, spare_capacity(&mut events), Some(&Timespec::default()))?;
        let go_on = now() < end;
        for event in events.drain(..) {
            let connection = &mut connections[usize::try_from(event.data.u64())?];
            if let Some(length) = connection.read()? {
                load.check(connection.asked, &connection.buffer[..length])?;
                answered += 1;
                if go_on {
                    ask(connection)?;
                } else {
                    waiting -= 1;
                }
            }
        }
    }
    Ok(answered)
}
