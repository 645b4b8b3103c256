//! The built program: servers and commands as processes, and requests over real sockets.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::Pair;

/// A server process on free ports; killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Where it is switched on.
    pub(crate) ext_authz: Option<SocketAddr>,
    stderr: Mutex<std::sync::mpsc::Receiver<String>>,
}

impl Server {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    pub(crate) fn start_with(data: &Path, more: &[&str]) -> Self {
        Self::by(program_on(data), data, more)
    }

    /// On a database that is not the tests'.
    pub(crate) fn start_on(url: &str, data: &Path) -> Self {
        Self::by(program_at(url), data, &[])
    }

    fn by(mut command: Command, data: &Path, more: &[&str]) -> Self {
        command.arg("serve").arg("--data").arg(data).args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).args(more);
        Self::of(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub(crate) fn of(mut child: Child) -> Self {
        let (send, stderr) = std::sync::mpsc::channel();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || {
            while let Some(Ok(line)) = lines.next()
                && send.send(line).is_ok()
            {}
        });
        let mut seen = Vec::new();
        let mut announced = |prefix: &str| loop {
            let line = stderr.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("never ready: {seen:?}"));
            if let Some(address) = line.strip_prefix(prefix) {
                break address.parse().unwrap();
            }
            seen.push(line);
        };
        let admin = announced("admin on http://");
        let api = announced("listening on http://");
        let ext_authz = seen.iter().find_map(|line| line.strip_prefix("ext_authz on http://")).map(|address| address.parse().unwrap());
        Self { child, api, admin, ext_authz, stderr: Mutex::new(stderr) }
    }

    /// What it has logged since it was asked last.
    pub(crate) fn logged(&self) -> Vec<String> {
        self.stderr.lock().unwrap().try_iter().collect()
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Waits for its end and returns its exit code and the rest of its log.
    pub(crate) fn wait(mut self) -> (Option<i32>, Vec<String>) {
        let code = self.child.wait().unwrap().code();
        let rest = self.stderr.lock().unwrap().iter().collect();
        (code, rest)
    }

    pub(crate) fn get(&self, path: &str, pair: &Pair) -> (u16, Value) {
        request(self.api, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: {}\r\n\r\n", pair.basic()))
    }

    pub(crate) fn send(&self, method: &str, path: &str, pair: &Pair, body: &Value) -> (u16, Value) {
        send(self.api, method, path, pair, body)
    }

    /// A figure of its metrics.
    pub(crate) fn metric(&self, name: &str) -> String {
        let page = exchange(self.admin, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let page = String::from_utf8(page).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("countersign_{name} ")));
        line.unwrap_or_else(|| panic!("no {name}: {page}")).to_owned()
    }

    pub(crate) fn admin(&self, path: &str) -> (u16, Value) {
        request(self.admin, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }
}

/// Why a server does not start; one that does is ended, and is a mistake.
#[track_caller]
pub(crate) fn refusal(data: &Path, more: &[&str]) -> String {
    let mut command = program_on(data);
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        if line.starts_with("listening on http://") {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("a server started that must not: {said}{line}");
        }
        said += &line;
        said += "\n";
    }
    assert_eq!(child.wait().unwrap().code(), Some(2), "{said}");
    said
}

/// A request to a server that somebody else holds.
pub(crate) fn send(api: SocketAddr, method: &str, path: &str, pair: &Pair, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\nAuthorization: {}", body.len(), pair.basic());
    request(api, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n{body}"))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until it is so. What other processes do takes a while, but none of it a minute.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "real processes, real time")]
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
    }
}

/// The program, working on a data directory.
pub(crate) fn program_on(data: &Path) -> Command {
    let mut command = program();
    command.envs(super::database::url_of(data).map(|url| ("COUNTERSIGN_DATABASE", url)));
    command
}

/// The program, working on a database that is not the tests'.
pub(crate) fn program_at(url: &str) -> Command {
    let mut command = program();
    command.env("COUNTERSIGN_DATABASE", url);
    command
}

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    #[expect(clippy::disallowed_methods, reason = "what the tester has set must not reach the program")]
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COUNTERSIGN_")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command on a data directory.
pub(crate) fn run(data: &Path, arguments: &[&str]) -> Output {
    program_on(data).args(arguments).arg("--data").arg(data).stdin(Stdio::null()).output().unwrap()
}

/// Runs a command that must succeed, and returns its JSON.
pub(crate) fn run_json(data: &Path, arguments: &[&str]) -> Value {
    let output = program_on(data).args(arguments).args(["--output", "json"]).arg("--data").arg(data).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?} printed more than JSON ({e}): {output:?}"))
}

/// A platform made by command: its id, and its root tokens.
pub(crate) fn create_platform(data: &Path, name: &str) -> (String, [Pair; 2]) {
    let json = run_json(data, &["platform", "create", "--name", name]);
    (json["platform"]["id"].as_str().unwrap().to_owned(), [0, 1].map(|n| Pair::of(&json["tokens"][n])))
}

/// Sends bytes and reads the answer until the connection ends: status and JSON body (null if it is none).
pub(crate) fn request(address: SocketAddr, bytes: &str) -> (u16, Value) {
    let answer = exchange(address, bytes.as_bytes());
    parse(&answer).unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&answer)))
}

/// Sends bytes and reads whatever comes until the connection ends or nothing comes for a while.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Reads until the server ends the connection, as it has to.
#[track_caller]
pub(crate) fn until_closed(what: &str, mut stream: TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset), "{what}: it stays open");
    answer
}

pub(crate) fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") { dechunk(body) } else { body.to_owned() };
    Some((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
}

fn dechunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        whole.push_str(rest.get(..size).unwrap_or(rest));
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}
