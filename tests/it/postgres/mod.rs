//! What only PostgreSQL does, and does to us: settings, standbys, certificates, commits that nobody answers or that stall,
//! sessions that are ended. On clusters of their own, whatever database the other tests run on.

#[path = "../../prove/cluster.rs"]
#[expect(dead_code, reason = "tests/prove has it too")]
mod cluster;
#[path = "../../prove/proxy.rs"]
#[expect(dead_code, reason = "tests/prove has it too")]
mod proxy;

mod commits; // unanswered, stalled, ended
mod promoting; // a standby takes over
mod reaching; // settings, standbys, certificates

use std::{
    path::Path,
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use self::cluster::Cluster;
use crate::support::{
    GRID, Pair,
    program::{Server, program_at, until},
};

fn command(url: &str, data: &Path, arguments: &[&str]) -> Output {
    program_at(url).args(arguments).arg("--data").arg(data).stdin(Stdio::null()).output().unwrap()
}

/// Makes a platform; its sandbox root.
fn root(url: &str, data: &Path) -> Pair {
    let output = command(url, data, &["platform", "create", "--name", "Acme", "--output", "json"]);
    assert!(output.status.success(), "{output:?}");
    Pair::of(&serde_json::from_slice::<Value>(&output.stdout).unwrap()["tokens"][0])
}

fn create(server: &Server, root: &Pair, name: &str) -> (u16, Value) {
    server.send("POST", GRID, root, &json!({ "name": name, "permissions": ["VIEW"] }))
}

fn token(server: &Server, root: &Pair, name: &str) -> Pair {
    let (status, created) = create(server, root, name);
    assert_eq!(status, 201, "{created}");
    Pair::of(&created)
}

fn revoke(server: &Server, root: &Pair, token: &Pair) -> u16 {
    server.send("DELETE", &format!("{GRID}/{}", token.id), root, &Value::Null).0
}

/// Whether a node accepts a token, as soon as it knows.
fn accepts(server: &Server, token: &Pair) -> bool {
    let mut status = 503;
    until("it knows", || {
        status = server.get(GRID, token).0;
        status != 503
    });
    assert!([200, 401].contains(&status), "{status}");
    status == 200
}

/// What a statement says on a cluster that is up.
#[track_caller]
fn ask(cluster: &Cluster, sql: &str) -> String {
    cluster.run_sql(sql).unwrap_or_else(|| panic!("refused: {sql}"))
}
