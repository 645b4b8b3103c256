//! D-05: the embedded database's files, cut and changed. A server on them starts with all that is intact, or refuses and says
//! so; it never serves what was not so, and never panics.
//!
//! ```text
//! cargo test --release --test campaigns -- torn [--cuts N] [--flips N] [--seed N]
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use crate::{
    Args,
    answered::{self, Answered, Database, Dice, End, GRID, Token, ready, root},
    node::Client,
};

/// How much of the write-ahead log is cut at most, and in what steps.
const TAIL: u64 = 64 << 10;
const SECTOR: u64 = 512;

/// What everybody should see.
struct Truth {
    root: String,
    tokens: Vec<Token>,
    /// What the API says of each of them that lives.
    shown: HashMap<String, String>,
}

pub(crate) fn run(args: &Args) -> bool {
    let seed = args.number("seed", 1, 1);
    let (outside, whole, mut dice) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Dice(seed));
    let answered = Answered::in_directory(outside.path());
    let root = root(whole.path(), "");
    let start = |data: &Path| answered::start(data, "", &[]);
    // Some of it is in the database's own file, and some in its log.
    let server = start(whole.path()).unwrap();
    answered.until(server.address, &root, 400, || server.end());
    let server = start(whole.path()).unwrap();
    answered.until(server.address, &root, 500, || server.signal("-KILL"));
    drop(server);
    let truth = {
        let (copy, mut shown) = (copy_of(whole.path()), HashMap::new());
        let server = start(copy.path()).unwrap();
        let mut client = Client::of(server.address, Duration::from_secs(20));
        assert!(ready(&mut client, &root));
        let tokens = answered.read();
        for token in tokens.iter().filter(|token| token.end == End::No) {
            let (status, body) = client.ask("GET", &format!("{GRID}/{}", token.id), &root, "").unwrap();
            assert_eq!(status, 200, "{body}");
            shown.insert(token.id.clone(), body);
        }
        Truth { root, tokens, shown }
    };
    let length = |name: &str| std::fs::metadata(whole.path().join(name)).unwrap().len();
    let log = end_of_log(&whole.path().join("countersign.db-wal"));
    let mut wrong = Vec::new();

    // Its end in every sector, and some places of all of it.
    let sectors = TAIL.min(log) / SECTOR;
    let cuts = args.number("cuts", 10, TAIL / SECTOR).min(sectors);
    let at_end: Vec<_> = (0..cuts).map(|turn| log - (turn * sectors / cuts + 1) * SECTOR).collect();
    let anywhere: Vec<_> = (0..cuts).map(|_| dice.below(log)).collect();
    for (what, places) in [("its last 64 KiB", at_end), ("all of it", anywhere)] {
        let mut found = BTreeMap::<_, u64>::new();
        for at in places {
            let copy = copy_of(whole.path());
            OpenOptions::new().write(true).open(copy.path().join("countersign.db-wal")).unwrap().set_len(at).unwrap();
            let (outcome, errors) = serve(copy.path(), &truth, true);
            *found.entry(outcome).or_default() += 1;
            wrong.extend(errors.into_iter().map(|error| format!("the log cut at {at}: {error}")));
        }
        println!("  the log of {log} bytes cut at {cuts} places of {what}: {}", say(&found));
    }

    for name in ["countersign.db", "countersign.db-wal", "countersign.db-shm"] {
        let mut found = BTreeMap::<_, u64>::new();
        let (flips, length) = (args.number("flips", 4, 200), if name.ends_with("-wal") { log } else { length(name) });
        for _ in 0..flips {
            let (copy, at) = (copy_of(whole.path()), dice.below(length));
            let file = File::options().read(true).write(true).open(copy.path().join(name)).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            byte[0] ^= u8::try_from(1 + dice.below(255)).unwrap();
            file.write_all_at(&byte, at).unwrap();
            let (outcome, errors) = serve(copy.path(), &truth, false);
            *found.entry(outcome).or_default() += 1;
            wrong.extend(errors.into_iter().map(|error| format!("{name} changed at {at}: {error}")));
        }
        println!("  {name} of {length} bytes with a byte changed in {flips} places: {}", say(&found));
    }
    println!("  {} tokens, {} wrong (seed {seed})", truth.tokens.len(), wrong.len());
    wrong.iter().take(20).for_each(|wrong| println!("    {wrong}"));
    let some = |end| truth.tokens.iter().any(|token| token.end == end);
    wrong.is_empty() && some(End::No) && some(End::Answered)
}

/// Where the log ends: behind it the file has what an earlier one has left.
fn end_of_log(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    let page = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let frames = bytes[32..].chunks_exact(24 + page).take_while(|frame| frame[8..16] == bytes[16..24]).count();
    (32 + frames * (24 + page)) as u64
}

fn say(found: &BTreeMap<&str, u64>) -> String {
    found.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect::<Vec<_>>().join(", ")
}

fn copy_of(data: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    assert!(Command::new("cp").arg("-a").arg(data.join(".")).arg(copy.path()).status().unwrap().success());
    copy
}

/// Starts a server on damaged files: how it went, and what must not have happened. If they were cut, what is in the database
/// must be served, if anything is.
fn serve(data: &Path, truth: &Truth, cut: bool) -> (&'static str, Vec<String>) {
    // What the database itself still finds, in a copy, because looking mends the log.
    let rows = Database::Sqlite(copy_of(data).path().to_owned()).tokens();
    let server = match answered::start(data, "", &[]) {
        Ok(server) => server,
        Err(said) if said.contains("panicked") => return ("panicked at the start", vec![said]),
        Err(said) if said.lines().count() < 2 => return ("ended without a word", vec![said]),
        Err(_) => return ("refused at the start", Vec::new()),
    };
    let mut client = Client::of(server.address, Duration::from_secs(20));
    let mut ask = |path: &str, basic: &str| client.ask("GET", path, basic, "").unwrap_or_default();
    // All are in memory, or are read when they are asked for: the first answer is as good as any.
    let open = ask("/verify", &truth.root).0 == 200;
    let (mut wrong, mut less) = (Vec::new(), false);
    for token in &truth.tokens {
        let status = ask("/verify", &token.basic).0;
        match (status, token.end) {
            (200, End::Answered) => wrong.push(format!("{} is accepted, and its end was answered", token.id)),
            (200, _) => {}
            (401 | 503, End::No) => {
                less = true;
                let there = rows.as_ref().is_ok_and(|rows| rows.get(&token.key()) == Some(&true));
                if cut && open && there {
                    wrong.push(format!("{} is there and intact, and was answered {status}", token.id));
                }
            }
            (401 | 503, _) => {}
            _ => wrong.push(format!("{} was answered {status}", token.id)),
        }
        if let Some(shown) = truth.shown.get(&token.id).filter(|_| open) {
            let (status, body) = ask(&format!("{GRID}/{}", token.id), &truth.root);
            if status == 200 && body != *shown {
                wrong.push(format!("{body} is shown, not {shown}"));
            }
        }
    }
    if server.panics() > 0 {
        wrong.push("it panicked".to_owned());
    }
    let outcome = match (open, less) {
        (false, _) => "refused everything",
        (true, true) => "served less",
        (true, false) => "served all",
    };
    (outcome, wrong)
}
