//! The servers that are compared, each a process of its own on the servers' core.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;

use crate::{
    Outcome,
    load::{self, Core, on_core},
    report::{self, now},
    scratch,
};

/// Users of the peer, and keys of each: 100,000 keys, of which a list shows 100.
const PEER: (&str, &str) = ("1000", "100");

/// A server that runs until dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a server that says "listening on http://…" when it is ready.
    fn start(name: &'static str, command: &mut Command) -> Outcome<Self> {
        let log = scratch("bench-data").join(format!("{}.log", name.replace(' ', "-")));
        fs::create_dir_all(scratch("bench-data"))?;
        let output = File::create(&log)?;
        let command = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut child = on_core(Core::Server, || command.spawn())??;
        let deadline = now() + Duration::from_secs(300);
        let address = loop {
            let text = fs::read_to_string(&log)?;
            let said = text.lines().find_map(|line| line.strip_prefix("listening on http://"));
            if let Some(address) = said.and_then(|address| address.parse().ok()) {
                break address;
            }
            if child.try_wait()?.is_some() || now() > deadline {
                return Err(format!("{name} did not start; see {}", log.display()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        Ok(Self { name, address, child })
    }

    /// Countersign as it is built here, with every default but its ports: logging each request, for one thing.
    pub(crate) fn countersign(data: &Path) -> Outcome<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data"]).arg(data);
        Self::start("countersign", &mut command)
    }

    /// hyper, one thread, an empty 200 to everything.
    pub(crate) fn bare() -> Outcome<Self> {
        Self::start("bare hyper", Command::new(std::env::current_exe()?).arg("--bare"))
    }

    /// better-auth's API keys, installed on first use; with a session cookie of each of its users, by user.
    pub(crate) fn better_auth() -> Outcome<(Self, Vec<(String, String)>)> {
        let directory = scratch("peers").join("better-auth");
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers/better-auth");
        fs::create_dir_all(&directory)?;
        for file in ["package.json", "server.mjs"] {
            fs::copy(source.join(file), directory.join(file))?;
        }
        if !directory.join("node_modules/better-sqlite3/build").exists() {
            report::note("installing the peer");
            let install = Command::new("npm").args(["install", "--no-audit", "--no-fund"]).current_dir(&directory).status()?;
            if !install.success() {
                return Err("npm could not install the peer".into());
            }
        }
        let database = directory.join("peer.db");
        for end in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(directory.join(format!("peer.db{end}")));
        }
        let mut command = Command::new("node");
        let server = Self::start("better-auth", command.arg(directory.join("server.mjs")).arg(&database).args([PEER.0, PEER.1]))?;
        let cookies = fs::read_to_string(directory.join("peer.db.cookies"))?;
        let pair = |line: &str| line.split_once(' ').map(|(user, cookie)| (user.to_owned(), cookie.to_owned()));
        Ok((server, cookies.lines().filter_map(pair).collect()))
    }

    /// Processor time of the process and its children so far, in microseconds.
    fn cpu(&self) -> Outcome<f64> {
        cpu_of_tree(self.child.id())
    }

    /// Sends load for a while; returns the server's processor time per request, in microseconds.
    pub(crate) fn cost(&self, requests: &[Vec<u8>], duration: Duration) -> Outcome<f64> {
        let before = self.cpu()?;
        let answered = load::run(self.address, requests, duration).map_err(|e| format!("{}: {e}", self.name))?;
        Ok((self.cpu()? - before) / answered as f64)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A clean end, so that nothing is left of the write-ahead log.
        if kill_process(Pid::from_child(&self.child), Signal::TERM).is_ok() {
            let _ = self.child.wait();
        }
    }
}

fn cpu_of_tree(pid: u32) -> Outcome<f64> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let stat = fs::read_to_string(process.join("stat"))?;
    // Behind the name, which may hold anything: utime, stime, and those of children that have ended.
    let (_, fields) = stat.rsplit_once(") ").ok_or("/proc has no processor times")?;
    let ticks: f64 = fields.split(' ').skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum();
    let mut total = ticks * 1e6 / rustix::param::clock_ticks_per_second() as f64;
    for task in fs::read_dir(process.join("task"))? {
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            total += cpu_of_tree(child.parse()?)?;
        }
    }
    Ok(total)
}

/// The bare server's own process.
pub(crate) fn be_bare() -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        report::note(&format!("listening on http://{}", listener.local_addr()?));
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let empty = async |_| Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Empty::<bytes::Bytes>::new()));
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), hyper::service::service_fn(empty));
                // A load generator that hangs up is no news.
                let _ = served.await;
            });
        }
    })
}
