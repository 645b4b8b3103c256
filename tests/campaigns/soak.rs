//! O-11: half of what it can do, for as long as one likes; one in a hundred is a token that is made, used and ended. Memory and
//! open files must stay as they are.
//!
//! ```text
//! cargo test --release --test campaigns -- soak [--minutes N] [--store sqlite|postgres]
//! ```

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use crate::{
    Args,
    answered::{self, GRID, ready, root},
    cluster::Cluster,
    node::{Client, Server},
    pressure::{PATIENCE, ask, connect, descriptors, request, resident, tokens},
};

/// Clients, each on a connection of its own.
const CLIENTS: u32 = 4;
/// How often it is looked at in all.
const SAMPLES: u32 = 60;
/// Files that may come and go: a command's, say, or a database's.
const FILES: usize = 8;

pub(crate) fn run(args: &Args) -> bool {
    let stores = ["sqlite", "postgres"].into_iter().filter(|store| args.word("store").map_or(*store == "sqlite", |word| word == *store));
    stores.map(|store| soak(args, store)).filter(|held| !held).count() == 0
}

fn soak(args: &Args, store: &str) -> bool {
    let minutes = args.number("minutes", 0, 24 * 60);
    let time = if minutes == 0 { Duration::from_secs(8) } else { Duration::from_secs(60 * minutes) };
    let data = tempfile::tempdir().unwrap();
    let cluster = (store == "postgres").then(|| Cluster::start(&[]));
    let url = cluster.as_ref().map_or_else(String::new, |cluster| cluster.url_at(cluster.port));
    let root = root(data.path(), &url);
    let server = answered::start(data.path(), &url, &[]).unwrap();
    assert!(ready(&mut Client::of(server.address, PATIENCE), &root));
    let kept = tokens(server.address, &root, "kept", 100);

    // What it can do, first.
    let measuring = Duration::from_secs(if args.short { 1 } else { 20 });
    let (most, _, mut odd) = work(&server, &root, &kept, measuring, None, |_| {});
    let pace = Duration::from_secs(1).mul_f64(f64::from(CLIENTS) / (most as f64 / measuring.as_secs_f64() / 2.0));
    let mut samples = Vec::new();
    let (done, churned, more) = work(&server, &root, &kept, time, Some(pace), |elapsed| {
        let sample = (elapsed.as_secs_f64() / 3600.0, resident(server.pid()), descriptors(server.pid()));
        println!("    {:9.1?}  {:7.2} MiB  {:4} files", elapsed, sample.1, sample.2);
        samples.push(sample);
    });
    odd += more;
    // The first third is what it takes to get warm.
    let warm = &samples[samples.len() / 3..];
    let (slope, files) = (slope(warm), warm.iter().map(|sample| sample.2));
    let spread = files.clone().max().unwrap_or_default() - files.min().unwrap_or_default();
    // A MiB an hour; what is less than a MiB in less than an hour is no slope yet.
    let hours = warm.last().map_or(0.0, |last| last.0) - warm.first().map_or(0.0, |first| first.0);
    let grows = slope * hours > hours.max(1.0);
    let held = odd == 0 && spread <= FILES && (args.short || !grows) && churned > 0;
    let reach = warm.iter().map(|sample| sample.1).fold((f64::MAX, 0.0_f64), |(low, high), memory| (low.min(memory), high.max(memory)));
    println!(
        "  {store:9} {done} requests in {time:?}, half of what it can do, and {churned} tokens made, used and ended: {odd} not as they \
         should be; memory {:.2} to {:.2} MiB, {slope:+.2} MiB an hour behind the first third{}; files within {spread}{}",
        reach.0,
        reach.1,
        if args.short { " (too short to say)" } else { "" },
        if held { "" } else { ": it did not hold" }
    );
    held
}

/// Verifies, with one in a hundred that is a token's whole life, at a pace or as fast as it goes; looks now and then. Says how
/// many requests there were, how many lives, and how many answers that should have been others.
fn work(
    server: &Server,
    root: &str,
    kept: &[(String, String)],
    time: Duration,
    pace: Option<Duration>,
    mut look: impl FnMut(Duration),
) -> (u64, u64, u64) {
    let (done, churned, odd, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (done, churned, odd, over) = (&done, &churned, &odd, &over);
            scope.spawn(move || {
                let (mut stream, mut turn) = (connect(server.address).unwrap(), u64::from(n) * 25);
                let mut expect = |text: String, right: u16| {
                    done.fetch_add(1, SeqCst);
                    let answer = ask(&mut stream, &text);
                    if answer.as_ref().is_none_or(|answer| answer.status != right) {
                        odd.fetch_add(1, SeqCst);
                        stream = connect(server.address).unwrap();
                    }
                    answer
                };
                let mut next = Instant::now();
                while !over.load(SeqCst) {
                    turn += 1;
                    if turn.is_multiple_of(100) {
                        let create = request("POST", GRID, root, "", r#"{"name":"churn","permissions":["VIEW"]}"#);
                        let Some(created) = expect(create, 201).and_then(|answer| serde_json::from_str(&answer.body).ok()) else {
                            continue;
                        };
                        let (basic, created): (_, serde_json::Value) = (answered::basic(&created), created);
                        let verify = || request("GET", "/verify", &basic, "", "");
                        expect(verify(), 200);
                        expect(request("DELETE", &format!("{GRID}/{}", created["id"].as_str().unwrap()), root, "", ""), 204);
                        expect(verify(), 401);
                        churned.fetch_add(1, SeqCst);
                    } else {
                        let (_, basic) = &kept[usize::try_from(turn).unwrap() % kept.len()];
                        expect(request("GET", "/verify", basic, "", ""), 200);
                    }
                    if let Some(pace) = pace {
                        next += pace;
                        std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    }
                }
            });
        }
        for sample in 1..=SAMPLES {
            std::thread::sleep((time * sample / SAMPLES).saturating_sub(began.elapsed()));
            if sample % if time < Duration::from_secs(60) { 10 } else { 1 } == 0 {
                look(began.elapsed());
            }
        }
        over.store(true, SeqCst);
    });
    (done.into_inner(), churned.into_inner(), odd.into_inner())
}

/// By how many MiB an hour memory grows: the line that fits best.
fn slope(samples: &[(f64, f64, usize)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64, usize)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (hours, memory) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let together: f64 = samples.iter().map(|sample| (sample.0 - hours) * (sample.1 - memory)).sum();
    together / samples.iter().map(|sample| (sample.0 - hours).powi(2)).sum::<f64>()
}
