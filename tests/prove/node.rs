//! A server process; a node, which is one that reaches the database through a proxy; and one connection of a client.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    time::{Duration, Instant},
};

use crate::proxy::Proxy;

/// For how long a server may start.
const STARTING: Duration = Duration::from_secs(60);

/// A server, which is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Where operators ask.
    pub(crate) admin: SocketAddr,
    panics: Arc<AtomicU64>,
    /// What it has logged since it listens.
    logged: Arc<Mutex<Vec<String>>>,
}

/// A server whose way to the database can be cut.
pub(crate) struct Node {
    server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) proxy: Proxy,
}

impl Node {
    /// Starts one with this key file, on the database behind the proxy; `seeded` is what a build with defects is told.
    pub(crate) fn start(data: &Path, proxy: Proxy, url: &str, more: &[String], seeded: &[(&str, String)]) -> Self {
        let server = Server::start(data, url, more, seeded).unwrap_or_else(|said| panic!("the server ended: {said}"));
        Self { address: server.address, server, proxy }
    }

    pub(crate) fn signal(&self, signal: &str) {
        self.server.signal(signal);
    }
}

impl Server {
    /// Starts one on a database, or says what it said before it ended.
    pub(crate) fn start(data: &Path, url: &str, more: &[String], seeded: &[(&str, String)]) -> Result<Self, String> {
        let mut command = program(data, url);
        command.envs(seeded.iter().map(|(name, value)| (name, value)));
        Self::start_as(command, data, more)
    }

    /// The same by a command of one's own that runs the program.
    pub(crate) fn start_as(mut command: Command, data: &Path, more: &[String]) -> Result<Self, String> {
        serve(&mut command, data, [0, 0], more);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let (panics, logged, (tell, told)) = (Arc::new(AtomicU64::new(0)), Arc::<Mutex<Vec<String>>>::default(), mpsc::channel());
        let (seen, kept) = (Arc::clone(&panics), Arc::clone(&logged));
        // Its log is read to its end, so that it never waits for us.
        std::thread::spawn(move || {
            for line in lines {
                seen.fetch_add(u64::from(line.contains("panicked")), SeqCst);
                if let Err(mpsc::SendError(line)) = tell.send(line) {
                    kept.lock().unwrap().push(line);
                }
            }
        });
        let (mut said, mut admin) = (String::new(), None);
        loop {
            let Ok(line) = told.recv_timeout(STARTING) else {
                let _ = child.kill();
                let status = child.wait().unwrap();
                return Err(format!("{said}{status}"));
            };
            let address = |start: &str| line.strip_prefix(start).map(|address| address.parse().unwrap());
            admin = admin.or(address("admin on http://"));
            if let Some((address, admin)) = address("listening on http://").zip(admin) {
                return Ok(Self { child, address, admin, panics, logged });
            }
            said += &line;
            said += "\n";
        }
    }

    /// Starts one whose log goes somewhere else, so that it cannot tell where it listens.
    pub(crate) fn start_logging_to(log: Stdio, data: &Path, more: &[String]) -> Self {
        let mut command = program(data, "");
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [address, admin] = free.each_ref().map(|free| free.local_addr().unwrap());
        drop(free);
        serve(&mut command, data, [address.port(), admin.port()], more);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let server = Self { child, address, admin, panics: Arc::default(), logged: Arc::default() };
        let patience = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(patience.elapsed() < STARTING, "the server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// What it has logged since it listens.
    pub(crate) fn logged(&self) -> Vec<String> {
        self.logged.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Ends it as an operator does.
    pub(crate) fn end(mut self) {
        self.signal("-TERM");
        self.child.wait().unwrap();
    }

    /// Waits for its end: its exit code.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// How often its log says that it could not accept a connection.
    pub(crate) fn unaccepted(&self) -> u64 {
        self.logged().iter().filter(|line| line.contains("cannot accept a connection")).count() as u64
    }

    /// How often its log says that it panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.panics.load(SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has a program serve at these ports.
fn serve(command: &mut Command, data: &Path, [api, admin]: [u16; 2], more: &[String]) {
    command.arg("serve").arg("--listen").arg(format!("127.0.0.1:{api}")).arg("--admin-listen").arg(format!("127.0.0.1:{admin}"));
    if !more.iter().any(|said| said.starts_with("--failed-attempts")) {
        command.args(["--failed-attempts-per-source", "0", "--failed-attempts-per-client", "0"]);
    }
    command.args(more).arg("--data").arg(data);
}

/// The program on a database.
pub(crate) fn program(data: &Path, url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.env("COUNTERSIGN_DATABASE", url).current_dir(data);
    command
}

/// A client's connection, made anew when it breaks.
pub(crate) struct Client {
    address: SocketAddr,
    patience: Duration,
    stream: Option<TcpStream>,
}

/// An answer; its head in small letters.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Whether it is a 503 as everybody is told it: in the shape of both dialects, with when to come again.
    pub(crate) fn is_unavailable(&self) -> bool {
        let says = |what: &str| self.body.contains(what);
        self.status == 503
            && self.head.contains("\r\nretry-after: ")
            && says(r#""status":503"#)
            && says(r#""code":"SERVICE_UNAVAILABLE""#)
            && says(r#""message":""#)
    }
}

/// A request that was sent, and whose answer is to be read.
pub(crate) struct Sent(TcpStream);

impl Client {
    pub(crate) fn of(address: SocketAddr, patience: Duration) -> Self {
        Self { address, patience, stream: None }
    }

    /// Sends a request and reads its whole answer: the status, and the body. `None` if there was none.
    pub(crate) fn ask(&mut self, method: &str, path: &str, basic: &str, body: &str) -> Option<(u16, String)> {
        self.ask_wholly(method, path, basic, body).map(|answer| (answer.status, answer.body))
    }

    /// The same with all that was answered.
    pub(crate) fn ask_wholly(&mut self, method: &str, path: &str, basic: &str, body: &str) -> Option<Answer> {
        let mut sent = self.send(method, path, basic, body)?;
        let answer = sent.wholly(self.patience)?;
        if !answer.head.contains("\r\nconnection: close") {
            self.keep(sent);
        }
        Some(answer)
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, basic: &str, body: &str) -> Option<Sent> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect_timeout(&self.address, self.patience).ok()?;
                stream.set_nodelay(true).ok()?;
                stream
            }
        };
        let more =
            if body.is_empty() { String::new() } else { format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()) };
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {basic}\r\n{more}\r\n{body}").ok()?;
        Some(Sent(stream))
    }

    /// Sends the next request on the connection of one that was answered.
    pub(crate) fn keep(&mut self, sent: Sent) {
        self.stream = Some(sent.0);
    }
}

impl Sent {
    /// The status and the body, if they come.
    pub(crate) fn answer(&mut self, patience: Duration) -> Option<(u16, String)> {
        self.wholly(patience).map(|answer| (answer.status, answer.body))
    }

    /// All of it, if it comes.
    fn wholly(&mut self, patience: Duration) -> Option<Answer> {
        self.0.set_read_timeout(Some(patience)).ok()?;
        let (mut answer, mut bytes) = (Vec::new(), [0; 4096]);
        loop {
            let count = self.0.read(&mut bytes).ok().filter(|count| *count > 0)?;
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
}
