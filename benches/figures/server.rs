//! The servers that are compared, each a process of its own on the servers' core.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;

use crate::{
    Outcome,
    load::{self, Core, Load, on_core},
    report::{Series, note, now, take_turns},
    scratch,
};

/// A server that runs until dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// How long it took to be ready.
    pub(crate) starting: Duration,
    child: Child,
}

impl Server {
    /// Starts a server that says "listening on http://…" when it is ready.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Outcome<Self> {
        Self::start_and_find(name, command, |log| {
            let said = log.lines().find_map(|line| line.strip_prefix("listening on http://"));
            said.and_then(|address| address.parse().ok())
        })
    }

    /// Starts a server that says nothing, but listens on the address that it was given.
    pub(crate) fn start_at(name: &'static str, command: &mut Command, address: SocketAddr) -> Outcome<Self> {
        Self::start_and_find(name, command, |_| TcpStream::connect(address).is_ok().then_some(address))
    }

    fn start_and_find(name: &'static str, command: &mut Command, find: impl Fn(&str) -> Option<SocketAddr>) -> Outcome<Self> {
        let log = scratch("bench-data").join(format!("{}.log", name.replace(' ', "-")));
        fs::create_dir_all(scratch("bench-data"))?;
        // A file of each start's own: another server of this name may write to the one before.
        let _ = fs::remove_file(&log);
        let output = File::create(&log)?;
        let command = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let began = now();
        let mut child = on_core(Core::Server, || command.spawn())??;
        let address = loop {
            if let Some(address) = find(&fs::read_to_string(&log)?) {
                break address;
            }
            if child.try_wait()?.is_some() || now() > began + Duration::from_secs(300) {
                let _ = child.kill();
                return Err(format!("{name} did not start; see {}", log.display()).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Ok(Self { name, address, starting: now() - began, child })
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

    /// Processor time of the process and its children so far, in microseconds.
    pub(crate) fn cpu(&self) -> Outcome<f64> {
        cpu_of_tree(self.child.id())
    }

    /// A line of what the kernel says about the process' memory, in bytes.
    pub(crate) fn memory(&self, line: &str) -> Outcome<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
        Ok(value.ok_or("the kernel does not say how much memory a process has")?.parse::<f64>()? * 1024.0)
    }

    /// Sends load for a while.
    pub(crate) fn cost(&self, load: &Load, duration: Duration) -> Outcome<Cost> {
        let (began, before) = (now(), self.cpu()?);
        let answered = load::run(self.address, load, duration).map_err(|e| format!("{}: {e}", self.name))?;
        let (spent, elapsed) = (self.cpu()? - before, now() - began);
        Ok(Cost { micros: spent / answered as f64, busy: spent / (elapsed.as_secs_f64() * 1e6) })
    }
}

/// What a turn took of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Processor time per request, in microseconds.
    pub(crate) micros: f64,
    /// Which share of its core the server used: one that has time to sleep spends more on each request.
    pub(crate) busy: f64,
}

/// A server under a load.
#[derive(Debug)]
pub(crate) struct Contender<'s> {
    pub(crate) name: String,
    pub(crate) server: &'s Server,
    pub(crate) load: Load,
    pub(crate) busy: Series,
}

impl<'s> Contender<'s> {
    pub(crate) fn new(name: impl Into<String>, server: &'s Server, load: Load) -> Self {
        Self { name: name.into(), server, load, busy: Series::default() }
    }
}

/// Warms all of them up and gives each its turns; returns what a request cost each, round by round.
pub(crate) fn compete(rounds: usize, turn: Duration, contenders: &mut [Contender<'_>]) -> Outcome<Vec<Series>> {
    note("warming up");
    for contender in &*contenders {
        contender.server.cost(&contender.load, turn)?;
    }
    take_turns(rounds, contenders, |contender| {
        let cost = contender.server.cost(&contender.load, turn)?;
        contender.busy.0.push(cost.busy);
        Ok(cost.micros)
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        // A clean end, so that nothing is left of the write-ahead log.
        if kill_process(Pid::from_child(&self.child), Signal::TERM).is_ok() {
            let _ = self.child.wait();
        }
    }
}

pub(crate) fn cpu_of_tree(pid: u32) -> Outcome<f64> {
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
        note(&format!("listening on http://{}", listener.local_addr()?));
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
