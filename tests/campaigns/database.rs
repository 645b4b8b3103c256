//! F-01 to F-03, F-07, F-09: PostgreSQL behind a passage is down, silent, slow, coming and going, taking no changes, or refuses who
//! asks; nobody restarts the server.
//!
//! ```text
//! cargo test --release --test campaigns -- database [--seconds N] [--flap N] [--fault NAME]
//! ```

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    time::Duration,
};

use crate::{
    Args,
    answered::{Answered, Database, root},
    broken::{Fault, Patient, Verify},
    cluster::Cluster,
    crash::report,
    node::{Server, program},
    proxy::{Passage, Proxy},
};

const LEASE: Duration = Duration::from_secs(1);
/// How long it is up and down in turn.
const FLAP: Duration = Duration::from_millis(300);
/// Sessions of one server at the most: 8 that read, one that writes, one that follows, and one that loads all tokens.
const SESSIONS: usize = 11;
/// Files that a server may have open more while something is broken than before.
const FILES: usize = 48;
/// Who the server is to the database, by what word, and where it finds it.
const ROLE: &str = "rotating";
const WORD: &str = "first-word-of-the-campaign";
const NAME: &str = "database.campaign";

/// What is so meanwhile, whatever is broken.
#[derive(Default)]
struct Most {
    sessions: usize,
    files: usize,
}

pub(crate) fn run(args: &Args) -> bool {
    let (outside, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seconds = args.number("seconds", 0, 20);
    let lasts = |millis: u64| if seconds == 0 { Duration::from_millis(millis) } else { Duration::from_secs(seconds) };
    let answered = Answered::in_directory(outside.path());
    let cluster = Cluster::start(&[]);
    let ask = |sql: &str| cluster.run_sql(sql).unwrap_or_else(|| panic!("no answer to {sql}"));
    ask(&format!("CREATE ROLE {ROLE} SUPERUSER LOGIN PASSWORD '{WORD}'"));
    let rules = format!("host all {ROLE} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\nlocal all all trust\n");
    std::fs::write(cluster.path("data/pg_hba.conf"), rules).unwrap();
    ask("SELECT pg_reload_conf()");
    let proxy = Proxy::to(cluster.port);
    let names = Names::make(outside.path());
    let host = names.as_ref().map_or("127.0.0.1", |_| NAME);
    let url = format!("postgres://{ROLE}:{WORD}@{host}:{}/postgres?sslmode=disable", proxy.port);
    // A platform is made by the direct way.
    let root = root(data.path(), &cluster.url_at(cluster.port));
    let command = match &names {
        Ok(names) => names.program(data.path(), &url),
        Err(why) => {
            println!("  names are not tried: they cannot be changed for one process here ({why})");
            program(data.path(), &url)
        }
    };
    let mut server = Server::start_as(command, data.path(), &["--lease".to_owned(), format!("{}s", LEASE.as_secs())]).unwrap();
    let mut missed = Vec::new();
    answered.until(server.address, &root, 500, || {});

    let usual = Fault {
        name: "",
        lasts: lasts(1600),
        // A verification that began within the lease.
        verify: Verify::UntilLease(LEASE),
        refuses: true,
        ends: false,
        unready: true,
        slower: 1,
    };
    let end_sessions = || drop(ask(&format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{ROLE}'")));
    let read_only = |is: &str| {
        ask(&format!("ALTER SYSTEM SET default_transaction_read_only = {is}"));
        ask("SELECT pg_reload_conf()");
    };
    let word = |word: &str| {
        ask(&format!("ALTER ROLE {ROLE} PASSWORD '{word}'"));
        end_sessions();
    };
    let flapping = AtomicBool::new(false);
    let flap = lasts(2200).max(Duration::from_secs(args.number("flap", 0, 60)));
    type Do<'d> = Box<dyn Fn() + 'd>;
    let faults: Vec<(Fault<'_>, Do<'_>, Do<'_>, &str)> = vec![
        (Fault { name: "down", ..usual }, Box::new(|| proxy.set(Passage::Cut)), Box::new(|| proxy.set(Passage::Open)), ""),
        (
            Fault { name: "silent", lasts: lasts(2800), ..usual },
            Box::new(|| proxy.set(Passage::Silent)),
            Box::new(|| proxy.set(Passage::Open)),
            "did not answer in time",
        ),
        (
            Fault { name: "slow", lasts: lasts(2800), verify: Verify::Either, ..usual },
            Box::new(|| proxy.set(Passage::Slow)),
            Box::new(|| proxy.set(Passage::Open)),
            "did not answer in time",
        ),
        (
            Fault { name: "flapping", lasts: flap, verify: Verify::Either, unready: false, ..usual },
            Box::new(|| flapping.store(true, SeqCst)),
            Box::new(|| {
                flapping.store(false, SeqCst);
                std::thread::sleep(FLAP);
                proxy.set(Passage::Open);
            }),
            "",
        ),
        (
            Fault { name: "read-only", lasts: lasts(1000), verify: Verify::Either, ..usual },
            Box::new(|| read_only("on")),
            Box::new(|| read_only("off")),
            "read-only",
        ),
        (
            Fault { name: "password", lasts: lasts(1500), ..usual },
            Box::new(|| word("second-word-of-the-campaign")),
            Box::new(|| word(WORD)),
            "password authentication failed",
        ),
        (
            Fault { name: "name", lasts: lasts(1500), ..usual },
            Box::new(|| {
                names.iter().for_each(|names| names.is_known(false));
                end_sessions();
            }),
            Box::new(|| names.iter().for_each(|names| names.is_known(true))),
            "lookup",
        ),
    ];
    for (fault, broken, repair, told) in &faults {
        let chosen = args.word("fault").is_none_or(|word| word == fault.name);
        if !chosen || fault.name == "name" && names.is_err() {
            continue;
        }
        let (files, logged, over) = (open_files(&server), server.logged().len(), AtomicBool::new(false));
        let mut most = Most::default();
        std::thread::scope(|scope| {
            let counting = scope.spawn(|| count(&server, &cluster, &over));
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    if flapping.load(SeqCst) {
                        proxy.set(Passage::Cut);
                        std::thread::sleep(FLAP);
                        proxy.set(Passage::Open);
                    }
                    std::thread::sleep(FLAP);
                }
            });
            let database = Database::Postgres(&cluster);
            let patient = Patient { args, server: &server, answered: &answered, database, root: &root };
            missed.extend(patient.suffers(300, fault, broken, repair));
            if !args.short {
                missed.extend(patient.missed(false).into_iter().map(|missed| format!("{}: {missed}", fault.name)));
            }
            over.store(true, SeqCst);
            most = counting.join().unwrap();
        });
        println!("  {:42} {} sessions and {} more files at the most", "", most.sessions, most.files.saturating_sub(files));
        if most.sessions > SESSIONS || most.files > files + FILES {
            missed.push(format!("{}: {} sessions, {} files where there were {files}", fault.name, most.sessions, most.files));
        }
        let log = server.logged()[logged..].join("\n");
        if !log.contains(told) {
            missed.push(format!("{}: the log does not say \"{told}\"", fault.name));
        }
        if log.contains(WORD) {
            missed.push(format!("{}: the password is in the log", fault.name));
        }
        if !server.runs() || server.panics() > 0 {
            missed.push(format!("{}: it ended, or panicked", fault.name));
            break;
        }
    }
    drop(faults);
    // What is in its memory says nothing about the database. (Of one that is killed each revoke would wait for its lease.)
    server.end();
    let server = Server::start(data.path(), &cluster.url_at(cluster.port), &[], &[]).unwrap();
    missed.extend(answered.missed(&Database::Postgres(&cluster), server.address, &root, true));
    report("postgres", answered.counts(), &missed, 1)
}

/// How many sessions the server has at the most, and open files.
fn count(server: &Server, cluster: &Cluster, over: &AtomicBool) -> Most {
    let mut most = Most::default();
    while !over.load(SeqCst) {
        let sessions = cluster.run_sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'countersign'");
        most.sessions = most.sessions.max(sessions.and_then(|count| count.parse().ok()).unwrap_or_default());
        most.files = most.files.max(open_files(server));
        std::thread::sleep(Duration::from_millis(200));
    }
    most
}

fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).map_or(0, Iterator::count)
}

/// Names of machines, as one process finds them: files of ours in the place of the system's.
struct Names {
    hosts: PathBuf,
    servers: PathBuf,
}

impl Names {
    fn make(directory: &Path) -> Result<Self, String> {
        let names = Self { hosts: directory.join("hosts"), servers: directory.join("resolv.conf") };
        names.is_known(true);
        // Nobody answers there.
        std::fs::write(&names.servers, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
        let found = names.within(Command::new("unshare")).args(["getent", "hosts", NAME]).output().map_err(|e| e.to_string())?;
        if found.status.success() { Ok(names) } else { Err(String::from_utf8_lossy(&found.stderr).trim().to_owned()) }
    }

    fn within(&self, mut command: Command) -> Command {
        let script = "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/resolv.conf && shift 2 && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&self.hosts).arg(&self.servers);
        command
    }

    /// The program among these names.
    fn program(&self, data: &Path, url: &str) -> Command {
        let plain = program(data, url);
        let mut command = Command::new("unshare");
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(data);
        let mut command = self.within(command);
        command.arg(plain.get_program());
        command
    }

    /// Sees to it that the database's name is known, or is not. In place: the file is mounted.
    fn is_known(&self, known: bool) {
        std::fs::write(&self.hosts, if known { format!("127.0.0.1 localhost {NAME}\n") } else { "127.0.0.1 localhost\n".to_owned() })
            .unwrap();
    }
}
