//! What is measured: this program, serving as it is configured, on a database of its own.

use std::{
    fs::{self, DirBuilder},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{super::settings::AllSettings, load::Root, report::Place};
use crate::{
    authority::{Clock as _, SystemClock},
    config::Config,
};

/// Where the benchmark's own data are, until it ends.
pub(super) struct Scratch {
    directory: PathBuf,
    program: PathBuf,
    /// The settings that it was given, with its own in place of some.
    flags: Vec<String>,
    on: String,
}

impl Scratch {
    /// Beside the data of the configuration, so on the same disk.
    pub(super) fn new(config: &Config, settings: &AllSettings) -> Result<Self, String> {
        let mut name = config.data.as_os_str().to_owned();
        name.push(format!(".bench-{}", std::process::id()));
        let directory = PathBuf::from(name);
        let cannot = |e: std::io::Error| format!("cannot make {}: {e}", directory.display());
        if let Some(above) = directory.parent() {
            fs::create_dir_all(above).map_err(cannot)?;
        }
        // Made, and not found: what is in it at the end is removed.
        DirBuilder::new().mode(0o700).create(&directory).map_err(cannot)?;
        let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
        let mut flags = settings.0.flags.clone();
        let mut own = |name: &str, value: &str| flags.insert(name.to_owned(), value.to_owned());
        own("data", &directory.display().to_string());
        // What others rely on is not touched, nor told of this; and what is measured is not held up on purpose.
        for name in ["key_file", "key_command", "journal", "audit_head", "ext_authz_listen", "otlp"] {
            own(name, "");
        }
        for name in ["failed_attempts_per_source", "failed_attempts_per_client", "max_tokens"] {
            own(name, "0");
        }
        for name in ["listen", "admin_listen"] {
            own(name, "127.0.0.1:0");
        }
        let mut flags: Vec<_> = flags.into_iter().map(|(name, value)| format!("--{}={value}", name.replace('_', "-"))).collect();
        flags.extend(settings.0.file.iter().map(|file| format!("--config={}", file.display())));
        let on = if config.database.is_some() { "PostgreSQL" } else { "SQLite" }.to_owned();
        Ok(Self { directory, program, flags, on })
    }

    fn command(&self, words: &[&str], flags: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).args(flags).env_remove("COUNTERSIGN_KEY").env_remove("COUNTERSIGN_SERVER").stdin(Stdio::null());
        command
    }

    /// A platform, for a database that has none.
    pub(super) fn create_platform(&self) -> Result<Root, String> {
        let of_store = ["--data=", "--database=", "--key-file=", "--key-command=", "--config="];
        let mut flags: Vec<_> = self.flags.iter().filter(|flag| of_store.iter().any(|of| flag.starts_with(of))).cloned().collect();
        // Here, whatever the configuration says of a server elsewhere.
        flags.push("--server=".to_owned());
        let made = self.command(&["platform", "create", "--name", "bench", "--output", "json"], &flags).output();
        let made = made.map_err(|e| format!("cannot run this program: {e}"))?;
        if !made.status.success() {
            let why = String::from_utf8_lossy(&made.stderr);
            let why = why.trim().trim_start_matches("countersign: ");
            return Err(format!("the benchmark needs an empty database of its own (--database): {why}"));
        }
        Root::of(&made.stdout)
    }

    /// A server as it is configured.
    pub(super) fn serve(&self) -> Result<Server, String> {
        Server::start(self.command(&["serve", &format!("--with-parent={}", std::process::id())], &self.flags))
    }

    /// An HTTP server that does nothing.
    pub(super) fn bare(&self) -> Result<Server, String> {
        Server::start(self.command(&["bench", &format!("--bare={}", std::process::id())], &[]))
    }

    /// Where all this was measured.
    pub(super) fn place(&self) -> Place {
        let first = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim_start_matches([' ', '\t', ':']).to_owned()
        };
        Place {
            on: self.on.clone(),
            processor: first("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: first("/proc/sys/kernel/osrelease", ""),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Its servers have ended before: they are dropped first, as whatever is made behind it.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A server that runs until dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// How long it took until it listened.
    pub(super) starting: Duration,
    child: Child,
}

impl Server {
    fn start(mut command: Command) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot start a server: {e}");
        let began = SystemClock.boot();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        let mut log = BufReader::new(child.stderr.take().ok_or("a server without a log")?);
        let (mut line, mut last) = (String::new(), String::new());
        while log.read_line(&mut line).map_err(failed)? > 0 {
            if let Some(address) = line.trim_end().strip_prefix("listening on http://").and_then(|address| address.parse().ok()) {
                let starting = SystemClock.boot().saturating_sub(began);
                // Its log is taken as by whatever collects logs, and kept nowhere: a line for each of millions of requests.
                std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                return Ok(Self { address, starting, child });
            }
            last = std::mem::take(&mut line);
        }
        let _ = child.wait();
        Err(format!("a server did not start: {}", last.trim_end()))
    }

    /// Processor time so far, the kernel's for it too.
    pub(super) fn cpu(&self) -> Result<Duration, String> {
        let odd = || "the kernel does not say what processor time a server took".to_owned();
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).map_err(|_| odd())?;
        // Behind the name, which may hold anything; in hundredths of a second.
        let (_, fields) = stat.rsplit_once(") ").ok_or_else(odd)?;
        let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Its memory, in bytes.
    pub(super) fn memory(&self) -> Result<u64, String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        line.map(|kib| kib * 1024).ok_or_else(|| "the kernel does not say how much memory a server has".to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
        if ended.is_err() || self.child.wait().is_err() {
            let _ = self.child.kill();
        }
    }
}

/// Has this process end when the one that started it does, however that ends. To the kernel that is the thread that started it:
/// here the main one, on which all of the benchmark runs but its clients.
pub(in crate::cli) fn end_with_parent(parent: i32) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    match rustix::process::getppid() {
        Some(now) if now.as_raw_nonzero().get() == parent => Ok(()),
        _ => Err(std::io::Error::other("whoever started it has ended")),
    }
}

/// Is the bare server: hyper, with an empty answer to everything.
pub(super) async fn be_bare(parent: i32) -> std::io::Result<()> {
    end_with_parent(parent)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    super::note(&format!("listening on http://{}", listener.local_addr()?));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let empty = async |_| Ok::<_, std::convert::Infallible>(http::Response::new(Empty::<bytes::Bytes>::new()));
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), hyper::service::service_fn(empty));
            // A client that hangs up is no news.
            let _ = served.await;
        });
    }
}
