//! Commands that ask a server elsewhere: they do what they do here, and their token goes nowhere else.

mod looking;
mod nodes;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
};

use rustix::process::{Pid, Signal};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::support::{
    certificates::Certificates,
    database,
    program::{Server, create_platform, exchange, program, program_on, run, run_json, until},
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/operations/payments.openapi.yaml");
const NOBODY: &str = "Token:019542f5-b3e7-7d02-8000-000000000001";

/// The token of a new operator.
fn operator(data: &Path, name: &str, role: &str) -> String {
    run_json(data, &["operator", "create", name, "--role", role]);
    let token = run_json(data, &["operator", "token", "create", "--operator", name, "--name", "remote"]);
    token["token"].as_str().unwrap().to_owned()
}

/// A command that asks a server.
fn asking(url: &str, token: &str, arguments: &[&str]) -> Command {
    let mut command = program();
    command.args(arguments).args(["--server", url]).env("COUNTERSIGN_OPERATOR_TOKEN", token).stdin(Stdio::null());
    command
}

fn there(url: &str, token: &str, arguments: &[&str]) -> Output {
    asking(url, token, arguments).output().unwrap()
}

fn text(output: &Output) -> (String, String, i32) {
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (utf8(&output.stdout), utf8(&output.stderr), output.status.code().unwrap())
}

/// It was not done, which one line says, with no secret in it; that line.
#[track_caller]
fn refused(output: &Output, code: i32) -> String {
    let (stdout, stderr, got) = text(output);
    assert_eq!((&*stdout, stderr.lines().count(), got), ("", 1, code), "{stderr}");
    assert!(stderr.starts_with("countersign: ") && !stderr.contains("csop_") && !stderr.contains('\u{1b}'), "{stderr}");
    stderr
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("more than JSON ({e}): {output:?}"))
}

fn admin(server: &Server) -> String {
    format!("http://{}", server.admin)
}

/// Without what differs between any two runs: ids, moments, who it was.
fn same(json: &Value) -> Value {
    const OWN: [&str; 25] = [
        "actor",
        "at",
        "bulkRevoke",
        "clientId",
        "clientSecret",
        "createdAt",
        "createdUntil",
        "disabledAt",
        "effectiveAt",
        "id",
        "invitation",
        "invitedUntil",
        "loadedAt",
        "node",
        "operator",
        "operatorToken",
        "overAt",
        "pem",
        "platform",
        "requestId",
        "revokedAt",
        "source",
        "token",
        "updatedAt",
        "usedBefore",
    ];
    match json {
        Value::Array(items) => items.iter().map(same).collect(),
        Value::Object(members) => {
            let own = |name: &str, value: &Value| if OWN.contains(&name) && value.is_string() { json!("…") } else { same(value) };
            Value::Object(members.iter().map(|(name, value)| (name.clone(), own(name, value))).collect())
        }
        other => other.clone(),
    }
}

/// Every command that can ask, one behind the other; `{platform}` and so on stand for ids that they have told before.
const COMMANDS: &str = include_str!("remote/commands.txt");

/// Runs them all, and returns what each printed as JSON.
fn run_all(mut run: impl FnMut(&[&str]) -> Value) -> Vec<(String, Value)> {
    let mut ids: Vec<(String, String)> = vec![("DOCUMENT".to_owned(), DOCUMENT.to_owned())];
    let mut printed = Vec::new();
    for line in COMMANDS.trim().lines() {
        let (line, name) = line.split_once(" > ").unwrap_or((line, ""));
        let words: Vec<_> =
            line.split(' ').map(|word| ids.iter().fold(word.to_owned(), |word, (name, id)| word.replace(name, id))).collect();
        let json = run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        if !name.is_empty() {
            let id = json["id"].as_str().or(json["platform"]["id"].as_str()).unwrap();
            ids.push((format!("{{{name}}}"), id.to_owned()));
        }
        printed.push((line.to_owned(), json));
    }
    printed
}

/// What they print.
const DOCUMENTS: &str = include_str!("remote/documents.txt");

fn is_reading(line: &str) -> bool {
    ["list", "show", "explain", "--dry-run"].iter().any(|word| line.contains(word)) && !line.contains("bulk")
}

#[test]
fn a_command_does_there_what_it_does_here() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (one, other) = (one.path(), other.path());
    // The first entries are the same in both.
    let [_, token] = [one, other].map(|data| {
        create_platform(data, "First");
        operator(data, "alice", "owner")
    });
    let server = Server::start(other);
    let url = admin(&server);
    let here = run_all(|arguments| run_json(one, arguments));
    let asked = run_all(|arguments| {
        let json = json_of(&there(&url, &token, &[arguments, &["--output", "json"]].concat()));
        if is_reading(&arguments.join(" ")) {
            // To the letter, where the same data is asked in both ways; so is what people read.
            assert_eq!(json, run_json(other, arguments), "{arguments:?}");
            assert_eq!(text(&there(&url, &token, arguments)), text(&run(other, arguments)), "{arguments:?}");
        }
        json
    });
    for ((line, here), (_, asked)) in here.iter().zip(&asked) {
        assert_eq!(same(here), same(asked), "{line}");
    }
    // Who it was is in the log.
    let entries = |data| run_json(data, &["audit", "list", "--action", "token.revoke"])["entries"][0].clone();
    assert!(entries(one)["actor"].as_str().unwrap().starts_with("operator:uid-"));
    let entry = entries(other);
    assert_eq!((&entry["actor"], &entry["source"]), (&json!("operator:alice"), &json!("127.0.0.1")));
}

/// The members of a document.
fn shape(json: &Value) -> String {
    match json {
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| match value {
                Value::Object(_) | Value::Array(_) => format!("{name}: {}", shape(value)),
                _ => name.clone(),
            };
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => format!("[{}]", items.first().map(shape).unwrap_or_default()),
        _ => "…".to_owned(),
    }
}

/// Scripts of others read these: /v1 may come to answer more, and then a command leaves that out.
#[test]
fn documents_have_the_members_that_they_had() {
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "First");
    operator(data.path(), "alice", "owner");
    let mut told: Vec<String> = Vec::new();
    for (line, json) in run_all(|arguments| run_json(data.path(), arguments)) {
        let command: Vec<_> = line.split(' ').take(if line.starts_with("operator token") { 3 } else { 2 }).collect();
        let line = format!("{} {}", command.join(" "), shape(&json));
        if !told.contains(&line) {
            told.push(line);
        }
    }
    assert_eq!(told.join("\n"), DOCUMENTS.trim());
}

#[test]
fn why_it_could_not_be_done_is_told_here_and_logged_there() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    create_platform(data, "Acme");
    let token = operator(data, "alice", "owner");
    let server = Server::start(data);
    database::edit(data, "ALTER TABLE audit RENAME TO gone");
    let line = refused(&run(data, &["audit", "list"]), 2);
    assert!(line.contains("audit") && !line.contains("look whether"), "{line}");
    let line = refused(&there(&admin(&server), &token, &["audit", "list"]), 2);
    let (_, id) = line.split_once("can't answer right now. Try again (request ").unwrap_or_else(|| panic!("{line}"));
    assert!(!line.contains("audit"), "{line}");
    let id = id.split_once(',').unwrap().0;
    let mut log = Vec::new();
    until("it is logged", || {
        log.extend(server.logged());
        log.iter().any(|line| line.contains(id)) && log.iter().any(|line| line.contains("an operation could not be done"))
    });
}

#[test]
fn what_is_refused_here_is_refused_there_in_the_same_words() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (platform, _) = create_platform(data, "Acme");
    let token = operator(data, "alice", "owner");
    let server = Server::start(data);
    let nowhere = NOBODY.replace("Token", "Platform");
    let new = |platform: &str| {
        format!("token create --platform {platform} --environment sandbox --name a --permissions VIEW")
            .split(' ')
            .map(str::to_owned)
            .collect()
    };
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (arguments, said) in [
        (words(&format!("platform show {nowhere}")), "there is no such platform; see countersign platform list"),
        (words(&format!("platform disable {nowhere}")), "there is no such platform; see countersign platform list"),
        (words("platform show ../operators"), "that is no platform id; see countersign platform list"),
        (new(&nowhere), "there is no such platform; see countersign platform list"),
        (words(&format!("token list --platform {nowhere}")), "there is no such platform; see countersign platform list"),
        (words(&format!("token show {NOBODY}")), "there is no such token; see countersign token list"),
        (words(&format!("token revoke {NOBODY}")), "there is no such token; see countersign token list"),
        (words("operator show nobody"), "there is no such operator; see countersign operator list"),
        (words("operator show Nobody?"), "the name must be 1 to 64 lower-case letters"),
        (words(&format!("operator create bob --role viewer --platform {nowhere}")), "there is no such platform"),
        (
            words(&format!("operator create bob --role owner --platform {platform}")),
            "role must be viewer or manager for an operator of one",
        ),
        (words("operator create alice --role viewer"), "there is an operator of that name already"),
        (words("operator role alice viewer"), "there would be no owner left; make another one first"),
        (words("operator token revoke 019542f5-b3e7-7d02-8000-000000000001"), "there is no such token of an operator"),
        (words("operator token create --operator alice --name a --expires 2020-01-01T00:00:00Z"), "expiresAt must be in the future"),
        (words("operations list"), "no operations are loaded yet; see countersign operations load --help"),
        (words("operations explain GET /"), "no operations are loaded yet; see countersign operations load --help"),
        (words("audit list --limit 0"), "--limit must be from 1 to 100"),
    ] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let line = refused(&there(&admin(&server), &token, &arguments), 1);
        assert!(line.starts_with(&format!("countersign: {said}")), "{arguments:?}: {line}");
        assert_eq!(refused(&run(data, &arguments), 1), line, "{arguments:?}");
    }
}

#[test]
fn a_server_does_what_the_tokens_operator_may() {
    let (data, foreign) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = data.path();
    let (platform, [root, _]) = create_platform(data, "Acme");
    create_platform(foreign.path(), "Other");
    let (viewer, stranger) = (operator(data, "eve", "viewer"), operator(foreign.path(), "eve", "viewer"));
    let server = Server::start(data);
    let url = admin(&server);
    assert_eq!(json_of(&there(&url, &viewer, &["platform", "list", "--output", "json"])), run_json(data, &["platform", "list"]));
    for (arguments, said) in [
        (vec!["token", "revoke", &root.id], "this takes an operator who is manager; ask an owner for it"),
        (vec!["platform", "disable", &platform], "this takes an operator who is owner; ask an owner for it"),
        (vec!["operations", "load", DOCUMENT], "this takes an operator who is owner; ask an owner for it"),
    ] {
        assert_eq!(refused(&there(&url, &viewer, &arguments), 1), format!("countersign: {said}\n"));
    }
    assert_eq!(run_json(data, &["token", "show", &root.id])["status"], "ACTIVE");
    let line = refused(&there(&url, &stranger, &["platform", "list"]), 1);
    assert!(line.contains("COUNTERSIGN_OPERATOR_TOKEN is nobody's at http://127.0.0.1:"), "{line}");

    // What is no token is not sent: that server is there, and answered nobody with 401.
    for odd in ["hunter2", "csop_hunter2", &root.secret, &format!("{viewer}\nX: y")] {
        let line = refused(&there(&url, odd, &["platform", "list"]), 2);
        assert!(line.contains("no operator's token in COUNTERSIGN_OPERATOR_TOKEN") && !line.contains("hunter2"), "{line}");
    }
    for none in ["", "x"] {
        let mut command = asking(&url, "", &["platform", "list"]);
        if none == "x" {
            command.env_remove("COUNTERSIGN_OPERATOR_TOKEN");
        }
        let line = refused(&command.output().unwrap(), 2);
        assert!(line.contains("set COUNTERSIGN_OPERATOR_TOKEN, or say --operator-token-file FILE"), "{line}");
    }

    // Nor is the other listener an operator API.
    let line = refused(&there(&format!("http://{}", server.api), &viewer, &["platform", "show", &platform]), 2);
    assert!(line.contains("does not answer as an operator API does (status 404): name the admin listener"), "{line}");
}

#[test]
fn a_token_in_a_file_is_its_owners_alone() {
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    let token = operator(data.path(), "alice", "owner");
    let server = Server::start(data.path());
    let file = data.path().join("operator.token");
    fs::write(&file, format!("{token}\n")).unwrap();
    let ask = |mode: u32| {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let mut command = program();
        command.args(["platform", "list", "--output", "json", "--server", &admin(&server), "--operator-token-file"]).arg(&file);
        // A flag beats the environment.
        command.env("COUNTERSIGN_OPERATOR_TOKEN", "hunter2").output().unwrap()
    };
    assert!(refused(&ask(0o640), 2).contains("others can read"));
    assert_eq!(json_of(&ask(0o600)), run_json(data.path(), &["platform", "list"]));
    let mut command = program();
    command.args(["platform", "list"]).env("COUNTERSIGN_SERVER", admin(&server)).env("COUNTERSIGN_OPERATOR_TOKEN_FILE", &file);
    assert_eq!(text(&command.output().unwrap()).2, 0);
    fs::write(&file, "hunter2").unwrap();
    assert!(!refused(&ask(0o600), 2).contains("hunter2"));
    fs::remove_file(&file).unwrap();
    assert!(refused(&command.output().unwrap(), 2).contains("cannot read"));

    for argument in [format!("--operator-token={token}"), token.clone(), format!("--operator-token-file={token}")] {
        refused(&program().args(["platform", "list", "--server", &admin(&server), &argument]).output().unwrap(), 2);
    }
    let mut command = program();
    command.args(["config", "show", "--output", "json"]).env("COUNTERSIGN_OPERATOR_TOKEN", &token);
    let shown = json_of(&command.output().unwrap());
    let expected = json!({ "value": "[REDACTED]", "origin": "environment COUNTERSIGN_OPERATOR_TOKEN" });
    assert_eq!(shown["operator_token_file"], expected);
    assert!(!shown.to_string().contains("csop_"));
}

/// Somebody who gives every request the same answer, and tells what was asked.
fn somebody(answer: &str) -> (String, Receiver<String>) {
    somebody_who_sends(answer.as_bytes().to_vec())
}

fn somebody_who_sends(answer: Vec<u8>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, (tell, told)) = (format!("http://{}", listener.local_addr().unwrap()), channel());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).unwrap_or(0);
            if tell.send(String::from_utf8_lossy(&bytes[..read]).into_owned()).is_err() {
                return;
            }
            let _ = stream.write_all(&answer);
        }
    });
    (url, told)
}

fn answered(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nx-request-id: r-1\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[test]
fn whoever_answers_is_not_believed_blindly() {
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    let token = operator(data.path(), "alice", "owner");
    let ask = |answer: &str, arguments: &[&str]| {
        let (url, told) = somebody(answer);
        let output = there(&url, &token, arguments);
        let asked = told.try_recv().unwrap();
        assert!(told.try_recv().is_err(), "it asked twice");
        (output, asked)
    };
    let unavailable =
        answered("503 Service Unavailable", r#"{"status":503,"code":"SERVICE_UNAVAILABLE","message":"Not now.","details":{}}"#);
    let (output, asked) = ask(&unavailable, &["token", "revoke", NOBODY]);
    assert!(asked.starts_with(&format!("POST /v1/tokens/{NOBODY}/revoke HTTP/1.1\r\n")), "{asked}");
    assert!(asked.contains(&format!("authorization: Bearer {token}\r\n")), "{asked}");
    let line = refused(&output, 2);
    assert!(line.contains("not now (request r-1") && line.ends_with("; look whether it was done before you run it again\n"), "{line}");
    let line = refused(&ask(&unavailable, &["token", "show", NOBODY]).0, 2);
    assert!(!line.contains("look whether"), "{line}");

    // Whom it sends on to gets no token.
    let (elsewhere, told) = somebody(&answered("200 OK", "{}"));
    let redirect = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {elsewhere}/v1/platforms\r\ncontent-length: 0\r\n\r\n");
    let line = refused(&ask(&redirect, &["platform", "list"]).0, 2);
    assert!(line.contains("does not answer as an operator API does (status 307)"), "{line}");
    assert!(told.try_recv().is_err());
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{", "SSH-2.0-x\r\n"] {
        let line = refused(&ask(answer, &["platform", "enable", &NOBODY.replace("Token", "Platform")]).0, 2);
        assert!(line.contains("no answer from") && line.contains("look whether it was done"), "{line}");
    }
    refused(&ask(&answered("200 OK", "<html>"), &["platform", "list"]).0, 2);

    // Nor does a terminal obey it.
    let platforms = r#"{"platforms":[{"id":"x","name":"\u001b[2J","createdAt":"\u001b","disabledAt":null}]}"#;
    let (stdout, _, code) = text(&ask(&answered("200 OK", platforms), &["platform", "list"]).0);
    assert!(code == 0 && stdout.contains(r"\u{1b}[2J") && !stdout.contains('\u{1b}'), "{stdout}");
    refused(&ask(&answered("400 Bad Request", r#"{"message":"A\u001b[2J."}"#), &["platform", "list"]).0, 1);

    // Nobody is there any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(refused(&there(&format!("http://{gone}"), &token, &["platform", "list"]), 2).contains("cannot reach http://127.0.0.1:"));
}

#[test]
fn a_token_is_no_argument() {
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    let token = operator(data.path(), "alice", "owner");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut child = asking(&url, &token, &["platform", "list"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // It has asked, and waits.
    let (mut stream, _) = listener.accept().unwrap();
    let (mut bytes, mut request) = ([0; 1024], String::new());
    while !request.contains("\r\n\r\n") {
        let read = stream.read(&mut bytes).unwrap();
        request.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    let shown = Command::new("ps").args(["-ww", "-o", "args=", "-p", &child.id().to_string()]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(request.contains(&token) && shown.contains("platform list") && !shown.contains("csop_"), "{shown}");
    drop(stream);
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn a_token_crosses_no_network_in_the_clear() {
    let token = {
        let data = tempfile::tempdir().unwrap();
        create_platform(data.path(), "Acme");
        operator(data.path(), "alice", "owner")
    };
    for url in
        ["http://192.0.2.1:8421", "http://countersign.internal", "http://0.0.0.0:8421", "https://me:hunter2@localhost", "localhost:8421"]
    {
        let line = refused(&there(url, &token, &["platform", "list"]), 2);
        assert!(line.contains("flag --server: server must be empty, or a URL") && !line.contains("hunter2"), "{line}");
    }
}

/// What stands before a server and ends TLS.
fn terminator(config: ServerConfig, admin: SocketAddr) -> (u16, Receiver<Result<String, String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, config, (tell, told)) = (listener.local_addr().unwrap().port(), Arc::new(config), channel());
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), tcp);
            let mut pass_on = || {
                let (mut request, mut part) = (Vec::new(), [0; 4096]);
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut part).map_err(|e| e.to_string())? {
                        0 => return Err("nothing came".to_owned()),
                        read => request.extend_from_slice(&part[..read]),
                    }
                }
                let request = String::from_utf8(request).unwrap();
                let answer =
                    exchange(admin, request.replace("/ops/v1", "/v1").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes());
                stream.write_all(&answer).and_then(|()| stream.flush()).map_err(|e| e.to_string())?;
                Ok(request)
            };
            if tell.send(pass_on()).is_err() {
                return;
            }
        }
    });
    (port, told)
}

#[test]
fn a_server_proves_its_name_before_it_hears_of_a_token() {
    let (data, certificates) = (tempfile::tempdir().unwrap(), Certificates::new());
    create_platform(data.path(), "Acme");
    let token = operator(data.path(), "alice", "owner");
    let server = Server::start(data.path());
    let ask = |port: u16, trusted: &str| {
        let mut command = asking(&format!("https://localhost:{port}/ops/"), &token, &["platform", "list", "--output", "json"]);
        command.env("SSL_CERT_FILE", certificates.path(trusted)).env_remove("SSL_CERT_DIR").output().unwrap()
    };
    let (port, told) = terminator(certificates.of("DNS:localhost"), server.admin);
    assert_eq!(json_of(&ask(port, "ours.pem")), run_json(data.path(), &["platform", "list"]));
    let request = told.recv().unwrap().unwrap();
    assert!(request.starts_with("GET /ops/v1/platforms HTTP/1.1\r\n") && request.contains(&token), "{request}");

    let (elsewhere, told_elsewhere) = terminator(certificates.of("DNS:countersign.elsewhere"), server.admin);
    for (trusted, port, told, why) in [
        ("theirs.pem", port, &told, "invalid peer certificate: UnknownIssuer"),
        ("ours.pem", elsewhere, &told_elsewhere, "invalid peer certificate: certificate not valid for name \"localhost\""),
    ] {
        let line = refused(&ask(port, trusted), 2);
        assert!(line.contains(&format!("cannot reach https://localhost:{port}/ops/: {why}")), "{line}");
        let heard = told.recv().unwrap();
        assert!(heard.is_err(), "a request was sent to whoever is not trusted: {heard:?}");
    }
}

#[test]
fn what_works_on_the_data_itself_asks_no_server() {
    let data = tempfile::tempdir().unwrap();
    create_platform(data.path(), "Acme");
    let token = operator(data.path(), "alice", "owner");
    let server = Server::start(data.path());
    let url = admin(&server);
    for line in [
        "keys add",
        "keys activate 1",
        "restore --invalidate-all",
        "migrate-store --to sqlite:///nowhere/here",
        "audit verify",
        "audit export",
    ] {
        let arguments: Vec<_> = line.split(' ').collect();
        let said = refused(&there(&url, &token, &arguments), 2);
        assert!(said.contains("works on the data itself") && said.contains("(flag --server)"), "{line}: {said}");
        let mut command = program_on(data.path());
        command.args(&arguments).arg("--data").arg(data.path()).env("COUNTERSIGN_SERVER", &url).stdin(Stdio::null());
        let said = refused(&command.output().unwrap(), 2);
        assert!(said.contains("(environment COUNTERSIGN_SERVER), or say --server ''"), "{line}: {said}");
    }
    let mut command = program_on(data.path());
    command.args(["audit", "verify", "--server", "", "--data"]).arg(data.path()).env("COUNTERSIGN_SERVER", &url);
    assert_eq!(text(&command.output().unwrap()).2, 0);

    // Here or there, and not both.
    let mut command = asking(&url, &token, &["platform", "list"]);
    assert!(refused(&command.arg("--data").arg(data.path()).output().unwrap(), 2).contains("leave out one of them"));
    let mut command = program_on(data.path());
    command.args(["platform", "list", "--operator-token-file", "x", "--data"]).arg(data.path());
    assert!(refused(&command.output().unwrap(), 2).contains("say which with --server URL"));

    // A server is nobody's client, and does not mind what commands beside it need.
    for command in ["serve", "quickstart"] {
        assert!(refused(&there(&url, &token, &[command]), 2).contains("this one is a server"));
    }
    let mut command = program_on(data.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data"]).arg(data.path());
    command.env("COUNTERSIGN_SERVER", &url).env("COUNTERSIGN_OPERATOR_TOKEN", &token);
    let second = Server::of(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    assert_eq!(second.admin("/readyz").0, 200);
}

/// A key is retired from anywhere: the database says so. The key file is where it is.
#[test]
fn a_key_is_retired_there() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, production]) = create_platform(data, "Acme");
    let token = operator(data, "alice", "owner");
    run_json(data, &["keys", "add"]);
    run_json(data, &["keys", "activate", "2"]);
    let server = Server::start(data);
    let (url, file) = (admin(&server), data.join("keys.json"));
    let before = fs::read(&file).unwrap();
    assert!(refused(&there(&url, &token, &["keys", "retire", "2"]), 1).contains("it is the active key"));
    assert!(refused(&there(&url, &token, &["keys", "retire", "9"]), 1).contains("no such key"));
    let (listed, why, code) = text(&there(&url, &token, &["keys", "retire", "1"]));
    assert_eq!((&*why, code), ("countersign: the key is in use: 2 live tokens would end; --force does it\n", 1));
    assert!(listed.contains(&root.id) && listed.contains(&production.id), "{listed}");
    let planned = there(&url, &token, &["keys", "retire", "1", "--output", "json"]);
    assert_eq!((planned.status.code(), serde_json::from_slice::<Value>(&planned.stdout).unwrap()["count"].clone()), (Some(1), json!(2)));
    assert_eq!(
        (server.get("/verify", &root).0, run_json(data, &["keys", "list"])["keys"][0]["state"].clone()),
        (200, json!("verify-only"))
    );

    let retired = json_of(&there(&url, &token, &["keys", "retire", "1", "--force", "--output", "json"]));
    assert_eq!((&retired["retired"]["endedCount"], &retired["retired"]["leftCount"]), (&json!(2), &json!(0)), "{retired}");
    assert_eq!((server.get("/verify", &root).0, server.get("/verify", &production).0), (401, 401));
    assert_eq!(run_json(data, &["keys", "list"])["keys"][0]["state"], "retired");
    assert_eq!(fs::read(&file).unwrap(), before);
    let (said, _, code) = text(&there(&url, &token, &["keys", "retire", "1"]));
    assert!(code == 0 && said.contains("0 tokens have ended") && said.contains("run this again where one is, without --server"), "{said}");
    let here = run_json(data, &["keys", "retire", "1"]);
    assert_eq!(same(&here).as_object().unwrap().keys().collect::<Vec<_>>(), same(&retired).as_object().unwrap().keys().collect::<Vec<_>>());
    assert!(fs::read_to_string(&file).unwrap().contains("\"retired\""));
}

/// A database from before knows nothing of it, nor does the key file; the journal does.
#[test]
fn r_20_a_key_that_was_retired_there_stays_retired() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, production]) = create_platform(data, "Acme");
    let token = operator(data, "alice", "owner");
    run_json(data, &["keys", "add"]);
    run_json(data, &["keys", "activate", "2"]);
    let server = Server::start(data);
    // It moves to the new key behind the state that is brought back.
    database::remember(data);
    assert_eq!(server.get("/verify", &root).0, 200);
    let retired = json_of(&there(&admin(&server), &token, &["keys", "retire", "1", "--force", "--output", "json"]));
    assert!(retired["retired"]["endedCount"].as_u64() >= Some(1), "{retired}");
    drop(server);
    database::go_back(data);
    let journal = data.join("revocations.jsonl");
    let restored = run_json(data, &["restore", "--journal", journal.to_str().unwrap()]);
    assert_eq!((&restored["tokens"], &restored["keys"]), (&json!(2), &json!(1)), "{restored}");
    assert_eq!(run_json(data, &["keys", "list"])["keys"][0]["state"], "retired");
    let again = run_json(data, &["restore", "--journal", journal.to_str().unwrap()]);
    assert_eq!((&again["tokens"], &again["keys"]), (&json!(0), &json!(0)), "{again}");
    let server = Server::start(data);
    assert_eq!((server.get("/verify", &root).0, server.get("/verify", &production).0), (401, 401));
}

/// A server that was not told of a key yet does not retire the one that is active next.
#[test]
fn the_key_that_is_active_next_is_not_retired_there() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    create_platform(data, "Acme");
    let token = operator(data, "alice", "owner");
    run_json(data, &["keys", "add"]);
    let server = Server::start(data);
    run_json(data, &["keys", "activate", "2"]);
    assert!(refused(&there(&admin(&server), &token, &["keys", "retire", "2"]), 1).contains("it is the active key"));
    run_json(data, &["keys", "activate", "1"]);
    assert!(there(&admin(&server), &token, &["keys", "retire", "2"]).status.success());
}

/// A server makes it, and keeps nothing of it; here it has its name when it is whole, and is what a backup made there is.
#[test]
fn a_backup_is_taken_there() {
    let (data, elsewhere, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (data, elsewhere) = (data.path(), elsewhere.path());
    create_platform(data, "Acme");
    let [owner, manager] = [("alice", "owner"), ("bob", "manager")].map(|(name, role)| operator(data, name, role));
    let mut command = program_on(data);
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data"]).arg(data).env("TMPDIR", temporary.path());
    let server = Server::of(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let (url, file) = (admin(&server), elsewhere.join("b.db"));
    let to = file.to_str().unwrap();
    let names = |directory: &Path| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();

    assert!(refused(&there(&url, &manager, &["backup", "--to", to]), 1).contains("an operator who is owner"));
    assert!(names(elsewhere).is_empty());
    let told = json_of(&there(&url, &owner, &["backup", "--to", to, "--output", "json"]));
    assert_eq!((names(elsewhere), names(temporary.path())), (vec!["b.db".into()], vec![]));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let here = run_json(data, &["backup", "--to", elsewhere.join("here.db").to_str().unwrap()]);
    assert_eq!(told.as_object().unwrap().keys().collect::<Vec<_>>(), here.as_object().unwrap().keys().collect::<Vec<_>>());
    // That it was taken is one entry more.
    assert_eq!(told["seq"].as_u64().unwrap() + 1, here["seq"].as_u64().unwrap());

    let whole = fs::read(&file).unwrap();
    assert!(refused(&there(&url, &owner, &["backup", "--to", to]), 2).contains("is there already"));
    assert_eq!(fs::read(&file).unwrap(), whole);
    fs::write(elsewhere.join("c.db.partial"), "theirs").unwrap();
    let second = elsewhere.join("c.db");
    assert!(refused(&there(&url, &owner, &["backup", "--to", second.to_str().unwrap()]), 2).contains("c.db.partial is there"));
    assert_eq!(fs::read(elsewhere.join("c.db.partial")).unwrap(), b"theirs");

    let restored = elsewhere.join("data");
    let mut command = program();
    command.args(["restore", "--invalidate-all", "--from", to, "--output", "json", "--data"]).arg(&restored);
    let restored = json_of(&command.arg("--key-file").arg(data.join("keys.json")).stdin(Stdio::null()).output().unwrap());
    assert_eq!((&restored["rows"], &restored["tokens"]), (&told["rows"], &json!(2)));
}

/// Whatever comes in its place: no file has the name of a backup that is none.
#[test]
fn what_is_no_whole_backup_gets_no_name() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    create_platform(data.path(), "Acme");
    let token = operator(data.path(), "alice", "owner");
    let with = |summary: &str, length: usize, body: &str| {
        format!("HTTP/1.1 200 OK\r\ncountersign-backup: {summary}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
    };
    let busy = answered("429 Too Many Requests", r#"{"status":429,"code":"RATE_LIMITED","message":"Too much.","details":{}}"#);
    for (answer, code, says) in [
        (answered("200 OK", "{}"), 2, "does not answer as an operator API does (status 200)"),
        (with("no JSON", 2, "{}"), 2, "does not answer as an operator API does (status 200)"),
        (with("{}", 100, "SQLite format 3"), 2, "no answer from"),
        (with("{}", 15, "SQLite format 3"), 2, "is no backup made by countersign"),
        (with("{}", 0, ""), 2, "is no backup made by countersign"),
        (with("{}", 2, "{}").replace("200 OK", "206 Partial"), 2, "does not answer as an operator API does (status 206)"),
        (with("{}", 2, "{}").replace("content-length: 2\r\n", ""), 2, "does not answer as an operator API does (status 200)"),
        (busy, 1, "too much"),
        (String::new(), 2, "no answer from"),
    ] {
        let (url, _told) = somebody(&answer);
        let file = elsewhere.path().join("b.db");
        let line = refused(&there(&url, &token, &["backup", "--to", file.to_str().unwrap()]), code);
        assert!(line.contains(says) && !line.contains("look whether"), "{answer}: {line}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "{answer}");
    }
}

/// What is no backup as the server has told it, whatever the server told of it.
#[test]
fn a_backup_that_is_not_as_it_was_told_gets_no_name() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    create_platform(data.path(), "Acme");
    let token = operator(data.path(), "alice", "owner");
    let good = data.path().join("good.db");
    let told = run_json(data.path(), &["backup", "--to", good.to_str().unwrap()]);
    let (bytes, file) = (fs::read(&good).unwrap(), elsewhere.path().join("b.db"));
    let taken = |told: &Value, bytes: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\ncountersign-backup: {told}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", bytes.len());
        let (url, _told) = somebody_who_sends([head.as_bytes(), bytes].concat());
        there(&url, &token, &["backup", "--to", file.to_str().unwrap()])
    };
    assert!(taken(&told, &bytes).status.success());
    fs::remove_file(&file).unwrap();
    let edited = |sql: &str| {
        let odd = data.path().join("odd.db");
        fs::copy(&good, &odd).unwrap();
        rusqlite::Connection::open(&odd).unwrap().execute_batch(sql).unwrap();
        fs::read(odd).unwrap()
    };
    let of = |name: &str, value: Value| {
        let mut told = told.clone();
        told[name] = value;
        told
    };
    let page: usize = rusqlite::Connection::open(&good)
        .unwrap()
        .query_row("SELECT (rootpage - 1) * 4096 FROM sqlite_schema WHERE name = 'token'", [], |row| row.get(0))
        .unwrap();
    let mut broken = bytes.clone();
    broken[page..page + 4096].fill(0xa5);
    let endless = "DROP TABLE hold; CREATE VIEW hold (one, reason) AS WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) \
                   SELECT 1, 'backup' FROM r WHERE n < 0";
    for (told, bytes, says) in [
        (of("rows", json!(1)), bytes.clone(), "is not what the server says"),
        (of("finished", json!(false)), bytes.clone(), "is not what the server says"),
        (told.clone(), edited("DELETE FROM token"), "is not what the server says"),
        (told.clone(), edited(endless), "holds what no backup does"),
        (told.clone(), edited("CREATE TRIGGER t AFTER INSERT ON token BEGIN DELETE FROM token; END"), "holds what no backup does"),
        (told.clone(), broken, "is broken"),
    ] {
        let line = refused(&taken(&told, &bytes), 2);
        assert!(line.contains(says), "{says}: {line}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "{says}");
    }
}

/// Whoever ends it while they wait keeps nothing of it, and can begin anew.
#[test]
fn a_backup_that_is_ended_leaves_nothing_behind() {
    let (data, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    create_platform(data.path(), "Acme");
    let token = operator(data.path(), "alice", "owner");
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let file = elsewhere.path().join("b.db");
        let mut command = asking(&url, &token, &["backup", "--to", file.to_str().unwrap()]);
        let backup = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut asked = silent.accept().unwrap().0;
        assert!(asked.read(&mut [0; 4096]).unwrap() > 0);
        assert!(elsewhere.path().join("b.db.partial").exists());
        rustix::process::kill_process(Pid::from_child(&backup), signal).unwrap();
        assert!(refused(&backup.wait_with_output().unwrap(), 2).contains("nothing of it is kept"));
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "{signal:?}");
    }
}

/// Proving and checking, of which one prints nothing but JSON, and the other reads a secret.
#[test]
fn an_entry_is_proven_and_a_credential_checked_there() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path();
    let (_, [root, _]) = create_platform(data, "Acme");
    let token = operator(data, "alice", "viewer");
    let server = Server::start(data);
    let url = admin(&server);
    let proof = |output: Output| {
        let mut proof = json_of(&output);
        proof.as_object_mut().unwrap().remove("head").unwrap();
        proof
    };
    assert_eq!(proof(there(&url, &token, &["audit", "prove", "2"])), proof(run(data, &["audit", "prove", "2"])));
    let line = refused(&there(&url, &token, &["audit", "prove", "99"]), 1);
    assert_eq!(line, refused(&run(data, &["audit", "prove", "99"]), 1));
    let line = refused(&there(&url, &token, &["audit", "prune", "--before", "2020-01-01T00:00:00Z"]), 1);
    assert!(line.contains("takes an operator who is owner"), "{line}");

    let check = |mut command: Command, pair: &str| {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(pair.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let pair = format!("{}:{}\n", root.client_id, root.secret);
    for output in ["text", "json"] {
        let arguments = ["check", "--output", output];
        let here = |pair: &str| {
            let mut command = program_on(data);
            command.args(arguments).arg("--data").arg(data);
            text(&check(command, pair))
        };
        let asked = |pair: &str| text(&check(asking(&url, &token, &arguments), pair));
        for pair in [&*pair, "nothing", &pair.replace("test", "live")] {
            assert_eq!(here(pair), asked(pair), "{output}");
        }
        assert_eq!([here(&pair).2, here("nothing").2], [0, 1]);
    }
}
