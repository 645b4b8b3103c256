//! A PostgreSQL cluster of one's own: made in a temporary directory from the installed programs, as a user that is not
//! root, and removed with everything in it.

use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// A running cluster.
pub(crate) struct Cluster {
    directory: PathBuf,
    /// Removed with it, if it was made for it.
    _made: Option<TempDir>,
    programs: PathBuf,
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
}

/// The newest installed server's programs.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    let version = |path: &PathBuf| path.parent().and_then(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
    versions.filter(|path| path.join("initdb").exists()).max_by_key(version).unwrap_or_default()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    /// Makes and starts one, with these settings beside its defaults.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let cluster = Self::prepare();
        cluster.initialize();
        cluster.begin(settings);
        cluster
    }

    /// Starts the one in this directory, made there if there is none; the directory stays.
    pub(crate) fn at(directory: &Path, settings: &[&str]) -> Self {
        let cluster = Self { directory: directory.to_owned(), _made: None, programs: programs(), port: free_port() };
        if !directory.join("data").exists() {
            cluster.initialize();
        }
        cluster.begin(settings);
        cluster
    }

    fn initialize(&self) {
        self.run("initdb", &["-D", &self.data(), "-A", "trust", "-U", "countersign", "-E", "UTF8", "--locale=C", "-N"]);
    }

    /// Makes and starts a standby of this one, which follows it.
    pub(crate) fn standby(&self) -> Self {
        let (standby, port) = (Self::prepare(), self.port.to_string());
        let copy = ["-D", &standby.data(), "-R", "-X", "stream", "-c", "fast", "-h", "127.0.0.1", "-p", &port, "-U", "countersign"];
        self.run("pg_basebackup", &copy);
        standby.begin(&[]);
        standby
    }

    fn prepare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Its owner is another user, if we are root.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        Self { directory: directory.path().to_owned(), _made: Some(directory), programs: programs(), port: free_port() }
    }

    fn begin(&self, settings: &[&str]) {
        let (port, sockets) = (self.port, self.path("."));
        let mut options =
            format!("-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={sockets} -c max_connections=300");
        settings.iter().for_each(|setting| options.push_str(&format!(" -c {setting}")));
        self.run("pg_ctl", &["-D", &self.data(), "-o", &options, "-l", &self.log(), "-w", "start"]);
    }

    /// A file beside its data.
    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn data(&self) -> String {
        self.path("data")
    }

    /// Named whenever the server is started: it would keep our own output open.
    fn log(&self) -> String {
        self.path("log")
    }

    /// Runs a program as the user whose the cluster is: one of PostgreSQL's, or another.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) {
        let own = self.programs.join(program);
        let path = if own.exists() { own } else { PathBuf::from(program) };
        let mut command = as_nobody_in_particular(&path);
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The URL of its database, as it is reached at that port: its own, or that of somebody in between.
    pub(crate) fn url_at(&self, port: u16) -> String {
        format!("postgres://countersign@127.0.0.1:{port}/postgres")
    }

    /// A session of `psql`.
    pub(crate) fn psql(&self) -> Command {
        let mut command = Command::new("psql");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "countersign", "-qAtX", "-v", "ON_ERROR_STOP=1", "postgres"]);
        command
    }

    /// Runs a statement and returns what it says; nothing if it fails, as where the server is down.
    pub(crate) fn run_sql(&self, sql: &str) -> Option<String> {
        let output = self.psql().args(["-c", sql]).stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Stops it as a power cut would, and starts it again.
    pub(crate) fn crash_and_restart(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-l", &self.log(), "-w", "restart"]);
    }

    /// Its first process; 0 if that is gone.
    pub(crate) fn pid(&self) -> u32 {
        let postmaster = std::fs::read_to_string(Path::new(&self.data()).join("postmaster.pid")).unwrap_or_default();
        let pid = postmaster.lines().next().and_then(|first| first.parse().ok());
        pid.filter(|pid: &u32| Path::new("/proc").join(pid.to_string()).exists()).unwrap_or_default()
    }

    /// Stops it as a power cut would.
    pub(crate) fn crash(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    /// Makes a standby one that takes changes.
    pub(crate) fn promote(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "promote"]);
    }

    /// Stops all its processes where they are, or lets them go on.
    pub(crate) fn signal(&self, signal: &str) {
        let first = self.pid().to_string();
        if first == "0" {
            return;
        }
        // Its children first: a process that is there cannot be told to have more.
        let children = Command::new("pkill").args([signal, "-P", &first]).status();
        assert!(children.is_ok() && Command::new("kill").args([signal, &first]).status().unwrap().success());
    }
}

/// A command that is not run by root, which PostgreSQL refuses.
fn as_nobody_in_particular(program: &Path) -> Command {
    if rustix::process::getuid().is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command.current_dir("/");
        command
    } else {
        Command::new(program)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.signal("-CONT");
        let path = self.programs.join("pg_ctl");
        let _ = as_nobody_in_particular(&path).args(["-D", &self.data(), "-m", "immediate", "stop"]).output();
    }
}
