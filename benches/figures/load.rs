//! The load generator: raw sockets on one core, each with one request under way, no client library that could become
//! what is measured.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::epoll,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
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

/// A connection that stays open.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 256 * 1024], filled: 0 })
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Outcome<&[u8]> {
        self.stream.write_all(request)?;
        while !self.read()? {}
        Ok(&self.buffer)
    }

    /// Reads once; true when the answer has come whole, and was a success.
    fn read(&mut self) -> Outcome<bool> {
        let count = self.stream.read(&mut self.buffer[self.filled..])?;
        self.filled += count;
        let read = &self.buffer[..self.filled];
        if count == 0 {
            return Err("the server closed a connection".into());
        }
        let Some(head) = read.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
        let head_text = std::str::from_utf8(&read[..head])?;
        let length = |line: &str| line.get(..15)?.eq_ignore_ascii_case("content-length:").then(|| line[15..].trim().parse::<usize>());
        let length = head_text.lines().find_map(length).ok_or("an answer without a length")??;
        if self.filled < head + 4 + length {
            return Ok(false);
        }
        if read.get(9) != Some(&b'2') {
            return Err(format!("not a success: {}", String::from_utf8_lossy(read)).into());
        }
        self.filled = 0;
        Ok(true)
    }
}

/// Rotates `requests` over 64 connections for a while; returns how many were answered.
pub(crate) fn run(address: SocketAddr, requests: &[Vec<u8>], duration: Duration) -> Outcome<u64> {
    on_core(Core::Load, || run_here(address, requests, duration))?
}

fn run_here(address: SocketAddr, requests: &[Vec<u8>], duration: Duration) -> Outcome<u64> {
    let mut connections = (0..CONNECTIONS).map(|_| Connection::open(address)).collect::<io::Result<Vec<_>>>()?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut requests = requests.iter().cycle();
    let mut next = || requests.next().ok_or("there are no requests");
    let end = now() + duration;
    for (at, connection) in connections.iter_mut().enumerate() {
        connection.stream.set_nonblocking(true)?;
        epoll::add(&poll, &connection.stream, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)?;
        // One small request at a time fits every socket's buffer: this never blocks.
        connection.stream.write_all(next()?)?;
    }
    let (mut answered, mut waiting) = (0, CONNECTIONS);
    let mut events = Vec::with_capacity(CONNECTIONS);
    while waiting > 0 {
        epoll::wait(&poll, spare_capacity(&mut events), None)?;
        let go_on = now() < end;
        for event in events.drain(..) {
            let connection = &mut connections[usize::try_from(event.data.u64())?];
            if connection.read()? {
                answered += 1;
                if go_on {
                    connection.stream.write_all(next()?)?;
                } else {
                    waiting -= 1;
                }
            }
        }
    }
    Ok(answered)
}
