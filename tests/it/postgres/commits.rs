//! Transactions that are not simply committed: nobody is told that something was done that may not be, nothing is done
//! twice, and nobody misses it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use super::{
    accepts, ask,
    cluster::Cluster,
    command, create,
    proxy::{Passage, Proxy},
    revoke, root, token,
};
use crate::support::{
    GRID, Pair,
    program::{Server, program, request, until},
};

#[test]
fn d_06_a_commit_that_nobody_answers_is_acknowledged_by_nobody_and_can_be_repeated() {
    let (cluster, data) = (Cluster::start(&[]), tempfile::tempdir().unwrap());
    let root = root(&cluster.url_at(cluster.port), data.path());
    let proxy = Proxy::to(cluster.port);
    let node = Server::start_on(&cluster.url_at(proxy.port), data.path());
    let create = || {
        let body = r#"{"name":"once","permissions":["VIEW"]}"#;
        let head = format!("Host: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        let head = format!("{head}\r\nIdempotency-Key: k\r\nAuthorization: {}", root.basic());
        request(node.api, &format!("POST {GRID} HTTP/1.1\r\n{head}\r\n\r\n{body}"))
    };
    let count = |what: &str| ask(&cluster, &format!("SELECT count(*) FROM {what}"));

    proxy.set(Passage::Unanswered);
    assert_eq!(create().0, 503);
    assert_eq!(count("token WHERE name = 'once'"), "1", "it was not committed: this proves nothing");
    proxy.set(Passage::Open);
    let (status, created) = create();
    assert_eq!(status, 201, "{created}");
    assert_eq!(
        (count("token WHERE name = 'once'"), count("audit WHERE action = 'token.create' AND detail LIKE '%once%'")),
        ("1".into(), "1".into())
    );
    let token = Pair::of(&created);
    assert!(accepts(&node, &token));

    proxy.set(Passage::Unanswered);
    assert_eq!(revoke(&node, &root, &token), 503);
    assert_eq!(count("token WHERE name = 'once' AND revoked_at IS NOT NULL"), "1", "it was not committed: this proves nothing");
    proxy.set(Passage::Open);
    // Grid has no token any more that was ended before; Blips shows it.
    assert!([204, 404].contains(&revoke(&node, &root, &token)));
    assert_eq!((accepts(&node, &token), count("audit WHERE action = 'token.revoke'")), (false, "1".into()));
}

/// Makes the transactions of one node stall before their commit, for as long as it lives.
struct Stall(Child);

impl Stall {
    fn begin(cluster: &Cluster, node: &str) -> Self {
        let trigger = "CREATE TABLE IF NOT EXISTS stalled (node text); CREATE SEQUENCE IF NOT EXISTS stalls; \
             CREATE OR REPLACE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF EXISTS (SELECT 1 FROM stalled WHERE node = NEW.node) THEN PERFORM nextval('stalls'), pg_advisory_xact_lock(13); END IF; RETURN NEW; END $$; \
             CREATE OR REPLACE TRIGGER stall AFTER INSERT ON audit FOR EACH ROW EXECUTE FUNCTION stall()";
        ask(cluster, trigger);
        ask(cluster, &format!("DELETE FROM stalled; INSERT INTO stalled VALUES ('{node}')"));
        let mut holder = cluster.psql().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(holder.stdin.as_ref().unwrap(), "SELECT pg_advisory_lock(13)::text || 'held';").unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("held"), "{line}");
        Self(holder)
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Transactions that stall, and those that wait behind one for the feed.
fn waiting(cluster: &Cluster) -> (usize, usize) {
    let count = |events: &str| {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event IN ({events})");
        ask(cluster, &sql).parse().unwrap()
    };
    (count("'advisory'"), count("'transactionid', 'tuple'"))
}

/// Two nodes, the id of the first, and a root.
fn two_nodes(cluster: &Cluster, data: &std::path::Path) -> ([Server; 2], String, Pair) {
    let url = cluster.url_at(cluster.port);
    let root = root(&url, data);
    let one = Server::start_on(&url, data);
    let id = ask(cluster, "SELECT id FROM node");
    ([one, Server::start_on(&url, data)], id, root)
}

fn assert_no_gap(cluster: &Cluster) {
    assert_eq!(ask(cluster, "SELECT count(*) = max(seq) AND max(seq) = (SELECT seq FROM feed) FROM audit"), "t");
}

/// One takes a place of the feed and stalls before its commit; another wants to commit behind it.
#[test]
fn r_13_whoever_stalls_before_a_commit_makes_nobody_skip_it() {
    let (cluster, data) = (Cluster::start(&[]), tempfile::tempdir().unwrap());
    let (nodes, id, root) = two_nodes(&cluster, data.path());
    let [slow, quick, last] = ["slow", "quick", "last"].map(|name| token(&nodes[0], &root, name));
    let assert_ended = |token: &Pair| assert!(nodes.iter().all(|node| !accepts(node, token)));

    let stall = Stall::begin(&cluster, &id);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| revoke(&nodes[0], &root, &slow));
        until("the first stalls", || waiting(&cluster) == (1, 0));
        let second = scope.spawn(|| revoke(&nodes[1], &root, &quick));
        until("the second waits for it", || waiting(&cluster) == (1, 1));
        assert_eq!(ask(&cluster, "SELECT count(*) FROM token WHERE revoked_at IS NOT NULL"), "0");
        drop(stall);
        assert_eq!((first.join().unwrap(), second.join().unwrap()), (204, 204));
    });
    assert_ended(&slow);
    assert_ended(&quick);
    assert_no_gap(&cluster);

    // One that stalls for good is ended by the database, once, and whoever wants to end something gets through.
    let _stall = Stall::begin(&cluster, &id);
    std::thread::scope(|scope| {
        let stalled = scope.spawn(|| create(&nodes[0], &root, "stalled").0);
        until("it stalls", || waiting(&cluster) == (1, 0));
        assert_eq!(revoke(&nodes[1], &root, &last), 204);
        assert_eq!(stalled.join().unwrap(), 503);
    });
    assert_ended(&last);
    // Not once more: whoever waits behind it would wait for that too.
    assert_eq!(ask(&cluster, "SELECT last_value FROM stalls"), "2");
    assert_eq!(ask(&cluster, "SELECT count(*) FROM token WHERE name = 'stalled'"), "0");
    assert_no_gap(&cluster);
}

/// Somebody ends sessions of each kind, those in the middle of a transaction too; nobody restarts anything.
#[test]
fn d_07_sessions_that_are_ended_are_made_again() {
    let (cluster, data) = (Cluster::start(&[]), tempfile::tempdir().unwrap());
    let (nodes, id, root) = two_nodes(&cluster, data.path());
    let kept = token(&nodes[0], &root, "kept");
    let end = |which: &str| {
        let ended =
            format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'countersign' AND {which}");
        ask(&cluster, &ended).parse::<usize>().unwrap()
    };
    for (kind, which) in [
        ("the writers'", "query IN ('COMMIT', 'NOTIFY countersign')"),
        ("the feeds'", "(query LIKE '%FROM feed f LEFT JOIN node%' OR query LIKE '%UPDATE node SET followed%')"),
        ("all", "true"),
    ] {
        until(kind, || end(which) > 0);
        for node in &nodes {
            assert!(accepts(node, &kept), "{kind}");
            let mut made = None;
            until(kind, || {
                let (status, created) = create(node, &root, "behind");
                made = (status == 201).then(|| Pair::of(&created));
                made.is_some()
            });
            let made = made.unwrap();
            until(kind, || revoke(node, &root, &made) != 503);
            assert!(nodes.iter().all(|node| !accepts(node, &made)), "{kind}");
        }
    }
    let _stall = Stall::begin(&cluster, &id);
    std::thread::scope(|scope| {
        let stalled = scope.spawn(|| create(&nodes[0], &root, "stalled").0);
        until("it stalls", || waiting(&cluster) == (1, 0));
        assert_eq!(end("wait_event = 'advisory'"), 1);
        assert_eq!(stalled.join().unwrap(), 503);
    });
    assert_eq!(ask(&cluster, "SELECT count(*) FROM token WHERE name = 'stalled'"), "0");
    assert_eq!(revoke(&nodes[1], &root, &kept), 204);
    assert!(nodes.iter().all(|node| !accepts(node, &kept)));
    assert_no_gap(&cluster);
}

/// A process that has a lease on a new file until its standard input ends.
fn lease(path: &Path) -> Child {
    let script = "import fcntl, os, signal, sys; signal.signal(signal.SIGIO, signal.SIG_IGN); \
                  fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600), fcntl.F_SETLEASE, fcntl.F_WRLCK); \
                  print('leased', flush=True); sys.stdin.read()";
    let mut keeper = Command::new("python3");
    let mut keeper = keeper.args(["-c", script]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "leased\n");
    keeper
}

/// A node does not say that it has followed before its journal has what it followed: whoever hears it from all may lose the
/// database and every journal but one.
#[test]
fn r_20_an_end_that_all_have_followed_is_in_every_journal() {
    let (cluster, data) = (Cluster::start(&[]), [(); 2].map(|()| tempfile::tempdir().unwrap()));
    let url = cluster.url_at(cluster.port);
    let root = root(&url, data[0].path());
    fs::copy(data[0].path().join("keys.json"), data[1].path().join("keys.json")).unwrap();
    let slow = Server::start_on(&url, data[0].path());
    let id = ask(&cluster, "SELECT id FROM node");
    let _other = Server::start_on(&url, data[1].path());
    let journals = data.each_ref().map(|data| data.path().join("revocations.jsonl"));
    let has = |journal: &Path, token: &Pair| fs::read_to_string(journal).is_ok_and(|text| text.contains(&token.id));
    let [first, second] = ["first", "second"].map(|name| token(&slow, &root, name));
    // By a command, which has no journal itself.
    let unheard = |token: &Pair| {
        let revoked = command(&url, data[0].path(), &["token", "revoke", &token.id, "--output", "json"]);
        assert!(revoked.status.success(), "{revoked:?}");
        serde_json::from_slice::<Value>(&revoked.stdout).unwrap()["receipt"]["unheard"].clone()
    };
    assert_eq!(unheard(&first), json!([]));
    assert!(journals.iter().all(|journal| has(journal, &first)));

    // A disk that does not answer: opening a file waits for whoever has a lease on it.
    let leased = data[0].path().join("leased");
    let mut keeper = lease(&leased);
    fs::rename(&leased, &journals[0]).unwrap();
    assert_eq!(unheard(&second), json!([id]));
    assert!(!accepts(&slow, &second) && has(&journals[1], &second));
    // Nobody waits for that disk who only looks.
    assert_eq!(slow.admin("/healthz").0, 200);
    // Looked at without opening it: that would wait as well.
    assert_eq!(fs::metadata(&journals[0]).unwrap().len(), 0);
    // When it answers, it is given what it is owed.
    drop(keeper.stdin.take());
    keeper.wait().unwrap();
    until("it is written", || has(&journals[0], &second));
    // Nor does anybody wait for its word any longer, though nothing new happens.
    let newest = || ask(&cluster, "SELECT seq FROM feed");
    let before = newest();
    until("it says so", || ask(&cluster, "SELECT count(*) FROM node, feed WHERE followed < seq") == "0");
    assert_eq!(newest(), before, "it said so with the next change only");
}

/// Where a commit's wait for a standby was cancelled, the database says that it is committed there, and perhaps nowhere else:
/// a database is not given up on that word.
#[test]
fn d_06_a_database_is_not_moved_by_a_commit_that_no_standby_has() {
    let (cluster, data, new) = (Cluster::start(&[]), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = cluster.url_at(cluster.port);
    root(&url, data.path());
    let wait_for = |standby: &str| {
        ask(&cluster, &format!("ALTER SYSTEM SET synchronous_standby_names = '{standby}'"));
        ask(&cluster, "SELECT pg_reload_conf()");
        until("it is known", || ask(&cluster, "SHOW synchronous_standby_names") == standby);
    };
    let to = format!("sqlite://{}", new.path().display());
    let finish = || command(&url, data.path(), &["migrate-store", "--to", &to, "--finish"]);
    wait_for("gone");
    std::thread::scope(|scope| {
        let moving = scope.spawn(finish);
        let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'";
        until("it commits", || ask(&cluster, cancel) == "1");
        let moved = moving.join().unwrap();
        assert!(!moved.status.success() && String::from_utf8_lossy(&moved.stderr).contains("nobody knows"), "{moved:?}");
    });
    let keys = data.path().join("keys.json");
    let held = program().args(["token", "list", "--data"]).arg(new.path()).arg("--key-file").arg(keys).output().unwrap();
    assert!(String::from_utf8_lossy(&held.stderr).contains("a copy that is not whole yet"), "{held:?}");
    wait_for("");
    let moved = finish();
    assert!(moved.status.success(), "{moved:?}");
}

/// Statements keep the plans that they were given when nothing was in the tables yet.
#[test]
fn a_create_reads_few_tokens_however_many_there_are() {
    const CREATED: u64 = 300;
    let cluster = Cluster::start(&["autovacuum=off"]);
    let (url, data) = (cluster.url_at(cluster.port), tempfile::tempdir().unwrap());
    let root = root(&url, data.path());
    let server = Server::start_on(&url, data.path());
    for _ in 0..CREATED {
        token(&server, &root, "a");
    }
    // Its sessions tell what they have read when they end.
    drop(server);
    let read = "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'token') + \
                (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'token')";
    let mut rows = 0;
    until("it is counted", || {
        rows = ask(&cluster, read).parse().unwrap_or(0);
        rows >= CREATED
    });
    assert!(rows < CREATED * 5, "{rows} rows were read");
}

/// O-05: reads that wait for the database, however many, are in no end's way.
#[test]
fn o_05_an_end_waits_for_no_reads() {
    let (cluster, data) = (Cluster::start(&[]), tempfile::tempdir().unwrap());
    let url = cluster.url_at(cluster.port);
    let root = root(&url, data.path());
    let node = Server::start_on(&url, data.path());
    let ended = token(&node, &root, "ended");
    assert_eq!(revoke(&node, &root, &ended), 204);
    drop(node);
    // One that has it no longer in memory, so that it has to read it, with its platform.
    let node = Server::start_on(&url, data.path());
    let mut tokens = (0..20).map(|n| token(&node, &root, &format!("token {n}"))).collect::<Vec<_>>();
    let mut holder = cluster.psql().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(holder.stdin.as_ref().unwrap(), "BEGIN; LOCK TABLE platform; SELECT 'held';").unwrap();
    BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut String::new()).unwrap();
    let waiting = || {
        let pids = ask(&cluster, "SELECT pid FROM pg_stat_activity WHERE application_name = 'countersign' AND wait_event_type = 'Lock'");
        pids.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..14 {
            scope.spawn(|| {
                while !over.load(std::sync::atomic::Ordering::SeqCst) {
                    node.get("/verify", &ended);
                }
            });
        }
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("a token is ended while the sessions that read wait", || {
                let before = waiting();
                if before.len() < 8 {
                    return false;
                }
                let token = tokens.pop().expect("no end was made meanwhile");
                // Some of them may have given up meanwhile; whoever waited behind them all would have waited for more.
                revoke(&node, &root, &token) == 204 && waiting().intersection(&before).count() >= 4
            });
        }));
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        holder.kill().unwrap();
        holder.wait().unwrap();
        made.unwrap();
    });
}
