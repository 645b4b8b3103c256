//! What a server's process takes, and what those see of it, while it is pressed, who are nobody's enemy.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::{answered::GRID, node::Server};

/// How long an answer is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How much memory a process has, in MiB.
pub(crate) fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(f64::NAN) / 1024.0
}

/// How many files a process has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// What came back: the status, all of the head in small letters, the body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// The text of a request, with `more` fields and a body if there is one.
pub(crate) fn request(method: &str, path: &str, basic: &str, more: &str, body: &str) -> String {
    let framing =
        if body.is_empty() { String::new() } else { format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\n{more}{framing}\r\n{body}")
}

/// Sends a request and reads its answer; `None` if the connection ends before, or none comes.
pub(crate) fn ask(stream: &mut TcpStream, request: &str) -> Option<Answer> {
    stream.write_all(request.as_bytes()).ok()?;
    let (mut answer, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut bytes).ok().filter(|count| *count > 0)?;
        answer.extend_from_slice(&bytes[..count]);
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
        if answer.len() >= end + 4 + length {
            let status = head.split(' ').nth(1)?.parse().ok()?;
            return Some(Answer { status, head, body: String::from_utf8_lossy(&answer[end + 4..]).into_owned() });
        }
    }
}

/// The same on a connection of its own.
pub(crate) fn ask_once(address: SocketAddr, request: &str) -> Option<Answer> {
    ask(&mut connect(address)?, request)
}

/// Whether the other side has ended a connection that does not block; what came before is read.
pub(crate) fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Creates so many tokens: their ids, and what they send.
pub(crate) fn tokens(address: SocketAddr, root: &str, name: &str, count: usize) -> Vec<(String, String)> {
    let mut stream = connect(address).unwrap();
    let body = serde_json::json!({ "name": name, "permissions": ["VIEW"] }).to_string();
    let made = (0..count).map(|_| {
        let created = ask(&mut stream, &request("POST", GRID, root, "", &body)).unwrap();
        assert_eq!(created.status, 201, "{}", created.body);
        let created: serde_json::Value = serde_json::from_str(&created.body).unwrap();
        (created["id"].as_str().unwrap().to_owned(), crate::answered::basic(&created))
    });
    made.collect()
}

/// How long things took, sorted.
#[derive(Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// What so many of a hundred did not exceed.
    pub(crate) fn within(&self, percent: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * percent / 100).min(last)).copied().unwrap_or_default()
    }
}

/// What those saw who are nobody's enemy.
#[derive(Default)]
pub(crate) struct Seen {
    /// Verifies on a connection that stays, and on new ones.
    pub(crate) verifies: Times,
    pub(crate) ends: Times,
    pub(crate) healths: Times,
    pub(crate) failed: Vec<String>,
}

impl Seen {
    /// In one line.
    pub(crate) fn line(&self) -> String {
        let of = |what: &str, times: &Times| format!("{} {what} (p99 {:.0?})", times.count(), times.within(99));
        format!("{}, {}, {}", of("verifies", &self.verifies), of("ends", &self.ends), of("healthz", &self.healths))
    }
}

/// Presses a server, and looks meanwhile what others get of it: verifies, ends, `/healthz`. All of it must be answered.
pub(crate) fn beside(server: &Server, root: &str, pressure: impl FnOnce()) -> Seen {
    let mut stock = tokens(server.address, root, "beside", 40);
    let (over, failed) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let timed = |pause: u64, one: &mut dyn FnMut() -> Option<Result<(), String>>| {
        let mut times = Vec::new();
        while !over.load(SeqCst) {
            let began = Instant::now();
            match one() {
                Some(Ok(())) => times.push(began.elapsed()),
                Some(Err(what)) => failed.lock().unwrap().push(what),
                None => {}
            }
            std::thread::sleep(Duration::from_millis(pause));
        }
        times
    };
    let expect = |what: &str, status: u16, answer: Option<Answer>| match answer {
        Some(answer) if answer.status == status => Ok(()),
        Some(answer) => Err(format!("{what}: answered {}", answer.status)),
        None => Err(format!("{what}: not answered")),
    };
    let verify = request("GET", "/verify", root, "", "");
    // Connected before, as a gateway is.
    let mut stream = connect(server.address);
    assert!(stream.as_mut().is_some_and(|stream| ask(stream, &verify).is_some()));
    let mut seen = std::thread::scope(|scope| {
        let stays = scope.spawn(|| {
            timed(20, &mut || {
                let kept = stream.as_mut().and_then(|stream| ask(stream, &verify));
                // One that we left idle for too long may be gone, as any client knows.
                let answer = kept.or_else(|| {
                    stream = connect(server.address);
                    ask(stream.as_mut()?, &verify)
                });
                Some(expect("a verify", 200, answer))
            })
        });
        let comes = scope.spawn(|| timed(50, &mut || Some(expect("a newcomer's verify", 200, ask_once(server.address, &verify)))));
        let ends = scope.spawn(|| {
            timed(100, &mut || {
                let (id, basic) = stock.pop()?;
                let mut stream = connect(server.address);
                let mut ask = |method, path: &str, basic: &str| ask(stream.as_mut()?, &request(method, path, basic, "", ""));
                let end = ask("DELETE", &format!("{GRID}/{id}"), root);
                Some(expect("an end", 204, end).and_then(|()| expect("a verify of what ended", 401, ask("GET", "/verify", &basic))))
            })
        });
        let healths = scope.spawn(|| {
            let health = request("GET", "/healthz", "", "Connection: close\r\n", "");
            timed(100, &mut || Some(expect("healthz", 200, ask_once(server.admin, &health))))
        });
        pressure();
        over.store(true, SeqCst);
        let verifies = Times::of([stays.join().unwrap(), comes.join().unwrap()].concat());
        let (ends, healths) = (Times::of(ends.join().unwrap()), Times::of(healths.join().unwrap()));
        Seen { verifies, ends, healths, failed: Vec::new() }
    });
    seen.failed = failed.into_inner().unwrap();
    seen
}
