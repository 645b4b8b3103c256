//! The programs of others that Countersign is compared with: each installed on first use or found on the machine, filled
//! with keys of its own, and asked in the cheapest way that it has.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    Outcome,
    dataset::Random,
    load::{Load, request},
    report::note,
    scratch,
    server::Server,
};

/// Users of better-auth, and keys of each: 100,000 keys, of which a list shows 100.
const USERS: (&str, &str) = ("1000", "100");
/// Keys of djangorestframework-api-key.
const KEYS: &str = "100000";

/// A directory of a peer's own in the target directory, with the files that it needs.
fn directory(name: &str, files: &[&str]) -> Outcome<PathBuf> {
    let directory = scratch("peers").join(name);
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(name);
    fs::create_dir_all(&directory)?;
    for file in files {
        fs::copy(source.join(file), directory.join(file))?;
    }
    Ok(directory)
}

fn install(program: &str, arguments: &[&str], directory: &Path) -> Outcome {
    note(&format!("installing the peer: {program} {}", arguments.join(" ")));
    let status = Command::new(program).args(arguments).current_dir(directory).status().map_err(|e| format!("{program}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} could not install it").into()) }
}

/// Each key in turn, in no order: what lies side by side was made side by side.
fn keys(path: &Path, mut asked: impl FnMut(&str) -> Vec<u8>) -> Outcome<Load> {
    let mut requests: Vec<_> = fs::read_to_string(path)?.lines().map(&mut asked).collect();
    Random(3).shuffle(&mut requests);
    Ok(Load::new(requests).answered(b"200"))
}

/// Makes sure that a server tells who may pass.
fn checked(server: Server, load: Load, wrong: Vec<u8>) -> Outcome<(Server, Load)> {
    server.cost(&Load::new(vec![wrong]).answered(b"40"), std::time::Duration::ZERO)?;
    Ok((server, load))
}

/// better-auth's API keys, as durable as Countersign; with a session cookie of each of its users, by user.
pub(crate) fn better_auth() -> Outcome<(Server, Vec<(String, String)>)> {
    start_better_auth("FULL")
}

fn start_better_auth(synchronous: &str) -> Outcome<(Server, Vec<(String, String)>)> {
    let directory = directory("better-auth", &["package.json", "server.mjs"])?;
    if !directory.join("node_modules/better-sqlite3/build").exists() {
        install("npm", &["install", "--no-audit", "--no-fund"], &directory)?;
    }
    let database = directory.join("peer.db");
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(directory.join(format!("peer.db{end}")));
    }
    let mut command = Command::new("node");
    command.arg(directory.join("server.mjs")).arg(&database).args([USERS.0, USERS.1, synchronous]);
    let server = Server::start("better-auth", &mut command)?;
    let cookies = fs::read_to_string(directory.join("peer.db.cookies"))?;
    let pair = |line: &str| line.split_once(' ').map(|(user, cookie)| (user.to_owned(), cookie.to_owned()));
    Ok((server, cookies.lines().filter_map(pair).collect()))
}

/// The same, asked whether keys are valid. It writes each use at once; a crash may lose the last of them, as ours does.
pub(crate) fn better_auth_verifying() -> Outcome<(Server, Load)> {
    let (server, _) = start_better_auth("NORMAL")?;
    let asked = |key: &str| request("GET", "/verify", &[("x-api-key", key)], "");
    let load = keys(&scratch("peers").join("better-auth/peer.db.keys"), asked)?;
    checked(server, load, asked("nobody's"))
}

/// djangorestframework-api-key.
pub(crate) fn drf_api_key() -> Outcome<(Server, Load)> {
    let directory = directory("drf-api-key", &["requirements.txt", "server.py"])?;
    let (python, complete) = (directory.join("venv/bin/python"), directory.join("venv/complete"));
    if !complete.exists() {
        install("python3", &["-m", "venv", "--clear", "venv"], &directory)?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"];
        install(&python.to_string_lossy(), &pip, &directory)?;
        fs::write(complete, "")?;
    }
    let database = directory.join("peer.db");
    let server = Server::start("drf-api-key", Command::new(python).arg(directory.join("server.py")).arg(&database).arg(KEYS))?;
    let asked = |key: &str| request("GET", "/verify", &[("authorization", &format!("Api-Key {key}"))], "");
    let load = keys(&directory.join("peer.db.keys"), asked)?;
    checked(server, load, asked("nobody.s"))
}

/// nginx's `auth_basic` over a file of users with SHA-1 digests, the fastest that it has.
pub(crate) fn nginx(users: usize) -> Outcome<(Server, Load)> {
    // The credentials that it would hold in our place, as long as ours are. All have one secret, so that nothing here needs
    // SHA-1; nginx computes the same for each.
    const PASSWORD: (&str, &str) = ("iksec_test_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg000000", "{SHA}siHQ92HMZANwOnDE3ZUoHGNjte0=");
    let directory = directory("nginx", &["nginx.conf"])?.join(users.to_string());
    fs::create_dir_all(&directory)?;
    fs::copy(directory.with_file_name("nginx.conf"), directory.join("nginx.conf"))?;
    let names: Vec<_> = (0..users).map(|at| format!("ik_test_019542f5b3e77d028000{at:020x}")).collect();
    fs::write(directory.join("users"), names.iter().map(|name| format!("{name}:{}\n", PASSWORD.1)).collect::<String>())?;
    // It can't say which port it was given, so it is told one that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    fs::write(directory.join("port.conf"), format!("listen {address};\n"))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&directory).args(["-c", "nginx.conf", "-e", "stderr"]);
    if rustix::process::geteuid().is_root() {
        // Its workers would be somebody who can't read here.
        command.args(["-g", "user root;"]);
    }
    let server = Server::start_at("nginx", &mut command, address)?;
    let asked = |name: &str, password: &str| {
        let credential = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        request("GET", "/", &[("authorization", &credential)], "")
    };
    let mut requests: Vec<_> = names.iter().map(|name| asked(name, PASSWORD.0)).collect();
    Random(3).shuffle(&mut requests);
    checked(server, Load::new(requests).answered(b"200"), asked("ik_test_019542f5b3e77d02800000000000000000000000", "another"))
}
