//! O-01 to O-06, O-09: more than a server can serve, and clients that mean no good. What others get of it is looked at all the
//! while: who has a token verifies, ends are made, `/healthz` answers.
//!
//! ```text
//! cargo test --release --test campaigns -- overload [--part NAME] [--store sqlite|postgres] [--connections N] [--seconds N]
//! ```
//! The short form asserts what is answered, and what is held open; only the full one asserts how long it took.

use std::{
    collections::HashMap,
    io::Write as _,
    net::TcpStream,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::{
    Args,
    answered::{Dice, GRID, ready, root},
    cluster::Cluster,
    node::{Client, Server},
    pressure::{PATIENCE, Seen, Times, ask, ask_once, beside, connect, descriptors, is_closed, request, resident, tokens},
};

/// Files that a server may have open beside its clients' connections.
const KEPT: usize = 56;

/// One thing that is tried: what it says about itself, and what did not hold.
struct Outcome {
    line: String,
    missed: Vec<String>,
}

pub(crate) fn run(args: &Args) -> bool {
    let postgres = || Cluster::start(&[]);
    let data = tempfile::tempdir().unwrap();
    let on_sqlite: [(&str, Part); 7] = [
        ("slow heads", slow_heads),
        ("slow bodies", slow_bodies),
        ("crowd", crowd),
        ("descriptors", no_descriptors),
        ("load", load),
        ("credentials", bad_credentials),
        ("ending", ending),
    ];
    let chosen = |name: &str| args.word("part").is_none_or(|part| part == name);
    let on = |store: &str| args.word("store").is_none_or(|word| word == store);
    let mut held = true;
    if on("sqlite") {
        let place = Place { data: data.path(), url: "", root: &root(data.path(), ""), cluster: None };
        for (name, part) in on_sqlite.iter().filter(|(name, _)| chosen(name)) {
            held &= report("sqlite", name, part(args, &place));
        }
    }
    // Where the database makes a difference.
    let on_postgres = [("load", load as Part), ("credentials", bad_credentials)];
    if on("postgres") && on_postgres.iter().any(|(name, _)| chosen(name)) {
        let (cluster, data) = (postgres(), tempfile::tempdir().unwrap());
        let url = cluster.url_at(cluster.port);
        let place = Place { data: data.path(), url: &url, root: &root(data.path(), &url), cluster: Some(&cluster) };
        for (name, part) in on_postgres.iter().filter(|(name, _)| chosen(name)) {
            held &= report("postgres", name, part(args, &place));
        }
    }
    held
}

type Part = fn(&Args, &Place<'_>) -> Outcome;

fn report(store: &str, name: &str, outcome: Outcome) -> bool {
    println!("  {store:9} {name}: {}", outcome.line);
    outcome.missed.iter().for_each(|missed| println!("    {missed}"));
    outcome.missed.is_empty()
}

/// Where servers are started.
struct Place<'p> {
    data: &'p Path,
    url: &'p str,
    root: &'p str,
    cluster: Option<&'p Cluster>,
}

impl Place<'_> {
    fn start(&self, more: &[&str]) -> Server {
        // A short lease: a revoke waits for a server of an earlier part that was killed as long as that may believe what it knew.
        let more: Vec<_> = ["--log", "warn", "--lease", "200ms"].iter().chain(more).map(|&word| word.to_owned()).collect();
        let server = Server::start(self.data, self.url, &more, &[]).unwrap();
        assert!(ready(&mut Client::of(server.address, PATIENCE), self.root));
        server
    }
}

/// What others saw is all right; in the full form, also soon.
fn judged(args: &Args, seen: &Seen, missed: &mut Vec<String>) {
    missed.extend(seen.failed.iter().take(5).cloned());
    if seen.verifies.count() == 0 || seen.ends.count() == 0 || seen.healths.count() == 0 {
        missed.push("somebody was never answered".to_owned());
    }
    for (what, times) in [("ends", &seen.ends), ("healthz", &seen.healths)] {
        if !args.short && times.within(99) > Duration::from_secs(1) {
            missed.push(format!("{what} took {:?}", times.within(99)));
        }
    }
}

fn bounded(what: &str, found: usize, most: usize, missed: &mut Vec<String>) {
    if found > most {
        missed.push(format!("{what}: {found}, more than {most}"));
    }
}

/// Opens connections that do not block.
fn open(server: &Server, count: usize) -> Vec<TcpStream> {
    let made = (0..count).map(|_| {
        let stream = connect(server.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    });
    made.collect()
}

/// O-01: connections that send a byte of their head now and then, and as many that send nothing at all.
fn slow_heads(args: &Args, place: &Place<'_>) -> Outcome {
    let count = usize::try_from(args.number("connections", 150, 5000)).unwrap();
    let patience = Duration::from_secs(if args.short { 2 } else { 10 });
    let most = 2 * count + 100;
    let server = place.start(&["--header-timeout", &format!("{}s", patience.as_secs()), "--max-connections", &most.to_string()]);
    let (before, mut files, mut memory) = (resident(server.pid()), 0, 0.0_f64);
    let (mut ages, mut missed) = (Vec::new(), Vec::new());
    let seen = beside(&server, place.root, || {
        let mut slow = Vec::new();
        // Each from its own beginning: opening so many takes a while.
        let mut add = |drips: bool| slow.extend((0..count).flat_map(|_| open(&server, 1)).map(|stream| (stream, Instant::now(), drips)));
        add(true);
        add(false);
        let (began, mut dripped) = (Instant::now(), Instant::now());
        while !slow.is_empty() && began.elapsed() < patience + PATIENCE {
            let drip = dripped.elapsed() > patience / 4;
            slow.retain_mut(|(stream, since, drips)| {
                if is_closed(stream) || drip && *drips && stream.write_all(b"G").is_err() {
                    ages.push(since.elapsed());
                    return false;
                }
                true
            });
            if drip {
                dripped = Instant::now();
                (files, memory) = (files.max(descriptors(server.pid())), memory.max(resident(server.pid())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bounded("connections that were never closed", slow.len(), 0, &mut missed);
    });
    let ages = Times::of(ages);
    judged(args, &seen, &mut missed);
    bounded("open files", files, most + KEPT, &mut missed);
    bounded("MiB more", (memory - before).max(0.0) as usize, 150, &mut missed);
    if ages.within(0) + Duration::from_millis(300) < patience {
        missed.push(format!("one had no more than {:?}", ages.within(0)));
    }
    if !args.short && (ages.within(100) > patience + Duration::from_secs(2) || seen.verifies.within(99) > Duration::from_millis(100)) {
        missed.push("not in time".to_owned());
    }
    let line = format!(
        "{} connections closed after {:.1?} to {:.1?} of {patience:?}; {files} files, {:.0} MiB more; {}",
        ages.count(),
        ages.within(0),
        ages.within(100),
        memory - before,
        seen.line()
    );
    Outcome { line, missed }
}

/// O-02: bodies that come byte by byte, and lists that nobody reads.
fn slow_bodies(args: &Args, place: &Place<'_>) -> Outcome {
    let count = usize::try_from(args.number("connections", 60, 1000)).unwrap();
    let (body, write) = if args.short { ("1s", "2s") } else { ("10s", "30s") };
    let server = place.start(&["--body-timeout", body, "--write-timeout", write]);
    tokens(server.address, place.root, &"x".repeat(255), 100);
    let (before, mut memory, mut missed) = (resident(server.pid()), 0.0_f64, Vec::new());
    let (mut refused, mut let_go, began) = (0, 0, Instant::now());
    let seen = beside(&server, place.root, || {
        let head = format!(
            "POST {GRID} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {}\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n",
            place.root
        );
        let list = request("GET", &format!("{GRID}?limit=100"), place.root, "", "");
        let (mut bodies, mut readers) = (open(&server, count), open(&server, count / 6));
        bodies.iter_mut().for_each(|stream| stream.write_all(head.as_bytes()).unwrap());
        while !(bodies.is_empty() && readers.is_empty()) && began.elapsed() < 4 * PATIENCE {
            bodies.retain_mut(|stream| {
                let (mut answer, _) = ([0; 1024], stream.write_all(b" "));
                match std::io::Read::read(stream, &mut answer) {
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return true,
                    Ok(count) if answer[..count].starts_with(b"HTTP/1.1 400 ") => refused += 1,
                    _ => {}
                }
                false
            });
            // They ask as long as anything is taken from them, and read nothing.
            readers.retain_mut(|stream| {
                let gone = std::iter::repeat_with(|| stream.write_all(list.as_bytes())).find_map(Result::err).unwrap();
                let waits = gone.kind() == std::io::ErrorKind::WouldBlock;
                let_go += u64::from(!waits);
                waits
            });
            memory = memory.max(resident(server.pid()));
            std::thread::sleep(Duration::from_millis(50));
        }
        bounded("readers that were never let go", readers.len(), 0, &mut missed);
    });
    judged(args, &seen, &mut missed);
    bounded("bodies without an answer 400", count.saturating_sub(refused), 0, &mut missed);
    bounded("MiB more", (memory - before).max(0.0) as usize, 64 + count / 4, &mut missed);
    let line = format!(
        "{refused} bodies refused, {let_go} readers let go, all within {:.1?}; {:.0} MiB more; {}",
        began.elapsed(),
        memory - before,
        seen.line()
    );
    Outcome { line, missed }
}

/// O-03, O-05: more connections than there may be; most say nothing, the others are refused again and again.
fn crowd(args: &Args, place: &Place<'_>) -> Outcome {
    let most = usize::try_from(args.number("connections", 60, 1000)).unwrap();
    let seconds = args.number("seconds", 6, 30);
    let server = place.start(&["--max-connections", &most.to_string()]);
    let (over, refused, mut files, mut missed) = (AtomicBool::new(false), AtomicU64::new(0), 0, Vec::new());
    let seen = beside(&server, place.root, || {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let ask = request("GET", "/verify", "eDp5", "", "");
                    let mut busy: Vec<TcpStream> = Vec::new();
                    while !over.load(SeqCst) {
                        busy.extend(open(&server, (most / 2).saturating_sub(busy.len())));
                        busy.retain_mut(|stream| stream.write_all(ask.as_bytes()).is_ok() && !is_closed(stream));
                        refused.fetch_add(busy.len() as u64, SeqCst);
                        std::thread::sleep(Duration::from_millis(50));
                    }
                });
            }
            let (began, mut silent) = (Instant::now(), Vec::new());
            while began.elapsed() < Duration::from_secs(seconds) {
                silent.retain_mut(|stream| !is_closed(stream));
                silent.extend(open(&server, most.saturating_sub(silent.len())));
                files = files.max(descriptors(server.pid()));
                std::thread::sleep(Duration::from_millis(50));
            }
            over.store(true, SeqCst);
        });
    });
    judged(args, &seen, &mut missed);
    bounded("open files", files, most + KEPT, &mut missed);
    if seen.ends.within(100) > Duration::from_secs(3) {
        missed.push(format!("a newcomer's end took {:.1?}", seen.ends.within(100)));
    }
    let line = format!(
        "twice {most} connections for {seconds} s, {} of their requests sent; {files} files; {}",
        refused.load(SeqCst),
        seen.line()
    );
    Outcome { line, missed }
}

/// O-03: no descriptor is left. Who is connected is served, nothing is tried again without a pause, and it goes on later.
fn no_descriptors(args: &Args, place: &Place<'_>) -> Outcome {
    let server = place.start(&[]);
    let (mut missed, verify) = (Vec::new(), request("GET", "/verify", place.root, "", ""));
    let mut kept = connect(server.address).unwrap();
    let mut is_served = |when: &str, missed: &mut Vec<String>| {
        if ask(&mut kept, &verify).is_none_or(|answer| answer.status != 200) {
            missed.push(format!("who was connected is not served {when}"));
        }
    };
    is_served("before", &mut missed);
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let allow = |current: u64| prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum: Some(20_000) }).unwrap();
    allow(descriptors(server.pid()) as u64);
    let waiting = open(&server, 50);
    let (began, ticks) = (Instant::now(), ticks(server.pid()));
    std::thread::sleep(Duration::from_secs(args.number("seconds", 2, 10)));
    let (took, spent) = (began.elapsed(), self::ticks(server.pid()) - ticks);
    is_served("meanwhile", &mut missed);
    let unable = server.unaccepted();
    allow(20_000);
    // Both listeners, ten times a second.
    let tries = 2 * (took.as_millis() / 100) as u64 + 10;
    if unable == 0 || unable > tries {
        missed.push(format!("{unable} times in {took:?} it could not accept: it either could, or tried without a pause"));
    }
    let busy = spent as f64 / took.as_secs_f64();
    if !args.short && busy > 20.0 {
        missed.push(format!("{busy:.0} % of a processor"));
    }
    drop(waiting);
    let seen = beside(&server, place.root, || std::thread::sleep(Duration::from_millis(500)));
    judged(args, &seen, &mut missed);
    Outcome { line: format!("{unable} tries in {took:.1?}, {busy:.0} % of a processor; afterwards {}", seen.line()), missed }
}

/// What a process has used of processors, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit(") ").next().unwrap_or_default();
    behind_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// What came of a load.
struct Came {
    times: Times,
    /// How many were answered with what was asked for, in a second.
    goodput: f64,
    refused: u64,
    odd: Vec<String>,
}

/// So many clients verify, create and list as fast as they are answered.
fn drive(server: &Server, root: &str, clients: usize, time: Duration) -> Came {
    let (times, odd, refused) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()), AtomicU64::new(0));
    let create = request("POST", GRID, root, "", r#"{"name":"load","permissions":["VIEW"]}"#);
    let asked = [(request("GET", "/verify", root, "", ""), 200), (create, 201), (request("GET", GRID, root, "", ""), 200)];
    let began = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..clients {
            let (asked, times, odd, refused) = (&asked, &times, &odd, &refused);
            scope.spawn(move || {
                let (mut stream, mut mine, mut turn) = (connect(server.address).unwrap(), Vec::new(), n);
                while began.elapsed() < time {
                    let ((text, right), asking) = (&asked[turn % asked.len()], Instant::now());
                    turn += 1;
                    match ask(&mut stream, text) {
                        Some(answer) if answer.status == *right => mine.push(asking.elapsed()),
                        Some(answer) if [429, 503].contains(&answer.status) && answer.head.contains("\r\nretry-after: ") => {
                            refused.fetch_add(1, SeqCst);
                        }
                        other => {
                            odd.lock().unwrap().push(format!("{:?} to {}", other.map(|answer| answer.status), &text[..30]));
                            stream = connect(server.address).unwrap();
                        }
                    }
                }
                times.lock().unwrap().extend(mine);
            });
        }
    });
    let times = Times::of(times.into_inner().unwrap());
    let goodput = times.count() as f64 / began.elapsed().as_secs_f64();
    Came { times, goodput, refused: refused.into_inner(), odd: odd.into_inner().unwrap() }
}

/// O-04, O-05: three times as many clients as it takes to saturate it.
fn load(args: &Args, place: &Place<'_>) -> Outcome {
    let time = Duration::from_secs(args.number("seconds", 1, 20));
    let clients = usize::try_from(args.number("clients", 16, 64)).unwrap();
    let server = place.start(&[]);
    let unloaded = drive(&server, place.root, 1, time);
    let peak = drive(&server, place.root, clients, time);
    let mut thrice = None;
    let seen = beside(&server, place.root, || thrice = Some(drive(&server, place.root, 3 * clients, time)));
    let after = drive(&server, place.root, 1, time / 2);
    let (thrice, mut missed) = (thrice.unwrap(), Vec::new());
    judged(args, &seen, &mut missed);
    missed.extend([&unloaded, &peak, &thrice, &after].into_iter().flat_map(|came| came.odd.iter().take(3).cloned()));
    let ratio = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
    let (kept, slower) = (thrice.goodput / peak.goodput, ratio(thrice.times.within(99), peak.times.within(99)));
    if !args.short && (kept < 0.8 || ratio(after.times.within(50), unloaded.times.within(50)) > 2.0) {
        missed.push("too little was answered, or it did not recover".to_owned());
    }
    let line = format!(
        "{} clients: goodput {kept:.2} of that of {clients}, p99 {slower:.1} times theirs and {:.1} times that of one, {} refused; \
         one behind it: p50 {:.1} times that before; {}",
        3 * clients,
        ratio(thrice.times.within(99), unloaded.times.within(99)),
        thrice.refused,
        ratio(after.times.within(50), unloaded.times.within(50)),
        seen.line()
    );
    Outcome { line, missed }
}

/// O-05, O-06: credentials that are nobody's, from everywhere; and those of a token that has ended, which the database knows.
fn bad_credentials(args: &Args, place: &Place<'_>) -> Outcome {
    let time = Duration::from_secs(args.number("seconds", 1, 30));
    let limits = ["--failed-attempts-per-source", "200", "--failed-attempts-per-client", "120", "--trusted-proxies", "127.0.0.0/8"];
    let server = place.start(&limits);
    let ended = tokens(server.address, place.root, "ended", 1).remove(0);
    let end = request("DELETE", &format!("{GRID}/{}", ended.0), place.root, "", "");
    let mut missed = Vec::new();
    if ask_once(server.address, &end).is_none_or(|answer| answer.status != 204) {
        missed.push("a token could not be ended".to_owned());
    }
    server.end();
    // One that does not have it in memory.
    let server = place.start(&limits);
    // All refusals and failed attempts of one source, first: who has a token is let in from there too.
    let decoded = String::from_utf8(STANDARD.decode(place.root).unwrap()).unwrap();
    let (_, secret) = decoded.split_once(':').unwrap();
    let (before, asked, counts) = (resident(server.pid()), queries(place), Mutex::new(HashMap::<u16, u64>::new()));
    let one_source = AtomicU64::new(0);
    let seen = beside(&server, place.root, || {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for n in 0..4_u64 {
                let (server, counts, ended, one_source) = (&server, &counts, &ended.1, &one_source);
                scope.spawn(move || {
                    let (mut dice, mut stream, mut mine) = (Dice(n), connect(server.address).unwrap(), HashMap::<u16, u64>::new());
                    while began.elapsed() < time {
                        let id = (u64::from(u32::MAX), dice.below(1 << 31), dice.below(1 << 31));
                        let made_up = STANDARD.encode(format!("ik_test_{:016x}{:08x}{:08x}{:08x}:{secret}", id.0, id.1, id.2, id.1 ^ id.2));
                        let basic = if dice.below(4) == 0 { ended } else { &made_up };
                        // A quarter from one address, the others from anywhere.
                        let source = if n == 0 { 0x0A00_0001 } else { dice.below(1 << 31) as u32 };
                        let from = format!("X-Forwarded-For: {}\r\n", std::net::Ipv4Addr::from(source));
                        let path = if dice.below(2) == 0 { "/verify" } else { GRID };
                        match ask(&mut stream, &request("GET", path, basic, &from, "")) {
                            Some(answer) => {
                                one_source.fetch_add(u64::from(n == 0 && path == GRID && answer.status == 401), SeqCst);
                                *mine.entry(answer.status).or_default() += 1;
                            }
                            None => stream = connect(server.address).unwrap(),
                        }
                    }
                    let mut counts = counts.lock().unwrap();
                    mine.into_iter().for_each(|(status, count)| *counts.entry(status).or_default() += count);
                });
            }
        });
    });
    judged(args, &seen, &mut missed);
    let (mut counts, more) = (counts.into_inner().unwrap(), resident(server.pid()) - before);
    let mut take = |status| counts.remove(&status).unwrap_or_default();
    let (refused, limited) = (take(401), take(429));
    missed.extend(counts.iter().map(|(status, count)| format!("{count} answers {status}")));
    bounded("MiB more", more.max(0.0) as usize, 32, &mut missed);
    // As many minutes as it may have touched.
    bounded("refusals 401 of one source", one_source.into_inner() as usize, 200 * (time.as_secs() as usize / 60 + 2), &mut missed);
    let asked = asked.zip(queries(place)).map(|(before, now)| now - before);
    // What upkeep, following and the others ask in that time, and one in fifty.
    if let Some(asked) = asked {
        bounded("transactions", usize::try_from(asked).unwrap(), 60 * (time.as_secs() as usize + 5) + refused as usize / 50, &mut missed);
    }
    let from_there = request("GET", GRID, place.root, "X-Forwarded-For: 10.0.0.1\r\n", "");
    if ask_once(server.address, &from_there).is_none_or(|answer| answer.status != 200) {
        missed.push("who has a token is kept out because of others at that address".to_owned());
    }
    let asked = asked.map_or_else(String::new, |asked| format!(" {asked} transactions of all,"));
    Outcome { line: format!("{refused} refused with 401 and {limited} with 429,{asked} {more:.0} MiB more; {}", seen.line()), missed }
}

/// How many transactions the database has seen.
fn queries(place: &Place<'_>) -> Option<u64> {
    let cluster = place.cluster?;
    // Sessions report what they did a little later.
    std::thread::sleep(Duration::from_millis(1200));
    cluster.run_sql("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")?.parse().ok()
}

/// O-09: told to end, while many connections are idle, half a head, or not read.
fn ending(args: &Args, place: &Place<'_>) -> Outcome {
    let each = usize::try_from(args.number("connections", 60, 340)).unwrap();
    let (mut missed, mut line) = (Vec::new(), Vec::new());
    for signals in [1, 2] {
        let drain = if args.short && signals == 1 { 4 } else { 20 };
        let server = place.start(&["--drain-timeout", &format!("{drain}s")]);
        let list = request("GET", &format!("{GRID}?limit=100"), place.root, "", "");
        let idle: Vec<_> = (0..each).map(|_| connect(server.address).unwrap()).collect();
        let mut halves = open(&server, each);
        halves.iter_mut().for_each(|stream| stream.write_all(b"GET / HTT").unwrap());
        let mut unread = open(&server, each);
        for stream in &mut unread {
            while stream.write_all(list.as_bytes()).is_ok() {}
        }
        let began = Instant::now();
        server.signal("-TERM");
        let readiness = request("GET", "/readyz", "", "Connection: close\r\n", "");
        // Two at once would be one; it says when it has heard the first.
        while signals == 2 && ask_once(server.admin, &readiness).is_some_and(|answer| answer.status == 200) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if signals == 2 {
            server.signal("-TERM");
        }
        let mut idle = idle;
        idle.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
        let soon = Instant::now();
        while signals == 1 && !idle.is_empty() && soon.elapsed() < Duration::from_secs(drain) / 2 {
            idle.retain_mut(|stream| !is_closed(stream));
            std::thread::sleep(Duration::from_millis(10));
        }
        if signals == 1 {
            bounded("idle connections that were kept", idle.len(), 0, &mut missed);
        }
        let code = server.wait();
        let (took, right) = (began.elapsed(), if signals == 1 { 0 } else { 2 });
        if code != Some(right) {
            missed.push(format!("it ended with {code:?} behind {signals} signals"));
        }
        let most = Duration::from_secs(if signals == 1 { drain + 10 } else { 5 });
        if took > most {
            missed.push(format!("it took {took:?} behind {signals} signals"));
        }
        line.push(format!("{} connections, {signals} signals: {took:.1?}", idle.len() + halves.len() + unread.len()));
    }
    Outcome { line: line.join("; "), missed }
}
