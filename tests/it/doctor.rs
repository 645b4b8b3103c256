//! `countersign doctor`, on installations with something wrong.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{
    database,
    program::{Server, create_platform, program_on},
};

/// What it found of each thing: its state, what it said, and what to do; and its exit code.
struct Diagnosis {
    findings: Vec<[String; 4]>,
    code: Option<i32>,
    told: String,
}

impl Diagnosis {
    fn of(data: &Path, more: &[&str]) -> Self {
        Self::by(program_on(data), data, more)
    }

    fn by(mut command: Command, data: &Path, more: &[&str]) -> Self {
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string());
        command.args(["doctor", "--output", "json", "--data"]).arg(data).args(["--max-connections", "100"]);
        if !more.contains(&"--listen") {
            command.args(["--listen", &free[0]]);
        }
        if !more.contains(&"--admin-listen") {
            command.args(["--admin-listen", &free[1]]);
        }
        let output = command.args(more).stdin(Stdio::null()).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let findings = json["findings"].as_array().unwrap().iter();
        let findings = findings.map(|one| ["what", "state", "found", "then"].map(|name| text(&one[name]))).collect();
        Self { findings, code: output.status.code(), told: String::from_utf8(output.stderr).unwrap() }
    }

    /// What is bad.
    fn bad(&self) -> Vec<&str> {
        self.findings.iter().filter(|[_, state, ..]| state == "bad").map(|[what, ..]| what.as_str()).collect()
    }

    /// What is so in that state, which is to say such words, and what to do.
    #[track_caller]
    fn says(&self, what: &str, state: &str, words: &str, then: &str) {
        let found =
            self.findings.iter().any(|[of, is, found, todo]| of == what && is == state && found.contains(words) && todo.contains(then));
        assert!(found, "{what}, {state}, {words:?}, {then:?}: {:#?}", self.findings);
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_good_installation_is_found_good_with_a_server_and_without() {
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    let heads = data.path().join("heads.jsonl");
    let heads = format!("file:{}", heads.display());
    let alone = Diagnosis::of(data.path(), &["--audit-head", &heads]);
    assert_eq!((alone.bad(), alone.code, alone.told.as_str()), (Vec::<&str>::new(), Some(0), ""), "{:#?}", alone.findings);
    alone.says("nodes", "doubtful", "no server runs", "countersign serve");
    alone.says("key file", "good", "for its owner alone", "");
    let engine = if database::postgres().is_some() { "PostgreSQL" } else { "every page is in its place" };
    alone.says("database", "good", engine, "");

    let server = Server::start_with(data.path(), &["--audit-head", &heads]);
    let (api, admin) = (server.api.to_string(), server.admin.to_string());
    let beside = Diagnosis::of(data.path(), &["--audit-head", &heads, "--listen", &api, "--admin-listen", &admin]);
    assert_eq!((beside.bad(), beside.code), (vec![], Some(0)), "{:#?}", beside.findings);
    beside.says("admin_listen", "good", "and ready", "");
    beside.says("listen", "good", "in use, by the server", "");
    beside.says("nodes", "good", "1, none behind", "");
    // And for people.
    let output =
        program_on(data.path()).args(["doctor", "--data"]).arg(data.path()).args(["--listen", &api, "--admin-listen", &admin]).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(text.contains("good      key file          ") && text.contains("doubtful  audit_head"), "{text}");
    assert!(text.contains("\n                            → name a place"), "{text}");
}

#[test]
fn each_of_many_planted_faults_is_found_and_it_says_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    create_platform(data, "Acme");
    let elsewhere = tempfile::tempdir().unwrap();
    let somebody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_at = taken.local_addr().unwrap().to_string();

    mode(&data.join("keys.json"), 0o644);
    mode(data, 0o777);
    fs::create_dir(data.join("revocations.jsonl")).unwrap();
    let file = elsewhere.path().join("countersign.toml");
    fs::write(&file, format!("audit_head = \"http://me:hunter2@{somebody}/heads; file:/nowhere/at/all; syslog:/nowhere/log\"\n")).unwrap();
    mode(&file, 0o644);
    let found = Diagnosis::of(data, &["--config", file.to_str().unwrap(), "--listen", &taken_at, "--otlp", &format!("http://{somebody}")]);
    assert_eq!(found.code, Some(1));
    assert!(found.told.starts_with("countersign: 9 things are bad"), "{} {:#?}", found.told, found.findings);
    found.says("key file", "bad", "others can read", "chmod 600");
    found.says("data directory", "bad", "others can write", "chmod 700");
    found.says("journal", "bad", "revocations.jsonl", "revives tokens");
    found.says("configuration", "bad", "everybody on the machine can read it", "chmod 640");
    found.says("audit_head", "bad", "/nowhere/at is not there", "make it");
    found.says("audit_head", "bad", "syslog at /nowhere/log", "name another sink");
    found.says("audit_head", "bad", "the collector can't be reached", "name another sink");
    found.says("otlp", "doubtful", "the collector can't be reached", "leave out otlp");
    found.says("listen", "bad", "somebody else is at", "choose another port");
    found.says("database", "bad", "others can read it (mode 644)", "do what is said there");
    assert!(!format!("{:?}", found.findings).contains("hunter2"), "{:?}", found.findings);
    mode(&data.join("keys.json"), 0o600);
    mode(data, 0o700);
    drop(taken);

    // One limit after the other, which a shell sets.
    let limited = |limit: &str| {
        let mut command = Command::new("sh");
        let program = program_on(data);
        command.args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")]).arg(program.get_program());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Diagnosis::by(command, data, &[])
    };
    limited("ulimit -n 64").says("open files", "doubtful", "at most 64 files", "LimitNOFILE=");
}

#[test]
fn what_is_wrong_with_the_data_is_found() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    // Nothing is there yet: nothing is made either.
    let none = Diagnosis::of(data, &[]);
    // A URL is somebody's word that there is one.
    let (code, state) = if database::postgres().is_some() { (1, "bad") } else { (0, "doubtful") };
    assert_eq!(none.code, Some(code), "{:#?}", none.findings);
    none.says("database", state, "", "");
    none.says("key file", "doubtful", "is not there", "first server makes it");
    assert_eq!(fs::read_dir(data).unwrap().count(), 0);

    create_platform(data, "Acme");
    // Written by a machine whose clock was ahead.
    let later = 40_000_000_000_i64;
    database::edit(data, &format!("UPDATE audit SET at = at + {later} WHERE seq = (SELECT max(seq) FROM audit)"));
    Diagnosis::of(data, &[]).says("clock", "bad", "which is still to come", "timedatectl");
    let keys = data.join("keys.json");
    fs::write(&keys, "{}").unwrap();
    mode(&keys, 0o600);
    let broken = Diagnosis::of(data, &[]);
    assert_eq!((broken.code, broken.bad()), (Some(1), vec!["database"]), "{:#?}", broken.findings);
}

/// What never comes to an end, or never begins, is said to be no file.
#[test]
fn nobody_is_waited_for() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    create_platform(data, "Acme");
    for name in ["revocations.jsonl", "ballast", "heads"] {
        let _ = fs::remove_file(data.join(name));
        rustix::fs::mkfifoat(rustix::fs::CWD, data.join(name), rustix::fs::Mode::RWXU).unwrap();
    }
    let heads = format!("file:{}", data.join("heads").display());
    let found = Diagnosis::of(data, &["--audit-head", &heads]);
    found.says("journal", "bad", "revocations.jsonl", "revives tokens");
    found.says("audit_head", "bad", "heads", "let the server's account write it");
    for (arguments, word) in [
        (&["audit", "verify"][..], "it is no plain file"),
        (&["config", "show", "--config", "/dev/zero"], "it has more than 1048576 bytes"),
        (&["audit", "verify", "--heads", "/dev/zero"], "line 1 has more than 1048576 bytes"),
        (&["operations", "load", "/dev/zero"], "it has more than 8388608 bytes"),
    ] {
        let output = program_on(data).env("COUNTERSIGN_AUDIT_HEAD", &heads).args(arguments).arg("--data").arg(data).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(word), "{arguments:?}: {said}");
    }
}
