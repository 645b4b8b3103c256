//! D-01, D-07: kills at any moment. Behind each, a fresh server and the database itself are asked.
//!
//! ```text
//! cargo test --release --test campaigns -- crash [--cycles N] [--store sqlite|postgres] [--seed N]
//! ```

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    Args,
    answered::{self, Answered, Database, Dice, GRID, root},
    cluster::Cluster,
    node::{Client, Server},
};

/// Within how many seconds of the database's return a server that lived on takes changes again.
const RETURN: u64 = 5;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Killed {
    Server,
    Database,
    /// One of its processes, one that serves a server.
    Session,
}

pub(crate) fn run(args: &Args) -> bool {
    let seed = args.number("seed", 1, 1);
    let cycles = args.number("cycles", 6, 500);
    let stores: [(&str, &dyn Fn() -> bool); 2] =
        [("sqlite", &|| sqlite(cycles, seed)), ("postgres", &|| postgres(cycles, seed, args.short))];
    let chosen = stores.into_iter().filter(|(name, _)| args.word("store").is_none_or(|word| word == *name));
    chosen.map(|(_, run)| run()).filter(|held| !held).count() == 0
}

fn sqlite(cycles: u64, seed: u64) -> bool {
    let (outside, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (answered, mut dice) = (Answered::in_directory(outside.path()), Dice(seed));
    let root = root(data.path(), "");
    let start = || answered::start(data.path(), "", &[]).unwrap();
    let database = Database::Sqlite(data.path().to_owned());
    let mut server = start();
    let mut missed = Vec::new();
    for cycle in 1..=cycles {
        // Also at once, which is while it starts.
        answered.until(server.address, &root, dice.below(300), || server.signal("-KILL"));
        server = start();
        let found = answered.missed(&database, server.address, &root, cycle == cycles);
        missed.extend(found.into_iter().map(|found| format!("cycle {cycle}: {found}")));
    }
    let whole = database.ask("PRAGMA integrity_check").unwrap();
    if whole != ["ok"] {
        missed.push(format!("the file: {whole:?}"));
    }
    report(&format!("sqlite    {cycles} kills of the server"), answered.counts(), &missed, seed)
}

fn postgres(cycles: u64, seed: u64, short: bool) -> bool {
    let (outside, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (answered, mut dice) = (Answered::in_directory(outside.path()), Dice(seed));
    let cluster = Cluster::start(&[]);
    let url = cluster.url_at(cluster.port);
    let root = root(data.path(), &url);
    let start = || answered::start(data.path(), &url, &[]).unwrap();
    let database = Database::Postgres(&cluster);
    let mut server = start();
    let (mut missed, mut longest, mut kills) = (Vec::new(), Duration::ZERO, [0; 3]);
    for cycle in 1..=cycles {
        let killed = [Killed::Server, Killed::Database, Killed::Session][usize::try_from(cycle % 3).unwrap()];
        kills[killed as usize] += 1;
        let mut back = Instant::now();
        answered.until(server.address, &root, dice.below(300), || {
            match killed {
                Killed::Server => server.signal("-KILL"),
                Killed::Database => cluster.crash_and_restart(),
                Killed::Session => kill_a_session(&cluster),
            }
            back = Instant::now();
        });
        if killed != Killed::Server {
            longest = longest.max(until_it_creates(&server, &root, back));
            // What is in its memory says nothing about the database.
            server.signal("-KILL");
        }
        server = start();
        let found = answered.missed(&database, server.address, &root, cycle == cycles);
        missed.extend(found.into_iter().map(|found| format!("cycle {cycle}, {killed:?}: {found}")));
    }
    // The short form runs beside everything else.
    if longest > Duration::from_secs(if short { RETURN * 4 } else { RETURN }) {
        missed.push(format!("a server took no changes for {:.1} s behind the return of its database", longest.as_secs_f64()));
    }
    let [servers, databases, sessions] = kills;
    let what = format!(
        "postgres  {servers} kills of the server, {databases} of the database, {sessions} of a session; changes again within {:.1} s",
        longest.as_secs_f64()
    );
    report(&what, answered.counts(), &missed, seed)
}

/// Kills a process of the database that serves a server; the others end with it, and what is not in the log is gone. Returns
/// when the database is back.
fn kill_a_session(cluster: &Cluster) {
    let one =
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1";
    let pid = cluster.run_sql(one).unwrap();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success(), "no session {pid:?} to kill");
    let since = "SELECT 1 FROM pg_stat_activity WHERE pid = ".to_owned() + &pid;
    while cluster.run_sql(&since).is_none_or(|found| !found.is_empty()) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How long behind the return of its database a server that lived on creates again.
fn until_it_creates(server: &Server, root: &str, back: Instant) -> Duration {
    let mut client = Client::of(server.address, Duration::from_secs(20));
    while client.ask("POST", GRID, root, r#"{"name":"behind it","permissions":["VIEW"]}"#).is_none_or(|(status, _)| status != 201) {
        assert!(back.elapsed() < Duration::from_secs(60), "a server never creates again behind the return of its database");
        std::thread::sleep(Duration::from_millis(10));
    }
    back.elapsed()
}

/// Says how it went.
pub(crate) fn report(what: &str, (creates, ends): (usize, usize), missed: &[String], seed: u64) -> bool {
    println!("  {what}: {creates} creates and {ends} revokes answered, {} missed (seed {seed})", missed.len());
    missed.iter().take(10).for_each(|missed| println!("    {missed}"));
    // What was answered nothing proves nothing.
    missed.is_empty() && creates > 0 && ends > 0
}
