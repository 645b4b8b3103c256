//! The benchmark of whoever uses it. What it measures is said by no test.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::support::{
    database,
    program::{create_platform, program_on, run, until},
};

#[test]
fn it_measures_on_a_database_of_its_own_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let data = data.as_path();
    create_platform(data, "Acme");
    let before = fs::read_dir(data).unwrap().count();
    let chart = directory.path().join("chart.svg");
    let short = ["--tokens", "1000", "--rounds", "1", "--seconds", "1", "--clients", "4"];
    // On PostgreSQL it is one that is empty.
    let mut command = program_on(&directory.path().join("empty"));
    command.arg("bench").args(short).args(["--output", "json", "--use-sources=false", "--chart"]).arg(&chart).arg("--data").arg(data);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = json["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap().split(':').next().unwrap()).collect();
    assert_eq!(names, ["bare HTTP", "verify", "verify", "list 100 tokens", "create a token", "revoke a token, one client"]);
    for row in rows {
        assert!(row["perSecond"].as_f64().unwrap() > 0.0 && row["p50Micros"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert_eq!((rows[0]["timesBare"].as_f64(), rows[4]["timesBare"].is_null()), (Some(1.0), true));
    let database = if database::postgres().is_some() { "PostgreSQL" } else { "SQLite" };
    assert_eq!((json["tokens"].as_u64(), json["database"].as_str()), (Some(1000), Some(database)));
    let chart = fs::read_to_string(chart).unwrap();
    assert!(chart.starts_with("<svg") && chart.ends_with("</svg>\n") && chart.matches("<rect").count() == rows.len(), "{chart}");
    // What was there is as it was, and nothing else is there.
    assert_eq!((fs::read_dir(data).unwrap().count(), fs::read_dir(directory.path()).unwrap().count()), (before, 2));

    // What others rely on is not made its own.
    if database::postgres().is_some() {
        let output = program_on(data).arg("bench").args(short).arg("--data").arg(data).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains("needs an empty database of its own"), "{said}");
    }
    let refused = run(data, &["bench", "--tokens", "1"]);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
}

/// Nor by a terminal that is gone.
#[test]
fn it_leaves_nothing_where_it_is_ended_either() {
    [Signal::TERM, Signal::HUP].into_iter().for_each(it_leaves_nothing_behind);
}

fn it_leaves_nothing_behind(signal: Signal) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program_on(&directory.path().join("empty"));
    command.args(["bench", "--tokens", "1000", "--seconds", "600", "--data"]).arg(directory.path().join("data"));
    let mut bench = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(bench.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.by_ref().any(|line| line.starts_with("round 1")));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    rustix::process::kill_process(Pid::from_child(&bench), signal).unwrap();
    assert_eq!(bench.wait().unwrap().code(), Some(2));
    assert!(said.last().unwrap().ends_with("its directory is removed"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// Whatever ends it, its servers do not go on.
#[test]
fn its_servers_end_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = program_on(&directory.path().join("empty"));
    command.args(["bench", "--tokens", "1000", "--seconds", "600", "--data"]).arg(directory.path().join("data"));
    let mut bench = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(bench.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.into_iter().any(|line| line.starts_with("round 1")));
    let bare = format!("--bare={}", bench.id());
    let parent = format!("--with-parent={}", bench.id());
    let running = || {
        let all = fs::read_dir("/proc").unwrap().map(|entry| fs::read_to_string(entry.unwrap().path().join("cmdline")).unwrap_or_default());
        all.filter(|line| line.split('\0').any(|word| word == bare || word == parent)).count()
    };
    assert_eq!(running(), 2);
    bench.kill().unwrap();
    bench.wait().unwrap();
    until("its servers have ended", || running() == 0);
}

/// Before anything is measured: nobody waits for a pipe, and nothing is written through somebody else's link.
#[test]
fn a_picture_goes_to_a_file_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    rustix::fs::mkfifoat(rustix::fs::CWD, place("pipe"), rustix::fs::Mode::RWXU).unwrap();
    fs::write(place("victim"), "kept").unwrap();
    std::os::unix::fs::symlink(place("victim"), place("link")).unwrap();
    for odd in ["pipe", "link", "none/chart.svg"] {
        let refused = run(&place("data"), &["bench", "--chart", place(odd).to_str().unwrap()]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains("cannot write") && !said.contains("making"), "{odd}: {said}");
    }
    assert_eq!(fs::read_to_string(place("victim")).unwrap(), "kept");
    assert!(!place("data").exists());
}
