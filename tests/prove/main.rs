//! The proof that a revoke is true everywhere when it returns (R-10): real servers on a real PostgreSQL, each reaching it
//! through a passage that can be cut; clients that verify on every node without a pause; tokens that are revoked on any of
//! them; and faults meanwhile.
//!
//! A verification that *began* after the whole answer to the revoke was read, and was answered with 2xx, is an offending
//! accept. One is a failure. So is a revoke behind which a node was not asked often enough: it proves nothing. Where nodes
//! may go on without the database, the receipt says for how long, and which nodes; behind that time the same holds.
//!
//! ```text
//! cargo test --release --test prove -- --revocations 1000 --nodes 3 --fault all
//! ```

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a program of tests, which measures real time")]

#[expect(dead_code, reason = "tests/it has it too")]
mod cluster;
#[expect(dead_code, reason = "tests/campaigns has it too")]
mod node;
mod proxy;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::Scope,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use cluster::Cluster;
use node::{Client, Node, program};
use proxy::{Passage, Proxy};

/// Verifications that must begin on each node behind every revoke.
const COVERAGE: u64 = 20;
/// Tokens that are on their way from create to revoke at once; where a revoke waits for seconds, twice as many.
const LANES: usize = 8;
/// How many of them keep a token until a node is cut off that knows it, so that a short run has some too.
const WAITING_LANES: usize = 3;
/// What nodes do without the database, where they may go on; and for how long they are without it: longer than a revoke
/// takes, and then than any receipt allows.
const ON_LOSS: &str = "serve_stale 3s";
const STALE_CUT: u64 = 6000;
/// How long a verification is waited for before the next one is sent, and for how long after that.
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(5);
const GRID: &str = "/grid/2025-10-13/tokens";

/// What goes wrong while tokens are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A node's connections to the database break, and it gets no new ones: R-11.
    Cut,
    /// They stay, but nothing passes: R-11, R-14.
    Silence,
    /// A node is stopped, and goes on later: R-12.
    Stop,
    /// The sessions that would be notified are ended: R-14.
    Deaf,
    /// They stay, and all passes but the notifications: R-14.
    Mute,
    /// The database crashes and starts again: R-14.
    Crash,
    /// The database is stopped, and goes on later.
    Freeze,
    /// A node can't reach the database, in either way, and goes on without it; tokens that it knows are revoked meanwhile.
    Stale,
}

const FAULTS: [(&str, Fault); 9] = [
    ("none", Fault::None),
    ("cut", Fault::Cut),
    ("silence", Fault::Silence),
    ("stop", Fault::Stop),
    ("deaf", Fault::Deaf),
    ("mute", Fault::Mute),
    ("crash", Fault::Crash),
    ("freeze", Fault::Freeze),
    ("stale", Fault::Stale),
];

/// A token, as the clients see it.
struct Watched {
    basic: String,
    /// Nanoseconds since the start at which the whole answer to its revoke was read; 0 before.
    revoked: AtomicU64,
    nodes: Vec<Seen>,
}

impl Watched {
    /// From when on nobody may accept it on a node, if it is revoked.
    fn over(&self, at: usize) -> Option<u64> {
        let revoked = self.revoked.load(SeqCst);
        (revoked != 0).then(|| revoked + self.nodes[at].allowed.load(SeqCst))
    }
}

/// What was seen of a token on one node.
#[derive(Default)]
struct Seen {
    accepted: AtomicU64,
    /// The latest beginning of a verification that was answered with 2xx.
    last_accepted: AtomicU64,
    /// For how many nanoseconds behind the answer to the revoke the node may accept it, as the receipt says.
    allowed: AtomicU64,
    /// Verifications that began when it was over.
    behind: AtomicU64,
    /// Verifications that are not answered yet.
    waiting: AtomicU64,
}

struct Proof<'s> {
    began: Instant,
    fault: Fault,
    /// What commands work with: a key file, and the database, by a way that nobody cuts.
    data: PathBuf,
    direct: String,
    /// What a build with defects is told.
    seeded: &'s [(&'s str, String)],
    nodes: Vec<Node>,
    /// What receipts call them.
    ids: Vec<String>,
    watched: RwLock<Vec<Arc<Watched>>>,
    offending: AtomicU64,
    /// Verifications that were accepted behind the answer to a revoke, in the time for which its receipt allows it.
    allowed: AtomicU64,
    unknown: AtomicU64,
    verified: AtomicU64,
    /// How often something was done to a node's connections.
    cuts: AtomicU64,
    /// Whether every node has had the fault, and was well again.
    disturbed: AtomicBool,
    over: AtomicBool,
}

impl Proof<'_> {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    /// Verifies all watched tokens on a node, again and again.
    fn verify<'s>(&'s self, at: usize, scope: &'s Scope<'s, '_>) {
        let mut client = Client::of(self.nodes[at].address, Duration::from_secs(3));
        while !self.over.load(SeqCst) {
            let watched = self.watched.read().unwrap().clone();
            // Often, but not so often that two processors have nothing left for the servers and the database.
            std::thread::sleep(Duration::from_millis(1));
            for token in watched {
                let (over, began) = (token.over(at), self.now());
                self.verified.fetch_add(1, SeqCst);
                if over.is_some_and(|over| began > over) {
                    token.nodes[at].behind.fetch_add(1, SeqCst);
                }
                token.nodes[at].waiting.fetch_add(1, SeqCst);
                let Some(mut sent) = client.send("GET", "/verify", &token.basic, "") else {
                    self.note(&token, at, began, 503);
                    continue;
                };
                match sent.answer(SOON) {
                    Some((status, _)) => {
                        self.note(&token, at, began, status);
                        client.keep(sent);
                    }
                    // A node that was stopped answers when it goes on; others are asked meanwhile, and it again.
                    None => drop(scope.spawn(move || {
                        let late = sent.answer(LATE).map_or(503, |(status, _)| status);
                        self.note(&token, at, began, late);
                    })),
                }
            }
        }
    }

    fn note(&self, token: &Watched, at: usize, began: u64, status: u16) {
        let seen = &token.nodes[at];
        match status {
            200 => {
                seen.accepted.fetch_add(1, SeqCst);
                seen.last_accepted.fetch_max(began, SeqCst);
                match token.over(at) {
                    Some(over) if began > over => drop(self.offending.fetch_add(1, SeqCst)),
                    Some(_) if began > token.revoked.load(SeqCst) => drop(self.allowed.fetch_add(1, SeqCst)),
                    _ => {}
                }
            }
            401 => {}
            _ => drop(self.unknown.fetch_add(1, SeqCst)),
        }
        seen.waiting.fetch_sub(1, SeqCst);
    }
}

/// What became of one revoke.
struct Revoked {
    /// From its request to the end of its answer.
    took: Duration,
    /// From its request to the last acceptance that began on any other node.
    elsewhere: Duration,
    /// How long after its answer the last acceptance began; and for how long its receipt allows it.
    stale: Duration,
    bound: Duration,
}

/// Revokes a token by command, which tells what is in the receipt: for how long some node may still accept it, and the ids
/// of those that may.
fn revoke_by_command(proof: &Proof<'_>, id: &str) -> (Duration, Vec<String>) {
    let mut revoke = program(&proof.data, &proof.direct);
    revoke.envs(proof.seeded.iter().map(|(name, value)| (name, value)));
    let output = revoke.args(["token", "revoke", id, "--output", "json", "--data"]).arg(&proof.data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let receipt = &serde_json::from_slice::<Value>(&output.stdout).unwrap()["receipt"];
    let unheard = receipt["unheard"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned());
    (Duration::from_millis(receipt["boundMillis"].as_u64().unwrap()), unheard.collect())
}

/// Creates, watches and revokes tokens, one after the other.
fn lane(proof: &Proof<'_>, root: &str, seed: usize, left: &AtomicU64, done: &Mutex<Vec<Revoked>>) {
    let mut clients: Vec<_> = proof.nodes.iter().map(|node| Client::of(node.address, Duration::from_secs(30))).collect();
    let mut turn = seed;
    // As many as were asked for, and until each node had its fault.
    while left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() || !proof.disturbed.load(SeqCst) {
        let body = r#"{"name":"proof","permissions":["VIEW"]}"#;
        // Whoever can't is asked again, or another is.
        let created = loop {
            turn = (turn * 7 + 3) % 1009;
            let count = clients.len();
            if let Some((201, created)) = clients[turn % count].ask("POST", GRID, root, body) {
                break serde_json::from_str::<Value>(&created).unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let text = |name: &str| created[name].as_str().or_else(|| created["apiToken"][name].as_str()).unwrap().to_owned();
        let basic = STANDARD.encode(format!("{}:{}", text("clientId"), text("clientSecret")));
        let token = Arc::new(Watched { basic, revoked: AtomicU64::new(0), nodes: proof.nodes.iter().map(|_| Seen::default()).collect() });
        proof.watched.write().unwrap().push(Arc::clone(&token));
        // Known to all, but to those that can't know now.
        let stale = proof.fault == Fault::Stale;
        let patience = Instant::now();
        while token.nodes.iter().any(|seen| seen.accepted.load(SeqCst) == 0) && (stale || patience.elapsed() < Duration::from_secs(2)) {
            std::thread::sleep(Duration::from_micros(200));
        }
        // Whoever has just been cut off knows it.
        if stale || matches!(proof.fault, Fault::Cut | Fault::Silence) && seed < WAITING_LANES {
            let cuts = proof.cuts.load(SeqCst);
            while proof.cuts.load(SeqCst) == cuts {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let (asked, by, receipt) = if stale {
            (proof.now(), None, revoke_by_command(proof, &text("id")))
        } else {
            let path = format!("{GRID}/{}", text("id"));
            loop {
                turn = (turn * 7 + 3) % 1009;
                let (by, asked) = (turn % clients.len(), proof.now());
                if let Some((204 | 404, _)) = clients[by].ask("DELETE", &path, root, "") {
                    break (asked, Some(by), (Duration::ZERO, Vec::new()));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        let (answered, (bound, unheard)) = (proof.now(), receipt);
        for (seen, _) in token.nodes.iter().zip(&proof.ids).filter(|(_, id)| unheard.contains(id)) {
            seen.allowed.store(u64::try_from(bound.as_nanos()).unwrap(), SeqCst);
        }
        token.revoked.store(answered, SeqCst);
        let patience = Instant::now();
        let wait_for = |is_so: &dyn Fn() -> bool| {
            while !is_so() {
                assert!(
                    patience.elapsed() < Duration::from_secs(60),
                    "a node was not asked often enough behind a revoke: this proves nothing"
                );
                std::thread::sleep(Duration::from_micros(500));
            }
        };
        for seen in &token.nodes {
            // Whoever was asked before and is late could bring it back: what counts is asked behind their answer.
            wait_for(&|| seen.waiting.load(SeqCst) == 0);
            let enough = seen.behind.load(SeqCst) + COVERAGE;
            wait_for(&|| seen.behind.load(SeqCst) >= enough);
        }
        proof.watched.write().unwrap().retain(|other| !Arc::ptr_eq(other, &token));
        let last = |seen: &Seen| seen.last_accepted.load(SeqCst);
        let latest = token.nodes.iter().map(last).max().unwrap();
        let others = token.nodes.iter().enumerate().filter(|(at, _)| Some(*at) != by).map(|(_, seen)| last(seen)).max().unwrap_or(0);
        done.lock().unwrap().push(Revoked {
            took: Duration::from_nanos(answered - asked),
            elsewhere: Duration::from_nanos(others.saturating_sub(asked)),
            stale: Duration::from_nanos(latest.saturating_sub(answered)),
            bound,
        });
    }
}

/// Makes the fault come and go until the proof is over.
fn disturb(proof: &Proof<'_>, cluster: &Cluster) {
    let pause = |millis: u64| {
        let until = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < until && !proof.over.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    for turn in 0.. {
        pause(700);
        if proof.over.load(SeqCst) {
            return;
        }
        if turn >= proof.nodes.len() {
            proof.disturbed.store(true, SeqCst);
        }
        let node = &proof.nodes[turn % proof.nodes.len()];
        let set_for = |passage, millis| {
            node.proxy.set(passage);
            proof.cuts.fetch_add(1, SeqCst);
            pause(millis);
            node.proxy.set(Passage::Open);
        };
        match proof.fault {
            Fault::None => {}
            Fault::Cut => set_for(Passage::Cut, 2500),
            Fault::Silence => set_for(Passage::Silent, 2500),
            Fault::Mute => set_for(Passage::Mute, 2500),
            Fault::Stale => set_for(if turn % 2 == 0 { Passage::Cut } else { Passage::Silent }, STALE_CUT),
            Fault::Stop => {
                node.signal("-STOP");
                pause(2500);
                node.signal("-CONT");
            }
            Fault::Deaf => {
                cluster.run_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR wait_event = 'ClientRead' AND query LIKE '%FROM feed f LEFT JOIN node%'");
            }
            Fault::Crash => cluster.crash_and_restart(),
            Fault::Freeze => {
                cluster.signal("-STOP");
                pause(1500);
                cluster.signal("-CONT");
            }
        }
    }
}

fn percentile(mut all: Vec<Duration>, percent: usize) -> f64 {
    all.sort_unstable();
    all.get((all.len() * percent / 100).min(all.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

fn prove(nodes: usize, revocations: u64, fault: Fault, more: &[String], seeded: &[(&str, String)]) -> bool {
    let cluster = Cluster::start(&[]);
    let data = tempfile::tempdir().unwrap();
    let direct = cluster.url_at(cluster.port);
    let made = program(data.path(), &direct)
        .args(["platform", "create", "--name", "Proof", "--output", "json", "--data"])
        .arg(data.path())
        .output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let half = |name: &str| made["tokens"][0][name].as_str().unwrap().to_owned();
    let root = STANDARD.encode(format!("{}:{}", half("clientId"), half("clientSecret")));
    let mut more = more.to_vec();
    if fault == Fault::Stale {
        more.extend(["--on-database-loss".to_owned(), ON_LOSS.to_owned()]);
    }
    let mut known = String::new();
    let start = |_| {
        let proxy = Proxy::to(cluster.port);
        let url = cluster.url_at(proxy.port);
        let node = Node::start(data.path(), proxy, &url, &more, seeded);
        // It has said who it is before it listens.
        let id = cluster.run_sql(&format!("SELECT id FROM node WHERE strpos('{known}', id) = 0")).unwrap();
        known += &id;
        (node, id)
    };
    let (nodes, ids): (Vec<_>, Vec<_>) = (0..nodes).map(start).unzip();
    let proof = Proof {
        began: Instant::now(),
        fault,
        data: data.path().to_owned(),
        direct,
        seeded,
        nodes,
        ids,
        watched: RwLock::default(),
        offending: AtomicU64::new(0),
        unknown: AtomicU64::new(0),
        verified: AtomicU64::new(0),
        allowed: AtomicU64::new(0),
        cuts: AtomicU64::new(0),
        disturbed: AtomicBool::new(fault == Fault::None),
        over: AtomicBool::new(false),
    };
    let (left, done) = (AtomicU64::new(revocations), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for at in 0..proof.nodes.len() {
            let proof = &proof;
            scope.spawn(move || proof.verify(at, scope));
        }
        scope.spawn(|| disturb(&proof, &cluster));
        let lanes: Vec<_> = (0..if fault == Fault::Stale { LANES * 2 } else { LANES })
            .map(|seed| {
                scope.spawn({
                    let (proof, root, left, done) = (&proof, &root, &left, &done);
                    move || lane(proof, root, seed, left, done)
                })
            })
            .collect();
        let ended: Vec<_> = lanes.into_iter().map(|lane| lane.join()).collect();
        proof.over.store(true, SeqCst);
        proof.nodes.iter().for_each(|node| node.proxy.set(Passage::Open));
        assert!(ended.iter().all(Result::is_ok), "a lane failed");
    });
    let done = done.into_inner().unwrap();
    let offending = proof.offending.load(SeqCst);
    let took = |percent| percentile(done.iter().map(|revoked| revoked.took).collect(), percent);
    let elsewhere = |percent| percentile(done.iter().map(|revoked| revoked.elsewhere).collect(), percent);
    let longest = |of: fn(&Revoked) -> Duration| done.iter().map(of).max().unwrap_or_default();
    let (stale, bound) = (longest(|revoked| revoked.stale), longest(|revoked| revoked.bound));
    let name = FAULTS.iter().find(|(_, other)| *other == fault).map_or("?", |(name, _)| name);
    println!(
        "{name:8} {} nodes  {} revokes  offending {offending}  stale {:.1} of {:.0} ms  answer p50 {:.1} p99 {:.1} ms  last accepted elsewhere p50 {:.1} p99 {:.1} ms  {} verified, {} unknown, {:.0} s",
        proof.nodes.len(),
        done.len(),
        stale.as_secs_f64() * 1e3,
        bound.as_secs_f64() * 1e3,
        took(50),
        took(99),
        elsewhere(50),
        elsewhere(99),
        proof.verified.load(SeqCst),
        proof.unknown.load(SeqCst),
        proof.began.elapsed().as_secs_f64(),
    );
    // What was to go wrong must have.
    match fault {
        Fault::Mute => assert!(proof.nodes.iter().all(|node| node.proxy.swallowed() > 0), "no notification was lost: this proves nothing"),
        Fault::Stale => assert!(proof.allowed.load(SeqCst) > 0, "no stale node was asked in time: this proves nothing"),
        _ => {}
    }
    offending == 0 && done.len() as u64 >= revocations
}

fn main() -> ExitCode {
    let (mut nodes, mut revocations, mut faults, mut more) =
        (3, 24, vec![Fault::None, Fault::Cut, Fault::Stop, Fault::Mute, Fault::Stale], Vec::new());
    let mut seeded = Vec::new();
    // A runner that asks for the tests in it.
    if std::env::args().any(|argument| argument == "--list") {
        if !std::env::args().any(|argument| argument == "--ignored") {
            println!("prove: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("a value");
        match argument.as_str() {
            "--nodes" => nodes = value().parse().expect("a number of nodes"),
            "--revocations" => revocations = value().parse().expect("a number of revocations"),
            "--fault" => {
                let name = value();
                faults = FAULTS.iter().filter(|(known, _)| name == "all" || name == *known).map(|(_, fault)| *fault).collect();
                assert!(!faults.is_empty(), "faults are {:?} and all", FAULTS.map(|(name, _)| name));
            }
            // A build with the feature `defects` has this one, and the proof must fail.
            "--defect" => seeded.push(("DEFECT", value())),
            // It waits for so many milliseconds between a read of a token's row and its insert into the index: time for a
            // revoke to overtake it, which must make no difference.
            "--pause" => seeded.push(("PAUSE", value())),
            "--lease" => more.extend(["--lease".to_owned(), value()]),
            // What `cargo test` says to every test program.
            _ => {}
        }
    }
    assert!(seeded.is_empty() || cfg!(feature = "defects"), "only a build with the feature `defects` has defects and pauses");
    let held = faults.into_iter().map(|fault| prove(nodes, revocations, fault, &more, &seeded)).filter(|held| !held).count() == 0;
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
