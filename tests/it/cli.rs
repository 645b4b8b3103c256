//! The built program, as scripts use it.

use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use crate::support::{
    GRID, database,
    program::{Server, create_platform, program, program_on, run, run_json},
};

fn text(output: &Output) -> (String, String, i32) {
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (utf8(&output.stdout), utf8(&output.stderr), output.status.code().unwrap())
}

fn check(data: &std::path::Path, input: &str, more: &[&str]) -> (String, String, i32) {
    let mut command = program_on(data);
    command.arg("check").arg("--data").arg(data).args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    text(&child.wait_with_output().unwrap())
}

#[test]
fn platforms_and_tokens_without_a_server() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let made = run_json(data, &["platform", "create", "--name", "Acme"]);
    let members: Vec<_> = made.as_object().unwrap().keys().collect();
    assert_eq!(members, ["platform", "tokens"]);
    assert_eq!(made["tokens"][0]["permissions"], json!(["VIEW", "TRANSACT", "MANAGE"]));
    assert_eq!((&made["tokens"][0]["environment"], &made["tokens"][1]["environment"]), (&json!("sandbox"), &json!("production")));
    let platform = made["platform"]["id"].as_str().unwrap();

    let arguments =
        ["token", "create", "--platform", platform, "--environment", "production", "--name", "ci", "--permissions", "VIEW,TRANSACT"];
    let token = run_json(data, &arguments);
    assert_eq!((&token["name"], &token["permissions"]), (&json!("ci"), &json!(["VIEW", "TRANSACT"])));
    let (id, pair) =
        (token["id"].as_str().unwrap(), format!("{}:{}", token["clientId"].as_str().unwrap(), token["clientSecret"].as_str().unwrap()));

    let (stdout, stderr, code) = check(data, &format!("{pair}\n"), &[]);
    assert!(stdout.starts_with("verified: ") && stderr.is_empty() && code == 0, "{stdout}{stderr}");
    let (stdout, _, code) = check(data, &pair, &["--output", "json"]);
    let verified: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (&verified["verified"], &verified["token"], &verified["environment"], code),
        (&json!(true), &json!(id), &json!("production"), 0)
    );
    // Another last character, whichever it was: the program's secrets are random.
    let altered = format!("{}{}", &pair[..pair.len() - 1], if pair.ends_with('x') { 'y' } else { 'x' });
    for (input, code) in [("", 1), ("x", 1), (&*pair.replace(':', ";"), 1), (&*altered, 1)] {
        let (stdout, stderr, got) = check(data, input, &[]);
        assert_eq!((stdout.as_str(), stderr.lines().count(), got), ("", 1, code), "{input}");
        assert!(!stderr.contains("iksec_"), "{stderr}");
    }

    let listed = run_json(data, &["token", "list", "--platform", platform]);
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 3);
    assert!(listed.to_string().contains(id) && !listed.to_string().contains("iksec_"));
    assert_eq!(run_json(data, &["token", "show", id])["status"], "ACTIVE");
    assert_eq!(run_json(data, &["token", "revoke", id])["status"], "REVOKED");
    assert_eq!(check(data, &pair, &[]).2, 1);
    assert_eq!(run_json(data, &["token", "list", "--platform", platform])["tokens"].as_array().unwrap().len(), 2);

    assert!(run_json(data, &["platform", "disable", platform])["platform"]["disabledAt"].is_string());
    assert!(run_json(data, &["platform", "enable", platform])["platform"]["disabledAt"].is_null());
    assert_eq!(run_json(data, &["platform", "show", platform])["platform"]["name"], "Acme");
    assert_eq!(run_json(data, &["platform", "list"])["platforms"].as_array().unwrap().len(), 1);
    let audit = run_json(data, &["audit", "list", "--action", "token.revoke"]);
    assert_eq!((audit["entries"].as_array().unwrap().len(), &audit["entries"][0]["token"]), (1, &json!(id)));
    let page = run_json(data, &["audit", "list", "--limit", "2"]);
    let next = page["nextBeforeSeq"].as_u64().unwrap().to_string();
    assert_eq!(run_json(data, &["audit", "list", "--limit", "2", "--before-seq", &next])["entries"].as_array().unwrap().len(), 2);
}

/// Whoever changes something is told where that stands in the audit log, and since when it is true everywhere.
#[test]
fn changes_have_receipts() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (platform, [root, _]) = create_platform(data, "Acme");
    let entry = |action: &str| run_json(data, &["audit", "list", "--action", action])["entries"][0].clone();
    let assert_receipt = |receipt: &Value, action: &str| {
        assert_eq!(receipt["seq"], entry(action)["seq"], "{receipt}");
        assert_eq!((&receipt["boundMillis"], &receipt["unheard"]), (&json!(0), &json!([])), "{receipt}");
        assert!(receipt["effectiveAt"].as_str() >= entry(action)["at"].as_str(), "{receipt}");
    };
    let revoked = run_json(data, &["token", "revoke", &root.id]);
    assert_receipt(&revoked["receipt"], "token.revoke");
    let disabled = run_json(data, &["platform", "disable", &platform]);
    assert_receipt(&disabled["receipt"], "platform.disable");
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/operations/payments.openapi.yaml");
    let dry = run_json(data, &["operations", "load", document, "--dry-run"]);
    assert_eq!((&dry["loaded"], &dry["receipt"]), (&json!(false), &Value::Null));
    assert_receipt(&run_json(data, &["operations", "load", document])["receipt"], "operations.load");
    // What was so already: of an end, the place is still known.
    assert_receipt(&run_json(data, &["token", "revoke", &root.id])["receipt"], "token.revoke");
    assert_eq!(run_json(data, &["platform", "disable", &platform])["receipt"]["seq"], Value::Null);
    let (stdout, _, _) = text(&run(data, &["token", "revoke", &root.id]));
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    assert!(stdout.ends_with(&format!(". Change {} is in force on every server.\n", entry("token.revoke")["seq"])), "{stdout}");
}

#[test]
fn refusals_are_one_line_and_exit_with_one() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (platform, _) = create_platform(data, "Acme");
    let unknown = "Token:019542f5-b3e7-7d02-8000-000000000001";
    for arguments in [
        vec!["platform", "show", "Platform:019542f5-b3e7-7d02-8000-000000000001"],
        vec!["platform", "show", "x\u{1b}[2J"],
        vec!["platform", "create", "--name", "  "],
        vec!["token", "show", unknown],
        vec!["token", "revoke", unknown],
        vec!["token", "revoke", "x"],
        vec!["token", "create", "--platform", &platform, "--environment", "sandbox", "--name", "\u{7}", "--permissions", "VIEW"],
        vec!["token", "list", "--platform", "Platform:019542f5-b3e7-7d02-8000-000000000001"],
        vec!["audit", "list", "--action", "x"],
        vec!["audit", "list", "--limit", "0"],
    ] {
        let (stdout, stderr, code) = text(&run(data, &arguments));
        assert_eq!((stdout.as_str(), stderr.lines().count(), code), ("", 1, 1), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("countersign: ") && !stderr.contains('\u{1b}'), "{stderr}");
    }
}

#[test]
fn what_can_not_run_exits_with_two() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    for arguments in [
        vec!["nonsense"],
        vec!["token", "create"],
        vec!["token", "create", "--platform", "x", "--environment", "test", "--name", "a", "--permissions", "VIEW"],
        vec!["serve", "--listen", "0.0.0.0:0"],
        vec!["serve", "--lease", "0s"],
        vec!["serve", "--key-file", "/"],
        vec!["serve", "--database", "postgres://u:hunter2@x/y"],
        vec!["serve", "--config", "/nonexistent.toml"],
        vec!["platform", "list", "--key-file", "/proc/version"],
    ] {
        let (stdout, stderr, code) = text(&run(data, &arguments));
        assert_eq!((stdout.as_str(), code), ("", 2), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
    let (_, stderr, code) = text(&program().arg("platform").arg("list").arg("--data").arg("/proc/nothing/here").output().unwrap());
    assert_eq!((stderr.lines().count(), code), (1, 2), "{stderr}");
}

#[test]
fn the_configuration_says_where_each_value_came_from() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("countersign.toml");
    std::fs::write(&file, "idle_timeout = '30s'\nlease = '3s'").unwrap();
    let mut command = program();
    command.args(["config", "show", "--output", "json", "--log", "debug", "--config"]).arg(&file).env("COUNTERSIGN_LEASE", "2s");
    let (stdout, _, code) = text(&command.output().unwrap());
    let shown: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(code, 0);
    assert_eq!(shown["lease"], json!({ "value": "2s", "origin": "environment COUNTERSIGN_LEASE" }));
    assert_eq!(shown["log"], json!({ "value": "debug", "origin": "flag --log" }));
    assert_eq!(shown["idle_timeout"], json!({ "value": "30s", "origin": format!("file {}", file.display()) }));
    assert_eq!(shown["listen"], json!({ "value": "127.0.0.1:8420", "origin": "default" }));

    let (_, stderr, code) =
        text(&program().args(["config", "show"]).env("COUNTERSIGN_LISTENN", "x").env("COUNTERSIGN_LOG", "loud").output().unwrap());
    assert!(code == 2 && stderr.contains("listenn") && stderr.contains("log must be"), "{stderr}");
}

#[test]
fn every_command_has_help_and_takes_no_secret() {
    use clap::CommandFactory as _;
    let root = countersign::cli::Cli::command();
    root.clone().debug_assert();
    fn visit(command: &clap::Command, seen: &mut Vec<String>) {
        assert!(command.get_about().is_some(), "{} has no help", command.get_name());
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            assert!(!["secret", "password", "client_secret"].contains(&name), "{name} could be seen by others");
        }
        seen.push(command.get_name().to_owned());
        command.get_subcommands().for_each(|command| visit(command, seen));
    }
    let mut seen = Vec::new();
    visit(&root, &mut seen);
    for command in
        ["quickstart", "serve", "platform", "create", "list", "show", "disable", "enable", "token", "revoke", "check", "audit", "config"]
    {
        assert!(seen.iter().any(|name| name == command), "{command}");
    }
}

/// The lines that quickstart prints, pasted into a shell.
#[test]
fn quickstart_prints_lines_that_work_once() {
    let data = tempfile::tempdir().unwrap();
    let spawn = || {
        let mut command = program_on(data.path());
        command.arg("quickstart").arg("--data").arg(data.path()).args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = spawn();
    let stdout = child.stdout.take().unwrap();
    let server = Server::of(child);
    server.signal("-CONT");
    let mut reader = std::io::BufReader::new(stdout);
    let mut printed = String::new();
    while !printed.contains("The reference") {
        assert!(std::io::BufRead::read_line(&mut reader, &mut printed).unwrap() > 0, "{printed}");
    }
    let script: String = printed.lines().filter(|line| line.starts_with("    ")).map(|line| format!("{}\n", line.trim())).collect();
    let mut shell = std::process::Command::new("bash");
    // The lines don't say where PostgreSQL is: whoever set it in the environment has it there still.
    shell.envs(database::url_of(data.path()).map(|url| ("COUNTERSIGN_DATABASE", url)));
    let output = shell.arg("-euc").arg(&script).output().unwrap();
    let (stdout, stderr, code) = text(&output);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let lines: Vec<_> = stdout.lines().collect();
    assert!(lines[0].contains("clientSecret"), "{stdout}");
    assert!(lines[1].contains("\"totalCount\":2") && lines[2].contains("my first token"), "{stdout}");
    assert!(lines[3].starts_with("verified: ") && lines[4] == "204" && lines[5].contains("\"status\":\"REVOKED\""), "{stdout}");
    assert!(stdout.contains("Their invitation, shown this once"), "{stdout}");
    drop(server);

    // the second time nothing secret is printed, and nothing is made.
    let mut child = spawn();
    let mut stdout = child.stdout.take().unwrap();
    let server = Server::of(child);
    server.signal("-KILL");
    let _ = server.wait();
    let mut again = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut again).unwrap();
    assert!(again.contains("token create") && !again.contains("iksec_"), "{again}");
    assert_eq!(run_json(data.path(), &["platform", "list"])["platforms"].as_array().unwrap().len(), 1);
}

#[test]
fn o_09_a_signal_ends_it_after_what_is_under_way() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    let server = Server::start_with(data.path(), &["--drain-delay", "2s", "--drain-timeout", "5s"]);
    let idle = std::net::TcpStream::connect(server.api).unwrap();
    assert_eq!(server.admin("/readyz").0, 200);
    assert_eq!(server.get(GRID, &root).0, 200);
    server.signal("-TERM");
    // Told to end: not ready at once, and still serving for the delay.
    let mut readiness = server.admin("/readyz").0;
    while readiness == 200 {
        readiness = server.admin("/readyz").0;
    }
    assert_eq!(readiness, 503);
    assert_eq!(server.get(GRID, &root).0, 200);
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log:?}");
    drop(idle);
    let shown = run_json(data.path(), &["token", "show", &root.id]);
    assert!(shown["lastUsedAt"].is_string(), "the last uses were not written: {shown}");
}

#[test]
fn token_show_tells_how_often_a_token_was_used_and_where_from() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, other]) = create_platform(data.path(), "Acme");
    let server = Server::start(data.path());
    (0..3).for_each(|_| assert_eq!(server.get(GRID, &root).0, 200));
    let told = server.admin(&format!("/tokens/{}/uses", root.id)).1;
    server.signal("-TERM");
    assert_eq!(server.wait().0, Some(0));
    let shown = run_json(data.path(), &["token", "show", &root.id]);
    let uses = &shown["uses"];
    assert_eq!((&uses["total24h"], &uses["total365d"]), (&json!(3), &json!(3)));
    let sum = |counts: &Value| counts.as_array().unwrap().iter().map(|count| count["count"].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum(&uses["minutes"]), sum(&uses["days"])), (3, 3), "{uses}");
    assert!(uses["days"][0]["at"].as_str().is_some_and(|at| at.len() == 10), "{uses}");
    // The running server told the same, and as much of it at the top.
    for member in ["total24h", "total365d", "minutes", "days"] {
        assert_eq!(told[member], uses[member], "{told}");
    }
    assert_eq!((&told["id"], &told["lastUsedAt"]), (&shown["id"], &shown["lastUsedAt"]));

    let (stdout, _, _) = text(&run(data.path(), &["token", "show", &root.id]));
    for line in ["last hour    3 uses", "last 24 h    3 uses", "last 30 d    3 uses", "last 365 d   3 uses"] {
        assert!(stdout.lines().any(|shown| shown == line), "{stdout}");
    }
    let source = &shown["sources"][0];
    let [address, first, last] = ["address", "firstAt", "lastAt"].map(|member| source[member].as_str().unwrap());
    assert_eq!(stdout.lines().last(), Some(&*format!("used from    {address}, first {first}, last {last}")));
    assert_eq!((address, shown["sources"].as_array().unwrap().len()), ("127.0.0.1", 1));
    let shown = run_json(data.path(), &["token", "show", &other.id]);
    assert_eq!(shown["sources"], json!([]));
    assert_eq!(
        (&shown["lastUsedAt"], &shown["uses"]),
        (&Value::Null, &json!({ "total24h": 0, "total365d": 0, "minutes": [], "days": [] }))
    );
}

#[test]
fn s_10_no_core_and_no_secret_in_the_environment() {
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    let server = Server::start(data.path());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    let log = server.logged().join("\n");
    assert!(!log.contains("cannot switch off core files"), "{log}");
}

/// Nobody reads what it logs, or nobody can any more: it serves all the same, and ends when it is told to.
#[test]
fn f_05_a_log_that_goes_nowhere_is_in_nobodys_way() {
    let data = tempfile::tempdir().unwrap();
    let (_, [root, _]) = create_platform(data.path(), "Acme");
    for gone in [false, true] {
        let mut command = program_on(data.path());
        command.arg("serve").arg("--data").arg(data.path()).args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = std::io::BufReader::with_capacity(1, child.stderr.take().unwrap());
        let mut said = || {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
            line
        };
        let mut address = |start: &str| loop {
            if let Some(address) = said().strip_prefix(start) {
                return address.trim().parse::<std::net::SocketAddr>().unwrap();
            }
        };
        let (admin, api) = (address("admin on http://"), address("listening on http://"));
        let kept = if gone {
            drop(stderr);
            None
        } else {
            Some(stderr)
        };
        let one = format!("GET {GRID}?limit=1 HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n", root.basic());
        let last = one.replace("Host: x", "Host: x\r\nConnection: close");
        // More lines than a pipe holds.
        let answers = crate::support::program::exchange(api, format!("{}{last}", one.repeat(1500)).as_bytes());
        assert_eq!(String::from_utf8_lossy(&answers).matches("HTTP/1.1 200").count(), 1501);
        // Of a reader who stands still nothing is lost before thousands of lines wait.
        let lost = || {
            let metrics = crate::support::program::exchange(admin, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let metrics = String::from_utf8(metrics).unwrap();
            let count = metrics.lines().find_map(|line| line.strip_prefix("countersign_log_lines_lost_total "));
            count.and_then(|count| count.trim().parse::<u64>().ok()).unwrap()
        };
        crate::support::program::until("lines are said to be lost", || gone == (lost() > 0));
        assert!(std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        drop(kept);
    }
}

#[test]
fn o_09_a_second_signal_ends_it_at_once() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &["--drain-delay", "1h"]);
    server.signal("-TERM");
    while server.admin("/readyz").0 == 200 {}
    server.signal("-INT");
    let (code, log) = server.wait();
    assert_eq!(code, Some(2), "{log:?}");
}

#[test]
fn what_can_not_be_printed_is_not_lost_silently() {
    let data = tempfile::tempdir().unwrap();
    let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let mut command = program_on(data.path());
    command.args(["platform", "create", "--name", "Acme", "--data"]).arg(data.path());
    let (_, stderr, code) = text(&command.stdout(full()).output().unwrap());
    assert!(code == 2 && stderr.contains("standard output"), "{stderr}");
    let mut command = program_on(data.path());
    command.args(["platform", "create", "--name", "Acme", "--data"]).arg(data.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let (_, stderr, code) = text(&child.wait_with_output().unwrap());
    assert!(code == 2 && stderr.contains("lost"), "{stderr}");
    // And where nothing can be printed at all, nothing panics.
    assert_eq!(program().arg("nonsense").stdout(full()).stderr(full()).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_mistyped_directory_is_not_an_empty_one() {
    let data = tempfile::tempdir().unwrap();
    let missing = if database::postgres().is_some() { "there are no tables of countersign" } else { "there is no database" };
    for arguments in [vec!["platform", "list"], vec!["token", "list"], vec!["audit", "list"], vec!["check"]] {
        let (_, stderr, code) = text(&run(data.path(), &arguments));
        assert!(code == 2 && stderr.contains(missing), "{arguments:?}: {stderr}");
    }
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
}

#[test]
fn commands_end_cleanly() {
    let data = tempfile::tempdir().unwrap();
    let (platform, _) = create_platform(data.path(), "Acme");
    for _ in 0..10 {
        for command in ["disable", "enable"] {
            let (_, stderr, code) = text(&run(data.path(), &["platform", command, &platform]));
            assert_eq!((stderr.as_str(), code), ("", 0));
        }
    }
}

#[test]
fn the_environment_may_hold_anything() {
    use std::os::unix::ffi::OsStrExt as _;
    let odd = std::ffi::OsStr::from_bytes(b"\xffhunter2");
    let (stdout, stderr, code) =
        text(&program().args(["config", "show"]).env("SOMETHING_ELSE", odd).env("COUNTERSIGN_PORT_8420_TCP", "tcp://x").output().unwrap());
    assert_eq!((stderr.as_str(), code), ("", 0), "{stdout}");
    let (_, stderr, code) = text(&program().args(["config", "show"]).env("COUNTERSIGN_LEASE", odd).output().unwrap());
    assert!(code == 2 && stderr.contains("lease must be") && !stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn a_key_file_in_the_directory_one_is_in() {
    let data = tempfile::tempdir().unwrap();
    let mut command = program();
    command.current_dir(data.path()).args(["platform", "create", "--name", "a", "--data", "d", "--key-file", "keys.json"]);
    let (_, stderr, code) = text(&command.output().unwrap());
    assert_eq!((stderr.as_str(), code), ("", 0));
}
