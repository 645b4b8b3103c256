//! A standby takes its primary's place while everybody goes on creating and revoking.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use super::{accepts, ask, cluster::Cluster, create, revoke, root, token};
use crate::support::{
    GRID, Pair,
    program::{Server, until},
};

/// Who creates and revokes at the same time.
const CLIENTS: usize = 4;
/// Revokes that must have been answered before something happens.
const SOME: usize = 10;

/// What was answered.
#[derive(Default)]
struct Answered {
    live: Vec<Pair>,
    ended: Vec<Pair>,
}

/// Ends the clients, however the test goes on; and where it can't, nodes say why.
struct Ending<'o> {
    over: &'o AtomicBool,
    nodes: &'o [Server],
}

impl Drop for Ending<'_> {
    #[expect(clippy::print_stderr, reason = "of a test that fails")]
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        if std::thread::panicking() {
            let told = |node: &Server| node.logged().into_iter().filter(|line| !line.contains("INFO")).collect::<Vec<_>>().join("\n");
            self.nodes.iter().for_each(|node| eprintln!("a node's log:\n{}", told(node)));
        }
    }
}

/// D-08: commits wait for the standby that is promoted, so it has all that was answered; and so long as the old primary
/// goes on as if nothing had happened, nobody is told by it that something is done, nor that a revoked token is live.
#[test]
fn d_08_a_standby_that_is_promoted_has_all_that_was_answered() {
    // What the database itself would be content with. It is not asked.
    let primary = Cluster::start(&["synchronous_commit=local"]);
    let data = tempfile::tempdir().unwrap();
    let root = root(&primary.url_at(primary.port), data.path());
    let standby = primary.standby();
    ask(&primary, "ALTER SYSTEM SET synchronous_standby_names = 'walreceiver'");
    ask(&primary, "SELECT pg_reload_conf()");
    until("commits wait for it", || ask(&primary, "SELECT sync_state FROM pg_stat_replication") == "sync");

    let both = |a: &Cluster, b: &Cluster| format!("postgres://countersign@127.0.0.1:{},127.0.0.1:{}/postgres", a.port, b.port);
    let nodes = [both(&primary, &standby), both(&standby, &primary)].map(|url| Server::start_on(&url, data.path()));
    let (answered, revokes, over) = (Mutex::<Answered>::default(), AtomicUsize::new(0), AtomicBool::new(false));
    let work = |client: usize| {
        for turn in client.. {
            if over.load(SeqCst) {
                return;
            }
            let (one, other) = (&nodes[turn % 2], &nodes[(turn / 2) % 2]);
            let (201, created) = create(one, &root, "a") else { continue };
            let token = Pair::of(&created);
            if turn % 3 == 0 {
                answered.lock().unwrap().live.push(token);
            } else if revoke(other, &root, &token) == 204 {
                for node in &nodes {
                    let status = node.get(GRID, &token).0;
                    assert!([401, 503].contains(&status), "{status} behind the answer to a revoke");
                }
                answered.lock().unwrap().ended.push(token);
                revokes.fetch_add(1, SeqCst);
            }
        }
    };
    std::thread::scope(|scope| {
        let _ending = Ending { over: &over, nodes: &nodes };
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || work(client))).collect();
        let some_more = |what: &str| {
            let before = revokes.load(SeqCst);
            until(what, || revokes.load(SeqCst) >= before + SOME || clients.iter().any(|client| client.is_finished()));
        };
        some_more("revokes are answered by the primary");
        standby.promote();
        some_more("revokes are answered by the new primary while the old one goes on");
        primary.crash();
        some_more("revokes are answered by the new primary alone");
    });

    let Answered { live, ended } = answered.into_inner().unwrap();
    assert!(live.len() >= SOME, "{} creates", live.len());
    for node in &nodes {
        assert!(live.iter().all(|token| accepts(node, token)), "a create that was answered is lost");
        assert!(!ended.iter().any(|token| accepts(node, token)), "a revoke that was answered is lost");
    }
    // All of it is there.
    token(&nodes[0], &root, "last");
    assert_eq!(ask(&standby, "SELECT count(*) = max(seq) AND max(seq) = (SELECT seq FROM feed) FROM audit"), "t");
}
