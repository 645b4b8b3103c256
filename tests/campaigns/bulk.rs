//! Tokens that end by one command, whose processes are killed: whoever is left goes on, and each of them ends once.
//!
//! ```text
//! cargo test --release --test campaigns -- bulk [--tokens N] [--kills N] [--store sqlite|postgres]
//! ```

use std::{
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    Args,
    answered::{self, Database, GRID, basic},
    cluster::Cluster,
    node::{Client, program},
};

/// Within which a server goes on with what another process has left: 10 s that it does not move, found 5 s later.
const GOES_ON: Duration = Duration::from_secs(60);
/// Who creates at the same time.
const CLIENTS: usize = 16;
/// Of how many tokens one is to live on.
const KEPT: usize = 20;

pub(crate) fn run(args: &Args) -> bool {
    let (tokens, kills) = (args.number("tokens", 3000, 40_000), args.number("kills", 2, 12));
    let mut held = true;
    if args.word("store").is_none_or(|word| word == "sqlite") {
        held &= on("sqlite", None, tokens, kills);
    }
    if args.word("store").is_none_or(|word| word == "postgres") {
        held &= on("postgres", Some(Cluster::start(&[])), tokens, kills);
    }
    held
}

fn on(name: &str, cluster: Option<Cluster>, tokens: u64, kills: u64) -> bool {
    let data = tempfile::tempdir().unwrap();
    let url = cluster.as_ref().map_or_else(String::new, |cluster| cluster.url_at(cluster.port));
    let database = cluster.as_ref().map_or_else(|| Database::Sqlite(data.path().to_owned()), Database::Postgres);
    let root = answered::root(data.path(), &url);
    let start = || answered::start(data.path(), &url, &[]).unwrap();
    let mut server = start();
    let made = create(server.address, &root, usize::try_from(tokens).unwrap());
    let expected = made.iter().filter(|(doomed, _)| *doomed).count() as u64;

    // The command that begins it is at it, and is killed first.
    let mut command = begin(data.path(), &url, expected);
    let (mut before, mut done) = (0, 0);
    for kill in 0..kills {
        let Some(ended) = moved(&database, before) else { break };
        match (kill, &cluster) {
            (0, _) => drop(command.kill()),
            (_, Some(cluster)) if kill % 2 == 0 => cluster.crash_and_restart(),
            _ => {
                server.signal("-KILL");
                server = start();
            }
        }
        (before, done) = (ended, done + 1);
    }
    let _ = command.wait();
    let mut missed = Vec::new();
    if done < kills {
        missed.push(format!("it was over behind {done} of {kills} kills: try more --tokens"));
    }
    while moved(&database, before).is_some_and(|ended| {
        before = ended;
        true
    }) {}
    server.signal("-KILL");
    server = start();
    missed.extend(wrongs(&database, server.address, &root, &made, expected));
    println!("  {name:9} {expected} tokens ended by one command, {done} kills meanwhile, {} missed", missed.len());
    missed.iter().take(10).for_each(|missed| println!("    {missed}"));
    missed.is_empty()
}

/// Creates so many tokens: whether each is to end, and what whoever has it sends.
fn create(address: SocketAddr, root: &str, tokens: usize) -> Vec<(bool, String)> {
    let (turn, made) = (Mutex::new(0..tokens), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::of(address, Duration::from_secs(20));
                while let Some(turn) = { turn.lock().unwrap().next() } {
                    let doomed = turn % KEPT != 0;
                    let body = format!(r#"{{"name":"{} {turn}","permissions":["VIEW"]}}"#, if doomed { "doomed" } else { "kept" });
                    let (status, body) = client.ask("POST", GRID, root, &body).unwrap();
                    assert_eq!(status, 201, "{body}");
                    made.lock().unwrap().push((doomed, basic(&serde_json::from_str::<Value>(&body).unwrap())));
                }
            });
        }
    });
    made.into_inner().unwrap()
}

fn begin(data: &Path, url: &str, expected: u64) -> std::process::Child {
    let mut command = program(data, url);
    command.args(["token", "bulk-revoke", "--name-part", "doomed", "--expect", &expected.to_string(), "--data"]).arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// How many it has ended, when they are more than before; `None` if it is over.
fn moved(database: &Database<'_>, before: u64) -> Option<u64> {
    let patience = Instant::now();
    loop {
        // A database that is just coming back is asked again.
        let rows = database.ask("SELECT ended || ' ' || state FROM bulk_revoke").unwrap_or_default();
        let ended = rows.first().and_then(|row| row.strip_suffix(" running"));
        match ended.map(|ended| ended.parse().unwrap()) {
            Some(ended) if ended > before => return Some(ended),
            None if !rows.is_empty() => return None,
            _ => {}
        }
        assert!(patience.elapsed() < GOES_ON, "nobody goes on with a bulk revoke: {rows:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What is not as it must be when it is over.
fn wrongs(database: &Database<'_>, address: SocketAddr, root: &str, made: &[(bool, String)], expected: u64) -> Vec<String> {
    let mut wrongs = answered::never(database);
    for (what, sql, right) in [
        ("what it says", "SELECT ended || ' ' || state FROM bulk_revoke", format!("{expected} finished")),
        (
            "entries of tokens",
            "SELECT count(*) FROM audit WHERE action = 'token.revoke' AND request_id LIKE 'bulk-%'",
            expected.to_string(),
        ),
        ("entries of the whole", "SELECT count(*) FROM audit WHERE action = 'token.bulk_revoke'", "1".to_owned()),
    ] {
        let found = database.ask(sql);
        if found != Ok(vec![right]) {
            wrongs.push(format!("{what}: {found:?}"));
        }
    }
    let mut client = Client::of(address, Duration::from_secs(20));
    if !answered::ready(&mut client, root) {
        wrongs.push("the root is not let in".to_owned());
    }
    for (doomed, basic) in made {
        let answer = client.ask("GET", "/verify", basic, "").map(|(status, _)| status);
        let right = if *doomed { 401 } else { 200 };
        if answer != Some(right) {
            wrongs.push(format!("{answer:?} to whoever has a token, not {right}"));
        }
    }
    wrongs
}
